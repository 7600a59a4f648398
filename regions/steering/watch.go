package steering

import (
	"context"
	"sync"
	"time"

	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/placement"
)

// WatchConfig says what a Watch looks at. Policy and Full may be left out.
type WatchConfig struct {
	Topology  func() *regions.Topology
	Standings func() []regions.Standing
	Policy    placement.Policy
	Full      int // sessions at which a node of capacity 100 is full; default 50,000
}

// Watch looks once a second how the regions stand. It is a run.Service.
type Watch struct {
	cfg    WatchConfig
	health *health // of look's goroutine, and before that of Start's
	life   run.Lifecycle

	mu      sync.Mutex // guards the following
	view    *View
	changed chan struct{} // closed with the next view
}

// NewWatch looks for the first time: nothing is known then of regions that have
// not been heard of yet.
func NewWatch(cfg WatchConfig) *Watch {
	if cfg.Full <= 0 {
		cfg.Full = fullSessions
	}
	w := &Watch{cfg: cfg, health: newHealth(cfg.Policy, cfg.Full), changed: make(chan struct{})}
	w.view = &View{Topology: cfg.Topology()}
	for _, r := range w.view.Topology.Regions {
		w.view.Regions = append(w.view.Regions, placement.Candidate{Name: string(r.Name), At: w.health.place(r)})
		w.view.Nodes = append(w.view.Nodes, nodesOf(r, regions.Standing{}))
	}
	return w
}

// Policy is how regions are chosen.
func (w *Watch) Policy() placement.Policy { return w.cfg.Policy }

// View is the latest view, and what is closed when there is another one.
func (w *Watch) View() (*View, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view, w.changed
}

// Start begins to look.
func (w *Watch) Start(ctx context.Context) error {
	return w.life.Start(ctx, func(ctx context.Context) error {
		w.look(time.Now())
		w.life.Go(func() {
			tick := time.NewTicker(lookEvery)
			defer tick.Stop()
			for {
				select {
				case now := <-tick.C:
					w.look(now)
				case <-ctx.Done():
					return
				}
			}
		})
		return nil
	})
}

// Stop ends it.
func (w *Watch) Stop() { w.life.Stop(nil) }

func (w *Watch) look(now time.Time) {
	next := w.health.look(now, w.cfg.Topology(), w.cfg.Standings())
	w.mu.Lock()
	defer w.mu.Unlock()
	if next.equal(w.view) {
		return
	}
	w.view = next
	close(w.changed)
	w.changed = make(chan struct{})
}
