package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/obs"
)

// Job is work to be done.
type Job struct {
	Kind string
	// Key, if not empty, is unique among the kind's jobs that wait or run: another
	// one is dropped. So it is for work whose one run does for all; a run that has
	// begun doesn't see what is changed meanwhile.
	Key string
	// Payload becomes JSON, and is all that the handler gets. It is kept in clear:
	// no secrets.
	Payload any
	RunAt   time.Time // not before; zero: at once
	// MaxAttempts is how often it is begun before it is dead. Default 20, about
	// nine hours by the default back-off.
	MaxAttempts int
	User        core.UserID // optional: whom it is about, for the erasure of accounts
}

const defaultMaxAttempts = 20

// shards is how many parts the jobs of a kind are in.
const shards = 8

// Enqueue adds jobs in the caller's transaction. Queues of this process hear of
// them once it has committed, others within a second.
func Enqueue(ctx context.Context, tx pgx.Tx, jobs ...Job) error {
	if len(jobs) == 0 {
		return nil
	}
	args, err := insertArgs(ctx, jobs)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, insertJobs, args...); err != nil {
		return fmt.Errorf("enqueue %s: %w", jobs[0].Kind, err)
	}
	for _, j := range jobs {
		db.Wake(ctx, topic, j.Kind)
	}
	return nil
}

// EnqueueLater is Enqueue for a batch that goes to the database as one, and for jobs
// that wait anyway: all queues hear of them within a second.
func EnqueueLater(ctx context.Context, b *pgx.Batch, jobs ...Job) error {
	args, err := insertArgs(ctx, jobs)
	if err == nil && len(jobs) > 0 {
		b.Queue(insertJobs, args...)
	}
	return err
}

const insertJobs = `INSERT INTO jobs (id, kind, key, payload, user_id, shard, run_at, max_attempts, trace, state)
	SELECT id, kind, key, payload::JSONB, user_id, shard, coalesce(run_at, now()), attempts, $9, 'ready'
	FROM unnest($1::UUID[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::UUID[], $6::INT2[], $7::TIMESTAMPTZ[], $8::INT4[])
		AS j (id, kind, key, payload, user_id, shard, run_at, attempts)
	ON CONFLICT (kind, key) WHERE key <> '' AND state <> 'dead' DO NOTHING`

func insertArgs(ctx context.Context, jobs []Job) ([]any, error) {
	var (
		n           = len(jobs)
		ids         = make([]uuid.UUID, n)
		kinds, keys = make([]string, n), make([]string, n)
		payloads    = make([]string, n)
		users       = make([]*uuid.UUID, n)
		shard       = make([]int16, n)
		runAt       = make([]*time.Time, n)
		attempts    = make([]int32, n)
	)
	for i, j := range jobs {
		payload, err := json.Marshal(j.Payload)
		if err != nil {
			return nil, fmt.Errorf("enqueue %s: %w", j.Kind, err)
		}
		ids[i], kinds[i], keys[i], payloads[i], shard[i] = uuid.New(), j.Kind, j.Key, string(payload), int16(rand.IntN(shards))
		if j.User != (core.UserID{}) {
			users[i] = new(uuid.UUID(j.User))
		}
		if !j.RunAt.IsZero() {
			runAt[i] = &jobs[i].RunAt
		}
		attempts[i] = int32(j.MaxAttempts)
		if j.MaxAttempts <= 0 {
			attempts[i] = defaultMaxAttempts
		}
	}
	return []any{ids, kinds, keys, payloads, users, shard, runAt, attempts, obs.Carry(ctx)}, nil
}

// topic is where queues listen for what was enqueued in their process.
const topic = "jobs"

// Work is a job as its handler sees it.
type Work struct {
	ID      uuid.UUID // the same in all attempts: what makes a repetition harmless
	Kind    string
	Key     string
	Payload json.RawMessage
	Attempt int       // from 1
	Last    bool      // after this attempt it is dead, unless it succeeds
	Period  time.Time // of a schedule
	queue   *Queue
	lease   uuid.UUID
}

// Decode reads the payload into v. An error is Permanent: trying again won't help.
func (w Work) Decode(v any) error {
	if err := json.Unmarshal(w.Payload, v); err != nil {
		return Permanent(fmt.Errorf("payload: %w", err))
	}
	return nil
}

// Progress keeps a note with the job for operators. An error means that it is to
// stop: mostly that the job is somebody else's by now.
func (w Work) Progress(ctx context.Context, note string) error { return w.queue.progress(ctx, w, note) }

// ErrLeaseLost is why a job's context ends when the job is somebody else's.
var ErrLeaseLost = errors.New("the lease of the job ran out")

// permanent and later are how a handler says what is to come of its failure.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error after which no attempt will help: the job is dead at
// once.
func Permanent(err error) error { return permanent{err} }

type later struct {
	err  error
	wait time.Duration
}

func (l later) Error() string {
	if l.err == nil {
		return "not now"
	}
	return l.err.Error()
}

func (l later) Unwrap() error { return l.err }

// Later marks an error after which the next attempt comes in d, instead of when
// the back-off says. A nil err is no failure, it is just not time yet: the
// attempt doesn't count.
func Later(err error, d time.Duration) error { return later{err, d} }
