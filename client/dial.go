package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"

	"github.com/mustermesh/muster/api/wire"
)

const (
	headStart   = 1500 * time.Millisecond // WebTransport's, before a WebSocket is tried beside it
	hurried     = 500 * time.Millisecond  // the same when there is no time to lose
	dialTimeout = 10 * time.Second
	avoidFor    = 5 * time.Minute // after WebTransport failed
	maxDatagram = 1100            // bytes of a frame that fits every path QUIC uses
)

// Transport chooses how a session connects.
type Transport int

// Ways to connect.
const (
	Auto             Transport = iota // WebTransport, else WebSocket
	WebTransportOnly                  //
	WebSocketOnly                     //
)

// Endpoint is one edge node.
type Endpoint struct {
	Region string
	Node   string
	WS     string // ws:// or wss:// URL; empty: no WebSocket
	WT     string // https:// URL; empty: no WebTransport
	HTTP   string // base URL of the HTTP API; empty: it can't be timed
}

// Dialer makes connections. Share one between the sessions of a process: then
// they share what it learned about UDP. It is safe for concurrent use.
type Dialer struct {
	// Transport chooses how to connect; the zero value tries both.
	Transport Transport
	// TLS is used for wss and WebTransport; nil means the system's roots.
	TLS *tls.Config
	// CertSHA256 pins the certificate of WebTransport by the SHA-256 of its
	// DER form, as browsers do (serverCertificateHashes): any of them is
	// accepted, and no root is asked. If it is empty, those that Config.Edges
	// names hold.
	CertSHA256 [][sha256.Size]byte
	// QUIC is a socket to share by all WebTransport connections; nil gives
	// each its own.
	QUIC *quic.Transport
	// Dial, if set, makes the connections in place of all of the above: for
	// simulations, which connect in memory, and for transports of one's own,
	// or to look at the connections that another Dialer's Connect makes.
	// ctx bounds the dial, not the connection.
	Dial func(ctx context.Context, ep Endpoint) (Conn, error)

	mu      sync.Mutex
	avoid   time.Time // WebTransport until then
	why     string
	learned [][sha256.Size]byte // pins of the list of nodes
}

type dialed struct {
	conn Conn
	err  error
}

// Connect makes one connection to an endpoint, for a Dial of one's own. The
// caller gives it to a session, or closes it.
func (d *Dialer) Connect(ctx context.Context, ep Endpoint) (Conn, error) {
	c, _, err := d.dial(ctx, ep, headStart)
	return c, err
}

// dial connects to an endpoint. fallback says why it became a WebSocket.
func (d *Dialer) dial(ctx context.Context, ep Endpoint, headStart time.Duration) (l Conn, fallback string, err error) {
	switch {
	case d.Dial != nil:
		l, err = d.Dial(ctx, ep)
		return l, "", err
	case d.Transport == WebSocketOnly || d.Transport == Auto && ep.WT == "":
		l, err = d.webSocket(ctx, ep)
		return l, "", err
	case d.Transport == WebTransportOnly || ep.WS == "":
		l, err = d.webTransport(ctx, ep)
		return l, "", err
	}
	if why := d.avoiding(); why != "" {
		l, err = d.webSocket(ctx, ep)
		return l, why, err
	}
	return d.race(ctx, ep, headStart)
}

// race gives WebTransport a head start and takes the first that is up.
func (d *Dialer) race(ctx context.Context, ep Endpoint, headStart time.Duration) (Conn, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	wt, ws := make(chan dialed, 1), make(chan dialed, 1)
	var dials sync.WaitGroup
	dials.Go(func() {
		l, err := d.webTransport(ctx, ep)
		wt <- dialed{l, err}
	})
	second := func() {
		dials.Go(func() {
			l, err := d.webSocket(ctx, ep)
			ws <- dialed{l, err}
		})
	}
	// The loser's dial ends by the cancel; if it was up already, it is closed.
	defer func() {
		cancel()
		dials.Wait()
		for _, c := range []chan dialed{wt, ws} {
			select {
			case r := <-c:
				if r.err == nil {
					r.conn.Close(wire.CloseNormal)
				}
			default:
			}
		}
	}()

	timer := time.NewTimer(headStart)
	defer timer.Stop()
	var wtErr error
	started, why := false, "webtransport: timeout"
	for {
		select {
		case r := <-wt:
			if r.err == nil {
				d.remember("")
				return r.conn, "", nil
			}
			wtErr, why = r.err, clip("webtransport: "+r.err.Error(), 120)
			if !started {
				started = true
				second()
			}
		case <-timer.C:
			if !started {
				started = true
				second()
			}
		case r := <-ws:
			if r.err == nil {
				d.remember(why)
				return r.conn, why, nil
			}
			if wtErr == nil { // it may still come
				if wtr := <-wt; wtr.err == nil {
					d.remember("")
					return wtr.conn, "", nil
				} else {
					wtErr = wtr.err
				}
			}
			return nil, "", errors.Join(wtErr, r.err)
		}
	}
}

func (d *Dialer) avoiding() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Now().Before(d.avoid) {
		return d.why
	}
	return ""
}

// remember keeps why WebTransport failed; "" forgets it.
func (d *Dialer) remember(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.why, d.avoid = why, time.Time{}
	if why != "" {
		d.avoid = time.Now().Add(avoidFor)
	}
}

func (d *Dialer) webTransport(ctx context.Context, ep Endpoint) (Conn, error) {
	tr := webtransport.Transport{
		TLSClientConfig: d.quicTLS(),
		QUICConfig: &quic.Config{
			EnableDatagrams:                  true,
			EnableStreamResetPartialDelivery: true,
			MaxIdleTimeout:                   60 * time.Second, // pings decide earlier
			InitialStreamReceiveWindow:       64 << 10,
		},
	}
	if d.QUIC != nil {
		tr.DialAddr = d.shared
	}
	// Parts of the session live as long as the context of its dial, so the
	// dial's end is made by hand.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	_, session, err := tr.Dial(life, ep.WT, nil)
	if err == nil {
		var stream *webtransport.Stream
		if stream, err = session.OpenStreamSync(ctx); err == nil && stop() {
			return &wtLink{session, stream, cancel}, nil
		}
		_ = session.CloseWithError(0, "")
	}
	cancel()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("client: webtransport: %w", err)
}

func (d *Dialer) shared(ctx context.Context, addr string, cfg *tls.Config, qc *quic.Config) (*quic.Conn, error) {
	to, err := resolveUDP(ctx, addr)
	if err != nil {
		return nil, err
	}
	if cfg.ServerName == "" {
		cfg.ServerName = hostOf(addr)
	}
	return d.QUIC.DialEarly(ctx, to, cfg, qc)
}

func (d *Dialer) webSocket(ctx context.Context, ep Endpoint) (Conn, error) {
	opts := &websocket.DialOptions{Subprotocols: []string{wire.Binary}}
	if d.TLS != nil {
		cfg := d.TLS.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		opts.HTTPClient = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg, DisableKeepAlives: true,
		}}
	}
	conn, _, err := websocket.Dial(ctx, ep.WS, opts)
	if err != nil {
		return nil, fmt.Errorf("client: websocket: %w", err)
	}
	if conn.Subprotocol() != wire.Binary {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("client: websocket: the server does not speak %s", wire.Binary)
	}
	return &wsLink{conn}, nil
}

func (d *Dialer) quicTLS() *tls.Config {
	cfg := &tls.Config{}
	if d.TLS != nil {
		cfg = d.TLS.Clone()
	}
	cfg.NextProtos = []string{http3.NextProtoH3}
	if len(d.pins()) > 0 {
		cfg.InsecureSkipVerify = true // replaced by the pin
		cfg.VerifyConnection = nil
		cfg.VerifyPeerCertificate = d.pinned
	}
	return cfg
}

func (d *Dialer) pins() [][sha256.Size]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.CertSHA256) > 0 {
		return d.CertSHA256
	}
	return d.learned
}

// learn takes the pins of a list of nodes, where none were configured.
func (d *Dialer) learn(pins [][sha256.Size]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.learned = pins
}

func (d *Dialer) pinned(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 {
		return errors.New("client: the server has no certificate")
	}
	sum := sha256.Sum256(raw[0])
	for _, pin := range d.pins() {
		if sum != pin {
			continue
		}
		cert, err := x509.ParseCertificate(raw[0])
		if err != nil {
			return fmt.Errorf("client: pinned certificate: %w", err)
		}
		if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return errors.New("client: the pinned certificate is not valid now")
		}
		return nil
	}
	return errors.New("client: the server's certificate is not the pinned one")
}

func resolveUDP(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ips[0].Unmap(), uint16(n))), nil
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

func clip(s string, n int) string { return s[:min(len(s), n)] }
