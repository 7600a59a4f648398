package consensus

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

// leadership runs the leader's duties while this node leads.
func (n *Node) leadership(ctx context.Context) {
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case lead := <-n.notify:
			end()
			end = func() {}
			n.metrics.leads(lead)
			if lead {
				n.log.InfoContext(ctx, "leads the region", "region", n.cfg.Region)
				end = n.startTerm(ctx)
			}
			n.leader.fire()
		case <-n.failed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// startTerm begins the duties and returns what ends them.
func (n *Node) startTerm(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	term := n.raft.CurrentTerm()
	var work sync.WaitGroup
	work.Go(func() {
		if !n.knowAll(ctx) {
			return
		}
		n.ready.Store(term)
		n.leader.fire()
		work.Go(func() { n.watch(ctx, term) })
		if n.cfg.Lead != nil {
			n.cfg.Lead(ctx, term)
		}
	})
	return func() {
		n.ready.Store(0)
		cancel()
		work.Wait()
	}
}

// knowAll waits until the machine has everything of earlier terms.
func (n *Node) knowAll(ctx context.Context) bool {
	for ctx.Err() == nil {
		if n.outcome(n.raft.Barrier(n.cfg.LeaderWait)) == nil {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
		}
	}
	return false
}

// watch tells which of the region's nodes are up or down, and keeps the number
// of voters, as long as this node leads.
//
// A node is down when it was silent for PeerTimeout. For the leader before
// half of that is enough: a majority has missed it already, or there would
// have been no election. Silence counts only while this node has been awake
// and followed by a majority itself; what slept can't judge.
func (n *Node) watch(ctx context.Context, term uint64) {
	began := time.Now()
	n.mu.Lock()
	before := n.lastLeader
	n.mu.Unlock()
	n.acks.mu.Lock()
	contact := n.acks.contact
	n.acks.mu.Unlock()

	period := n.cfg.PeerTimeout / 20
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	last := began
	up := map[regions.NodeID]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		if now.Sub(last) > 4*period { // this node slept
			began, before = now, ""
		}
		last = now
		servers := n.servers()
		steady := now.Sub(n.acks.quorum(n.trans.self, servers, n.ready.Load(), now)) < n.cfg.Heartbeat
		for _, s := range servers {
			id := regions.NodeID(s.ID)
			if id == n.cfg.Self {
				continue
			}
			seen, limit, since := n.acks.last(id), n.cfg.PeerTimeout, began
			if id == before {
				limit, since = limit/2, contact
			}
			was, told := up[id]
			switch {
			case seen.After(began) && now.Sub(seen) < limit:
				if !was {
					up[id] = true
					n.peer(term, id, true, seen)
				}
			case steady && (was || !told) && now.Sub(latest(seen, since)) > limit:
				up[id] = false
				n.peer(term, id, false, latest(seen, since))
			}
		}
		n.promote(servers, now)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (n *Node) peer(term uint64, id regions.NodeID, up bool, seen time.Time) {
	if up {
		n.log.Info("peer is up", "peer", id)
		if n.cfg.PeerUp != nil {
			n.cfg.PeerUp(term, id)
		}
		return
	}
	n.log.Warn("peer is down", "peer", id, "silent", time.Since(seen))
	if n.cfg.PeerDown != nil {
		n.cfg.PeerDown(term, id, seen)
	}
}

// promote makes a learner a voter if the group has too few of them.
func (n *Node) promote(servers []raft.Server, now time.Time) {
	if id, ok := n.learner(servers, now); ok && countVoters(servers) < n.cfg.voters(len(servers)) {
		n.log.Info("learner becomes a voter", "node", id)
		if err := n.outcome(n.raft.AddVoter(id, raft.ServerAddress(id), 0, n.cfg.LeaderWait)); err != nil {
			n.log.Warn("learner did not become a voter", "node", id, "err", err)
		}
	}
}

// learner is the first learner that is there.
func (n *Node) learner(servers []raft.Server, now time.Time) (raft.ServerID, bool) {
	i := slices.IndexFunc(servers, func(s raft.Server) bool {
		return s.Suffrage != raft.Voter && now.Sub(n.acks.last(regions.NodeID(s.ID))) < n.cfg.PeerTimeout/2
	})
	if i < 0 {
		return "", false
	}
	return servers[i].ID, true
}

func countVoters(servers []raft.Server) (count int) {
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			count++
		}
	}
	return count
}
