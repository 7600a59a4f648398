package roster

import (
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
)

// queue holds who waits for a time to pass, the first one first: the leader's
// clock never goes back, so the order of arrival is the order of deadlines.
// Who is no longer waiting stays in it and is skipped.
type queue struct{ waiting []waiting }

type waiting struct {
	place int32
	order uint64
}

// push adds x; valid is how many that are in the queue still wait.
func (q *queue) push(s *State, x *Session, valid int) {
	if len(q.waiting) > 2*valid+1024 {
		q.waiting = slices.DeleteFunc(q.waiting, func(w waiting) bool { return s.waits(w) == nil })
	}
	q.waiting = append(q.waiting, waiting{x.place, x.idle.order})
}

// first returns who waits longest.
func (q *queue) first(s *State) *Session {
	for len(q.waiting) > 0 {
		if x := s.waits(q.waiting[0]); x != nil {
			return x
		}
		q.waiting = q.waiting[1:]
	}
	return nil
}

// waits returns who is meant, if it still waits there: the number is given once.
func (s *State) waits(w waiting) *Session {
	if x := s.devices.all[w.place]; x != nil && x.idle.order == w.order {
		return x
	}
	return nil
}

func (s *State) nowIdle() idle {
	s.order++
	return idle{term: s.clock.term, at: s.clock.now, order: s.order}
}

// idleMs is for how long: what an earlier leader measured is not known, so it
// counts from the new one's beginning. Nobody is ended too early by that, and
// no follower's clock matters.
func (s *State) idleMs(i idle) uint64 {
	if i.term == s.clock.term {
		return s.clock.now - i.at
	}
	return s.clock.now - s.clock.start
}

func (s *State) expire(c *peer.SessionExpire) *peer.RosterAnswer {
	if c.Max == 0 {
		return refuse(invalid, 0)
	}
	a := &peer.RosterAnswer{}
	for {
		suspended, gone := s.suspended.first(s), s.gone.first(s)
		ends := suspended != nil && s.idleMs(suspended.idle) >= c.GraceMs
		fades := gone != nil && s.idleMs(gone.idle) >= c.KeepMs
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
		s.forget(s.gone.first(s))
	}
}

func (s *State) forget(x *Session) {
	s.forgotten = max(s.forgotten, x.Highest())
	s.count(x, -1)
	s.devices.remove(x)
}
