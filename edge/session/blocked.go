package session

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

// Two people of one room may be on no terms with each other: neither is to see
// where the other is, or whether they are here. What all hear is encoded once for
// all, so it is here that the few who are concerned get it without the other one
// (see veil). Numbers stay, or something would be missed: of an event that was all
// about them only the number is left.
//
// When that changes, the session enters its rooms again. The snapshot has everybody
// whom it may see, and nobody else: to the client somebody has left, or come.

const (
	// blockedAgain is how old the answer to who is blocked may be. Changes are told
	// (BlocksChanged), and this is for those that are not heard.
	blockedAgain = 20 * time.Second
	// blockedRetry is when it is asked again after there was no answer.
	blockedRetry = 5 * time.Second
)

// terms are whom a session must not see, and whether it is told nobody's receipts.
// They are replaced, never changed.
type terms struct {
	users    map[string]bool
	discreet bool
}

// askBlocked asks for the session's terms. Until they are known it joins nothing.
func (s *Session) askBlocked(ctx context.Context) error {
	if !s.registry.termed() || !s.blockedOld(blockedAgain) {
		return nil
	}
	s.asking.Lock() // so that no older answer comes after a newer one
	defer s.asking.Unlock()
	now, news := time.Now(), s.blockNews.Load()
	is, err := s.registry.termsOf(ctx, s.member.User)
	if err != nil {
		return err
	}
	was := s.blocked.Load()
	switch {
	case was == nil:
		s.blocked.Store(is)
	case !maps.Equal(was.users, is.users):
		for user := range is.users {
			if !was.users[user] {
				s.uncleared = append(s.uncleared, user)
			}
		}
		s.blocked.Store(is) // from here on frames leave them out
		if a := s.registry.deps.Areas; a != nil {
			a.Choose(s)
		}
		s.reenter()
	case was.discreet != is.discreet:
		s.blocked.Store(&terms{was.users, is.discreet})
	}
	s.blockedAt.Store(now.UnixNano())
	s.blockRead.Store(news)
	if err := s.clear(ctx); err != nil {
		s.blockedAt.Store(0)
		s.log(slog.LevelDebug, "whom a session must not see is still shown", "err", err)
	}
	return nil
}

// termed reports whether there are any terms to ask for.
func (r *Registry) termed() bool { return r.deps.Blocks != nil || r.deps.Discreet != nil }

// termsOf asks for both at the same time: who joins waits for them.
func (r *Registry) termsOf(ctx context.Context, user string) (*terms, error) {
	t := &terms{}
	g, ctx := errgroup.WithContext(ctx)
	if b := r.deps.Blocks; b != nil {
		g.Go(func() (err error) {
			t.users, err = b.Blocked(ctx, user)
			return err
		})
	}
	if d := r.deps.Discreet; d != nil {
		g.Go(func() (err error) {
			t.discreet, err = d.Discreet(ctx, user)
			return err
		})
	}
	return t, g.Wait()
}

func (s *Session) blockedOld(age time.Duration) bool {
	return s.blocked.Load() == nil || s.blockRead.Load() != s.blockNews.Load() || time.Since(time.Unix(0, s.blockedAt.Load())) >= age
}

// reenter has the client sent all its rooms anew.
func (s *Session) reenter() {
	s.mu.Lock()
	var rooms []string
	for _, st := range s.rooms {
		rooms = append(rooms, st.room)
	}
	s.mu.Unlock()
	s.enterAgain(rooms)
}

// enterAgain enters rooms, one after the other and each behind what the client asked
// about it before: or it would be in one again that it left meanwhile. What fails is
// tried again later; whom the client must not see it is told nothing of already.
func (s *Session) enterAgain(rooms []string) {
	if len(rooms) == 0 {
		return
	}
	room := rooms[0]
	s.queue(room, func(ctx context.Context) {
		defer s.enterAgain(rooms[1:])
		if _, in := s.in(room); !in || s.current() == Closed {
			return
		}
		err := s.tryJoin(ctx, 0, room, nil)
		if err == nil || isSuperseded(err) || errors.Is(err, &errs.Error{Code: edge.CodeNotMember}) {
			s.explain(0, room, err)
			return
		}
		s.log(slog.LevelDebug, "a room is not entered again yet", "room", room, "err", err)
		time.AfterFunc(blockedRetry, func() { s.registry.run(func() { s.enterAgain([]string{room}) }) })
	})
}

// clear has the client forget where those were whom it must not see since it was
// told, in all its rooms, as of somebody who took it back: a position need not be of
// a device that a snapshot could leave out. Areas do so by themselves. What can't be
// read is tried again with the next answer.
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
	if !s.registry.termed() || s.blocked.Load() == nil || !s.blockedOld(blockedAgain) {
		return
	}
	now, last := time.Now().UnixNano(), s.heeded.Load()
	if now-last >= int64(blockedRetry) && s.heeded.CompareAndSwap(last, now) {
		s.registry.run(s.reaskBlocked)
	}
}

// BlocksChanged tells that a user blocked somebody or was blocked, or chose about
// receipts, or may have.
func (r *Registry) BlocksChanged(user string) {
	if !r.termed() {
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
func (s *Session) Hidden() *map[string]bool {
	t := s.blocked.Load()
	if t == nil {
		return nil
	}
	return &t.users
}

// permitted is a frame as the session may see it; nil if nothing of it is left.
func (s *Session) permitted(f *edge.Frame) *edge.Frame {
	s.heed()
	t := s.blocked.Load()
	if t == nil || len(t.users) == 0 && !t.discreet {
		return f
	}
	var parts []*edge.Frame
	changed := false
	for _, p := range f.Parts() {
		q := s.redacted(p, t)
		if changed = changed || q != p; q != nil {
			parts = append(parts, q)
		}
	}
	switch {
	case !changed:
		return f
	case parts == nil:
		return nil
	}
	return edge.Bundle(parts)
}

// redacted returns a frame as the terms have it, nil if nothing is left of it; f
// itself if nothing is to be left out.
func (s *Session) redacted(f *edge.Frame, t *terms) *edge.Frame {
	v, users := &s.veil, t.users
	m, err := wire.DecodeServer(f.Body())
	if err != nil {
		return f // nor can the client read it
	}
	changed := false
	switch b := m.GetBody().(type) {
	case *wire.ServerFrame_Fixes:
		before := len(b.Fixes.GetFixes())
		b.Fixes.Fixes = slices.DeleteFunc(b.Fixes.Fixes, func(mf *wire.MemberFix) bool { return users[mf.GetUser()] })
		if changed = len(b.Fixes.Fixes) < before; len(b.Fixes.Fixes) == 0 {
			return nil
		}
	case *wire.ServerFrame_Snapshot:
		changed = v.snapshot(b.Snapshot, users)
	case *wire.ServerFrame_Event:
		switch e := b.Event.GetBody().(type) {
		case *wire.Event_Presence:
			changed = v.presence(b.Event, users)
		case *wire.Event_Crossing:
			if users[e.Crossing.GetUser()] || users[e.Crossing.GetOther()] {
				b.Event.Body, changed = nil, true
			}
		case *wire.Event_Receipts:
			before := len(e.Receipts.GetSeen())
			e.Receipts.Seen = slices.DeleteFunc(e.Receipts.Seen, func(n *wire.Seen) bool {
				return users[n.GetUser()] || t.discreet && n.GetUser() != s.member.User
			})
			if changed = len(e.Receipts.Seen) < before; len(e.Receipts.Seen) == 0 {
				b.Event.Body = nil
			}
		}
	case *wire.ServerFrame_Typing:
		if users[b.Typing.GetUser()] {
			return nil
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
