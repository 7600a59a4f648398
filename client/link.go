package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/webtransport-go"

	"github.com/mustermesh/muster/api/wire"
)

// Conn is one connection to an edge node: a WebTransport session with its
// stream, a WebSocket, or what Dialer.Dial makes.
type Conn interface {
	Kind() wire.Transport
	// Receive hands the body of each frame to handle until the connection or
	// ctx ends, and says why it did: a *ClosedError if the server closed it.
	// Datagrams and stream may call handle at once; the body is handle's until
	// it returns. Receive is called once, and only Close is called after it.
	Receive(ctx context.Context, handle func(body []byte)) error
	// Write sends frames, each with its prefix, of at most one message's size.
	// The bytes are the caller's again when it returns.
	Write(ctx context.Context, frames []byte) error
	// Datagram sends one frame without prefix; it may be lost. It is called
	// only if Kind is WEBTRANSPORT.
	Datagram(body []byte) error
	// Close ends the connection: wire.CloseNormal after a bye, 0 when it broke
	// or is no longer needed, which is no bye.
	Close(number int)
}

// ClosedError is an end of a connection that the server gave a number for.
type ClosedError struct {
	Number int // of docs/protocol.md, or the transport's own
	Reason string
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("client: connection closed by the server: %d %s", e.Number, e.Reason)
}

// gone is RFC 6455's "going away": an end that is no bye.
const gone = 1001

// closeWait is how long a reason for a broken stream is waited for.
const closeWait = 500 * time.Millisecond

type wtLink struct {
	session *webtransport.Session
	stream  *webtransport.Stream
	cancel  context.CancelFunc // of the dial's context, which some of the session hangs on
}

func (l *wtLink) Kind() wire.Transport { return wire.Transport_WEBTRANSPORT }

func (l *wtLink) Receive(ctx context.Context, handle func([]byte)) error {
	ctx, cancel := context.WithCancel(ctx)
	var datagrams sync.WaitGroup
	datagrams.Go(func() {
		for {
			b, err := l.session.ReceiveDatagram(ctx)
			if err != nil {
				return
			}
			handle(b)
		}
	})
	defer datagrams.Wait()
	defer cancel()

	stop := context.AfterFunc(ctx, func() { l.stream.CancelRead(0) })
	defer stop()
	r := wire.NewReader(l.stream, wire.MaxServerFrame)
	for {
		body, err := r.Next()
		if err != nil {
			return l.reason(ctx, err)
		}
		handle(body)
	}
}

// reason prefers the session's close to the stream's: the stream may end a
// moment earlier.
func (l *wtLink) reason(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*webtransport.SessionError](err); !ok {
		select {
		case <-l.session.Context().Done():
			// AcceptStream is the one call that returns why a session ended.
			if _, end := l.session.AcceptStream(ctx); end != nil {
				err = end
			}
		case <-time.After(closeWait):
		case <-ctx.Done():
		}
	}
	if end, ok := errors.AsType[*webtransport.SessionError](err); ok && end.Remote {
		number := int(end.ErrorCode)
		if number == 0 {
			number = wire.CloseNormal
		}
		return &ClosedError{number, end.Message}
	}
	return fmt.Errorf("client: webtransport: %w", err)
}

func (l *wtLink) Write(ctx context.Context, b []byte) error {
	deadline, _ := ctx.Deadline()
	_ = l.stream.SetWriteDeadline(deadline)
	if _, err := l.stream.Write(b); err != nil {
		return fmt.Errorf("client: webtransport: %w", err)
	}
	return nil
}

func (l *wtLink) Datagram(b []byte) error {
	if err := l.session.SendDatagram(b); err != nil {
		return fmt.Errorf("client: webtransport: %w", err)
	}
	return nil
}

func (l *wtLink) Close(number int) {
	if number == wire.CloseNormal {
		number = 0
	} else if number == 0 {
		number = gone
	}
	_ = l.session.CloseWithError(webtransport.SessionErrorCode(number), "")
	l.cancel()
}

type wsLink struct{ conn *websocket.Conn }

// wsLimit is the longest WebSocket message that is read: a few of the longest
// frames.
const wsLimit = 4 * (wire.MaxServerFrame + wire.MaxPrefix)

func (l *wsLink) Kind() wire.Transport { return wire.Transport_WEBSOCKET }

func (l *wsLink) Receive(ctx context.Context, handle func([]byte)) error {
	l.conn.SetReadLimit(wsLimit)
	var buf bytes.Buffer
	for {
		_, r, err := l.conn.Reader(ctx)
		if err == nil {
			buf.Reset()
			_, err = buf.ReadFrom(r)
		}
		if err != nil {
			if end, ok := errors.AsType[websocket.CloseError](err); ok {
				return &ClosedError{int(end.Code), end.Reason}
			}
			return fmt.Errorf("client: websocket: %w", err)
		}
		for rest := buf.Bytes(); len(rest) > 0; {
			var body []byte
			if body, rest, err = wire.Split(rest, wire.MaxServerFrame); err != nil {
				return fmt.Errorf("client: websocket: %w", err)
			}
			handle(body)
		}
		if buf.Cap() > 64<<10 {
			buf = bytes.Buffer{} // don't keep a large snapshot's memory
		}
	}
}

func (l *wsLink) Write(ctx context.Context, b []byte) error {
	if err := l.conn.Write(ctx, websocket.MessageBinary, b); err != nil {
		return fmt.Errorf("client: websocket: %w", err)
	}
	return nil
}

func (l *wsLink) Datagram([]byte) error { return errors.ErrUnsupported }

func (l *wsLink) Close(number int) {
	if number == wire.CloseNormal {
		_ = l.conn.Close(websocket.StatusCode(number), "")
		return
	}
	_ = l.conn.CloseNow()
}
