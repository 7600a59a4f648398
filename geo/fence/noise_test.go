package fence

import (
	"math"
	"testing"
)

// Somebody comes, waits at the edge, goes in, stays, waits at the edge again, and
// leaves: one enter and one exit.
func TestStopAndGoAtTheEdge(t *testing.T) {
	n := tracks(t, 20_000)
	wrong, naives, total := 0, 0, 0
	for i := range n {
		r := seeded(uint64(i))
		origin := origins[i%len(origins)]
		accuracy := 3 + 22*r.Float64()
		edge := 5*accuracy + 200*r.Float64() // from the middle
		shape := circle(origin, edge)
		if i%3 == 1 {
			corners := 3 + r.IntN(8)
			shape = convex(r, origin, edge/math.Cos(math.Pi/float64(corners)), corners)
		}
		a, err := compile(shape)
		if err != nil {
			t.Fatal(err)
		}
		edgeAt := func(angle float64) float64 { // from the centre to the edge
			lo, hi := 0.0, 2*edge
			for range 40 {
				if mid := (lo + hi) / 2; a.distance(polar(angle, mid).on(origin).Vec()) < 0 {
					lo = mid
				} else {
					hi = mid
				}
			}
			return lo
		}
		speed := []float64{0.8, 1.4, 3, 12}[r.IntN(4)]
		every := []float64{1, 1, 2, 5, 10, 30}[r.IntN(6)]
		var w way
		angle := 2 * math.Pi * r.Float64()
		w.walk(polar(angle, edgeAt(angle)+100+8*accuracy), speed, 0)
		for range 1 + r.IntN(4) {
			w.walk(polar(angle, edgeAt(angle)+accuracy*(r.Float64()-0.5)), speed, 400*r.Float64())
		}
		in := w.end()
		w.walk(xy{}, speed, 60+2*every+200*r.Float64())
		angle = 2 * math.Pi * r.Float64()
		out := w.end()
		for range 1 + r.IntN(4) {
			w.walk(polar(angle, edgeAt(angle)+accuracy*(r.Float64()-0.5)), speed, 400*r.Float64())
		}
		w.walk(polar(angle, edgeAt(angle)+100+8*accuracy), speed, 60)
		p := &phone{r: r, accuracy: accuracy}
		fs := w.fixes(p, every, origin, nil)
		events := run(t, mustEngine(t, Config{}, Fence{ID: "f", Shape: shape}), "s", fs)
		enters, exits := count(events)
		ne, nx := naive(a, fs)
		naives += ne + nx
		total += enters + exits
		if enters != 1 || exits != 1 {
			if wrong++; wrong < 20 {
				t.Errorf("track %d: %d enters, %d exits (naive: %d, %d): accuracy %.0f, every %v, speed %v, radius %.0f", i, enters, exits, ne, nx, accuracy, every, speed, edge)
				for _, ev := range events {
					t.Logf("   %v %v %.0f %v (in by %.0f out from %.0f, end %.0f)", ev.N, ev.Kind, ev.At.Sub(epoch).Seconds(), ev.Crossed, in, out, w.end())
				}
			}
		}
	}
	t.Logf("%d tracks: %d events told, %d wrong; naive: %d events", n, total, wrong, naives)
}
