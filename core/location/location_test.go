package location

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
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// bundle is a Store on a real database, with what was announced.
type bundle struct {
	*Store
	t      *testing.T
	db     *db.DB
	groups *groups.Store
	blocks *friends.Store

	mu   sync.Mutex
	now  time.Time
	said []string
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(time.Millisecond)
	return b.now
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bundle) say(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, s)
}

func (b *bundle) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

func (b *bundle) SharingChanged(_ context.Context, user core.UserID, version uint64) {
	b.say(fmt.Sprint("sharing ", user, " ", version))
}

func (b *bundle) MembershipChanged(_ context.Context, room string, version uint64) {
	b.say(fmt.Sprint(room, " ", version))
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s, err := New(b.db, secret, Config{Now: b.clock, Announce: b, LinkBase: "https://example.org/l/"})
	require.NoError(t, err)
	b.Store = s
	b.groups = groups.New(b.db, "eu-west", groups.Config{Now: b.clock, Leaving: s})
	b.blocks = friends.New(b.db, friends.Config{Sharing: s, Now: b.clock})
	return b
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.Store.exec(b.t.Context(), sql, args...))
}

func (b *bundle) user() core.UserID {
	id := core.UserID(uuid.New())
	b.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, "u"+id.String())
	return id
}

// group makes a group; the first is its owner.
func (b *bundle) group(members ...core.UserID) core.GroupID {
	id := core.GroupID(uuid.New())
	b.exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'crew', 'eu-west')`, id)
	for i, m := range members {
		role := groups.Plain
		if i == 0 {
			role = groups.Owner
		}
		b.exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, $3)`, id, m, role)
	}
	return id
}

func in[T any](b *bundle, fn func(ctx context.Context, tx pgx.Tx) (T, error)) (out T, err error) {
	err = b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = fn(ctx, tx)
		return err
	})
	return out, err
}

func (b *bundle) grant(user core.UserID, d Draft) (Grant, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Grant, error) { return b.Grant(ctx, tx, user, d) })
}

// sees is what an audience sees of a user who is at a point.
func (b *bundle) sees(user core.UserID, to grant.Audience) string {
	b.t.Helper()
	s, err := b.Sharing(b.t.Context(), user, 0)
	require.NoError(b.t, err)
	at := grant.NewSnapper(secret, user.String())
	now := b.clock()
	raw, err := grant.NewRaw(geo.Point{Lat: 45.32, Lng: 13.96}, 10, grant.Reading{}, grant.Reading{}, grant.Reading{}, now)
	require.NoError(b.t, err)
	at.Take(raw, now)
	p, ok := s.Grants.For(now, at, to)
	if !ok {
		return "nothing"
	}
	return p.String()
}

func person(id core.UserID) grant.Audience {
	return grant.Audience{Kind: grant.Person, ID: id.String()}
}
func toGroup(id core.GroupID) grant.Audience {
	return grant.Audience{Kind: grant.Group, ID: id.String()}
}

var discoverable = grant.Audience{Kind: grant.Discoverable}

func ptr[T any](v T) *T { return &v }

func TestGrants(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo, eve := b.user(), b.user(), b.user()
	crew := b.group(ana, bo)
	s, err := b.Sharing(ctx, ana, 0)
	require.NoError(t, err)
	require.Equal(t, uint64(0), s.Version)
	require.False(t, s.Track)
	_, err = b.Sharing(ctx, ana, 1)
	require.ErrorIs(t, err, ErrBehind)
	require.Equal(t, "nothing", b.sees(ana, toGroup(crew)))

	g, err := b.grant(ana, Draft{Audience: toGroup(crew), Precision: grant.Cells(7), Purpose: " hiking "})
	require.NoError(t, err)
	require.Equal(t, "crew", g.Name)
	require.Equal(t, "hiking", g.Purpose)
	b.TellGrant(ctx, ana, g.Audience)
	require.Equal(t, []string{fmt.Sprint("sharing ", ana, " 1")}, b.heard())
	require.Equal(t, "r7", b.sees(ana, toGroup(crew)))

	// Several for one audience: the finest that holds.
	hour, err := b.grant(ana, Draft{Audience: toGroup(crew), Precision: grant.Exact, Life: time.Hour})
	require.NoError(t, err)
	require.Equal(t, "exact", b.sees(ana, toGroup(crew)))
	b.advance(time.Hour)
	require.Equal(t, "r7", b.sees(ana, toGroup(crew)))

	p, err := b.grant(ana, Draft{Audience: person(bo), Precision: grant.Exact})
	require.NoError(t, err)
	b.TellGrant(ctx, ana, p.Audience)
	require.Equal(t, []string{fmt.Sprint("sharing ", ana, " 3"), core.DirectRoom(ana, bo) + " 3"}, b.heard())
	_, err = b.grant(ana, Draft{Audience: discoverable, Precision: grant.Cells(6)})
	require.NoError(t, err)
	require.Equal(t, "r6", b.sees(ana, discoverable))

	c, err := b.ChangeGrant(ctx, ana, p.ID, GrantChange{Precision: ptr(grant.Cells(8)), Life: ptr(time.Hour), Purpose: ptr("to the station")})
	require.NoError(t, err)
	require.Equal(t, grant.Cells(8), c.Precision)
	require.Equal(t, time.Hour, c.Expires.Sub(c.UpdatedAt))
	require.Equal(t, "r8", b.sees(ana, person(bo)))
	c, err = b.ChangeGrant(ctx, ana, p.ID, GrantChange{Life: ptr(time.Duration(0))})
	require.NoError(t, err)
	require.Zero(t, c.Expires)
	require.Equal(t, "to the station", c.Purpose)

	list, err := b.Grants(ctx, ana)
	require.NoError(t, err)
	require.Len(t, list, 4)
	require.Equal(t, []uuid.UUID{g.ID, hour.ID, p.ID}, []uuid.UUID{list[0].ID, list[1].ID, list[2].ID})
	require.Equal(t, c, list[2])

	// What is refused.
	for _, d := range []Draft{
		{Audience: person(eve), Precision: grant.Exact},                      // no group in common
		{Audience: person(ana), Precision: grant.Exact},                      // oneself
		{Audience: person(core.UserID(uuid.New())), Precision: grant.Exact},  // nobody
		{Audience: toGroup(b.group(eve)), Precision: grant.Exact},            // no member
		{Audience: toGroup(crew)},                                            // no precision
		{Audience: toGroup(crew), Precision: grant.Exact + 1},                //
		{Audience: toGroup(crew), Precision: grant.Exact, Life: time.Second}, // too short
		{Audience: toGroup(crew), Precision: grant.Exact, Life: -time.Hour},  //
		{Audience: toGroup(crew), Precision: grant.Exact, Life: 11 * 365 * 24 * time.Hour},
		{Audience: grant.Audience{Kind: "everyone"}, Precision: grant.Exact},
		{Audience: grant.Audience{Kind: grant.Link, ID: "x"}, Precision: grant.Exact},
		{Audience: grant.Audience{Kind: grant.Person, ID: "x"}, Precision: grant.Exact},
		{Audience: discoverable, Precision: grant.Exact, Purpose: string(make([]byte, 201))},
	} {
		_, err := b.grant(ana, d)
		require.Error(t, err, "%+v", d)
	}
	_, err = b.ChangeGrant(ctx, eve, p.ID, GrantChange{})
	require.ErrorIs(t, err, ErrNoGrant)
	require.ErrorIs(t, b.EndGrant(ctx, eve, p.ID, false), ErrNoGrant)

	// Ended, a person's is gone; a group's stays, and says that fixes share nothing.
	require.NoError(t, b.EndGrant(ctx, ana, p.ID, false))
	require.Equal(t, "nothing", b.sees(ana, person(bo)))
	require.ErrorIs(t, b.EndGrant(ctx, ana, p.ID, false), ErrNoGrant)
	require.NoError(t, b.EndGrant(ctx, ana, hour.ID, true))
	require.NoError(t, b.EndGrant(ctx, ana, g.ID, false))
	require.NoError(t, b.EndGrant(ctx, ana, g.ID, false), "again")
	named := func() string {
		s, err := b.Sharing(ctx, ana, 0)
		require.NoError(t, err)
		now := b.clock()
		s.Grants.Post(crew.String(), now.Add(time.Hour))
		return fmt.Sprint(s.Grants.Audiences(now))
	}
	require.Equal(t, "[discoverable]", named())
	require.NoError(t, b.EndGrant(ctx, ana, g.ID, true))
	require.Equal(t, "[discoverable group:"+crew.String()+"]", named())

	// A new one for the group takes the place of those that ended.
	a, err := b.grant(ana, Draft{Audience: toGroup(crew), Precision: grant.Exact})
	require.NoError(t, err)
	require.NoError(t, b.EndGrant(ctx, ana, a.ID, false))
	_, err = b.grant(ana, Draft{Audience: toGroup(crew), Precision: grant.Cells(5)})
	require.NoError(t, err)
	list, err = b.Grants(ctx, ana)
	require.NoError(t, err)
	require.Len(t, list, 2)
}

func TestGrantsAreBounded(t *testing.T) {
	b := setup(t)
	ana := b.user()
	b.exec(`INSERT INTO location_grants (id, user_id, audience, precision) SELECT gen_random_uuid(), $1, 'discoverable', 5 FROM generate_series(1, $2)`, ana, maxGrants)
	_, err := b.grant(ana, Draft{Audience: discoverable, Precision: grant.Exact})
	require.ErrorIs(t, err, ErrTooManyGrants)
	b.exec(`UPDATE location_grants SET expires_at = $1`, b.clock())
	_, err = b.grant(ana, Draft{Audience: discoverable, Precision: grant.Exact})
	require.NoError(t, err)
}

// Each change of one user's adds one, whatever happens at once.
func TestVersionsUnderConcurrency(t *testing.T) {
	b := setup(t)
	ana := b.user()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				g, err := b.grant(ana, Draft{Audience: discoverable, Precision: grant.Exact})
				require.NoError(t, err)
				require.NoError(t, b.EndGrant(t.Context(), ana, g.ID, false))
			}
		})
	}
	wg.Wait()
	s, err := b.Sharing(t.Context(), ana, 80)
	require.NoError(t, err)
	require.Equal(t, uint64(80), s.Version)
	require.Empty(t, s.Grants.Audiences(b.clock()))
}

func TestAGrantEndsWithTheMembership(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo, cy := b.user(), b.user(), b.user()
	crew := b.group(ana, bo, cy)
	for _, u := range []core.UserID{ana, bo, cy} {
		_, err := b.grant(u, Draft{Audience: toGroup(crew), Precision: grant.Exact})
		require.NoError(t, err)
	}
	require.NoError(t, b.groups.Leave(ctx, bo, crew))
	require.NoError(t, b.groups.Kick(ctx, ana, crew, cy))
	require.Equal(t, []string{fmt.Sprint("sharing ", bo, " 2"), fmt.Sprint("sharing ", cy, " 2")}, b.heard())
	require.Equal(t, "nothing", b.sees(bo, toGroup(crew)))
	require.Equal(t, "nothing", b.sees(cy, toGroup(crew)))
	require.Equal(t, "exact", b.sees(ana, toGroup(crew)))
	require.NoError(t, b.groups.Delete(ctx, ana, crew))
	require.Equal(t, "nothing", b.sees(ana, toGroup(crew)))
}

func TestRoomsOfTwo(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo, eve := b.user(), b.user(), b.user()
	b.group(ana, bo, eve)
	room := core.DirectRoom(ana, bo)
	require.Equal(t, room, core.DirectRoom(bo, ana))
	both := func() (in []bool) {
		for _, u := range []core.UserID{ana, bo, eve} {
			_, err := b.DirectMember(ctx, u, room, 0)
			if err != nil {
				require.ErrorIs(t, err, ErrNoDirect)
			}
			in = append(in, err == nil)
		}
		return in
	}
	require.Equal(t, []bool{false, false, false}, both())
	g, err := b.grant(ana, Draft{Audience: person(bo), Precision: grant.Cells(9), Life: time.Hour})
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, false}, both())
	st, err := b.DirectMember(ctx, bo, room, 1)
	require.NoError(t, err)
	require.Equal(t, Standing{"u" + bo.String(), 1}, st)
	_, err = b.DirectMember(ctx, bo, room, 2)
	require.ErrorIs(t, err, ErrBehind)

	people, next, err := b.People(ctx, bo, "", 10)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Equal(t, []Person{{ana, "u" + ana.String(), grant.Cells(9), g.CreatedAt, g.Expires}}, people)

	b.advance(time.Hour)
	require.Equal(t, []bool{false, false, false}, both())
	people, _, err = b.People(ctx, bo, "", 10)
	require.NoError(t, err)
	require.Empty(t, people)

	_, err = b.grant(bo, Draft{Audience: person(ana), Precision: grant.Exact})
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, false}, both())
	require.NoError(t, b.blocks.Block(ctx, ana, bo))
	require.Equal(t, []string{fmt.Sprint("sharing ", ana, " 2"), room + " 4", fmt.Sprint("sharing ", bo, " 2")}, b.heard())
	require.Equal(t, []bool{false, false, false}, both())
	require.Equal(t, "nothing", b.sees(bo, person(ana)))
	_, err = b.grant(bo, Draft{Audience: person(ana), Precision: grant.Exact})
	require.ErrorIs(t, err, ErrNoUser)
	_, err = b.grant(ana, Draft{Audience: person(bo), Precision: grant.Exact})
	require.ErrorIs(t, err, ErrNoUser)
	require.NoError(t, b.blocks.Unblock(ctx, ana, bo))
	require.Equal(t, []bool{false, false, false}, both(), "what was granted does not come back")

	for _, bad := range []string{"", "direct:", room + ":", "direct:" + bo.String() + ":" + ana.String() + "x", "group:" + ana.String(), core.DirectRoom(ana, ana)} {
		_, err := b.DirectMember(ctx, ana, bad, 0)
		require.ErrorIs(t, err, ErrNoDirect, bad)
	}
	if lower, higher := min(ana.String(), bo.String()), max(ana.String(), bo.String()); true {
		_, ok := core.DirectOther(ana, "direct:"+higher+":"+lower)
		require.False(t, ok, "only one order names the room")
	}
}

func TestZonesAndPause(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana := b.user()
	_, err := b.grant(ana, Draft{Audience: discoverable, Precision: grant.Exact})
	require.NoError(t, err)
	add := func(name string, z grant.Zone) (Zone, error) {
		return in(b, func(ctx context.Context, tx pgx.Tx) (Zone, error) { return b.AddZone(ctx, tx, ana, name, z) })
	}
	home := grant.Zone{Center: geo.Point{Lat: 45.32, Lng: 13.96}, Radius: 300, Precision: grant.Cells(6)}
	z, err := add("home", home)
	require.NoError(t, err)
	require.Equal(t, "r6", b.sees(ana, discoverable))
	zones, err := b.Zones(ctx, ana)
	require.NoError(t, err)
	require.Equal(t, []Zone{z}, zones)
	for _, bad := range []grant.Zone{
		{Center: geo.Point{Lat: 91}, Radius: 300, Precision: grant.Cells(6)}, {Radius: 0, Precision: grant.Cells(6)},
		{Radius: 1e6, Precision: grant.Cells(6)}, {Radius: 300, Precision: grant.Exact}, {Radius: 300},
	} {
		_, err := add("", bad)
		require.ErrorIs(t, err, ErrBadZone, "%+v", bad)
	}
	require.ErrorIs(t, b.RemoveZone(ctx, b.user(), z.ID), ErrNoZone)
	require.NoError(t, b.RemoveZone(ctx, ana, z.ID))
	require.Equal(t, "exact", b.sees(ana, discoverable))
	for range maxZones {
		_, err := add("", home)
		require.NoError(t, err)
	}
	_, err = add("", home)
	require.ErrorIs(t, err, ErrTooManyZones)

	p, err := b.SetPause(ctx, ana, true, time.Hour)
	require.NoError(t, err)
	require.True(t, p.Paused)
	require.Equal(t, "nothing", b.sees(ana, discoverable))
	got, err := b.Paused(ctx, ana)
	require.NoError(t, err)
	require.Equal(t, p, got)
	b.advance(time.Hour)
	require.Equal(t, "r6", b.sees(ana, discoverable))
	got, err = b.Paused(ctx, ana)
	require.NoError(t, err)
	require.Equal(t, Pause{}, got)
	_, err = b.SetPause(ctx, ana, true, 0)
	require.NoError(t, err)
	b.advance(1000 * time.Hour)
	require.Equal(t, "nothing", b.sees(ana, discoverable))
	_, err = b.SetPause(ctx, ana, false, 0)
	require.NoError(t, err)
	require.Equal(t, "r6", b.sees(ana, discoverable))
}

// When somebody took their position back is part of what nodes read, and the last
// time counts whatever the order in which it was stored.
func TestWithdrawn(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana := b.user()
	at := b.now.Add(1500 * time.Microsecond)
	s, err := b.Sharing(ctx, ana, 0)
	require.NoError(t, err)
	require.Zero(t, s.Withdrawn)
	for i, d := range []time.Duration{0, time.Second, -time.Hour} {
		require.NoError(t, b.SetWithdrawn(ctx, ana, at.Add(d)))
		s, err = b.Sharing(ctx, ana, uint64(i)+1)
		require.NoError(t, err)
		require.Equal(t, uint64(i)+1, s.Version)
	}
	require.Equal(t, at.Add(time.Second), s.Withdrawn)
	require.Empty(t, b.heard(), "who takes it back tells nodes by themselves")
}
