package index_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// queries returns how many queries to check: a twentieth of the full count,
// unless the environment asks for another.
func queries(t *testing.T) int {
	if s := os.Getenv("MUSTER_GEO_QUERIES"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	return 50_000
}

// oracle is the index that looks at every point.
type oracle map[uint64]*known

type known struct {
	index.Hit
	v    geo.Vec
	cell geo.Cell
}

func (o oracle) upsert(t *testing.T, id uint64, p geo.Point, captured, expires int64) bool {
	if k := o[id]; k != nil && k.Captured > captured {
		return false
	}
	cell, err := index.CellOf(p, geo.MaxResolution)
	require.NoError(t, err)
	o[id] = &known{index.Hit{ID: id, Point: p, Captured: captured, Expires: expires}, p.Vec(), cell}
	return true
}

func (k *known) wanted(opt index.Options) bool {
	return (opt.Now == 0 || k.Expires == 0 || k.Expires > opt.Now) && (opt.Keep == nil || opt.Keep(k.ID))
}

// check compares what a query found with what it should have: hits must be
// points as they are, each once, and want says which.
func (o oracle) check(hits []index.Hit, opt index.Options, want func(*known) bool) error {
	found := map[uint64]bool{}
	for _, h := range hits {
		k := o[h.ID]
		if k == nil || found[h.ID] {
			return fmt.Errorf("%d is not there, or is found twice", h.ID)
		}
		found[h.ID] = true
		if h.Point != k.Point || h.Captured != k.Captured || h.Expires != k.Expires {
			return fmt.Errorf("%d: %v instead of %v", h.ID, h, k.Hit)
		}
		if !k.wanted(opt) || !want(k) {
			return fmt.Errorf("%v should not be found", h)
		}
	}
	n := 0
	for _, k := range o {
		if k.wanted(opt) && want(k) {
			n++
		}
	}
	if opt.Limit > 0 {
		n = min(n, opt.Limit)
	}
	if n != len(hits) {
		return fmt.Errorf("%d found of %d", len(hits), n)
	}
	return nil
}

// distances compares hits with the haversine formula, which knows nothing of
// vectors and chords. Near the antipode both are coarse: by centimetres there.
func distances(q geo.Point, hits []index.Hit) error {
	for _, h := range hits {
		want := geo.Distance(q, h.Point)
		if off := 1e-6 + 0.1/max(0.3, math.Pi*geo.Radius-want); math.Abs(h.Distance-want) > off {
			return fmt.Errorf("%v is %f away, not %f", h.Point, want, h.Distance)
		}
	}
	return nil
}

func (o oracle) checkNearest(q geo.Point, k int, radius float64, hits []index.Hit, opt index.Options) error {
	v, limit := q.Vec(), geo.Chord2(radius)
	if len(hits) > k {
		return fmt.Errorf("%d found of %d", len(hits), k)
	}
	rank := func(a, b *known) int {
		return cmp.Or(cmp.Compare(v.Chord2(a.v), v.Chord2(b.v)), cmp.Compare(a.ID, b.ID))
	}
	if !slices.IsSortedFunc(hits, func(a, b index.Hit) int { return rank(o[a.ID], o[b.ID]) }) {
		return fmt.Errorf("not sorted: %v", hits)
	}
	return o.check(hits, opt, func(c *known) bool {
		return v.Chord2(c.v) <= limit && (len(hits) < k || rank(c, o[hits[k-1].ID]) <= 0)
	})
}

// special are places where grids go wrong: poles, the antimeridian, the twelve
// pentagons and the corners of base cells.
func special(t *testing.T) (points []geo.Point, pentagons []geo.Cell) {
	for _, lng := range []float64{-180, -90, 0, 90, math.Nextafter(180, 0), 180} {
		for _, lat := range []float64{-90, -45, 0, 45, 90} {
			points = append(points, geo.Point{Lat: lat, Lng: lng})
		}
	}
	for base := range 122 {
		cell := geo.Cell(1<<59 | uint64(base)<<45 | (1<<45 - 1))
		center, err := index.Center(cell)
		require.NoError(t, err)
		points = append(points, center)
		if cell.IsPentagon() {
			pentagons = append(pentagons, cell)
			points = append(points, center, center, center)
		}
	}
	return points, pentagons
}

func anywhere(r *rand.Rand) geo.Point {
	return geo.Point{Lat: math.Asin(2*r.Float64()-1) * 180 / math.Pi, Lng: 360*r.Float64() - 180}
}

// around returns a point at most so many metres away, at all magnitudes.
func around(r *rand.Rand, p geo.Point, metres float64) geo.Point {
	q := geo.Destination(p, 360*r.Float64(), metres*math.Pow(10, -6*r.Float64()))
	return geo.Point{Lat: min(max(q.Lat, -90), 90), Lng: q.Lng}
}

// world is a way to put points on the Earth.
type world struct {
	name  string
	place func(*rand.Rand) geo.Point
}

func worlds(t *testing.T) []world {
	places, pentagons := special(t)
	pick := func(r *rand.Rand) geo.Point { return places[r.IntN(len(places))] }
	berlin := geo.Point{Lat: 52.52, Lng: 13.405}
	return []world{
		{"the whole Earth", anywhere},
		{"a city", func(r *rand.Rand) geo.Point {
			return geo.Point{Lat: berlin.Lat + (r.Float64()-0.5)*0.36, Lng: berlin.Lng + (r.Float64()-0.5)*0.59}
		}},
		{"special places", func(r *rand.Rand) geo.Point { return around(r, pick(r), 1e6) }},
		{"exactly special places", pick},
		{"the poles", func(r *rand.Rand) geo.Point {
			return around(r, geo.Point{Lat: float64(r.IntN(2)*180 - 90), Lng: 360*r.Float64() - 180}, 3e5)
		}},
		{"the antimeridian", func(r *rand.Rand) geo.Point {
			return around(r, geo.Point{Lat: 4*r.Float64() - 18, Lng: 180}, 1e5)
		}},
		{"pentagons of all sizes", func(r *rand.Rand) geo.Point {
			cell := pentagons[r.IntN(12)]
			for range r.IntN(15) {
				cell = cell.Child(0)
			}
			center, _ := index.Center(cell)
			return around(r, center, geo.MaxRadius(cell.Resolution()))
		}},
		{"centres of coarse cells", func(r *rand.Rand) geo.Point {
			cell, _ := index.CellOf(around(r, berlin, 1e5), 3+r.IntN(5))
			center, _ := index.Center(cell)
			return center
		}},
		{"one crowded point", func(r *rand.Rand) geo.Point {
			if r.IntN(4) == 0 {
				return around(r, berlin, 100)
			}
			return berlin
		}},
	}
}

func TestQueriesAreExact(t *testing.T) {
	all := worlds(t)
	sizes := []int{0, 1, 2, 30, 200, 1500}
	per := queries(t)/(len(all)*len(sizes)) + 1
	total := 0
	for n, w := range all {
		t.Run(w.name, func(t *testing.T) {
			for _, size := range sizes {
				total += queryWorld(t, w, size, per, rand.New(rand.NewPCG(7, uint64(1000*n+size))))
			}
		})
	}
	if !t.Failed() {
		t.Logf("%d queries, 0 wrong", total)
	}
}

// queryWorld fills an index, and asks it while points move, go and expire.
func queryWorld(t *testing.T, w world, size, count int, r *rand.Rand) int {
	x, o := index.New(), oracle{}
	now := int64(1_000_000)
	upsert := func(id uint64, p geo.Point) {
		captured, expires := now-r.Int64N(50), now+r.Int64N(2000)-200
		if r.IntN(3) == 0 {
			expires = 0
		}
		did, err := x.Upsert(id, p, captured, expires)
		require.NoError(t, err)
		require.Equal(t, o.upsert(t, id, p, captured, expires), did)
	}
	for id := range size {
		upsert(uint64(id), w.place(r))
	}
	places, _ := special(t)
	var hits []index.Hit
	for i := range count {
		now++
		for range r.IntN(min(size, 6) + 1) { // somebody moves
			id := uint64(r.IntN(size))
			switch k := o[id]; {
			case k == nil || r.IntN(4) == 0:
				upsert(id, w.place(r))
			case r.IntN(20) == 0:
				require.True(t, x.Remove(id))
				delete(o, id)
			default:
				upsert(id, around(r, k.Point, 1000))
			}
		}
		if i%50 == 0 {
			for _, id := range x.Expire(nil, now-100) {
				require.True(t, o[id].Expires != 0 && o[id].Expires <= now-100)
				delete(o, id)
			}
			for _, k := range o {
				require.True(t, k.Expires == 0 || k.Expires > now-100)
			}
			require.Equal(t, len(o), x.Len())
		}
		var opt index.Options
		if r.IntN(2) == 0 {
			opt.Now = now
		}
		if r.IntN(8) == 0 {
			odd := r.Uint64N(3)
			opt.Keep = func(id uint64) bool { return id%3 != odd }
		}
		center := w.place(r)
		switch r.IntN(5) {
		case 0:
			center = places[r.IntN(len(places))]
		case 1:
			center = anywhere(r)
		}
		radius := math.Pow(10, 8*r.Float64()-0.3)
		switch r.IntN(20) {
		case 0:
			radius = 0
		case 1:
			radius = math.Inf(1)
		case 2:
			radius = math.Pi * geo.Radius
		}
		var err error
		switch what := r.IntN(8); {
		case what < 5:
			k := []int{1, 2, 20, 20, size, size + 5}[r.IntN(6)]
			hits = x.Nearest(hits[:0], center, k, radius, opt)
			err = cmp.Or(o.checkNearest(center, k, radius, hits, opt), distances(center, hits))
		case what < 7:
			if r.IntN(8) == 0 {
				opt.Limit = 1 + r.IntN(20)
			}
			v, limit := center.Vec(), geo.Chord2(radius)
			hits = x.Within(hits[:0], center, radius, opt)
			err = cmp.Or(o.check(hits, opt, func(k *known) bool { return v.Chord2(k.v) <= limit }), distances(center, hits))
		default:
			var cells []geo.Cell
			for range r.IntN(6) + 1 {
				cell, e := index.CellOf(around(r, center, 1e6), r.IntN(16))
				require.NoError(t, e)
				cells = append(cells, cell)
				if r.IntN(3) == 0 {
					cells = append(cells, cell.Parent(r.IntN(16)), cell.Child(r.IntN(7)))
				}
			}
			hits = x.InCells(hits[:0], cells, opt)
			err = o.check(hits, opt, func(k *known) bool {
				return slices.ContainsFunc(cells, func(c geo.Cell) bool { return c != 0 && c.Contains(k.cell) })
			})
		}
		require.NoError(t, err, "%d points, query %d: %v within %f, %+v", size, i, center, radius, opt)
	}
	for _, id := range x.Expire(nil, math.MaxInt64) {
		delete(o, id)
	}
	for id := range o {
		require.True(t, x.Remove(id))
	}
	require.Zero(t, x.Len())
	require.Empty(t, x.Occupied(nil))
	return count
}
