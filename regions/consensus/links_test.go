package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

// realNode is a node on loopback with its log on disk.
type realNode struct {
	*Node
	machine *registers
	links   *peerlink.Links
	conn    *net.UDPConn
}

// realGroup is the test of the parts together: sockets, QUIC and disks, so
// outside of synctest.
type realGroup struct {
	t      testing.TB
	ca     *peerlink.Authority
	dir    string
	ids    []regions.NodeID
	addrs  map[regions.NodeID]string
	nodes  map[regions.NodeID]*realNode
	starts uint64
	change func(*Config)
}

func newRealGroup(t testing.TB, size int, change func(*Config)) *realGroup {
	ca, err := peerlink.NewAuthority()
	require.NoError(t, err)
	g := &realGroup{
		t: t, ca: ca, dir: t.TempDir(), change: change,
		addrs: map[regions.NodeID]string{}, nodes: map[regions.NodeID]*realNode{},
	}
	conns := map[regions.NodeID]*net.UDPConn{}
	for i := range size {
		id := regions.NodeID(fmt.Sprintf("n%d", i+1))
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		g.ids, g.addrs[id], conns[id] = append(g.ids, id), conn.LocalAddr().String(), conn
	}
	for id, conn := range conns {
		g.open(id, conn)
	}
	t.Cleanup(func() {
		for id := range g.nodes {
			g.stop(id)
		}
	})
	return g
}

func (g *realGroup) peers(id regions.NodeID) (string, regions.RegionID, bool) {
	addr, ok := g.addrs[id]
	return addr, "r", ok
}

func (g *realGroup) open(id regions.NodeID, conn *net.UDPConn) {
	g.t.Helper()
	identity, err := g.ca.Issue("r", id)
	require.NoError(g.t, err)
	n := &realNode{machine: newRegisters(), conn: conn}
	g.starts++
	n.links, err = peerlink.New(peerlink.Config{
		Self: id, Region: "r", Incarnation: g.starts, Conn: conn, Identity: identity, CA: g.ca.Pool(),
		Peers: g.peers, Handler: nobody{},
		Stream: func(ctx context.Context, from peerlink.Peer, s io.ReadWriter) error {
			return n.Serve(ctx, from.Node, s)
		},
	})
	require.NoError(g.t, err)
	cfg := Config{
		Self: id, Region: "r", Nodes: g.ids, Dir: filepath.Join(g.dir, string(id)), Machine: n.machine, Links: n.links, Rate: 1 << 30,
	}
	if g.change != nil {
		g.change(&cfg)
	}
	n.Node, err = New(cfg)
	require.NoError(g.t, err)
	require.NoError(g.t, n.links.Start(context.Background()))
	require.NoError(g.t, n.Start(context.Background()))
	g.nodes[id] = n
}

func (g *realGroup) stop(id regions.NodeID) {
	if n := g.nodes[id]; n != nil {
		n.Stop()
		n.links.Stop()
		_ = n.conn.Close()
		delete(g.nodes, id)
	}
}

// kill silences a node as SIGKILL does, then ends what is left of it.
func (g *realGroup) kill(id regions.NodeID) {
	n := g.nodes[id]
	_ = n.conn.SetWriteDeadline(time.Unix(1, 0))
	_ = n.conn.SetReadDeadline(time.Unix(1, 0))
	delete(g.nodes, id)
	go func() {
		n.Stop()
		n.links.Stop()
		_ = n.conn.Close()
	}()
}

func (g *realGroup) restart(id regions.NodeID) {
	g.t.Helper()
	addr, err := net.ResolveUDPAddr("udp4", g.addrs[id])
	require.NoError(g.t, err)
	var conn *net.UDPConn
	eventually(g.t, func() bool { conn, err = net.ListenUDP("udp4", addr); return err == nil }, "address not free")
	g.open(id, conn)
}

func (g *realGroup) leader() *realNode {
	g.t.Helper()
	var lead *realNode
	eventually(g.t, func() bool {
		for _, n := range g.nodes {
			if n.ready.Load() != 0 && n.IsLeader() {
				lead = n
				return true
			}
		}
		return false
	}, "no leader")
	return lead
}

func (g *realGroup) follower() *realNode {
	lead := g.leader()
	for _, id := range g.ids {
		if n := g.nodes[id]; n != nil && n != lead {
			return n
		}
	}
	return nil
}

// nobody takes what the events and datagrams links bring: nothing.
type nobody struct{}

func (nobody) Up(peerlink.Peer)               {}
func (nobody) Down(regions.NodeID, error)     {}
func (nobody) Joined(peerlink.Peer)           {}
func (nobody) Frame(peerlink.Peer, []byte)    {}
func (nobody) Left(peerlink.Peer)             {}
func (nobody) Datagram(peerlink.Peer, []byte) {}
func (nobody) Call(context.Context, peerlink.Peer, []byte) ([]byte, error) {
	return nil, errors.New("none")
}

func propose(n *realNode, register byte, id, value uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := n.Propose(ctx, put(register, id, value))
	return err
}

func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

// Over sockets and disks: the leader is killed under load, a follower's caller
// retries, and the dead one comes back with its data.
func TestKilledLeaderOnDisk(t *testing.T) {
	runs := 3
	if os.Getenv("MUSTER_RUNS") != "" {
		_, _ = fmt.Sscan(os.Getenv("MUSTER_RUNS"), &runs)
	}
	g := newRealGroup(t, 3, nil)
	var took []time.Duration
	var id uint64
	acked := map[uint64]bool{}
	for run := range runs {
		asker := g.follower()
		for range 50 {
			id++
			require.NoError(t, propose(asker, 1, id, id))
			acked[id] = true
		}
		dead := g.leader().cfg.Self
		began := time.Now()
		g.kill(dead)
		id++
		for propose(asker, 1, id, id) != nil {
			require.Less(t, time.Since(began), 15*time.Second)
		}
		acked[id] = true
		took = append(took, time.Since(began))
		g.restart(dead)
		eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return g.nodes[dead].Read(ctx) == nil
		}, "restarted node does not catch up")
		m := g.nodes[dead].machine
		m.mu.Lock()
		for a := range acked {
			require.Contains(t, m.seen, a, "run %d: acknowledged and lost", run)
		}
		m.mu.Unlock()
		require.Equal(t, id, m.count(), "nothing applied twice")
	}
	t.Logf("leader killed → next command acknowledged: p50 %v p99 %v of %d", quantile(took, 0.5), quantile(took, 0.99), runs)
	require.Less(t, quantile(took, 0.5), 2*time.Second)
}

func TestWholeRegionRestartsFromDisk(t *testing.T) {
	g := newRealGroup(t, 3, func(c *Config) { c.SnapshotEvery = 100 })
	lead := g.leader()
	for i := range uint64(250) {
		require.NoError(t, propose(lead, byte(i%5), i, i))
	}
	require.NoError(t, lead.raft.Snapshot().Error())
	for i := range uint64(50) {
		require.NoError(t, propose(lead, 9, 250+i, i))
	}
	for _, id := range g.ids {
		g.stop(id)
	}
	for _, id := range g.ids {
		g.restart(id)
	}
	g.leader()
	for _, n := range g.nodes {
		require.NoError(t, n.Read(t.Context()))
		require.EqualValues(t, 300, n.machine.count())
		require.EqualValues(t, 49, n.machine.get(9))
	}
}

func TestABrokenDirectoryIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	n, err := New(Config{Self: "n1", Nodes: []regions.NodeID{"n1"}, Dir: file, Machine: newRegisters(), Links: endpoint{}})
	require.NoError(t, err)
	require.Error(t, n.Start(t.Context()))
	n.Stop()
}

// TestFigures prints throughput and what idling costs; MUSTER_FIGURES=1 runs it.
func TestFigures(t *testing.T) {
	if os.Getenv("MUSTER_FIGURES") == "" {
		t.Skip("a measurement: MUSTER_FIGURES=1")
	}
	g := newRealGroup(t, 3, nil)
	lead, follower := g.leader(), g.follower()
	var ids atomic.Uint64
	idle := func(when string) {
		time.Sleep(time.Second)
		before := cpu()
		time.Sleep(5 * time.Second)
		t.Logf("idle %s, 3 nodes: %.1f %% of a core, %d goroutines", when, (cpu()-before).Seconds()/5*100, runtime.NumGoroutine())
	}
	idle("at first")
	if os.Getenv("MUSTER_FIGURES") == "idle" {
		return
	}
	terms := lead.raft.CurrentTerm()
	for _, at := range []struct {
		name string
		node *realNode
	}{{"leader", lead}, {"follower", follower}} {
		for _, conc := range []int{1, 64, 512} {
			var mu sync.Mutex
			var all []time.Duration
			var failed atomic.Int64
			stop := time.Now().Add(3 * time.Second)
			var wg sync.WaitGroup
			before := cpu()
			for range conc {
				wg.Go(func() {
					var mine []time.Duration
					for time.Now().Before(stop) {
						began := time.Now()
						if err := propose(at.node, 1, ids.Add(1), 1); err != nil {
							failed.Add(1)
							continue
						}
						mine = append(mine, time.Since(began))
					}
					mu.Lock()
					all = append(all, mine...)
					mu.Unlock()
				})
			}
			wg.Wait()
			used := cpu() - before
			t.Logf("%-8s conc %3d: %6.0f/s p50 %v p99 %v max %v failed %d, %.2f cores", at.name, conc, float64(len(all))/3,
				quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1), failed.Load(), used.Seconds()/3)
		}
	}
	for _, n := range []*realNode{lead, follower} {
		var all []time.Duration
		for range 500 {
			began := time.Now()
			require.NoError(t, n.Read(t.Context()))
			all = append(all, time.Since(began))
		}
		t.Logf("read (leader %v): p50 %v p99 %v", n == lead, quantile(all, 0.5), quantile(all, 0.99))
	}
	require.Equal(t, terms, lead.raft.CurrentTerm(), "an election under load")
	idle("after load")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
