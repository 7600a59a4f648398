package host

import (
	"context"
	"sync"
	"time"

	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/cascade"
	"github.com/mustermesh/muster/regions"
)

// A stream of media/cascade is one layer of a track: its name is the track's number,
// which is a multiple of trackStep, and the layer.
const (
	trackStep   = 4
	maxDatagram = 1140 // of what fits the link between nodes, beside its own frame
	repairEvery = 10 * time.Millisecond
	roundTrip   = 50 * time.Millisecond // to a region of which it was not measured
)

// outlet sends a track to another node.
type outlet struct {
	h     *Host
	at    trackAt
	video bool

	mu     sync.Mutex // guards the following
	layers [trackStep]*cascade.Sender
	buf    []byte
}

// newOutlet makes one, which hears of what was lost from now on.
func newOutlet(h *Host, at trackAt, video bool) *outlet {
	o := &outlet{h: h, at: at, video: video, buf: make([]byte, 0, 2*maxDatagram)}
	h.mu.Lock()
	h.outlets[at] = o
	h.mu.Unlock()
	h.trunks()
	return o
}

func (o *outlet) close() {
	o.h.mu.Lock()
	delete(o.h.outlets, o.at)
	o.h.mu.Unlock()
}

// send is called by the SFU for each packet.
func (o *outlet) send(p media.Packet) {
	if p.Layer < 0 || p.Layer >= trackStep {
		return
	}
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.layers[p.Layer]
	if s == nil {
		c := cascade.Config{Stream: o.at.number + uint32(p.Layer), MaxDatagram: maxDatagram, History: 128, Size: 160}
		if o.video {
			c.History, c.Size = 1024, 1100
		}
		s = cascade.NewSender(c)
		o.layers[p.Layer] = s
	}
	first, second, err := s.Frame(o.buf[:0], p.RTP, now)
	if err != nil {
		o.h.counts.tooLarge.Add(1)
		return
	}
	o.h.sendMedia(o.at.node, first)
	if second != nil {
		o.h.sendMedia(o.at.node, second)
	}
}

// repair answers a request of the other side.
func (o *outlet) repair(layer int, request []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.layers[layer]; s != nil {
		_ = s.Repair(request, func(b []byte) { // what makes no sense is asked for again, or given up
			o.h.counts.repaired.Add(1)
			o.h.sendMedia(o.at.node, b)
		})
	}
}

// tail tells how far the stream has come.
func (o *outlet) tail(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.layers {
		if s == nil {
			continue
		}
		if b := s.Tail(o.buf[:0], now); b != nil {
			o.h.cfg.Links.SendMedia(o.at.node, b)
			o.h.counts.tails.Add(1)
		}
	}
}

func (h *Host) sendMedia(to regions.NodeID, b []byte) {
	h.cfg.Links.SendMedia(to, b)
	h.counts.sent(len(b))
}

// inlet takes a track of another node.
type inlet struct {
	mu     sync.Mutex // guards the following
	layers [trackStep]*cascade.Receiver
	buf    []byte
}

// take takes a datagram of a layer.
func (r *remote) take(layer int, b []byte, now time.Time) {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	c := r.in.layers[layer]
	if c == nil {
		c = cascade.NewReceiver(cascade.ReceiverConfig{Stream: r.at.number + uint32(layer), MaxDatagram: maxDatagram})
		r.in.layers[layer] = c
	}
	packet, err := c.Media(b, now)
	if err != nil {
		r.l.h.counts.garbled.Add(1)
		return
	}
	if packet == nil {
		return
	}
	if !r.flowed {
		r.flowed = true
		r.l.do(func(time.Time) { r.l.m.Flowing(r.at.node, r.at.number) })
	}
	r.media.Write(media.Packet{Layer: layer, RTP: packet})
}

// ask asks for what is missing.
func (r *remote) ask(now time.Time, away time.Duration) {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for layer, c := range r.in.layers {
		if c == nil {
			continue
		}
		request, lost := c.Ask(r.in.buf[:0], now, away)
		if request != nil {
			r.in.buf = request
			r.l.h.counts.asked.Add(1)
			r.l.h.cfg.Links.SendMedia(r.at.node, request)
		}
		if lost > 0 {
			r.l.h.counts.lost.Add(uint64(lost))
			r.media.Lost(layer)
		}
	}
}

// HandleMedia takes a datagram of another node.
func (h *Host) HandleMedia(from regions.NodeID, b []byte) {
	stream, kind, err := cascade.Parse(b)
	if err != nil {
		h.counts.garbled.Add(1)
		return
	}
	at, layer := trackAt{from, stream - stream%trackStep}, int(stream%trackStep)
	h.counts.got(len(b))
	h.mu.RLock()
	r, o := h.remotes[at], h.outlets[at]
	h.mu.RUnlock()
	switch {
	case kind == cascade.KindRepair && o != nil:
		o.repair(layer, b)
	case kind == cascade.KindMedia && r != nil: // else it is wanted no more, or not yet
		r.take(layer, b, time.Now())
	}
}

// trunks tells that there are tracks between nodes again, perhaps.
func (h *Host) trunks() {
	select {
	case h.trunk <- struct{}{}:
	default:
	}
}

// mend has what is lost on the way between nodes asked for and sent again. While nothing
// is, it sleeps: most nodes have no call over regions at most times.
func (h *Host) mend(ctx context.Context) {
	t := time.NewTicker(repairEvery)
	defer t.Stop()
	var remotes []*remote
	var outlets []*outlet
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		remotes, outlets = remotes[:0], outlets[:0]
		h.mu.RLock()
		for _, r := range h.remotes {
			remotes = append(remotes, r)
		}
		for _, o := range h.outlets {
			outlets = append(outlets, o)
		}
		h.mu.RUnlock()
		if len(remotes)+len(outlets) == 0 {
			t.Stop()
			select {
			case <-ctx.Done():
				return
			case <-h.trunk:
			}
			t.Reset(repairEvery)
			continue
		}
		now := time.Now()
		for _, r := range remotes {
			r.ask(now, h.away(r.region))
		}
		for _, o := range outlets {
			o.tail(now)
		}
	}
}

// away is how far a region is, there and back.
func (h *Host) away(r regions.RegionID) time.Duration {
	if d, ok := h.far.Load(r); ok {
		return d.(time.Duration)
	}
	return roundTrip
}
