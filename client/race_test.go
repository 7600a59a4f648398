package client

import (
	"testing"
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
	}
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
