package peerlink

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/quic-go/quic-go"

	"github.com/mustermesh/muster/regions"
)

// The first byte of a bidirectional stream says what it is.
const (
	kindCall    byte = iota // a request and its answer, framed
	kindStream              // whatever both ends agree on
	kindCarried             // a call, with what it belongs to before the request
)

// Stream is a stream to a peer, in order and both ways, on the control link
// but with a flow of its own. It lives at most as long as the context that it
// was opened with, or that its handler was given; then both directions are
// given up.
type Stream struct {
	*quic.Stream
	out, in traffic
	stop    func() bool
}

func newStream(ctx context.Context, s *quic.Stream, out, in traffic) *Stream {
	return &Stream{s, out, in, context.AfterFunc(ctx, func() { abandon(s) })}
}

func (s *Stream) Write(b []byte) (int, error) {
	n, err := s.Stream.Write(b)
	s.out.bytes.Add(float64(n))
	return n, err
}

func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	s.in.bytes.Add(float64(n))
	return n, err
}

// Close ends the stream: what was written still arrives, what was not read is
// given up. It must not be called during a Write.
func (s *Stream) Close() error {
	if !s.stop() { // given up already
		return nil
	}
	s.CancelRead(0)
	_ = s.Stream.Close() // refuses if the peer wants no more; then all is said
	return nil
}

// Open opens a stream to a peer, whose Config.Stream serves it. As with Call it
// fails after one attempt to dial while the peer can't be reached. ctx bounds
// the stream's life.
func (l *Links) Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error) {
	out, err := l.to(to, control)
	if err != nil {
		return nil, err
	}
	conn, err := out.calls.connection(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream to %s: %w", to, err)
	}
	s, err := conn.OpenStreamSync(ctx)
	if err == nil {
		// With the first write; QUIC tells the peer of a stream only then.
		_, err = s.Write([]byte{kindStream})
	}
	if err != nil {
		return nil, fmt.Errorf("open stream to %s: %w: %w: %w", to, ErrDown, regions.ErrUnsent, err)
	}
	return newStream(ctx, s, out.calls.out, out.calls.in), nil
}

// serveStream has the handler serve a peer's stream.
func (l *Links) serveStream(ctx context.Context, from Peer, s *quic.Stream) error {
	if l.cfg.Stream == nil {
		return errors.New("peerlink: this node serves no streams")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // even if the handler's goroutine ends in it
	stream := newStream(ctx, s, l.metrics.traffic("out", control, from.Region), l.metrics.traffic("in", control, from.Region))
	if err := l.cfg.Stream(ctx, from, stream); err != nil {
		return err
	}
	return stream.Close()
}
