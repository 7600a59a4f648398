package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

// fake is an edge node that speaks wire frames over real WebSocket and real
// WebTransport. It answers the hello; the rest the test does through on.
type fake struct {
	t    *testing.T
	ep   Endpoint
	pins [][32]byte

	mu       sync.Mutex
	on       func(c *fakeConn, f *wire.ClientFrame, datagram bool)
	hello    func(c *fakeConn, f *wire.ClientFrame) bool // true: handled
	epoch    *atomic.Uint64                              // of all nodes that a test has
	ticket   []byte
	dead     bool          // answers nothing any more
	lag      time.Duration // of answers to pings
	lifetime time.Duration
	ping     time.Duration
	conns    chan *fakeConn // connections that said hello
}

// fakeConn is one connection as the fake sees it.
type fakeConn struct {
	kind  wire.Transport
	hello *wire.Hello
	epoch uint64 // of the welcome
	re    uint64 // of the hello
	gone  chan struct{}

	mu      sync.Mutex
	write   func([]byte) error
	dgram   func([]byte) error
	closing func(number int)
}

func bareFake(t *testing.T, ep Endpoint) *fake {
	f := &fake{t: t, ep: ep, epoch: new(atomic.Uint64), lifetime: time.Hour, ping: time.Second, conns: make(chan *fakeConn, 64)}
	f.epoch.Store(100)
	return f
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := bareFake(t, Endpoint{Region: "eu-west", Node: "eu-west-1"})

	ws := httptest.NewServer(http.HandlerFunc(f.serveWS))
	t.Cleanup(ws.Close)

	cert := selfSigned(t)
	f.pins = [][32]byte{sha256.Sum256(cert.Certificate[0])}
	mux := http.NewServeMux()
	srv := &webtransport.Server{
		H3:          &http3.Server{Handler: mux, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}})},
		CheckOrigin: func(*http.Request) bool { return true },
	}
	mux.HandleFunc(wire.PathWebTransport, func(w http.ResponseWriter, r *http.Request) { f.serveWT(srv, w, r) })
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(udp) })
	t.Cleanup(func() {
		_ = udp.Close()
		serving.Wait() // before Close: its WaitGroup must not be at zero between the two
		_ = srv.Close()
	})
	f.ep.WS = "ws" + strings.TrimPrefix(ws.URL, "http") + wire.PathWebSocket
	f.ep.WT = fmt.Sprintf("https://%s%s", udp.LocalAddr(), wire.PathWebTransport)
	return f
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (f *fake) serveWS(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.Binary}})
	if err != nil {
		return
	}
	c := &fakeConn{kind: wire.Transport_WEBSOCKET, gone: make(chan struct{})}
	c.write = func(b []byte) error { return conn.Write(context.Background(), websocket.MessageBinary, b) }
	c.closing = func(number int) {
		if number == 0 {
			_ = conn.CloseNow()
		} else {
			_ = conn.Close(websocket.StatusCode(number), "test")
		}
	}
	defer close(c.gone)
	for {
		_, msg, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		for len(msg) > 0 {
			var body []byte
			if body, msg, err = wire.Split(msg, wire.MaxClientFrame); err != nil {
				return
			}
			f.frame(c, body, false)
		}
	}
}

func (f *fake) serveWT(srv *webtransport.Server, w http.ResponseWriter, r *http.Request) {
	session, err := srv.Upgrade(w, r)
	if err != nil {
		return
	}
	stream, err := session.AcceptStream(r.Context())
	if err != nil {
		return
	}
	c := &fakeConn{kind: wire.Transport_WEBTRANSPORT, gone: make(chan struct{}), dgram: session.SendDatagram}
	c.write = func(b []byte) error { _, err := stream.Write(b); return err }
	c.closing = func(number int) { _ = session.CloseWithError(webtransport.SessionErrorCode(number), "test") }
	var datagrams sync.WaitGroup
	datagrams.Go(func() {
		for {
			b, err := session.ReceiveDatagram(session.Context())
			if err != nil {
				return
			}
			f.frame(c, b, true)
		}
	})
	defer close(c.gone)
	defer datagrams.Wait()
	rd := wire.NewReader(stream, wire.MaxClientFrame)
	for {
		body, err := rd.Next()
		if err != nil {
			c.closing(0)
			return
		}
		f.frame(c, body, false)
	}
}

func (f *fake) frame(c *fakeConn, body []byte, datagram bool) {
	cf, err := wire.DecodeClient(body)
	if err != nil {
		f.t.Errorf("bad client frame: %v", err)
		return
	}
	f.mu.Lock()
	on, hello, dead := f.on, f.hello, f.dead
	f.mu.Unlock()
	if dead {
		return
	}
	switch b := cf.GetBody().(type) {
	case *wire.ClientFrame_Hello:
		c.hello, c.re = b.Hello, cf.GetId()
		if hello == nil || !hello(c, cf) {
			f.welcome(c, cf.GetId())
		}
		select {
		case f.conns <- c:
		default: // nobody looks there
		}
	case *wire.ClientFrame_Ping:
		pong := func() { c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Pong{Pong: &wire.Pong{}}}) }
		if f.lag > 0 {
			time.AfterFunc(f.lag, pong)
		} else {
			pong()
		}
	case *wire.ClientFrame_Bye:
		if on != nil {
			on(c, cf, datagram)
		}
		c.close(wire.CloseNormal)
	default:
		if on != nil {
			on(c, cf, datagram)
		}
	}
}

func (f *fake) welcome(c *fakeConn, re uint64) {
	c.epoch = f.epoch.Add(1)
	now := time.Now()
	c.send(&wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Welcome{Welcome: &wire.Welcome{
		Version: 1, User: "me", Name: "Me", Epoch: c.epoch, Region: f.ep.Region, Node: f.ep.Node, Transport: c.kind, Ticket: f.ticket,
		Now: timestamppb.New(now), Expires: timestamppb.New(now.Add(f.lifetime)),
		PingMs: uint32(f.ping.Milliseconds()), TickMs: 100,
	}}})
}

func (c *fakeConn) send(frames ...*wire.ServerFrame) {
	var b []byte
	for _, f := range frames {
		var err error
		if b, err = wire.AppendFrame(b, f); err != nil {
			panic(err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.write(b) // the client may have gone
}

func (c *fakeConn) datagram(f *wire.ServerFrame) {
	b, err := f.MarshalVT()
	if err != nil {
		panic(err)
	}
	_ = c.dgram(b)
}

// close is off the reading goroutine: a WebSocket's close waits for the reader.
func (c *fakeConn) close(number int) { go c.closing(number) }

// next returns the next connection that said hello.
func (f *fake) next() *fakeConn {
	f.t.Helper()
	select {
	case c := <-f.conns:
		return c
	case <-time.After(5 * time.Second):
		f.t.Fatal("no connection")
		return nil
	}
}

// handle sets what the fake does with frames other than hello and ping.
func (f *fake) handle(on func(c *fakeConn, cf *wire.ClientFrame, datagram bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

// greet sets what the fake does with a hello; the function says whether it did
// anything.
func (f *fake) greet(hello func(c *fakeConn, cf *wire.ClientFrame) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hello = hello
}
