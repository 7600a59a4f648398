package client

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

const room = "group:00000000-0000-4000-8000-000000000001"

// bothWays runs a test over WebSocket and over WebTransport.
func bothWays(t *testing.T, test func(t *testing.T, f *fake, connect func(...func(*Config)) *Session)) {
	for name, tr := range map[string]Transport{"websocket": WebSocketOnly, "webtransport": WebTransportOnly} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			test(t, f, func(change ...func(*Config)) *Session { return connect(t, f, tr, change...) })
		})
	}
}

func connect(t *testing.T, f *fake, tr Transport, change ...func(*Config)) *Session {
	t.Helper()
	cfg := Config{
		Endpoints: []Endpoint{f.ep},
		Tokens:    StaticToken("token"),
		Dialer:    &Dialer{Transport: tr, CertSHA256: f.pins},
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := Connect(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func at(seq uint64) *wire.Position { return &wire.Position{Region: "eu-west", Epoch: 5, Seq: seq} }

func snapshot(re uint64, last uint64, seq uint64, people ...*wire.Person) *wire.ServerFrame {
	return &wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{
		Room: room, Recovered: true, LastNumber: last, Parts: []*wire.Part{{At: at(seq), People: people}},
	}}}
}

func ada(epoch uint64, state wire.State) *wire.Person {
	return &wire.Person{User: "ada", Name: "Ada", Devices: []*wire.Device{{Device: "phone", Epoch: epoch, State: state, Region: "eu-west"}}}
}

func presence(seq uint64, p *wire.Person) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
		Room: room, At: at(seq), Body: &wire.Event_Presence{Presence: &wire.Presence{People: []*wire.Person{p}}},
	}}}
}

func message(seq, number uint64) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
		Room: room, At: at(seq), Body: &wire.Event_Message{Message: stored(number)},
	}}}
}

func stored(number uint64) *wire.Message {
	return &wire.Message{Number: number, Id: fmt.Sprint(number), Sender: "ada", Body: fmt.Sprint("m", number), SentAt: timestamppb.Now()}
}

func fixes(epoch, n uint64) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: room, Fixes: []*wire.MemberFix{{
		User: "ada", Device: "phone", Epoch: epoch,
		Fix: &wire.Fix{Point: &wire.Point{Lat: 1, Lng: float64(n)}, N: n, Captured: timestamppb.Now()},
	}}}}}
}

// joins answers Join with a snapshot and hands everything else on.
func joins(last, seq uint64, rest func(c *fakeConn, cf *wire.ClientFrame, datagram bool)) func(*fakeConn, *wire.ClientFrame, bool) {
	return func(c *fakeConn, cf *wire.ClientFrame, datagram bool) {
		if cf.GetJoin() != nil {
			c.send(snapshot(cf.GetId(), last, seq, ada(10, wire.State_LIVE)))
		} else if rest != nil {
			rest(c, cf, datagram)
		}
	}
}

// expect returns the next event of a type.
func expect[E Event](t *testing.T, r *Room) E {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for {
		r.queue.mu.Lock()
		for i, e := range r.queue.events {
			if e, ok := e.(E); ok {
				r.queue.events = slices.Delete(r.queue.events, 0, i+1)
				r.queue.mu.Unlock()
				return e
			}
		}
		r.queue.mu.Unlock()
		select {
		case <-r.queue.more:
		case <-ctx.Done():
			var none E
			t.Fatalf("no %T came", none)
		}
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		f.handle(joins(7, 3, func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			if cf.GetSend() != nil {
				m := stored(10)
				m.ClientId = cf.GetSend().GetClientId()
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: m}}})
			}
		}))
		s := connect()
		c := f.next()
		require.Equal(t, uint32(1), c.hello.GetVersion())
		require.Equal(t, "token", c.hello.GetToken())
		require.Equal(t, Live, s.Status().Phase)
		require.Equal(t, c.kind, s.Status().Transport)

		r, err := s.Join(t.Context(), room)
		require.NoError(t, err)
		again, err := s.Join(t.Context(), room)
		require.NoError(t, err)
		require.Same(t, r, again)
		require.Equal(t, "Ada", r.Members()[0].Name)
		expect[PresenceChanged](t, r)

		c.send(fixes(10, 1), message(4, 8), message(5, 9), presence(6, ada(10, wire.State_SUSPENDED)))
		require.EqualValues(t, 1, expect[FixChanged](t, r).Fix.N)
		require.Equal(t, "m8", expect[MessageArrived](t, r).Message.Body)
		require.Equal(t, "m9", expect[MessageArrived](t, r).Message.Body)
		require.Equal(t, wire.State_SUSPENDED, expect[PresenceChanged](t, r).Device.State)
		if c.kind == wire.Transport_WEBTRANSPORT {
			c.datagram(fixes(10, 2))
			require.EqualValues(t, 2, expect[FixChanged](t, r).Fix.N)
		}

		m, err := r.Send(t.Context(), "hello")
		require.NoError(t, err)
		require.EqualValues(t, 10, m.Number)
		c.send(message(7, 10)) // the echo of the same message
		c.send(message(8, 11))
		require.EqualValues(t, 10, expect[MessageArrived](t, r).Message.Number)
		require.EqualValues(t, 11, expect[MessageArrived](t, r).Message.Number)
		require.EqualValues(t, 1, r.Counters().DuplicateMessages)

		require.Eventually(t, func() bool { return s.Status().RTT > 0 }, 5*time.Second, 5*time.Millisecond)
		s.Close()
		require.ErrorIs(t, expect[Ended](t, r).Err, ErrClosed)
		<-c.gone
	})
}

func TestHoleIsFetched(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var asked atomic.Int32
	f.handle(joins(1, 0, func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
		h := cf.GetHistory()
		if h == nil {
			return
		}
		asked.Add(1)
		page := &wire.Page{Room: room}
		for n := h.GetAfter() + 1; n <= 7 && len(page.Messages) < 2; n++ {
			page.Messages = append(page.Messages, stored(n))
		}
		page.More = page.Messages[len(page.Messages)-1].Number < 7
		c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Page{Page: page}})
	}))
	s := connect(t, f, WebSocketOnly)
	r, err := s.Join(t.Context(), room)
	require.NoError(t, err)
	began := time.Now()
	c := f.next()
	c.send(message(1, 5), message(2, 2))
	for n := uint64(2); n <= 5; n++ {
		require.Equal(t, n, expect[MessageArrived](t, r).Message.Number)
	}
	require.Greater(t, time.Since(began), holeAfter-50*time.Millisecond, "a hole is given time to close by itself")
	require.EqualValues(t, 1, asked.Load(), "3 and 4 fill one page")

	// What a snapshot says that recovered nothing has no event on its way.
	began = time.Now()
	c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Room: room, LastNumber: 7}}})
	for n := uint64(6); n <= 7; n++ {
		require.Equal(t, n, expect[MessageArrived](t, r).Message.Number)
	}
	require.Less(t, time.Since(began), holeAfter)
}

func TestGapJoinsAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	positions := make(chan []*wire.Position, 4)
	f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
		j := cf.GetJoin()
		if len(j.GetPositions()) == 0 {
			c.send(snapshot(cf.GetId(), 0, 3, ada(10, wire.State_LIVE)))
			return
		}
		positions <- j.GetPositions()
		c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Room: room, Recovered: true}}},
			presence(4, ada(10, wire.State_SUSPENDED)), presence(5, ada(11, wire.State_LIVE)))
	})
	s := connect(t, f, WebSocketOnly)
	r, err := s.Join(t.Context(), room)
	require.NoError(t, err)
	expect[PresenceChanged](t, r)
	f.next().send(presence(5, ada(11, wire.State_LIVE)))
	require.Equal(t, wire.State_SUSPENDED, expect[PresenceChanged](t, r).Device.State)
	require.EqualValues(t, 11, expect[PresenceChanged](t, r).Device.Epoch)
	require.EqualValues(t, 3, (<-positions)[0].GetSeq())
	require.EqualValues(t, 1, r.Counters().Gaps)
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		var sends atomic.Int32
		ids := make(chan uint64, 8)
		f.handle(joins(0, 3, func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			if cf.GetSend() == nil {
				return
			}
			ids <- cf.GetId()
			if sends.Add(1) == 1 {
				c.close(0) // the answer is lost with the connection
				return
			}
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored(1)}}})
		}))
		s := connect()
		r, err := s.Join(t.Context(), room)
		require.NoError(t, err)
		f.next()
		m, err := r.Send(t.Context(), "once")
		require.NoError(t, err)
		require.EqualValues(t, 1, m.Number)
		require.Equal(t, <-ids, <-ids, "the same request id")

		c := f.next()
		require.Equal(t, room, c.hello.GetFollows()[0].GetRoom())
		require.EqualValues(t, 3, c.hello.GetFollows()[0].GetPositions()[0].GetSeq())
		require.EqualValues(t, 101, c.hello.GetEpoch())
		require.Equal(t, Reconnecting, expect[ConnectionChanged](t, r).Status.Phase)
		require.EqualValues(t, 102, expect[ConnectionChanged](t, r).Status.Epoch)
	})
}

// fakeTokens counts how often a token was called stale.
type fakeTokens struct{ stale atomic.Int32 }

func (f *fakeTokens) Token(_ context.Context, stale string) (string, error) {
	if stale != "" {
		f.stale.Add(1)
	}
	return fmt.Sprint("token", f.stale.Load()), nil
}

func TestClosePolicy(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		tokens := new(fakeTokens)
		s := connect(func(c *Config) { c.Tokens = tokens })
		closeWith := func(code string) {
			c := f.next()
			number, ok := wire.CloseNumber(code)
			require.True(t, ok)
			c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: &wire.Close{Code: code, Message: "test"}}})
			c.close(int(number))
		}
		closeWith(wire.CodeDraining)
		closeWith(wire.CodeTokenExpired)
		c := f.next()
		require.Equal(t, "token1", c.hello.GetToken(), "a fresh token first")
		f.conns <- c
		closeWith(wire.CodeSignedOut)
		select {
		case <-s.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("not final")
		}
		require.True(t, IsCode(s.Status().Err, wire.CodeSignedOut), "%v", s.Status().Err)
		_, err := s.Join(t.Context(), room)
		require.True(t, IsCode(err, wire.CodeSignedOut))
	})
}

func TestCloseFrameIsEnough(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		s := connect()
		c := f.next()
		c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: &wire.Close{Code: wire.CodeSignedOut}}})
		require.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.conn == nil || s.conn.closing != nil
		}, 5*time.Second, time.Millisecond)
		c.close(0) // without the number
		select {
		case <-s.Done():
		case <-time.After(5 * time.Second):
			t.Fatal("not final")
		}
		require.True(t, IsCode(s.Status().Err, wire.CodeSignedOut), "%v", s.Status().Err)
	})
}

func TestRefusedHello(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.greet(func(c *fakeConn, cf *wire.ClientFrame) bool {
		c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeBadVersion}}})
		return true
	})
	_, err := Connect(t.Context(), Config{Endpoints: []Endpoint{f.ep}, Tokens: StaticToken("x"), Dialer: &Dialer{Transport: WebSocketOnly}})
	require.True(t, IsCode(err, wire.CodeBadVersion), "%v", err)
}

func TestReauth(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.lifetime = time.Second
	got := make(chan string, 8)
	f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
		if re := cf.GetReauth(); re != nil {
			got <- re.GetToken()
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
		}
	})
	connect(t, f, WebSocketOnly, func(c *Config) { c.Tokens = new(fakeTokens) })
	for want := range 2 {
		select {
		case token := <-got:
			require.Equal(t, fmt.Sprint("token", want+1), token)
		case <-time.After(5 * time.Second):
			t.Fatal("no reauth")
		}
	}
}

func TestFallsBackWhenUDPIsSilent(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	hole, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = hole.Close() })
	f.ep.WT = fmt.Sprintf("https://%s/wt", hole.LocalAddr())
	d := &Dialer{CertSHA256: f.pins}
	began := time.Now()
	s := connect(t, f, Auto, func(c *Config) { c.Dialer = d })
	require.Equal(t, wire.Transport_WEBSOCKET, s.Status().Transport)
	require.Less(t, time.Since(began), headStart+time.Second)
	require.Equal(t, "webtransport: timeout", f.next().hello.GetFallback())

	began = time.Now()
	connect(t, f, Auto, func(c *Config) { c.Dialer = d })
	require.Less(t, time.Since(began), headStart/2, "remembered")
}

func TestPrefersWebTransport(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	require.Equal(t, wire.Transport_WEBTRANSPORT, connect(t, f, Auto).Status().Transport)

	f.pins = [][32]byte{{1}}
	s := connect(t, f, Auto)
	require.Equal(t, wire.Transport_WEBSOCKET, s.Status().Transport, "a wrong certificate is no WebTransport")
	require.Contains(t, s.Status().Fallback, "pinned")
}

func TestNextEndpoint(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	s := connect(t, f, WebSocketOnly, func(c *Config) {
		c.Endpoints = []Endpoint{{WS: "ws://127.0.0.1:1/ws"}, f.ep}
	})
	require.Equal(t, Live, s.Status().Phase)
}

func TestReport(t *testing.T) {
	t.Parallel()
	type got struct {
		id       uint64
		n        uint64
		datagram bool
	}
	f := newFake(t)
	reports := make(chan got, 64)
	f.handle(joins(0, 0, func(c *fakeConn, cf *wire.ClientFrame, datagram bool) {
		if r := cf.GetReport(); r != nil {
			reports <- got{cf.GetId(), r.GetFix().GetN(), datagram}
			if cf.GetId() != 0 {
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
			}
		}
	}))
	await := func() got {
		t.Helper()
		select {
		case g := <-reports:
			return g
		case <-time.After(5 * time.Second):
			t.Fatal("no report")
			return got{}
		}
	}
	s := connect(t, f, WebTransportOnly)
	_, err := s.Join(t.Context(), room)
	require.NoError(t, err)
	here := Fix{Point: geo.Point{Lat: 1, Lng: 2}}
	require.NoError(t, s.Report(here))
	require.Equal(t, got{0, 1, true}, await())
	require.NoError(t, s.Report(here))
	require.Equal(t, got{0, 2, true}, await(), "a newer one followed: no repeat of the first")
	last := await()
	require.EqualValues(t, 2, last.n)
	require.False(t, last.datagram, "the last one again on the stream")
	require.NotZero(t, last.id)
	select {
	case g := <-reports:
		t.Fatalf("%+v though it was answered", g)
	case <-time.After(1500 * time.Millisecond):
	}

	require.NoError(t, s.Report(here))
	s.Close()
	for {
		if g := await(); !g.datagram {
			require.EqualValues(t, 3, g.n, "the final position goes before the bye")
			break
		}
	}

	for code, bad := range map[string]Fix{
		wire.CodeBadCoordinates: {Point: geo.Point{Lat: math.NaN()}},
		wire.CodeBadFix:         {Accuracy: math.Inf(1)},
		wire.CodeFixInFuture:    {Captured: time.Now().Add(time.Hour)},
		wire.CodeFixTooOld:      {Captured: time.Now().Add(-100 * time.Hour)},
	} {
		require.True(t, IsCode(s.Report(bad), code), "%s", code)
	}
}

func TestLastFixSurvivesReconnect(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		again := make(chan uint64, 8)
		f.handle(joins(0, 0, func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			if r := cf.GetReport(); r != nil && c.hello.GetEpoch() == 0 {
				c.close(0)
			} else if r != nil {
				again <- r.GetFix().GetN()
			}
		}))
		f.greet(func(c *fakeConn, cf *wire.ClientFrame) bool {
			f.welcome(c, cf.GetId())
			for range c.hello.GetFollows() {
				c.send(snapshot(0, 0, 0))
			}
			return true
		})
		s := connect()
		_, err := s.Join(t.Context(), room)
		require.NoError(t, err)
		require.NoError(t, s.Report(Fix{Point: geo.Point{Lat: 1, Lng: 2}}))
		select {
		case n := <-again:
			require.EqualValues(t, 1, n)
		case <-time.After(5 * time.Second):
			t.Fatal("the last fix was lost")
		}
	})
}

// A room that comes back late gets the last fix although the server took it
// before, for no room; and a message waits for it.
func TestARoomThatComesBackLate(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		var back atomic.Bool
		got := make(chan uint64, 8)
		f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			switch {
			case c.hello.GetEpoch() == 0 && cf.GetJoin() != nil:
				c.send(snapshot(cf.GetId(), 0, 3))
			case c.hello.GetEpoch() == 0 && cf.GetReport() != nil:
				c.close(0)
			case cf.GetJoin() != nil: // later than the fix is confirmed
				time.AfterFunc(3*time.Second, func() {
					back.Store(true)
					c.send(snapshot(cf.GetId(), 0, 3))
				})
			case cf.GetSend() != nil && back.Load():
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored(1)}}})
			case cf.GetSend() != nil:
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeNotJoined, Room: room}}})
			case cf.GetReport() != nil:
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
				if back.Load() {
					got <- cf.GetReport().GetFix().GetN()
				}
			}
		})
		f.greet(func(c *fakeConn, cf *wire.ClientFrame) bool {
			f.welcome(c, cf.GetId())
			for range c.hello.GetFollows() {
				c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeRetry, Room: room}}})
			}
			return true
		})
		s := connect()
		r, err := s.Join(t.Context(), room)
		require.NoError(t, err)
		f.next()
		require.NoError(t, s.Report(Fix{Point: geo.Point{Lat: 1, Lng: 2}}))
		f.next()
		_, err = r.Send(t.Context(), "patience")
		require.NoError(t, err)
		select {
		case n := <-got:
			require.EqualValues(t, 1, n)
		case <-time.After(10 * time.Second):
			t.Fatal("the room never got the last fix")
		}
	})
}

func TestRetryIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var tries atomic.Int32
	f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
		if tries.Add(1) < 3 {
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeRetry, RetryAfterMs: 10, Room: room}}})
			return
		}
		c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeNotMember, Room: room}}})
	})
	s := connect(t, f, WebSocketOnly)
	_, err := s.Join(t.Context(), room)
	require.True(t, IsCode(err, wire.CodeNotMember), "%v", err)
	require.EqualValues(t, 3, tries.Load())
}

func TestRemoved(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.handle(joins(0, 0, nil))
	s := connect(t, f, WebSocketOnly)
	r, err := s.Join(t.Context(), room)
	require.NoError(t, err)
	f.next().send(&wire.ServerFrame{Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeNotMember, Room: room}}})
	require.True(t, IsCode(expect[Ended](t, r).Err, wire.CodeNotMember))
	_, err = r.Send(t.Context(), "too late")
	require.True(t, IsCode(err, wire.CodeNotMember))
}

func TestSlowReaderMisses(t *testing.T) {
	t.Parallel()
	q := newQueue(4)
	for i := range 10 {
		q.push(i)
	}
	got, ok := q.take(t.Context(), nil)
	require.True(t, ok)
	require.Equal(t, []Event{Missed{}, 7, 8, 9}, got)
	q.end(Ended{})
	got, ok = q.take(t.Context(), nil)
	require.True(t, ok)
	require.Equal(t, []Event{Ended{}}, got)
	_, ok = q.take(t.Context(), nil)
	require.False(t, ok)
}
