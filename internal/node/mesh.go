package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/steering/locate"

	"encoding/base64"
)

// places are the regions that a Mesh can have, nearest to the default first:
// names of simnet's table, with the city that stands for each.
var places = []struct {
	name     regions.RegionID
	lat, lng float64
}{
	{"eu-west", 53.35, -6.26},       // Dublin
	{"us-east", 38.9, -77.45},       // Ashburn
	{"ap-south", 18.52, 73.86},      // Pune
	{"us-west", 37.34, -121.89},     // San José
	{"ap-northeast", 35.68, 139.69}, // Tokyo
	{"ap-southeast", 1.35, 103.82},  // Singapore
	{"sa-east", -23.55, -46.63},     // São Paulo
	{"eu-central", 50.11, 8.68},     // Frankfurt
	{"af-south", -26.2, 28.05},      // Johannesburg
	{"me-south", 25.2, 55.27},       // Dubai
}

// devDNSName is a name that the Internet has promised never to give to anybody
// (RFC 6761).
const devDNSName = "edge.muster.test"

// MaxRegions is how many regions a Mesh can have.
func MaxRegions() int { return len(places) }

// MeshConfig says how many nodes a Mesh has, and what they share.
type MeshConfig struct {
	Regions, Nodes int // nodes per region

	DB      *db.DB
	Secret  []byte
	Objects objects.Store // optional: see Config
	// Pools, if there are any, take the place of DB: the database is in
	// DatabaseRegion, and the others are far from it. DatabaseSurvives: the
	// database goes on without any of the regions.
	Pools            *Pools
	DatabaseRegion   regions.RegionID
	DatabaseSurvives bool
	CADir            string // where the mesh's authority is kept; empty: one for this run
	Raft             string // directory of the regions' logs; empty: in memory

	Origins    []string
	InviteBase string
	Notify     NotifyConfig
	Google     GoogleConfig
	Stripe     StripeConfig
	Hash       auth.HashConfig
	Demo       func() (httpapi.Demo, bool)
	Session    session.Config
	// Calls: every node is an SFU, and the first one of each region a relay.
	Calls     bool
	Traces    *obs.Traces // optional
	Drain     DrainConfig
	Net       simnet.Config                    // distance, jitter and loss between the regions
	Network   *simnet.Network                  // in its place, one that there is already
	Committed func(room string, number uint64) // see Config
	Version   string
	Log       *slog.Logger
}

// Mesh is several regions of nodes in one process, with the distance between
// the regions emulated. It is a run.Service.
type Mesh struct {
	Nodes    []*Node // region by region
	Topology *regions.Topology
	Net      *simnet.Network
	// CertSHA256 is base64 of the certificate that WebTransport shows.
	CertSHA256 string

	cfg        MeshConfig
	authority  *peerlink.Authority
	locator    locate.Locator
	cert       tls.Certificate
	sockets    []*sockets // by node
	memories   map[regions.NodeID]*consensus.Memory
	mu         sync.Mutex // guards Nodes and registries, when a node is restarted
	registries map[regions.NodeID]*prometheus.Registry
	operator   sync.Mutex // held by killNode and restartNode
	life       run.Lifecycle
}

// sockets are what a node listens on.
type sockets struct {
	http     *listener
	wt, peer *net.UDPConn
	media    *mediaSockets // nil: no calls
}

func (s *sockets) close() {
	for _, c := range []interface{ Close() error }{s.http, s.wt, s.peer} {
		_ = c.Close()
	}
}

// listener remembers its connections, so that Kill can break them.
type listener struct {
	net.Listener
	mu    sync.Mutex // guards the following
	conns map[net.Conn]struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return &accepted{c.(*net.TCPConn), l}, nil
}

// accepted is a connection of a listener.
type accepted struct {
	*net.TCPConn
	from *listener
}

func (c *accepted) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c.TCPConn)
	c.from.mu.Unlock()
	return c.TCPConn.Close()
}

// kill closes the listener and resets its connections.
func (l *listener) kill() {
	_ = l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// NewMesh opens all sockets, so that the topology is known, and assembles the
// nodes. Where the system has the addresses (Linux), node N of region R listens
// on 127.0.R.N, else all are on 127.0.0.1.
func NewMesh(cfg MeshConfig) (_ *Mesh, err error) {
	if cfg.Regions < 1 || cfg.Regions > len(places) {
		return nil, fmt.Errorf("%d regions: choose 1 to %d", cfg.Regions, len(places))
	}
	if cfg.Nodes < 1 || cfg.Nodes > 100 {
		return nil, fmt.Errorf("%d nodes a region: choose 1 to 100", cfg.Nodes)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	authority, err := authorityOf(cfg.CADir)
	if err != nil {
		return nil, err
	}

	if cfg.Network == nil {
		cfg.Network = simnet.New(cfg.Net)
	}
	locator, err := locate.Open("")
	if err != nil {
		return nil, err
	}
	m := &Mesh{Topology: &regions.Topology{DNSName: devDNSName}, locator: locator, Net: cfg.Network, cfg: cfg, authority: authority,
		memories: map[regions.NodeID]*consensus.Memory{}, registries: map[regions.NodeID]*prometheus.Registry{}}
	defer func() {
		if err != nil {
			for _, s := range m.sockets {
				s.close()
			}
		}
	}()
	hosts := []string{"localhost"}
	for r := range cfg.Regions {
		region, opened, err := openRegion(r, &cfg)
		m.sockets = append(m.sockets, opened...)
		if err != nil {
			return nil, err
		}
		for n := range region.Nodes {
			hosts = append(hosts, hostOf(r, n))
		}
		m.Topology.Regions = append(m.Topology.Regions, region)
	}
	if err := m.Topology.Validate(); err != nil {
		return nil, err
	}

	cert, hash, err := transport.SelfSigned(hosts, transport.MaxSelfSigned)
	if err != nil {
		return nil, err
	}
	m.cert, m.CertSHA256 = cert, base64.StdEncoding.EncodeToString(hash[:])
	for _, region := range m.Topology.Regions {
		for _, n := range region.Nodes {
			node, err := m.assemble(region.Name, n.ID, m.sockets[len(m.Nodes)])
			if err != nil {
				return nil, err
			}
			m.Nodes = append(m.Nodes, node)
		}
	}
	return m, nil
}

// assemble makes a node on its sockets.
func (m *Mesh) assemble(region regions.RegionID, id regions.NodeID, s *sockets) (*Node, error) {
	identity, err := m.authority.Issue(region, id)
	if err != nil {
		return nil, err
	}
	cfg := &m.cfg
	// Each start of a node has a registry of its own, or the next one could not
	// register its metrics.
	registry := prometheus.NewRegistry()
	m.registries[id] = registry
	var dir string
	if cfg.Raft != "" {
		// What a region's nodes are is part of its log: another number of them is
		// another mesh.
		dir = filepath.Join(cfg.Raft, fmt.Sprintf("%dx%d", cfg.Regions, cfg.Nodes), string(id))
	} else if m.memories[id] == nil {
		m.memories[id] = consensus.NewMemory()
	}
	database := cfg.DB
	if cfg.Pools != nil {
		database = cfg.Pools.DB[region]
	}
	media, relay := s.media.config(m.cert)
	return New(Config{
		ID: id, Media: media, TURN: relay, Directory: regions.NewDirectory(m.Topology), DB: database, Secret: cfg.Secret, Objects: cfg.Objects, Raft: dir, Memory: m.memories[id], Drain: cfg.Drain,
		DatabaseRegion: cfg.DatabaseRegion, DatabaseSurvives: cfg.DatabaseSurvives,
		Steering: SteeringConfig{Locator: m.locator},
		HTTP:     s.http, WebTransport: s.wt, CertSHA256: m.CertSHA256,
		WebTransportTLS: &tls.Config{Certificates: []tls.Certificate{m.cert}},
		Peer:            m.Net.Wrap(s.peer, string(region)), Identity: identity, CA: m.authority.Pool(),
		Origins: cfg.Origins, InviteBase: cfg.InviteBase, Notify: cfg.Notify, Google: cfg.Google, Stripe: cfg.Stripe, Hash: cfg.Hash, Demo: cfg.Demo, Session: cfg.Session, Committed: cfg.Committed,
		Version: cfg.Version, Log: cfg.Log, Metrics: obs.Labelled(registry, string(region), string(id)), Tracer: cfg.Traces.Tracer(string(region), string(id)),
	})
}

func authorityOf(dir string) (*peerlink.Authority, error) {
	if dir == "" {
		return peerlink.NewAuthority()
	}
	return peerlink.OpenAuthority(filepath.Clean(dir))
}

func openSockets(http, wt, peer string) (*sockets, error) {
	l, err := net.Listen("tcp", http)
	if err != nil {
		return nil, err
	}
	s := &sockets{http: &listener{Listener: l, conns: map[net.Conn]struct{}{}}}
	var open []func()
	if s.wt, err = listenUDP("webtransport", wt, &open); err == nil {
		s.peer, err = listenUDP("peer", peer, &open)
	}
	if err != nil {
		_ = l.Close()
		for _, f := range open {
			f()
		}
		return nil, err
	}
	return s, nil
}

// Start starts all nodes at once.
func (m *Mesh) Start(ctx context.Context) error {
	return m.life.Start(ctx, func(ctx context.Context) error {
		errs := make([]error, len(m.Nodes))
		m.each(func(i int, n *Node) { errs[i] = n.Start(context.WithoutCancel(ctx)) })
		if err := errors.Join(errs...); err != nil {
			m.each(func(_ int, n *Node) { n.Stop() })
			return err
		}
		return m.settle(ctx)
	})
}

// settleWait is how long the regions may take to find themselves.
const settleWait = 30 * time.Second

// settle waits until every node is in its region.
func (m *Mesh) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	for _, n := range m.Nodes {
		if err := n.rt.Ready(ctx); err != nil {
			m.each(func(_ int, n *Node) { n.Stop() })
			return fmt.Errorf("node %s is not in its region: %w", n.ID(), err)
		}
	}
	return nil
}

// Stop stops all nodes at once: there is nobody to drain to.
func (m *Mesh) Stop() {
	m.life.Stop(func() { m.each(func(_ int, n *Node) { n.Stop() }) })
}

// Gather returns the metrics of all nodes, those that were killed included.
func (m *Mesh) Gather() ([]*dto.MetricFamily, error) {
	m.mu.Lock()
	var all prometheus.Gatherers
	for _, r := range m.registries {
		all = append(all, r)
	}
	m.mu.Unlock()
	return all.Gather()
}

// control answers operators.
func (m *Mesh) control() http.Handler {
	return (&control{nodes: m.nodes, gather: m, kill: m.killNode, restart: m.restartNode, links: m.links()}).handler()
}

// Admin is what the admin address of a process with the whole mesh in it
// answers; nil: with this mesh's metrics and its own answers to operators.
func (m *Mesh) Admin(metrics prometheus.Gatherer, ctl http.Handler) *http.ServeMux {
	if metrics == nil {
		metrics = m
	}
	if ctl == nil {
		ctl = m.control()
	}
	admin := obs.Admin(metrics, m.Ready)
	admin.Handle("/ctl/", ctl)
	return admin
}

// nodes returns the present nodes.
func (m *Mesh) nodes() []*Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.Nodes)
}

// topology is the present one, as a node that runs has it.
func (m *Mesh) topology() (t *regions.Topology) {
	for _, n := range m.nodes() {
		if t == nil || n.running() {
			t = n.cfg.Directory.Topology()
		}
	}
	return t
}

// standings is how the regions stand, as the node sees it that hears of most of
// them: so it is nobody's in a region that is cut off, if there is another.
func (m *Mesh) standings() (best []regions.Standing) {
	most := -1
	for _, n := range m.nodes() {
		if !n.running() {
			continue
		}
		seen := n.Cluster().Standings()
		fresh := 0
		for _, s := range seen {
			if time.Since(s.Heard) < 2*time.Second {
				fresh++
			}
		}
		if fresh > most {
			most, best = fresh, seen
		}
	}
	return best
}

// Kill ends a node as the end of its process would: its sockets are gone at
// once, nobody is told anything. i counts Nodes.
func (m *Mesh) Kill(i int) {
	s := m.sockets[i]
	s.http.kill()
	_ = s.wt.Close()
	_ = s.peer.Close()
	m.Nodes[i].talks.kill()
	m.Nodes[i].Stop()
}

// Restart starts a node again that was stopped or killed: the same name and
// addresses, a new incarnation. Not while others use Nodes.
func (m *Mesh) Restart(ctx context.Context, i int) error {
	id, region := m.Nodes[i].ID(), m.Nodes[i].Region()
	old := m.sockets[i]
	s, err := openSockets(old.http.Addr().String(), old.wt.LocalAddr().String(), old.peer.LocalAddr().String())
	if err != nil {
		return fmt.Errorf("node %s: %w", id, err)
	}
	m.mu.Lock()
	s.media = old.media
	n, err := m.assemble(region, id, s)
	if err == nil {
		m.sockets[i], m.Nodes[i] = s, n
	}
	m.mu.Unlock()
	if err != nil {
		s.close()
		return fmt.Errorf("node %s: %w", id, err)
	}
	if err := n.Start(context.WithoutCancel(ctx)); err != nil {
		n.Stop() // which frees its sockets for the next try
		return err
	}
	return nil
}

// killNode is Kill by name, for the console.
func (m *Mesh) killNode(id regions.NodeID) error {
	m.operator.Lock()
	defer m.operator.Unlock()
	i := slices.IndexFunc(m.nodes(), func(n *Node) bool { return n.ID() == id && n.running() })
	if i < 0 {
		return errNoNode
	}
	m.Kill(i)
	return nil
}

// restartNode is Restart by name.
func (m *Mesh) restartNode(ctx context.Context, id regions.NodeID) error {
	m.operator.Lock()
	defer m.operator.Unlock()
	i := slices.IndexFunc(m.nodes(), func(n *Node) bool { return n.ID() == id && !n.running() })
	if i < 0 {
		return errNoNode
	}
	return m.Restart(ctx, i)
}

func (m *Mesh) each(f func(int, *Node)) {
	var wg sync.WaitGroup
	for i, n := range m.Nodes {
		wg.Go(func() { f(i, n) })
	}
	wg.Wait()
}

// Ready reports whether every node can do its work, but for those that were
// killed or drained: that was somebody's wish.
func (m *Mesh) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, n := range m.nodes() {
		if !n.running() || n.rt.going.Load() {
			continue
		}
		if err := n.Ready(ctx); err != nil {
			return fmt.Errorf("%s: %w", n.ID(), err)
		}
	}
	return nil
}
