package web

import (
	"net/http"
	"strings"
)

// consolePage is the page's file.
const consolePage = "console/index.html"

// Console serves the operators' page under /console/ and what it is made of
// under /assets/. It has no authentication of its own: it belongs on the admin
// address, or in front of a mesh for development.
func Console() http.Handler {
	files, built := Dist()
	if !built {
		return http.HandlerFunc(notBuilt)
	}
	app, policy := handler(files, nil), policy(nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/console") {
			app.ServeHTTP(w, r)
			return
		}
		secure(w.Header(), policy)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, files, consolePage)
	})
}
