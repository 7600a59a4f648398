package session

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/internal/errs"
)

var notJoined = &wire.Problem{Code: wire.CodeNotJoined, Message: "join the room first"}

// frame takes one frame from the client: the transport's Handler.
func (s *Session) frame(f *wire.ClientFrame, size int, err error) {
	now := time.Now()
	s.seen.Store(int64(now.Sub(s.started)))
	id := f.GetId()
	kind, name := kindOf(f)
	s.registry.deps.Metrics.frames.WithLabelValues(name).Inc()
	if v := s.meter.Frame(now, &s.registry.config.Limits, kind, size); v.Wait > 0 {
		slower := errs.New(errs.RateLimited, edge.CodeRateLimited, "send less").After(v.Wait)
		if v.Close {
			s.close(&wire.Close{Code: wire.CodeRateLimited, Message: slower.Message, RetryAfterMs: 10_000})
			return
		}
		s.refuse(id, "", slower)
		return
	}
	switch state := s.current(); {
	case errors.Is(err, wire.ErrTooLarge):
		s.close(&wire.Close{Code: wire.CodeTooLarge, Message: "a frame has at most 64 KiB"})
	case err != nil:
		bad := &wire.Problem{Code: wire.CodeBadFrame, Message: "this is no frame of version 1"}
		if state == Connecting || s.bad.Take(now, badFrames, 1) > 0 {
			s.close(&wire.Close{Code: bad.Code, Message: bad.Message})
			return
		}
		s.refuse(id, "", bad)
	case state == Connecting:
		h := f.GetHello()
		if h == nil {
			s.close(&wire.Close{Code: wire.CodeBadRequest, Message: "say hello first"})
			return
		}
		s.hello(id, h)
	case state == Live, state == Draining:
		s.request(id, f)
	}
}

func kindOf(f *wire.ClientFrame) (admit.Kind, string) {
	switch f.GetBody().(type) {
	case *wire.ClientFrame_Hello:
		return admit.Other, "hello"
	case *wire.ClientFrame_Reauth:
		return admit.Other, "reauth"
	case *wire.ClientFrame_Join:
		return admit.Other, "join"
	case *wire.ClientFrame_Leave:
		return admit.Other, "leave"
	case *wire.ClientFrame_Report:
		return admit.Fix, "report"
	case *wire.ClientFrame_Send:
		return admit.Message, "send"
	case *wire.ClientFrame_History:
		return admit.Other, "history"
	case *wire.ClientFrame_Ping:
		return admit.Other, "ping"
	case *wire.ClientFrame_Bye:
		return admit.Other, "bye"
	}
	return admit.Other, "bad"
}

// request handles a frame of a live session. A oneof may be set and its
// message nil in principle; the getters make that an empty message.
func (s *Session) request(id uint64, f *wire.ClientFrame) {
	switch f.Body.(type) {
	case *wire.ClientFrame_Hello:
		s.refuse(id, "", &wire.Problem{Code: wire.CodeBadRequest, Message: "hello was said already: open another connection"})
	case *wire.ClientFrame_Reauth:
		s.reauth(id, f.GetReauth().GetToken())
	case *wire.ClientFrame_Join:
		j := f.GetJoin()
		if s.checked(id, j.GetRoom(), wire.CheckPositions(j.GetPositions())) {
			s.enqueue(id, j.Room, func(ctx context.Context) { s.join(ctx, id, j.Room, j.Positions) })
		}
	case *wire.ClientFrame_Leave:
		room := f.GetLeave().GetRoom()
		if s.checked(id, room, nil) {
			s.enqueue(id, room, func(context.Context) { s.leave(id, room) })
		}
	case *wire.ClientFrame_Report:
		s.report(id, f.GetReport())
	case *wire.ClientFrame_Send:
		m := f.GetSend()
		if s.checked(id, m.GetRoom(), wire.CheckSend(m.GetClientId(), m.GetBody())) {
			s.enqueue(id, m.Room, func(ctx context.Context) { s.message(ctx, id, m) })
		}
	case *wire.ClientFrame_History:
		h := f.GetHistory()
		var p *wire.Problem
		if h.GetBefore() != 0 && h.GetAfter() != 0 {
			p = &wire.Problem{Code: wire.CodeBadRequest, Message: "name before or after, not both"}
		}
		if s.checked(id, h.GetRoom(), p) {
			s.enqueue(id, h.Room, func(ctx context.Context) { s.history(ctx, id, h) })
		}
	case *wire.ClientFrame_Ping:
		s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Pong{Pong: &wire.Pong{Now: timestamppb.Now()}}})
	case *wire.ClientFrame_Bye:
		s.done(id)
		s.end(wire.Reason_BYE, nil)
	}
}

// checked refuses a request with a bad room or another problem.
func (s *Session) checked(id uint64, room string, p *wire.Problem) bool {
	if bad := wire.CheckRoom(room); bad != nil {
		s.refuse(id, "", bad)
		return false
	}
	if p != nil {
		s.refuse(id, room, p)
	}
	return p == nil
}

// ---------------------------------------------------------------- at once

func (s *Session) reauth(id uint64, token string) {
	fresh, err := s.verify(token)
	if err == nil && (fresh.User != s.identity.User || fresh.Login != s.identity.Login) {
		err = errs.New(errs.Unauthorized, edge.CodeUnauthenticated, "the token is of another login: open another connection")
	}
	if err != nil {
		s.refuse(id, "", err)
		return
	}
	s.mu.Lock()
	s.expires = fresh.Expires
	s.mu.Unlock()
	s.done(id)
}

func (s *Session) report(id uint64, r *wire.Report) {
	if len(r.GetRooms()) > wire.MaxRooms {
		s.refuse(id, "", tooManyRooms)
		return
	}
	if p := wire.CheckFix(r.GetFix(), time.Now()); p != nil {
		s.refuse(id, "", p)
		return
	}
	for _, room := range r.Rooms {
		if _, joined := s.membership(room); !joined {
			if wire.CheckRoom(room) != nil {
				room = ""
			}
			s.refuse(id, room, notJoined)
			return
		}
	}
	s.hub.Lock()
	var err error
	if !s.silent {
		err = s.registry.deps.Hub.Report(s, known(r.Fix), r.Rooms)
	}
	s.hub.Unlock()
	if err != nil {
		s.refuse(id, "", err)
		return
	}
	s.done(id)
}

// known copies a fix without the fields that this version does not know: they
// would travel to everybody in the room.
func known(f *wire.Fix) *wire.Fix {
	return &wire.Fix{
		Point: &wire.Point{Lat: f.Point.Lat, Lng: f.Point.Lng}, Accuracy: f.Accuracy, Speed: f.Speed, Heading: f.Heading,
		Captured: &timestamppb.Timestamp{Seconds: f.Captured.Seconds, Nanos: f.Captured.Nanos}, N: f.N,
	}
}

// ---------------------------------------------------------------- with core

// job is a request that needs core.
type job func(context.Context)

// enqueue runs a job after the earlier ones of its room, unless too many wait.
func (s *Session) enqueue(id uint64, room string, j job) {
	s.mu.Lock()
	full := s.inFlight >= s.registry.config.InFlight
	s.mu.Unlock()
	if full { // only the reader adds
		s.refuse(id, room, errs.New(errs.RateLimited, edge.CodeRateLimited, "wait for answers before you ask more").After(200*time.Millisecond))
		return
	}
	s.queue(room, j)
}

func (s *Session) queue(room string, j job) {
	s.mu.Lock()
	s.inFlight++
	if s.lanes == nil {
		s.lanes = make(map[string][]job)
	}
	waiting, busy := s.lanes[room]
	if busy {
		s.lanes[room] = append(waiting, j)
		s.mu.Unlock()
		return
	}
	s.lanes[room] = nil
	s.mu.Unlock()
	s.registry.run(func() { s.lane(room, j) })
}

// lane works off a room's jobs.
func (s *Session) lane(room string, j job) {
	for more := true; more; {
		s.work(j)
		s.mu.Lock()
		s.inFlight--
		if waiting := s.lanes[room]; len(waiting) > 0 {
			j, s.lanes[room] = waiting[0], waiting[1:]
		} else {
			more = false
			if delete(s.lanes, room); len(s.lanes) == 0 {
				s.lanes = nil
			}
		}
		s.mu.Unlock()
	}
}

// work does a job when core has a place for it. It is not cut short when the
// connection goes: a message that is stored is also spread.
func (s *Session) work(j job) {
	ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Request)
	defer cancel()
	select {
	case s.registry.core <- struct{}{}:
		defer func() { <-s.registry.core }()
	case <-ctx.Done(): // the job finds that out
	}
	j(ctx)
}

func (s *Session) join(ctx context.Context, id uint64, room string, at []*wire.Position) {
	d := &s.registry.deps
	m, err := d.Members.Member(ctx, s.identity.User, room, 0)
	var last uint64
	if err == nil {
		last, err = d.Messages.Last(ctx, room)
	}
	if err != nil {
		s.sendError(id, room, err)
		return
	}
	positions := make([]*wire.Position, len(at))
	for i, p := range at {
		positions[i] = &wire.Position{Region: p.Region, Epoch: p.Epoch, Seq: p.Seq}
	}
	s.hub.Lock()
	defer s.hub.Unlock()
	if s.silent {
		return
	}
	s.mu.Lock()
	if s.rooms == nil {
		s.rooms = make(map[string]edge.Membership)
	}
	_, again := s.rooms[room]
	full := !again && len(s.rooms) >= wire.MaxRooms
	if !full {
		s.rooms[room] = m
	}
	suspended := s.state == Suspended
	s.mu.Unlock()
	if full {
		s.sendError(id, room, tooManyRooms)
		return
	}
	d.Hub.Join(s, edge.Join{Room: room, Re: id, Membership: m, Positions: positions, LastNumber: last})
	if suspended { // lost while this was under way
		d.Hub.Suspend(s)
	}
}

func (s *Session) leave(id uint64, room string) {
	s.hub.Lock()
	defer s.hub.Unlock()
	s.mu.Lock()
	_, joined := s.rooms[room]
	delete(s.rooms, room)
	s.mu.Unlock()
	switch {
	case !joined:
		s.refuse(id, room, notJoined)
	case !s.silent:
		s.registry.deps.Hub.Leave(s, room, wire.Reason_BYE)
		s.done(id)
	}
}

func (s *Session) message(ctx context.Context, id uint64, m *wire.Send) {
	d := &s.registry.deps
	as, joined := s.membership(m.Room)
	if !joined {
		s.refuse(id, m.Room, notJoined)
		return
	}
	// Cached, and no older than the join; fails closed where the answer lapsed.
	as, err := d.Members.Member(ctx, s.identity.User, m.Room, as.Version)
	if err != nil {
		s.refuse(id, m.Room, err)
		return
	}
	name := as.Name
	if name == "" {
		name = s.identity.Name
	}
	stored, spread, err := d.Messages.Store(ctx, edge.Draft{
		Room: m.Room, Sender: s.identity.User, SenderName: name, ClientID: m.ClientId, Body: m.Body,
	})
	if err != nil {
		s.refuse(id, m.Room, err)
		return
	}
	if spread {
		d.Hub.Publish(m.Room, stored)
	}
	s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored}}})
}

const defaultHistory = 50

func (s *Session) history(ctx context.Context, id uint64, h *wire.History) {
	d := &s.registry.deps
	if _, err := d.Members.Member(ctx, s.identity.User, h.Room, 0); err != nil {
		s.refuse(id, h.Room, err)
		return
	}
	limit := int(min(h.Limit, wire.MaxHistory))
	if limit == 0 {
		limit = defaultHistory
	}
	ms, more, err := d.Messages.History(ctx, h.Room, h.Before, h.After, limit)
	if err != nil {
		s.refuse(id, h.Room, err)
		return
	}
	ms, cut := fit(ms, h.After != 0)
	s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Page{Page: &wire.Page{Room: h.Room, Messages: ms, More: more || cut}}})
}

// fit cuts a page to what a frame holds, at the end that the client asks for
// next.
func fit(ms []*wire.Message, forward bool) (some []*wire.Message, cut bool) {
	const room = wire.MaxServerFrame - 1024
	size := 0
	for i := range ms {
		at := i
		if !forward {
			at = len(ms) - 1 - i
		}
		if size += ms[at].SizeVT() + 8; size > room {
			if forward {
				return ms[:at], true
			}
			return ms[at+1:], true
		}
	}
	return ms, false
}
