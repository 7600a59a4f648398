package peerlink

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

var (
	// ErrSelf: frames to oneself don't take the network; the caller short-cuts.
	ErrSelf = errors.New("peerlink: frame to this node itself")
	// ErrUnknownPeer: Config.Peers doesn't know the node.
	ErrUnknownPeer = errors.New("peerlink: unknown peer")
	// ErrTooLarge: longer than MaxFrame or MaxDatagram.
	ErrTooLarge = errors.New("peerlink: frame too large")
	// ErrDown: the link is down; after the next Up the peer needs all anew.
	ErrDown = errors.New("peerlink: link is down")
	// ErrOverflow: the peer reads more slowly than we send. It is Down's reason
	// and the answer to the Send that was one too many.
	ErrOverflow = errors.New("peerlink: send queue overflow")
	// ErrStopped: not started, or stopped.
	ErrStopped = errors.New("peerlink: not running")
	// ErrVersion: the peer speaks another version of this protocol.
	ErrVersion = errors.New("peerlink: version mismatch")
	// ErrStranger: the peer's topology doesn't have this node's region, yet or
	// any more.
	ErrStranger = errors.New("peerlink: the peer does not know this node's region")
)

// Peer is a node in one of its lives.
type Peer struct {
	Node        regions.NodeID
	Region      regions.RegionID
	Incarnation uint64
	Addrs       Addrs // as it says
}

// Addrs is where a node is reached, as in the topology: by nodes, and by clients.
type Addrs struct{ Peer, HTTP, WS, WT string }

// Handler is what the links are for. Frames given to it are valid only during
// the call. A slow Frame slows its peer down, in the end to the peer's
// overflow; nobody else waits. Up and Down of one peer never overlap, nor do
// Joined, Frame and Left of one peer, nor Datagrams of one peer; all else is
// concurrent. None of them may call Stop.
type Handler interface {
	// Up: the events link to the peer works; called before anything is sent
	// that Send queues from now on.
	Up(to Peer)
	// Down: what was queued to the peer is lost. Comes once for each Up, and
	// once if the first dial fails.
	Down(to regions.NodeID, reason error)

	// Joined: the peer opened its events link to us.
	Joined(from Peer)
	// Frame is the next frame of the peer's events link.
	Frame(from Peer, frame []byte)
	// Left: the peer's events link is gone. Comes once for each Joined.
	Left(from Peer)

	// Datagram came from the peer: perhaps not in order, never twice.
	Datagram(from Peer, frame []byte)
	// Call answers a request. An *errs.Error reaches the caller as it is. The
	// context ends when the caller gives up.
	Call(ctx context.Context, from Peer, frame []byte) ([]byte, error)
}

// Config describes this node. All fields without "optional" are needed.
type Config struct {
	Self        regions.NodeID
	Region      regions.RegionID
	Incarnation uint64 // grows with every start of the node
	Addrs       Addrs  // optional: where it is reached, which peers are told

	// Conn is the node's UDP socket: a *net.UDPConn or a wrapped one. It stays
	// the caller's to close, after Stop.
	Conn     net.PacketConn
	Identity tls.Certificate
	CA       *x509.CertPool
	// Peers finds a node to dial. It is asked again for every dial.
	Peers func(regions.NodeID) (addr string, region regions.RegionID, ok bool)
	// Regions says whose nodes may connect, known to Peers or not; optional, all
	// that the CA vouches for. After a change of what it or Peers say comes Prune.
	Regions func(regions.RegionID) bool
	Handler Handler

	// Stream serves a stream that a peer opened with Links.Open; optional. The
	// stream ends well when it returns nil, is given up otherwise, and is given
	// up when ctx ends.
	Stream func(ctx context.Context, from Peer, s io.ReadWriter) error

	Logger  *slog.Logger          // optional
	Metrics prometheus.Registerer // optional
	Tracer  obs.Tracer            // optional: of calls that belong to a trace
	// QueueBytes bounds what waits on one events link; optional, 8 MiB.
	QueueBytes int
	// QueueDatagrams bounds the frames that wait on one datagrams link, where
	// the oldest makes room; optional, 1,024.
	QueueDatagrams int
}

// class is a class of connections.
type class int

const (
	control class = iota
	events
	datagrams
	classes
)

var alpns = [classes]string{"muster-control/1", "muster-events/1", "muster-datagrams/1"}

func (c class) alpn() string   { return alpns[c] }
func (c class) String() string { return [...]string{"control", "events", "datagrams"}[c] }

// Application error codes with which we close connections.
const (
	codeDone     quic.ApplicationErrorCode = iota // no fault of anybody's: replaced, or stopped
	codeProtocol                                  // broken frame or hello, wrong name
	codeVersion
	codeStale    // a higher incarnation of the same node is connected
	codeOverflow // the dialler's queue is full
	codeStranger // of no region that the listener knows
)

const (
	keepAlive   = 500 * time.Millisecond
	idleTimeout = 2 * time.Second
	dialTimeout = 2 * time.Second
	// acceptTimeout is what whoever is dialled gives the handshake: as long as
	// anybody who dials may take for it.
	acceptTimeout = 10 * time.Second
	callTimeout   = 10 * time.Second // of a call whose context has no deadline
	backoffMin    = 50 * time.Millisecond
	backoffMax    = time.Second
	callsPerPeer  = 256 // that a peer may have open with us

	// redialTimeout, and four round trips, is what a handshake and the hellos may
	// take with a peer that has just answered a probe: they need two.
	redialTimeout = time.Second
	// forgetAfter is when the links to a node that is no node any more end.
	forgetAfter = 5 * time.Minute

	// Consensus runs over the control link within a region, and has to notice a
	// dead one sooner.
	controlIdle   = time.Second
	controlRedial = 250 * time.Millisecond
)

// Links holds all links of one node. It is a run.Service.
type Links struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	version   uint64        // a field so that a test can speak another one
	forget    time.Duration // forgetAfter, or what a test waits for
	transport *quic.Transport
	probes    probes
	life      run.Lifecycle
	closed    sync.Once // guards closing the transport

	mu      sync.RWMutex
	running context.Context // nil unless running
	peers   map[regions.NodeID]*outgoing
	inbound map[regions.NodeID]*[classes]*incoming
}

// outgoing is our links to one peer, each made when first used.
type outgoing struct {
	events    *eventsLink
	datagrams *datagramsLink
	calls     *callsLink
	conns     [classes]*dialled // those that are up
}

// New checks the configuration; Start opens the port for business.
func New(cfg Config) (*Links, error) {
	if cfg.Conn == nil || cfg.CA == nil || cfg.Peers == nil || cfg.Handler == nil {
		return nil, errors.New("peerlink: Conn, CA, Peers and Handler are needed")
	}
	leaf := cfg.Identity.Leaf
	if leaf == nil {
		return nil, errors.New("peerlink: identity without a certificate")
	}
	region, node, err := identityOf(leaf)
	if err != nil {
		return nil, err
	}
	if region != cfg.Region || node != cfg.Self {
		return nil, fmt.Errorf("peerlink: this node is %s/%s, its certificate is for %s/%s", cfg.Region, cfg.Self, region, node)
	}
	if n := len(hello{version, Peer{cfg.Self, cfg.Region, cfg.Incarnation, cfg.Addrs}, features}.encode()); n > maxHello {
		return nil, fmt.Errorf("peerlink: this node's addresses are too long: a hello of %d bytes, at most %d", n, maxHello)
	}
	if cfg.Regions == nil {
		cfg.Regions = func(regions.RegionID) bool { return true }
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 8 << 20
	}
	if cfg.QueueDatagrams == 0 {
		cfg.QueueDatagrams = 1024
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &Links{
		cfg:     cfg,
		log:     cfg.Logger.With("part", "peerlink"),
		metrics: m,
		version: version,
		forget:  forgetAfter,
		peers:   map[regions.NodeID]*outgoing{},
		inbound: map[regions.NodeID]*[classes]*incoming{},
		probes:  probes{origin: time.Now(), of: map[uint64]chan<- time.Duration{}},
	}, nil
}

// quicConfig is used by both sides of all classes. The windows hold 100 ms at
// 1 Gbit/s.
func quicConfig(datagrams bool) *quic.Config {
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           acceptTimeout,
		MaxIdleTimeout:                 idleTimeout,
		InitialStreamReceiveWindow:     1 << 20,
		MaxStreamReceiveWindow:         12 << 20,
		InitialConnectionReceiveWindow: 2 << 20,
		MaxConnectionReceiveWindow:     16 << 20,
		MaxIncomingStreams:             callsPerPeer,
		MaxIncomingUniStreams:          1,
		EnableDatagrams:                datagrams,
	}
}

// Start begins to accept links.
func (l *Links) Start(ctx context.Context) error {
	return l.life.Start(ctx, func(ctx context.Context) error {
		l.transport = &quic.Transport{Conn: l.cfg.Conn}
		if key, ok := resetKey(l.cfg.Identity); ok {
			l.transport.StatelessResetKey = key
		}
		server := quicConfig(true) // before ALPN it isn't known who needs datagrams
		listener, err := l.transport.Listen(serverTLS(l.cfg.Identity, l.cfg.CA), server)
		if err != nil {
			_ = l.transport.Close()
			return fmt.Errorf("peerlink: %w", err)
		}
		l.mu.Lock()
		l.running = ctx
		l.mu.Unlock()
		l.life.Go(func() { l.accept(ctx, listener) })
		l.life.Go(func() { l.answerProbes(ctx) })
		return nil
	})
}

// Stop closes all links, telling the peers, and returns when nothing is left.
func (l *Links) Stop() {
	l.life.Stop(func() {
		// From here on no link is made, so waiting for them can't race.
		l.mu.Lock()
		l.running = nil
		l.mu.Unlock()
	})
	// Last, since it ends connections without telling the peers; in a Once, so
	// that a second Stop waits, too.
	l.closed.Do(func() {
		if l.transport == nil {
			return
		}
		if err := l.transport.Close(); err != nil {
			l.log.Warn("close transport", "err", err)
		}
	})
}

// Prune closes the connections with whom this node would not have one now:
// Peers or Regions say something else.
func (l *Links) Prune() {
	var out []*dialled
	var in []*incoming
	l.mu.Lock()
	for node, links := range l.peers {
		if _, _, known := l.cfg.Peers(node); !known {
			out = append(out, links.conns[:]...)
		}
	}
	for _, links := range l.inbound {
		in = append(in, links[:]...)
	}
	l.mu.Unlock()
	for _, c := range out {
		if c != nil {
			_ = c.CloseWithError(codeDone, "")
		}
	}
	for _, c := range in {
		if c != nil && !l.cfg.Regions(c.peer.Region) {
			c.close(codeStranger, "region is gone")
		}
	}
}

// resetKey makes a restarted node's stateless resets (RFC 9000, 10.3) valid
// for its connections of before: peers then learn at once that it restarted.
// So it has to be the same after a restart, and secret.
func resetKey(identity tls.Certificate) (*quic.StatelessResetKey, bool) {
	secret, err := x509.MarshalPKCS8PrivateKey(identity.PrivateKey)
	if err != nil {
		return nil, false
	}
	key := quic.StatelessResetKey(sha256.Sum256(append([]byte("muster stateless reset "), secret...)))
	return &key, true
}

// Send queues a frame on the ordered link to a node; it doesn't block and the
// frame may be reused at once. An error means that the frame is lost; ErrDown
// and ErrOverflow come with a Down.
func (l *Links) Send(to regions.NodeID, frame []byte) error {
	if len(frame) > MaxFrame {
		return ErrTooLarge
	}
	out, err := l.to(to, events)
	if err != nil {
		return err
	}
	return out.events.push(frame)
}

// SendDatagram queues a frame that may be lost, also by newer ones taking its
// place in the queue. It doesn't block and the frame may be reused at once.
// ErrDown: the link is not up; if it never was, it is being dialled now.
func (l *Links) SendDatagram(to regions.NodeID, frame []byte) error {
	if len(frame) > MaxDatagram {
		return ErrTooLarge
	}
	out, err := l.to(to, datagrams)
	if err != nil {
		return err
	}
	return out.datagrams.push(frame)
}

// Call sends a request and waits for the answer, until ctx ends (at most 10 s
// if it has no deadline). While the peer can't be reached it fails after one
// attempt to dial, and when the link breaks, with ErrDown. It is up to the caller whether a call that failed without
// an answer may be made again: it may have been carried out.
func (l *Links) Call(ctx context.Context, to regions.NodeID, frame []byte) ([]byte, error) {
	if len(frame) > MaxFrame {
		return nil, ErrTooLarge
	}
	out, err := l.to(to, control)
	if err != nil {
		return nil, err
	}
	return out.calls.call(ctx, frame)
}

// to returns the links to a peer, of which that of the class has been started.
func (l *Links) to(node regions.NodeID, class class) (outgoing, error) {
	if node == l.cfg.Self {
		return outgoing{}, ErrSelf
	}
	l.mu.RLock()
	running, out := l.running, l.peers[node]
	var have outgoing
	if out != nil {
		have = *out
	}
	l.mu.RUnlock()
	if running == nil {
		return outgoing{}, ErrStopped
	}
	if have.has(class) {
		return have, nil
	}
	_, region, known := l.cfg.Peers(node)
	if !known {
		return outgoing{}, fmt.Errorf("%w: %s", ErrUnknownPeer, node)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
		return outgoing{}, ErrStopped
	}
	if out = l.peers[node]; out == nil {
		out = &outgoing{}
		l.peers[node] = out
	}
	if out.has(class) {
		return *out, nil
	}
	var s sender
	switch class {
	case events:
		out.events = newEventsLink(l, node, region)
		s = out.events
	case datagrams:
		out.datagrams = newDatagramsLink(l, region)
		s = out.datagrams
	case control:
		out.calls = newCallsLink(l, node, region)
		s = out.calls
	}
	// Stop can't be waiting yet: it sets running to nil first, under l.mu.
	ctx := l.running
	l.life.Go(func() { l.keep(ctx, node, class, s) })
	return *out, nil
}

func (o outgoing) has(class class) bool {
	switch class {
	case events:
		return o.events != nil
	case datagrams:
		return o.datagrams != nil
	default:
		return o.calls != nil
	}
}
