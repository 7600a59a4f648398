package steering

import (
	"math"
	"slices"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/placement"
)

const (
	lookEvery = time.Second
	silence   = 3 * time.Second // of a region's leader: it counts as a bad look
	badLooks  = 3               // in a row take a region out
	goodLooks = 2               // in a row bring it back
)

// fullSessions is how many sessions make a node of the usual capacity (100) full,
// if nothing else is said.
const fullSessions = 50_000

// View is how the regions stand, as far as clients are concerned. It is not to
// be changed.
type View struct {
	Topology *regions.Topology
	Regions  []placement.Candidate // as in Topology.Regions
	Nodes    [][]Node              // by region
}

// Node is one node of a View.
type Node struct {
	regions.Node
	State    placement.State
	Capacity int
}

func (v *View) equal(o *View) bool {
	return v.Topology == o.Topology && slices.Equal(v.Regions, o.Regions) &&
		slices.EqualFunc(v.Nodes, o.Nodes, func(a, b []Node) bool { return slices.Equal(a, b) })
}

// health turns what is said of regions, look by look, into views. It has no
// clock.
type health struct {
	policy placement.Policy
	full   int // sessions at which a node of capacity 100 is
	of     map[regions.RegionID]*condition
	places map[regions.RegionID]*geo.Point // so that views compare by pointer
}

// condition is what is remembered of a region between looks.
type condition struct {
	known     bool // there was a good look ever, or enough bad ones
	in        bool
	good, bad int // in a row
	shed      bool
}

func newHealth(policy placement.Policy, full int) *health {
	return &health{policy: policy, full: full, of: map[regions.RegionID]*condition{}, places: map[regions.RegionID]*geo.Point{}}
}

// look makes a view of what is said at a time.
func (h *health) look(now time.Time, t *regions.Topology, standings []regions.Standing) *View {
	v := &View{Topology: t}
	for _, r := range t.Regions {
		i := slices.IndexFunc(standings, func(s regions.Standing) bool { return s.Region == r.Name })
		var s regions.Standing
		if i >= 0 {
			s = standings[i]
		}
		c := h.of[r.Name]
		if c == nil {
			c = &condition{}
			h.of[r.Name] = c
		}
		nodes := nodesOf(r, s)
		fresh := !s.Heard.IsZero() && now.Sub(s.Heard) <= silence
		best := placement.Down
		sessions, room := 0, 0
		for _, n := range s.Nodes {
			switch n.State {
			case regions.NodeUp:
				best = placement.Up
				sessions, room = sessions+n.Sessions, room+max(n.Capacity, 1)
			case regions.NodeDraining:
				if best != placement.Up {
					best = placement.Draining
				}
			}
		}
		state := c.step(fresh && best != placement.Down, best)
		load := 0.0
		if room > 0 {
			load = float64(sessions) / (float64(room) * float64(h.full) / 100)
		}
		c.shed = h.policy.Shed(c.shed, load)
		v.Regions = append(v.Regions, placement.Candidate{
			Name: string(r.Name), At: h.place(r), State: state, Full: c.shed,
			Load: math.Round(load*100) / 100, // so that not every session makes a new view
		})
		v.Nodes = append(v.Nodes, nodes)
	}
	for name := range h.of {
		if _, ok := t.Region(name); !ok {
			delete(h.of, name)
			delete(h.places, name)
		}
	}
	return v
}

// step notes a look; state is what the region would be if it is in.
func (c *condition) step(good bool, state placement.State) placement.State {
	if good {
		c.good, c.bad = c.good+1, 0
	} else {
		c.good, c.bad = 0, c.bad+1
	}
	switch {
	case c.good >= goodLooks, !c.known && good: // the first word of a region is believed
		c.known, c.in = true, true
	case c.bad >= badLooks:
		c.known, c.in = true, false
	}
	switch {
	case !c.known:
		return placement.Unknown
	case !c.in:
		return placement.Down
	case !good: // in still, for the time being
		return placement.Up
	default:
		return state
	}
}

func (h *health) place(r regions.Region) *geo.Point {
	at := geo.Point{Lat: r.Location.Lat, Lng: r.Location.Lng}
	if was := h.places[r.Name]; was != nil && *was == at {
		return was
	}
	h.places[r.Name] = &at
	return &at
}

// nodesOf are the nodes of a region: those that it told of, and those that only
// the topology has.
func nodesOf(r regions.Region, s regions.Standing) []Node {
	var nodes []Node
	for _, n := range s.Nodes {
		state := placement.Down
		switch n.State {
		case regions.NodeUp:
			state = placement.Up
		case regions.NodeDraining:
			state = placement.Draining
		}
		nodes = append(nodes, Node{n.Node, state, n.Capacity})
	}
	for _, n := range r.Nodes {
		if !slices.ContainsFunc(s.Nodes, func(o regions.NodeStanding) bool { return o.Node.ID == n.ID }) {
			state := placement.Unknown
			if len(s.Nodes) > 0 {
				state = placement.Down // the region has never seen it
			}
			nodes = append(nodes, Node{n, state, 0})
		}
	}
	return nodes
}
