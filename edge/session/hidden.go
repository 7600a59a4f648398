package session

import (
	"context"
	"log/slog"
	"slices"

	"github.com/mustermesh/muster/api/wire"
)

// A hidden session follows its rooms and is seen by nobody. The region knows
// that there is such a session, but not which rooms it is in: a room's next
// owner begins with what the region knows, and would show it.

// askHidden asks once whether the user wants to be seen. Until that is known
// the session joins nothing.
func (s *Session) askHidden(ctx context.Context) error {
	s.mu.Lock()
	asked := s.asked
	s.mu.Unlock()
	if asked || s.registry.deps.Settings == nil {
		return nil
	}
	hidden, err := s.registry.deps.Settings.Invisible(ctx, s.member.User)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked { // what SetInvisible said meanwhile is newer
		s.asked, s.hidden = true, hidden
	}
	return nil
}

// hide has the session seen by nobody, or again by all.
func (s *Session) hide(hidden bool) {
	s.hub.Lock()
	defer s.hub.Unlock()
	s.mu.Lock()
	was := s.hidden
	s.asked, s.shown = true, !hidden
	var noted []string
	if hidden {
		s.hidden = true
		noted, s.pending, s.unsure, s.settle = s.pending, nil, nil, 0
		for i := range s.rooms {
			if s.rooms[i].noted {
				noted, s.rooms[i].noted = append(noted, s.rooms[i].room), false
			}
		}
	}
	show := was && !hidden && !s.showing && !s.silent
	s.showing = s.showing || show
	s.mu.Unlock()
	if show {
		s.registry.run(s.show)
	}
	if hidden && !s.silent {
		if !was {
			s.registry.deps.Hub.Hide(s, true)
		}
		if len(noted) > 0 {
			s.registry.deps.Roster.Leave(s.id(), noted...)
		}
	}
}

// show tells the region which rooms the session is in, and then has it seen,
// unless it changed its mind.
func (s *Session) show() {
	d := &s.registry.deps
	ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Request)
	defer cancel()
	var told []string
	for {
		rooms := s.untold(told)
		if rooms == nil {
			return
		}
		if err := d.Roster.Enter(ctx, s.id(), rooms...); err != nil {
			if isSuperseded(err) {
				s.outdated()
			} else { // its next session is seen from the start
				s.log(slog.LevelWarn, "a session could not be shown", "err", err)
				s.close(&wire.Close{Code: wire.CodeRetry, Message: "connect again", RetryAfterMs: spread(0)})
			}
			return
		}
		told = append(told, rooms...)
	}
}

// untold returns the rooms that the region is to be told before the session is
// seen. If there are none, or it is not to be seen, it does that.
func (s *Session) untold(told []string) (rooms []string) {
	s.hub.Lock()
	defer s.hub.Unlock()
	s.mu.Lock()
	shown := s.shown && !s.silent
	for _, st := range s.rooms {
		if shown && !slices.Contains(told, st.room) {
			rooms = append(rooms, st.room)
		}
	}
	if rooms == nil {
		s.showing, s.hidden = false, !shown
		if shown {
			s.notedLocked(told)
		}
	}
	s.mu.Unlock()
	switch {
	case s.silent || rooms != nil:
	case shown:
		s.registry.deps.Hub.Hide(s, false)
	case len(told) > 0:
		s.registry.deps.Roster.Leave(s.id(), told...)
	}
	return rooms
}
