package nearby

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/regions"
)

const shards = 64

func shardOf(user string) int { return int(geo.Cell(fnv64(offset64, user)).Hash() % shards) }

// publisher is what this node publishes: a view of each user who reports
// through it and is discoverable.
type publisher struct {
	shards [shards]published
	count  atomic.Int64
	most   int64
}

type published struct {
	mu    sync.Mutex // guards the following, and the entries
	users map[string]*entry
	dirty []*entry // that have something to tell others
}

func (p *publisher) init(most int) {
	p.most = int64(most)
	for i := range p.shards {
		p.shards[i].users = map[string]*entry{}
	}
}

// target is a node that is to have a point, as the owner of its slot in a region.
type target struct {
	region regions.RegionID
	node   regions.NodeID
}

// entry is one user's. A user who is gone stays as an entry for as long as
// owners might have to be told so again.
type entry struct {
	Person
	cell geo.Cell
	slot int
	told []target // who has the point, or is about to
	left []target // who had it, and is to forget it
	sent time.Time
	here *point // where the owner has it, if that is this node

	dirty  bool // is in its shard's list
	urgent bool // does not wait for its turn
	gone   bool
	claim  bool // is to be told to the anchor
}

// news says what a change of an entry is to whom it is told.
type news uint8

const (
	same   news = iota // it lasts longer, that's all
	moved              // a change as any other
	urgent             // one that others shall not wait for
)

// put takes a view. The cell and the targets are the caller's to bring up to
// date, after urgent and moved.
func (e *entry) put(now time.Time, node uint64, name string, view grant.View, until time.Time) news {
	fresh := e.gone || !e.Until.After(now) // or there was nothing yet
	if !fresh && e.View == view && e.Name == name {
		e.Until = until
		return same
	}
	what := moved
	if fresh || view.Precision != e.View.Precision {
		what = urgent
	}
	e.claim = e.claim || fresh
	e.Version = versionOf(view.Captured, now, e.Version, node)
	e.Name, e.View, e.Until, e.gone = name, view, until, false
	return what
}

// leave ends an entry.
func (e *entry) leave(now time.Time) { e.gone, e.Until, e.claim = true, now.Add(life), false }

// retarget makes others those that are to have the point, and returns who is no
// more; whoever is or was told so knows it by the version.
func (e *entry) retarget(targets []target) (lost []target) {
	for _, t := range e.told {
		if !slices.ContainsFunc(targets, func(n target) bool { return n.node == t.node }) {
			lost = append(lost, t)
		}
	}
	e.left = slices.DeleteFunc(e.left, func(l target) bool {
		return slices.ContainsFunc(targets, func(n target) bool { return n.node == l.node })
	})
	e.told = targets
	return lost
}

// due reports whether an entry that has something to tell may.
func (e *entry) due(now time.Time) bool { return e.urgent || now.Sub(e.sent) >= rate }

// again is what is to be told anew though it did not change.
type again struct {
	look  bool // others may be to be told
	moved map[regions.RegionID]*[regions.Slots]bool
	nodes map[regions.NodeID]bool
}

func (a *again) init() {
	if a.nodes == nil {
		a.moved, a.nodes = map[regions.RegionID]*[regions.Slots]bool{}, map[regions.NodeID]bool{}
	}
}

// slots notes slots (nil: all) of a region.
func (a *again) slots(region regions.RegionID, slots []int) {
	set := a.moved[region]
	if set == nil {
		set = new([regions.Slots]bool)
		a.moved[region] = set
	}
	if slots == nil {
		for i := range set {
			set[i] = true
		}
	}
	for _, s := range slots {
		if s >= 0 && s < regions.Slots {
			set[s] = true
		}
	}
}

// merge adds what another one has.
func (a *again) merge(b *again) {
	a.look = a.look || b.look
	for region, set := range b.moved {
		a.slots(region, []int{})
		for i, is := range set {
			a.moved[region][i] = a.moved[region][i] || is
		}
	}
	maps.Copy(a.nodes, b.nodes)
}

func (a *again) empty() bool { return !a.look && len(a.moved) == 0 && len(a.nodes) == 0 }

// concerns reports whether an entry may be concerned.
func (a *again) concerns(e *entry) bool {
	for _, set := range a.moved {
		if set[e.slot] {
			return true
		}
	}
	return a.look || slices.ContainsFunc(e.told, func(t target) bool { return a.nodes[t.node] })
}

// has reports whether a target is to be told a point of a slot anew.
func (a *again) has(t target, slot int) bool {
	set := a.moved[t.region]
	return a.nodes[t.node] || set != nil && set[slot]
}

// ---------------------------------------------------------------- in

// Put satisfies edge.Map.
func (m *Map) Put(user, name string, view grant.View, until time.Time) {
	now := time.Now()
	if user == "" || !until.After(now) {
		return
	}
	cell, err := cellOf(&view)
	if err != nil {
		return // not a point
	}
	s := &m.publisher.shards[shardOf(user)]
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.users[user]
	if e == nil {
		if !room(&m.publisher.count, m.publisher.most, edge.FleetOf(user)) {
			m.metrics.refusedFull.Inc()
			return
		}
		e = &entry{Person: Person{User: user}}
		s.users[user] = e
	}
	what := e.put(now, m.tag, name, view, until)
	if what == same {
		m.keep(now, e)
		return
	}
	if e.cell != cell || len(e.told) == 0 {
		e.cell, e.slot = cell, slotOf(cell)
		if m.move(now, e) {
			what = urgent
		}
	}
	m.keep(now, e)
	m.mark(s, e, what == urgent)
}

// Gone satisfies edge.Map. It takes away what this node published: of what others
// did they know, and are told by those who know that it is to go.
func (m *Map) Gone(user string) {
	s := &m.publisher.shards[shardOf(user)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.users[user]; e != nil && !e.gone {
		m.leave(s, e)
	}
}

// superseded hears that another node published a user later than this one.
func (m *Map) superseded(user string, version uint64) {
	s := &m.publisher.shards[shardOf(user)]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := s.users[user]; {
	case e == nil || e.gone:
	case e.Version < version:
		m.metrics.superseded.Inc()
		m.leave(s, e)
	default: // the user was here since
		e.claim = true
		m.mark(s, e, true)
	}
}

func (m *Map) leave(s *published, e *entry) {
	e.leave(time.Now())
	if m.toldHere(e.told) {
		m.owner.gone(e.User, e.Version, e.Until)
	}
	m.mark(s, e, true)
}

// mark puts an entry into the list of those that have something to tell others.
func (m *Map) mark(s *published, e *entry, now bool) {
	if !e.claim && len(e.left) == 0 && !slices.ContainsFunc(e.told, m.elsewhere) {
		return
	}
	e.urgent = e.urgent || now
	if !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, e)
	}
	if now {
		m.stir()
	}
}

func (m *Map) elsewhere(t target) bool { return t.node != m.cfg.Self }

func (m *Map) toldHere(ts []target) bool {
	return slices.ContainsFunc(ts, func(t target) bool { return !m.elsewhere(t) })
}

// move looks up who is to have an entry's point, and reports whether that are
// others than before; those have it forgotten.
func (m *Map) move(now time.Time, e *entry) bool {
	var homes [maxPast + 1]regions.RegionID
	targets := make([]target, 0, 1)
	for _, region := range m.atlas.Load().homesOf(homes[:0], e.cell, now) {
		if node := m.ownerIn(region, e.slot); node != "" {
			targets = append(targets, target{region, node})
		}
	}
	if slices.Equal(targets, e.told) {
		return false
	}
	for _, t := range e.retarget(targets) {
		if m.elsewhere(t) {
			e.left = append(e.left, t)
		} else {
			m.owner.gone(e.User, e.Version, now.Add(life))
		}
	}
	e.Version += step // whoever was told "gone" and has it again knows that it is news
	return true
}

// keep has this node's own part of the map know an entry, if that is its place.
func (m *Map) keep(now time.Time, e *entry) {
	if m.toldHere(e.told) {
		m.metrics.here.Inc()
		at, o := m.owner.put(now, &e.Person, e.cell, e.slot, e.Until, e.here)
		e.here = at
		m.took(o, e.slot)
	}
}

// took counts what became of a point.
func (m *Map) took(o outcome, slot int) {
	switch o {
	case notOwned: // it is another's by now
		m.refused(m.cfg.Region, []int{slot})
	case full:
		m.metrics.refusedFull.Inc()
	case crowded:
		m.metrics.refusedFleets.Inc()
	}
}
