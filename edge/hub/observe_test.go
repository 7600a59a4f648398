package hub

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// observer notes the last fix of each user that a node was told to observe.
func (m *mesh) observer(n regions.NodeID) func(string, uint64, *wire.MemberFix, bool) {
	return func(_ string, _ uint64, f *wire.MemberFix, own bool) {
		m.observed.Store(string(n)+" "+f.User, fmt.Sprint(f.Fix.N, " ", f.Fix.Point != nil, " ", own))
	}
}

func (m *mesh) sees(n, user string) string {
	v, _ := m.observed.Load(n + " " + user)
	s, _ := v.(string)
	return s
}

// Owners hear the fixes of all regions, and that they are withdrawn; a new owner
// hears all it begins with, however it came by the room.
func TestObserve(t *testing.T) {
	for _, gives := range []bool{false, true} {
		inMesh(t, func(t *testing.T, m *mesh) {
			ann, bob := m.join("ann", "a2"), m.join("bob", "b1")
			m.hubs["a2"].Report(ann, fixN(1), []string{testRoom})
			m.hubs["b1"].Report(bob, fixN(2), []string{testRoom})
			m.hubs["a3"].Post(postN("zoe", 3, edge.FixLife))
			settle(time.Second)
			require.Equal(t, "1 true true", m.sees("a1", "ann"))
			require.Equal(t, "2 true false", m.sees("a1", "bob"))
			require.Equal(t, "3 true true", m.sees("a1", "zoe"))
			require.Equal(t, "1 true false", m.sees("b1", "ann"))
			require.Equal(t, "2 true true", m.sees("b1", "bob"))
			require.Equal(t, "3 true false", m.sees("b1", "zoe"))
			if gives {
				require.NoError(t, m.handOver("a1", "a2", nil))
			} else {
				m.kill("a1")
				m.regions["a"].move(testSlot, "a2")
			}
			settle(5 * time.Second)
			require.Equal(t, "1 true true", m.sees("a2", "ann"))
			require.Equal(t, "2 true false", m.sees("a2", "bob"))
			require.Equal(t, "3 true true", m.sees("a2", "zoe"))
			gone := postN("zoe", 4, edge.FixLife)
			gone.Fix.Fix.Point = nil
			m.hubs["a3"].Post(gone)
			settle(time.Second)
			require.Equal(t, "4 false true", m.sees("a2", "zoe"))
			require.Equal(t, "4 false false", m.sees("b1", "zoe"))
		})
	}
}
