package peerlink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/regions"
)

// RemoteError is a failure of the peer's Handler.Call that isn't an
// *errs.Error.
type RemoteError struct {
	Node regions.NodeID
	Text string
}

func (e *RemoteError) Error() string { return fmt.Sprintf("peer %s: %s", e.Node, e.Text) }

// What an answer is; its first byte.
const (
	answerOK byte = iota
	answerError
	answerText
)

// callsLink is the control link to one peer.
type callsLink struct {
	links   *Links
	node    regions.NodeID
	out, in traffic // requests and answers, and streams

	mu      sync.Mutex
	conn    *quic.Conn    // nil while down
	carries bool          // the peer takes what a call belongs to
	reason  error         // why it is down
	changed chan struct{} // closed and replaced when an attempt to reach the peer ended
}

func newCallsLink(l *Links, node regions.NodeID, region regions.RegionID) *callsLink {
	return &callsLink{links: l, node: node, out: l.metrics.traffic("out", control, region), in: l.metrics.traffic("in", control, region), changed: make(chan struct{})}
}

func (c *callsLink) serve(ctx context.Context, d *dialled) error {
	c.set(d.Conn, d.features&featureCarry != 0, nil)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.Context().Done():
		return context.Cause(d.Context())
	}
}

func (c *callsLink) down(reason error) { c.set(nil, false, reason) }

func (c *callsLink) set(conn *quic.Conn, carries bool, reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.carries, c.reason = conn, carries, reason
	close(c.changed)
	c.changed = make(chan struct{})
}

// connection returns the connection, or waits for one more attempt to dial.
func (c *callsLink) connection(ctx context.Context) (*quic.Conn, error) {
	c.mu.Lock()
	conn, changed := c.conn, c.changed
	c.mu.Unlock()
	if conn != nil && conn.Context().Err() == nil {
		return conn, nil
	}
	select {
	case <-changed:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrDown, regions.ErrUnsent, c.reason)
	}
	return c.conn, nil
}

func (c *callsLink) call(ctx context.Context, request []byte) (_ []byte, err error) {
	if obs.Traced(ctx) {
		var span trace.Span
		ctx, span = obs.Span(ctx, "call", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("muster.peer", string(c.node))))
		defer func() { obs.End(span, err) }()
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	conn, err := c.connection(ctx)
	var answer []byte
	if err == nil {
		answer, err = c.exchange(ctx, conn, request)
		// A stream may tell of its connection's end before the context does.
		if err != nil && (conn.Context().Err() != nil || errors.Is(err, net.ErrClosed)) {
			err = fmt.Errorf("%w: %w", ErrDown, err)
		}
	}
	c.links.metrics.calls.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		if ctx.Err() != nil { // it says more than what that did to the stream
			err = ctx.Err()
		}
		return nil, fmt.Errorf("call %s: %w", c.node, err)
	}
	return answer, nil
}

func (c *callsLink) exchange(ctx context.Context, conn *quic.Conn, request []byte) ([]byte, error) {
	s, err := conn.OpenStreamSync(ctx)
	if err != nil { // the link may be dead and not known to be
		return nil, fmt.Errorf("%w: %w", regions.ErrUnsent, err)
	}
	stop := context.AfterFunc(ctx, func() { abandon(s) })
	defer stop()
	b := []byte{kindCall}
	if carried := c.carried(ctx); carried != "" {
		b = appendFrame([]byte{kindCarried}, []byte(carried))
	}
	if _, err := s.Write(appendFrame(b, request)); err != nil {
		abandon(s)
		return nil, err
	}
	_ = s.Close()
	c.out.count(len(request))
	b, err = newFrameReader(s, callBuffer).next(MaxFrame + 1)
	if err != nil {
		abandon(s)
		return nil, unexpected(err)
	}
	c.in.count(len(b))
	return decodeAnswer(c.node, b)
}

// carried is what goes along with a call: which request and trace it belongs to.
func (c *callsLink) carried(ctx context.Context) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.carries {
		return ""
	}
	return obs.Carry(ctx)
}

// abandon gives both directions of a stream up; the other side notices.
func abandon(s *quic.Stream) {
	s.CancelRead(0)
	s.CancelWrite(0)
}

func encodeAnswer(answer []byte, err error) []byte {
	var known *errs.Error
	switch {
	case err == nil:
		return append([]byte{answerOK}, answer...)
	case errors.As(err, &known):
		b, jsonErr := json.Marshal(known)
		if jsonErr == nil {
			return append([]byte{answerError}, b...)
		}
		fallthrough
	default:
		return append([]byte{answerText}, err.Error()...)
	}
}

func decodeAnswer(from regions.NodeID, b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty answer", errProtocol)
	}
	switch body := b[1:]; b[0] {
	case answerOK:
		return body, nil
	case answerError:
		known := new(errs.Error)
		if err := json.Unmarshal(body, known); err != nil {
			return nil, fmt.Errorf("%w: answer: %w", errProtocol, err)
		}
		return nil, known
	case answerText:
		return nil, &RemoteError{Node: from, Text: string(body)}
	default:
		return nil, fmt.Errorf("%w: answer of kind %d", errProtocol, b[0])
	}
}

// serveCalls answers the peer's calls until the connection ends.
func (l *Links) serveCalls(ctx context.Context, in *incoming) error {
	var calls sync.WaitGroup
	defer calls.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		s, err := in.conn.AcceptStream(ctx)
		if err != nil {
			return err
		}
		calls.Go(func() {
			if err := l.serveBidi(ctx, in.peer, s); err != nil {
				abandon(s)
				if errors.Is(err, errProtocol) {
					in.close(codeProtocol, phrase(err))
				}
			}
		})
	}
}

func (l *Links) serveBidi(ctx context.Context, from Peer, s *quic.Stream) error {
	_ = s.SetReadDeadline(time.Now().Add(callTimeout))
	var kind [1]byte
	if _, err := io.ReadFull(s, kind[:]); err != nil {
		return err
	}
	switch kind[0] {
	case kindCall, kindCarried:
		return l.answer(ctx, from, s, kind[0] == kindCarried)
	case kindStream:
		_ = s.SetReadDeadline(time.Time{})
		return l.serveStream(ctx, from, s)
	default:
		return fmt.Errorf("%w: stream of kind %d", errProtocol, kind[0])
	}
}

func (l *Links) answer(ctx context.Context, from Peer, s *quic.Stream, carried bool) error {
	frames := newFrameReader(s, callBuffer)
	if carried {
		b, err := frames.next(obs.MaxCarried)
		if err != nil {
			return err
		}
		if ctx = obs.Resume(ctx, string(b)); obs.Traced(ctx) {
			var span trace.Span
			ctx, span = obs.Root(ctx, l.cfg.Tracer, "called", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("muster.peer", string(from.Node))))
			defer span.End()
		}
	}
	request, err := frames.next(MaxFrame)
	if err != nil {
		return err
	}
	l.metrics.traffic("in", control, from.Region).count(len(request))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The stream's context ends when the caller gives up or the link breaks.
	stop := context.AfterFunc(s.Context(), cancel)
	defer stop()
	answer, err := l.cfg.Handler.Call(ctx, from, request)
	if len(answer) > MaxFrame {
		err = ErrTooLarge
	}
	_ = s.SetWriteDeadline(time.Now().Add(callTimeout))
	b := encodeAnswer(answer, err)
	if _, err := s.Write(appendFrame(nil, b)); err != nil {
		return err
	}
	l.metrics.traffic("out", control, from.Region).count(len(b))
	return s.Close()
}

func outcome(err error) string {
	var known *errs.Error
	var remote *RemoteError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &known), errors.As(err, &remote):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, io.ErrUnexpectedEOF):
		return "unanswered"
	default:
		return "failed"
	}
}
