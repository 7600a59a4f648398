package matching

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests, talks *prometheus.CounterVec
	looks           *prometheus.CounterVec
	people, seconds prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_matching_looks_total", Help: "Times somebody looked who is near, by what came of it.",
		}, []string{"outcome"}),
		people: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_matching_people", Help: "People whom they were shown.", Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100},
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_matching_seconds", Help: "How long that took.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_matching_requests_total", Help: "Requests to talk, by what became of them.",
		}, []string{"outcome"}),
		talks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_matching_talks_ended_total", Help: "Talks that ended, by how.",
		}, []string{"by"}),
	}
	for _, o := range []string{"people", "nobody", "refused"} {
		m.looks.WithLabelValues(o)
	}
	for _, o := range []string{"sent", "accepted", "declined", "canceled", "expired"} {
		m.requests.WithLabelValues(o)
	}
	for _, by := range []string{"user", "time"} {
		m.talks.WithLabelValues(by)
	}
	if r != nil {
		r.MustRegister(m.looks, m.people, m.seconds, m.requests, m.talks)
	}
	return m
}

// looked notes that somebody looked around.
func (m *metrics) looked(began time.Time, people int, err error) {
	switch {
	case err != nil:
		m.looks.WithLabelValues("refused").Inc()
		return
	case people == 0:
		m.looks.WithLabelValues("nobody").Inc()
	default:
		m.looks.WithLabelValues("people").Inc()
	}
	m.people.Observe(float64(people))
	m.seconds.Observe(time.Since(began).Seconds())
}
