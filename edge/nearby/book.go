package nearby

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
)

const (
	shards    = 64 // as a power of two: shardBits
	shardBits = 6
	chunkBits = 7 // 40 KB: from 32 KB on memory begins at a line of the cache
	never     = math.MaxInt64
)

// book is everybody whom this node publishes, or has as the owner of their slot,
// or both, which is why it is one: with a million in it, what a move costs is how
// often it has to go to another page of memory.
type book struct{ shards [shards]shard }

// shard is some of them, by a hash of the name. What is said of somebody is in
// chunks that never move, and is found by its number: its place in its shard, and
// the shard's number in the low bits.
type shard struct {
	mu       sync.Mutex // guards the following, and what it says in someone
	table    []row      // open addressing, linear probing
	count    int
	chunks   atomic.Pointer[[]*chunk] // grown with mu held, read without it
	used     uint32                   // places that were ever used
	unused   []uint32                 // of those the ones that are not
	given    uint32                   // ids
	dirty    []*someone               // who has something to tell others
	graves   []grave                  // the oldest first
	earliest int64                    // no point expires before
	ahead    uint64                   // of no meaning: makes someone be looked at
	told     map[target]*[]target     // lists of one, which are always the same few
}

// tag stands for a name: 96 bits of two hashes that nobody else can compute, which
// no two of some millions have in common. Names themselves would be one more page.
type tag struct {
	a uint64
	b uint32
}

// row is free if place is 0; else that is one more than the place.
type row struct {
	tag
	place uint32
}

// grave is who may be dead, until a moment.
type grave struct {
	*someone
	until int64
}

type chunk [1 << chunkBits]someone

// someone is a user, or a subject of a fleet.
type someone struct {
	index.Entry // of the owner's point
	user        string
	own         point
	pub         entry
}

// held is what is known of somebody but for the point, which is elsewhere.
type held struct {
	shown
	readings [3]float32 // speed, heading, battery
	until    int64      // when the view lapses, Unix ms
	version  uint64
}

// shown is what of it queries read of everybody: with the name it is one line of
// the processor's cache.
type shown struct {
	name     string
	cell     geo.Cell // 0 where it is exact
	seconds  int64    // of the capture, since 1970
	nanos    int32
	accuracy float32
	known    uint8 // a bit for each of the readings
	grant    grant.Precision
	rank     uint32 // of the owner's: among all, at random; who is shown where not all can be
}

// hold returns how a view is held.
func hold(name string, v *grant.View, until time.Time, version uint64) held {
	h := held{
		shown: shown{
			name: name, cell: v.Cell, seconds: v.Captured.Unix(), nanos: int32(v.Captured.Nanosecond()), accuracy: v.Accuracy, grant: v.Precision,
		},
		readings: [3]float32{v.Speed.Value, v.Heading.Value, v.Battery.Value}, until: until.UnixMilli(), version: version,
	}
	for i, r := range [...]bool{v.Speed.Known, v.Heading.Known, v.Battery.Known} {
		if r {
			h.known |= 1 << i
		}
	}
	return h
}

// view returns what was held.
func (h *held) view(at geo.Point) grant.View {
	v := h.coarse(at)
	reading := func(i int) grant.Reading { return grant.Reading{Value: h.readings[i], Known: h.known>>i&1 != 0} }
	v.Speed, v.Heading, v.Battery = reading(0), reading(1), reading(2)
	return v
}

// coarse is view without the readings.
func (h *shown) coarse(at geo.Point) grant.View {
	return grant.View{
		Point: at, Precision: h.grant, Cell: h.cell, Accuracy: h.accuracy, Captured: time.Unix(h.seconds, int64(h.nanos)).UTC(),
	}
}

// shows reports whether this is what a view and a name say.
func (h *held) shows(o *held) bool {
	return h.name == o.name && h.cell == o.cell && h.seconds == o.seconds && h.nanos == o.nanos && h.accuracy == o.accuracy &&
		h.readings == o.readings && h.known == o.known && h.grant == o.grant
}

func (h *held) person(user string, at geo.Point) Person {
	return Person{User: user, Name: h.name, View: h.view(at), Until: time.UnixMilli(h.until).UTC(), Version: h.version}
}

func (b *book) init() {
	for i := range b.shards {
		s := &b.shards[i]
		s.table, s.earliest, s.told = make([]row, 8), never, map[target]*[]target{}
		s.chunks.Store(new([]*chunk))
	}
}

var hashSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// of returns the shard of a name, its number, and the name's tag.
func (b *book) of(user string) (s *shard, number uint32, t tag) {
	h := maphash.String(hashSeeds[1], user)
	number = uint32(h % shards)
	return &b.shards[number], number, tag{maphash.String(hashSeeds[0], user), uint32(h >> 32)}
}

// entry returns the entry of a number, for the trees.
func (b *book) entry(number uint32) *index.Entry { return &b.at(number).Entry }

func (b *book) at(number uint32) *someone { return b.shards[number%shards].at(number >> shardBits) }

func (s *shard) at(place uint32) *someone {
	return &(*s.chunks.Load())[place>>chunkBits][place&(1<<chunkBits-1)]
}

// find returns somebody, or nil.
func (s *shard) find(t tag) *someone {
	mask := uint64(len(s.table) - 1)
	for i := t.a & mask; s.table[i].place != 0; i = (i + 1) & mask {
		if s.table[i].tag == t {
			return s.at(s.table[i].place - 1)
		}
	}
	return nil
}

// add adds somebody who is not there. The id has the number in its low half, and
// above that how many there were before in the shard: so an id that was read a
// moment ago means the same one or nobody.
func (s *shard) add(user string, number uint32, t tag) *someone {
	place := s.used
	if n := len(s.unused); n > 0 {
		place, s.unused = s.unused[n-1], s.unused[:n-1]
	} else {
		s.used++
		if chunks := *s.chunks.Load(); int(place>>chunkBits) == len(chunks) {
			// Readers of the old slice don't see beyond its end.
			chunks = append(chunks, new(chunk))
			s.chunks.Store(&chunks)
		}
	}
	if s.count++; s.count > len(s.table)*3/4 {
		old := s.table
		s.table = make([]row, 2*len(old))
		for _, in := range old {
			if in.place != 0 {
				s.table[s.free(in.tag)] = in
			}
		}
	}
	s.table[s.free(t)] = row{t, place + 1}
	p := s.at(place)
	s.given++
	p.user, p.ID = user, uint64(s.given)<<32|uint64(place<<shardBits|number)
	return p
}

// free returns where in the table something new goes.
func (s *shard) free(t tag) uint64 {
	mask := uint64(len(s.table) - 1)
	i := t.a & mask
	for s.table[i].place != 0 {
		i = (i + 1) & mask
	}
	return i
}

// tidy forgets somebody of whom nothing is to be known any more.
func (s *shard) tidy(p *someone) {
	if p.own.state != nobody || p.pub.state != nobody || p.pub.dirty {
		return
	}
	place := uint32(p.ID) >> shardBits
	mask := uint64(len(s.table) - 1)
	hole := maphash.String(hashSeeds[0], p.user) & mask
	for s.table[hole].place != place+1 {
		hole = (hole + 1) & mask
	}
	// What comes after it moves up, unless it would pass its own place.
	for next := (hole + 1) & mask; s.table[next].place != 0; next = (next + 1) & mask {
		if (next-s.table[next].a)&mask >= (next-hole)&mask {
			s.table[hole] = s.table[next]
			hole = next
		}
	}
	s.table[hole] = row{}
	*p = someone{}
	s.unused = append(s.unused, place)
	s.count--
}

// each calls f for everybody in the shard, who may be gone after that.
func (s *shard) each(f func(*someone)) {
	for place := range s.used {
		if p := s.at(place); p.ID != 0 {
			f(p)
		}
	}
}
