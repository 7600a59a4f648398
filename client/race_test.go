package client

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRace(t *testing.T) {
	const ms = time.Millisecond
	start := func(n int) *race { return newRace(make([]Endpoint, n), stagger) }
	// turn takes one look, and does what it says.
	turn := func(r *race, at time.Duration) (dial, speak int, next time.Duration) {
		now := t0.Add(at)
		dial, speak, when := r.turn(now)
		if dial >= 0 {
			r.runners[dial].stage, r.runners[dial].dialed = dialing, now
		}
		if speak >= 0 {
			r.runners[speak].stage, r.runners[speak].greeted = greeted, now
		}
		return dial, speak, when.Sub(t0)
	}
	is := func(r *race, at time.Duration, wantDial, wantSpeak int) time.Duration {
		t.Helper()
		dial, speak, next := turn(r, at)
		require.Equal(t, [2]int{wantDial, wantSpeak}, [2]int{dial, speak})
		return next
	}
	t.Run("staggered, whatever hangs", func(t *testing.T) {
		r := start(6)
		is(r, 0, 0, -1)
		require.Equal(t, 250*ms, is(r, 0, -1, -1))
		is(r, 250*ms, 1, -1)
		is(r, 749*ms, -1, -1)
		is(r, 750*ms, 2, -1)
		is(r, 1750*ms, 3, -1)
		is(r, 3750*ms, 4, -1)
		require.Equal(t, 5750*ms, is(r, 3750*ms, -1, -1), "no slower than that")
		is(r, 5750*ms, 5, -1)
		is(r, 9000*ms, -1, -1)
		require.False(t, r.done())
	})
	t.Run("at once after a failure", func(t *testing.T) {
		r := start(3)
		is(r, 0, 0, -1)
		r.runners[0].stage = over
		is(r, 1*ms, 1, -1)
		is(r, 2*ms, -1, -1)
		r.runners[1].stage = over
		is(r, 3*ms, 2, -1)
		r.runners[2].stage = over
		require.True(t, r.done())
	})
	t.Run("the failure of an earlier one hurries nobody", func(t *testing.T) {
		r := start(3)
		is(r, 0, 0, -1)
		is(r, 250*ms, 1, -1)
		r.runners[0].stage = over
		require.Equal(t, 500*ms, is(r, 251*ms, -1, -1))
	})
	t.Run("one hello at a time", func(t *testing.T) {
		r := start(4)
		is(r, 0, 0, -1)
		is(r, 250*ms, 1, -1)
		r.runners[1].stage = ready
		is(r, 300*ms, -1, 1)
		require.True(t, r.committed())
		r.runners[0].stage = ready
		require.Equal(t, 1300*ms, is(r, 500*ms, -1, -1), "both dials and hellos wait for the Welcome")
		is(r, 1300*ms, 2, -1)
		require.Equal(t, 1550*ms, is(r, 1300*ms, -1, -1))
		is(r, 2300*ms, 3, 0)
		r.runners[0].stage, r.runners[1].stage = over, over
		r.runners[3].stage = ready
		is(r, 2310*ms, -1, 3)
	})
	t.Run("refused for a while", func(t *testing.T) {
		r := start(2)
		is(r, 0, 0, -1)
		r.runners[0].stage, r.hold = over, t0.Add(time.Second)
		require.Equal(t, 1000*ms, is(r, 10*ms, -1, -1))
		is(r, 1000*ms, 1, -1)
	})
	t.Run("called off", func(t *testing.T) {
		r := start(3)
		is(r, 0, 0, -1)
		r.runners[0].stage = ready
		is(r, 10*ms, -1, 0)
		r.closed = true
		is(r, 3000*ms, -1, -1)
		require.False(t, r.done(), "who has said hello is seen through")
		r.runners[0].stage = over
		require.True(t, r.done())
	})
}

func TestHoming(t *testing.T) {
	const ms = time.Millisecond
	far := map[string]time.Duration{"us": 100 * ms, "eu": 20 * ms, "ap": 15 * ms}
	near := map[string]time.Duration{"us": 100 * ms, "eu": 20 * ms}
	same := map[string]time.Duration{"us": 100 * ms, "eu": 80 * ms}
	var h homing
	at := func(minutes int) time.Time { return t0.Add(time.Duration(minutes) * time.Minute) }
	require.Empty(t, h.round(at(0), "us", near))
	require.Empty(t, h.round(at(4), "us", near))
	require.Empty(t, h.round(at(8), "us", same), "not in a row")
	require.Empty(t, h.round(at(12), "us", near))
	require.Empty(t, h.round(at(16), "us", near))
	require.Empty(t, h.round(at(20), "us", far), "another one now")
	require.Empty(t, h.round(at(24), "us", far))
	require.Equal(t, "ap", h.round(at(28), "us", far))
	h.moved(at(28))
	for minute := 29; minute < 38; minute++ {
		require.Empty(t, h.round(at(minute), "ap", map[string]time.Duration{"us": 10 * ms, "ap": 100 * ms}))
	}
	require.Equal(t, "us", h.round(at(38), "ap", map[string]time.Duration{"us": 10 * ms, "ap": 100 * ms}))

	h = homing{}
	for minute := range 5 {
		require.Empty(t, h.round(at(minute), "us", map[string]time.Duration{"eu": 20 * ms}), "nothing to compare with")
		require.Empty(t, h.round(at(minute), "us", map[string]time.Duration{"us": 20 * ms}))
		require.False(t, h.settled(), "and nothing is known")
	}

	h = homing{}
	require.Empty(t, h.round(at(0), "us", same))
	require.Empty(t, h.round(at(1), "us", same))
	require.False(t, h.settled())
	require.Empty(t, h.round(at(2), "us", near))
	require.False(t, h.settled(), "one of the three was something else")
	require.Empty(t, h.round(at(3), "us", near))
	require.Equal(t, "eu", h.round(at(4), "us", near))
	require.True(t, h.settled())
	h.forget()
	require.False(t, h.settled())
	for minute := range steadily {
		require.False(t, h.settled())
		require.Empty(t, h.round(at(minute), "us", same))
	}
	require.True(t, h.settled(), "it is at home")
}

// roundTripper answers requests by itself.
type roundTripper func(r *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The first measurements after a change of network were spoiled by what else the device
// had to do: it is measured again soon, until three in a row say the same.
func TestASpoiledMeasurementIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spoiled := 2 * (1 + probeTimes) // two rounds
		asked := map[string]int{}
		var mu sync.Mutex
		timing := func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			asked[r.URL.Host]++
			n := asked[r.URL.Host]
			mu.Unlock()
			took := map[string]time.Duration{"us-1": 60 * time.Millisecond, "eu-1": time.Millisecond}[r.URL.Host]
			if n <= spoiled {
				took = 200 * time.Millisecond
			}
			time.Sleep(took)
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		}
		node := func(region string) EdgeRegion {
			return EdgeRegion{Name: region, State: "up", Nodes: []EdgeNode{{ID: region + "-1", HTTP: "http://" + region + "-1"}}}
		}
		s := &Session{
			conn: &connection{region: "us", node: "us-1"}, edge: Edge{Regions: []EdgeRegion{node("us"), node("eu")}},
			shaken: make(chan struct{}, 1), turn: make(chan struct{}, 1), http: &http.Client{Transport: roundTripper(timing)},
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.settleDown(ctx)
		s.NetworkChanged()
		wished := func() string { s.mu.Lock(); defer s.mu.Unlock(); return s.wish }
		began := time.Now()
		for time.Since(began) < time.Minute && wished() == "" {
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, "eu", wished())
		require.Less(t, time.Since(began), 30*time.Second)
		rounds := asked["us-1"] / (1 + probeTimes)
		require.Equal(t, 2+steadily, rounds)
		time.Sleep(time.Minute)
		require.Equal(t, rounds, asked["us-1"]/(1+probeTimes), "and then it is at rest")
	})
}

// A region that turns clients away would get them back from those who measure
// that it is near.
func TestFullRegionsAreNotMovedTo(t *testing.T) {
	region := func(name string, load float64) EdgeRegion {
		return EdgeRegion{Name: name, State: "up", Load: load, Nodes: []EdgeNode{{ID: name + "-1", HTTP: "http://" + name}}}
	}
	s := &Session{
		conn: &connection{region: "us", node: "us-1"},
		edge: Edge{Regions: []EdgeRegion{region("us", 1.2), region("eu", 0.9), region("ap", 0.5)}},
	}
	here, bases := s.probed()
	require.Equal(t, "us", here)
	require.Equal(t, map[string]string{"us": "http://us", "ap": "http://ap"}, bases)
}
