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
	s.seen.Store(int64(now.Sub(s.registry.began)))
	id := f.GetId()
	kind, of, name := kindOf(f)
	s.frameKind = name
	s.registry.deps.Metrics.frames[name].Inc()
	if v := s.meter.Frame(now, s.limits(), kind, of, size); v.Wait > 0 {
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
		if p, ok := errors.AsType[*wire.Problem](err); ok { // the transport knows better
			bad = p
		}
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
	case state.connected():
		s.request(id, f)
	}
}

// badFrame is the kind of what is no frame.
const badFrame = "bad"

// kindOf returns what a frame is, and how many of what is limited are in it.
func kindOf(f *wire.ClientFrame) (k admit.Kind, of int, name string) {
	switch f.GetBody().(type) {
	case *wire.ClientFrame_Hello:
		name = "hello"
	case *wire.ClientFrame_Reauth:
		name = "reauth"
	case *wire.ClientFrame_Join:
		name = "join"
	case *wire.ClientFrame_Leave:
		name = "leave"
	case *wire.ClientFrame_Report:
		return admit.Fix, 1, "report"
	case *wire.ClientFrame_Ingest:
		return admit.Fix, len(f.GetIngest().GetFixes()), "ingest"
	case *wire.ClientFrame_Send:
		return admit.Message, 1, "send"
	case *wire.ClientFrame_Receipt:
		return admit.Receipt, 1, "receipt"
	case *wire.ClientFrame_Typing:
		return admit.Typing, 1, "typing"
	case *wire.ClientFrame_Call:
		return admit.Call, 1, "call"
	case *wire.ClientFrame_History:
		name = "history"
	case *wire.ClientFrame_ListPeople:
		name = "list_people"
	case *wire.ClientFrame_Watch:
		name = "watch"
	case *wire.ClientFrame_Unwatch:
		name = "unwatch"
	case *wire.ClientFrame_Nearby:
		name = "nearby"
	case *wire.ClientFrame_Withdraw:
		name = "withdraw"
	case *wire.ClientFrame_Ping:
		name = "ping"
	case *wire.ClientFrame_Bye:
		name = "bye"
	default:
		name = badFrame
	}
	return admit.Other, 1, name
}

// request handles a frame of a live session. A oneof may be set and its
// message nil in principle; the getters make that an empty message.
func (s *Session) request(id uint64, f *wire.ClientFrame) {
	if !s.may(f) {
		s.refuse(id, "", forbidden)
		return
	}
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
		if r := f.GetReport(); s.works(withdrawing) { // or it would be withdrawn, too
			s.enqueue(id, withdrawing, func(context.Context) { s.report(id, r, false) })
		} else {
			s.report(id, r, false)
		}
	case *wire.ClientFrame_Send:
		m := f.GetSend()
		if s.checked(id, m.GetRoom(), wire.CheckSend(m)) {
			s.enqueueSend(id, m)
		}
	case *wire.ClientFrame_History:
		h := f.GetHistory()
		if s.checked(id, h.GetRoom(), wire.CheckHistory(h)) {
			s.enqueue(id, h.Room, func(ctx context.Context) { s.history(ctx, id, h) })
		}
	case *wire.ClientFrame_Receipt:
		r := f.GetReceipt()
		if s.checked(id, r.GetRoom(), wire.CheckReceipt(r)) {
			s.talk(id, r.Room, edge.Listens, func() { s.receipt(id, r) })
		}
	case *wire.ClientFrame_Typing:
		t := f.GetTyping()
		if s.checked(id, t.GetRoom(), nil) {
			s.talk(id, t.Room, edge.Talks, func() {
				s.registry.deps.Hub.Typing(s, t.Room, t.On)
				s.done(id)
			})
		}
	case *wire.ClientFrame_Call:
		s.call(id, f.GetCall())
	case *wire.ClientFrame_ListPeople:
		l := f.GetListPeople()
		if s.checked(id, l.GetRoom(), nil) {
			s.enqueue(id, l.Room, func(ctx context.Context) { s.people(ctx, id, l) })
		}
	case *wire.ClientFrame_Watch:
		s.watch(id, f.GetWatch())
	case *wire.ClientFrame_Unwatch:
		s.unwatch(id, f.GetUnwatch().GetWatch())
	case *wire.ClientFrame_Nearby:
		s.nearby(id, f.GetNearby())
	case *wire.ClientFrame_Ingest:
		s.ingest(id, f.GetIngest().GetFixes())
	case *wire.ClientFrame_Withdraw:
		s.enqueue(id, withdrawing, func(ctx context.Context) { s.withdraw(ctx, id) })
	case *wire.ClientFrame_Ping:
		s.heed()
		s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Pong{Pong: &wire.Pong{Now: timestamppb.Now()}}})
	case *wire.ClientFrame_Bye:
		s.done(id)
		s.end(wire.Reason_BYE, nil)
	}
}

// withdrawing is the lane of withdrawals, and of fixes that come behind one. No
// room is called so.
const withdrawing = "withdraw"

// checked refuses a request with a bad room or another problem.
func (s *Session) checked(id uint64, room string, p *wire.Problem) bool {
	if bad := wire.CheckRoom(room); bad != nil {
		s.refuse(id, "", bad)
		return false
	}
	if p != nil {
		s.refuseIn(id, room, p)
	}
	return p == nil
}

// ---------------------------------------------------------------- at once

func (s *Session) reauth(id uint64, token string) {
	fresh, err := s.verify(token)
	if err == nil && (fresh.User != s.member.User || fresh.Login != s.member.Login) {
		err = errs.New(errs.Unauthorized, edge.CodeUnauthenticated, "the token is of another login: open another connection")
	}
	if err != nil {
		s.refuse(id, "", err)
		return
	}
	s.mu.Lock()
	s.expires = s.registry.now() + time.Until(fresh.Expires)
	s.mu.Unlock()
	s.done(id)
}
