package client

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

var (
	berlin  = Box{geo.Point{Lat: 52.4, Lng: 13.2}, geo.Point{Lat: 52.6, Lng: 13.6}}
	leipzig = Box{geo.Point{Lat: 51.2, Lng: 12.2}, geo.Point{Lat: 51.4, Lng: 12.5}}
)

// watching is a server that answers watches: each with Done and a key frame in
// which there is one sight, of the connection's number.
type watching struct {
	mu     sync.Mutex
	asked  []*wire.Watch
	ended  []uint32
	refuse []*wire.Error // the next watches
	keys   uint32
}

func (w *watching) handle(c *fakeConn, cf *wire.ClientFrame, _ bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	done := &wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}}
	switch b := cf.GetBody().(type) {
	case *wire.ClientFrame_Watch:
		w.asked = append(w.asked, b.Watch)
		if len(w.refuse) > 0 {
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: w.refuse[0]}})
			w.refuse = w.refuse[1:]
			return
		}
		w.keys++
		c.send(done, viewFrame(b.Watch.Watch, w.keys, 0, &wire.Sight{Handle: w.keys, User: "ada", Device: c.hello.Device, Lat: new(int32(b.Watch.Area.South * 1e6))}))
	case *wire.ClientFrame_Unwatch:
		w.ended = append(w.ended, b.Unwatch.Watch)
		c.send(done)
	case *wire.ClientFrame_Withdraw, *wire.ClientFrame_Leave:
		c.send(done)
	}
}

func (w *watching) watches() []*wire.Watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*wire.Watch(nil), w.asked...)
}

func viewFrame(watch, key, n uint32, sights ...*wire.Sight) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_View{View: &wire.View{Watch: watch, Key: key, N: n, Sights: sights}}}
}

func lats(v *View) (out []float64) {
	for _, s := range v.Sights() {
		out = append(out, s.Point.Lat)
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 5*time.Second, 5*time.Millisecond, what)
}

func TestAViewFollowsItsSession(t *testing.T) {
	bothWays(t, func(t *testing.T, f *fake, connect func(...func(*Config)) *Session) {
		w := &watching{}
		f.handle(joins(0, 1, w.handle))
		s := connect()
		c := f.next()
		r, err := s.Join(t.Context(), room)
		require.NoError(t, err)
		v, err := r.Watch(berlin)
		require.NoError(t, err)
		m, err := s.WatchMap(leipzig)
		require.NoError(t, err)
		eventually(t, "both are told", func() bool { return v.Ready() && m.Ready() })
		require.Equal(t, []float64{52.4}, lats(v))
		require.Equal(t, []float64{51.2}, lats(m))
		require.Equal(t, room, w.watches()[0].Room)

		// A datagram on top of the key frame, where there are datagrams.
		change := viewFrame(1, w.watches()[0].Watch, 1, &wire.Sight{Handle: 1, Lat: new(int32(1_000_000))})
		if c.dgram != nil {
			c.datagram(change)
		} else {
			c.send(change)
		}
		eventually(t, "it has moved", func() bool { return lats(v)[0] == 53.4 })

		// Elsewhere; calls that come at once are merged.
		for range 20 {
			require.NoError(t, v.Look(leipzig))
		}
		eventually(t, "it shows the other area", func() bool { return lats(v)[0] == 51.2 })
		require.Less(t, len(w.watches()), 12)
		require.Equal(t, leipzig, v.Area())

		// Another connection: both are asked for again, the room's once it is back.
		c.close(0)
		n := len(w.watches())
		f.next().send(snapshot(0, 0, 1, ada(10, wire.State_LIVE)))
		eventually(t, "both are asked for again", func() bool { return len(w.watches()) >= n+2 && v.Counters().Keys >= 3 && m.Counters().Keys >= 2 })
		require.Equal(t, []float64{51.2}, lats(v))

		m.Close()
		require.ErrorIs(t, m.Err(), ErrLeft)
		require.NoError(t, r.Leave(t.Context()))
		require.Error(t, v.Err())
		for e := range v.Events(t.Context()) {
			_ = e // ends
		}
		eventually(t, "the server is told", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.ended) == 1 && w.ended[0] == 2
		})
	})
}

func TestAWatchIsRefused(t *testing.T) {
	f := newFake(t)
	w := &watching{refuse: []*wire.Error{{Code: wire.CodeNotJoined}, {Code: wire.CodeRateLimited, RetryAfterMs: 20}, {Code: wire.CodeRetry}}}
	f.handle(joins(0, 1, w.handle))
	s := connect(t, f, WebSocketOnly)
	_, err := s.WatchMap(Box{geo.Point{Lat: -50}, geo.Point{Lat: 50, Lng: 50}})
	require.True(t, IsCode(err, wire.CodeBadRequest))
	v, err := s.WatchMap(berlin)
	require.NoError(t, err)
	eventually(t, "it is asked for until it is told", v.Ready)
	require.Len(t, w.watches(), 4)

	w.mu.Lock()
	w.refuse = []*wire.Error{{Code: wire.CodeBadRequest}}
	w.mu.Unlock()
	require.NoError(t, v.Look(leipzig))
	eventually(t, "it is over", func() bool { return IsCode(v.Err(), wire.CodeBadRequest) })
	require.Error(t, v.Look(leipzig))
	for range wire.MaxWatches {
		_, err := s.WatchMap(berlin)
		require.NoError(t, err)
	}
	_, err = s.WatchMap(berlin)
	require.Error(t, err)
}

func TestNobodyIsToldAfterAWithdrawal(t *testing.T) {
	f := newFake(t)
	w := &watching{}
	var mu sync.Mutex
	var seen []string
	f.handle(joins(0, 1, func(c *fakeConn, cf *wire.ClientFrame, datagram bool) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case cf.GetReport() != nil:
			seen = append(seen, "report")
		case cf.GetWithdraw() != nil:
			seen = append(seen, "withdraw")
		}
		w.handle(c, cf, datagram)
	}))
	s := connect(t, f, WebSocketOnly)
	r, err := s.Join(t.Context(), room)
	require.NoError(t, err)
	require.NoError(t, r.Report(Fix{Point: geo.Point{Lat: 1}, Battery: new(0.5)}))
	require.NoError(t, s.Withdraw(t.Context()))
	c := f.next()
	c.close(0)
	f.next()
	_, err = s.Join(t.Context(), "group:00000000-0000-4000-8000-000000000002")
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	require.LessOrEqual(t, len(seen), 2)
	require.Equal(t, "withdraw", seen[len(seen)-1])
}
