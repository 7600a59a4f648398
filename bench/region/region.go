// Package region loads what a region keeps in consensus, by itself: nodes with
// their logs on real disks and QUIC between them on loopback, as in a
// deployment, but no rooms, clients or SQL. All nodes share this process, so
// its cores too.
package region

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/cluster"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/roster"
)

const name = "bench"

// Config describes a region; Dir is needed.
type Config struct {
	Dir           string // for logs and snapshots; it has to exist
	Nodes         int
	SnapshotEvery uint64       // log entries; 0: the default
	Log           *slog.Logger // may be nil
}

// Region is its nodes.
type Region struct {
	cfg       Config
	authority *peerlink.Authority
	topology  *regions.Topology
	Nodes     []*Node
}

// Node is one node, at one start of it.
type Node struct {
	*cluster.Cluster
	ID          regions.NodeID
	connections atomic.Uint64

	region  *Region
	links   *peerlink.Links
	conn    *net.UDPConn
	metrics *prometheus.Registry
}

// New starts a region and waits until its nodes are in.
func New(ctx context.Context, cfg Config) (_ *Region, err error) {
	r := &Region{cfg: cfg, Nodes: make([]*Node, cfg.Nodes)}
	defer func() {
		if err != nil {
			r.Stop()
		}
	}()
	if r.authority, err = peerlink.NewAuthority(); err != nil {
		return nil, err
	}
	here := regions.Region{Name: name, Location: regions.Location{Lat: 52.52, Lng: 13.4}}
	conns := make([]*net.UDPConn, cfg.Nodes)
	for i := range conns {
		if conns[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return nil, fmt.Errorf("region: %w", err)
		}
		here.Nodes = append(here.Nodes, regions.Node{
			ID: regions.NodeID(fmt.Sprintf("%s-%d", name, i+1)), Peer: conns[i].LocalAddr().String(),
		})
	}
	r.topology = &regions.Topology{Regions: []regions.Region{here}}
	for i, conn := range conns {
		if err := r.open(ctx, i, conn); err != nil {
			return nil, err
		}
	}
	return r, r.Ready(ctx)
}

func (r *Region) open(ctx context.Context, i int, conn *net.UDPConn) error {
	id := r.topology.Regions[0].Nodes[i].ID
	identity, err := r.authority.Issue(name, id)
	if err != nil {
		return err
	}
	n := &Node{ID: id, region: r, conn: conn, metrics: prometheus.NewRegistry()}
	incarnation := uint64(time.Now().UnixMilli())
	n.links, err = peerlink.New(peerlink.Config{
		Self: id, Region: name, Incarnation: incarnation, Conn: conn, Identity: identity, CA: r.authority.Pool(), Handler: nothing{},
		Peers: func(id regions.NodeID) (string, regions.RegionID, bool) {
			node, region, ok := r.topology.Node(id)
			return node.Peer, region, ok
		},
		Stream: func(ctx context.Context, from peerlink.Peer, s io.ReadWriter) error {
			return n.Serve(ctx, from.Node, s)
		},
	})
	if err != nil {
		return err
	}
	n.Cluster, err = cluster.New(cluster.Config{
		Self: id, Region: name, Incarnation: incarnation, Directory: regions.NewDirectory(r.topology), Dir: filepath.Join(r.cfg.Dir, string(id)),
		Links: n.links, SnapshotEvery: r.cfg.SnapshotEvery, Log: r.cfg.Log, Metrics: n.metrics,
	})
	if err != nil {
		return err
	}
	r.Nodes[i] = n
	if err := n.links.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return n.Start(context.WithoutCancel(ctx))
}

// Ready waits until all nodes that run are in.
func (r *Region) Ready(ctx context.Context) error {
	for _, n := range r.Nodes {
		if n == nil {
			continue
		}
		if err := n.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends nodes as the end of their processes would: from one moment on
// nothing is heard of them.
func (r *Region) Kill(list ...int) {
	for _, i := range list {
		_ = r.Nodes[i].conn.SetWriteDeadline(time.Unix(1, 0))
		_ = r.Nodes[i].conn.SetReadDeadline(time.Unix(1, 0))
	}
	var wg sync.WaitGroup
	for _, i := range list {
		wg.Go(r.Nodes[i].stop)
		r.Nodes[i] = nil
	}
	wg.Wait()
}

// Restart starts nodes again that were killed.
func (r *Region) Restart(ctx context.Context, list ...int) error {
	for _, i := range list {
		addr, err := net.ResolveUDPAddr("udp4", r.topology.Regions[0].Nodes[i].Peer)
		if err != nil {
			return fmt.Errorf("region: %w", err)
		}
		conn, err := net.ListenUDP("udp4", addr)
		if err != nil {
			return fmt.Errorf("region: %w", err)
		}
		if err := r.open(ctx, i, conn); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends all nodes.
func (r *Region) Stop() {
	var wg sync.WaitGroup
	for _, n := range r.Nodes {
		if n != nil {
			wg.Go(n.stop)
		}
	}
	wg.Wait()
}

func (n *Node) stop() {
	n.Cluster.Stop()
	n.links.Stop()
	_ = n.conn.Close()
}

// Connection returns a name for a new connection to this node.
func (n *Node) Connection() uint64 { return n.connections.Add(1) }

// Counts are how many sessions are in which state, as this node knows.
func (n *Node) Counts() (c roster.Counts) {
	n.View(func(s *roster.State, _ uint64) { c = s.Counts() })
	return c
}

// Stall is the longest that one entry, or the beginning of a snapshot, kept
// this node's roster from going on.
func (n *Node) Stall() (time.Duration, error) {
	const metric = "muster_consensus_machine_longest_seconds"
	families, err := n.metrics.Gather()
	if err != nil {
		return 0, fmt.Errorf("region: %w", err)
	}
	for _, f := range families {
		if f.GetName() == metric {
			return time.Duration(f.GetMetric()[0].GetGauge().GetValue() * float64(time.Second)), nil
		}
	}
	return 0, errors.New("region: no metric " + metric)
}

// SnapshotSize is the size of the largest snapshot that the nodes have on disk,
// in bytes, and how many they have.
func (r *Region) SnapshotSize() (size int64, n int, err error) {
	err = filepath.Walk(r.cfg.Dir, func(path string, f os.FileInfo, err error) error {
		if err == nil && f.Name() == "state.bin" {
			size, n = max(size, f.Size()), n+1
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil // an old one was just deleted
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("region: %w", err)
	}
	return size, n, nil
}

// nothing takes what events and datagrams bring: there are none.
type nothing struct{}

func (nothing) Up(peerlink.Peer)               {}
func (nothing) Down(regions.NodeID, error)     {}
func (nothing) Joined(peerlink.Peer)           {}
func (nothing) Frame(peerlink.Peer, []byte)    {}
func (nothing) Left(peerlink.Peer)             {}
func (nothing) Datagram(peerlink.Peer, []byte) {}
func (nothing) Call(context.Context, peerlink.Peer, []byte) ([]byte, error) {
	return nil, errors.New("region: nobody answers calls here")
}
