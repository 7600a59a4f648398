package hub

import (
	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// speak tells other regions when this node loses or finds the contact with its
// own. Without that they would hear nothing and take it for peace: their links to
// us work, and a region that has lost its majority has no other owner.
func (h *Hub) speak() {
	silent := edge.Fencing && !h.cfg.Roster.Current()
	if silent == h.silent {
		return
	}
	h.silent = silent
	f := &peer.Frame{Body: &peer.Frame_Silence{Silence: &peer.Silence{Over: !silent}}}
	for node := range h.neighbours() {
		h.cfg.Links.Send(node, f)
	}
}

// neighbours are the nodes of other regions that own the same slots, as far as
// there are rooms in them.
func (h *Hub) neighbours() map[regions.NodeID]bool {
	nodes := map[regions.NodeID]bool{}
	others := h.room.Load().Others
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		for n := range s.slots {
			if len(s.slots[n].rooms) == 0 {
				continue
			}
			for _, region := range others {
				if owner, _ := h.cfg.Roster.SlotIn(region, s.slots[n].number); owner != "" {
					nodes[owner] = true
				}
			}
		}
		s.mu.Unlock()
	}
	return nodes
}

func (h *Hub) handleSilence(from regions.NodeID, region regions.RegionID, s *peer.Silence) {
	if s.Over {
		h.refollow(from, region)
		return
	}
	h.eachOwned(func(t *turn, o *owned) {
		if t.ownerIn(region) == from {
			members := o.Len()
			t.apply(o, members, o.Silent(t.now, region))
		}
	})
}
