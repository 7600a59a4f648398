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

// link is one connection to an edge node, WebTransport or WebSocket.
type link interface {
	kind() wire.Transport
	// receive hands the body of each frame to handle until the connection
	// ends, and says why it did. Datagrams and stream may call it at once.
	receive(ctx context.Context, handle func(body []byte)) error
	// write sends frames, each with its prefix, of at most one message's size.
	write(ctx context.Context, frames []byte) error
	// datagram sends one frame without prefix; it may be lost.
	datagram(body []byte) error
	// close ends the connection: wire.CloseNormal after a bye, 0 when it broke.
	close(number int)
}

// closedError is an end of a connection that the server gave a number for.
type closedError struct {
	number int
	reason string
}

func (e *closedError) Error() string {
	return fmt.Sprintf("client: connection closed by the server: %d %s", e.number, e.reason)
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

func (l *wtLink) kind() wire.Transport { return wire.Transport_WEBTRANSPORT }

func (l *wtLink) receive(ctx context.Context, handle func([]byte)) error {
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
		return &closedError{number, end.Message}
	}
	return fmt.Errorf("client: webtransport: %w", err)
}

func (l *wtLink) write(ctx context.Context, b []byte) error {
	deadline, _ := ctx.Deadline()
	_ = l.stream.SetWriteDeadline(deadline)
	if _, err := l.stream.Write(b); err != nil {
		return fmt.Errorf("client: webtransport: %w", err)
	}
	return nil
}

func (l *wtLink) datagram(b []byte) error {
	if err := l.session.SendDatagram(b); err != nil {
		return fmt.Errorf("client: webtransport: %w", err)
	}
	return nil
}

func (l *wtLink) close(number int) {
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

func (l *wsLink) kind() wire.Transport { return wire.Transport_WEBSOCKET }

func (l *wsLink) receive(ctx context.Context, handle func([]byte)) error {
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
				return &closedError{int(end.Code), end.Reason}
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

func (l *wsLink) write(ctx context.Context, b []byte) error {
	if err := l.conn.Write(ctx, websocket.MessageBinary, b); err != nil {
		return fmt.Errorf("client: websocket: %w", err)
	}
	return nil
}

func (l *wsLink) datagram([]byte) error { return errors.ErrUnsupported }

func (l *wsLink) close(number int) {
	if number == wire.CloseNormal {
		_ = l.conn.Close(websocket.StatusCode(number), "")
		return
	}
	_ = l.conn.CloseNow()
}
