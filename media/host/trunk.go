package host

import (
	"encoding/binary"
	"time"

	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// A datagram of media holds one packet: number of the track, layer, RTP.
const mediaHead = 4 + 1

// outlet sends a track to another node.
type outlet struct {
	h      *Host
	to     regions.NodeID
	number uint32
	buf    []byte
}

func newOutlet(h *Host, to regions.NodeID, number uint32) *outlet {
	return &outlet{h: h, to: to, number: number, buf: make([]byte, 0, 1500)}
}

// send is called by the SFU for each packet, by one goroutine at a time.
func (o *outlet) send(p media.Packet) {
	b := binary.BigEndian.AppendUint32(o.buf[:0], o.number)
	b = append(b, byte(p.Layer))
	o.buf = append(b, p.RTP...)
	o.h.cfg.Links.SendMedia(o.to, o.buf)
	o.h.counts.sent(len(o.buf))
}

// inlet takes a track of another node.
type inlet struct{}

func newInlet(*Host, trackAt) *inlet { return &inlet{} }

// HandleMedia takes a datagram of another node.
func (h *Host) HandleMedia(from regions.NodeID, b []byte) {
	if len(b) < mediaHead {
		return
	}
	h.mu.RLock()
	r := h.remotes[trackAt{from, binary.BigEndian.Uint32(b)}]
	h.mu.RUnlock()
	if r == nil {
		return // it is wanted no more, or not yet
	}
	h.counts.got(len(b))
	if !r.flowed.Swap(true) {
		r.l.do(func(time.Time) { r.l.m.Flowing(r.at.node, r.at.number) })
	}
	r.media.Write(media.Packet{Layer: int(b[4]), RTP: b[mediaHead:]})
}
