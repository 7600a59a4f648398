package nearby

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

const (
	// MaxRadius and MaxLimit are what may be asked with Near.
	MaxRadius = maxRadius // metres
	MaxLimit  = 100
	// MaxCrowd is how many Crowd returns.
	MaxCrowd = 1000

	defaultLimit = 20
	askTime      = 2 * time.Second        // an owner has so long to answer
	askAgain     = 200 * time.Millisecond // after which owners that have moved are looked up anew
	lostFor      = time.Second            // a node that did not answer is asked again after that
)

var (
	errNear = errs.New(errs.Invalid, edge.CodeBadRequest, "ask with a point, a radius of at most 50,000 metres and a limit of at most 100")
	errBox  = errs.New(errs.Invalid, edge.CodeBadRequest, "a box has a latitude and longitude for each of its corners, south below north")
)

// part is what one node is asked for.
type part struct {
	region regions.RegionID
	node   regions.NodeID
	cells  []geo.Cell // none: all that it has
}

// plan is a question cut into parts.
type plan struct {
	parts   []part
	unowned []regions.RegionID // nobody owns some of what is to be asked there
}

func (p *plan) add(region regions.RegionID, node regions.NodeID, cells ...geo.Cell) {
	if node == "" {
		if !slices.Contains(p.unowned, region) {
			p.unowned = append(p.unowned, region)
		}
		return
	}
	i := slices.IndexFunc(p.parts, func(x part) bool { return x.node == node })
	if i < 0 {
		p.parts = append(p.parts, part{region: region, node: node, cells: cells})
	} else {
		p.parts[i].cells = append(p.parts[i].cells, cells...)
	}
}

// area is where a question goes: cells, or if those are too many all of some
// regions.
type area struct {
	cells   []geo.Cell
	regions []regions.RegionID // where they may be at home
}

// circle is the area of a circle.
func (m *Map) circle(now time.Time, at geo.Point, radius float64) (area, error) {
	a := area{regions: m.atlas.Load().around(nil, at.Vec(), radius+2*geo.MaxRadius(resolution), now)}
	if m.here(a) {
		return a, nil
	}
	var err error
	if a.cells, err = index.Circle(nil, at, radius, resolution, maxCells); err != nil && !errors.Is(err, index.ErrTooMany) {
		return a, err
	}
	return a, nil
}

// rect is the area of a box.
func (m *Map) rect(now time.Time, b index.Box) (area, error) {
	var a area
	var err error
	if a.cells, err = index.Viewport(nil, b, resolution, maxCells); err != nil && !errors.Is(err, index.ErrTooMany) {
		return a, err
	}
	at, reach := around(b)
	a.regions = m.atlas.Load().around(nil, at.Vec(), reach+2*geo.MaxRadius(resolution), now)
	return a, nil
}

// around returns a circle that holds a box.
func around(b index.Box) (geo.Point, float64) {
	width := b.East - b.West
	if width < 0 {
		width += 360
	}
	at := geo.Point{Lat: (b.South + b.North) / 2, Lng: b.West + width/2}
	if at.Lng > 180 {
		at.Lng -= 360
	}
	// From the middle one gets anywhere along its meridian, and then along a
	// parallel: at most half the box at its widest.
	const degree = math.Pi / 180
	widest := 1.0
	if b.South > 0 || b.North < 0 {
		widest = math.Cos(degree * max(b.South, -b.North))
	}
	return at, degree * geo.Radius * ((b.North-b.South)/2 + width/2*widest)
}

// here reports whether this node has all of an area's regions.
func (m *Map) here(a area) bool {
	return len(a.regions) == 1 && a.regions[0] == m.cfg.Region && m.alone.Load()
}

// plan says whom to ask about an area; only: in these regions (nil: in all).
func (m *Map) plan(now time.Time, a area, only []regions.RegionID) (p plan) {
	wanted := func(r regions.RegionID) bool { return only == nil || slices.Contains(only, r) }
	if len(a.cells) == 0 {
		for _, region := range a.regions {
			for slot := 0; slot < regions.Slots && wanted(region); slot++ {
				p.add(region, m.ownerIn(region, slot))
			}
		}
		return p
	}
	atlas := m.atlas.Load()
	var buf [maxPast + 1]regions.RegionID
	for _, c := range a.cells {
		homes := a.regions
		if len(homes) > 1 {
			homes = atlas.homesOf(buf[:0], c, now)
		}
		for _, region := range homes {
			if wanted(region) {
				p.add(region, m.ownerIn(region, slotOf(c)), c)
			}
		}
	}
	return p
}

// ---------------------------------------------------------------- near

// Near satisfies edge.Map.
func (m *Map) Near(ctx context.Context, viewer, fleet string, at geo.Point, radius float64, limit int) (edge.Nearby, error) {
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 0 || limit > MaxLimit {
		return edge.Nearby{}, errNear
	}
	return m.nearest(ctx, viewer, fleet, at, radius, limit)
}

// Crowd is Near for who chooses among many: MaxCrowd people at most.
func (m *Map) Crowd(ctx context.Context, viewer string, at geo.Point, radius float64) (edge.Nearby, error) {
	return m.nearest(ctx, viewer, "", at, radius, MaxCrowd)
}

func (m *Map) nearest(ctx context.Context, viewer, fleet string, at geo.Point, radius float64, limit int) (edge.Nearby, error) {
	if !at.Valid() || !(radius >= 0 && radius <= MaxRadius) {
		return edge.Nearby{}, errNear
	}
	m.metrics.askedNear.Inc()
	now := time.Now()
	defer func() { m.metrics.seconds.Observe(time.Since(now).Seconds()) }()
	var blocked map[string]bool
	if fleet == "" {
		var err error
		if blocked, err = m.cfg.Blocks.Blocked(ctx, viewer); err != nil {
			return edge.Nearby{}, err
		}
	}
	a, err := m.circle(now, at, radius)
	if err != nil {
		return edge.Nearby{}, err
	}
	// So many more that enough are left without the viewer and the blocked ones.
	most := min(limit+1+len(blocked), maxFind)
	see := picker{viewer: viewer, rank: rankOf(viewer), blocked: blocked, limit: limit, from: at.Bearings()}
	if m.here(a) {
		m.metrics.fanOut.Observe(1)
		l, more := m.owner.look(now, fleet, at, radius, most, false)
		see.out.People, see.out.More = make([]edge.Neighbour, 0, min(limit, len(l.near))), more
		for _, n := range l.near {
			if s := &l.seen[n.Look]; see.wants(s.user, s.rank) {
				see.add(s.user, s.name, s.view(s.at), n.Distance)
			}
		}
		l.free()
		if !m.cfg.Roster.Current() {
			see.out.Unreached = a.regions
		}
	} else {
		q := &peer.MapQuery{Radius: radius, Limit: uint32(most), Center: &wire.Point{Lat: at.Lat, Lng: at.Lng}, Fleet: fleet}
		var all crowdOf
		see.out.Unreached = m.ask(ctx, now, a, func(p part) (moved bool, err error) {
			fs, more, moved, err := m.near(ctx, p, at, q)
			if err == nil {
				all.add(fs, more)
			}
			return moved, err
		})
		if err := ctx.Err(); err != nil {
			return edge.Nearby{}, context.Cause(ctx)
		}
		people := all.people()
		see.out.More = all.more
		now = time.Now()
		for i := range people {
			if p := &people[i]; p.Until.After(now) && see.wants(p.User, rankOf(p.User)) {
				see.add(p.User, p.Name, p.View, p.distance)
			}
		}
	}
	return see.out, nil
}

// picker takes those for a viewer from who is near, the nearest first.
type picker struct {
	viewer  string
	rank    uint32 // of the viewer
	blocked map[string]bool
	limit   int
	from    geo.Bearings
	out     edge.Nearby
}

// wants reports whether somebody is to be shown.
func (s *picker) wants(user string, rank uint32) bool {
	if rank == s.rank && user == s.viewer || s.blocked[user] {
		return false
	}
	if len(s.out.People) == s.limit {
		s.out.More = true
		return false
	}
	return true
}

func (s *picker) add(user, name string, view grant.View, distance float64) {
	s.out.People = append(s.out.People, edge.Neighbour{
		User: user, Name: name, View: view, Distance: distance, Bearing: s.from.To(view.Point),
	})
}

// crowdOf gathers what owners answer.
type crowdOf struct {
	mu   sync.Mutex
	of   map[string]found
	more bool
}

func (c *crowdOf) add(fs []found, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.more = c.more || more
	if c.of == nil {
		c.of = make(map[string]found, len(fs))
	}
	for _, f := range fs {
		if was, ok := c.of[f.User]; !ok || f.Version > was.Version {
			c.of[f.User] = f
		}
	}
}

// people returns them in order. Where an owner has more than it told, nobody is
// missing who is nearer than the last it told.
func (c *crowdOf) people() []found {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]found, 0, len(c.of))
	for _, f := range c.of {
		out = append(out, f)
	}
	slices.SortFunc(out, nearer)
	return out
}

// near asks one node who is near.
func (m *Map) near(ctx context.Context, p part, at geo.Point, q *peer.MapQuery) (out []found, more, moved bool, err error) {
	if p.node == m.cfg.Self {
		out, more = m.owner.near(time.Now(), q.Fleet, at, q.Radius, int(q.Limit))
		return out, more, !m.cfg.Roster.Current() || !m.owner.holds(p.cells), nil
	}
	a, err := m.call(ctx, p, q)
	if err != nil {
		return nil, false, false, err
	}
	for _, x := range a.Points[:min(len(a.Points), int(q.Limit))] {
		person, there, ok := personOf(x)
		if !ok || !there || edge.FleetOf(person.User) != q.Fleet {
			continue
		}
		if d := geo.Distance(at, person.View.Point); d <= q.Radius*(1+1e-9) {
			out = append(out, found{person, d})
		}
	}
	return out, a.More, a.Moved, nil
}

// ---------------------------------------------------------------- asking

// ask asks everybody who has a part of an area, all at once, and once more where
// the owners turned out to be others. It returns the regions that did not answer,
// or not for all.
func (m *Map) ask(ctx context.Context, now time.Time, a area, one func(part) (moved bool, err error)) (unreached []regions.RegionID) {
	var only []regions.RegionID
	nodes := 0
	for try := range 2 {
		p := m.plan(now, a, only)
		nodes += len(p.parts)
		lost, moved := m.round(p, one)
		again := append(p.unowned, moved...)
		for _, r := range lost {
			if !slices.Contains(unreached, r) {
				unreached = append(unreached, r)
			}
		}
		if len(again) == 0 {
			break
		}
		if only = slices.Compact(slices.Sorted(slices.Values(again))); try == 0 && wait(ctx, askAgain) {
			continue
		}
		unreached = append(unreached, only...)
	}
	m.metrics.fanOut.Observe(float64(nodes))
	slices.Sort(unreached)
	unreached = slices.Compact(unreached)
	for _, r := range unreached {
		m.metrics.unreached.WithLabelValues(string(r)).Inc()
	}
	return unreached
}

// round asks the nodes of a plan, this one in the caller's goroutine.
func (m *Map) round(p plan, one func(part) (bool, error)) (lost, moved []regions.RegionID) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	do := func(x part) {
		m, err := one(x)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			lost = append(lost, x.region)
		} else if m {
			moved = append(moved, x.region)
		}
	}
	for _, x := range p.parts {
		if x.node != m.cfg.Self {
			wg.Go(func() { do(x) })
		}
	}
	for _, x := range p.parts {
		if x.node == m.cfg.Self {
			do(x)
		}
	}
	wg.Wait()
	return lost, moved
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

var errLost = errors.New("nearby: the node did not answer a moment ago")

// call asks a node, unless it was lost a moment ago.
func (m *Map) call(ctx context.Context, p part, q *peer.MapQuery) (*peer.MapFound, error) {
	if !m.ways.enter(p.node, time.Now()) {
		return nil, errLost
	}
	asked := &peer.MapQuery{
		Center: q.Center, Radius: q.Radius, Limit: q.Limit, Box: q.Box, Since: q.Since, Fleet: q.Fleet, Cells: make([]uint64, len(p.cells)),
	}
	for i, c := range p.cells {
		asked.Cells[i] = uint64(c)
	}
	limited, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answer, err := m.cfg.Links.Call(limited, p.node, &peer.Call{Body: &peer.Call_MapQuery{MapQuery: asked}})
	if err == nil && answer.GetMapFound() == nil {
		err = errors.New("nearby: an answer of another kind")
	}
	m.ways.leave(p.node, time.Now(), err == nil || ctx.Err() != nil)
	if err != nil {
		m.log.DebugContext(ctx, "a node did not say who is near", "node", p.node, "err", err)
		return nil, err
	}
	return answer.GetMapFound(), nil
}

// ways remembers which nodes did not answer: one question a second finds out
// whether that is still so, and the others need not wait for it.
type ways struct {
	mu   sync.Mutex
	lost map[regions.NodeID]time.Time // when it is tried again
}

func (w *ways) init() { w.lost = map[regions.NodeID]time.Time{} }

func (w *ways) enter(node regions.NodeID, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	again, lost := w.lost[node]
	if lost && now.Before(again) {
		return false
	}
	if lost {
		w.lost[node] = now.Add(askTime) // by this one
	}
	return true
}

func (w *ways) leave(node regions.NodeID, now time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok {
		delete(w.lost, node)
	} else {
		w.lost[node] = now.Add(lostFor)
	}
}

// open notes that the link to a node works.
func (w *ways) open(node regions.NodeID) { w.leave(node, time.Time{}, true) }
