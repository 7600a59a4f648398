package rtp

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is what every decoder of this package says of input that is not what
// it should be.
var ErrMalformed = errors.New("rtp: malformed")

const (
	fixedHeader = 12
	oneByte     = 0xBEDE // profile of the one-byte form of extensions (RFC 8285 section 4.2)
	twoByte     = 0x1000 // of the two-byte form, the lowest four bits apart (section 4.3)

	// MaxPacket is the longest RTP packet that is handled, in bytes.
	MaxPacket = 1500
)

// Header is the header of an RTP packet (RFC 3550 section 5.1). It holds no reference
// to the packet: what needs its bytes takes them.
type Header struct {
	Marker      bool
	PayloadType uint8 // 0 to 127
	Sequence    uint16
	Timestamp   uint32
	SSRC        uint32
	CSRCs       int // contributing sources; see CSRC
	Size        int // bytes of the header: the payload begins here
	Padding     int // bytes at the end of the packet that are no payload

	profile  uint16 // of the extensions; 0: none
	from, to int    // the extensions' elements within the packet
}

// Parse reads the header of a packet. It fails with ErrMalformed if the packet is cut
// off, of another version, or says that it is longer than it is. Elements of
// extensions are looked at by Extension only.
func (h *Header) Parse(b []byte) error {
	if len(b) < fixedHeader || b[0]>>6 != 2 {
		return ErrMalformed
	}
	*h = Header{
		Marker:      b[1]&0x80 != 0,
		PayloadType: b[1] & 0x7f,
		Sequence:    binary.BigEndian.Uint16(b[2:]),
		Timestamp:   binary.BigEndian.Uint32(b[4:]),
		SSRC:        binary.BigEndian.Uint32(b[8:]),
		CSRCs:       int(b[0] & 0x0f),
	}
	h.Size = fixedHeader + 4*h.CSRCs
	if len(b) < h.Size {
		return ErrMalformed
	}
	if b[0]&0x10 != 0 {
		if len(b) < h.Size+4 {
			return ErrMalformed
		}
		h.profile = binary.BigEndian.Uint16(b[h.Size:])
		h.from = h.Size + 4
		h.to = h.from + 4*int(binary.BigEndian.Uint16(b[h.Size+2:]))
		if len(b) < h.to {
			return ErrMalformed
		}
		h.Size = h.to
	}
	if b[0]&0x20 != 0 {
		if len(b) == h.Size {
			return ErrMalformed
		}
		h.Padding = int(b[len(b)-1])
		if h.Padding == 0 || h.Padding > len(b)-h.Size {
			return ErrMalformed
		}
	}
	return nil
}

// Payload is what is neither header nor padding. b is the packet that was parsed.
func (h *Header) Payload(b []byte) []byte { return b[h.Size : len(b)-h.Padding] }

// CSRC is the i-th contributing source, i < CSRCs.
func (h *Header) CSRC(b []byte, i int) uint32 {
	return binary.BigEndian.Uint32(b[fixedHeader+4*i:])
}

// Extension is the content of the header extension with this id (RFC 8285), within b;
// nil if there is none. One of the two-byte form may be empty.
func (h *Header) Extension(b []byte, id uint8) []byte {
	for at := h.from; ; {
		e := h.element(b, at)
		if e.next == 0 {
			return nil
		}
		if e.id == id {
			return b[e.from:e.next:e.next]
		}
		at = e.next
	}
}

// SetExtension overwrites the content of a header extension in place. It reports
// whether there is one with this id and exactly this length.
func (h *Header) SetExtension(b []byte, id uint8, data []byte) bool {
	e := h.Extension(b, id)
	return e != nil && len(e) == len(data) && copy(e, data) == len(data)
}

// ExtensionIDs says which id each extension gets: 0 takes it away. Connections number
// the same extensions differently.
type ExtensionIDs [256]uint8

// MapExtensions changes the ids of all extensions in place. What is mapped to 0, or to
// more than 14 in the one-byte form, becomes padding: the size stays.
func (h *Header) MapExtensions(b []byte, ids *ExtensionIDs) {
	for at := h.from; ; {
		e := h.element(b, at)
		if e.next == 0 {
			return
		}
		to := ids[e.id]
		switch {
		case to == 0, h.profile == oneByte && to > 14:
			clear(b[e.at:e.next])
		case h.profile == oneByte:
			b[e.at] = to<<4 | b[e.at]&0x0f
		default:
			b[e.at] = to
		}
		at = e.next
	}
}

// element is one element of extensions: its head at `at`, its content from `from` to
// `next`. next 0: there is none any more.
type element struct {
	id             uint8
	at, from, next int
}

// element returns the first one from a place on.
func (h *Header) element(b []byte, at int) (e element) {
	one := h.profile == oneByte
	if !one && h.profile&0xfff0 != twoByte {
		return element{}
	}
	for at < h.to && b[at] == 0 { // padding; in the one-byte form only the whole byte 0 is
		at++
	}
	if at >= h.to {
		return element{}
	}
	e.at = at
	if one {
		e.id = b[at] >> 4
		e.from = at + 1
		e.next = e.from + int(b[at]&0x0f) + 1
		if e.id == 15 { // reserved: nothing after it is looked at
			return element{}
		}
	} else {
		if at+1 >= h.to {
			return element{}
		}
		e.id = b[at]
		e.from = at + 2
		e.next = e.from + int(b[at+1])
	}
	if e.next > h.to {
		return element{}
	}
	return e
}

// SetMarker sets the marker bit of a packet that was parsed, in place.
func SetMarker(b []byte, m bool) {
	b[1] &= 0x7f
	if m {
		b[1] |= 0x80
	}
}

// SetPayloadType sets the payload type, in place.
func SetPayloadType(b []byte, pt uint8) { b[1] = b[1]&0x80 | pt&0x7f }

// SetSequence sets the sequence number, in place.
func SetSequence(b []byte, n uint16) { binary.BigEndian.PutUint16(b[2:], n) }

// SetTimestamp sets the timestamp, in place.
func SetTimestamp(b []byte, t uint32) { binary.BigEndian.PutUint32(b[4:], t) }

// SetSSRC sets the source, in place.
func SetSSRC(b []byte, ssrc uint32) { binary.BigEndian.PutUint32(b[8:], ssrc) }

// Extension is a header extension to be written.
type Extension struct {
	ID   uint8 // 1 to 255, 15 apart
	Data []byte
}

// Append appends a packet with this header's marker, payload type, sequence number,
// timestamp and source, these extensions and this payload; without contributing
// sources and padding. Extensions are written in the one-byte form if all fit it (ids
// to 14, 1 to 16 bytes), else in the two-byte form; one with id 0 or of more than 255
// bytes is left out. payload must not be in what is appended to.
func (h *Header) Append(dst []byte, extensions []Extension, payload []byte) []byte {
	one, size := true, 0
	for _, e := range extensions {
		if e.ID == 0 || len(e.Data) > 255 {
			continue
		}
		size += 2 + len(e.Data)
		if e.ID > 14 || len(e.Data) == 0 || len(e.Data) > 16 {
			one = false
		}
	}
	first := byte(2 << 6)
	if size > 0 {
		first |= 0x10
	}
	dst = append(dst, first, h.PayloadType&0x7f)
	SetMarker(dst[len(dst)-2:], h.Marker)
	dst = binary.BigEndian.AppendUint16(dst, h.Sequence)
	dst = binary.BigEndian.AppendUint32(dst, h.Timestamp)
	dst = binary.BigEndian.AppendUint32(dst, h.SSRC)
	if size > 0 {
		profile := uint16(twoByte)
		if one {
			profile = oneByte
		}
		dst = binary.BigEndian.AppendUint16(dst, profile)
		dst = append(dst, 0, 0)
		from := len(dst)
		for _, e := range extensions {
			switch {
			case e.ID == 0 || len(e.Data) > 255:
				continue
			case one:
				dst = append(dst, e.ID<<4|uint8(len(e.Data)-1))
			default:
				dst = append(dst, e.ID, uint8(len(e.Data)))
			}
			dst = append(dst, e.Data...)
		}
		for (len(dst)-from)%4 != 0 {
			dst = append(dst, 0)
		}
		binary.BigEndian.PutUint16(dst[from-2:], uint16((len(dst)-from)/4))
	}
	return append(dst, payload...)
}

// AppendPadding appends a packet of padding only: one that takes a number, and that
// receivers take as nothing lost. size is 1 to 255 bytes.
func (h *Header) AppendPadding(dst []byte, size int) []byte {
	at := len(dst)
	dst = h.Append(dst, nil, nil)
	dst[at] |= 0x20
	size = min(max(size, 1), 255)
	for range size - 1 {
		dst = append(dst, 0)
	}
	return append(dst, uint8(size))
}
