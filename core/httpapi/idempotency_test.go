package httpapi

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
)

func (b *bundle) count(table string) (n int) {
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n)
	}))
	return n
}

// same requires that an answer is another one's repetition: status, headers, body.
func same(t *testing.T, first, again answer) {
	t.Helper()
	require.Equal(t, first.StatusCode, again.StatusCode)
	require.Equal(t, string(first.raw), string(again.raw))
	require.Empty(t, first.Header.Get(replayedHeader))
	require.Equal(t, "true", again.Header.Get(replayedHeader))
	for _, name := range []string{"Content-Type", "Content-Length", "Link", "WWW-Authenticate"} {
		require.Equal(t, first.Header.Get(name), again.Header.Get(name), name)
	}
	require.NotEqual(t, first.Header.Get("X-Request-Id"), again.Header.Get("X-Request-Id"), "it is another request")
}

func TestIdempotencyKeys(t *testing.T) {
	b := setup(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	body := obj{"name": "Friday crew", "settings": obj{"b": 1, "a": 2}}
	first := b.ok("POST", "/groups", ana.token, body, keyHeader, "k-1")
	same(t, first, b.ok("POST", "/groups", ana.token, body, keyHeader, "k-1"))
	require.Equal(t, 201, first.StatusCode)
	require.Equal(t, 1, b.count("groups"))

	a := b.refused(409, "idempotency_key_reused", "POST", "/groups", ana.token, obj{"name": "Another"}, keyHeader, "k-1")
	require.Equal(t, "header.Idempotency-Key", a.str("field"))
	g := "/groups/" + first.str("group_id")
	b.refused(409, "idempotency_key_reused", "POST", g+"/invite", ana.token, nil, keyHeader, "k-1")
	b.ok("POST", "/groups", bob.token, body, keyHeader, "k-1") // a key is a user's own
	require.Equal(t, 2, b.count("groups"))

	i := b.ok("POST", g+"/invite", ana.token, nil, keyHeader, "k-2")
	same(t, i, b.ok("POST", g+"/invite", ana.token, nil, keyHeader, "k-2"))
	require.NotEqual(t, i.body, b.ok("POST", g+"/invite", ana.token, nil).body)
	require.Equal(t, 4, b.count("invites"))

	// What failed is not kept: it may be put right.
	b.refused(400, "bad_name", "POST", "/groups", ana.token, obj{"name": " "}, keyHeader, "k-3")
	b.ok("POST", "/groups", ana.token, obj{"name": "Now"}, keyHeader, "k-3")

	for _, bad := range []string{"with space", strings.Repeat("x", 129), "umlautä"} {
		b.refused(400, "bad_idempotency_key", "POST", "/groups", ana.token, body, keyHeader, bad)
	}

	b.advance(keepAnswers + time.Minute)
	ana.token = b.ok("POST", "/auth/refresh", "", obj{"refresh_token": ana.refresh}).str("token")
	before := b.count("groups")
	b.ok("POST", "/groups", ana.token, body, keyHeader, "k-1")
	require.Equal(t, before+1, b.count("groups"), "after a day a key is new")
	require.NoError(t, SweepIdempotencyKeys(t.Context(), b.db, b.clock()))
	require.Equal(t, 1, b.count("idempotent_answers"))
}

func TestConcurrentRequestsUnderOneKey(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	group := b.group(ana)
	for _, c := range []struct {
		method, path, table string
		body                any
		makes               int
	}{
		{"POST", "/groups", "groups", obj{"name": "Friday crew"}, 1},
		{"POST", "/groups/" + group + "/invite", "invites", nil, 1},
		{"POST", "/auth/register", "users", obj{"username": "Eve", "email": "eve@example.org", "password": "correct horse"}, 1},
		{"PUT", "/users/profile", "users", obj{"username": "Anna"}, 0},
	} {
		token := ana.token
		if strings.HasPrefix(c.path, "/auth") {
			token = ""
		}
		before := b.count(c.table)
		var wg sync.WaitGroup
		answers := make([]answer, 8)
		for i := range answers {
			wg.Go(func() {
				answers[i] = b.request(c.method, c.path, token, c.body, keyHeader, "storm-0123456789-"+c.table+c.method)
			})
		}
		wg.Wait()
		firsts := 0
		for _, a := range answers {
			require.Less(t, a.StatusCode, 300, "%s", a.raw)
			require.Equal(t, string(answers[0].raw), string(a.raw))
			if a.Header.Get(replayedHeader) == "" {
				firsts++
			}
		}
		require.Equal(t, 1, firsts)
		require.Equal(t, before+c.makes, b.count(c.table), c.path)
	}
	require.NotContains(t, b.log.String(), "request failed")
}

// Where nobody is signed in, a key counts for the account that the request names.
func TestIdempotencyKeysOfAccounts(t *testing.T) {
	b := setup(t)
	const key = "0123456789abcdef-1"
	eve := obj{"username": "Eve", "email": "eve@example.org", "password": "correct horse"}
	first := b.ok("POST", "/auth/register", "", eve, keyHeader, key)
	same(t, first, b.ok("POST", "/auth/register", "", eve, keyHeader, key))
	b.refused(409, "email_taken", "POST", "/auth/register", "", obj{"username": "Eva", "email": "eve@example.org", "password": "correct horse"}, keyHeader, key+"2")
	for _, other := range []obj{
		{"username": "Eve", "email": " EVE@example.org", "password": "wrong horse"},
		{"username": "Adam", "email": "eve@example.org", "password": "correct horse"},
	} {
		b.refused(409, "idempotency_key_reused", "POST", "/auth/register", "", other, keyHeader, key)
	}
	b.ok("POST", "/auth/register", "", obj{"username": "Adam", "email": "adam@example.org", "password": "correct horse"}, keyHeader, key)
	require.Equal(t, 2, b.count("users"))
	b.refused(400, "bad_idempotency_key", "POST", "/auth/guest", "", obj{}, keyHeader, "too-short")

	// A refresh whose answer was lost is asked again.
	refresh := obj{"refresh_token": first.str("refresh_token")}
	next := b.ok("POST", "/auth/refresh", "", refresh, keyHeader, key)
	same(t, next, b.ok("POST", "/auth/refresh", "", refresh, keyHeader, key))
	// Without the key it is theft: that is written although it is refused, and told.
	reused := b.refused(401, "refresh_reused", "POST", "/auth/refresh", "", refresh, keyHeader, key+"3")
	same(t, reused, b.request("POST", "/auth/refresh", "", refresh, keyHeader, key+"3"))
	require.Len(t, b.changes, 1)
	b.refused(401, "signed_out", "GET", "/users/profile", next.str("token"), nil)

	// The database holds no token, address or key that anybody could use.
	var rows string
	require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT string_agg(encode(id, 'escape') || encode(request, 'escape') || encode(answer, 'escape'), ' ') FROM idempotent_answers`).Scan(&rows)
	}))
	for _, secret := range []string{key, "eve@example.org", next.str("token"), next.str("refresh_token"), first.str("user_id"), "success", "refresh"} {
		require.NotContains(t, rows, secret)
	}
}

// What is told to others comes after the commit, once.
func TestKeysAndAnnouncements(t *testing.T) {
	b := setup(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	group := b.group(ana, bob)
	before := len(b.changes)
	for range 3 {
		b.ok("DELETE", "/groups/"+group+"/members/"+bob.id, ana.token, nil, keyHeader, "out")
	}
	require.Equal(t, "group:"+group+" 3", b.changes[before])
	told := len(b.changes)
	b.ok("DELETE", "/groups/"+group+"/members/"+bob.id, ana.token, nil, keyHeader, "out")
	require.Len(t, b.changes, told)
	b.refused(404, "member_not_found", "DELETE", "/groups/"+group+"/members/"+bob.id, ana.token, nil, keyHeader, "other")
}

// Every write takes the key, or says why not.
func TestEveryWriteTakesAKey(t *testing.T) {
	b := setup(t)
	for path, item := range b.ok("GET", "/openapi.json", "", nil).body["paths"].(obj) {
		for method, op := range item.(obj) {
			takes := 0
			for _, p := range list(op.(obj)["parameters"]) {
				if p.(obj)["name"] == keyHeader {
					takes++
				}
			}
			if method == "get" {
				require.Zero(t, takes, path)
			} else {
				require.Equal(t, 1, takes, "%s %s", method, path)
			}
		}
	}
}

func list(v any) []any { l, _ := v.([]any); return l }

func TestKeysOfBodiesTooLarge(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	b.refused(413, "too_large", "PUT", "/users/profile", ana.token, strings.Repeat(" ", 70<<10), keyHeader, "k")
	req, err := http.NewRequestWithContext(t.Context(), "PUT", b.server.URL+prefix+"/users/profile", chunks{strings.NewReader(strings.Repeat(" ", 70<<10))})
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+ana.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(keyHeader, "k")
	resp, err := b.server.Client().Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 413, resp.StatusCode)
}

// chunks hides how long a body is.
type chunks struct{ *strings.Reader }

func (c chunks) Read(p []byte) (int, error) { return c.Reader.Read(p) }
