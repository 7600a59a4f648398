package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

const (
	proclaimEvery = time.Second
	// believeAnew is when a region that was silent may say something of a lower
	// term: it lost all its state, and began at term 1.
	believeAnew = 10 * time.Second
)

// standings is how other regions stand, as their leaders say.
type standings struct {
	mu sync.Mutex
	of map[regions.RegionID]heardStanding
}

type heardStanding struct {
	term, count uint64
	regions.Standing
}

// keep forgets the regions that there are no more.
func (t *standings) keep(others []regions.RegionID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.of, func(r regions.RegionID, _ heardStanding) bool { return !slices.Contains(others, r) })
}

// HeardStanding takes what another region's leader says of it. The caller makes
// sure that a node of that region said it.
func (c *Cluster) HeardStanding(s *peer.Standing) {
	region := regions.RegionID(s.GetRegion())
	if _, ok := c.cfg.Directory.Region(region); !ok || region == c.cfg.Region || len(s.Nodes) > roster.MaxNodes {
		return
	}
	now := heardStanding{s.Term, s.Count, regions.Standing{Region: region, Heard: time.Now()}}
	nodes := make([]regions.Node, len(s.Nodes))
	for i, n := range s.Nodes {
		nodes[i] = regions.Node{ID: regions.NodeID(n.Id), Peer: n.Peer, HTTP: n.Http, WS: n.Ws, WT: n.Wt}
		state := regions.NodeState(min(n.State, uint32(regions.NodeDraining)))
		now.Nodes = append(now.Nodes, regions.NodeStanding{Node: nodes[i], State: state, Sessions: int(n.Sessions), Capacity: int(n.Capacity)})
	}
	t := &c.standings
	t.mu.Lock()
	was := t.of[region]
	news := now.term > was.term || (now.term == was.term && now.count > was.count) || now.Heard.Sub(was.Heard) > believeAnew
	if news {
		t.of[region] = now
	}
	t.mu.Unlock()
	if news {
		c.cfg.Directory.Heard(region, nodes)
	}
}

// Standings returns how each region of the topology stands: this one as its
// roster has it, heard of now if that is current, the others as their leaders
// said last. The nodes of a region that was never heard of are not told.
func (c *Cluster) Standings() (out []regions.Standing) {
	for _, r := range c.cfg.Directory.Topology().Regions {
		s := c.Standing(r.Name)
		if r.Name == c.cfg.Region {
			s.Nodes = c.own(r)
			if s.Heard = c.Contact(); c.Current() {
				s.Heard = time.Now()
			}
		}
		out = append(out, s)
	}
	return out
}

// Standing returns how one other region stands, as its leader said last.
func (c *Cluster) Standing(region regions.RegionID) regions.Standing {
	c.standings.mu.Lock()
	defer c.standings.mu.Unlock()
	if heard := c.standings.of[region]; !heard.Heard.IsZero() {
		return heard.Standing
	}
	return regions.Standing{Region: region}
}

// own is how the roster has this region's nodes, with the addresses that the
// topology has for them; one that never was up is not told.
func (c *Cluster) own(r regions.Region) (nodes []regions.NodeStanding) {
	known := map[regions.NodeID]regions.Node{}
	for _, n := range r.Nodes {
		known[n.ID] = n
	}
	c.View(func(s *roster.State, _ uint64) {
		for _, n := range s.Nodes() {
			at, ok := known[n.ID]
			if !ok {
				continue // nobody could reach it
			}
			nodes = append(nodes, regions.NodeStanding{Node: at, State: n.State, Sessions: s.Held(n.ID), Capacity: int(n.Capacity)})
		}
	})
	return nodes
}

// proclaim tells the nodes of other regions how this one stands, as its leader.
func (c *Cluster) proclaim(ctx context.Context, term uint64) {
	tick := time.NewTicker(proclaimEvery)
	defer tick.Stop()
	for count := uint64(1); ; count++ {
		if to := c.elsewhere(); len(to) > 0 {
			region, _ := c.cfg.Directory.Region(c.cfg.Region)
			s := &peer.Standing{Region: string(c.cfg.Region), Term: term, Count: count}
			for _, n := range c.own(region) {
				s.Nodes = append(s.Nodes, &peer.NodeStanding{
					Id: string(n.Node.ID), State: uint32(n.State), Sessions: uint32(n.Sessions), Capacity: uint32(n.Capacity),
					Peer: n.Node.Peer, Http: n.Node.HTTP, Ws: n.Node.WS, Wt: n.Node.WT,
				})
			}
			f := &peer.Frame{Body: &peer.Frame_Standing{Standing: s}}
			for _, node := range to {
				c.cfg.Send(node, f)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
