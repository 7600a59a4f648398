package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// idleTimeout is how long a QUIC connection lives without a packet. Clients
// ping more often.
const idleTimeout = 30 * time.Second

func (s *Server) newWebTransport() *webtransport.Server {
	mux := http.NewServeMux()
	if s.config.HTTP != nil {
		mux.Handle("/", s.config.HTTP)
	}
	wt := &webtransport.Server{
		H3: &http3.Server{
			TLSConfig:      http3.ConfigureTLSConfig(s.config.TLS),
			Handler:        mux,
			MaxHeaderBytes: 8 << 10,
			IdleTimeout:    idleTimeout, // of a connection without a request
			QUICConfig: &quic.Config{
				// Both of these webtransport-go requires.
				EnableDatagrams:                  true,
				EnableStreamResetPartialDelivery: true,

				MaxIdleTimeout:        idleTimeout,
				HandshakeIdleTimeout:  5 * time.Second,
				MaxIncomingStreams:    8, // CONNECT and ours, some spare
				MaxIncomingUniStreams: 8, // HTTP/3's three, some spare
				// A client sends little; what it may have in flight is what a
				// hostile one can make us hold.
				InitialStreamReceiveWindow:     64 << 10,
				MaxStreamReceiveWindow:         256 << 10,
				InitialConnectionReceiveWindow: 128 << 10,
				MaxConnectionReceiveWindow:     512 << 10,
			},
		},
		CheckOrigin: func(*http.Request) bool { return true }, // admit does
	}
	mux.HandleFunc(wire.PathWebTransport, func(w http.ResponseWriter, r *http.Request) {
		remote, ok := s.admit(w, r, connectionAddr)
		if !ok {
			return
		}
		session, err := wt.Upgrade(w, r)
		if err != nil {
			// Nothing was answered yet: Upgrade fails before it writes.
			http.Error(w, "this is a WebTransport endpoint", http.StatusBadRequest)
			return
		}
		c := &wtConn{session: session, remote: remote, ingests: &s.ingests}
		c.outbox = outbox{link: c, config: &s.config, pool: &s.scratch}
		if !s.serve(c) {
			c.shut(closeNumber(Draining()), wire.CodeDraining)
		}
	})
	return wt
}

// acceptQUIC serves connections. webtransport-go's own Serve would do, but its
// Close must not overlap its beginning, and it hides why it can't listen.
func (s *Server) acceptQUIC(ctx context.Context) {
	for {
		c, err := s.listener.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.config.Log.ErrorContext(ctx, "WebTransport listener ended", "err", err)
			}
			return
		}
		s.life.Go(func() {
			if err := s.wt.ServeQUICConn(c); err != nil {
				s.config.Log.DebugContext(ctx, "QUIC connection ended", "err", err)
			}
		})
	}
}

// wtConn is a Conn.
type wtConn struct {
	outbox
	session *webtransport.Session
	stream  atomic.Pointer[webtransport.Stream] // nil until the client opened it
	remote  netip.Addr
	ingests *wire.Pool
}

func (c *wtConn) Transport() wire.Transport { return wire.Transport_WEBTRANSPORT }
func (c *wtConn) Remote() netip.Addr        { return c.remote }

func (c *wtConn) Serve(h Handler) error {
	var mu sync.Mutex // one frame at a time, from the stream or a datagram
	handle := func(f *wire.ClientFrame, size int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if !c.ended() {
			h(f, size, err)
		}
	}
	var datagrams sync.WaitGroup
	datagrams.Go(func() { c.readDatagrams(handle) })
	err := c.readStream(handle)
	c.finish()
	datagrams.Wait()
	return fmt.Errorf("webtransport: %w", err)
}

func (c *wtConn) readStream(h Handler) error {
	stream, err := c.session.AcceptStream(c.session.Context())
	if err != nil {
		return err
	}
	c.stream.Store(stream)
	r := wire.NewReader(stream, wire.MaxClientFrame)
	d := c.ingests.Decoder()
	for {
		b, err := r.Next()
		switch {
		case errors.Is(err, wire.ErrTooLarge):
			h(nil, wire.MaxClientFrame, err)
			// A client that is still writing is to finish, and to read why.
			c.Close(&wire.Close{Code: wire.CodeTooLarge, Message: "a frame has at most 64 KiB"})
			_, _ = io.Copy(io.Discard, stream)
			return err
		case err != nil:
			return err
		}
		f, err := d.Client(b)
		h(f, len(b)+1, err)
		d.Release()
	}
}

func (c *wtConn) readDatagrams(h Handler) {
	ctx := c.session.Context()
	for {
		b, err := c.session.ReceiveDatagram(ctx)
		if err != nil {
			return // the session is over
		}
		f, err := wire.DecodeClient(b)
		if err == nil && f.GetReport() == nil {
			err = fmt.Errorf("%w: a datagram holds a Report", wire.ErrBadFrame)
		}
		h(f, len(b), err)
	}
}

func (c *wtConn) write(frames []*edge.Frame, s *scratch, deadline time.Time) error {
	b := s.buf[:0]
	for _, f := range frames {
		if !f.Lossy() {
			b = append(b, f.Prefixed()...)
			continue
		}
		for _, f := range f.Parts() {
			var tooLarge *quic.DatagramTooLargeError
			switch err := c.session.SendDatagram(f.Body()); {
			case errors.As(err, &tooLarge):
				b = append(b, f.Prefixed()...)
			case err != nil:
				return fmt.Errorf("webtransport: %w", err)
			}
		}
	}
	s.buf = b
	stream := c.stream.Load()
	if stream == nil || len(b) == 0 {
		return nil // before its stream a client can't be told more than a close code
	}
	if err := stream.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("webtransport: %w", err)
	}
	if _, err := stream.Write(b); err != nil {
		return fmt.Errorf("webtransport: %w", err)
	}
	return nil
}

// writeNow: a QUIC connection packs what waits when it is its turn.
func (c *wtConn) writeNow(*edge.Frame) (taken, more bool) { return false, false }

// shut ends the stream, then waits for the client to close the session:
// closing it resets the stream, and the last frames could be lost.
func (c *wtConn) shut(number uint16, reason string) {
	if stream := c.stream.Load(); stream != nil && stream.Close() == nil {
		t := time.NewTimer(c.config.CloseTimeout / 2)
		defer t.Stop()
		select {
		case <-c.session.Context().Done():
		case <-t.C:
		}
	}
	code := webtransport.SessionErrorCode(number)
	if number == wire.CloseNormal {
		code = 0
	}
	_ = c.session.CloseWithError(code, reason)
}

func (c *wtConn) kill() { _ = c.session.CloseWithError(0, "") }
