package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mustermesh/muster/internal/run"
)

// activity carries the news that something happened, in a room or by a user,
// from the edge to SQL, where a group's last_active and a user's last_seen
// stand: at once the first time, then at most every few seconds for each, many
// in one statement. What happened, and where, is not part of it.
type activity struct {
	write func(ctx context.Context, at map[string]time.Time) error
	log   *slog.Logger
	life  run.Lifecycle
	wake  chan struct{}

	mu      sync.Mutex           // guards the following
	waiting map[string]time.Time // to be written
	written map[string]time.Time // when last
}

const (
	touchEvery = 10 * time.Second       // a room, or a user
	touchBatch = 200 * time.Millisecond // collects what happens at the same time
	touchLimit = 10 * time.Second       // of one write
	touchMost  = 50_000                 // waiting; beyond that news is dropped
)

func newActivity(write func(context.Context, map[string]time.Time) error, log *slog.Logger) *activity {
	return &activity{
		write: write, log: log, wake: make(chan struct{}, 1),
		waiting: map[string]time.Time{}, written: map[string]time.Time{},
	}
}

// Touch satisfies edge.Activity.
func (a *activity) Touch(room string, at time.Time) {
	a.mu.Lock()
	_, waits := a.waiting[room]
	if !waits && (at.Sub(a.written[room]) < touchEvery || len(a.waiting) >= touchMost) {
		a.mu.Unlock()
		return
	}
	a.waiting[room] = at
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Start begins writing.
func (a *activity) Start(ctx context.Context) error {
	return a.life.Start(ctx, func(ctx context.Context) error {
		a.life.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-a.wake:
				}
				batch := time.NewTimer(touchBatch)
				select {
				case <-ctx.Done():
					batch.Stop()
					return
				case <-batch.C:
				}
				a.flush(ctx)
			}
		})
		return nil
	})
}

// Stop writes what waits.
func (a *activity) Stop() {
	a.life.Stop(nil)
	a.flush(context.Background())
}

func (a *activity) flush(ctx context.Context) {
	a.mu.Lock()
	at := a.waiting
	a.waiting = map[string]time.Time{}
	for room, t := range a.written {
		if time.Since(t) > touchEvery {
			delete(a.written, room)
		}
	}
	for room, t := range at {
		a.written[room] = t
	}
	a.mu.Unlock()
	if len(at) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, touchLimit)
	defer cancel()
	if err := a.write(ctx, at); err != nil {
		a.log.WarnContext(ctx, "last activity not written", "of", len(at), "err", err)
	}
}
