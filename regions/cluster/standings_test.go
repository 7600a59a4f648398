package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// stands is how a node has another one; "" if it has not heard of it.
func (n *node) stands(of regions.NodeID) string {
	for _, s := range n.Standings() {
		for _, x := range s.Nodes {
			if x.Node.ID == of {
				return x.State.String()
			}
		}
	}
	return ""
}

func TestStandings(t *testing.T) {
	bubble(t, 2, 3, nil, func(t *testing.T, m *mesh) {
		other := m.node("r2-2")
		m.leader().open(t, "alice", 1)
		m.eventually(func() bool {
			s := other.Standings()
			sessions := 0
			for _, n := range s[0].Nodes {
				sessions += n.Sessions
			}
			return len(s) == 2 && len(s[0].Nodes) == 3 && len(s[1].Nodes) == 3 && sessions == 1
		}, "it does not hear how the other region stands")
		s := other.Standings()
		require.Equal(t, regions.RegionID("r1"), s[0].Region)
		require.Less(t, time.Since(s[0].Heard), 1100*time.Millisecond)
		require.Equal(t, "r1-1:1", s[0].Nodes[0].Node.Peer)
		require.Equal(t, 100, s[0].Nodes[0].Capacity)
		require.Less(t, time.Since(s[1].Heard), time.Millisecond, "its own")

		// What the next leader says counts, though it counts from 1.
		require.NoError(t, m.follower().Drain(t.Context(), "r1-1"))
		lead := m.leader().id
		m.kill(lead)
		m.eventually(func() bool { return other.stands(lead) == "down" }, "nobody tells of the dead leader")
		if lead != "r1-1" {
			require.Equal(t, "draining", other.stands("r1-1"))
		}

		// Nobody speaks: what was heard gets old, and the region's own is not
		// given out as new when its node is cut off.
		for _, n := range m.top.Regions[0].Nodes {
			m.net.Hold(string(n.ID))
		}
		time.Sleep(5 * time.Second)
		require.Greater(t, time.Since(other.Standings()[0].Heard), 3*time.Second)
		alone := m.all("r1")[0]
		require.Greater(t, time.Since(alone.Standings()[0].Heard), 3*time.Second)
		m.net.Heal()
		m.eventually(func() bool { return time.Since(other.Standings()[0].Heard) < 2*time.Second }, "nothing is heard after it")
	})
}

// An older leader's words don't count, but those of a region that lost all do.
func TestStandingsInOrder(t *testing.T) {
	bubble(t, 2, 1, nil, func(t *testing.T, m *mesh) {
		n := m.node("r1-1")
		m.kill("r2-1")
		time.Sleep(time.Second)
		say := func(term, count uint64, state regions.NodeState) {
			n.HeardStanding(&peer.Standing{Region: "r2", Term: term, Count: count, Nodes: []*peer.NodeStanding{{Id: "r2-1", State: uint32(state)}}})
		}
		say(100, 2, regions.NodeUp)
		say(100, 1, regions.NodeDown)
		say(99, 7, regions.NodeDown)
		say(100, 2, regions.NodeDown)
		require.Equal(t, "up", n.stands("r2-1"))
		say(101, 1, regions.NodeDraining)
		require.Equal(t, "draining", n.stands("r2-1"))
		n.HeardStanding(&peer.Standing{Region: "r1", Term: 1000, Nodes: []*peer.NodeStanding{{Id: "r1-1"}}})
		n.HeardStanding(&peer.Standing{Region: "r7", Term: 1000, Nodes: []*peer.NodeStanding{{Id: "r7-1"}}})
		require.Equal(t, "up", n.stands("r1-1"), "for itself it speaks")
		require.Empty(t, n.stands("r7-1"), "of no region of the file")
		time.Sleep(11 * time.Second)
		say(1, 1, regions.NodeUp)
		require.Equal(t, "up", n.stands("r2-1"))
	})
}

// A region's nodes need not be in the file, and a region can be added and taken
// away.
func TestTopologyChanges(t *testing.T) {
	bubble(t, 2, 1, nil, func(t *testing.T, m *mesh) {
		n := m.node("r1-1")
		n.HeardStanding(&peer.Standing{Region: "r2", Term: 1 << 40, Nodes: []*peer.NodeStanding{
			{Id: "r2-1", State: 1, Peer: "r2-1:1"}, {Id: "r2-9", State: 1, Peer: "r2-9:1", Ws: "wss://r2-9.example/ws"},
		}})
		at, region, ok := n.cfg.Directory.Node("r2-9")
		require.True(t, ok)
		require.Equal(t, regions.RegionID("r2"), region)
		require.Equal(t, "r2-9:1", at.Peer)
		require.Equal(t, regions.RegionID("r2"), n.RegionOf("r2-9"))

		next := &regions.Topology{Regions: append([]regions.Region{}, m.top.Regions...)}
		next.Regions = append(next.Regions, regions.Region{Name: "r3", Nodes: []regions.Node{{ID: "r3-1", Peer: "r3-1:1"}}})
		require.NoError(t, n.cfg.Directory.Replace(next))
		m.eventually(func() bool { return len(n.tales("others [r2 r3]")) == 1 }, "nobody tells of the region")
		require.Equal(t, regions.NodeID("r3-1"), n.OwnerIn("r3", "group:x"), "a guess")
		n.HeardOwner("r3", "group:x", "r3-2", 5)
		require.Equal(t, regions.NodeID("r3-2"), n.OwnerIn("r3", "group:x"))
		require.Len(t, n.Standings(), 3)
		_, _, ok = n.cfg.Directory.Node("r2-9")
		require.True(t, ok, "it is still known")

		require.NoError(t, n.cfg.Directory.Replace(&regions.Topology{Regions: next.Regions[:1]}))
		m.eventually(func() bool { return len(n.tales("others []")) == 1 }, "nobody tells that they are gone")
		require.Empty(t, n.OwnerIn("r3", "group:x"))
		require.Empty(t, n.RegionOf("r2-9"))
		require.Len(t, n.Standings(), 1)
	})
}
