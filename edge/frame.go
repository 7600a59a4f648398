package edge

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/mustermesh/muster/api/wire"
)

// Frame is one server frame on its way to clients, or several that go together:
// encoded once, its bytes shared by every session that gets it. It must not be
// changed after it was handed on.
type Frame struct {
	lossy  bool
	head   uint8 // length of the WebSocket header
	prefix uint8 // length of the varint in front of the body
	bytes  []byte
	parts  []*Frame // of a bundle

	jsonOnce sync.Once
	json     []byte // a text message: header, line, newline
	jsonHead uint8
	jsonErr  error
}

// NewFrame encodes a frame that must arrive.
func NewFrame(f *wire.ServerFrame) *Frame {
	size := f.SizeVT()
	n := newFrame(size, false)
	at := len(n.bytes)
	n.bytes = n.bytes[:at+size]
	if _, err := f.MarshalToSizedBufferVT(n.bytes[at:]); err != nil {
		panic("edge: encode frame: " + err.Error()) // our own well-formed message
	}
	return n
}

// RawFrame wraps a body that was encoded elsewhere (by the room's owner). A
// lossy frame holds fixes, or a view of them: it may go by datagram, and is the first to be
// dropped when a reader is slow. A re other than 0 makes the frame the answer
// to that request: in protobuf, a field that is appended is set.
func RawFrame(body []byte, re uint64, lossy bool) *Frame {
	var tail []byte
	if re != 0 {
		tail = binary.AppendUvarint([]byte{1 << 3}, re)
	}
	f := newFrame(len(body)+len(tail), lossy)
	f.bytes = append(append(f.bytes, body...), tail...)
	return f
}

// Bundle makes one frame of several, in their order, that all must arrive or all
// are lossy: a connection writes them at once, as datagrams one by one.
func Bundle(parts []*Frame) *Frame {
	if len(parts) == 1 {
		return parts[0]
	}
	size := 0
	for _, p := range parts {
		size += len(p.Prefixed())
	}
	f := &Frame{lossy: parts[0].lossy, parts: parts, bytes: header(make([]byte, 0, maxHeader+size), binaryKind, size)}
	f.head = uint8(len(f.bytes))
	for _, p := range parts {
		f.bytes = append(f.bytes, p.Prefixed()...)
	}
	return f
}

const maxHeader = 10

// newFrame returns a frame that lacks its body of the given size.
func newFrame(size int, lossy bool) *Frame {
	var prefix [binary.MaxVarintLen32]byte
	n := binary.PutUvarint(prefix[:], uint64(size))
	f := &Frame{lossy: lossy, prefix: uint8(n)}
	f.bytes = header(make([]byte, 0, maxHeader+n+size), binaryKind, n+size)
	f.head = uint8(len(f.bytes))
	f.bytes = append(f.bytes, prefix[:n]...)
	return f
}

// Kinds of WebSocket messages (RFC 6455, section 5.2).
const textKind, binaryKind = 1, 2

// header appends that of an unfragmented WebSocket message of a server.
func header(b []byte, kind byte, size int) []byte {
	const final = 0x80
	b = append(b, final|kind)
	switch {
	case size < 126:
		return append(b, byte(size))
	case size <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(size))
}

// Parts returns the frames of a bundle, or the frame itself.
func (f *Frame) Parts() []*Frame {
	if f.parts == nil {
		return []*Frame{f}
	}
	return f.parts
}

// Lossy reports whether the frame holds fixes (or a view of them), which newer ones
// replace.
func (f *Frame) Lossy() bool { return f.lossy }

// Prefixed returns the frame as it goes on a stream or in a binary message.
func (f *Frame) Prefixed() []byte { return f.bytes[f.head:] }

// WebSocket returns the frame as a binary message of its own, header included.
func (f *Frame) WebSocket() []byte { return f.bytes }

// Body returns the frame as it goes in a datagram. A bundle has none.
func (f *Frame) Body() []byte { return f.bytes[int(f.head)+int(f.prefix):] }

// JSON returns the frame as a protojson object without a newline (a bundle: one
// on a line each), made at most once however many sessions want it. It fails on
// a body of another node that does not decode, or that JSON can't say (a string
// that is not UTF-8); a bundle leaves such a part out.
func (f *Frame) JSON() ([]byte, error) {
	f.jsonOnce.Do(f.makeJSON)
	if f.jsonErr != nil {
		return nil, f.jsonErr
	}
	return f.json[f.jsonHead : len(f.json)-1], nil
}

// WebSocketText is WebSocket for the JSON form: a text message, header and a newline
// included.
func (f *Frame) WebSocketText() ([]byte, error) {
	f.jsonOnce.Do(f.makeJSON)
	return f.json, f.jsonErr
}

func (f *Frame) makeJSON() {
	var line []byte
	if f.parts != nil {
		var lines [][]byte
		for _, p := range f.parts {
			if line, err := p.JSON(); err == nil {
				lines = append(lines, line)
			}
		}
		line = bytes.Join(lines, []byte{'\n'})
	} else {
		var m *wire.ServerFrame
		if m, f.jsonErr = wire.DecodeServer(f.Body()); f.jsonErr == nil {
			line, f.jsonErr = wire.EncodeJSON(m)
		}
	}
	if f.jsonErr != nil {
		return
	}
	f.json = header(make([]byte, 0, maxHeader+len(line)+1), textKind, len(line)+1)
	f.jsonHead = uint8(len(f.json))
	f.json = append(append(f.json, line...), '\n')
}
