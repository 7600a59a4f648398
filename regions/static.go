package regions

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// Static assigns every slot of every region to one of the region's configured
// nodes by rendezvous hashing (Thaler & Ravishankar 1998: the node with the
// highest hash of (node, slot) owns the slot), so all nodes of one topology
// agree without a word, and a node added or removed moves only its own share.
// It doesn't know who is up: that is what a region's consensus adds.
//
// A Static is immutable and safe for concurrent use.
type Static struct {
	owners  map[RegionID]*[Slots]NodeID
	nodes   map[NodeID]RegionID
	regions []RegionID // in the topology's order
}

// NewStatic computes the owners for a valid topology.
func NewStatic(t *Topology) *Static {
	s := &Static{owners: map[RegionID]*[Slots]NodeID{}, nodes: map[NodeID]RegionID{}}
	for _, r := range t.Regions {
		s.regions = append(s.regions, r.Name)
		table := new([Slots]NodeID)
		for slot := range Slots {
			var best uint64
			for _, n := range r.Nodes {
				// On a tie, which 64 bits make academic, the lower id wins.
				if w := weight(n.ID, slot); table[slot] == "" || w > best || (w == best && n.ID < table[slot]) {
					best, table[slot] = w, n.ID
				}
			}
		}
		for _, n := range r.Nodes {
			s.nodes[n.ID] = r.Name
		}
		s.owners[r.Name] = table
	}
	return s
}

// Owner returns the owner of a room in a region; "" if there is no such region.
func (s *Static) Owner(region RegionID, room string) NodeID {
	return s.OwnerOf(region, SlotOf(room))
}

// OwnerOf returns the owner of a slot in a region; "" if there is no such region.
func (s *Static) OwnerOf(region RegionID, slot int) NodeID {
	if table := s.owners[region]; table != nil {
		return table[slot]
	}
	return ""
}

// RegionOf returns the region of a node; "" if there is no such node.
func (s *Static) RegionOf(node NodeID) RegionID { return s.nodes[node] }

func weight(node NodeID, slot int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node))
	_, _ = h.Write([]byte{byte(slot >> 8), byte(slot)})
	// MurmurHash3's 64-bit finalizer, for the reason that mix has.
	w := h.Sum64()
	w ^= w >> 33
	w *= 0xff51afd7ed558ccd
	w ^= w >> 33
	w *= 0xc4ceb9fe1a85ec53
	return w ^ w>>33
}

// Local is the static roster as one node sees it: who owns what, and the
// epochs that this node may issue. Between nodes nothing but their clocks
// orders the epochs of a session; within one node they always grow.
type Local struct {
	static *Static
	self   NodeID
	region RegionID
	others []RegionID
	epoch  Epoch         // of the slots this node owns: of its start
	last   atomic.Uint64 // the highest session epoch issued
}

// Local returns the view of node, started at the given time.
func (s *Static) Local(node NodeID, started time.Time) (*Local, error) {
	region := s.RegionOf(node)
	if region == "" {
		return nil, fmt.Errorf("regions: node %q is not in the topology", node)
	}
	l := &Local{static: s, self: node, region: region, epoch: ClockEpoch(started)}
	for _, r := range s.regions {
		if r != region {
			l.others = append(l.others, r)
		}
	}
	return l, nil
}

// Owner returns the owner of a room in this region, with the slot's epoch if
// that is this node, else 0.
func (l *Local) Owner(room string) (NodeID, Epoch) {
	owner := l.static.Owner(l.region, room)
	if owner == l.self {
		return owner, l.epoch
	}
	return owner, 0
}

// OwnerIn returns the owner of a room in another region.
func (l *Local) OwnerIn(region RegionID, room string) NodeID { return l.static.Owner(region, room) }

// Others returns the other regions.
func (l *Local) Others() []RegionID { return l.others }

// RegionOf returns the region of a node; "" if there is no such node.
func (l *Local) RegionOf(node NodeID) RegionID { return l.static.RegionOf(node) }

// Current: nothing is ever heard, and nothing missed.
func (l *Local) Current() bool { return true }

// Stays returns nothing: there is no memory but the nodes'.
func (l *Local) Stays(string) []Stay { return nil }

// Enter notes nothing, as Leave, Suspend and Close.
func (l *Local) Enter(context.Context, SessionID, ...string) error { return nil }

// Leave does nothing.
func (l *Local) Leave(SessionID, ...string) {}

// Suspend does nothing.
func (l *Local) Suspend(SessionID) {}

// Close does nothing.
func (l *Local) Close(SessionID, wire.Reason) {}

// Open issues the epoch of a session: above floor, above the clock, and above
// all that this node issued before (for any device: one counter is enough).
func (l *Local) Open(_ context.Context, o Opening) (Opened, error) {
	for {
		last := l.last.Load()
		next := max(last, uint64(o.Floor), uint64(ClockEpoch(time.Now()))) + 1
		if l.last.CompareAndSwap(last, next) {
			return Opened{Epoch: Epoch(next)}, nil
		}
	}
}
