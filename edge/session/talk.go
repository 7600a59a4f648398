package session

import (
	"context"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

var (
	noTalk = errs.New(errs.Forbidden, edge.CodeNotMember, "you have no part in this conversation")
	ended  = errs.New(errs.Conflict, edge.CodeEnded, "this conversation is over: nobody writes in it any more")
)

// may refuses what a member has no part in.
func may(as edge.Membership, want edge.Talk) error {
	switch {
	case as.Talk == edge.Looks:
		return noTalk
	case as.Talk > want:
		return ended
	}
	return nil
}

// talk does something small about a conversation, if the session has that part in
// it. The hub knows as a rule; else core is asked, behind what else is asked of the
// room.
func (s *Session) talk(id uint64, room string, want edge.Talk, do func()) {
	st, joined := s.in(room)
	if !joined {
		s.refuseIn(id, room, notJoined)
		return
	}
	decide := func(as edge.Membership, err error) {
		if err == nil {
			err = may(as, want)
		}
		if err != nil {
			s.refuseIn(id, room, err)
			return
		}
		do()
	}
	if as, ok := s.registry.deps.Hub.Membership(s, room); ok && as.Version >= st.version {
		decide(as, nil)
		return
	}
	s.enqueue(id, room, func(ctx context.Context) { decide(s.still(ctx, room)) })
}

// refuseIn refuses something about a room. It names none in what the client did not ask
// for: there that means that it is not in the room any more.
func (s *Session) refuseIn(id uint64, room string, err error) {
	if id == 0 {
		room = ""
	}
	s.refuse(id, room, err)
}

// receipt notes how far the device has got.
func (s *Session) receipt(id uint64, r *wire.Receipt) {
	if p := s.registry.deps.Progress; p != nil {
		p.Advance(r.Room, s.member.User, s.member.Device.Device, max(r.Delivered, r.Read), r.Read)
	}
	s.done(id)
}
