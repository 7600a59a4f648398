package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	// Version is the protocol's.
	Version = 1
	// MaxClientFrame is the longest frame a client may send. A WebSocket
	// message may hold several frames, but no more bytes than one such frame
	// with its prefix.
	MaxClientFrame = 64 << 10
	// MaxServerFrame is the longest frame a server sends.
	MaxServerFrame = 1 << 20
	// MaxPrefix is the longest length prefix of a frame within the limits.
	MaxPrefix = 3

	// Binary and JSON are the WebSocket subprotocols.
	Binary = "muster.v1"
	JSON   = "muster.v1.json"

	// PathWebTransport and PathWebSocket are where a node listens.
	PathWebTransport = "/wt"
	PathWebSocket    = "/ws"
	// PathCommunication is where it takes the events of calls (edge/comm).
	PathCommunication = "/ws/communication"
)

var (
	// ErrTooLarge is a frame longer than its limit. What follows it on a
	// stream can't be read.
	ErrTooLarge = errors.New("wire: frame too large")
	// ErrBadFrame is a frame that does not decode; the one after it may.
	ErrBadFrame = errors.New("wire: bad frame")
)

// AppendFrame appends a frame with its length prefix to b. Frames of both
// directions have these methods (vtprotobuf).
func AppendFrame(b []byte, f interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}) ([]byte, error) {
	size := f.SizeVT()
	b = binary.AppendUvarint(b, uint64(size))
	n := len(b)
	b = append(b, make([]byte, size)...)
	if _, err := f.MarshalToSizedBufferVT(b[n:]); err != nil {
		return nil, fmt.Errorf("wire: encode frame: %w", err)
	}
	return b, nil
}

// Split cuts the first frame off a binary message: its body without the
// prefix, and what follows. An empty message has no frame: call it only while
// there is something left.
func Split(b []byte, limit int) (body, rest []byte, err error) {
	size, n := binary.Uvarint(b[:min(len(b), binary.MaxVarintLen32)])
	switch {
	case size > uint64(limit), n == 0 && len(b) >= binary.MaxVarintLen32:
		return nil, nil, ErrTooLarge
	case n == 0 || size > uint64(len(b)-n):
		return nil, nil, fmt.Errorf("%w: cut off", ErrBadFrame)
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

const (
	readBuffer = 512      // what an idle stream costs; most frames are shorter
	keepBuffer = 4 << 10  // a body buffer that is kept for the next frame
	readChunk  = 16 << 10 // a claimed length is believed this far ahead of the bytes
)

// Reader reads frames from a byte stream.
type Reader struct {
	r     *bufio.Reader
	limit int
	body  []byte
}

// NewReader returns a Reader of frames of at most limit bytes.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, readBuffer), limit: limit}
}

// Next returns the body of the next frame, valid until the next call. At the
// end of the stream it returns io.EOF, within a frame io.ErrUnexpectedEOF.
func (r *Reader) Next() ([]byte, error) {
	if cap(r.body) > keepBuffer {
		r.body = nil
	}
	size, err := r.prefix()
	if err != nil {
		return nil, err
	}
	if size > uint64(r.limit) {
		return nil, ErrTooLarge
	}
	// Memory follows the bytes that arrived, not the length that was claimed.
	r.body = r.body[:0]
	for rest := int(size); rest > 0; {
		n := min(rest, readChunk)
		at := len(r.body)
		r.body = append(r.body, make([]byte, n)...)
		if _, err := io.ReadFull(r.r, r.body[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("wire: read frame: %w", err)
		}
		rest -= n
	}
	return r.body, nil
}

// prefix reads a length. One that takes more bytes than any length within the
// limits could is too large before its value is known.
func (r *Reader) prefix() (size uint64, err error) {
	for i := range binary.MaxVarintLen32 {
		b, err := r.r.ReadByte()
		if err != nil {
			if i > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err == io.EOF {
				return 0, io.EOF
			}
			return 0, fmt.Errorf("wire: read frame: %w", err)
		}
		size |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return size, nil
		}
	}
	return 0, ErrTooLarge
}

// DecodeClient decodes the body of a client frame. Strings and bytes are
// copied: b may be used again. With an error that wraps ErrBadFrame the frame
// is nil if nothing could be read of it; if it only lacks a body that we know
// it still has its id, so that the refusal can name the request.
func DecodeClient(b []byte) (*ClientFrame, error) {
	f := new(ClientFrame)
	if err := f.UnmarshalVT(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return f, f.check()
}

// DecodeServer decodes the body of a server frame. A frame of a later version
// may have no body that we know: GetBody is nil then, and it is to be ignored.
func DecodeServer(b []byte) (*ServerFrame, error) {
	f := new(ServerFrame)
	if err := f.UnmarshalVT(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return f, nil
}

// check makes sure that a frame has a body: protobuf leaves the oneof nil when
// it is empty or of an unknown kind.
func (f *ClientFrame) check() error {
	if f.Body == nil {
		return fmt.Errorf("%w: no body that this version knows", ErrBadFrame)
	}
	return nil
}

// EncodeJSON returns a frame as a protojson object on one line.
func EncodeJSON(f proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("wire: encode frame as JSON: %w", err)
	}
	return b, nil
}

// SplitJSON cuts the first non-empty line off a text message; line is empty
// when there is none.
func SplitJSON(b []byte) (line, rest []byte) {
	for len(b) > 0 {
		line, b, _ = bytes.Cut(b, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, b
		}
	}
	return nil, nil
}

// DecodeClientJSON is DecodeClient for the JSON form.
func DecodeClientJSON(line []byte) (*ClientFrame, error) {
	if len(line) > MaxClientFrame {
		return nil, ErrTooLarge
	}
	f := new(ClientFrame)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return f, f.check()
}

// DecodeServerJSON is DecodeServer for the JSON form.
func DecodeServerJSON(line []byte) (*ServerFrame, error) {
	f := new(ServerFrame)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return f, nil
}
