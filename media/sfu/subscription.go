package sfu

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"github.com/mustermesh/muster/media"
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

	begun  bool   // something was sent
	broken bool   // the next packet does not follow the last: new offsets
	other  bool   // nor does its time
	since  uint16 // of the source: what is older belongs to what was before
	seq    uint16 // offsets: sent = source's + offset
	ts     uint32
	pic    uint16
	tl0    uint8

	lastSeq uint16
	lastTS  uint32
	lastPic uint16
	lastTL0 uint8
	lastAt  time.Duration

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
		ssrc: rand.Uint32(), rtx: rand.Uint32(), want: -1, cur: -1, lastSeq: uint16(rand.Uint32()) >> 1, lastTS: rand.Uint32(), rtxSeq: uint16(rand.Uint32()) >> 1,
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
		sub.broken = true
		return false
	}
	if src != sub.from || p.layer != sub.cur {
		// A picture goes on with another layer, or from another SFU, where it needs none
		// before it. Until then the one that was goes on.
		if p.layer != sub.want || sub.track.Video && !p.key {
			return false
		}
		sub.from, sub.cur = src, p.layer
		sub.broken, sub.other = true, true
		sub.usesLocked()
	}
	if sub.broken {
		if sub.track.Video && !p.key {
			return false
		}
		sub.rebase(p)
	} else if newer(sub.since, p.seq) {
		return false
	}
	return sub.send(w, p)
}

// rebase makes the next packet follow the last one.
func (sub *subscription) rebase(p *packet) {
	sub.seq = sub.lastSeq + 1 - p.seq
	if sub.other {
		// As much later as it came later, and at least by a little.
		step := uint32(1)
		if sub.begun {
			step = max(uint32((p.at-sub.lastAt).Seconds()*float64(sub.clock)), sub.clock/1_000)
		}
		sub.ts = sub.lastTS + step - p.ts
	}
	sub.pic, sub.tl0 = sub.lastPic+1-p.vp8.picture, sub.lastTL0+1-p.vp8.tl0
	sub.since = p.seq
	sub.broken, sub.other = false, false
}

func (sub *subscription) send(w *writer, p *packet) bool {
	seq, ts := p.seq+sub.seq, p.ts+sub.ts
	b := w.b.Space(maxHeader + len(p.payload) + tagSpace)
	n, number := p.outgoing(b, sub.pt, sub.ssrc, seq, ts)
	payload := b[n : n+len(p.payload)]
	copy(payload, p.payload)
	e := sentPacket{seq: seq, source: p.seq, ts: ts, layer: int8(p.layer), at: uint32(p.at / time.Millisecond), used: true}
	if p.vp8.pictureAt != 0 || p.vp8.tl0At != 0 {
		e.pic, e.tl0 = p.vp8.picture+sub.pic, p.vp8.tl0+sub.tl0
		p.vp8.munge(payload, e.pic, e.tl0)
	}
	var ok bool
	if e.number, ok = sub.d.conn.sendRTP(w, b[:n+len(p.payload)], number); !ok {
		return false
	}
	sub.sent[int(seq)%len(sub.sent)] = e
	if !sub.begun || newer(seq, sub.lastSeq) {
		sub.lastSeq, sub.lastTS, sub.lastAt, sub.lastPic, sub.lastTL0 = seq, ts, p.at, e.pic, e.tl0
	}
	sub.begun = true
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
		SSRC: sub.ssrc, NTPTime: ntp(time.Now()), RTPTime: sub.lastTS + uint32((now-sub.lastAt).Seconds()*float64(sub.clock)),
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
	if !sub.repair || !sub.begun {
		return 0
	}
	sent := 0
	for sent < n {
		const l = 255
		p := packet{level: noLevel}
		b := w.b.Space(maxHeader + l + tagSpace)
		h, number := p.outgoing(b, sdp.RTX(sub.pt), sub.rtx, sub.rtxSeq, sub.lastTS)
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
	if sub.from != sub.src.Load() || sub.cur != sub.want || sub.broken {
		return sub.want
	}
	return -1
}
