package rtp

import "time"

// AudioLevel reads the content of an audio level extension (RFC 6464): the level in
// -dBov, 0 the loudest and 127 silence, and whether the sender takes it for speech
// (false as well when it doesn't say).
func AudioLevel(ext []byte) (level uint8, voice, ok bool) {
	if len(ext) < 1 {
		return 127, false, false
	}
	return ext[0] & 0x7f, ext[0]&0x80 != 0, true
}

// OpusDTX reports whether a payload of Opus has no sound in it: the encoder was silent
// (RFC 6716 section 2.1.9). Forward error correction needs nothing of a server: it is in
// the packet after.
func OpusDTX(payload []byte) bool { return len(payload) <= 2 }

// OpusDuration is how much sound is in a payload of Opus, by its first bytes (RFC 6716
// section 3.1); 0: malformed, or more than the 120 ms that a packet may have.
func OpusDuration(payload []byte) time.Duration {
	if len(payload) < 1 {
		return 0
	}
	var frame time.Duration // of 100 µs
	switch config := payload[0] >> 3; {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		frame = [4]time.Duration{100, 200, 400, 600}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		frame = [2]time.Duration{100, 200}[config&1]
	default: // CELT: 2.5, 5, 10, 20 ms
		frame = [4]time.Duration{25, 50, 100, 200}[config&3]
	}
	frames := time.Duration(1)
	switch payload[0] & 3 {
	case 1, 2:
		frames = 2
	case 3:
		if len(payload) < 2 {
			return 0
		}
		frames = time.Duration(payload[1] & 0x3f)
	}
	if d := frame * frames * 100 * time.Microsecond; d <= 120*time.Millisecond {
		return d
	}
	return 0
}

// RED is one block of a payload of redundant audio (RFC 2198).
type RED struct {
	PayloadType uint8
	Offset      uint16 // timestamp units that the block is older than the packet
	Data        []byte // within the payload
}

// ParseRED appends the blocks of a payload to dst: the redundant ones, the oldest first,
// and the primary one, which is the last. ErrMalformed: it is cut off.
func ParseRED(dst []RED, payload []byte) ([]RED, error) {
	from := len(dst)
	heads := payload
	for {
		if len(heads) < 1 {
			return dst[:from], ErrMalformed
		}
		if heads[0]&0x80 == 0 { // the primary one's head is the last, of one byte
			break
		}
		if len(heads) < 4 {
			return dst[:from], ErrMalformed
		}
		heads = heads[4:]
	}
	data := heads[1:]
	for h := payload; h[0]&0x80 != 0; h = h[4:] {
		n := int(h[2]&0x03)<<8 | int(h[3])
		if n > len(data) {
			return dst[:from], ErrMalformed
		}
		dst = append(dst, RED{h[0] & 0x7f, uint16(h[1])<<6 | uint16(h[2])>>2, data[:n:n]})
		data = data[n:]
	}
	return append(dst, RED{PayloadType: heads[0] & 0x7f, Data: data}), nil
}

// PrimaryRED is the primary block of a payload of redundant audio alone, for receivers
// that don't understand the rest.
func PrimaryRED(payload []byte) (RED, error) {
	skip, h := 0, payload
	for len(h) > 0 && h[0]&0x80 != 0 {
		if len(h) < 4 {
			return RED{}, ErrMalformed
		}
		skip += int(h[2]&0x03)<<8 | int(h[3])
		h = h[4:]
	}
	if len(h) < 1 || len(h)-1 < skip {
		return RED{}, ErrMalformed
	}
	return RED{PayloadType: h[0] & 0x7f, Data: h[1+skip:]}, nil
}
