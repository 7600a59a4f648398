package db_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/errs"
)

// accounts makes a table with the given balances, numbered from 1.
func accounts(t *testing.T, d *db.DB, balances ...int) {
	t.Helper()
	require.NoError(t, exec(t.Context(), d, `CREATE TABLE accounts (id INT PRIMARY KEY, balance INT NOT NULL)`))
	for i, b := range balances {
		require.NoError(t, exec(t.Context(), d, `INSERT INTO accounts (id, balance) VALUES ($1, $2)`, i+1, b))
	}
}

func exec(ctx context.Context, d *db.DB, sql string, args ...any) error {
	return d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

func number(t *testing.T, d *db.DB, sql string) (n int) {
	t.Helper()
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, sql).Scan(&n)
	}))
	return n
}

func TestSerializableByDefault(t *testing.T) {
	d := devdb.Test(t)
	var level string
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&level)
	}))
	require.Equal(t, "serializable", level)
}

// Two transactions read the same row, then both write it: the second one's
// first attempt fails with 40001.
func TestLostUpdate(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 100)
	var both sync.WaitGroup
	both.Add(2)
	var attempts atomic.Int32
	add := func() error {
		first := true
		return d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			attempts.Add(1)
			var balance int
			if err := tx.QueryRow(ctx, `SELECT balance FROM accounts WHERE id = 1`).Scan(&balance); err != nil {
				return err
			}
			if first { // both have read before either writes
				first = false
				both.Done()
				both.Wait()
			}
			_, err := tx.Exec(ctx, `UPDATE accounts SET balance = $1 WHERE id = 1`, balance+1)
			return err
		})
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { require.NoError(t, add()) })
	}
	wg.Wait()
	require.Equal(t, 102, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
	require.GreaterOrEqual(t, attempts.Load(), int32(3))
}

// Write skew: each transaction checks that both accounts together hold enough
// and debits its own. Only one may pass, and PostgreSQL may find that out as
// late as in COMMIT.
func TestWriteSkew(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d)
	for round := range 20 {
		require.NoError(t, exec(t.Context(), d, `DELETE FROM accounts`))
		require.NoError(t, exec(t.Context(), d, `INSERT INTO accounts (id, balance) VALUES (1, 50), (2, 50)`))
		errPoor := errors.New("not enough money")
		var both, wg sync.WaitGroup
		both.Add(2)
		var debited, refused atomic.Int32
		for id := 1; id <= 2; id++ {
			wg.Go(func() {
				first := true
				err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					var sum int
					if err := tx.QueryRow(ctx, `SELECT sum(balance) FROM accounts`).Scan(&sum); err != nil {
						return err
					}
					if first {
						first = false
						both.Done()
						both.Wait()
					}
					if sum < 100 {
						return errPoor
					}
					_, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance - 100 WHERE id = $1`, id)
					return err
				})
				switch {
				case err == nil:
					debited.Add(1)
				case errors.Is(err, errPoor):
					refused.Add(1)
				default:
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, int32(1), debited.Load())
		require.Equal(t, int32(1), refused.Load())
		require.Equal(t, 0, number(t, d, `SELECT sum(balance) FROM accounts`), "what was answered is what happened")
	}
}

// 16 goroutines insert 50 rows each beside a read that makes them conflict.
// Every nil answer is a row and every row has a nil answer.
func TestInsertStorm(t *testing.T) {
	d := devdb.Test(t)
	require.NoError(t, exec(t.Context(), d, `CREATE TABLE storm (id INT PRIMARY KEY, total INT NOT NULL)`))
	var ok, attempts atomic.Int32
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 50 {
				err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					attempts.Add(1)
					var total int
					if err := tx.QueryRow(ctx, `SELECT count(*) FROM storm WHERE id >= $1 AND id < $1 + 50`, g*50).Scan(&total); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, `INSERT INTO storm (id, total) VALUES ($1, $2)`, g*50+i, total)
					return err
				})
				if err == nil {
					ok.Add(1)
				} else {
					t.Errorf("insert: %v", err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d attempts", attempts.Load())
	require.Equal(t, int32(800), ok.Load())
	require.Equal(t, 800, number(t, d, `SELECT count(*) FROM storm`))
	require.Equal(t, 16*49*50/2, number(t, d, `SELECT sum(total) FROM storm`), "each saw all before it")
}

// One hot row: everybody wants it.
func TestHotRow(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				require.NoError(t, exec(t.Context(), d, `UPDATE accounts SET balance = balance + 1 WHERE id = 1`))
			}
		})
	}
	wg.Wait()
	require.Equal(t, 320, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
}

// faulty returns a database whose connections break as cut says, once each
// time it is set.
func faulty(t *testing.T) (d *db.DB, f *devdb.Faults, next *atomic.Int32) {
	t.Helper()
	next = new(atomic.Int32)
	f = &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		if !commit {
			return devdb.Spare
		}
		return devdb.Cut(next.Swap(int32(devdb.Spare)))
	}}
	d = devdb.Connect(t, devdb.TestURL(t), db.Config{Dial: f.Dial})
	return d, f, next
}

// A connection lost during COMMIT: the caller is told that nobody knows, and
// indeed it may be either.
func TestAmbiguousCommit(t *testing.T) {
	d, f, next := faulty(t)
	accounts(t, d, 0)

	next.Store(int32(devdb.CutAnswered))
	err := exec(t.Context(), d, `UPDATE accounts SET balance = balance + 1 WHERE id = 1`)
	require.ErrorIs(t, err, db.ErrAmbiguous)
	e, shown := errs.From(err)
	require.True(t, shown)
	require.Equal(t, errs.Unavailable, e.Kind)
	require.Positive(t, e.RetryAfter)
	require.Equal(t, 1, number(t, d, `SELECT balance FROM accounts WHERE id = 1`), "it had happened")

	for _, cut := range []devdb.Cut{devdb.CutLost, devdb.CutUnsent} {
		next.Store(int32(cut))
		err = exec(t.Context(), d, `UPDATE accounts SET balance = balance + 1 WHERE id = 1`)
		require.ErrorIs(t, err, db.ErrAmbiguous)
		require.Equal(t, 1, number(t, d, `SELECT balance FROM accounts WHERE id = 1`), "it had not happened")
	}
	require.Equal(t, int64(3), f.Cuts())
}

// A connection lost before COMMIT is no riddle: the transaction runs again.
func TestConnectionLostBeforeCommit(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0)
	runs := 0
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		runs++
		if _, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance + 1 WHERE id = 1`); err != nil {
			return err
		}
		if runs == 1 {
			_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			require.Error(t, err)
			return err
		}
		return nil
	}))
	require.Equal(t, 2, runs)
	require.Equal(t, 1, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
}

// After the server has ended all connections the next calls just work.
func TestConnectionsKilledWhileIdle(t *testing.T) {
	url := devdb.TestURL(t)
	d := devdb.Connect(t, url, db.Config{Name: "victim"})
	killer := devdb.Connect(t, url, db.Config{})
	for range 5 {
		var hold, wg sync.WaitGroup
		hold.Add(4)
		for range 4 { // four connections into the pool
			wg.Go(func() {
				require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(context.Context, pgx.Tx) error {
					hold.Done()
					hold.Wait()
					return nil
				}))
			})
		}
		wg.Wait()
		require.NoError(t, exec(t.Context(), killer,
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'`))
		require.Equal(t, 1, number(t, d, `SELECT 1`))
		require.NoError(t, exec(t.Context(), d, `SELECT 1`))
	}
}

func TestErrorRollsBack(t *testing.T) {
	for name, cockroach := range map[string]bool{"postgres": false, "cockroach": true} {
		t.Run(name, func(t *testing.T) {
			d := devdb.Test(t)
			if cockroach {
				d.AsCockroach()
			}
			accounts(t, d, 0)
			mine := errors.New("mine")
			insert := func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO accounts (id, balance) VALUES (2, 0)`)
				return err
			}

			err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				return errors.Join(insert(ctx, tx), mine)
			})
			require.ErrorIs(t, err, mine)

			require.PanicsWithValue(t, "bug", func() {
				_ = d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					_ = insert(ctx, tx)
					panic("bug")
				})
			})

			ctx, cancel := context.WithCancel(t.Context())
			err = d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				defer cancel()
				return insert(ctx, tx)
			})
			require.Error(t, err, "cancelled before COMMIT")

			err = exec(t.Context(), d, `INSERT INTO accounts (id, balance) VALUES (1, 0)`)
			require.True(t, db.Violates(err, "accounts_pkey"))
			require.True(t, db.Violates(err, ""))
			require.False(t, db.Violates(err, "other"))
			_, shown := errs.From(err)
			require.False(t, shown, "SQL's words are not for users")

			require.Equal(t, 1, number(t, d, `SELECT count(*) FROM accounts`))
			require.Zero(t, d.Stat().AcquiredConns())
			require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, insert))
			require.Equal(t, 2, number(t, d, `SELECT count(*) FROM accounts`))
		})
	}
}

// A closure that overlooks an error would otherwise believe in a commit that
// was a rollback.
func TestOverlookedError(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0)
	err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, `INSERT INTO accounts (id, balance) VALUES (1, 0)`)
		return nil
	})
	require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	require.NotErrorIs(t, err, db.ErrAmbiguous)
}

// What only reads isn't a riddle when its COMMIT has no answer: it is read again.
func TestLostCommitOfARead(t *testing.T) {
	d, _, next := faulty(t)
	for _, cut := range []devdb.Cut{devdb.CutLost, devdb.CutAnswered, devdb.CutUnsent} {
		runs := 0
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
			if runs++; runs == 1 {
				next.Store(int32(cut))
			}
			var n int
			return tx.QueryRow(ctx, `SELECT count(*) FROM rooms`).Scan(&n)
		}))
		require.Equal(t, 2, runs, cut)
	}
}

// A caller that goes away during COMMIT doesn't turn a success into a riddle.
func TestCancelDuringCommit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		if commit {
			cancel()
		}
		return devdb.Spare
	}}
	d := devdb.Connect(t, devdb.TestURL(t), db.Config{Dial: f.Dial})
	require.NoError(t, exec(ctx, d, `INSERT INTO rooms (room, last_number) VALUES ('group:x', 0)`))
	require.Error(t, ctx.Err())
	require.Equal(t, 1, number(t, d, `SELECT count(*) FROM rooms`))
}

func TestGivesUp(t *testing.T) {
	d := devdb.Connect(t, devdb.TestURL(t), db.Config{MaxAttempts: 3})
	for _, code := range []string{"40001", "40P01"} {
		runs := 0
		err := d.InTx(t.Context(), pgx.TxOptions{}, func(context.Context, pgx.Tx) error {
			runs++
			return fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})
		})
		require.ErrorIs(t, err, db.ErrContended)
		require.Equal(t, 3, runs)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	patient := devdb.Connect(t, devdb.TestURL(t), db.Config{MaxAttempts: 1 << 30})
	err := patient.InTx(ctx, pgx.TxOptions{}, func(context.Context, pgx.Tx) error {
		return &pgconn.PgError{Code: "40001"}
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestNoServer(t *testing.T) {
	_, err := db.Open(t.Context(), "postgres://127.0.0.1:1/x?sslmode=disable", db.Config{})
	require.ErrorIs(t, err, db.ErrUnavailable)
	err = db.Migrate(t.Context(), "postgres://127.0.0.1:1/x?sslmode=disable")
	require.ErrorIs(t, err, db.ErrUnavailable)
	_, err = db.Open(t.Context(), "postgres://%", db.Config{})
	require.ErrorContains(t, err, "database url")

	// A server that goes away later.
	var down atomic.Bool
	var dialer net.Dialer
	d := devdb.Connect(t, devdb.TestURL(t), db.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if down.Load() {
			return nil, errors.New("connection refused")
		}
		return dialer.DialContext(ctx, network, addr)
	}})
	down.Store(true)
	_ = exec(t.Context(), d, `SELECT pg_terminate_backend(pg_backend_pid())`)
	err = exec(t.Context(), d, `SELECT 1`)
	require.ErrorIs(t, err, db.ErrUnavailable)
	require.ErrorIs(t, d.Ping(t.Context()), db.ErrUnavailable)
	down.Store(false)
	require.NoError(t, exec(t.Context(), d, `SELECT 1`))
}

func TestBoundedPool(t *testing.T) {
	d := devdb.Connect(t, devdb.TestURL(t), db.Config{MaxConns: 2})
	var now, most atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				_, err := tx.Exec(ctx, `SELECT pg_sleep(0.002)`)
				return err
			}))
		})
	}
	wg.Wait()
	require.Equal(t, int32(2), most.Load())
}

func TestReadRunsAgain(t *testing.T) {
	d := devdb.Test(t)
	runs := 0
	require.NoError(t, d.Read(t.Context(), func(context.Context, db.Querier) error {
		if runs++; runs == 1 {
			return &pgconn.PgError{Code: "40001"}
		}
		return nil
	}))
	require.Equal(t, 2, runs)
	require.ErrorIs(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT last_number FROM rooms WHERE room = 'none'`).Scan(new(int))
	}), pgx.ErrNoRows)
}

// What CockroachDB's way shares with PostgreSQL: commit, and the riddle.
func TestCockroachWay(t *testing.T) {
	d, _, next := faulty(t)
	d.AsCockroach()
	accounts(t, d, 0)
	require.Equal(t, 1, number(t, d, `SELECT count(*) FROM accounts`))
	next.Store(int32(devdb.CutAnswered))
	require.NoError(t, exec(t.Context(), d, `SELECT 1`), "there RELEASE is the commit")

	err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return &pgconn.PgError{Code: "23505"}
	})
	require.True(t, db.Violates(err, ""))

	runs := 0
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if runs++; runs == 1 {
			_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		}
		return nil
	}))
	require.Equal(t, 2, runs)

	few := devdb.Connect(t, devdb.TestURL(t), db.Config{MaxAttempts: 2}).AsCockroach()
	require.ErrorIs(t, few.InTx(t.Context(), pgx.TxOptions{}, func(context.Context, pgx.Tx) error {
		return &pgconn.PgError{Code: "40001"}
	}), db.ErrContended)
}

// oneTrip is exec for InOneTrip.
func oneTrip(ctx context.Context, d *db.DB, sql ...string) error {
	return d.InOneTrip(ctx, pgx.TxOptions{}, func(b *pgx.Batch) {
		for _, s := range sql {
			b.Queue(s)
		}
	})
}

// Either all of it happens or nothing, in one round trip or, while the
// statements are new to a connection, two; whichever way pgx sends them.
func TestOneTrip(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			var writes, commits atomic.Int64
			f := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
				writes.Add(1)
				if commit {
					commits.Add(1)
				}
				return devdb.Spare
			}}
			url := devdb.TestURL(t)
			url += map[bool]string{true: "&", false: "?"}[strings.Contains(url, "?")] + "default_query_exec_mode=" + mode
			d := devdb.Connect(t, url, db.Config{Dial: f.Dial, MaxConns: 1})
			accounts(t, d, 0)
			add := `UPDATE accounts SET balance = balance + 1 WHERE id = 1`
			require.NoError(t, oneTrip(t.Context(), d, add, add))
			before, committed := writes.Load(), commits.Load()
			require.NoError(t, oneTrip(t.Context(), d, add, add))
			if mode != "describe_exec" {
				require.Equal(t, before+1, writes.Load())
			}
			if mode == "cache_statement" {
				require.Equal(t, committed+1, commits.Load(), "Faults sees it")
			}
			require.Equal(t, 4, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))

			for _, broken := range []string{`INSERT INTO accounts (id, balance) VALUES (1, 0)`, `SELECT 1 / 0`, `SELECT nonsense`} {
				for _, statements := range [][]string{{broken, add}, {add, broken}, {add, broken, add}} {
					err := oneTrip(t.Context(), d, statements...)
					require.Error(t, err)
					require.NotErrorIs(t, err, db.ErrAmbiguous)
					require.Equal(t, 4, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
					require.Zero(t, d.Stat().AcquiredConns())
				}
			}
			require.True(t, db.Violates(oneTrip(t.Context(), d, `INSERT INTO accounts (id, balance) VALUES (1, 0)`), "accounts_pkey"))
			require.NoError(t, oneTrip(t.Context(), d, add))
			require.Equal(t, 5, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))

			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, oneTrip(ctx, d, add), context.Canceled)
			require.Equal(t, 5, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
		})
	}
}

// What can't be sent has surely not happened.
func TestOneTripUnsent(t *testing.T) {
	d := devdb.Test(t)
	err := oneTrip(t.Context(), d, `INSERT INTO rooms (room, last_number) VALUES ('group:x', 0)`, `SELECT $1::INT`)
	require.Error(t, err)
	require.NotErrorIs(t, err, db.ErrAmbiguous)
	require.Zero(t, number(t, d, `SELECT count(*) FROM rooms`))
}

// SERIALIZABLE, and a conflict runs it again, whether a statement reports it or
// COMMIT does.
func TestOneTripConflicts(t *testing.T) {
	d := devdb.Test(t)
	accounts(t, d, 0)
	var attempts atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				require.NoError(t, d.InOneTrip(t.Context(), pgx.TxOptions{}, func(b *pgx.Batch) {
					attempts.Add(1)
					b.Queue(`INSERT INTO accounts (id, balance) SELECT max(id) + 1, 0 FROM accounts`)
					b.Queue(`UPDATE accounts SET balance = balance + 1 WHERE id = 1`)
				}))
			}
		})
	}
	wg.Wait()
	t.Logf("%d attempts", attempts.Load())
	require.Greater(t, attempts.Load(), int32(320))
	require.Equal(t, 320, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
	require.Equal(t, 321, number(t, d, `SELECT count(*) FROM accounts`))

	// Write skew, which PostgreSQL may find as late as in COMMIT.
	require.NoError(t, exec(t.Context(), d, `CREATE TABLE skew (id INT PRIMARY KEY, seen INT NOT NULL)`))
	for id := range 100 {
		wg.Go(func() {
			require.NoError(t, d.InOneTrip(t.Context(), pgx.TxOptions{}, func(b *pgx.Batch) {
				b.Queue(`INSERT INTO skew (id, seen) SELECT $1, count(*) FROM skew`, id)
			}))
		})
	}
	wg.Wait()
	require.Equal(t, 100, number(t, d, `SELECT count(DISTINCT seen) FROM skew`), "each saw all before it")
}

// A connection lost at any time is a riddle: COMMIT was under way.
func TestOneTripAmbiguous(t *testing.T) {
	d, f, next := faulty(t)
	accounts(t, d, 0)
	add := `UPDATE accounts SET balance = balance + 1 WHERE id = 1`
	require.NoError(t, oneTrip(t.Context(), d, add))
	for cut, want := range map[devdb.Cut]int{devdb.CutAnswered: 1, devdb.CutLost: 0, devdb.CutUnsent: 0} {
		before := number(t, d, `SELECT balance FROM accounts WHERE id = 1`)
		next.Store(int32(cut))
		require.ErrorIs(t, oneTrip(t.Context(), d, add), db.ErrAmbiguous)
		require.Equal(t, before+want, number(t, d, `SELECT balance FROM accounts WHERE id = 1`))
		require.NoError(t, oneTrip(t.Context(), d, `SELECT 1`)) // prepared again
	}
	require.Equal(t, int64(3), f.Cuts())
	err := oneTrip(t.Context(), d, add, `SELECT pg_terminate_backend(pg_backend_pid())`)
	require.ErrorIs(t, err, db.ErrAmbiguous)

	// So is a caller that goes away.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, oneTrip(ctx, d, `SELECT pg_sleep(10)`), db.ErrAmbiguous)
}
