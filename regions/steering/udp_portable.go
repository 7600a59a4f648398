//go:build !linux

package steering

import (
	"context"
	"net"
	"syscall"
	"time"
)

// reusePort says whether several sockets can share a port.
const reusePort = false

func sharePort(bool) func(network, address string, c syscall.RawConn) error { return nil }

// serveUDP answers what comes to one socket.
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn) {
	l := newLimiter(s.cfg.Rate)
	in, out := make([]byte, maxQuery), make([]byte, 0, maxUDP)
	for turn := uint32(0); ; turn++ {
		n, from, err := c.ReadFromUDPAddrPort(in)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			continue // such as an ICMP error for an earlier answer
		}
		if answer := s.respond(l, in[:n], from.Addr().Unmap(), time.Since(s.origin), turn, out); answer != nil {
			_, _ = c.WriteToUDPAddrPort(answer, from)
		}
	}
}
