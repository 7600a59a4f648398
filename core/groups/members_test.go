package groups

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// Who may do what to whom, as the table in the package comment has it.
func TestRights(t *testing.T) {
	b := setup(t)
	owner, admin, admin2, plain, plain2, eve := b.user("Owner"), b.user("Admin"), b.user("Admin2"), b.user("Plain"), b.user("Plain2"), b.user("Eve")
	id, code := b.group(owner)
	for _, u := range []core.UserID{admin, admin2, plain, plain2} {
		b.join(u, code)
	}
	for _, u := range []core.UserID{admin, admin2} {
		m, err := b.SetRole(t.Context(), owner, id, u, Admin)
		require.NoError(t, err)
		require.Equal(t, Admin, m.Role)
	}
	for _, c := range []struct {
		actor, target core.UserID
		want          error
	}{
		{plain, plain2, ErrForbidden}, {plain, admin, ErrForbidden}, {plain, owner, ErrForbidden}, {plain, plain, ErrForbidden},
		{admin, admin2, ErrForbidden}, {admin, owner, ErrForbidden}, {admin, admin, ErrForbidden},
		{owner, owner, ErrForbidden}, {owner, eve, ErrNoSuchMember}, {eve, plain, ErrNotMember},
	} {
		require.ErrorIs(t, b.Kick(t.Context(), c.actor, id, c.target), c.want)
	}
	for _, c := range []struct {
		actor, target core.UserID
		to            Role
		want          error
	}{
		{admin, plain, Admin, ErrForbidden}, {plain, plain, Admin, ErrForbidden}, {owner, owner, Plain, ErrForbidden},
		{owner, plain, Owner, ErrBadRole}, {owner, plain, "king", ErrBadRole}, {owner, eve, Admin, ErrNoSuchMember}, {eve, eve, Admin, ErrNotMember},
	} {
		_, err := b.SetRole(t.Context(), c.actor, id, c.target, c.to)
		require.ErrorIs(t, err, c.want)
	}
	_, err := b.Transfer(t.Context(), admin, id, admin)
	require.ErrorIs(t, err, ErrForbidden)
	_, err = b.Transfer(t.Context(), owner, id, eve)
	require.ErrorIs(t, err, ErrNoSuchMember)
	require.Len(t, b.roles(id), 5, "refusals change nothing")

	require.NoError(t, b.Kick(t.Context(), admin, id, plain2))
	require.NoError(t, b.Kick(t.Context(), owner, id, admin2))
	require.ErrorIs(t, b.Leave(t.Context(), owner, id), ErrOwnerStays)
	g, err := b.Transfer(t.Context(), owner, id, plain)
	require.NoError(t, err)
	require.Len(t, g.Members, 3)
	require.Equal(t, map[core.UserID]Role{owner: Admin, admin: Admin, plain: Owner}, b.roles(id))
	_, err = b.Transfer(t.Context(), plain, id, plain)
	require.NoError(t, err, "to oneself changes nothing")
	require.NoError(t, b.Leave(t.Context(), owner, id))
	require.NoError(t, b.Leave(t.Context(), admin, id))
	require.ErrorIs(t, b.Leave(t.Context(), admin, id), ErrNotMember)
	require.NoError(t, b.Leave(t.Context(), plain, id), "the last one turns off the light")
	_, err = b.Member(t.Context(), plain, id, 0)
	require.ErrorIs(t, err, ErrNotMember)
}

// A group is at home where it was made, whoever asks.
func TestHome(t *testing.T) {
	b := setup(t)
	id, _ := b.group(b.user("Ana"))
	far := New(b.db, "ap-south", Config{})
	home, err := far.Home(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "eu-west", home)
	_, err = far.Home(t.Context(), core.GroupID(uuid.New()))
	require.ErrorIs(t, err, ErrNotMember)
}

func TestMember(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	id, code := b.group(ana)
	st, err := b.Member(t.Context(), ana, id, 0)
	require.NoError(t, err)
	require.Equal(t, Standing{Role: Owner, Username: "Ana", Version: 1, Home: "eu-west"}, st)
	st, err = b.Member(t.Context(), bob, id, 1)
	require.ErrorIs(t, err, ErrNotMember)
	require.EqualValues(t, 1, st.Version)
	_, err = b.Member(t.Context(), ana, id, 2)
	require.ErrorIs(t, err, ErrBehind, "from before what the caller knows")
	_, err = b.Member(t.Context(), bob, id, 2)
	require.ErrorIs(t, err, ErrBehind)

	// When the edges are told, the answer is already new: the removed one is
	// out before the removal is acknowledged.
	b.join(bob, code)
	asked := false
	b.told.hook = func(_ string, version uint64) {
		asked = true
		_, err := b.Member(t.Context(), bob, id, version)
		require.ErrorIs(t, err, ErrNotMember)
	}
	require.NoError(t, b.Kick(t.Context(), ana, id, bob))
	require.True(t, asked)
}

func TestMembersPaging(t *testing.T) {
	b := setup(t)
	owner := b.user("Owner")
	id, code := b.group(owner)
	want := []core.UserID{owner}
	for i := range 6 {
		u := b.user(fmt.Sprintf("member-%d", i))
		b.join(u, code)
		want = append(want, u)
	}
	var got []core.UserID
	for cursor := ""; ; {
		list, next, err := b.Members(t.Context(), owner, id, cursor, 3)
		require.NoError(t, err)
		for _, m := range list {
			got = append(got, m.User)
		}
		if cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, want, got)
	_, _, err := b.Members(t.Context(), b.user("Eve"), id, "", 3)
	require.ErrorIs(t, err, ErrNotMember)
}

// Owner and members leave, transfer, kick and join at once: there is always
// exactly one owner, or no group.
func TestOwnerRaces(t *testing.T) {
	b := setup(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	users := make([]core.UserID, 4)
	for i := range users {
		users[i] = b.user(fmt.Sprintf("user-%d", i))
	}
	for range 12 {
		id, code := b.group(users[0])
		b.join(users[1], code)
		b.join(users[2], code)
		acts := []func() error{
			func() error { return b.Leave(t.Context(), users[0], id) },
			func() error { _, err := b.Transfer(t.Context(), users[0], id, users[1]); return err },
			func() error { _, err := b.Transfer(t.Context(), users[0], id, users[2]); return err },
			func() error { return b.Leave(t.Context(), users[1], id) },
			func() error { return b.Kick(t.Context(), users[1], id, users[0]) },
			func() error { return b.Leave(t.Context(), users[2], id) },
			func() error { _, err := b.Join(t.Context(), users[3], code); return err },
		}
		rnd.Shuffle(len(acts), func(i, j int) { acts[i], acts[j] = acts[j], acts[i] })
		var wg sync.WaitGroup
		for _, act := range acts {
			wg.Go(func() {
				err := act()
				for _, allowed := range []error{ErrNotMember, ErrNoSuchMember, ErrForbidden, ErrOwnerStays, ErrInviteUnknown, ErrInviteRevoked} {
					if errors.Is(err, allowed) {
						return
					}
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		b.roles(id) // checks
	}
}

func TestLastOwnerLeavesWhileSomebodyJoins(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	for range 12 {
		id, code := b.group(ana)
		var wg sync.WaitGroup
		var left, joined error
		wg.Go(func() { left = b.Leave(t.Context(), ana, id) })
		wg.Go(func() { _, joined = b.Join(t.Context(), bob, code) })
		wg.Wait()
		roles := b.roles(id)
		if left == nil {
			require.Empty(t, roles)
			require.True(t, errors.Is(joined, ErrInviteUnknown) || errors.Is(joined, ErrNotMember), "%v", joined)
		} else {
			require.ErrorIs(t, left, ErrOwnerStays)
			require.NoError(t, joined)
			require.Len(t, roles, 2)
		}
	}
}
