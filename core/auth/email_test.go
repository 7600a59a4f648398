package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVerification(t *testing.T) {
	b := setupAccounts(t)
	ctx := WithOrigin(t.Context(), Origin{Network: "203.0.113.0/24", Language: "de"})
	tok, err := b.Register(ctx, ana, nil)
	require.NoError(t, err)
	id := b.identity(t, tok)
	mails := b.post.take()
	require.Len(t, mails, 1)
	require.Equal(t, "de", mails[0].language)
	first := mails[0].token
	b.clock.advance(time.Second)
	_, verified := b.verifiedAddress(t, id.User)
	require.False(t, verified, "it works at once, and waits for the mail")

	require.NoError(t, b.ResendVerification(t.Context(), id))
	second := b.post.one(t, ana.Email, "verify_email")
	require.NotEqual(t, first, second)
	for _, bad := range []string{"", "mmt_unknown", first + "x", tok.Refresh} {
		require.ErrorIs(t, b.Verify(t.Context(), bad), ErrTokenInvalid)
	}
	require.ErrorIs(t, b.Reset(t.Context(), first, "another horse"), ErrTokenInvalid, "good for nothing else")
	require.NoError(t, b.Verify(t.Context(), first), "the one before is still good: mails are slow")
	_, verified = b.verifiedAddress(t, id.User)
	require.True(t, verified)
	require.ErrorIs(t, b.Verify(t.Context(), first), ErrTokenInvalid, "once")
	require.ErrorIs(t, b.Verify(t.Context(), second), ErrTokenInvalid, "there is nothing more to confirm")
	require.NoError(t, b.ResendVerification(t.Context(), id))
	require.Empty(t, b.post.take())
	require.Equal(t, []EventKind{EventEmailVerified, EventRegistered}, b.kinds(t, id.User))
	list, _, err := b.Events(t.Context(), id.User, "", 10)
	require.NoError(t, err)
	require.Equal(t, "203.0.113.0/24", list[1].Network)
	require.Equal(t, id.Login, list[1].Login)

	g, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	require.ErrorIs(t, b.ResendVerification(t.Context(), b.identity(t, g)), ErrGuest)
}

func TestVerificationLapses(t *testing.T) {
	b := setupAccounts(t)
	_, _, token := b.register(t, ana)
	b.clock.advance(3 * 24 * time.Hour)
	require.ErrorIs(t, b.Verify(t.Context(), token), ErrTokenInvalid)
	b.clock.advance(2 * time.Hour)
	require.NoError(t, b.Sweep(t.Context()))
	var n int
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM account_tokens`)))
	require.Zero(t, n)
}

func TestMailsPerUser(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	for range mailsMost - 1 {
		require.NoError(t, b.ResendVerification(t.Context(), id))
		b.clock.advance(time.Minute)
	}
	require.ErrorIs(t, b.ResendVerification(t.Context(), id), ErrRateLimited)
	require.Len(t, b.post.take(), mailsMost-1)
	b.clock.advance(mailWindow - 4*time.Minute + time.Second)
	id.Expires = b.clock.now()
	require.NoError(t, b.ResendVerification(t.Context(), id), "the first is an hour old")
}

func TestMailTokensAreStoredAsHashes(t *testing.T) {
	b := setupAccounts(t)
	_, _, token := b.register(t, ana)
	var n int
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM account_tokens WHERE hash = $1`, refreshHash(token))))
	require.Equal(t, 1, n)
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM account_tokens t WHERE position($1 IN t::TEXT) > 0`, token)))
	require.Zero(t, n)
}

func TestChangeOfAddress(t *testing.T) {
	b := setupAccounts(t)
	id, _, verify := b.register(t, ana)
	require.ErrorIs(t, b.ChangeEmail(t.Context(), id, "new@example.org", "wrong horse"), ErrWrongPassword)
	require.ErrorIs(t, b.ChangeEmail(t.Context(), id, "nonsense", ana.Password), ErrBadEmail)
	require.NoError(t, b.ChangeEmail(t.Context(), id, "typo@example.org", ana.Password))
	typo := b.post.one(t, "typo@example.org", "verify_email")
	require.NoError(t, b.ChangeEmail(t.Context(), id, "New@example.org", ana.Password))
	change := b.post.one(t, "New@example.org", "verify_email")
	require.ErrorIs(t, b.Verify(t.Context(), typo), ErrTokenInvalid, "only one address is on its way")

	email, verified := b.verifiedAddress(t, id.User)
	require.Equal(t, ana.Email, email, "until it is confirmed")
	require.False(t, verified)
	require.NoError(t, b.Verify(t.Context(), change))
	b.post.one(t, ana.Email, "email_changed")
	email, verified = b.verifiedAddress(t, id.User)
	require.Equal(t, "New@example.org", email)
	require.True(t, verified)
	require.ErrorIs(t, b.Verify(t.Context(), change), ErrTokenInvalid)
	require.ErrorIs(t, b.Verify(t.Context(), verify), ErrTokenInvalid, "what went to the old address proves nothing of the new one")

	_, err := b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	_, err = b.Login(t.Context(), "new@example.org", ana.Password, nil)
	require.NoError(t, err)
	require.Empty(t, b.forgot(t, ana.Email), "the old address opens nothing")
	require.ElementsMatch(t, []EventKind{EventEmailChanged, EventEmailAsked, EventEmailAsked, EventRegistered},
		slices.DeleteFunc(b.kinds(t, id.User), func(k EventKind) bool { return k == EventSignedIn || k == EventSignInFailed }))

	g, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	require.ErrorIs(t, b.ChangeEmail(t.Context(), b.identity(t, g), "g@example.org", ""), ErrGuest)
}

// Whether somebody has the address is told to its reader only.
func TestChangeToAnAddressOfOthers(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	b.register(t, Account{"Bob", "bob@example.org", "correct horse"})
	require.NoError(t, b.ChangeEmail(t.Context(), id, "bob@example.org", ana.Password))
	token := b.post.one(t, "bob@example.org", "verify_email")
	require.ErrorIs(t, b.Verify(t.Context(), token), ErrEmailTaken)
	email, _ := b.verifiedAddress(t, id.User)
	require.Equal(t, ana.Email, email)
}

// A new password takes back what whoever knew the old one asked for.
func TestNewPasswordVoidsAddressOnItsWay(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	require.NoError(t, b.ChangeEmail(t.Context(), id, "thief@example.org", ana.Password))
	thief := b.post.one(t, "thief@example.org", "verify_email")
	mails := b.forgot(t, ana.Email)
	require.Len(t, mails, 1)
	require.NoError(t, b.Reset(t.Context(), mails[0].token, "another horse"))
	require.ErrorIs(t, b.Verify(t.Context(), thief), ErrTokenInvalid)
	email, verified := b.verifiedAddress(t, id.User)
	require.Equal(t, ana.Email, email)
	require.True(t, verified, "who resets it reads its mail")
}

// A token that many send at once is good for one of them; two addresses on their
// way to two users end with one.
func TestConcurrentVerification(t *testing.T) {
	b := setupAccounts(t)
	_, _, token := b.register(t, ana)
	require.Equal(t, 1, wins(t, 6, func(int) error { return b.Verify(t.Context(), token) }, ErrTokenInvalid))

	var change []string
	for _, name := range []string{"Bob", "Cy", "Di"} {
		id, _, _ := b.register(t, Account{name, name + "@example.org", "correct horse"})
		require.NoError(t, b.ChangeEmail(t.Context(), id, "one@example.org", "correct horse"))
		change = append(change, b.post.one(t, "one@example.org", "verify_email"))
	}
	require.Equal(t, 1, wins(t, 3, func(i int) error { return b.Verify(t.Context(), change[i]) }, ErrEmailTaken))
}

// wins calls n at once and returns how many succeeded; the others fail with one of
// the errors that are given.
func wins(t *testing.T, n int, call func(int) error, otherwise ...error) (won int) {
	t.Helper()
	results := make([]error, n)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i] = call(i) })
	}
	wg.Wait()
	for _, err := range results {
		if err == nil {
			won++
		} else if !slices.ContainsFunc(otherwise, func(o error) bool { return errors.Is(err, o) }) {
			t.Errorf("unexpected: %v", err)
		}
	}
	return won
}

func TestNetworkOf(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24", "2001:db8:1:2:3::4": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
	} {
		require.Equal(t, want, NetworkOf(netip.MustParseAddr(in)))
	}
	require.Empty(t, NetworkOf(netip.Addr{}))
	require.Equal(t, Origin{}, originOf(context.Background()))
}

// A mail names the device in words that are no link.
func TestDeviceName(t *testing.T) {
	for info, want := range map[string]string{
		`{}`: "", `"Firefox on Linux"`: "Firefox on Linux", `{"model":"Pixel 9"}`: "Pixel 9", `{"name":7}`: "", `[1]`: "",
		`{"name":"https://evil.example/a@b"}`: "https   evil.example a b", `{"name":"a\nb"}`: "",
	} {
		require.Equal(t, want, deviceName([]byte(info)), info)
	}
}
