package location

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
)

// FenceState is how somebody stands to a fence, or two members to each other.
type FenceState struct {
	Fence       uuid.UUID   // Nil: of two members
	User, Other core.UserID // Other is zero but for two members, where User is the smaller
	Revision    uint64      // of the fence
	N           uint64      // how many crossings were stored
	Inside      bool
	At          time.Time // of the last one
}

// Fencing is what the owner of a group's room needs to run its fences.
type Fencing struct {
	Version uint64  // of the group: changes of fences add one, as those of members do
	Meet    float64 // metres at which two members meet; 0: that is not watched
	Fences  []Fence
	States  []FenceState // without an entry: outside, no crossing yet
}

// Fencing returns the fences of a group's room and how its members stand to
// them, as of version min or later. Other rooms have none.
func (s *Store) Fencing(ctx context.Context, room string, min uint64) (out Fencing, err error) {
	group, ok := core.GroupOf(room)
	if !ok {
		return Fencing{}, nil
	}
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		out.Version, out.Fences, out.Meet, err = fencesOf(ctx, tx, group)
		if err != nil || len(out.Fences) == 0 && out.Meet == 0 {
			return err // most groups have none, and are asked about all the time
		}
		rows, err := tx.Query(ctx, `SELECT fence_id, user_id, other_id, revision, n, inside, at FROM fence_states WHERE group_id = $1`, group)
		if err != nil {
			return err
		}
		out.States, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f FenceState, err error) {
			err = row.Scan(&f.Fence, &f.User, &f.Other, &f.Revision, &f.N, &f.Inside, &f.At)
			f.At = f.At.UTC()
			return f, err
		})
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Fencing{}, ErrNoGroup
	case err != nil:
		return Fencing{}, fmt.Errorf("read fences: %w", err)
	case out.Version < min:
		return Fencing{}, ErrBehind
	}
	return out, nil
}

// CrossingKind is a kind of crossing.
type CrossingKind string

const (
	Enter CrossingKind = "enter"
	Exit  CrossingKind = "exit"
	Dwell CrossingKind = "dwell" // inside for as long as the fence asks for
	Meet  CrossingKind = "meet"  // two members, closer than the group's distance
	Part  CrossingKind = "part"
)

// Crossing is something that happened at a fence of a group, or between two of
// its members.
type Crossing struct {
	ID          uuid.UUID
	Kind        CrossingKind
	Fence       uuid.UUID // Nil: two members
	Name        string    // of the fence
	User, Other core.UserID
	At          time.Time // by the capture times of what was told
	Passed      bool      // through, between two fixes
	Revision    uint64    // of the fence, 0 of two members
	N           uint64    // the state's after it, from 1
	StoredAt    time.Time // set by Cross
}

// Cross stores a crossing if it is the next one of its fence and people, whose
// state has N-1, and reports whether it did: only then it is to be published. If
// another owner was first, it returns the state that is there; if the fence is
// gone or changed, that is the zero state. The same crossing (by ID) again is
// stored, if no other came after it.
func (s *Store) Cross(ctx context.Context, room string, c Crossing) (now FenceState, stored bool, err error) {
	group, ok := core.GroupOf(room)
	if !ok || c.N == 0 {
		return FenceState{}, false, fmt.Errorf("no crossing of room %q", room)
	}
	at := s.now()
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now, stored = FenceState{}, false
		if c.Fence != uuid.Nil {
			var same bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM fences WHERE id = $1 AND group_id = $2 AND revision = $3)`,
				c.Fence, group, c.Revision).Scan(&same); err != nil || !same {
				return err
			}
		}
		var last uuid.UUID
		err := tx.QueryRow(ctx,
			`SELECT revision, n, inside, at, crossing FROM fence_states WHERE group_id = $1 AND fence_id = $2 AND user_id = $3 AND other_id = $4`,
			group, c.Fence, c.User, c.Other).Scan(&now.Revision, &now.N, &now.Inside, &now.At, &last)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		now.Fence, now.User, now.Other, now.At = c.Fence, c.User, c.Other, now.At.UTC()
		if last == c.ID {
			stored = true
			return nil
		}
		if now.N != c.N-1 {
			return nil
		}
		now.Revision, now.N, now.At = c.Revision, c.N, c.At.UTC()
		now.Inside = c.Kind == Enter || c.Kind == Dwell || c.Kind == Meet
		if _, err := tx.Exec(ctx,
			`INSERT INTO fence_states (group_id, fence_id, user_id, other_id, revision, n, inside, at, crossing) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			 ON CONFLICT (group_id, fence_id, user_id, other_id) DO UPDATE SET revision = excluded.revision, n = excluded.n, inside = excluded.inside,
			   at = excluded.at, crossing = excluded.crossing`,
			group, c.Fence, c.User, c.Other, now.Revision, now.N, now.Inside, now.At, c.ID); err != nil {
			return err
		}
		stored = true
		_, err = tx.Exec(ctx,
			`INSERT INTO fence_crossings (id, group_id, kind, fence_id, name, user_id, other_id, at, passed, stored_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			c.ID, group, c.Kind, c.Fence, c.Name, c.User, c.Other, c.At, c.Passed, at)
		return err
	})
	if err != nil {
		return FenceState{}, false, fmt.Errorf("store crossing: %w", err)
	}
	return now, stored, nil
}

// Crossings returns what happened at a group's fences, the latest stored first,
// to a member, and the cursor of the next page, empty if there is none. Crossings
// of people who blocked the member, or whom the member blocked, are left out.
func (s *Store) Crossings(ctx context.Context, user core.UserID, group core.GroupID, cursor string, limit int) (list []Crossing, next string, err error) {
	after, bad := core.ParseCursor(cursor, true)
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		if err := member(ctx, tx, user, group); err != nil {
			return err
		}
		if bad != nil {
			return bad
		}
		rows, err := tx.Query(ctx,
			`SELECT c.id, c.kind, c.fence_id, c.name, c.user_id, c.other_id, c.at, c.passed, c.stored_at FROM fence_crossings c
			 WHERE c.group_id = $1 AND (c.stored_at, c.id) < ($2, $3)
			   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = $4 AND b.blocked IN (c.user_id, c.other_id))
			   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocked = $4 AND b.blocker IN (c.user_id, c.other_id))
			 ORDER BY c.stored_at DESC, c.id DESC LIMIT $5`, group, after.At, after.ID, user, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanCrossing)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list crossings: %w", err)
	}
	list, next = core.Page(list, limit, func(c Crossing) core.Position { return core.Position{At: c.StoredAt, ID: c.ID} })
	return list, next, nil
}
