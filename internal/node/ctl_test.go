package node

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

// operator asks the nodes of a world as `muster ctl` does.
func operator(w *world, rts ...*Realtime) func(method, what string) (int, string) {
	var nodes []*Node
	for _, rt := range rts {
		n := &Node{cfg: Config{ID: rt.cfg.ID, Directory: regions.NewDirectory(w.topology)}, region: rt.region, rt: rt}
		n.state.Store(1)
		nodes = append(nodes, n)
	}
	h := (&control{nodes: func() []*Node { return nodes }, gather: prometheus.NewRegistry()}).handler()
	return func(method, what string) (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, "http://127.0.0.1:9090/ctl/"+what, nil))
		return rec.Code, rec.Body.String()
	}
}

// What would take more than was meant is refused, with what to do instead.
func TestOperatorsMistakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.start("n1"), w.start("n2")
		for _, rt := range []*Realtime{a, b} {
			require.NoError(t, rt.Ready(t.Context()))
		}
		ctl := operator(w, a)
		refused := func(status int, what, says string) {
			t.Helper()
			code, body := ctl(http.MethodPost, what)
			require.Equal(t, status, code, body)
			require.Contains(t, body, says)
		}
		refused(http.StatusConflict, "remove?node=n2", "drain and stop it first")
		refused(http.StatusConflict, "transfer", "no other node of the region has a vote")
		refused(http.StatusNotFound, "transfer?region=mars", "muster ctl roster")
		refused(http.StatusNotFound, "drain?node=n3", "muster ctl roster")

		b.Stop()
		eventually(t, "down", func() bool {
			down := false
			a.Cluster.View(func(s *roster.State, _ uint64) { n, _ := s.Node("n2"); down = n.State == roster.Down })
			return down
		})
		refused(http.StatusConflict, "drain?node=n1", "no other node of region eu-west is up")

		// A node that is in the topology no more can be removed all the same.
		less := w.topology.Regions[0]
		less.Nodes = less.Nodes[:1]
		w.topology = &regions.Topology{Regions: []regions.Region{less}}
		ctl = operator(w, a)
		code, body := ctl(http.MethodPost, "remove?node=n2")
		require.Equal(t, http.StatusOK, code, body)
		require.Len(t, a.Cluster.Members(), 1)
	})
}

// Scripts get lists where they expect lists.
func TestOperatorsListsAreNeverNull(t *testing.T) {
	ctl := operator(newWorld(t, 1))
	_, body := ctl(http.MethodGet, "roster")
	require.JSONEq(t, `{"regions": [], "dev": false}`, body)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		rt := w.start("n1")
		require.NoError(t, rt.Ready(t.Context()))
		var v map[string]any
		_, body := operator(w, rt)(http.MethodGet, "roster")
		require.NoError(t, json.Unmarshal([]byte(body), &v))
		require.NotNil(t, v["regions"].([]any)[0].(map[string]any)["rates"])
	})
}

// A page on the web whose name points to this machine is of the same origin as
// far as the browser knows.
func TestOperatorsAddressByNumber(t *testing.T) {
	h := (&control{nodes: func() []*Node { return nil }, gather: prometheus.NewRegistry(), kill: func(regions.NodeID) error { return nil }}).handler()
	for host, want := range map[string]int{
		"127.0.0.1:9090": 200, "localhost:8080": 200, "[::1]:8080": 200, "10.1.0.11": 200, "muster-1:9090": 200, "console.localhost:1": 200,
		"rebound.example:8080": 421, "127.0.0.1.rebound.example": 421, "localhost.example": 421,
	} {
		r := httptest.NewRequest(http.MethodPost, "http://x/ctl/kill?node=n", nil)
		r.Host = host
		if want == 421 {
			r.Header.Set("Origin", "http://"+host)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		require.Equal(t, want, rec.Code, host)
	}
}

// The front of muster dev may be told to listen for everybody; the console then
// stays behind the admin address.
func TestFrontForEverybodyHasNoConsole(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:0": true, "0.0.0.0:0": false} {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		defer l.Close()
		asked := false
		d := &Dev{cfg: DevConfig{Front: l}, mesh: &Mesh{}}
		h := d.front(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/ctl/kill?node=n", nil))
		require.Equal(t, want, asked, addr)
	}
}
