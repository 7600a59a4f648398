package node

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/roster"
)

// world is one region's realtime sides on a network in memory.
type world struct {
	t        *testing.T
	fabric   *simnet.Fabric
	topology *regions.Topology
}

func newWorld(t *testing.T, nodes int) *world {
	here := regions.Region{Name: "eu-west"}
	for i := range nodes {
		id := regions.NodeID(fmt.Sprintf("n%d", i+1))
		here.Nodes = append(here.Nodes, regions.Node{ID: id, WS: "ws://" + string(id)})
	}
	return &world{t: t, fabric: simnet.NewFabric(simnet.FabricConfig{}), topology: &regions.Topology{Regions: []regions.Region{here}}}
}

func (w *world) start(id regions.NodeID) *Realtime {
	w.t.Helper()
	started := time.Now()
	rt, err := NewRealtime(RealtimeConfig{ID: id, Directory: regions.NewDirectory(w.topology), Started: started, Secret: []byte(strings.Repeat("s", 32))})
	require.NoError(w.t, err)
	rt.Connect(&wires{rt: rt, fabric: w.fabric, peer: simnet.Peer{Name: string(id), Place: "eu-west", Incarnation: uint64(started.UnixMilli())}})
	require.NoError(w.t, rt.Start(w.t.Context()))
	w.t.Cleanup(rt.Stop)
	return rt
}

// wires are Peers.
type wires struct {
	rt     *Realtime
	fabric *simnet.Fabric
	peer   simnet.Peer
	host   *simnet.Host
}

func (l *wires) Start(context.Context) error { l.host = l.fabric.Host(l.peer, ears{l.rt}); return nil }
func (l *wires) Stop()                       { l.host.Kill() }

func (l *wires) Send(to regions.NodeID, b []byte) error { return l.host.Send(string(to), b) }
func (l *wires) SendDatagram(to regions.NodeID, b []byte) error {
	return l.host.SendDatagram(string(to), b)
}
func (l *wires) Call(ctx context.Context, to regions.NodeID, b []byte) ([]byte, error) {
	return l.host.Call(ctx, string(to), b)
}
func (l *wires) Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error) {
	s, err := l.host.Open(ctx, string(to))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", regions.ErrUnsent, err)
	}
	return s, nil
}

// ears give what the network tells to the node.
type ears struct{ rt *Realtime }

func linked(p simnet.Peer) peerlink.Peer {
	return peerlink.Peer{Node: regions.NodeID(p.Name), Region: regions.RegionID(p.Place), Incarnation: p.Incarnation}
}

func (e ears) Up(to simnet.Peer)                { e.rt.Handler().Up(linked(to)) }
func (e ears) Down(to string, err error)        { e.rt.Handler().Down(regions.NodeID(to), err) }
func (e ears) Joined(p simnet.Peer)             { e.rt.Handler().Joined(linked(p)) }
func (e ears) Left(p simnet.Peer)               { e.rt.Handler().Left(linked(p)) }
func (e ears) Frame(p simnet.Peer, b []byte)    { e.rt.Handler().Frame(linked(p), b) }
func (e ears) Datagram(p simnet.Peer, b []byte) { e.rt.Handler().Datagram(linked(p), b) }
func (e ears) Accept(*simnet.Pipe)              {}
func (e ears) Call(ctx context.Context, p simnet.Peer, b []byte) ([]byte, error) {
	return e.rt.Handler().Call(ctx, linked(p), b)
}
func (e ears) Stream(ctx context.Context, p simnet.Peer, s io.ReadWriter) error {
	return e.rt.Stream(ctx, linked(p), s)
}

// within runs f and returns how long it took.
func within(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 2000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.FailNow(t, "never: "+what)
}

// The only voter can't pass its office on; nobody waits for that.
func TestDrainAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newWorld(t, 1).start("n1")
		require.NoError(t, rt.Ready(t.Context()))
		eventually(t, "takes clients", func() bool { return rt.Takes(t.Context()) == nil })
		require.Less(t, within(func() { require.NoError(t, rt.Drain(t.Context())) }), 2*time.Second)
		require.ErrorContains(t, rt.Takes(t.Context()), "drains")
	})
}

// A node that never came into its region has nothing to hand over.
func TestDrainBeforeTheRegionIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newWorld(t, 3).start("n1")
		time.Sleep(5 * time.Second)
		require.Less(t, within(func() { require.NoError(t, rt.Drain(t.Context())) }), time.Second)
		require.Less(t, within(rt.Stop), 5*time.Second)
	})
}

// The region can't be told that a node drains, gives it up, and takes it back
// as one that is up: it is told then, and the drain goes on.
func TestDrainWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2) // the first one votes
		a, b := w.start("n1"), w.start("n2")
		for _, rt := range []*Realtime{a, b} {
			require.NoError(t, rt.Ready(t.Context()))
		}
		state := func() (n roster.Node) {
			a.Cluster.View(func(s *roster.State, _ uint64) { n, _ = s.Node("n2") })
			return n
		}
		eventually(t, "both own something", func() bool { return len(a.Cluster.Moves(1)) == 0 && owns(a, "n2") > 0 })
		w.fabric.Cut("n1", "n2")
		w.fabric.Cut("n2", "n1")
		eventually(t, "given up", func() bool { return state().State == roster.Down })
		done := make(chan error, 1)
		go func() { done <- b.Drain(context.WithoutCancel(t.Context())) }()
		time.Sleep(4 * time.Second)
		require.ErrorContains(t, b.Takes(t.Context()), "drains", "from the first moment")
		w.fabric.Heal()
		require.NoError(t, <-done)
		require.Equal(t, roster.Draining, state().State)
		require.Zero(t, owns(a, "n2"))
	})
}

// A drain that is under way does not hold up the end of the node.
func TestStopInTheMiddleOfADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.start("n1"), w.start("n2")
		for _, rt := range []*Realtime{a, b} {
			require.NoError(t, rt.Ready(t.Context()))
		}
		w.fabric.Cut("n1", "n2")
		w.fabric.Cut("n2", "n1")
		go func() { _ = b.Drain(context.Background()) }()
		time.Sleep(3 * time.Second)
		require.Less(t, within(b.Stop), 3*time.Second)
	})
}

// A drain without anybody to go to is done again when there is somebody.
func TestDrainAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a := w.start("n1")
		require.NoError(t, a.Ready(t.Context()))
		require.NoError(t, a.Drain(t.Context()))
		require.Equal(t, regions.Slots, owns(a, "n1"), "nobody else could have them")
		b := w.start("n2")
		require.NoError(t, b.Ready(t.Context()))
		require.NoError(t, a.Drain(t.Context()))
		require.Zero(t, owns(b, "n1"))
	})
}

// A drained node still votes, so it may be elected again. When it ends it passes
// that on, too.
func TestDrainPassesOnWhatCameLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		all := map[regions.NodeID]*Realtime{}
		for _, id := range []regions.NodeID{"n1", "n2", "n3"} {
			all[id] = w.start(id)
		}
		for _, rt := range all {
			require.NoError(t, rt.Ready(t.Context()))
		}
		b := all["n2"]
		require.NoError(t, b.Drain(t.Context()))
		eventually(t, "the drained node leads", func() bool {
			if lead := all[b.Cluster.Leader()]; lead != nil && lead != b {
				_ = lead.Cluster.TransferLeadership(t.Context())
			}
			return b.Cluster.Leader() == "n2"
		})
		require.NoError(t, b.Drain(t.Context()))
		require.NotEqual(t, regions.NodeID("n2"), b.Cluster.Leader())
	})
}

// owns counts a node's slots.
func owns(rt *Realtime, id regions.NodeID) (n int) {
	rt.Cluster.View(func(s *roster.State, _ uint64) { n = len(s.SlotsOf(id)) })
	return n
}
