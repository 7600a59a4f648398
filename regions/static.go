package regions

import "hash/fnv"

// Static assigns every slot of every region to one of the region's configured
// nodes by rendezvous hashing (Thaler & Ravishankar 1998: the node with the
// highest hash of (node, slot) owns the slot), so all nodes of one topology
// agree without a word, and a node added or removed moves only its own share.
// It doesn't know who is up, as a region's roster does: it is the first guess at
// the owners in a region that was not heard of yet.
//
// A Static is immutable and safe for concurrent use.
type Static struct {
	owners map[RegionID]*[Slots]NodeID
	nodes  map[NodeID]RegionID
}

// NewStatic computes the owners for a valid topology.
func NewStatic(t *Topology) *Static {
	s := &Static{owners: map[RegionID]*[Slots]NodeID{}, nodes: map[NodeID]RegionID{}}
	for _, r := range t.Regions {
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
