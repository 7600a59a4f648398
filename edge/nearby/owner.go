package nearby

import (
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// owner is the part of the map that is this node's: the points of its slots.
//
// A point is in three places: in the book, and in its layer by its cell (a shard
// of cells) and in the tree. They have locks of their own, taken in that order. A
// point changes with all of them held.
type owner struct {
	book
	owns  func(slot int) bool // by the roster
	most  int64
	count atomic.Int64
	layers

	// stamps number the changes. They begin at the clock, so that a stamp of an
	// earlier start of this node is below floor, which is up to where it is no
	// more known who left.
	stamps atomic.Uint64
	floor  atomic.Uint64
}

// state is what somebody is to the owner, or to the publisher.
type state uint8

const (
	nobody state = iota
	there
	gone   // a grave: nothing of that version or below comes back
	lapsed // only the publisher's: not shown any more, but what is older is overtaken
)

// point is somebody's, as the owner has it. Where it is, when it expires and the
// stamp of the last change are in the entry.
type point struct {
	held  // of a grave, the version and until when it is one
	layer *layer
	in    *cell
	place uint32 // in the cell's members
	state state
}

func (p *someone) stamp() uint64 { return uint64(p.Captured()) }

// person returns what the owner has.
func (p *someone) person() Person { return p.own.person(p.user, p.Point()) }

// cell is what is in one of a layer, and which people were until lately.
type cell struct {
	lock    *cells
	key     cellKey
	slot    int
	members []member
	left    []departure // the oldest first
}

// member is a point, with its stamp where looking through them all is quick.
type member struct {
	stamp uint64
	*someone
}

type departure struct {
	user  string
	stamp uint64
	at    int64 // Unix ms
}

// departures of a cell that are remembered, at most.
const departures = 4096

func newOwner(owns func(int) bool, most, fleets int) *owner {
	o := &owner{owns: owns, most: int64(most)}
	o.book.init()
	o.layers.init(fleets, o.book.entry)
	o.stamps.Store(uint64(time.Now().UnixNano()))
	o.floor.Store(o.stamps.Load())
	return o
}

// outcome is what became of a point.
type outcome uint8

const (
	taken outcome = iota
	stale         // there is something as new
	notOwned
	full
	crowded // there are too many fleets
	invalid
)

// put takes a person's point, which lapses at expires if it is not told again. A
// version that is there already lasts longer.
func (o *owner) put(now time.Time, p *Person, to *index.Place, c geo.Cell, slot int, expires time.Time) outcome {
	if !o.owns(slot) {
		return notOwned
	}
	h := hold(p.Name, &p.View, p.Until, p.Version)
	s, number, tag := o.of(p.User)
	s.mu.Lock()
	defer s.mu.Unlock()
	is := s.find(tag)
	if is == nil {
		is = s.add(p.User, number, tag)
		defer s.tidy(is)
	}
	return o.set(now, s, is, &h, to, c, slot, expires.UnixMilli())
}

// set is put for somebody in the book, whose shard is locked.
func (o *owner) set(now time.Time, s *shard, p *someone, h *held, to *index.Place, c geo.Cell, slot int, expires int64) outcome {
	if p.own.state != nobody && h.version <= p.own.version {
		if h.version < p.own.version || p.own.state == gone {
			return stale
		}
		o.last(s, p, h.until, expires)
		return stale
	}
	if p.own.state != there {
		fleet := edge.FleetOf(p.user)
		if !room(&o.count, o.most, fleet) {
			return full
		}
		layer := o.enter(fleet)
		if layer == nil {
			o.count.Add(-1)
			return crowded
		}
		p.own = point{layer: layer, state: there}
		p.own.rank = rankOf(p.user)
	} else if p.own.in.key.cell != c {
		o.unlink(p, now)
	}
	if !o.link(p, h, to, c, slot, expires) {
		o.take(p, now)
		return notOwned
	}
	s.earliest = min(s.earliest, expires)
	return taken
}

// last makes a point last until another time.
func (o *owner) last(s *shard, p *someone, until, expires int64) {
	in := p.own.in
	in.lock.mu.Lock()
	defer in.lock.mu.Unlock()
	stamp := p.stamp()
	if p.own.until != until { // which is news to who shows it
		stamp = o.stamps.Add(1)
		in.members[p.own.place].stamp = stamp
	}
	p.own.layer.tree.Extend(&p.Entry, int64(stamp), expires, func() { p.own.until = until })
	s.earliest = min(s.earliest, expires)
}

// link puts what is new of a point under its cell, unless the slot went.
func (o *owner) link(p *someone, h *held, to *index.Place, c geo.Cell, slot int, expires int64) bool {
	own := &p.own
	var lock *cells
	var key cellKey
	if own.in != nil {
		lock = own.in.lock
	} else {
		lock, key = own.layer.at(c)
	}
	lock.mu.Lock()
	defer lock.mu.Unlock()
	if !o.owns(slot) { // who drops comes after the roster's change
		return false
	}
	if own.in == nil {
		in := lock.of[key]
		if in == nil {
			in = &cell{lock: lock, key: key, slot: slot}
			lock.of[key] = in
		}
		own.in, own.place = in, uint32(len(in.members))
		in.members = append(in.members, member{someone: p})
	}
	stamp := o.stamps.Add(1)
	// The order of versions is kept here: what the tree is told is the newest. What is
	// written is written at once, so that it is waited for once.
	own.layer.tree.Put(&p.Entry, uint32(p.ID), to, int64(stamp), expires, func() {
		rank := own.rank
		own.held = *h
		own.rank = rank
		own.in.members[own.place].stamp = stamp
	})
	return true
}

// unlink takes a point out of its cell.
func (o *owner) unlink(p *someone, now time.Time) {
	in := p.own.in
	p.own.in = nil
	in.lock.mu.Lock()
	defer in.lock.mu.Unlock()
	in.remove(p)
	if p.own.layer != &o.people { // of whom boxes tell nobody
		if len(in.members) == 0 {
			delete(in.lock.of, in.key)
		}
		return
	}
	if len(in.left) >= departures {
		o.forgotten(in.left[len(in.left)/2].stamp)
		in.left = append(in.left[:0], in.left[len(in.left)/2+1:]...)
	}
	in.left = append(in.left, departure{p.user, o.stamps.Add(1), now.UnixMilli()})
}

// forgotten notes that who left up to a stamp is known no more.
func (o *owner) forgotten(stamp uint64) {
	for {
		was := o.floor.Load()
		if was >= stamp || o.floor.CompareAndSwap(was, stamp) {
			return
		}
	}
}

func (c *cell) remove(p *someone) {
	last := len(c.members) - 1
	c.members[p.own.place] = c.members[last]
	c.members[p.own.place].own.place = p.own.place
	c.members[last] = member{}
	c.members = c.members[:last]
}

// gone takes a user's point of that version or an older one away, and refuses
// such until the given time.
func (o *owner) gone(user string, version uint64, until time.Time) {
	s, number, tag := o.of(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(tag)
	if p == nil {
		if s.count >= int(2*o.most+o.most/lapsedPart)/shards+64 {
			return // it lapses
		}
		p = s.add(user, number, tag)
	}
	o.bury(s, p, version, until.UnixMilli())
}

// bury is gone for somebody in the book, whose shard is locked.
func (o *owner) bury(s *shard, p *someone, version uint64, until int64) {
	if p.own.state != nobody && p.own.version > version {
		return
	}
	o.take(p, time.Now())
	p.own = point{held: held{version: version, until: until}, state: gone}
	s.graves = append(s.graves, grave{p, until})
}

// take takes a point, if there is one, away from everywhere but the book.
func (o *owner) take(p *someone, now time.Time) {
	if p.own.state != there {
		return
	}
	if p.own.in != nil {
		o.unlink(p, now)
	}
	if p.In() {
		p.own.layer.tree.Take(&p.Entry)
	}
	o.count.Add(-1)
	o.leave(p.own.layer)
	p.own = point{}
}

// drop forgets the points of slots that are this node's no more.
func (o *owner) drop() {
	var lost []string
	for _, table := range [...]*[shards]cells{o.people.cells, &o.fleets} {
		for i := range table {
			cs := &table[i]
			cs.mu.Lock()
			for key, in := range cs.of {
				if o.owns(in.slot) {
					continue
				}
				for _, p := range in.members {
					lost = append(lost, p.user)
				}
				if len(in.members) == 0 {
					delete(cs.of, key)
				}
			}
			cs.mu.Unlock()
		}
	}
	for _, user := range lost {
		s, _, tag := o.of(user)
		s.mu.Lock()
		if p := s.find(tag); p != nil && p.own.state == there && !o.owns(p.own.in.slot) {
			o.take(p, time.Now())
			s.tidy(p)
		}
		s.mu.Unlock()
	}
	o.forgotten(o.stamps.Add(1))
}

// sweep takes away what has lapsed, and what was remembered of it for long
// enough. It does one of so many parts of the book.
func (o *owner) sweep(now time.Time, part, parts int) {
	at := now.UnixMilli()
	for i := part; i < shards; i += parts {
		s := &o.shards[i]
		s.mu.Lock()
		if s.earliest <= at {
			s.earliest = never
			s.each(func(p *someone) {
				switch {
				case p.own.state != there:
				case p.Expires() <= at:
					o.take(p, now)
					s.tidy(p)
				default:
					s.earliest = min(s.earliest, p.Expires())
				}
			})
		}
		n := 0
		for ; n < len(s.graves) && s.graves[n].until <= at; n++ {
			if p := s.graves[n].someone; p.own.state == gone && p.own.until <= at {
				p.own = point{}
				s.tidy(p)
			}
		}
		if s.graves = s.graves[n:]; len(s.graves) == 0 {
			s.graves = nil
		}
		s.mu.Unlock()
	}
	if part > 0 {
		return
	}
	for i := range o.people.cells { // those of fleets go with their last subject
		cs := &o.people.cells[i]
		cs.mu.Lock()
		for c, in := range cs.of {
			n := 0
			for n < len(in.left) && in.left[n].at <= at-life.Milliseconds() {
				n++
			}
			if n > 0 {
				o.forgotten(in.left[n-1].stamp)
				if in.left = in.left[n:]; len(in.left) == 0 {
					in.left = nil
				}
			}
			if len(in.members) == 0 && in.left == nil {
				delete(cs.of, c)
			}
		}
		cs.mu.Unlock()
	}
}
