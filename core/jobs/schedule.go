package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// Schedule is work that comes due by the calendar. It runs once per period,
// however many nodes have it; so all of them have the same one.
type Schedule struct {
	Name  string
	Every time.Duration // either this: at multiples of it since midnight, UTC
	At    *Calendar     // or this

	Late  Late
	Grace time.Duration // for LateNever. Default 1 min

	// Do does the work of w.Period. A failure is tried again, like any job's.
	Do      func(ctx context.Context, w Work) error
	Timeout time.Duration // default 1 min
}

// Late says what becomes of periods that passed while no node was there to run
// them.
type Late int

const (
	LateOnce  Late = iota // the newest runs, for all: for work that does what there is to do
	LateEach              // each runs
	LateNever             // none runs that is older than Grace: it is pointless by then
)

// calendar is an endless row of instants.
type calendar interface{ Next(time.Time) time.Time }

func (s *Schedule) calendar() calendar {
	if s.At != nil {
		return s.At
	}
	return interval(s.Every)
}

func (s *Schedule) tooLate(period, now time.Time) bool {
	return s.Late == LateNever && now.Sub(period) > s.Grace
}

// Schedule adds a schedule. Call it before Start. Its name is a kind like any
// other, for metrics and the dead letter.
func (q *Queue) Schedule(s Schedule) {
	if (s.Every > 0) == (s.At != nil) || s.Every < 0 {
		panic(fmt.Sprintf("jobs: schedule %q needs either Every or At", s.Name))
	}
	if s.Grace <= 0 {
		s.Grace = time.Minute
	}
	q.handle(s.Name, Handler{Do: s.Do, Timeout: s.Timeout, Workers: 1}, &s)
	q.schedules = append(q.schedules, s)
}

// period is one that is due.
type period struct {
	at  time.Time
	run bool // else it is missed
}

// maxPeriods is how many periods of a schedule are planned at once, and how many
// missed ones are kept: more say nothing new.
const maxPeriods = 100

// due lists the periods after last that have come, oldest first, and how many
// there were. It is pure.
func (s *Schedule) due(last, now time.Time) (periods []period, missed int) {
	cal := s.calendar()
	for at := cal.Next(last); !at.IsZero() && !at.After(now); at = cal.Next(at) {
		if s.Late == LateEach && len(periods) == maxPeriods {
			break // the next planning goes on from here
		}
		periods = append(periods, period{at: at, run: s.Late == LateEach || s.Late == LateNever && !s.tooLate(at, now)})
		if s.Late != LateEach && len(periods) > 2*maxPeriods && !periods[maxPeriods-1].run { // runs are the newest
			for _, p := range periods[:maxPeriods] {
				if !p.run {
					missed++
				}
			}
			periods = append(periods[:0], periods[maxPeriods:]...)
		}
	}
	if n := len(periods); n > 0 && s.Late == LateOnce {
		periods[n-1].run = true
	}
	for _, p := range periods {
		if !p.run {
			missed++
		}
	}
	return periods, missed
}

// keepPeriods is for how long it is known what became of a period.
const keepPeriods = 30 * 24 * time.Hour

// look is how long a planner sleeps at most: in the meantime the database's
// clock may have jumped.
const look = 10 * time.Second

// plan makes jobs of the periods that come due.
func (q *Queue) plan(ctx context.Context) {
	if len(q.schedules) == 0 {
		return
	}
	for wait := time.Duration(0); ; {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		next, err := q.planOnce(ctx)
		if err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "plan schedules", "err", err)
		}
		// All nodes wake for the same period: they need not collide.
		wait = min(max(next, 0), q.look()) + rand.N(min(q.cfg.Poll, 100*time.Millisecond))
	}
}

func (q *Queue) look() time.Duration {
	if q.cfg.Now != nil { // a test's clock jumps all the time
		return q.cfg.Poll
	}
	return look
}

// planOnce plans what is due, and says how long there will be nothing.
func (q *Queue) planOnce(ctx context.Context) (next time.Duration, err error) {
	var names []string
	for _, s := range q.schedules {
		names = append(names, s.Name)
	}
	var now time.Time
	newest := map[string]*time.Time{}
	err = q.db.InOneTrip(ctx, readOnly, func(b *pgx.Batch) {
		b.Queue(`SELECT n, (SELECT max(period) FROM job_periods WHERE name = n) FROM unnest($1::TEXT[]) AS n`, names).Query(into(newest))
		b.Queue(`SELECT now()`).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
	})
	if err != nil {
		return q.cfg.Poll, err
	}
	if q.cfg.Now != nil {
		now = q.cfg.Now()
	}
	next = look
	var failed error
	for i := range q.schedules {
		s := &q.schedules[i]
		if last := newest[s.Name]; last != nil {
			if at := s.calendar().Next(*last); at.After(now) || at.IsZero() {
				if !at.IsZero() {
					next = min(next, at.Sub(now))
				}
				continue
			}
		}
		if err := q.planSchedule(ctx, s, now); err != nil { // it keeps no other from its own
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.Name, err))
			continue
		}
		next = 0 // it may have more, and knows no next yet
	}
	if failed != nil {
		return q.cfg.Poll, failed
	}
	return next, nil
}

// planSchedule makes rows, and jobs, of the periods of s that have come by now.
// Of nodes that do it at once one wins: it is SERIALIZABLE.
func (q *Queue) planSchedule(ctx context.Context, s *Schedule, now time.Time) error {
	var missed int
	err := q.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		missed = 0
		var last *time.Time
		if err := tx.QueryRow(ctx, `SELECT max(period) FROM job_periods WHERE name = $1`, s.Name).Scan(&last); err != nil {
			return err
		}
		if last == nil { // it begins now: what was before is none of its
			_, err := tx.Exec(ctx, `INSERT INTO job_periods (name, period, outcome) VALUES ($1, $2, 'first') ON CONFLICT DO NOTHING`, s.Name, now)
			return err
		}
		var periods []period
		if periods, missed = s.due(*last, now); len(periods) == 0 {
			return nil
		}
		var at []time.Time
		var outcomes []string
		var jobs []Job
		for _, p := range periods {
			at = append(at, p.at)
			if !p.run {
				outcomes = append(outcomes, "missed")
				continue
			}
			outcomes = append(outcomes, "due")
			jobs = append(jobs, Job{Kind: s.Name, Key: p.at.UTC().Format(time.RFC3339Nano), Payload: struct{}{}})
		}
		if _, err := tx.Exec(ctx, `INSERT INTO job_periods (name, period, outcome)
			SELECT $1, p.at, p.outcome FROM unnest($2::TIMESTAMPTZ[], $3::TEXT[]) AS p (at, outcome)`, s.Name, at, outcomes); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM job_periods WHERE name = $1 AND period < $2`, s.Name, at[0].Add(-keepPeriods)); err != nil {
			return err
		}
		return Enqueue(ctx, tx, jobs...)
	})
	if err == nil && missed > 0 {
		q.metrics.missed.WithLabelValues(s.Name).Add(float64(missed))
		q.log.WarnContext(ctx, "periods were missed: nobody was there to run them", "schedule", s.Name, "missed", missed)
	}
	return err
}
