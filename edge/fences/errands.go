package fences

import (
	"context"
	"sync"
	"time"
)

const (
	runners   = 8                // errands that are run at a time
	patience  = 10 * time.Second // of one
	retellFor = 5 * time.Minute  // crossings stored so lately may not have been published
)

// job is an errand of a room; without one, its fences are to be read.
type job struct {
	w    *worker
	room *room
	errand
	min uint64
}

// errands are what waits for the store. The list is bounded by the rooms that
// are watched and the crossings that are wanted in them: each is in it once.
type errands struct {
	mu   sync.Mutex
	jobs []job
	more chan struct{}
}

func (e *errands) put(j job) {
	e.mu.Lock()
	e.jobs = append(e.jobs, j)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default: // every runner has been told
	}
}

func (e *errands) take() (j job, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.jobs) == 0 {
		return job{}, false
	}
	j = e.jobs[0]
	e.jobs[0] = job{}
	e.jobs = e.jobs[1:]
	return j, true
}

func (f *Fences) runErrands(ctx context.Context) {
	for {
		j, ok := f.errands.take()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-f.errands.more:
			}
			continue
		}
		f.runErrand(ctx, j)
	}
}

func (f *Fences) runErrand(ctx context.Context, j job) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	x := result{room: j.room, errand: j.errand}
	switch {
	case j.retell:
		x.err = f.retell(ctx, j.room.id)
	case j.person != nil:
		x.err = f.cfg.Store.Outside(ctx, j.room.id, j.person.id)
	case j.entry != nil:
		x.state, x.stored, x.err = f.cfg.Store.Cross(ctx, j.room.id, j.crossing)
		if x.stored {
			f.cfg.Publish(j.room.id, j.crossing.Crossing)
			f.metrics.crossings.WithLabelValues(kindLabel(j.crossing.Kind)).Inc()
			f.metrics.seconds.Observe(time.Since(j.seen).Seconds())
		} else if x.err == nil {
			f.metrics.refused.Inc()
		}
	default:
		fencing, err := f.cfg.Store.Fencing(ctx, j.room.id, j.min)
		if x.err = err; err == nil {
			x.fencing = &fencing
		}
		f.metrics.reads.Inc()
	}
	if x.err != nil {
		f.metrics.failed.Inc()
	}
	j.w.report(x)
}

// retell publishes again what was stored lately.
func (f *Fences) retell(ctx context.Context, room string) error {
	list, err := f.cfg.Store.Stored(ctx, room, time.Now().Add(-retellFor))
	if err != nil {
		return err
	}
	for _, c := range list {
		f.cfg.Publish(room, c)
	}
	f.metrics.retold.Add(float64(len(list)))
	return nil
}
