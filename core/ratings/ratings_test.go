package ratings

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// world is some people, and what keeps their ratings.
type world struct {
	*Store
	t  *testing.T
	db *db.DB

	mu   sync.Mutex // guards the following
	time time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

// Rated is core/users' in short: it satisfies Profiles.
func (w *world) Rated(ctx context.Context, tx pgx.Tx, more map[core.UserID]core.Rating) error {
	ids := make([]string, 0, len(more))
	sums, counts := make([]int64, 0, len(more)), make([]int64, 0, len(more))
	for id, r := range more {
		ids, sums, counts = append(ids, id.String()), append(sums, r.Sum), append(counts, r.Count)
	}
	_, err := tx.Exec(ctx, `UPDATE users SET rating_sum = rating_sum + m.sum, rating_count = rating_count + m.count, profile_version = profile_version + 1
		FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[]) AS m (id, sum, count) WHERE users.id = m.id::UUID AND deleted_at IS NULL`, ids, sums, counts)
	return err
}

func setup(t *testing.T) *world {
	w := &world{t: t, db: devdb.Test(t), time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.Store = New(w.db, w, Config{Now: w.clock})
	w.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}), sql)
}

func (w *world) user(name string) core.UserID {
	id := core.UserID(uuid.New())
	w.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $3, true, 'eu-west')`, id, name, strings.ToLower(name))
	return id
}

// met opens an encounter.
func (w *world) met(people ...core.UserID) uuid.UUID {
	w.t.Helper()
	e := Encounter{ID: uuid.New(), Kind: Nearby, People: people, At: w.clock()}
	for range 2 { // again changes nothing
		require.NoError(w.t, w.open(e))
	}
	return e.ID
}

func (w *world) open(e Encounter) error {
	return w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return w.Opened(ctx, tx, e) })
}

func (w *world) rate(e uuid.UUID, rater, ratee core.UserID, stars int, text string) Given {
	w.t.Helper()
	g, err := w.Rate(w.t.Context(), rater, e, ratee, stars, text)
	require.NoError(w.t, err)
	return g
}

func (w *world) got(id core.UserID) core.Rating {
	w.t.Helper()
	got, err := w.Ratings(w.t.Context(), []core.UserID{id})
	require.NoError(w.t, err)
	return got[id]
}

// of are the stars and texts that a user got, and who is told to have given them.
func (w *world) of(viewer, user core.UserID) (list []string) {
	w.t.Helper()
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		page, next, err := w.Of(w.t.Context(), viewer, user, cursor, 2)
		require.NoError(w.t, err)
		for _, r := range page {
			by := ""
			if r.Rater != nil {
				by = " by " + r.Rater.Username
			}
			list = append(list, fmt.Sprintf("%d %s%s", r.Stars, r.Text, by))
		}
		cursor = next
	}
	return list
}

// pending is whom a user may rate, with what they gave.
func (w *world) pending(user core.UserID) (list []string) {
	w.t.Helper()
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		page, next, err := w.Pending(w.t.Context(), user, cursor, 2)
		require.NoError(w.t, err)
		for _, e := range page {
			for _, p := range e.People {
				gave := ""
				if p.Mine != nil {
					gave = fmt.Sprintf(" %d %s", p.Mine.Stars, p.Mine.Text)
				}
				list = append(list, p.Username+gave)
			}
		}
		cursor = next
	}
	return list
}

// rows are those of a query, as texts.
func (w *world) rows(sql string) (list []string) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, sql)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	return list
}

func TestRate(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana, bob, eve := w.user("Ana"), w.user("Bob"), w.user("Eve")
	e := w.met(ana, bob)
	require.Error(t, w.open(Encounter{ID: uuid.New(), Kind: Nearby, People: []core.UserID{ana}}))

	for _, c := range []struct {
		rater, ratee core.UserID
		e            uuid.UUID
		stars        int
		text         string
		err          error
	}{
		{ana, bob, e, 0, "", ErrBadRating},
		{ana, bob, e, 6, "", ErrBadRating},
		{ana, bob, e, 5, strings.Repeat("x", maxText+1), ErrBadRating},
		{ana, ana, e, 5, "", ErrSelf},
		{eve, bob, e, 1, "", ErrNoEncounter},
		{ana, eve, e, 1, "", ErrNoUser},
		{ana, bob, uuid.New(), 1, "", ErrNoEncounter},
	} {
		_, err := w.Rate(ctx, c.rater, c.e, c.ratee, c.stars, c.text)
		require.ErrorIs(t, err, c.err)
	}
	require.Equal(t, []string{"Bob"}, w.pending(ana))
	require.Empty(t, w.pending(eve))

	require.Equal(t, Given{Encounter: e, User: bob, Stars: 4, Text: "kind", Until: w.clock().Add(window)}, w.rate(e, ana, bob, 4, " kind "))
	w.rate(e, ana, bob, 5, "very kind")
	require.Equal(t, []string{"Bob 5 very kind"}, w.pending(ana))
	require.True(t, w.rate(e, bob, ana, 2, "late").Revealed)
	require.Equal(t, core.Rating{Sum: 5, Count: 1}, w.got(bob))
	require.Equal(t, core.Rating{Sum: 2, Count: 1}, w.got(ana))
	require.Empty(t, append(w.pending(ana), w.pending(bob)...))
	require.Len(t, w.rows(`SELECT key FROM outbox WHERE kind = 'rating.revealed'`), 2)

	// It stays as it is; the same again is a repeated request.
	_, err := w.Rate(ctx, bob, e, ana, 1, "no: bad")
	require.ErrorIs(t, err, ErrRevealed)
	require.True(t, w.rate(e, bob, ana, 2, "late").Revealed)
	require.Equal(t, core.Rating{Sum: 2, Count: 1}, w.got(ana))

	// Who rated is theirs to know.
	require.Equal(t, []string{"5 very kind by Ana"}, w.of(bob, bob))
	require.Equal(t, []string{"5 very kind by Ana"}, w.of(ana, bob))
	require.Equal(t, []string{"5 very kind"}, w.of(eve, bob))
	w.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, ana, bob)
	require.Equal(t, []string{"5 very kind"}, w.of(bob, bob), "they don't exist for each other")

	// Several of a hangout rate pair by pair.
	h := w.met(ana, bob, eve)
	w.rate(h, ana, bob, 3, "")
	w.rate(h, eve, bob, 1, "")
	require.Len(t, w.pending(bob), 2)
	w.rate(h, bob, eve, 4, "")
	require.Equal(t, core.Rating{Sum: 6, Count: 2}, w.got(bob))
	require.Equal(t, core.Rating{Sum: 4, Count: 1}, w.got(eve))
	require.Equal(t, []string{"Ana"}, w.pending(bob))

	// The window ends.
	w.advance(window)
	_, err = w.Rate(ctx, ana, h, eve, 5, "")
	require.ErrorIs(t, err, ErrNoEncounter)
	require.Empty(t, w.pending(ana))
	for range 2 {
		require.NoError(t, w.CloseDue(ctx))
	}
	require.Equal(t, core.Rating{Sum: 9, Count: 3}, w.got(bob))
	require.Len(t, w.of(eve, bob), 3)
	require.Empty(t, w.rows(`SELECT user_id::TEXT FROM encounter_people`), "who met is not kept")
	quiet := w.met(ana, eve)
	w.advance(window)
	require.NoError(t, w.CloseDue(ctx))
	require.NotContains(t, w.rows(`SELECT id::TEXT FROM encounters`), quiet.String())

	for _, cursor := range []string{"x", "!"} {
		_, _, err = w.Of(ctx, ana, bob, cursor, 1)
		require.ErrorIs(t, err, core.ErrBadCursor)
		_, _, err = w.Pending(ctx, ana, cursor, 1)
		require.ErrorIs(t, err, core.ErrBadCursor)
	}
	n, wrong, err := w.Verify(ctx)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Empty(t, wrong)
	w.exec(`UPDATE users SET rating_sum = rating_sum + 1 WHERE id = $1`, bob)
	_, wrong, err = w.Verify(ctx)
	require.NoError(t, err)
	require.Equal(t, []Wrong{{bob, core.Rating{Sum: 10, Count: 3}, core.Rating{Sum: 9, Count: 3}}}, wrong)
}

func TestPages(t *testing.T) {
	w := setup(t)
	ana := w.user("Ana")
	var names, stars []string
	for i := range 7 {
		name := fmt.Sprintf("Bo %d", i)
		bo := w.user(name)
		e := w.met(ana, bo)
		if i%2 == 0 {
			names = append([]string{name}, names...)
		} else {
			w.rate(e, bo, ana, 1+i%5, name)
			w.rate(e, ana, bo, 1, "")
			stars = append(stars, fmt.Sprintf("%d %s by %s", 1+i%5, name, name))
		}
		w.advance(time.Minute)
	}
	require.Equal(t, names, w.pending(ana))
	require.ElementsMatch(t, stars, w.of(ana, ana), "of one day, in no order that tells anything")
}

// Nothing that anybody but the rater can see changes until both have rated.
func TestOneRatingIsSeenByNobody(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana, bob, eve := w.user("Ana"), w.user("Bob"), w.user("Eve")
	first := w.met(ana, bob) // so that there is something to see
	w.rate(first, ana, bob, 3, "")
	w.rate(first, bob, ana, 3, "")
	e := w.met(ana, bob, eve)

	seen := func() (all []string) {
		for _, viewer := range []core.UserID{bob, eve} {
			all = append(all, "pending", fmt.Sprint(w.pending(viewer)))
		}
		for _, viewer := range []core.UserID{ana, bob, eve} {
			for _, user := range []core.UserID{ana, bob, eve} {
				all = append(all, fmt.Sprint(w.of(viewer, user)), fmt.Sprint(w.got(user)))
			}
		}
		// Whole tables: versions, events and when they came, jobs, notifications, and
		// what encounters are like.
		for _, sql := range []string{
			`SELECT to_jsonb(u)::TEXT FROM users u ORDER BY id`,
			`SELECT to_jsonb(o)::TEXT FROM outbox o ORDER BY key, n`,
			`SELECT to_jsonb(k)::TEXT FROM outbox_keys k ORDER BY key`,
			`SELECT to_jsonb(j)::TEXT FROM jobs j ORDER BY id`,
			`SELECT to_jsonb(n)::TEXT FROM notifications n ORDER BY id`,
			`SELECT to_jsonb(e)::TEXT FROM encounters e ORDER BY id`,
			`SELECT to_jsonb(p)::TEXT FROM encounter_people p ORDER BY encounter_id, user_id`,
		} {
			all = append(all, w.rows(sql)...)
		}
		return all
	}
	before := seen()
	w.rate(e, ana, bob, 1, "rude")
	require.Equal(t, before, seen())
	w.rate(e, ana, bob, 5, "sorry")
	w.rate(e, ana, eve, 5, "")
	require.Equal(t, before, seen())
	w.advance(window - time.Second)
	require.NoError(t, w.CloseDue(ctx))
	require.Equal(t, before, seen(), "up to the last second")

	// What others are answered doesn't depend on it either.
	_, err := w.Rate(ctx, bob, e, bob, 1, "")
	require.ErrorIs(t, err, ErrSelf)
	require.False(t, w.rate(e, bob, eve, 4, "").Revealed)
	require.False(t, w.rate(e, bob, eve, 3, "").Revealed)

	w.advance(time.Second)
	require.Equal(t, []string{"3  by Ana"}, w.of(bob, bob), "hidden until it is closed, in all places at once")
	require.NoError(t, w.CloseDue(ctx))
	require.Equal(t, core.Rating{Sum: 8, Count: 2}, w.got(bob))
	require.Equal(t, core.Rating{Sum: 8, Count: 2}, w.got(eve))
	require.Equal(t, core.Rating{Sum: 3, Count: 1}, w.got(ana))
}

// Two people rate each other 200 times at once, from two nodes.
func TestRatingsAtOnce(t *testing.T) {
	w := setup(t)
	other := New(w.db, w, Config{Now: w.clock})
	ana, bob := w.user("Ana"), w.user("Bob")
	e := w.met(ana, bob)
	var wg sync.WaitGroup
	for i := range 200 {
		rater, ratee, store := ana, bob, w.Store
		if i%2 == 0 {
			rater, ratee = bob, ana
		}
		if i%4 < 2 {
			store = other
		}
		wg.Go(func() {
			for {
				_, err := store.Rate(t.Context(), rater, e, ratee, 1+i%5, fmt.Sprint(i))
				switch e, _ := errsFrom(err); {
				case err == nil, e == ErrRevealed.Code: // or the pair is done
				case e == db.ErrContended.Code: // what a client sends again
					continue
				default:
					assert.NoError(t, err)
				}
				return
			}
		})
	}
	wg.Wait()
	require.Len(t, w.rows(`SELECT id::TEXT FROM ratings WHERE revealed_at IS NOT NULL`), 2)
	require.Len(t, w.rows(`SELECT id::TEXT FROM ratings`), 2)
	for _, u := range []core.UserID{ana, bob} {
		require.EqualValues(t, 1, w.got(u).Count)
		require.Equal(t, []string{fmt.Sprint(w.got(u).Sum)}, w.rows(`SELECT stars::TEXT FROM ratings WHERE ratee = '`+u.String()+`'`))
	}
	require.Len(t, w.rows(`SELECT key FROM outbox WHERE kind = 'rating.revealed'`), 2)
	require.Equal(t, []string{"2", "2"}, w.rows(`SELECT profile_version::TEXT FROM users`))
	_, wrong, err := w.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, wrong)
}
