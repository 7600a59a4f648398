package location

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/fence"
)

func circle(radius float64) fence.Shape {
	return fence.Shape{Circle: &fence.Circle{Center: geo.Point{Lat: 45.32, Lng: 13.96}, Radius: radius}}
}

func (b *bundle) fence(user core.UserID, group core.GroupID, d FenceDraft) (Fence, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Fence, error) {
		f, version, err := b.AddFence(ctx, tx, user, group, d)
		if err == nil {
			b.TellFences(ctx, group, version)
		}
		return f, err
	})
}

func TestFences(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	owner, ana, bo, eve := b.user(), b.user(), b.user(), b.user()
	crew := b.group(owner, ana, bo)
	room := crew.Room()

	f, err := b.fence(ana, crew, FenceDraft{Name: " station ", Shape: circle(200), Dwell: time.Minute})
	require.NoError(t, err)
	require.Equal(t, "station", f.Name)
	require.Equal(t, []string{room + " 2"}, b.heard(), "the group has a version more")
	square := fence.Shape{Polygon: [][]geo.Point{{{Lat: 1, Lng: 1}, {Lat: 1, Lng: 2}, {Lat: 2, Lng: 2}, {Lat: 2, Lng: 1}}}}
	g, err := b.fence(owner, crew, FenceDraft{Name: "square", Shape: square})
	require.NoError(t, err)
	list, meet, err := b.Fences(ctx, bo, crew)
	require.NoError(t, err)
	require.Zero(t, meet)
	require.Equal(t, []Fence{f, g}, list)
	run, err := b.Fencing(ctx, room, 3)
	require.NoError(t, err)
	require.Equal(t, Fencing{Version: 3, Fences: []Fence{f, g}, States: []FenceState{}}, run)
	_, err = b.Fencing(ctx, room, 4)
	require.ErrorIs(t, err, ErrBehind)
	run, err = b.Fencing(ctx, "direct:x", 0)
	require.NoError(t, err)
	require.Empty(t, run.Fences)
	_, err = b.Fencing(ctx, core.GroupID(uuid.New()).Room(), 0)
	require.ErrorIs(t, err, ErrNoGroup)

	// Who may: its maker, owner and admins.
	_, err = b.fence(eve, crew, FenceDraft{Name: "x", Shape: circle(200)})
	require.ErrorIs(t, err, ErrNoGroup)
	_, _, err = b.Fences(ctx, eve, crew)
	require.ErrorIs(t, err, ErrNoGroup)
	_, err = b.ChangeFence(ctx, bo, crew, f.ID, FenceChange{Name: ptr("y")})
	require.ErrorIs(t, err, ErrRole)
	require.ErrorIs(t, b.RemoveFence(ctx, bo, crew, f.ID), ErrRole)
	require.ErrorIs(t, b.RemoveFence(ctx, eve, crew, f.ID), ErrNoGroup)
	require.ErrorIs(t, b.RemoveFence(ctx, owner, b.group(owner), f.ID), ErrNoFence)
	_, err = b.groups.SetRole(ctx, owner, crew, bo, groups.Admin)
	require.NoError(t, err)
	c, err := b.ChangeFence(ctx, bo, crew, f.ID, FenceChange{Name: ptr("main station")})
	require.NoError(t, err)
	require.Equal(t, uint64(1), c.Revision)
	c, err = b.ChangeFence(ctx, ana, crew, f.ID, FenceChange{Shape: ptr(circle(300)), Dwell: ptr(time.Duration(0))})
	require.NoError(t, err)
	require.Equal(t, uint64(2), c.Revision)
	require.Equal(t, "main station", c.Name)
	_, err = b.ChangeFence(ctx, ana, crew, uuid.New(), FenceChange{Name: ptr("y")})
	require.ErrorIs(t, err, ErrNoFence)

	for _, d := range []FenceDraft{
		{Name: "", Shape: circle(200)}, {Name: "x"}, {Name: "x", Shape: circle(-1)}, {Name: "x", Shape: circle(200), Dwell: 25 * time.Hour},
		{Name: "x", Shape: fence.Shape{Circle: circle(200).Circle, Polygon: square.Polygon}},
	} {
		_, err := b.fence(ana, crew, d)
		require.ErrorContains(t, err, "bad_fence", "%+v", d)
	}
	require.ErrorIs(t, b.SetMeet(ctx, ana, crew, 200), ErrRole)
	require.ErrorIs(t, b.SetMeet(ctx, owner, crew, 5), ErrBadMeet)
	require.NoError(t, b.SetMeet(ctx, owner, crew, 200))
	require.NoError(t, b.RemoveFence(ctx, ana, crew, f.ID))
	run, err = b.Fencing(ctx, room, 0)
	require.NoError(t, err)
	require.Len(t, run.Fences, 1)
	require.Equal(t, 200.0, run.Meet)

	b.exec(`INSERT INTO fences (id, group_id, name, shape) SELECT gen_random_uuid(), $1, 'x', '{"circle":{"center":{"lat":1,"lng":1},"radius":100}}' FROM generate_series(1, $2)`, crew, maxFences-1)
	_, err = b.fence(ana, crew, FenceDraft{Name: "x", Shape: circle(200)})
	require.ErrorIs(t, err, ErrTooManyFences)
}

func TestCrossings(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo, cy := b.user(), b.user(), b.user()
	crew := b.group(ana, bo, cy)
	f, err := b.fence(ana, crew, FenceDraft{Name: "station", Shape: circle(200)})
	require.NoError(t, err)
	cross := func(c Crossing) (FenceState, bool) {
		t.Helper()
		s, stored, err := b.Cross(ctx, crew.Room(), c)
		require.NoError(t, err)
		return s, stored
	}
	at := b.now
	enter := Crossing{ID: uuid.New(), Kind: Enter, Fence: f.ID, Name: f.Name, User: ana, At: at, Revision: 1, N: 1}
	s, ok := cross(enter)
	require.True(t, ok)
	require.Equal(t, FenceState{f.ID, ana, core.UserID{}, 1, 1, true, at}, s)
	_, ok = cross(enter)
	require.True(t, ok, "the same again was stored")
	other := enter
	other.ID = uuid.New()
	s, ok = cross(other)
	require.False(t, ok, "another owner was first")
	require.Equal(t, uint64(1), s.N)
	exit := Crossing{ID: uuid.New(), Kind: Exit, Fence: f.ID, Name: f.Name, User: ana, At: at.Add(time.Minute), Passed: true, Revision: 1, N: 2}
	ahead := exit
	ahead.N = 3
	_, ok = cross(ahead)
	require.False(t, ok)
	s, ok = cross(exit)
	require.True(t, ok)
	require.False(t, s.Inside)
	meet := Crossing{ID: uuid.New(), Kind: Meet, User: bo, Other: cy, At: at.Add(time.Hour), N: 1}
	_, ok = cross(meet)
	require.True(t, ok)
	run, err := b.Fencing(ctx, crew.Room(), 0)
	require.NoError(t, err)
	require.ElementsMatch(t, []FenceState{
		{f.ID, ana, core.UserID{}, 1, 2, false, at.Add(time.Minute)}, {uuid.Nil, bo, cy, 0, 1, true, at.Add(time.Hour)},
	}, run.States)

	var kinds []string
	for cursor := ""; ; {
		list, next, err := b.Crossings(ctx, cy, crew, cursor, 2)
		require.NoError(t, err)
		for _, c := range list {
			kinds = append(kinds, fmt.Sprint(c.Kind, " ", c.Name, c.Passed))
		}
		if next == "" {
			break
		}
		cursor = next
	}
	require.Equal(t, []string{"meet false", "exit stationtrue", "enter stationfalse"}, kinds)
	_, _, err = b.Crossings(ctx, b.user(), crew, "", 10)
	require.ErrorIs(t, err, ErrNoGroup)
	_, _, err = b.Crossings(ctx, cy, crew, "x", 10)
	require.ErrorIs(t, err, core.ErrBadCursor)

	// Blocked pairs don't learn of each other here either.
	require.NoError(t, b.blocks.Block(ctx, ana, cy))
	list, _, err := b.Crossings(ctx, cy, crew, "", 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	list, _, err = b.Crossings(ctx, ana, crew, "", 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.NoError(t, b.blocks.Unblock(ctx, ana, cy))

	// Whoever begins to own the room finds what its former owner stored last.
	fresh, err := b.Stored(ctx, crew.Room(), time.Time{})
	require.NoError(t, err)
	require.Len(t, fresh, 3)
	require.Equal(t, enter.ID, fresh[0].ID)
	fresh, err = b.Stored(ctx, crew.Room(), fresh[2].StoredAt)
	require.NoError(t, err)
	require.Len(t, fresh, 1)
	require.Equal(t, meet.ID, fresh[0].ID)

	// Who withdraws stands nowhere, and is not told to have left.
	require.NoError(t, b.Outside(ctx, crew.Room(), cy))
	part := Crossing{ID: uuid.New(), Kind: Part, User: bo, Other: cy, At: at.Add(2 * time.Hour), N: 2}
	s, ok = cross(part)
	require.False(t, ok)
	require.False(t, s.Inside)
	require.Equal(t, uint64(2), s.N)

	// Another shape: what the old one tells is nothing, and visits begin anew.
	_, err = b.ChangeFence(ctx, ana, crew, f.ID, FenceChange{Shape: ptr(circle(300))})
	require.NoError(t, err)
	again := enter
	again.ID, again.N = uuid.New(), 3
	s, ok = cross(again)
	require.False(t, ok)
	require.Zero(t, s)
	again.Revision, again.N = 2, 1
	_, ok = cross(again)
	require.True(t, ok)
	_, _, err = b.Cross(ctx, "direct:x", again)
	require.Error(t, err)

	// Who left stands nowhere.
	require.NoError(t, b.groups.Leave(ctx, cy, crew))
	run, err = b.Fencing(ctx, crew.Room(), 0)
	require.NoError(t, err)
	require.Len(t, run.States, 1)
	b.advance(keepCrossings + time.Hour)
	require.NoError(t, b.Sweep(ctx))
	list, _, err = b.Crossings(ctx, ana, crew, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

// Two owners that believe in themselves never tell one transition twice.
func TestCrossingsAtOnce(t *testing.T) {
	b := setup(t)
	ana := b.user()
	crew := b.group(ana)
	f, err := b.fence(ana, crew, FenceDraft{Name: "station", Shape: circle(200)})
	require.NoError(t, err)
	var stored atomic.Int32
	for n := uint64(1); n <= 5; n++ {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				kind := Enter
				if n%2 == 0 {
					kind = Exit
				}
				_, ok, err := b.Cross(t.Context(), crew.Room(), Crossing{ID: uuid.New(), Kind: kind, Fence: f.ID, Name: f.Name, User: ana, At: b.clock(), Revision: 1, N: n})
				require.NoError(t, err)
				if ok {
					stored.Add(1)
				}
			})
		}
		wg.Wait()
	}
	require.Equal(t, int32(5), stored.Load())
	require.Equal(t, 5, b.number(`SELECT count(*) FROM fence_crossings`))
}
