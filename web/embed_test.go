package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

var built = fstest.MapFS{
	"index.html":         {Data: []byte("<p>app")},
	"console/index.html": {Data: []byte("<p>console")},
	"assets/a-1f2e3d.js": {Data: []byte("run()")},
	"places/1_4.json":    {Data: []byte("[]")},
	"icon.svg":           {Data: []byte("<svg>")},
}

func TestHandler(t *testing.T) {
	t.Parallel()
	h := serve(built, []string{"https:", "wss:"}, "")
	for _, c := range []struct {
		path, body, cache string
		status            int
	}{
		{"/", "<p>app", "no-cache", 200},
		{"/join/K7QX-M2PD", "<p>app", "no-cache", 200},
		{"/g/1b4e28ba-2fa1-11d2-883f-0016d3cca427", "<p>app", "no-cache", 200},
		{"/assets/a-1f2e3d.js", "run()", "public, max-age=31536000, immutable", 200},
		{"/assets", "<p>app", "no-cache", 200}, // no listing of a folder
		{"/places/1_4.json", "[]", "no-cache", 200},
		{"/places/9_9.json", "404 page not found\n", "", 404},
		{"/assets/../../secret", "<p>app", "no-cache", 200},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		require.Equal(t, c.status, w.Code, c.path)
		require.Equal(t, c.body, w.Body.String(), c.path)
		require.Equal(t, c.cache, w.Header().Get("Cache-Control"), c.path)
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"), c.path)
		require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"), "a path may be an invite: %s", c.path)
		csp := w.Header().Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'; script-src 'self';", c.path)
		require.Contains(t, csp, "connect-src 'self' https: wss:;", c.path)
		require.NotContains(t, csp, "unsafe", c.path)
	}
}

func TestConsole(t *testing.T) {
	t.Parallel()
	h := serve(built, nil, "console/")
	for path, body := range map[string]string{"/console": "<p>console", "/console/": "<p>console", "/console/icon.svg": "<svg>", "/assets/a-1f2e3d.js": "run()"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, http.StatusOK, w.Code, path)
		require.Equal(t, body, w.Body.String(), path)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "connect-src 'self';", path)
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "media-src 'self' blob:;", path)
	}
}

func TestNotBuilt(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	notBuilt(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "make build")
}
