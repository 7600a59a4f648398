package node

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

const oneRegion = `regions:
  - {name: eu-west, location: {lat: 53, lng: -6}, nodes: [{id: eu-west-1, peer: "127.0.0.1:7000"}]}
`

// A new version is taken while the node runs; one that is not valid, or not this
// node's, is told once and ignored.
func TestTopologyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topology.yaml")
	write := func(s string) { require.NoError(t, os.WriteFile(path, []byte(s), 0o600)) }
	write(oneRegion)
	f, err := openTopology(path, func(top *regions.Topology) error {
		if _, _, ok := top.Node("eu-west-1"); !ok {
			return errors.New("this node is not in it")
		}
		return nil
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	require.NoError(t, err)
	f.register(prometheus.NewRegistry())
	count := func(outcome string) float64 { return testutil.ToFloat64(f.reloads.WithLabelValues(outcome)) }

	watch := newLoop(f.watch)
	require.NoError(t, watch.Start(t.Context()))
	defer watch.Stop()
	_, changed := f.directory.Watch()
	write(oneRegion + `  - {name: us-east, location: {lat: 38, lng: -77}, nodes: [{id: us-east-1, peer: "127.0.0.1:7001"}]}` + "\n")
	select {
	case <-changed:
	case <-time.After(10 * time.Second):
		require.Fail(t, "not taken")
	}
	require.Len(t, f.directory.Topology().Regions, 2)
	require.Eventually(t, func() bool { return count("taken") == 1 }, time.Second, time.Millisecond)

	write(strings.ReplaceAll(oneRegion, "53", "153"))
	require.Eventually(t, func() bool { return count("refused") == 1 }, 10*time.Second, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(f.good))
	require.Len(t, f.directory.Topology().Regions, 2)

	// An operator hears why, as often as they ask, and at once.
	h := (&control{nodes: func() []*Node { return nil }, gather: prometheus.NewRegistry(), reload: f.ctlReload}).handler()
	ctl := func() (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "http://127.0.0.1:9090/ctl/reload", nil))
		return rec.Code, rec.Body.String()
	}
	for range 2 {
		code, body := ctl()
		require.Equal(t, http.StatusBadRequest, code)
		require.Contains(t, body, "region eu-west: location (153, -6) is not on Earth")
	}
	write(strings.ReplaceAll(oneRegion, "eu-west-1", "eu-west-2"))
	code, body := ctl()
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, "this node is not in it")
	require.NoError(t, os.Remove(path))
	code, _ = ctl()
	require.Equal(t, http.StatusBadRequest, code)
	require.EqualValues(t, 3, count("refused"))
	require.Len(t, f.directory.Topology().Regions, 2)
	write(oneRegion)
	code, body = ctl()
	require.Equal(t, http.StatusOK, code, body)
	require.Len(t, f.directory.Topology().Regions, 1)
	require.EqualValues(t, 1, testutil.ToFloat64(f.good))
}
