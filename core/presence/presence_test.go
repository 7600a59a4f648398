package presence

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

func exec(t *testing.T, d *db.DB, sql string, args ...any) {
	t.Helper()
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func addUser(t *testing.T, d *db.DB) core.UserID {
	id := core.UserID(uuid.New())
	exec(t, d, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, id.String())
	return id
}

func addGroup(t *testing.T, d *db.DB, members ...core.UserID) core.GroupID {
	id := core.GroupID(uuid.New())
	exec(t, d, `INSERT INTO groups (id, name, home_region) VALUES ($1, 'crew', 'eu-west')`, id)
	for _, m := range members {
		exec(t, d, `INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'member')`, id, m)
	}
	return id
}

// told remembers what was announced.
type told struct {
	mu   sync.Mutex
	said []string
}

func (a *told) PresenceChanged(ctx context.Context, user core.UserID, invisible bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, fmt.Sprint(user, " ", invisible, " ", ctx.Err()))
}

func ptr[T any](v T) *T { return &v }

func TestSettings(t *testing.T) {
	d, a := devdb.Test(t), &told{}
	s := New(d, a)
	ana := addUser(t, d)
	set, err := s.Get(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, Settings{LastSeen: Groups}, set, "who never chose")

	set, err = s.Update(t.Context(), ana, Change{Invisible: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, Settings{Invisible: true, LastSeen: Groups}, set)
	set, err = s.Update(t.Context(), ana, Change{LastSeen: ptr(Everyone)})
	require.NoError(t, err)
	require.Equal(t, Settings{Invisible: true, LastSeen: Everyone}, set, "what isn't named stays")
	_, err = s.Update(t.Context(), ana, Change{Invisible: ptr(true)})
	require.NoError(t, err)
	require.Equal(t, []string{ana.String() + " true <nil>"}, a.said, "only what changed")
	_, err = s.Update(t.Context(), ana, Change{Invisible: ptr(false)})
	require.NoError(t, err)
	require.Equal(t, ana.String()+" false <nil>", a.said[1])

	_, err = s.Update(t.Context(), ana, Change{LastSeen: ptr(Audience("friends"))})
	require.ErrorIs(t, err, ErrBadAudience)
	set, err = s.Get(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, Settings{LastSeen: Everyone}, set)
	_, err = s.Update(t.Context(), core.UserID(uuid.New()), Change{Invisible: ptr(true)})
	require.Error(t, err, "settings of nobody")
	require.Len(t, a.said, 2)
}

func TestLastSeen(t *testing.T) {
	d := devdb.Test(t)
	s := New(d, nil)
	ana, bo, cy := addUser(t, d), addUser(t, d), addUser(t, d)
	seen := func(u core.UserID) time.Time {
		v, err := s.View(t.Context(), u, u)
		require.NoError(t, err)
		return v.LastSeen
	}
	write := func(at map[core.UserID]time.Time) { require.NoError(t, s.Seen(t.Context(), at)) }
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	write(nil)
	require.True(t, seen(ana).IsZero())
	write(map[core.UserID]time.Time{ana: noon, bo: noon.Add(time.Minute), core.UserID(uuid.New()): noon})
	require.Equal(t, noon, seen(ana))
	require.Equal(t, noon.Add(time.Minute), seen(bo), "a user who is gone spoils nothing")
	write(map[core.UserID]time.Time{ana: noon.Add(time.Hour), bo: noon})
	require.Equal(t, noon.Add(time.Hour), seen(ana))
	require.Equal(t, noon.Add(time.Minute), seen(bo), "never lowered")

	_, err := s.Update(t.Context(), ana, Change{Invisible: ptr(true)})
	require.NoError(t, err)
	_, err = s.Update(t.Context(), cy, Change{Invisible: ptr(true)})
	require.NoError(t, err)
	write(map[core.UserID]time.Time{ana: noon.Add(2 * time.Hour), bo: noon.Add(2 * time.Hour), cy: noon})
	require.Equal(t, noon.Add(time.Hour), seen(ana), "not while invisible")
	require.Equal(t, noon.Add(2*time.Hour), seen(bo))
	require.True(t, seen(cy).IsZero())
	_, err = s.Update(t.Context(), ana, Change{Invisible: ptr(false)})
	require.NoError(t, err)
	write(map[core.UserID]time.Time{ana: noon.Add(3 * time.Hour)})
	require.Equal(t, noon.Add(3*time.Hour), seen(ana))
}

// Batches of several nodes name the same people in any order.
func TestBatchesAtOnce(t *testing.T) {
	d := devdb.Test(t)
	s := New(d, nil)
	people := make([]core.UserID, 20)
	for i := range people {
		people[i] = addUser(t, d)
	}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			at := map[core.UserID]time.Time{}
			for _, p := range people {
				at[p] = noon.Add(time.Duration(n) * time.Second)
			}
			require.NoError(t, s.Seen(t.Context(), at))
		})
	}
	wg.Wait()
	for _, p := range people {
		v, err := s.View(t.Context(), p, p)
		require.NoError(t, err)
		require.Equal(t, noon.Add(7*time.Second), v.LastSeen)
	}
}

func TestViews(t *testing.T) {
	d := devdb.Test(t)
	s := New(d, nil)
	ana, bo, eve := addUser(t, d), addUser(t, d), addUser(t, d)
	both, second := addGroup(t, d, ana, bo), addGroup(t, d, bo, ana)
	addGroup(t, d, ana, eve)
	addGroup(t, d, bo)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	require.NoError(t, s.Seen(t.Context(), map[core.UserID]time.Time{bo: noon}))

	for _, c := range []struct {
		audience          Audience
		friend, stranger  bool // may know when
		strangerMayKnowOf bool
	}{{Everyone, true, true, true}, {Groups, true, false, false}, {Nobody, false, false, false}} {
		for _, invisible := range []bool{false, true} {
			_, err := s.Update(t.Context(), bo, Change{Invisible: &invisible, LastSeen: &c.audience})
			require.NoError(t, err)
			v, err := s.View(t.Context(), ana, bo)
			require.NoError(t, err)
			require.ElementsMatch(t, []core.GroupID{both, second}, v.Shared)
			require.Equal(t, invisible, v.Invisible)
			require.Equal(t, c.friend, v.LastSeen.Equal(noon), "%s", c.audience)
			v, err = s.View(t.Context(), eve, bo)
			if c.strangerMayKnowOf {
				require.NoError(t, err)
				require.Empty(t, v.Shared)
				require.Equal(t, c.stranger, v.LastSeen.Equal(noon))
			} else {
				require.ErrorIs(t, err, ErrNotFound)
			}
			v, err = s.View(t.Context(), bo, bo)
			require.NoError(t, err)
			require.False(t, v.Invisible, "to oneself")
			require.Equal(t, noon, v.LastSeen)
		}
	}
	_, err := s.View(t.Context(), ana, core.UserID(uuid.New()))
	require.ErrorIs(t, err, ErrNotFound)
	lone := addUser(t, d)
	_, err = s.View(t.Context(), lone, lone)
	require.NoError(t, err, "oneself, without any group")
}

// Who is blocked, by whomever of the two, looks offline for ever, or isn't there.
func TestBlocked(t *testing.T) {
	d := devdb.Test(t)
	s := New(d, nil)
	ana, bo, eve := addUser(t, d), addUser(t, d), addUser(t, d)
	addGroup(t, d, ana, bo)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	require.NoError(t, s.Seen(t.Context(), map[core.UserID]time.Time{ana: noon, bo: noon, eve: noon}))
	for _, u := range []core.UserID{ana, bo, eve} {
		_, err := s.Update(t.Context(), u, Change{LastSeen: ptr(Everyone)})
		require.NoError(t, err)
	}
	exec(t, d, `INSERT INTO blocks (blocker, blocked) VALUES ($1, $2), ($1, $3)`, ana, bo, eve)
	for _, pair := range [][2]core.UserID{{ana, bo}, {bo, ana}} {
		v, err := s.View(t.Context(), pair[0], pair[1])
		require.NoError(t, err)
		require.Len(t, v.Shared, 1, "that they share a group is no secret")
		require.True(t, v.Invisible)
		require.True(t, v.LastSeen.IsZero())
	}
	for _, pair := range [][2]core.UserID{{ana, eve}, {eve, ana}} {
		_, err := s.View(t.Context(), pair[0], pair[1])
		require.ErrorIs(t, err, ErrNotFound)
	}
	v, err := s.View(t.Context(), eve, bo)
	require.NoError(t, err)
	require.Equal(t, noon, v.LastSeen, "others are not concerned")
}
