package interest

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

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
