package client

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

func TestRoute(t *testing.T) {
	ep := func(name string) Endpoint { return Endpoint{Region: name[:1], Node: name} }
	list := func(names ...string) (out []Endpoint) {
		for _, name := range names {
			out = append(out, ep(name))
		}
		return out
	}
	a1, a2 := ep("a1"), ep("a2")
	r := &route{configured: list("a1", "a2", "a3", "b1", "b2", "c1")}
	require.Equal(t, list("a1", "a2", "b1", "a3", "c1", "b2"), r.order(&a1, "a", 0), "where it worked; then by turns")
	require.Equal(t, list("b1", "b2", "a1", "c1", "a2", "a3"), r.order(new(ep("b1")), "b", 0))
	r.leave(a2, nil)
	require.Equal(t, list("a1", "b1", "a3", "c1", "b2", "a2"), r.order(nil, "a", 0), "the silent one last")
	r.leave(a1, list("d1", "a3"))
	require.Equal(t, list("d1", "a3", "a2", "b1", "c1", "b2"), r.elsewhere("a", 0), "the targets first")
	require.Equal(t, list("d1", "a3", "a2", "b1", "c1", "b2", "a1"), r.order(nil, "a", 0))
	r.arrived()
	require.Equal(t, list("d1", "a1", "b1", "a2", "c1", "a3", "b2"), r.order(new(ep("d1")), "a", 0))
	require.Equal(t, list("b1", "b2"), r.in("b"))

	one := &route{configured: list("a1")}
	one.leave(a1, nil)
	require.Equal(t, list("a1"), one.order(nil, "a", 0), "if there is no other")
	require.Empty(t, one.elsewhere("a", 0))

	r = &route{}
	for region := range 10 {
		for node := range 3 {
			r.configured = append(r.configured, ep(fmt.Sprint(region, node)))
		}
	}
	seen := map[string]bool{}
	for round := range 4 {
		for _, ep := range r.order(nil, "0", round) {
			seen[ep.Node] = true
		}
		require.Len(t, r.order(nil, "0", round), maxRound)
	}
	require.Len(t, seen, 30, "later rounds reach all")
}

// A node that died without a word is found out by what it does not answer: in
// seconds when there is something to ask, and a few more when there is not,
// whenever between two pings it died, and however much was heard until then.
func TestDeadNode(t *testing.T) {
	for name, c := range map[string]struct {
		asks, hears bool
		most        time.Duration
	}{
		"asking":    {true, false, 5 * time.Second},
		"idle":      {false, false, 10 * time.Second},
		"listening": {false, true, 10 * time.Second},
	} {
		for after := range 10 {
			t.Run(fmt.Sprint(name, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMemory(t, "a", "b")
					for _, f := range m.nodes {
						f.ping, f.lag = 10*time.Second, 30*time.Millisecond
						f.handle(joins(0, 3, func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
							if cf.GetSend() != nil {
								c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored(1)}}})
							}
						}))
					}
					s, w := m.connect("a", "b")
					r, err := s.Join(t.Context(), room)
					require.NoError(t, err)
					time.Sleep(time.Minute)
					conn := <-m.nodes["a"].conns
					for range 10 * after {
						time.Sleep(100 * time.Millisecond)
						if c.hears {
							conn.send(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: room}}})
						}
					}
					require.Equal(t, []Phase{Live}, w.phases(), "no answer is missing")
					m.dialed()
					m.set("a", silent)
					m.nodes["a"].mu.Lock()
					m.nodes["a"].dead = true
					m.nodes["a"].mu.Unlock()
					began := time.Now()
					if c.asks {
						_, err := r.Send(t.Context(), "anybody there?")
						require.NoError(t, err)
					} else {
						for s.Status().Node == "a" {
							time.Sleep(time.Millisecond)
						}
					}
					require.Less(t, time.Since(began), c.most)
					require.Equal(t, []string{"b"}, m.dialed(), "not the dead one first")
				})
			})
		}
	}
}

// A way that is slow is not a dead one.
func TestSlowAnswersAreAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, "a", "b")
		m.nodes["a"].ping, m.nodes["a"].lag = 10*time.Second, 2900*time.Millisecond
		_, w := m.connect("a", "b")
		time.Sleep(5 * time.Minute)
		require.Equal(t, []Phase{Live}, w.phases())
	})
}

// Who is closed with a time to come back does not come earlier, and not all at
// once.
func TestRetryAfterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, "a")
		var conns []*fakeConn
		for range 40 {
			m.connect("a")
			conns = append(conns, m.nodes["a"].next())
		}
		began := time.Now()
		var back []time.Duration
		for _, c := range conns {
			c.closeWith(wire.CodeRetry, 0, 3*time.Second)
		}
		for range conns {
			m.nodes["a"].next()
			back = append(back, time.Since(began))
		}
		require.GreaterOrEqual(t, back[0], 3*time.Second)
		require.Less(t, back[39], 3*time.Second+reconnectRetry.low)
		require.Greater(t, back[39]-back[0], reconnectRetry.low/2)
	})
}
