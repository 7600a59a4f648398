package nearby

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

// publisher is what this node publishes: a view of each user who reports
// through it and is discoverable.
type publisher struct {
	count  atomic.Int64
	most   int64
	lapsed atomic.Int64 // beside those that count, so that they take nobody's place
}

// lapsedPart says how many are remembered who lapsed: at most that part of all.
const lapsedPart = 4

// target is a node that is to have a point, as the owner of its slot in a region.
type target struct {
	region regions.RegionID
	node   regions.NodeID
}

// entry is one user's. A user who is gone stays as an entry for as long as
// owners might have to be told so again, and one whose view lapsed for as long as
// another node might have an older one that did not.
type entry struct {
	held
	at   geo.Point
	home geo.Cell
	told *[]target // who has the point, or is about to; nil: nobody
	left *[]target // who had it, and is to forget it; nil: nobody
	sent int64     // Unix ms
	slot int32     // of the home

	state  state
	dirty  bool // is in its shard's list
	urgent bool // does not wait for its turn
	claim  bool // is to be told to the anchor
}

// news says what a change of an entry is to whom it is told.
type news uint8

const (
	same   news = iota // it lasts longer, that's all
	moved              // a change as any other
	urgent             // one that others shall not wait for
)

// put takes a view, which gets its version. The home and the targets are the
// caller's to bring up to date, after urgent and moved.
func (e *entry) put(now time.Time, node uint64, h *held, at geo.Point) news {
	fresh := e.state != there || e.until <= now.UnixMilli()
	if !fresh && e.at == at && e.shows(h) {
		e.until = h.until
		return same
	}
	what := moved
	if fresh || h.grant != e.grant {
		what = urgent
	}
	e.claim = e.claim || fresh
	h.version = versionOf(time.Unix(h.seconds, 0), now, e.version, node)
	e.held, e.at, e.state = *h, at, there
	return what
}

// lapse has an entry that is shown no more go on as what overtook older ones.
func (e *entry) lapse(until time.Time) {
	*e = entry{held: held{version: e.version, until: until.UnixMilli()}, state: lapsed, dirty: e.dirty}
}

// leave ends an entry.
func (e *entry) leave(now time.Time) {
	e.state, e.until, e.claim = gone, now.Add(life).UnixMilli(), false
}

// retarget makes others those that are to have the point, and returns who is no
// more; whoever is or was told so knows it by the version.
func (e *entry) retarget(targets *[]target) (lost []target) {
	has := func(t target) bool {
		return slices.ContainsFunc(list(targets), func(n target) bool { return n.node == t.node })
	}
	for _, t := range list(e.told) {
		if !has(t) {
			lost = append(lost, t)
		}
	}
	if e.left != nil {
		if *e.left = slices.DeleteFunc(*e.left, has); len(*e.left) == 0 {
			e.left = nil
		}
	}
	e.told = targets
	return lost
}

func list(ts *[]target) []target {
	if ts == nil {
		return nil
	}
	return *ts
}

// due reports whether an entry that has something to tell may.
func (e *entry) due(now time.Time) bool {
	return e.urgent || now.UnixMilli()-e.sent >= rate.Milliseconds()
}

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
	return a.look || slices.ContainsFunc(list(e.told), func(t target) bool { return a.nodes[t.node] })
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
	h := hold(name, &view, until, 0)
	s, number, tag := m.owner.of(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(tag)
	if p != nil {
		s.ahead += p.own.version + p.pub.version
	}
	// Here and not before: what is known of them is still on its way from memory.
	to, err := index.Locate(view.Point)
	if err != nil {
		return // not a point
	}
	if p == nil || p.pub.state == nobody || p.pub.state == lapsed {
		if !room(&m.publisher.count, m.publisher.most, edge.FleetOf(user)) {
			m.metrics.refusedFull.Inc()
			return
		}
		if p == nil {
			p = s.add(user, number, tag)
		}
		if p.pub.state == lapsed {
			m.publisher.lapsed.Add(-1)
		}
	}
	e := &p.pub
	what := e.put(now, m.tag, &h, view.Point)
	if what == same {
		m.keep(now, s, p, &to)
		return
	}
	if home := homeOf(&view, &to); e.home != home || e.told == nil {
		e.home, e.slot = home, int32(slotOf(home))
		if m.move(now, s, p) {
			what = urgent
		}
	}
	m.keep(now, s, p, &to)
	m.mark(s, p, what == urgent)
}

// Gone satisfies edge.Map. It takes away what this node published: of what others
// did they know, and are told by those who know that it is to go.
func (m *Map) Gone(user string) {
	s, _, tag := m.owner.of(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.find(tag); p != nil && p.pub.state == there {
		m.leave(s, p)
	}
}

// superseded hears that another node published a user later than this one.
func (m *Map) superseded(user string, version uint64) {
	s, _, tag := m.owner.of(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch p := s.find(tag); {
	case p == nil || p.pub.state == nobody || p.pub.state == gone:
	case p.pub.version >= version: // the user was here since
		p.pub.claim = true
		m.mark(s, p, true)
	case p.pub.state == lapsed: // the other one knows it from here on
		m.forget(s, p)
	default:
		m.metrics.superseded.Inc()
		m.leave(s, p)
	}
}

// forget forgets an entry.
func (m *Map) forget(s *shard, p *someone) {
	if p.pub.state == lapsed {
		m.publisher.lapsed.Add(-1)
	} else {
		m.publisher.count.Add(-1)
	}
	p.pub = entry{dirty: p.pub.dirty}
	s.tidy(p)
}

// lapse ends an entry whose time is over, and reports whether it is remembered.
func (m *Map) lapse(now time.Time, s *shard, p *someone) bool {
	e := &p.pub
	until := overtakes(e.version, now)
	if e.state != there || m.oneNode() || !until.After(now) || !room(&m.publisher.lapsed, m.publisher.most/lapsedPart, edge.FleetOf(p.user)) {
		m.forget(s, p)
		return false
	}
	m.publisher.count.Add(-1)
	e.lapse(until)
	return true
}

func (m *Map) leave(s *shard, p *someone) {
	e := &p.pub
	e.leave(time.Now())
	if m.toldHere(list(e.told)) {
		m.owner.bury(s, p, e.version, e.until)
	}
	m.mark(s, p, true)
}

// mark puts an entry into the list of those that have something to tell others.
func (m *Map) mark(s *shard, p *someone, now bool) {
	e := &p.pub
	if !e.claim && e.left == nil && !slices.ContainsFunc(list(e.told), m.elsewhere) {
		return
	}
	e.urgent = e.urgent || now
	if !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, p)
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
func (m *Map) move(now time.Time, s *shard, p *someone) bool {
	e := &p.pub
	var homes [maxPast + 1]regions.RegionID
	var room [maxPast + 1]target
	targets := room[:0]
	for _, region := range m.atlas.Load().homesOf(homes[:0], e.home, now) {
		if node := m.ownerIn(region, int(e.slot)); node != "" {
			targets = append(targets, target{region, node})
		}
	}
	if slices.Equal(targets, list(e.told)) {
		return false
	}
	for _, t := range e.retarget(s.targets(targets)) {
		if m.elsewhere(t) {
			if e.left == nil {
				e.left = new([]target)
			}
			*e.left = append(*e.left, t)
		} else {
			m.owner.bury(s, p, e.version, now.Add(life).UnixMilli())
		}
	}
	e.version += step // whoever was told "gone" and has it again knows that it is news
	return true
}

// targets returns a list that may be kept, the same one for many; nil if it is
// empty.
func (s *shard) targets(ts []target) *[]target {
	if len(ts) == 0 {
		return nil
	}
	known := s.told[ts[0]]
	if len(ts) > 1 || known == nil {
		clone := slices.Clone(ts)
		known = &clone
	}
	if len(ts) == 1 {
		s.told[ts[0]] = known
	}
	return known
}

// keep has this node's own part of the map know an entry, if that is its place.
// to is where it is; nil if that is still to be computed.
func (m *Map) keep(now time.Time, s *shard, p *someone, to *index.Place) {
	e := &p.pub
	if !m.toldHere(list(e.told)) {
		return
	}
	if to == nil {
		place, err := index.Locate(e.at)
		if err != nil {
			return // it would not be here
		}
		to = &place
	}
	m.metrics.here.Inc()
	o := notOwned
	if m.owner.owns(int(e.slot)) {
		o = m.owner.set(now, s, p, &e.held, to, e.home, int(e.slot), e.until)
	}
	m.took(o, int(e.slot))
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
