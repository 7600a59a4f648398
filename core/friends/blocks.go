package friends

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Block makes two users invisible to each other; again is a success.
func (s *Store) Block(ctx context.Context, user, other core.UserID) error {
	if user == other {
		return ErrSelf
	}
	return s.part(ctx, "block", user, other, func(ctx context.Context, tx pgx.Tx) (bool, error) {
		var known bool
		var blocks int
		if err := tx.QueryRow(ctx,
			`SELECT EXISTS (SELECT 1 FROM users WHERE id = $2 AND deleted_at IS NULL), (SELECT count(*) FROM blocks WHERE blocker = $1 AND blocked <> $2)`,
			user, other).Scan(&known, &blocks); err != nil {
			return false, err
		}
		switch {
		case !known:
			return false, ErrNoUser
		case blocks >= maxBlocks:
			return false, ErrTooMany
		}
		tag, err := tx.Exec(ctx, `INSERT INTO blocks (blocker, blocked, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			user, other, s.now())
		if err != nil || tag.RowsAffected() == 0 {
			return false, err
		}
		if s.cfg.Notify != nil {
			if err := s.cfg.Notify.Parted(ctx, tx, user, other); err != nil {
				return false, err
			}
		}
		return true, s.end(ctx, tx, user, other)
	})
}

// Unblock ends one's own block; without one it is a success. What they had
// granted each other does not come back, nor does a friendship.
func (s *Store) Unblock(ctx context.Context, user, other core.UserID) error {
	return s.part(ctx, "unblock", user, other, func(ctx context.Context, tx pgx.Tx) (bool, error) {
		tag, err := tx.Exec(ctx, `DELETE FROM blocks WHERE blocker = $1 AND blocked = $2`, user, other)
		return tag.RowsAffected() > 0, err
	})
}

// part runs fn in a transaction, and where it changed something also what that
// means for positions.
func (s *Store) part(ctx context.Context, what string, user, other core.UserID, fn func(context.Context, pgx.Tx) (changed bool, err error)) error {
	return s.change(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		changed, err := fn(ctx, tx)
		sharing := s.cfg.Sharing
		if err != nil || !changed || sharing == nil {
			return err
		}
		db.AfterCommit(ctx, func(ctx context.Context) {
			sharing.Tell(ctx, user, other)
			sharing.Tell(ctx, other)
		})
		return sharing.Parted(ctx, tx, user, other)
	})
}

// end ends what two people are to each other, as one of them wants, and what they
// asked each other.
func (s *Store) end(ctx context.Context, tx pgx.Tx, by, other core.UserID) error {
	if err := unfriend(ctx, tx, by, other); err != nil {
		return err
	}
	for _, r := range []struct {
		from, to    core.UserID
		state, kind string
	}{{by, other, "canceled", core.FriendCanceled}, {other, by, "declined", core.FriendDeclined}} {
		if was, err := s.answer(ctx, tx, r.from, r.to, r.state); err != nil {
			return err
		} else if was {
			if err := tell(ctx, tx, r.kind, by, other); err != nil {
				return err
			}
		}
	}
	return nil
}

// Hidden returns whom a user must not see, and who must not see them: those
// that they blocked, or are blocked by.
func (s *Store) Hidden(ctx context.Context, user core.UserID) (ids []core.UserID, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT blocked FROM blocks WHERE blocker = $1 UNION SELECT blocker FROM blocks WHERE blocked = $1`, user)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[core.UserID])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	return ids, nil
}

// Parted reports whether two people are on no terms, whoever of them wanted that.
func (s *Store) Parted(ctx context.Context, a, b core.UserID) (parted bool, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT EXISTS (SELECT 1 FROM blocks WHERE blocker = $1 AND blocked = $2 OR blocker = $2 AND blocked = $1)`, a, b).Scan(&parted)
	})
	if err != nil {
		return false, fmt.Errorf("read blocks: %w", err)
	}
	return parted, nil
}

// Blocked is somebody whom a user blocked.
type Blocked struct {
	User     core.UserID
	Username string
	At       time.Time
}

// List returns whom a user blocked, the latest first, and the cursor of the next
// page, empty if there is none.
func (s *Store) List(ctx context.Context, user core.UserID, cursor string, limit int) (list []Blocked, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT b.blocked, u.username, b.created_at FROM blocks b JOIN users u ON u.id = b.blocked
			 WHERE b.blocker = $1 AND (b.created_at, b.blocked) < ($2, $3)
			 ORDER BY b.created_at DESC, b.blocked DESC LIMIT $4`, user, after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocked, err error) {
			err = row.Scan(&b.User, &b.Username, &b.At)
			return b, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list blocks: %w", err)
	}
	list, next = core.Page(list, limit, func(b Blocked) core.Position { return core.Position{At: b.At, ID: uuid.UUID(b.User)} })
	return list, next, nil
}
