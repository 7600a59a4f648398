package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

// ErrStaleSlot: the slot moved meanwhile, or can't go there.
var ErrStaleSlot = errors.New("cluster: the slot is not as named, or can't go there")

// ErrNoVoter: the leader can't pass its office on.
var ErrNoVoter = errs.New(errs.Conflict, "no_other_voter", "no other node of the region has a vote: start one, or leave the lead where it is")

// PlannedMove is one of this node's slots that should go elsewhere.
type PlannedMove struct {
	Slot  int
	Epoch regions.Epoch // that the slot has
	To    regions.NodeID
}

// Moves returns up to most of this node's slots that should go elsewhere: off a
// node that drains all, else those that bring the region in balance.
func (c *Cluster) Moves(most int) (moves []PlannedMove) {
	var plan []roster.Move
	c.View(func(s *roster.State, _ uint64) { plan = s.Plan(regions.Slots) })
	for _, m := range plan {
		if m.From == c.cfg.Self && len(moves) < most {
			moves = append(moves, PlannedMove{m.Slot, m.Epoch, m.To})
		}
	}
	return moves
}

// Planned is signalled when Moves or Calm may have changed. It is for one
// listener.
func (c *Cluster) Planned() <-chan struct{} { return c.planned }

// Calm reports whether no node changed in the last second.
func (c *Cluster) Calm() bool {
	return time.Since(c.origin)-time.Duration(c.changed.Load()) >= calmAfter
}

// Move gives a slot, if it has that epoch, to another node, and returns its new
// epoch; ErrStaleSlot if it can't. After any other error it may have moved.
func (c *Cluster) Move(ctx context.Context, slot int, epoch regions.Epoch, to regions.NodeID) (regions.Epoch, error) {
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_SlotMove{SlotMove: &peer.SlotMove{
		Slot: uint32(slot), Epoch: uint64(epoch), To: string(to),
	}}})
	switch {
	case err != nil:
		return 0, fmt.Errorf("move slot %d: %w", slot, err)
	case a.Code != peer.RosterCode_ROSTER_OK:
		return 0, fmt.Errorf("%w: slot %d to %s: %v", ErrStaleSlot, slot, to, a.Code)
	}
	return regions.Epoch(a.Epoch), nil
}

// Drain has a node of the region take nothing new: Moves tells it then to give
// its slots away.
func (c *Cluster) Drain(ctx context.Context, node regions.NodeID) error {
	if err := c.node.Read(ctx); err != nil {
		return fmt.Errorf("drain %s: %w", node, err)
	}
	var n roster.Node
	c.View(func(s *roster.State, _ uint64) { n, _ = s.Node(node) })
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_NodeDrain{NodeDrain: &peer.NodeDrain{
		Node: string(node), Incarnation: n.Incarnation,
	}}})
	switch {
	case err != nil:
		return fmt.Errorf("drain %s: %w", node, err)
	case a.Code != peer.RosterCode_ROSTER_OK:
		return errs.New(errs.NotFound, "unknown_node", "%s is not up in region %s", node, c.cfg.Region)
	}
	return nil
}

// RemoveNode takes a node, dead or alive, out of the region. While it runs it
// stays out.
func (c *Cluster) RemoveNode(ctx context.Context, node regions.NodeID) error {
	voters, votes := 0, false
	for _, m := range c.node.Members() {
		if m.Voter {
			voters++
			votes = votes || m.Node == node
		}
	}
	if votes && voters == 1 && len(c.node.Members()) == 1 {
		return consensus.ErrLastVoter
	}
	// The roster first: a node that runs hears of it as long as it is a member.
	if _, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_NodeRemove{NodeRemove: &peer.NodeRemove{Node: string(node)}}}); err != nil {
		return fmt.Errorf("remove %s: %w", node, err)
	}
	return c.node.RemoveNode(ctx, node)
}

// TransferLeadership has another node lead, if this one does; ErrNoVoter if
// there is none that could.
func (c *Cluster) TransferLeadership(ctx context.Context) error {
	if members := c.node.Members(); c.node.IsLeader() && !slices.ContainsFunc(members, func(m consensus.Member) bool {
		return m.Voter && m.Node != c.cfg.Self
	}) {
		return ErrNoVoter
	}
	return c.node.TransferLeadership(ctx)
}
