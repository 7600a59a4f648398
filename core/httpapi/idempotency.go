package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

var (
	errKeyReused = errs.New(errs.Conflict, "idempotency_key_reused", "this Idempotency-Key was used for another request: choose a new one").
			At("header.Idempotency-Key")
	errBadKey = errs.New(errs.Invalid, "bad_idempotency_key", "an Idempotency-Key has 1 to 128 visible ASCII characters; where nobody is signed in, at least 16").
			At("header.Idempotency-Key")
)

const (
	keyHeader      = "Idempotency-Key"
	replayedHeader = "Idempotency-Replayed"
	// keepAnswers is how long the answer to a key is replayed.
	keepAnswers = 24 * time.Hour
	maxKey      = 128
	// minPublicKey is the shortest key of who isn't signed in: it is what tells them
	// from others, who must not guess it and be answered their tokens.
	minPublicKey = 16
)

// answers keeps what writes with a key were answered
// (draft-ietf-httpapi-idempotency-key-header). An answer is stored in the
// transaction of the write, so there are both or neither: a client that never heard
// the answer, even because the connection to the database broke in the COMMIT, just
// asks again.
//
// What is stored tells nobody who reads the database what was asked or answered,
// both of which may hold secrets: rows are found, and requests compared, by keyed
// hashes, and answers are sealed.
type answers struct {
	db   *db.DB
	now  func() time.Time
	hash []byte // key of HMAC-SHA-256
	seal cipher.AEAD
}

func newAnswers(d *db.DB, secret []byte, now func() time.Time) (*answers, error) {
	hash, err := hkdf.Key(sha256.New, secret, nil, "muster idempotency hashes", 32)
	if err != nil {
		return nil, fmt.Errorf("httpapi: derive a key: %w", err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "muster idempotency answers", 32)
	if err != nil {
		return nil, fmt.Errorf("httpapi: derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("httpapi: answers' key: %w", err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("httpapi: answers' key: %w", err)
	}
	return &answers{db: d, now: now, hash: hash, seal: seal}, nil
}

// mac is a keyed hash of several strings, each with its length.
func (s *answers) mac(parts ...string) []byte {
	h := hmac.New(sha256.New, s.hash)
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return h.Sum(nil)
}

// question is a request under a key.
type question struct {
	id      []byte       // whose key it is
	request []byte       // what is asked
	user    *core.UserID // nil: nobody is signed in
}

// answer is a response.
type storedAnswer struct {
	Status int
	Header http.Header
	Body   []byte
}

var _ http.ResponseWriter = (*recorder)(nil)

// recorder is a response that has not been sent.
type recorder struct{ storedAnswer }

func newRecorder() *recorder { return &recorder{storedAnswer{Header: http.Header{}}} }

func (r *recorder) Header() http.Header { return r.storedAnswer.Header }
func (r *recorder) WriteHeader(status int) {
	r.Status = cmp.Or(r.Status, status)
}
func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.Body = append(r.Body, b...)
	return len(b), nil
}

func (s storedAnswer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), s.Header)
	w.WriteHeader(cmp.Or(s.Status, http.StatusOK))
	_, _ = w.Write(s.Body) // the client may have gone
}

var (
	errTaken  = errors.New("somebody else was first with this key")
	errFailed = errors.New("the operation failed: nothing is kept")
)

// once carries a write out in one transaction with the storing of its answer, at
// most once per key, and answers repeated requests as the first. What failed is
// not stored: it may succeed later. A refusal that was itself written, as the end
// of a login whose refresh token came twice, is.
func (a *api) once(o operation) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		key := ctx.Header(keyHeader)
		if key == "" {
			next(ctx)
			return
		}
		r, w := humachi.Unwrap(ctx)
		body, q, err := a.question(o, ctx, r, key)
		if err == nil {
			err = a.answer(ctx, r, w, body, q, next)
		}
		if err != nil {
			fromError(ctx.Context(), a.Log, err).write(w)
		}
	}
}

func (a *api) question(o operation, ctx huma.Context, r *http.Request, key string) (body []byte, q question, err error) {
	if !validKey(key, o.public) {
		return nil, q, errBadKey
	}
	if r.Body != nil {
		limit := ctx.Operation().MaxBodyBytes
		_ = ctx.SetReadDeadline(time.Now().Add(cmp.Or(ctx.Operation().BodyReadTimeout, 5*time.Second)))
		body, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
		_ = ctx.SetReadDeadline(time.Time{})
		switch {
		case err != nil:
			return nil, q, newProblem(http.StatusBadRequest, "bad_request", "the request's body could not be read")
		case int64(len(body)) >= limit:
			return nil, q, tooLarge(limit - 1)
		}
	}
	s := a.answers
	q.request = s.mac(r.Method, r.URL.Path, r.URL.RawQuery, string(body))
	if o.public {
		q.id = s.mac("operation", o.id, accountIn(body, o.account), key)
	} else {
		user := caller(ctx.Context()).User
		q.user, q.id = &user, s.mac("user", user.String(), key)
	}
	return body, q, nil
}

// accountIn returns the field of a body that says whose it is.
func accountIn(body []byte, field string) string {
	var fields map[string]any
	if field == "" || json.Unmarshal(body, &fields) != nil {
		return ""
	}
	s, _ := fields[field].(string)
	return strings.ToLower(strings.TrimSpace(s))
}

// answer answers a request by what is stored or, if there is nothing yet, by
// carrying it out.
func (a *api) answer(hctx huma.Context, r *http.Request, w http.ResponseWriter, body []byte, q question, next func(huma.Context)) error {
	s, ctx := a.answers, hctx.Context()
	for range 3 {
		if done, err := s.replay(ctx, q, w); done || err != nil {
			return err
		}
		var rec *recorder
		err := s.db.Together(ctx, db.Work{
			First: func(ctx context.Context, tx pgx.Tx) error { return s.claim(ctx, tx, q) },
			Do: func(ctx context.Context, wrote func() bool) error {
				again := r.WithContext(ctx)
				again.Body = io.NopCloser(bytes.NewReader(body))
				if len(body) == 0 {
					again.Body = http.NoBody
				}
				rec = newRecorder()
				next(humachi.NewContext(hctx.Operation(), again, rec))
				if rec.Status < 400 || rec.Status < 500 && wrote() {
					return nil
				}
				return errFailed
			},
			Last: func(ctx context.Context, tx pgx.Tx) error { return s.store(ctx, tx, q, rec.storedAnswer) },
		})
		switch {
		case errors.Is(err, errTaken):
			continue
		case errors.Is(err, errFailed):
			// Perhaps because the same request has just succeeded.
			if done, err := s.replay(ctx, q, w); done || err != nil {
				return err
			}
		case err != nil:
			return err
		}
		rec.write(w)
		return nil
	}
	return errs.New(errs.Unavailable, "retry", "this request is being carried out; try again").After(time.Second)
}

// replay answers as before, if there was an answer.
func (s *answers) replay(ctx context.Context, q question, w http.ResponseWriter) (done bool, err error) {
	var request, sealed []byte
	err = s.db.Read(ctx, func(ctx context.Context, c db.Querier) error {
		request, sealed = nil, nil
		err := c.QueryRow(ctx, `SELECT request, answer FROM idempotent_answers WHERE id = $1 AND created_at >= $2`, q.id, s.now().Add(-keepAnswers)).
			Scan(&request, &sealed)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return false, fmt.Errorf("read an answer: %w", err)
	case request == nil:
		return false, nil
	case !hmac.Equal(request, q.request):
		return false, errKeyReused
	}
	encoded, err := s.seal.Open(nil, nil, sealed, q.id)
	if err != nil {
		return false, fmt.Errorf("open an answer: %w", err)
	}
	var stored storedAnswer
	if err := json.Unmarshal(encoded, &stored); err != nil {
		return false, fmt.Errorf("decode an answer: %w", err)
	}
	w.Header().Set(replayedHeader, "true")
	stored.write(w)
	return true, nil
}

// claim makes the key this transaction's. Whoever else wants it waits for the end
// of that, and is too late then.
func (s *answers) claim(ctx context.Context, tx pgx.Tx, q question) error {
	now := s.now()
	tag, err := tx.Exec(ctx,
		`INSERT INTO idempotent_answers (id, user_id, request, created_at) VALUES ($1, $2, $3, $4)
		 ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, request = excluded.request, answer = NULL, created_at = excluded.created_at
		 WHERE idempotent_answers.created_at < $5`, q.id, q.user, q.request, now, now.Add(-keepAnswers))
	if err == nil && tag.RowsAffected() == 0 {
		err = errTaken
	}
	return err
}

func (s *answers) store(ctx context.Context, tx pgx.Tx, q question, a storedAnswer) error {
	encoded, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	_, err = tx.Exec(ctx, `UPDATE idempotent_answers SET answer = $2 WHERE id = $1`, q.id, s.seal.Seal(nil, nil, encoded, q.id))
	return err
}

func validKey(key string, public bool) bool {
	if len(key) > maxKey || public && len(key) < minPublicKey {
		return false
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// SweepIdempotencyKeys deletes the answers that aren't replayed any more, and those
// that an earlier version of Muster kept elsewhere.
func SweepIdempotencyKeys(ctx context.Context, d *db.DB, now time.Time) error {
	err := d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM idempotency_keys WHERE created_at < $1`, now.Add(-keepAnswers)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM idempotent_answers WHERE created_at < $1`, now.Add(-keepAnswers))
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep idempotency keys: %w", err)
	}
	return nil
}
