package rtp

// Codec is what is known about a payload.
type Codec uint8

// The codecs whose frames are understood. Of Other each packet is a frame of its own
// that needs none before it: sound.
const (
	CodecOther Codec = iota
	CodecVP8
	CodecVP9
	CodecH264
)

// VP9 is a payload descriptor of VP9 (RFC 9628 section 4.2).
type VP9 struct {
	Start      bool // first packet of a frame
	End        bool // last packet of a frame
	Key        bool // belongs to a key frame: predicted from nothing, lowest spatial layer
	HasPicture bool
	Picture    uint16 // id
	HasLayers  bool
	Temporal   uint8 // layer, 0 to 7
	Spatial    uint8 // layer, 0 to 7
	SwitchUp   bool  // one may go up to this temporal layer here
	Size       int   // bytes of the descriptor, its scalability structure included
}

// Parse reads the descriptor at the beginning of a payload. ErrMalformed: it is cut off.
func (v *VP9) Parse(p []byte) error {
	*v = VP9{}
	if len(p) < 1 {
		return ErrMalformed
	}
	var (
		predicted = p[0]&0x40 != 0 // P
		flexible  = p[0]&0x10 != 0 // F
		at        = 1
	)
	v.Start, v.End = p[0]&0x08 != 0, p[0]&0x04 != 0 // B, E
	if p[0]&0x80 != 0 {                             // I
		if len(p) <= at {
			return ErrMalformed
		}
		v.HasPicture = true
		v.Picture = uint16(p[at] & 0x7f)
		if p[at]&0x80 != 0 { // M
			if len(p) <= at+1 {
				return ErrMalformed
			}
			v.Picture = v.Picture<<8 | uint16(p[at+1])
			at++
		}
		at++
	}
	if p[0]&0x20 != 0 { // L
		if len(p) <= at {
			return ErrMalformed
		}
		v.HasLayers = true
		v.Temporal, v.SwitchUp, v.Spatial = p[at]>>5, p[at]&0x10 != 0, p[at]>>1&0x07
		at++
		if !flexible { // TL0PICIDX
			at++
		}
	}
	if flexible && predicted { // up to three P_DIFF, while the lowest bit is set
		for i := 0; ; i++ {
			if i == 3 || len(p) <= at {
				return ErrMalformed
			}
			at++
			if p[at-1]&1 == 0 {
				break
			}
		}
	}
	if p[0]&0x02 != 0 { // V: scalability structure
		size := vp9Structure(p, at)
		if size == 0 {
			return ErrMalformed
		}
		at += size
	}
	if len(p) < at {
		return ErrMalformed
	}
	v.Size = at
	v.Key = !predicted && v.Spatial == 0
	return nil
}

// vp9Structure is the size of the scalability structure at a place; 0: it is cut off.
func vp9Structure(p []byte, from int) int {
	if len(p) <= from {
		return 0
	}
	head, at := p[from], from+1
	if head&0x10 != 0 { // Y: width and height of each spatial layer
		at += 4 * (int(head>>5) + 1)
	}
	if head&0x08 != 0 { // G: pictures of a group
		if len(p) <= at {
			return 0
		}
		n := int(p[at])
		at++
		for range n {
			if len(p) <= at {
				return 0
			}
			at += 1 + int(p[at]>>2&0x03) // one P_DIFF per reference
		}
	}
	if len(p) < at {
		return 0
	}
	return at - from
}

// H264 is what a payload of H.264 has in it (RFC 6184), of single NAL units, STAP-A
// and FU-A.
type H264 struct {
	SPS bool // a sequence parameter set: with it a decoder can begin
	IDR bool // (the beginning of) an IDR slice
}

const (
	nalIDR   = 5
	nalSPS   = 7
	nalSTAPA = 24
	nalFUA   = 28
)

// Parse looks at a payload. ErrMalformed: it is cut off.
func (v *H264) Parse(p []byte) error {
	*v = H264{}
	if len(p) < 1 {
		return ErrMalformed
	}
	switch t := p[0] & 0x1f; t {
	case nalSTAPA:
		for p = p[1:]; len(p) > 0; {
			if len(p) < 3 {
				return ErrMalformed
			}
			n := int(p[0])<<8 | int(p[1])
			if n == 0 || n > len(p)-2 {
				return ErrMalformed
			}
			v.unit(p[2] & 0x1f)
			p = p[2+n:]
		}
	case nalFUA:
		if len(p) < 2 {
			return ErrMalformed
		}
		if p[1]&0x80 != 0 { // S
			v.unit(p[1] & 0x1f)
		}
	default:
		v.unit(t)
	}
	return nil
}

func (v *H264) unit(t byte) {
	v.SPS = v.SPS || t == nalSPS
	v.IDR = v.IDR || t == nalIDR
}
