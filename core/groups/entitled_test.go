package groups

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// A group has as many members as its owner's plan allows, who were in before stay in,
// and another owner brings another plan.
func TestMembersByThePlanOfTheOwner(t *testing.T) {
	b := setup(t)
	plans := map[core.UserID]int64{}
	b.Store = New(b.db, "eu-west", Config{Now: b.clock, Announce: b.told, Members: func(_ context.Context, owner core.UserID) (int64, error) {
		if n, ok := plans[owner]; ok {
			return n, nil
		}
		return 1000, nil
	}})
	owner, first, second := b.user("Owner"), b.user("First"), b.user("Second")
	group, code := b.group(owner)
	plans[owner] = 2
	b.join(first, code)
	_, err := b.Join(t.Context(), second, code)
	require.ErrorIs(t, err, ErrFull)
	plans[owner] = 1
	require.Len(t, b.roles(group), 2)
	_, err = b.Transfer(t.Context(), owner, group, first)
	require.NoError(t, err)
	b.join(second, code)
}
