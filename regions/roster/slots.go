package roster

import (
	"math/bits"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// Slot says who owns a slot, since which epoch. Owner is empty while no node
// is there to own it.
type Slot struct {
	Owner regions.NodeID
	Epoch regions.Epoch
}

// Move is a slot that should go elsewhere. Epoch is the one it has.
type Move struct {
	Slot     int
	Epoch    regions.Epoch
	From, To regions.NodeID
}

// Owner returns the owner of a slot.
func (s *State) Owner(slot int) Slot { return s.slots[slot] }

// OwnerOf returns the owner of a room.
func (s *State) OwnerOf(room string) Slot { return s.slots[regions.SlotOf(room)] }

// SlotsOf returns the slots that a node owns.
func (s *State) SlotsOf(node regions.NodeID) []int {
	var out []int
	for i, slot := range s.slots {
		if slot.Owner == node {
			out = append(out, i)
		}
	}
	return out
}

// candidates returns the nodes in a state that may own slots, by id.
func (s *State) candidates(state NodeState) []candidate {
	var out []candidate
	for _, n := range s.Nodes() {
		if n.State == state && n.Capacity > 0 {
			out = append(out, candidate{n.ID, n.Capacity, seed(n.ID)})
		}
	}
	return out
}

// reassign moves the slots whose owner is lost to where they belong now.
func (s *State) reassign(lost func(owner regions.NodeID) bool) {
	cs := s.candidates(Up)
	if len(cs) == 0 {
		cs = s.candidates(Draining) // better than nobody
	}
	for i, slot := range s.slots {
		if !lost(slot.Owner) {
			continue
		}
		to := best(cs, i)
		if slot.Owner != "" && may(cs, slot.Owner) {
			to = slot.Owner // it restarted: moving would gain nothing
		}
		if to != slot.Owner || to != "" {
			s.give(i, to)
		}
	}
}

// give is the only way in which a slot changes.
func (s *State) give(slot int, to regions.NodeID) {
	was := s.slots[slot]
	now := Slot{Owner: to, Epoch: max(was.Epoch+1, s.clock.wall)}
	if now.Epoch <= was.Epoch {
		panic("roster: a slot's epoch would go back")
	}
	s.slots[slot] = now
	s.emit(SlotMoved{Slot: slot, From: was.Owner, To: to, Epoch: now.Epoch})
}

// Plan returns the moves that are due, at most most: first those off draining
// nodes, then those that bring slots to where rendezvous hashing wants them. A
// hand-over does them one by one with SlotMove, SlotBalance does them at once.
func (s *State) Plan(most int) []Move {
	cs := s.candidates(Up)
	var drains, others []Move
	for i, slot := range s.slots {
		to := best(cs, i)
		if to == slot.Owner || to == "" {
			continue
		}
		m := Move{Slot: i, Epoch: slot.Epoch, From: slot.Owner, To: to}
		if s.nodes[slot.Owner].State == Draining {
			drains = append(drains, m)
		} else {
			others = append(others, m)
		}
	}
	moves := append(drains, others...)
	return moves[:min(max(most, 0), len(moves))]
}

func (s *State) balance(c *peer.SlotBalance) *peer.RosterAnswer {
	moves := s.Plan(regions.Slots)
	a := &peer.RosterAnswer{Changed: min(c.Max, uint32(len(moves)))}
	a.More = int(a.Changed) < len(moves)
	for _, m := range moves[:a.Changed] {
		s.give(m.Slot, m.To)
	}
	return a
}

func (s *State) moveSlot(c *peer.SlotMove) *peer.RosterAnswer {
	if c.Slot >= regions.Slots || !id(c.To) {
		return refuse(invalid, 0)
	}
	slot, to := s.slots[c.Slot], s.nodes[regions.NodeID(c.To)]
	switch {
	case slot.Owner == to.ID && to.ID != "" && uint64(slot.Epoch) > c.Epoch:
		return granted(slot.Epoch) // said again
	case uint64(slot.Epoch) != c.Epoch, to.State != Up, to.Capacity == 0, slot.Owner == to.ID:
		return refuse(peer.RosterCode_ROSTER_STALE_SLOT, slot.Epoch)
	}
	s.give(int(c.Slot), to.ID)
	return granted(s.slots[c.Slot].Epoch)
}

// candidate is a node in the rendezvous.
type candidate struct {
	id     regions.NodeID
	weight uint32
	seed   uint64
}

func may(cs []candidate, node regions.NodeID) bool {
	for _, c := range cs {
		if c.id == node {
			return true
		}
	}
	return false
}

// best returns the owner of a slot by weighted rendezvous hashing (Schindelhauer
// & Schomaker 2005: the lowest -log(h)/weight wins, which gives each node a
// share in proportion to its weight, and moves only what must). "" if there are
// no candidates. On a tie, which 64 bits make academic, the lower id wins.
func best(cs []candidate, slot int) regions.NodeID {
	var win *candidate
	var low uint64
	for i := range cs {
		c := &cs[i]
		cost := cost(mix(c.seed ^ mix(uint64(slot)+1)))
		if win != nil {
			// cost/c.weight < low/win.weight, exactly
			ah, al := bits.Mul64(cost, uint64(win.weight))
			bh, bl := bits.Mul64(low, uint64(c.weight))
			if ah > bh || (ah == bh && al >= bl) {
				continue
			}
		}
		win, low = c, cost
	}
	if win == nil {
		return ""
	}
	return win.id
}

// cost is -log2(h/2^64) with 32 binary digits. All nodes must compute the same:
// floating point may be fused differently on another processor, so it is done
// in integers, one digit per squaring.
func cost(h uint64) uint64 {
	if h == 0 {
		return 64 << 32
	}
	zeros := bits.LeadingZeros64(h)
	log := uint64(63-zeros) << 32
	x := h << zeros // the mantissa, in [2^63, 2^64)
	for digit := 31; digit >= 0; digit-- {
		hi, _ := bits.Mul64(x, x) // in [2^62, 2^64)
		if hi>>63 == 1 {
			log |= 1 << digit
			x = hi
		} else {
			x = hi << 1
		}
	}
	return 64<<32 - log
}

// seed is the FNV-1a hash of a node's id.
func seed(node regions.NodeID) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range []byte(node) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

// mix is the finalizer of MurmurHash3.
func mix(w uint64) uint64 {
	w ^= w >> 33
	w *= 0xff51afd7ed558ccd
	w ^= w >> 33
	w *= 0xc4ceb9fe1a85ec53
	return w ^ w>>33
}
