package transport

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// originAllowed keeps foreign pages from connecting with what a browser knows
// (cross-site WebSocket hijacking; RFC 6455 section 10.2). Ports of one host
// may differ: the web app and the nodes are different listeners.
func originAllowed(r *http.Request, allowed []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	for _, a := range allowed {
		if a == "*" || strings.EqualFold(a, origin) {
			return true
		}
	}
	u, err := url.Parse(origin) // "null" has no host
	return err == nil && u.Hostname() != "" && strings.EqualFold(u.Hostname(), hostname(r.Host))
}

func hostname(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return strings.Trim(hostport, "[]")
}
