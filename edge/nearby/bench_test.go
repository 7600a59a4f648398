package nearby

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// city puts people into a square of 40 × 40 km.
func city(b *testing.B, m *Map, n int) (users []string, at []geo.Point) {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	until := time.Now().Add(time.Hour)
	for i := range n {
		users = append(users, fmt.Sprintf("%08x-0000-4000-8000-000000000000", i))
		at = append(at, geo.Point{Lat: 52.34 + 0.36*rng.Float64(), Lng: 13.1 + 0.59*rng.Float64()})
		m.Put(users[i], "somebody", exactView(at[i]), until)
	}
	return users, at
}

func BenchmarkPut(b *testing.B) {
	m := soleMap(nil)
	const n = 100_000
	users, at := city(b, m, n)
	until := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := &at[i%n]
		p.Lat += 0.0001
		m.Put(users[i%n], "somebody", exactView(*p), until)
	}
}

func BenchmarkNear(b *testing.B) {
	m := soleMap(nil)
	const n = 100_000
	users, at := city(b, m, n)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		got, err := m.Near(b.Context(), users[i%n], "", at[i%n], 1000, 20)
		require.NoError(b, err)
		require.NotEmpty(b, got.People)
	}
}
