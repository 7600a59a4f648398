package fence

import (
	"cmp"
	"slices"
)

// stamped is a fix with which of a pair it is of.
type stamped struct {
	sample
	side uint8
}

func (a *stamped) compare(b *stamped) int {
	return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.side, b.side))
}

// better says which of two fixes of the same moment counts, the same way round
// whichever came first.
func (a *stamped) better(b *stamped) bool {
	return cmp.Or(cmp.Compare(a.acc, b.acc), cmp.Compare(a.v.X, b.v.X),
		cmp.Compare(a.v.Y, b.v.Y), cmp.Compare(a.v.Z, b.v.Z)) < 0
}

// reducer is a state that fixes are folded into one after the other, in order.
type reducer interface {
	step(e *Engine, s stamped, t *teller)
	// tick says that the clock shows now. What it tells must be what the next
	// fix would have told first.
	tick(e *Engine, now int64, t *teller)
	set(from reducer)
	setAside() (sample, bool)
}

// timeline folds fixes that may come late as if they had come in order. It keeps
// the state before the window, and the fixes in it; a fix that comes late is put
// where it belongs, the fixes are folded anew, and what differs is told.
type timeline struct {
	base, head reducer
	done       stamped // the last fix in base
	hasDone    bool
	fixes      []stamped // in order
	clock      int64     // of the last tick, or noTime
	told       []Event   // since base
}

func newTimeline(base, head reducer) timeline {
	return timeline{base: base, head: head, clock: noTime}
}

func (l *timeline) newest() (int64, bool) {
	if n := len(l.fixes); n > 0 {
		return l.fixes[n-1].t, true
	}
	return l.done.t, l.hasDone
}

// add takes a fix; t.events are then what must be told.
func (l *timeline) add(e *Engine, s stamped, t *teller) Verdict {
	i, found := slices.BinarySearchFunc(l.fixes, s, func(a, b stamped) int { return a.compare(&b) })
	newest, any := l.newest()
	switch {
	case l.hasDone && s.compare(&l.done) <= 0 || any && s.t < newest-e.cfg.Window.Milliseconds():
		return TooLate
	case found && !s.better(&l.fixes[i]):
		return Duplicate
	case found:
		l.fixes[i] = s
		l.refold(e, t)
	case i < len(l.fixes) || s.t <= l.clock:
		l.fixes = slices.Insert(l.fixes, i, s)
		l.refold(e, t)
	default:
		l.fixes = append(l.fixes, s)
		before := len(t.events)
		l.head.step(e, s, t)
		l.told = append(l.told, t.events[before:]...)
	}
	l.trim(e, t)
	if aside, ok := l.head.setAside(); ok && aside == s.sample {
		return Aside
	}
	return Taken
}

// trim moves what has left the window into base. The base then tells what the
// head told already, in the same order.
func (l *timeline) trim(e *Engine, t *teller) {
	floor := l.fixes[len(l.fixes)-1].t - e.cfg.Window.Milliseconds()
	n := 0
	for l.fixes[n].t < floor || len(l.fixes)-n > MaxWindow {
		l.done, l.hasDone = l.fixes[n], true
		again := &e.again
		*again = teller{events: e.scratch[:0], pair: t.pair, subject: t.subject}
		l.base.step(e, l.done, again)
		l.told = slices.Delete(l.told, 0, min(len(again.events), len(l.told)))
		e.scratch = again.events
		n++
	}
	l.fixes = slices.Delete(l.fixes, 0, n)
}

func (l *timeline) tick(e *Engine, now int64, t *teller) {
	if newest, any := l.newest(); !any || now <= newest || now <= l.clock {
		return
	}
	l.clock = now
	before := len(t.events)
	l.head.tick(e, now, t)
	l.told = append(l.told, t.events[before:]...)
}

// restart goes on from a state at a time; what was before is settled.
func (l *timeline) restart(base reducer, t int64) {
	if newest, any := l.newest(); any {
		t = max(t, newest)
	}
	l.base, l.fixes, l.told, l.clock = base, l.fixes[:0], l.told[:0], noTime
	l.done, l.hasDone = stamped{sample: sample{t: t}, side: 1}, true
	l.head.set(base)
}

// fold computes the head anew, and returns all it tells.
func (l *timeline) fold(e *Engine, t *teller) []Event {
	again := &e.again
	*again = teller{events: e.scratch[:0], pair: t.pair, subject: t.subject}
	l.head.set(l.base)
	for _, s := range l.fixes {
		l.head.step(e, s, again)
	}
	if newest, any := l.newest(); any && l.clock > newest {
		l.head.tick(e, l.clock, again)
	}
	e.scratch = again.events
	return again.events
}

// refold computes the head anew, and tells what is new, what is different and,
// first and backwards, what is no more.
func (l *timeline) refold(e *Engine, t *teller) {
	fresh := l.fold(e, t)
	for i := len(l.told) - 1; i >= 0; i-- {
		old := l.told[i]
		if _, still := same(fresh, &old); !still {
			old.Change = Retracted
			t.events = append(t.events, old)
		}
	}
	for _, ev := range fresh {
		old, was := same(l.told, &ev)
		if was && old == ev {
			continue
		}
		if was {
			ev.Change = Amended
		}
		t.events = append(t.events, ev)
	}
	l.told = append(l.told[:0], fresh...)
}

// same finds the event with the identity of ev.
func same(events []Event, ev *Event) (Event, bool) {
	for i := range events {
		if o := &events[i]; o.N == ev.N && o.Fence == ev.Fence {
			return *o, true
		}
	}
	return Event{}, false
}
