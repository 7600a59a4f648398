package nearby

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
)

// owner is the part of the map that is this node's: the points of its slots.
//
// A point is in three places: by its user (a shard of users), and in its layer by
// its cell (a shard of cells) and in the index. Users and cells have locks of
// their own, taken in that order; a point's fields change under both.
type owner struct {
	owns  func(slot int) bool // by the roster
	most  int64
	users [shards]users
	count atomic.Int64
	layers

	// stamps number the changes. They begin at the clock, so that a stamp of an
	// earlier start of this node is below floor, which is up to where it is no
	// more known who left.
	stamps atomic.Uint64
	floor  atomic.Uint64
}

type users struct {
	mu     sync.Mutex // guards the following
	of     map[string]*point
	ids    []*point // by the low bits of an id
	free   []uint32
	given  uint32
	graves []*point // the oldest first
}

type point struct {
	Person
	layer   *layer
	id      uint64 // in the index; of each time that a user comes
	cell    geo.Cell
	slot    int
	expires int64  // Unix ms
	rank    uint32 // among all, at random: who is shown where not all can be
	gone    bool   // a grave: nothing of that version or below comes back

	stamp uint64 // of the last change
	place int    // in the cell's members
}

// cell is what is in one of a layer, and which people were until lately.
type cell struct {
	slot    int
	members []member
	left    []departure // the oldest first
}

// member is a point, with its stamp where looking through them all is quick.
type member struct {
	stamp uint64
	*point
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
	o.layers.init(fleets)
	o.stamps.Store(uint64(time.Now().UnixNano()))
	o.floor.Store(o.stamps.Load())
	for i := range shards {
		o.users[i].of = map[string]*point{}
	}
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
// version that is there already lasts longer. It returns where the point is: who
// brings that again saves looking it up.
func (o *owner) put(now time.Time, p *Person, c geo.Cell, slot int, expires time.Time, at *point) (*point, outcome) {
	if !o.owns(slot) {
		return nil, notOwned
	}
	shard := shardOf(p.User)
	s := &o.users[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	was := at
	if was == nil || s.byID(was.id) != was {
		was = s.of[p.User]
	}
	if was != nil && p.Version <= was.Version {
		if p.Version < was.Version || was.gone {
			return nil, stale
		}
		o.last(was, p.Until, expires)
		return was, stale
	}
	if was == nil || was.gone {
		fleet := edge.FleetOf(p.User)
		if !room(&o.count, o.most, fleet) {
			return nil, full
		}
		layer := o.enter(fleet)
		if layer == nil {
			o.count.Add(-1)
			return nil, crowded
		}
		was = &point{layer: layer, id: s.newID(shard), rank: rankOf(p.User)}
		s.ids[was.id>>idShard&idMask] = was
		s.of[p.User] = was
	} else if was.cell != c {
		o.unlink(was, now)
	}
	if !o.link(was, p, c, slot, expires) {
		o.take(s, was)
		delete(s.of, p.User)
		return nil, notOwned
	}
	o.reindex(was)
	return was, taken
}

// last makes a point last until another time.
func (o *owner) last(p *point, until, expires time.Time) {
	cs, key := p.layer.at(p.cell)
	cs.mu.Lock()
	if !p.Until.Equal(until) { // which is news to who shows it
		p.stamp = o.stamps.Add(1)
		cs.of[key].members[p.place].stamp = p.stamp
	}
	p.Until, p.expires = until, expires.UnixMilli()
	cs.mu.Unlock()
	o.reindex(p)
}

// reindex brings the index up to date with a point.
func (o *owner) reindex(p *point) {
	// The order of versions is kept here, so the index gets times that grow.
	_, _ = p.layer.index.Upsert(p.id, p.View.Point, int64(p.stamp), p.expires)
}

// link puts what is new of a point under its cell, unless the slot went.
func (o *owner) link(pt *point, p *Person, c geo.Cell, slot int, expires time.Time) bool {
	cs, key := pt.layer.at(c)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !o.owns(slot) { // who drops comes after the roster's change
		return false
	}
	in := cs.of[key]
	if in == nil {
		in = &cell{slot: slot}
		cs.of[key] = in
	}
	if pt.cell != c {
		pt.place = len(in.members)
		in.members = append(in.members, member{point: pt})
	}
	pt.Person, pt.cell, pt.slot, pt.expires = *p, c, slot, expires.UnixMilli()
	pt.stamp = o.stamps.Add(1)
	in.members[pt.place].stamp = pt.stamp
	return true
}

// unlink takes a point out of its cell.
func (o *owner) unlink(pt *point, now time.Time) {
	cs, key := pt.layer.at(pt.cell)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	pt.cell = 0
	in := cs.of[key]
	if in == nil {
		return
	}
	in.remove(pt)
	if pt.layer != &o.people { // of whom boxes tell nobody
		if len(in.members) == 0 {
			delete(cs.of, key)
		}
		return
	}
	if len(in.left) >= departures {
		o.forgotten(in.left[len(in.left)/2].stamp)
		in.left = append(in.left[:0], in.left[len(in.left)/2+1:]...)
	}
	in.left = append(in.left, departure{pt.User, o.stamps.Add(1), now.UnixMilli()})
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

func (c *cell) remove(p *point) {
	last := len(c.members) - 1
	c.members[p.place] = c.members[last]
	c.members[p.place].place = p.place
	c.members[last] = member{}
	c.members = c.members[:last]
}

// gone takes a user's point of that version or an older one away, and refuses
// such until the given time.
func (o *owner) gone(user string, version uint64, until time.Time) {
	s := &o.users[shardOf(user)]
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.of[user]
	if was != nil && was.Version > version {
		return
	}
	if was == nil && len(s.of) >= 2*int(o.most)/shards+64 {
		return // it lapses
	}
	if was != nil && !was.gone {
		o.take(s, was)
	}
	grave := &point{Person: Person{User: user, Version: version}, expires: until.UnixMilli(), gone: true}
	s.of[user] = grave
	s.graves = append(s.graves, grave)
}

// take takes a point away from everywhere but users.of.
func (o *owner) take(s *users, p *point) {
	if p.cell != 0 {
		o.unlink(p, time.Now())
	}
	o.forget(s, p)
}

// forget takes a point that is in no cell out of the index and the ids.
func (o *owner) forget(s *users, p *point) {
	p.layer.index.Remove(p.id)
	low := uint32(p.id >> idShard & idMask)
	s.ids[low] = nil
	s.free = append(s.free, low)
	o.count.Add(-1)
	o.leave(p.layer)
}

// An id is, from the top: how many ids the shard has given, its place in
// users.ids, the shard. So an id that the index had a moment ago finds the same
// point or none.
const (
	idShard = 6 // bits
	idPlace = 26
	idMask  = 1<<idPlace - 1
)

func (s *users) newID(shard int) uint64 {
	var low uint32
	if n := len(s.free); n > 0 {
		low, s.free = s.free[n-1], s.free[:n-1]
	} else {
		low = uint32(len(s.ids))
		s.ids = append(s.ids, nil)
	}
	s.given++
	return uint64(s.given)<<(idShard+idPlace) | uint64(low)<<idShard | uint64(shard)
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
					lost = append(lost, p.User)
				}
				if len(in.members) == 0 {
					delete(cs.of, key)
				}
			}
			cs.mu.Unlock()
		}
	}
	for _, user := range lost {
		o.remove(user, func(p *point) bool { return !o.owns(p.slot) })
	}
	o.forgotten(o.stamps.Add(1))
}

// remove takes a user's point away, without a grave, if it is as told.
func (o *owner) remove(user string, is func(*point) bool) {
	s := &o.users[shardOf(user)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.of[user]; p != nil && !p.gone && is(p) {
		o.take(s, p)
		delete(s.of, user)
	}
}

// sweep takes away what has lapsed, and what was remembered of it for long
// enough.
func (o *owner) sweep(now time.Time) {
	at := now.UnixMilli()
	for _, l := range o.layers.all() {
		for _, id := range l.index.Expire(nil, at) {
			if user := o.userOf(id); user != "" {
				o.remove(user, func(p *point) bool { return p.id == id && p.expires <= at })
			}
		}
	}
	for i := range o.users {
		s := &o.users[i]
		s.mu.Lock()
		n := 0
		for ; n < len(s.graves) && s.graves[n].expires <= at; n++ {
			if g := s.graves[n]; s.of[g.User] == g {
				delete(s.of, g.User)
			}
		}
		if s.graves = s.graves[n:]; len(s.graves) == 0 {
			s.graves = nil
		}
		s.mu.Unlock()
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

func (o *owner) userOf(id uint64) string {
	s := &o.users[id%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.byID(id); p != nil {
		return p.User
	}
	return ""
}

func (s *users) byID(id uint64) *point {
	if low := id >> idShard & idMask; low < uint64(len(s.ids)) {
		if p := s.ids[low]; p != nil && p.id == id {
			return p
		}
	}
	return nil
}
