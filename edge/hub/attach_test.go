package hub

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// A node that attaches names those whose Join is not answered yet, too. The owner
// may have taken them in, and not know of them from its roster yet: else they
// would be gone for a moment.
func TestAnAttachListsWhoIsAboutToJoin(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a1"), m.join("bob", "a2")
		m.regions["a"].move(testSlot, "a3")
		synctest.Wait()
		m.rosters["a3"].setDelay(500 * time.Millisecond)
		cem := m.session("cem", "a2")
		m.enter(cem, edge.Join{Room: testRoom, Re: 9, Membership: edge.Membership{Version: 1}})
		settle(500 * time.Microsecond)
		m.hubs["a2"].LinkDown("a3") // before it heard from there
		m.hubs["a2"].LinkUp("a3")
		settle(10 * time.Second)
		for _, p := range []*phone{ann, bob, cem} {
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE cem:a2:LIVE", p.who(), p.member.User)
			require.Empty(t, p.left, p.member.User)
			require.Empty(t, p.vanished, p.member.User)
		}
		require.Empty(t, cem.refused)
	})
}

// A new owner's answer has everybody whom the one before has told of, also those
// whom it took in when it had not heard yet that it was replaced. Neither had
// their node, nor has the new owner heard that they entered.
func TestANewOwnerKnowsWhomTheOneBeforeToldOf(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, dee := m.join("ann", "a1"), m.join("bob", "a2"), m.join("dee", "b1")
		settle(5 * time.Second)
		m.rosters["a1"].setDelay(600 * time.Millisecond) // owns the room
		m.rosters["a3"].setDelay(500 * time.Millisecond) // has cem
		m.rosters["a2"].setDelay(100 * time.Millisecond) // is to own it
		m.regions["a"].move(testSlot, "a2")
		settle(50 * time.Millisecond)
		cem := m.session("cem", "a3")
		m.enter(cem, edge.Join{Room: testRoom, Re: 9, Membership: edge.Membership{Version: 1}})
		settle(10 * time.Second)
		for _, p := range []*phone{ann, bob, dee, cem} {
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE cem:a3:LIVE dee:b1:LIVE", p.who(), p.member.User)
			require.Empty(t, p.left, p.member.User)
			require.Empty(t, p.vanished, p.member.User)
		}
		require.Empty(t, cem.refused)
	})
}

// Who was told of a room by its present owner comes to a node that has not heard
// of that one. It gets no answer of the former owner, which has not either.
func TestAFormerOwnerDoesNotAnswerWhoKnowsTheNext(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a1"), m.join("bob", "a2")
		settle(5 * time.Second)
		m.rosters["a1"].setDelay(700 * time.Millisecond)
		m.rosters["a3"].setDelay(700 * time.Millisecond)
		m.regions["a"].move(testSlot, "a2")
		settle(100 * time.Millisecond)
		require.EqualValues(t, 2, bob.at["a"].Epoch)
		m.suspend(bob)
		back := m.resume(bob, "a3")
		settle(5 * time.Second)
		for _, p := range []*phone{ann, back} {
			require.Equal(t, "ann:a1:LIVE bob:a3:LIVE", p.who(), p.member.User)
			require.Empty(t, p.vanished, p.member.User)
			require.Zero(t, p.backs, p.member.User)
		}
		require.Empty(t, back.refused)
		require.Zero(t, back.unrecovers)
	})
}

// What a node said while a slot stood still comes before what it asks of the next
// owner: who left and came back is there.
func TestWhatWaitedComesFirst(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a2"), m.join("bob", "a1")
		var moving sync.WaitGroup
		moving.Go(func() {
			require.NoError(t, m.handOver("a1", "a2", func(step string) (before, after bool) {
				if step == "commit" {
					m.hubs["a1"].Leave(bob, testRoom, wire.Reason_BYE)
					m.hubs["a1"].Join(bob, edge.Join{Room: testRoom, Re: 8, Membership: edge.Membership{Version: 1}})
				}
				return false, false
			}))
		})
		settle(5 * time.Second)
		moving.Wait()
		for _, p := range []*phone{ann, bob} {
			require.Equal(t, "ann:a2:LIVE bob:a1:LIVE", p.who(), p.member.User)
		}
		require.Empty(t, bob.refused)
	})
}

// A device came and went in another region while the two could not hear each
// other. Whoever saw that does not believe its older session: its own region
// hears of the newer one, though that is in no snapshot.
func TestARegionHearsOfASessionThatCameAndWent(t *testing.T) {
	for name, owner := range map[string]regions.NodeID{"of its owner": "a1", "of the next owner": "a3"} {
		t.Run(name, func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				m.join("ann", "a1")
				m.join("cem", "b1")
				bob := m.join("bob", "b1")
				settle(5 * time.Second)
				between := func(do func(a, b regions.NodeID)) {
					for _, a := range []regions.NodeID{"a1", "a2", "a3"} {
						do(a, "b1")
						do(a, "b2")
					}
				}
				between(m.cut)
				there := m.join("bob", "a2")
				m.bye(there)
				for n := range uint64(300) { // more than is kept
					m.hubs["a1"].Publish(testRoom, &wire.Message{Number: n + 1})
				}
				settle(2 * time.Minute)
				if owner != "a1" {
					m.regions["a"].move(testSlot, owner)
				}
				settle(time.Second)
				require.Less(t, m.rosters["b1"].seen[device{"bob", "phone"}], regions.Epoch(there.member.Device.Epoch))
				between(m.mend)
				settle(10 * time.Second)
				require.Greater(t, there.member.Device.Epoch, bob.member.Device.Epoch)
				require.EqualValues(t, there.member.Device.Epoch, m.rosters["b1"].seen[device{"bob", "phone"}])
			})
		})
	}
}
