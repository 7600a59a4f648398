package auth

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// scan returns a Read function that scans one value.
func scan(dst any, sql string, args ...any) func(context.Context, db.Querier) error {
	return func(ctx context.Context, q db.Querier) error { return q.QueryRow(ctx, sql, args...).Scan(dst) }
}

// told records what the edges were told.
type told struct {
	mu     sync.Mutex
	logins []core.LoginID
}

func (a *told) LoginRevoked(_ context.Context, l core.LoginID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logins = append(a.logins, l)
}

type bundle struct {
	*Service
	db    *db.DB
	clock *clock
	told  *told
}

func setup(t *testing.T) *bundle {
	b := &bundle{db: devdb.Test(t), clock: newClock(), told: &told{}}
	s, err := New(b.db, []byte(testSecret), "eu-west", Config{
		VerifierConfig: VerifierConfig{Now: b.clock.now}, Hash: cheap, Announce: b.told,
	})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	b.Service = s
	return b
}

var ana = Account{Username: "Ana", Email: "ana@example.org", Password: "correct horse"}

func (b *bundle) identity(t *testing.T, tok Tokens) Identity {
	id, err := b.Authenticate(t.Context(), tok.Access)
	require.NoError(t, err)
	return id
}

func TestAccountLife(t *testing.T) {
	b := setup(t)
	first, err := b.Register(t.Context(), ana, map[string]any{"model": "test"})
	require.NoError(t, err)
	id := b.identity(t, first)
	require.Equal(t, first.User, id.User)
	require.Equal(t, "Ana", id.Name)
	require.False(t, id.Guest)

	for _, email := range []string{"ana@example.org", "ANA@Example.ORG", " ana@example.org "} {
		second, err := b.Login(t.Context(), email, "correct horse", nil)
		require.NoError(t, err)
		require.Equal(t, first.User, second.User)
		require.NotEqual(t, id.Login, b.identity(t, second).Login, "a login per device")
	}
	for _, try := range [][2]string{{"ana@example.org", "wrong horse"}, {"bob@example.org", "correct horse"}, {"nonsense", "correct horse"}, {"ana@example.org", ""}} {
		_, err := b.Login(t.Context(), try[0], try[1], nil)
		require.ErrorIs(t, err, ErrInvalidCredentials)
	}

	require.NoError(t, b.Logout(t.Context(), first.Access))
	require.Equal(t, []core.LoginID{id.Login}, b.told.logins, "told before Logout returned")
	_, err = b.Authenticate(t.Context(), first.Access)
	require.ErrorIs(t, err, ErrSignedOut)
	_, err = b.Refresh(t.Context(), first.Refresh)
	require.ErrorIs(t, err, ErrSignedOut)
	require.NoError(t, b.Logout(t.Context(), first.Access), "again is a success")
	require.ErrorIs(t, b.Logout(t.Context(), "nonsense"), ErrUnauthenticated)
}

func TestRegisterRefusals(t *testing.T) {
	b := setup(t)
	_, err := b.Register(t.Context(), ana, nil)
	require.NoError(t, err)
	for _, c := range []struct {
		account Account
		want    error
	}{
		{Account{"ANA", "other@example.org", "correct horse"}, ErrUsernameTaken},
		{Account{"Other", "Ana@EXAMPLE.org", "correct horse"}, ErrEmailTaken},
		{Account{"a", "o@example.org", "correct horse"}, core.ErrBadUsername},
		{Account{"Other", "no address", "correct horse"}, ErrBadEmail},
		{Account{"Other", "Ana <ana@example.org>", "correct horse"}, ErrBadEmail},
		{Account{"Other", "o@example.org", "short"}, ErrBadPassword},
	} {
		_, err := b.Register(t.Context(), c.account, nil)
		require.ErrorIs(t, err, c.want, "%+v", c.account)
	}
	_, err = b.Register(t.Context(), Account{"Other", "o@example.org", "correct horse"}, map[string]any{"x": string(make([]byte, 3000))})
	require.ErrorIs(t, err, ErrBadDeviceInfo)
	var users int
	require.NoError(t, b.db.Read(t.Context(), scan(&users, `SELECT count(*) FROM users`)))
	require.Equal(t, 1, users, "a refusal writes nothing")
}

func TestConcurrentRegistrationsOfOneName(t *testing.T) {
	b := setup(t)
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { _, results[i] = b.Register(t.Context(), ana, nil) })
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrUsernameTaken) && !errors.Is(err, ErrEmailTaken) {
			t.Error(err)
		}
	}
	require.Equal(t, 1, won)
}

func TestRefreshRotatesAndDetectsReuse(t *testing.T) {
	b := setup(t)
	t0, err := b.Register(t.Context(), ana, nil)
	require.NoError(t, err)
	login := b.identity(t, t0).Login
	t1, err := b.Refresh(t.Context(), t0.Refresh)
	require.NoError(t, err)
	require.NotEqual(t, t0.Refresh, t1.Refresh)
	require.Equal(t, login, b.identity(t, t1).Login)
	t2, err := b.Refresh(t.Context(), t1.Refresh)
	require.NoError(t, err)

	_, err = b.Refresh(t.Context(), t0.Refresh)
	require.ErrorIs(t, err, ErrRefreshReused)
	require.Equal(t, []core.LoginID{login}, b.told.logins)
	_, err = b.Refresh(t.Context(), t2.Refresh)
	require.ErrorIs(t, err, ErrSignedOut, "the newest one is dead too")
	_, err = b.Authenticate(t.Context(), t2.Access)
	require.ErrorIs(t, err, ErrSignedOut)

	_, err = b.Refresh(t.Context(), "mrt_unknown")
	require.ErrorIs(t, err, ErrRefreshInvalid)

	again, err := b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.NoError(t, err, "the account is not harmed")
	b.clock.advance(61 * 24 * time.Hour)
	_, err = b.Refresh(t.Context(), again.Refresh)
	require.ErrorIs(t, err, ErrRefreshInvalid, "expired")
}

func TestConcurrentRefreshGivesOneToken(t *testing.T) {
	b := setup(t)
	tok, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	results := make([]error, 6)
	for i := range results {
		wg.Go(func() { _, results[i] = b.Refresh(t.Context(), tok.Refresh) })
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
		} else if !errors.Is(err, ErrRefreshReused) && !errors.Is(err, ErrSignedOut) {
			t.Error(err)
		}
	}
	require.Equal(t, 1, won)
}

func TestStoredTokensAreHashes(t *testing.T) {
	b := setup(t)
	tok, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	var n int
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM refresh_tokens WHERE hash = $1`, refreshHash(tok.Refresh))))
	require.Equal(t, 1, n)
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM refresh_tokens WHERE hash = $1`, []byte(tok.Refresh))))
	require.Zero(t, n)
}

func TestGuestAndUpgrade(t *testing.T) {
	b := setup(t)
	_, err := b.Register(t.Context(), ana, nil)
	require.NoError(t, err)
	_, err = b.Guest(t.Context(), "ana", nil)
	require.ErrorIs(t, err, ErrUsernameTaken)

	g, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	id := b.identity(t, g)
	require.True(t, id.Guest)
	require.Regexp(t, `^guest-[a-z2-7]{8}$`, id.Name)

	_, err = b.Upgrade(t.Context(), id, Account{"Ana", "bob@example.org", "correct horse"})
	require.ErrorIs(t, err, ErrUsernameTaken)
	up, err := b.Upgrade(t.Context(), id, Account{"Bob", "bob@example.org", "correct horse"})
	require.NoError(t, err)
	now := b.identity(t, up)
	require.Equal(t, id.User, now.User, "the same user")
	require.Equal(t, id.Login, now.Login, "the same login")
	require.False(t, now.Guest)
	require.Equal(t, "Bob", now.Name)

	_, err = b.Upgrade(t.Context(), now, Account{"Bob2", "bob2@example.org", "correct horse"})
	require.ErrorIs(t, err, ErrNotGuest)
	in, err := b.Login(t.Context(), "bob@example.org", "correct horse", nil)
	require.NoError(t, err)
	require.Equal(t, g.User, in.User)
	_, err = b.Refresh(t.Context(), up.Refresh)
	require.NoError(t, err)
	_, err = b.Refresh(t.Context(), g.Refresh)
	require.ErrorIs(t, err, ErrRefreshReused, "the guest's token was replaced")
}

func TestLateLogout(t *testing.T) {
	b := setup(t)
	tok, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	b.clock.advance(23 * time.Hour)
	_, err = b.Authenticate(t.Context(), tok.Access)
	require.ErrorIs(t, err, ErrTokenExpired)
	require.NoError(t, b.Logout(t.Context(), tok.Access))
	_, err = b.Refresh(t.Context(), tok.Refresh)
	require.ErrorIs(t, err, ErrSignedOut)

	other, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	b.clock.advance(25 * time.Hour)
	require.ErrorIs(t, b.Logout(t.Context(), other.Access), ErrTokenExpired)
}

func TestRevokedSince(t *testing.T) {
	b := setup(t)
	var want []core.LoginID
	for range 3 {
		b.clock.advance(time.Minute)
		tok, err := b.Guest(t.Context(), "", nil)
		require.NoError(t, err)
		want = append(want, b.identity(t, tok).Login)
		require.NoError(t, b.Logout(t.Context(), tok.Access))
	}
	all, err := b.RevokedSince(t.Context(), b.clock.now().Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, want, all)
	last, err := b.RevokedSince(t.Context(), b.clock.now())
	require.NoError(t, err)
	require.Equal(t, want[2:], last)
}

func TestSweep(t *testing.T) {
	b := setup(t)
	old, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	b.clock.advance(59 * 24 * time.Hour)
	_, err = b.Refresh(t.Context(), old.Refresh)
	require.NoError(t, err)
	idle, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	count := func(table string) (n int) {
		require.True(t, slices.Contains([]string{"logins", "refresh_tokens"}, table))
		require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM `+table)))
		return n
	}
	b.clock.advance(2 * 24 * time.Hour)
	require.NoError(t, b.Sweep(t.Context()))
	require.Equal(t, 2, count("logins"), "both can still be refreshed")
	require.Equal(t, 2, count("refresh_tokens"))
	b.clock.advance(60 * 24 * time.Hour)
	require.NoError(t, b.Sweep(t.Context()))
	require.Zero(t, count("logins"))
	require.Zero(t, count("refresh_tokens"))
	_, err = b.Refresh(t.Context(), idle.Refresh)
	require.ErrorIs(t, err, ErrRefreshInvalid)
}

func TestAttemptsPerAccount(t *testing.T) {
	b := setup(t)
	_, err := b.Register(t.Context(), ana, nil)
	require.NoError(t, err)
	for range 20 {
		_, err := b.Login(t.Context(), "ANA@example.org", "wrong horse", nil)
		require.ErrorIs(t, err, ErrInvalidCredentials)
	}
	_, err = b.Login(t.Context(), "ana@example.org", "correct horse", nil)
	require.ErrorIs(t, err, ErrRateLimited, "even with the right password")
	_, err = b.Login(t.Context(), "bob@example.org", "correct horse", nil)
	require.ErrorIs(t, err, ErrInvalidCredentials, "others are not harmed")
	b.clock.advance(3 * time.Second)
	_, err = b.Login(t.Context(), "ana@example.org", "correct horse", nil)
	require.NoError(t, err)
}

// An unknown mail address must cost as much as a wrong password: the answer's
// time tells nobody who has an account. Both wait for a turn to hash, at the
// same cost.
func TestUnknownMailCostsTheSame(t *testing.T) {
	b := setup(t)
	_, err := b.Register(t.Context(), ana, nil)
	require.NoError(t, err)
	b.hasher = newHasher(HashConfig{MemoryKiB: 128, Passes: 2, Parallel: 1})
	_, err = b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.NoError(t, err)
	var phc string
	require.NoError(t, b.db.Read(t.Context(), scan(&phc, `SELECT password_hash FROM users`)))
	require.Contains(t, phc, "m=128,t=2", "the stored hash was renewed at today's cost")
	require.Contains(t, b.hasher.decoy, "m=128,t=2,p=1")

	b.hasher.running <- struct{}{} // somebody's turn, for ever
	for _, email := range []string{"ana@example.org", "bob@example.org"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := b.Login(ctx, email, "wrong horse", nil)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded, email)
	}
}
