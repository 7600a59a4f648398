package session

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// ---------------------------------------------------------------- edge.Client

// Member describes the session; it is not changed after the hello.
func (s *Session) Member() *peer.Member { return s.member }

// Deliver queues a frame for the client.
func (s *Session) Deliver(f *edge.Frame) {
	if f = s.permitted(f); f != nil {
		s.conn.Send(f)
	}
}

// Refused answers a Join.
func (s *Session) Refused(re uint64, room string, err error) {
	final := errors.Is(err, &errs.Error{Code: edge.CodeNotMember})
	s.mu.Lock()
	_, noted := s.dropLocked(room)
	if noted && !final { // the client may try again, and until then has not left
		s.pendLocked(room)
	}
	s.mu.Unlock()
	if noted && final {
		s.registry.deps.Roster.Leave(s.id(), room)
	}
	if final {
		s.registry.deps.Calls.Left(s, room, wire.Reason_REMOVED)
	}
	s.sendError(re, room, err)
}

// Removed tells that the session is no longer in the room. The client is told
// if that is news to it.
func (s *Session) Removed(room string, reason wire.Reason) {
	s.mu.Lock()
	_, noted := s.dropLocked(room)
	s.mu.Unlock()
	if noted {
		s.registry.deps.Roster.Leave(s.id(), room)
	}
	s.registry.deps.Calls.Left(s, room, reason)
	if reason == wire.Reason_REMOVED {
		s.sendError(0, room, errs.New(errs.Forbidden, edge.CodeNotMember, "you are no longer a member of this group"))
	}
}

// Superseded closes the session: its device is live under a higher epoch. It
// calls the hub, so not in the hub's goroutine.
func (s *Session) Superseded(epoch uint64) {
	s.registry.run(func() {
		if s.finish(Fenced, wire.Reason_MOVED, superseded(regions.Epoch(epoch))) {
			// The device may be live in another region, of which this one's roster
			// knows nothing. If it does, it knows better.
			s.registry.deps.Roster.Close(s.id(), wire.Reason_MOVED)
		}
	})
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
		ok := s.meter.Unasked(time.Now(), s.limits())
		s.mu.Unlock()
		if !ok {
			return
		}
	}
	s.sendError(re, room, err)
}

func (s *Session) sendError(re uint64, room string, err error) {
	e := s.errorOf(room, err)
	s.send(&wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Error{Error: e}})
}

// errorOf is a failure as the client is told of it. It is counted.
func (s *Session) errorOf(room string, err error) *wire.Error {
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
			s.log(slog.LevelError, "request failed", "room", room, "err", err)
		}
		e.Code, e.Message, e.RetryAfterMs = string(known.Code), known.Message, millis(known.RetryAfter)
	}
	s.registry.deps.Metrics.errors.WithLabelValues(e.Code).Inc()
	return e
}

func millis(d time.Duration) uint32 { return uint32((d + time.Millisecond - 1) / time.Millisecond) }

func (s *Session) welcome(expires time.Time) *wire.ServerFrame {
	c := &s.registry.config
	return &wire.ServerFrame{Body: &wire.ServerFrame_Welcome{Welcome: &wire.Welcome{
		Version: wire.Version, User: s.member.User, Name: s.member.Name, Epoch: uint64(s.epoch()),
		Region: string(c.Region), Node: string(c.Node), Transport: s.conn.Transport(),
		Now: timestamppb.Now(), Expires: timestamppb.New(expires), Ticket: s.ticket(),
		PingMs: millis(c.Ping), MaxFrame: wire.MaxClientFrame, GraceMs: millis(c.Grace), TickMs: millis(c.Tick),
	}}}
}

// ticket names the session for the next node.
func (s *Session) ticket() []byte {
	t := ticket{
		epoch: s.epoch(), issued: time.Now(),
		region: string(s.registry.config.Region), user: s.member.User, device: s.member.Device.Device,
	}
	return t.seal(s.registry.config.TicketKey)
}
