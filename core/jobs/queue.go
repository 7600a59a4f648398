package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
)

// Config holds what is optional about a Queue; its zero value works.
type Config struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Tracer  obs.Tracer
	// Workers is how many jobs of a kind run at once here, unless its handler says
	// otherwise. Default 4.
	Workers int
	// Lease is for how long a claim holds without being extended: so long after the
	// death of a process its jobs are another's. Default 30 s.
	Lease time.Duration
	// Poll is how often the table is looked at for what other processes enqueued and
	// what comes due. Default 1 s.
	Poll time.Duration
	// Drain is how long Stop lets running jobs go on. Default 10 s.
	Drain time.Duration
	// Now replaces the database's clock for schedules, in tests.
	Now func() time.Time
}

// Handler does the jobs of a kind.
type Handler struct {
	// Do does the job. Its ctx ends with Timeout, when the lease is lost, and when
	// the queue has been stopped for too long.
	Do      func(ctx context.Context, w Work) error
	Timeout time.Duration // default 1 min
	Workers int           // at once on this node; default Config.Workers
	// Backoff is the wait after so many attempts. Default: 1 s, doubled each time up
	// to an hour, a random half of it.
	Backoff func(attempt int) time.Duration
	// Dead, if there is one, runs in the transaction in which the job becomes dead.
	Dead func(ctx context.Context, tx pgx.Tx, w Work, err error) error
}

// Queue claims jobs and runs their handlers. It is a run.Service.
type Queue struct {
	db      *db.DB
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	life    run.Lifecycle

	kinds     map[string]*kind // not changed after Start
	schedules []Schedule       // likewise
	started   atomic.Bool

	finished chan finish    // to the one that writes them
	running  sync.WaitGroup // jobs whose finish isn't written

	mu     sync.Mutex // guards leases
	leases map[uuid.UUID]*lease
}

// kind is one kind's handler and what is claimed of it here.
type kind struct {
	Handler
	name     string
	schedule *Schedule     // nil: none
	due      atomic.Uint32 // shards in which there may be something, a bit each
	signal   chan struct{}
	slots    chan struct{} // holds one for each job claimed and not finished
	first    int           // the shard that is claimed of next
}

// New returns a queue; give it handlers and schedules, then start it.
func New(d *db.DB, cfg Config) *Queue {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Workers = cmp.Or(max(cfg.Workers, 0), 4)
	cfg.Lease = cmp.Or(cfg.Lease, 30*time.Second)
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	cfg.Drain = cmp.Or(cfg.Drain, 10*time.Second)
	return &Queue{
		db: d, cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Metrics), kinds: map[string]*kind{},
		finished: make(chan finish), leases: map[uuid.UUID]*lease{},
	}
}

// Handle says who does the jobs of a kind. Call it before Start, once a kind.
func (q *Queue) Handle(name string, h Handler) { q.handle(name, h, nil) }

func (q *Queue) handle(name string, h Handler, s *Schedule) {
	switch {
	case q.started.Load():
		panic("jobs: Handle after Start")
	case q.kinds[name] != nil:
		panic(fmt.Sprintf("jobs: two handlers for %q", name))
	case h.Do == nil:
		panic(fmt.Sprintf("jobs: %q has no Do", name))
	}
	h.Timeout = cmp.Or(h.Timeout, time.Minute)
	h.Workers = cmp.Or(max(h.Workers, 0), q.cfg.Workers)
	if h.Backoff == nil {
		h.Backoff = backoff
	}
	q.kinds[name] = &kind{Handler: h, name: name, schedule: s, signal: make(chan struct{}, 1), slots: make(chan struct{}, h.Workers)}
	q.metrics.know(name)
}

// backoff is the default: 1 s, doubled up to an hour, and of that a random half.
func backoff(attempt int) time.Duration {
	bound := min(time.Second<<min(attempt-1, 12), time.Hour)
	return bound/2 + rand.N(bound/2)
}

// Start begins to claim and to plan.
func (q *Queue) Start(ctx context.Context) error {
	return q.life.Start(ctx, func(ctx context.Context) error {
		q.started.Store(true)
		stop := q.db.OnWake(topic, q.wake)
		work, end := context.WithCancel(context.WithoutCancel(ctx)) // jobs go on while the queue drains
		written := make(chan struct{})
		q.life.Go(func() { // the last to end: everybody's finishes go through it
			defer close(written)
			q.write(work)
		})
		var claimers sync.WaitGroup
		for _, k := range q.kinds {
			claimers.Add(1)
			q.life.Go(func() {
				defer claimers.Done()
				q.claimer(ctx, work, k)
			})
		}
		q.life.Go(func() { q.keepLeases(work, written) })
		q.life.Go(func() { q.poll(ctx) })
		q.life.Go(func() { q.plan(ctx) })
		q.life.Go(func() { q.reap(ctx) })
		q.life.Go(func() { q.count(ctx) })
		q.life.Go(func() {
			<-ctx.Done()
			stop()
			claimers.Wait() // now nothing new begins
			late := time.AfterFunc(q.cfg.Drain, end)
			q.running.Wait()
			late.Stop()
			close(q.finished)
			<-written
			end()
		})
		return nil
	})
}

// Stop claims nothing more, lets running jobs end, and gives back those that
// don't in time: another node does them at once.
func (q *Queue) Stop() { q.life.Stop(nil) }

// wake has a kind looked for now, whatever the poll says.
func (q *Queue) wake(name string) {
	if k := q.kinds[name]; k != nil {
		k.look(1<<shards - 1)
	}
}

// look has the kind's claimer look into shards.
func (k *kind) look(mask uint32) {
	k.due.Or(mask)
	select {
	case k.signal <- struct{}{}:
	default:
	}
}

// claimer claims jobs of one kind while there are some, and runs them.
func (q *Queue) claimer(ctx, work context.Context, k *kind) {
	for {
		select {
		case <-k.signal:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			shard, ok := k.next()
			if !ok {
				break
			}
			n := k.reserve(ctx)
			claimed, err := q.claimFor(ctx, work, k, shard, n)
			for range n - len(claimed) {
				<-k.slots
			}
			if err != nil {
				if ctx.Err() == nil {
					q.log.WarnContext(ctx, "claim jobs", "kind", k.name, "err", err)
				}
				k.due.Store(0) // until the next poll
				break
			}
			if len(claimed) == n {
				k.due.Or(1 << shard) // there may be more
			}
			for _, c := range claimed {
				q.running.Add(1)
				l := q.hold(work, k, c)
				q.life.Go(func() { q.run(l) })
			}
		}
	}
}

// claimFor claims, to the end also when the queue is stopped meanwhile: what was
// claimed and not heard of would wait for its lease to run out, and count as begun.
func (q *Queue) claimFor(ctx, work context.Context, k *kind, shard, n int) ([]claimed, error) {
	if ctx.Err() != nil {
		return nil, nil
	}
	work, cancel := context.WithCancel(work)
	defer cancel()
	defer context.AfterFunc(ctx, func() { // unless the database doesn't answer
		time.AfterFunc(min(q.cfg.Lease, 2*time.Second), cancel)
	})()
	return q.claim(work, k, shard, n)
}

// next takes a shard to look into, each in turn.
func (k *kind) next() (shard int, ok bool) {
	for i := range shards {
		shard = (k.first + i) % shards
		if bit := uint32(1) << shard; k.due.And(^bit)&bit != 0 {
			k.first = shard + 1
			return shard, true
		}
	}
	return 0, false
}

// fill is how long a claimer waits for more free workers before it claims for a
// few: short jobs end by the dozen, and a claim costs as much for one.
const fill = 2 * time.Millisecond

// reserve waits until a worker is free, and takes all that are.
func (k *kind) reserve(ctx context.Context) int {
	select {
	case k.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	n := 1
	for wait := time.After(fill); n < cap(k.slots); n++ {
		select {
		case k.slots <- struct{}{}:
			continue
		default:
		}
		if n >= cap(k.slots)/2 {
			return n
		}
		select {
		case k.slots <- struct{}{}:
		case <-wait:
			return n
		case <-ctx.Done():
			return n
		}
	}
	return n
}

// errStopped is why a job's context ends when the queue has been stopped and
// waits no longer.
var errStopped = errors.New("the queue is stopping")

// run runs one job and says how it ended.
func (q *Queue) run(l *lease) {
	k := l.kind
	began := time.Now()
	q.metrics.lag.WithLabelValues(k.name).Observe(max(l.waited, 0).Seconds())
	// Its lines and spans belong to the request that enqueued it.
	ctx := obs.With(obs.Resume(l.ctx, l.trace), slog.String("job", l.work.ID.String()))
	ctx, span := obs.Root(ctx, q.cfg.Tracer, "job "+k.name, trace.WithSpanKind(trace.SpanKindConsumer))
	err := q.attempt(ctx, l)
	obs.End(span, err)

	f := finish{lease: l, err: err, took: time.Since(began)}
	if f.decide(); f.dead {
		q.die(&f)
	}
	q.finished <- f
}

// die moves a job to the dead letter. If that can't be, it is tried again.
func (q *Queue) die(f *finish) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.lease.ctx), q.cfg.Lease)
	defer cancel()
	switch err := q.bury(ctx, f); {
	case errors.Is(err, ErrLeaseLost):
		f.outcome = "lost"
	case err != nil:
		q.log.Error("a job can't be moved to the dead letter", "kind", f.lease.kind.name, "job", f.lease.work.ID, "err", err)
		f.outcome, f.dead, f.again, f.wait = "failed", false, true, f.lease.kind.Backoff(f.lease.work.Attempt)
	}
}

// attempt calls the handler, unless it is too late for that.
func (q *Queue) attempt(ctx context.Context, l *lease) (err error) {
	w, k := l.work, l.kind
	if l.exhausted {
		return Permanent(fmt.Errorf("begun %d times, and its process died each time or could not say how it ended", w.Attempt-1))
	}
	if s := k.schedule; s != nil && s.tooLate(w.Period, l.now) {
		return errMissed
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			q.log.ErrorContext(ctx, "a job panicked", "kind", k.name, "job", w.ID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, k.Timeout)
	defer cancel()
	if err = k.Do(ctx, w); err != nil && errors.Is(context.Cause(l.ctx), errStopped) {
		return errStopped
	}
	return err
}

// poll looks at the table every now and then for what is due.
func (q *Queue) poll(ctx context.Context) {
	if len(q.kinds) == 0 {
		return
	}
	for wait := time.Duration(0); ; wait = q.cfg.Poll/2 + rand.N(q.cfg.Poll) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		due, err := q.dueShards(ctx)
		if err != nil {
			if ctx.Err() == nil {
				q.log.WarnContext(ctx, "look for jobs", "err", err)
			}
			continue
		}
		for name, mask := range due {
			q.kinds[name].look(mask)
		}
	}
}
