package index_test

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

func ids(hits []index.Hit) []uint64 {
	all := []uint64{}
	for _, h := range hits {
		all = append(all, h.ID)
	}
	return all
}

func put(t *testing.T, x *index.Index, id uint64, p geo.Point, captured, expires int64) bool {
	t.Helper()
	did, err := x.Upsert(id, p, captured, expires)
	require.NoError(t, err)
	return did
}

func TestLateFixesNeverReplace(t *testing.T) {
	x := index.New()
	here, there := geo.Point{Lat: 1, Lng: 1}, geo.Point{Lat: 2, Lng: 2}
	require.True(t, put(t, x, 7, here, 100, 0))
	require.False(t, put(t, x, 7, there, 99, 0))
	got, ok := x.Get(7)
	require.True(t, ok)
	require.Equal(t, index.Hit{ID: 7, Point: here, Captured: 100}, got)
	require.True(t, put(t, x, 7, there, 100, 500), "as late is not earlier")
	got, _ = x.Get(7)
	require.Equal(t, index.Hit{ID: 7, Point: there, Captured: 100, Expires: 500}, got)
	require.Equal(t, []uint64{7}, ids(x.Within(nil, there, 0, index.Options{})))
	require.Empty(t, x.Within(nil, here, 10, index.Options{}))
	require.True(t, x.Remove(7))
	require.False(t, x.Remove(7))
	_, ok = x.Get(7)
	require.False(t, ok)
	require.True(t, put(t, x, 7, here, 1, 0), "what was removed has no past")
}

func TestExpiry(t *testing.T) {
	x := index.New()
	p := geo.Point{Lat: 10, Lng: 20}
	put(t, x, 1, p, 0, 0)
	put(t, x, 2, p, 0, 5_000)
	put(t, x, 3, p, 0, 5_001)
	put(t, x, 4, p, 0, math.MaxInt64)
	at := func(now int64) []uint64 { return ids(x.Nearest(nil, p, 9, 1, index.Options{Now: now})) }
	require.Equal(t, []uint64{1, 2, 3, 4}, at(4_999))
	require.Equal(t, []uint64{1, 3, 4}, at(5_000))
	require.Equal(t, []uint64{1, 4}, at(5_001))
	require.Equal(t, []uint64{1, 4}, at(9_000_000))
	require.Equal(t, []uint64{1, 2, 3, 4}, at(0), "no time, no expiry")
	require.Len(t, x.Within(nil, p, 1, index.Options{Now: 5_000}), 3)
	require.Len(t, x.InCells(nil, []geo.Cell{cell(t, p, 3)}, index.Options{Now: 5_000}), 3)
	require.Empty(t, x.Expire(nil, 4_999))
	require.Equal(t, []uint64{77, 2}, x.Expire([]uint64{77}, 5_000))
	require.Equal(t, 3, x.Len())
	put(t, x, 3, p, 1, 8_000)
	require.Empty(t, x.Expire(nil, 7_999), "a later fix lives longer")
	require.Equal(t, []uint64{3}, x.Expire(nil, 8_000))
}

func cell(t *testing.T, p geo.Point, res int) geo.Cell {
	t.Helper()
	c, err := index.CellOf(p, res)
	require.NoError(t, err)
	return c
}

func TestBadInput(t *testing.T) {
	x := index.New()
	put(t, x, 1, geo.Point{}, 0, 0)
	nan := math.NaN()
	for _, p := range []geo.Point{{Lat: 91}, {Lng: -181}, {Lat: nan}, {Lng: math.Inf(1)}} {
		_, err := x.Upsert(2, p, 0, 0)
		require.Error(t, err)
		require.Empty(t, x.Nearest(nil, p, 1, 1e9, index.Options{}))
		require.Empty(t, x.Within(nil, p, 1e9, index.Options{}))
	}
	for _, radius := range []float64{-1, nan, math.Inf(-1)} {
		require.Empty(t, x.Nearest(nil, geo.Point{}, 1, radius, index.Options{}))
		require.Empty(t, x.Within(nil, geo.Point{}, radius, index.Options{}))
	}
	for _, k := range []int{0, -1, math.MinInt} {
		require.Empty(t, x.Nearest(nil, geo.Point{}, k, 1, index.Options{}))
	}
	require.Len(t, x.Nearest(nil, geo.Point{}, math.MaxInt, math.Inf(1), index.Options{}), 1)
	require.Empty(t, x.InCells(nil, nil, index.Options{}))
	require.Empty(t, x.InCells(nil, []geo.Cell{0, 1, math.MaxUint64}, index.Options{}))
	all := []geo.Cell{cell(t, geo.Point{}, 0), 5, cell(t, geo.Point{}, 15), cell(t, geo.Point{}, 8)}
	require.Equal(t, []uint64{1}, ids(x.InCells(nil, all, index.Options{})))
	_, err := index.CellOf(geo.Point{}, 16)
	require.Error(t, err)
	require.Equal(t, 1, x.Len())
}

func TestNothingIsAllocated(t *testing.T) {
	x, r := index.New(), rand.New(rand.NewPCG(3, 3))
	at := make([]geo.Point, 20_000)
	for id := range at {
		at[id] = inCity(r)
		put(t, x, uint64(id), at[id], 0, 0)
	}
	hits := make([]index.Hit, 0, len(at))
	cells := []geo.Cell{cell(t, city, 7), cell(t, city, 6), cell(t, city, 9)}
	even := index.Options{Now: 1, Keep: func(id uint64) bool { return id%2 == 0 }}
	for name, f := range map[string]func(){
		"nearest":     func() { hits = x.Nearest(hits[:0], inCity(r), 20, 1000, even) },
		"nearest far": func() { hits = x.Nearest(hits[:0], inCity(r), 64, 1e7, index.Options{}) },
		"within":      func() { hits = x.Within(hits[:0], inCity(r), 1000, even) },
		"in cells":    func() { hits = x.InCells(hits[:0], cells, even) },
		"get":         func() { _, _ = x.Get(7) },
		"remove, and again": func() {
			x.Remove(7)
			_, _ = x.Upsert(7, at[7], 0, 1)
		},
		"move 1 m": func() {
			id := r.IntN(len(at))
			p := at[id]
			p.Lat += 1e-5 * r.Float64()
			_, _ = x.Upsert(uint64(id), p, 1, 1)
		},
		"expire": func() { x.Expire(nil, 0) },
	} {
		for range 100 { // buckets grow to what they need
			f()
		}
		// Seldom one grows later.
		require.Less(t, testing.AllocsPerRun(1000, f), 1.0, name)
	}
}

// Many read and write at once: what is found was there, what stood still is
// always found, and in the end all is where it was put last.
func TestConcurrently(t *testing.T) {
	const writers, each, still, rounds = 4, 200, 300, 2000
	x := index.New()
	// A few roots, so that points go from one to another all the time.
	where := func(id uint64, n int64) geo.Point {
		r := rand.New(rand.NewPCG(id, uint64(n)))
		return geo.Point{Lat: 52.4 + 0.2*r.Float64(), Lng: 13.3 + 0.2*r.Float64()}
	}
	for id := range uint64(still) {
		put(t, x, id, where(id, 0), 0, 0)
	}
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	last := make([]map[uint64]int64, writers)
	for w := range writers {
		last[w] = map[uint64]int64{}
		writing.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for n := int64(1); n <= rounds; n++ {
				id := uint64(1000*(w+1) + r.IntN(each))
				switch r.IntN(10) {
				case 0:
					x.Remove(id)
					delete(last[w], id)
				default:
					if _, err := x.Upsert(id, where(id, n), n, 0); err != nil {
						t.Error(err)
					}
					last[w][id] = n
				}
			}
		})
	}
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if len(x.Expire(nil, 1)) > 0 {
				t.Error("nothing here expires")
			}
		}
	})
	for n := range 3 {
		reading.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(n)))
			var hits []index.Hit
			for {
				select {
				case <-done:
					return
				default:
				}
				center := where(0, r.Int64())
				radius := 20_000 * r.Float64()
				switch n {
				case 0:
					hits = x.Nearest(hits[:0], center, math.MaxInt32, radius, index.Options{})
				case 1:
					hits = x.Within(hits[:0], center, radius, index.Options{})
				default:
					radius = math.Inf(1)
					hits = x.InCells(hits[:0], x.Occupied(nil), index.Options{})
				}
				standing := 0
				for _, h := range hits {
					if h.Point != where(h.ID, h.Captured) {
						t.Errorf("%+v was never there", h)
					}
					if h.ID < still {
						standing++
					}
				}
				want := 0
				for id := range uint64(still) {
					if geo.Chord2(radius) >= center.Vec().Chord2(where(id, 0).Vec()) {
						want++
					}
				}
				if standing != want {
					t.Errorf("%d of %d that stood still were found", standing, want)
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reading.Wait()
	count := still
	for _, l := range last {
		count += len(l)
		for id, n := range l {
			got, ok := x.Get(id)
			require.True(t, ok)
			require.Equal(t, index.Hit{ID: id, Point: where(id, n), Captured: n}, got)
			require.Contains(t, ids(x.Within(nil, got.Point, 0, index.Options{})), id)
		}
	}
	require.Equal(t, count, x.Len())
	require.Len(t, x.Within(nil, geo.Point{}, math.Inf(1), index.Options{}), count)
}
