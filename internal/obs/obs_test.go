package obs

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestAdminSaysWhetherTheProcessTakesTraffic(t *testing.T) {
	var notReady error
	reg := prometheus.NewRegistry()
	for _, node := range []string{"a-1", "a-2"} { // two nodes, one registry
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_things_total"})
		Labelled(reg, "a", node).MustRegister(c)
		c.Inc()
	}
	h := Admin(reg, func(context.Context) error { return notReady })
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w
	}

	require.Equal(t, http.StatusOK, get("/healthz").Code)
	require.Equal(t, http.StatusOK, get("/readyz").Code)
	require.Contains(t, get("/metrics").Body.String(), `muster_things_total{node="a-2",region="a"} 1`)
	require.Equal(t, http.StatusOK, get("/debug/pprof/cmdline").Code)

	notReady = errors.New("the database does not answer")
	w := get("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "does not answer")
}

func TestLoggerRefusesUnknownSettings(t *testing.T) {
	var out strings.Builder
	l, err := Logger(&out, "json", "warn")
	require.NoError(t, err)
	l.Info("quiet")
	l.Warn("loud")
	require.NotContains(t, out.String(), "quiet")
	require.Contains(t, out.String(), `"msg":"loud"`)

	_, err = Logger(&out, "xml", "info")
	require.ErrorContains(t, err, "text or json")
	_, err = Logger(&out, "text", "chatty")
	require.ErrorContains(t, err, "debug, info")
}
