package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/chat"
)

func TestRouterProblems(t *testing.T) {
	b := setup(t)
	b.refused(404, "not_found", "GET", "/nothing", "", nil)
	b.refused(404, "not_found", "GET", "/groups/a/b/c/d", "", nil)
	a := b.refused(405, "method_not_allowed", "DELETE", "/auth/login", "", nil)
	require.Equal(t, "POST", a.Header.Get("Allow"))
	a = b.refused(405, "method_not_allowed", "PATCH", "/groups", "", nil)
	require.Equal(t, "GET, HEAD, POST", a.Header.Get("Allow"))
	head := b.request("HEAD", "/edge", "", nil)
	require.Equal(t, 200, head.StatusCode)
	require.Empty(t, head.raw)
}

func TestMalformedBodies(t *testing.T) {
	b := setup(t)
	login := func(body any, headers ...string) answer {
		return b.refused(400, "bad_request", "POST", "/auth/login", "", body, headers...)
	}
	for name, body := range map[string]string{
		"nothing":          "",
		"no JSON":          "email=ana",
		"cut off":          `{"email":"ana@example.org"`,
		"two values":       `{"email":"a@b.c","password":"correct horse"} {}`,
		"a list":           `["email"]`,
		"null":             `null`,
		"a number":         `7`,
		"wrong type":       `{"email":7,"password":"correct horse"}`,
		"missing":          `{"email":"ana@example.org"}`,
		"unknown field":    `{"email":"ana@example.org","password":"correct horse","admin":true}`,
		"other case":       `{"Email":"ana@example.org","password":"correct horse"}`,
		"repeated field":   `{"email":"a@b.c","email":"x@y.z","password":"correct horse"}`,
		"invalid UTF-8":    "{\"email\":\"\xff\xfe@example.org\",\"password\":\"correct horse\"}",
		"NUL":              `{"email":"a\u0000@example.org","password":"correct horse"}`,
		"deeply nested":    `{"email":"a@b.c","password":"correct horse","device_info":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
		"very deep":        strings.Repeat("[", 30_000),
		"number too large": `{"email":"a@b.c","password":"correct horse","device_info":1e999}`,
	} {
		a := login(body)
		require.NotContains(t, string(a.raw), "correct horse", "%s: input is not echoed", name)
	}
	a := login(`{"email":"ana@example.org","password":"correct horse","admin":true}`)
	require.Equal(t, "body.admin", a.str("field"))
	require.Contains(t, a.str("detail"), "body.admin")
	a = login(`{"email":"a@b.c","email":"x@y.z","password":"correct horse"}`)
	require.Contains(t, a.str("detail"), `"email" twice`)
	b.refused(415, "unsupported_media_type", "POST", "/auth/login", "", "email=x", "Content-Type", "application/x-www-form-urlencoded")
	b.refused(400, "bad_username", "POST", "/auth/register", "", obj{"username": "<b>", "email": "a@example.org", "password": "correct horse"})
	b.refused(400, "bad_settings", "PUT", "/users/profile", b.guest("Ana").token, obj{"settings": obj{"x": strings.Repeat("a", 9000)}})
}

func TestLoneSurrogatesDontReachSQL(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	a := b.ok("PUT", "/users/profile", ana.token, `{"settings":{"x":"\ud800"}}`)
	require.Equal(t, "\ufffd", a.body["user"].(obj)["settings"].(obj)["x"])
}

// Ten megabytes are answered at once, declared or in chunks, and harm nobody.
func TestBigBodies(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	big := bytes.Repeat([]byte("x"), 10<<20)
	begin := time.Now()
	for _, path := range []string{"/auth/login", "/groups"} {
		a := b.refused(413, "too_large", "POST", path, ana.token, append([]byte(`{"name":"`), big...))
		require.Contains(t, a.str("detail"), "65536")
	}
	// In chunks: the length is not known before. The server may close before
	// all is sent; what matters is its answer.
	conn, err := net.Dial("tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(15*time.Second)))
	_, err = io.WriteString(conn, "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
	require.NoError(t, err)
	chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte("x"), 0x10000), "\r\n"...)...)
	for range 160 {
		if _, err := conn.Write(chunk); err != nil {
			break
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 413, resp.StatusCode)
	require.Less(t, time.Since(begin), 15*time.Second)
	b.ok("GET", "/users/profile", ana.token, nil)

	limit := 64 << 10
	head, tail := `{"refresh_token":"`, `"}`
	exact := head + strings.Repeat("x", limit-len(head)-len(tail)) + tail
	b.refused(401, "refresh_invalid", "POST", "/auth/refresh", "", exact)
	b.refused(413, "too_large", "POST", "/auth/refresh", "", exact+" ")
}

func TestHeaders(t *testing.T) {
	b := setup(t)
	a := b.request("GET", "/nothing", "", nil, "X-Request-Id", "my-request-1")
	require.Equal(t, "my-request-1", a.Header.Get("X-Request-Id"))
	require.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"))
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	a = b.request("GET", "/nothing", "", nil, "X-Request-Id", "bad id!")
	require.Regexp(t, `^[A-Z2-7]{26}$`, a.Header.Get("X-Request-Id"))
}

func TestCORS(t *testing.T) {
	b := setup(t)
	preflight := func(b *bundle, origin string) answer {
		return b.request("OPTIONS", "/groups", "", nil, "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,idempotency-key")
	}
	a := preflight(b, "https://app.example.org")
	require.Equal(t, 204, a.StatusCode)
	require.Equal(t, "https://app.example.org", a.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, a.Header.Get("Access-Control-Allow-Headers"), "Idempotency-Key")
	require.Equal(t, "Origin", a.Header.Get("Vary"))
	require.Empty(t, preflight(b, "https://evil.example").Header.Get("Access-Control-Allow-Origin"))
	a = b.request("GET", "/edge", "", nil, "Origin", "https://app.example.org")
	require.Equal(t, "https://app.example.org", a.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, a.Header.Get("Access-Control-Expose-Headers"), "Link")
	a = b.refused(404, "not_found", "GET", "/nothing", "", nil, "Origin", "https://app.example.org")
	require.Equal(t, "https://app.example.org", a.Header.Get("Access-Control-Allow-Origin"), "a page can read why")

	open := setup(t, func(c *Config) { c.Origins = []string{"*"} })
	require.Equal(t, "*", preflight(open, "https://evil.example").Header.Get("Access-Control-Allow-Origin"))
}

func TestAddressLimit(t *testing.T) {
	b := setup(t, func(c *Config) { c.AddressLimit = auth.Limit{Burst: 3, Every: 10 * time.Second} })
	for range 3 {
		b.ok("POST", "/auth/guest", "", obj{})
	}
	a := b.refused(429, "rate_limited", "POST", "/auth/guest", "", obj{})
	require.Equal(t, "10", a.Header.Get("Retry-After"))
	b.ok("GET", "/edge", "", nil)
	b.advance(10 * time.Second)
	ana := b.ok("POST", "/auth/guest", "", obj{})
	b.ok("POST", "/auth/refresh", "", obj{"refresh_token": ana.str("refresh_token")})

	// Guests are cheap: guessing invites is bounded by where they come from.
	for range 3 {
		b.refused(404, "invite_unknown", "POST", "/groups/join", ana.str("token"), obj{"invite_code": "BCDFGHJKM0"})
	}
	b.refused(429, "rate_limited", "POST", "/groups/join", ana.str("token"), obj{"invite_code": "BCDFGHJKM0"})
}

func TestUserLimit(t *testing.T) {
	b := setup(t, func(c *Config) {
		c.LoginLimit, c.UserLimit = auth.Limit{Burst: 2, Every: 10 * time.Second}, auth.Limit{Burst: 3, Every: 15 * time.Second}
	})
	account := obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse"}
	phone := b.ok("POST", "/auth/register", "", account).str("token")
	laptop := b.ok("POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "correct horse"}).str("token")
	bob := b.guest("Bob")
	a := b.ok("GET", "/groups", phone, nil)
	require.Equal(t, []string{`"login";q=2;w=20`, `"user";q=3;w=45`}, a.Header.Values("RateLimit-Policy"))
	require.Equal(t, []string{`"login";r=1;t=10`, `"user";r=2;t=15`}, a.Header.Values("RateLimit"))
	b.ok("GET", "/groups", phone, nil)
	a = b.refused(429, "rate_limited", "GET", "/groups", phone, nil)
	require.Equal(t, []string{`"login";r=0;t=20`}, a.Header.Values("RateLimit"))
	require.Equal(t, "10", a.Header.Get("Retry-After"))
	b.ok("GET", "/groups", laptop, nil)
	a = b.refused(429, "rate_limited", "GET", "/groups", laptop, nil)
	require.Equal(t, []string{`"login";r=0;t=20`, `"user";r=0;t=45`}, a.Header.Values("RateLimit"))
	b.ok("GET", "/groups", bob.token, nil)

	a = b.ok("POST", "/auth/guest", "", obj{})
	require.Equal(t, []string{`"address";q=1000;w=50`}, a.Header.Values("RateLimit-Policy"))
	require.Empty(t, b.ok("GET", "/edge", "", nil).Header.Values("RateLimit"))
	// A repeated answer counts like any other, and says what is left now.
	first := b.ok("POST", "/groups", b.guest("Eve").token, obj{"name": "x"}, keyHeader, "k")
	require.Len(t, first.Header.Values("RateLimit"), 2)
}

// What all nodes are called for is counted apart from what costs less.
func TestChangesAreLimited(t *testing.T) {
	b := setup(t, func(c *Config) { c.ChangeLimit = auth.Limit{Burst: 3, Every: 10 * time.Second} })
	ana, bo := b.guest("Ana"), b.guest("Bo")
	grant := obj{"audience": obj{"kind": "discoverable"}, "precision": "r8"}
	id := b.ok("POST", "/location/grants", ana.token, grant).str("grant_id")
	b.ok("PUT", "/location/sharing", ana.token, obj{"paused": true})
	b.ok("DELETE", "/location/me", ana.token, nil)
	zone := obj{"center": at(0), "radius": 100, "precision": "r8"}
	for path, body := range map[string]obj{
		"POST /location/grants": grant, "POST /location/zones": zone, "DELETE /location/grants/" + id: nil, "DELETE /location/me": nil,
		"PATCH /location/grants/" + id: {"precision": "r7"}, "PUT /location/sharing": {"paused": false}, "POST /location/links": {"precision": "r8", "expires_in": 3600},
		"PUT /location/track": {"on": true}, "POST /blocks": {"user_id": bo.id}, "PATCH /fleets/" + id: {"name": "x"},
		"PATCH /me/presence": {"invisible": true}, "PATCH /communication/sessions/" + id: {"locked": true}, "DELETE /communication/sessions/" + id: nil,
	} {
		method, path, _ := strings.Cut(path, " ")
		a := b.refused(429, "rate_limited", method, path, ana.token, body)
		require.Equal(t, "10", a.Header.Get("Retry-After"), path)
	}
	b.ok("GET", "/location/grants", ana.token, nil)
	b.report(ana, "", 0)
	b.ok("PUT", "/location/sharing", bo.token, obj{"paused": true})
	b.advance(10 * time.Second)
	b.ok("DELETE", "/location/me", ana.token, nil)
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		require.Equal(t, want, network(netip.MustParseAddr(in)).String())
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[::ffff:192.0.2.7]:99"
	require.Equal(t, "192.0.2.7", connectionAddr(r).String())
}

// panicking is Messages that break.
type panicking struct{ Messages }

func (panicking) History(context.Context, core.UserID, string, chat.Page) (chat.Listing, error) {
	panic("a bug")
}

func (panicking) Send(ctx context.Context, _ chat.Draft, _ string) (chat.Message, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		panic("a request's work has no end")
	}
	return chat.Message{}, fmt.Errorf("store: %w", context.DeadlineExceeded)
}

func TestPanicsAndTimeouts(t *testing.T) {
	b := setup(t, func(c *Config) { c.Messages = panicking{} })
	ana := b.guest("Ana")
	path := "/groups/" + b.group(ana) + "/messages"
	a := b.refused(500, "internal", "GET", path, ana.token, nil)
	require.NotContains(t, string(a.raw), "a bug")
	require.Contains(t, b.log.String(), "a bug")
	a = b.refused(503, "timeout", "POST", path, ana.token, obj{"client_id": "c", "body": "x"})
	require.Equal(t, "1", a.Header.Get("Retry-After"))
	b.ok("GET", "/groups", ana.token, nil)
}

// Nothing that identifies or admits somebody gets into the log.
func TestLogHasNoSecrets(t *testing.T) {
	b := setup(t)
	account := obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse"}
	in := b.ok("POST", "/auth/register", "", account)
	b.refused(401, "invalid_credentials", "POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "wrong horse"})
	b.ok("POST", "/auth/refresh", "", obj{"refresh_token": in.str("refresh_token")})
	b.refused(401, "refresh_reused", "POST", "/auth/refresh", "", obj{"refresh_token": in.str("refresh_token")})
	ana := b.guest("Ana Two")
	made := b.ok("POST", "/groups", ana.token, obj{"name": "Friday crew"})
	b.ok("DELETE", "/groups/"+made.str("group_id")+"/invites/"+made.str("invite_code"), ana.token, nil)
	log := b.log.String()
	require.Contains(t, log, `"operation":"register"`)
	for _, secret := range []string{"ana@example.org", "horse", "mrt_", in.str("token"), ana.token, "eyJ", made.str("invite_code"), "Friday", "127.0.0.1"} {
		require.NotContains(t, log, secret)
	}
}

func TestMetrics(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	b.ok("GET", "/groups", ana.token, nil)
	b.refused(404, "not_found", "GET", "/nothing", "", nil)
	n, err := testutil.GatherAndCount(b.metrics, "muster_http_request_duration_seconds")
	require.NoError(t, err)
	require.Equal(t, 3, n, "guest 200, list-groups 200, unknown 404")
}

func TestDocs(t *testing.T) {
	b := setup(t)
	page := b.request("GET", "/docs", "", nil)
	require.Equal(t, 200, page.StatusCode)
	require.Contains(t, string(page.raw), `/docs/swagger-ui-bundle.js`)
	require.NotContains(t, string(page.raw), "http://", "nothing from elsewhere")
	require.NotContains(t, string(page.raw), "https://")
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "script-src 'self'")
	require.Equal(t, "/* js */", string(b.request("GET", "/docs/swagger-ui-bundle.js", "", nil).raw))
	require.Equal(t, "/* css */", string(b.request("GET", "/docs/swagger-ui.css", "", nil).raw))
	require.Contains(t, string(b.request("GET", "/docs/docs.js", "", nil).raw), "openapi.json")
	bare := setup(t, func(c *Config) { c.Assets = nil })
	require.Equal(t, 200, bare.request("GET", "/docs", "", nil).StatusCode)
	require.Equal(t, 404, bare.request("GET", "/docs/swagger-ui.css", "", nil).StatusCode)
}

// What the check lets through, encoding/json reads; and it refuses whatever
// encoding/json refuses.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,"x",null,{"b":true}]}`, `[`, `{"a":1,"a":2}`, "\"\\ud800\"", `{"a"}`, `1 2`, "\xff", `"\u0000"`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkJSON(data) == nil {
			var v any
			if err := json.Unmarshal(data, &v); err != nil && !strings.Contains(err.Error(), "cannot unmarshal number") {
				t.Fatalf("%q passed, but: %v", data, err)
			}
		}
	})
}

// No body makes the server fail.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{`{"refresh_token":"x"}`, `{`, `{"refresh_token":{}}`, "\x00", `{"token":"a.b.c"}`, `[[[[`, `{"refresh_token":"\ud800\u0000"}`} {
		f.Add([]byte(s))
	}
	var b *bundle
	f.Fuzz(func(t *testing.T, body []byte) {
		if b == nil || b.t != t {
			b = setup(t)
		}
		for _, path := range []string{"/auth/refresh", "/auth/logout"} {
			a := b.request("POST", path, "", body)
			if a.StatusCode < 400 || a.StatusCode >= 500 {
				t.Fatalf("%s %q: %d %s", path, body, a.StatusCode, a.raw)
			}
		}
	})
}
