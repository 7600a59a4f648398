package db_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	"github.com/cockroachdb/cockroach-go/v2/crdb/crdbpgxv5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// Why there is InTx: the same load, on PostgreSQL, by cockroach-go's ExecuteTx and by
// InTx. ExecuteTx ignores what COMMIT says, which is right on CockroachDB, where it has
// released its savepoint by then. Here it says "done" of what the server rolled back:
// money that was acknowledged and is nowhere. Nobody may bring it back, other than
// behind InTx and for CockroachDB.
func TestNaiveExecuteTxLosesCommits(t *testing.T) {
	url := devdb.TestURL(t)
	d := devdb.Connect(t, url, db.Config{MaxConns: 16})
	if d.Cockroach() {
		t.Skip("there it loses nothing")
	}
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	serializable := pgx.TxOptions{IsoLevel: pgx.Serializable}
	require.NoError(t, exec(t.Context(), d, `CREATE TABLE acknowledged (payer INT NOT NULL, n INT NOT NULL, before INT NOT NULL, PRIMARY KEY (payer, n))`))

	const payers, each = 8, 25
	load := func(tx func(ctx context.Context, fn func(pgx.Tx) error) error) (acknowledged, stored int) {
		require.NoError(t, exec(t.Context(), d, `DELETE FROM acknowledged`))
		var done atomic.Int32
		var wg sync.WaitGroup
		for payer := range payers {
			wg.Go(func() {
				for n := range each {
					if tx(t.Context(), func(tx pgx.Tx) error {
						var before int
						if err := tx.QueryRow(t.Context(), `SELECT count(*) FROM acknowledged`).Scan(&before); err != nil {
							return err
						}
						_, err := tx.Exec(t.Context(), `INSERT INTO acknowledged (payer, n, before) VALUES ($1, $2, $3)`, payer, n, before)
						return err
					}) == nil {
						done.Add(1)
					}
				}
			})
		}
		wg.Wait()
		return int(done.Load()), number(t, d, `SELECT count(*) FROM acknowledged`)
	}

	acknowledged, stored := load(func(ctx context.Context, fn func(pgx.Tx) error) error {
		return crdbpgx.ExecuteTx(crdb.WithMaxRetries(ctx, 3), pool, serializable, fn)
	})
	t.Logf("ExecuteTx: %d acknowledged, %d stored, %d lost", acknowledged, stored, acknowledged-stored)
	require.Less(t, stored, acknowledged, "ExecuteTx loses commits no more: then why is there InTx?")

	acknowledged, stored = load(func(ctx context.Context, fn func(pgx.Tx) error) error {
		return d.InTx(ctx, pgx.TxOptions{}, func(_ context.Context, tx pgx.Tx) error { return fn(tx) })
	})
	t.Logf("InTx: %d acknowledged, %d stored", acknowledged, stored)
	require.Equal(t, acknowledged, stored)
}
