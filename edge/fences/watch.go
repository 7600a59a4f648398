package fences

import (
	"slices"
	"strconv"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/fence"
)

// watch is what runs the fences of one room. It is pure: fixes, what was read
// and what became of errands go in, with the time; errands come out. It is for
// one goroutine at a time.
type watch struct {
	room    string
	version uint64
	engine  *fence.Engine
	places  map[string]*place // by key
	people  map[string]*person

	meet  float64
	pairs map[string]*entry // that the engine watches, by their id

	out    []errand
	events []fence.Event // scratch
	seen   time.Time     // when the fix came that is being taken
	loaded time.Time     // when it was read first
	pruned time.Time
	bad    int  // fences and fixes that the engine did not take
	stale  bool // it is to be read again: what was assumed may not be so

	telling struct { // again, what was stored lately
		busy, want bool
		tries      int
		retry      time.Time
	}
}

// place is a fence with its name in the engine.
type place struct {
	Fence
	key string
}

// placeKey names a fence with its shape: another revision is another fence.
func placeKey(id string, revision uint64) string {
	return id + "@" + strconv.FormatUint(revision, 10)
}

// errand is something to be stored.
type errand struct {
	entry    *entry // its first change; or
	crossing Crossing
	seen     time.Time
	person   *person // stands nowhere; or
	retell   bool    // what was stored lately may not have been published
}

func newWatch(room string) *watch {
	return &watch{
		room: room, engine: fence.New(fence.Config{Stale: pairStale}), places: map[string]*place{},
		people: map[string]*person{}, pairs: map[string]*entry{},
	}
}

// load takes what was read.
func (w *watch) load(now time.Time, f Fencing) {
	w.version, w.seen = max(w.version, f.Version), now
	first := w.loaded.IsZero()
	if first {
		w.loaded = now
		w.retell()
	}
	keys := map[string]bool{}
	for _, x := range f.Fences {
		key := placeKey(x.ID, x.Revision)
		keys[key] = true
		if p := w.places[key]; p != nil {
			p.Name = x.Name
		}
	}
	for key, p := range w.places {
		if !keys[key] {
			w.engine.Remove(key)
			delete(w.places, key)
			w.forgetEntries(func(e *entry) bool { return e.place == p })
		}
	}
	if f.Meet != w.meet {
		for _, e := range w.pairs {
			w.unpair(e)
		}
		w.forgetEntries(func(e *entry) bool { return e.place == nil })
		w.meet = f.Meet
	}
	// What is stored comes before the events of new fences, which it explains.
	var added []*place
	for _, x := range f.Fences {
		if key := placeKey(x.ID, x.Revision); w.places[key] == nil {
			w.places[key] = &place{x, key}
			added = append(added, w.places[key])
		}
	}
	w.states(f.States, first)
	for _, p := range added {
		var err error
		w.events, err = w.engine.Add(w.events[:0], fence.Fence{ID: p.key, Shape: p.Shape, Dwell: p.Dwell, From: p.From})
		if err != nil {
			w.bad++
		}
		w.handle(w.events)
	}
	for _, p := range w.people {
		w.neighbours(p)
		w.compare(p)
	}
	w.advance(now)
}

// states takes over how people stand, where that is newer than what is known.
func (w *watch) states(list []State, first bool) {
	stored := map[*entry]bool{}
	for _, s := range list {
		e := w.entryOf(s)
		if e == nil {
			continue
		}
		stored[e] = true
		if e.busy || len(e.want) > 0 || s.N <= e.n && !e.assumed {
			continue // what is being stored will tell
		}
		if s.N > e.n && !first { // who stored that may not have told it
			w.retell()
		}
		e.adopt(s)
	}
	for _, p := range w.people {
		for _, e := range p.entries {
			if e.assumed && !stored[e] && len(e.want) == 0 && !e.busy {
				e.adopt(State{})
			}
		}
	}
}

// retell has published again what was stored lately.
func (w *watch) retell() {
	if w.telling.busy {
		w.telling.want = true // what is read now may be older
		return
	}
	w.telling.busy, w.telling.want = true, false
	w.out = append(w.out, errand{retell: true})
}

// retold takes whether it was.
func (w *watch) retold(now time.Time, err error) {
	w.telling.busy = false
	switch {
	case err != nil:
		w.telling.want, w.telling.retry = true, again(now, w.telling.tries)
		w.telling.tries++
	default:
		w.telling.tries = 0
		w.advanceTelling(now)
	}
}

func (w *watch) advanceTelling(now time.Time) {
	if w.telling.want && !w.telling.busy && !now.Before(w.telling.retry) {
		w.retell()
	}
}

// entryOf returns the entry of a state; nil: it is of nothing that is watched.
func (w *watch) entryOf(s State) *entry {
	if s.Fence == "" {
		if w.meet == 0 {
			return nil
		}
		e := w.entry(nil, w.person(s.User), w.person(s.Other))
		if s.Inside {
			w.pair(e)
		}
		return e
	}
	p := w.places[placeKey(s.Fence, s.Revision)]
	if p == nil {
		return nil
	}
	return w.entry(p, w.person(s.User), nil)
}

func (w *watch) person(id string) *person {
	p := w.people[id]
	if p == nil {
		p = &person{id: id}
		w.people[id] = p
	}
	return p
}

// entry returns that of a person and a place, or of two people in order.
func (w *watch) entry(at *place, p, other *person) *entry {
	for _, e := range p.entries {
		if e.place == at && e.user == p && e.other == other {
			return e
		}
	}
	e := &entry{place: at, user: p, other: other}
	p.entries = append(p.entries, e)
	if other != nil {
		e.id = p.id + "|" + other.id
		other.entries = append(other.entries, e)
	}
	return e
}

// forgetEntries forgets those of fences that are no more.
func (w *watch) forgetEntries(which func(*entry) bool) {
	for _, p := range w.people {
		p.entries = slices.DeleteFunc(p.entries, func(e *entry) bool {
			e.gone = e.gone || which(e)
			return e.gone
		})
	}
}

// fix takes a position that the room was told, or that one was withdrawn. own:
// this region told it.
func (w *watch) fix(now time.Time, f *wire.MemberFix, own bool) {
	w.seen = now
	if f.GetFix().GetPoint() == nil {
		w.withdrawn(now, f, own)
		return
	}
	at := f.Fix.Captured.AsTime()
	switch {
	case at.After(now.Add(wire.MaxFixAhead)): // what takes fixes refuses those
		w.bad++
		return
	case at.After(now): // by the device's clock; crossings are not told for the future
		at = now
	}
	p := w.person(f.User)
	elsewhere := !p.own
	if !p.takes(at, f, own) {
		return
	}
	if elsewhere && p.own && slices.ContainsFunc(p.entries, func(e *entry) bool { return e.assumed }) {
		// While people change their region, each may take what the first fix there
		// told for the other's to store.
		w.stale = true
	}
	point, acc := pointOf(f.Fix), float64(f.Fix.Accuracy)
	var err error
	w.events, _, err = w.engine.Observe(w.events[:0], p.id, fence.Fix{At: at, Point: point, Accuracy: acc})
	if err != nil {
		w.bad++
		return
	}
	if !p.seen || at.After(p.at) {
		p.seen, p.at, p.point, p.vec, p.acc, p.coarse = true, at, point, point.Vec(), acc, f.Fix.Cell != 0
	}
	w.handle(w.events)
	w.neighbours(p)
	w.compare(p)
	w.advanceOf(now, p)
}

// handle takes the engine's events.
func (w *watch) handle(events []fence.Event) {
	for _, ev := range events {
		var e *entry
		if ev.Pair != "" {
			e = w.pairs[ev.Pair]
		} else if at := w.places[ev.Fence]; at != nil {
			e = w.entry(at, w.person(ev.Subject), nil)
		}
		switch {
		case e == nil:
		case ev.Reason == fence.Stale: // who says nothing is where they were
		case ev.Change == fence.Told:
			e.wish(w.changeOf(e, ev.Kind == fence.Enter, ev.At, ev.Crossed), e.responsible())
		default: // something else than was told: see what it comes to
			e.look = true
		}
	}
}

func (w *watch) changeOf(e *entry, inside bool, at time.Time, passed bool) change {
	coarse := e.user.coarse || e.other != nil && e.other.coarse
	return change{inside: inside, at: at, passed: passed, coarse: coarse, seen: w.seen}
}

// responsible reports whether this region stores it.
func (e *entry) responsible() bool { return e.user.own }

// compare holds what is stored of a person against what the engine believes.
// What both were sure of is told by events; but the engine may be younger than
// what is stored, and what is stored may be another owner's.
func (w *watch) compare(p *person) {
	for _, e := range p.entries {
		if !e.inside && !e.look || len(e.want) > 0 || !e.responsible() || !p.at.After(e.at) {
			continue
		}
		st, dwell := w.standing(e)
		switch {
		case st.State == fence.Unknown:
			continue
		case st.State == fence.Outside && e.inside:
			e.wish(w.changeOf(e, false, p.at, false), true)
		case st.State == fence.Inside && !e.inside && p.at.Sub(st.Since) < dwell:
			continue
		case st.State == fence.Inside && !e.inside:
			since := st.Since
			if !since.After(e.at) { // the engine has it that they stayed
				since = p.at
			}
			e.wish(w.changeOf(e, true, since, false), true)
		}
		e.look = false
	}
}

func (w *watch) standing(e *entry) (fence.Standing, time.Duration) {
	if e.place == nil {
		return w.engine.PairStanding(e.id), 0
	}
	return w.engine.Standing(e.place.key, e.user.id), e.place.Dwell
}

// withdrawn takes that a device's position is not told any more.
func (w *watch) withdrawn(now time.Time, f *wire.MemberFix, own bool) {
	p := w.people[f.User]
	if p == nil || !p.without(f.Device, now) {
		return
	}
	at := f.GetFix().GetCaptured().AsTime()
	w.engine.Drop(nil, p.id, at)
	p.seen = false
	for _, e := range p.entries {
		e.vanish(at)
	}
	if own { // else the owner there does it
		p.forget = true
		w.advanceOf(now, p)
	}
}

// advance has done what can be.
func (w *watch) advance(now time.Time) {
	w.advanceTelling(now)
	for _, p := range w.people {
		w.advanceOf(now, p)
	}
}

func (w *watch) advanceOf(now time.Time, p *person) {
	if p.forget {
		storing := slices.ContainsFunc(p.entries, func(e *entry) bool { return e.busy })
		if !p.busy && !storing && !now.Before(p.retry) {
			p.busy = true
			w.out = append(w.out, errand{person: p})
		}
		return
	}
	for _, e := range p.entries {
		if len(e.want) > 0 && !e.busy && !now.Before(e.retry) && !e.user.forget && (e.other == nil || !e.other.forget) {
			e.busy = true
			w.out = append(w.out, errand{entry: e, crossing: e.crossing(w.room), seen: e.want[0].seen})
		}
	}
}

// crossed takes what became of a crossing. If another was first, now is what is
// stored, which is nothing (no user) if the fence is gone: then false is
// returned, and it is to be read anew.
func (w *watch) crossed(now time.Time, x errand, s State, stored bool, err error) bool {
	e := x.entry
	e.busy = false
	current := true
	switch {
	case e.gone:
		return true
	case err != nil:
		e.retry = again(now, e.tries)
		e.tries++
	case stored:
		c := e.want[0]
		e.n, e.inside, e.at, e.assumed, e.tries = x.crossing.N, c.inside, c.at, false, 0
		e.want = slices.Delete(e.want, 0, 1)
	case s.User == "":
		e.want, current = nil, false
	default:
		e.adopt(s)
		w.retell()
	}
	if e.user.forget || e.other != nil && e.other.forget {
		e.vanish(now)
	}
	w.advanceOf(now, e.user)
	if e.other != nil {
		w.advanceOf(now, e.other)
	}
	return current
}

// forgotten takes whether it was stored that a person stands nowhere.
func (w *watch) forgotten(now time.Time, p *person, err error) {
	p.busy = false
	if err != nil {
		p.retry = again(now, p.tries)
		p.tries++
		return
	}
	p.forget, p.tries = false, 0
	w.advanceOf(now, p)
}

// quiet reports whether nothing of what happened would be lost with the watch.
func (w *watch) quiet() bool {
	if w.telling.busy || w.telling.want {
		return false
	}
	for _, p := range w.people {
		if p.forget || slices.ContainsFunc(p.entries, func(e *entry) bool { return e.busy || len(e.want) > 0 }) {
			return false
		}
	}
	return true
}

// distance between two people, less what their accuracies allow.
func (p *person) distance(q *person) float64 {
	return geo.Chord2Distance(p.vec.Chord2(q.vec)) - p.acc - q.acc
}
