package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge/transport"
)

// These tests go through real sockets: sessions over both transports.

type server struct {
	*world
	ws, wt string
	pool   *x509.CertPool
}

func serve(t testing.TB, c Config) *server {
	cert, _, err := transport.SelfSigned([]string{"127.0.0.1"}, time.Hour)
	require.NoError(t, err)
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{world: newWorld(t, c), pool: x509.NewCertPool()}
	s.pool.AddCert(cert.Leaf)
	listeners := transport.New(transport.Config{UDP: udp, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}, s.Accept)
	require.NoError(t, listeners.Start(t.Context()))
	web := httptest.NewServer(listeners.WebSocket())
	s.ws, s.wt = "ws"+strings.TrimPrefix(web.URL, "http")+wire.PathWebSocket, "https://"+udp.LocalAddr().String()+wire.PathWebTransport
	t.Cleanup(func() {
		listeners.Stop()
		s.Stop()
		web.Close()
		_ = udp.Close()
		require.Zero(t, s.count(t, "current", "live"))
	})
	return s
}

// phone is a client reduced to what these tests need.
type phone struct {
	write func(*wire.ClientFrame)
	raw   func([]byte)
	read  func() (*wire.ServerFrame, error)
	cut   func()
}

func (s *server) webSocket(t testing.TB, protocol string) *phone {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	c, _, err := websocket.Dial(ctx, s.ws, &websocket.DialOptions{Subprotocols: []string{protocol}})
	require.NoError(t, err)
	c.SetReadLimit(2 << 20)
	t.Cleanup(func() { _ = c.CloseNow() })
	kind := websocket.MessageBinary
	if protocol == wire.JSON {
		kind = websocket.MessageText
	}
	var rest []byte
	return &phone{
		write: func(f *wire.ClientFrame) {
			b, err := wire.AppendFrame(nil, f)
			if protocol == wire.JSON {
				b, err = wire.EncodeJSON(f)
			}
			require.NoError(t, err)
			require.NoError(t, c.Write(ctx, kind, b))
		},
		raw: func(b []byte) { _ = c.Write(ctx, kind, b) },
		read: func() (*wire.ServerFrame, error) {
			if len(bytes.TrimSpace(rest)) == 0 {
				var err error
				if _, rest, err = c.Read(ctx); err != nil {
					return nil, err
				}
			}
			var one []byte
			if protocol == wire.JSON {
				one, rest = wire.SplitJSON(rest)
				return wire.DecodeServerJSON(one)
			}
			var err error
			one, rest, err = wire.Split(rest, wire.MaxServerFrame)
			require.NoError(t, err)
			return wire.DecodeServer(one)
		},
		cut: func() { _ = c.CloseNow() },
	}
}

func (s *server) webTransport(t testing.TB) *phone {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	d := &webtransport.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.pool, NextProtos: []string{http3.NextProtoH3}},
		QUICConfig:      &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true},
	}
	t.Cleanup(func() { _ = d.Close() })
	_, session, err := d.Dial(ctx, s.wt, http.Header{})
	require.NoError(t, err)
	stream, err := session.OpenStreamSync(ctx)
	require.NoError(t, err)
	r := wire.NewReader(stream, wire.MaxServerFrame)
	p := &phone{
		raw: func(b []byte) { _, _ = stream.Write(b) },
		read: func() (*wire.ServerFrame, error) {
			b, err := r.Next()
			if err != nil {
				return nil, err
			}
			return wire.DecodeServer(b)
		},
		cut: func() { _ = session.CloseWithError(0, "") },
	}
	p.write = func(f *wire.ClientFrame) {
		b, err := wire.AppendFrame(nil, f)
		require.NoError(t, err)
		p.raw(b)
	}
	t.Cleanup(p.cut)
	return p
}

func (p *phone) must(t testing.TB) *wire.ServerFrame {
	t.Helper()
	f, err := p.read()
	require.NoError(t, err)
	return f
}

func TestOverRealTransports(t *testing.T) {
	s := serve(t, Config{})
	for name, dial := range map[string]func() *phone{
		"webtransport":   func() *phone { return s.webTransport(t) },
		"websocket":      func() *phone { return s.webSocket(t, wire.Binary) },
		"websocket JSON": func() *phone { return s.webSocket(t, wire.JSON) },
	} {
		t.Run(name, func(t *testing.T) {
			user := strings.ReplaceAll(name, " ", "_")
			bystander := s.webSocket(t, wire.Binary)
			bystander.write(hello("bob l9", user))
			require.NotNil(t, bystander.must(t).GetWelcome())

			p := dial()
			h := hello(user+" l1", "phone", roomA)
			h.Id = 1
			p.write(h)
			welcome := p.must(t).GetWelcome()
			require.Equal(t, name == "webtransport", welcome.Transport == wire.Transport_WEBTRANSPORT)
			require.Equal(t, roomA, p.must(t).GetSnapshot().Room)
			m := send(roomA, "m1", "grüße")
			m.Id = 2
			p.write(m)
			require.Equal(t, "grüße", p.must(t).GetSent().Message.Body)
			p.cut()
			require.Eventually(t, func() bool { return s.count(t, "current", "suspended") == 1 }, 10*time.Second, time.Millisecond)

			// Falls back to the other transport, within the grace time.
			p = s.webSocket(t, wire.Binary)
			h.GetHello().Epoch = welcome.Epoch
			p.write(h)
			again := p.must(t).GetWelcome()
			require.Greater(t, again.Epoch, welcome.Epoch)
			require.NotNil(t, p.must(t).GetSnapshot())
			p.write(&wire.ClientFrame{Id: 3, Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
			require.NotNil(t, p.must(t).GetDone())
			_, err := p.read()
			require.EqualValues(t, wire.CloseNormal, websocket.CloseStatus(err))

			// Bytes that are no frames, and too many of them.
			p = dial()
			p.raw(bytes.Repeat([]byte{0x02, 0xff, 0xff}, 3))
			require.Equal(t, wire.CodeBadFrame, p.must(t).GetClose().GetCode())
			p = dial()
			p.raw(append([]byte{0x81, 0x80, 0x08}, make([]byte, 1<<17)...))
			require.Equal(t, wire.CodeTooLarge, p.must(t).GetClose().GetCode())

			bystander.write(&wire.ClientFrame{Id: 9, Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
			require.NotNil(t, bystander.must(t).GetPong(), "nobody else noticed")
			bystander.write(&wire.ClientFrame{Id: 10, Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
			require.NotNil(t, bystander.must(t).GetDone())
			require.Eventually(t, func() bool { return s.Len() == 0 }, 10*time.Second, time.Millisecond)
		})
	}
}

// BenchmarkIdleSession measures what an idle WebSocket session with a room
// holds: heap and stack, the client's raw socket included.
func BenchmarkIdleSession(b *testing.B) {
	s := serve(b, Config{Grace: time.Millisecond})
	const sessions = 1000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var open []net.Conn
		for i := range sessions {
			c, err := net.Dial("tcp", strings.Split(s.ws, "/")[2])
			require.NoError(b, err)
			h := hello(fmt.Sprintf("user%d l%d", i, i), "phone", roomA)
			frame, err := wire.AppendFrame(nil, h)
			require.NoError(b, err)
			_, err = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: muster.v1\r\n\r\n")
			require.NoError(b, err)
			r := bufio.NewReader(c)
			answer, err := http.ReadResponse(r, nil)
			require.NoError(b, err)
			require.Equal(b, http.StatusSwitchingProtocols, answer.StatusCode)
			_, err = c.Write(append([]byte{0x82, 0x80 | byte(len(frame)), 0, 0, 0, 0}, frame...))
			require.NoError(b, err)
			for joined := false; !joined; { // messages of RFC 6455, of 126 to 65,535 bytes or shorter
				var head [2]byte
				_, err = io.ReadFull(r, head[:])
				require.NoError(b, err)
				size := int(head[1])
				if size == 126 {
					_, err = io.ReadFull(r, head[:])
					require.NoError(b, err)
					size = int(head[0])<<8 | int(head[1])
				}
				message := make([]byte, size)
				_, err = io.ReadFull(r, message)
				require.NoError(b, err)
				for len(message) > 0 {
					var one []byte
					one, message, err = wire.Split(message, wire.MaxServerFrame)
					require.NoError(b, err)
					f, err := wire.DecodeServer(one)
					require.NoError(b, err)
					joined = joined || f.GetSnapshot() != nil
				}
			}
			open = append(open, c)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		size := float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
		b.ReportMetric(size/sessions/1024, "KiB/session")
		for _, c := range open {
			_ = c.Close()
		}
		require.Eventually(b, func() bool { return s.Len() == 0 }, 10*time.Second, time.Millisecond)
	}
}
