package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// asWorker has this binary be a worker process on the database that it names.
const asWorker = "MUSTER_JOBS_WORKER"

func TestMain(m *testing.M) {
	if url := os.Getenv(asWorker); url != "" {
		if err := worker(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	proveTick = 500 * time.Millisecond // of the schedule
	proveJump = 10 * time.Second       // clocks are off by up to so much
	ready     = "ready"                // is what a worker says when it works
)

// worker runs jobs until it is told to stop, or killed. Its clock jumps.
func worker(url string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { // it doesn't outlive the test
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	d, err := db.Open(ctx, url, db.Config{MaxConns: 6})
	if err != nil {
		return err
	}
	defer d.Close()
	var mu sync.Mutex
	var off time.Duration
	q := New(d, Config{
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1})),
		Lease: 2 * time.Second, Poll: 200 * time.Millisecond, Workers: 16,
		Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			if rand.IntN(3) == 0 {
				off = rand.N(2*proveJump) - proveJump
			}
			return time.Now().Add(off)
		},
	})
	q.Handle("prove", Handler{
		Backoff: func(int) time.Duration { return 10 * time.Millisecond },
		Do: func(ctx context.Context, w Work) error {
			var n int
			if err := w.Decode(&n); err != nil {
				return err
			}
			switch {
			case n%100 == 7:
				return Permanent(errors.New("undeliverable"))
			case n%20 == 3 && w.Attempt == 1:
				return errors.New("not at the first attempt")
			}
			return d.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
				b.Queue(`INSERT INTO prove_sink (n, job) VALUES ($1, $2) ON CONFLICT (n) DO UPDATE SET times = prove_sink.times + 1`, n, w.ID)
			})
		},
	})
	q.Schedule(Schedule{Name: "tick", Every: proveTick, Late: LateEach, Do: func(ctx context.Context, w Work) error {
		return d.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
			b.Queue(`INSERT INTO prove_periods (period, job) VALUES ($1, $2) ON CONFLICT (period) DO UPDATE SET times = prove_periods.times + 1`, w.Period, w.ID)
		})
	}})
	if err := q.Start(ctx); err != nil {
		return err
	}
	fmt.Print(ready)
	<-ctx.Done()
	q.Stop()
	return nil
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// begin starts a worker process and waits until it works. It ends with the test:
// nobody holds its stdin open then.
func begin(t *testing.T, url string) *osexec.Cmd {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asWorker+"="+url)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = io.ReadFull(out, make([]byte, len(ready)))
	require.NoError(t, err, "a worker did not start")
	return cmd
}

// Five worker processes with clocks that jump are killed at random moments. Each
// job reaches the sink, whose row it is, or is in the dead letter; each period
// runs. What was rolled back does neither.
func TestNothingIsLostOrDoubledByKills(t *testing.T) {
	const workers = 5
	jobs, periods := fromEnv(t, "MUSTER_PROVE_JOBS", 2500), fromEnv(t, "MUSTER_PROVE_PERIODS", 5)
	url := devdb.TestURL(t)
	d := devdb.Connect(t, url, db.Config{MaxConns: 8})
	exec(t, d, `CREATE TABLE prove_sink (n INT8 PRIMARY KEY, job UUID NOT NULL, times INT8 NOT NULL DEFAULT 1)`)
	exec(t, d, `CREATE TABLE prove_periods (period TIMESTAMPTZ PRIMARY KEY, job UUID NOT NULL, times INT8 NOT NULL DEFAULT 1)`)

	began := time.Now()
	procs := make([]*osexec.Cmd, workers)
	for i := range procs {
		procs[i] = begin(t, url)
	}

	var enqueuing sync.WaitGroup
	const writers = 4
	for w := range writers {
		enqueuing.Go(func() {
			for n := w; n < jobs; {
				var batch []Job
				for range 1 + rand.IntN(40) {
					if n < jobs {
						batch = append(batch, Job{Kind: "prove", Payload: n, RunAt: time.Now().Add(rand.N(time.Second) - 500*time.Millisecond)})
						n += writers
					}
				}
				err := d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return Enqueue(ctx, tx, batch...) })
				if err != nil {
					t.Errorf("enqueue: %v", err)
					return
				}
				never := errors.New("rolled back")
				err = d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					return errors.Join(never, Enqueue(ctx, tx, Job{Kind: "prove", Payload: jobs + n}))
				})
				if !errors.Is(err, never) {
					t.Errorf("roll back: %v", err)
				}
			}
		})
	}
	enqueued := make(chan struct{})
	go func() { enqueuing.Wait(); close(enqueued) }()

	count := func(sql string) (n int) {
		require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error { return q.QueryRow(ctx, sql).Scan(&n) }))
		return n
	}
	kills := 0
	var allDone time.Duration
	deadline := time.Now().Add(time.Duration(60+jobs/50+periods) * time.Second)
	for {
		time.Sleep(200*time.Millisecond + rand.N(500*time.Millisecond)) // a random moment
		i := rand.IntN(workers)
		require.NoError(t, procs[i].Process.Kill())
		_ = procs[i].Wait()
		procs[i] = begin(t, url)
		kills++
		require.True(t, time.Now().Before(deadline), "it takes too long: %d jobs are left, %d in the sink", count(`SELECT count(*) FROM jobs WHERE state <> 'dead'`), count(`SELECT count(*) FROM prove_sink`))
		select {
		case <-enqueued:
		default:
			continue
		}
		if allDone == 0 && count(`SELECT count(*) FROM jobs WHERE kind = 'prove' AND state <> 'dead'`) == 0 {
			allDone = time.Since(began)
		}
		if allDone > 0 && count(`SELECT count(*) FROM job_periods WHERE outcome = 'done'`) >= periods {
			break
		}
	}

	// The rest ends in peace, and another one does what they left.
	for _, p := range procs {
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	}
	for _, p := range procs {
		require.NoError(t, p.Wait(), "SIGTERM drains")
	}
	last := begin(t, url)
	require.Eventually(t, func() bool {
		return count(`SELECT count(*) FROM jobs WHERE state <> 'dead' AND kind = 'prove'`) == 0
	}, time.Minute, 100*time.Millisecond)
	require.NoError(t, last.Process.Signal(syscall.SIGTERM))
	require.NoError(t, last.Wait())

	dead := 0
	for n := range jobs {
		if n%100 == 7 {
			dead++
		}
	}
	require.Equal(t, jobs-dead, count(`SELECT count(*) FROM prove_sink`))
	require.Zero(t, count(fmt.Sprintf(`SELECT count(*) FROM prove_sink WHERE n < 0 OR n >= %d OR n %% 100 = 7`, jobs)))
	require.Equal(t, dead, count(`SELECT count(*) FROM jobs WHERE kind = 'prove' AND state = 'dead'`))
	require.Equal(t, dead, count(fmt.Sprintf(`SELECT count(DISTINCT payload) FROM jobs WHERE state = 'dead' AND payload::TEXT::INT8 %% 100 = 7 AND payload::TEXT::INT8 < %d`, jobs)))
	// One row per period, none left out, and each ran.
	rows := count(`SELECT count(*) FROM job_periods WHERE outcome <> 'first'`)
	require.GreaterOrEqual(t, rows, periods)
	span := count(`SELECT round(extract(epoch FROM max(period) - min(period)) * 1000)::INT8 FROM job_periods WHERE outcome <> 'first'`)
	require.Equal(t, span/int(proveTick.Milliseconds())+1, rows)
	require.Zero(t, count(`SELECT count(*) FROM job_periods WHERE outcome NOT IN ('first', 'done', 'due')`))
	require.Equal(t, count(`SELECT count(*) FROM jobs WHERE kind = 'tick'`), count(`SELECT count(*) FROM job_periods WHERE outcome = 'due'`), "what is not done yet has its job")
	require.Zero(t, count(`SELECT count(*) FROM job_periods j WHERE outcome = 'done' AND NOT EXISTS (SELECT 1 FROM prove_periods p WHERE p.period = j.period)`))
	t.Logf("%d jobs in %.1f s (%.0f/s) by %d processes of which %d were killed: %d in the sink, %d of them delivered again after a kill, %d dead; %d periods done, %d of them again after a kill",
		jobs, allDone.Seconds(), float64(jobs)/allDone.Seconds(), workers, kills,
		count(`SELECT count(*) FROM prove_sink`), count(`SELECT count(*) FROM prove_sink WHERE times > 1`), dead,
		count(`SELECT count(*) FROM job_periods WHERE outcome = 'done'`), count(`SELECT count(*) FROM prove_periods WHERE times > 1`))
}
