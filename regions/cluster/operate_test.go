package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

func TestDrainAndMove(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		balance(t, m)
		n := m.follower()
		require.False(t, n.Calm())
		time.Sleep(time.Second)
		require.True(t, n.Calm())
		require.Empty(t, n.Moves(10))
		drained(n.planned)

		require.NoError(t, m.leader().Drain(t.Context(), n.id))
		require.NoError(t, m.leader().Drain(t.Context(), n.id), "again")
		require.Error(t, n.Drain(t.Context(), "r1-9"))
		<-n.Planned()
		_, err := n.Open(t.Context(), regions.Opening{User: "u", Device: "d", Connection: 1})
		require.Equal(t, wire.CodeDraining, code(err))
		for {
			moves := n.Moves(64)
			if len(moves) == 0 {
				break
			}
			for _, mv := range moves {
				require.NotEqual(t, n.id, mv.To)
				owner := n.tables.own.Load()[mv.Slot].Owner
				require.Equal(t, n.id, owner)
				epoch, err := n.Move(t.Context(), mv.Slot, mv.Epoch, mv.To)
				require.NoError(t, err)
				again, err := n.Move(t.Context(), mv.Slot, mv.Epoch, mv.To)
				require.NoError(t, err)
				require.Equal(t, epoch, again, "said again")
				_, err = n.Move(t.Context(), mv.Slot, mv.Epoch, n.id)
				require.ErrorIs(t, err, ErrStaleSlot)
			}
			require.NoError(t, n.node.Read(t.Context()))
		}
		require.Zero(t, n.slots()[n.id])
		require.Empty(t, n.tales("lost"))

		// It leaves: nothing is left to do but to note it.
		m.kill(n.id)
		time.Sleep(5 * time.Second)
		tales := m.leader().tales(fmt.Sprintf("node %s ", n.id))
		require.Equal(t, []string{fmt.Sprintf("node %s draining false", n.id), fmt.Sprintf("node %s down false", n.id)}, tales[len(tales)-2:])
	})
}

func drained(ch chan struct{}) {
	for {
		select {
		case <-ch:
		default:
			return
		}
	}
}

// A slot moves through a change of leader, too, once.
func TestMoveWhileTheLeaderDies(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		lead, n := m.leader(), m.follower()
		balance(t, m)
		slot := 0
		for n.tables.own.Load()[slot].Owner != n.id {
			slot++
		}
		before := n.tables.own.Load()[slot]
		var to regions.NodeID
		for _, o := range m.others(lead.id) {
			if o != n {
				to = o.id
			}
		}
		m.cut(lead.id, true, false) // it takes the command, and the answer is lost
		epoch, err := n.Move(t.Context(), slot, before.Epoch, to)
		for err != nil { // no leader for long enough
			require.NotErrorIs(t, err, ErrStaleSlot)
			epoch, err = n.Move(t.Context(), slot, before.Epoch, to)
		}
		require.NoError(t, n.node.Read(t.Context()))
		require.Equal(t, roster.Slot{Owner: to, Epoch: epoch}, n.tables.own.Load()[slot])
	})
}

func TestRemoveANode(t *testing.T) {
	for _, who := range []string{"running", "leading", "dead"} {
		t.Run(who, func(t *testing.T) {
			bubble(t, 1, 4, nil, func(t *testing.T, m *mesh) {
				n := m.follower()
				if who == "leading" {
					n = m.leader()
				}
				balance(t, m)
				if who == "dead" {
					m.kill(n.id)
					m.leader()
				}
				by := m.others(n.id)[0]
				require.NoError(t, by.RemoveNode(t.Context(), n.id))
				require.NoError(t, by.RemoveNode(t.Context(), n.id), "again")
				require.NoError(t, by.node.Read(t.Context()))
				_, known := by.state(n.id)
				require.False(t, known)
				require.Zero(t, by.slots()[n.id])
				m.eventually(func() bool {
					voters := 0
					for _, mb := range by.Members() {
						require.NotEqual(t, n.id, mb.Node)
						if mb.Voter {
							voters++
						}
					}
					return voters == 3
				}, "no learner in its place")
				if who == "dead" {
					return
				}
				m.eventually(func() bool { return n.Err() != nil }, "it does not know")
				require.ErrorIs(t, n.Err(), ErrRemoved)
				require.ErrorIs(t, n.Ready(t.Context()), ErrRemoved)
				require.False(t, n.Current())
				m.eventually(func() bool { return len(n.tales("lost")) > 0 }, "its sessions are not told")
				time.Sleep(10 * time.Second)
				_, known = by.state(n.id)
				require.False(t, known, "it stays out")

				m.kill(n.id)
				again := m.start(n.id)
				require.NoError(t, again.ready(t))
			})
		})
	}
}

func TestTheLastNodeStays(t *testing.T) {
	bubble(t, 1, 1, nil, func(t *testing.T, m *mesh) {
		n := m.leader()
		require.ErrorIs(t, n.RemoveNode(t.Context(), n.id), consensus.ErrLastVoter)
		require.Equal(t, 1024, n.slots()[n.id])
	})
}

// A second start of a node ends the first as far as the region goes.
func TestALaterStartReplacesAnEarlierOne(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n := m.follower()
		id := n.open(t, "u", 1)
		a, err := m.leader().ask(t.Context(), &peer.RosterCommand{Body: &peer.RosterCommand_NodeUp{NodeUp: &peer.NodeUp{
			Node: string(n.id), Incarnation: n.cfg.Incarnation + 100, Capacity: 100,
		}}})
		require.NoError(t, err)
		require.Zero(t, a.Code)
		m.eventually(func() bool { return n.Err() != nil }, "it does not notice")
		require.ErrorIs(t, n.Err(), ErrReplaced)
		require.Equal(t, roster.Suspended, n.session(id.User).State)
		require.ErrorIs(t, n.up(t.Context()), ErrReplaced)
	})
}

// The others go on when one node's disk is full.
func TestDiskFailure(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n := m.leader()
		full := fmt.Errorf("no space left on device")
		m.disks[n.id].Fail(full)
		_, err := n.Open(t.Context(), regions.Opening{User: "v", Device: "d", Connection: 1})
		require.Equal(t, wire.CodeRetry, code(err))
		m.eventually(func() bool { return n.Err() != nil }, "it goes on")
		require.ErrorIs(t, n.Err(), full)
		require.False(t, n.Current())
		rest := m.others(n.id)
		m.eventually(func() bool { return rest[0].slots()[n.id] == 0 }, "the others don't go on")
		require.Len(t, n.tales("lost"), 1)
		rest[0].open(t, "u", 1)
	})
}

func TestWholeRegionRestarts(t *testing.T) {
	bubble(t, 1, 3, func(c *Config) { c.SnapshotEvery = 64 }, func(t *testing.T, m *mesh) {
		n := m.follower()
		ids := map[string]regions.SessionID{}
		for i := range 100 {
			id := n.open(t, fmt.Sprint("u", i), uint64(i+1))
			require.NoError(t, n.Enter(t.Context(), id, "group:a"))
			ids[id.User] = id
		}
		time.Sleep(time.Minute) // snapshots are taken
		var all []regions.NodeID
		for _, o := range m.all() {
			all = append(all, o.id)
		}
		for _, id := range all {
			m.kill(id)
		}
		time.Sleep(time.Minute)
		for _, id := range all {
			m.start(id)
		}
		for _, o := range m.all() {
			require.NoError(t, o.ready(t))
		}
		lead := m.leader()
		require.Len(t, lead.Stays("group:a"), 100)
		require.True(t, lead.Stays("group:a")[0].Suspended)
		again := lead.open(t, "u7", 1)
		require.Greater(t, again.Epoch, ids["u7"].Epoch)
		time.Sleep(35 * time.Second)
		require.Len(t, lead.Stays("group:a"), 1, "the others' grace is over")
	})
}

// The log never waits for hooks.
func TestSlowHooks(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n := m.follower()
		n.mu.Lock()
		n.wait = make(chan struct{})
		n.mu.Unlock()
		goOn := sync.OnceFunc(func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			close(n.wait)
			n.wait = nil
		})
		defer goOn()
		for i := range 50 {
			id := n.open(t, fmt.Sprint("u", i), uint64(i+1))
			n.Close(id, wire.Reason_BYE)
		}
		require.NoError(t, n.Settle(t.Context()))
		require.NoError(t, n.node.Read(t.Context()))
		require.True(t, n.Current())
		require.LessOrEqual(t, len(n.tales("ended")), 1, "another hook may be the one that waits")
		goOn()
		m.eventually(func() bool { return len(n.tales("ended")) == 50 }, "not all told")
	})
}
