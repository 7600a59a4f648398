package nearby

import (
	"cmp"
	"slices"
	"sync"
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

// sighting is what a query reads of somebody.
type sighting struct {
	held
	at     geo.Point
	user   string
	number uint32
	stamp  int64
}

// looker has room for what a query finds.
type looker struct {
	o    *owner
	near []index.Near
	seen []sighting
	all  bool // until and version, too
	some int64

	ahead, look func(number uint32)
}

var lookers = sync.Pool{New: func() any {
	l := new(looker)
	l.ahead = func(number uint32) {
		p := l.o.at(number)
		l.some += p.own.seconds + p.Captured()
	}
	l.look = func(number uint32) {
		p := l.o.at(number)
		l.seen = append(l.seen, sighting{held{shown: p.own.shown}, p.Point(), p.user, number, p.Captured()})
		if l.all || p.own.known != 0 {
			l.seen[len(l.seen)-1].held = p.own.held
		}
	}
	return l
}}

// look finds the nearest in order, people or the subjects of a fleet, and reports
// whether there are others. free ends the use of what it found. Without all, it is
// not known until when they are there, but that they are now.
func (o *owner) look(now time.Time, fleet string, at geo.Point, radius float64, limit int, all bool) (l *looker, more bool) {
	l = lookers.Get().(*looker)
	layer := o.layers.get(fleet)
	if layer == nil {
		return l, false
	}
	l.o, l.all = o, all
	l.near = layer.tree.NearestFunc(l.near, at, limit+1, radius, index.Options{Now: now.UnixMilli()}, l.ahead, l.look)
	if more = len(l.near) > limit; more {
		l.near = l.near[:limit]
	}
	l.once()
	// Those who are equally far.
	nearer := func(a, b index.Near) int {
		if a.Distance != b.Distance {
			return cmp.Compare(a.Distance, b.Distance)
		}
		return cmp.Compare(l.seen[a.Look].user, l.seen[b.Look].user)
	}
	if !slices.IsSortedFunc(l.near, nearer) {
		slices.SortFunc(l.near, nearer)
	}
	return l, more
}

// once leaves those who were found twice, as they went from one of the tree's roots
// to another one meanwhile, where they were last.
func (l *looker) once() {
	var bits [32]uint64
	maybe := false
	for _, n := range l.near {
		id := l.seen[n.Look].number
		word, bit := id>>shardBits%32, uint64(1)<<(id&63)
		maybe = maybe || bits[word]&bit != 0
		bits[word] |= bit
	}
	if !maybe {
		return
	}
	last := map[uint32]int64{}
	for _, n := range l.near {
		s := &l.seen[n.Look]
		last[s.number] = max(last[s.number], s.stamp)
	}
	l.near = slices.DeleteFunc(l.near, func(n index.Near) bool { return l.seen[n.Look].stamp < last[l.seen[n.Look].number] })
}

func (l *looker) free() {
	clear(l.seen)
	if cap(l.seen) <= 256 {
		l.o, l.near, l.seen = nil, l.near[:0], l.seen[:0]
		lookers.Put(l)
	}
}

// near is look for those who keep what was found.
func (o *owner) near(now time.Time, fleet string, at geo.Point, radius float64, limit int) (out []found, more bool) {
	l, more := o.look(now, fleet, at, radius, limit, true)
	defer l.free()
	out = make([]found, len(l.near))
	for i, n := range l.near {
		s := &l.seen[n.Look]
		out[i] = found{s.person(s.user, s.at), n.Distance}
	}
	return out, more
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
			for i := range c.members {
				p := &c.members[i]
				switch {
				case p.stamp <= since:
				case !b.Contains(p.Point()):
					out.gone = append(out.gone, p.user)
				default:
					if n++; n <= limit {
						out.people = append(out.people, p.person())
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
			if b.Contains(p.Point()) && p.Expires() > at {
				out.more = all.add(p.someone, limit) || out.more
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
func (c *crowd) add(p *someone, limit int) bool {
	h := *c
	if len(h) < limit {
		h = append(h, ranked{p.own.rank, p.person()})
		for i := len(h) - 1; i > 0 && h[(i-1)/2].rank < h[i].rank; i = (i - 1) / 2 {
			h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
		}
		*c = h
		return false
	}
	if limit == 0 || p.own.rank >= h[0].rank {
		return true
	}
	h[0] = ranked{p.own.rank, p.person()}
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
