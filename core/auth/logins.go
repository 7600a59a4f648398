package auth

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
)

// Device is a login as its user sees it.
type Device struct {
	Login    core.LoginID
	Info     json.RawMessage // what the app said about the device
	Network  string          // from which it was begun
	Created  time.Time
	LastUsed time.Time // when it was begun or last refreshed
}

// Logins returns a page of a user's logins that can still be used, the newest
// first, and the cursor of the next page.
func (s *Service) Logins(ctx context.Context, user core.UserID, cursor string, limit int) (list []Device, next string, err error) {
	from, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT l.id, l.device_info, l.network, l.created_at, max(r.created_at)
			 FROM logins l JOIN refresh_tokens r ON r.login_id = l.id
			 WHERE l.user_id = $1 AND l.revoked_at IS NULL AND (l.created_at, l.id) < ($2, $3)
			 GROUP BY l.id, l.device_info, l.network, l.created_at
			 HAVING max(r.expires_at) > $4
			 ORDER BY l.created_at DESC, l.id DESC LIMIT $5`, user, from.At, from.ID, s.now(), limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Device, err error) {
			err = row.Scan(&d.Login, &d.Info, &d.Network, &d.Created, &d.LastUsed)
			return d, err
		})
		return err
	})
	if err != nil {
		return nil, "", wrap("list logins", err)
	}
	list, next = core.Page(list, limit, func(d Device) core.Position { return core.Position{At: d.Created, ID: uuid.UUID(d.Login)} })
	return list, next, nil
}

// EndLogin ends one of the caller's logins, and returns once the edges of this
// region know. One that has ended already is a success.
func (s *Service) EndLogin(ctx context.Context, id Identity, login core.LoginID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var one int
		err := tx.QueryRow(ctx, `SELECT 1 FROM logins WHERE id = $1 AND user_id = $2`, login, id.User).Scan(&one)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrLoginNotFound
		}
		if err != nil {
			return err
		}
		reason, kind := reasonEnded, EventLoginEnded
		if login == id.Login {
			reason, kind = reasonSignedOut, EventSignedOut
		}
		return s.endLogin(ctx, tx, login, reason, kind)
	})
	if err != nil {
		return wrap("end login", err)
	}
	s.announceRevoked(ctx, login)
	return nil
}

// EndOthers ends all of the caller's logins but this one, and returns how many
// there were once the edges of this region know.
func (s *Service) EndOthers(ctx context.Context, id Identity) (int, error) {
	var ended []core.LoginID
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		if err := alive(ctx, tx, id.Login); err != nil {
			return err
		}
		ended, err = s.endLogins(ctx, tx, id.User, id.Login, reasonEnded)
		return err
	})
	if err != nil {
		return 0, wrap("end logins", err)
	}
	s.announceRevoked(ctx, ended...)
	return len(ended), nil
}

// Retire closes every way into a user's account, in the caller's transaction: the
// logins, of which the edges are told once it has committed, the password, the mail
// address, what was mailed to it and Google. The user's name stays taken. It is for
// the deletion of accounts.
func (s *Service) Retire(ctx context.Context, tx pgx.Tx, user core.UserID) error {
	ended, err := s.endLogins(ctx, tx, user, core.LoginID{}, reasonDeleted)
	if err != nil {
		return err
	}
	for _, sql := range []string{
		`UPDATE users SET email = NULL, email_key = NULL, email_verified_at = NULL, password_hash = NULL WHERE id = $1`,
		`DELETE FROM account_tokens WHERE user_id = $1`,
		`DELETE FROM google_identities WHERE user_id = $1`,
		`DELETE FROM refresh_tokens WHERE login_id IN (SELECT id FROM logins WHERE user_id = $1)`,
	} {
		if _, err := tx.Exec(ctx, sql, user); err != nil {
			return err
		}
	}
	s.announceRevoked(ctx, ended...)
	return nil
}

// endLogin ends a login, if it lives.
func (s *Service) endLogin(ctx context.Context, tx pgx.Tx, login core.LoginID, reason string, kind EventKind) error {
	var user core.UserID
	err := tx.QueryRow(ctx, `UPDATE logins SET revoked_at = $2, revoke_reason = $3 WHERE id = $1 AND revoked_at IS NULL RETURNING user_id`,
		login, s.now(), reason).Scan(&user)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.ended(ctx, tx, user, reason, kind, login)
}

// endLogins ends a user's logins but one, which may be zero, and returns them.
func (s *Service) endLogins(ctx context.Context, tx pgx.Tx, user core.UserID, but core.LoginID, reason string) ([]core.LoginID, error) {
	rows, err := tx.Query(ctx, `UPDATE logins SET revoked_at = $3, revoke_reason = $4 WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL RETURNING id`,
		user, but, s.now(), reason)
	if err != nil {
		return nil, err
	}
	logins, err := pgx.CollectRows(rows, pgx.RowTo[core.LoginID])
	if err != nil {
		return nil, err
	}
	if len(logins) == 0 {
		return nil, nil
	}
	return logins, s.ended(ctx, tx, user, reason, EventLoginEnded, logins...)
}

// ended leaves word of logins' end: for the audit log, and for the user's other
// devices, which may be showing a list.
func (s *Service) ended(ctx context.Context, tx pgx.Tx, user core.UserID, reason string, kind EventKind, logins ...core.LoginID) error {
	ids, about, events := make([]uuid.UUID, len(logins)), make([]uuid.UUID, len(logins)), make([]outbox.Event, len(logins))
	for i, l := range logins {
		ids[i], about[i] = uuid.New(), uuid.UUID(l)
		events[i] = outbox.Event{Key: user.Key(), Kind: core.LoginEnded, Data: map[string]string{"login_id": l.String()}}
	}
	_, err := tx.Exec(ctx,
		`INSERT INTO audit_events (id, user_id, at, kind, login_id, network, data)
		 SELECT id, $3, $4, $5, login_id, $6, jsonb_build_object('reason', $7::TEXT) FROM unnest($1::UUID[], $2::UUID[]) AS e (id, login_id)`,
		ids, about, user, s.now(), string(kind), originOf(ctx).Network, reason)
	if err != nil {
		return err
	}
	return outbox.Append(ctx, tx, events...)
}

// announcing is how many ended logins are told of at a time.
const announcing = 16

// announceRevoked tells that logins are ended, once that is committed.
func (s *Service) announceRevoked(ctx context.Context, logins ...core.LoginID) {
	if s.announce == nil {
		return
	}
	db.AfterCommit(ctx, func(ctx context.Context) {
		places := make(chan struct{}, announcing)
		var wg sync.WaitGroup
		for _, l := range logins {
			places <- struct{}{}
			wg.Go(func() {
				s.announce.LoginRevoked(ctx, l)
				<-places
			})
		}
		wg.Wait()
	})
}
