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
	idle           = time.Hour // nothing to do until something happens
	retireAfter    = 5 * time.Second
	// readyFor is how long a connection that is up waits for its turn to say
	// hello; the server gives it five seconds.
	readyFor = 4 * time.Second
	// tokenWait bounds the wait for a token where there is another one.
	tokenWait = time.Second
)

var (
	errSilent    = errors.New("client: the server went silent")
	errNoWelcome = errors.New("client: no welcome from the server")
	errNotNeeded = errors.New("client: this connection is not needed any more")
)

// connection is one link under a session, from its dial to its end. There is at
// most one that is live (Session.conn) and one that was replaced and is heard to
// its end (old). Of those on the way there may be several, and even several that
// have said hello (Session.greeting).
type connection struct {
	ep     Endpoint
	beside bool          // it is only wanted while the live one is suspect
	wake   chan struct{} // there is something to do
	speak  chan struct{} // closed when it may say hello
	cancel context.CancelCauseFunc

	// What it said hello with; set before that.
	token    string
	ticket   []byte
	fallback string

	// Guarded by the session's lock.
	stage        stage
	err          error // why it ended
	link         Conn
	queue        []*wire.ClientFrame
	hello        uint64
	started      time.Time
	pulse        pulse
	moved        bool          // the device's network has changed since
	reauth       time.Time     // zero: never
	lifetime     time.Duration // of access tokens
	renewing     bool
	settled      time.Time // when fixes may be repeated though rooms are not back yet
	region, node string
	epoch        uint64
	outdone      bool            // welcomed after one of a higher epoch
	awaits       map[string]bool // rooms it follows that were not answered yet
	backAt       time.Time       // when all of them were; zero: not yet
	retire       time.Time       // when to close it at the latest, once a newer one is live
	away         *wire.Goaway
	closing      *wire.Close
	refused      *ClosedError
	applied      uint64 // events
	duplicates   uint64
	unrecovered  int // rooms
}

// start makes a connection and serves it to its end. It says hello when speak
// is closed.
func (s *Session) start(ctx context.Context, ep Endpoint, dial, headStart time.Duration, beside bool) *connection {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &connection{
		ep: ep, beside: beside, cancel: cancel, stage: dialing, started: time.Now(),
		wake: make(chan struct{}, 1), speak: make(chan struct{}),
	}
	s.mu.Lock()
	s.counters.Dials++
	s.mu.Unlock()
	s.conns.Go(func() {
		defer cancel(nil)
		err := s.serve(ctx, c, dial, headStart)
		s.mu.Lock()
		if c.stage == greeted && c.closing == nil {
			s.strays = append(s.strays[max(0, len(s.strays)-7):], time.Now())
		}
		c.stage, c.err = over, err
		delete(s.greeting, c)
		for _, held := range []**connection{&s.conn, &s.old} {
			if *held == c {
				*held = nil
			}
		}
		if s.conn == nil {
			for _, r := range s.rooms {
				r.hushLocked()
			}
		}
		s.notify()
		s.poke()
		s.mu.Unlock()
		s.log.Debug("connection is over", "region", ep.Region, "node", ep.Node, "error", err)
	})
	return c
}

func (s *Session) serve(ctx context.Context, c *connection, dial, headStart time.Duration) error {
	if err := s.identify(ctx, c); err != nil {
		return err
	}
	dialing, cancel := context.WithTimeoutCause(ctx, dial, errors.New("timeout"))
	l, fallback, err := s.dialer.dial(dialing, c.ep, headStart)
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
	if err := s.ready(ctx, c); err != nil {
		return err
	}
	if err := s.greet(c, l, fallback); err != nil {
		return err
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

// identify gets the token to say hello with. Where tokens come from may be in the
// region that is lost: then the last one has to do, which is good for a while.
func (s *Session) identify(ctx context.Context, c *connection) error {
	s.mu.Lock()
	if s.latest != nil {
		c.token = s.latest.token
	}
	s.mu.Unlock()
	asking, cancel := ctx, context.CancelFunc(func() {})
	if c.token != "" {
		asking, cancel = context.WithTimeout(ctx, tokenWait)
	}
	token, err := s.cfg.Tokens.Token(asking, "")
	cancel()
	_, refused := errorsAs(err)
	switch {
	case err == nil:
		c.token = token
	case refused || c.token == "" || ctx.Err() != nil:
		return fmt.Errorf("client: access token: %w", err)
	}
	return nil
}

// ready waits until a connection that is up may say hello.
func (s *Session) ready(ctx context.Context, c *connection) error {
	s.mu.Lock()
	c.stage = ready
	s.poke()
	s.mu.Unlock()
	timer := time.NewTimer(readyFor)
	defer timer.Stop()
	select {
	case <-c.speak:
		return nil
	case <-timer.C:
		return errNotNeeded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// greet prepares the hello, unless the session is about to end, or the
// connection that was suspect has been heard again: this is the last moment at
// which turning back costs nothing.
func (s *Session) greet(c *connection, l Conn, fallback string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bye {
		return ErrClosed
	}
	if c.beside && s.conn != nil && s.conn.pulse.doubt == trusted {
		return errNotNeeded
	}
	now := time.Now()
	c.stage, c.link, c.fallback, c.started = greeted, l, fallback, now
	c.ticket, c.awaits = s.ticket, map[string]bool{}
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
	s.greeting[c] = true
	return nil
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
	case c.outdone:
		w.err = errRetired
		return w
	case c.stage == live && c != s.conn:
		// A newer one has taken over. What this one still brings is welcome
		// until the rooms are back there.
		if c != s.old || s.conn == nil || len(s.conn.awaits) == 0 || !now.Before(c.retire) {
			w.err = errRetired
			return w
		}
		at(c.retire)
		return w
	case c.stage != live:
		if now.Sub(c.started) > welcomeTimeout {
			w.err = errNoWelcome
			return w
		}
		at(c.started.Add(welcomeTimeout + time.Millisecond))
		w.frames, c.queue = c.queue, nil
		return w
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
	at(s.watchLocked(c, now))
	at(s.reportLocked(c, &w, now))
	at(s.pulseLocked(c, &w, now))
	if w.err != nil {
		return w
	}
	w.frames, c.queue = append(w.frames, c.queue...), nil
	if s.bye && !s.changingLocked() { // else the session is about to be another's
		w.bye = true
		w.frames = append(w.frames, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
	}
	return w
}

// pulseLocked sees to it that a node that is gone is found out, and says when to
// look again.
func (s *Session) pulseLocked(c *connection, w *work, now time.Time) time.Time {
	switch {
	case slices.ContainsFunc(c.queue, func(f *wire.ClientFrame) bool { return f.GetId() != 0 }):
		c.pulse.ask(now)
	case len(c.queue) > 0 || len(w.datagrams) > 0:
		c.pulse.said = now
	}
	if now.Sub(s.alarmed) > time.Minute {
		s.alarms = 0
	}
	b := c.pulse.tick(now, s.status.RTT, !s.background, s.alarms)
	if b.ping {
		s.pingLocked(now)
	}
	if b.alarm {
		s.alarms, s.alarmed = s.alarms+1, now
		s.counters.Suspicions++
		s.poke()
	}
	if b.dead {
		w.err = errSilent
	}
	return b.next
}

// changingLocked reports whether a connection has said hello that may become
// the session's.
func (s *Session) changingLocked() bool {
	for _, wanted := range s.greeting {
		if wanted {
			return true
		}
	}
	return false
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
	if c.stage == live {
		return
	}
	delete(s.greeting, c)
	if m.GetEpoch() < s.status.Epoch {
		// Another one was greeted later and welcomed earlier: it has superseded
		// this one already.
		c.outdone = true
		s.notifyOne(c)
		return
	}
	now := time.Now()
	c.stage = live
	c.pulse = pulse{every: millis(m.GetPingMs()), heard: now} // not pinged yet: it is measured at once
	if c.pulse.every <= 0 {
		c.pulse.every = defaultPing
	}
	c.settled = now.Add(2 * time.Second)
	if m.GetExpires() != nil && m.GetNow() != nil {
		c.lifetime = m.GetExpires().AsTime().Sub(m.GetNow().AsTime())
		c.reauth = now.Add(reauthAfter(c.lifetime))
	}
	c.region, c.node, c.epoch = m.GetRegion(), m.GetNode(), m.GetEpoch()

	s.forgetLocked()
	if s.conn == nil || s.conn.pulse.doubt != trusted {
		s.unnoticedLocked() // what was told meanwhile, or to one that is silent
	}
	if s.conn != nil {
		s.notify() // an older one goes
		s.old = s.conn
		s.old.retire = now.Add(retireAfter)
	}
	if s.status.Region != "" && s.status.Region != c.region {
		s.homing.moved(now)
	}
	s.conn, s.latest = c, c
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
	s.answeredLocked(c, "")
	s.notify()
	s.poke()
}

// answeredLocked notes the answer to a room that a connection follows.
func (s *Session) answeredLocked(c *connection, room string) {
	delete(c.awaits, room)
	if len(c.awaits) == 0 && c.stage == live && c.backAt.IsZero() {
		c.backAt = time.Now()
		s.notify()
		s.poke()
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
