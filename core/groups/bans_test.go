package groups

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// watch has events kept in the outbox, as if somebody wanted them.
func (b *bundle) watch() { b.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`) }

// events returns those of a key, in order, as "kind user by role".
func (b *bundle) events(key string) (list []string) {
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT kind, coalesce(data->>'user_id', '-'), coalesce(data->>'by', '-'), coalesce(data->>'role', '-') FROM outbox WHERE key = $1 ORDER BY n`, key)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			var kind, user, by, role string
			err := row.Scan(&kind, &user, &by, &role)
			return strings.Join([]string{kind, user, by, role}, " "), err
		})
		return err
	}))
	return list
}

// Who is banned is out, and comes in by nothing.
func TestBans(t *testing.T) {
	b := setup(t)
	b.watch()
	ctx := t.Context()
	owner, admin, admin2, bob, eve := b.user("Owner"), b.user("Admin"), b.user("Admin2"), b.user("Bob"), b.user("Eve")
	id, code := b.group(owner)
	for _, u := range []core.UserID{admin, admin2, bob} {
		b.join(u, code)
	}
	for _, u := range []core.UserID{admin, admin2} {
		_, err := b.SetRole(ctx, owner, id, u, Admin)
		require.NoError(t, err)
	}
	bobs, err := b.invite(bob, id, Terms{})
	require.NoError(t, err)

	for _, c := range []struct {
		actor, target core.UserID
		want          error
	}{
		{bob, eve, ErrForbidden}, {bob, admin, ErrForbidden}, {eve, bob, ErrNotMember}, {admin, admin2, ErrForbidden}, {admin, owner, ErrForbidden},
		{owner, owner, ErrForbidden}, {admin, admin, ErrForbidden}, {owner, core.UserID(uuid.New()), ErrNoUser},
	} {
		require.ErrorIs(t, b.Ban(ctx, c.actor, id, c.target, ""), c.want)
	}
	require.ErrorIs(t, b.Ban(ctx, owner, id, bob, strings.Repeat("x", 201)), ErrBadReason)
	_, _, err = b.Bans(ctx, bob, id, "", 10)
	require.ErrorIs(t, err, ErrForbidden)
	_, _, err = b.Bans(ctx, eve, id, "", 10)
	require.ErrorIs(t, err, ErrNotMember)

	require.NoError(t, b.Ban(ctx, admin, id, bob, "spam"))
	require.NoError(t, b.Ban(ctx, admin, id, bob, "again"))
	require.NoError(t, b.Ban(ctx, owner, id, eve, ""), "who never was in")
	require.NotContains(t, b.roles(id), bob)
	for _, c := range []string{code, bobs.Code} {
		_, err = b.Join(ctx, bob, c)
		require.Error(t, err)
	}
	_, err = b.Join(ctx, bob, code)
	require.ErrorIs(t, err, ErrBanned)
	_, err = b.Join(ctx, owner, bobs.Code)
	require.NoError(t, err)
	_, err = b.Join(ctx, b.user("New"), bobs.Code)
	require.ErrorIs(t, err, ErrInviteRevoked, "their invites end with them")
	_, err = b.Update(ctx, owner, id, Change{Settings: map[string]any{"visibility": Public}})
	require.NoError(t, err)
	_, err = b.JoinPublic(ctx, bob, id)
	require.ErrorIs(t, err, ErrBanned)

	list, next, err := b.Bans(ctx, admin, id, "", 1)
	require.NoError(t, err)
	require.NotEmpty(t, next)
	require.Equal(t, eve, list[0].User)
	list, next, err = b.Bans(ctx, admin, id, next, 1)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Equal(t, "spam", list[0].Reason)
	require.Equal(t, "Bob", list[0].Username)
	require.Equal(t, &admin, list[0].By)

	require.ErrorIs(t, b.Unban(ctx, eve, id, bob), ErrNotMember)
	require.NoError(t, b.Unban(ctx, admin2, id, bob), "bans are the group's")
	require.NoError(t, b.Unban(ctx, admin2, id, bob))
	b.join(bob, code)
	require.ErrorIs(t, b.Unban(ctx, bob, id, eve), ErrForbidden)

	e := func(kind string, user, by core.UserID, role string) string {
		who := "-"
		if user != by {
			who = by.String()
		}
		return fmt.Sprintf("%s %s %s %s", kind, user, who, role)
	}
	require.Equal(t, []string{
		e("group.joined", owner, owner, "owner"), e("group.joined", admin, admin, "member"), e("group.joined", admin2, admin2, "member"), e("group.joined", bob, bob, "member"),
		e("group.role", admin, owner, "admin"), e("group.role", admin2, owner, "admin"),
		e("group.banned", bob, admin, "-"), e("group.banned", eve, owner, "-"), "group.updated - " + owner.String() + " -",
		e("group.unbanned", bob, admin2, "-"), e("group.joined", bob, bob, "member"),
	}, b.events(id.Room()))
	require.Equal(t, []string{
		e("group.joined", bob, bob, "member"), e("group.banned", bob, admin, "-"), e("group.unbanned", bob, admin2, "-"), e("group.joined", bob, bob, "member"),
	}, b.events(bob.Key()), "their own devices")
}

// Each change leaves its event; what is refused, or changes nothing, none.
func TestEvents(t *testing.T) {
	b := setup(t)
	b.watch()
	ctx := t.Context()
	ana, bob, cy := b.user("Ana"), b.user("Bob"), b.user("Cy")
	id, code := b.group(ana)
	b.join(bob, code)
	b.join(bob, code)
	b.join(cy, code)
	_, err := b.Transfer(ctx, bob, id, cy)
	require.ErrorIs(t, err, ErrForbidden)
	_, err = b.SetRole(ctx, ana, id, bob, Plain)
	require.NoError(t, err)
	_, err = b.Transfer(ctx, ana, id, bob)
	require.NoError(t, err)
	require.NoError(t, b.Kick(ctx, bob, id, cy))
	require.NoError(t, b.Leave(ctx, ana, id))
	require.NoError(t, b.Delete(ctx, bob, id))
	kinds := func(key string) (list []string) {
		for _, e := range b.events(key) {
			kind, _, _ := strings.Cut(e, " ")
			list = append(list, kind)
		}
		return list
	}
	require.Equal(t, []string{"group.joined", "group.joined", "group.joined", "group.transferred", "group.removed", "group.left", "group.deleted"}, kinds(id.Room()))
	require.Equal(t, []string{"group.joined", "group.transferred"}, kinds(bob.Key()))
	require.Equal(t, []string{"group.joined", "group.removed"}, kinds(cy.Key()))
	require.Equal(t, []string{"group.joined", "group.left"}, kinds(ana.Key()))
}

// Bans, joins by code and from the directory, and ends of bans at once: a banned
// one is never in.
func TestBanWhileJoining(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	owner := b.user("Owner")
	id, code := b.group(owner)
	_, err := b.Update(ctx, owner, id, Change{Settings: map[string]any{"visibility": Public}})
	require.NoError(t, err)
	people := []core.UserID{b.user("P0"), b.user("P1"), b.user("P2")}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		var wg sync.WaitGroup
		for range 6 {
			who, what := people[r.IntN(len(people))], r.IntN(6)
			wg.Go(func() {
				var err error
				switch what {
				case 0, 1:
					_, err = b.Join(ctx, who, code)
				case 2:
					_, err = b.JoinPublic(ctx, who, id)
				case 3, 4:
					err = b.Ban(ctx, owner, id, who, "")
				case 5:
					err = b.Unban(ctx, owner, id, who)
				}
				if !errors.Is(err, ErrBanned) {
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		in, banned := b.roles(id), map[core.UserID]bool{}
		list, _, err := b.Bans(ctx, owner, id, "", 100)
		require.NoError(t, err)
		for _, x := range list {
			banned[x.User] = true
			require.NotContains(t, in, x.User)
		}
		for _, who := range people {
			_, err := b.Join(ctx, who, code)
			if banned[who] {
				require.ErrorIs(t, err, ErrBanned)
			} else {
				require.NoError(t, err)
			}
		}
	}
}

func TestSettings(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bob, cy, di := b.user("Ana"), b.user("Bob"), b.user("Cy"), b.user("Di")
	for key, values := range map[string][]any{
		"visibility": {"secret", "", nil, true}, "invites": {"nobody", 1}, "max_members": {1, 1.5, "3", 31, -2, 1e300},
	} {
		for _, v := range values {
			require.ErrorIs(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
				_, _, err := b.Create(ctx, tx, ana, Draft{Name: "x", Settings: map[string]any{key: v}})
				return err
			}), ErrBadSetting, "%s %v", key, v)
		}
	}
	id, code := b.group(ana)
	_, err := b.Update(ctx, ana, id, Change{Settings: map[string]any{"max_members": 3.0, "invites": AdminsInvite, "theme": "dark"}})
	require.NoError(t, err)
	_, err = b.JoinPublic(ctx, bob, id)
	require.ErrorIs(t, err, ErrNotMember, "a private group is none to others")
	b.join(bob, code)
	b.join(cy, code)
	_, err = b.Join(ctx, di, code)
	require.ErrorIs(t, err, ErrFull)
	_, err = b.invite(bob, id, Terms{})
	require.ErrorIs(t, err, ErrForbidden)
	_, err = b.invite(ana, id, Terms{})
	require.NoError(t, err)
	g, err := b.Update(ctx, ana, id, Change{Settings: map[string]any{"max_members": 2.0}})
	require.NoError(t, err)
	require.Len(t, g.Members, 3, "nobody is put out by a number")
	_, err = b.invite(bob, id, Terms{})
	require.NoError(t, err, "settings are replaced as a whole")
}

func (b *bundle) directory(user core.UserID, q string, limit int) (names []string) {
	for cursor, n := "", 0; n == 0 || cursor != ""; n++ {
		list, next, err := b.Directory(b.t.Context(), user, q, cursor, limit)
		require.NoError(b.t, err)
		require.LessOrEqual(b.t, len(list), limit)
		for _, l := range list {
			names = append(names, l.Name)
		}
		cursor = next
	}
	return names
}

func TestDirectory(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bob := b.user("Ana"), b.user("Bob")
	ids := map[string]core.GroupID{}
	for _, name := range []string{"Sunday Runners", "runners of Graz", "Chess", "!!!", "Secret runners"} {
		settings := map[string]any{"visibility": Public}
		if name == "Secret runners" {
			settings = nil
		}
		require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
			id, _, err := b.Create(ctx, tx, ana, Draft{Name: name, Description: "of " + name, Settings: settings})
			ids[name] = id
			return err
		}))
	}
	for _, limit := range []int{1, 2, 50} {
		require.Equal(t, []string{"!!!", "Chess", "runners of Graz", "Sunday Runners"}, b.directory(bob, "", limit), "by name")
		require.Equal(t, []string{"Sunday Runners", "runners of Graz"}, b.directory(bob, "RUN", limit))
	}
	require.Equal(t, []string{"runners of Graz"}, b.directory(bob, "graz", 50))
	require.Empty(t, b.directory(bob, "unners", 50))
	_, _, err := b.Directory(ctx, bob, "r", "", 50)
	require.ErrorIs(t, err, core.ErrBadQuery)
	_, _, err = b.Directory(ctx, bob, "", "!", 50)
	require.ErrorIs(t, err, core.ErrBadCursor)

	g, err := b.JoinPublic(ctx, bob, ids["Chess"])
	require.NoError(t, err)
	require.Len(t, g.Members, 2)
	_, err = b.JoinPublic(ctx, bob, ids["Chess"])
	require.NoError(t, err, "again")
	_, err = b.JoinPublic(ctx, bob, core.GroupID(uuid.New()))
	require.ErrorIs(t, err, ErrNotMember)
	list, _, err := b.Directory(ctx, bob, "chess", "", 50)
	require.NoError(t, err)
	require.Equal(t, 2, list[0].MemberCount)
	require.Equal(t, "of Chess", list[0].Description)
	require.True(t, list[0].Joined)

	// Names and visibility change in the transaction that changes them.
	name := "Go club"
	_, err = b.Update(ctx, ana, ids["Chess"], Change{Name: &name})
	require.NoError(t, err)
	require.Equal(t, []string{"Go club"}, b.directory(bob, "club", 50))
	require.Empty(t, b.directory(bob, "chess", 50))
	_, err = b.Update(ctx, ana, ids["Chess"], Change{Settings: map[string]any{}})
	require.NoError(t, err)
	require.Empty(t, b.directory(bob, "club", 50))
	require.NoError(t, b.Delete(ctx, ana, ids["!!!"]))
	require.Equal(t, []string{"runners of Graz", "Sunday Runners"}, b.directory(bob, "", 50))
}
