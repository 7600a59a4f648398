package groups

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

func TestCodes(t *testing.T) {
	seen := map[rune]int{}
	for range 3000 {
		code := newCode()
		require.Regexp(t, `^[0-9BCDFGHJKMNPQRSTVWXYZ]{10}$`, code)
		got, err := parseCode(code)
		require.NoError(t, err)
		require.Equal(t, code, got)
		for _, r := range code {
			seen[r]++
		}
	}
	require.Len(t, seen, len(codeAlphabet))
	for r, n := range seen { // 1,000 expected each, standard deviation 31
		require.InDelta(t, 1000, n, 200, "%c", r)
	}
	for in, want := range map[string]string{
		"bcdfg-hjkm0": "BCDFGHJKM0", " BCDFG HJKMO ": "BCDFGHJKM0", "il23456789": "1123456789",
		"https://example.org/join/BCDFGHJKM0":       "BCDFGHJKM0",
		"https://example.org/join/BCDFGHJKM0/":      "BCDFGHJKM0",
		"https://example.org/#/join/bcdfghjkm0":     "BCDFGHJKM0",
		"https://example.org/?invite=BCDFGHJKM0":    "BCDFGHJKM0",
		"http://localhost:8080/#invite=BCDFG-HJKM0": "BCDFGHJKM0",
	} {
		got, err := parseCode(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "BCDFGHJKM", "BCDFGHJKM00", "BCDFGHJKMA", "BCDFGHJKM\x00", "BCDFGHJKM\xff", "https://example.org/join/"} {
		_, err := parseCode(in)
		require.ErrorIs(t, err, ErrInviteUnknown, "%q", in)
	}
}

func TestInviteLife(t *testing.T) {
	b := setup(t)
	ana, bob, cy, dan := b.user("Ana"), b.user("Bob"), b.user("Cy"), b.user("Dan")
	id, first := b.group(ana)
	list, err := b.Invites(t.Context(), ana, id)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, first, list[0].Code)
	require.Equal(t, 7*24*time.Hour, list[0].ExpiresAt.Sub(list[0].CreatedAt), "the first one expires as well")

	once, err := b.invite(ana, id, Terms{Life: time.Hour, MaxUses: 1})
	require.NoError(t, err)
	require.Equal(t, "https://example.org/join/"+once.Code, once.Link)
	b.join(bob, once.Link)
	b.join(bob, once.Code) // again: a success, nothing used, nothing announced
	require.Equal(t, []uint64{2}, b.told.versions[id.Room()])
	_, err = b.Join(t.Context(), cy, once.Code)
	require.ErrorIs(t, err, ErrInviteUsed)
	_, err = b.Join(t.Context(), cy, "BCDFGHJKM0")
	require.ErrorIs(t, err, ErrInviteUnknown)

	short, err := b.invite(bob, id, Terms{Life: time.Hour})
	require.NoError(t, err)
	mine, err := b.Invites(t.Context(), bob, id)
	require.NoError(t, err)
	require.Len(t, mine, 1, "a member sees their own")
	require.Equal(t, short.Code, mine[0].Code)
	all, err := b.Invites(t.Context(), ana, id)
	require.NoError(t, err)
	require.Len(t, all, 2, "the used-up one is not open")

	require.ErrorIs(t, b.Revoke(t.Context(), bob, id, first), ErrForbidden)
	require.ErrorIs(t, b.Revoke(t.Context(), cy, id, first), ErrNotMember)
	require.ErrorIs(t, b.Revoke(t.Context(), ana, id, "BCDFGHJKM0"), ErrInviteUnknown)
	require.NoError(t, b.Revoke(t.Context(), ana, id, first))
	require.NoError(t, b.Revoke(t.Context(), ana, id, first))
	_, err = b.Join(t.Context(), cy, first)
	require.ErrorIs(t, err, ErrInviteRevoked)

	b.advance(time.Hour - time.Second)
	b.join(cy, short.Code)
	b.advance(2 * time.Second)
	_, err = b.Join(t.Context(), dan, short.Code)
	require.ErrorIs(t, err, ErrInviteExpired)
	b.join(cy, short.Code) // who is in stays in

	for _, bad := range []Terms{{Life: time.Second}, {Life: 1000 * 24 * time.Hour}, {MaxUses: -1}, {MaxUses: 10_001}} {
		_, err := b.invite(ana, id, bad)
		require.ErrorIs(t, err, ErrBadTerms)
	}
	_, err = b.invite(dan, id, Terms{})
	require.ErrorIs(t, err, ErrNotMember)
}

func TestKickEndsTheirInvites(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	id, code := b.group(ana)
	b.join(bob, code)
	back, err := b.invite(bob, id, Terms{})
	require.NoError(t, err)
	require.NoError(t, b.Kick(t.Context(), ana, id, bob))
	_, err = b.Join(t.Context(), bob, back.Code)
	require.ErrorIs(t, err, ErrInviteRevoked)
}

func TestTooManyInvites(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	id, _ := b.group(ana)
	b.exec(`INSERT INTO invites (code, group_id, created_by, expires_at) SELECT 'x' || n::TEXT, $1, $2, $3 FROM generate_series(1, 199) AS n`,
		id, ana, b.now.Add(time.Hour))
	_, err := b.invite(ana, id, Terms{})
	require.ErrorIs(t, err, ErrTooManyInvites)
	b.exec(`UPDATE invites SET max_uses = 1, uses = 1 WHERE code = 'x7'`)
	_, err = b.invite(ana, id, Terms{})
	require.NoError(t, err, "one that is used up is not open: nobody sees it to withdraw it")
	_, err = b.invite(ana, id, Terms{})
	require.ErrorIs(t, err, ErrTooManyInvites)
	b.advance(2 * time.Hour)
	_, err = b.invite(ana, id, Terms{})
	require.NoError(t, err)
}

// Many join at once by a code that is good for some: exactly those get in, and
// the count of uses is theirs.
func TestConcurrentJoinsNeverExceedMaxUses(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	id, _ := b.group(ana)
	const uses, crowd = 4, 14
	code, err := b.invite(ana, id, Terms{MaxUses: uses})
	require.NoError(t, err)
	users := make([]core.UserID, crowd)
	for i := range users {
		users[i] = b.user(fmt.Sprintf("user-%d", i))
	}
	var wg sync.WaitGroup
	results := make([]error, 2*crowd)
	for i := range results { // everybody twice
		wg.Go(func() { _, results[i] = b.Join(t.Context(), users[i%crowd], code.Code) })
	}
	wg.Wait()
	for _, err := range results {
		if err != nil && !errors.Is(err, ErrInviteUsed) {
			t.Error(err)
		}
	}
	require.Len(t, b.roles(id), 1+uses)
	got, err := b.Invites(t.Context(), ana, id)
	require.NoError(t, err)
	require.Len(t, got, 1, "the used-up one is closed, the first one is open")
	require.Len(t, b.told.versions[id.Room()], uses, "one version per joiner")
}
