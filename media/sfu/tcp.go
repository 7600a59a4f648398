package sfu

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/media/udp"
)

const (
	maxStreams     = 2_000   // TCP connections of clients at a time
	streamQueue    = 256_000 // bytes that wait for a slow one; more is dropped
	streamPatience = 10 * time.Second
)

// stream is a TCP connection of a client (RFC 6544), with RFC 4571 framing. It belongs to
// nobody until its first check.
type stream struct {
	s     *Server
	c     net.Conn
	addr  netip.AddrPort
	owner atomic.Pointer[conn]

	mu      sync.Mutex // guards the following
	queue   []byte
	writing bool
}

func (s *Server) accept() {
	for {
		c, err := s.tcp.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors, or so: not to spin
			continue
		}
		addr := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		st := &stream{s: s, c: c, addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}
		s.mu.Lock()
		full := s.closed || len(s.streams) >= maxStreams
		if !full {
			s.streams[st] = struct{}{}
		}
		s.mu.Unlock()
		if full {
			c.Close()
			continue
		}
		s.work.Go(st.read)
	}
}

func (st *stream) read() {
	defer func() {
		st.c.Close()
		st.s.mu.Lock()
		delete(st.s.streams, st)
		st.s.mu.Unlock()
	}()
	room := make([]byte, udp.Headroom+udp.Size)
	var n [2]byte
	// Who says nothing that makes sense is not waited for.
	_ = st.c.SetReadDeadline(time.Now().Add(streamPatience))
	for {
		if _, err := io.ReadFull(st.c, n[:]); err != nil {
			return
		}
		l := int(binary.BigEndian.Uint16(n[:]))
		if l > udp.Size {
			return
		}
		if _, err := io.ReadFull(st.c, room[udp.Headroom:udp.Headroom+l]); err != nil {
			return
		}
		st.s.write(func(w *writer) { st.s.datagram(w, st.addr, st, room[:udp.Headroom+l]) })
		if st.owner.Load() == nil {
			continue
		}
		_ = st.c.SetReadDeadline(time.Now().Add(time.Minute))
	}
}

// write queues a packet, or drops it.
func (st *stream) write(p []byte) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.queue)+2+len(p) > streamQueue {
		st.s.counts.ovrun.Add(1)
		return
	}
	st.queue = append(binary.BigEndian.AppendUint16(st.queue, uint16(len(p))), p...)
	if !st.writing {
		st.writing = true
		st.s.work.Go(st.drain)
	}
}

func (st *stream) drain() {
	var out []byte
	for {
		st.mu.Lock()
		out, st.queue = st.queue, out[:0]
		if len(out) == 0 {
			st.writing = false
			st.queue = nil
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		_ = st.c.SetWriteDeadline(time.Now().Add(streamPatience))
		if _, err := st.c.Write(out); err != nil {
			st.c.Close()
			return // writing stays: nothing more is queued than fits
		}
	}
}
