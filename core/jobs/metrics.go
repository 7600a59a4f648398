package jobs

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	duration    *prometheus.HistogramVec
	lag         *prometheus.HistogramVec
	oldest      *prometheus.GaugeVec
	lastSuccess *prometheus.GaugeVec
	missed      *prometheus.CounterVec
	dead        *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f, kind := promauto.With(r), []string{"kind"}
	return &metrics{
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_job_duration_seconds", Help: "How long jobs took here, by how they ended: done, failed, later, dead, missed, stopped, lost.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60, 600},
		}, []string{"kind", "outcome"}),
		lag: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_job_lag_seconds", Help: "From when jobs were due to when they began.",
			Buckets: []float64{.01, .05, .25, 1, 2, 5, 15, 60, 300, 3600},
		}, kind),
		oldest: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "muster_job_oldest_seconds", Help: "How long the oldest due job of the kind has been waiting, anywhere.",
		}, kind),
		lastSuccess: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "muster_job_last_success_timestamp_seconds", Help: "When a job of the kind was last done: of a schedule anywhere, of others here.",
		}, kind),
		missed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_job_missed_total", Help: "Periods of schedules that were not run, since they came too late.",
		}, kind),
		dead: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "muster_job_dead", Help: "Jobs in the dead letter, anywhere.",
		}, kind),
	}
}

// know shows the kind's counters from the start: a rate needs a zero.
func (m *metrics) know(kind string) {
	m.missed.WithLabelValues(kind)
	m.oldest.WithLabelValues(kind)
	m.dead.WithLabelValues(kind)
	m.duration.WithLabelValues(kind, "done")
	m.lag.WithLabelValues(kind)
}

func (m *metrics) ended(kind, outcome string, took time.Duration) {
	m.duration.WithLabelValues(kind, outcome).Observe(took.Seconds())
	switch outcome {
	case "done":
		m.lastSuccess.WithLabelValues(kind).SetToCurrentTime()
	case "missed":
		m.missed.WithLabelValues(kind).Inc()
	}
}

// count keeps the gauges that are read from the table.
func (q *Queue) count(ctx context.Context) {
	for wait := rand.N(5 * time.Second); ; wait = 30 * time.Second {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		dead, oldest, succeeded, err := q.counts(ctx)
		if err != nil {
			if ctx.Err() == nil {
				q.log.WarnContext(ctx, "count jobs", "err", err)
			}
			continue
		}
		q.metrics.dead.Reset()
		for _, name := range q.names() {
			q.metrics.dead.WithLabelValues(name).Set(dead[name])
			q.metrics.oldest.WithLabelValues(name).Set(oldest[name])
		}
		for name, n := range dead { // also of kinds that nobody handles any more
			q.metrics.dead.WithLabelValues(name).Set(n)
		}
		for name, at := range succeeded {
			q.metrics.lastSuccess.WithLabelValues(name).Set(float64(at.UnixMilli()) / 1000)
		}
	}
}
