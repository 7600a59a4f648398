package peerlink

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// After a black hole, where nothing is closed and packets just vanish, links are
// up again soon, and a broken one is noticed soon: 20 cuts of links between two
// regions, some one way only, at all moments of what the links do meanwhile.
func TestLinksAreUpSoonAfterACut(t *testing.T) {
	t.Parallel()
	const (
		oneWay = 45 * time.Millisecond
		pairs  = 5
		rounds = 4
	)
	net := simnet.New(simnet.Config{OneWay: func(string, string) time.Duration { return oneWay }})
	m := newMesh(t, net)
	name := func(region string, i int) regions.NodeID { return regions.NodeID(fmt.Sprintf("%s-%d", region, i)) }

	var mu sync.Mutex // guards the following
	var healed time.Time
	var again []time.Duration
	start := func(region string, i int) *node {
		n := m.open(name(region, i), 1)
		n.onUp = func(Peer) {
			mu.Lock()
			defer mu.Unlock()
			if !healed.IsZero() {
				again = append(again, time.Since(healed))
			}
		}
		require.NoError(t, n.Start(t.Context()))
		return n
	}
	var nodes []*node
	for i := range pairs {
		a, b := start("a", i), start("b", i)
		require.NoError(t, a.Send(b.cfg.Self, []byte("x")))
		require.NoError(t, b.Send(a.cfg.Self, []byte("x")))
		nodes = append(nodes, a, b)
	}
	every := func(what string, n int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(nodes, func(x *node) bool { return x.count(what) < n })
		}
	}
	eventually(t, every("up", 1), "not up")
	var noticed []time.Duration
	for round := range rounds {
		began := time.Now()
		switch round {
		case 1:
			net.Cut("a", "b")
		case 3:
			net.Cut("b", "a")
		default:
			net.CutBoth("a", "b")
		}
		eventually(t, every("down", round+1), "a cut is not noticed")
		noticed = append(noticed, time.Since(began))
		time.Sleep(rand.N(3 * time.Second)) // it may last
		mu.Lock()
		healed = time.Now()
		mu.Unlock()
		net.Heal()
		eventually(t, every("up", round+2), "not up again")
		mu.Lock()
		healed = time.Time{}
		mu.Unlock()
	}
	slices.Sort(again)
	require.Len(t, again, 2*pairs*rounds)
	at := func(q int) time.Duration { return again[(len(again)-1)*q/100].Round(time.Millisecond) }
	t.Logf("round trip %v; all noticed within %v; up again after: min %v, p50 %v, p90 %v, max %v",
		2*oneWay, noticed, at(0), at(50), at(90), at(100))
	// A busy test machine is late with anything now and then.
	require.Less(t, slices.Min(noticed), idleTimeout+keepAlive+time.Second)
	require.Less(t, at(50), time.Second+2*oneWay)
	require.Less(t, at(100), 4*time.Second)
}

// While a peer is in a black hole a call fails soon, and after it works soon.
func TestCallsAroundACut(t *testing.T) {
	t.Parallel()
	net := simnet.New(simnet.Config{OneWay: func(string, string) time.Duration { return 20 * time.Millisecond }})
	m := newMesh(t, net)
	a, b := m.start("a-1", 1), m.open("b-1", 1)
	b.onCall = echoCall
	require.NoError(t, b.Start(t.Context()))
	call := func() (time.Duration, error) {
		began := time.Now()
		_, err := a.Call(t.Context(), "b-1", []byte("x"))
		return time.Since(began), err
	}
	_, err := call()
	require.NoError(t, err)
	net.CutBoth("a", "b")
	took, err := call() // on the link that is there
	require.ErrorIs(t, err, ErrDown)
	require.Less(t, took, 4*time.Second)
	for range 3 {
		took, err = call()
		require.ErrorIs(t, err, ErrDown)
		require.ErrorIs(t, err, regions.ErrUnsent)
		require.Less(t, took, 2*time.Second)
	}
	net.Heal()
	began := time.Now()
	eventually(t, func() bool { _, err := call(); return err == nil }, "no call works any more")
	require.Less(t, time.Since(began), 1500*time.Millisecond)
}

// A link may be dead before anybody was told. What is asked over it then was not
// sent, and may be asked elsewhere.
func TestACallOverADeadLinkIsNotSent(t *testing.T) {
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.open("b-1", 1)
	b.onCall = echoCall
	require.NoError(t, b.Start(t.Context()))
	_, err := a.Call(t.Context(), "b-1", []byte("x"))
	require.NoError(t, err)
	a.Links.mu.RLock()
	calls := a.Links.peers["b-1"].calls
	a.Links.mu.RUnlock()
	conn, err := calls.connection(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.CloseWithError(0, ""))
	_, err = calls.exchange(t.Context(), conn, []byte("x"))
	require.ErrorIs(t, err, regions.ErrUnsent)
}
