package client

import (
	"errors"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// search is the search for a connection: races in rounds, until one of the
// runners is welcomed.
type search struct {
	from      func(round int) []Endpoint // whom to try
	begin     time.Time                  // of the next round
	stagger   time.Duration
	headStart time.Duration
	deadline  time.Time // nobody new after that; zero: no end
	beside    bool      // only while the live connection is suspect
	once      bool      // one round, if there is a live connection
	left      bool      // the trip began with it

	race  *race // nil: between two rounds
	conns []*connection
	round int
}

// dials bounds the dials of a round while there are others to try: a dial that
// began while there was no network does best to begin anew.
var dials = [...]time.Duration{3 * time.Second, 5 * time.Second, dialTimeout}

// hunt goes on with the search.
func (l *life) hunt(now time.Time) {
	s, q := l.s, l.search
	if q == nil {
		return
	}
	ended := !q.deadline.IsZero() && l.up && l.due(now, q.deadline)
	if ended && q.race == nil {
		l.giveUp(now)
		return
	}
	if l.renewing && !l.renewed(now) || !l.due(now, q.begin) {
		return
	}
	if q.race == nil {
		list := q.from(q.round)
		q.race, q.conns = newRace(list, q.stagger), make([]*connection, len(list))
	}
	for i, c := range q.conns {
		if c == nil {
			continue
		}
		runner := &q.race.runners[i]
		st := s.stageOf(c)
		if failed := st == over && runner.stage != over; !failed {
			runner.stage = max(runner.stage, st)
			continue
		}
		runner.stage = over
		if l.failed(i, c); l.search != q || q.race == nil || l.over {
			return
		}
	}
	q.race.closed = q.race.closed || ended
	for {
		dial, speak, next := q.race.turn(now)
		if dial >= 0 {
			most := dialTimeout
			if len(q.conns) > 1 {
				most = dials[min(q.round, len(dials)-1)]
			}
			runner := &q.race.runners[dial]
			q.conns[dial] = s.start(l.ctx, runner.ep, most, q.headStart, q.beside)
			runner.stage, runner.dialed = dialing, now
		}
		if speak >= 0 {
			close(q.conns[speak].speak)
			q.race.runners[speak].stage, q.race.runners[speak].greeted = greeted, now
		}
		if dial < 0 && speak < 0 {
			l.next = earlier(l.next, next)
			break
		}
	}
	if q.race.done() {
		l.roundOver(now)
	}
}

// failed takes note of a connection that ended without having been the
// session's.
func (l *life) failed(i int, c *connection) {
	s, q := l.s, l.search
	n := s.outcome(c)
	s.log.Debug("attempt failed", "error", n.err)
	if !l.up {
		s.mu.Lock()
		s.status.Err = n.err
		s.mu.Unlock()
	}
	switch {
	case errors.Is(n.err, errNotNeeded), errors.Is(n.err, errRetired):
	case errors.Is(n.err, ErrClosed) || n.policy == wire.Final && !n.superseded():
		// While there is a live connection, that one's end decides.
		if !l.up {
			l.finish(n.err)
			return
		}
		q.deadline, q.race.closed = time.Now(), true
	case n.superseded():
		if !l.up && !l.committed() && !s.mayGoAbove(time.Now()) {
			l.finish(n.err)
		}
	case n.again:
		q.race.runners[i] = runner{ep: c.ep}
		q.conns[i] = nil
	case n.policy == wire.Refresh:
		if !l.up {
			l.roundOver(time.Now())
			l.renew(c.token)
			return
		}
		q.deadline, q.race.closed = time.Now(), true
	case !n.elsewhere && n.wait > 0:
		q.race.hold = later(q.race.hold, time.Now().Add(n.wait))
	}
}

// roundOver decides what follows a round that came to nothing.
func (l *life) roundOver(now time.Time) {
	s, q := l.s, l.search
	hold, closed := q.race.hold, q.race.closed
	for _, c := range q.conns {
		if c != nil {
			c.cancel(errNotNeeded)
		}
	}
	q.race, q.conns = nil, nil
	q.round++
	if l.up && (q.once || closed && q.beside || !q.deadline.IsZero() && !now.Before(q.deadline)) {
		l.giveUp(now)
		return
	}
	s.relocate(l.ctx)
	if l.up {
		q.begin = later(now, hold).Add(jitter(q.round-1, requestRetry))
	} else {
		q.begin = later(now, hold).Add(jitter(l.rounds, reconnectRetry))
		l.rounds++
	}
	l.due(now, q.begin)
}

// giveUp ends a search that came to nothing: the old connection serves on.
func (l *life) giveUp(now time.Time) {
	q := l.search
	l.search = nil
	if q.beside || q.once {
		l.stay(q)
	}
	if q.once {
		l.s.mu.Lock()
		l.s.homing.moved(now) // not again soon
		l.s.mu.Unlock()
	}
}

// renewed reports whether the search may go on with a fresh token, or with what
// there is.
func (l *life) renewed(now time.Time) bool {
	l.s.mu.Lock()
	r := l.s.fresh
	l.s.fresh = nil
	l.s.mu.Unlock()
	if r == nil {
		return false
	}
	l.renewing = false
	if r.forGood() {
		l.finish(r.err)
		return false
	}
	return true
}
