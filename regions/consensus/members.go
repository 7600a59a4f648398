package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// ErrLastVoter: without it there would be no group.
var ErrLastVoter = errs.New(errs.Conflict, "last_voter", "the last voter of a region can't be removed")

// Member is a node of the group.
type Member struct {
	Node  regions.NodeID
	Voter bool // else it learns
}

// Members are the group's nodes, as far as this node knows; none before it
// has heard of the group.
func (n *Node) Members() []Member {
	if !n.running.Load() {
		return nil
	}
	var members []Member
	for _, s := range n.servers() {
		members = append(members, Member{regions.NodeID(s.ID), s.Suffrage == raft.Voter})
	}
	return members
}

// What a member request asks for; its first byte.
const (
	memberAdd byte = iota + 1
	memberRemove
	memberTransfer
)

// AddNode makes a node a learner of the group, unless it is in it. The leader
// makes learners voters when there are too few of those. Any node may ask.
func (n *Node) AddNode(ctx context.Context, id regions.NodeID) error {
	return n.change(ctx, memberAdd, id)
}

// RemoveNode takes a node out of the group, dead or alive, unless it isn't in
// it. A learner that is up takes a voter's place first. Any node may ask.
func (n *Node) RemoveNode(ctx context.Context, id regions.NodeID) error {
	return n.change(ctx, memberRemove, id)
}

// TransferLeadership has another voter lead, if this node does: the one that
// has most of the log. It returns when this node has stepped down.
func (n *Node) TransferLeadership(ctx context.Context) error {
	for {
		if !n.IsLeader() {
			return nil
		}
		changed := n.leader.wait()
		err := n.outcome(n.raft.LeadershipTransfer())
		if err == nil || !n.IsLeader() {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(retryPause):
		case <-ctx.Done():
			return fmt.Errorf("transfer leadership: %w", err)
		}
	}
}

// change has the leader change the group. Changes say how the group shall be,
// so one whose outcome is unknown is made again.
func (n *Node) change(ctx context.Context, op byte, id regions.NodeID) error {
	if !regions.ValidName(string(id)) {
		return errs.New(errs.Invalid, "invalid_node", "%q is not a node's name", id)
	}
	return n.atLeader(ctx, nil, func() error { return n.changeHere(ctx, op, id) }, func(leader regions.NodeID) error {
		_, err := n.askLeader(ctx, leader, append([]byte{byte(kindMember), op}, id...))
		if errors.Is(err, ErrUnknown) {
			return &notLeader{}
		}
		return err
	})
}

func (n *Node) serveMember(ctx context.Context, d *decoder) ([]byte, error) {
	op, id := d.byte(), regions.NodeID(d.b)
	if d.bad || !regions.ValidName(string(id)) {
		return nil, fmt.Errorf("%w: member request", errMalformed)
	}
	if !n.IsLeader() {
		return encodeStatus(&notLeader{n.Leader()}), nil
	}
	if err := n.changeHere(ctx, op, id); err != nil {
		return encodeStatus(err), nil
	}
	return []byte{byte(statusOK)}, nil
}

func (n *Node) changeHere(ctx context.Context, op byte, id regions.NodeID) error {
	servers := n.servers()
	at := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == raft.ServerID(id) })
	switch {
	case op == memberAdd && at < 0:
		return n.changed(n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, n.cfg.LeaderWait))
	case op == memberRemove && at >= 0:
		if servers[at].Suffrage == raft.Voter {
			if learner, ok := n.learner(servers, time.Now()); ok && countVoters(servers) <= n.cfg.voters(len(servers)) {
				if err := n.changed(n.raft.AddVoter(learner, raft.ServerAddress(learner), 0, n.cfg.LeaderWait)); err != nil {
					return err
				}
			} else if countVoters(servers) == 1 {
				return ErrLastVoter
			}
		}
		if id == n.cfg.Self { // somebody else removes it, who leads then
			if err := n.TransferLeadership(ctx); err != nil {
				return err
			}
			return &notLeader{n.Leader()}
		}
		return n.changed(n.raft.RemoveServer(raft.ServerID(id), 0, n.cfg.LeaderWait))
	case op == memberAdd, op == memberRemove:
		return nil // it is so already
	default:
		return fmt.Errorf("%w: member operation %d", errMalformed, op)
	}
}

// changed is what a change of the configuration led to.
func (n *Node) changed(f raft.Future) error {
	switch err := n.outcome(f); {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost),
		errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return &notLeader{}
	default:
		return fmt.Errorf("consensus: change the group: %w", err)
	}
}

// join asks to be added, if nobody leads this node: after its start once, so
// that a node that is removed while it runs stays out.
func (n *Node) join(ctx context.Context) {
	for wait := n.cfg.LeaderWait; ; wait = n.cfg.LeaderWait / 2 {
		select {
		case <-time.After(wait):
		case <-n.failed:
			return
		case <-ctx.Done():
			return
		}
		if !n.Contact().IsZero() {
			return
		}
		ask, cancel := context.WithTimeout(ctx, n.cfg.LeaderWait)
		if err := n.AddNode(ask, n.cfg.Self); err != nil {
			n.log.InfoContext(ctx, "not in the region's group yet", "err", err)
		}
		cancel()
	}
}
