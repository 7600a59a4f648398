package rtp

import "time"

// Reception is what a receiver tells a source about its packets (RFC 3550 section 6.4.1
// and appendix A.1, A.3, A.8). It belongs to one goroutine, or to its owner's lock.
type Reception struct {
	rate     uint32 // Hz of the timestamps
	begun    bool
	base     uint32 // first number
	highest  uint16
	cycles   uint32 // 65,536 × times that numbers wrapped around
	bad      uint32 // number after one that jumped; 1<<16: none did
	received uint32
	bytes    uint64

	expectedBefore, receivedBefore uint32 // at the last report

	transit int64 // timestamp units
	at      time.Time
	jitter  uint32 // ×16, timestamp units

	reported time.Time // when the last sender report came
	middle   uint32    // middle 32 bits of its NTP time
}

// Report is a reception report block, apart from the source that it is about.
type Report struct {
	Fraction         uint8  // lost since the last one, of 256
	Lost             int32  // since the beginning, within 24 bits; duplicates count against it
	Highest          uint32 // sequence number, with how often it wrapped around
	Jitter           uint32 // timestamp units
	LastSenderReport uint32 // middle 32 bits of its NTP time; 0: none came
	Delay            uint32 // since then, 1/65,536 s
}

const (
	maxDropout  = 3000 // a jump ahead that is still a loss (appendix A.1)
	maxMisorder = 100  // a jump back that is still a reordering
	notBad      = 1 << 16
)

// NewReception is for a source whose timestamps have this rate in Hz.
func NewReception(clockRate uint32) *Reception { return &Reception{rate: clockRate, bad: notBad} }

// Came tells of a packet, with its size in bytes.
func (r *Reception) Came(h *Header, size int, now time.Time) {
	r.bytes += uint64(size)
	seq := h.Sequence
	ahead := seq - r.highest
	switch {
	case !r.begun:
		r.restart(seq)
	case ahead == 0 || ahead < maxDropout:
		if seq < r.highest {
			r.cycles += 1 << 16
		}
		r.highest = seq
	case ahead <= 1<<16-1-maxMisorder:
		// Two in a row: the source starts anew.
		if uint32(seq) != r.bad {
			r.bad = uint32(seq + 1)
			return
		}
		r.restart(seq)
	}
	r.received++
	transit := int64(now.Sub(r.at).Seconds()*float64(r.rate)) - int64(int32(h.Timestamp))
	if r.at.IsZero() {
		r.at = now
		transit = -int64(int32(h.Timestamp))
	} else {
		// Timestamps wrap around, so only 32 bits of the difference count.
		d := int64(int32(uint32(transit - r.transit)))
		if d < 0 {
			d = -d
		}
		// Beyond a minute it is a new clock, not jitter.
		if d < int64(r.rate)*60 {
			r.jitter += uint32(d) - (r.jitter+8)>>4
		}
	}
	r.transit = transit
}

func (r *Reception) restart(seq uint16) {
	bytes, rate := r.bytes, r.rate
	*r = Reception{rate: rate, bytes: bytes, bad: notBad, begun: true, base: uint32(seq), highest: seq,
		reported: r.reported, middle: r.middle}
}

// SenderReport tells of one, by its NTP time.
func (r *Reception) SenderReport(ntp uint64, now time.Time) {
	r.reported, r.middle = now, uint32(ntp>>16)
}

// Report is what to tell now. Its fraction is since the call before.
func (r *Reception) Report(now time.Time) Report {
	var p Report
	if !r.begun {
		return p
	}
	p.Highest = r.cycles + uint32(r.highest)
	expected := p.Highest - r.base + 1
	p.Lost = min(max(int32(expected-r.received), -0x800000), 0x7fffff)
	since, got := expected-r.expectedBefore, r.received-r.receivedBefore
	r.expectedBefore, r.receivedBefore = expected, r.received
	if lost := int32(since - got); since > 0 && lost > 0 {
		p.Fraction = uint8(min(uint64(lost)<<8/uint64(since), 255))
	}
	p.Jitter = r.jitter >> 4
	if !r.reported.IsZero() {
		p.LastSenderReport = r.middle
		p.Delay = uint32(now.Sub(r.reported).Seconds() * 65536)
	}
	return p
}

// Received is how many packets and bytes came, duplicates included; packets since the
// source last started anew.
func (r *Reception) Received() (packets uint32, bytes uint64) { return r.received, r.bytes }
