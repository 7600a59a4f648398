package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

// agree says whether all nodes outside of r1 know who owns r1's rooms.
func agree(m *mesh, others []*node) bool {
	truth := m.leader()
	for i := range 200 {
		room := fmt.Sprint("group:", i)
		owner, _ := truth.Owner(room)
		for _, n := range others {
			if n.OwnerIn("r1", room) != owner {
				return false
			}
		}
	}
	return true
}

func TestOtherRegionsHearOfSlots(t *testing.T) {
	bubble(t, 2, 3, nil, func(t *testing.T, m *mesh) {
		others := m.all("r2")
		require.Equal(t, []regions.RegionID{"r2"}, m.leader().Others())
		require.Equal(t, regions.RegionID("r2"), m.leader().RegionOf("r2-3"))
		balance(t, m)
		m.eventually(func() bool { return agree(m, others) }, "they don't hear of moves")

		// A node dies: others hear at once.
		began := time.Now()
		dead := m.follower()
		m.kill(dead.id)
		m.eventually(func() bool { return agree(m, others) && m.leader().slots()[dead.id] == 0 }, "they don't hear of a dead node")
		require.Less(t, time.Since(began), 3*time.Second)
		require.NotEmpty(t, others[0].tales("region r1"))

		// Cut off while slots move, they hear when the links are back: the new
		// leader tells, whoever it is.
		for _, n := range m.top.Regions[0].Nodes {
			for _, o := range others {
				m.net.Cut(string(n.ID), string(o.id))
			}
		}
		again := m.start(dead.id)
		require.NoError(t, again.ready(t))
		m.eventually(func() bool { // before that there is nothing to balance
			for _, n := range m.all("r1") {
				if is, known := n.state(dead.id); !known || is.State != roster.Up {
					return false
				}
			}
			return true
		}, "not everybody knows that it is back")
		balance(t, m)
		require.NoError(t, m.leader().TransferLeadership(t.Context()))
		time.Sleep(10 * time.Second)
		require.False(t, agree(m, others))
		m.net.Heal()
		m.eventually(func() bool { return agree(m, others) }, "they don't hear after a cut")

		// A frame that was lost is made up for by the next.
		balance(t, m)
		lost := m.leader()
		lost.mute.Store(true)
		victim := m.follower()
		m.kill(victim.id)
		time.Sleep(3 * time.Second)
		require.False(t, agree(m, others))
		lost.mute.Store(false)
		began = time.Now()
		m.eventually(func() bool { return agree(m, others) }, "nobody says it again")
		require.Less(t, time.Since(began), announceEvery+time.Second)

		// A node of the other region that starts anew guesses, then hears.
		m.kill("r2-2")
		fresh := m.start("r2-2")
		require.NoError(t, fresh.ready(t))
		m.eventually(func() bool { return agree(m, []*node{fresh}) }, "a fresh node does not hear")
	})
}

// The higher epoch wins, slot by slot; what makes no sense is ignored.
func TestHeard(t *testing.T) {
	bubble(t, 2, 1, nil, func(t *testing.T, m *mesh) {
		n := m.leader()
		room := "group:x"
		slot := regions.SlotOf(room)
		m.eventually(func() bool { return n.tables.others.Load().of["r2"].Load()[slot].Epoch > 0 }, "nothing heard")
		was := n.tables.others.Load().of["r2"].Load()[slot].Epoch
		n.HeardOwner("r2", room, "r2-9", was) // no news
		require.Equal(t, "r2-1", string(n.OwnerIn("r2", room)))
		n.HeardOwner("r2", room, "r2-9", was+1)
		require.Equal(t, "r2-9", string(n.OwnerIn("r2", room)))
		n.HeardOwner("r1", room, "r2-9", was+1)
		n.HeardOwner("r7", room, "r2-9", was+1)
		n.HeardOwner("r2", room, "r2-8", roster.MaxEpoch+1)
		require.Equal(t, "r2-9", string(n.OwnerIn("r2", room)))
		owner, _ := n.Owner(room)
		require.Equal(t, "r1-1", string(owner))

		s := &peer.Slots{Region: "r2", Nodes: []string{"r2-7"}, Owners: make([]uint32, regions.Slots), Epochs: make([]uint64, regions.Slots)}
		for i := range s.Owners {
			s.Owners[i], s.Epochs[i] = uint32(i%3), uint64(was)
		}
		s.Epochs[slot] = uint64(was) + 2
		s.Owners[slot] = 1
		n.HeardSlots(s)
		require.Equal(t, "r2-7", string(n.OwnerIn("r2", room)))
		s.Owners[slot], s.Epochs[slot] = 0, uint64(was)+3
		n.HeardSlots(s)
		require.Empty(t, n.OwnerIn("r2", room), "nobody")
		s.Owners[slot], s.Epochs[slot] = 9, uint64(was)+4
		n.HeardSlots(s)
		require.Empty(t, n.OwnerIn("r2", room))
		n.HeardSlots(&peer.Slots{Region: "r2", Owners: []uint32{1}})
		time.Sleep(time.Second)
		require.Contains(t, n.tales("region r2"), "region r2 1")

		o := m.node("r2-1")
		require.Error(t, o.Serve(t.Context(), n.id, nil), "of another region")
	})
}
