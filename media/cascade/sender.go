package cascade

import (
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/mustermesh/muster/media/rtp"
)

// Config of a stream's sending side. Zero values are replaced by what stands beside them.
type Config struct {
	Stream      uint32 // its name on the link: one layer of a track
	MaxDatagram int    // 1,150 bytes
	History     int    // 512: datagrams kept for repair
	Size        int    // 1,150: of a datagram on average, in bytes; of sound 150 is enough
}

// Stats of one side of a stream.
type Stats struct {
	Packets   uint64 // RTP packets, once each
	Datagrams uint64 // with media, repairs included
	Bytes     uint64 // of these datagrams
	Repaired  uint64 // datagrams that were sent again (sender), or that filled a hole (receiver)
	Lost      uint64 // datagrams asked for and not sent again (sender), or given up (receiver)
	Duplicate uint64 // datagrams that came once more, or too late to tell (receiver)
	Asked     uint64 // numbers in requests for repair
}

const (
	quietTail = 15 * time.Millisecond // without a packet: the receiver is told how far it was
	tails     = 3                     // times, each twice as long after the one before
	allowance = 256                   // repairs to begin with, and at most to save up
	perRepair = 2                     // one repair for each so many that were sent
)

// Sender is the sending side of a stream. It belongs to one goroutine, or to its owner's
// lock.
type Sender struct {
	c       Config
	kept    *rtp.Cache
	next    uint16
	stats   Stats
	allowed int // repairs, times perRepair
	last    time.Time
	told    int // tails since
	scratch []byte
}

// NewSender returns the sending side.
func NewSender(c Config) *Sender {
	or := func(v *int, other int) {
		if *v <= 0 {
			*v = other
		}
	}
	or(&c.MaxDatagram, 1150)
	or(&c.History, 512)
	or(&c.Size, 1150)
	c.MaxDatagram = min(max(c.MaxDatagram, 64), rtp.MaxPacket)
	return &Sender{c: c, kept: rtp.NewCache(c.History, c.Size), allowed: allowance * perRepair, told: tails}
}

// Frame appends the datagrams of a packet to dst: one, or two for what does not fit
// (second is nil otherwise). ErrTooLarge.
func (s *Sender) Frame(dst, packet []byte, now time.Time) (first, second []byte, err error) {
	room := s.c.MaxDatagram - headSize
	if len(packet) == 0 || len(packet) > rtp.MaxPacket || len(packet) > 2*room {
		return nil, nil, ErrTooLarge
	}
	at := len(dst)
	if len(packet) <= room {
		dst = s.datagram(dst, whole, packet)
		first = dst[at:len(dst):len(dst)]
	} else {
		dst = s.datagram(dst, firstPart, packet[:room])
		mid := len(dst)
		dst = s.datagram(dst, secondPart, packet[room:])
		first, second = dst[at:mid:mid], dst[mid:]
	}
	s.stats.Packets++
	s.last, s.told = now, 0
	return first, second, nil
}

func (s *Sender) datagram(dst []byte, k kind, part []byte) []byte {
	at := len(dst)
	dst = appendHead(dst, k, s.c.Stream, s.next)
	dst = append(dst, part...)
	s.kept.Put(s.next, dst[at:])
	s.next++
	s.allowed = min(s.allowed+1, allowance*perRepair)
	s.stats.Datagrams++
	s.stats.Bytes += uint64(len(dst) - at)
	return dst
}

// Tail appends a datagram that tells how far the stream has come, when nothing was sent
// for a while; nil: none is due. It wants to be asked every 10 ms or so.
func (s *Sender) Tail(dst []byte, now time.Time) []byte {
	if s.told >= tails || now.Sub(s.last) < quietTail<<s.told {
		return nil
	}
	s.told++
	at := len(dst)
	return appendHead(dst, tail, s.c.Stream, s.next-1)[at:]
}

// Repair answers a request: send gets each datagram, valid during the call. What is not
// kept any more, and what is asked for beyond what a stream may take, is left out.
func (s *Sender) Repair(request []byte, send func(datagram []byte)) error {
	h, ok := parse(request)
	if !ok || h.kind != repair || h.stream != s.c.Stream {
		return ErrMalformed
	}
	for pairs := request[headSize-2:]; len(pairs) > 0; pairs = pairs[pairSize:] {
		number, mask := binary.BigEndian.Uint16(pairs), binary.BigEndian.Uint16(pairs[2:])
		s.repair(number, send)
		for ; mask != 0; mask &= mask - 1 {
			s.repair(number+1+uint16(bits.TrailingZeros16(mask)), send)
		}
	}
	return nil
}

func (s *Sender) repair(number uint16, send func([]byte)) {
	s.stats.Asked++
	if s.allowed < perRepair {
		s.stats.Lost++
		return
	}
	b, ok := s.kept.Get(s.scratch[:0], number)
	s.scratch = b
	if !ok {
		s.stats.Lost++
		return
	}
	s.allowed -= perRepair
	s.stats.Repaired++
	s.stats.Datagrams++
	s.stats.Bytes += uint64(len(b))
	b[0] |= again
	send(b)
}

// Stats so far.
func (s *Sender) Stats() Stats { return s.stats }
