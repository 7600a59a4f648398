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
	// firstDial bounds the dials of a first round, while there are others to try.
	firstDial = 5 * time.Second
	// moveDial bounds the dial of one target: there may be others, and time is
	// short.
	moveDial = 3 * time.Second
	// defaultDeadline is that of a Goaway that names none.
	defaultDeadline = 10 * time.Second
	// overdue is how long after the deadline of a Goaway the server may still
	// close the connection itself.
	overdue = 2 * time.Second
	// patience is how long a session without a connection counts as live while
	// it moves: the old connection often closes a moment before the new Welcome.
	patience = time.Second
	// catchUp is how long after the rooms are back events still count as
	// replayed.
	catchUp = 200 * time.Millisecond
)

var (
	errOverdue = errors.New("client: told to leave, and nowhere to go in time")
	errRetired = errors.New("client: a newer connection has taken over")
)

// run is the session's life: connect, follow, wait, again. It owns all
// connections, and is the one goroutine that tells the application of changes.
func (s *Session) run(ctx context.Context) {
	defer close(s.done)
	defer s.conns.Wait()
	defer s.cancel()
	way, trip := newRoute(s.cfg.Endpoints), new(trip)
	for rounds := 0; ; {
		dial := dialTimeout
		if rounds <= 1 && len(way.list) > 1 {
			dial = firstDial
		}
		last, live := s.follow(ctx, s.start(ctx, way.next(), dial), way, trip)
		n, final := s.ended(ctx, last)
		if final {
			return
		}
		if live != nil {
			if time.Since(live.started) > steady {
				rounds = 0
			}
			here := &live.ep
			if n.elsewhere || live.away != nil {
				if live.away == nil {
					way.goaway(live.ep, nil)
				}
				here = nil
			}
			way.restart(here)
		}
		switch {
		case n.again:
			way.again()
			continue
		case way.atStart():
			// One wait a round is enough to be spread from the others.
			n.wait += jitter(rounds, reconnectRetry)
			rounds++
		case n.elsewhere:
			n.wait = 0 // it spoke of itself
		}
		_ = sleep(ctx, n.wait)
	}
}

// follow sees a connection through to its end. If the server asks to go
// elsewhere, that goes on on the new connection. It returns the connection
// whose end decides what is next, and the last one that was live, if any.
func (s *Session) follow(ctx context.Context, c *connection, way *route, trip *trip) (last, live *connection) {
	var (
		welcomed = c.welcomed
		ended    = c.ended
		back     chan struct{}
		moving   *move
		moved    chan struct{}
		tell     <-chan time.Time
		late     <-chan time.Time
		silent   <-chan time.Time
	)
	defer func() {
		if moving != nil {
			moving.cancel()
			<-moving.done
		}
	}()
	arrive := func(now time.Time) {
		live, back, welcomed = c, c.back, nil
		way.arrived()
		trip.arrived(now)
		s.announce()
	}
	for {
		select {
		case <-welcomed:
			arrive(time.Now())
		case <-back:
			back, tell = nil, time.After(catchUp)
		case <-tell:
			tell = nil
			s.tellMove(trip, c)
		case <-c.goaway:
			if moving != nil || late != nil {
				continue // one move at a time
			}
			if tell != nil {
				tell = nil
				s.tellMove(trip, c)
			}
			now := time.Now()
			targets, deadline := s.goaway(c)
			way.goaway(c.ep, targets)
			s.leaveFor(trip, now, true)
			late = time.After(deadline + overdue)
			if all := way.elsewhere(); len(all) > 0 {
				moving = s.move(ctx, all, deadline)
				moved = moving.done
			}
		case <-moved:
			n := moving.last
			moving, moved = nil, nil
			if n.isWelcomed() {
				c, ended = n, n.ended
				late, silent, tell = nil, nil, nil
				arrive(time.Now())
			} else if ended == nil {
				return n, live
			}
		case <-late:
			late = nil
			c.cancel(errOverdue)
		case <-silent:
			silent = nil
			s.unsettled()
		case <-ended:
			if c.isWelcomed() {
				live = c
			}
			if tell != nil {
				tell = nil
				s.tellMove(trip, c)
			}
			if live == c {
				s.leaveFor(trip, time.Now(), false)
				trip.lost(time.Now())
			}
			if moving == nil {
				return c, live
			}
			if s.isOver(ctx, c) {
				return c, live
			}
			// The way on that is being tried is the last one: after it, an
			// ordinary reconnect decides.
			moving.stop()
			ended, late, silent = nil, nil, time.After(patience)
		}
	}
}

// move is the search for a new connection while the old one still works.
type move struct {
	cancel context.CancelFunc // of all
	stop   context.CancelFunc // of further attempts
	done   chan struct{}      // closed when last is final
	last   *connection        // welcomed, or the last attempt
}

func (s *Session) move(ctx context.Context, targets []Endpoint, deadline time.Duration) *move {
	ctx, cancel := context.WithCancel(ctx)
	more, stop := context.WithTimeout(ctx, deadline)
	m := &move{cancel: cancel, stop: stop, done: make(chan struct{})}
	s.conns.Go(func() {
		defer close(m.done)
		defer stop()
		for tries := 0; ; tries++ {
			c := s.start(ctx, targets[tries%len(targets)], moveDial)
			m.last = c
			select {
			case <-c.welcomed:
				return
			case <-c.ended:
			}
			n, policy, err := s.outcome(c)
			switch {
			case c.isWelcomed(), errors.Is(err, ErrClosed), policy == wire.Final:
				return
			case n.again:
				tries--
				continue
			case policy == wire.Refresh:
				return // the reconnect gets a fresh token
			case n.elsewhere:
				n.wait = 0 // it speaks of itself
			}
			if sleep(more, n.wait+jitter(tries/len(targets), requestRetry)) != nil {
				return
			}
		}
	})
	return m
}

// next is what follows the end of a connection.
type next struct {
	elsewhere bool // better try another node
	again     bool // the same one, at once
	wait      time.Duration
}

// outcome reads why a connection ended.
func (s *Session) outcome(c *connection) (n next, policy wire.Policy, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = c.err
	if end, ok := errors.AsType[*ClosedError](err); ok {
		// A normal close that nobody asked for is some proxy's, not the end.
		if end.Number != wire.CloseNormal {
			policy = wire.PolicyOf(uint16(end.Number))
		}
		if code := wire.CloseCode(uint16(end.Number)); code != "" {
			err = &Error{Code: code, Message: end.Reason}
		}
	}
	if c.closing != nil {
		// The frame says it even if the number behind it was cut off.
		if number, ok := wire.CloseNumber(c.closing.GetCode()); ok {
			policy = wire.PolicyOf(number)
		}
		n.wait = millis(c.closing.GetRetryAfterMs())
		err = &Error{Code: c.closing.GetCode(), Message: c.closing.GetMessage(), RetryAfter: n.wait}
	}
	refused, ok := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, errSilent):
		n.elsewhere = true // a dial would be answered by silence, too
	case !ok:
	case refused.Status == 401:
		policy = wire.Final // the token source itself was refused
	case refused.Code == wire.CodeDraining:
		n.elsewhere = true
	case refused.Code == wire.CodeBadTicket:
		// The token is not at fault.
		policy = wire.Reconnect
		n.again = c.ticket != nil
		if slices.Equal(s.ticket, c.ticket) {
			s.ticket = nil
		}
	}
	return n, policy, err
}

// isOver reports whether the end of a connection is the session's, though a
// newer connection is under way.
func (s *Session) isOver(ctx context.Context, c *connection) bool {
	_, policy, err := s.outcome(c)
	return ctx.Err() != nil || errors.Is(err, ErrClosed) || policy == wire.Final && !IsCode(err, wire.CodeSuperseded)
}

// ended decides what follows the end of a connection, after which there is none.
func (s *Session) ended(ctx context.Context, c *connection) (n next, final bool) {
	n, policy, err := s.outcome(c)
	s.mu.Lock()
	s.forgetLocked()
	if IsCode(err, wire.CodeSuperseded) && s.mayGoAboveLocked(time.Now()) {
		policy = wire.Reconnect
	}
	s.status.Err = err
	switch {
	case s.bye || ctx.Err() != nil:
		s.status.Phase, s.status.Err, final = Closed, ErrClosed, true
	case policy == wire.Final:
		s.status.Phase, final = Closed, true
	case s.status.Phase == Live:
		s.status.Phase = Reconnecting
	}
	if policy == wire.Refresh {
		if s.refreshes++; s.refreshes > 2 { // fresh tokens are refused as well
			s.status.Phase, final = Closed, true
		}
	}
	s.mu.Unlock()
	s.log.Debug("connection ended", "error", err, "final", final)

	if policy == wire.Refresh && !final {
		if _, terr := s.cfg.Tokens.Token(ctx, c.token); terr != nil {
			if refused, ok := errors.AsType[*Error](terr); ok && refused.Status != 0 && refused.Status < 500 && refused.Status != 429 {
				s.mu.Lock()
				s.status.Phase, s.status.Err, final = Closed, terr, true
				s.mu.Unlock()
			}
		}
	}
	if final {
		s.mu.Lock()
		for _, r := range slices.Collect(maps.Values(s.rooms)) {
			r.end(s.status.Err)
		}
		s.mu.Unlock()
	}
	s.announce()
	return n, final
}

// mayGoAboveLocked: a device that was superseded and has nothing newer itself
// (a Welcome may have been lost) goes above the winner. Two programs that share
// a device id would do so in turn for ever, hence only now and then.
func (s *Session) mayGoAboveLocked(now time.Time) bool {
	s.superseded = slices.DeleteFunc(s.superseded, func(t time.Time) bool { return now.Sub(t) > time.Minute })
	s.superseded = append(s.superseded, now)
	return len(s.superseded) <= 2
}

// unsettled tells that there is no connection.
func (s *Session) unsettled() {
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

// goaway returns where a server would have us go, and how soon.
func (s *Session) goaway(c *connection) (targets []Endpoint, deadline time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range c.away.GetTargets() {
		if t.GetWs() != "" || t.GetWt() != "" {
			targets = append(targets, Endpoint{Region: t.GetRegion(), Node: t.GetNode(), WS: t.GetWs(), WT: t.GetWt()})
		}
	}
	deadline = millis(c.away.GetDeadlineMs())
	if deadline == 0 {
		deadline = defaultDeadline
	}
	return targets, deadline
}
