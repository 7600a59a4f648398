package nearby

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

func TestVersions(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(captured, put time.Duration) uint64 { return versionOf(noon.Add(captured), noon.Add(put), 0, 7) }
	require.Greater(t, at(time.Minute, time.Minute), at(59*time.Second, time.Hour), "a later minute wins, whenever it came")
	require.Greater(t, at(0, 2*time.Second), at(59*time.Second, time.Second), "within a minute, who came later")
	require.Greater(t, at(0, 0), at(-time.Minute, 1e6*time.Hour), "also if it waited for years")
	require.NotEqual(t, versionOf(noon, noon, 0, 1), versionOf(noon, noon, 0, 2), "nodes have their own")
	v := at(0, 0)
	require.Equal(t, v+step, versionOf(noon, noon, v, 7), "the next one in the same ms")
	require.Greater(t, versionOf(noon, noon.Add(-time.Second), v, 7), v, "a clock that went back")
	require.Less(t, versionOf(noon.Add(-time.Minute), noon.Add(time.Hour), 0, 8), v, "an earlier fix of another node is no news")
	require.Equal(t, v+step, versionOf(noon.Add(-time.Hour), noon, v, 7), "a coarser view takes the place of a finer one")
	require.NotZero(t, versionOf(time.Unix(-5, 0), time.Unix(-5, 0), 0, 7))
}

func TestAtlas(t *testing.T) {
	start := time.Now()
	three, four := &regions.Topology{Regions: cities[:3]}, &regions.Topology{Regions: cities[:4]}
	a := (*atlas)(nil).next(three, start)
	require.Same(t, a, a.next(&regions.Topology{Regions: cities[:3]}, start))
	berlin := geo.Point{Lat: 52.52, Lng: 13.4}.Vec()
	require.Equal(t, []regions.RegionID{"eu-west"}, a.homes(nil, berlin, start))

	b := a.next(four, start)
	require.Equal(t, []regions.RegionID{"eu-central", "eu-west"}, b.homes(nil, berlin, start))
	require.Same(t, b, b.lapse(start.Add(overlap-1)))
	c := b.lapse(start.Add(overlap))
	require.Equal(t, []regions.RegionID{"eu-central"}, c.homes(nil, berlin, start))
	require.Equal(t, []regions.RegionID{"eu-central"}, b.homes(nil, berlin, start.Add(overlap)), "also if nobody looked")
	for range 10 { // more changes than are kept
		b = b.next(three, start).next(four, start)
	}
	require.Len(t, b.past, maxPast)

	// Whatever cell lies within reach, its homes are among those around.
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		at := geo.Point{Lat: math.Asin(2*rng.Float64()-1) * 180 / math.Pi, Lng: rng.Float64()*360 - 180}
		reach := math.Exp(rng.Float64() * 17)
		cell := geo.Destination(at, rng.Float64()*360, min(reach, 2e7)*rng.Float64())
		require.Subset(t, b.around(nil, at.Vec(), reach, start), b.homes(nil, cell.Vec(), start))
	}

	// Anchors: everybody agrees, and a region more moves a quarter.
	was, moved := (*atlas)(nil).next(three, start), 0
	for i := range 10_000 {
		if user := fmt.Sprint(i); was.anchor(user) != c.anchor(user) {
			require.Equal(t, regions.RegionID("eu-central"), c.anchor(user))
			moved++
		}
	}
	require.InDelta(t, 2500, moved, 250)
}

func TestTheCircleAroundABox(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		south, north := rng.Float64()*180-90, rng.Float64()*180-90
		b := index.Box{South: min(south, north), North: max(south, north), West: rng.Float64()*360 - 180, East: rng.Float64()*360 - 180}
		width := b.East - b.West
		if width < 0 {
			width += 360
		}
		at, reach := around(b)
		require.True(t, at.Valid())
		for range 20 {
			p := geo.Point{Lat: b.South + rng.Float64()*(b.North-b.South), Lng: wrap(b.West + rng.Float64()*width)}
			require.True(t, b.Contains(p))
			require.LessOrEqual(t, geo.Distance(at, p), reach+1, "%v of %v", p, b)
		}
	}
}

func person(user string, version uint64, p geo.Point) Person {
	return Person{User: user, View: exactView(p), Until: time.Now().Add(time.Hour), Version: version}
}

func (o *owner) give(t *testing.T, p Person) outcome {
	t.Helper()
	to, err := index.Locate(p.View.Point)
	require.NoError(t, err)
	c := homeOf(&p.View, &to)
	return o.put(time.Now(), &p, &to, c, slotOf(c), p.until(time.Now()))
}

func (o *owner) all(at geo.Point) (users []string) {
	people, _ := o.near(time.Now(), "", at, maxRadius, maxFind)
	for _, p := range people {
		users = append(users, p.User)
	}
	return users
}

func TestOwnerKeepsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owned := map[int]bool{}
		o := newOwner(func(slot int) bool { return !owned[-slot-1] }, 3, 10)
		berlin, nearIt := geo.Point{Lat: 52.52, Lng: 13.4}, geo.Point{Lat: 52.52, Lng: 13.9}

		require.Equal(t, taken, o.give(t, person("a", 5, berlin)))
		require.Equal(t, stale, o.give(t, person("a", 4, nearIt)))
		require.Equal(t, taken, o.give(t, person("a", 6, nearIt)))
		o.gone("a", 5, time.Now().Add(life))
		require.Equal(t, []string{"a"}, o.all(berlin), "what is gone is older than what is there")
		o.gone("a", 6, time.Now().Add(life))
		require.Empty(t, o.all(berlin))
		require.Equal(t, stale, o.give(t, person("a", 6, berlin)), "late")
		require.Equal(t, taken, o.give(t, person("a", 7, berlin)))
		o.gone("b", 3, time.Now().Add(life)) // before it came
		require.Equal(t, stale, o.give(t, person("b", 3, berlin)))

		require.Equal(t, taken, o.give(t, person("c", 1, berlin)))
		require.Equal(t, taken, o.give(t, person("d", 1, berlin)))
		require.Equal(t, full, o.give(t, person("e", 1, berlin)))

		// A lease keeps it, the lack of one doesn't, and nothing is left behind.
		time.Sleep(40 * time.Second)
		require.Equal(t, stale, o.give(t, person("c", 1, berlin)))
		time.Sleep(21 * time.Second)
		require.Equal(t, []string{"c"}, o.all(berlin), "before anybody sweeps")
		o.sweep(time.Now(), 0, 1)
		require.EqualValues(t, 1, o.count.Load())
		require.Equal(t, 1, o.people.tree.Len())
		for range 2 { // they lapse, and that they left is forgotten
			time.Sleep(2 * life)
			o.sweep(time.Now(), 0, 1)
		}
		require.Zero(t, o.count.Load())
		for i := range shards {
			require.Zero(t, o.shards[i].count)
			require.Empty(t, o.people.cells[i].of)
		}

		// Slots that went take their points with them.
		c, err := index.CellOf(berlin, resolution)
		require.NoError(t, err)
		require.Equal(t, taken, o.give(t, person("a", 9, berlin)))
		require.Equal(t, taken, o.give(t, person("b", 9, nearIt)))
		owned[-slotOf(c)-1] = true
		o.drop()
		require.Equal(t, []string{"b"}, o.all(berlin))
		require.Equal(t, notOwned, o.give(t, person("a", 10, berlin)))
		require.False(t, o.holds([]geo.Cell{c}))
	})
}

// TestBoxTellsChanges compares a copy that is kept up to date by what changed
// with what is there.
func TestBoxTellsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		o := newOwner(func(int) bool { return true }, 10_000, 10)
		box := index.Box{South: 52.4, North: 52.6, West: 13.2, East: 13.6}
		cover, err := index.Viewport(nil, box, resolution, maxCells)
		require.NoError(t, err)
		copies := map[string]*Mark{"cells": {}, "all": {}, "few": {}}
		for _, m := range copies {
			m.box, m.parts = box, map[regions.NodeID]*known{}
		}
		whole, limit := 0, map[string]int{"cells": maxBox, "all": maxBox, "few": 20}
		version := uint64(0)
		for step := range 600 {
			for range rng.IntN(10) {
				user := fmt.Sprint(rng.IntN(150))
				version++
				switch rng.IntN(6) {
				case 0:
					o.gone(user, version, time.Now().Add(life))
				default:
					p := person(user, version, geo.Point{Lat: 52.3 + 0.4*rng.Float64(), Lng: 13 + 0.8*rng.Float64()})
					if rng.IntN(10) == 0 {
						p.Until = time.Now().Add(10 * time.Second)
					}
					o.give(t, p)
				}
			}
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
			o.sweep(time.Now(), 0, 1)
			want := map[string]uint64{}
			for i := range o.shards {
				o.shards[i].each(func(p *someone) {
					if p.own.state == there && box.Contains(p.Point()) && p.Expires() > time.Now().UnixMilli() {
						want[p.user] = p.own.version
					}
				})
			}
			for name, m := range copies {
				if name != "all" && rng.IntN(4) == 0 || step < 10 && name == "few" {
					continue // not every time
				}
				p := part{node: "n"}
				if name != "all" {
					p.cells = cover
				}
				news := o.box(time.Now(), box, p.cells, m.from(p, limit[name]), limit[name])
				if news.whole && m.parts["n"] != nil {
					whole++
				}
				m.learn(p, news, time.Now())
				got := map[string]uint64{}
				for user, p := range m.parts["n"].people {
					got[user] = p.Version
				}
				if name == "few" {
					require.Subset(t, want, got)
					if news.whole { // else some more come by and by, until it is too many
						require.Equal(t, len(want) > 20, news.more)
						require.Len(t, got, min(len(want), 20))
					}
					continue
				}
				require.Equal(t, want, got, "%s at step %d", name, step)
			}
		}
		require.Less(t, whole, 600+30, "all but the few are told what changed")
		require.True(t, o.box(time.Now(), box, cover, o.stamps.Load()+1, maxBox).whole, "of an owner before")
	})
}

func TestAnchors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a anchors
		a.init()
		claim := func(node regions.NodeID, version uint64) *verdict {
			v, tell := a.claim(time.Now(), node, "u", version, 10)
			if !tell {
				return nil
			}
			return &v
		}
		require.Nil(t, claim("a", 5))
		require.Nil(t, claim("a", 5))
		require.Equal(t, &verdict{"b", "u", 5}, claim("b", 4))
		require.Equal(t, &verdict{"a", "u", 9}, claim("b", 9), "who did before is told")
		require.Equal(t, &verdict{"a", "u", 9}, claim("a", 7), "again and again")
		time.Sleep(life)
		require.Nil(t, claim("a", 7), "b repeats it no more")
		for i := range 20 {
			a.claim(time.Now(), "a", fmt.Sprint(i), 1, 10)
		}
		require.Len(t, a.of, 10)
		time.Sleep(life)
		a.sweep(time.Now())
		require.Empty(t, a.of)
	})
}

// TestUpdatesAreFew: somebody who reports ten times a second is sent to an owner
// elsewhere once in two seconds, and at once when the precision changes.
func TestUpdatesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2, 1)
		eu, us := w.node("eu-west-1"), w.node("us-east-1")
		dublin := geo.Point{Lat: 53.35, Lng: -6.26}
		in := func() float64 { return metric(t, eu.live(), "in") }
		for i := range 200 {
			us.live().Put("u", "U", exactView(geo.Destination(dublin, 0, float64(i))), time.Now().Add(time.Minute))
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 11, in(), 2)
		people, _ := eu.live().owner.near(time.Now(), "", dublin, 1000, 10)
		require.Len(t, people, 1)

		time.Sleep(3 * time.Second)
		before := in()
		us.live().Put("u", "U", exactView(geo.Destination(dublin, 0, 300)), time.Now().Add(time.Minute))
		old := coarse(exactView(dublin), 7)
		old.Captured = old.Captured.Add(-10 * time.Minute) // the last moment of that resolution
		us.live().Put("u", "U", old, time.Now().Add(time.Minute))
		time.Sleep(100 * time.Millisecond)
		require.Positive(t, in()-before)
		people, _ = eu.live().owner.near(time.Now(), "", dublin, maxRadius, 10)
		require.Equal(t, grant.Cells(7), people[0].View.Precision, "no finer than what is granted now")

		us.live().Gone("u")
		time.Sleep(100 * time.Millisecond)
		require.Empty(t, eu.live().owner.all(dublin))
	})
}

// TestARegionThatCannotBeReached is said to be so, at once after the first time.
func TestARegionThatCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2, 2)
		eu, us := w.node("eu-west-1"), w.node("us-east-1")
		dublin, ashburn := geo.Point{Lat: 53.35, Lng: -6.26}, geo.Point{Lat: 38.9, Lng: -77.45}
		border := spots()[0]
		for i, at := range []geo.Point{dublin, ashburn, geo.Destination(border, 90, 15_000), geo.Destination(border, 270, 15_000)} {
			us.live().Put(fmt.Sprintf("of us %d", i), "", exactView(at), time.Now().Add(time.Hour))
			eu.live().Put(fmt.Sprintf("of eu %d", i), "", exactView(at), time.Now().Add(time.Hour))
		}
		time.Sleep(time.Second)
		near := func(f *fake, at geo.Point) edge.Nearby {
			got, err := f.live().Near(t.Context(), "viewer", "", at, 20_000, 0)
			require.NoError(t, err)
			return got
		}
		require.Len(t, near(eu, dublin).People, 2)
		require.Len(t, near(eu, ashburn).People, 2)
		require.Len(t, near(eu, border).People, 4)

		for _, a := range w.alive() {
			for _, b := range w.alive() {
				if a.region == "eu-west" && b.region == "us-east" {
					w.sever(a, b)
				}
			}
		}
		began := time.Now()
		got := near(eu, border)
		require.Len(t, got.People, 2, "who is at home here")
		require.Equal(t, []regions.RegionID{"us-east"}, got.Unreached)
		require.LessOrEqual(t, time.Since(began), askTime)
		began = time.Now()
		got = near(eu, border)
		require.Equal(t, []regions.RegionID{"us-east"}, got.Unreached)
		require.Less(t, time.Since(began), 100*time.Millisecond, "nobody waits twice")
		require.Empty(t, near(eu, dublin).Unreached)
		require.Len(t, near(eu, dublin).People, 2, "what was told lasts for a minute")

		time.Sleep(life + sweepEvery)
		require.Len(t, near(eu, dublin).People, 1)
		w.heal()
		time.Sleep(time.Second)
		got = near(eu, border)
		require.Len(t, got.People, 4)
		require.Empty(t, got.Unreached)
	})
}

type noBlocks struct{ err error }

func (n noBlocks) Blocked(context.Context, string) (map[string]bool, error) { return nil, n.err }

func TestNearRefuses(t *testing.T) {
	m := soleMap(nil)
	for _, c := range []struct {
		at     geo.Point
		radius float64
		limit  int
	}{
		{geo.Point{Lat: 91}, 1, 1}, {geo.Point{Lat: math.NaN()}, 1, 1}, {geo.Point{}, -1, 1}, {geo.Point{}, math.NaN(), 1},
		{geo.Point{}, MaxRadius + 1, 1}, {geo.Point{}, 1, MaxLimit + 1}, {geo.Point{}, 1, -1},
	} {
		_, err := m.Near(t.Context(), "v", "", c.at, c.radius, c.limit)
		require.ErrorIs(t, err, errNear, "%v", c)
	}
	for _, b := range []*wire.Box{nil, {South: 1, North: 0}, {East: 181}, {South: math.NaN()}} {
		_, err := m.Box(t.Context(), b, nil)
		require.ErrorIs(t, err, errBox)
	}
	broken := errors.New("no database")
	_, err := soleMap(broken).Near(t.Context(), "v", "", geo.Point{}, 1, 1)
	require.ErrorIs(t, err, broken, "who blocked whom is unknown: nobody is shown")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.Near(ctx, "v", "", geo.Point{}, 1, 1)
	require.NoError(t, err, "nothing had to be waited for")
}

// soleMap is the map of a mesh of one node, which was not started.
func soleMap(blocks error) *Map {
	top := &regions.Topology{Regions: []regions.Region{{Name: "r", Nodes: []regions.Node{{ID: "n"}}}}}
	return New(Config{
		Self: "n", Region: "r", Roster: sole{}, Topology: func() *regions.Topology { return top }, Links: sole{}, Blocks: noBlocks{blocks},
	})
}

// sole is the roster and the links of a node that is alone.
type sole struct{}

func (sole) Current() bool                                                { return true }
func (sole) Slot(int) (regions.NodeID, regions.Epoch)                     { return "n", 1 }
func (sole) SlotIn(regions.RegionID, int) (regions.NodeID, regions.Epoch) { return "n", 1 }
func (sole) RegionOf(regions.NodeID) regions.RegionID                     { return "r" }
func (sole) Send(regions.NodeID, *peer.Frame)                             {}
func (sole) Call(context.Context, regions.NodeID, *peer.Call) (*peer.Answer, error) {
	return nil, errCut
}

// metric returns how many updates of a way a node has counted.
func metric(t *testing.T, m *Map, way string) float64 {
	t.Helper()
	families, err := m.cfg.Registry.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "muster_map_updates_total" {
			continue
		}
		for _, x := range f.GetMetric() {
			if x.GetLabel()[0].GetValue() == way {
				return x.GetCounter().GetValue()
			}
		}
	}
	return 0
}
