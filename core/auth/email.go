package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
)

// What a mailed token is good for.
type purpose string

const (
	forVerify purpose = "verify" // that the account's address is read by its user
	forChange purpose = "change" // likewise of the address that shall take its place
	forReset  purpose = "reset"  // a new password
)

// mailPurpose is what holds for all tokens of one purpose.
type mailPurpose struct {
	life     time.Duration
	template string
	page     string // of the app, to which the link leads
}

var purposes = map[purpose]mailPurpose{
	forVerify: {3 * 24 * time.Hour, "verify_email", "verify"},
	forChange: {24 * time.Hour, "verify_email", "verify"},
	forReset:  {time.Hour, "reset_password", "reset"},
}

// A user is sent at most so many mails of one purpose within the window, on
// whichever node they are asked for.
const (
	mailsMost  = 5
	mailWindow = time.Hour
)

// newMailToken returns a token for a mail. Like a refresh token it is 256 random
// bits, stored as its SHA-256.
func newMailToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return "mmt_" + base64.RawURLEncoding.EncodeToString(b)
}

// mailed is a token on its way.
type mailed struct {
	user       core.UserID
	purpose    purpose
	email, key string // where it goes: what it proves
}

// mailToken makes a token and mails it, both with the transaction. Those before it
// stay good, since a mail may be slow and the first one read; but only one address
// can be on its way to be the new one.
func (s *Service) mailToken(ctx context.Context, tx pgx.Tx, m mailed) error {
	now, p := s.now(), purposes[m.purpose]
	var recent int
	var oldest *time.Time
	err := tx.QueryRow(ctx, `SELECT count(*), min(created_at) FROM account_tokens WHERE user_id = $1 AND purpose = $2 AND created_at > $3`,
		m.user, string(m.purpose), now.Add(-mailWindow)).Scan(&recent, &oldest)
	if err != nil {
		return err
	}
	if recent >= mailsMost {
		return ErrRateLimited.After(oldest.Add(mailWindow).Sub(now))
	}
	if m.purpose == forChange {
		if err := s.voidTokens(ctx, tx, m.user, forChange); err != nil {
			return err
		}
	}
	token := newMailToken()
	_, err = tx.Exec(ctx,
		`INSERT INTO account_tokens (hash, user_id, purpose, email, email_key, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		refreshHash(token), m.user, string(m.purpose), m.email, m.key, now, now.Add(p.life))
	if err != nil || s.cfg.Notify == nil {
		return err
	}
	return s.cfg.Notify.Mail(ctx, tx, m.email, originOf(ctx).Language, p.template, map[string]any{"link": s.link(p.page, token)})
}

// link leads to a page of the app. What it carries stands behind the hash, which
// browsers send to nobody: not to the server, and not to the next page.
func (s *Service) link(page, token string) string {
	if s.cfg.LinkBase == "" {
		return token
	}
	return strings.TrimSuffix(s.cfg.LinkBase, "/") + "/#/" + page + "/" + token
}

// spend takes a token out of use and returns what it was good for.
func (s *Service) spend(ctx context.Context, tx pgx.Tx, token string, of ...purpose) (m mailed, err error) {
	err = tx.QueryRow(ctx,
		`UPDATE account_tokens SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 AND purpose = ANY($3)
		 RETURNING user_id, purpose, email, email_key`, refreshHash(token), s.now(), of).Scan(&m.user, &m.purpose, &m.email, &m.key)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, ErrTokenInvalid
	}
	return m, err
}

// voidTokens takes a user's tokens of some purposes out of use.
func (s *Service) voidTokens(ctx context.Context, tx pgx.Tx, user core.UserID, of ...purpose) error {
	_, err := tx.Exec(ctx,
		`UPDATE account_tokens SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL AND purpose = ANY($3)`, user, s.now(), of)
	return err
}

// Verify takes the token of a mail: its reader has the account's address, or the
// one that shall take its place, which then does.
func (s *Service) Verify(ctx context.Context, token string) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		m, err := s.spend(ctx, tx, token, forVerify, forChange)
		if err != nil {
			return err
		}
		if m.purpose == forChange {
			return s.changed(ctx, tx, m)
		}
		return s.verified(ctx, tx, m)
	})
	if err != nil {
		return wrap("verify mail address", err)
	}
	return nil
}

// verified notes that the account's address was confirmed. A token for one that
// is no longer the account's proves nothing.
func (s *Service) verified(ctx context.Context, tx pgx.Tx, m mailed) error {
	tag, err := tx.Exec(ctx, `UPDATE users SET email_verified_at = coalesce(email_verified_at, $3) WHERE id = $1 AND email_key = $2`, m.user, m.key, s.now())
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return ErrTokenInvalid
	}
	if err := s.voidTokens(ctx, tx, m.user, forVerify); err != nil {
		return err
	}
	return s.emailEvent(ctx, tx, m.user, EventEmailVerified)
}

// changed puts the new address in the place of the old one, which is told.
// Whatever was mailed to that is good for nothing any more.
func (s *Service) changed(ctx context.Context, tx pgx.Tx, m mailed) error {
	var old string
	if err := tx.QueryRow(ctx, `SELECT coalesce(email, '') FROM users WHERE id = $1`, m.user).Scan(&old); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE users SET email = $2, email_key = $3, email_verified_at = $4, updated_at = $4 WHERE id = $1`, m.user, m.email, m.key, s.now())
	if err != nil {
		return taken(err)
	}
	if err := s.voidTokens(ctx, tx, m.user, forVerify, forChange, forReset); err != nil {
		return err
	}
	if s.cfg.Notify != nil && old != "" {
		if err := s.cfg.Notify.Mail(ctx, tx, old, originOf(ctx).Language, "email_changed", map[string]any{}); err != nil {
			return err
		}
	}
	return s.emailEvent(ctx, tx, m.user, EventEmailChanged)
}

func (s *Service) emailEvent(ctx context.Context, tx pgx.Tx, user core.UserID, kind EventKind) error {
	if err := s.Audit(ctx, tx, user, kind, core.LoginID{}, nil); err != nil {
		return err
	}
	return s.profileChanged(ctx, tx, user)
}

// ResendVerification mails the caller another token for their address, unless it
// is confirmed already.
func (s *Service) ResendVerification(ctx context.Context, id Identity) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		m := mailed{user: id.User, purpose: forVerify}
		var verified *time.Time
		var guest bool
		err := tx.QueryRow(ctx, `SELECT coalesce(email, ''), coalesce(email_key, ''), email_verified_at, guest FROM users WHERE id = $1`, id.User).
			Scan(&m.email, &m.key, &verified, &guest)
		switch {
		case err != nil:
			return err
		case guest || m.email == "":
			return ErrGuest
		case verified != nil:
			return nil
		}
		return s.mailToken(ctx, tx, m)
	})
	if err != nil {
		return wrap("mail another token", err)
	}
	return nil
}

// ChangeEmail mails a token to the address that the caller wants to have; Verify
// makes the change. The answer is the same when somebody else has that address:
// only who reads its mail learns that.
func (s *Service) ChangeEmail(ctx context.Context, id Identity, email, password string) error {
	m := mailed{user: id.User, purpose: forChange}
	var err error
	if m.email, m.key, err = parseEmail(email); err != nil {
		return err
	}
	proof, err := s.Reauthenticate(ctx, id, password)
	if err != nil {
		return err
	}
	if proof.guest {
		return ErrGuest
	}
	if err := s.mails.Allow(m.key); err != nil { // many accounts must not flood one address
		return err
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := proof.Holds(ctx, tx); err != nil {
			return err
		}
		if err := s.mailToken(ctx, tx, m); err != nil {
			return err
		}
		return s.Audit(ctx, tx, id.User, EventEmailAsked, id.Login, nil)
	})
	if err != nil {
		return wrap("change mail address", err)
	}
	return nil
}
