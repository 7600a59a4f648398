package peerlink

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/mustermesh/muster/regions"
)

const (
	// MaxFrame is the longest frame of an events link, and the longest request
	// or answer of a call.
	MaxFrame = 4 << 20
	// MaxDatagram is the longest frame that SendDatagram takes: it fits beside
	// QUIC's overhead into the smallest packet that QUIC allows.
	MaxDatagram = 1150

	version  = 1
	maxHello = 4096
	// readBuffer holds the frames that arrived together on an events link, and
	// callBuffer a usual call; a longer frame gets a buffer of its own.
	readBuffer = 64 << 10
	callBuffer = 4 << 10
)

var errProtocol = errors.New("peerlink: peer broke the protocol")

func (a *Addrs) all() [4]*string { return [4]*string{&a.Peer, &a.HTTP, &a.WS, &a.WT} }

// appendFrame appends a frame with its length in front (an unsigned varint).
func appendFrame(b, frame []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(frame))), frame...)
}

// frameReader takes frames off a stream.
type frameReader struct {
	r    *bufio.Reader
	last int    // bytes of the previous frame, still in the buffer
	long []byte // for frames that do not fit into the buffer
}

func newFrameReader(r io.Reader, buffer int) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, buffer)}
}

// next returns the next frame, valid until the call after it. At the end of
// the stream it returns io.EOF; within a frame, io.ErrUnexpectedEOF.
func (f *frameReader) next(limit int) ([]byte, error) {
	if _, err := f.r.Discard(f.last); err != nil {
		return nil, err
	}
	f.last, f.long = 0, nil
	size, err := readUvarint(f.r)
	if err != nil {
		return nil, err
	}
	if size > uint64(limit) {
		return nil, fmt.Errorf("%w: frame of %d bytes, at most %d", errProtocol, size, limit)
	}
	n := int(size)
	if n > f.r.Size() {
		f.long = make([]byte, n)
		_, err = io.ReadFull(f.r, f.long)
		return f.long, unexpected(err)
	}
	b, err := f.r.Peek(n)
	if err != nil {
		return nil, unexpected(err)
	}
	f.last = n
	return b, nil
}

// readUvarint reads a length; io.EOF only before its first byte.
func readUvarint(r io.ByteReader) (uint64, error) {
	var x uint64
	for i := range 4 { // 28 bits: more than any limit
		b, err := r.ReadByte()
		if err != nil {
			if i > 0 {
				err = unexpected(err)
			}
			return 0, err
		}
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return x, nil
		}
	}
	return 0, fmt.Errorf("%w: length of more than 4 bytes", errProtocol)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// hello is the first frame in each direction of a connection: version,
// region, node, incarnation, addresses, features; numbers as varints, strings with
// their length.
type hello struct {
	version uint64
	Peer
	features uint64
}

// features is what we understand beyond the version, one bit each.
const (
	featureCarry uint64 = 1 << iota // kindCarried
	features     uint64 = 1<<iota - 1
)

func (h hello) encode() []byte {
	var b []byte
	b = binary.AppendUvarint(b, h.version)
	b = appendFrame(b, []byte(h.Region))
	b = appendFrame(b, []byte(h.Node))
	b = binary.AppendUvarint(b, h.Incarnation)
	for _, s := range h.Addrs.all() {
		b = appendFrame(b, []byte(*s))
	}
	return binary.AppendUvarint(b, h.features)
}

// decodeHello reads a hello. Bytes after the last known field are ignored, so
// that a later version may add some; so is all but the number of a version
// that we do not speak.
func decodeHello(b []byte) (hello, error) {
	var h hello
	var ok bool
	if h.version, b, ok = cutUvarint(b); !ok {
		return h, fmt.Errorf("%w: hello ends early", errProtocol)
	}
	if h.version != version {
		return h, fmt.Errorf("%w: peer speaks version %d, we speak %d", ErrVersion, h.version, version)
	}
	region, b, ok1 := cutString(b)
	node, b, ok2 := cutString(b)
	incarnation, b, ok3 := cutUvarint(b)
	if !ok1 || !ok2 || !ok3 {
		return h, fmt.Errorf("%w: hello ends early", errProtocol)
	}
	h.Region, h.Node, h.Incarnation = regions.RegionID(region), regions.NodeID(node), incarnation
	for _, s := range h.Addrs.all() { // which a node of an earlier version doesn't say
		*s, b, _ = cutString(b)
	}
	h.features, _, _ = cutUvarint(b) // nor that
	return h, nil
}

func cutUvarint(b []byte) (uint64, []byte, bool) {
	x, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return x, b[n:], true
}

func cutString(b []byte) (string, []byte, bool) {
	n, b, ok := cutUvarint(b)
	if !ok || n > uint64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}
