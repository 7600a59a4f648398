package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/obs"
)

// work is what a node does behind its users' backs: jobs and schedules, and
// events on their way to those who watch. All nodes do it, each row one of them.
type work struct {
	*jobs.Queue
	sinks []outbox.Sink
}

func newWork(d *db.DB, log *slog.Logger, metrics prometheus.Registerer, tracer obs.Tracer) *work {
	return &work{Queue: jobs.New(d, jobs.Config{Log: log, Metrics: metrics, Tracer: tracer})}
}

// tell adds sinks of the outbox.
func (w *work) tell(sinks ...outbox.Sink) { w.sinks = append(w.sinks, sinks...) }

func (w *work) relay(d *db.DB, log *slog.Logger, metrics prometheus.Registerer) *outbox.Relay {
	return outbox.New(d, outbox.Config{Sinks: w.sinks, Log: log, Metrics: metrics})
}

// sweep has a small piece of upkeep done about once an hour, on one node. What a
// missed hour left the next one finds.
func (w *work) sweep(name string, do func(context.Context) error) {
	w.Schedule(jobs.Schedule{
		Name: "sweep_" + name, Every: time.Hour, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return do(ctx) },
	})
}
