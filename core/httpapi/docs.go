package httpapi

import (
	"embed"
	"io/fs"
	"net/http"

	"github.com/go-chi/chi/v5"
)

//go:embed docs.html docs.js
var docsFiles embed.FS

// docsPages serves the browsable form of the document. Its scripts are
// bundled, and its policy lets it load nothing from elsewhere.
func docsPages(mux *chi.Mux, assets fs.FS) {
	file := func(from fs.FS, name, contentType string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "+
				"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			b, err := fs.ReadFile(from, name)
			if err != nil {
				newProblem(http.StatusNotFound, "not_found", "this build has no bundled documentation").write(w)
				return
			}
			h.Set("Content-Type", contentType)
			h.Set("Cache-Control", "no-cache")
			_, _ = w.Write(b)
		}
	}
	if assets == nil {
		assets = embed.FS{}
	}
	mux.Get("/docs", file(docsFiles, "docs.html", "text/html; charset=utf-8"))
	mux.Get("/docs/", http.RedirectHandler("/docs", http.StatusMovedPermanently).ServeHTTP)
	mux.Get("/docs/docs.js", file(docsFiles, "docs.js", "text/javascript; charset=utf-8"))
	mux.Get("/docs/swagger-ui.css", file(assets, "docs/swagger-ui.css", "text/css; charset=utf-8"))
	mux.Get("/docs/swagger-ui-bundle.js", file(assets, "docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"))
}
