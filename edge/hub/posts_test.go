package hub

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

func postN(user string, n uint64, life time.Duration) *peer.Post {
	f := fixN(n)
	return &peer.Post{
		Room: testRoom, Until: timestamppb.New(time.Now().Add(life)),
		Fix: &wire.MemberFix{User: user, Device: edge.PostDevice, Fix: f},
	}
}

func (p *phone) post(user string) *wire.Fix {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fixes[user+"/"+edge.PostDevice].GetFix()
}

// A post is seen in all regions and by who comes later, whoever owns the room,
// as long as the node that took it is there; and nobody joins by it.
func TestPosts(t *testing.T) {
	for _, gives := range []bool{false, true} {
		inMesh(t, func(t *testing.T, m *mesh) {
			ann, bob := m.join("ann", "a2"), m.join("bob", "b1")
			m.hubs["a3"].Post(postN("zoe", 10, edge.FixLife))
			settle(time.Second)
			for _, p := range []*phone{ann, bob} {
				require.EqualValues(t, 10, p.post("zoe").GetN())
				require.Equal(t, "ann:a2:LIVE bob:b1:LIVE", p.who())
			}
			list, _, here := m.hubs["a1"].Fixes(testRoom)
			require.True(t, here)
			require.Len(t, list.Fixes, 1)
			require.Equal(t, []string{"a", "b"}, list.Regions)
			_, owner, here := m.hubs["a2"].Fixes(testRoom)
			require.False(t, here)
			require.EqualValues(t, "a1", owner)

			if gives {
				require.NoError(t, m.handOver("a1", "a2", nil))
			} else {
				m.kill("a1")
				m.regions["a"].move(testSlot, "a2")
			}
			settle(5 * time.Second)
			require.EqualValues(t, 10, m.join("cem", "a2").post("zoe").GetN())
			list, _, here = m.hubs["a2"].Fixes(testRoom)
			require.True(t, here)
			require.Len(t, list.Fixes, 1)

			// Withdrawn while the owner can't be reached: it is so when it can.
			m.cut("a3", "a2")
			p := postN("zoe", 11, edge.FixLife)
			p.Fix.Fix.Point = nil
			m.hubs["a3"].Post(p)
			settle(time.Second)
			m.mend("a3", "a2")
			settle(5 * time.Second)
			for _, p := range []*phone{ann, bob} {
				require.EqualValues(t, 11, p.post("zoe").GetN())
				require.Nil(t, p.post("zoe").Point)
			}
			list, _, _ = m.hubs["a2"].Fixes(testRoom)
			require.Empty(t, list.Fixes)

			// A grant that ends soon, and nothing that is kept for longer.
			m.hubs["a3"].Post(postN("yan", 1, time.Minute))
			settle(time.Minute + 5*time.Second)
			require.EqualValues(t, 2, bob.post("yan").GetN())
			require.Nil(t, bob.post("yan").Point)
			settle(edge.FixLife)
			for n := range regions.Slots {
				_, sl := m.hubs["a3"].slot(n)
				require.Empty(t, sl.posts)
			}
		})
	}
}

// A room in which nobody has a session has posts, and who asks gets them.
func TestPostsWithoutSessions(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		m.hubs["a3"].Post(postN("zoe", 10, edge.FixLife))
		m.hubs["b2"].Post(postN("yan", 7, edge.FixLife))
		settle(time.Second)
		for n, user := range map[regions.NodeID]string{"a1": "zoe", "b1": "yan"} {
			list, _, here := m.hubs[n].Fixes(testRoom)
			require.True(t, here)
			require.Len(t, list.Fixes, 1)
			require.Equal(t, user, list.Fixes[0].User)
			require.Equal(t, []string{string(n[:1])}, list.Regions, "others are to be asked by themselves")
		}
		ann := m.join("ann", "a2")
		settle(5 * time.Second)
		require.EqualValues(t, 10, ann.post("zoe").GetN())
		require.EqualValues(t, 7, ann.post("yan").GetN())
		m.hubs["b2"].Cross(testRoom, &wire.Crossing{Id: "x"})
		settle(20 * time.Minute)
		list, _, _ := m.hubs["a1"].Fixes(testRoom)
		require.Empty(t, list.Fixes)
	})
}

// All posts that a node keeps for a room are more than a link takes at once.
func TestManyPosts(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		const many = 2_500
		name := strings.Repeat("z", 2_000)
		for i := range many {
			m.hubs["a3"].Post(postN(fmt.Sprint(name, i), 10, edge.FixLife))
		}
		settle(time.Second)
		m.regions["a"].move(testSlot, "a2")
		settle(5 * time.Second)
		list, _, here := m.hubs["a2"].Fixes(testRoom)
		require.True(t, here)
		require.Len(t, list.Fixes, many)
	})
}
