package node

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/notify/webhook"
	"github.com/mustermesh/muster/geo/grant"
)

// Whoever had an account before its owner came sees and hears nothing of them.
func TestReclaim(t *testing.T) {
	d, secret := devdb.Test(t), []byte("0123456789abcdef0123456789abcdef")
	places, err := location.New(d, secret, location.Config{})
	require.NoError(t, err)
	owned, err := fleets.New(d, secret, fleets.Config{})
	require.NoError(t, err)
	hooks, err := webhook.New(d, secret, webhook.Config{})
	require.NoError(t, err)
	me, other := core.UserID(uuid.New()), core.UserID(uuid.New())
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		for _, u := range []core.UserID{me, other} {
			if _, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, false, 'eu-west')`, u, u.String()[:20]); err != nil {
				return err
			}
			if _, err := places.MakeLink(ctx, tx, u, location.LinkDraft{Precision: grant.Exact}); err != nil {
				return err
			}
			if _, err := owned.Create(ctx, tx, u, fleets.Draft{Name: "bikes", Precision: grant.Exact}); err != nil {
				return err
			}
			if _, _, err := hooks.Create(db.Within(ctx, tx), webhook.Owner{User: u}, "https://hooks.example.org/x"); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO location_grants (id, user_id, audience, person_id, precision) VALUES (gen_random_uuid(), $1, 'person', $2, 12), (gen_random_uuid(), $2, 'person', $1, 12)`, me, other)
		return err
	}))
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return reclaim(places, owned, hooks)(ctx, tx, me)
	}))
	for user, n := range map[core.UserID]int{me: 0, other: 1} {
		links, err := places.Links(t.Context(), user)
		require.NoError(t, err)
		require.Len(t, links, n)
		grants, err := places.Grants(t.Context(), user)
		require.NoError(t, err)
		require.Len(t, grants, n)
		fleets, err := owned.List(t.Context(), user)
		require.NoError(t, err)
		require.Len(t, fleets, n)
		list, err := hooks.List(t.Context(), webhook.Owner{User: user})
		require.NoError(t, err)
		require.Len(t, list, n)
	}
}
