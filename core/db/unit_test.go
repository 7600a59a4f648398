package db_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

var errNo = errors.New("no")

// add is what a store does: a transaction of its own, and what is told of it.
func add(ctx context.Context, d *db.DB, id, n int, told *[]int) error {
	return d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if told != nil {
			db.AfterCommit(ctx, func(context.Context) { *told = append(*told, id) })
		}
		_, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance + $2 WHERE id = $1`, id, n)
		return err
	})
}

func balance(ctx context.Context, d *db.DB, id int) (n int, err error) {
	err = d.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = $1`, id).Scan(&n)
	})
	return n, err
}

// eachWay runs a test on both ways to a transaction.
func eachWay(t *testing.T, test func(t *testing.T, d *db.DB)) {
	t.Run("postgres", func(t *testing.T) { test(t, devdb.Test(t)) })
	t.Run("cockroach", func(t *testing.T) { test(t, devdb.Test(t).AsCockroach()) })
}

func TestWithin(t *testing.T) {
	eachWay(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, 0, 0, 0)
		var told []int
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			in := db.Within(ctx, tx)
			require.NoError(t, add(in, d, 1, 10, &told))
			require.NoError(t, d.InOneTrip(in, pgx.TxOptions{}, func(b *pgx.Batch) {
				b.Queue(`UPDATE accounts SET balance = 20 WHERE id = 2`)
				b.Queue(`UPDATE accounts SET balance = balance + 1 WHERE id = 2`)
			}))
			n, err := balance(in, d, 2)
			require.NoError(t, err)
			require.Equal(t, 21, n, "reads see what was written")
			var stale int
			require.NoError(t, d.ReadStale(in, func(ctx context.Context, q db.Querier) error {
				return q.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 2`).Scan(&stale)
			}))
			require.Equal(t, 21, stale)
			n, err = balance(ctx, d, 2)
			require.NoError(t, err)
			require.Zero(t, n, "the context that came with it takes no part")
			n, err = balance(db.Apart(in), d, 2)
			require.NoError(t, err)
			require.Zero(t, n)
			require.Empty(t, told, "nothing is told before the commit")
			return nil
		}))
		require.Equal(t, []int{1}, told)
		require.Equal(t, 10, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
		require.Equal(t, 21, number(t, d, `SELECT balance FROM accounts WHERE id = 2`))
	})
}

func TestWithinFailsAsAWhole(t *testing.T) {
	eachWay(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, 0, 0)
		var told []int
		require.ErrorIs(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			require.NoError(t, add(db.Within(ctx, tx), d, 1, 10, &told))
			return errNo
		}), errNo)
		require.Empty(t, told)
		require.Equal(t, 0, number(t, d, `SELECT sum(balance) FROM accounts`))

		// A panic on the inside is one of the whole.
		require.PanicsWithValue(t, "oh", func() {
			_ = d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				in := db.Within(ctx, tx)
				require.NoError(t, add(in, d, 1, 10, &told))
				return d.InTx(in, pgx.TxOptions{}, func(context.Context, pgx.Tx) error { panic("oh") })
			})
		})
		require.Empty(t, told)
		require.Equal(t, 0, number(t, d, `SELECT sum(balance) FROM accounts`))
		require.Zero(t, d.Stat().AcquiredConns())
	})
}

// What fails on the inside is undone alone, if the outside goes on.
func TestWithinFailsInPart(t *testing.T) {
	eachWay(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, 0, 0, 0)
		var told []int
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			in := db.Within(ctx, tx)
			require.NoError(t, add(in, d, 1, 1, &told))
			require.ErrorIs(t, d.InTx(in, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				require.NoError(t, add(ctx, d, 2, 2, &told), "two deep")
				return errNo
			}), errNo)
			err := d.InTx(in, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO accounts (id, balance) VALUES (1, 0)`)
				return err
			})
			require.True(t, db.Violates(err, "accounts_pkey"))
			require.True(t, db.Violates(d.InOneTrip(in, pgx.TxOptions{}, func(b *pgx.Batch) {
				b.Queue(`UPDATE accounts SET balance = 7 WHERE id = 2`)
				b.Queue(`INSERT INTO accounts (id, balance) VALUES (1, 0)`)
			}), "accounts_pkey"))
			require.Panics(t, func() {
				_ = d.InTx(in, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					require.NoError(t, add(ctx, d, 2, 2, &told))
					panic("caught")
				})
			})
			return add(in, d, 3, 3, &told)
		}))
		require.Equal(t, []int{1, 3}, told)
		require.Equal(t, 4, number(t, d, `SELECT sum(balance) FROM accounts`))
	})
}

// A conflict that something on the inside meets is the outermost's, even if it was
// swallowed on the way.
func TestWithinConflict(t *testing.T) {
	for _, swallowed := range []bool{false, true} {
		d := devdb.Test(t)
		accounts(t, d, 0, 0)
		var told []int
		runs := 0
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			runs++
			in := db.Within(ctx, tx)
			if err := add(in, d, 2, 1, &told); err != nil {
				return err
			}
			err := d.InTx(in, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				var n int
				if err := tx.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 1`).Scan(&n); err != nil {
					return err
				}
				if runs == 1 { // somebody else is first
					require.NoError(t, add(db.Apart(ctx), d, 1, 5, nil))
				}
				_, err := tx.Exec(ctx, `UPDATE accounts SET balance = $1 WHERE id = 1`, n+1)
				return err
			})
			require.Equal(t, runs == 1, db.Repeats(in))
			if runs == 1 {
				require.Error(t, err)
				require.Error(t, add(in, d, 2, 100, nil), "there is no way on")
			}
			if swallowed {
				return nil
			}
			return err
		}))
		require.Equal(t, 2, runs)
		require.Equal(t, []int{2}, told, "of the attempt that was committed")
		require.Equal(t, 6, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
		require.Equal(t, 1, number(t, d, `SELECT balance FROM accounts WHERE id = 2`))
	}
}

// A connection lost on the inside is no riddle either.
func TestWithinConnectionLost(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0, 0)
	var told []int
	runs := 0
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		runs++
		in := db.Within(ctx, tx)
		if err := add(in, d, 1, 1, &told); err != nil {
			return err
		}
		_ = d.Read(in, func(ctx context.Context, q db.Querier) error {
			if runs == 1 {
				_, err := q.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
				return err
			}
			return nil
		})
		return add(in, d, 2, 1, &told)
	}))
	require.Equal(t, 2, runs)
	require.Equal(t, []int{1, 2}, told)
	require.Equal(t, 2, number(t, d, `SELECT sum(balance) FROM accounts`))
}

func TestAfterCommit(t *testing.T) {
	eachWay(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, 0)
		at := 0
		db.AfterCommit(t.Context(), func(context.Context) { at = 1 })
		require.Equal(t, 1, at, "outside of a transaction: at once")

		// The caller goes away during the commit; the effect works on nevertheless,
		// and its context has a transaction of its own.
		ctx, cancel := context.WithCancel(t.Context())
		err := d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			in := db.Within(ctx, tx)
			db.AfterCommit(in, func(free context.Context) {
				cancel()
				require.NoError(t, free.Err())
				n, err := balance(free, d, 1)
				require.NoError(t, err)
				require.Equal(t, 1, n, "the commit was before")
				require.NoError(t, add(free, d, 1, 1, nil))
				at = 0
				db.AfterCommit(free, func(context.Context) { at = 2 })
				require.Equal(t, 2, at)
			})
			return add(in, d, 1, 1, nil)
		})
		require.NoError(t, err)
		require.Equal(t, 2, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
	})
}

// A commit of which nobody knows has no effects: they are for what is there.
func TestNoEffectsOfARiddle(t *testing.T) {
	d, _, next := faulty(t)
	accounts(t, d, 0)
	for _, cut := range []devdb.Cut{devdb.CutAnswered, devdb.CutLost} {
		var told []int
		next.Store(int32(cut))
		require.ErrorIs(t, add(t.Context(), d, 1, 1, &told), db.ErrAmbiguous)
		require.Empty(t, told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var told []int
	require.ErrorIs(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, add(db.Within(ctx, tx), d, 1, 1, &told))
		cancel()
		return nil
	}), context.Canceled)
	require.Empty(t, told)
}

// Who still has the context of a transaction that has ended is on their own.
func TestWithinOutlived(t *testing.T) {
	eachWay(t, func(t *testing.T, d *db.DB) {
		accounts(t, d, 0, 0)
		for _, commits := range []bool{true, false} {
			var in context.Context
			began, goOn := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			var told []int
			var finished atomic.Bool
			err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				in = db.Within(ctx, tx)
				wg.Go(func() { // it is inside when the function of the outermost returns
					require.NoError(t, d.InTx(in, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
						close(began)
						<-goOn
						_, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance + 1 WHERE id = 1`)
						finished.Store(true)
						return err
					}))
				})
				<-began
				time.AfterFunc(20*time.Millisecond, func() { close(goOn) })
				if !commits {
					return errNo
				}
				return nil
			})
			require.True(t, finished.Load(), "it was waited for")
			if commits {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errNo)
			}
			wg.Wait()
			require.NoError(t, add(in, d, 2, 1, &told), "a transaction of its own")
			require.Equal(t, []int{2}, told)
			ran := false
			db.AfterCommit(in, func(context.Context) { ran = true })
			require.Equal(t, commits, ran, "what was rolled back has no effects, later ones neither")
		}
		require.Equal(t, 1, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
		require.Equal(t, 2, number(t, d, `SELECT balance FROM accounts WHERE id = 2`))
	})
}

func TestWithinWantsItsContext(t *testing.T) {
	d := devdb.Test(t)
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		require.Panics(t, func() { db.Within(t.Context(), tx) })
		return d.InTx(ctx, pgx.TxOptions{}, func(other context.Context, _ pgx.Tx) error {
			require.Panics(t, func() { db.Within(other, tx) })
			return nil
		})
	}))
	other := devdb.Test(t)
	accounts(t, other, 0)
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return add(db.Within(ctx, tx), other, 1, 1, nil)
	}))
	require.Equal(t, 1, number(t, other, `SELECT balance FROM accounts WHERE id = 1`), "another database has its own transactions")
}

func TestTogether(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0, 0, 0)
	work := func(do func(ctx context.Context, wrote func() bool) error) db.Work {
		return db.Work{
			First: func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO accounts (id, balance) VALUES (9, 0)`)
				return err
			},
			Do: do,
			Last: func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE accounts SET balance = 9 WHERE id = 9`)
				return err
			},
		}
	}
	count := func(ctx context.Context) (n int) {
		require.NoError(t, d.Read(ctx, func(ctx context.Context, q db.Querier) error {
			return q.QueryRow(ctx, `SELECT count(*) FROM accounts`).Scan(&n)
		}))
		return n
	}
	var told []int
	runs := 0
	require.NoError(t, d.Together(t.Context(), work(func(ctx context.Context, wrote func() bool) error {
		runs++
		require.Equal(t, 3, count(ctx))
		require.NoError(t, d.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(context.Context, pgx.Tx) error { return nil }))
		require.Zero(t, d.Stat().AcquiredConns(), "reading begins nothing")
		require.False(t, wrote())
		if err := add(ctx, d, 1, 1, &told); err != nil {
			return err
		}
		require.True(t, wrote())
		require.Equal(t, 4, count(ctx), "and from now on it reads there")
		var n int
		err := d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 2`).Scan(&n)
			if runs == 1 {
				require.NoError(t, add(db.Apart(ctx), d, 2, 5, nil))
			}
			return err
		})
		if err == nil {
			err = add(ctx, d, 2, n, &told)
		}
		return err
	})))
	require.Equal(t, 2, runs, "a conflict is met by the whole")
	require.Equal(t, []int{1, 2}, told)
	require.Equal(t, 1+10+9, number(t, d, `SELECT sum(balance) FROM accounts`))

	// Somebody else was first.
	err := d.Together(t.Context(), work(func(ctx context.Context, _ func() bool) error {
		_ = add(ctx, d, 1, 1, nil) // swallowed
		require.True(t, db.Repeats(ctx))
		return nil
	}))
	require.True(t, db.Violates(err, "accounts_pkey"))
	require.NoError(t, exec(t.Context(), d, `DELETE FROM accounts WHERE id = 9`))

	// Without a write there is a transaction nevertheless, for First and Last.
	require.NoError(t, d.Together(t.Context(), work(func(context.Context, func() bool) error { return nil })))
	require.Equal(t, 9, number(t, d, `SELECT balance FROM accounts WHERE id = 9`))
	require.NoError(t, exec(t.Context(), d, `DELETE FROM accounts WHERE id = 9`))

	told = nil
	require.ErrorIs(t, d.Together(t.Context(), work(func(ctx context.Context, _ func() bool) error {
		require.NoError(t, add(ctx, d, 1, 1, &told))
		return errNo
	})), errNo)
	require.Panics(t, func() {
		_ = d.Together(t.Context(), work(func(ctx context.Context, _ func() bool) error {
			require.NoError(t, add(ctx, d, 1, 1, &told))
			panic("oh")
		}))
	})
	require.Empty(t, told)
	require.Equal(t, 11, number(t, d, `SELECT sum(balance) FROM accounts`))
	require.Zero(t, d.Stat().AcquiredConns())
}
