package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

// A node that starts with an empty disk can't know whether it is the first time
// or its disk was lost. If it was lost, the node may have voted in this term,
// and may have acknowledged what only one other node still has: with its vote,
// one that lacks it could lead. So a blank node neither votes nor stands for
// election, until either is certain: that there is no group yet, since no other
// founder has one, or that its log is as long as the leader's.

// keyBlank is where a node's storage says that the node is blank: a restart in
// the middle changes nothing about that.
var keyBlank = []byte("muster blank")

// errBlank is what a blank node answers who asks for its vote.
var errBlank = errors.New("consensus: this node has no data yet, and so no vote")

// founding is the index of the entry that founds a group: a log that ends there
// says nothing yet.
const founding = 1

// markBlank finds out whether the node is blank.
func (n *Node) markBlank(s *storage) error {
	exists, err := raft.HasExistingState(s.logs, s.log, s.snapshots)
	if err != nil {
		return err
	}
	marked, _ := s.log.GetUint64(keyBlank) // no such key: 0
	n.blank.Store(!exists || marked != 0)
	if !exists && marked == 0 {
		return s.log.SetUint64(keyBlank, 1)
	}
	return nil
}

// fill makes a blank node an ordinary one: it founds the group with the others,
// or waits until it has the log of the group that there is.
func (n *Node) fill(ctx context.Context) {
	founders := n.cfg.Nodes[:n.cfg.voters(len(n.cfg.Nodes))]
	began := time.Now()
	for n.blank.Load() {
		switch {
		case n.raft.LastIndex() <= founding && slices.Contains(founders, n.cfg.Self) && n.noGroup(ctx, founders):
			var c raft.Configuration
			for _, id := range founders {
				c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
			}
			// Each founder writes the same first entry, so it doesn't matter who
			// comes first.
			err := n.raft.BootstrapCluster(c).Error()
			if err == nil || errors.Is(err, raft.ErrCantBootstrap) && n.raft.LastIndex() == founding {
				n.filled()
				return
			}
			n.log.Info("the region's group is not founded yet", "err", err)
		case !n.Contact().IsZero() && n.Read(ctx) == nil:
			n.log.Info("has the region's log")
			n.filled()
			return
		}
		if time.Since(began) > 5*n.cfg.LeaderWait {
			began = time.Now()
			n.log.Warn("this node has no data: it waits for the region's leader, or until all founders say that they have none either", "founders", founders)
		}
		select {
		case <-time.After(retryPause):
		case <-n.failed:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) filled() {
	if n.storage.log.SetUint64(keyBlank, 0) == nil {
		n.blank.Store(false)
	}
}

// noGroup asks the other founders, and reports whether all said that they know
// of no group.
func (n *Node) noGroup(ctx context.Context, founders []regions.NodeID) bool {
	ctx, cancel := context.WithTimeout(ctx, n.trans.timeout)
	defer cancel()
	var work sync.WaitGroup
	none := make([]bool, len(founders))
	for i, id := range founders {
		if none[i] = id == n.cfg.Self; none[i] {
			continue
		}
		work.Go(func() {
			b, err := ask(ctx, n.cfg.Links, id, []byte{byte(kindLog)})
			if err == nil {
				b, err = decodeStatus(b)
			}
			if err == nil {
				d := &decoder{b: b}
				last := d.uint()
				none[i] = d.err() == nil && last <= founding
			}
		})
	}
	work.Wait()
	return !slices.Contains(none, false)
}

// serveLog answers how far this node's log goes.
func (n *Node) serveLog() []byte {
	return binary.AppendUvarint([]byte{byte(statusOK)}, n.raft.LastIndex())
}
