package session

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/regions"
)

// Session is one device's session; see the package comment. It is the
// edge.Client that rooms know. Times are those of Registry.now. There may be
// many: what a session at rest does not need is not in it.
type Session struct {
	registry *Registry
	conn     transport.Conn
	timer    *time.Timer // for the earliest of the deadlines below
	seen     atomic.Int64
	member   *peer.Member // set by the reader during hello, not changed after; nil before

	asking    sync.Mutex            // held while the following is asked for
	blocked   atomic.Pointer[terms] // whom it must not see; nil: not known
	blockedAt atomic.Int64          // as of when, in Unix nanoseconds
	blockNews atomic.Uint64         // how often it was told that this may have changed
	blockRead atomic.Uint64         // how often it had been when it was asked last
	heeded    atomic.Int64          // when it was asked again by itself
	uncleared []string              // whom the client may still show; guarded by asking
	veil      veil                  // takes them out of what it is sent

	// The reader's own.
	frameKind string       // of the frame that it is at
	meter     admit.Client // but for Unasked, which mu guards
	bad       admit.Bucket // of frames that don't decode
	counted   bool         // among the registry's connected ones

	// hub is held during calls to the hub, so that they take effect in order.
	// The hub may call back meanwhile: it is taken before mu, never after.
	hub    sync.Mutex
	silent bool        // guarded by hub: rooms have heard the last of this session
	final  wire.Reason // and why

	mu       sync.Mutex // guards the following
	state    State
	welcomed bool          // it was told that it is live
	hidden   bool          // seen by nobody
	asked    bool          // whether it wants to be
	showing  bool          // show runs
	shown    bool          // it wants to be seen: what show works for
	since    time.Duration // of the connection, then of the welcome
	expires  time.Duration // the access token
	until    time.Duration // draining: it must go; suspended: it is forgotten
	settle   time.Duration // when pending is left; 0: nothing is
	rooms    []stay
	pending  []string         // rooms that the region has the session in, but it is not, or not yet
	unsure   []string         // those of pending that the region may know, or may not
	gone     *withdrawals     // what other nodes are being told; nil: nothing
	busy     *entry           // what the region is being told
	next     *entry           // what it is told then
	lanes    map[string]*lane // per room with requests under way
	inFlight int
	calls    []job // what it asks about calls: the first one is under way
}

// stay is a room that the session is in.
type stay struct {
	room    string
	version uint64 // of the membership that was checked
	noted   bool   // by the region, which knows nothing of hidden sessions' rooms
}

// badFrames is how many undecodable frames a connection survives.
var badFrames = admit.Rate{PerSecond: 0.2, Burst: 10}

func newSession(r *Registry, c transport.Conn) *Session {
	s := &Session{registry: r, conn: c, since: r.now()}
	r.deps.Metrics.sessions.WithLabelValues(Connecting.String()).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(r.config.Hello, func() { r.run(s.check) })
	return s
}

func (s *Session) key() device          { return device{s.member.User, s.member.Device.Device} }
func (s *Session) epoch() regions.Epoch { return regions.Epoch(s.member.Device.Epoch) }

func (s *Session) id() regions.SessionID {
	return regions.SessionID{User: s.member.User, Device: s.member.Device.Device, Epoch: s.epoch()}
}

// log writes a line about the session, by its name. Before it is open it has none.
func (s *Session) log(level slog.Level, text string, args ...any) {
	l, ctx := s.registry.deps.Log, context.Background()
	if !l.Enabled(ctx, level) {
		return
	}
	if s.member != nil {
		args = append([]any{"session", s.id().String()}, args...)
	}
	l.Log(ctx, level, text, args...)
}

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
	now, c := s.registry.now(), &s.registry.config
	s.mu.Lock()
	var due time.Duration
	var last *wire.Close
	sooner := func(at time.Duration, c *wire.Close) {
		if due == 0 || at < due {
			due, last = at, c
		}
	}
	switch s.state {
	case Connecting, Authenticating:
		sooner(s.since+c.Hello, &wire.Close{Code: wire.CodeTimeout, Message: "say hello sooner"})
	case Draining:
		sooner(s.until, transport.Draining())
		fallthrough
	case Live:
		sooner(time.Duration(s.seen.Load())+3*c.Ping, &wire.Close{Code: wire.CodeTimeout, Message: "ping more often"})
		sooner(s.expires, &wire.Close{Code: wire.CodeTokenExpired, Message: "get a fresh access token and connect again"})
		if s.settle != 0 {
			sooner(s.settle, nil)
		}
	case Suspended:
		sooner(s.until, nil)
	case Closed:
		s.mu.Unlock()
		return
	}
	if wait := due - now; wait > 0 {
		s.timer.Reset(wait)
		s.mu.Unlock()
		return
	}
	suspended := s.state == Suspended
	s.mu.Unlock()
	switch {
	case last != nil:
		s.close(last) // lost sets the timer again
	case suspended:
		s.finish(Expired, wire.Reason_MOVED, nil) // rooms hear from the region
	default:
		s.abandon(s.unsettled())
		s.wake()
	}
}

// wake has the deadlines looked at.
func (s *Session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Closed {
		s.timer.Reset(0)
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
	r := s.registry
	s.unwatchAll()
	s.mu.Lock()
	from := s.state
	if from == Closed {
		s.mu.Unlock()
		return
	}
	s.moveLocked(Lost)
	suspended := s.state == Suspended
	if suspended {
		s.until = r.now() + r.config.Memory
		s.timer.Reset(r.config.Memory)
	}
	s.mu.Unlock()
	s.log(slog.LevelDebug, "connection lost", "from", from, "err", err)
	if suspended {
		s.hub.Lock()
		defer s.hub.Unlock()
		if !s.silent {
			r.deps.Hub.Suspend(s)
			r.deps.Roster.Suspend(s.id())
			r.deps.Calls.Suspend(s)
			r.wasHere(s)
		}
	}
}

// end closes the session for good and tells the region; others see it leave for
// the given reason. Nil is a normal close of the connection.
func (s *Session) end(reason wire.Reason, c *wire.Close) {
	if s.finish(Ended, reason, c) && s.member != nil {
		s.registry.deps.Roster.Close(s.id(), reason)
	}
}

// finish closes the session for good; false: it was already. MOVED is no reason
// that others see.
func (s *Session) finish(e Event, reason wire.Reason, c *wire.Close) bool {
	s.mu.Lock()
	from := s.state
	ok := from != Closed && s.moveLocked(e)
	s.mu.Unlock()
	if !ok {
		return false
	}
	if s.member != nil {
		s.leaveHub(e, reason)
		s.registry.forget(s)
	}
	if from.connected() && reason != wire.Reason_MOVED {
		s.registry.wasHere(s)
	}
	if from != Suspended {
		s.close(c)
	}
	return true
}

func (s *Session) leaveHub(e Event, reason wire.Reason) {
	s.hub.Lock()
	defer s.hub.Unlock()
	if !s.silent {
		s.silent = true
		s.registry.deps.Hub.Gone(s, reason)
		s.registry.deps.Sharer.Gone(s)
		if reason == wire.Reason_MOVED && e != Fenced { // rooms hear of it from the region, calls don't
			reason = wire.Reason_TIMED_OUT
		}
		s.final = reason
		s.registry.deps.Calls.Gone(s, reason)
	}
}

// replace silences s, whose device is live again under a higher epoch. Its
// rooms still hold it: see relieve.
func (s *Session) replace(epoch regions.Epoch) {
	s.hub.Lock()
	defer s.hub.Unlock()
	s.silent, s.final = true, wire.Reason_MOVED
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.connected() {
		s.close(superseded(epoch))
	}
	if s.state != Closed {
		s.moveLocked(Replaced)
	}
}

// relieve takes a replaced session out of the rooms, which its successor has
// joined, or is about to.
func (s *Session) relieve(reason wire.Reason) {
	s.hub.Lock()
	defer s.hub.Unlock()
	s.registry.deps.Hub.Gone(s, reason)
	s.registry.deps.Calls.Gone(s, reason)
}

func superseded(epoch regions.Epoch) *wire.Close {
	return &wire.Close{Code: wire.CodeSuperseded, Message: "this device is connected elsewhere", Epoch: uint64(epoch)}
}

// again closes a connection that is to be made anew: n clients are told so at
// the same time, and come back spread out.
func again(message string, n int) *wire.Close {
	return &wire.Close{Code: wire.CodeRetry, Message: message, RetryAfterMs: spread(n)}
}

// goaway tells the client to go to another node.
func (s *Session) goaway(plan *DrainPlan) bool {
	s.mu.Lock()
	ok := s.state == Live && s.moveLocked(Drain)
	if ok {
		s.until = s.registry.now() + plan.Deadline
		s.timer.Reset(0)
	}
	s.mu.Unlock()
	if !ok {
		return false
	}
	g := &wire.Goaway{Ticket: s.ticket(), DeadlineMs: millis(plan.Deadline)}
	if plan.Targets != nil {
		g.Targets = plan.Targets()
	}
	s.send(&wire.ServerFrame{Body: &wire.ServerFrame_Goaway{Goaway: g}})
	return true
}

// ---------------------------------------------------------------- its rooms

// in returns the session's stay in a room.
func (s *Session) in(room string) (st stay, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.stayLocked(room); i >= 0 {
		return s.rooms[i], true
	}
	return stay{}, false
}

func (s *Session) stayLocked(room string) int {
	return slices.IndexFunc(s.rooms, func(st stay) bool { return st.room == room })
}

// dropLocked forgets a room; held: the session may be in it, noted: and the
// region knows.
func (s *Session) dropLocked(room string) (held, noted bool) {
	s.veil.forget(room)
	noted = slices.Contains(s.pending, room)
	held = noted
	if i := s.stayLocked(room); i >= 0 {
		held, noted = true, noted || s.rooms[i].noted
		s.rooms = slices.Delete(s.rooms, i, i+1)
	}
	s.settledLocked(room)
	return held, noted
}

// pendLocked has rooms that the region knows of left when the grace time is
// over, unless they are joined until then.
func (s *Session) pendLocked(rooms ...string) {
	for _, room := range rooms {
		if s.stayLocked(room) < 0 && !slices.Contains(s.pending, room) {
			s.pending = append(s.pending, room)
		}
	}
	if len(s.pending) > 0 && s.settle == 0 {
		s.settle = s.registry.now() + s.registry.config.Grace
		if s.state.connected() {
			s.timer.Reset(0)
		}
	}
}

func (s *Session) settledLocked(room string) {
	s.pending = slices.DeleteFunc(s.pending, func(p string) bool { return p == room })
	s.sureLocked(room)
	if len(s.pending) == 0 {
		s.pending, s.settle = nil, 0
	}
}

// sureLocked: what the region knows of a room is known, or doesn't matter.
func (s *Session) sureLocked(room string) {
	s.unsure = slices.DeleteFunc(s.unsure, func(p string) bool { return p == room })
}

// unsettled takes the rooms that were never joined, once their time is over.
func (s *Session) unsettled() (rooms []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settle != 0 && s.settle <= s.registry.now() {
		rooms, s.pending, s.unsure, s.settle = s.pending, nil, nil, 0
	}
	return rooms
}

// notJoined takes those of the rooms that were not joined, nor are being joined.
func (s *Session) notJoined(rooms []string) (left []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, room := range rooms {
		if _, busy := s.lanes[room]; !busy && slices.Contains(s.pending, room) {
			left = append(left, room)
			s.settledLocked(room)
		}
	}
	return left
}

// abandon takes the session out of rooms that its device was in before.
func (s *Session) abandon(rooms []string) {
	s.hub.Lock()
	defer s.hub.Unlock()
	if s.silent || len(rooms) == 0 {
		return
	}
	for _, room := range rooms {
		s.registry.deps.Hub.Leave(s, room, wire.Reason_BYE)
		s.registry.deps.Calls.Left(s, room, wire.Reason_BYE)
	}
	s.registry.deps.Roster.Leave(s.id(), rooms...)
}

// wasHere notes that the user was here until now.
func (r *Registry) wasHere(s *Session) {
	if r.deps.Settings != nil && s.fleet() == "" {
		r.deps.Settings.Seen(s.member.User, time.Now())
	}
}

var _ edge.Client = (*Session)(nil)
