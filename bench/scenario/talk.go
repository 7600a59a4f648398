package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/regions"
)

// talk is a crowd spread over a fleet's nodes that writes messages at a steady
// rate, and the book of what was said, what was heard, and what people saw of
// each other.
type talk struct {
	*crowd
	fleet *fleet.Fleet
	rate  float64 // messages per second, of all
	pool  *http.Client
	ears  []*ear
	books []*book // per room

	measuring atomic.Bool
	counts    tally
	latency   *loadgen.Latencies // of messages, from when they were due

	mu        sync.Mutex            // guards the following
	dialed    []time.Time           // when sessions went for a new connection
	failure   error                 // of a message, the first
	gone      map[string]*abandoned // by user id: who is meant to leave
	disturbed time.Time             // when a leader was last killed or paused, or elected, at the earliest
	noticed   time.Time             // when that one was last seen to be elected

	stop func() // ends load and ears
	done sync.WaitGroup
}

// tally counts what should not be.
type tally struct {
	duplicated  atomic.Int64 // a message given to an application twice
	left        atomic.Int64 // somebody seen to leave who did not
	vanished    atomic.Int64 // somebody who moved, seen to be gone for a moment; what knows no moving counts it as left
	suspended   atomic.Int64 // somebody seen suspended: no fault, but a blip that others could see
	unrecovered atomic.Int64 // events lost on the way (recovered: false)
	overflowed  atomic.Int64 // the load generator was too slow to listen
	refused     atomic.Int64 // messages that were not acknowledged
	acked       atomic.Int64
	closed      atomic.Int64 // sessions or rooms that ended
}

// probe waits for the first message that was sent after a time and is heard by
// somebody else on a node that lives.
type probe struct {
	since time.Time
	heard chan time.Time // holds one
}

// abandoned is a person whose device was lost together with a node.
type abandoned struct {
	since time.Time   // zero: not yet
	seen  []departure // by others
}

// departure is that somebody was seen to leave.
type departure struct {
	lost   time.Duration // since the device was lost
	leader time.Duration // since it was lost or, if that was later, the leader was last disturbed: a new one begins the grace time anew
}

const bodySize = 128 // bytes of a message

// begin signs everybody up, brings them together, and starts the load.
func (t *talk) begin(ctx context.Context) error {
	if err := t.fleet.Start(ctx); err != nil {
		return err
	}
	t.gone, t.latency, t.pool, t.stop = map[string]*abandoned{}, loadgen.NewLatencies(), t.fleet.Client(), func() {}
	t.progress("signing up %d users", len(t.users))
	if err := t.signUp(ctx, t.fleet.API(), t.pool); err != nil {
		return err
	}
	for _, g := range t.groups {
		t.books = append(t.books, &book{room: client.GroupRoom(g)})
	}
	t.progress("opening %d sessions", len(t.users))
	plain := &client.Dialer{Transport: client.WebSocketOnly}
	dialer := &client.Dialer{Dial: func(ctx context.Context, ep client.Endpoint) (client.Conn, error) {
		if t.measuring.Load() {
			t.mu.Lock()
			t.dialed = append(t.dialed, time.Now())
			t.mu.Unlock()
		}
		return plain.Connect(ctx, ep)
	}}
	t.ears = make([]*ear, len(t.users))
	err := t.each(ctx, func(ctx context.Context, u *user) (err error) {
		e := &ear{u: u, book: t.books[u.index/t.roomSize]}
		t.ears[u.index] = e
		u.session, err = client.Connect(ctx, client.Config{
			Endpoints: t.fleet.Endpoints(u.index % len(t.fleet.Nodes)), Tokens: u.api, Dialer: dialer,
			QueueSize: 1 << 14, OnStatus: t.status,
		})
		if err == nil {
			u.room, err = u.session.Join(ctx, e.book.room)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := t.together(ctx); err != nil {
		return err
	}
	t.progress("everybody sees everybody; %g messages a second", t.rate)
	loading, stop := context.WithCancel(ctx)
	t.stop = stop
	for _, e := range t.ears {
		t.done.Go(func() { t.listen(loading, e) })
	}
	t.done.Go(func() {
		every := time.Duration(float64(time.Second) / t.rate)
		_ = loadgen.Open(loading, time.Now(), every, 1<<40, func(i int, due time.Time) {
			e := t.ears[i%len(t.ears)]
			t.done.Go(func() { t.say(loading, e, due) })
		})
	})
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	t.measuring.Store(true)
	return nil
}

// end stops the load and lets everybody go.
func (t *talk) end() {
	t.measuring.Store(false)
	if t.stop != nil {
		t.stop()
	}
	t.leave()
	t.fleet.Stop() // who is to be lost with a node goes too
	t.done.Wait()
	if t.pool != nil {
		t.pool.CloseIdleConnections()
	}
}

// status notes a session that ended.
func (t *talk) status(s client.Status) {
	if s.Phase == client.Closed && t.measuring.Load() {
		t.counts.closed.Add(1)
		t.fail(fmt.Errorf("a session was closed: %w", s.Err))
	}
}

func (t *talk) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failure == nil {
		t.failure = err
	}
}

// say sends one message and notes its number when it was acknowledged. It is
// the SDK's business to get it through, for a minute.
func (t *talk) say(ctx context.Context, e *ear, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	body := fmt.Sprintf("%d %d ", due.UnixNano(), e.u.index)
	m, err := e.u.room.Send(ctx, body+strings.Repeat(".", max(0, bodySize-len(body))))
	if err != nil {
		if !errors.Is(err, context.Canceled) && t.measuring.Load() {
			t.counts.refused.Add(1)
			t.fail(fmt.Errorf("a message was not acknowledged: %w", err))
		}
		return
	}
	t.counts.acked.Add(1)
	e.book.acknowledge(m.Number)
}

// listen is the application of one user.
func (t *talk) listen(ctx context.Context, e *ear) {
	for ev := range e.u.room.Events(ctx) {
		switch ev := ev.(type) {
		case client.MessageArrived:
			t.hear(e, ev.Message, time.Now())
		case client.PresenceChanged:
			t.see(ev, time.Now())
		case client.RegionReplaced:
			if !ev.Recovered && t.measuring.Load() {
				t.counts.unrecovered.Add(1)
			}
		case client.Missed:
			t.counts.overflowed.Add(1)
		case client.Ended:
			if t.measuring.Load() {
				t.counts.closed.Add(1)
				t.fail(fmt.Errorf("a room ended: %w", ev.Err))
			}
		}
	}
}

func (t *talk) hear(e *ear, m client.Message, now time.Time) {
	if e.hear(m.Number) {
		t.counts.duplicated.Add(1)
	}
	var nanos int64
	var sender int
	if _, err := fmt.Sscanf(m.Body, "%d %d", &nanos, &sender); err != nil {
		return
	}
	at := time.Unix(0, nanos)
	if t.measuring.Load() {
		t.latency.Record(now.Sub(at))
	}
	if p := e.book.probe.Load(); p != nil && !at.Before(p.since) && sender != e.u.index && !e.orphan.Load() {
		select {
		case p.heard <- now:
		default:
		}
	}
}

// see takes note of what people see of each other.
func (t *talk) see(ev client.PresenceChanged, now time.Time) {
	if !t.measuring.Load() {
		return
	}
	t.mu.Lock()
	if a := t.gone[ev.User]; a != nil {
		if ev.Device.State == wire.State_LEFT && !a.since.IsZero() {
			d := departure{lost: now.Sub(a.since)}
			d.leader = min(d.lost, now.Sub(t.disturbed))
			a.seen = append(a.seen, d)
		}
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	switch ev.Device.State {
	case wire.State_LEFT:
		t.counts.left.Add(1)
	case wire.State_SUSPENDED:
		t.counts.suspended.Add(1)
	}
}

// settle waits until everybody has heard all that was acknowledged by now, and
// returns how many deliveries are missing when the time is up.
func (t *talk) settle(ctx context.Context, limit time.Duration) (lost int, err error) {
	return missing(ctx, t.books, t.ears, limit)
}

// dials returns how many connections were gone for since mark, the most within
// one second, and the next mark.
func (t *talk) dials(mark int) (n, most, next int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.dialed[mark:]
	first := 0
	for i, at := range list {
		for at.Sub(list[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return len(list), most, len(t.dialed)
}

// calm waits until the region has a leader and all its nodes are up and own
// their part, as every node sees it.
func (t *talk) calm(ctx context.Context, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		why := ""
		for _, p := range t.fleet.Nodes {
			r, err := p.Roster(ctx)
			switch {
			case err != nil:
				why = err.Error()
			case r.Leader == "":
				why = fmt.Sprintf("%s knows no leader", p.ID)
			case len(r.Nodes) < len(t.fleet.Nodes):
				why = fmt.Sprintf("%s knows %d nodes", p.ID, len(r.Nodes))
			}
			for _, n := range r.Nodes {
				if n.State != "up" || n.Slots < regions.Slots/len(t.fleet.Nodes)*9/10 {
					why = fmt.Sprintf("%s says that %s is %s with %d slots", p.ID, n.ID, n.State, n.Slots)
				}
			}
		}
		if why == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the region is not calm after %s: %s", limit, why)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}
