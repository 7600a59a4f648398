package httpapi

import (
	"context"
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

func TestIdempotencyKeys(t *testing.T) {
	b := setup(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	body := obj{"name": "Friday crew", "settings": obj{"b": 1, "a": 2}}
	first := b.ok("POST", "/groups", ana.token, body, "Idempotency-Key", "k-1")
	require.Empty(t, first.Header.Get("Idempotency-Replayed"))
	again := b.ok("POST", "/groups", ana.token, body, "Idempotency-Key", "k-1")
	require.Equal(t, string(first.raw), string(again.raw))
	require.Equal(t, first.StatusCode, again.StatusCode)
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.Equal(t, 1, b.count("groups"))

	a := b.refused(409, "idempotency_key_reused", "POST", "/groups", ana.token, obj{"name": "Another"}, "Idempotency-Key", "k-1")
	require.Equal(t, "header.Idempotency-Key", a.str("field"))
	g := "/groups/" + first.str("group_id")
	b.refused(409, "idempotency_key_reused", "POST", g+"/invite", ana.token, nil, "Idempotency-Key", "k-1")
	b.ok("POST", "/groups", bob.token, body, "Idempotency-Key", "k-1") // a key is a user's own
	require.Equal(t, 2, b.count("groups"))

	i := b.ok("POST", g+"/invite", ana.token, nil, "Idempotency-Key", "k-2")
	require.Equal(t, i.body, b.ok("POST", g+"/invite", ana.token, nil, "Idempotency-Key", "k-2").body)
	require.NotEqual(t, i.body, b.ok("POST", g+"/invite", ana.token, nil).body)
	require.Equal(t, 4, b.count("invites"))

	// What failed is not kept: it may be put right.
	b.refused(400, "bad_name", "POST", "/groups", ana.token, obj{"name": " "}, "Idempotency-Key", "k-3")
	b.ok("POST", "/groups", ana.token, obj{"name": "Now"}, "Idempotency-Key", "k-3")

	for _, bad := range []string{"with space", strings.Repeat("x", 129), "umlautä"} {
		b.refused(400, "bad_idempotency_key", "POST", "/groups", ana.token, body, "Idempotency-Key", bad)
	}

	b.advance(keepAnswers + time.Minute)
	ana.token = b.ok("POST", "/auth/refresh", "", obj{"refresh_token": ana.refresh}).str("token")
	before := b.count("groups")
	b.ok("POST", "/groups", ana.token, body, "Idempotency-Key", "k-1")
	require.Equal(t, before+1, b.count("groups"), "after a day a key is new")
	require.NoError(t, SweepIdempotencyKeys(t.Context(), b.db, b.clock()))
	require.Equal(t, 1, b.count("idempotency_keys"))
}

func TestConcurrentRequestsUnderOneKey(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	var wg sync.WaitGroup
	answers := make([]answer, 8)
	for i := range answers {
		wg.Go(func() {
			answers[i] = b.request("POST", "/groups", ana.token, obj{"name": "Friday crew"}, "Idempotency-Key", "storm")
		})
	}
	wg.Wait()
	for _, a := range answers {
		require.Equal(t, 201, a.StatusCode, "%s", a.raw)
		require.Equal(t, answers[0].body, a.body)
	}
	require.Equal(t, 1, b.count("groups"))
}
