package rtp

import "time"

// Newer reports whether a number comes after another one, in numbers that wrap (RFC 3550
// appendix A.1): it is ahead by less than half of them.
func Newer(a, b uint16) bool { return a != b && a-b < 0x8000 }

// comparable is how far behind the newest number one is kept at least that others are
// compared with for as long as a stream goes on: else they wrapped around it.
const comparable = 0x4000

// Numbers are what a receiver knows a packet's place by.
type Numbers struct {
	Seq     uint16
	Time    uint32 // RTP timestamp
	Picture uint16 // VP8 picture id (RFC 7741), of which a packet has as many bits as it has room
	TL0     uint8  // VP8 TL0PICIDX
}

// Sequel is how the packets of one source after the other are numbered for a receiver, who
// sees one stream: without a hole where something was left out on purpose, with one where
// something is missing that may still come. It belongs to its owner's lock.
type Sequel struct {
	begun  bool // something was sent
	broken bool // the next packet does not follow the last one
	other  bool // nor does its time
	since  uint16
	offset Numbers // sent = source's + offset
	last   Numbers // that was sent
	at     time.Duration
}

// NewSequel returns one whose first packet follows this one. Both should be random, below
// half of what they can be for Seq (RFC 3550 section 5.1, RFC 3711 section 3.3.1).
func NewSequel(last Numbers) Sequel { return Sequel{last: last, broken: true, other: true} }

// Break leaves out what comes until the next packet that Next is asked for.
func (s *Sequel) Break() { s.broken = true }

// Replace is Break, and the next packet is of a source with another clock.
func (s *Sequel) Replace() { s.broken, s.other = true, true }

// Broken reports whether the next packet does not follow the last one: of a picture it has
// to be one that needs none before it.
func (s *Sequel) Broken() bool { return s.broken }

// Begun reports whether something was sent.
func (s *Sequel) Begun() bool { return s.begun }

// Next returns the numbers of a source's packet for the receiver. at is when it came, by
// any clock, and rate that of its timestamps in Hz. false: it is of what was left out.
func (s *Sequel) Next(p Numbers, at time.Duration, rate uint32) (Numbers, bool) {
	if s.broken {
		s.rebase(p, at, rate)
	} else if Newer(s.since, p.Seq) {
		return Numbers{}, false
	}
	if p.Seq-s.since > comparable && p.Seq-s.since < 0x8000 {
		s.since = p.Seq - comparable
	}
	return Numbers{p.Seq + s.offset.Seq, p.Time + s.offset.Time, p.Picture + s.offset.Picture, p.TL0 + s.offset.TL0}, true
}

// rebase makes a packet follow the last one.
func (s *Sequel) rebase(p Numbers, at time.Duration, rate uint32) {
	if s.other {
		// As much later as it came later, and at least by a little.
		step := uint32(1)
		if s.begun {
			step = max(uint32((at-s.at).Seconds()*float64(rate)), rate/1_000)
		}
		s.offset.Time = s.last.Time + step - p.Time
	}
	s.offset.Seq = s.last.Seq + 1 - p.Seq
	s.offset.Picture, s.offset.TL0 = s.last.Picture+1-p.Picture, s.last.TL0+1-p.TL0
	s.since = p.Seq
	s.broken, s.other = false, false
}

// Sent notes what was sent under the numbers of Next.
func (s *Sequel) Sent(n Numbers, at time.Duration) {
	if !s.begun || Newer(n.Seq, s.last.Seq) {
		s.last, s.at = n, at
	}
	s.begun = true
}

// Last is what was sent last.
func (s *Sequel) Last() Numbers { return s.last }

// Time is what a timestamp of now is for the receiver, as sender reports tell it (RFC 3550
// section 6.4.1).
func (s *Sequel) Time(now time.Duration, rate uint32) uint32 {
	return s.last.Time + uint32((now-s.at).Seconds()*float64(rate))
}

// Gate takes those packets out of a source's numbering that come while it is closed, so
// that nobody misses them. The zero value has seen nothing.
type Gate struct {
	begun   bool
	highest uint16 // of the source's numbers
	closed  uint16 // the last one that came while it was closed
	offset  uint16 // how many did: they take no number
}

// Restart tells that the source's numbers begin anew.
func (g *Gate) Restart() { g.begun = false }

// Number returns a packet's number with the gate open or closed; one that came while it
// was closed is not sent under it. false: it is too late to be placed.
func (g *Gate) Number(seq uint16, open bool) (uint16, bool) {
	switch {
	case !g.begun:
		g.begun, g.highest, g.closed = true, seq, seq-1
		if !open {
			g.closed = seq
		}
	case Newer(seq, g.highest):
		if !open {
			g.offset += seq - g.highest
			g.closed = seq
		}
		g.highest = seq
	case !Newer(seq, g.closed):
		return 0, false
	}
	if g.highest-g.closed > comparable {
		g.closed = g.highest - comparable
	}
	return seq - g.offset, true
}
