package sfu

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/mustermesh/muster/media/sdp"
)

// packet is an RTP packet in the SFU's own form, on its way to subscriptions. Payload
// is valid during the call only.
type packet struct {
	layer   int
	seq     uint16
	ts      uint32
	marker  bool
	level   uint8 // audio level as in RFC 6464, with its voice bit; noLevel: none
	key     bool  // begins a picture that needs no other
	payload []byte
	vp8     vp8
	at      time.Duration
}

const noLevel = 0xff

// Sizes of the headers that are written.
const (
	fixed     = 12
	levelExt  = 4 + 4 // with the audio level alone: the form among SFUs
	outAudio  = 4 + 8 // audio level and transport-wide number
	outVideo  = 4 + 4 // transport-wide number
	maxHeader = fixed + outAudio
)

// rawHeader is what is read of a packet of a client.
type rawHeader struct {
	pt      uint8
	marker  bool
	seq     uint16
	ts      uint32
	ssrc    uint32
	ext     []byte // one-byte elements (RFC 8285); nil: none
	payload []byte
}

// parse reads a header (RFC 3550 section 5.1). ok is false for what is none.
func parse(b []byte) (h rawHeader, ok bool) {
	if len(b) < fixed || b[0]>>6 != 2 {
		return h, false
	}
	n := fixed + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		if len(b) < n+4 {
			return h, false
		}
		l := 4 * int(binary.BigEndian.Uint16(b[n+2:]))
		if len(b) < n+4+l {
			return h, false
		}
		if binary.BigEndian.Uint16(b[n:]) == 0xBEDE {
			h.ext = b[n+4 : n+4+l]
		}
		n += 4 + l
	}
	if len(b) < n {
		return h, false
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		if end == n || int(b[end-1]) > end-n || b[end-1] == 0 {
			return h, false
		}
		end -= int(b[end-1])
	}
	h.marker, h.pt = b[1]&0x80 != 0, b[1]&0x7f
	h.seq, h.ts, h.ssrc = binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	h.payload = b[n:end]
	return h, true
}

// element finds one of the header extensions; nil: it is not there.
func (h *rawHeader) element(id uint8) []byte {
	for e := h.ext; len(e) > 0 && id != 0; {
		switch {
		case e[0] == 0:
			e = e[1:]
			continue
		case e[0]>>4 == 15:
			return nil
		}
		l := int(e[0]&15) + 1
		if len(e) < 1+l {
			return nil
		}
		if e[0]>>4 == id {
			return e[1 : 1+l]
		}
		e = e[1+l:]
	}
	return nil
}

// shared writes the header that a packet has among SFUs so that it ends where the
// payload begins, at room[at:], and returns the whole: at is at least fixed+levelExt.
func (p *packet) shared(room []byte, at int, pt uint8) []byte {
	n := fixed
	if p.level != noLevel {
		n += levelExt
	}
	b := room[at-n:]
	p.head(b, pt, 0, p.seq, p.ts)
	if p.level != noLevel {
		b[0] |= 0x10
		copy(b[fixed:], []byte{0xBE, 0xDE, 0, 1, sdp.ExtLevel << 4, p.level, 0, 0})
	}
	return b
}

func (p *packet) head(b []byte, pt uint8, ssrc uint32, seq uint16, ts uint32) {
	b[0], b[1] = 0x80, pt
	if p.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], ts)
	binary.BigEndian.PutUint32(b[8:], ssrc)
}

// outgoing writes the header for a receiver and returns its length and where the
// transport-wide number goes.
func (p *packet) outgoing(b []byte, pt uint8, ssrc uint32, seq uint16, ts uint32) (n, number int) {
	p.head(b, pt, ssrc, seq, ts)
	b[0] |= 0x10
	const id = sdp.ExtTransportSeq<<4 | 1
	if p.level == noLevel {
		_ = b[fixed+7]
		b[12], b[13], b[14], b[15] = 0xBE, 0xDE, 0, 1
		b[16], b[19] = id, 0
		return fixed + outVideo, fixed + 5
	}
	_ = b[fixed+11]
	b[12], b[13], b[14], b[15] = 0xBE, 0xDE, 0, 2
	b[16], b[17], b[18] = sdp.ExtLevel<<4, p.level, id
	b[21], b[22], b[23] = 0, 0, 0
	return fixed + outAudio, fixed + 7
}

// format is how payloads of a track are looked into. Only descriptors are read, never
// what a participant may have encrypted.
type format uint8

const (
	formatOther format = iota
	formatVP8
	formatH264
	formatVP9
)

func formatOf(mime string) format {
	switch strings.ToLower(mime) {
	case "video/vp8":
		return formatVP8
	case "video/h264":
		return formatH264
	case "video/vp9":
		return formatVP9
	}
	return formatOther
}

// describe reads what the payload's descriptor says.
func (p *packet) describe(f format) {
	switch f {
	case formatVP8:
		p.vp8 = parseVP8(p.payload)
		p.key = p.vp8.key
	case formatH264:
		p.key = keyH264(p.payload)
	case formatVP9:
		// RFC 9628 section 4.2: no inter-picture prediction, beginning of a frame, lowest
		// spatial layer.
		if len(p.payload) > 1 && p.payload[0]&0x48 == 0x08 {
			p.key = true
			if p.payload[0]&0x20 != 0 { // layer indices follow the picture id
				at := 1
				if p.payload[0]&0x80 != 0 {
					at++
					if p.payload[1]&0x80 != 0 {
						at++
					}
				}
				p.key = len(p.payload) > at && p.payload[at]>>1&7 == 0
			}
		}
	}
}

// keyH264 reports whether a payload holds a parameter set or the beginning of an IDR
// picture (RFC 6184).
func keyH264(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	switch t := b[0] & 31; t {
	case 24: // STAP-A
		for b = b[1:]; len(b) > 2; {
			n := int(binary.BigEndian.Uint16(b))
			if b[2]&31 == 7 || b[2]&31 == 5 {
				return true
			}
			if n == 0 || len(b) < 2+n {
				return false
			}
			b = b[2+n:]
		}
		return false
	case 28: // FU-A
		return b[1]&0x80 != 0 && b[1]&31 == 5
	default:
		return t == 7 || t == 5
	}
}

// vp8 is the payload descriptor of RFC 7741 section 4.2: where its numbers are, which
// have to go on without a gap when the layer changes.
type vp8 struct {
	key       bool
	pictureAt uint8 // 0: there is none
	long      bool  // of 15 bits
	tl0At     uint8
	picture   uint16
	tl0       uint8
	height    uint16 // of a key frame that is not encrypted; 0: unknown
}

func parseVP8(b []byte) (v vp8) {
	if len(b) < 2 {
		return v
	}
	start := b[0]&0x10 != 0 && b[0]&7 == 0
	at := 1
	if b[0]&0x80 != 0 {
		x := b[1]
		at = 2
		if x&0x80 != 0 {
			if len(b) < at+2 {
				return v
			}
			v.pictureAt = uint8(at)
			if b[at]&0x80 != 0 {
				v.long, v.picture = true, binary.BigEndian.Uint16(b[at:])&0x7fff
				at += 2
			} else {
				v.picture = uint16(b[at])
				at++
			}
		}
		if x&0x40 != 0 {
			if len(b) <= at {
				return vp8{}
			}
			v.tl0At, v.tl0 = uint8(at), b[at]
			at++
		}
		if x&0x30 != 0 {
			at++
		}
	}
	// The first bit of the frame header says whether others are needed (RFC 6386 section
	// 9.1). Senders that encrypt leave it as it is.
	v.key = start && len(b) > at && b[at]&1 == 0
	if v.key && len(b) >= at+10 && b[at+3] == 0x9d && b[at+4] == 0x01 && b[at+5] == 0x2a {
		v.height = binary.LittleEndian.Uint16(b[at+8:]) & 0x3fff
	}
	return v
}

// munge writes other numbers into a descriptor.
func (v *vp8) munge(payload []byte, picture uint16, tl0 uint8) {
	if v.pictureAt != 0 {
		if v.long {
			binary.BigEndian.PutUint16(payload[v.pictureAt:], picture&0x7fff|0x8000)
		} else {
			payload[v.pictureAt] = uint8(picture & 0x7f)
		}
	}
	if v.tl0At != 0 {
		payload[v.tl0At] = tl0
	}
}

// cache keeps the last packets of a layer, in their shared form, for repeats.
type cache struct {
	slots []slot
}

type slot struct {
	seq  uint16
	used bool
	b    []byte
}

const (
	cacheVideo = 1_024 // packets; memory comes as it is used
	cacheAudio = 64
)

func (c *cache) put(seq uint16, b []byte) {
	s := &c.slots[int(seq)%len(c.slots)]
	if cap(s.b) < len(b) {
		s.b = make([]byte, 0, (len(b)+255)&^255)
	}
	s.seq, s.used, s.b = seq, true, append(s.b[:0], b...)
}

// get returns nil for what is not there any more.
func (c *cache) get(seq uint16) []byte {
	if len(c.slots) == 0 {
		return nil
	}
	s := &c.slots[int(seq)%len(c.slots)]
	if !s.used || s.seq != seq {
		return nil
	}
	return s.b
}
