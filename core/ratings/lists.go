package ratings

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Rating is one that is revealed.
type Rating struct {
	ID        uuid.UUID
	Encounter Kind
	Stars     int
	Text      string
	Day       time.Time // when it was revealed
	Rater     *Person   // nil: nobody's business, or their account is gone
}

// Person is somebody as a list names them.
type Person struct {
	ID       core.UserID
	Username string
	Picture  string
	Mine     *Given // what the viewer gave them; nil: nothing
}

// Of returns what people gave a user, the latest first, as a viewer may see it,
// and the cursor of the next page, empty if there is none.
func (s *Store) Of(ctx context.Context, viewer, user core.UserID, cursor string, limit int) (list []Rating, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT r.id, e.kind, r.stars, r.text, r.revealed_at, u.id, coalesce(u.username, ''), coalesce(u.profile_picture, '')
			 FROM ratings r JOIN encounters e ON e.id = r.encounter_id
			 LEFT JOIN users u ON u.id = r.rater AND u.deleted_at IS NULL AND (r.ratee = $5 OR r.rater = $5)
			   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = r.rater AND b.blocked = r.ratee OR b.blocker = r.ratee AND b.blocked = r.rater)
			 WHERE r.ratee = $1 AND r.revealed_at IS NOT NULL AND (r.revealed_at, r.id) < ($2, $3)
			 ORDER BY r.revealed_at DESC, r.id DESC LIMIT $4`, user, after.At, after.ID, limit+1, viewer)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Rating, err error) {
			var rater *core.UserID
			var p Person
			err = row.Scan(&r.ID, &r.Encounter, &r.Stars, &r.Text, &r.Day, &rater, &p.Username, &p.Picture)
			if rater != nil {
				p.ID, r.Rater = *rater, &p
			}
			r.Day = r.Day.UTC()
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list ratings: %w", err)
	}
	list, next = core.Page(list, limit, func(r Rating) core.Position { return core.Position{At: r.Day, ID: r.ID} })
	return list, next, nil
}

// Pending is an encounter that its viewer may rate.
type Pending struct {
	ID     uuid.UUID
	Kind   Kind
	At     time.Time // when it was over
	Until  time.Time
	People []Person // the others, without those whom the viewer can't rate any more
}

// Pending returns what a user may rate, the latest first, and the cursor of the
// next page, empty if there is none.
func (s *Store) Pending(ctx context.Context, user core.UserID, cursor string, limit int) (list []Pending, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		list = nil
		// Encounters with at least one whom the user can rate, and then all of those.
		rows, err := q.Query(ctx,
			`WITH open AS MATERIALIZED (
			   SELECT e.id, e.kind, e.opened_at, e.window_ends FROM encounter_people me JOIN encounters e ON e.id = me.encounter_id
			   WHERE me.user_id = $1 AND e.closed_at IS NULL AND e.window_ends > $5 AND (e.opened_at, e.id) < ($2, $3)
			     AND EXISTS (
			       SELECT 1 FROM encounter_people p JOIN users u ON u.id = p.user_id
			       WHERE p.encounter_id = e.id AND p.user_id <> $1 AND u.deleted_at IS NULL AND NOT EXISTS (
			         SELECT 1 FROM ratings r WHERE r.encounter_id = e.id AND r.rater = $1 AND r.ratee = p.user_id AND r.revealed_at IS NOT NULL))
			   ORDER BY e.opened_at DESC, e.id DESC LIMIT $4)
			 SELECT o.id, o.kind, o.opened_at, o.window_ends, u.id, u.username, u.profile_picture, r.stars, coalesce(r.text, '')
			 FROM open o JOIN encounter_people p ON p.encounter_id = o.id AND p.user_id <> $1
			 JOIN users u ON u.id = p.user_id AND u.deleted_at IS NULL
			 LEFT JOIN ratings r ON r.encounter_id = o.id AND r.rater = $1 AND r.ratee = u.id
			 WHERE r.revealed_at IS NULL
			 ORDER BY o.opened_at DESC, o.id DESC, u.username, u.id`, user, after.At, after.ID, limit+1, s.now())
		if err != nil {
			return err
		}
		var e Pending
		var p Person
		var stars *int
		var text string
		_, err = pgx.ForEachRow(rows, []any{&e.ID, &e.Kind, &e.At, &e.Until, &p.ID, &p.Username, &p.Picture, &stars, &text}, func() error {
			p.Mine = nil
			if stars != nil {
				p.Mine = &Given{Encounter: e.ID, User: p.ID, Stars: *stars, Text: text, Until: e.Until.UTC()}
			}
			if n := len(list); n > 0 && list[n-1].ID == e.ID {
				list[n-1].People = append(list[n-1].People, p)
				return nil
			}
			list = append(list, Pending{ID: e.ID, Kind: e.Kind, At: e.At.UTC(), Until: e.Until.UTC(), People: []Person{p}})
			return nil
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list pending ratings: %w", err)
	}
	list, next = core.Page(list, limit, func(p Pending) core.Position { return core.Position{At: p.At, ID: p.ID} })
	return list, next, nil
}

// Ratings returns what users got; those without any are not in it.
func (s *Store) Ratings(ctx context.Context, users []core.UserID) (got map[core.UserID]core.Rating, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		got = map[core.UserID]core.Rating{}
		rows, err := q.Query(ctx, `SELECT id, rating_sum, rating_count FROM users WHERE id = ANY($1) AND rating_count > 0`, users)
		if err != nil {
			return err
		}
		var id core.UserID
		var r core.Rating
		_, err = pgx.ForEachRow(rows, []any{&id, &r.Sum, &r.Count}, func() error {
			got[id] = r
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read ratings: %w", err)
	}
	return got, nil
}

// Others returns with whom a user took part in an encounter that is still open;
// nobody if they didn't.
func (s *Store) Others(ctx context.Context, user core.UserID, encounter uuid.UUID) (others []core.UserID, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT o.user_id FROM encounter_people me JOIN encounter_people o ON o.encounter_id = me.encounter_id AND o.user_id <> me.user_id
			 WHERE me.encounter_id = $2 AND me.user_id = $1`, user, encounter)
		if err != nil {
			return err
		}
		others, err = pgx.CollectRows(rows, pgx.RowTo[core.UserID])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read encounter: %w", err)
	}
	return others, nil
}
