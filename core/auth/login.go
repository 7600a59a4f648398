package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Why a login was ended, as stored.
const (
	reasonSignedOut = "signed_out"
	reasonReused    = "refresh_reused"
	reasonEnded     = "ended"    // from another login
	reasonPassword  = "password" // it was changed
	reasonDeleted   = "deleted"  // with the user
)

// newRefresh returns a refresh token. The prefix lets secret scanners know it.
func newRefresh() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return "mrt_" + base64.RawURLEncoding.EncodeToString(b)
}

// refreshHash is what is stored of a refresh token. It needs no salt: the
// token is 256 random bits.
func refreshHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

func (s *Service) storeRefresh(ctx context.Context, tx pgx.Tx, login core.LoginID, token string, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO refresh_tokens (hash, login_id, created_at, expires_at) VALUES ($1, $2, $3, $4)`,
		refreshHash(token), login, now, now.Add(s.cfg.RefreshTTL))
	return err
}

// Refresh trades a refresh token for new tokens. A token that was traded before
// ends its whole login: see the package comment.
func (s *Service) Refresh(ctx context.Context, token string) (Tokens, error) {
	now, fresh := s.now(), newRefresh()
	var login core.LoginID
	var w who
	var reused bool
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var used, revoked *time.Time
		var expires time.Time
		reused = false
		err := tx.QueryRow(ctx,
			`SELECT r.login_id, r.used_at, r.expires_at, l.revoked_at, u.id, u.username, u.guest
			 FROM refresh_tokens r JOIN logins l ON l.id = r.login_id JOIN users u ON u.id = l.user_id
			 WHERE r.hash = $1`, refreshHash(token)).
			Scan(&login, &used, &expires, &revoked, &w.id, &w.name, &w.guest)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrRefreshInvalid
		case err != nil:
			return err
		case revoked != nil:
			return ErrSignedOut
		case used != nil:
			reused = true
			return nil
		case !expires.After(now):
			return ErrRefreshInvalid
		}
		if _, err := tx.Exec(ctx, `UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1`, refreshHash(token), now); err != nil {
			return err
		}
		return s.storeRefresh(ctx, tx, login, fresh, now)
	})
	if err != nil {
		return Tokens{}, wrap("refresh", err)
	}
	if reused {
		// Apart from whatever transaction this belongs to: the answer is an error, and
		// this stays all the same.
		err := s.db.InTx(db.Apart(ctx), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			return s.endLogin(ctx, tx, login, reasonReused, EventRefreshReused)
		})
		if err != nil {
			return Tokens{}, wrap("refresh", err)
		}
		s.log.WarnContext(ctx, "a used refresh token came again: its login is ended", "login", login)
		s.announceRevoked(db.Apart(ctx), login)
		return Tokens{}, ErrRefreshReused
	}
	return s.tokens(ctx, w, login, fresh, now)
}

// Logout ends the login that an access token speaks for, and returns once the
// edges of this region know. The token may have expired up to LogoutGrace ago;
// a login that has ended already is a success.
func (s *Service) Logout(ctx context.Context, token string) error {
	id, err := s.verifier.verify(ctx, token, LogoutGrace)
	if err != nil {
		return err
	}
	if id.Fleet != (core.FleetID{}) {
		return ErrFleetToken
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return s.endLogin(ctx, tx, id.Login, reasonSignedOut, EventSignedOut)
	})
	if err != nil {
		return wrap("log out", err)
	}
	s.announceRevoked(ctx, id.Login)
	return nil
}

// Authenticate checks an access token of a user's, and that its login was not
// ended. HTTP requests use it: they go to the database anyway, so that an ended
// login is refused everywhere at once.
func (s *Service) Authenticate(ctx context.Context, token string) (Identity, error) {
	id, err := s.verifier.Verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	if id.Fleet != (core.FleetID{}) {
		return Identity{}, ErrFleetToken
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error { return alive(ctx, q, id.Login) })
	if err != nil {
		return Identity{}, wrap("authenticate", err)
	}
	return id, nil
}

// alive returns ErrSignedOut unless the login exists and was not revoked.
func alive(ctx context.Context, q db.Querier, login core.LoginID) error {
	var one int
	err := q.QueryRow(ctx, `SELECT 1 FROM logins WHERE id = $1 AND revoked_at IS NULL`, login).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrSignedOut
	}
	return err
}

// RevokedSince returns the logins that were ended at since or later. Callers
// poll it as a safety net with some overlap, since revocations become visible
// a little after the time they bear; tokens older than the access tokens' life
// need no answer, so nobody asks further back than that.
func (s *Service) RevokedSince(ctx context.Context, since time.Time) (logins []core.LoginID, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT id FROM logins WHERE revoked_at >= $1 ORDER BY revoked_at, id`, since)
		if err != nil {
			return err
		}
		logins, err = pgx.CollectRows(rows, pgx.RowTo[core.LoginID])
		return err
	})
	if err != nil {
		return nil, wrap("read ended logins", err)
	}
	return logins, nil
}

// Sweep deletes refresh tokens that have expired, and the logins that have none
// left: nothing can bring them back. Tokens of mails and sign-ins at Google that
// have lapsed go, too, and what is old in the audit log. Somebody calls it now and
// then; it may run anywhere, and twice.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.now()
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		for _, sweep := range []struct {
			sql    string
			before time.Time
		}{
			{`DELETE FROM refresh_tokens WHERE expires_at < $1`, now},
			{`DELETE FROM logins WHERE created_at < $1 AND NOT EXISTS (SELECT 1 FROM refresh_tokens r WHERE r.login_id = logins.id)`, now.Add(-s.cfg.RefreshTTL)},
			{`DELETE FROM account_tokens WHERE expires_at < $1`, now.Add(-mailWindow)},
			{`DELETE FROM google_states WHERE expires_at < $1`, now},
			{`DELETE FROM audit_events WHERE at < $1`, now.Add(-auditKept)},
		} {
			if _, err := tx.Exec(ctx, sweep.sql, sweep.before); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return wrap("sweep logins", err)
	}
	return nil
}
