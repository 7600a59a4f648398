package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// What is asked for every frame takes nothing from the heap.
func TestLookupsAllocateNothing(t *testing.T) {
	c := crowd(t, 10)
	room, other := "group:00000007-0000-4000-8000-000000000000", regions.RegionID("r2")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		c.Owner(room)
		c.OwnerIn(other, room)
		c.Current()
	}))
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	bubble(t, 1, 1, func(c *Config) { c.Metrics = registry }, func(t *testing.T, m *mesh) {
		n := m.leader()
		id := n.open(t, "u", 1)
		n.open(t, "u", 2)
		n.open(t, "v", 3)
		n.Suspend(id) // too late
		n.Suspend(regions.SessionID{User: "v", Device: "d", Epoch: n.session("v").Epoch})
		require.NoError(t, n.Settle(t.Context()))
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP muster_cluster_fences_total Sessions of this node that a higher epoch ended.
# TYPE muster_cluster_fences_total counter
muster_cluster_fences_total 1
# HELP muster_cluster_proposals_pending Sessions of this node of which the region is still to note something.
# TYPE muster_cluster_proposals_pending gauge
muster_cluster_proposals_pending 0
# HELP muster_cluster_sessions Sessions of the region, by their state in the roster.
# TYPE muster_cluster_sessions gauge
muster_cluster_sessions{state="gone"} 0
muster_cluster_sessions{state="live"} 1
muster_cluster_sessions{state="suspended"} 1
# HELP muster_cluster_slots_owned Slots that this node owns.
# TYPE muster_cluster_slots_owned gauge
muster_cluster_slots_owned 1024
`), "muster_cluster_fences_total", "muster_cluster_proposals_pending", "muster_cluster_sessions", "muster_cluster_slots_owned"))
	})
	all, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range all {
		require.NotContains(t, f.GetName(), "muster_cluster", "a stopped node")
	}
}

// crowd is a node that does nothing, with a roster of rooms that have 10
// members each, fed as its log would.
func crowd(t testing.TB, rooms int) *Cluster {
	top := &regions.Topology{}
	for r := range 2 {
		region := regions.Region{Name: regions.RegionID(fmt.Sprint("r", r+1))}
		for n := range 3 {
			id := regions.NodeID(fmt.Sprintf("r%d-%d", r+1, n+1))
			region.Nodes = append(region.Nodes, regions.Node{ID: id})
		}
		top.Regions = append(top.Regions, region)
	}
	c, err := New(Config{Self: "r1-1", Region: "r1", Incarnation: 1, Directory: regions.NewDirectory(top), Links: opener{}})
	require.NoError(t, err)
	index := uint64(0)
	apply := func(command *peer.RosterCommand) {
		index++
		b, err := command.MarshalVT()
		require.NoError(t, err)
		a := &peer.RosterAnswer{}
		require.NoError(t, a.UnmarshalVT(c.machine.Apply(index, regions.Stamp{Term: 1, ClockMs: 1000}, b)))
		require.Zero(t, a.Code)
	}
	apply(&peer.RosterCommand{Body: &peer.RosterCommand_NodeUp{NodeUp: &peer.NodeUp{Node: "r1-1", Incarnation: 1, Capacity: 1}}})
	for i := range rooms * 5 {
		user := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		apply(&peer.RosterCommand{Body: &peer.RosterCommand_SessionOpen{SessionOpen: &peer.SessionOpen{
			User: user, Device: "d", Node: "r1-1", Incarnation: 1, Connection: uint64(i + 1), Name: "somebody",
		}}})
		room := func(i int) string { return fmt.Sprintf("group:%08d-0000-4000-8000-000000000000", i%rooms) }
		apply(&peer.RosterCommand{Body: &peer.RosterCommand_RoomJoin{RoomJoin: &peer.RoomJoin{
			User: user, Device: "d", Epoch: 1001, Rooms: []string{room(i), room(i + 1)},
		}}})
	}
	return c
}

func BenchmarkOwner(b *testing.B) {
	c := crowd(b, 10)
	b.ReportAllocs()
	for b.Loop() {
		c.Owner("group:00000007-0000-4000-8000-000000000000")
	}
}

func BenchmarkCurrent(b *testing.B) {
	c := crowd(b, 10)
	close(c.ready)
	for b.Loop() {
		c.Current()
	}
}

// BenchmarkRoomsIn lists the rooms of all slots: what the owner of all of a
// region with 5,000 rooms does at once.
func BenchmarkRoomsIn(b *testing.B) {
	c := crowd(b, 5000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for slot := range regions.Slots {
			n += len(c.RoomsIn(slot))
		}
		require.Equal(b, 5000, n)
	}
}

func BenchmarkStays(b *testing.B) {
	c := crowd(b, 5000)
	b.ReportAllocs()
	for b.Loop() {
		c.Stays("group:00000007-0000-4000-8000-000000000000")
	}
}
