package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// CallEvent is what a call says: the frames of api/wire as they come. A Joined replaces
// all that is known of the call, and at a higher place it asks for new connections. An
// event of an earlier place is not given.
type CallEvent = wire.CallEvent

// Call is a call that the session takes part in. It carries what is said about media; it
// makes no connections of its own. Its methods are safe for concurrent use.
//
// After a lost connection, or on another node, it is joined again by itself, and the
// answer comes as a Joined event: a description or a candidate that was under way then is
// to be said again.
type Call struct {
	s     *Session
	room  *Room
	id    string
	queue *queue

	// Guarded by the session's lock.
	how   *wire.CallJoin
	place uint64
	on    *connection // over which it was joined last
	err   error
}

// JoinCall takes part in a call of the room, or again: all anew. The first answer says
// how the call is; Events has what comes then.
func (r *Room) JoinCall(ctx context.Context, id string, how *wire.CallJoin) (*Call, *wire.CallJoined, error) {
	c := &Call{s: r.s, room: r, id: id, queue: newQueue(r.s.cfg.QueueSize), how: &wire.CallJoin{
		MicMuted: how.GetMicMuted(), SpeakerMuted: how.GetSpeakerMuted(), PeerToPeer: how.GetPeerToPeer(),
	}}
	ask := &wire.CallRequest{Call: id, Body: &wire.CallRequest_Join{Join: how}}
	if how == nil {
		ask.Body = &wire.CallRequest_Join{Join: &wire.CallJoin{}}
	}
	if err := problem(wire.CheckCall(ask)); err != nil {
		return nil, nil, err
	}
	r.s.mu.Lock()
	if r.s.calls == nil {
		r.s.calls = map[string]*Call{}
	}
	if old := r.s.calls[id]; old != nil {
		old.endLocked(ErrLeft)
	}
	r.s.calls[id] = c // what comes before the answer is not lost
	r.s.mu.Unlock()
	f, err := r.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Call{Call: ask}})
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if err != nil {
		c.endLocked(err)
		return nil, nil, err
	}
	joined := f.GetCallJoined()
	c.place = max(c.place, joined.GetPlace())
	if c.on == nil {
		c.on = r.s.conn
	}
	return c, joined, nil
}

// ID returns the call's id.
func (c *Call) ID() string { return c.id }

// Events yields what the call says (*CallEvent), in order, until it is over (Ended, the
// last one) or ctx ends. Who is too slow gets Missed instead of what waited, and joins
// anew. Use it from one goroutine.
func (c *Call) Events(ctx context.Context) iter.Seq[Event] { return c.queue.all(ctx) }

// Err says why the call is over for this session; nil while it is not.
func (c *Call) Err() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.err
}

func (c *Call) ask(ctx context.Context, r *wire.CallRequest) (*wire.ServerFrame, error) {
	r.Call = c.id
	if err := problem(wire.CheckCall(r)); err != nil {
		return nil, err
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	return c.room.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Call{Call: r}})
}

// Set says what the participant does now; what is not set stays.
func (c *Call) Set(ctx context.Context, to *wire.CallSet) error {
	_, err := c.ask(ctx, &wire.CallRequest{Body: &wire.CallRequest_Set{Set: to}})
	if err == nil {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		if to.MicMuted != nil {
			c.how.MicMuted = *to.MicMuted
		}
		if to.SpeakerMuted != nil {
			c.how.SpeakerMuted = *to.SpeakerMuted
		}
	}
	return err
}

// Describe sends a session description: an offer for up, or the answer for down. One that
// fails was not heard, as may be while the session goes to another node: say it again,
// unless a later one, or a call at another place, has made up for it.
func (c *Call) Describe(ctx context.Context, d *wire.CallDescription) error {
	_, err := c.ask(ctx, &wire.CallRequest{Body: &wire.CallRequest_Describe{Describe: d}})
	return err
}

// Candidate sends a candidate. It waits for no answer.
func (c *Call) Candidate(candidate *wire.CallCandidate) error {
	return c.say(&wire.CallRequest{Body: &wire.CallRequest_Candidate{Candidate: candidate}})
}

// Wants says how big pictures are shown. It waits for no answer.
func (c *Call) Wants(wants ...*wire.CallWant) error {
	return c.say(&wire.CallRequest{Body: &wire.CallRequest_Wants{Wants: &wire.CallWants{Wants: wants}}})
}

// Signal says something to the other one of a call that goes without a server. It waits
// for no answer.
func (c *Call) Signal(to *wire.CallSignal) error {
	return c.say(&wire.CallRequest{Body: &wire.CallRequest_Signal{Signal: to}})
}

// say sends a request that wants no answer, over the connection that there is. Without
// one it is lost, like those under way are: after the Joined event it is said again.
func (c *Call) say(r *wire.CallRequest) error {
	r.Call = c.id
	if err := problem(wire.CheckCall(r)); err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.err == nil && c.s.conn != nil {
		c.s.conn.queue = append(c.s.conn.queue, &wire.ClientFrame{Body: &wire.ClientFrame_Call{Call: r}})
		c.s.notify()
	}
	return c.err
}

// Floor asks for the talk floor of a call with push to talk, or gives it back.
func (c *Call) Floor(ctx context.Context, ask *wire.CallFloorAsk) (*wire.CallFloor, error) {
	f, err := c.ask(ctx, &wire.CallRequest{Body: &wire.CallRequest_Floor{Floor: ask}})
	return f.GetCallFloor(), err
}

// Moderate is for admins and owners of the group, and for both of a room of two.
func (c *Call) Moderate(ctx context.Context, m *wire.CallModerate) error {
	_, err := c.ask(ctx, &wire.CallRequest{Body: &wire.CallRequest_Moderate{Moderate: m}})
	return err
}

// Leave takes the session out of the call.
func (c *Call) Leave(ctx context.Context) error {
	c.s.mu.Lock()
	over := c.err != nil
	c.endLocked(ErrLeft)
	c.s.mu.Unlock()
	if over {
		return nil
	}
	_, err := c.s.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Call{Call: &wire.CallRequest{Call: c.id, Body: &wire.CallRequest_Leave{Leave: &wire.CallLeave{}}}}})
	if refused, ok := errors.AsType[*Error](err); ok && (c.final(refused.Code) || refused.Code == wire.CodeNotJoined) {
		return nil // it was out already
	}
	return err
}

// The following are called under the session's lock.

func (c *Call) endLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.s.calls[c.id] == c {
		delete(c.s.calls, c.id)
	}
	c.queue.end(Ended{err})
}

// callLocked gives an event to its call.
func (s *Session) callLocked(e *wire.CallEvent) {
	c := s.calls[e.GetCall()]
	if c == nil || e.GetPlace() < c.place {
		return
	}
	c.place = max(c.place, e.GetPlace(), e.GetJoined().GetPlace())
	c.queue.push(e)
	if over := e.GetOver(); over != nil {
		c.endLocked(&Error{Code: wire.CodeCallEnded, Message: "the call is over for this device: " + over.GetReason()})
	}
}

// rejoinCallsLocked joins the calls of a room again, which a connection brought back.
func (s *Session) rejoinCallsLocked(on *connection, room *Room) {
	for _, c := range s.calls {
		if c.room == room && c.on != nil && c.on != on {
			c.on = on
			c.rejoinLocked(on, 0)
		}
	}
}

func (c *Call) rejoinLocked(on *connection, attempt int) {
	frame := &wire.ClientFrame{Body: &wire.ClientFrame_Call{Call: &wire.CallRequest{Call: c.id, Body: &wire.CallRequest_Join{Join: c.how}}}}
	c.s.requestLocked(frame, false, func(f *wire.ServerFrame, err error) {
		refused, ok := errorsAs(err)
		switch {
		case c.err != nil || c.s.conn != on: // over, or joined anew by the next connection
		case err == nil:
			j := f.GetCallJoined()
			c.place = max(c.place, j.GetPlace())
			c.queue.push(&wire.CallEvent{Call: c.id, Place: j.GetPlace(), Version: j.GetState().GetVersion(), Body: &wire.CallEvent_Joined{Joined: j}})
		case ok && c.final(refused.Code):
			c.endLocked(refused)
		default:
			wait := jitter(attempt, requestRetry)
			if ok {
				wait += refused.RetryAfter
			}
			time.AfterFunc(wait, func() {
				c.s.mu.Lock()
				defer c.s.mu.Unlock()
				if c.err == nil && c.s.conn == on {
					c.rejoinLocked(on, attempt+1)
				}
			})
		}
	})
	c.s.notify()
}

// final reports whether a refusal says that there is no way back into the call.
func (*Call) final(code string) bool {
	switch code {
	case wire.CodeNoCall, wire.CodeCallEnded, wire.CodeCallLocked, wire.CodeCallFull, wire.CodeNotInCall, wire.CodeNotMember, wire.CodeEnded:
		return true
	}
	return false
}

// endCallsLocked ends those of a room that the session is not in any more; nil: all.
func (s *Session) endCallsLocked(room *Room, err error) {
	for _, c := range s.calls {
		if room == nil || c.room == room {
			c.endLocked(err)
		}
	}
}
