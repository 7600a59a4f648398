package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"

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

// MaxRegions is how many regions a Mesh can have.
func MaxRegions() int { return len(places) }

// MeshConfig says how many nodes a Mesh has, and what they share.
type MeshConfig struct {
	Regions, Nodes int // nodes per region

	DB     *db.DB
	Secret []byte
	CADir  string // where the mesh's authority is kept; empty: one for this run

	Origins    []string
	InviteBase string
	Demo       func() (httpapi.Demo, bool)
	Session    session.Config
	Version    string
	Log        *slog.Logger
	Metrics    prometheus.Registerer // optional: each node adds region and node
}

// Mesh is several regions of nodes in one process, with the distance between
// the regions emulated. It is a run.Service.
type Mesh struct {
	Nodes    []*Node // region by region
	Topology *regions.Topology
	Net      *simnet.Network
	// CertSHA256 is base64 of the certificate that WebTransport shows.
	CertSHA256 string

	life run.Lifecycle
}

// sockets are what a node listens on.
type sockets struct {
	http     net.Listener
	wt, peer *net.UDPConn
}

func (s *sockets) close() {
	for _, c := range []interface{ Close() error }{s.http, s.wt, s.peer} {
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

	m := &Mesh{Topology: &regions.Topology{}, Net: simnet.New(simnet.Config{})}
	open := map[regions.NodeID]*sockets{}
	defer func() {
		if err != nil {
			for _, s := range open {
				s.close()
			}
		}
	}()
	hosts := []string{"localhost"}
	for r, place := range places[:cfg.Regions] {
		region := regions.Region{Name: place.name, Location: regions.Location{Lat: place.lat, Lng: place.lng}}
		for n := range cfg.Nodes {
			id := regions.NodeID(fmt.Sprintf("%s-%d", place.name, n+1))
			host := "127.0.0.1"
			if runtime.GOOS == "linux" {
				host = fmt.Sprintf("127.0.%d.%d", r+1, n+1)
			}
			hosts = append(hosts, host)
			s, err := openSockets(host)
			if err != nil {
				return nil, fmt.Errorf("node %s: %w", id, err)
			}
			open[id] = s
			region.Nodes = append(region.Nodes, regions.Node{
				ID:   id,
				Peer: s.peer.LocalAddr().String(),
				HTTP: "http://" + s.http.Addr().String(),
				WS:   "ws://" + s.http.Addr().String() + "/ws",
				WT:   "https://" + s.wt.LocalAddr().String() + "/wt",
			})
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
	m.CertSHA256 = base64.StdEncoding.EncodeToString(hash[:])
	for _, region := range m.Topology.Regions {
		for _, n := range region.Nodes {
			identity, err := authority.Issue(region.Name, n.ID)
			if err != nil {
				return nil, err
			}
			s := open[n.ID]
			var metrics prometheus.Registerer
			if cfg.Metrics != nil {
				metrics = obs.Labelled(cfg.Metrics, string(region.Name), string(n.ID))
			}
			node, err := New(Config{
				ID: n.ID, Topology: m.Topology, DB: cfg.DB, Secret: cfg.Secret,
				HTTP: s.http, WebTransport: s.wt, CertSHA256: m.CertSHA256,
				WebTransportTLS: &tls.Config{Certificates: []tls.Certificate{cert}},
				Peer:            m.Net.Wrap(s.peer, string(region.Name)), Identity: identity, CA: authority.Pool(),
				Origins: cfg.Origins, InviteBase: cfg.InviteBase, Demo: cfg.Demo, Session: cfg.Session,
				Version: cfg.Version, Log: cfg.Log, Metrics: metrics,
			})
			if err != nil {
				return nil, err
			}
			m.Nodes = append(m.Nodes, node)
		}
	}
	return m, nil
}

func authorityOf(dir string) (*peerlink.Authority, error) {
	if dir == "" {
		return peerlink.NewAuthority()
	}
	return peerlink.OpenAuthority(filepath.Clean(dir))
}

func openSockets(host string) (*sockets, error) {
	s := &sockets{}
	var err error
	if s.http, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		return nil, err
	}
	for _, conn := range []**net.UDPConn{&s.wt, &s.peer} {
		if *conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)}); err != nil {
			s.close()
			return nil, err
		}
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
		return nil
	})
}

// Stop stops all nodes at once: each drains by itself.
func (m *Mesh) Stop() {
	m.life.Stop(func() { m.each(func(_ int, n *Node) { n.Stop() }) })
}

func (m *Mesh) each(f func(int, *Node)) {
	var wg sync.WaitGroup
	for i, n := range m.Nodes {
		wg.Go(func() { f(i, n) })
	}
	wg.Wait()
}

// Ready reports whether every node can do its work.
func (m *Mesh) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, n := range m.Nodes {
		if err := n.Ready(ctx); err != nil {
			return fmt.Errorf("%s: %w", n.ID(), err)
		}
	}
	return nil
}
