package cluster

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

const (
	checkEvery    = 100 * time.Millisecond // nodes
	expireEvery   = 500 * time.Millisecond // suspended sessions
	forgetEvery   = 30 * time.Second       // devices that have gone
	expireMost    = 1024                   // of one command
	floorsEvery   = time.Second            // floors that nobody has or wants
	callsEvery    = 10 * time.Second       // calls whose SFU says nothing
	announceEvery = 5 * time.Second
	gather        = 20 * time.Millisecond // changes of slots, before they are announced
)

// leader is what is known for the case that this node leads.
type leader struct {
	down     chan struct{} // something below changed
	announce chan struct{} // slots changed
	linked   chan struct{} // links holds somebody

	mu      sync.Mutex
	leading bool
	term    uint64                       // that the following is of
	silent  map[regions.NodeID]bool      // as consensus tells, of its members
	since   map[regions.NodeID]time.Time // a node was last said to be up
	links   map[regions.NodeID]bool      // to other regions, that came up
}

func (l *leader) init() {
	l.down, l.announce, l.linked = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	l.silent, l.since, l.links = map[regions.NodeID]bool{}, map[regions.NodeID]time.Time{}, map[regions.NodeID]bool{}
}

// of makes what is known that of a term, and reports whether it is.
func (l *leader) of(term uint64) bool {
	if term > l.term {
		l.term = term
		clear(l.silent)
	}
	return term == l.term
}

// heard is told by consensus, beside Lead and perhaps a moment before or after.
func (l *leader) heard(term uint64, node regions.NodeID, silent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of(term) {
		l.silent[node] = silent
		wake(l.down)
	}
}

// changed is told by the log.
func (l *leader) changed(n roster.NodeChanged) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case n.Removed:
		delete(l.since, n.Node)
	case n.State == roster.Up:
		l.since[n.Node] = time.Now()
	}
}

// lead does the leader's duties until ctx ends.
func (c *Cluster) lead(ctx context.Context, term uint64) {
	l := &c.leader
	l.mu.Lock()
	l.of(term)
	l.leading = true
	clear(l.links) // all are told now
	l.mu.Unlock()
	var work sync.WaitGroup
	work.Go(func() { c.tendNodes(ctx) })
	work.Go(func() { c.expire(ctx) })
	work.Go(func() { c.expireCalls(ctx) })
	work.Go(func() { c.announce(ctx) })
	work.Go(func() { c.proclaim(ctx, term) })
	work.Wait()
	l.mu.Lock()
	l.leading = false
	l.mu.Unlock()
}

// tendNodes gives up nodes that are silent.
func (c *Cluster) tendNodes(ctx context.Context) {
	began := time.Now()
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		for _, n := range c.lost(began) {
			c.log.WarnContext(ctx, "node is given up", "node", n.ID, "incarnation", n.Incarnation)
			if _, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_NodeDown{NodeDown: &peer.NodeDown{
				Node: string(n.ID), Incarnation: n.Incarnation,
			}}}); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "node is not given up yet", "node", n.ID, "err", err) // it is, at the next look
			}
		}
		select {
		case <-ticker.C:
		case <-c.leader.down:
		case <-ctx.Done():
			return
		}
	}
}

// lost is who is up in the roster and not there. Who has just been said to be
// up, perhaps by itself, gets the time to be heard.
func (c *Cluster) lost(began time.Time) (lost []roster.Node) {
	var nodes []roster.Node
	c.View(func(s *roster.State, _ uint64) { nodes = s.Nodes() })
	members := c.node.Members()
	l := &c.leader
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range nodes {
		if n.State == roster.Down || n.ID == c.cfg.Self || time.Since(l.since[n.ID]) < c.cfg.PeerTimeout {
			continue
		}
		member := slices.ContainsFunc(members, func(m consensus.Member) bool { return m.Node == n.ID })
		if l.silent[n.ID] || (!member && time.Since(began) > c.cfg.PeerTimeout) {
			lost = append(lost, n)
		}
	}
	return lost
}

// expire ends sessions whose grace is over and forgets devices. While there is
// nobody to wait for, nothing is written.
func (c *Cluster) expire(ctx context.Context) {
	command := &peer.RosterCommand{Body: &peer.RosterCommand_SessionExpire{SessionExpire: &peer.SessionExpire{
		GraceMs: uint64(c.cfg.Grace.Milliseconds()), KeepMs: uint64(c.cfg.Keep.Milliseconds()), Max: expireMost,
	}}}
	forgot := time.Now()
	for pause(ctx, expireEvery) {
		var n roster.Counts
		c.View(func(s *roster.State, _ uint64) { n = s.Counts() })
		if n.Suspended == 0 && (n.Gone == 0 || time.Since(forgot) < min(forgetEvery, c.cfg.Keep)) {
			continue
		}
		forgot = time.Now()
		for more := true; more; {
			a, err := c.ask(ctx, command)
			more = err == nil && a.More
		}
	}
}

// announce tells the nodes of other regions who owns this one's slots.
func (c *Cluster) announce(ctx context.Context) {
	l := &c.leader
	to := c.elsewhere()
	for {
		f := &peer.Frame{Body: &peer.Frame_Slots{Slots: c.tables.slots(c.cfg.Region)}}
		for _, node := range to {
			c.cfg.Send(node, f)
		}
		to = nil
		select {
		case <-l.announce:
			if !pause(ctx, gather) {
				return
			}
			select { // what came meanwhile goes with it
			case <-l.announce:
			default:
			}
		case <-l.linked:
			l.mu.Lock()
			to = slices.Collect(maps.Keys(l.links))
			clear(l.links)
			l.mu.Unlock()
		case <-time.After(announceEvery):
		case <-ctx.Done():
			return
		}
		if to == nil {
			to = c.elsewhere()
		}
	}
}

// elsewhere are the nodes of other regions.
func (c *Cluster) elsewhere() (nodes []regions.NodeID) {
	for _, r := range c.cfg.Directory.Topology().Regions {
		if r.Name != c.cfg.Region {
			for _, n := range r.Nodes {
				nodes = append(nodes, n.ID)
			}
		}
	}
	return nodes
}

// LinkUp tells that a link to a node is up: if this node leads and the other is
// of another region, that one is told who owns this region's slots.
func (c *Cluster) LinkUp(node regions.NodeID) {
	if r := c.RegionOf(node); r == "" || r == c.cfg.Region {
		return
	}
	l := &c.leader
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leading {
		l.links[node] = true
		wake(l.linked)
	}
}
