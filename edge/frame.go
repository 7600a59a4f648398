package edge

import (
	"encoding/binary"
	"sync"

	"github.com/mustermesh/muster/api/wire"
)

// Frame is one server frame on its way to clients: encoded once, its bytes
// shared by every session that gets it. It must not be changed after it was
// handed on.
type Frame struct {
	lossy  bool
	prefix int // length of the varint in front of the body
	bytes  []byte

	jsonOnce sync.Once
	json     []byte
	jsonErr  error
}

// NewFrame encodes a frame that must arrive.
func NewFrame(f *wire.ServerFrame) *Frame {
	size := f.SizeVT()
	b := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen32+size), uint64(size))
	n := len(b)
	b = b[:n+size]
	if _, err := f.MarshalToSizedBufferVT(b[n:]); err != nil {
		panic("edge: encode frame: " + err.Error()) // our own well-formed message
	}
	return &Frame{prefix: n, bytes: b}
}

// RawFrame wraps a body that was encoded elsewhere (by the room's owner). A
// lossy frame holds fixes: it may go by datagram, and is the first to be
// dropped when a reader is slow. A re other than 0 makes the frame the answer
// to that request: in protobuf, a field that is appended is set.
func RawFrame(body []byte, re uint64, lossy bool) *Frame {
	size := len(body)
	var tail []byte
	if re != 0 {
		tail = binary.AppendUvarint([]byte{1 << 3}, re)
		size += len(tail)
	}
	b := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen32+size), uint64(size))
	n := len(b)
	b = append(append(b, body...), tail...)
	return &Frame{lossy: lossy, prefix: n, bytes: b}
}

// Lossy reports whether the frame holds fixes, which newer ones replace.
func (f *Frame) Lossy() bool { return f.lossy }

// Prefixed returns the frame as it goes on a stream or in a binary message.
func (f *Frame) Prefixed() []byte { return f.bytes }

// Body returns the frame as it goes in a datagram.
func (f *Frame) Body() []byte { return f.bytes[f.prefix:] }

// JSON returns the frame as a protojson object without a newline, made at most
// once however many sessions want it. It fails on a body of another node that
// does not decode, or that JSON can't say (a string that is not UTF-8).
func (f *Frame) JSON() ([]byte, error) {
	f.jsonOnce.Do(func() {
		var m *wire.ServerFrame
		if m, f.jsonErr = wire.DecodeServer(f.Body()); f.jsonErr == nil {
			f.json, f.jsonErr = wire.EncodeJSON(m)
		}
	})
	return f.json, f.jsonErr
}
