package meshtest

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/media"
)

// What a cascade adds to a link's delay: frames of sound, as they come to somebody in the
// region of who speaks, and to somebody in another one, over the links that ship.
// make prove-cascade runs it, alone, since it measures.
func TestWhatACascadeAdds(t *testing.T) {
	if os.Getenv("MUSTER_PROVE_CASCADE") == "" {
		t.Skip("it measures: make prove-cascade")
	}
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 1, Calls: true})
	users := []*User{m.Guest(0, "Ann"), m.Guest(0, "Bo"), m.Guest(1, "Cy")}
	group := m.Group(users[0], users[1:]...)
	started, err := users[0].StartCall(t.Context(), client.CallDraft{GroupID: group, Type: "audio"})
	require.NoError(t, err)
	var heard []*heardWords
	for i, u := range users {
		w := &heardWords{of: map[string]map[uint32]word{}}
		u.Connect(i/2, 0, client.Auto)
		u.speaks(t.Context(), u.Join(group), started.ID, w)
		heard = append(heard, w)
	}
	mic := media.TrackID(started.ID, users[0].ID, users[0].Session.Device(), wire.CallSource_MIC)
	of := func(w *heardWords) map[uint32]word {
		w.mu.Lock()
		defer w.mu.Unlock()
		return maps.Clone(w.of[mic])
	}
	const frames = 3_000
	require.Eventually(t, func() bool { return len(of(heard[2])) >= frames }, 2*frames*voice, 100*time.Millisecond)
	link := m.Net.Delay(m.Region(0), m.Region(1))
	var near, added []time.Duration
	far := of(heard[2])
	for n, x := range of(heard[1]) {
		if y, ok := far[n]; ok {
			near = append(near, x.came.Sub(x.sent))
			added = append(added, y.came.Sub(x.came)-link)
		}
	}
	at := func(list []time.Duration, share float64) time.Duration {
		slices.Sort(list)
		return list[int(share*float64(len(list)-1))].Round(10 * time.Microsecond)
	}
	t.Logf("%d frames: through one SFU %v, p99 %v; through two and a link of %v, beside that %v, p99 %v",
		len(added), at(near, .5), at(near, .99), link, at(added, .5), at(added, .99))
	require.GreaterOrEqual(t, len(added), frames*99/100)
}
