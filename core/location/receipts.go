package location

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo/grant"
)

// How somebody came to see a position, beside the kinds of questions.
const (
	ByRoom = "room" // told into a room that they followed
	ByLink = "link" // opened a link
)

const (
	keepReceipts  = 30 * 24 * time.Hour
	keepCrossings = 30 * 24 * time.Hour
	keepAsks      = 30 * 24 * time.Hour
)

// Receipt says that somebody could see where the user was.
type Receipt struct {
	Reader uuid.UUID // a user, or a link
	Name   string    // of the user, or the purpose of the link; empty: there is none any more
	// How is "room" (told into a room that they followed), "link", or the kind
	// of question: group, proximity, nearby, people …
	How         string
	Room        string // if it was told into one
	Precision   grant.Precision
	First, Last time.Time
	Reads       int // questions; 1 for what was told into a room
}

// receiptsAfter is where a page of receipts ended. Pages go on as of the time of
// the first one, since what lasts would change its place meanwhile.
type receiptsAfter struct {
	AsOf      time.Time       `json:"t"`
	Last      time.Time       `json:"l"`
	First     time.Time       `json:"f"`
	Reader    uuid.UUID       `json:"r"`
	How       string          `json:"h"`
	Room      string          `json:"o"`
	Precision grant.Precision `json:"p"`
}

// Receipts returns who could see where a user was, the latest first, and the
// cursor of the next page, empty if there is none. What went through a room is
// the times at which the user was told into it and the reader followed it. Who is
// on no terms with the user is not in it.
func (s *Store) Receipts(ctx context.Context, user core.UserID, cursor string, limit int) (list []Receipt, next string, err error) {
	now := s.now()
	after := receiptsAfter{AsOf: now, Last: now.AddDate(100, 0, 0)}
	if cursor != "" {
		b, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || json.Unmarshal(b, &after) != nil || len(after.How) > maxHow || len(after.Room) > 256 {
			return nil, "", core.ErrBadCursor
		}
	}
	// The latest first, and most look at those only: a page goes back by a few
	// hours, and further until it is full.
	back := max(min(after.Last.Sub(now), 0), -keepReceipts) - 3*time.Hour
	for full := false; !full && err == nil; back *= 4 {
		since := now.Add(back)
		err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := q.Query(ctx,
				`SELECT r.reader, coalesce(u.username, l.purpose, ''), r.how, r.room, r.precision, r.first_at, r.last_at, r.reads FROM (
				   SELECT f.viewer AS reader, 'room' AS how, t.room, t.precision,
				     greatest(t.from_at, f.from_at) AS first_at, least(t.until_at, f.until_at, $2) AS last_at, 1::INT AS reads
				   FROM location_told t JOIN location_followed f ON f.room = t.room AND f.viewer <> t.subject
				     AND f.from_at < t.until_at AND t.from_at < f.until_at
				   WHERE t.subject = $1 AND t.from_at <= $2 AND f.from_at <= $2 AND t.until_at >= $10 AND f.until_at >= $10
				   UNION ALL
				   SELECT reader, how, '' AS room, precision, first_at, last_at, reads FROM location_reads WHERE subject = $1 AND first_at <= $2 AND last_at >= $10
				 ) AS r
				 LEFT JOIN users u ON u.id = r.reader LEFT JOIN location_links l ON l.id = r.reader
				 WHERE NOT EXISTS (SELECT 1 FROM blocks WHERE blocker = $1 AND blocked = r.reader OR blocker = r.reader AND blocked = $1)
				 AND r.last_at >= $10 AND (r.last_at, r.first_at, r.reader, r.how, r.room, r.precision) < ($3, $4, $5, $6, $7, $8)
				 ORDER BY r.last_at DESC, r.first_at DESC, r.reader DESC, r.how DESC, r.room DESC, r.precision DESC LIMIT $9`,
				user, after.AsOf, after.Last, after.First, after.Reader, after.How, after.Room, int16(after.Precision), limit+1, since)
			if err != nil {
				return err
			}
			list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Receipt, err error) {
				var p int16
				err = row.Scan(&r.Reader, &r.Name, &r.How, &r.Room, &p, &r.First, &r.Last, &r.Reads)
				r.Precision, r.First, r.Last = grant.Precision(p), r.First.UTC(), r.Last.UTC()
				return r, err
			})
			return err
		})
		full = len(list) > limit || since.Before(now.Add(-keepReceipts))
	}
	if err != nil {
		return nil, "", fmt.Errorf("list receipts: %w", err)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	list = list[:limit]
	last := list[limit-1]
	b, err := json.Marshal(receiptsAfter{after.AsOf, last.Last, last.First, last.Reader, last.How, last.Room, last.Precision})
	if err != nil {
		return nil, "", fmt.Errorf("list receipts: %w", err)
	}
	return list, base64.RawURLEncoding.EncodeToString(b), nil
}

// Sweep deletes what is too old: receipts, crossings and answers of more than a
// month, what expired, and the points of tracks that were to be kept no longer.
func (s *Store) Sweep(ctx context.Context) error {
	now := s.now()
	for _, step := range []struct {
		sql  string
		than time.Time
	}{
		{`DELETE FROM location_told WHERE until_at < $1`, now.Add(-keepReceipts)},
		{`DELETE FROM location_followed WHERE until_at < $1`, now.Add(-keepReceipts)},
		{`DELETE FROM location_reads WHERE last_at < $1`, now.Add(-keepReceipts)},
		{`DELETE FROM location_links WHERE expires_at < $1`, now.Add(-keepReceipts)},
		{`DELETE FROM location_asks WHERE created_at < $1`, now.Add(-keepAsks)},
		{`DELETE FROM fence_crossings WHERE stored_at < $1`, now.Add(-keepCrossings)},
		{`DELETE FROM fence_states WHERE at < $1 AND other_id <> '00000000-0000-0000-0000-000000000000'
		  AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = fence_states.other_id)`, now},
		// A group's grant that ended says that its fixes share nothing by themselves.
		{`DELETE FROM location_grants WHERE audience <> 'group' AND expires_at < $1`, now.Add(-keepExpired)},
		{`WITH gone AS (DELETE FROM location_track USING location_sharing s
		    WHERE s.user_id = location_track.user_id AND location_track.captured_at < $1::TIMESTAMPTZ - s.track_days * INTERVAL '1 day'
		    RETURNING location_track.user_id)
		  UPDATE location_sharing SET track_points = track_points - g.points
		  FROM (SELECT user_id, count(*) AS points FROM gone GROUP BY user_id) g WHERE location_sharing.user_id = g.user_id`, now},
	} {
		if err := s.exec(ctx, step.sql, step.than); err != nil {
			return fmt.Errorf("sweep locations: %w", err)
		}
	}
	return nil
}
