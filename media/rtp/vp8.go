package rtp

import "encoding/binary"

// VP8 is a payload descriptor of VP8 (RFC 7741 section 4.2) and what of the frame's
// header is needed.
type VP8 struct {
	Start       bool // first packet of a frame
	Key         bool // and it is a key frame
	HasPicture  bool
	Long        bool   // the picture id has 15 bits, else 7
	Picture     uint16 // id
	HasTL0      bool
	TL0         uint8 // TL0PICIDX
	HasTemporal bool
	Temporal    uint8 // layer, 0 to 3
	Sync        bool  // depends on layer 0 only: one may go up to its layer here
	Size        int   // bytes of the descriptor
}

// Parse reads the descriptor at the beginning of a payload. ErrMalformed: it is cut off.
func (v *VP8) Parse(p []byte) error {
	*v = VP8{}
	if len(p) < 1 {
		return ErrMalformed
	}
	v.Start = p[0]&0x10 != 0 && p[0]&0x07 == 0 // S, and partition 0
	at := 1
	if p[0]&0x80 != 0 { // X
		if len(p) < 2 {
			return ErrMalformed
		}
		x := p[1]
		at = 2
		if x&0x80 != 0 { // I
			if len(p) <= at {
				return ErrMalformed
			}
			v.HasPicture = true
			v.Picture = uint16(p[at] & 0x7f)
			if p[at]&0x80 != 0 { // M
				if len(p) <= at+1 {
					return ErrMalformed
				}
				v.Long = true
				v.Picture = v.Picture<<8 | uint16(p[at+1])
				at++
			}
			at++
		}
		if x&0x40 != 0 { // L
			if len(p) <= at {
				return ErrMalformed
			}
			v.HasTL0, v.TL0 = true, p[at]
			at++
		}
		if x&0x30 != 0 { // T or K: TID, Y, KEYIDX
			if len(p) <= at {
				return ErrMalformed
			}
			if x&0x20 != 0 {
				v.HasTemporal, v.Temporal, v.Sync = true, p[at]>>6, p[at]&0x20 != 0
			}
			at++
		}
	}
	v.Size = at
	// The frame's header (section 4.3): its lowest bit is 0 for a key frame.
	v.Key = v.Start && len(p) > at && p[at]&1 == 0
	return nil
}

// set writes the picture id and TL0PICIDX into the descriptor that was parsed.
func (v *VP8) set(p []byte, picture uint16, tl0 uint8) {
	at := 2
	if v.HasPicture {
		if v.Long {
			binary.BigEndian.PutUint16(p[at:], picture|0x8000)
			at++
		} else {
			p[at] = uint8(picture & 0x7f)
		}
		at++
	}
	if v.HasTL0 {
		p[at] = tl0
	}
}
