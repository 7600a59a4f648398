package consensus

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// An entry that two of three have, one of which loses its disk: while the other
// one is away, the third must not lead by the vote of the one that forgot.
func TestALostDiskHasNoVote(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		lead := g.leader().cfg.Self
		var forgets, lacks regions.NodeID
		for _, id := range g.ids {
			switch {
			case id == lead:
			case forgets == "":
				forgets = id
			default:
				lacks = id
			}
		}
		g.stop(lacks)
		require.NoError(t, g.put(g.nodes[lead], 1, 1, 42), "acknowledged")
		g.stop(lead)
		g.stop(forgets)
		g.disks[forgets] = nil
		g.start(forgets)
		g.start(lacks)
		for range 10 {
			time.Sleep(time.Second)
			require.False(t, g.nodes[forgets].IsLeader() || g.nodes[lacks].IsLeader(), "nobody may lead")
		}
		g.stop(forgets) // which makes it no wiser
		g.start(forgets)
		for range 10 {
			time.Sleep(time.Second)
			require.False(t, g.nodes[forgets].IsLeader() || g.nodes[lacks].IsLeader(), "nobody may lead")
		}
		g.start(lead)
		g.leader()
		for _, id := range g.ids {
			require.NoError(t, g.read(g.nodes[id]))
			require.EqualValues(t, 42, g.machines[id].get(1), id)
		}
		// By then it is a voter like any other.
		eventually(t, func() bool { return !g.nodes[forgets].blank.Load() }, "still blank")
		g.stop(lead)
		g.leader()
		require.NoError(t, g.put(g.nodes[forgets], 1, 2, 43))
	})
}

// A voter that lost its disk while the others go on comes back by itself.
func TestALostDiskFillsAgain(t *testing.T) {
	bubble(t, 3, func(c *Config) { c.SnapshotEvery = 64 }, func(t *testing.T, g *group) {
		id := g.follower().cfg.Self
		for i := range uint64(300) {
			require.NoError(t, g.put(g.leader(), 1, i, i))
		}
		g.stop(id)
		time.Sleep(time.Minute) // a snapshot is all that is left of the beginning
		g.disks[id] = nil
		g.start(id)
		eventually(t, func() bool { return !g.nodes[id].blank.Load() }, "still blank")
		require.NoError(t, g.read(g.nodes[id]))
		require.EqualValues(t, 300, g.machines[id].count())
		g.stop(g.leader().cfg.Self)
		require.NoError(t, g.put(g.nodes[id], 1, 1000, 7))
	})
}

// A region of one grows to three. Both new nodes are among the founders by the
// new topology; they must not found a second group, whether the first node is
// there or not.
func TestGrowingFoundsNoSecondGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		defer g.stopAll()
		all := g.ids
		g.ids = all[:1]
		g.start("n1")
		require.NoError(t, g.put(g.leader(), 1, 1, 42))
		g.stop("n1")
		g.ids = all
		g.start("n2")
		g.start("n3")
		for range 10 {
			time.Sleep(time.Second)
			require.False(t, g.nodes["n2"].IsLeader() || g.nodes["n3"].IsLeader(), "a second group")
		}
		g.start("n1")
		for _, id := range all {
			eventually(t, func() bool { return g.read(g.nodes[id]) == nil && len(g.nodes[id].Members()) == 3 }, "not in the group")
			require.EqualValues(t, 42, g.machines[id].get(1), id)
		}
		eventually(t, func() bool { return countVoters(g.leader().servers()) == 3 }, "three voters")
	})
}

// All founders have to be there once. In which order they come doesn't matter.
func TestFoundersWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 4, nil)
		defer g.stopAll()
		g.start("n4")
		g.start("n2")
		time.Sleep(5 * time.Second)
		g.start("n3")
		time.Sleep(5 * time.Second)
		g.start("n1")
		began := time.Now()
		g.leader()
		require.Less(t, time.Since(began), 2*time.Second)
		for _, id := range g.ids {
			eventually(t, func() bool { return g.read(g.nodes[id]) == nil && len(g.nodes[id].Members()) == 4 }, "not in the group")
		}
	})
}

// A topology that is not the same everywhere makes no second group.
func TestFoundersMustAgreeWhoTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := map[regions.NodeID][]regions.NodeID{
			"n1": {"n1", "n2", "n3", "n4"}, "n3": {"n1", "n2", "n3", "n4"},
			"n2": {"n4", "n1", "n2", "n3"}, "n4": {"n4", "n1", "n2", "n3"},
		}
		g := newGroup(t, 4, func(c *Config) { c.Nodes = here[c.Self] }).startAll()
		defer g.stopAll()
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			for id, n := range g.nodes {
				require.False(t, n.IsLeader(), "%s leads a group that others don't know of", id)
			}
		}
		for _, id := range g.ids { // the mistake is put right
			g.stop(id)
			here[id] = here["n1"]
		}
		g.startAll()
		g.leader()
		require.NoError(t, g.put(g.nodes["n4"], 1, 1, 1))
	})
}
