package udp

import (
	"net/netip"
	"time"
)

// Limits of a Batch.
const (
	maxPackets  = 256     // after which it flushes itself
	slab        = 384_000 // bytes, the same
	maxSegments = 60      // of one message; the kernel takes 64 (UDP_MAX_SEGMENTS was 64 before Linux 6.9)
	maxMessage  = 60_000  // bytes of one message with its segments
	buckets     = 512     // of the table that finds a destination's open message; a power of two
)

// Patience is how long a flush waits for a socket whose buffer is full.
const Patience = 5 * time.Millisecond

// Batch gathers packets to be sent. It is for one goroutine at a time.
type Batch struct {
	s     *Socket
	buf   []byte
	used  int
	parts []part
	msgs  []message
	table [buckets]int16 // 1 + index into msgs
	platform
}

// part is a packet: where it is, and the next one of its message.
type part struct {
	p    []byte
	next int16 // 1 + index; 0: the last
}

// message is a run of packets to one address, all of one size but for the last, which
// may be shorter.
type message struct {
	to          netip.AddrPort
	first, last int16 // indexes into parts
	segments    int
	segment     int // bytes of each
	bytes       int
	closed      bool
}

// NewBatch makes an empty one.
func (s *Socket) NewBatch() *Batch {
	b := &Batch{s: s, buf: make([]byte, slab), parts: make([]part, 0, maxPackets), msgs: make([]message, 0, maxPackets)}
	b.init()
	return b
}

// Space returns n bytes to write a packet into, for Send or to be forgotten. It flushes
// first if there is not as much left. n is at most 64 kB.
func (b *Batch) Space(n int) []byte {
	if b.used+n > len(b.buf) || len(b.parts) == maxPackets {
		b.Flush()
	}
	return b.buf[b.used : b.used+n : b.used+n]
}

// Send adds a packet, which has to be a beginning of the last Space.
func (b *Batch) Send(to netip.AddrPort, p []byte) {
	b.used += (len(p) + 7) &^ 7
	b.parts = append(b.parts, part{p: p})
	n := int16(len(b.parts) - 1)
	slot := &b.table[hash(to)]
	if *slot != 0 {
		m := &b.msgs[*slot-1]
		if m.to == to && !m.closed && len(p) <= m.segment && m.segments < maxSegments && m.bytes+len(p) <= maxMessage && b.s.segments.Load() {
			b.parts[m.last].next = n + 1
			m.last, m.bytes = n, m.bytes+len(p)
			m.segments++
			m.closed = len(p) < m.segment
			return
		}
	}
	b.msgs = append(b.msgs, message{to: to, first: n, last: n, segments: 1, segment: len(p), bytes: len(p)})
	*slot = int16(len(b.msgs))
}

// Flush sends what was gathered.
func (b *Batch) Flush() {
	if len(b.msgs) > 0 {
		b.flush()
	}
	for i := range b.msgs {
		b.table[hash(b.msgs[i].to)] = 0
	}
	b.used, b.parts, b.msgs = 0, b.parts[:0], b.msgs[:0]
}

// hash is only to spread addresses; two that meet just share no messages.
func hash(a netip.AddrPort) uint32 {
	ip := a.Addr().As16()
	h := uint32(a.Port()) * 0x9E3779B1
	for i := 8; i < 16; i++ {
		h = (h ^ uint32(ip[i])) * 0x01000193
	}
	return (h ^ h>>15) & (buckets - 1)
}
