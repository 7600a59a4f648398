package session

import (
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// Notify gives notices, in this order, to all of a user's sessions here that have a
// connection, and returns how many those are. A session that is suspended, or not
// welcomed yet, is not among them: its client reads what there is once it is live.
func (r *Registry) Notify(user string, notices []*wire.Notice) (sessions int) {
	clients := r.Clients(user)
	if len(clients) == 0 {
		return 0
	}
	frames := make([]*edge.Frame, len(notices))
	for i, n := range notices {
		frames[i] = edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Notice{Notice: n}})
	}
	for _, c := range clients {
		if s, ok := c.(*Session); ok && s.listens() {
			sessions++
			for _, f := range frames {
				s.conn.Send(f)
			}
		}
	}
	return sessions
}

// listens reports whether the client has its welcome, and a connection.
func (s *Session) listens() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.welcomed && s.state.connected()
}
