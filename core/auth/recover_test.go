package auth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

func TestChangePassword(t *testing.T) {
	b := setupAccounts(t)
	id, first, _ := b.register(t, ana)
	other, err := b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.NoError(t, err)
	otherLogin := b.identity(t, other).Login

	require.ErrorIs(t, b.ChangePassword(t.Context(), id, "wrong horse", "another horse"), ErrWrongPassword)
	require.ErrorIs(t, b.ChangePassword(t.Context(), id, ana.Password, "short"), ErrBadPassword)
	require.NoError(t, b.ChangePassword(t.Context(), id, ana.Password, "another horse"))
	require.Equal(t, []core.LoginID{otherLogin}, b.told.logins, "told before it returned")
	require.Equal(t, 1, b.post.told(t, id.User, "password_changed"))
	_, err = b.Authenticate(t.Context(), other.Access)
	require.ErrorIs(t, err, ErrSignedOut)
	_, err = b.Refresh(t.Context(), first.Refresh)
	require.NoError(t, err, "this device stays")
	_, err = b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.ErrorIs(t, err, ErrInvalidCredentials)
	_, err = b.Login(t.Context(), ana.Email, "another horse", nil)
	require.NoError(t, err)

	g, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	require.ErrorIs(t, b.ChangePassword(t.Context(), b.identity(t, g), "", "another horse"), ErrGuest)
}

func TestPasswordAttemptsOfTheSignedIn(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	for range 20 {
		_, err := b.Reauthenticate(t.Context(), id, "wrong horse")
		require.ErrorIs(t, err, ErrWrongPassword)
	}
	_, err := b.Reauthenticate(t.Context(), id, ana.Password)
	require.ErrorIs(t, err, ErrRateLimited)
	_, err = b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.NoError(t, err, "signing in is counted apart: a stolen token locks nobody out")
}

// What Forgot does is the same whether there is such an account or not; the job
// finds out.
func TestForgotTellsNothing(t *testing.T) {
	b := setupAccounts(t)
	b.register(t, ana)
	rows := func() (n int) {
		require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT (SELECT count(*) FROM account_tokens) * 1000000 + (SELECT count(*) FROM audit_events) * 1000 + (SELECT count(*) FROM jobs)`)))
		return n
	}
	before := rows()
	require.NoError(t, b.Forgot(t.Context(), ana.Email))
	known := rows() - before
	require.NoError(t, b.Forgot(t.Context(), "eve@example.org"))
	require.Equal(t, known, rows()-before-known)
	require.Equal(t, 1, known, "a job")
	require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM jobs`)
		return err
	}))

	require.Empty(t, b.forgot(t, "eve@example.org"))
	require.Len(t, b.forgot(t, "ANA@example.org"), 1)
	require.ErrorIs(t, b.Forgot(t.Context(), "nonsense"), ErrBadEmail)

	// Limits, too, hold for either alike.
	for _, email := range []string{"ana@example.org", "eve@example.org"} {
		for range 3 {
			require.NoError(t, b.Forgot(t.Context(), email))
		}
		require.ErrorIs(t, b.Forgot(t.Context(), email), ErrRateLimited, email)
	}
	require.Error(t, b.Recover(t.Context(), []byte(`{"email":"AAAA"}`)), "not sealed by us")
	require.Error(t, b.Recover(t.Context(), []byte(`nonsense`)))
}

func TestReset(t *testing.T) {
	b := setupAccounts(t)
	id, first, _ := b.register(t, ana)
	var tokens []string
	for range 2 {
		mails := b.forgot(t, ana.Email)
		require.Len(t, mails, 1)
		require.Equal(t, "reset_password", mails[0].template)
		tokens = append(tokens, mails[0].token)
	}
	require.ErrorIs(t, b.Verify(t.Context(), tokens[0]), ErrTokenInvalid, "good for nothing else")
	require.ErrorIs(t, b.Reset(t.Context(), tokens[0], "short"), ErrBadPassword)
	require.NoError(t, b.Reset(t.Context(), tokens[0], "another horse"))
	require.Equal(t, []core.LoginID{id.Login}, b.told.logins)
	require.ErrorIs(t, b.Reset(t.Context(), tokens[0], "third horse"), ErrTokenInvalid)
	require.ErrorIs(t, b.Reset(t.Context(), tokens[1], "third horse"), ErrTokenInvalid, "the other mail is done, too")
	_, err := b.Refresh(t.Context(), first.Refresh)
	require.ErrorIs(t, err, ErrSignedOut)
	_, err = b.Login(t.Context(), ana.Email, "another horse", nil)
	require.NoError(t, err)
	require.Subset(t, b.kinds(t, id.User), []EventKind{EventReset, EventResetAsked, EventLoginEnded, EventEmailVerified})

	mails := b.forgot(t, ana.Email)
	b.clock.advance(time.Hour)
	require.ErrorIs(t, b.Reset(t.Context(), mails[0].token, "third horse"), ErrTokenInvalid, "lapsed")
}

func TestConcurrentResets(t *testing.T) {
	b := setupAccounts(t)
	b.register(t, ana)
	token := b.forgot(t, ana.Email)[0].token
	const n = 6
	var winner [n]bool
	require.Equal(t, 1, wins(t, n, func(i int) error {
		err := b.Reset(t.Context(), token, fmt.Sprintf("horse number %d", i))
		winner[i] = err == nil
		return err
	}, ErrTokenInvalid))
	for i, won := range winner {
		_, err := b.Login(t.Context(), ana.Email, fmt.Sprintf("horse number %d", i), nil)
		require.Equal(t, won, err == nil)
	}

	// Two tokens of one user: the first that is used ends the other.
	b.clock.advance(time.Hour)
	tokens := []string{b.forgot(t, ana.Email)[0].token, b.forgot(t, ana.Email)[0].token}
	require.Equal(t, 1, wins(t, 2, func(i int) error { return b.Reset(t.Context(), tokens[i], "third horse") }, ErrTokenInvalid))
}

// A login that waits for its turn to hash while the password changes does not
// begin with the old one; nor does a change that was allowed by it happen.
func TestOldPasswordIsNotGoodLater(t *testing.T) {
	b := setupAccounts(t)
	id, _, _ := b.register(t, ana)
	token := b.forgot(t, ana.Email)[0].token
	proof, err := b.Reauthenticate(t.Context(), id, ana.Password)
	require.NoError(t, err)
	other, err := New(b.db, []byte(testSecret), "us-east", Config{VerifierConfig: VerifierConfig{Now: b.clock.now}, Hash: cheap})
	require.NoError(t, err)
	b.hasher = newHasher(HashConfig{MemoryKiB: 64, Passes: 1, Parallel: 1})
	b.hasher.running <- struct{}{} // somebody's turn
	began := make(chan error, 1)
	slow := b.hasher
	go func() {
		_, err := b.Login(t.Context(), ana.Email, ana.Password, nil)
		began <- err
	}()
	require.Eventually(t, func() bool { return len(slow.admitted) == 1 }, 10*time.Second, time.Millisecond, "it waits")
	require.NoError(t, other.Reset(t.Context(), token, "another horse"))
	<-slow.running
	require.ErrorIs(t, <-began, ErrInvalidCredentials)
	require.Error(t, b.db.InTx(t.Context(), pgx.TxOptions{}, proof.Holds))
	list, _, err := b.Logins(t.Context(), id.User, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

// Whatever comes in whatever order: an address counts as confirmed only if a token
// that went to it came back while it was the account's, no token is good twice or
// late, the password is the last one that was set, and one that was set by mail
// leaves no login.
func TestAccountProperties(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := setupAccounts(t)
			r := rand.New(rand.NewPCG(seed, 6))
			id, _, token := b.register(t, ana)
			type mail struct {
				token   string
				purpose purpose
				address string
				expires time.Time
				void    bool
			}
			model := struct {
				email, password string
				verified        bool
				mails           []*mail
				resets          int
			}{email: ana.Email, password: ana.Password}
			model.mails = append(model.mails, &mail{token, forVerify, ana.Email, b.clock.now().Add(purposes[forVerify].life), false})
			void := func(of ...purpose) {
				for _, m := range model.mails {
					m.void = m.void || slices.Contains(of, m.purpose)
				}
			}
			sent := func(p purpose) {
				for _, m := range b.post.take() {
					if m.template != "email_changed" {
						model.mails = append(model.mails, &mail{m.token, p, m.address, b.clock.now().Add(purposes[p].life), false})
					}
				}
			}
			addresses := []string{"ana@example.org", "b@example.org", "c@example.org"}
			for step := range 60 {
				b.clock.advance(time.Duration(r.IntN(40)) * time.Minute)
				if _, err := b.Reauthenticate(t.Context(), id, model.password); errors.Is(err, ErrSignedOut) || r.IntN(8) == 0 {
					tok, err := b.Login(t.Context(), model.email, model.password, nil)
					require.NoError(t, err, "step %d", step)
					id = b.identity(t, tok)
				}
				switch r.IntN(6) {
				case 0:
					if err := b.ResendVerification(t.Context(), id); err != nil {
						require.ErrorIs(t, err, ErrRateLimited)
					}
					sent(forVerify)
				case 1:
					err := b.ChangeEmail(t.Context(), id, addresses[r.IntN(3)], model.password)
					if err == nil {
						void(forChange)
					} else {
						require.ErrorIs(t, err, ErrRateLimited)
					}
					sent(forChange)
				case 2:
					for _, m := range b.forgot(t, model.email) {
						model.mails = append(model.mails, &mail{m.token, forReset, m.address, b.clock.now().Add(purposes[forReset].life), false})
					}
				case 3:
					next := fmt.Sprintf("horse at step %d", step)
					require.NoError(t, b.ChangePassword(t.Context(), id, model.password, next))
					model.password = next
					void(forReset, forChange)
				default: // a mail is read, perhaps late, perhaps again
					m := model.mails[r.IntN(len(model.mails))]
					good := !m.void && m.expires.After(b.clock.now()) && (m.purpose == forChange || m.address == model.email)
					if m.purpose == forReset {
						next := fmt.Sprintf("reset at step %d", step)
						err := b.Reset(t.Context(), m.token, next)
						require.Equal(t, good, err == nil, "step %d: %+v: %v", step, m, err)
						if good {
							model.password, model.verified = next, true
							void(forReset, forChange, forVerify)
							list, _, err := b.Logins(t.Context(), id.User, "", 10)
							require.NoError(t, err)
							require.Empty(t, list)
						}
						break
					}
					err := b.Verify(t.Context(), m.token)
					require.Equal(t, good, err == nil, "step %d: %+v: %v", step, m, err)
					if good && m.purpose == forChange {
						model.email = m.address
						void(forReset, forChange, forVerify)
					}
					if good {
						model.verified = true
						void(forVerify)
					}
					b.post.take()
				}
				email, verified := b.verifiedAddress(t, id.User)
				require.Equal(t, model.email, email)
				require.Equal(t, model.verified, verified)
			}
		})
	}
}

// Who registered an address that is not theirs has laid things in the account; its
// owner, who comes by the mail, gets it without them. Their own they keep.
func TestResetReclaims(t *testing.T) {
	b := setupAccounts(t)
	var reclaimed []core.UserID
	b.cfg.Reclaimed = func(_ context.Context, _ pgx.Tx, user core.UserID) error {
		reclaimed = append(reclaimed, user)
		return nil
	}
	me, _, _ := b.register(t, Account{Username: "Ana", Email: "ana@example.org", Password: "correct horse battery"})
	require.NoError(t, b.Reset(t.Context(), b.forgot(t, "ana@example.org")[0].token, "another horse battery"))
	require.Equal(t, []core.UserID{me.User}, reclaimed)
	require.NoError(t, b.Reset(t.Context(), b.forgot(t, "ana@example.org")[0].token, "a third horse battery"))
	require.Len(t, reclaimed, 1, "it is confirmed")
}
