package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// wan is a memory whose regions are at a distance and can be cut off. It does
// what TCP does: what can't get through now gets through later, and nobody is
// told.
type wan struct {
	*memory
	names []string

	mu   sync.Mutex
	rtt  map[string]time.Duration // by region
	held map[string]way           // by region, node or connection
	made int                      // connections
}

// way is a direction in which nothing gets through.
type way int

const (
	there way = 1 << iota // to the node
	back
	both = there | back
)

var distances = map[string]time.Duration{"eu": 20 * time.Millisecond, "us": 90 * time.Millisecond, "ap": 160 * time.Millisecond}

// newWAN makes regions of three nodes: eu-1 and so on. Their rooms answer joins,
// and bring back what a hello follows.
func newWAN(t *testing.T, regions ...string) *wan {
	w := &wan{
		memory: &memory{t: t, nodes: map[string]*fake{}, how: map[string]reach{}},
		rtt:    distances, held: map[string]way{},
	}
	epoch := new(atomic.Uint64)
	epoch.Store(100)
	for _, region := range regions {
		for n := range 3 {
			name := fmt.Sprintf("%s-%d", region, n+1)
			f := bareFake(t, Endpoint{Region: region, Node: name, WS: "mem:" + name, HTTP: "http://" + name})
			f.epoch, f.ticket, f.ping = epoch, []byte("ticket of "+name), 10*time.Second
			f.greet(func(c *fakeConn, cf *wire.ClientFrame) bool {
				for f.epoch.Load() < cf.GetHello().GetEpoch() {
					f.epoch.Store(cf.GetHello().GetEpoch())
				}
				f.welcome(c, cf.GetId())
				for range cf.GetHello().GetFollows() {
					c.send(resumed())
				}
				return true
			})
			f.handle(joins(0, 3, func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
				if cf.GetSend() != nil {
					c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored(1)}}})
				}
			}))
			w.nodes[name], w.names = f, append(w.names, name)
		}
	}
	return w
}

// hold stops what goes to or comes from a region, node or connection ("#1" and
// so on); 0 lets it go on.
func (w *wan) hold(what string, ways way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[what] = ways
}

func (w *wan) stopped(ep Endpoint, conn string, ways way) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return (w.held[ep.Region]|w.held[ep.Node]|w.held[conn])&ways != 0
}

// travel takes the time of a way, or as long as nothing gets through.
func (w *wan) travel(ctx context.Context, ep Endpoint, conn string, until time.Time, ways way) error {
	for {
		if err := sleep(ctx, time.Until(until)); err != nil {
			return context.Cause(ctx)
		}
		if !w.stopped(ep, conn, ways) {
			return nil
		}
		until = time.Now().Add(200 * time.Millisecond)
	}
}

func (w *wan) dial(ctx context.Context, ep Endpoint) (Conn, error) {
	for range 3 { // TCP, TLS, WebSocket
		if err := w.travel(ctx, ep, "", time.Now().Add(w.trip(ep)), both); err != nil {
			w.note(ep)
			return nil, err
		}
	}
	c, err := w.memory.dial(ctx, ep)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.made++
	f := &far{Conn: c, wan: w, ep: ep, name: fmt.Sprint("#", w.made), out: make(chan parcel, 1024)}
	w.mu.Unlock()
	f.ctx, f.cancel = context.WithCancel(context.Background())
	go f.carry(f.out, there, func(b []byte) { _ = c.Write(f.ctx, b) })
	return f, nil
}

func (w *wan) note(ep Endpoint) {
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	w.dials = append(w.dials, ep.Node)
}

// trip is how long a round trip to an endpoint takes now.
func (w *wan) trip(ep Endpoint) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rtt[ep.Region]
}

// far is a connection over a distance.
type far struct {
	Conn
	wan    *wan
	ep     Endpoint
	name   string
	out    chan parcel
	ctx    context.Context
	cancel context.CancelFunc
}

type parcel struct {
	b  []byte
	at time.Time
}

func (f *far) carry(from <-chan parcel, ways way, deliver func([]byte)) {
	for {
		select {
		case p, ok := <-from:
			if !ok || f.wan.travel(f.ctx, f.ep, f.name, p.at, ways) != nil {
				return
			}
			deliver(p.b)
		case <-f.ctx.Done():
			return
		}
	}
}

func (f *far) parcel(b []byte) parcel {
	return parcel{slices.Clone(b), time.Now().Add(f.wan.trip(f.ep) / 2)}
}

func (f *far) Write(_ context.Context, b []byte) error {
	select {
	case f.out <- f.parcel(b):
		return nil
	case <-f.ctx.Done():
		return errors.New("gone")
	}
}

func (f *far) Receive(ctx context.Context, handle func([]byte)) error {
	in := make(chan parcel, 1024)
	var carrier sync.WaitGroup
	carrier.Go(func() { f.carry(in, back, handle) })
	err := f.Conn.Receive(ctx, func(b []byte) { in <- f.parcel(b) })
	if ctx.Err() == nil { // so is the news of the end
		_ = f.wan.travel(ctx, f.ep, f.name, time.Now().Add(f.wan.trip(f.ep)/2), back)
	}
	close(in)
	if ctx.Err() != nil {
		f.cancel()
	}
	carrier.Wait()
	return err
}

func (f *far) Close(number int) {
	f.cancel()
	f.Conn.Close(number)
}

// RoundTrip lets a wan be timed.
func (w *wan) RoundTrip(r *http.Request) (*http.Response, error) {
	name := r.URL.Host
	ep := w.nodes[name].ep
	if err := w.travel(r.Context(), ep, "", time.Now().Add(w.trip(ep)), both); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: r}, nil
}

// list is an Edge of all nodes, the given regions first.
func (w *wan) list(regions ...string) (e Edge) {
	for _, name := range w.names {
		ep := w.nodes[name].ep
		if !e.Has(ep.Region) {
			e.Regions = append(e.Regions, EdgeRegion{Name: ep.Region, State: "up"})
		}
		r := &e.Regions[len(e.Regions)-1]
		r.Nodes = append(r.Nodes, EdgeNode{ID: ep.Node, WS: ep.WS, HTTP: ep.HTTP, State: "up"})
	}
	slices.SortStableFunc(e.Regions, func(a, b EdgeRegion) int {
		return rank(regions, a.Name) - rank(regions, b.Name)
	})
	return e
}

func rank(list []string, s string) int {
	if i := slices.Index(list, s); i >= 0 {
		return i
	}
	return len(list)
}

// enter opens a session on the first of the nodes and joins the room.
func (w *wan) enter(change func(*Config)) (*Session, *watch, *Room) {
	w.t.Helper()
	seen := new(watch)
	cfg := Config{
		Tokens: StaticToken("token"), Device: "phone", Dialer: &Dialer{Dial: w.dial}, HTTP: &http.Client{Transport: w},
		OnStatus: func(st Status) { seen.mu.Lock(); seen.statuses = append(seen.statuses, st); seen.mu.Unlock() },
		OnMove:   func(mv Move) { seen.mu.Lock(); seen.moves = append(seen.moves, mv); seen.mu.Unlock() },
	}
	for _, name := range w.names {
		cfg.Endpoints = append(cfg.Endpoints, w.nodes[name].ep)
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Connect(w.t.Context(), cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(s.Close)
	r, err := s.Join(w.t.Context(), room)
	require.NoError(w.t, err)
	w.dialed()
	return s, seen, r
}

// until waits for the session to be somewhere, and says how long it took.
func (s *Session) until(where func(st Status) bool) time.Duration {
	began := time.Now()
	for !where(s.Status()) && time.Since(began) < 10*time.Minute {
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(began)
}

func elsewhere(region string) func(st Status) bool {
	return func(st Status) bool { return st.Phase == Live && !strings.HasPrefix(st.Node, region) }
}
