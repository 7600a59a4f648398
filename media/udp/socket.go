package udp

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// Stats counts what happened on a socket since it was opened.
type Stats struct {
	Reads, Writes         uint64 // system calls
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
	Dropped               uint64 // packets that the kernel did not take
}

// Socket is a UDP socket.
type Socket struct {
	conn *net.UDPConn
	v6   bool // takes both families: addresses of version 4 are written as ::ffff:a.b.c.d

	segments                                            atomic.Bool // UDP_SEGMENT works
	reads, writes, in, out, inBytes, outBytes, droppeds atomic.Uint64
	raw
}

// Handler takes a datagram, which is room[Headroom:]. All of room is valid during the
// call and may be written to, so that a longer header fits before the payload.
type Handler func(from netip.AddrPort, room []byte)

// Headroom is what is free before each datagram that was read.
const Headroom = 32

// Size is the longest datagram that is read; longer ones are cut.
const Size = 1_600

// buffer is what the sockets ask the kernel for: a burst of 4,000 large packets.
const buffer = 4 << 20

// Listen opens n sockets on one address, between which the kernel spreads senders
// (SO_REUSEPORT); where it can't there is one. A port of 0 is chosen once for all.
func Listen(a netip.AddrPort, n int) ([]*Socket, error) {
	if !reusePort {
		n = 1
	}
	var ss []*Socket
	for range max(n, 1) {
		c, err := listen(a, n > 1)
		if err != nil {
			for _, s := range ss {
				s.Close()
			}
			return nil, fmt.Errorf("listen on %s (UDP): %w", a, err)
		}
		a = netip.AddrPortFrom(a.Addr(), uint16(c.LocalAddr().(*net.UDPAddr).Port))
		// The kernel gives what net.core.rmem_max allows.
		_ = c.SetReadBuffer(buffer)
		_ = c.SetWriteBuffer(buffer)
		s := &Socket{conn: c, v6: a.Addr().Is6()}
		if err := s.init(); err != nil {
			c.Close()
			return nil, fmt.Errorf("listen on %s (UDP): %w", a, err)
		}
		ss = append(ss, s)
	}
	return ss, nil
}

// Addr is its own address.
func (s *Socket) Addr() netip.AddrPort {
	a := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Close ends Read.
func (s *Socket) Close() error { return s.conn.Close() }

// Stats returns what was counted.
func (s *Socket) Stats() Stats {
	return Stats{
		Reads: s.reads.Load(), Writes: s.writes.Load(), PacketsIn: s.in.Load(), PacketsOut: s.out.Load(),
		BytesIn: s.inBytes.Load(), BytesOut: s.outBytes.Load(), Dropped: s.droppeds.Load(),
	}
}
