package hub

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// ear is a tap that writes down what it hears.
type ear struct {
	mu            sync.Mutex
	fixes, events int
	anew          int
	out           []edge.Client
}

func (e *ear) do(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *ear) Fixes(frame []byte) {
	f, err := wire.DecodeServer(frame)
	if err != nil || f.GetFixes() == nil {
		panic("no fixes")
	}
	e.do(func() { e.fixes++ })
}

func (e *ear) Event(frame []byte) {
	f, err := wire.DecodeServer(frame)
	if err != nil || f.GetEvent() == nil {
		panic("no event")
	}
	e.do(func() { e.events++ })
}

func (e *ear) Anew()             { e.do(func() { e.anew++ }) }
func (e *ear) Out(c edge.Client) { e.do(func() { e.out = append(e.out, c) }) }

func TestATapHearsFixesInPlaceOfItsClients(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a2"), m.join("bob", "a2"), m.join("cem", "b1")
		h, tap := m.hubs["a2"], &ear{}
		require.False(t, h.Tap(cem, testRoom, tap), "cem is on another node")
		require.False(t, h.Tap(ann, "group:8c0e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f12", tap))
		require.True(t, h.Tap(ann, testRoom, tap))
		require.True(t, h.Tap(ann, testRoom, tap))
		require.Equal(t, 1, tap.anew)

		fixed := func(n uint64) {
			t.Helper()
			require.Empty(t, everywhere(m.hubs["b1"], cem, fixN(n)))
			settle(5 * time.Second)
			require.EqualValues(t, n, bob.lastFix("cem"))
		}
		fixed(1)
		require.Zero(t, ann.lastFix("cem"))
		require.Equal(t, 2, tap.fixes, "by datagram, and settled")
		h.Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		require.Equal(t, []uint64{1}, ann.messages, "all else goes on")
		require.Equal(t, 1, tap.events)

		// Joining again after a gap, it is still tapped; over a new session not.
		m.enter(ann, edge.Join{Room: testRoom, Membership: edge.Membership{Version: 1}})
		settle(time.Second)
		fixed(2)
		require.LessOrEqual(t, ann.lastFix("cem"), uint64(1))
		require.Equal(t, 4, tap.fixes)
		require.Empty(t, tap.out)
		m.suspend(ann)
		require.Equal(t, []edge.Client{ann}, tap.out)
		again := m.resume(ann, "a2")
		fixed(3)
		require.EqualValues(t, 3, again.lastFix("cem"))
		require.Equal(t, 4, tap.fixes, "nobody needs it")

		// The owner is another one: something may have been missed.
		require.True(t, h.Tap(again, testRoom, tap))
		anew := tap.anew
		m.restart("a1")
		settle(5 * time.Second)
		require.Greater(t, tap.anew, anew)
		h.Leave(again, testRoom, wire.Reason_BYE)
		require.Len(t, tap.out, 2)
		require.False(t, h.Tap(again, testRoom, tap))

		require.True(t, h.Tap(bob, testRoom, tap))
		require.True(t, h.Tap(bob, testRoom, nil))
		fixed(4)
		require.Len(t, tap.out, 2)
	})
}
