package nearby

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// town is what benchmarks go to: people, or the subjects of a fleet, in a square of 40 × 40 km.
type town struct {
	m     *Map
	rng   *rand.Rand
	users []string
	at    []geo.Point
	start time.Time
	until time.Time
}

func newTown(b *testing.B, fleet string, n int) *town {
	b.Helper()
	now := time.Now()
	t := &town{m: soleMap(nil), rng: rand.New(rand.NewPCG(1, 1)), start: now, until: now.Add(time.Hour)}
	for i := range n {
		user := fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)
		if fleet != "" {
			user = edge.Subject(fleet, fmt.Sprint("scooter-", i))
		}
		t.users = append(t.users, user)
		t.at = append(t.at, geo.Point{Lat: 52.34 + 0.36*t.rng.Float64(), Lng: 13.11 + 0.59*t.rng.Float64()})
		t.m.Put(user, "somebody", t.view(t.at[i], 0), t.until)
	}
	return t
}

func (t *town) view(at geo.Point, n int) grant.View {
	return grant.View{Point: at, Precision: grant.Exact, Accuracy: 5, Captured: t.start.Add(time.Duration(n) * time.Microsecond)}
}

// step10m is a move as it comes in: the name has just been read, and is nobody else's.
type step10m struct {
	user string
	to   geo.Point
}

func (t *town) steps(n int, inTurn bool) []step10m {
	all := make([]step10m, n)
	for i := range all {
		id := i % len(t.users)
		if !inTurn {
			id = t.rng.IntN(len(t.users))
		}
		p := &t.at[id]
		p.Lat += (t.rng.Float64() - 0.5) * 1.8e-4
		p.Lng += (t.rng.Float64() - 0.5) * 3e-4
		all[i] = step10m{strings.Clone(t.users[id]), *p}
	}
	return all
}

// perCPU reports what an operation takes of this process's processor time, which
// other processes don't change much.
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
		b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/op")
	}
}

var sizes = []int{100_000, 1_000_000}

// BenchmarkPut moves somebody by 10 m: anybody, or all in turn, as those do who
// report in the same rhythm.
func BenchmarkPut(b *testing.B) {
	for _, inTurn := range []bool{false, true} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("in-turn=%v/points=%d", inTurn, n), func(b *testing.B) { benchmarkPut(b, inTurn, n) })
		}
	}
}

func benchmarkPut(b *testing.B, inTurn bool, n int) {
	t := newTown(b, "", n)
	const some = 1 << 20
	steps := t.steps(some, inTurn)
	done := perCPU(b)
	for i := 0; b.Loop(); i++ {
		s := &steps[i%some]
		t.m.Put(s.user, "somebody", t.view(s.to, i), t.until)
	}
	done()
}

// BenchmarkNear asks for the 20 nearest within 1 km, where there are 196 or 1,960.
func BenchmarkNear(b *testing.B) {
	for _, fleet := range []string{"", "00000000-0000-4000-8000-000000000000"} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("fleet=%v/points=%d", fleet != "", n), func(b *testing.B) {
				t := newTown(b, fleet, n)
				const some = 1 << 18
				steps := t.steps(some, false)
				for i := range steps { // as all of them have, by and by
					t.m.Put(steps[i].user, "somebody", t.view(steps[i].to, i), t.until)
				}
				done := perCPU(b)
				for i := 0; b.Loop(); i++ {
					s := &steps[i%some]
					got, err := t.m.Near(b.Context(), s.user, fleet, s.to, 1000, 20)
					if err != nil || len(got.People) == 0 {
						b.Fatal(err)
					}
				}
				done()
			})
		}
	}
}

// BenchmarkMemory tells what somebody takes whom this node publishes and owns, and
// what that costs the garbage collector.
func BenchmarkMemory(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, n := range sizes {
		b.Run(fmt.Sprintf("points=%d", n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				t := newTown(b, "", n)
				t.users, t.at = nil, nil
				b.ReportMetric(float64(heap()-before)/float64(n), "B/point")
				start := time.Now()
				runtime.GC()
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/GC")
				runtime.KeepAlive(t.m)
			}
		})
	}
}
