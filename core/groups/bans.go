package groups

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures around bans that a client is told about.
var (
	ErrNoUser      = errs.New(errs.NotFound, "user_not_found", "there is no such user")
	ErrBadReason   = errs.New(errs.Invalid, "bad_reason", "a reason has at most 200 characters").At("body.reason")
	ErrTooManyBans = errs.New(errs.Conflict, "too_many_bans", "the group bans as many people as it can: end some bans")
)

const maxBans = 5000

// Ban is somebody whom a group does not let in.
type Ban struct {
	User     core.UserID
	Username string
	By       *core.UserID // nil: whose account is gone
	Reason   string       // for owner and admins
	At       time.Time
}

// Ban removes somebody, if they are in, and lets them in no more, by no code. The
// owner may, and admins may as far as they may remove; somebody who is no member
// can be banned, too. Again is a success.
func (s *Store) Ban(ctx context.Context, actor core.UserID, id core.GroupID, user core.UserID, reason string) error {
	reason, ok := core.CleanText(reason, 0, 200, false)
	if !ok {
		return ErrBadReason
	}
	return s.change(ctx, "ban", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		var their *Role
		var known bool
		var bans int
		if err := tx.QueryRow(ctx,
			`SELECT EXISTS (SELECT 1 FROM users WHERE id = $2 AND deleted_at IS NULL), (SELECT role FROM group_members WHERE group_id = $1 AND user_id = $2),
			   (SELECT count(*) FROM group_bans WHERE group_id = $1 AND user_id <> $2)`, id, user).Scan(&known, &their, &bans); err != nil {
			return e, err
		}
		member := their != nil
		switch {
		case r == Plain || member && !r.manages(*their):
			return e, ErrForbidden
		case !known:
			return e, ErrNoUser
		case bans >= maxBans:
			return e, ErrTooManyBans
		}
		tag, err := tx.Exec(ctx,
			`INSERT INTO group_bans (group_id, user_id, banned_by, reason, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
			id, user, actor, reason, s.cfg.Now())
		if err != nil || tag.RowsAffected() == 0 {
			return e, err
		}
		if member {
			err = s.putOut(ctx, tx, user, id)
		}
		return event{kind: core.GroupBanned, user: user}, err
	})
}

// Unban lets somebody in again, once they have a code. Without a ban it is a
// success. Owner and admins may.
func (s *Store) Unban(ctx context.Context, actor core.UserID, id core.GroupID, user core.UserID) error {
	return s.change(ctx, "unban", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		if r == Plain {
			return e, ErrForbidden
		}
		tag, err := tx.Exec(ctx, `DELETE FROM group_bans WHERE group_id = $1 AND user_id = $2`, id, user)
		if err == nil && tag.RowsAffected() > 0 {
			e = event{kind: core.GroupUnbanned, user: user}
		}
		return e, err
	})
}

// Bans returns whom a group bans, the latest first, and the cursor of the next
// page, empty if there is none. Owner and admins may.
func (s *Store) Bans(ctx context.Context, actor core.UserID, id core.GroupID, cursor string, limit int) (list []Ban, next string, err error) {
	after, bad := core.ParseCursor(cursor, true)
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		r, err := role(ctx, tx, actor, id)
		switch {
		case err != nil:
			return err
		case r == Plain:
			return ErrForbidden
		case bad != nil:
			return bad
		}
		rows, err := tx.Query(ctx,
			`SELECT b.user_id, u.username, b.banned_by, b.reason, b.created_at FROM group_bans b JOIN users u ON u.id = b.user_id
			 WHERE b.group_id = $1 AND (b.created_at, b.user_id) < ($2, $3)
			 ORDER BY b.created_at DESC, b.user_id DESC LIMIT $4`, id, after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Ban, err error) {
			err = row.Scan(&b.User, &b.Username, &b.By, &b.Reason, &b.At)
			return b, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list bans: %w", err)
	}
	list, next = core.Page(list, limit, func(b Ban) core.Position { return core.Position{At: b.At, ID: uuid.UUID(b.User)} })
	return list, next, nil
}
