package sfu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pion/rtcp"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/bwe"
	"github.com/mustermesh/muster/media/sdp"
	"github.com/mustermesh/muster/media/signal"
)

// down is the connection on which a peer gets tracks.
type down struct {
	s    *Server
	p    *peer
	conn *conn

	mu       sync.Mutex // guards the following
	machine  signal.Machine
	session  uint64
	sections []*downSection
	subs     map[string]*subscription // by track
	closed   bool
	alloc    allocation
}

// downSection is a media section of our offers. Sections are never removed, but reused.
type downSection struct {
	mid   string
	video bool
	codec media.Codec
	sub   *subscription // nil: it is free
	n     uint64        // of the first offer that had sub
}

func newDown(p *peer) *down {
	d := &down{s: p.s, p: p, subs: map[string]*subscription{}, session: rand.Uint64()}
	d.machine.Impolite = true
	d.conn = newConn(p.s, d)
	d.alloc.est = bwe.New()
	d.conn.sent = d.alloc.sent
	d.conn.seq = uint16(rand.Uint32()) >> 1
	return d
}

// subscribe makes what flows what was asked for. It returns what is to be offered, if
// anything.
func (d *down) subscribe(list []media.Subscription) *wire.CallDescription {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	wanted := make(map[string]bool, len(list))
	var changed []*source
	offer := false
	for _, l := range list[:min(len(list), maxSubscriptions)] {
		src := sourceOf(l.Source)
		if src == nil || src.pt == 0 {
			continue
		}
		id := src.track.ID
		wanted[id] = true
		sub := d.subs[id]
		if sub != nil && sub.pt != src.pt { // another codec: another stream
			changed = append(changed, d.removeLocked(sub))
			sub = nil
		}
		if sub == nil {
			sub = newSubscription(d, src)
			d.subs[id] = sub
			d.sectionLocked(sub)
			src.add(sub)
			d.s.counts.subscriptions.Add(1)
			offer = true
		} else if old := sub.src.Load(); old != src {
			sub.src.Store(src)
			src.add(sub)
			old.remove(sub)
			changed = append(changed, old)
		}
		sub.mu.Lock()
		sub.height, sub.flow = l.Height, l.Flow
		sub.mu.Unlock()
		changed = append(changed, src)
	}
	for id, sub := range d.subs {
		if !wanted[id] {
			changed = append(changed, d.removeLocked(sub))
			offer = true
		}
	}
	if offer {
		d.machine.Need(false)
	}
	d.allocateLocked(d.s.now())
	desc := d.offerLocked()
	d.mu.Unlock()
	for _, src := range changed {
		src.changed()
	}
	return desc
}

// sourceOf returns the source behind what the host has; nil: it is not of this package.
func sourceOf(s media.Source) *source {
	switch s := s.(type) {
	case *source:
		return s
	case *remote:
		return s.source
	}
	return nil
}

func (d *down) removeLocked(sub *subscription) *source {
	delete(d.subs, sub.track.ID)
	for _, sec := range d.sections {
		if sec.sub == sub {
			sec.sub = nil
		}
	}
	src := sub.src.Load()
	src.remove(sub)
	d.s.counts.subscriptions.Add(-1)
	return src
}

// sectionLocked finds a free section for a track, or makes one.
func (d *down) sectionLocked(sub *subscription) {
	for _, sec := range d.sections {
		if sec.sub == nil && sec.video == sub.track.Video {
			sec.sub, sec.codec, sec.n = sub, sub.track.Codec, 0
			return
		}
	}
	d.sections = append(d.sections, &downSection{mid: strconv.Itoa(len(d.sections)), video: sub.track.Video, codec: sub.track.Codec, sub: sub})
}

// offerLocked makes an offer if one is due.
func (d *down) offerLocked() *wire.CallDescription {
	due, restart := d.machine.Due()
	if !due || len(d.sections) == 0 {
		return nil
	}
	if restart {
		d.conn.restart()
	}
	sent := make([]sdp.Sent, len(d.sections))
	for i, sec := range d.sections {
		sent[i] = sdp.Sent{Mid: sec.mid, Video: sec.video, Codec: sec.codec}
		if sec.sub != nil {
			sent[i].Active, sent[i].Track, sent[i].SSRC = true, sec.sub.track.ID, sec.sub.ssrc
			sent[i].RTX = sec.sub.rtx
		}
	}
	l := d.s.local(d.conn, d.session)
	l.Setup = "actpass"
	o, _ := d.machine.Outstanding()
	l.Version = o.N + 1
	desc := d.machine.Offered(sdp.Offer(sent, l))
	for _, sec := range d.sections {
		if sec.sub != nil && sec.n == 0 {
			sec.n = desc.N
		}
	}
	return downOffer(desc)
}

func downOffer(desc signal.Description) *wire.CallDescription {
	return &wire.CallDescription{Connection: wire.CallDescription_DOWN, N: desc.N, Offer: true, Sdp: desc.SDP}
}

// outstanding is the offer that waits for its answer.
func (d *down) outstanding() *wire.CallDescription {
	d.mu.Lock()
	defer d.mu.Unlock()
	if desc, ok := d.machine.Outstanding(); ok {
		return downOffer(desc)
	}
	return nil
}

// describe takes an answer, or the wish for a restart. It returns the next offer.
func (d *down) describe(m *wire.CallDescription) (*wire.CallDescription, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil
	}
	if m.GetRestart() {
		d.machine.Need(true)
		return d.offerLocked(), nil
	}
	if m.GetOffer() {
		return nil, bad("the server offers for \"down\"; ask for a restart instead")
	}
	if d.machine.State() != signal.HaveLocalOffer {
		return nil, nil
	}
	if o, _ := d.machine.Outstanding(); o.N != m.GetN() {
		return nil, nil
	}
	desc, err := sdp.Parse(m.GetSdp())
	if err != nil {
		return nil, bad("%w", err)
	}
	t, err := desc.Transport()
	if err != nil {
		return nil, bad("%w", err)
	}
	if t.Setup == "actpass" {
		return nil, bad("an answer's a=setup is active or passive")
	}
	d.machine.Receive(signal.Description{N: m.GetN(), SDP: m.GetSdp()})
	d.conn.know(t)
	for _, sec := range d.sections {
		i := slices.IndexFunc(desc.Sections, func(s sdp.Section) bool { return s.Mid == sec.mid })
		if sec.sub == nil || sec.n > m.GetN() || i < 0 {
			continue
		}
		s := &desc.Sections[i]
		sec.sub.answered(!s.Rejected && s.Receives, slices.ContainsFunc(s.Codecs, func(c sdp.Codec) bool {
			return c.Name == "rtx" && c.PT == sdp.RTX(sec.sub.pt)
		}))
	}
	d.allocateLocked(d.s.now())
	return d.offerLocked(), nil
}

func (sub *subscription) answered(ready, repair bool) {
	sub.mu.Lock()
	sub.ready, sub.repair = ready, repair
	sub.usesLocked()
	sub.mu.Unlock()
}

func bad(format string, a ...any) error {
	return fmt.Errorf("%w: %w", media.ErrBadDescription, fmt.Errorf(format, a...))
}

// flow pauses or resumes a track.
func (d *down) flow(track string, flow bool) {
	d.mu.Lock()
	sub := d.subs[track]
	d.mu.Unlock()
	if sub == nil {
		return
	}
	sub.mu.Lock()
	sub.flow = flow
	sub.usesLocked()
	sub.mu.Unlock()
	src := sub.src.Load()
	src.changed()
	if l := sub.waits(); l >= 0 {
		src.KeyFrame(l)
	}
}

// rtp: nothing is sent to us here.
func (d *down) rtp(*writer, []byte) {}

// rtcp takes what the receiver says about what it gets.
func (d *down) rtcp(w *writer, b []byte) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		d.s.counts.refused.Add(1)
		return
	}
	now := d.s.now()
	for _, p := range packets {
		switch p := p.(type) {
		case *rtcp.TransportLayerNack:
			sub := d.by(p.MediaSSRC)
			if sub == nil {
				continue
			}
			for _, n := range p.Nacks[:min(len(p.Nacks), 64)] {
				n.Range(func(seq uint16) bool {
					sub.again(w, seq, now)
					return true
				})
			}
		case *rtcp.PictureLossIndication:
			d.lost(p.MediaSSRC)
		case *rtcp.FullIntraRequest:
			for _, f := range p.FIR {
				d.lost(f.SSRC)
			}
		case *rtcp.TransportLayerCC:
			d.alloc.feedback(p, now)
		}
	}
}

// by finds a subscription by its SSRC.
func (d *down) by(ssrc uint32) *subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, sub := range d.subs {
		if sub.ssrc == ssrc {
			return sub
		}
	}
	return nil
}

func (d *down) lost(ssrc uint32) {
	sub := d.by(ssrc)
	if sub == nil {
		return
	}
	sub.mu.Lock()
	src, layer := sub.from, sub.cur
	sub.mu.Unlock()
	if src != nil && layer >= 0 {
		src.KeyFrame(layer)
	}
}

func (d *down) keyed()          { d.p.keyed(wire.CallDescription_DOWN) }
func (d *down) ended(err error) { d.p.ended(wire.CallDescription_DOWN, err) }

// tick looks after what no packet brings about. Most of the time there is nothing to do,
// and it costs next to nothing then.
func (d *down) tick(w *writer, now time.Duration) (probing bool) {
	d.mu.Lock()
	var quality *wire.CallQuality
	if now >= d.alloc.next {
		quality = d.allocateLocked(now)
		d.alloc.waiting = d.alloc.waiting[:0]
		for _, sub := range d.subs {
			if sub.waits() >= 0 {
				d.alloc.waiting = append(d.alloc.waiting, sub)
			}
		}
	}
	d.alloc.probe(w, d, now)
	probing = d.alloc.probing != 0
	waiting, changed := d.alloc.waiting, d.alloc.changed
	d.alloc.waiting, d.alloc.changed = nil, nil
	d.mu.Unlock()
	for _, sub := range waiting {
		if l := sub.waits(); l >= 0 {
			sub.src.Load().KeyFrame(l)
		}
	}
	for _, src := range changed {
		src.changed()
	}
	if quality != nil {
		d.p.post(func(e media.PeerEvents) { e.Quality(quality) })
	}
	return probing
}

func (d *down) close() {
	d.mu.Lock()
	d.closed = true
	var srcs []*source
	for _, sub := range d.subs {
		srcs = append(srcs, d.removeLocked(sub))
	}
	d.mu.Unlock()
	for _, src := range srcs {
		src.changed()
	}
	d.conn.close()
}
