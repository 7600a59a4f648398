package hub

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// A session that is in a room need not ask core whether it may write there: the
// hub tells, as long as it is sure.
func TestMembershipIsKnown(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		bob := m.session("bob", "a2")
		_, ok := m.hubs["a2"].Membership(bob, testRoom)
		require.False(t, ok, "not in the room")
		m.enter(bob, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1, Name: "Bob"}})
		settle(time.Second)
		as, ok := m.hubs["a2"].Membership(bob, testRoom)
		require.True(t, ok)
		require.Equal(t, edge.Membership{Version: 1, Name: "Bob"}, as)
		_, ok = m.hubs["a2"].Membership(m.session("bob", "a2"), testRoom)
		require.False(t, ok, "another session")

		m.core.mu.Lock()
		m.core.broken = true
		m.core.mu.Unlock()
		settle(29 * time.Second) // it was read again meanwhile, or not
		m.core.mu.Lock()
		m.core.broken = false
		m.core.mu.Unlock()
		settle(25 * time.Second)
		as, ok = m.hubs["a2"].Membership(bob, testRoom)
		require.True(t, ok)
		require.EqualValues(t, 1, as.Version)

		version := m.core.kick("bob")
		require.NoError(t, m.hubs["a1"].MembershipChanged(t.Context(), testRoom, version))
		_, ok = m.hubs["a2"].Membership(bob, testRoom)
		require.False(t, ok, "before the removal is acknowledged")
		settle(time.Second)
	})
}

// What could not be confirmed for too long is not told, whether or not the
// session was put out yet.
func TestMembershipLapses(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		bob := m.join("bob", "a2")
		m.core.mu.Lock()
		m.core.broken = true
		m.core.mu.Unlock()
		settle(31 * time.Second)
		_, ok := m.hubs["a2"].Membership(bob, testRoom)
		require.False(t, ok)
	})
}

// A node that dies may have stored a message and told nobody, not even by its
// link: the owner looks, and tells the other regions.
func TestTheNumberIsReadWhenANodeIsGivenUp(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		near, far := m.join("ann", "a1"), m.join("bob", "b1")
		settle(time.Second)
		m.core.mu.Lock()
		m.core.last = 5
		m.core.mu.Unlock()
		for _, h := range m.hubs {
			if h.cfg.Region == "a" {
				h.NodeDown()
			}
		}
		settle(2 * time.Second)
		require.EqualValues(t, 5, near.heard)
		require.EqualValues(t, 5, far.heard)
	})
}

// A removal that is under way while the slot moves is confirmed by the owner
// that it moved to.
func TestARemovalDuringAMove(t *testing.T) {
	for _, handed := range []bool{true, false} {
		t.Run(fmt.Sprint("handed over:", handed), func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a3"), m.join("cem", "a2")
				v := m.core.kick("bob")
				done := make(chan error, 1)
				go func() { done <- m.hubs["a2"].MembershipChanged(t.Context(), testRoom, v) }()
				if handed {
					require.NoError(t, m.handOver("a1", "a2", nil))
				} else {
					m.regions["a"].move(testSlot, "a2")
				}
				require.NoError(t, <-done)
				require.Equal(t, []wire.Reason{wire.Reason_REMOVED}, bob.removed)
				m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
				settle(10 * time.Second)
				require.Empty(t, bob.messages)
				for _, p := range []*phone{ann, cem} {
					require.Equal(t, []uint64{1}, p.messages)
				}
			})
		})
	}
}

// Several removals wait for an owner that is gone, and the slot comes to the
// node that waits: it confirms all of them at once, while it goes through them.
func TestRemovalsWaitForWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, "a1", "a2")
		m.kill("a1") // which owns the slot
		done := make(chan error, 3)
		for v := range uint64(3) {
			go func() { done <- m.hubs["a2"].MembershipChanged(t.Context(), testRoom, v+1) }()
		}
		settle(100 * time.Millisecond)
		m.regions["a"].move(testSlot, "a2")
		began := time.Now()
		for range 3 {
			require.NoError(t, <-done)
		}
		require.Less(t, time.Since(began), time.Second)
	})
}
