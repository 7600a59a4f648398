package index_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// kept is what somebody keeps of a point, with its entry in it.
type kept struct {
	index.Entry
	what int
}

// TestATreeIsWhatAnIndexIs: entries that others keep are found as those of an index
// are, at the same distances, with what belongs to them.
func TestATreeIsWhatAnIndexIs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	all := make([]kept, 5000)
	tree := index.NewTree(func(n uint32) *index.Entry { return &all[n].Entry })
	x := index.New()
	for i := range all {
		all[i].ID = uint64(i)
	}
	for step := range int64(60_000) {
		i := r.IntN(len(all))
		k := &all[i]
		switch {
		case k.In() && step%7 == 0:
			tree.Take(&k.Entry)
			require.True(t, x.Remove(k.ID))
			require.False(t, k.In())
		case k.In() && step%7 == 1:
			at, expires := k.Point(), 1000+step
			tree.Extend(&k.Entry, step, expires, nil)
			_, err := x.Upsert(k.ID, at, step, expires)
			require.NoError(t, err)
		default:
			p := inCity(r)
			to, err := index.Locate(p)
			require.NoError(t, err)
			cell, err := index.CellOf(p, geo.MaxResolution)
			require.NoError(t, err)
			require.Equal(t, cell, to.Cell())
			tree.Put(&k.Entry, uint32(i), &to, step, 1000+step, func() { k.what = int(step) })
			_, err = x.Upsert(k.ID, p, step, 1000+step)
			require.NoError(t, err)
		}
		require.Equal(t, x.Len(), tree.Len())
		if step%50 > 0 {
			continue
		}
		center, most, radius, opt := inCity(r), 1+r.IntN(100), 20_000*r.Float64(), index.Options{Now: step}
		want := x.Nearest(nil, center, most, radius, opt)
		require.Equal(t, want, tree.Nearest(nil, center, most, radius, opt))
		var looked []uint32
		ahead := map[uint32]bool{}
		near := tree.NearestFunc(nil, center, most, radius, opt, func(n uint32) { ahead[n] = true }, func(n uint32) { looked = append(looked, n) })
		require.Len(t, near, len(want))
		for i, n := range near {
			k := &all[looked[n.Look]]
			require.Equal(t, want[i], index.Hit{ID: k.ID, Point: k.Point(), Distance: n.Distance, Captured: k.Captured(), Expires: k.Expires()})
			require.LessOrEqual(t, int64(k.what), k.Captured())
			require.True(t, most > 64 || ahead[uint32(k.ID)])
		}
	}
	_, err := index.Locate(geo.Point{Lat: 91})
	require.Error(t, err)
}
