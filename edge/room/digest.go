package room

import (
	"hash/fnv"
	"math/bits"
	"strconv"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// lossTime is how long before a link was seen to be down something may have been
// lost on it: links notice after 4 s, and a fix is repeated for the last time 2 s
// after it came.
const lossTime = 30 * time.Second

// Ask asks another region again from where we are, because a link to or from
// its owner was reset: with its part in the hash of the slot of a digest, or, if
// there is nothing to compare, for itself.
func (r *Room) Ask(now time.Time, from regions.RegionID, round uint64) (hash uint64, in bool, out []Effect) {
	g := r.region(from)
	if g == nil || g == r.own || !g.known {
		return 0, false, r.Refollow(now, from)
	}
	g.doubt(now)
	g.asked, g.round, g.cut, g.goal = now, round, false, 0
	return digest(r.id, g), true, r.take()
}

// Answered takes the answer to that digest: the origin has the slot's rooms as
// we have them, and goes on with them; or not, and we ask for this one.
func (r *Room) Answered(now time.Time, from regions.RegionID, round uint64, same bool) []Effect {
	g := r.region(from)
	if g == nil || g.round != round || !g.known {
		return r.take() // we have asked otherwise since
	}
	if g.round = 0; same {
		g.asked = time.Time{}
		r.heard(now, g)
	} else {
		r.subscribe(now, g)
	}
	return r.take()
}

// Followed is the origin's side: whether a region follows the room, or did when
// its link broke, and our part in the hash of the slot. Equal hashes are equal
// sets of rooms, at equal positions: then who asks has all that was said.
func (r *Room) Followed(by regions.RegionID) (hash uint64, in bool) {
	g := r.region(by)
	if g == nil || g == r.own || !g.listens && g.broke.IsZero() {
		return 0, false
	}
	return digest(r.id, r.own), true
}

// Resume goes on with a region whose digest was the same. It lacks what has no
// number: fixes, and the numbers that stand in no event.
func (r *Room) Resume(now time.Time, by regions.RegionID) []Effect {
	r.used = now
	g := r.region(by)
	g.listens = true
	if g.broke.IsZero() {
		return r.take() // nothing was lost on the way there
	}
	from := g.broke.Add(-lossTime)
	var fixes []*wire.MemberFix
	for m := range r.movers(r.own) {
		if m.moved.Before(from) || !m.alive(now) {
			continue
		}
		fixes = append(fixes, m.fix)
		if !m.unsettled {
			m.moved = now // it may get lost once more
		}
	}
	r.encodeFixes(fixes, reliableChunk, func(body []byte, _ int) { r.toRegion(g.id, r.fixesFrame(r.own, body)) })
	if !r.raised.Before(from) {
		r.toRegion(g.id, r.numbers())
	}
	return r.take()
}

// Differed forgets that a region followed the room when its link broke: its
// digest was another one, and it asks again for those that it wants.
func (r *Room) Differed(by regions.RegionID) {
	if g := r.region(by); g != nil && !g.listens {
		g.broke = time.Time{}
	}
}

// digest is a room's part in the hash of its slot, in which the parts are added
// up: FNV-1a, and Murmur3's finalizer, since sums of plain FNV are not random.
func digest(room string, g *region) uint64 {
	h := fnv.New64a()
	var b [48]byte
	_, _ = h.Write([]byte(room))
	_, _ = h.Write(strconv.AppendUint(append(strconv.AppendUint(append(b[:0], ' '), g.epoch, 10), ' '), g.seq, 10))
	x := bits.RotateLeft64(h.Sum64(), 32)
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
