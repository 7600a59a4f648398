package matching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// world is a Store between fakes of what it stands between: a map in a slice, and
// tables of what committed transactions told the others.
type world struct {
	*Store
	t  testing.TB
	db *db.DB

	mu    sync.Mutex
	now   time.Time
	own   map[core.UserID]grant.View // where people are
	seen  map[core.UserID]grant.View // what the map tells of them
	fails error                      // of those that are told
}

func setup(t testing.TB) *world {
	w := &world{t: t, db: devdb.Test(t), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), own: map[core.UserID]grant.View{}, seen: map[core.UserID]grant.View{}}
	w.exec(`CREATE TABLE test_told (id UUID PRIMARY KEY, at TIMESTAMPTZ, what TEXT)`)
	// The relays of notices keep this row; it is what makes events visible here.
	w.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', 'user')`)
	w.Store = New(w.db, Config{Map: w, Blocks: blocks{w.db}, Ratings: ratings{w.db}, Talks: told{w}, Meetings: told{w}, Notify: told{w}, Secret: []byte("secret"), Now: w.clock})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func rows[T any](w *world, sql string, args ...any) (list []T) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error {
		r, err := q.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(r, pgx.RowTo[T])
		return err
	}))
	return list
}

// user is somebody new; person is one who is open, where others are.
func (w *world) user() core.UserID {
	id := core.UserID(uuid.New())
	w.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, id.String()[:18])
	return id
}

var square = geo.Point{Lat: 45.65, Lng: 13.77}

func (w *world) person(interests ...string) core.UserID {
	id := w.user()
	p := Closed()
	p.Open, p.Interests = true, interests
	_, err := w.SetProfile(w.t.Context(), id, p)
	require.NoError(w.t, err)
	w.at(id, square, grant.Exact)
	return id
}

// at puts somebody on the map, now.
func (w *world) at(id core.UserID, p geo.Point, precision grant.Precision) {
	now := w.clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	v := grant.View{Point: p, Precision: grant.Exact, Accuracy: 5, Captured: now}
	w.own[id] = v
	if res, coarse := precision.Resolution(); coarse {
		v = snapped(w.t, p, res, now)
	}
	w.seen[id] = v
}

// snapped is what is told of who is at a point for the first time.
func snapped(t testing.TB, p geo.Point, res int, now time.Time) grant.View {
	raw, err := grant.NewRaw(p, 5, grant.Reading{}, grant.Reading{}, grant.Reading{}, now)
	require.NoError(t, err)
	s := grant.NewSnapper([]byte("secret"), "x")
	_, err = s.Take(raw, now)
	require.NoError(t, err)
	v, ok := discoverable(t, res).View(now, s, everybody)
	require.True(t, ok)
	return v
}

var everybody = grant.Audience{Kind: grant.Discoverable}

func discoverable(t testing.TB, res int) *grant.Set {
	set, err := grant.NewSet([]grant.Grant{{Audience: everybody, Precision: grant.Cells(res)}}, nil, false)
	require.NoError(t, err)
	return set
}

// ---------------------------------------------------------------- Map

func (w *world) Own(user core.UserID) (geo.Point, time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.own[user]
	return v.Point, v.Captured, ok
}

// Near leaves out nobody but the viewer: that the blocked are left out must not
// rest on the map alone.
func (w *world) Near(_ context.Context, viewer core.UserID, center geo.Point, radius float64) (c Crowd, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, v := range w.seen {
		if id != viewer && geo.Distance(center, v.Point) <= radius {
			c.Sights = append(c.Sights, Sight{id, v})
		}
	}
	slices.SortFunc(c.Sights, func(a, b Sight) int { return slices.Compare(a.User[:], b.User[:]) })
	return c, nil
}

// ---------------------------------------------------------------- Blocks, Ratings

type blocks struct{ db *db.DB }

func (b blocks) Hidden(ctx context.Context, user core.UserID) (ids []core.UserID, err error) {
	err = b.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT blocked FROM blocks WHERE blocker = $1 UNION SELECT blocker FROM blocks WHERE blocked = $1`, user)
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[core.UserID])
		}
		return err
	})
	return ids, err
}

func (b blocks) Parted(ctx context.Context, x, y core.UserID) (parted bool, err error) {
	ids, err := b.Hidden(ctx, x)
	return slices.Contains(ids, y), err
}

type ratings struct{ db *db.DB }

func (r ratings) Ratings(ctx context.Context, users []core.UserID) (got map[core.UserID]core.Rating, err error) {
	err = r.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		got = map[core.UserID]core.Rating{}
		rows, err := q.Query(ctx, `SELECT id, rating_sum, rating_count FROM users WHERE id = ANY($1)`, users)
		if err != nil {
			return err
		}
		var id core.UserID
		var x core.Rating
		_, err = pgx.ForEachRow(rows, []any{&id, &x.Sum, &x.Count}, func() error { got[id] = x; return nil })
		return err
	})
	return got, err
}

func (w *world) block(a, b core.UserID) {
	w.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, a, b)
	w.inTx(func(ctx context.Context, tx pgx.Tx) error { return w.Parted(ctx, tx, a, b) })
}

func (w *world) inTx(fn func(context.Context, pgx.Tx) error) {
	w.t.Helper()
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, fn))
}

// ---------------------------------------------------------------- those that are told

// told are chat, ratings and notify.
type told struct{ w *world }

func (x told) say(ctx context.Context, tx pgx.Tx, format string, args ...any) error {
	if x.w.fails != nil {
		return x.w.fails
	}
	_, err := tx.Exec(ctx, `INSERT INTO test_told (id, at, what) VALUES ($1, clock_timestamp(), $2)`, uuid.New(), fmt.Sprintf(format, args...))
	return err
}

func (x told) Create(ctx context.Context, tx pgx.Tx, room string, people []core.UserID, home string) error {
	return x.say(ctx, tx, "create %s %v %s", room, people, home)
}

func (x told) End(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error {
	return x.say(ctx, tx, "end %s %s", room, by)
}

func (x told) Opened(ctx context.Context, tx pgx.Tx, id uuid.UUID, people []core.UserID, _ time.Time) error {
	return x.say(ctx, tx, "met %s %v", id, people)
}

func (x told) Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	return x.say(ctx, tx, "notify %s %s %v", to, kind, data["user_id"])
}

var errTold = errors.New("not now")

// told returns what the others were told, in order, and forgets it.
func (w *world) told() []string {
	w.t.Helper()
	all := rows[string](w, `SELECT what FROM test_told ORDER BY at`)
	w.exec(`DELETE FROM test_told`)
	return all
}

// heard returns the kinds of events that a user's devices got, in order.
func (w *world) heard(u core.UserID) []string {
	return rows[string](w, `SELECT kind FROM outbox WHERE key = $1 ORDER BY n`, u.Key())
}

// looks returns whom somebody is shown.
func (w *world) looks(u core.UserID) []core.UserID {
	w.t.Helper()
	page, err := w.People(w.t.Context(), u, Look{Limit: 100})
	require.NoError(w.t, err)
	ids := []core.UserID{}
	for _, p := range page.People {
		ids = append(ids, p.User)
	}
	return ids
}

// asks has one look around and ask the other.
func (w *world) asks(a, b core.UserID) uuid.UUID {
	w.t.Helper()
	w.looks(a)
	got, err := w.Request(w.t.Context(), a, b, "coffee?")
	require.NoError(w.t, err)
	return got.ID
}
