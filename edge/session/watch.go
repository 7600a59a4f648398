package session

import (
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

// watch begins or changes a watch of an area. It ends with the connection: the
// next one begins its own.
func (s *Session) watch(id uint64, w *wire.Watch) {
	var err error
	p := wire.CheckWatch(w)
	switch _, joined := s.in(w.GetRoom()); {
	case p != nil:
		err = p
	case w.Room != "" && !joined:
		err = notJoined
	case s.registry.deps.Areas == nil:
		err = errs.New(errs.Unavailable, edge.CodeRetry, "this node watches no areas")
	default:
		err = s.registry.deps.Areas.Watch(s, w)
	}
	if err != nil {
		room := w.GetRoom()
		if wire.CheckRoom(room) != nil {
			room = ""
		}
		s.refuse(id, room, err)
		return
	}
	s.done(id)
}

func (s *Session) unwatch(id uint64, watch uint32) {
	if a := s.registry.deps.Areas; a != nil {
		a.Unwatch(s, watch)
	}
	s.done(id)
}

// unwatchAll ends what no connection is there for.
func (s *Session) unwatchAll() {
	if a := s.registry.deps.Areas; a != nil {
		a.Gone(s)
	}
}
