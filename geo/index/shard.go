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
	ids      map[uint64]uint32
	chunks   atomic.Pointer[[]*chunk] // grown with mu held, read without it
	next     uint32                   // entries that were ever used
	unused   uint32                   // the first of those not in use, plus one; linked by pos
	earliest int64                    // nothing expires before
}

type chunk [1 << chunkBits]entry

// entry is a point. Its shard's lock guards id and root, its root's lock leaf
// and pos. The other fields are written with both held, and read with either.
type entry struct {
	id                uint64
	p                 geo.Point
	captured, expires int64
	root              *root // nil if the entry is not in use
	leaf              *node // its bucket
	pos               uint32
}

func (e *entry) hit(chord2 float64) Hit {
	return Hit{e.id, e.p, geo.Chord2Distance(chord2), e.captured, e.expires}
}

func (s *shard) init() {
	s.ids = map[uint64]uint32{}
	s.chunks.Store(new([]*chunk))
	s.earliest = never
}

// shard returns where an id belongs, and its number.
func (x *Index) shard(id uint64) (*shard, uint32) {
	n := uint32(geo.Cell(id).Hash() >> (64 - shardBits))
	return &x.shards[n], n
}

// entry returns an entry by its number with the shard's.
func (x *Index) entry(number uint32) *entry {
	return x.shards[number&(1<<shardBits-1)].at(number >> shardBits)
}

func (s *shard) at(i uint32) *entry {
	return &(*s.chunks.Load())[i>>chunkBits][i&(1<<chunkBits-1)]
}

// add makes an entry for a new id.
func (s *shard) add(id uint64) uint32 {
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
	*s.at(i) = entry{id: id}
	s.ids[id] = i
	return i
}

// free takes away an entry whose point is in no bucket any more.
func (s *shard) free(i uint32) {
	e := s.at(i)
	delete(s.ids, e.id)
	*e = entry{pos: s.unused}
	s.unused = i + 1
}
