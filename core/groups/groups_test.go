package groups

import (
	"context"
	"fmt"
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
)

// told records what the edges were told, in order.
type told struct {
	mu       sync.Mutex
	versions map[string][]uint64
	hook     func(room string, version uint64)
}

func (a *told) MembershipChanged(_ context.Context, room string, version uint64) {
	a.mu.Lock()
	a.versions[room] = append(a.versions[room], version)
	a.mu.Unlock()
	if a.hook != nil {
		a.hook(room, version)
	}
}

type bundle struct {
	*Store
	db   *db.DB
	told *told
	t    *testing.T

	mu  sync.Mutex
	now time.Time
}

func setup(t *testing.T) *bundle {
	b := &bundle{db: devdb.Test(t), told: &told{versions: map[string][]uint64{}}, t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.Store = New(b.db, "eu-west", Config{Now: b.clock, Announce: b.told, LinkBase: "https://example.org/join/", MaxMembers: 30})
	return b
}

// clock ticks by a millisecond each time it is read: no two events coincide.
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

func (b *bundle) tx(fn func(ctx context.Context, tx pgx.Tx) error) error {
	return b.db.InTx(b.t.Context(), pgx.TxOptions{}, fn)
}

func (b *bundle) exec(sql string, args ...any) {
	require.NoError(b.t, b.tx(func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql, args...); return err }))
}

func (b *bundle) user(name string) core.UserID {
	id := core.UserID(uuid.New())
	b.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $3, true, 'eu-west')`, id, name, strings.ToLower(name))
	return id
}

func (b *bundle) group(owner core.UserID) (id core.GroupID, code string) {
	require.NoError(b.t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
		g, i, err := b.Create(ctx, tx, owner, Draft{Name: "Friday crew"})
		id, code = g, i.Code
		return err
	}))
	return id, code
}

func (b *bundle) invite(actor core.UserID, id core.GroupID, terms Terms) (i Invite, err error) {
	err = b.tx(func(ctx context.Context, tx pgx.Tx) error { i, err = b.Invite(ctx, tx, actor, id, terms); return err })
	return i, err
}

func (b *bundle) join(user core.UserID, code string) {
	_, err := b.Join(b.t.Context(), user, code)
	require.NoError(b.t, err)
}

// roles returns who has which role, after checking that there is one owner.
func (b *bundle) roles(id core.GroupID) map[core.UserID]Role {
	roles, owners := map[core.UserID]Role{}, 0
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		ms, err := members(ctx, q, id, core.Position{}, 1000)
		for _, m := range ms {
			roles[m.User] = m.Role
			if m.Role == Owner {
				owners++
			}
		}
		return err
	}))
	if len(roles) > 0 {
		require.Equal(b.t, 1, owners, "exactly one owner")
	}
	return roles
}

func TestCreateUpdateDelete(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.user("Ana"), b.user("Bob"), b.user("Eve")
	id, code := b.group(ana)
	b.join(bob, code)

	g, err := b.Get(t.Context(), bob, id)
	require.NoError(t, err)
	require.Equal(t, "Friday crew", g.Name)
	require.Equal(t, []Role{Owner, Plain}, []Role{g.Members[0].Role, g.Members[1].Role})
	require.Equal(t, "Ana", g.Members[0].Username)
	require.EqualValues(t, 2, g.Version)

	name, description, avatar := " Saturday crew ", "two\nlines", "https://example.org/a.png"
	_, err = b.Update(t.Context(), bob, id, Change{Name: &name})
	require.ErrorIs(t, err, ErrForbidden)
	_, err = b.Update(t.Context(), eve, id, Change{Name: &name})
	require.ErrorIs(t, err, ErrNotMember)
	g, err = b.Update(t.Context(), ana, id, Change{Name: &name, Description: &description, Avatar: &avatar, Settings: map[string]any{"colour": "red"}})
	require.NoError(t, err)
	require.Equal(t, "Saturday crew", g.Name)
	g, err = b.Update(t.Context(), ana, id, Change{})
	require.NoError(t, err)
	require.Equal(t, description, g.Description)
	require.Equal(t, map[string]any{"colour": "red"}, g.Settings)
	require.Len(t, g.Members, 2)
	empty, bad := "", "javascript:x"
	_, err = b.Update(t.Context(), ana, id, Change{Name: &empty})
	require.ErrorIs(t, err, ErrBadName)
	_, err = b.Update(t.Context(), ana, id, Change{Avatar: &bad})
	require.ErrorIs(t, err, core.ErrBadPicture)

	b.exec(`INSERT INTO rooms (room, last_number) VALUES ($1, 1)`, id.Room())
	b.exec(`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) VALUES ($1, 1, $2, $3, 'c', 'hi', now())`, id.Room(), uuid.New(), ana)
	require.ErrorIs(t, b.Delete(t.Context(), bob, id), ErrForbidden)
	require.NoError(t, b.Delete(t.Context(), ana, id))
	require.Equal(t, []uint64{2, 3, 4, 5}, b.told.versions[id.Room()], "each change once, in order")
	_, err = b.Get(t.Context(), ana, id)
	require.ErrorIs(t, err, ErrNotMember)
	for _, table := range []string{"groups", "group_members", "invites", "rooms", "messages"} {
		var n int
		require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
			return q.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n)
		}))
		require.Zero(t, n, table)
	}
}

func TestList(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	var want []core.GroupID
	for range 5 {
		id, code := b.group(ana)
		b.join(bob, code)
		want = append([]core.GroupID{id}, want...)
	}
	b.group(ana)
	var got []core.GroupID
	cursor, pages := "", 0
	for {
		list, next, err := b.List(t.Context(), bob, cursor, 2)
		require.NoError(t, err)
		for _, g := range list {
			got = append(got, g.ID)
			require.Equal(t, 2, g.MemberCount)
		}
		if pages++; next == "" {
			break
		}
		cursor = next
	}
	require.Equal(t, want, got)
	require.Equal(t, 3, pages)
	for _, bad := range []string{"x", "%%%", "AAAA", core.Position{At: time.Now()}.Cursor()[1:]} {
		_, _, err := b.List(t.Context(), bob, bad, 2)
		require.ErrorContains(t, err, "bad_cursor", bad)
	}
	none, _, err := b.List(t.Context(), b.user("Eve"), "", 2)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestLastActive(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	id, _ := b.group(ana)
	active := func() time.Time {
		list, _, err := b.List(t.Context(), ana, "", 1)
		require.NoError(t, err)
		return list[0].LastActive.UTC()
	}
	at := b.now.Add(time.Hour)
	require.NoError(t, b.Touch(t.Context(), map[string]time.Time{id.Room(): at, "direct:x": at, core.GroupID(uuid.New()).Room(): at}))
	require.Equal(t, at, active())
	require.NoError(t, b.Touch(t.Context(), map[string]time.Time{id.Room(): at.Add(-time.Minute)}))
	require.Equal(t, at, active(), "never backwards")
	require.NoError(t, b.Touch(t.Context(), nil))

	sent := at.Add(time.Minute)
	b.exec(`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) VALUES ($1, 1, $2, $3, 'c', 'hi', $4)`, id.Room(), uuid.New(), ana, sent)
	require.Equal(t, sent, active(), "the latest message")
	b.advance(2 * time.Hour)
	name := "x"
	_, err := b.Update(t.Context(), ana, id, Change{Name: &name})
	require.NoError(t, err)
	require.True(t, active().After(sent), "the latest change")
}

func TestConcurrentTouches(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	rooms := make([]string, 10)
	for i := range rooms {
		id, _ := b.group(ana)
		rooms[i] = id.Room()
	}
	base := b.now.Add(time.Hour)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			at := map[string]time.Time{}
			for _, r := range rooms {
				at[r] = base.Add(time.Duration(n) * time.Second)
			}
			if err := b.Touch(t.Context(), at); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, _, err := b.List(t.Context(), ana, "", 10)
	require.NoError(t, err)
	for _, g := range list {
		require.Equal(t, base.Add(7*time.Second), g.LastActive.UTC())
	}
}

func TestFullGroup(t *testing.T) {
	b := setup(t)
	_, code := b.group(b.user("Ana"))
	for i := range 29 {
		b.join(b.user(fmt.Sprintf("member-%d", i)), code)
	}
	_, err := b.Join(t.Context(), b.user("Late"), code)
	require.ErrorIs(t, err, ErrFull)
}
