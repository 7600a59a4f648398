package fence

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// city is 2,000 fences on a square of 40 × 40 km, half of them circles, the
// others polygons and sets of cells, and subjects who drive about with a fix each
// second.
type city struct {
	e        *Engine
	names    []string
	place    []xy
	speed    []xy
	r        *rand.Rand
	now, who int
}

const half = 20_000

func newCity(t testing.TB, fences, subjects int, cfg Config) *city {
	c := &city{e: New(cfg), r: seeded(3)}
	for i := range fences {
		center := xy{half * (2*c.r.Float64() - 1), half * (2*c.r.Float64() - 1)}.on(home)
		f := Fence{ID: fmt.Sprint("fence-", i), Shape: circle(center, 50+250*c.r.Float64())}
		switch i % 4 {
		case 2:
			f.Shape = convex(c.r, center, 50+250*c.r.Float64(), 4+c.r.IntN(20))
		case 3:
			cell, err := h3.CellOf(center, 9)
			require.NoError(t, err)
			f.Shape = Shape{}
			f.Shape.Cells, err = h3.Disk(cell, 1)
			require.NoError(t, err)
		}
		_, err := c.e.Add(nil, f)
		require.NoError(t, err)
	}
	for i := range subjects {
		c.names = append(c.names, fmt.Sprint("subject-", i))
		c.place = append(c.place, xy{half * (2*c.r.Float64() - 1), half * (2*c.r.Float64() - 1)})
		c.speed = append(c.speed, polar(7*c.r.Float64(), 2+15*c.r.Float64()))
	}
	return c
}

// next returns the next subject's fix.
func (c *city) next() (string, Fix) {
	i := c.who
	if c.who++; c.who == len(c.names) {
		c.who, c.now = 0, c.now+1
	}
	p := &c.place[i]
	if *p = p.plus(c.speed[i]); p.x > half || p.x < -half {
		c.speed[i].x = -c.speed[i].x
	}
	if p.y > half || p.y < -half {
		c.speed[i].y = -c.speed[i].y
	}
	noise := xy{c.r.NormFloat64(), c.r.NormFloat64()}.times(3)
	// Flat here: a kilometre is one, near enough.
	q := p.plus(noise)
	return c.names[i], Fix{
		At:       epoch.Add(time.Duration(c.now)*time.Second + time.Duration(i%1000)*time.Millisecond),
		Point:    geo.Point{Lat: home.Lat + q.y/111_195, Lng: home.Lng + q.x/78_200},
		Accuracy: 4 + float64(i%8),
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkObserve(b *testing.B, fences, subjects int, late bool) {
	c := newCity(b, fences, subjects, Config{})
	// Steady: the windows are full.
	for range subjects * 130 {
		who, f := c.next()
		_, _, _ = c.e.Observe(nil, who, f)
	}
	var dst []Event
	events := 0
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		who, f := c.next()
		if late && c.r.IntN(20) == 0 {
			f.At = f.At.Add(-9500 * time.Millisecond)
		}
		var err error
		if dst, _, err = c.e.Observe(dst[:0], who, f); err != nil {
			b.Fatal(err)
		}
		events += len(dst)
	}
	// Of the processor, which neighbours may keep busy.
	b.ReportMetric(float64(b.N)/(cpuTime()-cpu).Seconds(), "fixes/cpu-s")
	b.ReportMetric(float64(events)/float64(b.N), "events/fix")
}

func BenchmarkObserve(b *testing.B) {
	b.Run("2000fences-1000subjects", func(b *testing.B) { benchmarkObserve(b, 2000, 1000, false) })
	b.Run("2000fences-10000subjects", func(b *testing.B) { benchmarkObserve(b, 2000, 10_000, false) })
	b.Run("2000fences-1000subjects-5%late", func(b *testing.B) { benchmarkObserve(b, 2000, 1000, true) })
	b.Run("1fence-1subject", func(b *testing.B) { benchmarkObserve(b, 1, 1, false) })
}

func BenchmarkPair(b *testing.B) {
	e := New(Config{})
	_, err := e.AddPair(nil, Pair{ID: "p", A: "a", B: "b", Radius: 200})
	require.NoError(b, err)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		who := "a"
		if i%2 == 1 {
			who = "b"
		}
		_, _, _ = e.Observe(nil, who, Fix{At: epoch.Add(time.Duration(i) * time.Second), Point: geo.Point{Lat: 45, Lng: 14 + float64(i%1000)*1e-5*float64(i%2)}, Accuracy: 5})
		i++
	}
}

// A fix costs no allocation once its subject's window is full.
func TestObserveDoesNotAllocate(t *testing.T) {
	c := newCity(t, 2000, 20, Config{})
	dst := make([]Event, 0, 100)
	observe := func() {
		who, f := c.next()
		dst, _, _ = c.e.Observe(dst[:0], who, f)
	}
	for range 20 * 1000 {
		observe()
	}
	// The lists of fences that are near grow now and then.
	require.Less(t, testing.AllocsPerRun(10_000, observe), 1.0)
}
