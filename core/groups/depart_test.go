package groups

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

func TestDepart(t *testing.T) {
	b := setup(t)
	ana, bob, carl, dora := b.user("Ana"), b.user("Bob"), b.user("Carl"), b.user("Dora")
	alone, _ := b.group(ana)
	with, code := b.group(ana)
	plain, plainCode := b.group(ana)
	theirs, theirCode := b.group(bob)
	b.join(bob, code)
	b.join(carl, code)
	_, err := b.SetRole(t.Context(), ana, with, carl, Admin)
	require.NoError(t, err)
	b.join(bob, plainCode)
	b.join(carl, plainCode)
	b.join(ana, theirCode)
	b.join(dora, theirCode)
	dead := func(who core.UserID) { b.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, who) }

	dead(ana)
	require.NoError(t, b.Depart(t.Context(), ana))
	require.NoError(t, b.Depart(t.Context(), ana), "twice")
	require.Empty(t, b.roles(alone), "it is gone")
	require.Equal(t, map[core.UserID]Role{bob: Plain, carl: Owner}, b.roles(with), "the admin, though others were there before")
	require.Equal(t, map[core.UserID]Role{bob: Owner, carl: Plain}, b.roles(plain), "the longest-standing")
	require.Equal(t, map[core.UserID]Role{bob: Owner, dora: Plain}, b.roles(theirs))

	// Two accounts that end together: whoever of them is left passes it on.
	dead(bob)
	dead(dora)
	require.NoError(t, b.Depart(t.Context(), bob))
	require.Equal(t, map[core.UserID]Role{dora: Owner}, b.roles(theirs))
	require.NoError(t, b.Depart(t.Context(), dora))
	require.Empty(t, b.roles(theirs))
	require.Equal(t, map[core.UserID]Role{carl: Owner}, b.roles(plain))
}
