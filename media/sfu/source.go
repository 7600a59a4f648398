package sfu

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/rtp"
	"github.com/mustermesh/muster/media/sdp"
	"github.com/mustermesh/muster/media/udp"
)

// source is a track as it is forwarded: of a peer, or of another SFU.
type source struct {
	s      *Server
	track  media.Track
	format format
	pt     uint8
	ask    func(layer int)    // the sender for a key frame
	wanted func(media.Layers) // tells the sender what is used; may be nil
	gate   atomic.Int64       // from when on, after the server's start, nothing is forwarded, in ns; 0: none
	asked  [3]atomic.Int64    // when a key frame was asked for
	layers [3]layerState
	subs   atomic.Pointer[[]*subscription] // copied when it changes
	taps   atomic.Pointer[[]*tap]
	loud   loudness

	mu     sync.Mutex // guards the following
	caches [3]cache
	told   media.Layers
	closed bool
}

// layerState is written by the goroutine that receives; allocation asks for some of it.
type layerState struct {
	gate   rtp.Gate      // what comes while it is closed takes no number
	last   atomic.Int64  // time.Duration of the last packet; 0: none yet
	height atomic.Uint32 // of the picture; 0: unknown
	meter  meter
}

// meter measures bit/s over about a second.
type meter struct {
	rate  atomic.Int64
	bytes int
	since time.Duration
}

func (m *meter) add(n int, now time.Duration) {
	m.bytes += n
	switch d := now - m.since; {
	case m.since == 0 || d > 3*time.Second:
		m.bytes, m.since = n, now
	case d >= 500*time.Millisecond:
		r := int64(float64(m.bytes*8) / d.Seconds())
		if old := m.rate.Load(); old != 0 {
			r = (old + r) / 2
		}
		m.rate.Store(r)
		m.bytes, m.since = 0, now
	}
}

type tap struct {
	layers media.Layers
	f      func(media.Packet)
}

var _ media.Source = (*source)(nil)

func newSource(s *Server, t media.Track) *source {
	src := &source{s: s, track: t, format: formatOf(t.Codec.MIME)}
	src.pt, _ = sdp.PayloadType(t.Codec)
	src.subs.Store(&[]*subscription{})
	src.taps.Store(&[]*tap{})
	src.loud.value.Store(127)
	s.counts.sources.Add(1)
	return src
}

func (src *source) close() {
	src.mu.Lock()
	defer src.mu.Unlock()
	if !src.closed {
		src.closed = true
		src.s.counts.sources.Add(-1)
	}
}

// Track tells what it is.
func (src *source) Track() media.Track { return src.track }

// deliver hands a packet to everybody who gets it. room[at:] is the payload, with space
// for a header before it.
func (src *source) deliver(w *writer, p *packet, room []byte, at int) {
	l := &src.layers[p.layer]
	g := src.gate.Load()
	open := g == 0 || int64(time.Since(src.s.started)) < g
	var ok bool
	if p.seq, ok = l.gate.Number(p.seq, open); !ok {
		return
	}
	if !open {
		src.loud.silence()
		if src.track.Video {
			src.restarted(p.layer) // it goes on with a key frame
		}
		return
	}
	if p.level != noLevel {
		src.loud.add(p.level&0x7f, p.at)
	}
	l.last.Store(int64(p.at))
	if p.vp8.height != 0 {
		l.height.Store(uint32(p.vp8.height))
	}
	shared := p.shared(room, at, src.pt)
	src.mu.Lock()
	l.meter.add(len(shared), p.at)
	c := &src.caches[p.layer]
	if c.slots == nil {
		n := cacheAudio
		if src.track.Video {
			n = cacheVideo
		}
		c.slots = make([]slot, n)
	}
	c.put(p.seq, shared)
	src.mu.Unlock()
	for _, t := range *src.taps.Load() {
		if t.layers&(1<<p.layer) != 0 {
			t.f(media.Packet{Layer: p.layer, RTP: shared})
		}
	}
	var n uint64
	for _, sub := range *src.subs.Load() {
		if sub.forward(w, src, p) {
			n++
		}
	}
	src.s.counts.forwarded.Add(n)
}

// repeat copies the payload of a packet that was forwarded before behind b.
func (src *source) repeat(layer int, seq uint16, b []byte) (p packet, payload []byte, ok bool) {
	src.mu.Lock()
	defer src.mu.Unlock()
	stored := src.caches[layer].get(seq)
	if stored == nil {
		return p, nil, false
	}
	h, _ := parse(stored)
	p = packet{layer: layer, seq: h.seq, ts: h.ts, marker: h.marker, level: noLevel}
	if e := h.element(sdp.ExtLevel); len(e) == 1 {
		p.level = e[0]
	}
	payload = append(b, h.payload...)
	p.payload = payload[len(b):]
	p.describe(src.format)
	return p, payload, true
}

// Tap has every packet of these layers given to f.
func (src *source) Tap(layers media.Layers, f func(media.Packet)) (remove func()) {
	t := &tap{layers, f}
	src.mu.Lock()
	old := *src.taps.Load()
	grown := append(slices.Clone(old), t)
	src.taps.Store(&grown)
	src.mu.Unlock()
	src.changed()
	for i := range src.track.Layers {
		if src.track.Video && layers&(1<<i) != 0 {
			src.KeyFrame(i)
		}
	}
	return func() {
		src.mu.Lock()
		left := slices.DeleteFunc(slices.Clone(*src.taps.Load()), func(o *tap) bool { return o == t })
		src.taps.Store(&left)
		src.mu.Unlock()
		src.changed()
	}
}

func (src *source) add(sub *subscription) {
	src.mu.Lock()
	subs := append(slices.Clone(*src.subs.Load()), sub)
	src.subs.Store(&subs)
	src.mu.Unlock()
}

func (src *source) remove(sub *subscription) {
	src.mu.Lock()
	subs := slices.DeleteFunc(slices.Clone(*src.subs.Load()), func(o *subscription) bool { return o == sub })
	src.subs.Store(&subs)
	src.mu.Unlock()
}

// changed tells the sender which layers are used, if that is not what it was told.
func (src *source) changed() {
	if src.wanted == nil {
		return
	}
	var l media.Layers
	for _, t := range *src.taps.Load() {
		l |= t.layers
	}
	for _, sub := range *src.subs.Load() {
		l |= sub.uses()
	}
	src.mu.Lock()
	same := src.told == l || src.closed
	src.told = l
	src.mu.Unlock()
	if !same {
		src.wanted(l)
	}
}

// keyFrameEvery limits what senders are asked.
const keyFrameEvery = 400 * time.Millisecond

// KeyFrame asks the sender for one.
func (src *source) KeyFrame(layer int) {
	if !src.track.Video || layer < 0 || layer > 2 {
		return
	}
	now := int64(src.s.now()) + 1
	last := src.asked[layer].Load()
	if last != 0 && now-last < int64(keyFrameEvery) || !src.asked[layer].CompareAndSwap(last, now) {
		return
	}
	src.s.counts.keyFrames.Add(1)
	src.ask(layer)
}

// Gate closes the source at a time; zero opens it. What counts is the monotonic clock:
// one that is set back must not make a lease longer.
func (src *source) Gate(until time.Time) {
	if until.IsZero() {
		src.gate.Store(0)
		return
	}
	src.gate.Store(max(1, int64(until.Sub(src.s.started))))
}

// Level is how loud it is now.
func (src *source) Level() uint8 { return src.loud.level(src.s.now()) }

// flows reports whether a layer came within the last moments.
func (src *source) flows(layer int, now time.Duration) bool {
	last := src.layers[layer].last.Load()
	return last != 0 && now-time.Duration(last) < 700*time.Millisecond
}

// loudness smooths what RFC 6464 says of each packet: it rises at once and falls
// by about 20 dB a second, so that a pause between words is no silence.
type loudness struct {
	value atomic.Uint32 // -dBov
	at    atomic.Int64
}

func (l *loudness) add(level uint8, now time.Duration) {
	old := uint32(l.level(now))
	if v := uint32(level); v < old {
		l.value.Store((old + v) / 2)
	} else {
		l.value.Store(old)
	}
	l.at.Store(int64(now))
}

func (l *loudness) level(now time.Duration) uint8 {
	fall := (now - time.Duration(l.at.Load())) / (50 * time.Millisecond)
	return uint8(min(time.Duration(l.value.Load())+fall, 127))
}

func (l *loudness) silence() { l.value.Store(127) }

// remote is a source whose packets come from another SFU.
type remote struct {
	*source
	room sync.Pool // of *[]byte
}

// Remote makes a track that comes from another SFU (media.SFU).
func (s *Server) Remote(t media.Track, e media.RemoteEvents) media.Remote {
	r := &remote{source: newSource(s, t)}
	r.ask, r.wanted = e.KeyFrame, e.Wanted
	r.room.New = func() any {
		b := make([]byte, udp.Headroom+udp.Size)
		return &b
	}
	return r
}

// Write takes a packet in the SFU's form.
func (r *remote) Write(m media.Packet) {
	h, ok := parse(m.RTP)
	if !ok || m.Layer < 0 || m.Layer > 2 || len(h.payload) > udp.Size-maxHeader {
		r.s.counts.refused.Add(1)
		return
	}
	p := packet{layer: m.Layer, seq: h.seq, ts: h.ts, marker: h.marker, level: noLevel, at: r.s.now()}
	if e := h.element(sdp.ExtLevel); len(e) == 1 {
		p.level = e[0]
	}
	// Its memory is the cascade's, and may be shared.
	room := r.room.Get().(*[]byte)
	n := copy((*room)[udp.Headroom:], h.payload)
	p.payload = (*room)[udp.Headroom : udp.Headroom+n]
	p.describe(r.format)
	w := <-r.s.writers
	r.deliver(w, &p, (*room)[:udp.Headroom+n], udp.Headroom)
	w.b.Flush()
	r.s.writers <- w
	r.room.Put(room)
}

// Lost: a picture that builds on what is missing is no use.
func (r *remote) Lost(layer int) { r.KeyFrame(layer) }

// Close ends it.
func (r *remote) Close() {
	r.close()
	r.subs.Store(&[]*subscription{})
	r.taps.Store(&[]*tap{})
}
