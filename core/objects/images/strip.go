package images

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Strip returns an image file with what its pixels need, in the right colours and the
// right way up, and nothing else: no EXIF but the orientation, no XMP, IPTC, comments
// or thumbnails, and nothing after its end. The pixels are not encoded anew. What is
// not built as its format says is ErrNoImage.
func Strip(data []byte, format string) (out []byte, err error) {
	switch format {
	case "jpeg":
		out, err = stripJPEG(data)
	case "png":
		out, err = stripPNG(data)
	case "gif":
		out, err = stripGIF(data)
	case "webp":
		out, err = stripWebP(data)
	default:
		err = ErrNoImage
	}
	return out, err
}

// stripJPEG keeps of the segments (ITU-T T.81, annex B) those of JFIF, of the colour
// profile and of Adobe's colour transform, and all that are no applications'.
func stripJPEG(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0xff, 0xd8}) {
		return nil, ErrNoImage
	}
	out := append(make([]byte, 0, len(data)), data[:2]...)
	if o := orientation(data); o > 1 {
		out = append(out, 0xff, 0xe1, 0, 34)
		out = append(out, exifHeader+"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00"...)
		out = append(out, byte(o), 0, 0, 0, 0, 0, 0)
	}
	for at := 2; at+1 < len(data); {
		if data[at] != 0xff {
			return nil, ErrNoImage
		}
		marker := data[at+1]
		switch {
		case marker == 0xff: // a byte of padding
			at++
			continue
		case marker == 0xd9: // the end
			return append(out, 0xff, 0xd9), nil
		case marker == 0x01 || marker >= 0xd0 && marker <= 0xd7: // these have no length
			out = append(out, 0xff, marker)
			at += 2
			continue
		case marker == 0x00 || at+4 > len(data):
			return nil, ErrNoImage
		}
		end := at + 2 + int(binary.BigEndian.Uint16(data[at+2:]))
		if end < at+4 || end > len(data) {
			return nil, ErrNoImage
		}
		body := data[at+4 : end]
		keep := true
		switch {
		case marker == 0xe0:
			keep = bytes.HasPrefix(body, []byte("JFIF\x00")) && len(body) >= 14
			if keep { // without its thumbnail
				out = append(out, 0xff, 0xe0, 0, 16)
				out = append(append(out, body[:12]...), 0, 0)
				keep = false
			}
		case marker == 0xe2:
			keep = bytes.HasPrefix(body, []byte("ICC_PROFILE\x00"))
		case marker == 0xee:
			keep = bytes.HasPrefix(body, []byte("Adobe"))
		case marker >= 0xe0 && marker <= 0xef, marker == 0xfe:
			keep = false
		}
		if keep {
			out = append(out, data[at:end]...)
		}
		at = end
		if marker != 0xda {
			continue
		}
		// A scan goes on to the next marker that is none of its own.
		for at+1 < len(data) && (data[at] != 0xff || data[at+1] == 0 || data[at+1] >= 0xd0 && data[at+1] <= 0xd7) {
			at++
		}
		if at+1 >= len(data) { // a camera that was switched off: decoders show what there is
			return append(append(out, bytes.TrimRight(data[end:], "\xff")...), 0xff, 0xd9), nil
		}
		out = append(out, data[end:at]...)
	}
	return nil, ErrNoImage
}

// pngKept are the chunks that pixels need (PNG, third edition, section 11), with
// those of animations.
var pngKept = []string{"IHDR", "PLTE", "IDAT", "IEND", "tRNS", "gAMA", "cHRM", "sRGB", "iCCP", "cICP", "sBIT", "pHYs", "acTL", "fcTL", "fdAT"}

const pngHeader = "\x89PNG\r\n\x1a\n"

func stripPNG(data []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(data, []byte(pngHeader))
	if !ok {
		return nil, ErrNoImage
	}
	out := append(make([]byte, 0, len(data)), pngHeader...)
	for len(rest) >= 12 {
		size := int64(binary.BigEndian.Uint32(rest)) + 12
		if size > int64(len(rest)) {
			return nil, ErrNoImage
		}
		kind := string(rest[4:8])
		if slices.Contains(pngKept, kind) {
			out = append(out, rest[:size]...)
		}
		if kind == "IEND" {
			return out, nil
		}
		rest = rest[size:]
	}
	return nil, ErrNoImage
}

// stripWebP keeps the chunks of pixels (RFC 9649, section 2).
func stripWebP(data []byte) ([]byte, error) {
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WEBP" {
		return nil, ErrNoImage
	}
	end := int64(binary.LittleEndian.Uint32(data[4:])) + 8
	if end < 12 || end > int64(len(data)) {
		return nil, ErrNoImage
	}
	out := append(make([]byte, 0, end), data[:12]...)
	for rest := data[12:end]; len(rest) > 0; {
		if len(rest) < 8 {
			return nil, ErrNoImage
		}
		size := int64(binary.LittleEndian.Uint32(rest[4:])) + 8
		if size += size & 1; size > int64(len(rest)) {
			return nil, ErrNoImage
		}
		switch string(rest[:4]) {
		case "VP8X":
			if size < 18 {
				return nil, ErrNoImage
			}
			at := len(out)
			out = append(out, rest[:size]...)
			out[at+8] &^= 0x08 | 0x04 // it has neither EXIF nor XMP
		case "VP8 ", "VP8L", "ALPH", "ANIM", "ANMF", "ICCP":
			out = append(out, rest[:size]...)
		}
		rest = rest[size:]
	}
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out, nil
}

// stripGIF keeps the blocks of pixels, and of the extensions those for how they are
// shown and how often (GIF89a, sections 18 to 27).
func stripGIF(data []byte) ([]byte, error) {
	if len(data) < 13 || !bytes.HasPrefix(data, []byte("GIF8")) {
		return nil, ErrNoImage
	}
	table := func(flags byte) int {
		if flags&0x80 == 0 {
			return 0
		}
		return 3 << (flags&7 + 1)
	}
	// blocks is the end of the sub-blocks that begin there.
	blocks := func(at int) int {
		for at < len(data) {
			n := int(data[at])
			if at += 1 + n; n == 0 {
				return at
			}
		}
		return len(data) + 1
	}
	at := 13 + table(data[10])
	if at > len(data) {
		return nil, ErrNoImage
	}
	out := append(make([]byte, 0, len(data)), data[:at]...)
	for at < len(data) {
		end, keep := 0, true
		switch data[at] {
		case 0x3b:
			return append(out, 0x3b), nil
		case 0x2c:
			if at+10 >= len(data) {
				return nil, ErrNoImage
			}
			end = blocks(at + 10 + table(data[at+9]) + 1)
		case 0x21:
			if at+2 >= len(data) {
				return nil, ErrNoImage
			}
			end = blocks(at + 2)
			keep = data[at+1] == 0xf9 || data[at+1] == 0xff && bytes.HasPrefix(data[at+2:], []byte("\x0bNETSCAPE2.0"))
		}
		if end == 0 || end > len(data) {
			return nil, ErrNoImage
		}
		if keep {
			out = append(out, data[at:end]...)
		}
		at = end
	}
	return append(out, 0x3b), nil // browsers show one without an end
}
