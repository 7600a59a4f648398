package steering

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/placement"
)

var (
	up, draining, down, unknown = placement.Up, placement.Draining, placement.Down, placement.Unknown
	begin                       = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func oneRegion() *regions.Topology {
	return &regions.Topology{Regions: []regions.Region{{Name: "r", Nodes: []regions.Node{{ID: "r-1"}, {ID: "r-2"}}}}}
}

func said(at time.Time, states ...regions.NodeState) []regions.Standing {
	s := regions.Standing{Region: "r", Heard: at}
	for i, state := range states {
		s.Nodes = append(s.Nodes, regions.NodeStanding{Node: regions.Node{ID: regions.NodeID([]string{"r-1", "r-2"}[i])}, State: state, Capacity: 100})
	}
	return []regions.Standing{s}
}

func TestHealthWithHysteresis(t *testing.T) {
	const u, d, x = regions.NodeUp, regions.NodeDraining, regions.NodeDown
	type look struct {
		states []regions.NodeState // nil: nothing was heard
		want   placement.State
	}
	for name, looks := range map[string][]look{
		"never heard of":     {{nil, unknown}, {nil, unknown}, {nil, down}, {nil, down}},
		"up at once":         {{[]regions.NodeState{u, u}, up}, {[]regions.NodeState{u, x}, up}},
		"late":               {{nil, unknown}, {nil, unknown}, {[]regions.NodeState{u}, up}},
		"a blip":             {{[]regions.NodeState{u}, up}, {nil, up}, {nil, up}, {[]regions.NodeState{u}, up}, {nil, up}, {nil, up}, {nil, down}},
		"three bad, two ok":  {{[]regions.NodeState{u}, up}, {nil, up}, {nil, up}, {nil, down}, {[]regions.NodeState{u}, down}, {nil, down}, {[]regions.NodeState{u}, down}, {[]regions.NodeState{u}, up}},
		"no node up":         {{[]regions.NodeState{u, u}, up}, {[]regions.NodeState{x, x}, up}, {[]regions.NodeState{x, x}, up}, {[]regions.NodeState{x, x}, down}},
		"drains":             {{[]regions.NodeState{u, u}, up}, {[]regions.NodeState{d, u}, up}, {[]regions.NodeState{d, d}, draining}, {[]regions.NodeState{d, x}, draining}, {[]regions.NodeState{u, x}, up}},
		"was down for long":  {{nil, unknown}, {nil, unknown}, {nil, down}, {[]regions.NodeState{u}, down}, {[]regions.NodeState{u}, up}},
		"not heard of again": {{[]regions.NodeState{u}, up}, {nil, up}, {nil, up}, {nil, down}, {nil, down}},
	} {
		h := newHealth(placement.Policy{}, fullSessions)
		now, top := begin, oneRegion()
		for i, l := range looks {
			now = now.Add(lookEvery)
			var s []regions.Standing
			if l.states != nil {
				s = said(now, l.states...)
			}
			require.Equal(t, l.want, h.look(now, top, s).Regions[0].State, "%s: look %d", name, i)
		}
	}
}

// What a region said counts for three seconds; so one that falls silent is out
// after its third look beyond that.
func TestSilence(t *testing.T) {
	h := newHealth(placement.Policy{}, fullSessions)
	last := said(begin, regions.NodeUp)
	out := time.Duration(0)
	for at := time.Duration(0); at < 20*time.Second && out == 0; at += lookEvery {
		if h.look(begin.Add(at), oneRegion(), last).Regions[0].State == down {
			out = at
		}
	}
	require.Equal(t, 6*time.Second, out)
}

func TestLoad(t *testing.T) {
	h := newHealth(placement.Policy{}, 1000)
	with := func(states []regions.NodeState, sessions ...int) *View {
		s := said(begin, states...)
		for i, n := range sessions {
			s[0].Nodes[i].Sessions = n
		}
		return h.look(begin, oneRegion(), s)
	}
	both, one := []regions.NodeState{regions.NodeUp, regions.NodeUp}, []regions.NodeState{regions.NodeUp, regions.NodeDown}
	require.Equal(t, 0.5, with(both, 500, 500).Regions[0].Load)
	require.False(t, with(both, 800, 800).Regions[0].Full)
	require.True(t, with(one, 900, 700).Regions[0].Full, "the other one's place is gone")
	require.True(t, with(both, 800, 800).Regions[0].Full)
	require.False(t, with(both, 690, 690).Regions[0].Full)
}

func TestNodesOfTheView(t *testing.T) {
	h := newHealth(placement.Policy{}, fullSessions)
	states := func(v *View) (list []placement.State) {
		for _, n := range v.Nodes[0] {
			list = append(list, n.State)
		}
		return list
	}
	require.Equal(t, []placement.State{unknown, unknown}, states(h.look(begin, oneRegion(), nil)))
	require.Equal(t, []placement.State{up, down}, states(h.look(begin, oneRegion(), said(begin, regions.NodeUp))), "one it never saw")
	v := h.look(begin, oneRegion(), said(begin, regions.NodeDraining, regions.NodeUp))
	require.Equal(t, []placement.State{draining, up}, states(v))
	require.True(t, v.equal(h.look(begin, v.Topology, said(begin, regions.NodeDraining, regions.NodeUp))))
	require.False(t, v.equal(h.look(begin, v.Topology, said(begin, regions.NodeDown, regions.NodeUp))))
}
