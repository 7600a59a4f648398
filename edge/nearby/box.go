package nearby

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

// MaxBox is how many people of a box are told at most; of more it is always the
// same ones.
const MaxBox = maxBox

// Boxed is who is in a box, or who changed.
type Boxed struct {
	// Points are one a user; those without a fix are gone, and come first.
	Points []*peer.MapPoint
	Whole  bool // there is nobody but these
	More   bool // there are, but not all are told
	// Unreached is as in edge.Nearby. Who was there is kept until it lapses.
	Unreached []regions.RegionID
	Mark      *Mark // to ask for what changes from here on
}

// Mark is what somebody who asks about a box again and again knows already.
type Mark struct {
	mu    sync.Mutex // guards the following
	box   index.Box
	parts map[regions.NodeID]*known
	shown map[string]Person
}

// known is what one owner said.
type known struct {
	cells   []geo.Cell
	version uint64
	people  map[string]Person
	more    bool
	heard   time.Time
}

// Box returns the discoverable people in a box: all of them (since nil, or of
// another box), or those who changed since the answer that came with the mark,
// which is used up. The viewers' blocks are not applied.
func (m *Map) Box(ctx context.Context, b *wire.Box, since *Mark) (Boxed, error) {
	box, ok := boxOf(b)
	if !ok {
		return Boxed{}, errBox
	}
	m.metrics.askedBox.Inc()
	now := time.Now()
	defer func() { m.metrics.seconds.Observe(time.Since(now).Seconds()) }()
	a, err := m.rect(now, box)
	if err != nil {
		return Boxed{}, err
	}
	out := Boxed{Mark: since}
	if since == nil || since.box != box {
		out.Whole, out.Mark = true, &Mark{box: box, parts: map[regions.NodeID]*known{}}
	}
	mark := out.Mark
	asked := map[regions.NodeID]bool{}
	out.Unreached = m.ask(ctx, now, a, func(p part) (bool, error) {
		mark.mu.Lock()
		asked[p.node] = true
		from := mark.from(p, maxBox)
		mark.mu.Unlock()
		news, moved, err := m.boxAt(ctx, p, b, box, from)
		if err == nil {
			mark.mu.Lock()
			mark.learn(p, news, time.Now())
			mark.mu.Unlock()
		}
		return moved, err
	})
	if ctx.Err() != nil {
		return Boxed{}, context.Cause(ctx)
	}
	mark.mu.Lock()
	defer mark.mu.Unlock()
	maps.DeleteFunc(mark.parts, func(n regions.NodeID, _ *known) bool { return !asked[n] })
	out.Points, out.More = mark.show(time.Now())
	return out, nil
}

// boxAt asks one node who is in a box.
func (m *Map) boxAt(ctx context.Context, p part, b *wire.Box, box index.Box, since uint64) (out boxed, moved bool, err error) {
	if p.node == m.cfg.Self {
		moved = !m.cfg.Roster.Current() || !m.owner.holds(p.cells)
		return m.owner.box(time.Now(), box, p.cells, since, maxBox), moved, nil
	}
	a, err := m.call(ctx, p, &peer.MapQuery{Box: b, Since: since, Limit: maxBox})
	if err != nil {
		return out, false, err
	}
	out = boxed{version: a.Version, whole: a.Whole, more: a.More}
	for _, x := range a.Points {
		if x.GetFix() == nil {
			out.gone = append(out.gone, x.GetUser())
		} else if person, there, ok := personOf(x); ok && there && edge.FleetOf(person.User) == "" && len(out.people) < maxBox {
			out.people = append(out.people, person)
		}
	}
	return out, a.Moved, nil
}

// from returns since when a node is asked for changes; 0: for all.
func (m *Mark) from(p part, limit int) uint64 {
	k := m.parts[p.node]
	// Of too many the owner chose; whom it would choose now it tells as a whole.
	if k == nil || k.more || len(k.people) > limit || !slices.Equal(k.cells, p.cells) {
		return 0
	}
	return k.version
}

// learn takes what an owner said.
func (m *Mark) learn(p part, news boxed, now time.Time) {
	k := m.parts[p.node]
	if k == nil || news.whole {
		k = &known{people: make(map[string]Person, len(news.people))}
		m.parts[p.node] = k
	}
	k.cells, k.version, k.heard, k.more = p.cells, news.version, now, news.more
	for _, user := range news.gone {
		delete(k.people, user)
	}
	for _, x := range news.people {
		k.people[x.User] = x
	}
}

// show returns what changed since it was called last.
func (m *Mark) show(now time.Time) (points []*peer.MapPoint, more bool) {
	all := map[string]Person{}
	for _, k := range m.parts {
		more = more || k.more
		if now.Sub(k.heard) > life {
			continue // what it had has lapsed by now
		}
		for user, p := range k.people {
			if was, ok := all[user]; ok && was.Version >= p.Version {
				continue
			}
			if p.Until.After(now) && m.box.Contains(p.View.Point) {
				all[user] = p
			}
		}
	}
	if len(all) > maxBox {
		more = true
		rest := slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Compare(rankOf(a), rankOf(b)) })[maxBox:]
		for _, user := range rest {
			delete(all, user)
		}
	}
	for user, p := range m.shown {
		if _, ok := all[user]; !ok {
			points = append(points, gonePoint(user, p.Version))
		}
	}
	for user, p := range all {
		if was, ok := m.shown[user]; !ok || was.Version != p.Version || !was.Until.Equal(p.Until) {
			points = append(points, pointOf(&p))
		}
	}
	m.shown = all
	return points, more
}
