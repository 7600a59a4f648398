package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

// mesh is regions of nodes on a network in memory. Nodes are named r1-1, r1-2,
// r2-1 and so on.
type mesh struct {
	t      *testing.T
	net    *simnet.Fabric
	top    *regions.Topology
	change func(*Config)
	disks  map[regions.NodeID]*consensus.Memory
	starts uint64

	mu    sync.Mutex
	nodes map[regions.NodeID]*node
}

// node is one start of a node.
type node struct {
	*Cluster
	id   regions.NodeID
	host *simnet.Host
	log  *bytes.Buffer
	logs *sync.Mutex
	mute atomic.Bool // frames to other regions are lost

	mu   sync.Mutex
	told []string // by the hooks
	wait chan struct{}
}

// bubble runs a test with size nodes in each of so many regions, all of them in.
func bubble(t *testing.T, count, size int, change func(*Config), f func(t *testing.T, m *mesh)) {
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{
			t: t, net: simnet.NewFabric(simnet.FabricConfig{OneWay: func(string, string) time.Duration { return 40 * time.Millisecond }}),
			top: &regions.Topology{}, change: change, disks: map[regions.NodeID]*consensus.Memory{}, nodes: map[regions.NodeID]*node{},
		}
		for r := range count {
			region := regions.Region{Name: regions.RegionID(fmt.Sprintf("r%d", r+1))}
			for n := range size {
				id := regions.NodeID(fmt.Sprintf("%s-%d", region.Name, n+1))
				region.Nodes = append(region.Nodes, regions.Node{ID: id, Peer: string(id) + ":1"})
				m.disks[id] = consensus.NewMemory()
			}
			m.top.Regions = append(m.top.Regions, region)
		}
		defer m.stopAll()
		for id := range m.disks {
			m.start(id)
		}
		for _, n := range m.all() {
			require.NoError(t, n.ready(t))
		}
		f(t, m)
	})
}

func (n *node) ready(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return n.Ready(ctx)
}

func (m *mesh) start(id regions.NodeID) *node {
	m.t.Helper()
	m.starts++
	_, region, _ := m.top.Node(id)
	n := &node{id: id, log: &bytes.Buffer{}, logs: &sync.Mutex{}}
	cfg := Config{
		Self: id, Region: region, Incarnation: m.starts, Directory: regions.NewDirectory(m.top), Memory: m.disks[id],
		Links: opener{n}, Send: n.send, Hooks: n.hooks(), Log: slog.New(slog.NewTextHandler(writer{n}, nil)),
	}
	if m.change != nil {
		m.change(&cfg)
	}
	var err error
	n.Cluster, err = New(cfg)
	require.NoError(m.t, err)
	n.host = m.net.Host(simnet.Peer{Name: string(id), Place: string(region), Incarnation: m.starts}, n)
	require.NoError(m.t, n.Start(context.Background()))
	m.mu.Lock()
	m.nodes[id] = n
	m.mu.Unlock()
	return n
}

// kill ends a process as SIGKILL does; its disk stays.
func (m *mesh) kill(id regions.NodeID) {
	m.mu.Lock()
	n := m.nodes[id]
	delete(m.nodes, id)
	m.mu.Unlock()
	if n != nil {
		n.host.Kill()
		n.Cluster.Stop()
	}
}

func (m *mesh) stopAll() {
	m.net.Heal()
	for _, n := range m.all() {
		m.kill(n.id)
	}
}

func (m *mesh) all(of ...regions.RegionID) (all []*node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if len(of) == 0 || slices.Contains(of, n.cfg.Region) {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(string(a.id), string(b.id)) })
	return all
}

func (m *mesh) node(id regions.NodeID) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[id]
}

// leader is the node of r1 that leads and does so with a majority.
func (m *mesh) leader() *node {
	m.t.Helper()
	var lead *node
	m.eventually(func() bool {
		for _, n := range m.all("r1") {
			if n.node.IsLeader() && n.Current() && n.node.Read(m.t.Context()) == nil && n.node.IsLeader() {
				lead = n
			}
		}
		return lead != nil
	}, "no leader")
	return lead
}

func (m *mesh) follower() *node {
	m.t.Helper()
	lead := m.leader()
	all := m.all("r1")
	return all[slices.IndexFunc(all, func(n *node) bool { return n != lead })]
}

// others are the nodes of r1 but one.
func (m *mesh) others(id regions.NodeID) []*node {
	return slices.DeleteFunc(m.all("r1"), func(n *node) bool { return n.id == id })
}

// cut separates a node from the others of its region: what it says, what it
// hears, or both.
func (m *mesh) cut(id regions.NodeID, out, in bool) {
	_, region, _ := m.top.Node(id)
	r, _ := m.top.Region(region)
	for _, o := range r.Nodes {
		if o.ID != id {
			if out {
				m.net.Cut(string(id), string(o.ID))
			}
			if in {
				m.net.Cut(string(o.ID), string(id))
			}
		}
	}
}

// eventually looks again and again: under synctest in no time.
func (m *mesh) eventually(ok func() bool, what string) {
	m.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, n := range m.all() {
				n.logs.Lock()
				m.t.Logf("%s:\n%s", n.id, n.log)
				n.logs.Unlock()
			}
			require.FailNow(m.t, what)
		}
	}
}

// open opens a session of a device on a node.
func (n *node) open(t *testing.T, user string, connection uint64) regions.SessionID {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o, err := n.Open(ctx, regions.Opening{
		User: user, Device: "d", Login: "l", Name: strings.ToUpper(user), Transport: wire.Transport_WEBSOCKET, Connection: connection,
	})
	require.NoError(t, err)
	return regions.SessionID{User: user, Device: "d", Epoch: o.Epoch}
}

// session is how the node's roster has a device.
func (n *node) session(user string) (x *roster.Session) {
	n.View(func(s *roster.State, _ uint64) {
		if y, ok := s.Session(user, "d"); ok {
			x = y
		}
	})
	return x
}

func (n *node) state(id regions.NodeID) (state roster.Node, known bool) {
	n.View(func(s *roster.State, _ uint64) { state, known = s.Node(id) })
	return state, known
}

// slots is how many slots each node owns.
func (n *node) slots() map[regions.NodeID]int {
	count := map[regions.NodeID]int{}
	for _, s := range n.tables.own.Load() {
		count[s.Owner]++
	}
	return count
}

// lines counts what the node logged.
func (n *node) lines(of string) int {
	n.logs.Lock()
	defer n.logs.Unlock()
	return strings.Count(n.log.String(), of)
}

type writer struct{ n *node }

func (w writer) Write(b []byte) (int, error) {
	w.n.logs.Lock()
	defer w.n.logs.Unlock()
	return w.n.log.Write(b)
}

func (n *node) tellf(format string, args ...any) {
	n.mu.Lock()
	n.told = append(n.told, fmt.Sprintf(format, args...))
	wait := n.wait
	n.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

// tales are what the hooks told that begins so.
func (n *node) tales(of string) (tales []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.told {
		if strings.HasPrefix(t, of) {
			tales = append(tales, t)
		}
	}
	return tales
}

func (n *node) hooks() Hooks {
	return Hooks{
		CallMoved: func(m regions.CallMove) { n.tellf("call %s %s -> %s %v", m.Call, m.From, m.To, m.Draining) },
		SlotsMoved: func(moves []regions.SlotMove) {
			for _, m := range moves {
				// The table is never behind what is told.
				if s := n.tables.own.Load()[m.Slot]; s.Epoch < m.Epoch || (s.Epoch == m.Epoch && s.Owner != m.To) {
					n.tellf("wrong table: %v, told %v", s, m)
				}
			}
			n.tellf("slots %d %s -> %s", len(moves), moves[0].From, moves[0].To)
		},
		NodeChanged: func(c roster.NodeChanged) { n.tellf("node %s %v %v", c.Node, c.State, c.Removed) },
		SessionFenced: func(at regions.NodeID, id regions.SessionID, w regions.Epoch) {
			n.tellf("fenced %s %s %v", at, id.User, w > id.Epoch)
		},
		SessionSuspended: func(at regions.NodeID, id regions.SessionID, rooms []string) {
			n.tellf("suspended %s %s %v", at, id.User, rooms)
		},
		SessionEnded: func(at regions.NodeID, id regions.SessionID, rooms []string, r wire.Reason) {
			n.tellf("ended %s %s %v %v", at, id.User, rooms, r)
		},
		OthersChanged: func(o []regions.RegionID) { n.tellf("others %v", o) },
		Resync:        func() { n.tellf("resync") },
		RegionMoved:   func(r regions.RegionID, slots []int) { n.tellf("region %s %d", r, len(slots)) },
		NodeLost:      func() { n.tellf("lost") },
	}
}

// opener is the node's links as consensus wants them.
type opener struct{ n *node }

func (o opener) Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error) {
	s, err := o.n.host.Open(ctx, string(to))
	if errors.Is(err, simnet.ErrUnsent) {
		err = fmt.Errorf("%w: %w", regions.ErrUnsent, err)
	}
	return s, err
}

func (n *node) send(to regions.NodeID, f *peer.Frame) {
	b, err := f.MarshalVT()
	if err == nil && !n.mute.Load() {
		_ = n.host.Send(string(to), b) // may be lost
	}
}

// A node is the handler of its links.

func (n *node) Up(to simnet.Peer)   { n.LinkUp(regions.NodeID(to.Name)) }
func (n *node) Down(string, error)  {}
func (n *node) Joined(simnet.Peer)  {}
func (n *node) Left(simnet.Peer)    {}
func (n *node) Accept(*simnet.Pipe) {}

func (n *node) Frame(_ simnet.Peer, b []byte) {
	var f peer.Frame
	if f.UnmarshalVT(b) != nil {
		return
	}
	if f.GetSlots() != nil {
		n.HeardSlots(f.GetSlots())
	}
	if f.GetStanding() != nil {
		n.HeardStanding(f.GetStanding())
	}
}

func (n *node) Datagram(simnet.Peer, []byte) {}
func (n *node) Call(context.Context, simnet.Peer, []byte) ([]byte, error) {
	return nil, errors.New("none")
}

func (n *node) Stream(ctx context.Context, from simnet.Peer, s io.ReadWriter) error {
	return n.Serve(ctx, regions.NodeID(from.Name), s)
}
