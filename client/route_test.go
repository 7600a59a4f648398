package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

func TestRoute(t *testing.T) {
	a, b, c, d := Endpoint{Node: "a"}, Endpoint{Node: "b"}, Endpoint{Node: "c"}, Endpoint{Node: "d"}
	r := newRoute([]Endpoint{a, b, c})
	require.Equal(t, []Endpoint{a, b, c, a}, []Endpoint{r.next(), r.next(), r.next(), r.next()})
	r.restart(&b)
	require.Equal(t, []Endpoint{b, a, c}, r.list, "where it worked")
	r.goaway(a, []Endpoint{d, c})
	require.Equal(t, []Endpoint{d, c, b}, r.elsewhere())
	r.restart(nil)
	require.Equal(t, []Endpoint{d, c, b, a}, r.list)
	require.Equal(t, d, r.next())
	r.again()
	require.Equal(t, d, r.next())
	r.arrived()
	r.restart(&d)
	require.Equal(t, []Endpoint{d, a, b, c}, r.list)
}

// A node that died without a word is found out by what it does not answer: soon
// when there is something to ask, else with the next ping.
func TestDeadNode(t *testing.T) {
	for name, busy := range map[string]bool{"busy": true, "idle": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t, "a", "b")
				for _, f := range m.nodes {
					f.ping = 10 * time.Second
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
				require.Equal(t, []Phase{Live}, w.phases(), "no answer is missing")
				m.dialed()
				m.set("a", silent)
				m.nodes["a"].mu.Lock()
				m.nodes["a"].dead = true
				m.nodes["a"].mu.Unlock()
				began, most := time.Now(), 20*time.Second
				if busy {
					_, err := r.Send(t.Context(), "anybody there?")
					require.NoError(t, err)
					most = 10 * time.Second
				} else {
					for s.Status().Node == "a" {
						time.Sleep(time.Millisecond)
					}
				}
				require.Less(t, time.Since(began), most)
				require.Equal(t, []string{"b"}, m.dialed(), "not the dead one first")
			})
		})
	}
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
