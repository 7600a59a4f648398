package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// messageTooBig is RFC 6455's close code for a message beyond the limit.
const messageTooBig = 1009

// newUpgrader returns one for clients that ask for one of these subprotocols; without any,
// for those that ask for none.
func newUpgrader(subprotocols ...string) *gws.Upgrader {
	return gws.NewUpgrader(wsEvents{}, &gws.ServerOption{
		SubProtocols:       subprotocols,
		ReadMaxPayloadSize: wire.MaxClientFrame + wire.MaxPrefix,
		ParallelGolimit:    1,
		NewSession:         func() gws.SessionStorage { return new(wsConn) },
	})
}

// WebSocket returns the handler of wire.PathWebSocket.
func (s *Server) WebSocket() http.Handler {
	return s.webSocket(newUpgrader(wire.Binary, wire.JSON), nil)
}

// Dialect is another language for the frames of one connection: lines of text in text
// messages, whatever the subprotocol. Read and Write are called beside each other, each
// by one goroutine at a time.
type Dialect interface {
	// Read turns a line of the client's into a frame. Its errors are for a Handler.
	Read(line []byte) (*wire.ClientFrame, error)
	// Write turns a frame into what the client is told: lines, or nothing.
	Write(*wire.ServerFrame) []byte
}

// Speaking returns a handler like WebSocket's, for connections that each speak a dialect
// of their own.
func (s *Server) Speaking(dialect func() Dialect) http.Handler {
	return s.webSocket(newUpgrader(), dialect)
}

// Speaks is a Conn that may speak a dialect.
type Speaks interface{ Dialect() Dialect }

func (s *Server) webSocket(upgrader *gws.Upgrader, dialect func() Dialect) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, ok := s.admit(w, r, s.config.ClientAddr)
		if !ok {
			return
		}
		raw, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, "WebSocket needs HTTP/1.1", http.StatusUpgradeRequired)
			return
		}
		early := make([]byte, rw.Reader.Buffered())
		if _, err := io.ReadFull(rw, early); err != nil {
			_ = raw.Close()
			return
		}
		nc := &wsNet{Conn: raw, early: early, linger: s.config.CloseTimeout, now: nowOf(raw)}
		var from io.Reader = raw
		if len(early) > 0 {
			from = nc
		}
		// Small: a longer payload bypasses it.
		socket, err := upgrader.UpgradeFromConn(nc, bufio.NewReaderSize(from, 1<<10), r)
		if err != nil {
			_ = raw.Close()
			return
		}
		c := socket.Session().(*wsConn)
		c.net, c.socket, c.remote, c.json, c.ingests = nc, socket, remote, socket.SubProtocol() == wire.JSON, &s.ingests
		c.outbox = outbox{link: c, config: &s.config, pool: &s.scratch}
		nc.json = c.json
		if dialect != nil {
			c.json, c.dialect = true, dialect()
			nc.dialect = c.dialect
		}
		// In a goroutine of its own, so that the HTTP server's stack and
		// buffers are freed.
		if !s.serve(c) {
			_ = socket.WriteClose(closeNumber(Draining()), []byte(wire.CodeDraining))
			_ = raw.Close()
		}
	})
}

// wsConn is a Conn. It is also gws's per-connection storage, through which the
// shared event handler finds it; gws calls none of that interface's methods.
type wsConn struct {
	gws.SessionStorage
	outbox
	net     *wsNet
	socket  *gws.Conn
	remote  netip.Addr
	json    bool
	dialect Dialect // nil: frames as they are
	handle  Handler
	ingests *wire.Pool
	why     error // read after the read loop
}

func (c *wsConn) Transport() wire.Transport { return wire.Transport_WEBSOCKET }
func (c *wsConn) Remote() netip.Addr        { return c.remote }
func (c *wsConn) Dialect() Dialect          { return c.dialect }

func (c *wsConn) Serve(h Handler) error {
	c.handle = h
	c.socket.ReadLoop()
	return c.end()
}

func (c *wsConn) end() error {
	// After a close by us the client may still be sending. Closing the socket
	// with unread bytes resets it, and the client would lose our last words:
	// read until it closes too, or the deadline that wsNet.Close set.
	_, _ = io.Copy(io.Discard, c.net)
	c.finish()
	return c.why
}

func (c *wsConn) write(frames []*edge.Frame, s *scratch, deadline time.Time) error {
	if err := c.net.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	parts, kind := s.parts[:0], gws.OpcodeBinary
	for _, f := range frames {
		if !c.json {
			parts = append(parts, f.Prefixed())
			continue
		}
		kind = gws.OpcodeText
		if c.dialect != nil {
			parts = append(parts, speak(c.dialect, f)...)
			continue
		}
		line, err := f.JSON()
		if err != nil {
			continue // another node's frame that JSON can't say: this client does without
		}
		parts = append(parts, line, newline)
	}
	s.parts = parts
	if len(parts) == 0 {
		if err := c.net.flush(); err != nil {
			return fmt.Errorf("websocket: %w", err)
		}
		return c.net.SetWriteDeadline(time.Time{})
	}
	if err := c.socket.Writev(kind, parts...); err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	// gws answers pings and closes under the deadline that is set.
	return c.net.SetWriteDeadline(time.Time{})
}

var newline = []byte("\n")

// speak is what a client is told of a frame.
func speak(d Dialect, f *edge.Frame) (lines [][]byte) {
	for _, part := range f.Parts() {
		if one, err := wire.DecodeServer(part.Body()); err == nil { // see write
			if line := d.Write(one); len(line) > 0 {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func (c *wsConn) writeNow(f *edge.Frame) (taken, more bool) {
	if c.dialect != nil { // what it says of the frame is still to be made
		return false, false
	}
	if !c.json {
		return c.net.writeNow(f.WebSocket())
	}
	b, err := f.WebSocketText()
	if err != nil {
		return true, false // see write
	}
	return c.net.writeNow(b)
}

func (c *wsConn) shut(number uint16, reason string) {
	_ = c.net.SetWriteDeadline(time.Now().Add(c.config.WriteTimeout))
	_ = c.socket.WriteClose(number, []byte(reason))
}

func (c *wsConn) kill() { _ = c.net.Conn.Close() }

// message takes one WebSocket message apart.
func (c *wsConn) message(kind gws.Opcode, b []byte) {
	if text := kind == gws.OpcodeText; text != c.json {
		c.handle(nil, len(b), fmt.Errorf("%w: the subprotocol has the other kind of messages", wire.ErrBadFrame))
		return
	}
	d := c.ingests.Decoder()
	for len(b) > 0 && !c.ended() {
		var f *wire.ClientFrame
		var one []byte
		var err error
		if c.json {
			if one, b = wire.SplitJSON(b); len(one) == 0 {
				return
			}
			if c.dialect != nil {
				f, err = c.dialect.Read(one)
			} else {
				f, err = wire.DecodeClientJSON(one)
			}
		} else {
			if one, b, err = wire.Split(b, wire.MaxClientFrame); err == nil {
				f, err = d.Client(one)
			}
		}
		c.handle(f, max(len(one), 1), err)
		d.Release()
		if errors.Is(err, wire.ErrTooLarge) {
			c.Close(&wire.Close{Code: wire.CodeTooLarge, Message: "a frame has at most 64 KiB"})
		}
	}
}

// wsEvents is gws's view of all connections.
type wsEvents struct{}

func (wsEvents) OnOpen(*gws.Conn)         {}
func (wsEvents) OnPong(*gws.Conn, []byte) {}

func (wsEvents) OnPing(socket *gws.Conn, payload []byte) {
	_ = socket.WritePong(payload) // if it fails, so does the next read
}

func (wsEvents) OnMessage(socket *gws.Conn, m *gws.Message) {
	defer m.Close()
	socket.Session().(*wsConn).message(m.Opcode, m.Bytes())
}

func (wsEvents) OnClose(socket *gws.Conn, err error) {
	c := socket.Session().(*wsConn)
	if c.net.tooBig.Load() {
		err = wire.ErrTooLarge
	}
	c.why = fmt.Errorf("websocket: %w", err)
}

// wsNet is the socket below gws. What it writes for gws may wait; what it writes
// now does not, and leaves a rest where the kernel takes no more, which goes
// before anything else.
type wsNet struct {
	net.Conn
	early   []byte // what came with the HTTP request
	json    bool
	dialect Dialect
	linger  time.Duration
	tooBig  atomic.Bool

	writing sync.Mutex // guards the following, and the order of what is written
	now     *now       // nil: the connection can't
	rest    []byte
}

// writeNow writes a whole message, as far as that goes without waiting.
func (c *wsNet) writeNow(b []byte) (taken, more bool) {
	if c.now == nil || !c.writing.TryLock() {
		return false, false
	}
	defer c.writing.Unlock()
	if len(c.rest) > 0 {
		return false, true
	}
	n := c.now.write(b)
	c.rest = b[n:]
	if n == 0 {
		c.rest = nil
	}
	return n > 0, len(c.rest) > 0
}

// flush writes the rest.
func (c *wsNet) flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.flushLocked()
}

func (c *wsNet) flushLocked() error {
	if len(c.rest) == 0 {
		return nil
	}
	n, err := c.Conn.Write(c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	return err
}

func (c *wsNet) Read(b []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// Write replaces gws's own close for a message that is too big by our Close
// frame and code: gws gives no other chance to say it, since it must not read
// such a message.
func (c *wsNet) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.flushLocked(); err != nil {
		return 0, err
	}
	if len(b) >= 4 && b[0] == 0x80|byte(gws.OpcodeCloseConnection) && binary.BigEndian.Uint16(b[2:]) == messageTooBig {
		c.tooBig.Store(true)
		if _, err := c.Conn.Write(c.tooLarge()); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// tooLarge is a message with the Close frame, then the closing control frame;
// both are short, so their length is one byte (RFC 6455 section 5.2).
func (c *wsNet) tooLarge() []byte {
	last := &wire.Close{Code: wire.CodeTooLarge, Message: "a frame has at most 64 KiB"}
	f := edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: last}})
	body, kind := f.Prefixed(), gws.OpcodeBinary
	switch {
	case c.dialect != nil:
		kind, body = gws.OpcodeText, bytes.Join(speak(c.dialect, f), nil)
	case c.json:
		kind = gws.OpcodeText
		body, _ = f.JSON() // our own words
	}
	b := append([]byte{0x80 | byte(kind), byte(len(body))}, body...)
	b = append(b, 0x80|byte(gws.OpcodeCloseConnection), byte(2+len(last.Code)))
	b = binary.BigEndian.AppendUint16(b, closeNumber(last))
	return append(b, last.Code...)
}

// Close is called by gws after the closing control frame. It closes our half
// only; Serve reads the rest and closes.
func (c *wsNet) Close() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return c.Conn.Close()
	}
	return errors.Join(half.CloseWrite(), c.SetReadDeadline(time.Now().Add(c.linger)))
}
