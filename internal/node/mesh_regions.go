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
func openRegion(number int, cfg *MeshConfig) (region regions.Region, opened []*sockets, err error) {
	place := places[number]
	region = regions.Region{Name: place.name, Location: regions.Location{Lat: place.lat, Lng: place.lng}}
	for n := range cfg.Nodes {
		node, s, err := openNode(number, n, cfg.Calls)
		if err != nil {
			return region, opened, err
		}
		opened = append(opened, s)
		region.Nodes = append(region.Nodes, node)
		if s.media != nil {
			region.TURN = append(region.TURN, s.media.relays(node.ID)...)
		}
	}
	return region, opened, nil
}

func openNode(region, number int, calls bool) (regions.Node, *sockets, error) {
	id := regions.NodeID(fmt.Sprintf("%s-%d", places[region].name, number+1))
	addr := net.JoinHostPort(hostOf(region, number), "0")
	s, err := openSockets(addr, addr, addr)
	if err != nil {
		return regions.Node{}, nil, fmt.Errorf("node %s: %w", id, err)
	}
	if calls {
		if s.media, err = openMedia(hostOf(region, number), number == 0); err != nil {
			s.close()
			return regions.Node{}, nil, fmt.Errorf("node %s: %w", id, err)
		}
	}
	return regions.Node{
		ID:   id,
		Peer: s.peer.LocalAddr().String(),
		HTTP: "http://" + s.http.Addr().String(),
		WS:   "ws://" + s.http.Addr().String() + "/ws",
		WT:   "https://" + s.wt.LocalAddr().String() + "/wt",
	}, s, nil
}

// AddRegion starts one more region, whose nodes know all others, and then gives
// the others the topology with it, as `muster serve` takes a new file. Not while
// others use Nodes or Topology.
func (m *Mesh) AddRegion(ctx context.Context) error {
	number := len(m.Topology.Regions)
	if number == len(places) {
		return fmt.Errorf("there are %d regions already", number)
	}
	region, opened, err := openRegion(number, &m.cfg)
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
		if err := m.join(ctx, region.Name, n.ID, opened[i]); err != nil {
			return err
		}
	}
	if err := replace(old, &next); err != nil {
		return err
	}
	return m.settle(ctx)
}

// AddNode starts one more node in a region. The others are not told of it: they
// learn it. Nodes has it last, not among those of its region. Not while others
// use Nodes or Topology.
func (m *Mesh) AddNode(ctx context.Context, region int) error {
	next := *m.Topology
	next.Regions = slices.Clone(next.Regions)
	r := &next.Regions[region]
	n, s, err := openNode(region, len(r.Nodes), m.cfg.Calls)
	if err != nil {
		return err
	}
	r.Nodes = append(slices.Clip(r.Nodes), n)
	m.Topology = &next
	if err := m.join(ctx, r.Name, n.ID, s); err != nil {
		return err
	}
	return m.settle(ctx)
}

// join starts a node that was not there before.
func (m *Mesh) join(ctx context.Context, region regions.RegionID, id regions.NodeID, s *sockets) error {
	m.mu.Lock()
	n, err := m.assemble(region, id, s)
	if err == nil {
		m.Nodes, m.sockets = append(m.Nodes, n), append(m.sockets, s)
	}
	m.mu.Unlock()
	if err != nil {
		s.close()
		return fmt.Errorf("node %s: %w", id, err)
	}
	return n.Start(context.WithoutCancel(ctx))
}

// RemoveRegion gives all other nodes a topology without the last region, and
// then stops that one.
func (m *Mesh) RemoveRegion() error {
	last := len(m.Topology.Regions) - 1
	next := *m.Topology
	next.Regions = next.Regions[:last:last]
	m.Topology = &next
	var stay, gone []*Node
	var open []*sockets
	m.mu.Lock()
	for i, n := range m.Nodes {
		if _, _, ok := next.Node(n.ID()); ok {
			stay, open = append(stay, n), append(open, m.sockets[i])
		} else {
			gone = append(gone, n)
		}
	}
	m.Nodes, m.sockets = stay, open
	m.mu.Unlock()
	err := replace(stay, &next)
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
