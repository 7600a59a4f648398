package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

func TestHold(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0)
	var story []string
	say := func(s string) { story = append(story, s) }
	hold := func(ctx context.Context, name string) bool {
		held, err := db.Hold(ctx, func() (func(), error) {
			say("take " + name)
			return func() { say("give back " + name) }, nil
		})
		require.NoError(t, err)
		return held
	}
	none := func(context.Context, pgx.Tx) error { return nil }
	attempt := 0
	together := func(end error) error {
		attempt = 0
		return d.Together(t.Context(), db.Work{
			First: func(context.Context, pgx.Tx) error { say("begin"); return nil },
			Do: func(ctx context.Context, _ func() bool) error {
				attempt++
				require.True(t, db.Inside(ctx))
				require.True(t, hold(ctx, "a"))
				require.False(t, hold(ctx, "b"), "one at a time")
				db.AfterCommit(ctx, func(context.Context) { say("tell") })
				require.NoError(t, add(ctx, d, 1, 1, nil))
				require.False(t, hold(ctx, "c"), "it has begun")
				say("did")
				return end
			},
			Last: none,
		})
	}
	require.NoError(t, together(nil))
	require.Equal(t, []string{"take a", "begin", "did", "give back a", "tell"}, story)

	// Also when it fails, and anew for each attempt.
	story = nil
	require.ErrorIs(t, together(errNo), errNo)
	require.Equal(t, []string{"take a", "begin", "did", "give back a"}, story)
	story = nil
	require.ErrorIs(t, d.Together(t.Context(), db.Work{
		First: none,
		Do: func(ctx context.Context, _ func() bool) error {
			hold(ctx, "a")
			if attempt++; attempt < 4 {
				return d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40001'; END $$`)
					return err
				})
			}
			return errNo
		},
		Last: none,
	}), errNo)
	require.Equal(t, []string{"take a", "give back a", "take a", "give back a", "take a", "give back a"}, story)

	// What can't be had is told; what nobody would give back isn't taken.
	no := errors.New("full")
	require.ErrorIs(t, d.Together(t.Context(), db.Work{First: none, Last: none, Do: func(ctx context.Context, _ func() bool) error {
		_, err := db.Hold(ctx, func() (func(), error) { return nil, no })
		return err
	}}), no)
	story = nil
	require.False(t, db.Inside(t.Context()))
	require.False(t, hold(t.Context(), "a"))
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		require.False(t, db.Inside(ctx))
		require.False(t, hold(ctx, "a"))
		require.False(t, hold(db.Within(ctx, tx), "a"))
		return nil
	}))
	require.Empty(t, story)
}
