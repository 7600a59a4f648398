// Package index is an index of moving points in memory: who is within a radius,
// who is nearest, who is in these cells.
package index

import (
	"cmp"
	"slices"
	"sync"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// Hit is a point that a query found.
type Hit struct {
	ID       uint64
	Point    geo.Point // as it was given to Upsert
	Distance float64   // metres from the query's centre; 0 from InCells
	Captured int64     // Unix ms
	Expires  int64     // Unix ms; 0 is never
}

// Options of a query. The zero value wants everything.
type Options struct {
	// Now leaves out what had expired by then, Unix ms; 0 leaves nothing out.
	Now int64
	// Keep, if set, is asked for each point that would be returned. It must be
	// quick, and must not use the index: it runs under a lock.
	Keep func(id uint64) bool
	// Limit stops Within and InCells after so many, whichever they are.
	// 0 is no limit.
	Limit int
}

// Index is an index of moving points, each with an id that the caller chooses.
// All methods may be called from many goroutines.
type Index struct {
	mu     sync.RWMutex
	points map[uint64]*entry
}

type entry struct {
	p                 geo.Point
	v                 geo.Vec
	cell              geo.Cell
	captured, expires int64
}

// New returns an empty index.
func New() *Index { return &Index{points: map[uint64]*entry{}} }

// Upsert puts a point into the index or moves it, and reports whether it did: a
// point that was captured before the one that is there never replaces it. Times
// are Unix ms; a point that expires at 0 never does. The error says that p is
// not a point.
func (x *Index) Upsert(id uint64, p geo.Point, captured, expires int64) (bool, error) {
	cell, err := h3.CellOf(p, geo.MaxResolution)
	if err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.points[id]; e != nil && e.captured > captured {
		return false, nil
	}
	x.points[id] = &entry{p, p.Vec(), cell, captured, expires}
	return true, nil
}

// Remove takes a point away and reports whether it was there.
func (x *Index) Remove(id uint64) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.points[id]
	delete(x.points, id)
	return ok
}

// Get returns a point by its id; the hit's distance is 0.
func (x *Index) Get(id uint64) (Hit, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.points[id]; e != nil {
		return Hit{id, e.p, 0, e.captured, e.expires}, true
	}
	return Hit{}, false
}

// Len returns how many points there are, with those that have expired and were
// not yet taken away.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.points)
}

// Expire takes away what has expired by now, Unix ms, and appends the ids to
// gone.
func (x *Index) Expire(gone []uint64, now int64) []uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, e := range x.points {
		if e.expires != 0 && e.expires <= now {
			delete(x.points, id)
			gone = append(gone, id)
		}
	}
	return gone
}

// Within appends the points that are at most radius metres from center to dst,
// in no particular order. A center that is not valid or a radius that is no
// number finds nothing.
func (x *Index) Within(dst []Hit, center geo.Point, radius float64, opt Options) []Hit {
	if !center.Valid() || !(radius >= 0) {
		return dst
	}
	v, most := center.Vec(), geo.Chord2(radius)
	return x.scan(dst, opt, func(e *entry) (float64, bool) { c := v.Chord2(e.v); return geo.Chord2Distance(c), c <= most })
}

// Nearest appends the k points nearest to center that are at most maxRadius
// metres away to dst, nearest first, those equally far by id.
func (x *Index) Nearest(dst []Hit, center geo.Point, k int, maxRadius float64, opt Options) []Hit {
	from := len(dst)
	opt.Limit = 0
	dst = x.Within(dst, center, maxRadius, opt)
	slices.SortFunc(dst[from:], func(a, b Hit) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.ID, b.ID))
	})
	return dst[:min(len(dst), from+max(k, 0))]
}

// InCells appends the points in any of the cells to dst, in no particular order
// and each once. Cells may be of different resolutions.
func (x *Index) InCells(dst []Hit, cells []geo.Cell, opt Options) []Hit {
	return x.scan(dst, opt, func(e *entry) (float64, bool) {
		return 0, slices.ContainsFunc(cells, func(c geo.Cell) bool { return c.Contains(e.cell) })
	})
}

func (x *Index) scan(dst []Hit, opt Options, want func(*entry) (float64, bool)) []Hit {
	x.mu.RLock()
	defer x.mu.RUnlock()
	from := len(dst)
	for id, e := range x.points {
		if opt.Limit > 0 && len(dst)-from >= opt.Limit {
			break
		}
		if opt.Now != 0 && e.expires != 0 && e.expires <= opt.Now {
			continue
		}
		if d, ok := want(e); ok && (opt.Keep == nil || opt.Keep(id)) {
			dst = append(dst, Hit{id, e.p, d, e.captured, e.expires})
		}
	}
	return dst
}
