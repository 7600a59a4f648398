package session

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// Session is one device's session; see the package comment. It is the
// edge.Client that rooms know.
type Session struct {
	registry *Registry
	conn     transport.Conn
	timer    *time.Timer // for the earliest of the deadlines below
	started  time.Time
	seen     atomic.Int64 // when the last frame came: ns since started, which no step of the wall clock moves

	// Written by the reader during hello, not changed after.
	identity edge.Identity // but for the expiry
	device   string
	epoch    regions.Epoch
	member   *peer.Member

	// The reader's own.
	meter admit.Client // but for Unasked, which mu guards
	bad   admit.Bucket // of frames that don't decode

	// hub is held during calls to the hub, so that they take effect in order.
	// The hub may call back meanwhile: it is taken before mu, never after.
	hub    sync.Mutex
	silent bool // guarded by hub: rooms have heard the last of this session

	mu       sync.Mutex // guards the following
	state    State
	expires  time.Time
	grace    time.Time
	rooms    map[string]edge.Membership
	lanes    map[string][]job // per room; a key means that a goroutine works on it
	inFlight int
}

// badFrames is how many undecodable frames a connection survives.
var badFrames = admit.Rate{PerSecond: 0.2, Burst: 10}

func newSession(r *Registry, c transport.Conn) *Session {
	s := &Session{registry: r, conn: c, started: time.Now()}
	r.deps.Metrics.sessions.WithLabelValues(Connecting.String()).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(r.config.Hello, func() { r.run(s.check) })
	return s
}

func (s *Session) key() device { return device{s.identity.User, s.device} }

// move changes the state; the place on the node is given back with the end.
func (s *Session) move(e Event) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moveLocked(e)
}

func (s *Session) moveLocked(e Event) (ok bool) {
	to, ok := Next(s.state, e)
	s.registry.deps.Metrics.moved(s.state, e, to, ok)
	if ok && to == Closed {
		s.registry.gate.Leave()
		s.timer.Stop()
	}
	s.state = to
	return ok
}

func (s *Session) current() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// ---------------------------------------------------------------- deadlines

// check does what is due, and sets the timer for what is next.
func (s *Session) check() {
	now, c := time.Now(), &s.registry.config
	s.mu.Lock()
	var due time.Time
	var last *wire.Close
	switch s.state {
	case Connecting, Authenticating:
		due = s.started.Add(c.Hello)
		last = &wire.Close{Code: wire.CodeTimeout, Message: "say hello sooner"}
	case Live, Draining:
		due = s.started.Add(time.Duration(s.seen.Load()) + 3*c.Ping)
		last = &wire.Close{Code: wire.CodeTimeout, Message: "ping more often"}
		if s.expires.Before(due) {
			due = s.expires
			last = &wire.Close{Code: wire.CodeTokenExpired, Message: "get a fresh access token and connect again"}
		}
	case Suspended:
		due = s.grace
	case Closed:
		s.mu.Unlock()
		return
	}
	if wait := due.Sub(now); wait > 0 {
		s.timer.Reset(wait)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if last != nil {
		s.close(last) // lost sets the timer again
		return
	}
	if s.move(Expired) {
		s.leaveHub(wire.Reason_TIMED_OUT)
		s.registry.forget(s)
	}
}

// ---------------------------------------------------------------- endings

// close ends the connection with a code. The session goes on without it,
// until lost.
func (s *Session) close(c *wire.Close) {
	s.registry.deps.Metrics.closes.WithLabelValues(c.GetCode()).Inc()
	s.conn.Close(c)
}

// lost is called when the connection is gone.
func (s *Session) lost(err error) {
	s.mu.Lock()
	from := s.state
	if from == Closed {
		s.mu.Unlock()
		return
	}
	s.moveLocked(Lost)
	if s.state == Suspended {
		s.grace = time.Now().Add(s.registry.config.Grace)
		s.timer.Reset(s.registry.config.Grace)
	}
	suspended := s.state == Suspended
	s.mu.Unlock()
	s.registry.deps.Log.Debug("connection lost", "from", from, "device", s.device, "epoch", s.epoch, "err", err)
	if suspended {
		s.hub.Lock()
		defer s.hub.Unlock()
		if !s.silent {
			s.registry.deps.Hub.Suspend(s)
		}
	}
}

// end closes the session for good; others see it leave for the given reason.
// Nil is a normal close of the connection.
func (s *Session) end(reason wire.Reason, c *wire.Close) {
	s.mu.Lock()
	known := s.member != nil && s.state != Closed && s.state != Authenticating && s.state != Connecting
	if s.state == Closed {
		s.mu.Unlock()
		return
	}
	s.moveLocked(Ended)
	s.mu.Unlock()
	if known {
		s.leaveHub(reason)
	}
	s.registry.forget(s)
	s.close(c)
}

func (s *Session) leaveHub(reason wire.Reason) {
	s.hub.Lock()
	defer s.hub.Unlock()
	if !s.silent {
		s.silent = true
		s.registry.deps.Hub.Gone(s, reason)
	}
}

// replace silences s, whose device is live again under a higher epoch, and
// returns the rooms it was in. They still hold it: see relieve.
func (s *Session) replace(epoch regions.Epoch) (rooms map[string]edge.Membership) {
	s.hub.Lock()
	defer s.hub.Unlock()
	s.silent = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Live || s.state == Draining {
		s.close(superseded(epoch))
	}
	if s.state != Closed {
		s.moveLocked(Replaced)
	}
	rooms, s.rooms = s.rooms, nil
	return rooms
}

func superseded(epoch regions.Epoch) *wire.Close {
	return &wire.Close{Code: wire.CodeSuperseded, Message: "this device is connected elsewhere", Epoch: uint64(epoch)}
}

// relieve takes a replaced session out of the rooms that s, its successor, did
// not join. It left those that it does not want; one that it could not join now
// it may join in a moment.
func (s *Session) relieve(old *Session, rooms map[string]edge.Membership, follows []*wire.Follow) {
	old.hub.Lock()
	defer old.hub.Unlock()
	for room := range rooms {
		_, joined := s.membership(room)
		wanted := slices.ContainsFunc(follows, func(f *wire.Follow) bool { return f.GetRoom() == room })
		if !joined && !wanted {
			s.registry.deps.Hub.Leave(old, room, wire.Reason_BYE)
		}
	}
	s.registry.deps.Hub.Gone(old, wire.Reason_MOVED)
}

func (s *Session) drain() {
	s.mu.Lock()
	ok := s.state == Live && s.moveLocked(Drain)
	s.mu.Unlock()
	if ok {
		s.close(transport.Draining())
	}
}

// ---------------------------------------------------------------- edge.Client

// Member describes the session; it is not changed after the hello.
func (s *Session) Member() *peer.Member { return s.member }

// Deliver queues a frame for the client.
func (s *Session) Deliver(f *edge.Frame) { s.conn.Send(f) }

// Refused answers a Join.
func (s *Session) Refused(re uint64, room string, err error) {
	s.mu.Lock()
	delete(s.rooms, room)
	s.mu.Unlock()
	s.sendError(re, room, err)
}

// Removed tells that the session is no longer in the room. The client is told
// if that is news to it.
func (s *Session) Removed(room string, reason wire.Reason) {
	s.mu.Lock()
	delete(s.rooms, room)
	s.mu.Unlock()
	if reason == wire.Reason_REMOVED {
		s.sendError(0, room, errs.New(errs.Forbidden, edge.CodeNotMember, "you are no longer a member of this group"))
	}
}

// Superseded closes the session: its device is live under a higher epoch. It
// calls the hub, so not in the hub's goroutine.
func (s *Session) Superseded(epoch uint64) {
	s.registry.run(func() { s.end(wire.Reason_MOVED, superseded(regions.Epoch(epoch))) })
}

func (s *Session) membership(room string) (m edge.Membership, joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, joined = s.rooms[room]
	return m, joined
}

// ---------------------------------------------------------------- answers

func (s *Session) send(f *wire.ServerFrame) { s.conn.Send(edge.NewFrame(f)) }

// answer sends the answer to a request that wants one.
func (s *Session) answer(re uint64, f *wire.ServerFrame) {
	if re != 0 {
		f.Re = re
		s.send(f)
	}
}

func (s *Session) done(re uint64) {
	s.answer(re, &wire.ServerFrame{Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
}

// refuse answers a frame with an error. One that did not ask for an answer
// gets it too, but not as many as it likes.
func (s *Session) refuse(re uint64, room string, err error) {
	if re == 0 {
		s.mu.Lock()
		ok := s.meter.Unasked(time.Now(), &s.registry.config.Limits)
		s.mu.Unlock()
		if !ok {
			return
		}
	}
	s.sendError(re, room, err)
}

func (s *Session) sendError(re uint64, room string, err error) {
	e := &wire.Error{Room: room}
	var p *wire.Problem
	switch {
	case errors.As(err, &p):
		e.Code, e.Message = p.Code, p.Message
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e.Code, e.Message, e.RetryAfterMs = wire.CodeRetry, "this took too long: try again", 1000
	default:
		known, ok := errs.From(err)
		if !ok {
			s.registry.deps.Log.Error("request failed", "device", s.device, "room", room, "err", err)
		}
		e.Code, e.Message, e.RetryAfterMs = string(known.Code), known.Message, millis(known.RetryAfter)
	}
	s.registry.deps.Metrics.errors.WithLabelValues(e.Code).Inc()
	s.send(&wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Error{Error: e}})
}

func millis(d time.Duration) uint32 { return uint32((d + time.Millisecond - 1) / time.Millisecond) }

func (s *Session) welcome(transportKind wire.Transport) *wire.ServerFrame {
	c := &s.registry.config
	return &wire.ServerFrame{Body: &wire.ServerFrame_Welcome{Welcome: &wire.Welcome{
		Version: wire.Version, User: s.identity.User, Name: s.identity.Name, Epoch: uint64(s.epoch),
		Region: string(c.Region), Node: string(c.Node), Transport: transportKind,
		Now: timestamppb.Now(), Expires: timestamppb.New(s.identity.Expires),
		PingMs: millis(c.Ping), MaxFrame: wire.MaxClientFrame, GraceMs: millis(c.Grace), TickMs: millis(c.Tick),
	}}}
}
