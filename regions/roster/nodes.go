package roster

import (
	"cmp"
	"maps"
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// NodeState is what the region knows of a node.
type NodeState = regions.NodeState

// States of a node.
const (
	Down     = regions.NodeDown
	Up       = regions.NodeUp
	Draining = regions.NodeDraining
)

// Node is one node of the region.
type Node struct {
	ID          regions.NodeID
	Incarnation uint64
	State       NodeState
	Capacity    uint32
	Media       uint32 // its share of the region's calls, in proportion; 0: none
	Since       int64  // of the state: Unix milliseconds of the leader then
}

func (s *State) nodeUp(c *peer.NodeUp) *peer.RosterAnswer {
	if !id(c.Node) || c.Incarnation == 0 {
		return refuse(invalid, 0)
	}
	n, known := s.nodes[regions.NodeID(c.Node)]
	was := n
	switch {
	case !known && len(s.nodes) >= MaxNodes:
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	case c.Incarnation < n.Incarnation:
		return refuse(peer.RosterCode_ROSTER_STALE_NODE, 0)
	}
	restarted := known && c.Incarnation > n.Incarnation
	n.ID, n.Incarnation, n.Capacity, n.Media = regions.NodeID(c.Node), c.Incarnation, c.Capacity, c.Media
	if restarted || n.State == Down {
		n.State, n.Since = Up, int64(s.clock.wall)
	}
	if n == was {
		return granted(0) // said again
	}
	s.nodes[n.ID] = n
	s.emit(NodeChanged{Node: n.ID, Incarnation: n.Incarnation, State: n.State})
	if restarted {
		s.suspendAll(n.ID)
		s.loseCalls(n.ID)
	}
	s.drainCalls() // those that had nowhere else to go
	// What it owned under another incarnation it owns on, if it still may, but
	// begins to number anew; and what nobody owns finds an owner.
	s.reassign(func(owner regions.NodeID) bool { return owner == "" || (restarted && owner == n.ID) })
	return granted(0)
}

// known returns the node if that incarnation of it is here.
func (s *State) known(node string, incarnation uint64) (Node, bool) {
	n, ok := s.nodes[regions.NodeID(node)]
	return n, ok && n.Incarnation == incarnation && n.State != Down
}

func (s *State) nodeDrain(c *peer.NodeDrain) *peer.RosterAnswer {
	n, ok := s.known(c.Node, c.Incarnation)
	if !ok {
		return refuse(peer.RosterCode_ROSTER_STALE_NODE, 0)
	}
	if n.State == Up {
		s.setNode(n, Draining)
		s.drainCalls()
	}
	return granted(0)
}

func (s *State) nodeDown(c *peer.NodeDown) *peer.RosterAnswer {
	n, ok := s.nodes[regions.NodeID(c.Node)]
	if !ok || n.Incarnation != c.Incarnation {
		return refuse(peer.RosterCode_ROSTER_STALE_NODE, 0)
	}
	s.giveUp(n)
	return granted(0)
}

func (s *State) nodeRemove(c *peer.NodeRemove) *peer.RosterAnswer {
	n, ok := s.nodes[regions.NodeID(c.Node)]
	if !ok {
		return granted(0) // done already
	}
	s.giveUp(n)
	delete(s.nodes, n.ID)
	// Its suspended sessions are in the index until they end; clear up after
	// the nodes that were removed earlier.
	maps.DeleteFunc(s.held, func(node regions.NodeID, p places) bool {
		_, here := s.nodes[node]
		return !here && p.empty()
	})
	s.emit(NodeChanged{Node: n.ID, Incarnation: n.Incarnation, State: Down, Removed: true})
	return granted(0)
}

// giveUp marks a node as dead: its sessions are suspended, its slots and calls
// move.
func (s *State) giveUp(n Node) {
	if n.State == Down {
		return
	}
	s.setNode(n, Down)
	s.suspendAll(n.ID)
	s.loseCalls(n.ID)
	s.reassign(func(owner regions.NodeID) bool { return owner == n.ID })
}

func (s *State) setNode(n Node, state NodeState) {
	n.State, n.Since = state, int64(s.clock.wall)
	s.nodes[n.ID] = n
	s.emit(NodeChanged{Node: n.ID, Incarnation: n.Incarnation, State: state})
}

// Node returns a node by id.
func (s *State) Node(node regions.NodeID) (Node, bool) {
	n, ok := s.nodes[node]
	return n, ok
}

// Nodes returns all nodes by id.
func (s *State) Nodes() []Node {
	return slices.SortedFunc(maps.Values(s.nodes), func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
}
