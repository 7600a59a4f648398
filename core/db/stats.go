package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/internal/obs"
)

// Register adds the pools' figures to a registry: how many connections there may
// be, are, and are in use, and how long callers waited for one.
func (d *DB) Register(r prometheus.Registerer) error {
	collectors := []prometheus.Collector{poolStats{"primary", d.pool}, d.waits}
	if d.replica != nil {
		collectors = append(collectors, poolStats{"replica", d.replica.pool})
	}
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("db: register metrics: %w", err)
		}
	}
	return nil
}

func newWaits() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "muster_db_acquire_seconds", Help: "How long callers waited for a connection of the pool.",
		Buckets: []float64{.00001, .0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"pool"})
}

// poolStats reads a pool's figures when it is asked.
type poolStats struct {
	name string
	pool *pgxpool.Pool
}

func (p poolStats) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

func (p poolStats) Collect(ch chan<- prometheus.Metric) {
	s := p.pool.Stat()
	for _, m := range []struct {
		name, help string
		kind       prometheus.ValueType
		value      float64
	}{
		{"max", "Connections that the pool may have.", prometheus.GaugeValue, float64(s.MaxConns())},
		{"open", "Connections that the pool has.", prometheus.GaugeValue, float64(s.TotalConns())},
		{"used", "Connections that are in use.", prometheus.GaugeValue, float64(s.AcquiredConns())},
		{"opened_total", "Connections that were opened.", prometheus.CounterValue, float64(s.NewConnsCount())},
		{"waited_total", "Callers that found no connection idle.", prometheus.CounterValue, float64(s.EmptyAcquireCount())},
		{"gave_up_total", "Callers that went away before they got a connection.", prometheus.CounterValue, float64(s.CanceledAcquireCount())},
	} {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("muster_db_connections_"+m.name, m.help, nil, prometheus.Labels{"pool": p.name}), m.kind, m.value)
	}
}

// watcher sees what goes through a pool: how long callers waited, and, for those
// whose context has a span, each statement as a span below it. Spans have the
// text of statements, never their arguments.
type watcher struct{ wait prometheus.Observer }

var (
	_ pgx.QueryTracer       = watcher{}
	_ pgx.BatchTracer       = watcher{}
	_ pgxpool.AcquireTracer = watcher{}
)

type acquireKey struct{}

func (w watcher) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return context.WithValue(ctx, acquireKey{}, time.Now())
}

func (w watcher) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	if since, ok := ctx.Value(acquireKey{}).(time.Time); ok {
		w.wait.Observe(time.Since(since).Seconds())
	}
}

func (w watcher) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return begin(ctx, d.SQL)
}

func (w watcher) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	end(ctx, d.Err)
}

func (w watcher) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	if !obs.Traced(ctx) {
		return ctx
	}
	var all strings.Builder
	for _, q := range d.Batch.QueuedQueries {
		all.WriteString(q.SQL)
		all.WriteString("; ")
	}
	return begin(ctx, all.String())
}

func (w watcher) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (w watcher) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	end(ctx, d.Err)
}

// maxStatement bounds the text in a span.
const maxStatement = 1024

// begin returns a context with a span for a statement, if there is one above. So
// whoever has a span in end has this one.
func begin(ctx context.Context, sql string) context.Context {
	if !obs.Traced(ctx) {
		return ctx
	}
	words := strings.Fields(sql)
	text := strings.Join(words, " ")
	name := "SQL"
	if len(words) > 0 {
		name = strings.ToUpper(words[0])
	}
	ctx, _ = obs.Span(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "postgresql"), attribute.String("db.query.text", text[:min(len(text), maxStatement)])))
	return ctx
}

func end(ctx context.Context, err error) {
	span := trace.SpanFromContext(ctx)
	if c := code(err); c != "" && span.IsRecording() {
		span.SetAttributes(attribute.String("db.response.status_code", c))
	}
	obs.End(span, err)
}
