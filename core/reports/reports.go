// Package reports is how people ask whoever runs the deployment to look at
// something: a message, a room, or a person.
//
// One reports what one can see, which others tell (Subjects), and once while the
// report is open. What it said at that time is kept with it, sealed with the
// deployment's secret: its author can delete the message, and neither the database's
// backups nor its operators show it to anybody but who looks at the report
// (`muster ctl reports`). Whom a report is about is not told of it, nor who made it.
//
// A report goes with the account that it is about; that of its reporter leaves only
// the reason and the evidence. Closed ones go after half a year.
package reports

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrNoSubject = errs.New(errs.NotFound, "subject_not_found", "there is nothing like that which you can see")
	ErrBadReport = errs.New(errs.Invalid, "bad_report", "name a message by room and number, a room, a talk, or a person; the text has at most 1,000 characters")
	ErrSelf      = errs.New(errs.Invalid, "bad_request", "this is yourself").At("body.user_id")
	ErrRate      = errs.New(errs.RateLimited, "rate_limited", "you reported much today: go on tomorrow").After(time.Hour)
)

const (
	maxText    = 1000
	maxOutcome = 500
	maxDaily   = 20
	keepClosed = 180 * 24 * time.Hour
)

// Reasons are those that a report may have.
func Reasons() []string {
	return []string{"spam", "harassment", "hate", "sexual", "violence", "child_safety", "impersonation", "other"}
}

// Subject is what somebody wants to be looked at: a message, by room and number; a
// room, without number; or a person, without room.
type Subject struct {
	Room   string
	Number uint64
	User   core.UserID
}

// Seen is a subject as who reports it sees it.
type Seen struct {
	User     core.UserID    // whom it is about; zero: a room of many
	Evidence map[string]any // what it says
}

// Subjects tells what people can see; what a user can't see is ErrNoSubject.
type Subjects interface {
	See(ctx context.Context, user core.UserID, s Subject) (Seen, error)
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now func() time.Time // default time.Now
}

// Store is the reports. It is safe for concurrent use.
type Store struct {
	db       *db.DB
	subjects Subjects
	seal     cipher.AEAD
	cfg      Config
}

// New returns a Store. The secret is the deployment's, of at least 32 bytes.
func New(d *db.DB, secret []byte, subjects Subjects, cfg Config) (*Store, error) {
	if len(secret) < 32 {
		return nil, errors.New("reports: the secret needs at least 32 bytes")
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "muster reports", 32)
	if err != nil {
		return nil, fmt.Errorf("reports: derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("reports: sealing cipher: %w", err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("reports: sealing cipher: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, subjects: subjects, seal: seal, cfg: cfg}, nil
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// File reports something. While a report of the user's about the same is open, that
// one stays as it is, and its id is returned.
func (s *Store) File(ctx context.Context, user core.UserID, about Subject, reason, text string) (id uuid.UUID, err error) {
	text, ok := core.CleanText(text, 0, maxText, true)
	none := core.UserID{}
	switch {
	case !slices.Contains(Reasons(), reason):
		return uuid.Nil, ErrBadReport.At("body.reason")
	case !ok:
		return uuid.Nil, ErrBadReport.At("body.text")
	case (about.Room == "") == (about.User == none) || about.Room == "" && about.Number > 0:
		return uuid.Nil, ErrBadReport
	case about.User == user:
		return uuid.Nil, ErrSelf
	}
	seen, err := s.subjects.See(ctx, user, about)
	if err != nil {
		return uuid.Nil, err
	}
	if seen.User == user {
		return uuid.Nil, ErrSelf
	}
	evidence, err := json.Marshal(seen.Evidence)
	if err != nil {
		return uuid.Nil, fmt.Errorf("report: %w", err)
	}
	var subject *core.UserID
	if seen.User != none {
		subject = &seen.User
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var open *uuid.UUID
		var today int
		now := s.now()
		if err := tx.QueryRow(ctx,
			`SELECT (SELECT id FROM reports WHERE reporter = $1 AND closed_at IS NULL AND room = $2 AND number = $3 AND ($2 <> '' OR subject = $4)),
			   (SELECT count(*) FROM reports WHERE reporter = $1 AND created_at > $5)`,
			user, about.Room, int64(about.Number), subject, now.Add(-24*time.Hour)).Scan(&open, &today); err != nil {
			return err
		}
		if open != nil {
			id = *open
			return nil
		}
		if today >= maxDaily {
			return ErrRate
		}
		id = uuid.New()
		_, err := tx.Exec(ctx,
			`INSERT INTO reports (id, reporter, subject, room, number, reason, text, evidence, created_at)
			 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`, // one that came at once is a conflict of transactions
			id, user, subject, about.Room, int64(about.Number), reason, text, s.seal.Seal(nil, nil, evidence, id[:]), now)
		return err
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("report: %w", err)
	}
	return id, nil
}

// Report is one, as operators see it.
type Report struct {
	ID        uuid.UUID       `json:"id"`
	Reporter  *uuid.UUID      `json:"reporter,omitempty"` // absent: their account is gone
	Subject   *uuid.UUID      `json:"subject,omitempty"`  // absent: a room of many
	Room      string          `json:"room,omitempty"`
	Number    int64           `json:"number,omitempty"`
	Reason    string          `json:"reason"`
	Text      string          `json:"text,omitempty"`
	Evidence  json.RawMessage `json:"evidence,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	ClosedAt  *time.Time      `json:"closed_at,omitempty"`
	Outcome   string          `json:"outcome,omitempty"`
}

// State chooses reports.
type State string

// The states of reports.
const (
	Open   State = "open"
	Closed State = "closed"
	All    State = "all"
)

// List returns reports, the oldest first: who waited longest is looked at next.
func (s *Store) List(ctx context.Context, state State, limit int) (list []Report, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, reporter, subject, room, number, reason, text, evidence, created_at, closed_at, outcome FROM reports
			 WHERE $1 = 'all' OR (closed_at IS NULL) = ($1 = 'open') ORDER BY created_at, id LIMIT $2`, string(state), limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Report, err error) {
			var sealed []byte
			if err = row.Scan(&r.ID, &r.Reporter, &r.Subject, &r.Room, &r.Number, &r.Reason, &r.Text, &sealed, &r.CreatedAt, &r.ClosedAt, &r.Outcome); err != nil {
				return r, err
			}
			if sealed != nil { // under another secret it can't be read, and the rest can
				if r.Evidence, err = s.seal.Open(nil, nil, sealed, r.ID[:]); err != nil {
					r.Evidence = json.RawMessage(`{"unreadable":true}`)
				}
			}
			return r, nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list reports: %w", err)
	}
	return list, nil
}

// Close says what became of an open report; false: there is none of that id.
func (s *Store) Close(ctx context.Context, id uuid.UUID, outcome string) (was bool, err error) {
	outcome, ok := core.CleanText(outcome, 1, maxOutcome, true)
	if !ok {
		return false, errs.New(errs.Invalid, "bad_report", "say what became of it in up to 500 characters")
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE reports SET closed_at = $2, outcome = $3 WHERE id = $1 AND closed_at IS NULL`, id, s.now(), outcome)
		was = tag.RowsAffected() > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("close report: %w", err)
	}
	return was, nil
}

// Sweep deletes what was closed long ago.
func (s *Store) Sweep(ctx context.Context) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM reports WHERE closed_at < $1`, s.now().Add(-keepClosed))
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep reports: %w", err)
	}
	return nil
}
