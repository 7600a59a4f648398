package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Each statement here is a transaction of its own, READ COMMITTED, and can be
// repeated: what was claimed and not heard of lapses, and finishes name a token.
var (
	readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	readOnly      = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}
)

// names lists the kinds that are handled here.
func (q *Queue) names() []string {
	names := make([]string, 0, len(q.kinds))
	for name := range q.kinds {
		names = append(names, name)
	}
	return names
}

// dueShards says of which kinds there are jobs to claim, and in which shards.
func (q *Queue) dueShards(ctx context.Context) (map[string]uint32, error) {
	var due map[string]uint32
	err := q.db.InOneTrip(ctx, readOnly, func(b *pgx.Batch) {
		due = map[string]uint32{}
		b.Queue(`SELECT k, s FROM unnest($1::TEXT[]) AS k, generate_series(0, $2::INT4) AS s
			WHERE EXISTS (SELECT 1 FROM jobs WHERE kind = k AND shard = s AND state = 'ready' AND run_at <= now())`,
			q.names(), shards-1).Query(func(rows pgx.Rows) error {
			var name string
			var shard int
			_, err := pgx.ForEachRow(rows, []any{&name, &shard}, func() error {
				due[name] |= 1 << shard
				return nil
			})
			return err
		})
	})
	return due, err
}

// claimed is a job of a claim.
type claimed struct {
	Work
	max    int
	trace  string
	waited time.Duration
	now    time.Time // the database's, at the claim
	until  time.Time // of the lease, by the process's clock
}

// claim leases at most n due jobs of one shard.
func (q *Queue) claim(ctx context.Context, k *kind, shard, n int) ([]claimed, error) {
	if n == 0 {
		return nil, nil
	}
	var jobs []claimed
	token, until := uuid.New(), time.Now().Add(q.cfg.Lease)
	err := q.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		jobs = nil
		b.Queue(`WITH picked AS (
				SELECT id FROM jobs WHERE kind = $1 AND shard = $2 AND state = 'ready' AND run_at <= now()
				ORDER BY run_at LIMIT $3 FOR UPDATE SKIP LOCKED)
			UPDATE jobs SET state = 'running', attempts = attempts + 1, lease = $4, leased_until = now() + $5 * INTERVAL '1 second'
			FROM picked WHERE jobs.id = picked.id
			RETURNING jobs.id, jobs.key, jobs.payload::TEXT, jobs.trace, jobs.attempts, jobs.max_attempts, jobs.run_at, now()`,
			k.name, shard, n, token, q.cfg.Lease.Seconds()).Query(func(rows pgx.Rows) error {
			var c claimed
			var payload string
			var runAt time.Time
			_, err := pgx.ForEachRow(rows, []any{&c.ID, &c.Key, &payload, &c.trace, &c.Attempt, &c.max, &runAt, &c.now}, func() error {
				c.Kind, c.Payload, c.queue, c.lease = k.name, []byte(payload), q, token
				c.waited, c.Last, c.until = c.now.Sub(runAt), c.Attempt >= c.max, until
				if k.schedule != nil {
					var err error
					if c.Period, err = time.Parse(time.RFC3339Nano, c.Key); err != nil {
						return fmt.Errorf("period of %s: %w", k.name, err)
					}
				}
				jobs = append(jobs, c)
				return nil
			})
			return err
		})
	})
	return jobs, err
}

// extend has leases hold on, and returns those that do.
func (q *Queue) extend(ctx context.Context, ids, tokens []uuid.UUID) (map[uuid.UUID]bool, error) {
	var held map[uuid.UUID]bool
	err := q.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		held = map[uuid.UUID]bool{}
		b.Queue(`UPDATE jobs SET leased_until = now() + $3 * INTERVAL '1 second'
			FROM unnest($1::UUID[], $2::UUID[]) AS l (id, lease)
			WHERE jobs.id = l.id AND jobs.lease = l.lease AND jobs.state = 'running' RETURNING jobs.id`,
			ids, tokens, q.cfg.Lease.Seconds()).Query(func(rows pgx.Rows) error {
			var id uuid.UUID
			_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
				held[id] = true
				return nil
			})
			return err
		})
	})
	return held, err
}

// free makes jobs ready whose lease ran out; one that keeps killing its process
// comes back ever later.
func (q *Queue) free(ctx context.Context) error {
	return q.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		b.Queue(`WITH lapsed AS (
				SELECT id FROM jobs WHERE state = 'running' AND leased_until < now() LIMIT 1000 FOR UPDATE SKIP LOCKED)
			UPDATE jobs SET state = 'ready', lease = NULL, leased_until = NULL, last_error = 'its process did not say how it ended',
				run_at = now() + least(attempts * attempts, 3600) * INTERVAL '1 second'
			FROM lapsed WHERE jobs.id = lapsed.id`)
	})
}

func (q *Queue) progress(ctx context.Context, w Work, note string) error {
	held := false
	err := q.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		b.Queue(`UPDATE jobs SET note = $3 WHERE id = $1 AND lease = $2 AND state = 'running' RETURNING true`,
			w.ID, w.lease, note).Query(func(rows pgx.Rows) error {
			held = rows.Next()
			rows.Close()
			return rows.Err()
		})
	})
	if err == nil && !held {
		err = ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("progress of %s: %w", w.Kind, err)
	}
	return nil
}

// writeFinishes writes how jobs ended, of those that are still ours.
func (q *Queue) writeFinishes(ctx context.Context, finishes []finish) error {
	var done, doneLeases, again, againLeases []uuid.UUID
	var waits []float64
	var back []int32
	var errs []string
	return q.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		done, doneLeases, again, againLeases, waits, back, errs = nil, nil, nil, nil, nil, nil, nil
		for _, f := range finishes {
			w := f.lease.work
			switch {
			case f.outcome == "lost" || f.dead: // not ours, or written
			case f.period != "":
				b.Queue(`WITH gone AS (DELETE FROM jobs WHERE id = $1 AND lease = $2 AND state = 'running' RETURNING kind)
					UPDATE job_periods SET outcome = $4, finished_at = now()
					WHERE name = (SELECT kind FROM gone) AND period = $3`, w.ID, w.lease, w.Period, f.period)
			case f.again:
				again, againLeases = append(again, w.ID), append(againLeases, w.lease)
				waits, back, errs = append(waits, f.wait.Seconds()), append(back, f.uncounted), append(errs, f.text())
			default:
				done, doneLeases = append(done, w.ID), append(doneLeases, w.lease)
			}
		}
		if len(done) > 0 {
			b.Queue(`DELETE FROM jobs USING unnest($1::UUID[], $2::UUID[]) AS f (id, lease)
				WHERE jobs.id = f.id AND jobs.lease = f.lease AND jobs.state = 'running'`, done, doneLeases)
		}
		if len(again) > 0 {
			b.Queue(`UPDATE jobs SET state = 'ready', lease = NULL, leased_until = NULL, attempts = jobs.attempts - f.back,
					run_at = now() + f.wait * INTERVAL '1 second', last_error = f.error
				FROM unnest($1::UUID[], $2::UUID[], $3::FLOAT8[], $4::INT4[], $5::TEXT[]) AS f (id, lease, wait, back, error)
				WHERE jobs.id = f.id AND jobs.lease = f.lease AND jobs.state = 'running'`, again, againLeases, waits, back, errs)
		}
	})
}

// bury moves a job to the dead letter.
func (q *Queue) bury(ctx context.Context, f *finish) error {
	l := f.lease
	return q.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE jobs SET state = 'dead', lease = NULL, leased_until = NULL, run_at = now(), last_error = $3
			WHERE id = $1 AND lease = $2 AND state = 'running'`, l.work.ID, l.work.lease, f.text())
		if err != nil {
			return fmt.Errorf("bury %s: %w", l.kind.name, err)
		}
		if tag.RowsAffected() == 0 {
			return ErrLeaseLost
		}
		if l.kind.schedule != nil {
			if _, err := tx.Exec(ctx, `UPDATE job_periods SET outcome = 'dead', finished_at = now() WHERE name = $1 AND period = $2`,
				l.kind.name, l.work.Period); err != nil {
				return fmt.Errorf("bury %s: %w", l.kind.name, err)
			}
		}
		if l.kind.Dead == nil {
			return nil
		}
		return l.kind.Dead(ctx, tx, l.work, f.err)
	})
}

// counts reads what the gauges show.
func (q *Queue) counts(ctx context.Context) (dead map[string]float64, oldest map[string]float64, succeeded map[string]time.Time, err error) {
	var scheduled []string
	for _, s := range q.schedules {
		scheduled = append(scheduled, s.Name)
	}
	err = q.db.InOneTrip(ctx, readOnly, func(b *pgx.Batch) {
		dead, oldest, succeeded = map[string]float64{}, map[string]float64{}, map[string]time.Time{}
		b.Queue(`SELECT kind, count(*) FROM jobs WHERE state = 'dead' GROUP BY kind`).Query(into(dead))
		b.Queue(`SELECT k, extract(epoch FROM now() - min(o.run_at))::FLOAT8
			FROM unnest($1::TEXT[]) AS k, generate_series(0, $2::INT4) AS s, LATERAL (
				SELECT run_at FROM jobs WHERE kind = k AND shard = s AND state = 'ready' AND run_at <= now() ORDER BY run_at LIMIT 1) AS o
			GROUP BY k`, q.names(), shards-1).Query(into(oldest))
		b.Queue(`SELECT n, p.finished_at FROM unnest($1::TEXT[]) AS n, LATERAL (
				SELECT finished_at FROM job_periods WHERE name = n AND outcome = 'done' ORDER BY period DESC LIMIT 1) AS p`,
			scheduled).Query(into(succeeded))
	})
	return dead, oldest, succeeded, err
}

// into reads rows of a name and a value.
func into[V any](m map[string]V) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var name string
		var v V
		_, err := pgx.ForEachRow(rows, []any{&name, &v}, func() error {
			m[name] = v
			return nil
		})
		return err
	}
}
