package auth

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// EventKind is what happened to an account's security.
type EventKind string

// The kinds of security events.
const (
	EventRegistered     EventKind = "registered" // also a guest who became an account
	EventSignedIn       EventKind = "signed_in"
	EventSignInFailed   EventKind = "sign_in_failed" // the password was wrong
	EventSignedOut      EventKind = "signed_out"
	EventLoginEnded     EventKind = "login_ended" // from another device, or by a change of the password
	EventRefreshReused  EventKind = "refresh_reused"
	EventEmailVerified  EventKind = "email_verified"
	EventEmailAsked     EventKind = "email_change_requested"
	EventEmailChanged   EventKind = "email_changed"
	EventPassword       EventKind = "password_changed"
	EventResetAsked     EventKind = "password_reset_requested"
	EventReset          EventKind = "password_reset"
	EventGoogleLinked   EventKind = "google_linked"
	EventGoogleUnlinked EventKind = "google_unlinked"
)

// Event is an entry of the audit log.
type Event struct {
	ID      uuid.UUID
	At      time.Time
	Kind    EventKind
	Login   core.LoginID // that did it, or that it is about; zero: none
	Network string
	Data    map[string]any
}

// auditKept is how long the audit log reaches back.
const auditKept = 180 * 24 * time.Hour

// Audit notes what happened to a user's security, in the transaction in which it
// happens. login may be zero and data nil; neither a token nor a mail address
// belongs there.
func (s *Service) Audit(ctx context.Context, tx pgx.Tx, user core.UserID, kind EventKind, login core.LoginID, data map[string]any) error {
	return s.audit(ctx, tx, user, kind, login, data, originOf(ctx).Network, s.now())
}

func (s *Service) audit(ctx context.Context, tx pgx.Tx, user core.UserID, kind EventKind, login core.LoginID, data map[string]any, network string, at time.Time) error {
	encoded := []byte("{}")
	if data != nil {
		var err error
		if encoded, err = json.Marshal(data); err != nil {
			return err
		}
	}
	var by *core.LoginID
	if login != (core.LoginID{}) {
		by = &login
	}
	_, err := tx.Exec(ctx, `INSERT INTO audit_events (id, user_id, at, kind, login_id, network, data) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		uuid.New(), user, at, string(kind), by, network, encoded)
	return err
}

// Events returns a page of a user's audit log, the newest first, and the cursor of
// the next page.
func (s *Service) Events(ctx context.Context, user core.UserID, cursor string, limit int) (list []Event, next string, err error) {
	from, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, at, kind, login_id, network, data FROM audit_events
			 WHERE user_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4`, user, from.At, from.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
			var login *core.LoginID
			err = row.Scan(&e.ID, &e.At, &e.Kind, &login, &e.Network, &e.Data)
			if login != nil {
				e.Login = *login
			}
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, "", wrap("read audit log", err)
	}
	list, next = core.Page(list, limit, func(e Event) core.Position { return core.Position{At: e.At, ID: e.ID} })
	return list, next, nil
}

// failure is a sign-in that failed, on its way to the audit log.
type failure struct {
	user    core.UserID
	network string
	at      time.Time
}

const (
	failuresQueued  = 256
	failuresTimeout = 5 * time.Second
)

// failed notes that somebody tried a wrong password of an account. The caller
// does not wait: if it did, the answer would take longer for addresses that have
// an account. Of a user who is under attack a few are kept; when many are, what
// finds the queue full is not kept.
func (s *Service) failed(ctx context.Context, user core.UserID) {
	if s.failures.perUser.Allow(user.String()) != nil {
		return
	}
	select {
	case s.failures.queue <- failure{user, originOf(ctx).Network, s.now()}:
	default:
		s.log.WarnContext(ctx, "a failed sign-in is missing from the audit log: too many at once")
	}
}

// writeFailures writes what failed until ctx ends.
func (s *Service) writeFailures(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-s.failures.queue:
			ctx, cancel := context.WithTimeout(ctx, failuresTimeout)
			err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				var one int
				switch err := tx.QueryRow(ctx, `SELECT 1 FROM users WHERE id = $1`, f.user).Scan(&one); err {
				case nil:
				case pgx.ErrNoRows: // deleted meanwhile
					return nil
				default:
					return err
				}
				return s.audit(ctx, tx, f.user, EventSignInFailed, core.LoginID{}, nil, f.network, f.at)
			})
			cancel()
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "a failed sign-in is missing from the audit log", "err", err)
			}
		}
	}
}
