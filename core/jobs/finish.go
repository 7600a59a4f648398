package jobs

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// errMissed is the end of a period that came too late to be of use.
var errMissed = errors.New("too late")

// finish is how a job ended here, and what is to be written of it.
type finish struct {
	lease *lease
	err   error
	took  time.Duration

	outcome   string // for the metrics
	period    string // of a schedule: what became of it
	dead      bool
	again     bool
	wait      time.Duration
	uncounted int32 // attempts that don't count
}

// decide says what becomes of the job.
func (f *finish) decide() {
	k, w := f.lease.kind, f.lease.work
	later, chosen := errors.AsType[later](f.err)
	_, final := errors.AsType[permanent](f.err)
	switch {
	case f.err == nil:
		f.outcome = "done"
		if k.schedule != nil {
			f.period = "done"
		}
	case errors.Is(f.err, errMissed):
		f.outcome, f.period = "missed", "missed"
	case errors.Is(context.Cause(f.lease.ctx), ErrLeaseLost):
		f.outcome = "lost"
	case errors.Is(f.err, errStopped):
		f.outcome, f.again, f.uncounted = "stopped", true, 1
	case chosen && later.err == nil:
		f.outcome, f.again, f.wait, f.uncounted = "later", true, later.wait, 1
	case final || w.Last:
		f.outcome, f.dead = "dead", true
	case chosen:
		f.outcome, f.again, f.wait = "failed", true, later.wait
	default:
		f.outcome, f.again, f.wait = "failed", true, k.Backoff(w.Attempt)
	}
}

// maxError bounds what is kept of an error.
const maxError = 500

// text is the error as it is kept: short, and valid in a TEXT column.
func (f *finish) text() string {
	if f.err == nil || f.uncounted > 0 {
		return ""
	}
	s := strings.ReplaceAll(strings.ToValidUTF8(f.err.Error(), "?"), "\x00", "?")
	if len(s) > maxError {
		for s = s[:maxError]; !utf8.ValidString(s); {
			s = s[:len(s)-1]
		}
	}
	return s
}

// maxFinishes is how many finishes are written at once.
const maxFinishes = 500

// write writes how jobs ended, all that end while one write is under way with
// the next.
func (q *Queue) write(ctx context.Context) {
	for f := range q.finished {
		batch := []finish{f}
	more:
		for len(batch) < maxFinishes {
			select {
			case f, ok := <-q.finished:
				if !ok {
					break more
				}
				batch = append(batch, f)
			default:
				break more
			}
		}
		q.writeBatch(ctx, batch)
		for _, f := range batch {
			q.end(f)
		}
	}
}

// writeBatch writes it for as long as the leases can hold: then the jobs are
// done again, as if the process had died.
func (q *Queue) writeBatch(ctx context.Context, batch []finish) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.cfg.Lease)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := q.writeFinishes(ctx, batch)
		if err == nil {
			return
		}
		q.log.WarnContext(ctx, "write how jobs ended", "jobs", len(batch), "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// end gives a finished job's worker back.
func (q *Queue) end(f finish) {
	k, w := f.lease.kind, f.lease.work
	q.release(f.lease)
	q.metrics.ended(k.name, f.outcome, f.took)
	switch f.outcome {
	case "failed", "lost":
		q.log.Warn("a job failed", "kind", k.name, "job", w.ID, "attempt", w.Attempt, "took", f.took, "outcome", f.outcome, "err", f.err)
	case "dead":
		q.log.Error("a job is dead; `muster ctl jobs retry` tries it again", "kind", k.name, "job", w.ID, "attempts", w.Attempt, "err", f.err)
	case "missed":
		q.log.Warn("a period was missed", "schedule", k.name, "period", w.Period)
	default:
		q.log.Debug("job", "kind", k.name, "job", w.ID, "attempt", w.Attempt, "took", f.took, "outcome", f.outcome)
	}
	<-k.slots
	q.running.Done()
}
