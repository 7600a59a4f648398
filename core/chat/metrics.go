package chat

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/internal/obs"
)

type metrics struct {
	messages, repeated, revisions prometheus.Counter
	commits, batches              prometheus.Histogram
}

func newMetrics() metrics {
	return metrics{
		messages:  prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_chat_messages_total", Help: "Messages stored by this node."}),
		repeated:  prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_chat_repeated_total", Help: "Messages that were there already."}),
		revisions: prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_chat_revisions_total", Help: "Edits, deletions, reactions and pins that this node stored."}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_chat_commit_seconds", Help: "How long a room's batch of messages took to be stored, with all attempts.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_chat_batch_messages", Help: "Messages in such a batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
	}
}

// Register adds the chat's figures to a registry.
func (c *Chat) Register(r prometheus.Registerer) error {
	for _, m := range []prometheus.Collector{c.metrics.messages, c.metrics.repeated, c.metrics.revisions, c.metrics.commits, c.metrics.batches} {
		if err := r.Register(m); err != nil {
			return fmt.Errorf("chat: register metrics: %w", err)
		}
	}
	return nil
}

func (m metrics) committed(began time.Time, answers []answer) {
	m.commits.Observe(time.Since(began).Seconds())
	m.batches.Observe(float64(len(answers)))
	for _, a := range answers {
		switch {
		case a.err != nil:
		case a.stored:
			m.messages.Inc()
		default:
			m.repeated.Inc()
		}
	}
}

// behind returns a context in whose trace a batch is: that of the first of its
// callers who has one.
func behind(ctx context.Context, batch []*pending) context.Context {
	if i := slices.IndexFunc(batch, func(p *pending) bool { return obs.Traced(p.ctx) }); i >= 0 {
		return trace.ContextWithSpan(ctx, trace.SpanFromContext(batch[i].ctx))
	}
	return ctx
}
