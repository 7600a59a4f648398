package hub

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
