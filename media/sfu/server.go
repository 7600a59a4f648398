package sfu

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3/pkg/crypto/selfsign"

	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/ice"
	"github.com/mustermesh/muster/media/udp"
)

// Server is a node's SFU.
type Server struct {
	opts        Options
	cert        tls.Certificate
	fingerprint string
	life        run.Lifecycle
	started     time.Time

	sockets  []*udp.Socket
	tcp      *net.TCPListener
	udpAddrs []netip.AddrPort // that clients are told
	tcpAddrs []netip.AddrPort
	writers  chan *writer // for those who are not readers of a socket

	mu      sync.RWMutex // guards the following
	closed  bool
	byAddr  map[netip.AddrPort]*conn
	byUfrag map[string]*conn
	peers   map[*peer]struct{}
	streams map[*stream]struct{}

	counts counters
	work   sync.WaitGroup // goroutines of connections
}

// counters are written by many goroutines at once.
type counters struct {
	sources, subscriptions                                      atomic.Int64
	in, forwarded, repeated, refused, limited, keyFrames, ovrun atomic.Uint64
}

var _ media.SFU = (*Server)(nil)

// writer is what a goroutine sends with.
type writer struct {
	b *udp.Batch
	h header
}

// New checks the options and makes the certificate; Start opens the sockets.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, started: time.Now(),
		byAddr: map[netip.AddrPort]*conn{}, byUfrag: map[string]*conn{}, peers: map[*peer]struct{}{}, streams: map[*stream]struct{}{},
	}
	// Clients know it by its fingerprint, which they get over their session: no name or
	// authority matters (RFC 8122).
	if s.cert, err = selfsign.GenerateSelfSigned(); err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	s.fingerprint = fingerprint(sha256.Sum256(s.cert.Certificate[0]))
	return s, nil
}

func fingerprint(sum [32]byte) string {
	f := "sha-256 "
	for i, b := range sum {
		if i > 0 {
			f += ":"
		}
		f += fmt.Sprintf("%02X", b)
	}
	return f
}

// Start opens the sockets. An error says which address could not be had.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) (err error) {
		n := s.opts.Sockets
		if n == 0 {
			n = min(runtime.NumCPU(), 8)
		}
		if s.sockets, err = udp.Listen(s.opts.Listen, n); err != nil {
			return err
		}
		addr := s.Addr()
		if s.opts.TCP {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.opts.Listen.Addr(), addr.Port())))
			if err != nil {
				s.closeSockets()
				return fmt.Errorf("listen for media over TCP: %w", err)
			}
			s.tcp = l
		}
		if s.udpAddrs, err = s.candidates(addr); err != nil {
			s.closeSockets()
			return err
		}
		if s.tcp != nil {
			s.tcpAddrs = s.udpAddrs
			s.life.Go(s.accept)
		}
		s.writers = make(chan *writer, 4)
		for range cap(s.writers) {
			s.writers <- &writer{b: s.sockets[0].NewBatch()}
		}
		for _, sock := range s.sockets {
			s.life.Go(func() { s.read(sock) })
		}
		s.life.Go(func() { s.tick(ctx) })
		return nil
	})
}

// Stop closes all peers and the sockets, and waits. It may be called at any time.
func (s *Server) Stop() {
	s.life.Stop(func() {
		s.mu.Lock()
		s.closed = true
		peers := make([]*peer, 0, len(s.peers))
		for p := range s.peers {
			peers = append(peers, p)
		}
		s.mu.Unlock()
		for _, p := range peers {
			p.Close()
		}
		s.closeSockets()
	})
	s.work.Wait()
}

func (s *Server) closeSockets() {
	for _, sock := range s.sockets {
		sock.Close()
	}
	if s.tcp != nil {
		s.tcp.Close()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for st := range s.streams {
		st.c.Close()
	}
}

// Addr is the UDP address that it listens on, after Start.
func (s *Server) Addr() netip.AddrPort { return s.sockets[0].Addr() }

// candidates are the addresses that clients are told.
func (s *Server) candidates(addr netip.AddrPort) ([]netip.AddrPort, error) {
	var told []netip.AddrPort
	for _, p := range s.opts.Public {
		if p.Port() == 0 {
			p = netip.AddrPortFrom(p.Addr(), addr.Port())
		}
		told = append(told, p)
	}
	if len(told) > 0 {
		return told, nil
	}
	if !addr.Addr().IsUnspecified() {
		return []netip.AddrPort{addr}, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("which addresses the machine has: %w", err)
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if !ip.IsValid() || ip.IsLinkLocalUnicast() || ip.IsLoopback() && !s.opts.Loopback || ip.Is6() && addr.Addr().Is4() {
			continue
		}
		told = append(told, netip.AddrPortFrom(ip, addr.Port()))
		if len(told) == 8 {
			break
		}
	}
	if len(told) == 0 {
		return nil, fmt.Errorf("media: the machine has no address that clients could be told; name one as public")
	}
	return told, nil
}

// read is the one goroutine of a socket.
func (s *Server) read(sock *udp.Socket) {
	w := &writer{b: sock.NewBatch()}
	_ = sock.Read(func(from netip.AddrPort, room []byte) { s.datagram(w, from, nil, room) }, w.b.Flush)
}

// write lends a writer to f and sends what f gave it.
func (s *Server) write(f func(w *writer)) {
	w := <-s.writers
	f(w)
	w.b.Flush()
	s.writers <- w
}

// datagram takes what came from an address, by UDP or over a TCP connection.
func (s *Server) datagram(w *writer, from netip.AddrPort, st *stream, room []byte) {
	b := room[udp.Headroom:]
	if len(b) < 12 {
		return
	}
	// RFC 7983 says how they are told apart.
	if b[0] < 4 {
		s.check(w, from, st, b)
		return
	}
	var c *conn
	if st != nil {
		c = st.owner.Load()
	} else {
		s.mu.RLock()
		c = s.byAddr[from]
		s.mu.RUnlock()
	}
	switch {
	case c == nil:
		s.counts.refused.Add(1)
	case b[0] >= 128 && b[0] < 192:
		if b[1] >= 192 && b[1] < 224 { // RFC 5761 section 4
			c.rtcpIn(w, b)
		} else {
			c.rtpIn(w, room)
		}
	case b[0] >= 20 && b[0] < 64:
		c.dtlsIn(b)
	}
}

// check answers one of ICE.
func (s *Server) check(w *writer, from netip.AddrPort, st *stream, b []byte) {
	r, err := ice.Parse(b)
	if err != nil {
		s.counts.refused.Add(1)
		return
	}
	s.mu.RLock()
	c := s.byUfrag[r.Local()]
	s.mu.RUnlock()
	if c == nil {
		s.counts.refused.Add(1)
		return
	}
	answer, ok := c.check(r, route{addr: from, tcp: st})
	if !ok {
		s.counts.refused.Add(1)
		return
	}
	if st != nil {
		st.write(answer)
		return
	}
	w.b.Send(from, append(w.b.Space(len(answer))[:0], answer...))
}

// now is a time that only grows.
func (s *Server) now() time.Duration { return time.Since(s.started) }

// tickEvery is how often what has no packet to wait for is looked at: repeated
// requests for what was lost, silence, estimates.
const tickEvery = 40 * time.Millisecond

func (s *Server) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	var peers []*peer
	fine := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		peers = peers[:0]
		s.mu.RLock()
		for p := range s.peers {
			peers = append(peers, p)
		}
		s.mu.RUnlock()
		if len(peers) == 0 {
			continue
		}
		now := s.now()
		probing := false
		s.write(func(w *writer) {
			for _, p := range peers {
				probing = p.tick(w, now) || probing
			}
		})
		clear(peers)
		if next := tickEvery; probing != fine {
			if fine = probing; fine {
				next = padEvery
			}
			t.Reset(next)
		}
	}
}

// Join makes a peer's place (media.SFU).
func (s *Server) Join(c media.PeerConfig) (media.Peer, error) {
	p := newPeer(s, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.sockets == nil {
		return nil, media.ErrNoMedia
	}
	s.peers[p] = struct{}{}
	s.byUfrag[p.up.conn.local[0].Ufrag] = p.up.conn
	s.byUfrag[p.down.conn.local[0].Ufrag] = p.down.conn
	return p, nil
}

// Stats counts what an SFU did since its start. Its fields are what /metrics shows.
type Stats struct {
	Peers, Sources, Subscriptions int    // now
	PacketsIn, PacketsForwarded   uint64 // RTP
	BytesIn, BytesOut             uint64 // of UDP payloads
	Reads, Writes                 uint64 // system calls on UDP sockets
	Repeated                      uint64 // packets sent again because they were asked for
	Dropped                       uint64 // packets that a full socket did not take
	Refused                       uint64 // datagrams and packets that made no sense or had wrong keys
	Limited                       uint64 // packets above a client's rate
	KeyFramesAsked                uint64 // of clients
}

// Stats returns what was counted.
func (s *Server) Stats() Stats {
	st := Stats{
		Sources: int(s.counts.sources.Load()), Subscriptions: int(s.counts.subscriptions.Load()),
		PacketsIn: s.counts.in.Load(), PacketsForwarded: s.counts.forwarded.Load(), Repeated: s.counts.repeated.Load(),
		Refused: s.counts.refused.Load(), Limited: s.counts.limited.Load(), KeyFramesAsked: s.counts.keyFrames.Load(),
		Dropped: s.counts.ovrun.Load(),
	}
	s.mu.RLock()
	st.Peers = len(s.peers)
	s.mu.RUnlock()
	for _, sock := range s.sockets {
		u := sock.Stats()
		st.BytesIn += u.BytesIn
		st.BytesOut += u.BytesOut
		st.Reads += u.Reads
		st.Writes += u.Writes
		st.Dropped += u.Dropped
	}
	return st
}
