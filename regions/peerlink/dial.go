package peerlink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/mustermesh/muster/regions"
)

// sender is what a class does with its connection.
type sender interface {
	// serve uses the connection until it or ctx ends, and says why it ended.
	serve(ctx context.Context, c *dialled) error
	// down is told when a connection ended or could not be made, and now and then
	// that it still can't.
	down(reason error)
}

// dialled is a connection of ours that the peer has accepted.
type dialled struct {
	*quic.Conn
	peer     Peer
	features uint64
	stream   *quic.SendStream // on which the hello went
}

// keep holds one link to a peer until ctx ends: dial, serve, wait until it is
// there, again. The time between attempts grows only while the peer is there
// and attempts fail all the same: it refuses us, or is overwhelmed. A node that
// there is no more is forgotten after a while.
func (l *Links) keep(ctx context.Context, node regions.NodeID, class class, s sender) {
	log := l.log.With("peer", node, "class", class)
	first, most := backoffMin, backoffMax
	if class == control {
		first, most = controlRedial, controlRedial
	}
	wait := first
	timeout, failed := dialTimeout, 0
	there := true
	since := time.Now()
	var stranger time.Time // the node is unknown since then; zero: it is known
	reported := false
	for {
		c, err := l.dial(ctx, node, class, timeout)
		switch {
		case err == nil:
			began := time.Now()
			reported, failed = false, 0
			log.DebugContext(ctx, "link up", "incarnation", c.peer.Incarnation)
			l.metrics.links.WithLabelValues("out", class.String()).Inc()
			err = l.serveDialled(ctx, node, class, c, s)
			l.metrics.links.WithLabelValues("out", class.String()).Dec()
			since = time.Now()
			if since.Sub(began) > backoffMax {
				wait = first
			}
		case !there:
			wait, failed = first, 0
		default:
			failed++
		}
		if ctx.Err() != nil {
			s.down(ErrStopped)
			return
		}
		// A dead peer is worth one line, not one per attempt.
		level := slog.LevelDebug
		if !reported {
			level, reported = slog.LevelInfo, true
		}
		log.Log(ctx, level, "link down", "err", err)
		l.metrics.downs.WithLabelValues(class.String()).Inc()
		s.down(err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2+1)):
		case <-ctx.Done():
			s.down(ErrStopped)
			return
		}
		wait = min(2*wait, most)
		var rtt time.Duration
		if rtt, there = l.reach(ctx, node, since, func() { s.down(errSilent) }); there {
			since = time.Now()
		}
		timeout = redialIn(rtt, failed)
		switch _, _, known := l.cfg.Peers(node); {
		case known:
			stranger = time.Time{}
		case stranger.IsZero():
			stranger = time.Now()
		case time.Since(stranger) > l.forget && l.retire(node, class):
			s.down(ErrUnknownPeer)
			return
		}
	}
}

// redialIn is what a handshake and the hellos may take. A peer that answers probes
// and not those is short of time for them, and has the more to do the more of
// them are given up half done: each failure doubles it.
func redialIn(rtt time.Duration, failed int) time.Duration {
	return min((redialTimeout+4*rtt)<<min(failed, 4), acceptTimeout)
}

// retire ends a link to a node that there is no more, and reports whether that
// is still so. Who sends to it later begins a new one.
func (l *Links) retire(node regions.NodeID, class class) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, _, known := l.cfg.Peers(node); known {
		return false
	}
	out := l.peers[node]
	switch class {
	case events:
		out.events = nil
	case datagrams:
		out.datagrams = nil
	case control:
		out.calls = nil
	}
	if out.events == nil && out.datagrams == nil && out.calls == nil {
		delete(l.peers, node)
	}
	return true
}

// errSilent is why a peer is down that was probed in vain.
var errSilent = errors.New("peer does not answer")

func (l *Links) serveDialled(ctx context.Context, node regions.NodeID, class class, c *dialled, s sender) error {
	if !l.present(node, class, c) { // not one that we would dial now
		_ = c.CloseWithError(codeDone, "")
		return ErrUnknownPeer
	}
	defer l.present(node, class, nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = c.CloseWithError(codeDone, "")
	})
	err := s.serve(ctx, c)
	if stop() {
		code := codeDone
		if errors.Is(err, ErrOverflow) {
			code = codeOverflow
		}
		_ = c.CloseWithError(code, "")
	} else {
		<-closed
	}
	return err
}

// present notes the connection that a link has now, and reports whether it may.
func (l *Links) present(node regions.NodeID, class class, c *dialled) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _, known := l.cfg.Peers(node)
	l.peers[node].conns[class] = c
	return known
}

// dial makes one attempt: handshake, hello, answer.
func (l *Links) dial(ctx context.Context, node regions.NodeID, class class, timeout time.Duration) (*dialled, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	host, region, ok := l.cfg.Peers(node)
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownPeer, node)
	}
	addr, err := resolve(ctx, network(l.cfg.Conn.LocalAddr()), host)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", node, err)
	}
	cfg := quicConfig(class == datagrams)
	cfg.KeepAlivePeriod = keepAlive
	cfg.HandshakeIdleTimeout = timeout
	if class == control && region == l.cfg.Region { // the lower idle time of both sides counts
		cfg.MaxIdleTimeout, cfg.KeepAlivePeriod = controlIdle, controlIdle/4
	}
	cfg.MaxIncomingStreams = -1 // the peer opens none but for its hello
	conn, err := l.transport.Dial(ctx, addr, clientTLS(l.cfg.Identity, l.cfg.CA, class, region, node), cfg)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", node, explain(err))
	}
	c := &dialled{Conn: conn}
	if err := l.greet(ctx, c, region, node); err != nil {
		code := codeProtocol
		if errors.Is(err, ErrVersion) {
			code = codeVersion
		}
		_ = conn.CloseWithError(code, phrase(err))
		return nil, fmt.Errorf("dial %s: %w", node, explain(err))
	}
	return c, nil
}

func (l *Links) greet(ctx context.Context, c *dialled, region regions.RegionID, node regions.NodeID) (err error) {
	if c.stream, err = c.OpenUniStreamSync(ctx); err != nil {
		return err
	}
	if _, err = c.stream.Write(appendFrame(nil, l.hello().encode())); err != nil {
		return err
	}
	answer, err := c.AcceptUniStream(ctx)
	if err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = answer.SetReadDeadline(deadline)
	}
	b, err := newFrameReader(answer, maxHello).next(maxHello)
	if err != nil {
		return err
	}
	h, err := decodeHello(b)
	if err != nil {
		return err
	}
	if h.Region != region || h.Node != node {
		return fmt.Errorf("%w: hello of %s/%s", errProtocol, h.Region, h.Node)
	}
	c.peer, c.features = h.Peer, h.features
	return nil
}

func (l *Links) hello() hello {
	return hello{l.version, Peer{Node: l.cfg.Self, Region: l.cfg.Region, Incarnation: l.cfg.Incarnation, Addrs: l.cfg.Addrs}, features}
}

// network is what an address can be reached over from our socket: an IPv4
// socket can't send to IPv6.
func network(local net.Addr) string {
	if udp, ok := local.(*net.UDPAddr); ok && udp.IP.To4() != nil {
		return "ip4"
	}
	return "ip"
}

func resolve(ctx context.Context, network, hostport string) (*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	return &net.UDPAddr{IP: ips[0].Unmap().AsSlice(), Port: port, Zone: ips[0].Zone()}, nil
}

// phrase is an error as the reason of a close, which has to fit into a packet.
func phrase(err error) string {
	s := err.Error()
	return s[:min(len(s), 200)]
}

// explain puts our names to the codes with which a peer refuses us.
func explain(err error) error {
	var app *quic.ApplicationError
	if !errors.As(err, &app) || !app.Remote {
		return err
	}
	switch app.ErrorCode {
	case codeVersion:
		return fmt.Errorf("%w: %w", ErrVersion, err)
	case codeStranger:
		return fmt.Errorf("%w: %w", ErrStranger, err)
	}
	return err
}
