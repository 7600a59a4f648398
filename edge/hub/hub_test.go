package hub

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

func inMesh(t *testing.T, f func(t *testing.T, m *mesh)) {
	synctest.Test(t, func(t *testing.T) {
		f(t, newMesh(t, "a1", "a2", "a3", "b1", "b2"))
	})
}

func TestPeopleSeeEachOtherAcrossNodesAndRegions(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b2")
		everyone := "ann:a1:LIVE bob:a2:LIVE cem:b2:LIVE"
		for _, p := range []*phone{ann, bob, cem} {
			require.Equal(t, everyone, p.who(), p.member.User)
		}
		m.hubs["a2"].Publish(testRoom, &wire.Message{Number: 1})
		require.Empty(t, everywhere(m.hubs["b2"], cem, fixN(1)))
		settle(time.Second)
		for _, p := range []*phone{ann, bob, cem} {
			require.Equal(t, []uint64{1}, p.messages)
			require.EqualValues(t, 1, p.lastFix("cem"))
		}
		// The last of a burst comes on the ordered path too.
		settle(3 * time.Second)
		last := ann.frames[len(ann.frames)-1]
		require.False(t, last.Lossy())
		// A message written to the joiner before the feed, under its request.
		var first wire.ServerFrame
		require.NoError(t, first.UnmarshalVT(bob.frames[0].Body()))
		require.EqualValues(t, 7, first.Re)
		require.NotNil(t, first.GetSnapshot())

		m.hubs["b2"].Leave(cem, testRoom, wire.Reason_BYE)
		settle(time.Second)
		require.Equal(t, "ann:a1:LIVE bob:a2:LIVE", ann.who())
		require.Equal(t, []string{"cem/phone:BYE"}, bob.left)
		require.Equal(t, []string{testRoom}, m.hubs["b2"].Report(cem, fixN(2), []string{testRoom}))
	})
}

// A session counts its fixes whatever rooms they are for. One that comes late is
// stale only in the rooms that have a newer one.
func TestALateFixIsLateInItsRoomsOnly(t *testing.T) {
	const otherRoom = "group:8c0e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f11"
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a2"), m.join("bob", "b1")
		m.enter(ann, edge.Join{Room: otherRoom, Membership: edge.Membership{Version: 1}})
		settle(time.Second)
		require.Empty(t, m.hubs["a2"].Report(ann, fixN(5), []string{otherRoom}))
		require.Empty(t, m.hubs["a2"].Report(ann, fixN(4), []string{testRoom}), "it was overtaken")
		settle(time.Second)
		require.EqualValues(t, 4, bob.lastFix("ann"))
		require.Empty(t, everywhere(m.hubs["a2"], ann, fixN(3)), "late in both")
		require.Empty(t, everywhere(m.hubs["a2"], ann, fixN(4)), "said again")
		settle(5 * time.Second)
		require.EqualValues(t, 4, bob.lastFix("ann"))
	})
}

func TestABlipIsSilent(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a1"), m.join("bob", "a2")
		before := len(ann.frames)
		m.suspend(bob)
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
		settle(10 * time.Second)
		require.Empty(t, bob.messages)
		again := m.resume(bob, "a2")
		require.EqualValues(t, again.member.Device.Epoch, bob.superseded)
		m.hubs["a2"].Gone(bob, wire.Reason_MOVED)
		settle(time.Minute)
		require.Equal(t, []uint64{1}, again.messages)
		require.Zero(t, again.unrecovers)
		require.Len(t, ann.frames, before+1, "the message and nothing else")

		// On another node it is one event, and never "left".
		moved := m.resume(again, "b1")
		settle(time.Minute)
		require.Equal(t, "ann:a1:LIVE bob:b1:LIVE", ann.who())
		require.Empty(t, ann.left)
		require.EqualValues(t, moved.member.Device.Epoch, again.superseded)
	})
}

func TestALinkIsResetMidStream(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		phones := []*phone{m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b1"), m.join("dee", "b2")}
		n := uint64(0)
		say := func(node regions.NodeID) {
			n++
			m.hubs[node].Publish(testRoom, &wire.Message{Number: n})
			require.Empty(t, everywhere(m.hubs["a1"], phones[0], fixN(n)))
		}
		for round := range 10 {
			for range 5 {
				say("a1")
				say("b1")
				settle(7 * time.Millisecond)
			}
			pair := [][2]regions.NodeID{{"a1", "b1"}, {"a1", "a2"}, {"b1", "b2"}}[round%3]
			m.cut(pair[0], pair[1])
			say("a1")
			say("b1")
			settle(time.Second)
			say("a1")
			m.mend(pair[0], pair[1])
		}
		settle(20 * time.Second)
		for _, p := range phones {
			require.Len(t, p.messages, int(n), p.member.User)
			require.Zero(t, p.unrecovers, p.member.User)
			require.Zero(t, p.gaps, p.member.User)
			require.Empty(t, p.left)
			require.Equal(t, phones[0].who(), p.who())
			require.Equal(t, n, p.lastFix("ann"), "the final position arrives")
		}
	})
}

func TestTheOwnerRestarts(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		bob, dee, cem := m.join("bob", "a2"), m.join("dee", "a3"), m.join("cem", "b1")
		m.hubs["a2"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		m.restart("a1")
		settle(5 * time.Second)
		for _, p := range []*phone{bob, dee, cem} {
			require.Equal(t, "bob:a2:LIVE cem:b1:LIVE dee:a3:LIVE", p.who(), p.member.User)
			require.Equal(t, 1, p.unrecovers, p.member.User)
			require.Empty(t, p.left)
			require.Zero(t, p.gaps)
			require.EqualValues(t, 2, p.at["a"].Epoch)
		}
		m.hubs["b1"].Publish(testRoom, &wire.Message{Number: 2})
		settle(time.Second)
		require.Equal(t, []uint64{1, 2}, bob.messages)
		settle(2 * time.Minute)
		require.Empty(t, cem.left)
	})
}

// Messages are stored before they are spread. If what spreads them is lost,
// everybody in the room hears at least that there are some.
func TestWhatWasStoredButNeverSpreadIsMissed(t *testing.T) {
	for name, lose := range map[string]func(m *mesh, publish func(regions.NodeID)){
		"the owner restarts": func(m *mesh, publish func(regions.NodeID)) {
			publish("a1")
			m.restart("a1")
		},
		"the link to the owner breaks": func(m *mesh, publish func(regions.NodeID)) {
			m.cut("a1", "a3") // which has nobody in the room: the HTTP way
			publish("a3")
			m.mend("a1", "a3")
		},
		"the node that stored it dies": func(m *mesh, _ func(regions.NodeID)) { m.cut("a1", "a3") },
		"nobody of the region is there": func(m *mesh, publish func(regions.NodeID)) {
			m.cut("b1", "a1")
			settle(2 * time.Minute) // the owner in b forgets the room, which it only relayed
			publish("b2")
			m.mend("b1", "a1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				var all []*phone
				if name != "nobody of the region is there" {
					all = append(all, m.join("cem", "b2"))
				}
				all = append(all, m.join("ann", "a1"), m.join("bob", "a2"))
				if name == "the owner restarts" {
					all = slices.Delete(all, 1, 2) // dies with it
				}
				m.core.last = 5
				lose(m, func(n regions.NodeID) {
					m.hubs[n].Publish(testRoom, &wire.Message{Number: 5})
					for _, p := range all {
						p.messages, p.heard = nil, 0 // lost with the node
					}
				})
				settle(5 * time.Second)
				for _, p := range all {
					require.EqualValues(t, 5, p.heard, p.member.User)
					require.Empty(t, p.messages)
					require.Zero(t, p.gaps)
				}
			})
		})
	}
}

func TestADeadNodeLeavesNoGhosts(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b1")
		m.cut("a1", "a2")
		m.regions["a"].suspend(bob.member) // the region gave its node up
		settle(29 * time.Second)
		require.Empty(t, cem.left)
		m.regions["a"].end(bob.member, wire.Reason_TIMED_OUT)
		settle(2 * time.Second)
		require.Equal(t, []string{"bob/phone:TIMED_OUT"}, ann.left)
		require.Equal(t, "ann:a1:LIVE cem:b1:LIVE", cem.who())
	})
}

func TestARemovedMemberIsOutBeforeItIsSaid(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem, dee := m.join("ann", "a1"), m.join("bob", "a2"), m.join("bob2", "b2"), m.join("dee", "a3")
		m.core.kick("bob2")
		v := m.core.kick("bob")
		start := time.Now()
		require.NoError(t, m.hubs["a3"].MembershipChanged(t.Context(), testRoom, v))
		require.Less(t, time.Since(start), 100*time.Millisecond)
		require.Equal(t, []wire.Reason{wire.Reason_REMOVED}, bob.removed)
		m.hubs["a2"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		require.Empty(t, bob.messages)
		require.Empty(t, cem.messages, "one link delay later in the other region")
		require.Equal(t, []wire.Reason{wire.Reason_REMOVED}, cem.removed)
		require.Equal(t, []uint64{1}, dee.messages)
		require.Equal(t, "ann:a1:LIVE dee:a3:LIVE", ann.who())

		// A join that was checked before the removal is checked again.
		late := m.join("bob", "a2")
		require.Len(t, late.refused, 1)
		require.ErrorIs(t, late.refused[0], errNotMember)
		require.Equal(t, "ann:a1:LIVE dee:a3:LIVE", ann.who())
	})
}

func TestAMessageMidFlightNeverReachesARemovedMember(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a1"), m.join("bob", "a2")
		v := m.core.kick("bob")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = m.hubs["a1"].MembershipChanged(t.Context(), testRoom, v)
		}()
		synctest.Wait()
		for n := range uint64(20) { // all behind the change, while the check is under way
			m.hubs["a1"].Publish(testRoom, &wire.Message{Number: n + 1})
			time.Sleep(500 * time.Microsecond)
		}
		<-done
		settle(time.Second)
		require.Empty(t, bob.messages)
		require.Len(t, ann.messages, 20)
	})
}

func TestMembershipsLapse(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a1"), m.join("bob", "a2")
		m.core.kick("bob") // and nobody tells
		settle(25 * time.Second)
		require.Equal(t, []wire.Reason{wire.Reason_REMOVED}, bob.removed)
		require.Empty(t, ann.removed)
		m.core.mu.Lock()
		m.core.broken = true
		m.core.mu.Unlock()
		settle(70 * time.Second)
		require.Equal(t, []wire.Reason{wire.Reason_TIMED_OUT}, ann.removed)
	})
}

func TestAnUnreachableOwnerMeansRetry(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		m.cut("a1", "a2")
		bob := m.session("bob", "a2")
		m.enter(bob, edge.Join{Room: testRoom, Re: 3})
		settle(2500 * time.Millisecond)
		require.Len(t, bob.refused, 1)
		require.ErrorIs(t, bob.refused[0], errRetry)
		m.hubs["a2"].Join(bob, edge.Join{Room: testRoom, Re: 4})
		settle(time.Second)
		m.mend("a1", "a2")
		settle(time.Second)
		require.Len(t, bob.refused, 1)
		require.Equal(t, "bob:a2:LIVE", bob.who())
	})
}

func TestASlowCheckOverflowsIntoANewStart(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		m.join("ann", "a1")
		bob := m.join("bob", "a2")
		m.core.mu.Lock()
		m.core.broken = true
		m.core.version++
		v := m.core.version
		m.core.mu.Unlock()
		go func() { _ = m.hubs["a1"].MembershipChanged(t.Context(), testRoom, v) }()
		settle(20 * time.Millisecond)
		for n := range uint64(2000) {
			m.hubs["a1"].Publish(testRoom, &wire.Message{Number: n + 1})
		}
		m.core.mu.Lock()
		m.core.broken = false
		m.core.mu.Unlock()
		settle(5 * time.Second)
		require.Equal(t, 1, bob.unrecovers, "said, not hidden")
		require.Zero(t, bob.gaps)
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 2001})
		settle(time.Second)
		require.EqualValues(t, 2001, bob.messages[len(bob.messages)-1])
	})
}

func TestClientsShareOneFrame(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		var phones []*phone
		for i := range 200 {
			p := m.session(fmt.Sprintf("u%d", i), "a2")
			m.enter(p, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}})
			phones = append(phones, p)
		}
		settle(5 * time.Second)
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		shared := phones[0].frames[len(phones[0].frames)-1]
		for _, p := range phones {
			require.Equal(t, []uint64{1}, p.messages)
			require.Same(t, shared, p.frames[len(p.frames)-1])
			require.Zero(t, p.gaps)
		}
	})
}

func TestAnEmptyRoomIsForgottenButNotItsNumbers(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann := m.join("ann", "a1")
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		m.bye(ann)
		settle(2 * time.Minute)
		_, sl := m.hubs["a1"].slot(regions.SlotOf(testRoom))
		require.Empty(t, sl.rooms)
		require.Empty(t, sl.feeds)
		again := m.resume(ann, "a1")
		require.Equal(t, 1, again.unrecovers)
		require.Greater(t, again.at["a"].Seq, ann.at["a"].Seq)
	})
}

// Fixes that are reported before a Join is answered come in any order, too.
func TestTheNewestFixComesInWithItsSession(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		bob := m.join("bob", "a3")
		ann := m.session("ann", "a2")
		m.hubs["a2"].Join(ann, edge.Join{Room: testRoom, Re: 9, Membership: edge.Membership{Version: 1}})
		for _, n := range []uint64{3, 5, 4} {
			require.Empty(t, m.hubs["a2"].Report(ann, fixN(n), []string{testRoom}))
		}
		settle(5 * time.Second)
		bob.mu.Lock()
		defer bob.mu.Unlock()
		require.EqualValues(t, 5, bob.fixes["ann/"+ann.member.Device.Device].GetFix().GetN())
	})
}

// A session that has to enter a room again, which nobody asked for, before it was
// answered: the answer is to what was asked.
func TestJoinedAgainUnasked(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann := m.session("ann", "a2") // a1 is the owner
		answers := func() (re []uint64) {
			settle(time.Second)
			for _, f := range ann.frames {
				var s wire.ServerFrame
				require.NoError(t, s.UnmarshalVT(f.Body()))
				if s.GetSnapshot() != nil {
					re = append(re, s.Re)
				}
			}
			return re
		}
		m.enter(ann, edge.Join{Room: testRoom, Re: 7, Membership: edge.Membership{Version: 1}})
		m.hubs["a2"].Join(ann, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}})
		require.Contains(t, answers(), uint64(7))
		ann.frames = nil
		m.hubs["a2"].Join(ann, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}})
		require.Equal(t, []uint64{0}, answers())
	})
}
