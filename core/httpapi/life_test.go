package httpapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

func TestLifeOfAnAccount(t *testing.T) {
	b := setup(t)
	g := b.ok("POST", "/auth/guest", "", obj{})
	require.Equal(t, "no-store", g.Header.Get("Cache-Control"))
	token := g.str("token")
	p := b.ok("GET", "/users/profile", token, nil)
	require.Empty(t, p.str("email"))
	group := b.group(person{token: token})

	up := b.ok("POST", "/auth/upgrade", token, obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse"})
	require.Equal(t, g.str("user_id"), up.str("user_id"))
	token = up.str("token")
	require.Equal(t, "ana@example.org", b.ok("GET", "/users/profile", token, nil).str("email"))
	b.ok("GET", "/groups/"+group, token, nil)
	b.refused(409, "not_guest", "POST", "/auth/upgrade", token, obj{"username": "Ana2", "email": "ana2@example.org", "password": "correct horse"})
	b.refused(409, "email_taken", "POST", "/auth/register", "", obj{"username": "Eve", "email": "ana@example.org", "password": "correct horse"})
	b.refused(409, "username_taken", "POST", "/auth/guest", "", obj{"username": "ANA"})
	a := b.refused(401, "invalid_credentials", "POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "wrong horse"})
	require.Contains(t, a.Header.Get("WWW-Authenticate"), "Bearer")

	in := b.ok("POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "correct horse", "device_info": "a string is fine"})
	next := b.ok("POST", "/auth/refresh", "", obj{"refresh_token": in.str("refresh_token")})
	b.refused(401, "refresh_reused", "POST", "/auth/refresh", "", obj{"refresh_token": in.str("refresh_token")})
	b.refused(401, "signed_out", "POST", "/auth/refresh", "", obj{"refresh_token": next.str("refresh_token")})
	b.refused(401, "signed_out", "GET", "/users/profile", next.str("token"), nil)

	b.ok("GET", "/users/profile", token, nil) // another login of the same user
	b.advance(16 * time.Minute)
	b.refused(401, "token_expired", "GET", "/users/profile", token, nil)
	b.ok("POST", "/auth/logout", token, nil) // by header, without a body, and late
	b.refused(401, "signed_out", "POST", "/auth/refresh", "", obj{"refresh_token": up.str("refresh_token")})
	b.refused(401, "unauthenticated", "POST", "/auth/logout", "", nil)
	b.refused(401, "unauthenticated", "GET", "/users/profile", "", nil)
	b.refused(401, "unauthenticated", "GET", "/users/profile", "a.b.c", nil)
	require.Len(t, b.changes, 2, "edges were told of both ends: %v", b.changes)

	keys := b.ok("GET", "/auth/keys", "", nil)
	require.Equal(t, "application/jwk-set+json", keys.Header.Get("Content-Type"))
	require.Equal(t, "public, max-age=300", keys.Header.Get("Cache-Control"))
	set := keys.body["keys"].([]any)
	require.Len(t, set, 1)
	key := set[0].(obj)
	for k, v := range map[string]string{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"} {
		require.Equal(t, v, key[k])
	}
	require.NotContains(t, key, "d", "never the private part")
}

func TestLifeOfAGroup(t *testing.T) {
	b := setup(t)
	ana, bob, cy, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Cy"), b.guest("Eve")
	made := b.ok("POST", "/groups", ana.token, obj{"name": "Friday crew"})
	require.Equal(t, http.StatusCreated, made.StatusCode)
	id := made.str("group_id")
	g := "/groups/" + id
	first := b.ok("POST", "/groups/join", bob.token, obj{"invite_code": strings.ToLower(made.str("invite_code"))})
	again := b.ok("POST", "/groups/join", bob.token, obj{"invite_code": made.str("invite_code")})
	require.Equal(t, first.body, again.body)
	require.Equal(t, []string{"group:" + id + " 2"}, b.changes)

	once := b.ok("POST", g+"/invite", bob.token, obj{"max_uses": 1, "expires_in": 3600})
	list := b.ok("GET", g+"/invites", ana.token, nil).body["invites"].([]any)
	require.Len(t, list, 2)
	require.EqualValues(t, 1, list[1].(obj)["max_uses"])
	link := list[1].(obj)["link"].(string)
	require.Equal(t, "https://example.org/join/"+once.str("invite_code"), link)
	b.ok("POST", "/groups/join", cy.token, obj{"invite_code": link})
	b.refused(410, "invite_used_up", "POST", "/groups/join", eve.token, obj{"invite_code": link})
	b.refused(404, "invite_unknown", "POST", "/groups/join", eve.token, obj{"invite_code": "nonsense"})

	for _, path := range []string{g, g + "/members", g + "/invites", g + "/messages"} {
		b.refused(404, "not_member", "GET", path, eve.token, nil)
	}
	b.refused(404, "not_member", "PUT", g, eve.token, obj{"name": "mine"})
	b.refused(400, "bad_request", "GET", "/groups/"+strings.ToUpper(id), ana.token, nil)
	b.refused(403, "role_required", "PUT", g, bob.token, obj{"name": "mine"})
	require.Equal(t, "Saturday crew", b.ok("PUT", g, ana.token, obj{"name": "Saturday crew"}).body["group"].(obj)["name"])
	field := b.refused(400, "bad_name", "PUT", g, ana.token, obj{"name": ""})
	require.Equal(t, "body.name", field.str("field"))

	m := b.ok("PUT", g+"/members/"+bob.id, ana.token, obj{"role": "admin"})
	require.Equal(t, "admin", m.body["member"].(obj)["role"])
	b.ok("DELETE", g+"/members/"+cy.id, bob.token, nil)
	b.refused(404, "not_member", "GET", g, cy.token, nil)
	b.refused(404, "member_not_found", "DELETE", g+"/members/"+cy.id, bob.token, nil)
	for _, code := range []string{"nonsense", "%ff", "%00", "BCDFGHJKM0"} {
		b.refused(404, "invite_unknown", "DELETE", g+"/invites/"+code, bob.token, nil)
	}
	b.ok("DELETE", g+"/invites/"+made.str("invite_code"), bob.token, nil)
	b.refused(410, "invite_revoked", "POST", "/groups/join", eve.token, obj{"invite_code": made.str("invite_code")})
	b.refused(409, "owner_must_transfer", "POST", g+"/leave", ana.token, nil)
	b.ok("POST", g+"/transfer", ana.token, obj{"user_id": bob.id})
	b.ok("POST", g+"/leave", ana.token, nil)
	fresh := b.ok("POST", g+"/invite", bob.token, nil)
	b.advance(8 * 24 * time.Hour) // tokens too have expired
	bob.token = b.ok("POST", "/auth/refresh", "", obj{"refresh_token": bob.refresh}).str("token")
	eve.token = b.ok("POST", "/auth/refresh", "", obj{"refresh_token": eve.refresh}).str("token")
	b.refused(410, "invite_expired", "POST", "/groups/join", eve.token, obj{"invite_code": fresh.str("invite_code")})
	b.ok("DELETE", g, bob.token, nil)
	b.refused(404, "not_member", "GET", g, bob.token, nil)
}

func TestPagesByLink(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	require.JSONEq(t, `{"groups":[]}`, string(b.ok("GET", "/groups", ana.token, nil).raw))
	for range 5 {
		b.group(ana)
	}
	seen, pages := map[string]bool{}, 0
	for path := "/groups?limit=2"; path != ""; pages++ {
		a := b.ok("GET", path, ana.token, nil)
		for _, g := range a.body["groups"].([]any) {
			seen[g.(obj)["group_id"].(string)] = true
		}
		path = ""
		if link := a.Header.Get("Link"); link != "" {
			target, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"+prefix), `>; rel="next"`)
			require.True(t, ok, link)
			_, err := url.Parse(target)
			require.NoError(t, err)
			path = target
		}
	}
	require.Len(t, seen, 5)
	require.Equal(t, 3, pages)
	b.refused(400, "bad_cursor", "GET", "/groups?cursor=x", ana.token, nil)
	b.refused(400, "bad_request", "GET", "/groups?limit=0", ana.token, nil)
	b.refused(400, "bad_request", "GET", "/groups?limit=x", ana.token, nil)
	b.refused(400, "bad_request", "GET", "/groups?offset=7", ana.token, nil)
}

func TestMessages(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	g := b.group(ana, bob)
	path := "/groups/" + g + "/messages"
	require.JSONEq(t, `{"messages":[],"more":false}`, string(b.ok("GET", path, ana.token, nil).raw))
	for i := range 5 {
		a := b.ok("POST", path, ana.token, obj{"client_id": fmt.Sprint("c", i), "body": fmt.Sprint("hello ", i)})
		require.EqualValues(t, i+1, a.body["number"])
		require.Equal(t, "Ana", a.str("sender_name"))
	}
	a := b.ok("POST", path, ana.token, obj{"client_id": "c4", "body": "hello 4"})
	require.EqualValues(t, 5, a.body["number"], "a repeated one is answered with the first")
	b.refused(409, "idempotency_key_reused", "POST", path, ana.token, obj{"client_id": "c4", "body": "something else"})
	b.ok("POST", path, bob.token, obj{"body": "by key"}, "Idempotency-Key", "k1")
	b.ok("POST", path, bob.token, obj{"body": "by key"}, "Idempotency-Key", "k1")
	require.Len(t, b.sent.spread, 6, "each once")

	page := b.ok("GET", path+"?limit=2", bob.token, nil)
	require.Equal(t, true, page.body["more"])
	require.EqualValues(t, 5, page.body["messages"].([]any)[0].(obj)["number"])
	require.Equal(t, "<"+prefix+path+`?before=5&limit=2>; rel="next"`, page.Header.Get("Link"))
	page = b.ok("GET", path+"?after=1&limit=2", bob.token, nil)
	require.EqualValues(t, 2, page.body["messages"].([]any)[0].(obj)["number"])
	require.Equal(t, "<"+prefix+path+`?after=3&limit=2>; rel="next"`, page.Header.Get("Link"))

	b.refused(404, "not_member", "POST", path, eve.token, obj{"client_id": "x", "body": "let me in"})
	b.refused(400, "bad_message", "POST", path, ana.token, obj{"client_id": "x", "body": ""})
	b.refused(400, "bad_message", "POST", path, ana.token, obj{"body": "no client id"})
	b.refused(400, "bad_message", "POST", path, ana.token, obj{"client_id": "x", "body": strings.Repeat("x", 4001)})
	b.refused(400, "bad_request", "GET", path+"?before=3&after=1", ana.token, nil)
	b.refused(400, "bad_request", "GET", path+"?before=-1", ana.token, nil)
}

func TestEdge(t *testing.T) {
	asked := &testEdges{}
	b := setup(t, func(c *Config) { c.Edges = asked })
	a := b.ok("GET", "/edge", "", nil)
	require.JSONEq(t, `{"cert_sha256":"AAAA","ttl_s":300,"regions":[{"name":"eu-west","lat":53.3,"lng":-6.2,"state":"up","load":0.25,"nodes":[
		{"id":"eu-west-1","http":"http://127.0.1.1:1","ws":"ws://127.0.1.1:1/ws","wt":"https://127.0.1.1:2/wt","state":"up"}]}]}`, string(a.raw))
	require.Equal(t, "private, no-cache", a.Header.Get("Cache-Control"))
	require.True(t, asked.last.Addr.IsLoopback(), "where the connection comes from")
	require.Nil(t, asked.last.At)
	b.refused(404, "no_demo", "GET", "/demo", "", nil)

	b.ok("GET", "/edge?lat=0&lng=0&region=us-east&rtt=eu-west:23.5&rtt=us-east:90", "", nil)
	require.Equal(t, &geo.Point{}, asked.last.At)
	require.Equal(t, "us-east", asked.last.Region)
	require.Equal(t, map[string]time.Duration{"eu-west": 23500 * time.Microsecond, "us-east": 90 * time.Millisecond}, asked.last.RTT)
	require.NotContains(t, b.log.String(), "lat=", "positions are not logged")
	for _, bad := range []string{"lat=1", "lng=1", "lat=91&lng=0", "lat=0&lng=181", "lat=x&lng=0", "rtt=eu-west", "rtt=eu-west:-1", "rtt=eu-west:NaN", "region=" + strings.Repeat("x", 64), "place=here"} {
		b.refused(400, "bad_request", "GET", "/edge?"+bad, "", nil)
	}

	// Behind a proxy that is trusted, its word counts.
	behind := setup(t, func(c *Config) {
		c.Edges = asked
		c.ClientAddr = func(r *http.Request) netip.Addr { return netip.MustParseAddr(r.Header.Get("X-Forwarded-For")) }
	})
	behind.ok("GET", "/edge", "", nil, "X-Forwarded-For", "137.158.1.1")
	require.Equal(t, netip.MustParseAddr("137.158.1.1"), asked.last.Addr)
}

func TestEdgeProbe(t *testing.T) {
	b := setup(t)
	a := b.ok("GET", "/edge/probe", "", nil, "Origin", "https://app.example.org")
	require.Equal(t, 204, a.StatusCode)
	require.Empty(t, a.raw)
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	require.Equal(t, "*", a.Header.Get("Timing-Allow-Origin"))
	require.Equal(t, "https://app.example.org", a.Header.Get("Access-Control-Allow-Origin"))
}
