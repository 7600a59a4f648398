package payments

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	statuses *prometheus.CounterVec
	calls    *prometheus.HistogramVec
	events   *prometheus.CounterVec
}

// What became of a webhook.
const (
	eventTaken   = "taken"
	eventAgain   = "again"   // it was heard before
	eventOthers  = "others"  // it is about nothing of ours
	eventRefused = "refused" // its signature, or what it says
	eventEarly   = "early"   // it is to be sent again, once we know of the payment what it builds on
	eventFailed  = "failed"  // it is to be sent again
)

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		statuses: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_payments_total", Help: "Payments that came to a status."}, []string{"status"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "muster_payment_calls_seconds", Help: "Calls to the payment gateway, by what was asked and whether it answered, refused or failed.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"call", "result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_payment_webhooks_total", Help: "Webhooks of the payment gateway, by what became of them."}, []string{"result"}),
	}
	if r != nil {
		r.MustRegister(m.statuses, m.calls, m.events)
	}
	return m
}

func (m *metrics) became(s Status) { m.statuses.WithLabelValues(string(s)).Inc() }

func (m *metrics) called(do step, begun time.Time, err error, refused bool) {
	result := "ok"
	switch {
	case refused:
		result = "refused"
	case err != nil:
		result = "failed"
	}
	m.calls.WithLabelValues(string(do), result).Observe(time.Since(begun).Seconds())
}

func (m *metrics) heard(result string) { m.events.WithLabelValues(result).Inc() }
