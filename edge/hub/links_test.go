package hub

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// A link works for the one who hears before the one who speaks knows that. A
// question that comes in between waits: its answer would be lost, and the room's
// region asked again only seconds later.
func TestALinkIsHeardBeforeItIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, "a1", "b1")
		ann, bob := m.join("ann", "a1"), m.join("bob", "b1")
		require.Empty(t, everywhere(m.hubs["a1"], ann, fixN(1)))
		settle(3 * time.Second)
		m.cut("a1", "b1")
		require.Empty(t, everywhere(m.hubs["a1"], ann, fixN(2)))
		settle(3 * time.Second)
		require.EqualValues(t, 1, bob.lastFix("ann"))

		m.healed("b", "a")
		m.hub("b1").PeerJoined("a1") // who now asks
		settle(300 * time.Millisecond)
		m.wires[[2]regions.NodeID{"a1", "b1"}].setDown(false)
		m.hub("a1").LinkUp("b1")
		settle(time.Second)
		require.EqualValues(t, 2, bob.lastFix("ann"))
		require.Empty(t, m.hubs["a1"].questions)
	})
}
