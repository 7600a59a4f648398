package share

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/h3"
)

const coarse = 8

// corner is where three cells meet: receiver noise alone is in each of them.
func corner(t *testing.T) geo.Point {
	c, err := h3.CellOf(geo.Point{Lat: 48, Lng: 11}, coarse)
	require.NoError(t, err)
	b, err := h3.Boundary(c)
	require.NoError(t, err)
	return b[0]
}

func inMemory(t *testing.T, f func(t *testing.T, w *world, start func() *Sharer)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.grants["ann"] = []grant.Grant{{Audience: grant.Audience{Kind: grant.Group, ID: "g1"}, Precision: grant.Cells(coarse)}}
		f(t, w, func() *Sharer {
			h := New(w.config())
			require.NoError(t, h.Start(t.Context()))
			return h
		})
	})
}

// around are the ways to come home: each night from another side.
var around = [3][2]float64{{0.0006, 0}, {-0.0004, 0.0007}, {-0.0004, -0.0007}}

// night has ann come to a corner from a side and stay there for an hour, and notes the
// cells that are told by the end of it.
func night(t *testing.T, w *world, h *Sharer, home geo.Point, side int, cells map[uint64]bool) {
	post := func(p geo.Point) {
		require.NoError(t, h.Post("ann", "Ann", at(p.Lat, p.Lng, time.Now()), nil))
		settle(2 * time.Minute)
	}
	d := around[side%3]
	for range 6 {
		post(geo.Point{Lat: home.Lat + d[0], Lng: home.Lng + d[1]})
	}
	for i := range 30 {
		e := around[i%3]
		post(geo.Point{Lat: home.Lat + e[0]/30, Lng: home.Lng + e[1]/30})
		if f := w.sees(g1, "ann"); f != nil && i > 20 {
			cells[f.Cell] = true
		}
	}
}

// Night after night the same cell is told of the same place, by whatever node:
// each is started anew before it is used again. Without what is stored it isn't.
func TestTheSameCellNightAfterNight(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		inMemory(t, func(t *testing.T, w *world, start func() *Sharer) {
			w.lossy = lossy
			home, cells := corner(t), map[uint64]bool{}
			for i := range 6 {
				h := start()
				night(t, w, h, home, i, cells)
				h.Stop()
				settle(time.Hour)
			}
			require.NotEmpty(t, cells)
			require.Equal(t, !lossy, len(cells) == 1, "lossy: %v, cells: %d", lossy, len(cells))
		})
	}
}

// Two nodes hear devices of one user at the same time and learn at the same time.
// One stores first; in the end both know what both learned, and rest.
func TestTwoNodesLearn(t *testing.T) {
	inMemory(t, func(t *testing.T, w *world, start func() *Sharer) {
		a, b := start(), start()
		home, work := geo.Point{Lat: 48, Lng: 11}, geo.Point{Lat: 50, Lng: 8}
		for range 45 {
			require.NoError(t, a.Post("ann", "Ann", at(home.Lat, home.Lng, time.Now()), nil))
			require.NoError(t, b.Post("ann", "Ann", at(work.Lat, work.Lng, time.Now()), nil))
			settle(time.Minute)
		}
		w.mu.Lock()
		stored := w.memories["ann"]
		w.mu.Unlock()
		require.GreaterOrEqual(t, stored.version, uint64(2))
		require.Less(t, stored.version, uint64(30))
		for _, p := range []geo.Point{home, work} { // each is told at once where the other learned it
			cells := map[uint64]bool{}
			for _, h := range []*Sharer{a, b, start()} {
				for range 20 {
					require.NoError(t, h.Post("ann", "Ann", at(p.Lat, p.Lng, time.Now()), nil))
					settle(time.Minute)
				}
				cells[w.sees(g1, "ann").Cell] = true
				if h != a && h != b {
					h.Stop()
				}
			}
			require.Len(t, cells, 1)
		}
		a.Stop()
		b.Stop()
	})
}

// What could not be stored is given again, also when nobody sees it any more.
func TestWhatIsNotStoredIsGivenAgain(t *testing.T) {
	inMemory(t, func(t *testing.T, w *world, start func() *Sharer) {
		w.lossy = true
		h := start()
		for range 40 {
			require.NoError(t, h.Post("ann", "Ann", at(48, 11, time.Now()), nil))
			settle(time.Minute)
		}
		settle(time.Hour)
		require.Nil(t, w.sees(g1, "ann"))
		w.mu.Lock()
		require.Empty(t, w.memories)
		w.lossy = false
		w.mu.Unlock()
		settle(time.Minute)
		w.mu.Lock()
		asked := w.asked
		require.EqualValues(t, 1, w.memories["ann"].version)
		w.mu.Unlock()
		settle(10 * time.Minute)
		w.mu.Lock()
		require.Equal(t, asked, w.asked, "and then it rests")
		w.mu.Unlock()
		h.Stop()
	})
}

// Until the memory was read nobody is told a cell. One that is damaged is replaced.
func TestNothingIsToldBeforeTheMemory(t *testing.T) {
	inMemory(t, func(t *testing.T, w *world, start func() *Sharer) {
		w.memories["ann"] = memory{[]byte("not sealed"), 7}
		w.down = true
		h := start()
		require.NoError(t, h.Post("ann", "Ann", at(48, 11, time.Now()), nil))
		settle(time.Minute)
		require.Nil(t, w.sees(g1, "ann"))
		w.mu.Lock()
		w.down = false
		w.mu.Unlock()
		for range 40 {
			require.NoError(t, h.Post("ann", "Ann", at(48, 11, time.Now()), nil))
			settle(time.Minute)
		}
		require.NotNil(t, w.sees(g1, "ann"))
		w.mu.Lock()
		require.EqualValues(t, 8, w.memories["ann"].version)
		w.mu.Unlock()
		h.Stop()
	})
}

// What a device reports between its user's moments makes no frame, no number and
// no place on the map, whatever it is.
func TestCoarseViewsAreSentWhenTheyChange(t *testing.T) {
	inMemory(t, func(t *testing.T, w *world, start func() *Sharer) {
		w.grants["ann"] = append(w.grants["ann"], grant.Grant{Audience: grant.Audience{Kind: grant.Discoverable}, Precision: grant.Cells(6)})
		h := start()
		c := w.session("ann", "phone", 1, g1)
		frames, puts, numbers := 0, 0, map[uint64]bool{}
		for n := range uint64(3600) { // an hour: 12 moments at resolution 8, 4 at 6
			require.NoError(t, h.Report(c, n+1, at(48+float64(n)/1e6, 11, time.Now()), nil))
			settle(time.Second)
			if f := w.sees(g1, "ann"); f != nil {
				numbers[f.N] = true
			}
		}
		w.mu.Lock()
		frames, puts = w.sent, w.puts
		w.mu.Unlock()
		frames-- // the first one withdraws what another node may have told of this session
		require.InDelta(t, 13, frames, 1)
		require.InDelta(t, 5, puts, 1)
		require.Len(t, numbers, frames)
		h.Stop()
	})
}
