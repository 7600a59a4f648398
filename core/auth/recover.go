package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
)

// fresh is how long a new login stands for a password, in accounts without one.
const fresh = 10 * time.Minute

// Proof is that somebody knew the password of an account a moment ago.
type Proof struct {
	id     Identity
	stored string // the hash that was checked; "" for an account without a password
	guest  bool
}

// Reauthenticate checks the password of whoever is signed in, before something
// that a borrowed device must not do. An account without a password, which is one
// that Google signs in, wants a login that is minutes old instead; a guest has
// nothing but the login.
func (s *Service) Reauthenticate(ctx context.Context, id Identity, password string) (Proof, error) {
	if err := s.attempts.Allow(id.User.Key()); err != nil {
		return Proof{}, err
	}
	p := Proof{id: id}
	var begun time.Time
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT coalesce(u.password_hash, ''), u.guest, l.created_at FROM users u JOIN logins l ON l.user_id = u.id
			 WHERE u.id = $1 AND l.id = $2 AND l.revoked_at IS NULL`, id.User, id.Login).Scan(&p.stored, &p.guest, &begun)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Proof{}, ErrSignedOut
	case err != nil:
		return Proof{}, wrap("check password", err)
	case p.guest:
		return p, nil
	case p.stored == "" && s.now().Sub(begun) > fresh:
		return Proof{}, ErrSignInAgain
	case p.stored == "":
		return p, nil
	case len(password) > 256:
		return Proof{}, ErrWrongPassword
	}
	if normal, err := checkPassword(password); err == nil {
		password = normal
	}
	ok, _, err := s.hasher.verify(ctx, p.stored, password)
	if err != nil {
		return Proof{}, wrap("check password", err)
	}
	if !ok {
		s.failed(ctx, id.User)
		return Proof{}, ErrWrongPassword
	}
	return p, nil
}

// Holds reports, in a transaction, whether the proof is still good: the password
// was not changed meanwhile, and the login not ended.
func (p Proof) Holds(ctx context.Context, tx pgx.Tx) error {
	if err := alive(ctx, tx, p.id.Login); err != nil {
		return err
	}
	var now string
	err := tx.QueryRow(ctx, `SELECT coalesce(password_hash, '') FROM users WHERE id = $1`, p.id.User).Scan(&now)
	if err == nil && now != p.stored {
		return ErrWrongPassword
	}
	return err
}

// Guest reports whether it is a guest, who has no password.
func (p Proof) Guest() bool { return p.guest }

// ChangePassword replaces the caller's password and ends their other logins.
func (s *Service) ChangePassword(ctx context.Context, id Identity, old, password string) error {
	normal, err := checkPassword(password)
	if err != nil {
		return ErrBadPassword.At("body.new")
	}
	proof, err := s.Reauthenticate(ctx, id, old)
	if err != nil {
		return err
	}
	if proof.guest {
		return ErrGuest
	}
	hash, err := s.hasher.hash(ctx, normal)
	if err != nil {
		return wrap("change password", err)
	}
	var ended []core.LoginID
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		if err := proof.Holds(ctx, tx); err != nil {
			return err
		}
		ended, err = s.setPassword(ctx, tx, id.User, hash, id.Login, EventPassword)
		return err
	})
	if err != nil {
		return wrap("change password", err)
	}
	s.announceRevoked(ctx, ended...)
	return nil
}

// setPassword ends all that the old password, or whoever had it, began: logins but
// one, and what was mailed, so that an address that a thief asked for is not
// confirmed later.
func (s *Service) setPassword(ctx context.Context, tx pgx.Tx, user core.UserID, hash string, but core.LoginID, kind EventKind) ([]core.LoginID, error) {
	if _, err := tx.Exec(ctx, `UPDATE users SET password_hash = $2, updated_at = $3 WHERE id = $1`, user, hash, s.now()); err != nil {
		return nil, err
	}
	if err := s.voidTokens(ctx, tx, user, forReset, forChange); err != nil {
		return nil, err
	}
	ended, err := s.endLogins(ctx, tx, user, but, reasonPassword)
	if err != nil {
		return nil, err
	}
	if err := s.Audit(ctx, tx, user, kind, but, nil); err != nil {
		return nil, err
	}
	if s.cfg.Notify == nil {
		return ended, nil
	}
	return ended, s.cfg.Notify.Notify(ctx, tx, user, "password_changed", nil)
}

// RecoverJob is the kind of the jobs that Forgot leaves.
const RecoverJob = "recover_account"

// recovery is the payload of such a job. The address is sealed: that somebody
// asked for it is nobody's business, all the more if it has no account.
type recovery struct {
	Email    []byte `json:"email"`
	Language string `json:"language,omitempty"`
	Network  string `json:"network,omitempty"`
}

// Forgot has a token for a new password mailed to an address, if an account has
// it. Whether one does is found out by a job: the answer and the time until it are
// the same for every address.
func (s *Service) Forgot(ctx context.Context, email string) error {
	_, key, err := parseEmail(email)
	if err != nil {
		return err
	}
	if err := s.mails.Allow(key); err != nil {
		return err
	}
	origin := originOf(ctx)
	job := recovery{s.ring.seal.Seal(nil, nil, []byte(key), []byte(RecoverJob)), origin.Language, origin.Network}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return jobs.Enqueue(ctx, tx, jobs.Job{Kind: RecoverJob, Payload: job})
	})
	if err != nil {
		return wrap("recover account", err)
	}
	return nil
}

// Recover does what Forgot left to do; payload is that of the job.
func (s *Service) Recover(ctx context.Context, payload []byte) error {
	var job recovery
	if err := json.Unmarshal(payload, &job); err != nil {
		return jobs.Permanent(fmt.Errorf("recover account: %w", err))
	}
	key, err := s.ring.seal.Open(nil, nil, job.Email, []byte(RecoverJob))
	if err != nil { // from before the node secret was changed
		return jobs.Permanent(fmt.Errorf("recover account: %w", err))
	}
	ctx = WithOrigin(ctx, Origin{Network: job.Network, Language: job.Language})
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		m := mailed{purpose: forReset, key: string(key)}
		err := tx.QueryRow(ctx, `SELECT id, email FROM users WHERE email_key = $1`, m.key).Scan(&m.user, &m.email)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.mailToken(ctx, tx, m); err != nil {
			return err
		}
		return s.Audit(ctx, tx, m.user, EventResetAsked, core.LoginID{}, nil)
	})
	if errors.Is(err, ErrRateLimited) { // enough of them are on their way
		return nil
	}
	if err != nil {
		return wrap("recover account", err)
	}
	return nil
}

// Reset takes the token of a mail and makes the password a new one. All logins
// end. Whoever could do this reads the account's mail, which confirms its address.
func (s *Service) Reset(ctx context.Context, token, password string) error {
	normal, err := checkPassword(password)
	if err != nil {
		return err
	}
	// Before it costs a hash, and again below, where it counts.
	var one int
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT 1 FROM account_tokens WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 AND purpose = 'reset'`,
			refreshHash(token), s.now()).Scan(&one)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrTokenInvalid
	}
	if err != nil {
		return wrap("reset password", err)
	}
	hash, err := s.hasher.hash(ctx, normal)
	if err != nil {
		return wrap("reset password", err)
	}
	var ended []core.LoginID
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		m, err := s.spend(ctx, tx, token, forReset)
		if err != nil {
			return err
		}
		var proven bool
		if err := tx.QueryRow(ctx, `SELECT email_verified_at IS NOT NULL FROM users WHERE id = $1`, m.user).Scan(&proven); err != nil {
			return err
		}
		if err := s.verified(ctx, tx, m); err != nil {
			return err
		}
		if !proven && s.cfg.Reclaimed != nil {
			if err := s.cfg.Reclaimed(ctx, tx, m.user); err != nil {
				return err
			}
		}
		// Whoever had the account may have linked theirs. Who signs in at Google with
		// this address is linked again by that.
		if _, err := tx.Exec(ctx, `DELETE FROM google_identities WHERE user_id = $1`, m.user); err != nil {
			return err
		}
		ended, err = s.setPassword(ctx, tx, m.user, hash, core.LoginID{}, EventReset)
		return err
	})
	if err != nil {
		return wrap("reset password", err)
	}
	s.announceRevoked(ctx, ended...)
	return nil
}
