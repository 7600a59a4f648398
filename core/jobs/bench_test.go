package jobs

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// TestThroughput measures claims and completions, on a database that keeps what
// it has committed (fsync). `make bench-jobs` is the full count; bench/baseline
// has what came out, and docs/adr/0099 what it led to.
func TestThroughput(t *testing.T) {
	jobs := fromEnv(t, "MUSTER_BENCH_JOBS", 0)
	url := devdb.TestURL(t)
	if jobs == 0 {
		jobs = 300
	} else {
		server := devdb.New(devdb.Options{Dir: t.TempDir()})
		require.NoError(t, server.Start(t.Context()))
		t.Cleanup(server.Stop)
		url = server.URL()
		require.NoError(t, db.Migrate(t.Context(), url))
		t.Logf("%s, fsync on, %d cores shared with the workers; 16 workers, %d jobs", server.About(), runtime.NumCPU(), jobs)
	}
	d := devdb.Connect(t, url, db.Config{MaxConns: 20})
	q := New(d, Config{})
	for _, c := range []struct {
		batch, n int
		pattern  string
	}{{1, jobs / 4, "4,217/s"}, {20, jobs, "9,168/s"}} {
		began := time.Now()
		stock(t, d, "raw", c.n)
		t.Logf("%-46s %7.0f/s", "enqueued, 1,000 in a transaction", float64(c.n)/time.Since(began).Seconds())
		k := &kind{name: "raw", Handler: Handler{Workers: c.batch}}
		var done atomic.Int64
		began = time.Now()
		var workers sync.WaitGroup
		for w := range 16 {
			workers.Go(func() {
				for shard := w; done.Load() < int64(c.n); shard++ {
					got, err := q.claim(t.Context(), k, shard%shards, c.batch)
					if err != nil {
						t.Errorf("claim: %v", err)
						return
					}
					var finishes []finish
					for _, j := range got {
						finishes = append(finishes, finish{lease: &lease{work: j.Work, kind: k}, outcome: "done"})
					}
					if err := q.writeFinishes(t.Context(), finishes); err != nil {
						t.Errorf("done: %v", err)
						return
					}
					done.Add(int64(len(got)))
				}
			})
		}
		workers.Wait()
		t.Logf("%-46s %7.0f/s (the pattern alone, without payloads or kinds: %s)", fmt.Sprintf("claimed and done by 16 workers, batches of %d", c.batch),
			float64(done.Load())/time.Since(began).Seconds(), c.pattern)
	}
	for _, workers := range []int{4, 16, 64} {
		exec(t, d, `DELETE FROM jobs`)
		stock(t, d, "job", jobs)
		q := New(d, Config{})
		var left atomic.Int64
		left.Store(int64(jobs))
		all := make(chan struct{})
		q.Handle("job", Handler{Workers: workers, Do: func(context.Context, Work) error {
			if left.Add(-1) == 0 {
				close(all)
			}
			return nil
		}})
		began := time.Now()
		require.NoError(t, q.Start(t.Context()))
		<-all
		q.Stop()
		t.Logf("%-46s %7.0f/s", fmt.Sprintf("by one Queue, %d workers, jobs that do nothing", workers), float64(jobs)/time.Since(began).Seconds())
	}
	var n int
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, r db.Querier) error {
		return r.QueryRow(ctx, `SELECT count(*) FROM jobs`).Scan(&n)
	}))
	require.Zero(t, n)
}

func stock(t *testing.T, d *db.DB, kind string, n int) {
	for n > 0 {
		batch := make([]Job, min(n, 1000))
		for i := range batch {
			batch[i] = Job{Kind: kind, Payload: i}
		}
		n -= len(batch)
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return Enqueue(ctx, tx, batch...) }))
	}
	exec(t, d, `ANALYZE jobs`)
}
