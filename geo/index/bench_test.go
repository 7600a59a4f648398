package index_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// The city of the benchmarks: a square of 40 km by 40 km.
var city = geo.Point{Lat: 52.52, Lng: 13.405}

const (
	cityLat = 20_000 / 111_195.0
	cityLng = cityLat / 0.6085
)

func inCity(r *rand.Rand) geo.Point {
	return geo.Point{Lat: city.Lat + (2*r.Float64()-1)*cityLat, Lng: city.Lng + (2*r.Float64()-1)*cityLng}
}

// fleet is a city full of points, with the index that has them.
type fleet struct {
	x  *index.Index
	at []geo.Point
	r  *rand.Rand
}

func newFleet(b testing.TB, points int) *fleet {
	f := &fleet{x: index.New(), at: make([]geo.Point, points), r: rand.New(rand.NewPCG(9, 9))}
	for i := range f.at {
		f.at[i] = inCity(f.r)
		_, err := f.x.Upsert(uint64(i), f.at[i], 1, 0)
		require.NoError(b, err)
	}
	return f
}

// move is what a benchmark has ready, so that it doesn't measure its own memory.
type move struct {
	id uint64
	to geo.Point
}

// moves returns moves of random points by about 10 m.
func (f *fleet) moves(n int) []move {
	all := make([]move, n)
	for i := range all {
		id := f.r.IntN(len(f.at))
		p := &f.at[id]
		p.Lat += (f.r.Float64() - 0.5) * 1.8e-4
		p.Lng += (f.r.Float64() - 0.5) * 3e-4
		all[i] = move{uint64(id), *p}
	}
	return all
}

// perCPU reports how many operations a second of this process's processor time
// is worth, which other processes don't change much. Call it before the loop, and
// what it returns after.
func perCPU(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	runtime.GC()
	before := used()
	return func() {
		spent := used() - before
		b.ReportMetric(float64(b.N)/spent.Seconds(), "ops/cpu-s")
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/op")
	}
}

var sizes = []int{100_000, 1_000_000}

func BenchmarkMove(b *testing.B) {
	for _, points := range sizes {
		b.Run(fmt.Sprintf("points=%d", points), func(b *testing.B) {
			f := newFleet(b, points)
			moves := f.moves(1 << 21)
			done := perCPU(b)
			for now := int64(2); b.Loop(); now++ {
				m := &moves[now&(1<<21-1)]
				_, _ = f.x.Upsert(m.id, m.to, now, 0)
			}
			done()
		})
	}
}

func BenchmarkNearest(b *testing.B) {
	for _, points := range sizes {
		b.Run(fmt.Sprintf("points=%d", points), func(b *testing.B) {
			f := newFleet(b, points)
			centers := f.moves(1 << 18)
			done := perCPU(b)
			var hits []index.Hit
			for i := 0; b.Loop(); i++ {
				hits = f.x.Nearest(hits[:0], centers[i&(1<<18-1)].to, 20, 1000, index.Options{})
			}
			done()
		})
	}
}

func BenchmarkWithin(b *testing.B) {
	for _, points := range sizes {
		b.Run(fmt.Sprintf("points=%d", points), func(b *testing.B) {
			f := newFleet(b, points)
			done := perCPU(b)
			var hits []index.Hit
			found := 0
			for b.Loop() {
				hits = f.x.Within(hits[:0], inCity(f.r), 1000, index.Options{})
				found += len(hits)
			}
			done()
			b.ReportMetric(float64(found)/float64(b.N), "found/op")
		})
	}
}

// A crowd in one city, one point in the middle of an ocean, and somebody beside
// it who asks for the 20 nearest anywhere.
func BenchmarkNearestFarAway(b *testing.B) {
	f := newFleet(b, 1_000_000)
	_, err := f.x.Upsert(1<<40, geo.Point{Lat: -48.9, Lng: -123.4}, 1, 0)
	require.NoError(b, err)
	done := perCPU(b)
	var hits []index.Hit
	for b.Loop() {
		hits = f.x.Nearest(hits[:0], geo.Point{Lat: -48, Lng: -123}, 20, 2.1e7, index.Options{})
	}
	done()
}

func BenchmarkInsert(b *testing.B) {
	r := rand.New(rand.NewPCG(9, 9))
	x := index.New()
	done := perCPU(b)
	for id := uint64(0); b.Loop(); id++ {
		_, _ = x.Upsert(id, inCity(r), 1, 0)
	}
	done()
}

// Readers and writers on all processors: three moves for each query.
func BenchmarkMixedParallel(b *testing.B) {
	f := newFleet(b, 1_000_000)
	var seed atomic.Uint64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		n := seed.Add(1)
		r := rand.New(rand.NewPCG(n, n))
		var hits []index.Hit
		for now := int64(2); pb.Next(); now++ {
			if now%4 == 0 {
				hits = f.x.Nearest(hits[:0], inCity(r), 20, 1000, index.Options{})
				continue
			}
			id := r.Uint64N(uint64(len(f.at)))
			p := f.at[id]
			p.Lat += (r.Float64() - 0.5) * 1.8e-4
			_, _ = f.x.Upsert(id, p, now, 0)
		}
	})
}

// BenchmarkMemory tells what a point takes on the heap, after everybody has moved
// a few times, and what the points cost the garbage collector.
func BenchmarkMemory(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, points := range sizes {
		b.Run(fmt.Sprintf("points=%d", points), func(b *testing.B) {
			for b.Loop() {
				x, r := index.New(), rand.New(rand.NewPCG(9, 9))
				before := heap()
				for id := range points {
					_, _ = x.Upsert(uint64(id), inCity(r), 1, 0)
				}
				for range 2 * points { // elsewhere: buckets fill and empty
					_, _ = x.Upsert(r.Uint64N(uint64(points)), inCity(r), 2, 0)
				}
				b.ReportMetric(float64(heap()-before)/float64(points), "B/point")
				start := time.Now()
				runtime.GC()
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/GC")
				runtime.KeepAlive(x)
			}
		})
	}
}
