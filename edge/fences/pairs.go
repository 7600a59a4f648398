package fences

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/fence"
)

const (
	// pairStale is how long somebody may be silent before the engine begins a
	// pair anew. It is no reason to part.
	pairStale = 5 * time.Minute
	// nearby is how far beyond the meeting distance two must be to be of no
	// interest: the engine keeps the fixes of 2 minutes, from which it learns the
	// rest when they come nearer.
	nearby = 2_000
	// maxPairs bounds the pairs that are watched in a room. More are not: in a
	// crowd of which all know where all are, that two of them meet is no news.
	maxPairs = 4096

	pruneEvery = 30 * time.Second
	silentMost = time.Hour // people who say nothing are forgotten, unless they are inside
)

// neighbours begins to watch the pairs of a person and those near.
func (w *watch) neighbours(p *person) {
	if w.meet == 0 || !p.seen {
		return
	}
	for _, q := range w.people {
		if len(w.pairs) >= maxPairs {
			return
		}
		if q == p || !q.seen || p.near[q] {
			continue
		}
		if apart := p.at.Sub(q.at).Abs(); apart > pairStale || p.distance(q) > w.meet+nearby {
			continue
		}
		a, b := p, q
		if b.id < a.id {
			a, b = b, a
		}
		w.pair(w.entry(nil, a, b))
	}
}

// pair begins to watch a pair.
func (w *watch) pair(e *entry) {
	if w.pairs[e.id] != nil {
		return
	}
	w.pairs[e.id] = e
	e.user.beside(e.other)
	e.other.beside(e.user)
	events, err := w.engine.AddPair(nil, fence.Pair{ID: e.id, A: e.user.id, B: e.other.id, Radius: w.meet})
	if err != nil {
		w.bad++
	}
	w.handle(events)
}

func (w *watch) unpair(e *entry) {
	w.engine.RemovePair(e.id)
	delete(w.pairs, e.id)
	delete(e.user.near, e.other)
	delete(e.other.near, e.user)
}

func (p *person) beside(q *person) {
	if p.near == nil {
		p.near = map[*person]bool{}
	}
	p.near[q] = true
}

// tick is called now and then. owner: the room is this node's.
func (w *watch) tick(now time.Time, owner bool) {
	w.seen = now
	if now.Sub(w.pruned) >= pruneEvery {
		w.pruned = now
		if owner {
			w.part(now)
		}
		w.prune(now)
	}
	w.advance(now)
}

// part ends the meetings of which one has not been heard for so long that their
// position is shown no more.
func (w *watch) part(now time.Time) {
	for _, e := range w.pairs {
		if !e.inside || len(e.want) > 0 || e.user.seen && !e.responsible() {
			continue
		}
		lapsed := e.user.lapses(w.loaded)
		if other := e.other.lapses(w.loaded); other.Before(lapsed) {
			lapsed = other
		}
		if now.After(lapsed) {
			e.wish(w.changeOf(e, false, lapsed, false), true)
		}
	}
}

// lapses is when the position of a person is shown no more; of one of whom
// nothing was heard, as if it had been when the watch began.
func (p *person) lapses(began time.Time) time.Time {
	switch {
	case !p.seen:
		return began.Add(edge.FixLife)
	case p.coarse:
		return p.at.Add(edge.FixLife + edge.CoarseLife)
	}
	return p.at.Add(edge.FixLife)
}

// prune forgets pairs that are far apart, and people who are silent.
func (w *watch) prune(now time.Time) {
	for _, e := range w.pairs {
		a, b := e.user, e.other
		if e.idle() && (!a.seen || !b.seen || now.After(a.lapses(w.loaded)) || now.After(b.lapses(w.loaded)) || a.distance(b) > w.meet+2*nearby) {
			w.unpair(e)
		}
	}
	for id, p := range w.people {
		p.entries = slices.DeleteFunc(p.entries, func(e *entry) bool {
			return e.place == nil && e.idle() && w.pairs[e.id] == nil
		})
		if now.Sub(p.at) < silentMost || p.forget || slices.ContainsFunc(p.entries, func(e *entry) bool { return !e.idle() || e.place == nil }) {
			continue
		}
		w.engine.Drop(nil, id, p.at)
		delete(w.people, id)
	}
}
