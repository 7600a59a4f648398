package groups

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Listing is a public group as everybody sees it: nothing of who is in it.
type Listing struct {
	ID                        core.GroupID
	Name, Description, Avatar string
	MemberCount               int
	Joined                    bool // the one who asks is in it

	term []byte
}

// Directory returns public groups by name: all of them, or those whose name, or a
// word in it, begins with q; and the cursor of the next page, empty if there is
// none. It may be a few seconds old.
func (s *Store) Directory(ctx context.Context, user core.UserID, q, cursor string, limit int) (list []Listing, next string, err error) {
	from, below := []byte{}, []byte{0xff}
	if q != "" {
		if from, below, err = core.SearchRange(q); err != nil {
			return nil, "", err
		}
	}
	after, err := core.ParsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	err = s.db.ReadStale(ctx, func(ctx context.Context, qr db.Querier) error {
		rows, err := qr.Query(ctx,
			`SELECT t.term, g.id, g.name, g.description, g.avatar,
			   (SELECT count(*) FROM group_members c WHERE c.group_id = g.id),
			   EXISTS (SELECT 1 FROM group_members m WHERE m.group_id = g.id AND m.user_id = $1)
			 FROM group_terms t JOIN groups g ON g.id = t.group_id
			 WHERE t.term >= $2 AND t.term < $3 AND (t.term, t.group_id) > ($4, $5) AND (t.whole OR $6)
			   AND NOT EXISTS (SELECT 1 FROM group_terms o WHERE o.group_id = t.group_id AND o.term >= $2 AND o.term < t.term AND $6)
			 ORDER BY t.term, t.group_id LIMIT $7`, user, from, below, after.Term, after.ID, q != "", limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Listing, err error) {
			err = row.Scan(&l.term, &l.ID, &l.Name, &l.Description, &l.Avatar, &l.MemberCount, &l.Joined)
			return l, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list public groups: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = core.Place{Term: list[limit-1].term, ID: uuid.UUID(list[limit-1].ID)}.Cursor()
	}
	return list, next, nil
}
