package nearby

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

var seeds = flag.Int("map.seeds", 2, "how many stories of the map are told")

// TestMapEqualsAnOracle tells random stories of a mesh: people report, move,
// roam, withdraw and lapse while links break, nodes die, slots move and regions
// come and go. Whenever it is asked, nobody is shown who should not be; and when
// all is quiet again, every node's answers are those of brute force.
func TestMapEqualsAnOracle(t *testing.T) {
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newStory(t, seed).run(3, 100) })
		})
	}
}

// spots are where people are: where something could go wrong, and a city.
func spots() (out []geo.Point) {
	between := func(a, b regions.Location) geo.Point {
		p, q := geo.Point{Lat: a.Lat, Lng: a.Lng}, geo.Point{Lat: b.Lat, Lng: b.Lng}
		return geo.Destination(p, geo.Bearing(p, q), geo.Distance(p, q)/2)
	}
	pentagon, err := index.Center(geo.Cell(0x8009fffffffffff)) // base cell 4
	if err != nil {
		panic(err)
	}
	return append(out,
		between(cities[0].Location, cities[1].Location), // borders of regions
		between(cities[0].Location, cities[2].Location),
		between(cities[0].Location, cities[3].Location), // one that comes and goes
		geo.Point{Lat: -17, Lng: 180}, geo.Point{Lat: 90}, geo.Point{Lat: -90}, pentagon,
		geo.Point{Lat: 52.52, Lng: 13.4}, geo.Point{},
	)
}

type story struct {
	*world
	spots  []geo.Point
	people []*oneOf
	areas  []*watched
	later  map[regions.NodeID][]*oneOf // withdrawals that a node is still to hear of
}

// oneOf the users, as the oracle has them.
type oneOf struct {
	id    string
	at    *fake
	spot  geo.Point
	res   int // -1: exact
	posts bool
	quiet bool // reports seldom, often for a moment only, and each time elsewhere

	shown bool
	view  grant.View
	until time.Time
	over  time.Time // since when nobody may be shown where they are; zero: they may
}

// fleets are whose subjects are beside people, who are half of all; the last has
// none.
var fleets = [...]string{"", "00000000-0000-4000-8000-00000000000a", "", "00000000-0000-4000-8000-00000000000b", "00000000-0000-4000-8000-00000000000c"}

// watched is a box that a node asks about again and again.
type watched struct {
	at    regions.NodeID
	box   *wire.Box
	mark  *Mark
	shown map[string]Person
}

func newStory(t *testing.T, seed uint64) *story {
	s := &story{world: newWorld(t, seed, 3, 3), spots: spots(), later: map[regions.NodeID][]*oneOf{}}
	for i := range 360 {
		p := &oneOf{id: fmt.Sprintf("user-%03d", i), spot: s.spots[i%len(s.spots)], res: -1, posts: i%5 == 0, quiet: i%4 == 3}
		if i%3 == 0 {
			p.res = 3 + s.random(8)
		}
		if fleet := fleets[i/len(s.spots)%4]; fleet != "" {
			p.id = edge.Subject(fleet, p.id)
		}
		p.at = s.anywhere()
		s.people = append(s.people, p)
	}
	for i, f := range s.alive() {
		at := s.spots[i%len(s.spots)]
		b := &wire.Box{South: max(at.Lat-0.1, -90), North: min(at.Lat+0.1, 90), West: wrap(at.Lng - 0.15), East: wrap(at.Lng + 0.15)}
		if math.Abs(at.Lat) == 90 {
			b.West, b.East = -180, 180
		}
		s.areas = append(s.areas, &watched{at: f.id, box: b, shown: map[string]Person{}})
	}
	return s
}

func wrap(lng float64) float64 {
	switch {
	case lng > 180:
		return lng - 360
	case lng < -180:
		return lng + 360
	}
	return lng
}

func (s *story) anywhere() *fake {
	all := s.alive()
	return all[s.random(len(all))]
}

func (s *story) run(rounds, steps int) {
	for round := range rounds {
		for range steps {
			time.Sleep(500 * time.Millisecond)
			for range 30 {
				switch p := s.people[s.random(len(s.people))]; {
				case !p.quiet:
					s.report(p)
				case s.random(10) == 0:
					s.roam(p)
				}
			}
			switch s.random(12) {
			case 0, 1:
				s.roam(s.people[s.random(len(s.people))])
			case 2, 3:
				s.withdraw(s.people[s.random(len(s.people))])
			case 4:
				s.late(s.people[s.random(len(s.people))])
			}
			s.chaos()
			s.look()
		}
		s.calm()
		time.Sleep(life + 10*time.Second)
		s.watch()
		s.compare(round)
	}
}

// report has somebody report.
func (s *story) report(p *oneOf) {
	m := p.at.live()
	if m == nil {
		return
	}
	time.Sleep(time.Millisecond) // of two in the same one nobody could say which is the last
	v := exactView(geo.Destination(p.spot, float64(s.random(360)), float64(s.random(12_000))))
	p.until = time.Now().Add(edge.FixLife)
	if s.random(20) == 0 || p.quiet && s.random(2) == 0 {
		p.until = time.Now().Add(time.Duration(5+s.random(60)) * time.Second)
	}
	if p.res >= 0 {
		v = coarse(v, p.res)
	}
	p.shown, p.over, p.view = true, time.Time{}, v
	m.Put(p.id, "name of "+p.id, v, p.until)
}

func coarse(v grant.View, res int) grant.View {
	c, err := index.CellOf(v.Point, res)
	if err != nil {
		panic(err)
	}
	center, err := index.Center(c)
	if err != nil {
		panic(err)
	}
	return grant.View{Point: center, Cell: c, Precision: grant.Cells(res), Accuracy: float32(geo.MaxRadius(res)), Captured: v.Captured.Truncate(time.Minute)}
}

// roam has somebody go on at another node.
func (s *story) roam(p *oneOf) {
	was := p.at
	p.at = s.anywhere()
	if m := was.live(); m != nil && !p.posts && s.random(2) == 0 { // the session there ended
		m.Gone(p.id)
	}
	s.report(p)
}

// late brings a fix of minutes ago to some other node, as a balancer may: nothing
// changes.
func (s *story) late(p *oneOf) {
	f := s.anywhere()
	m := f.live()
	if f.id == p.at.id || !p.shown || !p.until.After(time.Now().Add(time.Minute)) {
		return
	}
	v := exactView(s.spots[s.random(len(s.spots))])
	v.Captured = p.view.Captured.Add(-3 * time.Minute)
	m.Put(p.id, "late", v, p.until)
}

// withdraw has somebody withdraw, which nodes that can't be reached hear later.
func (s *story) withdraw(p *oneOf) {
	if p.at.live() == nil {
		return
	}
	p.shown, p.over = false, time.Now()
	for _, f := range s.alive() {
		if s.cut(p.at.id, f.id) {
			s.later[f.id] = append(s.later[f.id], p)
			p.over = time.Time{}
			continue
		}
		f.live().Gone(p.id)
	}
}

func (s *story) chaos() {
	switch s.random(60) {
	case 0: // two regions can't reach each other
		a, b := s.anywhere(), s.anywhere()
		for _, x := range s.alive() {
			for _, y := range s.alive() {
				if x.region == a.region && y.region == b.region && a.region != b.region {
					s.sever(x, y)
				}
			}
		}
	case 1, 2:
		if a, b := s.anywhere(), s.anywhere(); a != b {
			s.sever(a, b)
		}
	case 3, 4:
		s.mend()
	case 5:
		if f := s.anywhere(); len(s.peers(f)) > 0 {
			s.die(f)
		}
	case 6:
		s.revive()
	case 7, 8:
		region := s.anywhere().region
		ids := []regions.NodeID{}
		for _, f := range s.alive() {
			if f.region == region {
				ids = append(ids, f.id)
			}
		}
		turn := s.random(97)
		s.move(region, func(slot int, was regions.NodeID) regions.NodeID {
			if (slot+turn)%3 == 0 {
				return ids[(slot+turn)%len(ids)]
			}
			return was
		})
	case 9:
		s.topologyChange()
	case 10: // a node is cut off from its leader for a while
		f := s.anywhere()
		f.mu.Lock()
		f.alone = true
		f.mu.Unlock()
		s.after(3*time.Second, func() { f.mu.Lock(); f.alone = false; f.mu.Unlock() })
	}
}

func (s *story) peers(f *fake) (out []*fake) {
	for _, g := range s.alive() {
		if g != f && g.region == f.region {
			out = append(out, g)
		}
	}
	return out
}

func (s *story) die(f *fake) {
	s.lose(f)
	delete(s.later, f.id)
	for _, p := range s.people {
		if p.at != f {
			continue
		}
		if p.at = s.anywhere(); !p.posts && p.shown {
			s.report(p) // the session goes on elsewhere
		} else if p.shown {
			s.withdraw(p) // nobody has the last one, but maybe one before
		}
	}
}

func (s *story) revive() {
	s.mu.Lock()
	nodes := slices.Clone(s.nodes)
	s.mu.Unlock()
	for _, f := range nodes {
		if _, _, known := s.top.Node(f.id); known && f.live() == nil && s.node(f.id) == nil {
			s.back(f)
		}
	}
}

func (s *story) mend() {
	s.heal()
	for id, people := range s.later {
		for _, p := range people {
			if p.shown { // or is again
				continue
			}
			if f := s.node(id); f != nil {
				f.live().Gone(p.id)
			}
			p.over = time.Now()
		}
	}
	clear(s.later)
}

// topologyChange adds the fourth region, or takes it away.
func (s *story) topologyChange() {
	if len(s.top.Regions) == 3 {
		top := s.topology(4, 3)
		s.mu.Lock()
		s.top = top
		s.mu.Unlock()
		s.table(top.Regions[3])
		s.found(top.Regions[3])
		s.adopt(top)
		for _, f := range s.alive() {
			f.hear(top.Regions[3].Name, *s.slots[top.Regions[3].Name])
		}
		return
	}
	last := s.top.Regions[3].Name
	for _, f := range s.alive() {
		if f.region == last {
			s.die(f)
		}
	}
	s.adopt(s.topology(3, 3))
}

func (s *story) calm() {
	s.mend()
	s.revive()
	for _, r := range s.top.Regions {
		s.rebalance(r.Name)
	}
}

// ---------------------------------------------------------------- checks

// look asks in the middle of it: who is shown is where they may be, and so on.
func (s *story) look() {
	f := s.anywhere()
	viewer := s.people[s.random(len(s.people))]
	at, radius := s.somewhere()
	fleet := fleets[s.random(len(fleets))]
	got, err := f.live().Near(context.Background(), viewer.id, fleet, at, radius, 1+s.random(MaxLimit))
	require.NoError(s.t, err)
	last := 0.0
	for _, n := range got.People {
		p := s.people[slices.IndexFunc(s.people, func(p *oneOf) bool { return p.id == n.User })]
		require.Equal(s.t, fleet, edge.FleetOf(n.User))
		require.NotEqual(s.t, viewer.id, n.User)
		require.False(s.t, !p.over.IsZero() && time.Since(p.over) > life+time.Second, "%s is shown %v after the withdrawal", n.User, time.Since(p.over))
		require.InDelta(s.t, geo.Distance(at, n.View.Point), n.Distance, 0.01)
		require.LessOrEqual(s.t, n.Distance, radius+0.01)
		require.GreaterOrEqual(s.t, n.Distance, last-0.01)
		require.Less(s.t, time.Since(n.View.Captured), edge.FixLife+edge.CoarseLife)
		last = n.Distance
	}
	if s.random(4) == 0 {
		s.watch()
	}
}

func (s *story) somewhere() (geo.Point, float64) {
	at := geo.Destination(s.spots[s.random(len(s.spots))], float64(s.random(360)), float64(s.random(15_000)))
	return at, []float64{0, 300, 3000, 10_000, 20_000, MaxRadius}[s.random(6)]
}

// watch asks about the boxes.
func (s *story) watch() {
	for _, w := range s.areas {
		f := s.node(w.at)
		if f == nil {
			w.mark = nil
			continue
		}
		got, err := f.live().Box(context.Background(), w.box, w.mark)
		require.NoError(s.t, err)
		if w.mark = got.Mark; got.Whole {
			clear(w.shown)
		}
		for _, x := range got.Points {
			person, there, ok := personOf(x)
			require.True(s.t, ok)
			require.Empty(s.t, edge.FleetOf(x.User), "areas are of people")
			if !there {
				delete(w.shown, x.User)
			} else {
				w.shown[x.User] = person
			}
		}
	}
}

func (s *story) visible() (out []*oneOf) {
	for _, p := range s.people {
		if p.shown && p.until.After(time.Now()) {
			out = append(out, p)
		}
	}
	return out
}

func (s *story) compare(round int) {
	visible := s.visible()
	require.NotEmpty(s.t, visible)
	for _, f := range s.alive() {
		for range 40 {
			at, radius := s.somewhere()
			viewer, fleet, limit := s.people[s.random(len(s.people))], fleets[s.random(len(fleets))], 1+s.random(MaxLimit)
			blocked := map[string]bool{}
			for range s.random(5) {
				blocked[s.people[s.random(len(s.people))].id] = true
			}
			s.mu.Lock()
			s.blocked = map[string]map[string]bool{viewer.id: blocked}
			s.mu.Unlock()
			got, err := f.live().Near(context.Background(), viewer.id, fleet, at, radius, limit)
			require.NoError(s.t, err)
			require.Empty(s.t, got.Unreached)

			want := slices.DeleteFunc(slices.Clone(visible), func(p *oneOf) bool {
				return edge.FleetOf(p.id) != fleet || p == viewer || fleet == "" && blocked[p.id] || geo.Distance(at, p.view.Point) > radius
			})
			slices.SortFunc(want, func(a, b *oneOf) int {
				return nearer(found{Person{User: a.id}, geo.Distance(at, a.view.Point)}, found{Person{User: b.id}, geo.Distance(at, b.view.Point)})
			})
			what := fmt.Sprintf("round %d, %s, %d nearest of %q within %v m of %v: %s", round, f.id, limit, fleet, radius, at, s.difference(at, want, got))
			require.Equal(s.t, len(want) > limit, got.More, what)
			want = want[:min(len(want), limit)]
			require.Len(s.t, got.People, len(want), what)
			for i, n := range got.People {
				require.InDelta(s.t, geo.Distance(at, want[i].view.Point), n.Distance, 0.01, what)
				j := slices.IndexFunc(visible, func(p *oneOf) bool { return p.id == n.User })
				require.GreaterOrEqual(s.t, j, 0, what)
				require.Equal(s.t, visible[j].view, n.View, what)
				require.Equal(s.t, "name of "+n.User, n.Name)
			}
		}
	}
	for _, w := range s.areas {
		want := map[string]grant.View{}
		box, _ := boxOf(w.box)
		for _, p := range visible {
			if edge.FleetOf(p.id) == "" && box.Contains(p.view.Point) {
				want[p.id] = p.view
			}
		}
		got := map[string]grant.View{}
		for id, p := range w.shown {
			got[id] = p.View
		}
		require.Equal(s.t, want, got, "round %d, box %v of %s", round, w.box, w.at)
	}
}

func (s *story) difference(at geo.Point, want []*oneOf, got edge.Nearby) string {
	missing := map[string]bool{}
	for _, p := range want {
		missing[p.id] = true
	}
	var extra []string
	for _, n := range got.People {
		if !missing[n.User] {
			extra = append(extra, n.User)
		}
		delete(missing, n.User)
	}
	out := fmt.Sprintf("missing %s, too many %s", strings.Join(slices.Sorted(maps.Keys(missing)), " "), strings.Join(extra, " "))
	for user := range missing {
		if !got.More {
			extra = append(extra, user)
			break
		}
	}
	for _, user := range extra {
		out += s.trace(user)
		for _, p := range s.people {
			if p.id == user {
				out += fmt.Sprintf("\nshown %v at %s %v until %v, %v from there", p.shown, p.at.id, p.view.Point, p.until.UTC(), geo.Distance(at, p.view.Point))
			}
		}
	}
	return out
}
