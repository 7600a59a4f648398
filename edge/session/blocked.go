package session

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// Two people of one room may be on no terms with each other. What all hear is
// encoded once for all, so it is here that the few who are concerned get it
// without where the other one is: a fix without its point, as of somebody who
// took it back.

const (
	// blockedAgain is how old the answer to who is blocked may be. Changes are told
	// (BlocksChanged), and this is for those that are not heard.
	blockedAgain = 20 * time.Second
	// blockedRetry is when it is asked again after there was no answer.
	blockedRetry = 5 * time.Second
)

// askBlocked asks whom the session must not see. Until that is known it joins
// nothing.
func (s *Session) askBlocked(ctx context.Context) error {
	if s.registry.deps.Blocks == nil || !s.blockedOld(blockedAgain) {
		return nil
	}
	s.asking.Lock() // so that no older answer comes after a newer one
	defer s.asking.Unlock()
	now, news := time.Now(), s.blockNews.Load()
	users, err := s.registry.deps.Blocks.Blocked(ctx, s.member.User)
	if err != nil {
		return err
	}
	was := s.blocked.Load()
	switch {
	case was == nil:
		s.blocked.Store(&users)
	case !maps.Equal(*was, users):
		for user := range users {
			if !(*was)[user] {
				s.uncleared = append(s.uncleared, user)
			}
		}
		s.blocked.Store(&users) // from here on frames leave them out
		if a := s.registry.deps.Areas; a != nil {
			a.Choose(s)
		}
	}
	s.blockedAt.Store(now.UnixNano())
	s.blockRead.Store(news)
	if err := s.clear(ctx); err != nil {
		s.blockedAt.Store(0)
		s.log(slog.LevelDebug, "whom a session must not see is still shown", "err", err)
	}
	return nil
}

func (s *Session) blockedOld(age time.Duration) bool {
	return s.blocked.Load() == nil || s.blockRead.Load() != s.blockNews.Load() || time.Since(time.Unix(0, s.blockedAt.Load())) >= age
}

// clear has the client forget where those were whom it must not see since it was
// told, in all its rooms, as of somebody who took it back. Areas do so by themselves.
// What can't be read is tried again with the next answer.
func (s *Session) clear(ctx context.Context) error {
	read := s.registry.deps.Fixes
	if len(s.uncleared) == 0 || read == nil {
		return nil
	}
	s.mu.Lock()
	var rooms []string
	for _, st := range s.rooms {
		rooms = append(rooms, st.room)
	}
	s.mu.Unlock()
	for _, room := range rooms {
		fixes, err := read(ctx, room)
		if err != nil {
			return err
		}
		var gone []*wire.MemberFix
		for _, f := range fixes {
			if slices.Contains(s.uncleared, f.GetUser()) {
				gone = append(gone, withoutPoint(f, f.GetFix().GetN()+1))
			}
		}
		for part := range slices.Chunk(gone, 128) {
			s.conn.Send(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: room, Fixes: part}}}))
		}
	}
	s.uncleared = nil
	return nil
}

// withoutPoint is a fix as of somebody who took it back. It replaces what has a
// lower number n.
func withoutPoint(f *wire.MemberFix, n uint64) *wire.MemberFix {
	return &wire.MemberFix{User: f.User, Device: f.Device, Epoch: f.Epoch, Fix: &wire.Fix{
		N: n, Captured: timestamppb.New(time.Now().Truncate(time.Second)),
	}}
}

// heed asks again whom the session must not see if that was long ago: with what
// its client is sent, and with its pings.
func (s *Session) heed() {
	if s.registry.deps.Blocks == nil || s.blocked.Load() == nil || !s.blockedOld(blockedAgain) {
		return
	}
	now, last := time.Now().UnixNano(), s.heeded.Load()
	if now-last >= int64(blockedRetry) && s.heeded.CompareAndSwap(last, now) {
		s.registry.run(s.reaskBlocked)
	}
}

// BlocksChanged tells that a user blocked somebody or was blocked, or may have
// been.
func (r *Registry) BlocksChanged(user string) {
	if r.deps.Blocks == nil {
		return
	}
	for _, c := range r.Clients(user) {
		if s, ok := c.(*Session); ok {
			s.blockNews.Add(1)
			r.run(s.reaskBlocked)
		}
	}
}

func (s *Session) reaskBlocked() {
	ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Request)
	defer cancel()
	if err := s.registry.ask(ctx, func() error { return s.askBlocked(ctx) }); err != nil {
		s.log(slog.LevelDebug, "whom a session must not see is not known", "err", err)
	}
}

// Hidden returns whom the session must not see: another pointer when that
// changed, nil while it is not known. See edge.Choosy.
func (s *Session) Hidden() *map[string]bool { return s.blocked.Load() }

// permitted is a frame as the session may see it.
func (s *Session) permitted(f *edge.Frame) *edge.Frame {
	s.heed()
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
	hide := func(list []*wire.MemberFix, above uint64) {
		for i, mf := range list {
			if users[mf.GetUser()] && mf.GetFix().GetPoint() != nil {
				list[i], changed = withoutPoint(mf, mf.Fix.N+above), true
			}
		}
	}
	switch b := m.GetBody().(type) {
	case *wire.ServerFrame_Fixes:
		hide(b.Fixes.GetFixes(), 0)
	case *wire.ServerFrame_Snapshot:
		for _, p := range b.Snapshot.GetParts() {
			hide(p.GetFixes(), 1) // the client may have had it before
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
