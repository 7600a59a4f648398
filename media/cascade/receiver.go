package cascade

import (
	"encoding/binary"
	"time"

	"github.com/mustermesh/muster/media/rtp"
)

// ReceiverConfig of a stream's receiving side. Zero values are replaced by what stands
// beside them.
type ReceiverConfig struct {
	Stream      uint32
	MaxDatagram int           // 1,150 bytes: of requests
	Age         time.Duration // 400 ms: what is missing for longer is given up
}

const (
	maxHalves  = 32  // packets of which the other part is waited for
	maxMissing = 256 // datagrams that are waited for
	// early is below which the first number that comes means that the stream began
	// just now, with those before it.
	early = 64
)

// Receiver is the receiving side of a stream. It belongs to one goroutine, or to its
// owner's lock.
type Receiver struct {
	c      ReceiverConfig
	losses *rtp.Losses
	begun  bool
	halves [maxHalves]half
	made   []byte // packet of two parts
	ask    []uint16
	lost   uint64 // of losses, as was told
	stats  Stats
}

// half is a part of a packet.
type half struct {
	number uint16 // of the first part, whichever it is
	is     kind   // whole: none
	part   []byte
}

// NewReceiver returns the receiving side.
func NewReceiver(c ReceiverConfig) *Receiver {
	if c.MaxDatagram <= 0 {
		c.MaxDatagram = 1150
	}
	c.MaxDatagram = max(c.MaxDatagram, 64)
	if c.Age <= 0 {
		c.Age = 400 * time.Millisecond
	}
	return &Receiver{
		c:      c,
		losses: rtp.NewLosses(rtp.LossConfig{Age: c.Age, Tries: 100, Most: maxMissing}),
		ask:    make([]uint16, 0, maxMissing),
	}
}

// Media takes a datagram and returns the packet that is whole with it, valid until the
// next call and as long as the datagram; nil: none is. ErrMalformed.
func (r *Receiver) Media(datagram []byte, now time.Time) (packet []byte, err error) {
	h, ok := parse(datagram)
	if !ok || h.kind == repair || h.stream != r.c.Stream || len(datagram) > rtp.MaxPacket {
		return nil, ErrMalformed
	}
	if h.kind == tail {
		r.losses.Sent(h.number, now)
		return nil, nil
	}
	r.stats.Datagrams++
	r.stats.Bytes += uint64(len(datagram))
	if !r.begun {
		r.begun = true
		if h.number < early {
			r.losses.Begin(0)
		}
	}
	switch r.losses.Came(h.number, now) {
	case rtp.Duplicate, rtp.Outdated:
		r.stats.Duplicate++
		return nil, nil
	case rtp.Filled:
		if h.again {
			r.stats.Repaired++
		}
	}
	part := datagram[headSize:]
	if h.kind == whole {
		r.stats.Packets++
		return part, nil
	}
	return r.join(h, part), nil
}

// join puts parts together; nil: the other one is not there.
func (r *Receiver) join(h head, part []byte) []byte {
	number := h.number
	if h.kind == secondPart {
		number--
	}
	other := r.half(number)
	if other.is == whole || other.is == h.kind {
		other.number, other.is, other.part = number, h.kind, append(other.part[:0], part...)
		return nil
	}
	first, second := other.part, part
	if h.kind == firstPart {
		first, second = part, other.part
	}
	other.is = whole
	if len(first)+len(second) > rtp.MaxPacket {
		return nil
	}
	r.made = append(append(r.made[:0], first...), second...)
	r.stats.Packets++
	return r.made
}

// half is the place of a packet's part: the one that has it, else a free one, else that of
// the oldest, which is given up.
func (r *Receiver) half(number uint16) *half {
	free := &r.halves[0]
	for i := range r.halves {
		o := &r.halves[i]
		switch {
		case o.is != whole && o.number == number:
			return o
		case free.is == whole: // the first free one
		case o.is == whole, int16(o.number-free.number) < 0:
			free = o
		}
	}
	free.is = whole
	return free
}

// Ask appends a request for what is missing and due to be asked for to dst; nil: nothing
// is. lost is how many datagrams were given up since the last call: pictures need a key
// frame then. It wants to be called every 10 ms or so.
func (r *Receiver) Ask(dst []byte, now time.Time, roundTrip time.Duration) (request []byte, lost int) {
	r.ask = r.losses.Ask(r.ask[:0], now, roundTrip)
	if n := r.losses.Lost(); n != r.lost {
		lost = max(int(int64(n-r.lost)), 0) // fewer, if some came after all
		r.lost = n
	}
	if len(r.ask) == 0 {
		return nil, lost
	}
	at := len(dst)
	dst = append(dst, byte(repair))
	dst = binary.BigEndian.AppendUint32(dst, r.c.Stream)
	for i := 0; i < len(r.ask) && len(dst)-at+pairSize <= r.c.MaxDatagram; {
		number, mask := r.ask[i], uint16(0)
		r.stats.Asked++
		for i++; i < len(r.ask) && r.ask[i]-number <= 16; i++ {
			mask |= 1 << (r.ask[i] - number - 1)
			r.stats.Asked++
		}
		dst = binary.BigEndian.AppendUint16(dst, number)
		dst = binary.BigEndian.AppendUint16(dst, mask)
	}
	return dst[at:], lost
}

// Stats so far.
func (r *Receiver) Stats() Stats {
	s := r.stats
	s.Lost = r.losses.Lost()
	return s
}
