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
)

var (
	errSilent    = errors.New("client: the server went silent")
	errNoWelcome = errors.New("client: no welcome from the server")
)

// connection is one link under a session. Its fields are guarded by the
// session's lock.
type connection struct {
	link     Conn
	queue    []*wire.ClientFrame
	hello    uint64
	live     bool
	started  time.Time
	heard    time.Time
	ping     time.Duration
	nextPing time.Time
	reauth   time.Time     // zero: never
	lifetime time.Duration // of access tokens
	renewing bool
	settled  time.Time // when fixes may be repeated though rooms are not back yet
	closing  *wire.Close
	refused  *ClosedError
}

// run is the session's life: connect, serve, wait, again.
func (s *Session) run(ctx context.Context) {
	defer close(s.done)
	at, attempt := 0, 0
	for {
		started := time.Now()
		err := s.attempt(ctx, s.cfg.Endpoints[at])
		after, final := s.ended(ctx, err)
		if final {
			return
		}
		if after.worked && time.Since(started) > 10*time.Second {
			attempt = 0
		}
		// The same node first if it worked: it may hold the session. Else
		// around the list, and slower with each round.
		if !after.worked || after.elsewhere {
			at = (at + 1) % len(s.cfg.Endpoints)
		}
		_ = sleep(ctx, after.wait+jitter(attempt/len(s.cfg.Endpoints), reconnectRetry))
		attempt++
	}
}

// next is what follows the end of a connection.
type next struct {
	worked    bool // it had been live
	elsewhere bool // better try another node
	wait      time.Duration
}

// ended decides what follows the end of a connection.
func (s *Session) ended(ctx context.Context, err error) (n next, final bool) {
	s.mu.Lock()
	c := s.conn
	s.conn = nil
	policy := wire.Reconnect
	if end, ok := errors.AsType[*ClosedError](err); ok {
		// A normal close that nobody asked for is some proxy's, not the end.
		if end.Number != wire.CloseNormal {
			policy = wire.PolicyOf(uint16(end.Number))
		}
		if code := wire.CloseCode(uint16(end.Number)); code != "" {
			err = &Error{Code: code, Message: end.Reason}
		}
	}
	if c != nil {
		n.worked = c.live
		if c.closing != nil {
			// The frame says it even if the number behind it was cut off.
			if number, ok := wire.CloseNumber(c.closing.GetCode()); ok {
				policy = wire.PolicyOf(number)
			}
			n.wait = millis(c.closing.GetRetryAfterMs())
			n.elsewhere = c.closing.GetCode() == wire.CodeDraining
			err = &Error{Code: c.closing.GetCode(), Message: c.closing.GetMessage(), RetryAfter: n.wait}
		}
	}
	if refused, ok := errors.AsType[*Error](err); ok && refused.Status == 401 {
		policy = wire.Final // the token source itself was refused
	}
	for id, r := range s.pending {
		if !r.keep {
			delete(s.pending, id)
			r.reply(nil, errSilent)
		}
	}
	st := s.status
	st.Err = err
	switch {
	case s.bye || ctx.Err() != nil:
		st.Phase, st.Err, final = Closed, ErrClosed, true
	case policy == wire.Final:
		st.Phase, final = Closed, true
	case st.Phase == Live:
		st.Phase = Reconnecting
	}
	if policy == wire.Refresh {
		if s.refreshes++; s.refreshes > 2 { // fresh tokens are refused as well
			st.Phase, final = Closed, true
		}
	}
	stale := s.token
	if final {
		for _, r := range slices.Collect(maps.Values(s.rooms)) {
			r.end(st.Err)
		}
	}
	s.mu.Unlock()
	s.log.Debug("connection ended", "error", err, "final", final)

	if policy == wire.Refresh && !final {
		if _, terr := s.cfg.Tokens.Token(ctx, stale); terr != nil {
			if refused, ok := errors.AsType[*Error](terr); ok && refused.Status != 0 && refused.Status < 500 && refused.Status != 429 {
				st.Phase, st.Err, final = Closed, terr, true
			}
		}
	}
	s.setStatus(st)
	return n, final
}

func (s *Session) setStatus(st Status) {
	s.mu.Lock()
	changed := s.status.Phase != st.Phase || s.status.Epoch != st.Epoch
	s.status = st
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

// attempt makes one connection and serves it to its end.
func (s *Session) attempt(ctx context.Context, ep Endpoint) error {
	token, err := s.cfg.Tokens.Token(ctx, "")
	if err != nil {
		return fmt.Errorf("client: access token: %w", err)
	}
	s.mu.Lock()
	s.token = token
	s.mu.Unlock()
	l, fallback, err := s.dialer.dial(ctx, ep)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	now := time.Now()
	c := &connection{link: l, started: now, heard: now}

	s.mu.Lock()
	s.nextID++
	c.hello = s.nextID
	c.queue = append(c.queue, &wire.ClientFrame{Id: c.hello, Body: &wire.ClientFrame_Hello{Hello: &wire.Hello{
		Version: wire.Version, Token: token, Device: s.cfg.Device, Sdk: SDK,
		Follows: s.followsLocked(), Epoch: s.status.Epoch, Fallback: fallback,
	}}})
	s.conn = c
	s.status.Fallback = fallback
	s.mu.Unlock()

	var helpers sync.WaitGroup
	ended := make(chan error, 1)
	helpers.Go(func() { ended <- l.Receive(ctx, func(body []byte) { s.handle(c, body) }) })
	number := 0 // gone without a word: the server suspends the session
	defer func() {
		l.Close(number)
		cancel()
		helpers.Wait()
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	announced := false
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-timer.C:
		}
		w := s.step(c, time.Now())
		if w.live && !announced {
			announced = true
			s.setStatus(w.status)
		}
		if w.renew {
			helpers.Go(func() { s.renew(ctx, c, token) })
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
	live      bool
	status    Status
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
	case !c.live:
		if now.Sub(c.started) > welcomeTimeout {
			w.err = errNoWelcome
			return w
		}
		at(c.started.Add(welcomeTimeout + time.Millisecond))
		w.frames, c.queue = c.queue, nil
		return w
	}
	w.live, w.status = true, s.status
	w.status.Phase, w.status.Err = Live, nil

	if now.Sub(c.heard) > 3*c.ping {
		w.err = errSilent
		return w
	}
	at(c.heard.Add(3*c.ping + time.Millisecond))
	if !now.Before(c.nextPing) {
		c.nextPing = now.Add(c.ping)
		s.pingLocked(now)
	}
	at(c.nextPing)
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
	w.frames, c.queue = append(w.frames, c.queue...), nil
	if s.bye {
		w.bye = true
		w.frames = append(w.frames, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
	}
	return w
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

// welcomeLocked makes a connection live: what waits for an answer goes out.
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
	s.counters.Connections++
	s.refreshes = 0
	s.status.User, s.status.Name, s.status.Epoch = m.GetUser(), m.GetName(), m.GetEpoch()
	s.status.Region, s.status.Node, s.status.Transport = m.GetRegion(), m.GetNode(), m.GetTransport()
	s.status.Tick, s.status.RTT = millis(m.GetTickMs()), 0
	for _, id := range slices.Sorted(maps.Keys(s.pending)) {
		c.queue = append(c.queue, s.pending[id].body)
	}
	for _, r := range s.reports {
		r.again(s, now)
	}
	s.notify()
}

// reauthAfter leaves the last fifth of a token's life, at most a minute, for
// getting the next one.
func reauthAfter(lifetime time.Duration) time.Duration {
	return lifetime - min(time.Minute, lifetime/5)
}

// renew gets a fresh token and shows it to the server. If that fails, the
// server closes the connection when the token ends, which says the rest.
func (s *Session) renew(ctx context.Context, c *connection, stale string) {
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
