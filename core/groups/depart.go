package groups

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Depart takes a user whose account has ended out of all their groups. One that
// they own passes to the admin, or else the member, who has been in it longest; one
// that they are alone in goes. It can be repeated.
func (s *Store) Depart(ctx context.Context, user core.UserID) error {
	var ids []core.GroupID
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT group_id FROM group_members WHERE user_id = $1 ORDER BY group_id`, user)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[core.GroupID])
		return err
	})
	if err != nil {
		return fmt.Errorf("depart: %w", err)
	}
	for _, id := range ids {
		// A transaction for each: who is in many groups holds up none for long.
		err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			r, err := role(ctx, tx, user, id)
			if err != nil {
				return err
			}
			ctx = db.Within(ctx, tx) // or the group has no owner for a moment, or two connections are held
			if r == Owner {
				if err := s.passOn(ctx, tx, user, id); err != nil {
					return err
				}
			}
			return s.Leave(ctx, user, id)
		})
		if err != nil && !errors.Is(err, ErrNotMember) { // somebody else was faster
			return fmt.Errorf("depart: %w", err)
		}
	}
	return nil
}

// passOn gives a group another owner, if there is anybody else. Somebody whose
// account has ended, too, is the last choice: they pass it on in their turn.
func (s *Store) passOn(ctx context.Context, tx pgx.Tx, owner core.UserID, id core.GroupID) error {
	var heir core.UserID
	err := tx.QueryRow(ctx,
		`SELECT gm.user_id FROM group_members gm JOIN users u ON u.id = gm.user_id WHERE gm.group_id = $1 AND gm.user_id <> $2
		 ORDER BY u.deleted_at IS NOT NULL, gm.role <> 'admin', gm.joined_at, gm.user_id LIMIT 1`, id, owner).Scan(&heir)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.Transfer(ctx, owner, id, heir)
	return err
}
