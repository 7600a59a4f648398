package sfu

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/rtp"
	"github.com/mustermesh/muster/media/sdp"
)

// subscription is a track on its way to one peer: which layer of it, under which
// numbers. A receiver sees one stream without gaps, whatever was paused, switched or
// replaced before it.
type subscription struct {
	d     *down
	track media.Track
	pt    uint8
	clock uint32
	ssrc  uint32
	rtx   uint32
	src   atomic.Pointer[source]
	tells atomic.Uint32 // media.Layers that it uses

	mu     sync.Mutex // guards the following
	ready  bool       // the receiver knows it: its offer was answered
	repair bool       // the receiver takes RTX
	flow   bool
	height uint32 // as shown
	want   int    // layer; -1: none
	cur    int    // layer that is forwarded; -1: none
	from   *source

	out rtp.Sequel // the numbers that it sees

	sent     []sentPacket
	rtxSeq   uint16
	packets  uint32
	octets   uint32
	reportAt time.Duration
	rate     meter
}

// sentPacket is what has to be known to send a packet again.
type sentPacket struct {
	seq, source uint16
	number      uint16 // transport-wide
	pic         uint16
	ts          uint32
	at          uint32 // ms since the server's start, of the last time
	layer       int8
	tries       uint8
	tl0         uint8
	used        bool
}

const (
	sentVideo   = 1_024
	sentAudio   = 128
	repeatEvery = 20 // ms
	maxRepeats  = 6
)

func newSubscription(d *down, src *source) *subscription {
	sub := &subscription{
		d: d, track: src.track, pt: src.pt, clock: src.track.Codec.ClockRate,
		ssrc: rand.Uint32(), rtx: rand.Uint32(), want: -1, cur: -1,
		out: rtp.NewSequel(rtp.Numbers{Seq: uint16(rand.Uint32()) >> 1, Time: rand.Uint32()}), rtxSeq: uint16(rand.Uint32()) >> 1,
	}
	n := sentAudio
	if src.track.Video {
		n = sentVideo
	}
	sub.sent = make([]sentPacket, n)
	sub.src.Store(src)
	return sub
}

// uses is which layers it forwards, or is about to.
func (sub *subscription) uses() media.Layers { return media.Layers(sub.tells.Load()) }

// usesLocked notes it; the caller tells the source afterwards, under no lock.
func (sub *subscription) usesLocked() {
	var l uint32
	if sub.ready && sub.flow {
		if sub.want >= 0 {
			l |= 1 << sub.want
		}
		if sub.cur >= 0 && sub.want >= 0 {
			l |= 1 << sub.cur
		}
	}
	sub.tells.Store(l)
}

// forward sends a packet on, if it is one that the receiver gets.
func (sub *subscription) forward(w *writer, src *source, p *packet) bool {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if !sub.ready || !sub.flow || sub.want < 0 || src != sub.src.Load() {
		sub.out.Break()
		return false
	}
	if src != sub.from || p.layer != sub.cur {
		// A picture goes on with another layer, or from another SFU, where it needs none
		// before it. Until then the one that was goes on.
		if p.layer != sub.want || sub.track.Video && !p.key {
			return false
		}
		sub.from, sub.cur = src, p.layer
		sub.out.Replace()
		sub.usesLocked()
	}
	if sub.out.Broken() && sub.track.Video && !p.key {
		return false
	}
	n, ok := sub.out.Next(rtp.Numbers{Seq: p.seq, Time: p.ts, Picture: p.vp8.picture, TL0: p.vp8.tl0}, p.at, sub.clock)
	return ok && sub.send(w, p, n)
}

func (sub *subscription) send(w *writer, p *packet, as rtp.Numbers) bool {
	b := w.b.Space(maxHeader + len(p.payload) + tagSpace)
	n, number := p.outgoing(b, sub.pt, sub.ssrc, as.Seq, as.Time)
	payload := b[n : n+len(p.payload)]
	copy(payload, p.payload)
	e := sentPacket{seq: as.Seq, source: p.seq, ts: as.Time, layer: int8(p.layer), at: uint32(p.at / time.Millisecond), used: true}
	if p.vp8.pictureAt != 0 || p.vp8.tl0At != 0 {
		e.pic, e.tl0 = as.Picture, as.TL0
		p.vp8.munge(payload, e.pic, e.tl0)
	}
	var ok bool
	if e.number, ok = sub.d.conn.sendRTP(w, b[:n+len(p.payload)], number); !ok {
		return false
	}
	sub.sent[int(as.Seq)%len(sub.sent)] = e
	sub.out.Sent(as, p.at)
	sub.packets++
	sub.octets += uint32(len(p.payload))
	sub.rate.add(n+len(p.payload), p.at)
	if p.at-sub.reportAt >= time.Second {
		sub.report(w, p.at)
	}
	return true
}

// report sends a sender report (RFC 3550 section 6.4.1): the time of the last packet is
// when it came here.
func (sub *subscription) report(w *writer, now time.Duration) {
	sub.reportAt = now
	sr := rtcp.SenderReport{
		SSRC: sub.ssrc, NTPTime: ntp(time.Now()), RTPTime: sub.out.Time(now, sub.clock),
		PacketCount: sub.packets, OctetCount: sub.octets,
	}
	if b, err := sr.Marshal(); err == nil {
		sub.d.conn.sendRTCP(w, b)
	}
}

// ntp is the 64-bit form of a time.
func ntp(t time.Time) uint64 {
	n := uint64(t.UnixNano())
	s := n/1e9 + 2_208_988_800
	return s<<32 | (n%1e9)<<32/1e9
}

// again answers a request for packets that were lost on the way to the receiver.
func (sub *subscription) again(w *writer, seq uint16, now time.Duration) {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	e := &sub.sent[int(seq)%len(sub.sent)]
	ms := uint32(now / time.Millisecond)
	if !e.used || e.seq != seq || e.tries >= maxRepeats || ms-e.at < repeatEvery || sub.from == nil {
		return
	}
	b := w.b.Space(maxHeader + maxPacket + tagSpace + 2)
	const at = maxHeader + 2 // where the payload goes, to begin with
	p, whole, ok := sub.from.repeat(int(e.layer), e.source, b[:at])
	if !ok {
		return
	}
	payload := whole[at:]
	p.vp8.munge(payload, e.pic, e.tl0)
	e.tries++
	e.at = ms
	// With RTX (RFC 4588) it is a packet of its own. Without it has to be the very same
	// again, with its old number: the key stream of SRTP depends on the sequence number
	// only, and must never meet other contents.
	if !sub.repair {
		n, number := p.outgoing(b, sub.pt, sub.ssrc, e.seq, e.ts)
		binary.BigEndian.PutUint16(b[number:], e.number)
		copy(b[n:], payload)
		sub.d.conn.sendRTP(w, b[:n+len(payload)], 0)
	} else {
		p.level = noLevel
		n, number := p.outgoing(b, sdp.RTX(sub.pt), sub.rtx, sub.rtxSeq, e.ts)
		sub.rtxSeq++
		binary.BigEndian.PutUint16(b[n:], e.seq)
		copy(b[n+2:], payload)
		sub.d.conn.sendRTP(w, b[:n+2+len(payload)], number)
	}
	sub.d.s.counts.repeated.Add(1)
}

// pad sends padding of about n bytes, to find out whether there is room for more. It
// goes as RTX, whose numbers nobody waits for.
func (sub *subscription) pad(w *writer, n int) int {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if !sub.repair || !sub.out.Begun() {
		return 0
	}
	sent := 0
	for sent < n {
		const l = 255
		p := packet{level: noLevel}
		b := w.b.Space(maxHeader + l + tagSpace)
		h, number := p.outgoing(b, sdp.RTX(sub.pt), sub.rtx, sub.rtxSeq, sub.out.Last().Time)
		b[0] |= 0x20
		clear(b[h : h+l])
		b[h+l-1] = l
		sub.rtxSeq++
		if _, ok := sub.d.conn.sendRTP(w, b[:h+l], number); !ok {
			break
		}
		sent += h + l
	}
	return sent
}

// waits reports which layer it needs a key frame of to go on; -1: none.
func (sub *subscription) waits() int {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	if !sub.track.Video || !sub.ready || !sub.flow || sub.want < 0 {
		return -1
	}
	if sub.from != sub.src.Load() || sub.cur != sub.want || sub.out.Broken() {
		return sub.want
	}
	return -1
}
