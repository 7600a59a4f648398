package hub

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// cutRegions breaks all links between two regions.
func (m *mesh) cutRegions(a, b regions.RegionID) { m.betweenRegions(a, b, m.cut) }

func (m *mesh) mendRegions(a, b regions.RegionID) { m.betweenRegions(a, b, m.mend) }

func (m *mesh) betweenRegions(a, b regions.RegionID, f func(a, b regions.NodeID)) {
	for x := range m.hubs {
		for y := range m.hubs {
			if m.regionOf(x) == a && m.regionOf(y) == b {
				f(x, y)
			}
		}
	}
}

func TestARegionThatIsCutOff(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b2")
		require.Empty(t, everywhere(m.hubs["b2"], cem, fixN(1)))
		settle(5 * time.Second)
		since := time.Now()
		m.cutRegions("a", "b")
		m.hubs["a2"].Publish(testRoom, &wire.Message{Number: 1})
		m.hubs["b2"].Publish(testRoom, &wire.Message{Number: 2})
		settle(3 * time.Second)
		for _, p := range []*phone{ann, bob, cem} {
			require.Empty(t, p.reach(), p.member.User)
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE cem:b2:LIVE", p.who())
		}
		settle(2 * time.Second)
		unreached := func(g regions.RegionID) string { return fmt.Sprint(g, " since ", since.Sub(m.began)) }
		require.Equal(t, unreached("b"), ann.reach())
		require.Equal(t, unreached("b"), bob.reach())
		require.Equal(t, unreached("a"), cem.reach())
		// Who joins, resumes or attaches now knows it, too; so does a new owner.
		dee := m.join("dee", "a3")
		require.Equal(t, unreached("b"), dee.reach())
		require.Equal(t, "ann:a1:LIVE bob:a2:LIVE cem:b2:LIVE dee:a3:LIVE", dee.who())
		m.cut("a1", "a2")
		settle(time.Second)
		m.mend("a1", "a2")
		settle(time.Second)
		require.Equal(t, unreached("b"), bob.reach())
		m.regions["a"].move(regions.SlotOf(testRoom), "a2")
		require.Empty(t, everywhere(m.hubs["a1"], ann, fixN(1)))
		settle(2 * time.Second)
		require.NoError(t, m.handOver("a2", "a3", nil))
		settle(time.Second)
		for _, p := range []*phone{ann, bob, dee} {
			require.Equal(t, unreached("b"), p.reach(), p.member.User)
			require.Equal(t, 1, p.flaps, p.member.User)
			require.Contains(t, p.who(), "cem:b2:LIVE")
			require.EqualValues(t, 1, p.lastFix("cem"))
		}

		m.mendRegions("a", "b")
		settle(time.Second)
		for _, p := range []*phone{ann, bob, cem, dee} {
			require.Empty(t, p.reach(), p.member.User)
			require.Equal(t, 1, p.flaps, p.member.User)
			require.Empty(t, p.left)
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE cem:b2:LIVE dee:a3:LIVE", p.who())
			require.EqualValues(t, 1, p.lastFix("ann"))
		}
		require.EqualValues(t, 2, ann.heard)
	})
}

func TestARegionThatIsAwayForTooLong(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, cem := m.join("ann", "a2"), m.join("cem", "b2")
		m.cutRegions("a", "b")
		settle(15*time.Minute + time.Second)
		require.Contains(t, ann.reach(), "lost")
		require.Equal(t, "ann:a2:LIVE", ann.who())
		require.Empty(t, ann.left)
		dee := m.join("dee", "a3")
		require.Equal(t, "ann:a2:LIVE dee:a3:LIVE", dee.who())
		// A phone that has an old position of it gets all of it.
		m.suspend(ann)
		ann = m.resume(ann, "a2")
		require.Contains(t, ann.reach(), "lost")
		m.mendRegions("a", "b")
		settle(time.Second)
		for _, p := range []*phone{ann, cem, dee} {
			require.Empty(t, p.reach(), p.member.User)
			require.Equal(t, "ann:a2:LIVE cem:b2:LIVE dee:a3:LIVE", p.who(), p.member.User)
		}
	})
}

// A device that goes over to another region keeps its place.
func TestRoaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, "a1", "b1", "c1")
		ann, bob := m.join("ann", "a1"), m.join("bob", "b1")
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		snapshots := bob.snapshots
		roamer := m.resume(ann, "c1") // nobody is there
		require.Equal(t, snapshots, bob.snapshots)
		require.Equal(t, "ann:c1:LIVE bob:b1:LIVE", roamer.who())
		require.Equal(t, "ann:c1:LIVE bob:b1:LIVE", bob.who())
		require.Zero(t, roamer.unrecovers)
		require.Empty(t, bob.left)
		m.hubs["b1"].Publish(testRoom, &wire.Message{Number: 2})
		settle(time.Second)
		require.Equal(t, []uint64{2}, roamer.messages)

		// Nobody waits for a region that can't be heard.
		m.cutRegions("a", "b")
		m.cutRegions("a", "c")
		settle(10 * time.Second)
		began := time.Now()
		cem := m.session("cem", "c1")
		m.enter(cem, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}, Positions: []*wire.Position{{Region: "a", Epoch: 1, Seq: 1}}})
		for cem.snapshots == 0 {
			settle(10 * time.Millisecond)
		}
		require.Less(t, time.Since(began), 100*time.Millisecond)
		settle(time.Second)
	})
}

func TestRegionsComeAndGo(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, cem, dee := m.join("ann", "a2"), m.join("cem", "b2"), m.join("dee", "a2")
		for n, h := range m.hubs {
			if m.regionOf(n) == "a" {
				h.SetOthers(nil)
			}
		}
		settle(time.Second)
		require.Equal(t, "ann:a2:LIVE dee:a2:LIVE", ann.who())
		require.Empty(t, ann.left)
		m.suspend(ann)
		ann = m.resume(ann, "a3")
		require.Equal(t, "ann:a3:LIVE dee:a2:LIVE", ann.who())
		require.Contains(t, dee.reach(), "lost")
		for n, h := range m.hubs {
			if m.regionOf(n) == "a" {
				h.SetOthers([]regions.RegionID{"b"})
			}
		}
		settle(time.Second)
		for _, p := range []*phone{ann, cem, dee} {
			require.Equal(t, "ann:a3:LIVE cem:b2:LIVE dee:a2:LIVE", p.who())
			require.Empty(t, p.reach(), p.member.User)
		}
	})
}

// What a client makes up of regions stays its own.
func TestPositionsOfNoRegion(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		eve := m.session("eve", "a2")
		m.enter(eve, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}, Positions: []*wire.Position{{Region: "atlantis", Epoch: 1, Seq: 1}}})
		settle(time.Second)
		require.Equal(t, 1, eve.flaps, "it is told that nothing goes on from there")
		ann, cem := m.join("ann", "a2"), m.join("cem", "b2")
		m.cutRegions("a", "b")
		m.mendRegions("a", "b")
		m.hubs["b2"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		m.cut("a1", "a2")
		m.mend("a1", "a2")
		settle(time.Second)
		require.Empty(t, ann.reach())
		require.Zero(t, ann.flaps+cem.flaps)
	})
}

// One copy goes to a region, whatever the number of members there.
func TestOneCopyPerRegion(t *testing.T) {
	count := func(members int) (frames, fixes int) {
		inMesh(t, func(t *testing.T, m *mesh) {
			ann := m.join("ann", "a1")
			var last *phone
			for i := range members {
				last = m.join(fmt.Sprint("b", i), regions.NodeID(fmt.Sprint("b", 1+i%2)))
			}
			settle(time.Second)
			m.sniff(func(from, to regions.NodeID, _ *peer.Frame, dgrm *peer.Fixes) {
				switch {
				case m.regionOf(from) == m.regionOf(to) || from[0] != 'a':
				case dgrm != nil:
					fixes++
				default:
					frames++
				}
			})
			for n := range uint64(20) {
				m.hubs["a1"].Publish(testRoom, &wire.Message{Number: n + 1})
				require.Empty(t, everywhere(m.hubs["a1"], ann, fixN(n+1)))
				settle(200 * time.Millisecond)
			}
			settle(5 * time.Second)
			require.Len(t, last.messages, 20)
			require.EqualValues(t, 20, last.lastFix("ann"))
		})
		return frames, fixes
	}
	frames, fixes := count(1)
	require.Equal(t, 21, frames, "20 messages, and the fix once more when ann stays")
	require.Equal(t, 20, fixes)
	many, manyFixes := count(100)
	require.Equal(t, frames, many)
	require.Equal(t, fixes, manyFixes)
}

// A region whose nodes have lost each other can't speak for its members, though
// its links work.
func TestARegionThatLostItsMajority(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, cem := m.join("ann", "a2"), m.join("cem", "b2")
		silence := func(cut bool) {
			for _, n := range []regions.NodeID{"b1", "b2"} {
				m.rosters[n].setCut(cut)
			}
		}
		settle(time.Second)
		silence(true)
		settle(2500 * time.Millisecond) // they have noticed
		silence(false)
		settle(10 * time.Second)
		require.Zero(t, ann.flaps)

		silence(true)
		settle(6 * time.Second)
		require.Empty(t, everywhere(m.hubs["a2"], ann, fixN(1)))
		settle(time.Second)
		require.Contains(t, ann.reach(), "b since")
		require.Equal(t, "ann:a2:LIVE cem:b2:LIVE", ann.who())
		frames := 0
		m.sniff(func(from, to regions.NodeID, _ *peer.Frame, _ *peer.Fixes) {
			if m.regionOf(from) != m.regionOf(to) {
				frames++
			}
		})
		settle(10 * time.Minute)
		require.Empty(t, everywhere(m.hubs["a2"], ann, fixN(2)))
		settle(5 * time.Minute)
		require.Contains(t, ann.reach(), "lost")
		require.Equal(t, "ann:a2:LIVE", ann.who())
		require.Less(t, frames, 100, "nobody asks all the time")
		silence(false)
		settle(time.Second)
		require.Empty(t, ann.reach())
		require.Empty(t, cem.reach())
		require.Equal(t, "ann:a2:LIVE cem:b2:LIVE", ann.who())
		require.Equal(t, "ann:a2:LIVE cem:b2:LIVE", cem.who())
		require.EqualValues(t, 2, cem.lastFix("ann"))
		require.Equal(t, 1, ann.flaps)
	})
}
