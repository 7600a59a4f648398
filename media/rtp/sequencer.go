package rtp

// sequencer numbers what goes out. Incoming numbers belong to a run: one layer without
// interruption.
type sequencer struct {
	in      []inSlot  // by incoming number
	out     []outSlot // by outgoing number
	run     uint32    // present run, counted from 1; 0: none was yet
	open    bool      // the run has its first packet
	highest uint16    // incoming number of the run
	strange uint16    // the number after one that is far behind
	next    uint16    // outgoing number
}

// state is what became of a number.
type state uint8

const (
	stateNone    state = iota
	statePending       // did not arrive yet; has an outgoing number
	stateSent
	statePadding // sent as padding, since it was to be left out
	stateLeftOut // has no outgoing number
)

type inSlot struct {
	run     uint32
	seq     uint16
	out     uint16
	outcome state
}

// outSlot is what is needed to send a packet once more as it was.
type outSlot struct {
	run     uint32
	seq     uint16
	in      uint16
	offset  uint32 // of timestamps
	again   uint32 // ms when it was sent again, on the switch's clock
	picture uint16
	tl0     uint8
	layer   uint8
	outcome state
	marked  bool // the marker was set here
}

func newSequencer(history int, first uint16) sequencer {
	n := powerOfTwo(history)
	return sequencer{in: make([]inSlot, n), out: make([]outSlot, n), next: first}
}

// begin starts a run: the next number that is placed is its first.
func (s *sequencer) begin() { s.run++; s.open = false }

// place gives an incoming packet of the run its number, and says what to do: stateSent,
// statePadding or stateLeftOut. The number has a slot in out, which is the caller's to
// fill.
func (s *sequencer) place(seq uint16, layer uint8, leaveOut bool) (out uint16, do state) {
	if !s.open {
		if leaveOut {
			return 0, stateLeftOut
		}
		s.open, s.highest = true, seq-1
	}
	if !s.newest(seq) {
		return s.late(seq, leaveOut)
	}
	for s.highest++; s.highest != seq; s.highest++ {
		s.number(s.highest, layer, statePending)
	}
	if leaveOut {
		s.in[s.inAt(seq)] = inSlot{run: s.run, seq: seq, outcome: stateLeftOut}
		return 0, stateLeftOut
	}
	return s.number(seq, layer, stateSent), stateSent
}

// newest reports whether a number is beyond all of the run.
func (s *sequencer) newest(seq uint16) bool { return !s.open || int16(seq-s.highest) > 0 }

// jumps reports whether the numbers go on elsewhere: far ahead, or far behind with two
// in a row, as after a long silence.
func (s *sequencer) jumps(seq uint16) bool {
	ahead := int(int16(seq - s.highest))
	if !s.open || ahead > -len(s.in) {
		return s.open && ahead > len(s.in)/2
	}
	again := seq == s.strange
	s.strange = seq + 1
	return again
}

// jump starts a run with this number, which is not waited for what is missing before.
// One number that nobody gets shows receivers that something is.
func (s *sequencer) jump(seq uint16, layer uint8) {
	s.number(seq-1, layer, stateNone)
	s.run++
	s.highest = seq - 1
}

// late is for a packet that is not the newest: it has a number if it was waited for.
func (s *sequencer) late(seq uint16, leaveOut bool) (uint16, state) {
	slot := &s.in[s.inAt(seq)]
	if slot.run != s.run || slot.seq != seq || slot.outcome != statePending {
		return 0, stateLeftOut // of before the run, too old, or for the second time
	}
	slot.outcome = stateSent
	if leaveOut {
		slot.outcome = statePadding
	}
	if o := s.slot(slot.out); o != nil {
		o.outcome = slot.outcome
		return slot.out, slot.outcome
	}
	return 0, stateLeftOut // receivers have forgotten it, too
}

// number uses the next outgoing number.
func (s *sequencer) number(seq uint16, layer uint8, as state) uint16 {
	out := s.next
	s.next++
	s.in[s.inAt(seq)] = inSlot{run: s.run, seq: seq, out: out, outcome: as}
	s.out[int(out)&(len(s.out)-1)] = outSlot{run: s.run, seq: out, in: seq, layer: layer, outcome: as}
	return out
}

// slot is what is known of an outgoing number; nil: nothing (any more).
func (s *sequencer) slot(out uint16) *outSlot {
	o := &s.out[int(out)&(len(s.out)-1)]
	if o.seq != out || o.outcome == stateNone {
		return nil
	}
	return o
}

func (s *sequencer) inAt(seq uint16) int { return int(seq) & (len(s.in) - 1) }
