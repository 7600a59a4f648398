package index

import (
	"github.com/mustermesh/muster/geo"
)

// Index is an index of moving points, each with an id that the caller chooses.
// All methods may be called from many goroutines.
type Index struct {
	Tree
	shards [1 << shardBits]shard
}

// New returns an empty index.
func New() *Index {
	x := new(Index)
	x.Tree.init(x.entry)
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
		_, err := Locate(p)
		return false, err
	}
	s, number, hash := x.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, i := s.find(id, hash)
	// Here and not before: what find reads is still on its way from memory, and the
	// processor computes meanwhile.
	to, err := Locate(p)
	if err != nil {
		return false, err
	}
	if i == 0 {
		i = s.add(slot, id) + 1
	} else if s.at(i-1).captured > captured {
		return false, nil
	}
	if expires != 0 {
		s.earliest = min(s.earliest, expires)
	}
	x.Put(s.at(i-1), (i-1)<<shardBits|number, &to, captured, expires, nil)
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
	x.Take(s.at(s.ids[slot] - 1))
	s.free(slot)
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
		case !e.In() || e.expires == 0:
		case e.expires <= now:
			gone = append(gone, e.ID)
			slot, _ := s.find(e.ID, geo.Cell(e.ID).Hash())
			x.remove(s, slot)
		default:
			s.earliest = min(s.earliest, e.expires)
		}
	}
	return gone
}
