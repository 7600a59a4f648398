package hub

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// TestAShortCutCostsLittle cuts two nodes of different regions off each other
// that share many rooms in which nothing happens, and counts the bytes of frames
// between them after that. MUSTER_RUNS is the number of rooms.
func TestAShortCutCostsLittle(t *testing.T) {
	rooms := 400
	if n, _ := strconv.Atoi(os.Getenv("MUSTER_RUNS")); n > 0 {
		rooms = n
	}
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, "a1", "b1")
		var phones []*phone
		for i := range rooms {
			id := fmt.Sprintf("group:8c0e3e3e-7d2c-4a0a-9a53-%012d", i)
			for _, n := range []regions.NodeID{"a1", "b1"} {
				p := m.session(fmt.Sprint(n, "-", i), n)
				m.enter(p, edge.Join{Room: id, Membership: edge.Membership{Version: 1}})
				require.Empty(t, everywhere(m.hubs[n], p, fixN(1)))
				phones = append(phones, p)
			}
			if i%100 == 0 {
				settle(time.Second)
			}
		}
		settle(time.Minute)
		var frames, bytes int
		m.sniff(func(_, _ regions.NodeID, f *peer.Frame, _ *peer.Fixes) { frames, bytes = frames+1, bytes+f.SizeVT() })
		heals := func(how func()) (int, int) {
			m.cut("a1", "b1")
			settle(2 * time.Second)
			frames, bytes = 0, 0
			how()
			settle(5 * time.Second)
			return frames, bytes
		}
		all := make([]int, regions.Slots)
		for i := range all {
			all[i] = i
		}
		fOne, bOne := heals(func() { // as without digests: twice, too
			for _, w := range m.wires {
				w.setDown(false)
			}
			for n, h := range m.hubs {
				h.linkMu.Lock()
				clear(h.broken)
				h.linkMu.Unlock()
				for range 2 {
					h.RegionMoved(regions.RegionID(map[byte]string{'a': "b", 'b': "a"}[n[0]]), all)
				}
			}
		})
		fDigest, bDigest := heals(func() { m.mend("a1", "b1") })
		t.Logf("%d idle rooms, links cut for 2 s: %d frames, %d bytes room by room; %d frames, %d bytes by digest", rooms, fOne, bOne, fDigest, bDigest)
		require.Less(t, bDigest*3, bOne)
		require.LessOrEqual(t, fDigest, 8)

		// The rooms that did not stay as they were are asked for one by one.
		m.cut("a1", "b1")
		m.hubs["a1"].Publish("group:8c0e3e3e-7d2c-4a0a-9a53-000000000007", &wire.Message{Number: 1})
		require.Empty(t, everywhere(m.hubs["b1"], phones[2*9+1], fixN(2)))
		settle(2 * time.Second)
		frames, bytes = 0, 0
		m.mend("a1", "b1")
		settle(200 * time.Millisecond) // a round trip takes 80 ms
		require.Equal(t, []uint64{1}, phones[2*7+1].messages)
		require.EqualValues(t, 2, phones[2*9].lastFix("b1-9"))
		t.Logf("and one message and one fix: %d frames, %d bytes", frames, bytes)
		for _, p := range phones {
			require.Zero(t, p.gaps+p.unrecovers+p.flaps)
		}
	})
}
