package index

import (
	"sync"
	"sync/atomic"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// Index is an index of moving points, each with an id that the caller chooses.
// All methods may be called from many goroutines.
type Index struct {
	base   [baseCells]atomic.Pointer[node]
	center *[baseCells]geo.Vec
	grow   sync.Mutex // held to link and unlink what is above roots, and roots
	shards []shard
	bits   uint8 // how many of a number are its shard's
	len    atomic.Int64
}

// New returns an empty index.
func New() *Index { return Sharded(8) }

// Sharded returns an empty index that spreads its ids over 2 to the power of bits
// locks, at most 8. Each takes some hundred bytes with the first points, and where
// there are few only few can write at once.
func Sharded(bits uint8) *Index {
	bits = min(bits, 8)
	x := &Index{center: baseCenters(), shards: make([]shard, 1<<bits), bits: bits}
	for i := range x.shards {
		x.shards[i].init()
	}
	return x
}

// Upsert puts a point into the index or moves it, and reports whether it did: a
// point that was captured before the one that is there never replaces it. Times
// are Unix ms; a point that expires at 0 never does. The error says that p is
// not a point.
func (x *Index) Upsert(id uint64, p geo.Point, captured, expires int64) (bool, error) {
	if !p.Valid() {
		_, err := h3.CellOf(p, geo.MaxResolution)
		return false, err
	}
	s, number, hash := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, i := s.find(id, hash)
	// Here and not before: what find reads is still on its way from memory, and the
	// processor computes meanwhile.
	v := p.Vec()
	cell, err := h3.CellOfVec(v, p, geo.MaxResolution)
	if err != nil {
		return false, err
	}
	if i == 0 {
		i = s.add(slot, id) + 1
		x.len.Add(1)
	} else if s.at(i-1).captured > captured {
		return false, nil
	}
	e := s.at(i - 1)
	if expires != 0 {
		s.earliest = min(s.earliest, expires)
	}
	to := item{v: v, entry: (i-1)<<x.bits | number, expires: seconds(expires)}
	path := pathOf(cell)
	old := e.root
	if old != nil && old.cell == cell.Parent(rootRes) {
		old.mu.Lock()
		if e.leaf.reaches(e.path, path) {
			e.leaf.items[e.pos], e.path = to, path
		} else {
			old.remove(x, e)
			old.insert(x, e, to, path)
		}
		e.p, e.captured, e.expires = p, captured, expires
		old.mu.Unlock()
		return true, nil
	}
	r := x.lockRoots(cell.Parent(rootRes), old)
	if old != nil {
		old.remove(x, e)
	}
	r.insert(x, e, to, path)
	e.p, e.captured, e.expires, e.root = p, captured, expires, r
	r.mu.Unlock()
	if old != nil {
		empty := old.top.size() == 0
		old.mu.Unlock()
		if empty {
			x.prune(old)
		}
	}
	return true, nil
}

// Remove takes a point away and reports whether it was there.
func (x *Index) Remove(id uint64) bool {
	s, _, hash := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, i := s.find(id, hash)
	if i == 0 {
		return false
	}
	x.remove(s, slot)
	return true
}

// remove takes the point at a slot of a shard away, which is locked.
func (x *Index) remove(s *shard, slot int) {
	e := s.at(s.ids[slot] - 1)
	r := e.root
	r.mu.Lock()
	r.remove(x, e)
	empty := r.top.size() == 0
	r.mu.Unlock()
	if empty {
		x.prune(r)
	}
	s.free(slot)
	x.len.Add(-1)
}

// Get returns a point by its id. The hit's distance is 0.
func (x *Index) Get(id uint64) (Hit, bool) {
	s, _, hash := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, i := s.find(id, hash)
	if i == 0 {
		return Hit{}, false
	}
	return s.at(i - 1).hit(0), true
}

// Len returns how many points there are, with those that have expired and were
// not taken away yet.
func (x *Index) Len() int { return int(x.len.Load()) }

// Expire takes away what has expired by now, Unix ms, and appends the ids to
// gone. Call it every second or so: queries that say what time it is leave out
// what has expired, but it takes memory until then.
func (x *Index) Expire(gone []uint64, now int64) []uint64 {
	for n := range x.shards {
		s := &x.shards[n]
		s.mu.Lock()
		if s.earliest <= now {
			gone = x.expire(gone, s, now)
		}
		s.mu.Unlock()
	}
	return gone
}

func (x *Index) expire(gone []uint64, s *shard, now int64) []uint64 {
	s.earliest = never
	for i := range s.next {
		switch e := s.at(i); {
		case e.root == nil || e.expires == 0:
		case e.expires <= now:
			gone = append(gone, e.id)
			slot, _ := s.find(e.id, geo.Cell(e.id).Hash())
			x.remove(s, slot)
		default:
			s.earliest = min(s.earliest, e.expires)
		}
	}
	return gone
}
