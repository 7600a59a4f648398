package users

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db/devdb"
)

func TestCards(t *testing.T) {
	d := devdb.Test(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	ana, bob, eve := addUser(t, d, "Ana"), addUser(t, d, "Bob"), addUser(t, d, "Eve")
	registry := prometheus.NewRegistry()
	here, there := New(d, clock), New(d, clock) // two nodes
	cards, err := NewCards(here, CardsConfig{Metrics: registry, Hidden: func(_ context.Context, viewer, user core.UserID) (bool, error) {
		return viewer == eve && user == ana || viewer == ana && user == eve, nil
	}})
	require.NoError(t, err)
	reads := func(from string, want int) {
		t.Helper()
		require.EqualValues(t, want, testutil.ToFloat64(cards.asked.WithLabelValues(from)))
	}
	get := func(viewer, id core.UserID, username string) Card {
		t.Helper()
		c, err := cards.Get(t.Context(), viewer, id)
		require.NoError(t, err)
		require.Equal(t, username, c.Username)
		return c
	}

	require.Equal(t, Card{ID: ana, Username: "Ana", Version: 1}, get(bob, ana, "Ana"))
	require.Equal(t, `"1"`, get(ana, ana, "Ana").ETag())
	reads("database", 1)
	reads("memory", 1)
	_, err = cards.Get(t.Context(), eve, ana)
	require.ErrorIs(t, err, ErrNotFound, "hidden, also from memory")

	// What is changed on this node is seen at once.
	name := "Ana Lima"
	_, err = here.Update(t.Context(), ana, Change{Username: &name})
	require.NoError(t, err)
	require.EqualValues(t, 2, get(bob, ana, name).Version)

	// What is changed on another is, once the event is here.
	name2 := "Ana Maria"
	_, err = there.Update(t.Context(), ana, Change{Username: &name2})
	require.NoError(t, err)
	get(bob, ana, name)
	cards.Changed(ana, 3)
	require.EqualValues(t, 3, get(bob, ana, name2).Version)
	reads("database", 3)
	cards.Changed(ana, 2) // late
	cards.Changed(ana, 3) // again
	get(bob, ana, name2)
	reads("database", 3)

	// Or, if it never comes, after a while.
	name3 := "Ana"
	_, err = there.Update(t.Context(), ana, Change{Username: &name3})
	require.NoError(t, err)
	get(bob, ana, name2)
	now = now.Add(cardFor)
	get(bob, ana, name3)

	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE users SET deleted_at = now() WHERE id = $1`, ana)
		if err == nil {
			_, err = Changed(ctx, tx, ana)
		}
		return err
	}))
	cards.Changed(ana, 5)
	_, err = cards.Get(t.Context(), bob, ana)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = cards.Get(t.Context(), bob, core.UserID(uuid.New()))
	require.ErrorIs(t, err, ErrNotFound)
}

// What people gave somebody is seen with the card, at once and by its version.
func TestRated(t *testing.T) {
	d := devdb.Test(t)
	ana, bob, gone := addUser(t, d, "Ana"), addUser(t, d, "Bob"), addUser(t, d, "Gone")
	s := New(d, time.Now)
	cards, err := NewCards(s, CardsConfig{})
	require.NoError(t, err)
	get := func() Card {
		c, err := cards.Get(t.Context(), bob, ana)
		require.NoError(t, err)
		return c
	}
	require.Zero(t, get().Rating)
	tx := func(fn func(ctx context.Context, tx pgx.Tx) error) {
		t.Helper()
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, fn))
	}
	tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE users SET deleted_at = now() WHERE id = $1`, gone)
		return err
	})
	for range 2 {
		tx(func(ctx context.Context, tx pgx.Tx) error {
			return s.Rated(ctx, tx, map[core.UserID]core.Rating{ana: {Sum: 9, Count: 2}, gone: {Sum: 1, Count: 1}})
		})
	}
	require.Equal(t, Card{ID: ana, Username: "Ana", Rating: core.Rating{Sum: 18, Count: 4}, Version: 3}, get())
}
