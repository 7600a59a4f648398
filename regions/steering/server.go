package steering

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/steering/locate"
)

// Config of a Server. Fields without a default are needed.
type Config struct {
	Addr        string       // UDP and TCP address to listen on; port 0: one that is free
	Zone        string       // such as edge.example.org
	NameServers []NameServer // of the zone, this one among them: at least one
	ID          string       // as NSID tells it (RFC 5001)
	Home        regions.RegionID
	Watch       *Watch // how the regions stand; started and stopped by the caller
	Locator     locate.Locator

	TTL     time.Duration // of what may change: 20 s
	Rate    float64       // answers a second and network by UDP: 2,000; negative: any number
	Sockets int           // for UDP: one per processor, where the system lets them share a port
	MaxTCP  int           // connections: 256, of which a client network may have a quarter
	// Resolve finds the addresses of nodes whose URLs have a name; default: as
	// the system does.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// NameServer is one of the zone's.
type NameServer struct {
	Name  string
	Addrs []netip.Addr // needed if the name is in the zone
}

const (
	resolveEvery = 30 * time.Second // the nodes' names
	resolveWait  = 5 * time.Second
)

// Server answers for the zone. It is a run.Service.
type Server struct {
	cfg     Config
	zone    string // with the final dot
	udp     []*net.UDPConn
	tcp     net.Listener
	metrics *metrics
	book    atomic.Pointer[book]
	life    run.Lifecycle
	origin  time.Time

	mu       sync.Mutex // guards the following
	conns    map[net.Conn]struct{}
	networks map[uint64]int // conns by the client's network

	addrs map[string][]netip.Addr // of hosts; the writer's of books
}

// New opens the sockets.
func New(cfg Config) (_ *Server, err error) {
	cfg.TTL = cmp.Or(cfg.TTL, 20*time.Second)
	cfg.Rate = cmp.Or(cfg.Rate, 2000)
	cfg.MaxTCP = cmp.Or(cfg.MaxTCP, 256)
	cfg.Sockets = cmp.Or(cfg.Sockets, runtime.GOMAXPROCS(0))
	if !reusePort {
		cfg.Sockets = 1
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, zone: dns.CanonicalName(cfg.Zone), conns: map[net.Conn]struct{}{}, networks: map[uint64]int{}, addrs: map[string][]netip.Addr{}, origin: time.Now()}
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(s, cfg.Metrics); err != nil {
		return nil, err
	}
	if err = s.listen(); err != nil {
		s.metrics.unregister()
		s.closeSockets()
		return nil, err
	}
	return s, nil
}

func (s *Server) check() error {
	// The longest name put before the zone's is a port's: 14 bytes and a region.
	if _, ok := dns.IsDomainName(s.zone); !ok || s.zone == "." || len(s.zone) > 150 {
		return fmt.Errorf("dns: zone %q is no name for a zone", s.cfg.Zone)
	}
	if len(s.cfg.NameServers) == 0 {
		return errors.New("dns: the zone needs at least one name server")
	}
	for _, n := range s.cfg.NameServers {
		name := dns.CanonicalName(n.Name)
		switch _, ok := dns.IsDomainName(name); {
		case !ok || name == ".":
			return fmt.Errorf("dns: name server %q is no name", n.Name)
		case name == s.zone:
			return fmt.Errorf("dns: name server %s has the zone's own name, whose addresses are the nodes'", n.Name)
		case dns.IsSubDomain(s.zone, name) && len(n.Addrs) == 0:
			return fmt.Errorf("dns: name server %s is in the zone: its addresses are needed, as %s=192.0.2.1", n.Name, n.Name)
		}
	}
	if len(s.cfg.ID) > 128 {
		return fmt.Errorf("dns: id %q is longer than 128 bytes", s.cfg.ID)
	}
	return nil
}

// listen opens the TCP listener, and the UDP sockets on the same port.
func (s *Server) listen() error {
	var lc net.ListenConfig
	addr, tries := s.cfg.Addr, 1
	if a, err := netip.ParseAddrPort(addr); err == nil && a.Port() == 0 {
		tries = 20 // a port that is free for TCP need not be for UDP
	}
	for {
		var err error
		if s.tcp, err = lc.Listen(context.Background(), "tcp", addr); err != nil {
			return fmt.Errorf("dns: %w", err)
		}
		udp := s.tcp.Addr().String()
		shared := net.ListenConfig{Control: sharePort(s.cfg.Sockets > 1)}
		for range s.cfg.Sockets {
			var c net.PacketConn
			if c, err = shared.ListenPacket(context.Background(), "udp", udp); err != nil {
				break
			}
			_ = c.(*net.UDPConn).SetReadBuffer(4 << 20) // as much of it as the system allows
			s.udp = append(s.udp, c.(*net.UDPConn))
		}
		if err == nil {
			return nil
		}
		s.closeSockets()
		s.udp = nil
		if tries--; tries == 0 {
			return fmt.Errorf("dns: %w", err)
		}
	}
}

func (s *Server) closeSockets() {
	if s.tcp != nil {
		_ = s.tcp.Close()
	}
	for _, c := range s.udp {
		_ = c.Close()
	}
}

// Addr is the address it listens on.
func (s *Server) Addr() string { return s.tcp.Addr().String() }

// Start begins to answer.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) error {
		// Without addresses the first answers would be that there are none, and be
		// remembered for a while.
		s.resolve(ctx)
		changed := s.write()
		s.life.Go(func() { s.keep(ctx, changed) })
		for _, c := range s.udp {
			s.life.Go(func() { s.serveUDP(ctx, c) })
		}
		s.life.Go(func() { s.serveTCP(ctx) })
		return nil
	})
}

// Stop ends it and closes the sockets.
func (s *Server) Stop() {
	s.life.Stop(func() {
		s.closeSockets()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			_ = c.Close()
		}
	})
	s.closeSockets() // if it was never started
	s.metrics.unregister()
}

// keep writes a new book when the regions stand in another way, or the addresses
// of their nodes are others.
func (s *Server) keep(ctx context.Context, changed <-chan struct{}) {
	again := time.NewTicker(resolveEvery)
	defer again.Stop()
	for {
		select {
		case <-changed:
			if s.unknownHosts() {
				s.resolve(ctx)
			}
		case <-again.C:
			if !s.resolve(ctx) {
				continue
			}
		case <-ctx.Done():
			return
		}
		changed = s.write()
	}
}

func (s *Server) write() <-chan struct{} {
	v, changed := s.cfg.Watch.View()
	s.book.Store(newBook(&s.cfg, s.zone, v, s.addrs, time.Now(), s.metrics.answers))
	return changed
}

// hosts are those of the nodes' URLs.
func (s *Server) hosts() map[string]bool {
	v, _ := s.cfg.Watch.View()
	hosts := map[string]bool{}
	for _, nodes := range v.Nodes {
		for _, n := range nodes {
			for _, raw := range []string{n.HTTP, n.WS, n.WT} {
				if u, err := url.Parse(raw); err == nil && u.Hostname() != "" {
					hosts[u.Hostname()] = true
				}
			}
		}
	}
	return hosts
}

func (s *Server) unknownHosts() bool {
	for host := range s.hosts() {
		if _, ok := s.addrs[host]; !ok {
			return true
		}
	}
	return false
}

// resolve looks the hosts of the nodes up, and reports whether anything is new.
// What can't be found keeps its addresses.
func (s *Server) resolve(ctx context.Context) (news bool) {
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	few := make(chan struct{}, 16)
	found := map[string][]netip.Addr{}
	for host := range s.hosts() {
		if a, err := netip.ParseAddr(host); err == nil {
			mu.Lock()
			found[host] = []netip.Addr{a.Unmap().WithZone("")}
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			addrs, err := s.cfg.Resolve(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(addrs) == 0 {
				s.cfg.Log.WarnContext(ctx, "a node's host has no address", "host", host, "err", err)
				found[host] = s.addrs[host]
				return
			}
			for i, a := range addrs {
				addrs[i] = a.Unmap().WithZone("")
			}
			found[host] = sorted(addrs)
		})
	}
	wg.Wait()
	news = !equalAddrs(found, s.addrs)
	s.addrs = found
	return news
}
