package location

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

var ErrBadTrack = errs.New(errs.Invalid, "bad_track", "a track is kept for 1 to 3,650 days").At("body.retention_days")

const (
	trackDays    = 30 // by default
	maxTrackDays = 3650
)

// Track is a user's private track: where they were, for them alone. It is off
// until it is switched on; switched off it only gets no new points, and what is
// there goes after so many days. It has one point a second at most, and
// Config.TrackPoints: then the oldest goes for each new one.
type Track struct {
	On          bool
	Days        int
	Points      int
	First, Last time.Time // zero: there are none
}

// Track returns how a user's track stands.
func (s *Store) Track(ctx context.Context, user core.UserID) (t Track, err error) {
	var first, last *time.Time
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT coalesce((SELECT track FROM location_sharing WHERE user_id = $1), false),
			   coalesce((SELECT track_days FROM location_sharing WHERE user_id = $1), $2::INT),
			   coalesce((SELECT track_points FROM location_sharing WHERE user_id = $1), 0::BIGINT), min(captured_at), max(captured_at)
			 FROM location_track WHERE user_id = $1`, user, trackDays).Scan(&t.On, &t.Days, &t.Points, &first, &last)
	})
	if err != nil {
		return Track{}, fmt.Errorf("read track: %w", err)
	}
	t.First, t.Last = orZero(first), orZero(last)
	return t, nil
}

// SetTrack switches a user's track on or off, and says for how many days its
// points are kept (0: as before).
func (s *Store) SetTrack(ctx context.Context, user core.UserID, on bool, days int) error {
	if days < 0 || days > maxTrackDays {
		return ErrBadTrack
	}
	return s.change(ctx, "change track", user, func(ctx context.Context, tx pgx.Tx) ([]core.UserID, error) {
		_, err := tx.Exec(ctx, `UPDATE location_sharing SET track = $2, track_days = CASE WHEN $3::INT > 0 THEN $3::INT ELSE track_days END WHERE user_id = $1`,
			user, on, days)
		return nil, err
	})
}

// ClearTrack deletes the points of a user's track that were captured from one
// time until before another; a zero time is no bound. Without bounds, nothing
// from before comes in later either.
func (s *Store) ClearTrack(ctx context.Context, user core.UserID, from, until time.Time) (points int64, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx,
			`DELETE FROM location_track WHERE user_id = $1 AND ($2::TIMESTAMPTZ IS NULL OR captured_at >= $2) AND ($3::TIMESTAMPTZ IS NULL OR captured_at < $3)`,
			user, orNil(from), orNil(until))
		if err != nil {
			return err
		}
		points = tag.RowsAffected()
		since := s.now()
		if !from.IsZero() || !until.IsZero() {
			since = time.Time{}
		}
		_, err = tx.Exec(ctx,
			`UPDATE location_sharing SET track_points = CASE WHEN $2::TIMESTAMPTZ IS NULL THEN track_points - $3::BIGINT ELSE 0 END,
			   track_since = coalesce($2::TIMESTAMPTZ, track_since) WHERE user_id = $1`, user, orNil(since), points)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("clear track: %w", err)
	}
	return points, nil
}

// TrackPoints returns up to limit points of a user's own track that were
// captured after one time and before another (zero: no bound), the oldest first.
func (s *Store) TrackPoints(ctx context.Context, user core.UserID, after, before time.Time, limit int) (points []grant.View, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT captured_at, sealed FROM location_track
			 WHERE user_id = $1 AND captured_at > $2 AND ($3::TIMESTAMPTZ IS NULL OR captured_at < $3) ORDER BY captured_at LIMIT $4`,
			user, after, orNil(before), limit)
		if err != nil {
			return err
		}
		points, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (grant.View, error) {
			var at time.Time
			var sealed []byte
			if err := row.Scan(&at, &sealed); err != nil {
				return grant.View{}, err
			}
			return s.unsealPoint(user, at.UTC(), sealed)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read track: %w", err)
	}
	return points, nil
}

// recordTrack writes points of those who keep a track; who does not, or no longer,
// is left out by the statements themselves. Of a second the newest point is kept,
// whichever node has it, and of a track that is full the newest ones.
func (s *Store) recordTrack(ctx context.Context, ks []second, of map[second]grant.View) error {
	users, seconds := make([]core.UserID, len(ks)), make([]time.Time, len(ks))
	times, sealed := make([]time.Time, len(ks)), make([][]byte, len(ks))
	for i, k := range ks {
		v := of[k]
		users[i], times[i], seconds[i] = k.user, stored(v.Captured), time.Unix(k.unix, 0).UTC()
		b, err := s.sealPoint(k.user, times[i], v)
		if err != nil {
			return err
		}
		sealed[i] = b
	}
	return written(s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		more := map[core.UserID]int64{}
		if err := count(ctx, tx, more, -1,
			`DELETE FROM location_track USING unnest($1::UUID[], $2::TIMESTAMPTZ[], $3::TIMESTAMPTZ[]) AS v (user_id, captured_at, second), location_sharing s
			 WHERE location_track.user_id = v.user_id AND location_track.captured_at >= v.second AND location_track.captured_at < v.captured_at
			   AND s.user_id = v.user_id AND s.track AND (s.track_since IS NULL OR v.captured_at >= s.track_since)
			 RETURNING location_track.user_id`, users, times, seconds); err != nil {
			return err
		}
		if err := count(ctx, tx, more, 1,
			`INSERT INTO location_track (user_id, captured_at, sealed)
			   SELECT v.user_id, v.captured_at, v.sealed
			   FROM unnest($1::UUID[], $2::TIMESTAMPTZ[], $3::TIMESTAMPTZ[], $4::BYTEA[]) AS v (user_id, captured_at, second, sealed)
			   JOIN location_sharing s ON s.user_id = v.user_id AND s.track AND (s.track_since IS NULL OR v.captured_at >= s.track_since)
			   WHERE NOT EXISTS (SELECT 1 FROM location_track t
			     WHERE t.user_id = v.user_id AND t.captured_at > v.captured_at AND t.captured_at < v.second + INTERVAL '1 second')
			   ORDER BY v.user_id, v.captured_at
			 ON CONFLICT (user_id, captured_at) DO NOTHING RETURNING user_id`, users, times, seconds, sealed); err != nil {
			return err
		}
		return s.countTracks(ctx, tx, more)
	}), ks, of)
}

// count adds n for each user that a statement returns.
func count(ctx context.Context, tx pgx.Tx, more map[core.UserID]int64, n int64, sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var user core.UserID
	_, err = pgx.ForEachRow(rows, []any{&user}, func() error { more[user] += n; return nil })
	return err
}

// countTracks notes that tracks have so many points more, and deletes the oldest
// of those that have too many.
func (s *Store) countTracks(ctx context.Context, tx pgx.Tx, more map[core.UserID]int64) error {
	maps.DeleteFunc(more, func(_ core.UserID, n int64) bool { return n == 0 })
	users := slices.SortedFunc(maps.Keys(more), compareIDs)
	points := make([]int64, len(users))
	for i, u := range users {
		points[i] = more[u]
	}
	rows, err := tx.Query(ctx,
		`UPDATE location_sharing SET track_points = track_points + v.points
		 FROM unnest($1::UUID[], $2::BIGINT[]) AS v (user_id, points) WHERE location_sharing.user_id = v.user_id
		 RETURNING location_sharing.user_id, location_sharing.track_points - $3::BIGINT`, users, points, s.cfg.TrackPoints)
	if err != nil {
		return err
	}
	over := map[core.UserID]int64{}
	var user core.UserID
	var n int64
	if _, err = pgx.ForEachRow(rows, []any{&user, &n}, func() error {
		if n > 0 {
			over[user] = n
		}
		return nil
	}); err != nil {
		return err
	}
	for _, user := range slices.SortedFunc(maps.Keys(over), compareIDs) {
		tag, err := tx.Exec(ctx,
			`DELETE FROM location_track WHERE user_id = $1 AND captured_at <=
			   (SELECT captured_at FROM location_track WHERE user_id = $1 ORDER BY captured_at LIMIT 1 OFFSET $2)`, user, over[user]-1)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE location_sharing SET track_points = track_points - $2 WHERE user_id = $1`, user, tag.RowsAffected()); err != nil {
			return err
		}
	}
	return nil
}

// point is what is sealed of a view; the time beside it is authenticated.
type point struct {
	Lat, Lng                          float64
	Accuracy, Speed, Heading, Battery float32 // NaN: not known
}

func (s *Store) sealPoint(user core.UserID, at time.Time, v grant.View) ([]byte, error) {
	var b bytes.Buffer
	err := binary.Write(&b, binary.BigEndian, point{v.Point.Lat, v.Point.Lng, v.Accuracy, known(v.Speed), known(v.Heading), known(v.Battery)})
	if err != nil {
		return nil, fmt.Errorf("seal point: %w", err)
	}
	return s.seal.Seal(nil, nil, b.Bytes(), pointOf(user, at)), nil
}

func (s *Store) unsealPoint(user core.UserID, at time.Time, sealed []byte) (grant.View, error) {
	plain, err := s.seal.Open(nil, nil, sealed, pointOf(user, at))
	if err != nil {
		return grant.View{}, errors.New("a point of a track is not sealed under this secret")
	}
	var p point
	if err := binary.Read(bytes.NewReader(plain), binary.BigEndian, &p); err != nil {
		return grant.View{}, fmt.Errorf("unseal point: %w", err)
	}
	return grant.View{
		Point: geo.Point{Lat: p.Lat, Lng: p.Lng}, Precision: grant.Exact, Accuracy: p.Accuracy,
		Speed: reading(p.Speed), Heading: reading(p.Heading), Battery: reading(p.Battery), Captured: at,
	}, nil
}

// pointOf binds a sealed point to its row: moved to another it can't be opened.
func pointOf(user core.UserID, at time.Time) []byte {
	return binary.BigEndian.AppendUint64(user[:len(user):len(user)], uint64(at.UnixMicro()))
}

func known(r grant.Reading) float32 {
	if !r.Known {
		return float32(math.NaN())
	}
	return r.Value
}

func reading(v float32) grant.Reading {
	if math.IsNaN(float64(v)) {
		return grant.Reading{}
	}
	return grant.Read(v)
}
