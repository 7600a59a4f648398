package location

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// Person is somebody who lets the user know where they are.
type Person struct {
	User      core.UserID
	Username  string
	Precision grant.Precision // the finest that holds
	Since     time.Time       // of the newest grant
	Expires   time.Time       // of the last grant that holds; zero: until it is ended
}

// People returns who granted the user something, the latest first, and the
// cursor of the next page, empty if there is none.
func (s *Store) People(ctx context.Context, user core.UserID, cursor string, limit int) (list []Person, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT g.user_id, u.username, g.precision, g.since, g.expires FROM (
			   SELECT user_id, max(precision) AS precision, max(created_at) AS since,
			     CASE WHEN bool_or(expires_at IS NULL) THEN NULL ELSE max(expires_at) END AS expires
			   FROM location_grants WHERE person_id = $1 AND (expires_at IS NULL OR expires_at > $2) GROUP BY user_id) AS g
			 JOIN users u ON u.id = g.user_id
			 WHERE (g.since, g.user_id) < ($3, $4) ORDER BY g.since DESC, g.user_id DESC LIMIT $5`,
			user, s.now(), after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Person, err error) {
			var precision int16
			var expires *time.Time
			err = row.Scan(&p.User, &p.Username, &precision, &p.Since, &expires)
			p.Precision, p.Since, p.Expires = grant.Precision(precision), p.Since.UTC(), orZero(expires)
			return p, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list people: %w", err)
	}
	list, next = core.Page(list, limit, func(p Person) core.Position { return core.Position{At: p.Since, ID: uuid.UUID(p.User)} })
	return list, next, nil
}

// Distance is how far somebody is, and where.
type Distance struct {
	Sight
	Metres  float64
	Bearing float64 // degrees from true north
}

// Distances measures from a point of the viewer's own to what the viewer may see
// of others: so a distance tells no more than the view.
func Distances(from geo.Point, others []Sight) []Distance {
	list := make([]Distance, len(others))
	for i, o := range others {
		list[i] = Distance{o, geo.Distance(from, o.View.Point), geo.Bearing(from, o.View.Point)}
	}
	return list
}

// Visible leaves of sights those that a viewer may look at now: none of those
// whom they must not see, and none that has lapsed.
func Visible(sights []Sight, hidden []core.UserID, now time.Time) []Sight {
	out := make([]Sight, 0, len(sights))
	for _, s := range sights {
		if now.Before(s.Until) && !slices.Contains(hidden, s.User) {
			out = append(out, s)
		}
	}
	return out
}
