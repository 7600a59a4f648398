package fence

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/replay/gpx"
	"github.com/mustermesh/muster/geo"
)

// recorded returns the recorded tracks (their origin and licence stand beside
// them), as far as their points carry times. Where somebody went on while the
// recorder was off for minutes, nobody knows how: there a new track begins.
func recorded(t testing.TB) map[string][]gpx.Point {
	all := map[string][]gpx.Point{}
	for _, name := range []string{"around-visnjan-with-car", "cerknicko-jezero", "korita-zbevnica"} {
		part := 1
		f, err := os.Open(filepath.Join("..", "..", "bench", "replay", "testdata", name+".gpx"))
		require.NoError(t, err)
		segments, err := gpx.Read(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for _, s := range segments {
			for _, p := range s {
				key := fmt.Sprint(name, " ", part)
				if n := len(all[key]); n > 0 {
					last := all[key][n-1]
					if !p.Time.After(last.Time) {
						continue
					}
					if p.Time.Sub(last.Time) > 5*time.Minute && geo.Distance(p.Point, last.Point) > 100 {
						part++
						key = fmt.Sprint(name, " ", part)
					}
				}
				if !p.Time.IsZero() {
					all[key] = append(all[key], p)
				}
			}
		}
	}
	return all
}

// wayOf takes a recorded track for the truth: straight lines between its points,
// and a stay of two minutes before and after.
func wayOf(ps []gpx.Point) (w way, origin geo.Point) {
	origin = ps[0].Point
	const stay = 120
	w.at, w.p = []float64{0}, []xy{{}}
	for _, p := range ps {
		from := geo.Distance(origin, p.Point)
		bearing := geo.Bearing(origin, p.Point) * math.Pi / 180
		w.at = append(w.at, stay+p.Time.Sub(ps[0].Time).Seconds())
		w.p = append(w.p, xy{from * math.Sin(bearing), from * math.Cos(bearing)})
	}
	for range 4 {
		w.at, w.p = append(w.at, w.end()+stay/4), append(w.p, w.p[len(w.p)-1])
	}
	return w, origin
}

// visits counts how often a way gets margin metres inside, after having been as
// far outside.
func (w *way) visits(center xy, radius, margin float64) (enters, exits int) {
	inside := false
	for i := range w.p {
		parts := 1
		if i > 0 {
			parts += int(w.p[i-1].far(w.p[i]) / 5)
		}
		for s := range parts {
			p := w.p[i]
			if i > 0 {
				p = w.p[i-1].to(p, float64(s+1)/float64(parts))
			}
			d := p.far(center) - radius
			if !inside && d < -margin {
				inside = true
				enters++
			} else if inside && d > margin {
				inside = false
				exits++
			}
		}
	}
	return enters, exits
}

// clearFences returns circles whose edges the way dwells at, and which it visits
// once, whichever margin up to far one has.
func clearFences(w *way, r *rand.Rand, n int, near, far float64) (fences []Circle, centers []xy) {
	for range 200 * n {
		if len(fences) == n {
			break
		}
		radius := far + 300*r.Float64()
		i := r.IntN(len(w.p))
		center := w.p[i].plus(polar(2*math.Pi*r.Float64(), radius))
		e1, x1 := w.visits(center, radius, near)
		e2, x2 := w.visits(center, radius, far)
		if e1 == 1 && x1 == 1 && e2 == 1 && x2 == 1 && w.p[0].far(center) > radius+far && w.p[len(w.p)-1].far(center) > radius+far {
			fences, centers = append(fences, Circle{Radius: radius}), append(centers, center)
		}
	}
	return fences, centers
}

// The recorded tracks, as phones of several accuracies would have sent them, and
// as they were recorded: each visit is told once. Thinned to 30 s none is missed,
// unless the way bends so much in between that the straight line doesn't make it.
func TestRecordedTracks(t *testing.T) {
	all := recorded(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w, origin := wayOf(all[name])
		for _, kind := range []string{"1 s, accuracy 5 m", "5 s, accuracy 15 m", "30 s, accuracy 8 m", "as recorded", "thinned to 30 s"} {
			r := seeded(7)
			accuracy, every := 8.0, 0.0
			switch kind {
			case "1 s, accuracy 5 m":
				accuracy, every = 5, 1
			case "5 s, accuracy 15 m":
				accuracy, every = 15, 5
			case "30 s, accuracy 8 m":
				every = 30
			}
			visits, enters, exits, naives, bent := 0, 0, 0, 0, 0
			circles, centers := clearFences(&w, r, tracks(t, 400), 0.5*accuracy, 8*accuracy)
			for i, c := range circles {
				c.Center = centers[i].on(origin)
				a, err := compile(Shape{Circle: &c})
				require.NoError(t, err)
				var fs []Fix
				if every > 0 {
					fs = w.fixes(&phone{r: r, accuracy: accuracy}, every, origin, nil)
				} else {
					last := math.Inf(-1)
					for k, s := range w.at {
						if kind == "as recorded" || s-last >= 30 {
							fs = append(fs, Fix{At: at(s), Point: w.p[k].on(origin), Accuracy: accuracy})
							last = s
						}
					}
				}
				var straight way
				for _, f := range fs {
					s := f.At.Sub(epoch).Seconds()
					straight.at, straight.p = append(straight.at, s), append(straight.p, w.where(s))
				}
				e1, x1 := straight.visits(centers[i], c.Radius, 0.5*accuracy)
				e2, x2 := straight.visits(centers[i], c.Radius, 8*accuracy)
				if e1 != 1 || x1 != 1 || e2 != 1 || x2 != 1 {
					bent++
					continue
				}
				e, x := count(run(t, mustEngine(t, Config{}, Fence{ID: "f", Shape: Shape{Circle: &c}}), "s", fs))
				ne, nx := naive(a, fs)
				visits, enters, exits, naives = visits+1, enters+e, exits+x, naives+ne+nx
				if e != 1 || x != 1 {
					t.Errorf("%s, %s: %d enters, %d exits, naive %d, %d: radius %.0f", name, kind, e, x, ne, nx, c.Radius)
				}
			}
			if visits > 0 {
				t.Logf("%-26s %-19s %4d visits: %4d enters %4d exits; naive: %5d events; %d left out, for bends", name, kind, visits, enters, exits, naives, bent)
			}
		}
	}
}
