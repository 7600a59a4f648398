package peerlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// incoming is a connection that a peer dialled, from its hello on.
type incoming struct {
	conn  *quic.Conn
	peer  Peer
	class class
	read  *frameReader  // of the hello's stream
	gone  chan struct{} // nothing of it reaches the handler any more
	once  sync.Once
}

func (in *incoming) close(code quic.ApplicationErrorCode, reason string) {
	in.once.Do(func() { _ = in.conn.CloseWithError(code, reason) })
}

func (l *Links) accept(ctx context.Context, listener *quic.Listener) {
	defer listener.Close()
	for {
		conn, err := listener.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				l.log.ErrorContext(ctx, "accepting peers ended", "err", err)
			}
			return
		}
		l.life.Go(func() {
			closed := make(chan struct{})
			stop := context.AfterFunc(ctx, func() {
				defer close(closed)
				_ = conn.CloseWithError(codeDone, "")
			})
			l.serve(ctx, conn)
			if !stop() {
				<-closed
			}
		})
	}
}

// serve handles one connection from hello to end.
func (l *Links) serve(ctx context.Context, conn *quic.Conn) {
	in, code, err := l.welcome(ctx, conn)
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(err, ErrStranger) { // it tries again and again, and may be early
			level = slog.LevelDebug
		}
		l.log.Log(ctx, level, "peer refused", "addr", conn.RemoteAddr().String(), "err", err)
		l.metrics.refused.Inc()
		_ = conn.CloseWithError(code, phrase(err))
		return
	}
	defer close(in.gone)
	old, code, err := l.admit(in)
	if err != nil {
		l.log.WarnContext(ctx, "peer refused", "peer", in.peer.Node, "incarnation", in.peer.Incarnation, "err", err)
		l.metrics.refused.Inc()
		in.close(code, phrase(err))
		return
	}
	defer l.dismiss(in)
	for _, o := range old {
		o.close(codeDone, "replaced")
		// Calls may take their time to end, and have no order to keep.
		if o.class != control {
			<-o.gone
		}
	}
	if conn.Context().Err() != nil { // replaced ourselves, while waiting
		return
	}
	// Only now, so that the peer's Up comes after its older link is gone.
	if err := l.answerHello(ctx, conn); err != nil {
		in.close(codeProtocol, "")
		return
	}
	l.metrics.links.WithLabelValues("in", in.class.String()).Inc()
	defer l.metrics.links.WithLabelValues("in", in.class.String()).Dec()
	switch in.class {
	case events:
		err = l.serveEvents(in)
	case datagrams:
		err = l.serveDatagrams(ctx, in)
	case control:
		err = l.serveCalls(ctx, in)
	}
	l.log.DebugContext(ctx, "peer's link ended", "peer", in.peer.Node, "class", in.class, "err", err)
	if errors.Is(err, errProtocol) {
		l.log.WarnContext(ctx, "peer broke the protocol", "peer", in.peer.Node, "class", in.class, "err", err)
		in.close(codeProtocol, phrase(err))
		return
	}
	in.close(codeDone, "")
}

// welcome reads the hello and holds it against the certificate.
func (l *Links) welcome(ctx context.Context, conn *quic.Conn) (*incoming, quic.ApplicationErrorCode, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	state := conn.ConnectionState().TLS
	kind := class(slices.Index(alpns[:], state.NegotiatedProtocol))
	region, node, err := identityOf(state.PeerCertificates[0])
	if err != nil || kind < 0 {
		return nil, codeProtocol, fmt.Errorf("%w: %q: %w", errProtocol, state.NegotiatedProtocol, err)
	}
	stream, err := conn.AcceptUniStream(ctx)
	if err != nil {
		return nil, codeProtocol, fmt.Errorf("await hello: %w", err)
	}
	_ = stream.SetReadDeadline(time.Now().Add(dialTimeout))
	buffer := maxHello
	if kind == events { // its frames follow on the same stream
		buffer = readBuffer
	}
	r := newFrameReader(stream, buffer)
	b, err := r.next(maxHello)
	if err != nil {
		return nil, codeProtocol, fmt.Errorf("read hello: %w", err)
	}
	_ = stream.SetReadDeadline(time.Time{})
	h, err := decodeHello(b)
	switch {
	case errors.Is(err, ErrVersion):
		return nil, codeVersion, err
	case err != nil:
		return nil, codeProtocol, err
	case h.Region != region || h.Node != node:
		return nil, codeProtocol, fmt.Errorf("%w: %s/%s says it is %s/%s", errProtocol, region, node, h.Region, h.Node)
	case node == l.cfg.Self:
		return nil, codeProtocol, fmt.Errorf("%w: peer has this node's own identity", errProtocol)
	}
	if !l.cfg.Regions(region) {
		return nil, codeStranger, fmt.Errorf("%w: %s/%s", ErrStranger, region, node)
	}
	if _, want, known := l.cfg.Peers(node); known && want != region {
		return nil, codeProtocol, fmt.Errorf("%w: %s belongs to %s, not %s", errProtocol, node, want, region)
	}
	return &incoming{conn: conn, peer: h.Peer, class: kind, read: r, gone: make(chan struct{})}, 0, nil
}

var errStale = errors.New("a newer incarnation is connected")

// admit makes in the peer's connection of its class, and returns those that
// it replaces: the one of its class, and all of lower incarnations. It refuses
// while a connection of a higher incarnation lives.
func (l *Links) admit(in *incoming) (old []*incoming, code quic.ApplicationErrorCode, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cfg.Regions(in.peer.Region) { // since the hello; from here on Prune finds it
		return nil, codeStranger, ErrStranger
	}
	slots := l.inbound[in.peer.Node]
	if slots == nil {
		slots = new([classes]*incoming)
		l.inbound[in.peer.Node] = slots
	}
	for _, o := range slots {
		if o != nil && o.peer.Incarnation > in.peer.Incarnation {
			return nil, codeStale, errStale
		}
	}
	for c, o := range slots {
		if o != nil && (o.class == in.class || o.peer.Incarnation < in.peer.Incarnation) {
			old = append(old, o)
			slots[c] = nil
		}
	}
	slots[in.class] = in
	return old, 0, nil
}

func (l *Links) dismiss(in *incoming) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slots := l.inbound[in.peer.Node]
	if slots == nil { // replaced, and the one that replaced it is gone already
		return
	}
	if slots[in.class] == in {
		slots[in.class] = nil
	}
	if *slots == [classes]*incoming{} {
		delete(l.inbound, in.peer.Node)
	}
}

func (l *Links) answerHello(ctx context.Context, conn *quic.Conn) error {
	s, err := conn.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Write(appendFrame(nil, l.hello().encode())); err != nil {
		return err
	}
	return s.Close()
}

func (l *Links) serveEvents(in *incoming) error {
	traffic := l.metrics.traffic("in", events, in.peer.Region)
	l.cfg.Handler.Joined(in.peer)
	defer l.cfg.Handler.Left(in.peer)
	for {
		frame, err := in.read.next(MaxFrame)
		if err != nil {
			return err
		}
		// What was read before the connection was closed would still come.
		if in.conn.Context().Err() != nil {
			return context.Cause(in.conn.Context())
		}
		traffic.count(len(frame))
		l.cfg.Handler.Frame(in.peer, frame)
	}
}

func (l *Links) serveDatagrams(ctx context.Context, in *incoming) error {
	traffic := l.metrics.traffic("in", datagrams, in.peer.Region)
	for {
		frame, err := in.conn.ReceiveDatagram(ctx)
		if err != nil {
			return err
		}
		traffic.count(len(frame))
		l.cfg.Handler.Datagram(in.peer, frame)
	}
}
