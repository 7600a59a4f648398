package session

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// Requests about calls wait in a queue of their own, whatever room they are about: what a
// client describes, its candidates and what it sets make sense in their order alone. One
// is under way at a time, and calls are asked on the node or one hop away.

const (
	callsWaiting = 64      // requests of one session: the candidates of a description come at once
	callRooms    = 100_000 // calls whose rooms are remembered
)

// call takes a request about a call.
func (s *Session) call(id uint64, r *wire.CallRequest) {
	if p := wire.CheckCall(r); p != nil {
		s.refuse(id, "", p)
		return
	}
	ask := s.traced(func(ctx context.Context, _ func()) { s.askCall(ctx, id, r) })
	s.mu.Lock()
	n := len(s.calls)
	if n < callsWaiting {
		s.calls = append(s.calls, ask)
	}
	s.mu.Unlock()
	switch {
	case n >= callsWaiting:
		s.refuse(id, "", errs.New(errs.RateLimited, edge.CodeRateLimited, "wait for answers before you ask more about calls").After(200*time.Millisecond))
	case n == 0:
		s.registry.run(s.workCalls)
	}
}

// workCalls does what waits. It goes on without the connection, as all requests do.
func (s *Session) workCalls() {
	for {
		s.mu.Lock()
		next := s.calls[0]
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(s.belongs(context.Background()), s.registry.config.Request)
		next(ctx, nil)
		cancel()
		s.mu.Lock()
		s.calls = s.calls[1:]
		over := len(s.calls) == 0
		if over {
			s.calls = nil
		}
		s.mu.Unlock()
		if over {
			return
		}
	}
}

func (s *Session) askCall(ctx context.Context, id uint64, r *wire.CallRequest) {
	answer, err := s.tryCall(ctx, r)
	switch {
	case err != nil:
		s.refuse(id, "", err)
	case answer == nil:
		s.done(id)
	default:
		s.answer(id, answer)
	}
}

func (s *Session) tryCall(ctx context.Context, r *wire.CallRequest) (*wire.ServerFrame, error) {
	room, err := s.registry.callRoom(ctx, r.Call)
	if err != nil {
		return nil, err
	}
	brings := r.GetJoin() != nil && s.speaksOfCalls()
	came, err := s.joining(ctx, room, brings)
	if err != nil {
		return nil, err
	}
	as, err := s.still(ctx, room)
	if err != nil {
		return nil, err
	}
	if r.GetLeave() == nil { // whoever is in a call may go
		if err := may(as, edge.Talks); err != nil {
			return nil, err
		}
	}
	if s.current() == Closed {
		return nil, notJoined
	}
	answer, err := s.registry.deps.Calls.Ask(ctx, s, room, as, r)
	switch {
	case r.GetJoin() != nil:
		s.joinedCall(room)
		if err != nil && came {
			s.leaveWithCall(room)
		}
	case r.GetLeave() != nil && s.speaksOfCalls():
		s.leaveWithCall(room)
	}
	return answer, err
}

// leaveWithCall takes who knows of calls alone out of a room whose call it is not in.
func (s *Session) leaveWithCall(room string) {
	s.queue(room, func(context.Context) { s.leave(0, room) })
}

// joinedCall says again what happened to the session while it joined a call: said then,
// it may have been too early.
func (s *Session) joinedCall(room string) {
	s.hub.Lock()
	defer s.hub.Unlock()
	_, in := s.in(room)
	switch c := s.registry.deps.Calls; {
	case s.silent:
		c.Gone(s, s.final)
	case !in:
		c.Left(s, room, wire.Reason_BYE)
	case s.current() == Suspended:
		c.Suspend(s)
	}
}

// speaksOfCalls: the client knows of calls alone. It is in a room while it is in its
// call.
func (s *Session) speaksOfCalls() bool {
	c, ok := s.conn.(transport.Speaks)
	return ok && c.Dialect() != nil
}

// joining waits for a join of the room that is under way: a client need not wait for
// its answer before it asks about the call. too: it is joined if it is not, or is about to
// leave; came reports that this was needed.
func (s *Session) joining(ctx context.Context, room string, too bool) (came bool, err error) {
	switch _, joined := s.in(room); {
	case joined && !too, (joined || !too) && !s.works(room):
		return false, nil
	}
	type outcome struct {
		came bool
		err  error
	}
	done := make(chan outcome, 1)
	s.queue(room, func(ctx context.Context) {
		if _, joined := s.in(room); joined || !too {
			done <- outcome{}
			return
		}
		done <- outcome{true, s.tryJoin(ctx, 0, room, nil)}
	})
	select {
	case o := <-done:
		return o.came, o.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// callRoom returns the room of a call, which never changes.
func (r *Registry) callRoom(ctx context.Context, call string) (room string, err error) {
	r.callsMu.Lock()
	room, ok := r.callRooms[call]
	r.callsMu.Unlock()
	if ok {
		return room, nil
	}
	if err := r.ask(ctx, func() (err error) {
		room, err = r.deps.Calls.Room(ctx, call)
		return err
	}); err != nil {
		return "", err
	}
	r.callsMu.Lock()
	defer r.callsMu.Unlock()
	for other := range r.callRooms { // any: it is read again when it is needed
		if len(r.callRooms) < callRooms {
			break
		}
		delete(r.callRooms, other)
	}
	r.callRooms[call] = room
	return room, nil
}

// Tell gives a session here something about a call. false: there is none that listens,
// under exactly this epoch. When it has a connection again, its calls hear Resume.
func (r *Registry) Tell(id regions.SessionID, e *wire.CallEvent) bool {
	r.mu.Lock()
	s := r.findLocked(device{id.User, id.Device})
	r.mu.Unlock()
	if s == nil || s.epoch() != id.Epoch || !s.listens() {
		return false
	}
	s.send(&wire.ServerFrame{Body: &wire.ServerFrame_CallEvent{CallEvent: e}})
	if e.GetOver() != nil && s.speaksOfCalls() {
		r.callsMu.Lock()
		room, ok := r.callRooms[e.Call]
		r.callsMu.Unlock()
		if ok {
			s.leaveWithCall(room)
		}
	}
	return true
}

// resumeCalls tells the calls that the session has a connection, unless its rooms have
// heard the last of it meanwhile.
func (s *Session) resumeCalls() {
	s.hub.Lock()
	defer s.hub.Unlock()
	if s.silent || s.fleet() != "" {
		return
	}
	s.registry.deps.Calls.Resume(s)
	if s.current() == Suspended { // lost before this, and said so then
		s.registry.deps.Calls.Suspend(s)
	}
}

// noCalls is a node that has no part in calls.
type noCalls struct{}

var errNoCalls = errs.New(errs.Unavailable, edge.CodeNoMedia, "this node takes no part in calls: connect to another one").After(time.Second)

func (noCalls) Room(context.Context, string) (string, error) { return "", errNoCalls }

func (noCalls) Ask(context.Context, edge.Client, string, edge.Membership, *wire.CallRequest) (*wire.ServerFrame, error) {
	return nil, errNoCalls
}
func (noCalls) Suspend(edge.Client)                   {}
func (noCalls) Resume(edge.Client)                    {}
func (noCalls) Gone(edge.Client, wire.Reason)         {}
func (noCalls) Left(edge.Client, string, wire.Reason) {}
