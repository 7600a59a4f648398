package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	founders := n.founders()
	began := time.Now()
	for n.blank.Load() {
		var group error
		if n.raft.LastIndex() > founding || !slices.Contains(founders, n.cfg.Self) {
			group = errGroup
		} else {
			group = n.noGroup(ctx, founders)
		}
		switch {
		case group == nil:
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
			n.log.InfoContext(ctx, "the region's group is not founded yet", "err", err)
		case !n.Contact().IsZero() && n.Read(ctx) == nil:
			n.log.InfoContext(ctx, "has the region's log")
			n.filled()
			return
		}
		if time.Since(began) > 5*n.cfg.LeaderWait {
			began = time.Now()
			n.log.WarnContext(ctx, "this node has no data: it waits for the region's leader, or until all founders say that they have none either", "founders", founders, "err", group)
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

// errGroup: there is a group already.
var errGroup = errors.New("the region has its group")

// founders are the nodes that found the group.
func (n *Node) founders() []regions.NodeID { return n.cfg.Nodes[:n.cfg.voters(len(n.cfg.Nodes))] }

// noGroup asks the other founders. It returns nil if all said that they know of
// no group, and of the same founders: with two lists of them there could be two
// groups.
func (n *Node) noGroup(ctx context.Context, founders []regions.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, n.trans.timeout)
	defer cancel()
	var work sync.WaitGroup
	frame := appendNames([]byte{byte(kindLog)}, founders)
	errs := make([]error, len(founders))
	for i, id := range founders {
		if id == n.cfg.Self {
			continue
		}
		work.Go(func() {
			b, err := ask(ctx, n.cfg.Links, id, frame)
			if err == nil {
				b, err = decodeStatus(b)
			}
			if err == nil {
				d := &decoder{b: b}
				last := d.uint()
				if err = d.err(); err == nil && last > founding {
					err = errGroup
				}
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", id, err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// serveLog answers a node without data how far this node's log goes.
func (n *Node) serveLog(d *decoder) []byte {
	last := n.raft.LastIndex()
	if theirs, ours := string(d.b), string(appendNames(nil, n.founders())); last <= founding && theirs != ours {
		return encodeStatus(fmt.Errorf("here the region's first nodes are %q: is the topology the same everywhere, and in the same order?", n.founders()))
	}
	return binary.AppendUvarint([]byte{byte(statusOK)}, last)
}

func appendNames(b []byte, names []regions.NodeID) []byte {
	for _, name := range names {
		b = appendFrame(b, []byte(name))
	}
	return b
}
