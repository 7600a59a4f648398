package egress_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/egress"
)

func TestPublic(t *testing.T) {
	for _, s := range []string{"1.1.1.1", "93.184.215.14", "2606:4700::1111", "172.32.0.1", "100.128.0.1"} {
		require.True(t, egress.Public(netip.MustParseAddr(s)), s)
	}
	for _, s := range []string{"127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3",
		"224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1",
		"::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::10.0.0.1", "2001:db8::1", "192.0.2.1", "198.18.0.1", "fec0::1", "::ffff:0:127.0.0.1", "4000::1"} {
		require.False(t, egress.Public(netip.MustParseAddr(s)), s)
	}
}

// Nobody has us wait for years.
func TestRetryAfterIsBounded(t *testing.T) {
	for _, after := range []string{"Fri, 31 Dec 9999 23:59:59 GMT", "999999999"} {
		said, gone := egress.Meaning(&http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {after}}}, nil)
		require.False(t, gone)
		_, wait := notify.Advice(said)
		require.Equal(t, 24*time.Hour, wait, after)
	}
}

func TestURLs(t *testing.T) {
	for _, s := range []string{"https://example.org/hook?x=1", "https://example.org:8443/"} {
		require.NoError(t, egress.CheckURL(s, false), s)
	}
	for _, s := range []string{"", "example.org", "http://example.org", "https://user:pass@example.org/", "https:///x", "https://127.0.0.1/", "https://[::1]/", "https://example.org/#x", "gopher://example.org"} {
		require.Error(t, egress.CheckURL(s, false), s)
	}
	require.NoError(t, egress.CheckURL("http://127.0.0.1:80/", true))
}

// A name that leads to this machine is refused when it is dialled, whatever it
// looked like; and so is what a server sends us on to.
func TestPrivateAddressesAreRefusedWhenDialled(t *testing.T) {
	reached := 0
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer inside.Close()
	public := egress.Client(false, time.Second)
	for _, u := range []string{inside.URL, "http://localhost:" + inside.URL[len("http://127.0.0.1:"):]} {
		_, err := public.Get(u)
		require.ErrorIs(t, err, egress.ErrPrivate, u)
	}
	require.Zero(t, reached)
	outside := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusFound))
	defer outside.Close()
	resp, err := egress.Client(true, time.Second).Get(outside.URL)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.Zero(t, reached)
}
