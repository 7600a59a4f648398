package grant_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/h3"
)

var (
	bob      = grant.Audience{Kind: grant.Person, ID: "bob"}
	climbers = grant.Audience{Kind: grant.Group, ID: "climbers"}
	near     = grant.Audience{Kind: grant.Discoverable}
	berlin   = geo.Point{Lat: 52.5200, Lng: 13.4050}
)

func newSet(t testing.TB, grants []grant.Grant, zones []grant.Zone, ghost bool) *grant.Set {
	t.Helper()
	s, err := grant.NewSet(grants, zones, ghost)
	require.NoError(t, err)
	return s
}

// standing returns a snapper of somebody who was at p at noon.
func standing(t testing.TB, p geo.Point) *grant.Snapper {
	t.Helper()
	s := grant.NewSnapper([]byte("secret"), "ada")
	_, err := s.Take(rawAt(t, p, noon), noon)
	require.NoError(t, err)
	return s
}

func TestFinestLiveGrant(t *testing.T) {
	ada := standing(t, berlin)
	s := newSet(t, []grant.Grant{
		{Audience: bob, Precision: grant.Cells(6)},
		{Audience: bob, Precision: grant.Exact, Expires: noon.Add(time.Hour), Purpose: "the way to the hut"},
		{Audience: climbers, Precision: grant.Cells(8), Expires: noon.Add(2 * time.Hour)},
	}, nil, false)
	see := func(after time.Duration, who ...grant.Audience) string {
		p, ok := s.For(noon.Add(after), ada, who...)
		require.Equal(t, ok, p != grant.None)
		return p.String()
	}
	require.Equal(t, "exact", see(0, bob))
	require.Equal(t, "exact", see(time.Hour-1, bob))
	require.Equal(t, "r6", see(time.Hour, bob), "gone in the moment it expires")
	require.Equal(t, "r8", see(time.Hour, bob, climbers), "he is both")
	require.Equal(t, "r6", see(2*time.Hour, bob, climbers))
	require.Equal(t, "none", see(2*time.Hour, climbers))
	require.Equal(t, "none", see(0))
	require.Equal(t, "none", see(0, near))
	require.Equal(t, "none", see(0, grant.Audience{Kind: grant.Group, ID: "bob"}), "a group that is called like him")
	require.Equal(t, []grant.Audience{climbers, bob}, s.Audiences(noon))
	require.Equal(t, []grant.Audience{bob}, s.Audiences(noon.Add(2*time.Hour)))

	_, ok := s.For(noon, grant.NewSnapper(nil, "ada"), bob)
	require.False(t, ok, "nobody knows where ada is")
}

func TestAPostGrantsItsGroup(t *testing.T) {
	ada := standing(t, berlin)
	divers := grant.Audience{Kind: grant.Group, ID: "divers"}
	taken := grant.Audience{Kind: grant.Group, ID: "taken back"}
	s := newSet(t, []grant.Grant{
		{Audience: climbers, Precision: grant.Cells(7)},
		{Audience: taken, Precision: grant.Exact, Expires: noon.Add(-time.Hour)},
	}, nil, false)
	for _, g := range []grant.Audience{climbers, divers, taken} {
		s.Post(g.ID, noon.Add(time.Minute))
		s.Post(g.ID, noon) // a late one shortens nothing
	}
	see := func(at time.Time, a grant.Audience) string { p, _ := s.For(at, ada, a); return p.String() }
	require.Equal(t, "exact", see(noon, divers))
	require.Equal(t, "r7", see(noon, climbers), "ada's own grant decides")
	require.Equal(t, "none", see(noon, taken), "also when it is over")
	require.Equal(t, "none", see(noon, grant.Audience{Kind: grant.Person, ID: "divers"}))
	require.Equal(t, []grant.Audience{climbers, divers}, s.Audiences(noon))

	next := newSet(t, nil, nil, false)
	for g, until := range s.Posts() {
		next.Post(g, until)
	}
	p, _ := next.For(noon, ada, divers)
	require.Equal(t, grant.Exact, p)
	require.Equal(t, "none", see(noon.Add(time.Minute), divers))
	s.Forget(noon.Add(time.Minute))
	require.Empty(t, s.Posts())
}

func TestEnds(t *testing.T) {
	s := newSet(t, []grant.Grant{
		{Audience: bob, Precision: grant.Exact},
		{Audience: climbers, Precision: grant.Exact, Expires: noon.Add(-time.Hour)},
		{Audience: near, Precision: grant.Exact, Expires: noon.Add(2 * time.Hour)},
	}, nil, false)
	require.Equal(t, noon.Add(2*time.Hour), s.Ends(noon))
	s.Post("divers", noon.Add(time.Hour))
	require.Equal(t, noon.Add(time.Hour), s.Ends(noon))
	require.Equal(t, noon.Add(2*time.Hour), s.Ends(noon.Add(time.Hour)))
	require.Zero(t, s.Ends(noon.Add(2*time.Hour)))
}

func TestGhostsAreSeenByNobody(t *testing.T) {
	s := newSet(t, []grant.Grant{{Audience: bob, Precision: grant.Exact}, {Audience: near, Precision: grant.Exact}}, nil, true)
	s.Post("climbers", noon.Add(time.Hour))
	_, ok := s.View(noon, standing(t, berlin), bob, climbers, near)
	require.False(t, ok)
	require.Empty(t, s.Audiences(noon))
}

// TestNeverWiderByAccident compares random sets with what the words say, and
// checks that nothing but a new grant makes anybody see more.
func TestNeverWiderByAccident(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	audience := func() grant.Audience {
		return []grant.Audience{bob, climbers, near, {Kind: grant.Person, ID: "eve"}, {Kind: grant.Group, ID: "divers"}}[rng.IntN(5)]
	}
	when := func() time.Time { return noon.Add(time.Duration(rng.IntN(7)-3) * time.Hour) }
	for range 5000 {
		var grants []grant.Grant
		for range rng.IntN(5) {
			g := grant.Grant{Audience: audience(), Precision: grant.Precision(1 + rng.IntN(int(grant.Exact)))}
			if rng.IntN(2) == 0 {
				g.Expires = when()
			}
			grants = append(grants, g)
		}
		var zones []grant.Zone
		for range rng.IntN(3) {
			zones = append(zones, grant.Zone{
				Center: geo.Destination(berlin, rng.Float64()*360, rng.Float64()*3000),
				Radius: 1 + 300*rng.Float64(), Precision: grant.Cells(5 + rng.IntN(4)),
			})
		}
		ada := standing(t, berlin)
		sets := map[string]*grant.Set{"as is": newSet(t, grants, zones, false), "no zones": newSet(t, grants, nil, false)}
		if len(grants) > 0 {
			sets["one less"] = newSet(t, grants[1:], zones, false)
		}
		if rng.IntN(2) == 0 {
			until := when()
			for _, s := range sets {
				s.Post("divers", until)
			}
			sets["as is"].Post("", noon) // names nobody
		}
		who := []grant.Audience{audience(), audience()}[:1+rng.IntN(2)]
		now := when()
		see := func(name string, at time.Time) grant.Precision {
			p, ok := sets[name].For(at, ada, who...)
			require.Equal(t, p != grant.None, ok)
			return p
		}
		want := grant.None
		for _, g := range grants {
			if slices.Contains(who, g.Audience) && (g.Expires.IsZero() || now.Before(g.Expires)) {
				want = max(want, g.Precision)
			}
		}
		for g, until := range sets["no zones"].Posts() {
			a := grant.Audience{Kind: grant.Group, ID: g}
			own := slices.ContainsFunc(grants, func(x grant.Grant) bool { return x.Audience == a })
			if slices.Contains(who, a) && !own && now.Before(until) {
				want = grant.Exact
			}
		}
		require.Equal(t, want, see("no zones", now))
		got := see("as is", now)
		require.LessOrEqual(t, got, want, "zones only lower")
		require.LessOrEqual(t, see("as is", now.Add(time.Hour)), got, "time only takes")
		if _, posted := sets["as is"].Posts()["divers"]; len(grants) > 0 && !posted {
			require.LessOrEqual(t, see("one less", now), got)
		}
		for _, z := range zones {
			if geo.Distance(z.Center, berlin) <= z.Radius {
				require.LessOrEqual(t, got, z.Precision, "in a zone")
			}
		}
		v, ok := sets["as is"].View(now, ada, who...)
		require.Equal(t, got != grant.None, ok)
		if r, coarse := got.Resolution(); coarse {
			require.Equal(t, grant.View{Point: v.Point, Precision: got, Cell: v.Cell, Accuracy: v.Accuracy, Captured: v.Captured}, v)
			c, err := h3.CellOf(berlin, geo.MaxResolution)
			require.NoError(t, err)
			require.Equal(t, c.Parent(r), v.Cell)
		}
	}
}

func TestSetsRefuseNonsense(t *testing.T) {
	long := string(make([]byte, 1000))
	for _, g := range []grant.Grant{
		{},
		{Audience: bob},
		{Audience: bob, Precision: grant.Exact + 1},
		{Audience: grant.Audience{Kind: grant.Person}, Precision: grant.Exact},
		{Audience: grant.Audience{Kind: grant.Group, ID: long}, Precision: grant.Exact},
		{Audience: grant.Audience{Kind: grant.Discoverable, ID: "x"}, Precision: grant.Exact},
		{Audience: grant.Audience{Kind: "everybody"}, Precision: grant.Exact},
		{Audience: bob, Precision: grant.Exact, Purpose: long},
		{Audience: bob, Precision: grant.Exact, Purpose: "\xff"},
	} {
		_, err := grant.NewSet([]grant.Grant{g}, nil, false)
		require.Error(t, err, "%+v", g)
	}
	for _, z := range []grant.Zone{
		{},
		{Center: berlin, Radius: 100},
		{Center: berlin, Radius: 100, Precision: grant.Exact},
		{Center: geo.Point{Lat: 91}, Radius: 100, Precision: grant.Cells(7)},
		{Center: berlin, Radius: -1, Precision: grant.Cells(7)},
		{Center: berlin, Radius: 100_000, Precision: grant.Cells(7)},
	} {
		_, err := grant.NewSet(nil, []grant.Zone{z}, false)
		require.Error(t, err, "%+v", z)
	}
	for r := range grant.MaxResolution + 1 { // the largest zones, at a pole
		_, err := grant.NewSet(nil, []grant.Zone{{Center: geo.Point{Lat: 90}, Radius: 12*geo.MaxRadius(r) - 1, Precision: grant.Cells(r)}}, false)
		require.NoError(t, err)
	}
}

// TestZoneTellsNoSideOfItsCell: where a zone holds depends on the cell that its
// centre is in, not on where in it.
func TestZoneTellsNoSideOfItsCell(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	cell, err := h3.CellOf(berlin, geo.MaxResolution)
	require.NoError(t, err)
	for _, res := range []int{7, 8, 9} {
		c := cell.Parent(res)
		middle, err := h3.Center(c)
		require.NoError(t, err)
		var first []grant.Precision
		for i := range 6 {
			home := middle // then anywhere in the cell
			for i > 0 {
				home = geo.Destination(middle, rng.Float64()*360, rng.Float64()*geo.MaxRadius(res))
				if h, err := h3.CellOf(home, geo.MaxResolution); err == nil && h.Parent(res) == c {
					break
				}
			}
			s := newSet(t, []grant.Grant{{Audience: bob, Precision: grant.Exact}, {Audience: near, Precision: grant.Cells(10)}},
				[]grant.Zone{{Center: home, Radius: 150, Precision: grant.Cells(res)}}, false)
			var seen []grant.Precision
			for b := 0.0; b < 360; b += 15 {
				for d := 0.0; d < 5*geo.MaxRadius(res); d += geo.MaxRadius(res) / 4 {
					ada := standing(t, geo.Destination(middle, b, d))
					for _, who := range []grant.Audience{bob, near} {
						p, _ := s.For(noon, ada, who)
						seen = append(seen, p)
					}
				}
			}
			if first == nil {
				first = seen
				require.Contains(t, seen, grant.Exact)
				require.Contains(t, seen, grant.Cells(res))
			}
			require.Equal(t, first, seen)
		}
	}
}

// TestHomeIsNeverShownExactly walks to and from home at random: whoever may see
// exactly never sees a point in the zone, and who may see coarsely never one
// that is finer than the zone's cells.
func TestHomeIsNeverShownExactly(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		home := geo.Destination(berlin, rng.Float64()*360, rng.Float64()*20000)
		zone := grant.Zone{Center: home, Radius: 50 + 400*rng.Float64(), Precision: grant.Cells(7 + rng.IntN(2))}
		s := newSet(t, []grant.Grant{{Audience: bob, Precision: grant.Exact}, {Audience: near, Precision: grant.Cells(9)}}, []grant.Zone{zone}, false)
		ada, now, p, exact := grant.NewSnapper([]byte("s"), fmt.Sprint(rng.Uint64())), noon, home, 0
		for range 2000 {
			p = geo.Destination(p, rng.Float64()*360, 1000*rng.Float64())
			if geo.Distance(p, home) > 12_000 {
				p = home
			}
			now = now.Add(30 * time.Second)
			_, err := ada.Take(rawAt(t, p, now), now)
			require.NoError(t, err)
			v, ok := s.View(now, ada, bob)
			require.True(t, ok)
			if v.Precision == grant.Exact {
				exact++
				require.Greater(t, geo.Distance(v.Point, home), zone.Radius)
			}
			v, ok = s.View(now, ada, near)
			require.True(t, ok)
			if v.Precision == grant.Cells(9) {
				require.Greater(t, geo.Distance(v.Point, home), zone.Radius)
			}
		}
		require.Positive(t, exact)
	}
}

func FuzzGrantsAndZones(f *testing.F) {
	f.Add(`{"audience":{"kind":"person","id":"bob"},"precision":"r7","expires":"2027-03-01T12:00:00Z","purpose":"a walk"}`,
		`{"center":{"lat":52.5,"lng":13.4},"radius":200,"precision":"r8"}`)
	f.Add(`{"audience":{"kind":"discoverable"},"precision":"exact"}`, `{"center":{"lat":90,"lng":180},"radius":1e300,"precision":"r0"}`)
	f.Fuzz(func(t *testing.T, g, z string) {
		var grants [1]grant.Grant
		var zones [1]grant.Zone
		if json.Unmarshal([]byte(g), &grants[0]) != nil || json.Unmarshal([]byte(z), &zones[0]) != nil {
			return
		}
		s, err := grant.NewSet(grants[:], zones[:], false)
		if err != nil {
			return
		}
		p, _ := s.For(noon, standing(t, zones[0].Center), grants[0].Audience)
		require.LessOrEqual(t, p, min(grants[0].Precision, zones[0].Precision))
		b, err := json.Marshal(grants[0])
		require.NoError(t, err)
		var again grant.Grant
		require.NoError(t, json.Unmarshal(b, &again))
		require.True(t, again.Expires.Equal(grants[0].Expires))
	})
}
