package turn

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mustermesh/muster/turn/allocation"
)

const (
	// hello is how long a connection may be without an allocation, its handshake
	// included.
	hello = 30 * time.Second
	// maxBacklog is what waits for a client that does not read; more is dropped, as on
	// a path that is full.
	maxBacklog = 256 << 10
)

// stream is a client's TCP or TLS connection: frames one after another (RFC 8656
// section 12.5), each padded to four bytes.
type stream struct {
	conn  net.Conn
	shard *shard
	flow  allocation.Flow
	alone time.Time // since when it has no allocation; guarded by the shard's lock

	mu      sync.Mutex // guards the following
	backlog []byte     // what waits to be written
	closed  bool
	ready   chan struct{} // has room for one: there is a backlog, or the end
}

// send puts a frame behind those that wait, or reports that there are too many.
func (st *stream) send(frame []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || len(st.backlog)+len(frame) > maxBacklog {
		return false
	}
	st.backlog = append(st.backlog, frame...)
	select {
	case st.ready <- struct{}{}:
	default:
	}
	return true
}

// write writes what waits, all of it at a time, until the connection ends.
func (st *stream) write() {
	var spare []byte
	for range st.ready {
		for {
			st.mu.Lock()
			out := st.backlog
			st.backlog = spare[:0]
			if len(out) == 0 {
				st.backlog, spare = nil, nil // an idle client holds no memory
			}
			st.mu.Unlock()
			if len(out) == 0 {
				break
			}
			_ = st.conn.SetWriteDeadline(time.Now().Add(hello))
			if _, err := st.conn.Write(out); err != nil {
				_ = st.conn.Close() // the reader sees it
				return
			}
			spare = out
		}
	}
}

func (st *stream) close() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.closed {
		st.closed = true
		close(st.ready)
	}
	_ = st.conn.Close()
}

var errFrame = errors.New("turn: no frame of TURN")

// frame is the size of the frame that begins with these bytes, or 0 if more of them are
// needed to know.
func frame(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := int(b[2])<<8 | int(b[3])
	switch {
	case allocation.IsChannelData(b[0]):
		n = (4 + n + 3) &^ 3
	case b[0]&0xc0 == 0 && n%4 == 0:
		n += 20
	default:
		return 0, errFrame
	}
	if n > maxPacket {
		return 0, errFrame
	}
	return n, nil
}

// read takes frames until the connection ends.
func (st *stream) read() error {
	r := bufio.NewReaderSize(st.conn, maxPacket)
	for need := 4; ; {
		if _, err := r.Peek(need); err != nil {
			return err
		}
		all, _ := r.Peek(r.Buffered())
		taken, err := 0, error(nil)
		now := time.Now()
		st.shard.mu.Lock()
		for {
			if need, err = frame(all[taken:]); err != nil || need == 0 || need > len(all)-taken {
				break
			}
			st.take(now, all[taken:taken+need])
			taken += need
		}
		st.shard.carrier.flush()
		st.shard.mu.Unlock()
		if err != nil {
			return err
		}
		if need == 0 {
			need = 4
		}
		_, _ = r.Discard(taken) // it was peeked at
	}
}

// take handles one frame, under the shard's lock.
func (st *stream) take(now time.Time, b []byte) {
	e := st.shard.machine.FromClient(now, st.flow, b)
	switch {
	case e.Answer:
		if !st.send(e.Data) {
			st.shard.unsent(1)
		}
	case e.Kind != allocation.Drop:
		st.shard.carrier.carry(&e)
	}
}

// accept serves the connections of a listener until it is closed.
func (s *Server) accept(ctx context.Context, index uint16, l net.Listener) {
	for next := 0; ; {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, which may pass
			s.o.Log.WarnContext(ctx, "turn: a connection was not accepted", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		ip := addrPort(c.RemoteAddr()).Addr()
		if !s.connections.enter(ip) {
			s.turnedAway.Add(1)
			_ = c.Close()
			continue
		}
		next++
		s.serving.Go(func() {
			defer s.connections.leave(ip)
			s.converse(ctx, index, c, s.shards[next%len(s.shards)])
		})
	}
}

// converse serves one connection.
func (s *Server) converse(ctx context.Context, index uint16, c net.Conn, sh *shard) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	if s.o.Listen[index].Transport == TLS {
		t := tls.Server(c, s.o.TLS)
		_ = c.SetDeadline(time.Now().Add(hello))
		if t.HandshakeContext(ctx) != nil {
			return
		}
		_ = c.SetDeadline(time.Time{})
		c = t
	}
	addr := addrPort(c.RemoteAddr())
	st := &stream{conn: c, shard: sh, flow: allocation.Flow{Client: addr, Listener: index}, alone: time.Now(), ready: make(chan struct{}, 1)}
	sh.mu.Lock()
	sh.machine.Gone(time.Now(), st.flow) // of an earlier one whose end was not noticed yet
	sh.streams[st.flow] = st
	sh.mu.Unlock()
	var writer sync.WaitGroup
	writer.Go(st.write)
	err := st.read()
	sh.mu.Lock()
	if sh.streams[st.flow] == st { // not a later one from the same port
		sh.machine.Gone(time.Now(), st.flow)
		delete(sh.streams, st.flow)
	}
	sh.mu.Unlock()
	st.close()
	writer.Wait()
	if errors.Is(err, errFrame) || !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.o.Log.DebugContext(ctx, "turn: a connection ended", "err", err)
	}
}

// connections counts those of all listeners. One source (an IPv4 address, a /64 of IPv6)
// may have a sixteenth of them: it may be that of many people, and must not be able to
// keep out everybody.
type connections struct {
	most int

	mu   sync.Mutex // guards the following
	all  int
	from map[netip.Addr]int
}

func (c *connections) enter(ip netip.Addr) bool {
	ip = allocation.Source(ip)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.most || c.from[ip] >= max(1, c.most/16) {
		return false
	}
	c.all++
	c.from[ip]++
	return true
}

func (c *connections) leave(ip netip.Addr) {
	ip = allocation.Source(ip)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.from[ip]--; c.from[ip] == 0 {
		delete(c.from, ip)
	}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}
