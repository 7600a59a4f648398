package nemesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// network is how devices reach nodes: in memory, or over sockets.
type network interface {
	// dial connects the device of a run to a node.
	dial(ctx context.Context, k Key, ep client.Endpoint) (client.Conn, error)
	tokens(user string) client.TokenSource
	// revise and receipts ask the HTTP API of a node, which may fail.
	revise(ctx context.Context, user, room string, v Revision) (client.Message, error)
	receipts(ctx context.Context, user, room string) ([]client.Seen, error)
}

// abandoner is a connection that can be lost without the server's knowing.
type abandoner interface{ abandon() }

var errNoNetwork = errors.New("the device has no network")

// device is somebody's phone: the SDK under a script of chance.
type device struct {
	key       Key
	endpoints []client.Endpoint // of its region, then perhaps of others
	rooms     []string          // to be in
	net       network
	history   *History
	log       *slog.Logger
	rng       *rand.Rand
	fixes     *atomic.Uint64  // of all devices: each has a latitude of its own
	patience  context.Context // for answers that must come

	readers sync.WaitGroup // of room events
	dials   atomic.Int64

	mu      sync.Mutex // guards the following
	offline bool
	prefer  string // the only node it reaches for now; "": any
	taps    map[*tap]struct{}

	// The script's own.
	session *client.Session
	run     *Run
	joined  map[string]*client.Room
	fix     float64 // the latitude that names the last fix
	sent    int
	revised int
	gone    bool // for good
	lives   int  // runs so far
	settled bool // it knows how it ends
}

// connect begins a new run of the SDK; it tries until ctx ends.
func (d *device) connect(ctx context.Context) bool {
	run := d.history.run(d.key)
	endpoints := slices.Clone(d.endpoints)
	i := d.rng.IntN(len(endpoints))
	endpoints = append(endpoints[i:], endpoints[:i]...)
	s, err := client.Connect(ctx, client.Config{
		Endpoints: endpoints, Tokens: d.net.tokens(d.key.User), Device: d.key.Device, QueueSize: 1 << 16, Log: d.log,
		Dialer: &client.Dialer{Dial: func(ctx context.Context, ep client.Endpoint) (client.Conn, error) {
			return d.dial(ctx, run, ep)
		}},
	})
	if err != nil {
		return false
	}
	d.session, d.run, d.joined, d.fix = s, run, map[string]*client.Room{}, 0
	d.lives++
	for _, room := range d.rooms {
		d.join(room)
	}
	return true
}

func (d *device) dial(ctx context.Context, run *Run, ep client.Endpoint) (client.Conn, error) {
	d.mu.Lock()
	reachable := !d.offline && (d.prefer == "" || d.prefer == ep.Node)
	d.mu.Unlock()
	if !reachable {
		return nil, errNoNetwork
	}
	c, err := d.net.dial(ctx, d.key, ep)
	if err != nil {
		return nil, err
	}
	t := &tap{Conn: c, history: d.history, run: run, id: int(d.dials.Add(1)), node: ep.Node}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taps[t] = struct{}{}
	return t, nil
}

// lose ends the device's connections; abandoned ones without the nodes' knowing.
func (d *device) lose(abandoned bool) {
	d.mu.Lock()
	taps := d.taps
	d.taps = map[*tap]struct{}{}
	d.mu.Unlock()
	for t := range taps {
		if a, ok := t.Conn.(abandoner); ok && abandoned {
			a.abandon()
		} else {
			t.Conn.Close(0)
		}
	}
}

func (d *device) reach(offline bool, prefer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offline, d.prefer = offline, prefer
}

func (d *device) join(room string) {
	// Never taken back: a join that nobody waits for may still be carried out.
	r, err := d.session.Join(d.patience, room)
	if err != nil {
		return
	}
	if d.joined[room] == r {
		return
	}
	d.joined[room] = r
	if d.fix != 0 { // which named the others
		d.report()
	}
	run := d.run
	d.readers.Go(func() { d.learn(r) }) // what was told before
	d.readers.Go(func() {
		for e := range r.Events(context.Background()) {
			d.history.heard(run, room, e)
			if e, ok := e.(client.RegionReplaced); ok && (!e.Recovered || e.Late) {
				d.readers.Go(func() { d.learn(r) })
			}
		}
	})
}

// live lets the device do what comes to its mind until ctx ends, and leaves it
// as it is then.
func (d *device) live(ctx context.Context) {
	for ctx.Err() == nil {
		if d.session == nil || d.over() {
			if d.session != nil {
				d.session.Close()
				d.session = nil
			}
			d.reach(false, "")
			if !d.pause(ctx, 100*time.Millisecond, time.Second) || !d.connect(ctx) {
				continue
			}
		}
		if !d.pause(ctx, 50*time.Millisecond, 700*time.Millisecond) {
			return
		}
		d.act(ctx)
	}
}

func (d *device) over() bool { return d.session.Status().Phase == client.Closed }

func (d *device) act(ctx context.Context) {
	switch n := d.rng.IntN(100); {
	case n < 36:
		d.report()
	case n < 54:
		d.send(ctx)
	case n < 63:
		d.revise()
	case n < 68:
		d.read()
	case n < 74: // another room, or again
		d.join(d.rooms[d.rng.IntN(len(d.rooms))])
	case n < 78:
		for room, r := range d.joined {
			_ = r.Leave(d.patience) // not taken back either
			delete(d.joined, room)
			break
		}
	case n < 86: // a blip
		d.lose(d.rng.IntN(2) == 0)
	case n < 91: // to another node
		d.reach(false, d.endpoints[d.rng.IntN(len(d.endpoints))].Node)
		d.lose(d.rng.IntN(2) == 0)
		if d.pause(ctx, 0, 2*time.Second) {
			d.reach(false, "")
		}
	case n < 94: // a tunnel
		d.reach(true, "")
		d.lose(true)
		d.pause(ctx, 500*time.Millisecond, 6*time.Second)
		d.reach(false, "")
	case n < 96: // the same device once more; the SDK that was here is superseded
		old := d.session
		if d.connect(ctx) {
			select {
			case <-old.Done():
			case <-time.After(5 * time.Second):
			}
		}
		if d.session != old {
			old.Close()
		}
	case n < 98: // says bye, and returns
		d.session.Close()
		d.session = nil
		d.pause(ctx, 100*time.Millisecond, 3*time.Second)
	default: // dies without a word, and returns
		d.die()
		d.pause(ctx, 100*time.Millisecond, 5*time.Second)
	}
}

// die ends the run as a phone does whose battery is empty.
func (d *device) die() {
	d.reach(true, "")
	d.lose(true)
	d.session.Close()
	d.session = nil
}

func (d *device) report() {
	lat := float64(d.fixes.Add(1)) * 1e-4
	rooms := slices.Sorted(maps.Keys(d.joined))
	if len(rooms) == 0 {
		return
	}
	if err := d.session.Report(client.Fix{Point: geo.Point{Lat: lat, Lng: 10}}, rooms...); err == nil {
		d.fix = lat
	}
}

func (d *device) send(ctx context.Context) {
	if room := d.anyRoom(); room != nil {
		d.say(ctx, room.ID())
	}
}

// anyRoom returns one that the device is in; nil if there is none.
func (d *device) anyRoom() *client.Room {
	rooms := slices.Sorted(maps.Keys(d.joined))
	if len(rooms) == 0 {
		return nil
	}
	return d.joined[rooms[d.rng.IntN(len(rooms))]]
}

func (d *device) say(ctx context.Context, room string) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	d.sent++
	run := d.run
	m, err := d.joined[room].SendAs(ctx, fmt.Sprintf("%s-%d", d.key.Device, d.sent), fmt.Sprintf("%s says %d", d.key.Device, d.sent))
	if err == nil {
		d.history.acked(run, room, m)
	}
}

// pause returns false if ctx ended first.
func (d *device) pause(ctx context.Context, low, high time.Duration) bool {
	select {
	case <-time.After(low + time.Duration(d.rng.Int64N(int64(high-low)))):
		return true
	case <-ctx.Done():
		return false
	}
}

// observe is what the device sees now, room by room; nothing if it is not
// connected.
func (d *device) observe() (out []Observer) {
	if d.session == nil || d.session.Status().Phase != client.Live {
		return nil
	}
	for room, r := range d.joined {
		if r.Err() != nil {
			continue
		}
		o := Observer{Run: d.run, Room: room, Members: map[Key]Seen{}, Fixes: map[Key]float64{}, Receipts: r.Receipts(), Messages: r.Messages()}
		for _, m := range r.Members() {
			for _, x := range m.Devices {
				o.Members[Key{m.User, x.ID}] = Seen{x.Epoch, x.State}
			}
		}
		for _, f := range r.Fixes() {
			o.Fixes[Key{f.User, f.Device}] = f.Point.Lat
		}
		if ms := o.Messages; len(ms) > 0 {
			o.Last = ms[len(ms)-1].Number
		}
		out = append(out, o)
	}
	return out
}

// settle ends the device's adventures: some are gone for good, the others are
// there, say where they are and one thing more.
func (d *device) settle(ctx context.Context) {
	if d.session != nil && d.over() {
		d.session.Close()
		d.session = nil
	}
	switch n := d.rng.IntN(10); {
	case d.settled:
	case d.session == nil && n < 3:
		d.gone = true
		return
	case n == 0:
		d.die()
		d.gone = true
		return
	case n == 1 && d.session != nil:
		d.session.Close()
		d.session, d.gone = nil, true
		return
	}
	d.settled = true
	d.reach(false, "")
	for d.session == nil && ctx.Err() == nil {
		if !d.connect(ctx) {
			d.pause(ctx, 100*time.Millisecond, time.Second)
		}
	}
	if d.session != nil {
		d.report()
		for room := range d.joined {
			d.say(ctx, room)
		}
	}
}

// again connects a device anew that was superseded by an earlier run of its own,
// which had begun to before it ended. That is what a person would do.
func (d *device) again(ctx context.Context) {
	if !d.gone && d.session != nil && d.over() && client.IsCode(d.session.Status().Err, wire.CodeSuperseded) && d.lives > 1 {
		d.session.Close()
		d.session = nil
		d.settle(ctx)
	}
}

// close ends the run in good order, and waits for what it had begun.
func (d *device) close() {
	if d.session != nil {
		d.session.Close()
	}
	d.readers.Wait()
}

// present is the truth about the device: what the others should see of it.
func (d *device) present() (Present, bool) {
	if d.session == nil {
		return Present{}, false
	}
	st := d.session.Status()
	return Present{st.Epoch, d.fix}, st.Phase == client.Live
}
