// Package egress is how a node calls URLs that users chose: the endpoints of
// browsers and webhooks. Whoever may name a URL must not reach what only the node
// can: so the address that was resolved is checked at the moment of dialling,
// which no name, redirect or second answer of a name server gets around
// (OWASP, Server-Side Request Forgery Prevention).
package egress

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/mustermesh/muster/core/notify"
)

// ErrPrivate is for an address that only this node's network has.
var ErrPrivate = errors.New("this address is not public")

// Client returns a client for such URLs; private allows any address, and plain
// HTTP. It follows no redirects, and nobody's proxy.
func Client(private bool, timeout time.Duration) *http.Client {
	d := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !private && !Public(ap.Addr()) {
			return ErrPrivate
		}
		return nil
	}}
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: timeout,
			MaxIdleConnsPerHost: 2, MaxIdleConns: 100, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}
}

// special are addresses that are nobody's on the internet, beside those that
// net/netip knows: the special-purpose registries of IANA (RFC 6890), and
// addresses of IPv6 that lead to one of IPv4.
var special = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23",
	"2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "::/96")

// allocated is all of IPv6 that is global unicast (RFC 4291 section 2.4, IANA).
var allocated = netip.MustParsePrefix("2000::/3")

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// Public reports whether an address is one on the internet.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.Is6() && !allocated.Contains(a) {
		return false
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// CheckURL refuses what can't be called, as soon as it is named.
func CheckURL(s string, private bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 2048 || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return errors.New("it is no URL of at most 2,048 bytes, without a user and a fragment")
	case u.Scheme != "https" && !(private && u.Scheme == "http"):
		return errors.New("it does not begin with https://")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !private && !Public(a) {
		return ErrPrivate
	}
	return nil
}

// Meaning is what a response, or its lack, says about what to do, without the
// URL. Gone is for 404 and 410: nobody is there any more.
func Meaning(resp *http.Response, err error) (result error, gone bool) {
	if err != nil {
		if errors.Is(err, ErrPrivate) {
			return notify.Refused(ErrPrivate), false
		}
		if u, ok := errors.AsType[*url.Error](err); ok && u.Timeout() {
			return errors.New("it did not answer in time"), false
		}
		return errors.New("it can't be reached"), false
	}
	said := fmt.Errorf("it answered %d", resp.StatusCode)
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil, false
	case code == http.StatusNotFound || code == http.StatusGone:
		return notify.Refused(said), true
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		return notify.Later(said, retryAfter(resp.Header.Get("Retry-After"))), false
	}
	return said, false
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3), of which a day is
// believed at most: whoever answers chooses it. 0: not said.
func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, 24*60*60)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(0, time.Until(t)), 24*time.Hour)
	}
	return 0
}
