package roster

import (
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
)

// queue holds who waits for a time to pass, the first one first: the leader's
// clock never goes back, so the order of arrival is the order of deadlines.
// Who is no longer waiting stays in it and is skipped.
type queue[K any] struct{ waiting []waiting[K] }

// waiting is somebody, and the number that was given for this wait: once.
type waiting[K any] struct {
	who   K
	order uint64
}

// push adds somebody; valid is how many that are in the queue still wait.
func (q *queue[K]) push(w waiting[K], valid int, waits func(waiting[K]) bool) {
	if len(q.waiting) > 2*valid+1024 {
		q.waiting = slices.DeleteFunc(q.waiting, func(w waiting[K]) bool { return !waits(w) })
	}
	q.waiting = append(q.waiting, w)
}

// first returns who waits longest, if anybody does.
func (q *queue[K]) first(waits func(waiting[K]) bool) (who waiting[K], ok bool) {
	for len(q.waiting) > 0 {
		if waits(q.waiting[0]) {
			return q.waiting[0], true
		}
		q.waiting = q.waiting[1:]
	}
	return who, false
}

// idles reports whether a session, by place, still waits there.
func (s *State) idles(w waiting[int32]) bool {
	x := s.devices.all[w.who]
	return x != nil && x.idle.order == w.order
}

// longest returns the session that waits longest in q.
func (s *State) longest(q *queue[int32]) *Session {
	if w, ok := q.first(s.idles); ok {
		return s.devices.all[w.who]
	}
	return nil
}

// moment is a time on the clock of the leader of a term.
type moment struct{ term, at uint64 }

func (s *State) moment() moment { return moment{s.clock.term, s.clock.now} }

func (s *State) nowIdle() idle {
	s.order++
	return idle{moment: s.moment(), order: s.order}
}

// since is how long ago that was, in ms: what an earlier leader measured is not
// known, so it counts from the new one's beginning. Nobody is ended too early by
// that, and no follower's clock matters.
func (s *State) since(m moment) uint64 {
	if m.term == s.clock.term {
		return s.clock.now - m.at
	}
	return s.clock.now - s.clock.start
}

func (s *State) expire(c *peer.SessionExpire) *peer.RosterAnswer {
	if c.Max == 0 {
		return refuse(invalid, 0)
	}
	a := &peer.RosterAnswer{}
	for {
		suspended, gone := s.longest(&s.suspended), s.longest(&s.gone)
		ends := suspended != nil && s.since(suspended.idle.moment) >= c.GraceMs
		fades := gone != nil && s.since(gone.idle.moment) >= c.KeepMs
		switch {
		case (ends || fades) && a.Changed == c.Max:
			a.More = true
			return a
		case ends:
			s.end(suspended, suspended.seen, wire.Reason_TIMED_OUT)
		case fades:
			s.forget(gone)
		default:
			return a
		}
		a.Changed++
	}
}

// bound forgets devices early if there are too many: all that costs is that
// epochs of others skip ahead.
func (s *State) bound() {
	for s.counts.Gone > maxIdle {
		s.forget(s.longest(&s.gone))
	}
}

func (s *State) forget(x *Session) {
	s.forgotten = max(s.forgotten, x.Highest())
	s.count(x, -1)
	s.devices.remove(x)
}
