package jobs

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

type bundle struct {
	*Queue
	t  *testing.T
	db *db.DB
}

var db4 = db.Config{MaxConns: 4}

var quick = Config{Poll: 20 * time.Millisecond, Lease: time.Second, Drain: 5 * time.Second}

// setup returns a queue; it starts with start.
func setup(t *testing.T, cfg Config) *bundle {
	d := devdb.Test(t)
	return &bundle{New(d, cfg), t, d}
}

func (b *bundle) start() {
	b.t.Helper()
	require.NoError(b.t, b.Start(b.t.Context()))
	b.t.Cleanup(b.Stop)
}

func (b *bundle) enqueue(jobs ...Job) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return Enqueue(ctx, tx, jobs...)
	}))
}

func (b *bundle) list(state string) []Row {
	b.t.Helper()
	rows, err := List(b.t.Context(), b.db, Filter{}, state, 1000)
	require.NoError(b.t, err)
	return rows
}

func (b *bundle) eventually(ok func() bool) {
	b.t.Helper()
	require.Eventually(b.t, ok, 20*time.Second, 5*time.Millisecond)
}

// seen is what handlers were given.
type seen struct {
	mu   sync.Mutex
	work []Work
}

func (s *seen) add(w Work) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work = append(s.work, w)
	return len(s.work)
}

func (s *seen) all() []Work {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.work)
}

func TestAJobIsDoneOnceItsTransactionHasCommitted(t *testing.T) {
	b, s := setup(t, quick), &seen{}
	b.Handle("mail", Handler{Do: func(_ context.Context, w Work) error { s.add(w); return nil }})
	b.start()

	require.Error(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, Enqueue(ctx, tx, Job{Kind: "mail", Payload: "rolled back"}))
		return errors.New("no")
	}))
	user := core.UserID(uuid.New())
	b.enqueue(Job{Kind: "mail", Payload: map[string]int{"n": 1}, User: user}, Job{Kind: "mail", Payload: map[string]int{"n": 2}},
		Job{Kind: "elsewhere", Payload: nil, User: user})
	b.eventually(func() bool { return len(s.all()) == 2 && len(b.list("")) == 1 })
	for _, w := range s.all() {
		var payload struct{ N int }
		require.NoError(t, w.Decode(&payload))
		require.Contains(t, []int{1, 2}, payload.N)
		require.Equal(t, 1, w.Attempt)
		require.False(t, w.Last)
	}
	left := b.list("")
	require.Equal(t, "elsewhere", left[0].Kind, "a kind without a handler waits for a node that has one")
	require.Equal(t, "ready", left[0].State)
}

// The poll takes an hour here: only the hint can be so quick.
func TestTheQueueOfTheProcessHearsOfACommit(t *testing.T) {
	b, s := setup(t, Config{Poll: time.Hour}), &seen{}
	b.Handle("mail", Handler{Do: func(_ context.Context, w Work) error { s.add(w); return nil }})
	b.start()
	for n := range 3 {
		b.enqueue(Job{Kind: "mail", Payload: n})
		b.eventually(func() bool { return len(s.all()) == n+1 })
	}
}

func TestAKeyIsUniqueAmongThoseAlive(t *testing.T) {
	b := setup(t, quick)
	b.enqueue(Job{Kind: "sum", Key: "a", Payload: 1}, Job{Kind: "sum", Key: "a", Payload: 2}, Job{Kind: "sum", Key: "b"}, Job{Kind: "sum"}, Job{Kind: "sum"})
	b.enqueue(Job{Kind: "sum", Key: "a", Payload: 3}, Job{Kind: "other", Key: "a"})
	require.Len(t, b.list("ready"), 5)

	b.Handle("sum", Handler{Do: func(context.Context, Work) error { return Permanent(errors.New("never")) }})
	b.start()
	b.eventually(func() bool { return len(b.list("dead")) == 4 })
	b.Stop()
	b.enqueue(Job{Kind: "sum", Key: "a"}) // the dead one is in nobody's way
	require.Len(t, b.list("ready"), 2)
	var dead Row
	for _, r := range b.list("dead") {
		if r.Key == "a" {
			dead = r
		}
	}
	_, err := Retry(t.Context(), b.db, Filter{ID: dead.ID})
	require.ErrorIs(t, err, errAlive)
	n, err := Retry(t.Context(), b.db, Filter{Kind: "sum"})
	require.NoError(t, err)
	require.EqualValues(t, 3, n, "all but the one that is alive already")
}

// Two of one key may die one after the other; they are one when they are tried again.
func TestThoseOfOneKeyAreRetriedAsOne(t *testing.T) {
	b := setup(t, quick)
	for range 3 {
		b.enqueue(Job{Kind: "sum", Key: "a"})
		exec(t, b.db, `UPDATE jobs SET state = 'dead'`)
	}
	n, err := Retry(t.Context(), b.db, Filter{Kind: "sum"})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Len(t, b.list("ready"), 1)
	require.Len(t, b.list("dead"), 2)
}

// A process that was paused may claim its own job again: the run that lost it hears
// of that like any other.
func TestALeaseEndsTheOneBeforeIt(t *testing.T) {
	b := setup(t, quick)
	b.Handle("long", Handler{Do: func(context.Context, Work) error { return nil }})
	id := uuid.New()
	first := b.hold(t.Context(), b.kinds["long"], claimed{Work: Work{ID: id, lease: uuid.New()}})
	second := b.hold(t.Context(), b.kinds["long"], claimed{Work: Work{ID: id, lease: uuid.New()}})
	require.ErrorIs(t, context.Cause(first.ctx), ErrLeaseLost)
	b.release(first)
	require.NoError(t, second.ctx.Err())
	require.Same(t, second, b.leases[id])
}

// What nobody tried again in three months goes.
func TestADeadLetterIsNotKeptForever(t *testing.T) {
	b := setup(t, quick)
	b.enqueue(Job{Kind: "a"}, Job{Kind: "b"}, Job{Kind: "c"}, Job{Kind: "erase"})
	exec(t, b.db, `UPDATE jobs SET state = 'dead', run_at = now() - INTERVAL '91 days' WHERE kind IN ('a', 'erase')`)
	exec(t, b.db, `UPDATE jobs SET state = 'dead' WHERE kind = 'b'`)
	exec(t, b.db, `UPDATE jobs SET run_at = now() - INTERVAL '91 days' WHERE kind = 'c'`)
	require.NoError(t, Sweep(t.Context(), b.db, "a", "b", "c"))
	require.Len(t, b.list("dead"), 2)
	require.Len(t, b.list("ready"), 1)
}

func TestAFailedJobIsTriedAgainUntilItIsDead(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := quick
	cfg.Metrics = reg
	b, s := setup(t, cfg), &seen{}
	died := make(chan Work, 10)
	b.Handle("mail", Handler{
		Backoff: func(int) time.Duration { return time.Millisecond },
		Do: func(_ context.Context, w Work) error {
			switch s.add(w) {
			case 1:
				return Later(nil, time.Millisecond) // not counted
			case 2:
				panic("at the disco")
			case 3:
				return Later(errors.New("busy"), 2*time.Millisecond)
			}
			return errors.New("no luck \x00 \xff")
		},
		Dead: func(ctx context.Context, tx pgx.Tx, w Work, err error) error {
			require.ErrorContains(t, err, "no luck")
			require.NoError(t, Enqueue(ctx, tx, Job{Kind: "consolation"}))
			died <- w
			return nil
		},
	})
	b.enqueue(Job{Kind: "mail", MaxAttempts: 4})
	b.start()
	w := <-died
	require.Equal(t, 4, w.Attempt)
	require.True(t, w.Last)
	b.eventually(func() bool { return len(b.list("dead")) == 1 })
	dead := b.list("dead")[0]
	require.Equal(t, "no luck ? ?", dead.Error)
	require.Equal(t, 4, dead.Attempts)
	require.Len(t, b.list("ready"), 1, "the one that Dead enqueued")
	var attempts []int
	for _, w := range s.all() {
		attempts = append(attempts, w.Attempt)
		require.Equal(t, dead.ID, w.ID)
	}
	require.Equal(t, []int{1, 1, 2, 3, 4}, attempts)
	b.eventually(func() bool {
		n, err := testutil.GatherAndCount(reg, "muster_job_duration_seconds")
		return err == nil && n == 4 // done, later, failed, dead
	})

	n, err := Retry(t.Context(), b.db, Filter{ID: dead.ID})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	b.eventually(func() bool { return len(s.all()) == 9 && len(b.list("dead")) == 1 })
	n, err = Drop(t.Context(), b.db, Filter{Kind: "mail"})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Empty(t, b.list("dead"))
}

func TestAKindDoesNotHoldUpAnother(t *testing.T) {
	b, s := setup(t, quick), &seen{}
	release := make(chan struct{})
	end := sync.OnceFunc(func() { close(release) })
	b.Handle("slow", Handler{Workers: 2, Do: func(ctx context.Context, _ Work) error { <-release; return nil }})
	b.Handle("quick", Handler{Workers: 2, Do: func(_ context.Context, w Work) error { s.add(w); return nil }})
	b.start()
	t.Cleanup(end) // before the queue is stopped, which waits for them
	for range 10 {
		b.enqueue(Job{Kind: "slow"}, Job{Kind: "quick"})
	}
	b.eventually(func() bool { return len(s.all()) == 10 })
	b.eventually(func() bool { return len(b.list("running")) >= 2 }) // the second one may come later than all quick ones
	require.Len(t, b.list("running"), 2, "what can't run yet isn't claimed")
	end()
	b.eventually(func() bool { return len(b.list("")) == 0 })
}

func TestStopLetsRunningJobsEnd(t *testing.T) {
	b := setup(t, quick)
	began := make(chan struct{})
	release := make(chan struct{})
	b.Handle("mail", Handler{Workers: 1, Do: func(context.Context, Work) error { close(began); <-release; return nil }})
	b.start()
	b.enqueue(Job{Kind: "mail", RunAt: time.Now().Add(-time.Minute)})
	<-began
	b.enqueue(Job{Kind: "mail"})
	stopped := make(chan struct{})
	go func() { b.Stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Fatal("it didn't wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	<-stopped
	left := b.list("")
	require.Len(t, left, 1)
	require.Equal(t, "ready", left[0].State)
	require.Zero(t, left[0].Attempts)
}

// A claim that is under way when the queue is stopped isn't forgotten: nothing would
// run what it claimed until the lease ran out.
func TestStopForgetsNoClaim(t *testing.T) {
	b := setup(t, quick)
	var many []Job
	for range 2000 {
		many = append(many, Job{Kind: "short"})
	}
	b.enqueue(many...)
	for i := range 30 {
		q := New(b.db, quick)
		q.Handle("short", Handler{Workers: 4, Do: func(context.Context, Work) error { return nil }})
		require.NoError(t, q.Start(t.Context()))
		time.Sleep(20*time.Millisecond + time.Duration(i)*500*time.Microsecond) // any moment will do
		q.Stop()
		require.Empty(t, b.list("running"), i)
	}
}

func TestStopGivesBackWhatTakesTooLong(t *testing.T) {
	cfg := quick
	cfg.Drain = 50 * time.Millisecond
	b := setup(t, cfg)
	began := make(chan struct{})
	b.Handle("mail", Handler{Do: func(ctx context.Context, _ Work) error { close(began); <-ctx.Done(); return ctx.Err() }})
	b.start()
	b.enqueue(Job{Kind: "mail"})
	<-began
	b.Stop()
	left := b.list("ready")
	require.Len(t, left, 1)
	require.Zero(t, left[0].Attempts, "the job can't help it")
}

// A job outlives its lease by far, since that is extended; and one whose lease is
// lost hears of it and changes nothing.
func TestLeases(t *testing.T) {
	cfg := quick
	cfg.Lease = 300 * time.Millisecond
	b, s := setup(t, cfg), &seen{}
	causes := make(chan error, 10)
	release := make(chan struct{})
	b.Handle("long", Handler{Workers: 1, Do: func(ctx context.Context, w Work) error {
		if s.add(w) > 1 {
			return nil
		}
		require.NoError(t, w.Progress(ctx, "half"))
		select {
		case <-ctx.Done():
			causes <- context.Cause(ctx)
			<-release
			require.ErrorIs(t, w.Progress(context.WithoutCancel(ctx), "more"), ErrLeaseLost)
			return nil
		case <-time.After(20 * time.Second):
			return nil
		}
	}})
	b.start()
	b.enqueue(Job{Kind: "long"})
	b.eventually(func() bool { r := b.list("running"); return len(r) == 1 && r[0].Note == "half" })
	select {
	case <-causes:
		t.Fatal("the lease wasn't extended")
	case <-time.After(4 * cfg.Lease):
	}
	// Another node gets it, as if this process had been paused.
	exec(t, b.db, `UPDATE jobs SET lease = gen_random_uuid(), leased_until = now() + INTERVAL '2 seconds'`)
	require.ErrorIs(t, <-causes, ErrLeaseLost)
	close(release)
	b.eventually(func() bool { return len(s.all()) == 2 && len(b.list("")) == 0 })
	require.Equal(t, 2, s.all()[1].Attempt, "not before that one's lease had run out, too")
}

func TestAJobThatKillsItsProcessDiesItself(t *testing.T) {
	b := setup(t, quick)
	died := make(chan error, 1)
	b.Handle("poison", Handler{
		Do:   func(context.Context, Work) error { t.Error("begun too often"); return nil },
		Dead: func(_ context.Context, _ pgx.Tx, _ Work, err error) error { died <- err; return nil },
	})
	b.enqueue(Job{Kind: "poison", MaxAttempts: 3})
	exec(t, b.db, `UPDATE jobs SET state = 'running', attempts = 3, lease = gen_random_uuid(), leased_until = now() - INTERVAL '1 hour'`)
	require.NoError(t, b.free(t.Context()))
	exec(t, b.db, `UPDATE jobs SET run_at = now()`)
	b.start()
	require.ErrorContains(t, <-died, "begun 3 times")
	b.eventually(func() bool { return len(b.list("dead")) == 1 })
}

func TestAHandlerIsNotWaitedForForever(t *testing.T) {
	b := setup(t, quick)
	b.Handle("stuck", Handler{Timeout: 10 * time.Millisecond, Do: func(ctx context.Context, _ Work) error { <-ctx.Done(); return ctx.Err() }})
	b.start()
	b.enqueue(Job{Kind: "stuck", MaxAttempts: 1})
	b.eventually(func() bool { return len(b.list("dead")) == 1 })
	require.Contains(t, b.list("dead")[0].Error, "deadline")
}

func TestWrongUseIsRefused(t *testing.T) {
	q := New(nil, Config{})
	do := func(context.Context, Work) error { return nil }
	q.Handle("a", Handler{Do: do})
	require.Panics(t, func() { q.Handle("a", Handler{Do: do}) })
	require.Panics(t, func() { q.Handle("b", Handler{}) })
	require.Panics(t, func() { q.Schedule(Schedule{Name: "c", Do: do}) })
	require.Panics(t, func() { q.Schedule(Schedule{Name: "c", Do: do, Every: time.Hour, At: &Calendar{}}) })
	require.Error(t, Enqueue(t.Context(), nil, Job{Kind: "a", Payload: make(chan int)}))
}

func exec(t testing.TB, d *db.DB, sql string, args ...any) {
	t.Helper()
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}
