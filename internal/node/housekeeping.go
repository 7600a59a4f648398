package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/mustermesh/muster/internal/run"
)

// housekeeping does a small piece of upkeep about once an hour. Every node
// does it, at times of its own; doing it twice is harmless.
type housekeeping struct {
	work func(context.Context) error
	log  *slog.Logger
	life run.Lifecycle
}

const housekeepingEvery = time.Hour

// Start begins; the first time comes within the hour.
func (h *housekeeping) Start(ctx context.Context) error {
	return h.life.Start(ctx, func(ctx context.Context) error {
		h.life.Go(func() {
			timer := time.NewTimer(rand.N(housekeepingEvery))
			defer timer.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-timer.C:
				}
				timer.Reset(housekeepingEvery)
				if err := h.work(ctx); err != nil && ctx.Err() == nil {
					h.log.Warn("housekeeping failed, trying again in an hour", "err", err)
				}
			}
		})
		return nil
	})
}

// Stop ends it.
func (h *housekeeping) Stop() { h.life.Stop(nil) }
