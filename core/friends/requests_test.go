package friends

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

// notes remembers who was notified of what by committed transactions: it writes
// into them.
type notes struct{}

func (notes) Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	b, err := json.Marshal(data)
	if err == nil {
		_, err = tx.Exec(ctx, `INSERT INTO test_notes (id, at, user_id, kind, data) VALUES ($1, clock_timestamp(), $2, $3, $4)`, uuid.New(), to, kind, string(b))
	}
	return err
}

func (notes) Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error {
	_, err := tx.Exec(ctx, `DELETE FROM test_notes WHERE user_id IN ($1, $2)`, a, b)
	return err
}

type world struct {
	*Store
	db *db.DB
	t  *testing.T

	mu  sync.Mutex
	now time.Time
}

func setup(t *testing.T) *world {
	w := &world{db: devdb.Test(t), t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.exec(`CREATE TABLE test_notes (id UUID PRIMARY KEY, at TIMESTAMPTZ, user_id UUID, kind TEXT, data TEXT)`)
	// The relays of notices keep this row; it is what makes events visible here.
	w.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', 'user')`)
	w.Store = New(w.db, Config{Notify: notes{}, Now: w.clock})
	return w
}

// clock ticks by a millisecond each time it is read: no two events coincide.
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

func (w *world) user(name string) core.UserID {
	id := core.UserID(uuid.New())
	u, err := core.ParseUsername(name)
	require.NoError(w.t, err)
	w.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $3, true, 'eu-west')`, id, u.Display, u.Key)
	return id
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

// heard returns the kinds of events that a user's devices get, in order.
func (w *world) heard(u core.UserID) []string {
	return rows[string](w, `SELECT kind FROM outbox WHERE key = $1 ORDER BY n`, u.Key())
}

func (w *world) notified(u core.UserID) []string {
	return rows[string](w, `SELECT kind FROM test_notes WHERE user_id = $1 ORDER BY at`, u)
}

func (w *world) friends(u core.UserID) (ids []core.UserID) {
	list, next, err := w.Friends(w.t.Context(), u, "", 100)
	require.NoError(w.t, err)
	require.Empty(w.t, next)
	for _, p := range list {
		ids = append(ids, p.User)
	}
	return ids
}

func (w *world) open(u core.UserID, sent bool) (ids []core.UserID) {
	list, next, err := w.Requests(w.t.Context(), u, sent, "", 300)
	require.NoError(w.t, err)
	require.Empty(w.t, next)
	for _, p := range list {
		ids = append(ids, p.User)
	}
	return ids
}

func (w *world) request(a, b core.UserID, want Relation) {
	w.t.Helper()
	r, err := w.Request(w.t.Context(), a, b)
	require.NoError(w.t, err)
	require.Equal(w.t, want, r)
}

func TestLifeOfARequest(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana, bo := w.user("Ana"), w.user("Bo")
	_, err := w.Request(ctx, ana, ana)
	require.ErrorIs(t, err, ErrSelf)
	_, err = w.Request(ctx, ana, core.UserID(uuid.New()))
	require.ErrorIs(t, err, ErrNoUser)
	require.ErrorIs(t, w.Accept(ctx, bo, ana), ErrNoRequest)
	require.ErrorIs(t, w.Decline(ctx, bo, ana), ErrNoRequest)
	require.NoError(t, w.Cancel(ctx, ana, bo))
	require.NoError(t, w.Unfriend(ctx, ana, bo))
	require.Empty(t, w.heard(ana))

	w.request(ana, bo, Sent)
	w.request(ana, bo, Sent)
	require.Equal(t, []core.UserID{bo}, w.open(ana, true))
	require.Equal(t, []core.UserID{ana}, w.open(bo, false))
	require.Empty(t, w.open(bo, true))
	require.Empty(t, w.open(ana, false))
	require.Equal(t, []string{"friend.requested"}, w.heard(bo), "once")
	require.Equal(t, []string{"friend.requested"}, w.heard(ana), "their other devices")
	require.Equal(t, []string{"friend_request"}, w.notified(bo))
	require.ErrorIs(t, w.Accept(ctx, ana, bo), ErrNoRequest, "one's own")

	require.NoError(t, w.Accept(ctx, bo, ana))
	require.NoError(t, w.Accept(ctx, bo, ana), "again")
	require.Equal(t, []core.UserID{bo}, w.friends(ana))
	require.Equal(t, []core.UserID{ana}, w.friends(bo))
	require.Empty(t, w.open(bo, false))
	require.Equal(t, []string{"friend.requested", "friend.accepted"}, w.heard(ana))
	require.Equal(t, []string{"friend_accepted"}, w.notified(ana))
	require.ErrorIs(t, w.Cancel(ctx, ana, bo), ErrFriends)
	w.request(ana, bo, Friends)
	data := rows[map[string]any](w, `SELECT data FROM outbox WHERE key = $1 ORDER BY n`, ana.Key())
	require.Equal(t, map[string]any{"user_id": bo.String(), "by": bo.String()}, data[1])

	require.NoError(t, w.Unfriend(ctx, ana, bo))
	require.NoError(t, w.Unfriend(ctx, bo, ana))
	require.Empty(t, w.friends(bo))
	require.Equal(t, []string{"friend.requested", "friend.accepted", "friend.removed"}, w.heard(bo))
	require.Equal(t, []string{"friend_request"}, w.notified(bo), "nobody is notified of that")

	w.request(bo, ana, Sent) // old answers don't stand in the way
	require.NoError(t, w.Cancel(ctx, bo, ana))
	require.NoError(t, w.Cancel(ctx, bo, ana))
	require.ErrorIs(t, w.Accept(ctx, ana, bo), ErrNoRequest)
	require.Empty(t, w.open(ana, false))
	w.request(bo, ana, Sent)
	require.Equal(t, []string{"friend_accepted", "friend_request"}, w.notified(ana), "not again so soon")
	require.NoError(t, w.Cancel(ctx, bo, ana))
	w.advance(25 * time.Hour)
	w.request(bo, ana, Sent)
	require.Len(t, w.notified(ana), 3)

	require.NoError(t, w.Decline(ctx, ana, bo))
	require.NoError(t, w.Decline(ctx, ana, bo))
	require.Equal(t, "friend.declined", w.heard(bo)[len(w.heard(bo))-1])
	require.Equal(t, []string{"friend_request"}, w.notified(bo), "that is all")
	_, err = w.Request(ctx, bo, ana)
	require.ErrorIs(t, err, ErrDeclined)
	w.advance(declinedFor)
	w.request(bo, ana, Sent)
	require.NoError(t, w.Decline(ctx, ana, bo))
	w.request(ana, bo, Sent) // who declined may
	w.request(bo, ana, Friends)
	require.Len(t, w.friends(ana), 1)

	w.advance(keepRequest + time.Hour)
	require.NoError(t, w.Sweep(ctx))
	require.Empty(t, rows[string](w, `SELECT state FROM friend_requests`))
	require.Len(t, w.friends(ana), 1)
}

func TestBlocksEndAll(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana, bo, cy, di := w.user("Ana"), w.user("Bo"), w.user("Cy"), w.user("Di")
	w.request(bo, ana, Sent)
	w.request(ana, bo, Friends)
	w.request(cy, ana, Sent)
	w.request(ana, di, Sent)
	for _, other := range []core.UserID{bo, cy, di} {
		require.NoError(t, w.Block(ctx, ana, other))
		require.NoError(t, w.Block(ctx, ana, other))
		require.Empty(t, w.notified(other))
		require.Empty(t, w.friends(other))
		_, err := w.Request(ctx, other, ana)
		require.ErrorIs(t, err, ErrNoUser, "as if there were nobody")
		_, err = w.Request(ctx, ana, other)
		require.ErrorIs(t, err, ErrNoUser)
		require.ErrorIs(t, w.Accept(ctx, ana, other), ErrNoRequest)
		require.ErrorIs(t, w.Accept(ctx, other, ana), ErrNoRequest)
	}
	require.Empty(t, w.friends(ana))
	require.Empty(t, append(w.open(ana, true), w.open(ana, false)...))
	require.Equal(t, []string{"friend.requested", "friend.accepted", "friend.removed"}, w.heard(bo), "what an unfriend says")
	require.Equal(t, []string{"friend.requested", "friend.declined"}, w.heard(cy))
	require.Equal(t, []string{"friend.requested", "friend.canceled"}, w.heard(di))

	require.NoError(t, w.Unblock(ctx, ana, bo))
	require.Empty(t, w.friends(ana), "it does not come back")
	w.request(bo, ana, Sent)
}

func TestWhoMayAsk(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana, bo, cy := w.user("Ana"), w.user("Bo"), w.user("Cy")
	set, err := w.Settings(ctx, ana)
	require.NoError(t, err)
	require.Equal(t, Settings{Requests: Everyone}, set)
	_, err = w.SetSettings(ctx, ana, true, "friends")
	require.ErrorIs(t, err, ErrBadAudience)
	set, err = w.SetSettings(ctx, ana, true, Groups)
	require.NoError(t, err)
	require.Equal(t, Settings{true, Groups}, set)
	set, err = w.SetSettings(ctx, ana, false, "")
	require.NoError(t, err)
	require.Equal(t, Settings{false, Groups}, set, "what isn't named stays")

	group := uuid.New()
	w.exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'crew', 'eu-west')`, group)
	w.exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'owner'), ($1, $3, 'member')`, group, ana, bo)
	_, err = w.Request(ctx, cy, ana)
	require.ErrorIs(t, err, ErrNoUser)
	w.request(bo, ana, Sent)
	require.NoError(t, w.Cancel(ctx, bo, ana))
	_, err = w.SetSettings(ctx, ana, false, Nobody)
	require.NoError(t, err)
	_, err = w.Request(ctx, bo, ana)
	require.ErrorIs(t, err, ErrNoUser)
	w.request(ana, cy, Sent)
	w.request(cy, ana, Friends) // whom she asked herself
}

func TestRequestsAreBounded(t *testing.T) {
	now := time.Now()
	f := facts{known: true, takes: Everyone}
	for _, c := range []struct {
		change func(*facts)
		want   verdict
		err    error
	}{
		{func(f *facts) {}, ask, nil},
		{func(f *facts) { f.open = maxOpen }, nothing, ErrManyRequests},
		{func(f *facts) { f.today = maxDaily }, nothing, ErrRequestRate},
		{func(f *facts) { f.today, f.sent = maxDaily, "open" }, nothing, nil},
		{func(f *facts) { f.today, f.received = maxDaily, true }, befriend, nil},
		{func(f *facts) { f.blocked, f.friends = true, true }, nothing, ErrNoUser},
		{func(f *facts) { f.sent, f.answered = "accepted", now }, ask, nil},
		{func(f *facts) { f.sent, f.answered = "declined", now.Add(-declinedFor) }, ask, nil},
		{func(f *facts) { f.sent, f.answered, f.received = "declined", now, true }, befriend, nil},
	} {
		f := f
		c.change(&f)
		v, err := f.decide(now)
		require.Equal(t, c.want, v)
		require.ErrorIs(t, err, c.err)
	}

	w := setup(t)
	ana := w.user("Ana")
	w.exec(`WITH n AS (INSERT INTO users (id, username, username_key, guest, home_region)
	   SELECT gen_random_uuid(), 'n' || i::TEXT, 'n' || i::TEXT, true, 'eu-west' FROM generate_series(1, $2::INT) AS i RETURNING id)
	 INSERT INTO friend_requests (requester, requested, created_at) SELECT $1, id, $3 FROM n`, ana, maxDaily, w.now)
	_, err := w.Request(t.Context(), ana, w.user("Bo"))
	require.ErrorIs(t, err, ErrRequestRate)
	w.advance(25 * time.Hour)
	w.request(ana, w.user("Cy"), Sent)
}

// Pages neither repeat nor skip anybody.
func TestPages(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana := w.user("Ana")
	var asked []core.UserID
	for i := range 7 {
		u := w.user(fmt.Sprintf("Bo %d", i))
		w.request(u, ana, Sent)
		asked = append([]core.UserID{u}, asked...)
	}
	var got []core.UserID
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		list, next, err := w.Requests(ctx, ana, false, cursor, 3)
		require.NoError(t, err)
		for _, p := range list {
			got = append(got, p.User)
		}
		cursor = next
	}
	require.Equal(t, asked, got)
	_, _, err := w.Requests(ctx, ana, true, "x", 3)
	require.ErrorIs(t, err, core.ErrBadCursor)
}

func (w *world) search(viewer core.UserID, q string, limit int) (names []string) {
	w.t.Helper()
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		list, next, err := w.Search(w.t.Context(), viewer, q, cursor, limit)
		require.NoError(w.t, err)
		require.LessOrEqual(w.t, len(list), limit)
		for _, f := range list {
			names = append(names, f.Username)
		}
		cursor = next
	}
	return names
}

func TestSearch(t *testing.T) {
	w, ctx := setup(t), t.Context()
	me := w.user("Maria Me")
	people := map[string]core.UserID{}
	for _, name := range []string{"Ana Maria", "Mariam", "maria_maria", "Zoë Martin", "Hidden Maria", "Bob"} {
		people[name] = w.user(name)
		if name != "Hidden Maria" {
			_, err := w.SetSettings(ctx, people[name], true, "")
			require.NoError(t, err)
		}
	}
	_, err := w.SetSettings(ctx, me, true, "")
	require.NoError(t, err)
	for _, limit := range []int{1, 2, 50} {
		require.Empty(t, w.search(me, "marx", limit))
		require.ElementsMatch(t, []string{"Ana Maria", "Mariam", "maria_maria", "Zoë Martin"}, w.search(me, "MAR", limit), "each once")
	}
	require.Equal(t, []string{"Zoë Martin"}, w.search(me, "@zoë", 50))
	require.Empty(t, w.search(people["Bob"], "hidden", 50), "who didn't choose to be found")
	require.Contains(t, w.search(people["Hidden Maria"], "maria", 50), "Ana Maria", "they find others, though")
	_, _, err = w.Search(ctx, me, "m", "", 50)
	require.ErrorIs(t, err, core.ErrBadQuery)
	_, _, err = w.Search(ctx, me, "maria", "!", 50)
	require.ErrorIs(t, err, core.ErrBadCursor)

	// A block hides both ways, whoever made it.
	require.NoError(t, w.Block(ctx, people["Mariam"], me))
	require.NoError(t, w.Block(ctx, me, people["Ana Maria"]))
	require.Equal(t, []string{"maria_maria", "Zoë Martin"}, w.search(me, "mar", 50))
	require.NotContains(t, w.search(people["Mariam"], "maria", 50), "Maria Me")
	require.NotContains(t, w.search(people["Ana Maria"], "maria", 50), "Maria Me")
	require.Contains(t, w.search(people["Bob"], "maria", 50), "Maria Me")

	relation := func(name string) Relation {
		list, _, err := w.Search(ctx, me, name, "", 1)
		require.NoError(t, err)
		return list[0].Relation
	}
	zoe := people["Zoë Martin"]
	require.Equal(t, None, relation("zoë"))
	w.request(me, zoe, Sent)
	require.Equal(t, Sent, relation("zoë"))
	require.NoError(t, w.Accept(ctx, zoe, me))
	require.Equal(t, Friends, relation("zoë"))
	w.request(people["Bob"], me, Sent)
	require.Equal(t, Received, relation("bob"))

	// A new name is what counts, and no choice is for ever.
	require.NoError(t, w.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE users SET username = 'Roberta', username_key = 'roberta' WHERE id = $1`, people["Bob"]); err != nil {
			return err
		}
		return Renamed(ctx, tx, people["Bob"])
	}))
	require.Empty(t, w.search(me, "bob", 50))
	require.Equal(t, []string{"Roberta"}, w.search(me, "robert", 50))
	_, err = w.SetSettings(ctx, people["Bob"], false, "")
	require.NoError(t, err)
	require.Empty(t, w.search(me, "robert", 50))
	require.NoError(t, w.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return Renamed(ctx, tx, people["Bob"]) }))
	require.Empty(t, w.search(me, "robert", 50))
}

// Whatever people do to each other at once, from several nodes: what is there
// afterwards is what some order of it would have left, and each event was true.
func TestRaces(t *testing.T) {
	w := setup(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	people := make([]core.UserID, 4)
	for i := range people {
		people[i] = w.user(fmt.Sprintf("P %d", i))
	}
	const rounds, atOnce = 40, 8
	for range rounds {
		var wg sync.WaitGroup
		for range atOnce {
			a, what := r.IntN(len(people)), r.IntN(8)
			b := (a + 1 + r.IntN(len(people)-1)) % len(people)
			x, y := people[a], people[b]
			wg.Go(func() {
				ctx := t.Context()
				var err error
				switch what {
				case 0, 1:
					_, err = w.Request(ctx, x, y)
				case 2, 3:
					err = w.Accept(ctx, x, y)
				case 4:
					err = w.Decline(ctx, x, y)
				case 5:
					err = w.Cancel(ctx, x, y)
				case 6:
					err = w.Unfriend(ctx, x, y)
				case 7:
					if err = w.Block(ctx, x, y); err == nil {
						err = w.Unblock(ctx, x, y)
					}
				}
				if !slices.ContainsFunc([]error{ErrNoUser, ErrNoRequest, ErrDeclined, ErrFriends}, func(fine error) bool { return errors.Is(err, fine) }) {
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		w.check()
		w.advance(declinedFor) // or soon nobody may ask
	}
	// Told in order, events leave everybody with what is there.
	for _, u := range people {
		var friends []string
		for _, e := range rows[map[string]any](w, `SELECT data || jsonb_build_object('kind', kind) FROM outbox WHERE key = $1 ORDER BY n`, u.Key()) {
			other := e["user_id"].(string)
			i := slices.Index(friends, other)
			switch e["kind"] {
			case core.FriendAccepted:
				require.Equal(t, -1, i, "friends twice")
				friends = append(friends, other)
			case core.FriendRemoved:
				require.GreaterOrEqual(t, i, 0, "no friends")
				friends = slices.Delete(friends, i, i+1)
			}
		}
		var have []string
		for _, f := range w.friends(u) {
			have = append(have, f.String())
		}
		require.ElementsMatch(t, have, friends)
	}
}

// check holds what is always true.
func (w *world) check() {
	w.t.Helper()
	for what, sql := range map[string]string{
		"a friendship has two sides": `SELECT count(*) FROM friends a WHERE NOT EXISTS (SELECT 1 FROM friends b WHERE b.user_id = a.friend_id AND b.friend_id = a.user_id)`,
		"friends or asked":           `SELECT count(*) FROM friends f JOIN friend_requests r ON r.requester = f.user_id AND r.requested = f.friend_id WHERE r.state = 'open'`,
		"asked one way":              `SELECT count(*) FROM friend_requests a JOIN friend_requests b ON b.requester = a.requested AND b.requested = a.requester WHERE a.state = 'open' AND b.state = 'open'`,
		"blocked are no friends":     `SELECT count(*) FROM blocks b JOIN friends f ON f.user_id = b.blocker AND f.friend_id = b.blocked`,
		"blocked ask nothing":        `SELECT count(*) FROM blocks b JOIN friend_requests r ON r.state = 'open' AND (r.requester = b.blocker AND r.requested = b.blocked OR r.requester = b.blocked AND r.requested = b.blocker)`,
	} {
		require.Equal(w.t, []int64{0}, rows[int64](w, sql), what)
	}
}

// Two accepts, a crossing request, and a block that stays: whichever comes first.
func TestRacesOfTwo(t *testing.T) {
	w, ctx := setup(t), t.Context()
	both := func(f, g func() error) (errF, errG error) {
		var wg sync.WaitGroup
		wg.Go(func() { errF = f() })
		wg.Go(func() { errG = g() })
		wg.Wait()
		w.check()
		return errF, errG
	}
	for i := range 15 {
		ana, bo := w.user(fmt.Sprintf("Ana %d", i)), w.user(fmt.Sprintf("Bo %d", i))
		var ra, rb Relation
		errA, errB := both(
			func() (err error) { ra, err = w.Request(ctx, ana, bo); return err },
			func() (err error) { rb, err = w.Request(ctx, bo, ana); return err })
		require.NoError(t, errA)
		require.NoError(t, errB)
		require.ElementsMatch(t, []Relation{Sent, Friends}, []Relation{ra, rb}, "crossing requests")
		require.Equal(t, []core.UserID{bo}, w.friends(ana))

		cy, di := w.user(fmt.Sprintf("Cy %d", i)), w.user(fmt.Sprintf("Di %d", i))
		w.request(cy, di, Sent)
		errA, errB = both(func() error { return w.Accept(ctx, di, cy) }, func() error { return w.Accept(ctx, di, cy) })
		require.NoError(t, errA)
		require.NoError(t, errB)
		require.Equal(t, []string{"friend.requested", "friend.accepted"}, w.heard(cy), "accepted once")
		require.Equal(t, []string{"friend_accepted"}, w.notified(cy))

		eve, flo := w.user(fmt.Sprintf("Eve %d", i)), w.user(fmt.Sprintf("Flo %d", i))
		w.request(eve, flo, Sent)
		errA, errB = both(func() error { return w.Accept(ctx, flo, eve) }, func() error { return w.Block(ctx, eve, flo) })
		require.NoError(t, errB)
		if errA != nil {
			require.ErrorIs(t, errA, ErrNoRequest)
		}
		require.Empty(t, w.friends(eve), "a block while the other one accepts")
		require.Empty(t, w.friends(flo))
		last := w.heard(flo)[len(w.heard(flo))-1]
		require.Contains(t, []string{"friend.removed", "friend.canceled"}, last)

		gil, hal := w.user(fmt.Sprintf("Gil %d", i)), w.user(fmt.Sprintf("Hal %d", i))
		w.request(gil, hal, Sent)
		errA, errB = both(func() error { return w.Accept(ctx, hal, gil) }, func() error { return w.Cancel(ctx, gil, hal) })
		if errA == nil {
			require.ErrorIs(t, errB, ErrFriends)
			require.Len(t, w.friends(gil), 1)
		} else {
			require.ErrorIs(t, errA, ErrNoRequest)
			require.NoError(t, errB)
			require.Empty(t, w.friends(gil))
		}
	}
}
