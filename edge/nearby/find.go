package nearby

import (
	"cmp"
	"slices"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// What may be asked of one owner at once.
const (
	maxRadius = 50_000 // metres
	maxCells  = 64     // with more, owners are asked for all they have
	maxFind   = 1200   // people near a point: the asker's limit, and those it leaves out
	maxBox    = 2000   // people in a box
)

// found is somebody near.
type found struct {
	Person
	distance float64
}

// near returns the nearest in order, people or the subjects of a fleet, and whether
// there are others.
func (o *owner) near(now time.Time, fleet string, at geo.Point, radius float64, limit int) (out []found, more bool) {
	layer := o.layers.get(fleet)
	if layer == nil {
		return nil, false
	}
	// Those who come and go meanwhile are why it is not exact. Who went from one of
	// the index's roots to another one may be there twice.
	hits := layer.index.Nearest(make([]index.Hit, 0, min(limit+1, 64)), at, limit+1, radius, index.Options{Now: now.UnixMilli()})
	out = make([]found, 0, min(len(hits), limit))
	for _, h := range hits {
		if len(out) == limit {
			more = true
			break
		}
		s := &o.users[h.ID%shards]
		s.mu.Lock()
		p := s.byID(h.ID)
		if p == nil {
			s.mu.Unlock()
			continue
		}
		out = append(out, found{p.Person, h.Distance})
		s.mu.Unlock()
		if last := &out[len(out)-1]; last.View.Point != h.Point { // it has moved since
			last.distance = geo.Chord2Distance(at.Vec().Chord2(last.View.Point.Vec()))
			if last.distance > radius {
				out = out[:len(out)-1]
			}
		}
	}
	if !slices.IsSortedFunc(out, nearer) { // some are equally far, or have moved
		slices.SortFunc(out, nearer)
	}
	return slices.CompactFunc(out, func(a, b found) bool { return a.User == b.User }), more
}

func nearer(a, b found) int {
	return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.User, b.User))
}

// boxed is who is in a box.
type boxed struct {
	gone    []string // of those who changed: who is not in it (any more)
	people  []Person
	version uint64 // to ask for what changes from here on
	whole   bool   // there is nobody but these
	more    bool   // there are, but not all are told: it is always the same ones
}

// box returns which people are in a box and in the cells (none: in any), or who changed
// since the answer that had that version.
func (o *owner) box(now time.Time, b index.Box, in []geo.Cell, since uint64, limit int) boxed {
	out := boxed{version: o.stamps.Load()}
	out.whole = since == 0 || since < o.floor.Load() || since > out.version
	if !out.whole {
		n := 0
		o.eachCell(in, func(c *cell) {
			for i := len(c.left) - 1; i >= 0 && c.left[i].stamp > since; i-- {
				out.gone = append(out.gone, c.left[i].user)
			}
			for _, p := range c.members {
				switch {
				case p.stamp <= since:
				case !b.Contains(p.View.Point):
					out.gone = append(out.gone, p.User)
				default:
					if n++; n <= limit {
						out.people = append(out.people, p.Person)
					}
				}
			}
		})
		if n <= limit && since >= o.floor.Load() { // which may have risen meanwhile
			return out
		}
		out = boxed{version: out.version, whole: true}
	}
	at := now.UnixMilli()
	var all crowd
	o.eachCell(in, func(c *cell) {
		for _, p := range c.members {
			if b.Contains(p.View.Point) && p.expires > at {
				out.more = all.add(p.point, limit) || out.more
			}
		}
	})
	out.people = make([]Person, len(all))
	for i := range all {
		out.people[i] = all[i].Person
	}
	return out
}

// eachCell calls f with these cells of people (none: all), locked.
func (o *owner) eachCell(in []geo.Cell, f func(*cell)) {
	if len(in) == 0 {
		for i := range o.people.cells {
			cs := &o.people.cells[i]
			cs.mu.Lock()
			for _, c := range cs.of {
				f(c)
			}
			cs.mu.Unlock()
		}
		return
	}
	for _, id := range in {
		cs, key := o.people.at(id)
		cs.mu.Lock()
		if c := cs.of[key]; c != nil {
			f(c)
		}
		cs.mu.Unlock()
	}
}

// rankOf puts users into an order that means nothing, the same everywhere.
func rankOf(user string) uint32 { return uint32(geo.Cell(fnv64(offset64, user)).Hash() >> 32) }

// crowd keeps those of the lowest rank: a heap with the highest of them first.
// So who is shown of too many does not change with who asks, and when.
type crowd []ranked

type ranked struct {
	rank uint32
	Person
}

// add reports whether somebody had no place.
func (c *crowd) add(p *point, limit int) bool {
	h := *c
	if len(h) < limit {
		h = append(h, ranked{p.rank, p.Person})
		for i := len(h) - 1; i > 0 && h[(i-1)/2].rank < h[i].rank; i = (i - 1) / 2 {
			h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
		}
		*c = h
		return false
	}
	if limit == 0 || p.rank >= h[0].rank {
		return true
	}
	h[0] = ranked{p.rank, p.Person}
	for i := 0; ; {
		top := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < len(h) && h[child].rank > h[top].rank {
				top = child
			}
		}
		if top == i {
			return true
		}
		h[i], h[top] = h[top], h[i]
		i = top
	}
}

// holds reports whether all cells are this node's.
func (o *owner) holds(in []geo.Cell) bool {
	return !slices.ContainsFunc(in, func(c geo.Cell) bool { return !o.owns(slotOf(c)) })
}
