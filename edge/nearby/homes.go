package nearby

import (
	"slices"
	"strconv"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

// resolution is that of the cells which have homes and slots.
const resolution = 6

// overlap is how long the homes before a change of the regions count, beside
// those since.
const overlap = time.Minute

// maxPast bounds the changes that overlap; of more the oldest are forgotten.
const maxPast = 4

// homeOf returns the cell in which a view is, whose point is there: a function of
// the view alone, so that publisher and owner agree.
func homeOf(v *grant.View, to *index.Place) geo.Cell {
	if c := v.Cell.Parent(resolution); c != 0 {
		return c
	}
	return to.Cell().Parent(resolution)
}

// slotOf returns the slot of a cell.
func slotOf(c geo.Cell) int {
	b := append(make([]byte, 0, 24), "cell:"...)
	return regions.SlotOf(string(strconv.AppendUint(b, uint64(c), 16)))
}

// anchorSlot returns the slot whose owner knows which node publishes a user.
func anchorSlot(user string) int { return regions.SlotOf("user:" + user) }

// atlas says at home where cells are, as of a topology and for a while as of the
// ones before. It is immutable.
type atlas struct {
	now  []place
	past []former // the latest first
}

type place struct {
	region regions.RegionID
	at     geo.Vec
}

type former struct {
	places []place
	until  time.Time
}

// next returns the atlas of a topology that takes the place of a's; a itself, if
// the regions are where they were.
func (a *atlas) next(t *regions.Topology, now time.Time) *atlas {
	places := make([]place, len(t.Regions))
	for i, r := range t.Regions {
		places[i] = place{r.Name, geo.Point{Lat: r.Location.Lat, Lng: r.Location.Lng}.Vec()}
	}
	slices.SortFunc(places, func(x, y place) int { // so that ties are resolved alike everywhere
		if x.region < y.region {
			return -1
		}
		return 1
	})
	if a == nil {
		return &atlas{now: places}
	}
	if slices.Equal(a.now, places) {
		return a
	}
	past := append([]former{{a.now, now.Add(overlap)}}, a.past...)
	return &atlas{now: places, past: past[:min(len(past), maxPast)]}
}

// lapse returns the atlas without what does not count any more; a itself, if all
// of it does.
func (a *atlas) lapse(now time.Time) *atlas {
	over := func(f former) bool { return !f.until.After(now) }
	if !slices.ContainsFunc(a.past, over) {
		return a
	}
	return &atlas{now: a.now, past: slices.DeleteFunc(slices.Clone(a.past), over)}
}

// each calls f with the places of every generation that counts.
func (a *atlas) each(now time.Time, f func([]place)) {
	f(a.now)
	for _, p := range a.past {
		if p.until.After(now) {
			f(p.places)
		}
	}
}

// homes appends the regions in which a cell with this centre is at home.
func (a *atlas) homes(dst []regions.RegionID, center geo.Vec, now time.Time) []regions.RegionID {
	a.each(now, func(places []place) {
		best, most := -1, 5.0
		for i := range places {
			if d := center.Chord2(places[i].at); d < most {
				best, most = i, d
			}
		}
		if best >= 0 && !slices.Contains(dst, places[best].region) {
			dst = append(dst, places[best].region)
		}
	})
	return dst
}

// around appends the regions in which cells may be at home whose centres are at
// most reach metres from a point: these, and maybe others.
func (a *atlas) around(dst []regions.RegionID, at geo.Vec, reach float64, now time.Time) []regions.RegionID {
	if len(a.now) == 1 && len(a.past) == 0 {
		return append(dst, a.now[0].region)
	}
	a.each(now, func(places []place) {
		most := 5.0
		for i := range places {
			most = min(most, at.Chord2(places[i].at))
		}
		// A home of such a cell is at most twice the reach farther than the nearest.
		bound := geo.Chord2(geo.Chord2Distance(most)+2*reach) * (1 + 1e-9)
		for i := range places {
			if at.Chord2(places[i].at) <= bound && !slices.Contains(dst, places[i].region) {
				dst = append(dst, places[i].region)
			}
		}
	})
	return dst
}

// homesOf is homes by the cell.
func (a *atlas) homesOf(dst []regions.RegionID, c geo.Cell, now time.Time) []regions.RegionID {
	if len(a.now) == 1 && len(a.past) == 0 {
		return append(dst, a.now[0].region)
	}
	center, err := index.Center(c)
	if err != nil {
		return dst
	}
	return a.homes(dst, center.Vec(), now)
}

// anchor returns the region in which a user's anchor is: the one with the highest
// hash of region and user, so that a change of the regions moves few.
func (a *atlas) anchor(user string) (best regions.RegionID) {
	var most uint64
	for _, p := range a.now {
		h := fnv64(fnv64(offset64, string(p.region)), user)
		if h = geo.Cell(h).Hash(); best == "" || h > most {
			best, most = p.region, h
		}
	}
	return best
}

// FNV-1a, without the allocations of hash/fnv.
const (
	offset64 uint64 = 14695981039346656037
	prime64  uint64 = 1099511628211
)

func fnv64(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime64
	}
	return h
}
