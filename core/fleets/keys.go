package fleets

import (
	"context"
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
	"github.com/mustermesh/muster/internal/errs"
)

var (
	ErrNoKey       = errs.New(errs.NotFound, "key_not_found", "the fleet has no such key, or it was revoked")
	ErrTooManyKeys = errs.New(errs.Conflict, "too_many_keys", "the fleet has as many keys as one can: revoke one first, and not too many a day")
	ErrBadKeyName  = errs.New(errs.Invalid, "bad_fleet", "the name of a key has at most 80 characters").At("body.name")
	ErrKeyInvalid  = errs.New(errs.Unauthorized, "key_invalid", "there is no such key, or it was revoked: ask the fleet's owner for another one")
)

// Key lets a gateway in. Its id is that of the login of whoever came with it.
type Key struct {
	ID        core.LoginID
	Name      string
	CreatedAt time.Time
}

// Secret is what proves that one has a key. The prefix lets secret scanners know
// it.
func (s *Store) Secret(key core.LoginID) string {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write(key[:])
	return "mfk_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// AddKey makes a key of a fleet in the caller's transaction.
func (s *Store) AddKey(ctx context.Context, tx pgx.Tx, owner core.UserID, fleet core.FleetID, name string) (Key, error) {
	name, ok := core.CleanText(name, 0, maxName, false)
	if !ok {
		return Key{}, ErrBadKeyName
	}
	if err := owned(ctx, tx, owner, fleet); err != nil {
		return Key{}, err
	}
	var live, all int
	if err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE revoked_at IS NULL), count(*) FROM fleet_keys WHERE fleet_id = $1`, fleet).Scan(&live, &all); err != nil {
		return Key{}, err
	}
	if live >= maxKeys || all >= maxKeys*pastAsWell {
		return Key{}, ErrTooManyKeys
	}
	k := Key{ID: core.LoginID(uuid.New()), Name: name, CreatedAt: s.now()}
	hash := sha256.Sum256([]byte(s.Secret(k.ID)))
	_, err := tx.Exec(ctx, `INSERT INTO fleet_keys (id, fleet_id, name, secret_hash, created_at) VALUES ($1, $2, $3, $4, $5)`,
		k.ID, fleet, k.Name, hash[:], k.CreatedAt)
	return k, err
}

// owned returns ErrNoFleet unless the fleet is the user's.
func owned(ctx context.Context, q db.Querier, owner core.UserID, fleet core.FleetID) error {
	var one int
	err := q.QueryRow(ctx, `SELECT 1 FROM fleets WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL`, fleet, owner).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoFleet
	}
	return err
}

// Keys returns a fleet's keys, the oldest first, without those that were revoked.
func (s *Store) Keys(ctx context.Context, owner core.UserID, fleet core.FleetID) (list []Key, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		if err := owned(ctx, q, owner, fleet); err != nil {
			return err
		}
		rows, err := q.Query(ctx, `SELECT id, name, created_at FROM fleet_keys WHERE fleet_id = $1 AND revoked_at IS NULL ORDER BY created_at, id`, fleet)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Key, err error) {
			err = row.Scan(&k.ID, &k.Name, &k.CreatedAt)
			k.CreatedAt = k.CreatedAt.UTC()
			return k, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return list, nil
}

// RevokeKey ends a key and the sessions of whoever came with it.
func (s *Store) RevokeKey(ctx context.Context, owner core.UserID, fleet core.FleetID, key core.LoginID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := owned(ctx, tx, owner, fleet); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE fleet_keys SET revoked_at = $3 WHERE id = $1 AND fleet_id = $2 AND revoked_at IS NULL`, key, fleet, s.now())
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoKey
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	if s.cfg.Announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.cfg.Announce.KeysRevoked(ctx, []core.LoginID{key}) })
	}
	return nil
}

// Gateway is who has a key.
type Gateway struct {
	Fleet core.FleetID
	Name  string // of the fleet
	Key   core.LoginID
}

// Open returns whose key a secret is of. One that never was, was revoked or is
// malformed are the same to who asks; it is looked up by its hash, so how long that
// takes tells nothing about secrets.
func (s *Store) Open(ctx context.Context, secret string) (g Gateway, err error) {
	hash := sha256.Sum256([]byte(secret))
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT f.id, f.name, k.id FROM fleet_keys k JOIN fleets f ON f.id = k.fleet_id
			 WHERE k.secret_hash = $1 AND k.revoked_at IS NULL AND f.deleted_at IS NULL`, hash[:]).Scan(&g.Fleet, &g.Name, &g.Key)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Gateway{}, ErrKeyInvalid
	case err != nil:
		return Gateway{}, fmt.Errorf("open key: %w", err)
	}
	return g, nil
}

// RevokedSince returns the keys that were revoked at since or later, as core/auth's
// does for logins.
func (s *Store) RevokedSince(ctx context.Context, since time.Time) (keys []core.LoginID, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT id FROM fleet_keys WHERE revoked_at >= $1 ORDER BY revoked_at, id`, since)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowTo[core.LoginID])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read revoked keys: %w", err)
	}
	return keys, nil
}
