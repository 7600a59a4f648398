package outbox

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	events   *prometheus.CounterVec
	duration *prometheus.HistogramVec
	lag      *prometheus.HistogramVec
	pending  *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
}

// waiting is what waits for a sink.
type waiting struct {
	Sink   string
	N      int64
	Oldest float64 // seconds
}

func newMetrics(r prometheus.Registerer) *metrics {
	f, sink := promauto.With(r), []string{"sink"}
	return &metrics{
		events: f.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_outbox_events_total", Help: "Events that sinks were given, by whether they took them.",
		}, []string{"sink", "outcome"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_outbox_send_seconds", Help: "How long sinks took for events of one key.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10},
		}, sink),
		lag: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_outbox_lag_seconds", Help: "From when events were appended to when sinks had taken them.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10, 60, 600, 3600},
		}, sink),
		pending: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "muster_outbox_pending", Help: "Events that wait for a sink, anywhere; 100,000 stands for more, too.",
		}, sink),
		oldest: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "muster_outbox_oldest_seconds", Help: "How long the oldest of them has been waiting.",
		}, sink),
	}
}

// know shows a sink's counters from the start.
func (m *metrics) know(sink string) {
	for _, outcome := range []string{"taken", "refused"} {
		m.events.WithLabelValues(sink, outcome)
	}
	m.lag.WithLabelValues(sink)
	m.duration.WithLabelValues(sink)
	m.pending.WithLabelValues(sink)
	m.oldest.WithLabelValues(sink)
}

func (m *metrics) sent(sink string, events []Sent, took time.Duration, err error) {
	m.duration.WithLabelValues(sink).Observe(took.Seconds())
	if err != nil {
		m.events.WithLabelValues(sink, "refused").Add(float64(len(events)))
		return
	}
	m.events.WithLabelValues(sink, "taken").Add(float64(len(events)))
	now := time.Now()
	for _, e := range events {
		m.lag.WithLabelValues(sink).Observe(max(now.Sub(e.At), 0).Seconds())
	}
}
