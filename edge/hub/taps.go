package hub

import "github.com/mustermesh/muster/edge"

var _ edge.Taps = (*Hub)(nil)

// Tap has a client's fixes go to a tap. See edge.Taps.
func (h *Hub) Tap(c edge.Client, room string, to edge.Tap) bool {
	t := h.begin(room)
	defer t.end()
	fd := t.sl.feeds[room]
	if fd == nil {
		return false
	}
	l := t.local(fd, c)
	if l == nil || l.suspended {
		return false
	}
	l.tapped = to != nil
	if to != nil && fd.tap != to {
		fd.tap = to
		to.Anew() // it has heard nothing so far
	}
	fd.taps()
	fd.relist()
	return true
}

// untap takes a client that gets nothing more from the tap.
func (fd *feed) untap(l *local) {
	if l.tapped {
		l.tapped = false
		fd.tap.Out(l.client)
		fd.taps()
	}
}

// taps lets go of a tap that nobody needs.
func (fd *feed) taps() {
	for _, l := range fd.locals {
		if l.tapped {
			return
		}
	}
	fd.tap = nil
}
