package cascade

import (
	"encoding/binary"
	"errors"
)

var (
	// ErrMalformed: what came is not a datagram of this package, or not of this stream.
	ErrMalformed = errors.New("cascade: malformed")
	// ErrTooLarge: a packet is longer than rtp.MaxPacket, or than two datagrams hold.
	ErrTooLarge = errors.New("cascade: packet too large")
)

// Kind is what a datagram is.
type Kind uint8

const (
	KindMedia  Kind = iota // for Receiver.Media
	KindRepair             // for Sender.Repair
)

// kind is what is in octet 0.
type kind uint8

const (
	whole kind = iota
	firstPart
	secondPart
	tail
	repair

	again = 0x80 // beside a kind

	headSize = 7
	pairSize = 4
)

// Parse tells for which stream a datagram is, and which side it is for.
func Parse(datagram []byte) (stream uint32, k Kind, err error) {
	h, ok := parse(datagram)
	if !ok {
		return 0, 0, ErrMalformed
	}
	if h.kind == repair {
		k = KindRepair
	}
	return h.stream, k, nil
}

type head struct {
	kind   kind
	again  bool
	stream uint32
	number uint16
}

func parse(b []byte) (h head, ok bool) {
	if len(b) < headSize {
		return h, false
	}
	h = head{kind(b[0] &^ again), b[0]&again != 0, binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint16(b[5:])}
	switch rest := len(b) - headSize; h.kind {
	case whole, firstPart, secondPart:
		ok = rest > 0
	case tail:
		ok = rest == 0
	case repair: // the number is the first half of the first pair
		ok = rest%pairSize == 2
	}
	return h, ok && (!h.again || h.kind <= secondPart)
}

func appendHead(dst []byte, k kind, stream uint32, number uint16) []byte {
	dst = append(dst, byte(k))
	dst = binary.BigEndian.AppendUint32(dst, stream)
	return binary.BigEndian.AppendUint16(dst, number)
}
