package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link is the way from one region to another for connections of streams, such
// as a node's to a database that is far away: its Dial takes the place of a
// dialer. What is written arrives as late as it would in the world, in order;
// to connect takes a round trip. While the way is cut, what is under way waits,
// as TCP would send it again.
type Link struct {
	net  *Network
	a, b string

	stats struct{ dials, turns, sent, sentBytes, received, receivedBytes atomic.Uint64 }

	mu     sync.Mutex // guards the following
	closed bool
	open   map[*haul]struct{}
	work   sync.WaitGroup
}

// LinkStats counts what a Link carried.
type LinkStats struct {
	Dials uint64
	// RoundTrips is how often somebody sent who had got an answer before, or
	// nothing yet: each time the sender waits for the way there and back.
	RoundTrips     uint64
	Sent, Received Traffic
}

// Less is what came since an earlier reading.
func (s LinkStats) Less(earlier LinkStats) LinkStats {
	return LinkStats{
		s.Dials - earlier.Dials, s.RoundTrips - earlier.RoundTrips,
		s.Sent.Less(earlier.Sent), s.Received.Less(earlier.Received),
	}
}

// Link returns a new way from one region to another, or within one. It is
// closed by its user.
func (n *Network) Link(from, to string) *Link {
	return &Link{net: n, a: from, b: to, open: map[*haul]struct{}{}}
}

// Stats returns the counters.
func (l *Link) Stats() LinkStats {
	s := &l.stats
	return LinkStats{
		Dials: s.dials.Load(), RoundTrips: s.turns.Load(),
		Sent:     Traffic{s.sent.Load(), s.sentBytes.Load()},
		Received: Traffic{s.received.Load(), s.receivedBytes.Load()},
	}
}

// Dial connects as net.Dialer.DialContext does, from afar.
func (l *Link) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.over() {
		return nil, net.ErrClosed
	}
	l.stats.dials.Add(1)
	if err := l.pass(ctx.Done(), time.Now().Add(l.delay(l.a, l.b)), l.a, l.b); err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", l.b, l.a, context.Cause(ctx))
	}
	var d net.Dialer
	server, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if err := l.pass(ctx.Done(), time.Now().Add(l.delay(l.b, l.a)), l.b, l.a); err != nil {
		_ = server.Close()
		return nil, fmt.Errorf("dial %s from %s: %w", l.b, l.a, context.Cause(ctx))
	}
	client, inner := net.Pipe()
	h := &haul{link: l, inner: inner, server: server, done: make(chan struct{})}
	h.heard.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = server.Close()
		return nil, net.ErrClosed
	}
	l.open[h] = struct{}{}
	l.work.Go(h.run)
	return &linked{client, server.LocalAddr(), server.RemoteAddr()}, nil
}

// Close breaks all connections and returns when they are gone.
func (l *Link) Close() {
	l.mu.Lock()
	l.closed = true
	for h := range l.open {
		h.stop()
	}
	l.mu.Unlock()
	l.work.Wait()
}

func (l *Link) over() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *Link) delay(from, to string) time.Duration {
	jitter, _ := l.net.roll()
	if from == to {
		jitter = 0
	}
	return l.net.Delay(from, to) + jitter
}

var errStopped = errors.New("simnet: stopped")

// pass waits until something that is due then is through.
func (l *Link) pass(done <-chan struct{}, due time.Time, from, to string) error {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-done:
		return errStopped
	}
	for {
		s := l.net.state.Load()
		if !s.cuts[[2]string{from, to}] {
			return nil
		}
		select {
		case <-s.replaced:
		case <-done:
			return errStopped
		}
	}
}

// linked is the near end of a connection. Its addresses are those of the far
// one: pgx dials the remote address again to cancel a statement.
type linked struct {
	net.Conn
	local, remote net.Addr
}

func (c *linked) LocalAddr() net.Addr  { return c.local }
func (c *linked) RemoteAddr() net.Addr { return c.remote }

// haul is one connection: what comes from one end waits, and goes to the other.
type haul struct {
	link          *Link
	inner, server net.Conn
	heard         atomic.Bool // something came back since the last was sent
	over          sync.Once
	done          chan struct{} // closed when both ends are
}

const (
	haulRead  = 32 << 10
	haulQueue = 256 // reads under way in a direction; more wait with the sender
)

// load is what was read at once; nil data: the end.
type load struct {
	due  time.Time
	data []byte
}

func (h *haul) run() {
	s, l := &h.link.stats, h.link
	var both sync.WaitGroup
	both.Go(func() {
		h.carry(h.inner, h.server, l.a, l.b, func(n int) {
			s.sent.Add(1)
			s.sentBytes.Add(uint64(n))
			if h.heard.Swap(false) {
				s.turns.Add(1)
			}
		})
	})
	both.Go(func() {
		h.carry(h.server, h.inner, l.b, l.a, func(n int) {
			s.received.Add(1)
			s.receivedBytes.Add(uint64(n))
			h.heard.Store(true)
		})
	})
	both.Wait()
	h.stop()
	l.mu.Lock()
	delete(l.open, h)
	l.mu.Unlock()
}

// stop breaks the connection at both ends.
func (h *haul) stop() {
	h.over.Do(func() {
		close(h.done)
		_ = h.inner.Close()
		_ = h.server.Close()
	})
}

// carry takes one direction to its end.
func (h *haul) carry(from io.Reader, to io.WriteCloser, a, b string, count func(int)) {
	way := make(chan load, haulQueue)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(way)
		for {
			buf := make([]byte, haulRead)
			n, err := from.Read(buf)
			if n > 0 {
				count(n)
				if !h.put(way, load{time.Now().Add(h.link.delay(a, b)), buf[:n:n]}) {
					return
				}
			}
			if err != nil {
				h.put(way, load{due: time.Now().Add(h.link.delay(a, b))})
				return
			}
		}
	})
	for x := range way {
		err := h.link.pass(h.done, x.due, a, b)
		if err == nil && x.data != nil {
			_, err = to.Write(x.data)
		}
		if err != nil || x.data == nil {
			_ = to.Close() // and with it what the other direction reads
			break
		}
	}
	for range way { // what is left arrives nowhere
	}
	reading.Wait()
}

func (h *haul) put(way chan<- load, x load) bool {
	select {
	case way <- x:
		return true
	case <-h.done:
		return false
	}
}
