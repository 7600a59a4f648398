package room

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// BenchmarkInterest is the memory that rooms take in a region where nobody is in
// them, since another region's owner asked to follow them: docs/scale.md counts
// with it.
func BenchmarkInterest(b *testing.B) {
	for _, n := range []int{10, 50, 200} {
		b.Run(fmt.Sprint(n, " regions"), func(b *testing.B) {
			cfg := Config{Region: "r000"}
			for i := 1; i < n; i++ {
				cfg.Others = append(cfg.Others, regions.RegionID(fmt.Sprintf("r%03d", i)))
			}
			cfg = cfg.WithDefaults()
			const rooms = 2000
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				var all []*Room
				for i := range rooms {
					r := New(&cfg, fmt.Sprintf("group:8c0e3e3e-7d2c-4a0a-9a53-%012d", i), 7, 0, time.Unix(1, 0))
					r.Subscribe(time.Unix(1, 0), "r001", &peer.Subscribe{Room: r.id})
					all = append(all, r)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/rooms, "B/room")
				runtime.KeepAlive(all)
			}
		})
	}
}

// BenchmarkMembers is the memory that a member takes at an owner.
func BenchmarkMembers(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		const rooms, members = 500, 20
		var all []*Room
		for range rooms {
			r, _, _ := crowd(members)
			all = append(all, r)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/rooms/members, "B/member")
		runtime.KeepAlive(all)
	}
}
