package notify_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/notify"
)

// Of two people on no terms neither has anything about the other in their list, and
// what was on its way does not arrive; others are not concerned.
func TestParted(t *testing.T) {
	b := setup(t)
	ana, bob, cy := b.user("Ana"), b.user("Bob"), b.user("Cy")
	titles := func(u core.UserID) (all []string) {
		list, _, err := b.List(t.Context(), u, false, "", 10)
		require.NoError(t, err)
		for _, n := range list {
			all = append(all, n.Title)
		}
		return all
	}
	b.notify(ana, notify.FriendRequest, obj{"user_id": bob.String()})
	b.notify(ana, notify.FriendRequest, obj{"user_id": cy.String()})
	b.notify(bob, notify.FriendAccepted, obj{"user_id": ana.String()})
	eventually(t, "all are told", func() bool { return len(titles(ana)) == 2 && len(titles(bob)) == 1 })
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := b.Notify(ctx, tx, ana, notify.FriendAccepted, obj{"user_id": bob.String()}); err != nil {
			return err
		}
		return b.Parted(ctx, tx, bob, ana)
	})
	require.Len(t, titles(ana), 1)
	require.Empty(t, titles(bob))
	eventually(t, "nothing is left to do", func() bool { return b.count(`SELECT count(*) FROM jobs WHERE state NOT IN ('done', 'dead')`) == 0 })
	require.Zero(t, b.count(`SELECT count(*) FROM jobs WHERE state = 'dead'`))
	require.Len(t, titles(ana), 1)
}
