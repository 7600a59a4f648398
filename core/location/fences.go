package location

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo/fence"
	"github.com/mustermesh/muster/internal/errs"
)

var (
	ErrNoFence       = errs.New(errs.NotFound, "fence_not_found", "the group has no such fence")
	ErrTooManyFences = errs.New(errs.Conflict, "too_many_fences", "the group has as many fences as it may have: delete one first")
	ErrBadFence      = errs.New(errs.Invalid, "bad_fence", "a fence has a name of 1 to 80 characters and a dwell time of at most a day")
	ErrBadMeet       = errs.New(errs.Invalid, "bad_fence", "a meeting distance is 10 to 10,000 metres, or 0 for none").At("body.meet_distance")
	ErrRole          = errs.New(errs.Forbidden, "role_required", "your role in the group does not allow this")
)

const (
	maxFences = 200 // of a group
	maxDwell  = 24 * time.Hour
	minMeet   = 10
	maxMeet   = 10_000
)

// Fence is a place of a group. Any member makes one; who made it, the owner and
// admins may change it.
type Fence struct {
	ID        uuid.UUID
	Name      string
	Shape     fence.Shape
	Dwell     time.Duration // inside for so long, and a visit is told; 0: at once
	Revision  uint64        // grows with changes of shape and dwell: visits are counted anew
	CreatedBy core.UserID   // zero: is no user any more
	CreatedAt time.Time
	UpdatedAt time.Time
}

// FenceDraft is what a new fence is made of.
type FenceDraft struct {
	Name  string
	Shape fence.Shape
	Dwell time.Duration
}

// FenceChange names what is to be replaced; nil leaves a field as it is.
type FenceChange struct {
	Name  *string
	Shape *fence.Shape
	Dwell *time.Duration
}

func (c *FenceChange) check() error {
	if c.Name != nil {
		name, ok := core.CleanText(*c.Name, 1, 80, false)
		if !ok {
			return ErrBadFence.At("body.name")
		}
		c.Name = &name
	}
	if c.Dwell != nil && (*c.Dwell < 0 || *c.Dwell > maxDwell) {
		return ErrBadFence.At("body.dwell")
	}
	if c.Shape != nil {
		if err := c.Shape.Validate(); err != nil {
			return errs.New(errs.Invalid, "bad_fence", "shape: %v", err).At("body.shape")
		}
	}
	return nil
}

// role returns a user's role in a group, and locks the group's row by adding
// one to its version.
func (s *Store) role(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) (role string, version uint64, err error) {
	err = tx.QueryRow(ctx,
		`UPDATE groups SET version = version + 1, updated_at = $3 FROM group_members gm
		 WHERE groups.id = $1 AND gm.group_id = groups.id AND gm.user_id = $2 RETURNING gm.role, groups.version`,
		group, user, s.now()).Scan(&role, &version)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoGroup
	}
	return role, version, err
}

func manages(role string) bool { return role == "owner" || role == "admin" }

// member returns ErrNoGroup for who is no member of a group.
func member(ctx context.Context, q db.Querier, user core.UserID, group core.GroupID) error {
	var is bool
	err := q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM group_members WHERE group_id = $1 AND user_id = $2)`, group, user).Scan(&is)
	if err == nil && !is {
		err = ErrNoGroup
	}
	return err
}

// AddFence makes a fence in the caller's transaction, and returns the group's
// version, which the caller announces after the commit (TellFences).
func (s *Store) AddFence(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, d FenceDraft) (Fence, uint64, error) {
	c := FenceChange{&d.Name, &d.Shape, &d.Dwell}
	_, version, err := s.role(ctx, tx, user, group)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return Fence{}, 0, err
	}
	var others int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM fences WHERE group_id = $1`, group).Scan(&others); err != nil {
		return Fence{}, 0, err
	}
	if others >= maxFences {
		return Fence{}, 0, ErrTooManyFences
	}
	shape, err := json.Marshal(d.Shape)
	if err != nil {
		return Fence{}, 0, fmt.Errorf("encode shape: %w", err)
	}
	now := s.now()
	f := Fence{ID: uuid.New(), Name: *c.Name, Shape: d.Shape, Dwell: d.Dwell, Revision: 1, CreatedBy: user, CreatedAt: now, UpdatedAt: now}
	_, err = tx.Exec(ctx,
		`INSERT INTO fences (id, group_id, name, shape, dwell_s, revision, created_by, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $7)`,
		f.ID, group, f.Name, shape, int64(f.Dwell.Seconds()), user, now)
	return f, version, err
}

// TellFences announces that fences of a group changed, once that is committed.
func (s *Store) TellFences(ctx context.Context, group core.GroupID, version uint64) {
	if s.cfg.Announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.cfg.Announce.MembershipChanged(ctx, group.Room(), version) })
	}
}

// changeFences runs fn for a member of the group in a transaction that adds one
// to its version, and announces that.
func (s *Store) changeFences(ctx context.Context, what string, user core.UserID, group core.GroupID, fn func(ctx context.Context, tx pgx.Tx, role string) error) error {
	var version uint64
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		role, v, err := s.role(ctx, tx, user, group)
		if err != nil {
			return err
		}
		version = v
		return fn(ctx, tx, role)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.TellFences(ctx, group, version)
	return nil
}

// mayChange reads a fence that a member may change.
func mayChange(ctx context.Context, tx pgx.Tx, user core.UserID, role string, group core.GroupID, id uuid.UUID) (Fence, error) {
	rows, err := tx.Query(ctx,
		`SELECT id, name, shape, dwell_s, revision, created_by, created_at, updated_at FROM fences WHERE id = $1 AND group_id = $2`, id, group)
	if err != nil {
		return Fence{}, err
	}
	f, err := pgx.CollectExactlyOneRow(rows, scanFence)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Fence{}, ErrNoFence
	case err == nil && !manages(role) && f.CreatedBy != user:
		return Fence{}, ErrRole
	}
	return f, err
}

// ChangeFence replaces what the change names.
func (s *Store) ChangeFence(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID, c FenceChange) (f Fence, err error) {
	invalid := c.check()
	err = s.changeFences(ctx, "change fence", user, group, func(ctx context.Context, tx pgx.Tx, role string) error {
		if f, err = mayChange(ctx, tx, user, role, group, id); err != nil {
			return err
		}
		if invalid != nil {
			return invalid
		}
		f.UpdatedAt = s.now()
		if c.Name != nil {
			f.Name = *c.Name
		}
		if c.Shape != nil || c.Dwell != nil {
			f.Revision++
			if _, err := tx.Exec(ctx, `DELETE FROM fence_states WHERE group_id = $1 AND fence_id = $2`, group, id); err != nil {
				return err
			}
		}
		if c.Shape != nil {
			f.Shape = *c.Shape
		}
		if c.Dwell != nil {
			f.Dwell = *c.Dwell
		}
		shape, err := json.Marshal(f.Shape)
		if err != nil {
			return fmt.Errorf("encode shape: %w", err)
		}
		_, err = tx.Exec(ctx, `UPDATE fences SET name = $2, shape = $3, dwell_s = $4, revision = $5, updated_at = $6 WHERE id = $1`,
			id, f.Name, shape, int64(f.Dwell.Seconds()), f.Revision, f.UpdatedAt)
		return err
	})
	return f, err
}

// RemoveFence deletes a fence. What happened at it stays in the list of
// crossings.
func (s *Store) RemoveFence(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) error {
	return s.changeFences(ctx, "remove fence", user, group, func(ctx context.Context, tx pgx.Tx, role string) error {
		if _, err := mayChange(ctx, tx, user, role, group, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM fence_states WHERE group_id = $1 AND fence_id = $2`, group, id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM fences WHERE id = $1`, id)
		return err
	})
}

// SetMeet says at which distance in metres two members of a group meet; 0: it
// is not watched. Owner and admins may.
func (s *Store) SetMeet(ctx context.Context, user core.UserID, group core.GroupID, metres float64) error {
	return s.changeFences(ctx, "change meeting distance", user, group, func(ctx context.Context, tx pgx.Tx, role string) error {
		if !manages(role) {
			return ErrRole
		}
		if metres != 0 && !(metres >= minMeet && metres <= maxMeet) {
			return ErrBadMeet
		}
		if _, err := tx.Exec(ctx, `DELETE FROM fence_states WHERE group_id = $1 AND fence_id = $2`, group, uuid.Nil); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE groups SET meet_distance = $2 WHERE id = $1`, group, metres)
		return err
	})
}

// Fences returns a group's fences, the oldest first, and its meeting distance, to
// a member.
func (s *Store) Fences(ctx context.Context, user core.UserID, group core.GroupID) (list []Fence, meet float64, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		if err := member(ctx, tx, user, group); err != nil {
			return err
		}
		_, list, meet, err = fencesOf(ctx, tx, group)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list fences: %w", err)
	}
	return list, meet, nil
}

func fencesOf(ctx context.Context, tx pgx.Tx, group core.GroupID) (version uint64, list []Fence, meet float64, err error) {
	if err := tx.QueryRow(ctx, `SELECT version, meet_distance FROM groups WHERE id = $1`, group).Scan(&version, &meet); err != nil {
		return 0, nil, 0, err
	}
	rows, err := tx.Query(ctx,
		`SELECT id, name, shape, dwell_s, revision, created_by, created_at, updated_at FROM fences WHERE group_id = $1 ORDER BY created_at, id`, group)
	if err != nil {
		return 0, nil, 0, err
	}
	list, err = pgx.CollectRows(rows, scanFence)
	return version, list, meet, err
}

func scanFence(row pgx.CollectableRow) (f Fence, err error) {
	var shape []byte
	var dwell int64
	var by *core.UserID
	if err = row.Scan(&f.ID, &f.Name, &shape, &dwell, &f.Revision, &by, &f.CreatedAt, &f.UpdatedAt); err != nil {
		return f, err
	}
	f.Dwell, f.CreatedAt, f.UpdatedAt = time.Duration(dwell)*time.Second, f.CreatedAt.UTC(), f.UpdatedAt.UTC()
	if by != nil {
		f.CreatedBy = *by
	}
	if f.Shape, err = fence.ParseShape(shape); err != nil {
		return f, fmt.Errorf("fence %s: %w", f.ID, err)
	}
	return f, nil
}
