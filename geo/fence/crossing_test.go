package fence

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Drives through a fence with a fix every 30 s: each is told, with the times at
// which the edge was passed, also if no fix was inside.
func TestNoCrossingIsMissedAtThirtySeconds(t *testing.T) {
	n := tracks(t, 20_000)
	missed, naiveMissed, between := 0, 0, 0
	worst := 0.0
	for i := range n {
		r := seeded(uint64(i))
		origin := origins[i%len(origins)]
		accuracy := 3 + 12*r.Float64()
		speed := 3 + 37*r.Float64()
		radius := 6*accuracy + 150*r.Float64()
		// A straight road that passes the middle so near that it is well inside.
		aside := (radius - 5*accuracy) * (2*r.Float64() - 1)
		angle := 2 * math.Pi * r.Float64()
		dir, side := polar(angle, 1), polar(angle+math.Pi/2, aside)
		from := radius + 200 + 60*speed*r.Float64()
		var w way
		w.walk(dir.times(-from).plus(side), speed, 0)
		w.walk(dir.times(radius+200+90*speed).plus(side), speed, 0)
		shape := circle(origin, radius)
		if i%3 == 1 {
			corners := 4 + r.IntN(8)
			shape = convex(r, origin, radius/math.Cos(math.Pi/float64(corners)), corners)
		}
		a, err := compile(shape)
		require.NoError(t, err)
		fs := w.fixes(&phone{r: r, accuracy: accuracy}, 30, origin, nil)
		events := run(t, mustEngine(t, Config{}, Fence{ID: "f", Shape: shape}), "s", fs)
		if ne, _ := naive(a, fs); ne == 0 {
			naiveMissed++
		}
		enters, exits := count(events)
		if enters != 1 || exits != 1 {
			missed++
			t.Errorf("track %d: %d enters, %d exits: accuracy %.0f, speed %.0f, radius %.0f, aside %.0f", i, enters, exits, accuracy, speed, radius, aside)
			continue
		}
		if events[0].Crossed {
			between++
		}
		// The times are right to what the errors of the places allow.
		half := 0.0
		for a.distance(dir.times(half).plus(side).on(origin).Vec()) < 0 {
			half += 0.1
		}
		out := (from + half) / speed
		worst = max(worst, math.Abs(events[1].At.Sub(epoch).Seconds()-out)*speed/accuracy)
	}
	t.Logf("%d drives: %d missed, %d told by the path alone; naive missed %d; exit times are at worst %.1f accuracies off", n, missed, between, naiveMissed, worst)
	require.Less(t, worst, 25.0)
}

// Near misses: a road that stays outside by more than its errors is never told.
func TestRoadsBesideAFenceAreNotTold(t *testing.T) {
	for i := range tracks(t, 20_000) {
		r := seeded(uint64(i))
		origin := origins[i%len(origins)]
		accuracy := 3 + 12*r.Float64()
		speed := 1 + 30*r.Float64()
		radius := 6*accuracy + 150*r.Float64()
		aside := radius + accuracy*(1+3*r.Float64())
		var w way
		w.walk(xy{-1000, aside}, speed, 0)
		w.walk(xy{1000, aside}, speed, 0)
		fs := w.fixes(&phone{r: r, accuracy: accuracy}, []float64{1, 5, 30}[i%3], origin, nil)
		events := run(t, mustEngine(t, Config{}, Fence{ID: "f", Shape: circle(origin, radius)}), "s", fs)
		require.Empty(t, events, "track %d: accuracy %.0f, speed %.0f, radius %.0f, aside %.0f", i, accuracy, speed, radius, aside)
	}
}
