package session

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// Two people of one room may be on no terms with each other. What all hear is
// encoded once for all, so it is here that the few who are concerned get it
// without where the other one is: a fix without its point, as of somebody who
// took it back.

// blockedAgain is how old the answer to who is blocked is when a room is joined.
// Changes are told (BlocksChanged), and this is for those that are not heard.
const blockedAgain = 5 * time.Minute

// askBlocked asks whom the session must not see. Until that is known it joins
// nothing.
func (s *Session) askBlocked(ctx context.Context) error {
	if s.registry.deps.Blocks == nil || s.blocked.Load() != nil && time.Since(time.Unix(0, s.blockedAt.Load())) < blockedAgain {
		return nil
	}
	s.asking.Lock() // so that no older answer comes after a newer one
	defer s.asking.Unlock()
	now := time.Now()
	users, err := s.registry.deps.Blocks.Blocked(ctx, s.member.User)
	if err != nil {
		return err
	}
	s.blocked.Store(&users)
	s.blockedAt.Store(now.UnixNano())
	return nil
}

// BlocksChanged tells that a user blocked somebody or was blocked, or may have
// been.
func (r *Registry) BlocksChanged(user string) {
	if r.deps.Blocks == nil {
		return
	}
	for _, c := range r.Clients(user) {
		if s, ok := c.(*Session); ok {
			s.blockedAt.Store(0)
			r.run(s.reaskBlocked)
		}
	}
}

func (s *Session) reaskBlocked() {
	ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Request)
	defer cancel()
	if err := s.registry.ask(ctx, func() error { return s.askBlocked(ctx) }); err != nil {
		s.registry.deps.Log.Debug("whom a session must not see is not known", "device", s.name(), "err", err)
	}
}

// Hidden returns whom the session must not see: another pointer when that
// changed, nil while it is not known. See edge.Choosy.
func (s *Session) Hidden() *map[string]bool { return s.blocked.Load() }

// permitted is a frame as the session may see it.
func (s *Session) permitted(f *edge.Frame) *edge.Frame {
	users := s.blocked.Load()
	if users == nil || len(*users) == 0 {
		return f
	}
	var parts []*edge.Frame
	for i, p := range f.Parts() {
		q := redacted(p, *users)
		if q != p && parts == nil {
			parts = append(parts, f.Parts()[:i]...)
		}
		if parts != nil || q != p {
			parts = append(parts, q)
		}
	}
	if parts == nil {
		return f
	}
	return edge.Bundle(parts)
}

// redacted returns a frame that does not say where users are; f itself if it
// doesn't.
func redacted(f *edge.Frame, users map[string]bool) *edge.Frame {
	m, err := wire.DecodeServer(f.Body())
	if err != nil {
		return f // nor can the client read it
	}
	changed := false
	hide := func(list []*wire.MemberFix) {
		for _, mf := range list {
			if users[mf.GetUser()] && mf.GetFix().GetPoint() != nil {
				mf.Fix = &wire.Fix{N: mf.Fix.N, Captured: timestamppb.New(time.Now().Truncate(time.Second))}
				changed = true
			}
		}
	}
	switch b := m.GetBody().(type) {
	case *wire.ServerFrame_Fixes:
		hide(b.Fixes.GetFixes())
	case *wire.ServerFrame_Snapshot:
		for _, p := range b.Snapshot.GetParts() {
			hide(p.GetFixes())
		}
	case *wire.ServerFrame_Event:
		if c := b.Event.GetCrossing(); users[c.GetUser()] || users[c.GetOther()] {
			b.Event.Body, changed = nil, true // its number stays, or it would be missed
		}
	}
	if !changed {
		return f
	}
	body, err := m.MarshalVT()
	if err != nil {
		return f
	}
	return edge.RawFrame(body, 0, f.Lossy())
}
