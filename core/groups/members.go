package groups

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Member is somebody in a group.
type Member struct {
	User     core.UserID
	Username string
	Picture  string
	Rating   core.Rating
	Role     Role
	JoinedAt time.Time
}

// Standing is what an edge must know to let somebody into a group's room.
type Standing struct {
	Role     Role
	Username string
	Version  uint64 // of the group, as of which this is true
	Home     string // region of the group: see Store.Home
}

// Member returns a user's standing in a group, as of min or later. It is one
// statement, so role, name and version belong together. For who is no member
// (or a group that doesn't exist) it returns ErrNotMember; ErrBehind means that
// the database it asked doesn't know min yet.
func (s *Store) Member(ctx context.Context, user core.UserID, id core.GroupID, min uint64) (st Standing, err error) {
	var r, name *string
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT g.version, g.home_region, gm.role, u.username FROM groups g
			 LEFT JOIN group_members gm ON gm.group_id = g.id AND gm.user_id = $2
			 LEFT JOIN users u ON u.id = gm.user_id WHERE g.id = $1`, id, user).Scan(&st.Version, &st.Home, &r, &name)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Standing{}, ErrNotMember
	case err != nil:
		return Standing{}, fmt.Errorf("read membership: %w", err)
	case st.Version < min:
		return Standing{}, ErrBehind
	case r == nil || name == nil:
		return Standing{Version: st.Version, Home: st.Home}, ErrNotMember
	}
	st.Role, st.Username = Role(*r), *name
	return st, nil
}

// Members returns a page of a group's members, the longest-standing first, and
// the cursor of the next page, empty if there is none.
func (s *Store) Members(ctx context.Context, user core.UserID, id core.GroupID, cursor string, limit int) (list []Member, next string, err error) {
	after, err := core.ParseCursor(cursor, false)
	if err != nil {
		return nil, "", err
	}
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := role(ctx, tx, user, id); err != nil {
			return err
		}
		list, err = members(ctx, tx, id, after, limit+1)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list members: %w", err)
	}
	list, next = core.Page(list, limit, func(m Member) core.Position { return core.Position{At: m.JoinedAt, ID: uuid.UUID(m.User)} })
	return list, next, nil
}

func members(ctx context.Context, q db.Querier, id core.GroupID, after core.Position, limit int) ([]Member, error) {
	rows, err := q.Query(ctx,
		`SELECT gm.user_id, u.username, u.profile_picture, u.rating_sum, u.rating_count, gm.role, gm.joined_at
		 FROM group_members gm JOIN users u ON u.id = gm.user_id
		 WHERE gm.group_id = $1 AND (gm.joined_at, gm.user_id) > ($2, $3)
		 ORDER BY gm.joined_at, gm.user_id LIMIT $4`, id, after.At, after.ID, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Member, err error) {
		err = row.Scan(&m.User, &m.Username, &m.Picture, &m.Rating.Sum, &m.Rating.Count, &m.Role, &m.JoinedAt)
		return m, err
	})
}

// role returns the user's role, or ErrNotMember.
func role(ctx context.Context, q db.Querier, user core.UserID, id core.GroupID) (Role, error) {
	var r Role
	err := q.QueryRow(ctx, `SELECT role FROM group_members WHERE group_id = $1 AND user_id = $2`, id, user).Scan(&r)
	if errors.Is(err, pgx.ErrNoRows) {
		return nobody, ErrNotMember
	}
	return r, err
}

// target is role for the member that a request is about.
func target(ctx context.Context, q db.Querier, user core.UserID, id core.GroupID) (Role, error) {
	r, err := role(ctx, q, user, id)
	if errors.Is(err, ErrNotMember) {
		return nobody, ErrNoSuchMember
	}
	return r, err
}

// Leave takes the user out of the group. An owner leaves only alone, and the
// group goes too.
func (s *Store) Leave(ctx context.Context, user core.UserID, id core.GroupID) error {
	return s.change(ctx, "leave group", user, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		if r != Owner {
			return event{kind: core.GroupLeft, user: user}, s.expel(ctx, tx, user, id)
		}
		var others int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM group_members WHERE group_id = $1 AND user_id <> $2`, id, user).Scan(&others); err != nil {
			return e, err
		}
		if others > 0 {
			return e, ErrOwnerStays
		}
		return event{kind: core.GroupDeleted, user: user}, remove(ctx, tx, id)
	})
}

// Kick removes a member. Their invites end too, or they would come back by
// them.
func (s *Store) Kick(ctx context.Context, actor core.UserID, id core.GroupID, user core.UserID) error {
	return s.change(ctx, "remove member", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		their, err := target(ctx, tx, user, id)
		if err != nil {
			return e, err
		}
		if !r.manages(their) {
			return e, ErrForbidden
		}
		return event{kind: core.GroupRemoved, user: user}, s.putOut(ctx, tx, user, id)
	})
}

// putOut takes a member out who did not choose to go.
func (s *Store) putOut(ctx context.Context, tx pgx.Tx, user core.UserID, id core.GroupID) error {
	if _, err := tx.Exec(ctx, `UPDATE invites SET revoked_at = $3 WHERE group_id = $1 AND created_by = $2 AND revoked_at IS NULL`,
		id, user, s.cfg.Now()); err != nil {
		return err
	}
	if err := s.expel(ctx, tx, user, id); err != nil {
		return err
	}
	return s.notify(ctx, tx, user, "group_removed", map[string]any{"group_id": id.String()})
}

func (s *Store) notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	if s.cfg.Notify == nil {
		return nil
	}
	return s.cfg.Notify.Notify(ctx, tx, to, kind, data)
}

// expel ends a membership, and what it meant elsewhere.
func (s *Store) expel(ctx context.Context, tx pgx.Tx, user core.UserID, id core.GroupID) error {
	if l := s.cfg.Leaving; l != nil {
		if err := l.Left(ctx, tx, user, id); err != nil {
			return err
		}
		db.AfterCommit(ctx, func(ctx context.Context) { l.Tell(ctx, user) })
	}
	if s.cfg.Talk != nil {
		if err := s.cfg.Talk.Left(ctx, tx, user, id); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `DELETE FROM group_members WHERE group_id = $1 AND user_id = $2`, id, user)
	return err
}

// SetRole makes a member an admin or an admin a member. The owner may; their
// own role changes only by Transfer.
func (s *Store) SetRole(ctx context.Context, actor core.UserID, id core.GroupID, user core.UserID, to Role) (m Member, err error) {
	if to != Admin && to != Plain {
		return Member{}, ErrBadRole
	}
	err = s.change(ctx, "change role", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		their, err := target(ctx, tx, user, id)
		if err != nil {
			return e, err
		}
		if r != Owner || their == Owner {
			return e, ErrForbidden
		}
		if their != to {
			e = event{kind: core.GroupRole, user: user, role: to}
			if err := s.setRole(ctx, tx, user, id, to); err != nil {
				return e, err
			}
		}
		return e, tx.QueryRow(ctx,
			`SELECT u.id, u.username, u.profile_picture, u.rating_sum, u.rating_count, gm.role, gm.joined_at
			 FROM group_members gm JOIN users u ON u.id = gm.user_id WHERE gm.group_id = $1 AND gm.user_id = $2`, id, user).
			Scan(&m.User, &m.Username, &m.Picture, &m.Rating.Sum, &m.Rating.Count, &m.Role, &m.JoinedAt)
	})
	return m, err
}

// Transfer makes another member the owner, and the owner an admin.
func (s *Store) Transfer(ctx context.Context, actor core.UserID, id core.GroupID, to core.UserID) (g Group, err error) {
	err = s.change(ctx, "transfer ownership", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		if _, err := target(ctx, tx, to, id); err != nil {
			return e, err
		}
		if r != Owner {
			return e, ErrForbidden
		}
		if to != actor {
			e = event{kind: core.GroupTransferred, user: to, role: Owner}
			if _, err := tx.Exec(ctx, `UPDATE group_members SET role = $3 WHERE group_id = $1 AND user_id = $2`, id, actor, Admin); err != nil {
				return e, err
			}
			if err := s.setRole(ctx, tx, to, id, Owner); err != nil {
				return e, err
			}
		}
		g, err = load(ctx, tx, id)
		return e, err
	})
	return g, err
}

// setRole gives a member another role than they had, and lets them know.
func (s *Store) setRole(ctx context.Context, tx pgx.Tx, user core.UserID, id core.GroupID, to Role) error {
	if _, err := tx.Exec(ctx, `UPDATE group_members SET role = $3 WHERE group_id = $1 AND user_id = $2`, id, user, to); err != nil {
		return err
	}
	return s.notify(ctx, tx, user, "group_role", map[string]any{"group_id": id.String(), "role": string(to)})
}
