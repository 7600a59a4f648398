package location

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

var (
	ErrNoLink       = errs.New(errs.NotFound, "link_not_found", "there is no such link, or it has ended")
	ErrTooManyLinks = errs.New(errs.Conflict, "too_many_links", "you have as many links as one can: revoke one first")
	ErrBadLink      = errs.New(errs.Invalid, "bad_link", "a link lasts for a minute to 30 days").At("body.expires_in")
)

const (
	maxLinks    = 20 // of a user, at a time
	linkLife    = 24 * time.Hour
	maxLinkLife = 30 * 24 * time.Hour
	tokenBytes  = 24
)

// Link lets whoever has its token see where its user is, without an account.
type Link struct {
	ID        uuid.UUID
	User      core.UserID
	Precision grant.Precision
	Purpose   string
	CreatedAt time.Time
	Expires   time.Time
}

// deriveKeys makes what links and tracks need of the secret.
func (s *Store) deriveKeys(secret []byte) (err error) {
	if len(secret) < 32 {
		return errors.New("location: the node secret needs at least 32 bytes")
	}
	if s.linkKey, err = hkdf.Key(sha256.New, secret, nil, "muster location links", 32); err != nil {
		return fmt.Errorf("location: derive keys: %w", err)
	}
	k, err := hkdf.Key(sha256.New, secret, nil, "muster location tracks", 32)
	if err != nil {
		return fmt.Errorf("location: derive keys: %w", err)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return fmt.Errorf("location: derive keys: %w", err)
	}
	if s.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return fmt.Errorf("location: derive keys: %w", err)
	}
	return nil
}

// Token returns a link's token: made from its id and the deployment's secret, so
// that its maker can see it again, while the database has only its hash.
func (s *Store) Token(link uuid.UUID) string {
	mac := hmac.New(sha256.New, s.linkKey)
	mac.Write(link[:])
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:tokenBytes])
}

// URL is where a page shows what a link does; empty if there is none.
func (s *Store) URL(link uuid.UUID) string {
	if s.cfg.LinkBase == "" {
		return ""
	}
	return s.cfg.LinkBase + s.Token(link)
}

// LinkDraft is what a new link is made of.
type LinkDraft struct {
	Precision grant.Precision
	Life      time.Duration // 0: a day
	Purpose   string
}

// MakeLink makes a link in the caller's transaction. After the commit the caller
// calls Tell.
func (s *Store) MakeLink(ctx context.Context, tx pgx.Tx, user core.UserID, d LinkDraft) (Link, error) {
	if err := checkTerms(d.Precision, &d.Purpose); err != nil {
		return Link{}, err
	}
	if d.Life == 0 {
		d.Life = linkLife
	}
	if d.Life < minLife || d.Life > maxLinkLife {
		return Link{}, ErrBadLink
	}
	if err := bump(ctx, tx, user); err != nil {
		return Link{}, err
	}
	now := s.now()
	var others int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM location_links WHERE user_id = $1 AND expires_at > $2`, user, now).Scan(&others); err != nil {
		return Link{}, err
	}
	if others >= maxLinks {
		return Link{}, ErrTooManyLinks
	}
	l := Link{ID: uuid.New(), User: user, Precision: d.Precision, Purpose: d.Purpose, CreatedAt: now, Expires: now.Add(d.Life)}
	hash := sha256.Sum256([]byte(s.Token(l.ID)))
	_, err := tx.Exec(ctx,
		`INSERT INTO location_links (id, user_id, token_hash, precision, purpose, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		l.ID, user, hash[:], int16(l.Precision), l.Purpose, now, l.Expires)
	return l, err
}

// Links returns a user's links that hold, the oldest first.
func (s *Store) Links(ctx context.Context, user core.UserID) (list []Link, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, user_id, precision, purpose, created_at, expires_at FROM location_links
			 WHERE user_id = $1 AND expires_at > $2 ORDER BY created_at, id`, user, s.now())
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanLink)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return list, nil
}

// Revoke ends a link. Its row stays for a while, for receipts.
func (s *Store) Revoke(ctx context.Context, user core.UserID, id uuid.UUID) error {
	return s.change(ctx, "revoke link", user, func(ctx context.Context, tx pgx.Tx) ([]core.UserID, error) {
		tag, err := tx.Exec(ctx, `UPDATE location_links SET expires_at = $3 WHERE id = $1 AND user_id = $2 AND expires_at > $3`, id, user, s.now())
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoLink
		}
		return nil, err
	})
}

// OpenLink returns the link of a token. One that never was, has expired, was
// revoked or is malformed are the same to who asks. The token is looked up by
// its hash, so how long that takes tells nothing about tokens.
func (s *Store) OpenLink(ctx context.Context, token string) (l Link, err error) {
	hash := sha256.Sum256([]byte(token))
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, user_id, precision, purpose, created_at, expires_at FROM location_links WHERE token_hash = $1 AND expires_at > $2`,
			hash[:], s.now())
		if err != nil {
			return err
		}
		l, err = pgx.CollectExactlyOneRow(rows, scanLink)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Link{}, ErrNoLink
	case err != nil:
		return Link{}, fmt.Errorf("open link: %w", err)
	}
	return l, nil
}

func scanLink(row pgx.CollectableRow) (l Link, err error) {
	var p int16
	err = row.Scan(&l.ID, &l.User, &p, &l.Purpose, &l.CreatedAt, &l.Expires)
	l.Precision, l.CreatedAt, l.Expires = grant.Precision(p), l.CreatedAt.UTC(), l.Expires.UTC()
	return l, err
}
