//go:build !linux

package udp

import (
	"errors"
	"net"
	"net/netip"
)

const reusePort = false

type raw struct{}

type platform struct{}

func listen(a netip.AddrPort, _ bool) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
}

func (s *Socket) init() error { return nil }

func (b *Batch) init() {}

// Read hands what comes to h until the socket is closed, and calls done after each.
func (s *Socket) Read(h Handler, done func()) error {
	room := make([]byte, Headroom+Size)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(room[Headroom:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue
		}
		s.reads.Add(1)
		s.in.Add(1)
		s.inBytes.Add(uint64(n))
		h(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), room[:Headroom+n])
		done()
	}
}

func (b *Batch) flush() {
	for i := range b.msgs {
		for at := b.msgs[i].first + 1; at != 0; at = b.parts[at-1].next {
			b.s.writes.Add(1)
			if _, err := b.s.conn.WriteToUDPAddrPort(b.parts[at-1].p, b.msgs[i].to); err != nil {
				b.s.droppeds.Add(1)
				continue
			}
			b.s.out.Add(1)
			b.s.outBytes.Add(uint64(len(b.parts[at-1].p)))
		}
	}
}
