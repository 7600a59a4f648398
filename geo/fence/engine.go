package fence

import (
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/geo"
)

// Engine tests the fixes of many subjects against many fences, and pairs of
// subjects against each other. It is for one goroutine at a time.
type Engine struct {
	cfg      Config
	fences   map[string]*entry
	seq      uint64
	tree     tree
	planted  bool // tree has all fences
	subjects map[string]*subject
	pairs    map[string]*pair

	hits    []*entry // of one step
	scratch []Event
	observe teller // of one Observe: here, not to be allocated
	again   teller
}

// subject is one whose fixes are observed.
type subject struct {
	timeline
	pairs []*pair
}

// New returns an engine without fences.
func New(cfg Config) *Engine {
	return &Engine{
		cfg: cfg.withDefaults(), fences: map[string]*entry{},
		subjects: map[string]*subject{}, pairs: map[string]*pair{},
	}
}

// Add adds a fence, and appends to dst the events that the fixes in the window
// make of it. There must be none of that ID.
func (e *Engine) Add(dst []Event, f Fence) ([]Event, error) {
	a, err := compile(f.Shape)
	switch {
	case err != nil:
		return dst, err
	case f.ID == "":
		return dst, invalid("a fence needs an ID")
	case e.fences[f.ID] != nil:
		return dst, invalid("there is a fence %q", f.ID)
	case f.Dwell < 0:
		return dst, invalid("a dwell is not negative")
	}
	e.seq++
	added := newEntry(f, a, e.seq)
	e.fences[f.ID] = added
	e.planted = false
	for _, id := range sortedKeys(e.subjects) {
		s := e.subjects[id]
		if len(s.fixes) == 0 || s.fixes[len(s.fixes)-1].t < added.from || !s.near(added) {
			continue
		}
		e.plant()
		t := teller{events: dst, subject: id}
		s.refold(e, &t)
		dst = t.events
	}
	return dst, nil
}

// near reports whether the fence could matter to the fixes in the window.
func (s *subject) near(f *entry) bool {
	from := s.fixes[0].sample
	if k := s.base.(*track); k.hasLast {
		from = k.last
	}
	b, way, acc := boxOf(from.v), 0.0, from.acc
	for _, x := range s.fixes {
		b = b.join(boxOf(x.v))
		way = max(way, distance(from.v, x.v))
		acc = max(acc, x.acc)
		from = x.sample
	}
	b = b.grow(bulge(way) + clampZ*acc*sigmaOfAccuracy/geo.Radius)
	return b.meets(&f.box)
}

// Remove forgets a fence. Nothing is told.
func (e *Engine) Remove(id string) {
	f := e.fences[id]
	if f == nil {
		return
	}
	delete(e.fences, id)
	e.planted = false
	for _, s := range e.subjects {
		for _, r := range []reducer{s.base, s.head} {
			k := r.(*track)
			k.machines = slices.DeleteFunc(k.machines, func(m machine) bool { return m.fence == f })
		}
		s.told = slices.DeleteFunc(s.told, func(ev Event) bool { return ev.Fence == id })
	}
}

// plant builds the tree anew, if fences changed.
func (e *Engine) plant() {
	if !e.planted {
		e.tree, e.planted = newTree(slices.Collect(maps.Values(e.fences))), true
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// AddPair adds a pair, and appends to dst the events that the fixes in the
// window make of it. There must be none of that ID.
func (e *Engine) AddPair(dst []Event, p Pair) ([]Event, error) {
	switch {
	case p.ID == "" || p.A == "" || p.B == "" || p.A == p.B:
		return dst, invalid("a pair needs an ID and two subjects")
	case e.pairs[p.ID] != nil:
		return dst, invalid("there is a pair %q", p.ID)
	case !(p.Radius >= MinRadius && p.Radius <= MaxRadius):
		return dst, invalid("a pair's radius is from %d to %d m", MinRadius, MaxRadius)
	case p.Dwell < 0:
		return dst, invalid("a dwell is not negative")
	}
	x := newPair(p)
	e.pairs[p.ID] = x
	a, b := e.subject(p.A), e.subject(p.B)
	a.pairs, b.pairs = append(a.pairs, x), append(b.pairs, x)

	var both []stamped
	for _, s := range a.fixes {
		both = append(both, stamped{s.sample, 0})
	}
	for _, s := range b.fixes {
		both = append(both, stamped{s.sample, 1})
	}
	slices.SortFunc(both, func(a, b stamped) int { return a.compare(&b) })
	t := x.teller(dst)
	for _, s := range both {
		x.add(e, s, &t)
	}
	return t.events, nil
}

// RemovePair forgets a pair. Nothing is told.
func (e *Engine) RemovePair(id string) {
	x := e.pairs[id]
	if x == nil {
		return
	}
	delete(e.pairs, id)
	for _, name := range []string{x.A, x.B} {
		s := e.subjects[name]
		s.pairs = slices.DeleteFunc(s.pairs, func(o *pair) bool { return o == x })
		if _, seen := s.newest(); !seen && len(s.pairs) == 0 {
			delete(e.subjects, name)
		}
	}
}

func (e *Engine) subject(id string) *subject {
	s := e.subjects[id]
	if s == nil {
		s = &subject{timeline: newTimeline(&track{}, &track{})}
		e.subjects[id] = s
	}
	return s
}

// Observe takes a fix of a subject, and appends to dst the events that follow.
// An error says what is wrong with the fix, which then changed nothing. The
// verdict is about fences: for a pair, a fix is too late if it is older than the
// window before the newest of either.
func (e *Engine) Observe(dst []Event, id string, f Fix) ([]Event, Verdict, error) {
	sample, err := f.sample()
	if err != nil {
		return dst, TooLate, err
	}
	if id == "" {
		return dst, TooLate, invalid("a fix needs a subject")
	}
	e.plant()
	s := e.subject(id)
	t := &e.observe
	*t = teller{events: dst, subject: id}
	verdict := s.add(e, stamped{sample, 0}, t)
	for _, p := range s.pairs {
		*t = p.teller(t.events)
		p.add(e, stamped{sample, p.side(id)}, t)
	}
	return t.events, verdict, nil
}

// Expire ends the pairs of which one has not been heard of, at a time that the
// caller reads from its clock. A fix that says otherwise may still come late.
func (e *Engine) Expire(dst []Event, now time.Time) []Event {
	for _, id := range sortedKeys(e.pairs) {
		p := e.pairs[id]
		t := p.teller(dst)
		p.tick(e, now.UnixMilli(), &t)
		dst = t.events
	}
	return dst
}

// Drop forgets a subject that shares no more, but for the numbers of its events.
// Where it was inside, or near another one, an exit is told with the reason
// Gone. What was captured until then counts no more.
func (e *Engine) Drop(dst []Event, id string, at time.Time) []Event {
	s := e.subjects[id]
	if s == nil {
		return dst
	}
	t := teller{events: dst, subject: id}
	base, head := &track{}, s.head.(*track)
	for _, m := range head.machines {
		t.fence = m.fence.ID
		m.end(&t, at.UnixMilli(), m.fence.Dwell.Milliseconds(), Gone)
		if m.dormant = true; m.n > 0 {
			base.machines = append(base.machines, m)
		}
	}
	s.restart(base, at.UnixMilli())
	dst = t.events
	for _, p := range s.pairs {
		t := p.teller(dst)
		m := p.head.(*meeting).machine
		m.end(&t, at.UnixMilli(), p.Dwell.Milliseconds(), Gone)
		fresh := newMeeting(p)
		fresh.machine = m
		p.restart(fresh, at.UnixMilli())
		dst = t.events
	}
	if len(base.machines) == 0 && len(s.pairs) == 0 {
		delete(e.subjects, id)
	}
	return dst
}

// Standing says where a subject is to a fence.
func (e *Engine) Standing(fence, id string) Standing {
	f, s := e.fences[fence], e.subjects[id]
	if f == nil || s == nil {
		return Standing{}
	}
	k := s.head.(*track)
	if !k.hasLast || k.last.t < f.from {
		return Standing{}
	}
	st := Standing{State: Outside}
	if i, found := k.find(f); found && !k.machines[i].dormant {
		st = k.machines[i].standing()
	}
	st.TooCoarse = k.last.acc > f.area.radius
	return st
}

// PairStanding says whether two are near each other.
func (e *Engine) PairStanding(id string) Standing {
	p := e.pairs[id]
	if p == nil {
		return Standing{}
	}
	k := p.head.(*meeting)
	st := k.machine.standing()
	st.TooCoarse = k.acc > p.Radius
	return st
}
