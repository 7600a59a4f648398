package transport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// node is a server on loopback whose connections a test takes one by one.
type node struct {
	*Server
	ws, wt string // URLs
	conns  chan *accepted
	pool   *x509.CertPool
}

type accepted struct {
	Conn
	frames chan got
	ended  chan error
}

type got struct {
	frame *wire.ClientFrame
	size  int
	err   error
}

func start(t testing.TB, c Config) *node {
	cert, _, err := SelfSigned([]string{"127.0.0.1"}, time.Hour)
	require.NoError(t, err)
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = udp.Close() })
	c.UDP, c.TLS = udp, &tls.Config{Certificates: []tls.Certificate{cert}}
	n := &node{conns: make(chan *accepted, 5000), pool: x509.NewCertPool()}
	n.pool.AddCert(cert.Leaf)
	n.Server = New(c, func(c Conn) (Handler, func(error)) {
		a := &accepted{Conn: c, frames: make(chan got, 100), ended: make(chan error, 1)}
		n.conns <- a
		return func(f *wire.ClientFrame, size int, err error) {
			if err == nil {
				f = proto.Clone(f).(*wire.ClientFrame)
			}
			a.frames <- got{f, size, err}
		}, func(err error) { a.ended <- err }
	})
	require.NoError(t, n.Start(t.Context()))
	web := httptest.NewServer(n.WebSocket())
	t.Cleanup(func() { n.Stop(); web.Close() })
	n.ws = "ws" + strings.TrimPrefix(web.URL, "http") + wire.PathWebSocket
	n.wt = "https://" + udp.LocalAddr().String() + wire.PathWebTransport
	return n
}

func (n *node) dialWS(t testing.TB, protocol string) (*websocket.Conn, *accepted) {
	c, _, err := websocket.Dial(t.Context(), n.ws, &websocket.DialOptions{Subprotocols: []string{protocol}})
	require.NoError(t, err)
	c.SetReadLimit(2 << 20)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c, receive(t, n.conns)
}

func (n *node) dialWT(t testing.TB) (*webtransport.Session, *webtransport.Stream, *accepted) {
	d := &webtransport.Transport{
		TLSClientConfig: &tls.Config{RootCAs: n.pool, NextProtos: []string{http3.NextProtoH3}},
		QUICConfig:      &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true},
	}
	t.Cleanup(func() { _ = d.Close() })
	_, session, err := d.Dial(t.Context(), n.wt, http.Header{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.CloseWithError(0, "") })
	stream, err := session.OpenStreamSync(t.Context())
	require.NoError(t, err)
	_, err = stream.Write(ping(t, 1))
	require.NoError(t, err)
	a := receive(t, n.conns)
	require.EqualValues(t, 1, receive(t, a.frames).frame.Id)
	return session, stream, a
}

func receive[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		require.Fail(t, "nothing came")
	}
	return v
}

func ping(t testing.TB, id uint64) []byte {
	b, err := wire.AppendFrame(nil, &wire.ClientFrame{Id: id, Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
	require.NoError(t, err)
	return b
}

func pong(re uint64) *edge.Frame {
	return edge.NewFrame(&wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Pong{Pong: &wire.Pong{}}})
}

func fixes(n uint64, size int) *edge.Frame {
	body, _ := (&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{
		Room:  strings.Repeat("r", size),
		Fixes: []*wire.MemberFix{{Fix: &wire.Fix{N: n}}},
	}}}).MarshalVT()
	return edge.RawFrame(body, 0, true)
}

// texts is the server's frames of a WebSocket message.
func texts(t testing.TB, kind websocket.MessageType, b []byte) (frames []*wire.ServerFrame) {
	for len(b) > 0 {
		var f *wire.ServerFrame
		var one []byte
		var err error
		if kind == websocket.MessageText {
			if one, b = wire.SplitJSON(b); len(one) == 0 {
				break
			}
			f, err = wire.DecodeServerJSON(one)
		} else {
			one, b, err = wire.Split(b, wire.MaxServerFrame)
			require.NoError(t, err)
			f, err = wire.DecodeServer(one)
		}
		require.NoError(t, err)
		frames = append(frames, f)
	}
	return frames
}

func TestWebSocket(t *testing.T) {
	n := start(t, Config{})
	for _, protocol := range []string{wire.Binary, wire.JSON} {
		t.Run(protocol, func(t *testing.T) {
			c, a := n.dialWS(t, protocol)
			require.Equal(t, wire.Transport_WEBSOCKET, a.Transport())
			require.Equal(t, netip.MustParseAddr("127.0.0.1"), a.Remote())
			kind, message := websocket.MessageBinary, append(ping(t, 1), ping(t, 2)...)
			if protocol == wire.JSON {
				kind, message = websocket.MessageText, []byte("{\"id\":\"1\",\"ping\":{}}\n\n{\"id\":\"2\",\"ping\":{}}\n")
			}
			require.NoError(t, c.Write(t.Context(), kind, message))
			require.EqualValues(t, 1, receive(t, a.frames).frame.Id)
			require.EqualValues(t, 2, receive(t, a.frames).frame.Id)

			a.Send(pong(7))
			got, b, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, kind, got)
			require.EqualValues(t, 7, texts(t, got, b)[0].Re)

			require.NoError(t, c.Write(t.Context(), kind, []byte{0x02, 0xff, 0xff}))
			require.ErrorIs(t, receive(t, a.frames).err, wire.ErrBadFrame)
			other := websocket.MessageText + websocket.MessageBinary - kind
			require.NoError(t, c.Write(t.Context(), other, []byte("{}")))
			require.ErrorIs(t, receive(t, a.frames).err, wire.ErrBadFrame)

			a.Close(&wire.Close{Code: wire.CodeSuperseded, Epoch: 9})
			got, b, err = c.Read(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 9, texts(t, got, b)[0].GetClose().Epoch)
			_, _, err = c.Read(t.Context())
			require.EqualValues(t, 4100, websocket.CloseStatus(err))
			require.Error(t, receive(t, a.ended))
		})
	}
	t.Run("needs a subprotocol", func(t *testing.T) {
		_, _, err := websocket.Dial(t.Context(), n.ws, nil)
		require.Error(t, err)
	})
	t.Run("normal close by the client", func(t *testing.T) {
		c, a := n.dialWS(t, wire.Binary)
		require.NoError(t, c.Close(websocket.StatusNormalClosure, ""))
		require.Error(t, receive(t, a.ended))
	})
	t.Run("a vanished client", func(t *testing.T) {
		c, a := n.dialWS(t, wire.Binary)
		require.NoError(t, c.CloseNow())
		require.Error(t, receive(t, a.ended))
	})
	t.Run("10 MB are answered too_large, in both forms", func(t *testing.T) {
		for _, protocol := range []string{wire.Binary, wire.JSON} {
			c, a := n.dialWS(t, protocol)
			wrote := make(chan struct{})
			go func() {
				defer close(wrote)
				_ = c.Write(t.Context(), websocket.MessageBinary, make([]byte, 10<<20))
			}()
			kind, b, err := c.Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, wire.CodeTooLarge, texts(t, kind, b)[0].GetClose().Code)
			_, _, err = c.Read(t.Context())
			require.EqualValues(t, 4105, websocket.CloseStatus(err))
			require.ErrorIs(t, receive(t, a.ended), wire.ErrTooLarge)
			_ = c.CloseNow()
			receive(t, wrote)
		}
	})
	t.Run("a ping long after the last write", func(t *testing.T) {
		c, a := n.dialWS(t, wire.Binary)
		a.Send(pong(1))
		_, _, err := c.Read(t.Context())
		require.NoError(t, err)
		ctx := c.CloseRead(t.Context())
		require.NoError(t, c.Ping(ctx))
	})
}

func TestWebTransport(t *testing.T) {
	n := start(t, Config{})
	t.Run("stream and datagrams", func(t *testing.T) {
		session, stream, a := n.dialWT(t)
		require.Equal(t, wire.Transport_WEBTRANSPORT, a.Transport())
		r := wire.NewReader(stream, wire.MaxServerFrame)
		a.Send(pong(7))
		b, err := r.Next()
		require.NoError(t, err)
		f, err := wire.DecodeServer(b)
		require.NoError(t, err)
		require.EqualValues(t, 7, f.Re)

		a.Send(fixes(3, 40))
		d, err := session.ReceiveDatagram(t.Context())
		require.NoError(t, err)
		f, err = wire.DecodeServer(d)
		require.NoError(t, err)
		require.EqualValues(t, 3, f.GetFixes().Fixes[0].Fix.N)

		a.Send(fixes(4, 1500)) // does not fit a datagram
		b, err = r.Next()
		require.NoError(t, err)
		f, _ = wire.DecodeServer(b)
		require.EqualValues(t, 4, f.GetFixes().Fixes[0].Fix.N)

		settled := edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: "s"}}})
		a.Send(settled) // reliable
		b, err = r.Next()
		require.NoError(t, err)
		f, _ = wire.DecodeServer(b)
		require.Equal(t, "s", f.GetFixes().Room)

		report := &wire.ClientFrame{Body: &wire.ClientFrame_Report{Report: &wire.Report{Fix: &wire.Fix{N: 5}}}}
		body, err := report.MarshalVT()
		require.NoError(t, err)
		require.NoError(t, session.SendDatagram(body))
		require.EqualValues(t, 5, receive(t, a.frames).frame.GetReport().Fix.N)
		require.NoError(t, session.SendDatagram(ping(t, 1)[1:]))
		require.ErrorIs(t, receive(t, a.frames).err, wire.ErrBadFrame, "only reports")

		a.Close(&wire.Close{Code: wire.CodeDraining, RetryAfterMs: 5})
		b, err = r.Next()
		require.NoError(t, err)
		f, _ = wire.DecodeServer(b)
		require.EqualValues(t, 5, f.GetClose().RetryAfterMs)
		_, err = r.Next()
		require.Error(t, err)
		var why *webtransport.SessionError
		for {
			if _, err = session.AcceptStream(t.Context()); err != nil {
				break
			}
		}
		require.ErrorAs(t, err, &why)
		require.EqualValues(t, 4000, why.ErrorCode)
		require.Error(t, receive(t, a.ended))
	})
	t.Run("too large", func(t *testing.T) {
		_, stream, a := n.dialWT(t)
		_, err := stream.Write([]byte{0x81, 0x80, 0x04})
		require.NoError(t, err)
		require.ErrorIs(t, receive(t, a.frames).err, wire.ErrTooLarge)
		require.ErrorIs(t, receive(t, a.ended), wire.ErrTooLarge)
	})
	t.Run("closed by the client", func(t *testing.T) {
		session, _, a := n.dialWT(t)
		require.NoError(t, session.CloseWithError(0, ""))
		require.Error(t, receive(t, a.ended))
	})
	t.Run("anything else is 404", func(t *testing.T) {
		rt := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: n.pool}}
		defer func() { _ = rt.Close() }()
		resp, err := (&http.Client{Transport: rt}).Get(strings.TrimSuffix(n.wt, wire.PathWebTransport) + "/")
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, resp.StatusCode)
	})
}

// A client that was told of HTTP/3 finds there what is on the other port.
func TestTheRestOfHTTP(t *testing.T) {
	n := start(t, Config{HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) })})
	rt := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: n.pool}}
	defer func() { _ = rt.Close() }()
	resp, err := (&http.Client{Transport: rt}).Get(strings.TrimSuffix(n.wt, wire.PathWebTransport) + "/api/v1/edge")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "/api/v1/edge", string(body))
	_, _, a := n.dialWT(t)
	require.NotNil(t, a)
}

func TestStopDrains(t *testing.T) {
	n := start(t, Config{CloseTimeout: 500 * time.Millisecond})
	c, _ := n.dialWS(t, wire.Binary)
	_, stream, _ := n.dialWT(t)
	stopped := make(chan struct{})
	go func() { n.Stop(); close(stopped) }()
	kind, b, err := c.Read(t.Context())
	require.NoError(t, err)
	last := texts(t, kind, b)[0].GetClose()
	require.Equal(t, wire.CodeDraining, last.Code)
	require.NotZero(t, last.RetryAfterMs)
	b, err = wire.NewReader(stream, wire.MaxServerFrame).Next()
	require.NoError(t, err)
	f, _ := wire.DecodeServer(b)
	require.Equal(t, wire.CodeDraining, f.GetClose().Code)
	receive(t, stopped)
	_, resp, err := websocket.Dial(t.Context(), n.ws, &websocket.DialOptions{Subprotocols: []string{wire.Binary}})
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
}

// A reader that pauses loses old fixes, then its connection; another one
// notices nothing.
func TestSlowReader(t *testing.T) {
	n := start(t, Config{Queue: 64 << 10, WriteTimeout: 5 * time.Second})
	slow, a := n.dialWS(t, wire.Binary)
	other, b := n.dialWS(t, wire.Binary)
	ws := a.Conn.(*wsConn)

	// Fill the sockets' buffers until the writer is stuck.
	big := edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Error{Error: &wire.Error{Message: strings.Repeat("x", 32<<10)}}})
	waiting := func() int {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		return ws.bytes
	}
	for stuck := false; !stuck; {
		a.Send(big)
		deadline := time.Now().Add(200 * time.Millisecond)
		for stuck = true; stuck && time.Now().Before(deadline); {
			stuck = waiting() > 0
			runtime.Gosched()
		}
	}
	for i := range 1000 {
		a.Send(fixes(uint64(i+1), 1000))
	}
	ws.mu.Lock()
	require.LessOrEqual(t, ws.bytes, 64<<10)
	require.False(t, ws.closing, "fixes alone close nothing")
	kept := ws.lossy.len()
	ws.mu.Unlock()
	require.Less(t, kept, 64)
	require.Positive(t, kept)

	for range 10 {
		a.Send(big)
	}
	b.Send(pong(1))
	_, _, err := other.Read(t.Context())
	require.NoError(t, err)

	// It reads at last: it is told why.
	var last *wire.Close
	for {
		kind, m, err := slow.Read(t.Context())
		if err != nil {
			require.EqualValues(t, 4001, websocket.CloseStatus(err))
			break
		}
		for _, f := range texts(t, kind, m) {
			if f.GetClose() != nil {
				last = f.GetClose()
			}
		}
	}
	require.Equal(t, wire.CodeSlow, last.GetCode())
	receive(t, a.ended)
}

func TestNewestFixesSurvive(t *testing.T) {
	o := &outbox{config: &Config{Queue: 10_000, Batch: 1 << 20}, done: true}
	for i := range 100 {
		o.Send(fixes(uint64(i+1), 1000))
	}
	var ns []uint64
	for _, f := range o.takeLocked(nil) {
		m, err := wire.DecodeServer(f.Body())
		require.NoError(t, err)
		ns = append(ns, m.GetFixes().Fixes[0].Fix.N)
	}
	require.Equal(t, []uint64{92, 93, 94, 95, 96, 97, 98, 99, 100}, ns)
	require.Zero(t, o.bytes)
}

// What the kernel does not take at once waits, in its place, whatever else is
// written meanwhile.
func TestAFullSocketKeepsTheOrder(t *testing.T) {
	n := start(t, Config{Queue: 64 << 20})
	c, a := n.dialWS(t, wire.Binary)
	c.SetReadLimit(1 << 20)
	ws := a.Conn.(*wsConn)
	require.NotNil(t, ws.net.now, "a TCP connection can be written to at once")
	const frames = 3000
	sizes := rand.New(rand.NewPCG(1, 2))
	for i := range frames { // some 12 MiB: far more than sockets hold
		text := strings.Repeat("x", sizes.IntN(8<<10))
		a.Send(edge.NewFrame(&wire.ServerFrame{Re: uint64(i + 1), Body: &wire.ServerFrame_Error{Error: &wire.Error{Message: text}}}))
		if i%500 == 250 {
			go func() { _ = ws.socket.WritePong(nil) }()
		}
	}
	next := uint64(1)
	for next <= frames {
		kind, b, err := c.Read(t.Context())
		require.NoError(t, err)
		for _, f := range texts(t, kind, b) {
			require.Equal(t, next, f.Re)
			next++
		}
	}
	a.Close(nil)
	_, _, err := c.Read(t.Context())
	require.EqualValues(t, 1000, websocket.CloseStatus(err))
	receive(t, a.ended)
}

func TestManyFramesLeaveInOneMessage(t *testing.T) {
	n := start(t, Config{})
	c, a := n.dialWS(t, wire.Binary)
	ws := a.Conn.(*wsConn)
	ws.mu.Lock() // as if a write were under way
	ws.writing = true
	ws.mu.Unlock()
	for i := range 100 {
		a.Send(pong(uint64(i + 1)))
	}
	ws.mu.Lock()
	ws.writer.Go(ws.outbox.write)
	ws.mu.Unlock()
	kind, b, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, texts(t, kind, b), 100)
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		ok           bool
	}{
		{"", "a.example", true},
		{"https://a.example", "a.example", true},
		{"http://a.example:8080", "a.example:9000", true},
		{"http://[::1]:8080", "[::1]:9000", true},
		{"https://App.example", "a.example", true},
		{"https://evil.example", "a.example", false},
		{"https://a.example.evil.example", "a.example", false},
		{"http://app.example", "a.example", false}, // another scheme is another origin
		{"null", "a.example", false},
		{"://", "a.example", false},
	} {
		r := httptest.NewRequest("GET", "/ws", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		require.Equal(t, c.ok, originAllowed(r, []string{"https://app.example"}), c.origin)
		require.True(t, originAllowed(r, []string{"*"}))
	}
	n := start(t, Config{Origins: []string{"https://app.example"}, Admit: func(netip.Addr) time.Duration { return 1500 * time.Millisecond }})
	dial := func(origin string) int {
		_, resp, err := websocket.Dial(t.Context(), n.ws, &websocket.DialOptions{
			Subprotocols: []string{wire.Binary}, HTTPHeader: http.Header{"Origin": {origin}},
		})
		require.Error(t, err)
		return resp.StatusCode
	}
	require.Equal(t, http.StatusForbidden, dial("https://evil.example"))
	require.Equal(t, http.StatusTooManyRequests, dial("https://app.example"))
	d := &webtransport.Transport{TLSClientConfig: &tls.Config{RootCAs: n.pool, NextProtos: []string{http3.NextProtoH3}},
		QUICConfig: &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true}}
	defer func() { _ = d.Close() }()
	resp, _, err := d.Dial(t.Context(), n.wt, http.Header{"Origin": {"https://evil.example"}})
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// Behind a proxy all WebSocket connections come from its address: limits per
// address count what the proxy says. WebTransport clients come themselves, so
// what they say of their address counts for nothing.
func TestClientBehindProxy(t *testing.T) {
	asked := make(chan netip.Addr, 1)
	n := start(t, Config{
		ClientAddr: func(r *http.Request) netip.Addr { a, _ := netip.ParseAddr(r.Header.Get("X-Real-Ip")); return a },
		Admit:      func(a netip.Addr) time.Duration { asked <- a; return 0 },
	})
	header := http.Header{"X-Real-Ip": {"203.0.113.9"}}
	c, _, err := websocket.Dial(t.Context(), n.ws, &websocket.DialOptions{Subprotocols: []string{wire.Binary}, HTTPHeader: header})
	require.NoError(t, err)
	defer func() { _ = c.CloseNow() }()
	require.Equal(t, "203.0.113.9", receive(t, asked).String())
	require.Equal(t, "203.0.113.9", receive(t, n.conns).Remote().String())

	d := &webtransport.Transport{TLSClientConfig: &tls.Config{RootCAs: n.pool, NextProtos: []string{http3.NextProtoH3}},
		QUICConfig: &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true}}
	defer func() { _ = d.Close() }()
	_, session, err := d.Dial(t.Context(), n.wt, header)
	require.NoError(t, err)
	defer func() { _ = session.CloseWithError(0, "") }()
	require.Equal(t, "127.0.0.1", receive(t, asked).String())
}

func TestSelfSigned(t *testing.T) {
	cert, hash, err := SelfSigned([]string{"127.0.0.1", "localhost"}, 365*24*time.Hour)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(cert.Certificate[0]), hash)
	require.LessOrEqual(t, cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore), MaxSelfSigned)
	require.Equal(t, x509.ECDSAWithSHA256, cert.Leaf.SignatureAlgorithm)
	require.NoError(t, cert.Leaf.VerifyHostname("127.0.0.1"))
	require.NoError(t, cert.Leaf.VerifyHostname("localhost"))
}

func TestStreamlessClientIsClosedWithACode(t *testing.T) {
	n := start(t, Config{})
	d := &webtransport.Transport{TLSClientConfig: &tls.Config{RootCAs: n.pool, NextProtos: []string{http3.NextProtoH3}},
		QUICConfig: &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true}}
	defer func() { _ = d.Close() }()
	_, session, err := d.Dial(t.Context(), n.wt, http.Header{})
	require.NoError(t, err)
	a := receive(t, n.conns)
	a.Close(&wire.Close{Code: wire.CodeTimeout})
	_, err = session.AcceptStream(t.Context())
	var why *webtransport.SessionError
	require.ErrorAs(t, err, &why)
	require.EqualValues(t, 4002, why.ErrorCode)
	receive(t, a.ended)
}

// nullLink is a transport that takes everything.
type nullLink struct{ frames chan int }

func (l nullLink) write(f []*edge.Frame, _ *scratch, _ time.Time) error {
	l.frames <- len(f)
	return nil
}
func (nullLink) writeNow(*edge.Frame) (taken, more bool) { return false, false }

func (nullLink) shut(uint16, string) {}
func (nullLink) kill()               {}

func TestAllocationsPerFrame(t *testing.T) {
	s := New(Config{}, nil)
	l := nullLink{make(chan int, 1)}
	o := &outbox{link: l, config: &s.config, pool: &s.scratch}
	f := fixes(1, 40)
	allocs := testing.AllocsPerRun(2000, func() {
		o.Send(f)
		<-l.frames
		o.writer.Wait()
	})
	// A writer's start, where nothing else waits; none per frame beyond.
	require.LessOrEqual(t, allocs, 3.0)
	o.writing = true
	o.lossy.items = make([]*edge.Frame, 0, 4096)
	require.Zero(t, int(testing.AllocsPerRun(2000, func() { o.Send(f) })))
}

// BenchmarkIdleWebSocket measures what an idle connection holds: heap and
// stack, the client's raw socket included.
func BenchmarkIdleWebSocket(b *testing.B) {
	s := New(Config{}, func(Conn) (Handler, func(error)) {
		return func(*wire.ClientFrame, int, error) {}, func(error) {}
	})
	web := httptest.NewServer(s.WebSocket())
	defer func() { s.Stop(); web.Close() }()
	const conns = 1000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var open []net.Conn
		for range conns {
			c, err := net.Dial("tcp", web.Listener.Addr().String())
			require.NoError(b, err)
			_, err = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: muster.v1\r\n\r\n")
			require.NoError(b, err)
			var head []byte
			for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
				_, err := c.Read(one)
				require.NoError(b, err)
				head = append(head, one...)
			}
			open = append(open, c)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		size := float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
		b.ReportMetric(size/conns/1024, "KiB/conn")
		for _, c := range open {
			_ = c.Close()
		}
		require.Eventually(b, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == 0 }, 10*time.Second, time.Millisecond)
	}
}

func TestServeAfterStopRefuses(t *testing.T) {
	s := New(Config{}, nil)
	s.Stop()
	s.Stop()
	require.False(t, s.serve(&wsConn{}))
	require.Error(t, s.Start(context.Background()))
}
