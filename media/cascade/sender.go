package cascade

import (
	"errors"
	"time"
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

// Parse tells for which stream a datagram is, and which side it is for.
func Parse(datagram []byte) (stream uint32, kind Kind, err error) { return 0, 0, ErrMalformed }

// Config of a stream.
type Config struct {
	Stream      uint32 // its name on the link: one layer of a track
	MaxDatagram int    // bytes
	History     int    // datagrams kept for repair
	Size        int    // of a datagram on average, in bytes
}

// Stats of one side of a stream.
type Stats struct {
	Packets   uint64 // RTP packets, once each
	Datagrams uint64 // with media, repairs included
	Bytes     uint64 // of these datagrams
	Repaired  uint64 // datagrams that were sent again, or came after they were asked for
	Lost      uint64 // datagrams given up (receiver), or asked for and not kept any more (sender)
	Duplicate uint64 // datagrams that came again (receiver)
	Asked     uint64 // numbers in requests for repair
}

// Sender is the sending side of a stream.
type Sender struct{}

// NewSender returns the sending side.
func NewSender(c Config) *Sender { return nil }

// Frame appends the datagrams of a packet to dst: one, or two for what does not fit
// (second is nil otherwise). ErrTooLarge.
func (s *Sender) Frame(dst, packet []byte, now time.Time) (first, second []byte, err error) {
	return nil, nil, nil
}

// Tail appends a datagram that tells how far the stream has come, when nothing was sent
// for a while; nil: none is due. It wants to be asked every 10 ms or so.
func (s *Sender) Tail(dst []byte, now time.Time) []byte { return nil }

// Repair answers a request: send gets each datagram, valid during the call.
func (s *Sender) Repair(request []byte, send func(datagram []byte)) error { return nil }

// Stats so far.
func (s *Sender) Stats() Stats { return Stats{} }

// ReceiverConfig of the receiving side.
type ReceiverConfig struct {
	Stream      uint32
	MaxDatagram int
	Age         time.Duration // 400 ms: what is missing for longer is given up
}

// Receiver is the receiving side of a stream.
type Receiver struct{}

// NewReceiver returns the receiving side.
func NewReceiver(c ReceiverConfig) *Receiver { return nil }

// Media takes a datagram and returns the packet that is whole with it, valid until the
// next call; nil: none is.
func (r *Receiver) Media(datagram []byte, now time.Time) (packet []byte, err error) {
	return nil, nil
}

// Ask appends a request for what is missing and due to be asked for to dst; nil: nothing
// is. lost is how many datagrams were given up since the last call: pictures need a key
// frame then. It wants to be called every 10 ms or so.
func (r *Receiver) Ask(dst []byte, now time.Time, roundTrip time.Duration) (request []byte, lost int) {
	return nil, 0
}

// Stats so far.
func (r *Receiver) Stats() Stats { return Stats{} }
