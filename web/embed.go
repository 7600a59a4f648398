// Package web carries the built web app (web/app, built by `make web` into
// web/dist) inside the binary and serves it, so that a node needs no files
// beside it.
package web

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// Dist returns the built files with index.html at the root; built is false
// when the binary was compiled before the app.
func Dist() (files fs.FS, built bool) {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // "dist" is a constant, and a valid path
	}
	_, err = fs.Stat(files, "index.html")
	return files, err == nil
}

// Handler serves the app: its files, and index.html for every other path
// without a file's extension, since the app has pages of its own behind paths
// such as /join/CODE. If the app was not built it says so instead.
//
// connect says what the app may connect to beside its own origin, such as
// "https:" and "wss:". It is schemes and not the nodes' origins because a page
// stays open while nodes come, go and move: the API tells it where they are now.
func Handler(connect []string) http.Handler {
	files, built := Dist()
	if !built {
		return http.HandlerFunc(notBuilt)
	}
	return serve(files, connect, "")
}

// Console serves the operators' page (web/console) under /console/, and what it
// is made of under /assets/. It asks its own origin alone (/ctl/), and has no
// authentication of its own: it belongs on the admin address, or in front of a
// mesh for development.
func Console() http.Handler {
	files, built := Dist()
	if !built {
		return http.HandlerFunc(notBuilt)
	}
	return serve(files, nil, "console/")
}

// policy is the app's Content-Security-Policy (CSP level 3): its own scripts,
// styles and workers and nobody else's, and no frame around it. blob: is for
// MapLibre, where it starts its workers without a file, and for music that a user
// shares from a file.
func policy(connect []string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self'; " +
		"worker-src 'self' blob:; manifest-src 'self'; " +
		"connect-src " + strings.Join(append([]string{"'self'"}, connect...), " ") + "; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// serve answers with the files, or with the page in a folder ("" or "console/").
func serve(files fs.FS, connect []string, page string) http.Handler {
	server, policy := http.FileServerFS(files), policy(connect)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header(), policy)
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		name = strings.TrimPrefix(name, page)
		info, err := fs.Stat(files, name)
		r = r.Clone(r.Context())
		switch {
		case err == nil && !info.IsDir():
			r.URL.Path = "/" + name
		case path.Ext(name) == "":
			r.URL.Path = "/" + page
			name = page + "index.html"
		default:
			http.NotFound(w, r) // a missing script must not be answered by a page
			return
		}
		// Names under assets/ hold a hash of the content; everything else may
		// be another file after the next start.
		if strings.HasPrefix(name, "assets/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			w.Header().Set("Cache-Control", "no-cache")
		}
		server.ServeHTTP(w, r)
	})
}

// secure says what a file may do; every file, not only pages: a worker's policy
// is its script's.
func secure(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the path may be an invite
	h.Set("Permissions-Policy", "geolocation=(self), camera=(self), microphone=(self), display-capture=(self)")
}

func notBuilt(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(`<!doctype html><meta charset="utf-8"><title>Muster</title>
<body style="font:16px/1.5 system-ui;max-width:32em;margin:15vh auto;padding:0 1em">
<h1>The web app is not in this binary</h1>
<p>Run <code>make build</code> and start it again. The API works without: <a href="/docs">/docs</a>.</p>
`))
}
