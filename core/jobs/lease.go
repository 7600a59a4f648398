package jobs

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// lease is a claimed job.
type lease struct {
	work      Work
	kind      *kind
	trace     string
	waited    time.Duration // from when it was due to its claim
	now       time.Time     // the database's, at the claim
	exhausted bool          // its attempts are used up, and none said how it ended

	ctx    context.Context
	cancel context.CancelCauseFunc
	giveUp time.Time // when it is extended no more: its handler ignores its time limit

	until time.Time // guarded by Queue.mu: surely held before
}

// hold begins a lease.
func (q *Queue) hold(work context.Context, k *kind, c claimed) *lease {
	l := &lease{work: c.Work, kind: k, trace: c.trace, waited: c.waited, now: c.now, exhausted: c.Attempt > c.max, until: c.until}
	l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(work))
	context.AfterFunc(work, func() { l.cancel(errStopped) })
	l.giveUp = time.Now().Add(k.Timeout + q.cfg.Lease)
	q.mu.Lock()
	defer q.mu.Unlock()
	if lost := q.leases[c.ID]; lost != nil { // by this process, which was paused
		lost.cancel(ErrLeaseLost)
	}
	q.leases[c.ID] = l
	return l
}

func (q *Queue) release(l *lease) {
	q.mu.Lock()
	if q.leases[l.work.ID] == l {
		delete(q.leases, l.work.ID)
	}
	q.mu.Unlock()
	l.cancel(nil)
}

// keepLeases extends the leases of this process until all jobs have ended.
func (q *Queue) keepLeases(work context.Context, written <-chan struct{}) {
	tick := time.NewTicker(q.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			q.extendLeases(work)
		case <-written:
			return
		}
	}
}

func (q *Queue) extendLeases(ctx context.Context) {
	var ids, tokens []uuid.UUID
	var held []*lease
	now := time.Now()
	q.mu.Lock()
	for id, l := range q.leases {
		if now.Before(l.giveUp) {
			ids, tokens, held = append(ids, id), append(tokens, l.work.lease), append(held, l)
		}
	}
	q.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Lease/3)
	defer cancel()
	kept, err := q.extend(ctx, ids, tokens)
	if err != nil {
		q.log.WarnContext(ctx, "extend the leases of jobs", "jobs", len(ids), "err", err)
	}
	until := now.Add(q.cfg.Lease)
	now = time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range held {
		switch {
		case err == nil && kept[l.work.ID]:
			l.until = until
		case err == nil || now.After(l.until):
			l.cancel(ErrLeaseLost)
		}
	}
}

// reap frees the jobs of processes that died.
func (q *Queue) reap(ctx context.Context) {
	for {
		select {
		case <-time.After(q.cfg.Lease/4 + rand.N(q.cfg.Lease/2)):
		case <-ctx.Done():
			return
		}
		if err := q.free(ctx); err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "free the jobs of dead processes", "err", err)
		}
	}
}
