package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

const (
	// steady is how long a connection must have lived to make up for the
	// attempts before it.
	steady = 10 * time.Second
	// defaultDeadline is that of a Goaway that names none.
	defaultDeadline = 10 * time.Second
	// overdue is how long after the deadline of a Goaway the server may still
	// close the connection itself.
	overdue = 2 * time.Second
	// patience is how long a session without a connection counts as live
	// while it moves: the old connection often closes a moment before the new
	// Welcome.
	patience = time.Second
	// catchUp is how long after the rooms are back events still count as
	// replayed.
	catchUp = 200 * time.Millisecond
	// seeThrough is how long a hello is still waited for after another one has
	// had its Welcome: it may supersede that one.
	seeThrough = 5 * time.Second
	// homeWait bounds the search in a region that is nearer.
	homeWait = 10 * time.Second
)

var (
	errOverdue = errors.New("client: told to leave, and nowhere to go in time")
	errRetired = errors.New("client: a newer connection has taken over")
)

// life is what the session's one goroutine knows. It looks at how the
// connections stand whenever something has changed or is due, does what follows,
// and is the only one who tells the application of changes.
type life struct {
	s    *Session
	ctx  context.Context
	way  *route
	trip trip
	next time.Time // when to look again

	cur    *connection // the live one, or the last that was; nil before the first Welcome
	up     bool        // it has not ended
	heeded *wire.Goaway
	search *search // for the next one
	spares []spare
	rounds int  // of reconnecting, since a connection was steady
	shakes int  // changes of the network that were seen
	tell   bool // the trip has come to its end, but for the rooms

	renewing  bool
	late      time.Time // when to give up a connection that asked us to leave
	unsettled time.Time // when to tell that there is no connection
	over      bool
}

// spare is a connection that has said hello, and another was welcomed first.
type spare struct {
	c     *connection
	until time.Time
}

// run is the session's life: connect, follow, wait, again.
func (s *Session) run(ctx context.Context) {
	defer close(s.done)
	defer s.conns.Wait()
	defer s.cancel()
	if s.cfg.Edges != nil && !s.cfg.StayPut {
		s.conns.Go(func() { s.settleDown(ctx) })
	}
	l := &life{s: s, ctx: ctx, way: &route{configured: s.endpoints()}}
	l.search = &search{begin: time.Now(), stagger: firstStagger, headStart: headStart, from: func(round int) []Endpoint {
		first := l.way.configured[0]
		return l.way.order(&first, first.Region, round)
	}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.turn:
		case <-timer.C:
		case <-ctx.Done():
		}
		l.step(time.Now())
		if l.over {
			return
		}
		timer.Reset(max(0, time.Until(l.next)))
	}
}

func (s *Session) endpoints() []Endpoint {
	if len(s.cfg.Endpoints) > 0 {
		return s.cfg.Endpoints
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.edge.Endpoints()
}

// due reports whether a time has come; if not, that is when to look again.
func (l *life) due(now, t time.Time) bool {
	if now.Before(t) {
		l.next = earlier(l.next, t)
		return false
	}
	return true
}

func (l *life) step(now time.Time) {
	l.next = now.Add(idle)
	if l.ctx.Err() != nil {
		l.finish(ErrClosed)
		return
	}
	l.relist(now)
	l.arrive(now)
	for _, do := range []func(time.Time){l.depart, l.heed, l.hunt, l.wait} {
		if !l.over {
			do(now)
		}
	}
}

// relist sees to it that the list of nodes is not too old.
func (l *life) relist(now time.Time) {
	s := l.s
	if s.cfg.Edges == nil {
		return
	}
	s.mu.Lock()
	at, background := s.staleAt(), s.background
	if s.listed {
		s.listed, l.way.configured = false, s.edge.Endpoints()
	}
	s.mu.Unlock()
	if !background && l.due(now, at) {
		s.relocate(l.ctx)
	}
}

// arrive takes note of a connection that was welcomed.
func (l *life) arrive(now time.Time) {
	s := l.s
	s.mu.Lock()
	latest := s.latest
	s.mu.Unlock()
	if latest == l.cur {
		return
	}
	if l.cur != nil && l.trip.began.IsZero() { // one of the spares superseded it
		s.leaveFor(&l.trip, now, MoveSilent)
	}
	l.cur, l.up = latest, true
	l.tell = !l.trip.began.IsZero()
	l.way.arrived()
	l.trip.arrived(now)
	l.late, l.unsettled = time.Time{}, time.Time{}
	l.settle(now)
	s.announce()
}

// settle ends a search: who has not said hello is not needed, who has is seen
// through.
func (l *life) settle(now time.Time) {
	q := l.search
	l.search = nil
	if q == nil || q.race == nil {
		return
	}
	for i, c := range q.conns {
		switch {
		case c == nil || c == l.cur:
		case q.race.runners[i].stage == greeted:
			l.spares = append(l.spares, spare{c, now.Add(seeThrough)})
			l.s.mu.Lock()
			if _, yet := l.s.greeting[c]; yet {
				l.s.greeting[c] = false
			}
			l.s.mu.Unlock()
		default:
			c.cancel(errNotNeeded)
		}
	}
}

// depart takes note of the end of the connection that was live.
func (l *life) depart(now time.Time) {
	s := l.s
	if !l.up || s.stageOf(l.cur) != over {
		return
	}
	n := s.outcome(l.cur)
	s.log.Debug("connection ended", "error", n.err)
	l.up, l.late = false, time.Time{}
	l.flush()
	why := MoveLost
	if errors.Is(n.err, errSilent) {
		why = MoveSilent
	}
	s.leaveFor(&l.trip, now, why)
	l.trip.lost(now)
	s.mu.Lock()
	s.forgetLocked()
	s.status.Err = n.err
	leave := n.elsewhere || l.cur.away != nil
	s.mu.Unlock()
	if leave && l.way.leaving == nil {
		l.way.leave(l.cur.ep, nil)
	}
	if now.Sub(l.cur.started) > steady {
		l.rounds = 0
	}
	switch {
	case s.leaving() || errors.Is(n.err, ErrClosed):
		l.finish(ErrClosed)
		return
	case n.policy == wire.Final && n.superseded() && (l.committed() || s.mayGoAbove(now)):
	case n.policy == wire.Final:
		l.finish(n.err)
		return
	}
	// On the way already: that goes on, without an end.
	if q := l.search; q != nil {
		if q.race != nil {
			q.race.closed = false
		}
		q.deadline, q.once, q.beside = time.Time{}, false, false
		q.from = func(round int) []Endpoint { return l.way.order(nil, l.cur.region, round) }
		if why == MoveSilent {
			s.unsettle()
		} else {
			l.unsettled = now.Add(patience)
		}
		return
	}
	s.unsettle()
	var here *Endpoint
	if !leave {
		here = &l.cur.ep
	}
	q := &search{stagger: stagger, headStart: hurried}
	q.from = func(round int) []Endpoint { return l.way.order(here, l.cur.region, round) }
	q.begin = now.Add(n.wait + jitter(l.rounds, reconnectRetry))
	l.rounds++
	l.search = q
	if n.policy == wire.Refresh {
		l.renew(l.cur.token)
	}
}

// heed does what the live connection, and how it is, asks for.
func (l *life) heed(now time.Time) {
	s := l.s
	s.mu.Lock()
	wish, shakes := s.wish, s.shakes
	s.wish = ""
	var away *wire.Goaway
	var doubtful, moved bool
	if l.up {
		away, doubtful, moved = l.cur.away, l.cur.pulse.doubt != trusted, l.cur.moved
	}
	s.mu.Unlock()
	if shakes != l.shakes {
		l.shakes = shakes
		if !l.up && l.search != nil && l.search.race == nil && !l.renewing {
			l.search.begin = now // what has failed until now says nothing of the new network
		}
	}
	if !l.up || s.leaving() {
		return
	}
	q := l.search
	switch {
	case away != nil && away != l.heeded && (q == nil || q.beside || q.once):
		l.heeded = away
		targets, deadline := targetsOf(away)
		l.way.leave(l.cur.ep, targets)
		l.late = now.Add(deadline + overdue)
		asked := &search{
			deadline: now.Add(deadline), headStart: headStart,
			from: func(round int) []Endpoint { return l.way.elsewhere(l.cur.region, round) },
		}
		if q != nil && q.race != nil && q.race.committed() {
			// It is seen through; after it, this one.
			q.from, q.deadline, q.beside, q.once = asked.from, asked.deadline, false, false
			return
		}
		l.settle(now)
		l.flush()
		s.leaveFor(&l.trip, now, MoveAsked)
		l.seek(now, asked)
	case doubtful && q == nil:
		here := l.cur.ep
		l.seekFor(now, MoveSilent, &search{beside: true, headStart: hurried, from: func(round int) []Endpoint {
			list := (&route{configured: l.way.configured, leaving: &here}).elsewhere(here.Region, round)
			if moved { // the way there is what has changed
				list = slices.Insert(list, 0, here)
			}
			return list
		}})
	case !doubtful && q != nil && q.beside:
		if q.race != nil && q.race.committed() {
			q.race.closed = true // a hello was said: that is seen through
			return
		}
		l.settle(now)
		l.stay(q)
	case wish != "" && wish != l.cur.region && q == nil && away == nil:
		l.seekFor(now, MoveNearer, &search{
			once: true, deadline: now.Add(homeWait), headStart: headStart,
			from: func(int) []Endpoint { return l.way.in(wish) },
		})
	}
}

// seek begins a search while the old connection still serves, if there is
// anywhere to go.
func (l *life) seek(now time.Time, q *search) bool {
	q.begin, q.stagger = now, stagger
	if len(q.from(0)) > 0 {
		l.search = q
	}
	return l.search == q
}

// seekFor is seek for a reason of our own, of which nobody is told if it comes
// to nothing.
func (l *life) seekFor(now time.Time, why MoveReason, q *search) {
	if !l.seek(now, q) {
		return
	}
	l.flush()
	q.left = l.trip.began.IsZero()
	l.s.leaveFor(&l.trip, now, why)
}

// stay ends such a search that came to nothing.
func (l *life) stay(q *search) {
	if q.left {
		l.trip = trip{}
	}
	l.tell = !l.trip.began.IsZero()
}

// wait looks at what is only a matter of time.
func (l *life) wait(now time.Time) {
	s := l.s
	if !l.late.IsZero() && l.up && l.due(now, l.late) {
		l.late = time.Time{}
		l.cur.cancel(errOverdue)
	}
	if !l.unsettled.IsZero() && l.due(now, l.unsettled) {
		l.unsettled = time.Time{}
		s.unsettle()
	}
	l.spares = slices.DeleteFunc(l.spares, func(p spare) bool {
		done := p.c == l.cur || s.stageOf(p.c) == over
		if !done && l.due(now, p.until) {
			p.c.cancel(errNotNeeded)
			done = true
		}
		return done
	})
	if l.tell && l.up {
		if back := s.backAt(l.cur); !back.IsZero() && l.due(now, back.Add(catchUp)) {
			l.flush()
		}
	}
}

// flush tells of a trip whose rooms are back.
func (l *life) flush() {
	if l.tell && !l.s.backAt(l.cur).IsZero() {
		l.s.tellMove(&l.trip, l.cur)
	}
	l.tell = false
}

// renew gets a fresh token before the search goes on.
func (l *life) renew(stale string) {
	l.s.mu.Lock()
	l.s.refreshes++
	tired := l.s.refreshes > 2 // fresh tokens are refused as well
	err := l.s.status.Err
	l.s.mu.Unlock()
	if tired {
		l.finish(err)
		return
	}
	l.renewing = true
	l.s.refresh(l.ctx, stale)
}

// finish ends the session.
func (l *life) finish(err error) {
	s := l.s
	l.over = true
	s.mu.Lock()
	s.status.Phase, s.status.Err = Closed, err
	for _, r := range slices.Collect(maps.Values(s.rooms)) {
		r.end(err)
	}
	s.endViewsLocked("", err)
	s.endCallsLocked(nil, err)
	if s.notices != nil {
		s.notices.end(Ended{err})
	}
	s.mu.Unlock()
	s.announce()
}

// committed reports whether a hello was said that may have its Welcome yet.
func (l *life) committed() bool {
	return l.search != nil && l.search.race != nil && l.search.race.committed() ||
		slices.ContainsFunc(l.spares, func(p spare) bool { return l.s.stageOf(p.c) == greeted })
}

func (s *Session) stageOf(c *connection) stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.stage
}

func (s *Session) backAt(c *connection) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.backAt
}

func (s *Session) leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bye
}

// unsettle tells that there is no connection.
func (s *Session) unsettle() {
	s.mu.Lock()
	if s.conn == nil && s.status.Phase == Live {
		s.status.Phase = Reconnecting
	}
	s.mu.Unlock()
	s.announce()
}

// announce tells the application how the session stands, if that has changed.
func (s *Session) announce() {
	s.mu.Lock()
	st := s.status
	changed := s.told.Phase != st.Phase || s.told.Epoch != st.Epoch
	s.told = st
	if changed {
		for _, r := range s.rooms {
			r.queue.push(ConnectionChanged{st})
		}
	}
	first := !s.said && (st.Phase == Live || st.Phase == Closed)
	s.said = s.said || first
	s.mu.Unlock()
	if changed && s.cfg.OnStatus != nil {
		s.cfg.OnStatus(st)
	}
	if first {
		close(s.first)
	}
}

// targetsOf returns where a server would have us go, and how soon.
func targetsOf(g *wire.Goaway) (targets []Endpoint, deadline time.Duration) {
	for _, t := range g.GetTargets() {
		if t.GetWs() != "" || t.GetWt() != "" {
			targets = append(targets, Endpoint{Region: t.GetRegion(), Node: t.GetNode(), WS: t.GetWs(), WT: t.GetWt()})
		}
	}
	deadline = millis(g.GetDeadlineMs())
	if deadline == 0 {
		deadline = defaultDeadline
	}
	return targets, deadline
}
