package index

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/mustermesh/muster/geo"
)

const (
	shardBits = 8
	chunkBits = 6
	never     = math.MaxInt64
)

// shard has the points of some ids: which they are, when they were captured, and
// in which bucket they are. A point is an entry, in chunks that never move, and
// is called by its number: in the shard, or with the shard's own in the low bits.
type shard struct {
	mu       sync.Mutex
	ids      []uint32 // a hash table of entries, plus one; 0 is free
	count    int
	chunks   atomic.Pointer[[]*chunk] // grown with mu held, read without it
	next     uint32                   // entries that were ever used
	unused   uint32                   // the first of those not in use, plus one; linked by pos
	earliest int64                    // nothing expires before
}

type chunk [1 << chunkBits]Entry

func (s *shard) init() {
	s.ids = make([]uint32, 8)
	s.chunks.Store(new([]*chunk))
	s.earliest = never
}

// shard returns where an id belongs, its number, and the id's hash.
func (x *Index) shard(id uint64) (s *shard, number uint32, hash uint64) {
	hash = geo.Cell(id).Hash()
	number = uint32(hash >> (64 - shardBits))
	return &x.shards[number], number, hash
}

// find returns the slot of the table that has an id, and what is there; 0 if the
// id is not known, and the slot is where it would be. The table compares ids
// where they are, in the entries, so it takes a third of what a map does.
func (s *shard) find(id, hash uint64) (slot int, plusOne uint32) {
	mask := len(s.ids) - 1
	for slot = int(hash) & mask; ; slot = (slot + 1) & mask {
		if n := s.ids[slot]; n == 0 || s.at(n-1).ID == id {
			return slot, n
		}
	}
}

// entry returns an entry by its number with the shard's.
func (x *Index) entry(number uint32) *Entry {
	return x.shards[number&(1<<shardBits-1)].at(number >> shardBits)
}

func (s *shard) at(i uint32) *Entry {
	return &(*s.chunks.Load())[i>>chunkBits][i&(1<<chunkBits-1)]
}

// add makes an entry for a new id, at the slot that find returned.
func (s *shard) add(slot int, id uint64) uint32 {
	i := s.unused - 1
	if s.unused != 0 {
		s.unused = s.at(i).pos
	} else {
		i = s.next
		s.next++
		if chunks := *s.chunks.Load(); int(i>>chunkBits) == len(chunks) {
			// Readers of the old slice don't see beyond its end.
			chunks = append(chunks, new(chunk))
			s.chunks.Store(&chunks)
		}
	}
	*s.at(i) = Entry{ID: id}
	s.ids[slot] = i + 1
	if s.count++; s.count > len(s.ids)*4/5 {
		old := s.ids
		s.ids = make([]uint32, 2*len(old))
		for _, n := range old {
			if n != 0 {
				slot, _ := s.find(s.at(n-1).ID, geo.Cell(s.at(n-1).ID).Hash())
				s.ids[slot] = n
			}
		}
	}
	return i
}

// free takes away the entry at a slot, whose point is in no bucket any more.
func (s *shard) free(slot int) {
	i := s.ids[slot] - 1
	*s.at(i) = Entry{pos: s.unused}
	s.unused = i + 1
	s.count--
	// What comes after it moves up, unless it would pass its own place.
	mask := len(s.ids) - 1
	hole := slot
	for next := (hole + 1) & mask; s.ids[next] != 0; next = (next + 1) & mask {
		home := int(geo.Cell(s.at(s.ids[next]-1).ID).Hash()) & mask
		if (next-home)&mask >= (next-hole)&mask {
			s.ids[hole] = s.ids[next]
			hole = next
		}
	}
	s.ids[hole] = 0
}
