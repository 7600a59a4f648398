package hub

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// Everything at once from many goroutines, while links break: those who stay
// agree, and no client ever meets a hole.
func TestManyAtOnce(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		nodes := []regions.NodeID{"a1", "a2", "a3", "b1", "b2"}
		stay := map[regions.NodeID]*phone{}
		for _, n := range nodes {
			stay[n] = m.join("stay-"+string(n), n)
		}
		var epochs sync.Mutex
		var wg sync.WaitGroup
		for g := range 8 {
			rng := rand.New(rand.NewPCG(uint64(g), 2))
			wg.Go(func() {
				for i := range 40 {
					n := nodes[rng.IntN(len(nodes))]
					epochs.Lock()
					p := m.session(fmt.Sprintf("guest%d", g), n)
					m.enter(p, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}})
					epochs.Unlock()
					for k := range uint64(rng.IntN(4)) {
						time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
						everywhere(m.hubs[n], p, fixN(k+1))
						m.hubs[n].Publish(testRoom, &wire.Message{Number: uint64(g*1000 + i)})
					}
					switch rng.IntN(3) {
					case 0:
						m.hubs[n].Leave(p, testRoom, wire.Reason_BYE)
					case 1:
						m.hubs[n].Suspend(p)
					}
					m.bye(p)
				}
			})
		}
		for round := range 8 {
			pair := [][2]regions.NodeID{{"a1", "b1"}, {"a1", "a3"}, {"b1", "b2"}, {"a1", "a2"}}[round%4]
			settle(300 * time.Millisecond)
			m.cut(pair[0], pair[1])
			settle(200 * time.Millisecond)
			m.mend(pair[0], pair[1])
		}
		wg.Wait()
		settle(2 * time.Minute)
		all := "stay-a1:a1:LIVE stay-a2:a2:LIVE stay-a3:a3:LIVE stay-b1:b1:LIVE stay-b2:b2:LIVE"
		for n, p := range stay {
			require.Equal(t, all, p.who(), n)
			require.Zero(t, p.gaps, n)
			require.Zero(t, p.unrecovers, n)
			require.Equal(t, stay["a1"].at["a"].Seq, p.at["a"].Seq, n)
			require.Equal(t, stay["a1"].at["b"].Seq, p.at["b"].Seq, n)
		}
	})
}
