// Package transport carries frames between a node and its clients: over
// WebTransport (draft-ietf-webtrans-http3: one bidirectional stream, and
// datagrams for fixes) and over WebSocket (RFC 6455), under one interface,
// Conn. It knows frames but not what they mean; edge/session does.
//
// # Writing
//
// Send never blocks. Where nothing waits and the connection is a plain socket, it
// writes as much of the frame as the kernel takes at once: to start a goroutine
// for that costs as much as the write. Anything else goes into the connection's
// queue. While something waits, one goroutine writes it: all that waits goes in
// one write, up to Config.Batch bytes (one WebSocket message of many frames, one
// write on the stream), so a busy connection costs fewer system calls per frame,
// not more. An idle connection has no writer.
//
// The queue is bounded in bytes. When it is full the oldest lossy frames
// (fixes: newer ones replace them) are dropped; when reliable ones alone
// overflow it, the reader is too slow and the connection closes with
// slow_reader. Reliable frames overtake lossy ones, which is harmless because
// fixes carry (epoch, n).
//
// # Idle cost
//
// A WebSocket connection is one goroutine, blocked in a read with a 1 KiB
// buffer. Its stack is 4 KiB, and not 8, as long as less than about 1.2 KiB of
// it are in use then: the collector halves a stack of which less than a quarter
// is used, with 800 bytes counted in reserve. That is why accept returns instead
// of serving, and why few functions of ours are on that stack. (Below TLS it is
// 8 KiB all the same.) A WebTransport connection is two, one reading the stream
// and one the datagrams, besides those of the QUIC stack.
package transport

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/webtransport-go"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/run"
)

// Handler takes what a client sends: a frame, or the reason why there is none
// (wire.ErrBadFrame, or wire.ErrTooLarge, after which the connection closes; the
// frame may still have an id). size is in bytes. It is called by one goroutine
// at a time. The memory of an Ingest is used again when it returns: see wire.Decoder.
type Handler func(f *wire.ClientFrame, size int, err error)

// Conn is a connection to a client.
type Conn interface {
	// Serve reads frames until the connection ends, and returns why when
	// everything of it is gone. It is called once.
	Serve(Handler) error
	// Send queues a frame, see the package comment. It never blocks.
	Send(*edge.Frame)
	// Close ends the connection after what waits, within a bounded time; c is
	// the last frame and names the close code. Nil is a normal close. It never
	// blocks; of several calls the first counts.
	Close(c *wire.Close)
	Transport() wire.Transport
	Remote() netip.Addr
}

// Config of a Server. The zero value of a field means its default.
type Config struct {
	// Origins whose pages may connect, as "https://example.org"; "*" is any.
	// Pages of the node's own host always may, as may clients that send no
	// Origin header: those are not browsers.
	Origins []string
	// Admit says how long an address must wait before it may connect; 0: not
	// at all. Nil admits everybody.
	Admit func(netip.Addr) time.Duration
	// ClientAddr tells the address of a WebSocket client, for nodes behind a
	// proxy they trust. Nil: the connection's. WebTransport has no proxy before
	// it, so there the header would be the client's own word.
	ClientAddr func(*http.Request) netip.Addr

	// UDP and TLS are what WebTransport listens on and with; nil: there is no
	// WebTransport. The server does not close UDP.
	UDP net.PacketConn
	TLS *tls.Config
	// HTTP answers what else is asked over HTTP/3: a client that was told of it
	// (by an HTTPS record, RFC 9460) takes it for the whole site. Nil: 404.
	HTTP http.Handler

	Queue        int           // bytes that may wait for one connection: 1 MiB
	Batch        int           // bytes of one write: 64 KiB
	WriteTimeout time.Duration // of one write: 10 s
	CloseTimeout time.Duration // from Close to the end, for each of the two halves: 2 s
	Log          *slog.Logger
}

func (c Config) defaults() Config {
	c.Queue = cmp.Or(c.Queue, 1<<20)
	c.Batch = cmp.Or(c.Batch, 64<<10)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 2*time.Second)
	if c.ClientAddr == nil {
		c.ClientAddr = connectionAddr
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Server accepts connections.
type Server struct {
	config  Config
	accept  func(Conn) (Handler, func(error))
	life    run.Lifecycle
	scratch sync.Pool // *scratch
	ingests wire.Pool
	wt      *webtransport.Server // nil without UDP
	// Set by Start.
	listener *quic.EarlyListener

	mu      sync.Mutex // guards the following
	closed  bool
	conns   map[Conn]struct{}
	serving sync.WaitGroup
}

// New returns a server that calls accept with each new connection. What that
// returns takes the connection's frames, and is called when everything of the
// connection is gone, both in a goroutine of the connection's own.
func New(c Config, accept func(Conn) (handle Handler, over func(error))) *Server {
	s := &Server{config: c.defaults(), accept: accept, conns: make(map[Conn]struct{})}
	s.scratch.New = func() any { return new(scratch) }
	if c.UDP != nil {
		s.wt = s.newWebTransport()
	}
	return s
}

// Start listens for WebTransport. WebSocket connections come through the
// handler that WebSocket returns, mounted on somebody's HTTP server.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) error {
		if s.wt == nil {
			return nil
		}
		listener, err := quic.ListenEarly(s.config.UDP, s.wt.H3.TLSConfig, s.wt.H3.QUICConfig)
		if err != nil {
			return fmt.Errorf("listen for WebTransport: %w", err)
		}
		s.listener = listener
		s.life.Go(func() { s.acceptQUIC(ctx) })
		return nil
	})
}

// Stop closes all connections as draining and waits for them; each is bounded
// by the close timeouts.
func (s *Server) Stop() {
	s.mu.Lock()
	s.closed = true
	conns := make([]Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.Close(Draining())
	}
	s.serving.Wait()
	s.life.Stop(func() {
		if s.wt != nil {
			_ = s.wt.Close() // the connections that have no session
			_ = s.listener.Close()
		}
	})
}

// Draining is the close of a node that shuts down. The clients are told
// different times to come back, so that a deploy is not a stampede.
func Draining() *wire.Close {
	return &wire.Close{
		Code: wire.CodeDraining, Message: "the node shuts down: connect to another one",
		RetryAfterMs: 100 + rand.Uint32N(1900),
	}
}

func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// serve runs a connection in a goroutine of its own; false: the server is
// stopping.
func (s *Server) serve(c Conn) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	s.mu.Unlock()
	handle, over := s.accept(c)
	go func() { // see "Idle cost"
		over(c.Serve(handle))
		s.over(c)
	}()
	return true
}

func (s *Server) over(c Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.serving.Done()
}

// connectionAddr is the address at the other end of the connection.
func connectionAddr(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // else it is not valid
	return at.Addr().Unmap()
}

// admit checks a request to connect and answers it if it is refused.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, addr func(*http.Request) netip.Addr) (remote netip.Addr, ok bool) {
	remote = addr(r)
	switch {
	case !remote.IsValid():
		http.Error(w, "unknown address", http.StatusBadRequest)
		return remote, false
	case s.stopping():
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the node shuts down", http.StatusServiceUnavailable)
		return remote, false
	case !originAllowed(r, s.config.Origins):
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return remote, false
	}
	if s.config.Admit != nil {
		if wait := s.config.Admit(remote); wait > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(int((wait+time.Second-1)/time.Second)))
			http.Error(w, "too many connections from this address", http.StatusTooManyRequests)
			return remote, false
		}
	}
	return remote, true
}
