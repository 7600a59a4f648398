package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

var (
	errKeyReused = errs.New(errs.Conflict, "idempotency_key_reused", "this Idempotency-Key was used for another request: choose a new one").
			At("header.Idempotency-Key")
	errBadKey = errs.New(errs.Invalid, "bad_idempotency_key", "an Idempotency-Key has 1 to 128 visible ASCII characters").
			At("header.Idempotency-Key")
)

// keepAnswers is how long the answer to a key is replayed.
const keepAnswers = 24 * time.Hour

// once runs fn in a transaction; with a key, at most once per user and key:
// the answer is stored in the same transaction, and a repeated request gets it
// again (draft-ietf-httpapi-idempotency-key-header). So a client that never
// heard the answer, even because the connection to the database broke in the
// commit, just asks again. What failed is not stored: it may succeed later.
//
// request is everything that makes the request what it is; the same key with
// another request is refused.
func once[T any](ctx context.Context, a *api, key, operation string, request any, fn func(context.Context, pgx.Tx) (T, error)) (answer T, replayed bool, err error) {
	if !validKey(key) {
		return answer, false, errBadKey
	}
	user := caller(ctx).User
	encoded, err := json.Marshal(request)
	if err != nil {
		return answer, false, fmt.Errorf("hash request: %w", err)
	}
	hash := sha256.Sum256(append([]byte(operation+"\n"), encoded...))
	for range 3 {
		err = a.DB.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			var none T
			answer, replayed = none, false
			if key == "" {
				answer, err = fn(ctx, tx)
				return err
			}
			now := a.Now()
			stored, err := storedAnswer(ctx, tx, user, key, hash[:], now)
			if err != nil {
				return err
			}
			if stored != nil {
				replayed = true
				return json.Unmarshal(stored, &answer)
			}
			if answer, err = fn(ctx, tx); err != nil {
				return err
			}
			body, err := json.Marshal(answer)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx,
				`INSERT INTO idempotency_keys (user_id, key, request_hash, status, response, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
				user, key, hash[:], http.StatusOK, body, now)
			return err
		})
		// Somebody else was first with this key: now their answer is there.
		if !db.Violates(err, "idempotency_keys_pkey") {
			return answer, replayed, err
		}
	}
	return answer, replayed, err
}

// storedAnswer returns the answer to a key, nil if there is none yet.
func storedAnswer(ctx context.Context, tx pgx.Tx, user core.UserID, key string, hash []byte, now time.Time) ([]byte, error) {
	var storedHash, response []byte
	var created time.Time
	err := tx.QueryRow(ctx, `SELECT request_hash, response, created_at FROM idempotency_keys WHERE user_id = $1 AND key = $2`, user, key).
		Scan(&storedHash, &response, &created)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	case created.Before(now.Add(-keepAnswers)):
		_, err := tx.Exec(ctx, `DELETE FROM idempotency_keys WHERE user_id = $1 AND key = $2`, user, key)
		return nil, err
	case !bytes.Equal(hash, storedHash):
		return nil, errKeyReused
	}
	return response, nil
}

func validKey(key string) bool {
	if len(key) > 128 {
		return false
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// SweepIdempotencyKeys deletes the answers that aren't replayed any more.
func SweepIdempotencyKeys(ctx context.Context, d *db.DB, now time.Time) error {
	err := d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM idempotency_keys WHERE created_at < $1`, now.Add(-keepAnswers))
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep idempotency keys: %w", err)
	}
	return nil
}

// replayedHeader is set on an answer that was given before.
func replayedHeader(replayed bool) string {
	if replayed {
		return "true"
	}
	return ""
}
