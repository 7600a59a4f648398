package node

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only what the proxy itself wrote counts: a client can send the header too,
// and the proxy appends to it.
func TestForwardedAddr(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header []string
		want   string
	}{
		{nil, "192.0.2.1"},
		{[]string{"203.0.113.9"}, "203.0.113.9"},
		{[]string{"6.6.6.6, 203.0.113.9"}, "203.0.113.9"},
		{[]string{"6.6.6.6", "203.0.113.9"}, "203.0.113.9"},
		{[]string{"203.0.113.9:40123"}, "203.0.113.9"},
		{[]string{"2001:db8::7"}, "2001:db8::7"},
		{[]string{"[2001:db8::7]:40123"}, "2001:db8::7"},
		{[]string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{[]string{"unknown"}, "192.0.2.1"},
		{[]string{""}, "192.0.2.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil) // from 192.0.2.1
		for _, v := range c.header {
			r.Header.Add("X-Forwarded-For", v)
		}
		require.Equal(t, c.want, forwardedAddr("X-Forwarded-For")(r).String(), "%q", c.header)
	}
}

// However a path is written, nothing under the API or the WebSocket is taken
// for a page, nor the other way round.
func TestRoutes(t *testing.T) {
	t.Parallel()
	says := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) })
	}
	h := routes(says("api"), says("ws"), says("calls"), says("app"))
	for path, want := range map[string]string{
		"/": "app", "/join/BCDFG": "app", "/g/1": "app", "/apis": "app", "/ws/": "app", "/docsish": "app",
		"/api/v1/edge": "api", "/api/nothing": "api", "/docs": "api", "/docs/docs.js": "api", "/ws": "ws", "/ws/communication": "calls",
		"/api%2Fv1/edge": "app", "/%61pi/v1/edge": "api", // an escaped slash separates nothing
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, want, w.Body.String(), path)
	}
	for path, clean := range map[string]string{
		"//api/v1/edge": "/api/v1/edge", "/api/v1/../../ws": "/ws", "/x/../api/v1/edge": "/api/v1/edge",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, clean, w.Header().Get("Location"), path)
	}
}

func TestLoadServeConfig(t *testing.T) {
	t.Parallel()
	load := func(more string) (*ServeConfig, error) {
		file := filepath.Join(t.TempDir(), "node.yaml")
		require.NoError(t, os.WriteFile(file, []byte("{node: n, topology: t, database: d, secret_file: s, http: h, peer: p, admin: a, data: d, peer_tls: i"+more+"}"), 0o600))
		return LoadServeConfig(file)
	}
	c, err := load(`, origins: ["https://app.example.org", "http://localhost:8080"]`)
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(c.Topology), "relative to the file")
	_, err = load(`, origins: ["*"]`)
	require.NoError(t, err)
	for more, want := range map[string]string{
		`, origins: ["https://app.example.org/"]`: "without a path",
		`, origins: ["https://App.example.org"]`:  "in lower case",
		`, origins: ["app.example.org"]`:          "https://app.example.org",
		`, webtransport: ":1"`:                    "webtransport needs tls",
		`, unknown: 1`:                            "unknown",
	} {
		_, err = load(more)
		require.ErrorContains(t, err, want, more)
	}
}
