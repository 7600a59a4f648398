package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
)

// guard does for every request what no operation should have to think of.
func (a *api) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// Answers are the caller's own; what may be cached says so itself.
		h.Set("Cache-Control", "no-store")
		if a.cors(w, r) {
			return
		}
		a.resumable(w, r)
		// A declared length is refused before a byte is read; what comes in
		// chunks is cut off at the limit by the operation.
		if limit := cmp.Or(a.most(r), a.MaxBody); r.ContentLength > limit {
			h.Set("Connection", "close") // nobody will read it
			tooLarge(limit).write(w)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// most is how many bytes an operation takes that takes more than others, else 0.
func (a *api) most(r *http.Request) int64 {
	if limit, ok := a.larger[r.Method+" "+r.URL.Path]; ok {
		return limit
	}
	path, _, _ := strings.Cut(r.URL.Path, uploadsPath+"/") // the only ones with a part of their own in the path
	if path == "" {
		return a.larger[r.Method+" "+uploadsPath+"/{upload_id}"]
	}
	return 0
}

// cors lets pages of other origins call the API (Fetch standard, section
// 3.3). There are no cookies, so no credentials either. It reports whether the
// request was a preflight, which is answered then.
func (a *api) cors(w http.ResponseWriter, r *http.Request) (done bool) {
	h := w.Header()
	any := slices.Contains(a.Origins, "*")
	if !any {
		h.Add("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	switch {
	case origin == "":
		return false
	case any:
		h.Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(a.Origins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		if preflight {
			w.WriteHeader(http.StatusNoContent) // without leave: the browser refuses
		}
		return preflight
	}
	if !preflight {
		h.Set("Access-Control-Expose-Headers", "Age, ETag, Link, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, Idempotency-Replayed, Unreached-Regions, "+
			"Location, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Offset, Content-Range")
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, X-Request-Id, "+
		"Range, Tus-Resumable, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override")
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}
