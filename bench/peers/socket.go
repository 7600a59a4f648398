package peers

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

const most = 4 << 20 // bytes of a message

// socket is a WebSocket (RFC 6455) of a client: no TLS, no extensions, and one
// buffer that every message is read into.
type socket struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte

	mu  sync.Mutex // guards writing
	out []byte
}

func dial(ctx context.Context, address, subprotocol string) (_ *socket, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var key [16]byte
	if _, err := rand.Read(key[:]); err != nil {
		return nil, err
	}
	req := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key[:]) + "\r\n"
	if subprotocol != "" {
		req += "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	if _, err := io.WriteString(conn, req+"\r\n"); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, 16<<10)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("%s answers %s", address, resp.Status)
	}
	_ = conn.SetDeadline(time.Time{})
	return &socket{conn: conn, r: r}, nil
}

var errClosed = errors.New("closed by the server")

// read returns the next message, which is good until the next read.
func (s *socket) read() ([]byte, error) {
	s.buf = s.buf[:0]
	for {
		var h [2]byte
		if _, err := io.ReadFull(s.r, h[:]); err != nil {
			return nil, err
		}
		n := uint64(h[1] & 0x7f)
		switch n {
		case 126:
			var x [2]byte
			if _, err := io.ReadFull(s.r, x[:]); err != nil {
				return nil, err
			}
			n = uint64(binary.BigEndian.Uint16(x[:]))
		case 127:
			var x [8]byte
			if _, err := io.ReadFull(s.r, x[:]); err != nil {
				return nil, err
			}
			n = binary.BigEndian.Uint64(x[:])
		}
		if h[1]&0x80 != 0 || n > most || len(s.buf)+int(n) > most {
			return nil, errors.New("no WebSocket frame of a server, or one too large")
		}
		from := len(s.buf)
		s.buf = append(s.buf, make([]byte, n)...)
		if _, err := io.ReadFull(s.r, s.buf[from:]); err != nil {
			return nil, err
		}
		switch h[0] & 0x0f {
		case opClose:
			if len(s.buf) >= from+2 {
				return nil, fmt.Errorf("%w: %d %s", errClosed, binary.BigEndian.Uint16(s.buf[from:]), s.buf[from+2:])
			}
			return nil, errClosed
		case opPing:
			if err := s.write(opPong, s.buf[from:]); err != nil {
				return nil, err
			}
			s.buf = s.buf[:from]
			continue
		case opPong:
			s.buf = s.buf[:from]
			continue
		}
		if h[0]&0x80 != 0 {
			return s.buf, nil
		}
	}
}

// write sends a message. The masking key is zero: it protects proxies, of which
// there are none here.
func (s *socket) write(op byte, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(s.out[:0], 0x80|op)
	switch {
	case len(b) < 126:
		s.out = append(s.out, 0x80|byte(len(b)))
	case len(b) <= 0xffff:
		s.out = binary.BigEndian.AppendUint16(append(s.out, 0x80|126), uint16(len(b)))
	default:
		s.out = binary.BigEndian.AppendUint64(append(s.out, 0x80|127), uint64(len(b)))
	}
	s.out = append(append(s.out, 0, 0, 0, 0), b...)
	_, err := s.conn.Write(s.out)
	return err
}

func (s *socket) close() { _ = s.conn.Close() }
