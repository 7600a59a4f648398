package fence

import (
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/mustermesh/muster/geo"
)

// What the simulations share: people who move on known ways, what their phones
// say about it, and what must be told.

var epoch = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)).Round(time.Millisecond))
}

// tracks returns how many tracks to run where full are due with
// MUSTER_FENCE_TRACKS=20000. Without it, it is a twentieth of them.
func tracks(t testing.TB, full int) int {
	n := 1000
	if v := os.Getenv("MUSTER_FENCE_TRACKS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatalf("MUSTER_FENCE_TRACKS: %v", err)
		}
	}
	return max(full*n/20_000, 1)
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 5)) }

// xy is a place in metres east and north of an origin.
type xy struct{ x, y float64 }

func (p xy) plus(q xy) xy             { return xy{p.x + q.x, p.y + q.y} }
func (p xy) times(f float64) xy       { return xy{p.x * f, p.y * f} }
func (p xy) to(q xy, part float64) xy { return p.times(1 - part).plus(q.times(part)) }
func (p xy) far(q xy) float64         { return math.Hypot(p.x-q.x, p.y-q.y) }
func (p xy) on(origin geo.Point) geo.Point {
	return geo.Destination(origin, math.Atan2(p.x, p.y)*180/math.Pi, math.Hypot(p.x, p.y))
}
func polar(angle, r float64) xy { return xy{r * math.Cos(angle), r * math.Sin(angle)} }

// way is where somebody was: straight lines between places at times.
type way struct {
	at []float64 // seconds
	p  []xy
}

// walk goes on to a place at a speed in m/s, and stays for some seconds.
func (w *way) walk(to xy, speed, stay float64) {
	if len(w.p) == 0 {
		w.at, w.p = append(w.at, 0), append(w.p, to)
	} else {
		last := len(w.p) - 1
		w.at, w.p = append(w.at, w.at[last]+max(w.p[last].far(to)/speed, 0.001)), append(w.p, to)
	}
	if stay > 0 {
		w.at, w.p = append(w.at, w.at[len(w.at)-1]+stay), append(w.p, to)
	}
}

func (w *way) end() float64 { return w.at[len(w.at)-1] }

func (w *way) where(t float64) xy {
	for i := 1; i < len(w.at); i++ {
		if t <= w.at[i] {
			return w.p[i-1].to(w.p[i], (t-w.at[i-1])/(w.at[i]-w.at[i-1]))
		}
	}
	return w.p[len(w.p)-1]
}

// phone makes fixes of where somebody is. Its errors are normal, with the 68 %
// that it claims; most of each is that of the fix before, as with real receivers
// it is for half a minute and more.
type phone struct {
	r        *rand.Rand
	accuracy float64
	drift    xy
	last     float64
	started  bool
}

const driftShare, driftTime = 0.7, 30.0 // of the variance; seconds

func (p *phone) fix(t float64, where xy, origin geo.Point) Fix {
	keep := 0.0
	if p.started {
		keep = math.Exp(-(t - p.last) / driftTime)
	}
	p.started, p.last = true, t
	fresh := math.Sqrt(1 - keep*keep)
	p.drift = p.drift.times(keep).plus(xy{p.r.NormFloat64(), p.r.NormFloat64()}.times(fresh))
	white := xy{p.r.NormFloat64(), p.r.NormFloat64()}
	acc := p.accuracy * (0.7 + 0.6*p.r.Float64())
	off := p.drift.times(math.Sqrt(driftShare)).plus(white.times(math.Sqrt(1 - driftShare))).times(acc / 1.5096)
	return Fix{At: at(t), Point: where.plus(off).on(origin), Accuracy: acc}
}

// fixes returns what a phone says of a way, every so many seconds, but in gaps.
func (w *way) fixes(p *phone, every float64, origin geo.Point, gap func(t float64) bool) []Fix {
	var fs []Fix
	for t := 0.0; t <= w.end(); t += every * (0.9 + 0.2*p.r.Float64()) {
		if gap == nil || !gap(t) {
			fs = append(fs, p.fix(t, w.where(t), origin))
		}
	}
	return fs
}

// naive counts the enters and exits of an engine that believes each fix.
func naive(a *area, fs []Fix) (enters, exits int) {
	inside := false
	for _, f := range fs {
		now := a.distance(f.Point.Vec()) <= 0
		if now && !inside {
			enters++
		} else if !now && inside {
			exits++
		}
		inside = now
	}
	return enters, exits
}

// origins are where the simulations take place.
var origins = []geo.Point{
	{Lat: 45.3, Lng: 14.0}, {Lat: 0, Lng: 0}, {Lat: -33.9, Lng: 18.4}, {Lat: 64.1, Lng: -21.9},
	{Lat: 12, Lng: 180}, {Lat: -17, Lng: -179.9999}, {Lat: 89.999, Lng: 20}, {Lat: -90, Lng: 0},
}

func mustEngine(t testing.TB, cfg Config, fences ...Fence) *Engine {
	e := New(cfg)
	for _, f := range fences {
		if _, err := e.Add(nil, f); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func circle(center geo.Point, radius float64) Shape {
	return Shape{Circle: &Circle{Center: center, Radius: radius}}
}

// convex returns a polygon with corners on a circle.
func convex(r *rand.Rand, origin geo.Point, radius float64, corners int) Shape {
	turn := r.Float64()
	var ring []geo.Point
	for i := range corners {
		ring = append(ring, polar((float64(i)+turn)*2*math.Pi/float64(corners), radius).on(origin))
	}
	return Shape{Polygon: [][]geo.Point{ring}}
}

// run observes fixes as they come and returns all that was told.
func run(t testing.TB, e *Engine, subject string, fs []Fix) []Event {
	var events []Event
	for _, f := range fs {
		var err error
		events, _, err = e.Observe(events, subject, f)
		if err != nil {
			t.Fatal(err)
		}
	}
	return events
}

func count(events []Event) (enters, exits int) {
	for _, ev := range events {
		if ev.Kind == Enter {
			enters++
		} else {
			exits++
		}
	}
	return enters, exits
}
