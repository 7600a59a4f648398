package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// world is a region on each of six continents.
var world = []Candidate{
	{Name: "eu-west", At: &geo.Point{Lat: 53.35, Lng: -6.26}, State: Up},
	{Name: "us-east", At: &geo.Point{Lat: 38.9, Lng: -77.45}, State: Up},
	{Name: "ap-southeast", At: &geo.Point{Lat: 1.35, Lng: 103.82}, State: Up},
	{Name: "sa-east", At: &geo.Point{Lat: -23.55, Lng: -46.63}, State: Up},
	{Name: "af-south", At: &geo.Point{Lat: -26.2, Lng: 28.05}, State: Up},
	{Name: "oc-east", At: &geo.Point{Lat: -33.87, Lng: 151.21}, State: Up},
}

var cities = []struct {
	name, first, second string
	at                  geo.Point
}{
	{"Berlin", "eu-west", "us-east", geo.Point{Lat: 52.52, Lng: 13.4}},
	{"Toronto", "us-east", "eu-west", geo.Point{Lat: 43.65, Lng: -79.38}},
	{"Jakarta", "ap-southeast", "oc-east", geo.Point{Lat: -6.2, Lng: 106.82}},
	{"Buenos Aires", "sa-east", "af-south", geo.Point{Lat: -34.6, Lng: -58.38}},
	{"Maputo", "af-south", "sa-east", geo.Point{Lat: -25.97, Lng: 32.57}},
	{"Auckland", "oc-east", "ap-southeast", geo.Point{Lat: -36.85, Lng: 174.76}},
	{"Taveuni, on the antimeridian", "oc-east", "ap-southeast", geo.Point{Lat: -16.8, Lng: -179.98}},
}

func names(all []Candidate, order []int) (list []string) {
	for _, i := range order {
		list = append(list, all[i].Name)
	}
	return list
}

func TestNearestOfSixContinents(t *testing.T) {
	for _, c := range cities {
		got := names(world, Policy{}.Order(Client{At: &c.at}, world, nil))
		require.Equal(t, c.first, got[0], c.name)
		require.Equal(t, c.second, got[1], c.name)
	}
}

func TestStatesComeBeforeDistance(t *testing.T) {
	berlin := cities[0].at
	with := func(states ...State) []Candidate {
		all := slices.Clone(world)
		for i, s := range states {
			all[i].State = s
		}
		return all
	}
	for _, c := range []struct {
		states []State
		want   string
	}{
		{[]State{Up, Up}, "eu-west"},
		{[]State{Draining, Up}, "us-east"},
		{[]State{Down, Up}, "us-east"},
		{[]State{Unknown, Up}, "us-east"},
		{[]State{Down, Unknown, Draining, Down, Down, Down}, "us-east"},
		{[]State{Down, Down, Draining, Down, Down, Down}, "ap-southeast"},
		{[]State{Down, Down, Down, Down, Down, Down}, "eu-west"}, // answer anyway
		{[]State{Unknown, Unknown, Unknown, Unknown, Unknown, Unknown}, "eu-west"},
	} {
		all := with(c.states...)
		require.Equal(t, c.want, all[Policy{}.Best(Client{At: &berlin}, all)].Name, "%v", c.states)
	}
}

func TestWithoutAPlaceTheGivenOrderCounts(t *testing.T) {
	require.Equal(t, []int{0, 1, 2, 3, 4, 5}, Policy{}.Order(Client{}, world, nil))
	require.Equal(t, -1, Policy{}.Best(Client{}, nil))
	require.Empty(t, Policy{}.Order(Client{}, nil, nil))
}

func TestMeasuredBeatsEstimated(t *testing.T) {
	all := slices.Clone(world)
	all[1].RTT = 12 * time.Millisecond // a client in a VPN that ends in Virginia
	berlin := cities[0].at
	require.Equal(t, "us-east", all[Policy{}.Best(Client{At: &berlin}, all)].Name)
}

func TestWhoIsSomewhereStaysUnlessAnotherIsClearlyNearer(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		here, there time.Duration
		move        bool
	}{
		{100 * ms, 90 * ms, false}, // neither
		{100 * ms, 79 * ms, false}, // 20 ms, but not a quarter
		{100 * ms, 74 * ms, true},
		{40 * ms, 25 * ms, false}, // a quarter, but not 20 ms
		{40 * ms, 19 * ms, true},
		{300 * ms, 230 * ms, false},
		{300 * ms, 220 * ms, true},
		{10 * ms, 1 * ms, false},
	} {
		all := []Candidate{{Name: "there", RTT: c.there, State: Up}, {Name: "here", RTT: c.here, State: Up}}
		got := Policy{}.Best(Client{Current: "here"}, all) == 0
		require.Equal(t, c.move, got, "%v %v", c.here, c.there)
		all[1].State = Down
		require.Zero(t, Policy{}.Best(Client{Current: "here"}, all), "what is down is left")
	}
}

// A client whose measurements of two regions jitter around each other is moved
// at most once.
func TestNoBackAndForth(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		a, b := time.Duration(20+r.IntN(150))*time.Millisecond, time.Duration(20+r.IntN(150))*time.Millisecond
		all := []Candidate{{Name: "a", State: Up}, {Name: "b", State: Up}}
		current, moves := "", 0
		for range 100 {
			// ±8 ms, less than half of the margin
			all[0].RTT = a + time.Duration(r.IntN(16)-8)*time.Millisecond
			all[1].RTT = b + time.Duration(r.IntN(16)-8)*time.Millisecond
			best := all[Policy{}.Best(Client{Current: current}, all)].Name
			if current != "" && best != current {
				moves++
			}
			current = best
		}
		require.LessOrEqual(t, moves, 1, "%v %v", a, b)
	}
}

func TestShedding(t *testing.T) {
	var p Policy
	full := false
	for _, step := range []struct {
		load float64
		want bool
	}{{0.5, false}, {0.84, false}, {0.85, true}, {0.8, true}, {0.7, true}, {0.69, false}, {0.8, false}, {0.9, true}, {2, true}, {0, false}} {
		full = p.Shed(full, step.load)
		require.Equal(t, step.want, full, "%v", step.load)
	}

	// The share that goes elsewhere grows from nothing to all, and who is in it
	// at some load stays in it at any higher one.
	berlin := cities[0].at
	all := slices.Clone(world)
	all[0].Full = true
	before := map[uint64]bool{}
	for _, load := range []float64{0.7, 0.775, 0.85, 0.925, 1} {
		all[0].Load = load
		away := 0
		for key := range uint64(2000) {
			sent := all[p.Best(Client{At: &berlin, Key: key}, all)].Name != "eu-west"
			if sent {
				away++
			}
			require.False(t, before[key] && !sent, "key %d at %v", key, load)
			before[key] = sent
		}
		require.InDelta(t, (load-0.7)/0.3, float64(away)/2000, 0.03, "%v", load)
	}
	require.Zero(t, p.Best(Client{At: &berlin, Current: "eu-west"}, all), "who is there stays")
	for i := range all {
		all[i].Load, all[i].Full = 1, true
	}
	require.Zero(t, p.Best(Client{At: &berlin}, all), "all are full: the nearest")
}

// oracle says in other words which of two candidates a client should prefer:
// by the sentences of the package comment, pair by pair.
func oracle(c Client, a, b Candidate) bool {
	group := func(o Candidate) int {
		if o.State != Up {
			return map[State]int{Unknown: 3, Draining: 4, Down: 5}[o.State]
		}
		if o.Full && c.Current != o.Name && turnedAway(c.Key, o.Name)*0.3+0.7 < o.Load {
			return 2
		}
		return 1
	}
	if ga, gb := group(a), group(b); ga != gb {
		return ga < gb
	}
	trip := func(o Candidate) float64 { // milliseconds
		switch {
		case o.RTT != 0:
			return float64(o.RTT) / 1e6
		case c.At != nil && o.At != nil:
			return math.Floor((8+geo.Distance(*c.At, *o.At)/65000)*1e6) / 1e6
		}
		return 160
	}
	ta, tb := trip(a), trip(b)
	clearly := func(near, far float64) bool { return far-near > 20 && near < 0.75*far }
	switch {
	case c.Current == "" || a.Name != c.Current && b.Name != c.Current:
		return ta < tb
	case b.Name == c.Current:
		return clearly(ta, tb)
	default:
		return !clearly(tb, ta)
	}
}

func TestAgainstTheOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	point := func() *geo.Point {
		if r.IntN(8) == 0 {
			return nil
		}
		return &geo.Point{Lat: r.Float64()*180 - 90, Lng: r.Float64()*360 - 180}
	}
	for range 20000 {
		var all []Candidate
		for i := range 1 + r.IntN(20) {
			c := Candidate{Name: fmt.Sprint("r", i), At: point(), State: State(r.IntN(4)), Load: r.Float64() * 1.2, Full: r.IntN(3) == 0}
			if r.IntN(3) == 0 {
				c.RTT = time.Duration(1 + r.IntN(300_000_000))
			}
			all = append(all, c)
		}
		c := Client{At: point(), Key: r.Uint64()}
		if r.IntN(2) == 0 {
			c.Current = all[r.IntN(len(all))].Name
		}
		order := Policy{}.Order(c, all, nil)
		require.Equal(t, order[0], Policy{}.Best(c, all))
		require.Len(t, order, len(all))
		require.Equal(t, slices.Sorted(slices.Values(order)), Policy{}.Order(Client{}, make([]Candidate, len(all)), nil), "a permutation")
		for i, a := range order {
			for _, b := range order[i+1:] {
				// Nobody who comes later is strictly preferred.
				require.False(t, oracle(c, all[b], all[a]) && !oracle(c, all[a], all[b]), "%+v before %+v for %+v", all[a], all[b], c)
			}
		}
	}
}

func TestSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	states := []State{Up, Draining, Up, Down, Up}
	weights := []int{100, 100, 300, 100, 0}
	first := map[int]int{}
	for range 4000 {
		order := Spread(states, weights, r)
		first[order[0]]++
		require.Equal(t, []int{1, 3}, order[3:], "draining, then down, last")
	}
	require.InDelta(t, 0.25, float64(first[0])/4000, 0.03)
	require.InDelta(t, 0.75, float64(first[2])/4000, 0.03)
	require.Empty(t, Spread(nil, nil, r))
}

func TestBestDoesNotAllocate(t *testing.T) {
	berlin := cities[0].at
	require.Zero(t, testing.AllocsPerRun(100, func() { Policy{}.Best(Client{At: &berlin}, world) }))
}
