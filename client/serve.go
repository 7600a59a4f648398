package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

const (
	welcomeTimeout = 10 * time.Second
	writeTimeout   = 10 * time.Second
	defaultPing    = 10 * time.Second
	idle           = time.Hour // nothing to do until something happens
	retireAfter    = 5 * time.Second
	probes         = 3 // pings after what was not answered, before that is the end
)

var (
	errSilent    = errors.New("client: the server went silent")
	errNoWelcome = errors.New("client: no welcome from the server")
)

// connection is one link under a session, from its dial to its end. There is at
// most one that is live (Session.conn), one that is on the way there (next), and
// one that was replaced and is heard to its end (old).
type connection struct {
	ep       Endpoint
	wake     chan struct{} // there is something to do
	welcomed chan struct{} // closed with the Welcome
	back     chan struct{} // closed when the rooms it follows were all answered
	goaway   chan struct{} // the server asks to go elsewhere
	ended    chan struct{} // closed at the end
	cancel   context.CancelCauseFunc
	err      error // why it ended; set before ended is closed

	// What it said hello with; set before that.
	token    string
	ticket   []byte
	fallback string

	// Guarded by the session's lock.
	link         Conn
	queue        []*wire.ClientFrame
	hello        uint64
	live         bool
	started      time.Time
	heard        time.Time
	ping         time.Duration
	nextPing     time.Time
	probe        time.Time     // when to ask once more; zero: nothing was asked since something was heard
	missed       int           // how often it was asked once more
	reauth       time.Time     // zero: never
	lifetime     time.Duration // of access tokens
	renewing     bool
	settled      time.Time // when fixes may be repeated though rooms are not back yet
	region, node string
	epoch        uint64
	awaits       map[string]bool // rooms it follows that were not answered yet
	backAt       time.Time
	retire       time.Time // when to close it at the latest, once a newer one is live
	away         *wire.Goaway
	closing      *wire.Close
	refused      *ClosedError
	applied      uint64 // events
	duplicates   uint64
	unrecovered  int // rooms
}

func (c *connection) isWelcomed() bool {
	select {
	case <-c.welcomed:
		return true
	default:
		return false
	}
}

// start makes a connection and serves it to its end.
func (s *Session) start(ctx context.Context, ep Endpoint, dial time.Duration) *connection {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &connection{
		ep: ep, cancel: cancel, started: time.Now(), wake: make(chan struct{}, 1), goaway: make(chan struct{}, 1),
		welcomed: make(chan struct{}), back: make(chan struct{}), ended: make(chan struct{}),
	}
	s.conns.Go(func() {
		defer cancel(nil)
		err := s.serve(ctx, c, dial)
		s.mu.Lock()
		for _, held := range []**connection{&s.conn, &s.next, &s.old} {
			if *held == c {
				*held = nil
			}
		}
		s.notify()
		s.mu.Unlock()
		s.log.Debug("connection is over", "region", ep.Region, "node", ep.Node, "error", err)
		c.err = err
		close(c.ended)
	})
	return c
}

func (s *Session) serve(ctx context.Context, c *connection, dial time.Duration) error {
	token, err := s.cfg.Tokens.Token(ctx, "")
	if err != nil {
		return fmt.Errorf("client: access token: %w", err)
	}
	c.token = token
	dialing, cancel := context.WithTimeoutCause(ctx, dial, errors.New("timeout"))
	l, fallback, err := s.dialer.dial(dialing, c.ep)
	cancel()
	if err != nil {
		return err
	}
	receiving, stop := context.WithCancel(ctx)
	number := 0 // gone without a word: the server suspends the session
	var helpers sync.WaitGroup
	defer func() {
		l.Close(number)
		stop()
		helpers.Wait()
	}()
	if !s.greet(c, l, fallback) {
		return ErrClosed
	}
	ended := make(chan error, 1)
	helpers.Go(func() { ended <- l.Receive(receiving, func(body []byte) { s.handle(c, body) }) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.wake:
		case <-timer.C:
		}
		w := s.step(c, time.Now())
		if w.renew {
			helpers.Go(func() { s.renew(receiving, c) })
		}
		if err := w.send(ctx, l); err != nil {
			return s.whyBroken(ended, err)
		}
		if w.bye {
			// The server closes once it has read the bye; closing first could
			// overtake it.
			_ = s.whyBroken(ended, ErrClosed)
			number = wire.CloseNormal
			return ErrClosed
		}
		if w.err != nil {
			return w.err
		}
		timer.Reset(max(0, time.Until(w.next)))
	}
}

// greet prepares the hello, unless the session is about to end.
func (s *Session) greet(c *connection, l Conn, fallback string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bye {
		return false
	}
	c.link, c.fallback, c.started = l, fallback, time.Now()
	c.heard, c.ticket, c.awaits = c.started, s.ticket, map[string]bool{}
	follows := s.followsLocked()
	for _, f := range follows {
		c.awaits[f.GetRoom()] = true
	}
	s.nextID++
	c.hello = s.nextID
	c.queue = append(c.queue, &wire.ClientFrame{Id: c.hello, Body: &wire.ClientFrame_Hello{Hello: &wire.Hello{
		Version: wire.Version, Token: c.token, Device: s.cfg.Device, Sdk: SDK, Follows: follows,
		Epoch: max(s.status.Epoch, s.above), Fallback: fallback, Ticket: c.ticket,
	}}})
	s.next = c
	return true
}

// whyBroken prefers the reason that the server gave to the failed write.
func (s *Session) whyBroken(ended <-chan error, err error) error {
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case why := <-ended:
		return why
	case <-timer.C:
		return err
	}
}

// work is what a connection has to do now.
type work struct {
	frames    []*wire.ClientFrame
	datagrams []*wire.ClientFrame
	renew     bool
	probe     bool
	bye       bool
	err       error
	next      time.Time // when to look again
}

// step collects what is due. It is the only place that looks at the clock on
// behalf of a connection.
func (s *Session) step(c *connection, now time.Time) work {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := work{next: now.Add(idle)}
	at := func(t time.Time) {
		if t.Before(w.next) {
			w.next = t
		}
	}
	switch {
	case c.refused != nil:
		w.err = c.refused
		return w
	case c.live && c != s.conn:
		// A newer one has taken over. What this one still brings is welcome
		// until the rooms are back there.
		if c != s.old || s.conn == nil || len(s.conn.awaits) == 0 || !now.Before(c.retire) {
			w.err = errRetired
			return w
		}
		at(c.retire)
		return w
	case !c.live:
		if now.Sub(c.started) > welcomeTimeout {
			w.err = errNoWelcome
			return w
		}
		at(c.started.Add(welcomeTimeout + time.Millisecond))
		w.frames, c.queue = c.queue, nil
		return w
	}
	if !now.Before(c.nextPing) {
		c.nextPing = now.Add(c.ping)
		s.pingLocked(now)
	}
	if !c.reauth.IsZero() && !c.renewing {
		if !now.Before(c.reauth) {
			c.renewing, w.renew = true, true
		} else {
			at(c.reauth)
		}
	}
	for _, r := range s.rooms {
		at(s.tendLocked(c, r, now))
	}
	at(s.reportLocked(c, &w, now))
	c.watch(&w, s.status.RTT, now)
	if w.err != nil {
		return w
	}
	if w.probe {
		c.nextPing = now.Add(c.ping)
		s.pingLocked(now)
	}
	at(c.nextPing)
	w.frames, c.queue = append(w.frames, c.queue...), nil
	if s.bye && s.next == nil { // else the session is about to be another's
		w.bye = true
		w.frames = append(w.frames, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
	}
	return w
}

// watch decides whether the node still answers, long before three of the node's
// own pings were missed: where UDP is the transport a dead node looks like a
// silent one. What is asked while nothing at all is heard is followed by pings;
// after four intervals it is over. When nothing was heard for half of the time
// between pings, there is something to ask: are you there? Intervals are counted
// as they are looked at, so a process that was stopped for a while still takes
// the time to read what came meanwhile.
func (c *connection) watch(w *work, rtt time.Duration, now time.Time) {
	every := 2 * time.Second
	if rtt > 0 {
		every = min(max(4*rtt, time.Second), 3*time.Second)
	}
	quiet := c.heard.Add(c.ping / 2)
	switch {
	case c.probe.IsZero() && slices.ContainsFunc(c.queue, func(f *wire.ClientFrame) bool { return f.GetId() != 0 }):
		c.missed, c.probe = 0, now.Add(every)
	case c.probe.IsZero() && now.Before(quiet):
		w.next = earlier(w.next, quiet)
		return
	case c.probe.IsZero():
		w.probe, c.missed, c.probe = true, 0, now.Add(every)
	case now.Before(c.probe):
	case c.missed == probes:
		w.err = errSilent
	default:
		w.probe, c.missed, c.probe = true, c.missed+1, now.Add(every)
	}
	w.next = earlier(w.next, c.probe)
}

// send writes what is due: frames together, as far as they fit one message.
func (w work) send(ctx context.Context, l Conn) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for _, f := range w.datagrams {
		b, err := f.MarshalVT()
		if err == nil {
			err = l.Datagram(b)
		}
		if err != nil {
			return err
		}
	}
	var buf []byte
	for _, f := range w.frames {
		if len(buf) > 0 && len(buf)+f.SizeVT()+wire.MaxPrefix > wire.MaxClientFrame {
			if err := l.Write(ctx, buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
		var err error
		if buf, err = wire.AppendFrame(buf, f); err != nil {
			return err
		}
	}
	if len(buf) == 0 {
		return nil
	}
	return l.Write(ctx, buf)
}

// welcomeLocked makes a connection the live one: what waits for an answer goes
// out there. The server takes nothing more from the one before.
func (s *Session) welcomeLocked(c *connection, m *wire.Welcome) {
	if c.live {
		return
	}
	now := time.Now()
	c.live = true
	c.ping = millis(m.GetPingMs())
	if c.ping <= 0 {
		c.ping = defaultPing
	}
	c.nextPing = now // measure at once
	c.settled = now.Add(2 * time.Second)
	if m.GetExpires() != nil && m.GetNow() != nil {
		c.lifetime = m.GetExpires().AsTime().Sub(m.GetNow().AsTime())
		c.reauth = now.Add(reauthAfter(c.lifetime))
	}
	c.region, c.node, c.epoch = m.GetRegion(), m.GetNode(), m.GetEpoch()

	s.forgetLocked()
	if s.conn != nil {
		s.notify() // an older one goes
		s.old = s.conn
		s.old.retire = now.Add(retireAfter)
	}
	s.conn, s.next = c, nil
	s.counters.Connections++
	s.refreshes = 0
	s.ticket = m.GetTicket()
	s.status = Status{
		Phase: Live, User: m.GetUser(), Name: m.GetName(), Epoch: m.GetEpoch(),
		Region: m.GetRegion(), Node: m.GetNode(), Transport: m.GetTransport(), Fallback: c.fallback,
		Tick: millis(m.GetTickMs()),
	}
	for _, id := range slices.Sorted(maps.Keys(s.pending)) {
		c.queue = append(c.queue, s.pending[id].body)
	}
	// Rooms joined or left since the hello, over the connection before.
	for id, r := range s.rooms {
		if r.state.Joined() && !c.awaits[id] {
			r.synced = nil
			s.rejoinLocked(r)
		}
	}
	for id := range c.awaits {
		if s.rooms[id] == nil {
			delete(c.awaits, id)
			s.requestLocked(&wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: id}}},
				false, func(*wire.ServerFrame, error) {})
		}
	}
	for _, r := range s.reports {
		r.again(s, now)
	}
	close(c.welcomed)
	s.answeredLocked(c, "")
	s.notify()
}

// answeredLocked notes the answer to a room that a connection follows.
func (s *Session) answeredLocked(c *connection, room string) {
	delete(c.awaits, room)
	if len(c.awaits) == 0 && c.live && c.backAt.IsZero() {
		c.backAt = time.Now()
		close(c.back)
		s.notify()
	}
}

// reauthAfter leaves the last fifth of a token's life, at most a minute, for
// getting the next one.
func reauthAfter(lifetime time.Duration) time.Duration {
	return lifetime - min(time.Minute, lifetime/5)
}

// renew gets a fresh token and shows it to the server. If that fails, the
// server closes the connection when the token ends, which says the rest.
func (s *Session) renew(ctx context.Context, c *connection) {
	s.mu.Lock()
	stale := c.token
	s.mu.Unlock()
	token, err := s.cfg.Tokens.Token(ctx, stale)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	again := time.Now().Add(max(time.Second, c.lifetime/20))
	c.renewing, c.reauth = false, again
	if err != nil {
		s.log.Debug("token not renewed", "error", err)
		s.notify()
		return
	}
	c.token = token
	frame := &wire.ClientFrame{Body: &wire.ClientFrame_Reauth{Reauth: &wire.Reauth{Token: token}}}
	c.reauth = time.Now().Add(reauthAfter(remaining(token, c.lifetime)))
	s.requestLocked(frame, false, func(_ *wire.ServerFrame, err error) {
		if err != nil {
			c.reauth = again
			s.notify()
		}
	})
	s.notify()
}

func (s *Session) pingLocked(now time.Time) {
	frame := &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{
		RttUs: uint32(min(s.status.RTT.Microseconds(), 1<<31)),
	}}}
	s.requestLocked(frame, false, func(f *wire.ServerFrame, err error) {
		if err != nil {
			return
		}
		rtt := time.Since(now)
		if s.status.RTT > 0 { // RFC 6298's weight
			rtt = (7*s.status.RTT + rtt) / 8
		}
		s.status.RTT = rtt
	})
}

// followsLocked lists the rooms to come back to.
func (s *Session) followsLocked() []*wire.Follow {
	var out []*wire.Follow
	for _, id := range slices.Sorted(maps.Keys(s.rooms)) {
		if r := s.rooms[id]; r.state.Joined() {
			out = append(out, &wire.Follow{Room: id, Positions: r.state.Positions()})
		}
	}
	return out
}
