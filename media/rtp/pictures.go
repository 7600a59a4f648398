package rtp

// pictures numbers the frames of VP8 that go out, as sequencer does packets: a frame
// that is left out takes no picture id, so that what depends on the ones before finds
// them.
type pictures struct {
	seen    [64]picture // by incoming id
	open    bool
	long    bool   // incoming ids have 15 bits
	highest uint32 // incoming, counted on without wrapping around
	next    uint16 // outgoing
	tl0     uint8  // what is added to incoming TL0PICIDX
	lastTL0 uint8  // outgoing
	any     bool   // something went out
}

type picture struct {
	id      uint32 // incoming
	out     uint16
	outcome state
}

// begin starts a run: the next frame that is placed is its first.
func (s *pictures) begin() { s.open = false }

// place returns a frame's outgoing picture id and TL0PICIDX, and whether it is left out,
// which is decided with its first packet. newest: no packet after this one was seen.
func (s *pictures) place(v *VP8, newest, leaveOut bool) (id uint16, tl0 uint8, out bool) {
	if !s.open {
		if leaveOut {
			return 0, 0, true
		}
		s.begins(v)
	}
	bits := 7
	if s.long {
		bits = 15
	}
	// The nearest frame with this id.
	ahead := int32(uint32(v.Picture)-s.highest) << (32 - bits) >> (32 - bits)
	at := s.highest + uint32(ahead)
	if ahead > 0 {
		// Those that did not arrive keep their ids; of many, only the ids are used up.
		gap := uint32(ahead) - 1
		if unseen := int(gap) - len(s.seen); unseen > 0 {
			s.next += uint16(unseen)
			gap = uint32(len(s.seen))
		}
		for id := at - gap; id != at; id++ {
			s.take(id, statePending)
		}
		s.highest = at
		if leaveOut {
			s.seen[at%uint32(len(s.seen))] = picture{id: at, outcome: stateLeftOut}
			return 0, 0, true
		}
		s.take(at, stateSent)
	}
	p := &s.seen[at%uint32(len(s.seen))]
	if p.id != at || p.outcome == stateNone {
		if v.Key && newest && !leaveOut { // ids go on elsewhere
			s.begin()
			return s.place(v, newest, false)
		}
		return 0, 0, true
	}
	if p.outcome == stateLeftOut {
		return 0, 0, true
	}
	if p.outcome == statePending {
		if leaveOut {
			return 0, 0, true
		}
		p.outcome = stateSent
	}
	tl0 = v.TL0 + s.tl0
	if int8(tl0-s.lastTL0) > 0 {
		s.lastTL0 = tl0
	}
	return p.out, tl0, false
}

// jump starts a run in which something is missing before its first frame, so that
// decoders don't take that for the next one.
func (s *pictures) jump() {
	s.open = false
	s.next++
	s.lastTL0++
}

func (s *pictures) begins(v *VP8) {
	s.open, s.long = true, v.Long
	clear(s.seen[:])
	if s.any {
		s.tl0 = s.lastTL0 + 1 - v.TL0
	} else { // as they are
		s.any, s.next, s.tl0, s.lastTL0 = true, v.Picture, 0, v.TL0
	}
	// Far from 0, so that what is older than the first has a place below.
	s.highest = 1<<20 + uint32(v.Picture) - 1
}

func (s *pictures) take(id uint32, as state) {
	s.seen[id%uint32(len(s.seen))] = picture{id: id, out: s.next, outcome: as}
	s.next++
}
