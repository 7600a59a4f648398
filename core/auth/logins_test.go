package auth

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

func TestLogins(t *testing.T) {
	b := setupAccounts(t)
	me, first, _ := b.register(t, ana)
	var others []Identity
	for range 4 {
		b.clock.advance(time.Minute)
		tok, err := b.Login(WithOrigin(t.Context(), Origin{Network: "203.0.113.0/24"}), ana.Email, ana.Password, map[string]any{"model": "Pixel 9"})
		require.NoError(t, err)
		others = append(others, b.identity(t, tok))
	}
	require.Equal(t, 4, b.post.told(t, me.User, "new_login"))
	b.clock.advance(time.Minute)
	_, err := b.Refresh(t.Context(), first.Refresh)
	require.NoError(t, err)

	var all []Device
	cursor := ""
	for pages := 0; ; pages++ {
		list, next, err := b.Logins(t.Context(), me.User, cursor, 2)
		require.NoError(t, err)
		all = append(all, list...)
		if cursor = next; next == "" {
			require.Equal(t, 2, pages)
			break
		}
	}
	require.Len(t, all, 5)
	require.Equal(t, others[3].Login, all[0].Login, "the newest first")
	require.Equal(t, "203.0.113.0/24", all[0].Network)
	require.JSONEq(t, `{"model":"Pixel 9"}`, string(all[0].Info))
	require.Equal(t, me.Login, all[4].Login)
	require.True(t, all[4].LastUsed.After(all[4].Created))

	bob, _, _ := b.register(t, Account{"Bob", "bob@example.org", "correct horse"})
	require.ErrorIs(t, b.EndLogin(t.Context(), bob, me.Login), ErrLoginNotFound)
	require.Empty(t, b.told.logins)
	require.NoError(t, b.EndLogin(t.Context(), me, others[0].Login))
	require.NoError(t, b.EndLogin(t.Context(), me, others[0].Login), "again is a success")
	require.Equal(t, others[0].Login, b.told.logins[0], "told before it returned")
	n, err := b.EndOthers(t.Context(), me)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Contains(t, b.told.logins, others[3].Login)
	list, _, err := b.Logins(t.Context(), me.User, "", 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, me.Login, list[0].Login)
	n, err = b.EndOthers(t.Context(), me)
	require.NoError(t, err)
	require.Zero(t, n)

	// The user's other devices hear of each once.
	var events int
	require.NoError(t, b.db.Read(t.Context(), scan(&events, `SELECT coalesce(max(last), 0) FROM outbox_keys WHERE key = $1`, me.User.Key())))
	require.Equal(t, 4, events)

	b.clock.advance(time.Second)
	require.NoError(t, b.EndLogin(t.Context(), me, me.Login))
	_, err = b.EndOthers(t.Context(), me)
	require.ErrorIs(t, err, ErrSignedOut)
	require.Equal(t, EventSignedOut, b.kinds(t, me.User)[0])

	b.clock.advance(61 * 24 * time.Hour)
	list, _, err = b.Logins(t.Context(), bob.User, "", 10)
	require.NoError(t, err)
	require.Empty(t, list, "it can't be refreshed any more")
}

func TestAuditLog(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	for range 3 {
		b.clock.advance(time.Second)
		require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			return b.Audit(ctx, tx, id.User, EventGoogleLinked, id.Login, map[string]any{"n": 1})
		}))
	}
	list, next, err := b.Events(t.Context(), id.User, "", 3)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.EqualValues(t, 1, list[0].Data["n"])
	list, next, err = b.Events(t.Context(), id.User, next, 3)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, list, 1)
	require.Equal(t, EventRegistered, list[0].Kind)
	_, _, err = b.Events(t.Context(), id.User, "nonsense", 3)
	require.ErrorIs(t, err, core.ErrBadCursor)

	b.clock.advance(auditKept + time.Minute)
	require.NoError(t, b.Sweep(t.Context()))
	require.Empty(t, b.kinds(t, id.User))
}

// Failed sign-ins are noted, a few of a storm, and not of nobody.
func TestFailedSignInsAreNoted(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	for range 10 {
		_, err := b.Login(t.Context(), ana.Email, "wrong horse", nil)
		require.ErrorIs(t, err, ErrInvalidCredentials)
	}
	_, err := b.Login(t.Context(), "eve@example.org", "wrong horse", nil)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	var n int
	require.Eventually(t, func() bool {
		require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM audit_events WHERE user_id = $1 AND kind = $2`, id.User, string(EventSignInFailed))))
		return n == 5
	}, 10*time.Second, 5*time.Millisecond)
	require.Empty(t, b.failures.queue)
}

func TestRetire(t *testing.T) {
	b := setupAccounts(t)
	id, first, verify := b.register(t, ana)
	reset := b.forgot(t, ana.Email)[0].token
	proof, err := b.Reauthenticate(t.Context(), id, ana.Password)
	require.NoError(t, err)
	require.False(t, proof.Guest())
	require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := proof.Holds(ctx, tx); err != nil {
			return err
		}
		return b.Retire(ctx, tx, id.User)
	}))
	require.Equal(t, []core.LoginID{id.Login}, b.told.logins)
	_, err = b.Authenticate(t.Context(), first.Access)
	require.ErrorIs(t, err, ErrSignedOut)
	_, err = b.Refresh(t.Context(), first.Refresh)
	require.ErrorIs(t, err, ErrRefreshInvalid)
	_, err = b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	require.ErrorIs(t, b.Verify(t.Context(), verify), ErrTokenInvalid)
	require.ErrorIs(t, b.Reset(t.Context(), reset, "another horse"), ErrTokenInvalid)
	require.Empty(t, b.forgot(t, ana.Email))
	_, err = b.Register(t.Context(), Account{"Ana2", ana.Email, "correct horse"}, nil)
	require.NoError(t, err, "the address is free again")
}
