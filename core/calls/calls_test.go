package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/errs"
)

var errNotMember = errs.New(errs.NotFound, "not_member", "you are not in this room")

// world is some people in rooms, and their calls.
type world struct {
	*Store
	t  *testing.T
	db *db.DB

	mu      sync.Mutex // guards the following
	time    time.Time
	rooms   map[string]map[core.UserID]Standing
	changed []Call
	missed  []string
}

func setup(t *testing.T) *world {
	w := &world{t: t, db: devdb.Test(t), time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), rooms: map[string]map[core.UserID]Standing{}}
	w.Store = New(w.db, w, Config{Now: w.clock, Notify: w, Changed: func(_ context.Context, c Call) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changed = append(w.changed, c)
	}})
	w.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	return w
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

// NotifyOnce satisfies Notifier.
func (w *world) NotifyOnce(_ context.Context, _ pgx.Tx, to core.UserID, kind, once string, data map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed = append(w.missed, fmt.Sprint(kind, " ", to, " ", data["user_id"], " ", once == "call:"+data["session_id"].(string)))
	return nil
}

// Standing satisfies Rooms.
func (w *world) Standing(_ context.Context, user core.UserID, room string) (Standing, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	st, ok := w.rooms[room][user]
	if !ok {
		return Standing{}, errNotMember
	}
	return st, nil
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

// group makes one of an owner and members.
func (w *world) group(owner core.UserID, members ...core.UserID) (core.GroupID, string) {
	id := core.GroupID(uuid.New())
	w.exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'Crew', 'us-east')`, id)
	room := id.Room()
	in := map[core.UserID]Standing{owner: {Role: "owner", Writes: true, Home: "us-east"}}
	w.exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'owner')`, id, owner)
	for _, m := range members {
		in[m] = Standing{Role: "member", Writes: true, Home: "us-east"}
		w.exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'member')`, id, m)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rooms[room] = in
	return id, room
}

// pair makes a room of two.
func (w *world) pair(a, b core.UserID) string {
	room := core.DirectRoom(a, b)
	w.exec(`INSERT INTO conversations (room, pair, home_region, created_at) VALUES ($1, true, 'eu-west', now())`, room)
	w.exec(`INSERT INTO conversation_people (room, user_id, since) VALUES ($1, $2, now()), ($1, $3, now())`, room, a, b)
	st := Standing{Role: "member", Writes: true, Home: "eu-west"}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rooms[room] = map[core.UserID]Standing{a: st, b: st}
	return room
}

// told returns the events of a key so far.
func (w *world) told(key string) (kinds []string, last core.CallEvent) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error {
		kinds = nil
		rows, err := q.Query(ctx, `SELECT kind, data FROM outbox WHERE key = $1 ORDER BY n`, key)
		if err != nil {
			return err
		}
		var kind string
		var data []byte
		_, err = pgx.ForEachRow(rows, []any{&kind, &data}, func() error {
			kinds = append(kinds, kind)
			last = core.CallEvent{}
			return json.Unmarshal(data, &last)
		})
		return err
	}))
	return kinds, last
}

func (w *world) start(user core.UserID, room string) Call {
	w.t.Helper()
	c, started, err := w.Start(w.t.Context(), user, Draft{Room: room, Type: Audio})
	require.NoError(w.t, err)
	require.True(w.t, started)
	return c
}

func TestARoomHasOneCall(t *testing.T) {
	w := setup(t)
	ana, bo, eve := w.user("ana"), w.user("bo"), w.user("eve")
	group, room := w.group(ana, bo)
	c := w.start(bo, room)
	require.Equal(t, Call{ID: c.ID, Room: room, Group: &group, Home: "us-east", Type: Audio, StartedBy: &bo, StartedAt: w.clock(), Hearing: Hearing{Loudness: 1}, Version: 1}, c)

	again, started, err := w.Start(t.Context(), ana, Draft{Room: room, Type: Video})
	require.NoError(t, err)
	require.False(t, started)
	require.Equal(t, c, again)

	// All at once get one, too.
	_, other := w.group(ana, bo)
	ids, wg := make([]uuid.UUID, 8), sync.WaitGroup{}
	for i := range ids {
		wg.Go(func() {
			if c, _, err := w.Start(t.Context(), ana, Draft{Room: other, Type: Video}); err == nil {
				ids[i] = c.ID
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
		require.NotZero(t, id)
	}

	kinds, last := w.told(room)
	require.Equal(t, []string{core.CallStarted}, kinds)
	require.Equal(t, core.CallEvent{Call: c.ID.String(), Room: room, Type: "audio", By: bo.String(), Version: 1}, last)

	_, _, err = w.Start(t.Context(), eve, Draft{Room: room, Type: Audio})
	require.ErrorIs(t, err, errNotMember)
	_, _, err = w.Get(t.Context(), eve, c.ID)
	require.ErrorIs(t, err, ErrNoCall)
	_, _, err = w.Start(t.Context(), ana, Draft{Room: room, Type: "hologram"})
	require.ErrorIs(t, err, ErrBadType)

	list, err := w.List(t.Context(), bo)
	require.NoError(t, err)
	require.Len(t, list, 2)
	list, err = w.List(t.Context(), eve)
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestWhoModerates(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo, eve := w.user("ana"), w.user("bo"), w.user("eve")
	_, room := w.group(ana, bo)
	c := w.start(bo, room)
	_, err := w.Change(ctx, bo, c.ID, Change{Locked: new(true)})
	require.ErrorIs(t, err, ErrForbidden, "a member, though it was them who started it")
	_, err = w.Change(ctx, eve, c.ID, Change{Locked: new(true)})
	require.ErrorIs(t, err, ErrNoCall)
	require.ErrorIs(t, w.End(ctx, bo, c.ID), ErrForbidden)

	hearing := Hearing{Most: 4, Loudness: 0.5, Nearness: 1, Radius: 200}
	got, err := w.Change(ctx, ana, c.ID, Change{Locked: new(true), Hearing: &hearing})
	require.NoError(t, err)
	require.True(t, got.Locked)
	require.Equal(t, hearing, got.Hearing)
	require.EqualValues(t, 2, got.Version)
	same, err := w.Change(ctx, ana, c.ID, Change{Locked: new(true)})
	require.NoError(t, err)
	require.Equal(t, got, same, "nothing new")
	for _, bad := range []Hearing{{Most: -1}, {Most: 51}, {Loudness: 1.1}, {Nearness: math.NaN()}, {Radius: math.Inf(1)}, {Radius: -1}} {
		_, err = w.Change(ctx, ana, c.ID, Change{Hearing: &bad})
		require.ErrorIs(t, err, ErrBadHearing, "%+v", bad)
	}

	require.NoError(t, w.End(ctx, ana, c.ID))
	require.NoError(t, w.End(ctx, ana, c.ID), "again")
	_, err = w.Change(ctx, ana, c.ID, Change{Locked: new(false)})
	require.ErrorIs(t, err, ErrEnded)
	got, _, err = w.Get(ctx, bo, c.ID)
	require.NoError(t, err)
	require.NotNil(t, got.EndedAt)
	kinds, _ := w.told(room)
	require.Equal(t, []string{core.CallStarted, core.CallChanged, core.CallEnded}, kinds)
	require.NotEqual(t, c.ID, w.start(bo, room).ID, "another one may begin")

	// Of two, both do, and each hears of it as themself.
	direct := w.pair(bo, eve)
	d := w.start(eve, direct)
	require.NoError(t, w.End(ctx, bo, d.ID))
	for _, p := range []core.UserID{bo, eve} {
		kinds, last := w.told(p.Key())
		require.Equal(t, []string{core.CallStarted, core.CallEnded}, kinds)
		require.Equal(t, bo.String(), last.By)
	}
}

func TestACallEndsWhenNobodyIsLeft(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana := w.user("ana")
	_, room := w.group(ana)
	c := w.start(ana, room)
	ended := func(id uuid.UUID) bool {
		t.Helper()
		require.NoError(t, w.EndDue(ctx))
		c, err := w.Record(ctx, id)
		require.NoError(t, err)
		return c.Ended()
	}
	seen := func(node string) []Call {
		t.Helper()
		w.cfg.Node = node
		list, err := w.Seen(ctx, []uuid.UUID{c.ID, uuid.New()})
		require.NoError(t, err)
		return list
	}
	idle := func(node string) error {
		w.cfg.Node = node
		return w.Idle(ctx, c.ID)
	}
	require.Equal(t, []Call{c}, seen("eu-1"))
	seen("us-1")
	require.NoError(t, idle("eu-1"))
	require.NoError(t, idle("eu-1"), "again")
	require.False(t, ended(c.ID), "another region has somebody in it, whatever this one believes")
	w.advance(stale - time.Second)
	seen("us-1")
	w.advance(stale - time.Second)
	require.False(t, ended(c.ID))
	require.NoError(t, idle("us-1"))
	require.True(t, ended(c.ID), "at once, with the last one")
	over := seen("us-1")
	require.Len(t, over, 1, "who still holds it learns that it has ended")
	require.True(t, over[0].Ended())
	require.Equal(t, over[0], w.changed[len(w.changed)-1], "and so do the nodes, by themselves")

	// A node that died with the call says nothing any more.
	lost := w.start(ana, room)
	_, err := w.Seen(ctx, []uuid.UUID{lost.ID})
	require.NoError(t, err)
	require.False(t, ended(lost.ID))
	w.advance(stale)
	require.True(t, ended(lost.ID))
	// Nobody came.
	never := w.start(ana, room)
	w.advance(stale - time.Second)
	require.False(t, ended(never.ID))
	w.advance(time.Second)
	require.True(t, ended(never.ID))
	kinds, last := w.told(room)
	require.Equal(t, []string{core.CallStarted, core.CallEnded, core.CallStarted, core.CallEnded, core.CallStarted, core.CallEnded}, kinds)
	require.Empty(t, last.By)

	w.advance(keep)
	require.NoError(t, w.EndDue(ctx))
	_, err = w.Record(ctx, lost.ID)
	require.ErrorIs(t, err, ErrNoCall, "forgotten")
}

func TestWhoMissedACall(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo := w.user("ana"), w.user("bo")
	direct := w.pair(ana, bo)
	c := w.start(ana, direct)
	require.NoError(t, w.Joined(ctx, c.ID, ana))
	require.NoError(t, w.End(ctx, ana, c.ID))
	want := []string{fmt.Sprint("call_missed ", bo, " ", ana, " true")}
	require.Equal(t, want, w.missed)
	c = w.start(ana, direct)
	require.NoError(t, w.Joined(ctx, c.ID, bo))
	require.NoError(t, w.Joined(ctx, c.ID, bo), "again")
	require.NoError(t, w.End(ctx, ana, c.ID))
	_, room := w.group(ana, bo)
	require.NoError(t, w.End(ctx, ana, w.start(ana, room).ID))
	require.Equal(t, want, w.missed, "who was in it, and who is one of many, missed nothing")
}

// Who is not in a room any more, or blocked, sees no calls of it; a conversation that is
// over has none.
func TestCallsOfOtherRooms(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo := w.user("ana"), w.user("bo")
	direct := w.pair(ana, bo)
	c := w.start(ana, direct)
	sees := func(who core.UserID) int {
		list, err := w.List(ctx, who)
		require.NoError(t, err)
		return len(list)
	}
	require.Equal(t, 1, sees(bo))
	w.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, ana, bo)
	require.Zero(t, sees(bo))
	require.Zero(t, sees(ana))
	w.exec(`DELETE FROM blocks`)
	w.exec(`UPDATE conversation_people SET left_at = now() WHERE user_id = $1`, bo)
	require.Zero(t, sees(bo))
	w.mu.Lock()
	w.rooms[direct][ana] = Standing{Role: "member", Home: "eu-west"}
	w.mu.Unlock()
	require.NoError(t, w.End(ctx, ana, c.ID))
	_, _, err := w.Start(ctx, ana, Draft{Room: direct, Type: Audio})
	require.ErrorIs(t, err, ErrRoomOver)
}

// An operator sees all calls, and ends any.
func TestOperators(t *testing.T) {
	w := setup(t)
	ann, bo := w.user("ann"), w.user("bo")
	_, room := w.group(ann)
	first, _, err := w.Start(t.Context(), ann, Draft{Room: room, Type: Audio})
	require.NoError(t, err)
	w.advance(time.Second)
	second, _, err := w.Start(t.Context(), bo, Draft{Room: w.pair(ann, bo), Type: Video})
	require.NoError(t, err)
	list, err := w.Going(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []Call{first, second}, list)
	list, err = w.Going(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, []Call{first}, list)

	require.NoError(t, w.Cut(t.Context(), first.ID))
	require.NoError(t, w.Cut(t.Context(), first.ID), "again")
	require.ErrorIs(t, w.Cut(t.Context(), uuid.New()), ErrNoCall)
	kinds, last := w.told(room)
	require.Equal(t, []string{core.CallStarted, core.CallEnded}, kinds)
	require.Empty(t, last.By, "nobody in the room did it")
	list, err = w.Going(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, []Call{second}, list)
}
