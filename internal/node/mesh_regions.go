package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"

	"github.com/mustermesh/muster/regions"
)

// hostOf is where a node of a region listens, both counted from 0.
func hostOf(region, node int) string {
	if runtime.GOOS == "linux" {
		return fmt.Sprintf("127.0.%d.%d", region+1, node+1)
	}
	return "127.0.0.1"
}

// openRegion opens the sockets of a region's nodes; those that are open are
// returned with an error, too.
func openRegion(number, nodes int) (region regions.Region, opened []*sockets, err error) {
	place := places[number]
	region = regions.Region{Name: place.name, Location: regions.Location{Lat: place.lat, Lng: place.lng}}
	for n := range nodes {
		id := regions.NodeID(fmt.Sprintf("%s-%d", place.name, n+1))
		addr := net.JoinHostPort(hostOf(number, n), "0")
		s, err := openSockets(addr, addr, addr)
		if err != nil {
			return region, opened, fmt.Errorf("node %s: %w", id, err)
		}
		opened = append(opened, s)
		region.Nodes = append(region.Nodes, regions.Node{
			ID:   id,
			Peer: s.peer.LocalAddr().String(),
			HTTP: "http://" + s.http.Addr().String(),
			WS:   "ws://" + s.http.Addr().String() + "/ws",
			WT:   "https://" + s.wt.LocalAddr().String() + "/wt",
		})
	}
	return region, opened, nil
}

// AddRegion starts one more region, whose nodes know all others, and then gives
// the others the topology with it, as `muster serve` takes a new file. Not while
// others use Nodes or Topology.
func (m *Mesh) AddRegion(ctx context.Context) error {
	number := len(m.Topology.Regions)
	if number == len(places) {
		return fmt.Errorf("there are %d regions already", number)
	}
	region, opened, err := openRegion(number, m.cfg.Nodes)
	if err != nil {
		for _, s := range opened {
			s.close()
		}
		return err
	}
	old := m.nodes()
	next := *m.Topology
	next.Regions = append(slices.Clone(next.Regions), region)
	m.Topology = &next
	for i, n := range region.Nodes {
		m.mu.Lock()
		node, err := m.assemble(region.Name, n.ID, opened[i])
		if err == nil {
			m.Nodes, m.sockets = append(m.Nodes, node), append(m.sockets, opened[i])
		}
		m.mu.Unlock()
		if err == nil {
			err = node.Start(context.WithoutCancel(ctx))
		}
		if err != nil {
			return fmt.Errorf("node %s: %w", n.ID, err)
		}
	}
	if err := replace(old, &next); err != nil {
		return err
	}
	return m.settle(ctx)
}

// RemoveRegion gives all other nodes a topology without the last region, and
// then stops that one.
func (m *Mesh) RemoveRegion() error {
	last := len(m.Topology.Regions) - 1
	next := *m.Topology
	next.Regions = next.Regions[:last:last]
	m.Topology = &next
	m.mu.Lock()
	at := slices.IndexFunc(m.Nodes, func(n *Node) bool { _, _, ok := next.Node(n.ID()); return !ok })
	gone := slices.Clone(m.Nodes[at:])
	m.Nodes, m.sockets = m.Nodes[:at], m.sockets[:at]
	m.mu.Unlock()
	err := replace(m.Nodes, &next)
	for _, n := range gone {
		n.Stop()
	}
	return err
}

// replace gives nodes a topology.
func replace(nodes []*Node, t *regions.Topology) error {
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.cfg.Directory.Replace(t))
	}
	return errors.Join(errs...)
}
