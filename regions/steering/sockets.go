package steering

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	maxQuery = 4096 // bytes of a packet that are looked at; real queries have less than 300
	tcpIdle  = 5 * time.Second
	tcpMost  = 1000 // queries on one connection
)

// serveTCP takes connections, RFC 7766: many queries on one, one after another.
func (s *Server) serveTCP(ctx context.Context) {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.cfg.Log.WarnContext(ctx, "dns: accept", "err", err) // such as too many open files
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			continue
		}
		from := netip.Addr{}
		if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
			from = a.AddrPort().Addr().Unmap()
		}
		network := networkHash(from, 24, 56)
		s.mu.Lock()
		full := len(s.conns) >= s.cfg.MaxTCP || s.networks[network] >= max(s.cfg.MaxTCP/4, 4) || ctx.Err() != nil
		if !full {
			s.conns[c] = struct{}{}
			s.networks[network]++
		}
		s.mu.Unlock()
		if full {
			s.metrics.refusedTCP.Inc()
			_ = c.Close()
			continue
		}
		s.life.Go(func() {
			defer func() {
				_ = c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				if s.networks[network]--; s.networks[network] == 0 {
					delete(s.networks, network)
				}
				s.mu.Unlock()
			}()
			s.serveConn(c, from)
		})
	}
}

func (s *Server) serveConn(c net.Conn, from netip.Addr) {
	buf := make([]byte, maxQuery)
	out := make([]byte, 0, maxUDP)
	for n := range uint32(tcpMost) {
		// The deadline is for all of a query: who sends it byte by byte ends, too.
		_ = c.SetDeadline(time.Now().Add(tcpIdle))
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(buf))
		if size > len(buf) {
			return
		}
		if _, err := io.ReadFull(c, buf[:size]); err != nil {
			return
		}
		answer, r := s.book.Load().answer(buf[:size], from, byTCP, n, out[2:2])
		s.metrics.note(r, answer != nil)
		if answer == nil {
			return
		}
		packet := binary.BigEndian.AppendUint16(out[:0], uint16(len(answer)))
		packet = append(packet, answer...) // where it is already, unless it was longer than out
		if _, err := c.Write(packet); err != nil {
			return
		}
	}
}

// respond answers one packet that came by UDP; nil: not at all.
func (s *Server) respond(l *limiter, packet []byte, from netip.Addr, now time.Duration, turn uint32, out []byte) []byte {
	by := byUDP
	switch l.check(from, now) {
	case slip:
		by = overRate
		s.metrics.slipped.Inc()
	case drop:
		s.metrics.dropped.Inc()
		return nil
	}
	answer, r := s.book.Load().answer(packet, from, by, turn, out)
	s.metrics.note(r, answer != nil)
	return answer
}

func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

func equalAddrs(a, b map[string][]netip.Addr) bool { return maps.EqualFunc(a, b, slices.Equal) }
