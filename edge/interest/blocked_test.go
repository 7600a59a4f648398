package interest

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// choosy is a phone whose user must not see some people.
type choosy struct {
	*phone
	hidden atomic.Pointer[map[string]bool]
}

func (c *choosy) Hidden() *map[string]bool { return c.hidden.Load() }

// A watched room leaves out whom its viewer must not see.
func TestBlockedInARoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		w.fixes = []*wire.MemberFix{fixAt("ann", 1, 52.52, 13.4), fixAt("eve", 1, 52.51, 13.4)}
		e := startEngine(t, w)
		p := &choosy{phone: newPhone("me")}
		p.hidden.Store(&map[string]bool{"eve": true})
		require.NoError(t, e.Watch(p, watchOf(1, room, berlin)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann"}, p.sees(1))
		w.tell(room, moved(fixAt("eve", 2, 52.53, 13.41)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann"}, p.sees(1))

		p.hidden.Store(&map[string]bool{"ann": true})
		w.tell(room, moved(fixAt("eve", 3, 52.53, 13.42)))
		pass(6 * time.Second)
		require.Equal(t, []string{"eve"}, p.sees(1))
	})
}

// Nothing moves: who is blocked is gone all the same, from rooms and the map.
func TestBlockedNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		w.fixes = []*wire.MemberFix{fixAt("ann", 1, 52.52, 13.4), fixAt("eve", 1, 52.51, 13.4)}
		w.points = []*peer.MapPoint{point("ann", 1, 52.52, 13.4), point("eve", 1, 52.52, 13.4)}
		e := startEngine(t, w)
		p := &choosy{phone: newPhone("me")}
		p.hidden.Store(&map[string]bool{})
		require.NoError(t, e.Watch(p, watchOf(1, room, berlin)))
		require.NoError(t, e.Watch(p, watchOf(2, "", berlin)))
		pass(500 * time.Millisecond)
		for watch := range uint32(2) {
			require.Equal(t, []string{"ann", "eve"}, p.sees(watch+1))
		}
		w.set(func() { w.blocked["me"] = map[string]bool{"eve": true} })
		p.hidden.Store(&map[string]bool{"eve": true})
		e.Choose(p)
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann"}, p.sees(1))
		pass(time.Second) // a frame a second
		require.Equal(t, []string{"ann"}, p.sees(2))
		pass(10 * time.Second)
		for watch := range uint32(2) {
			require.Equal(t, []string{"ann"}, p.sees(watch+1))
		}
	})
}

// Whom the map's question asked about before was not blocked then: who is by the
// time of the answer does not come back with it.
func TestBlockedDuringAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.points = []*peer.MapPoint{point("ann", 1, 52.52, 13.4), point("eve", 1, 52.52, 13.4)}
		e := startEngine(t, w)
		p := &choosy{phone: newPhone("me")}
		p.hidden.Store(&map[string]bool{})
		require.NoError(t, e.Watch(p, watchOf(1, "", berlin)))
		pass(500 * time.Millisecond)
		require.Equal(t, []string{"ann", "eve"}, p.sees(1))
		w.set(func() { w.slow = 1900 * time.Millisecond })
		pass(1700 * time.Millisecond) // it has begun to ask
		w.set(func() { w.blocked["me"] = map[string]bool{"eve": true} })
		p.hidden.Store(&map[string]bool{"eve": true})
		e.Choose(p)
		pass(1200 * time.Millisecond)
		for range 40 {
			require.Equal(t, []string{"ann"}, p.sees(1))
			pass(100 * time.Millisecond)
		}
	})
}
