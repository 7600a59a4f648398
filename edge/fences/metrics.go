package fences

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mustermesh/muster/api/wire"
)

type metrics struct {
	rooms                                        prometheus.Gauge
	crossings                                    *prometheus.CounterVec
	dropped, bad, refused, retold, reads, failed prometheus.Counter
	seconds                                      prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "muster", Subsystem: "fences", Name: name, Help: help})
	}
	return &metrics{
		rooms: f.NewGauge(prometheus.GaugeOpts{
			Namespace: "muster", Subsystem: "fences", Name: "rooms", Help: "Rooms with fences or a meeting distance that this node watches.",
		}),
		crossings: f.NewCounterVec(prometheus.CounterOpts{
			Namespace: "muster", Subsystem: "fences", Name: "crossings_total", Help: "Crossings that were stored and published.",
		}, []string{"kind"}),
		dropped: counter("dropped_total", "Fixes that were passed over since a room's queue was full: newer ones of the same device stood for them."),
		bad:     counter("bad_total", "Fences and fixes that could not be taken."),
		refused: counter("refused_total", "Crossings that another owner had stored, or for which there was no fence any more."),
		retold:  counter("retold_total", "Crossings that were published again, since it was not known whether they had been."),
		reads:   counter("reads_total", "Readings of a room's fences."),
		failed:  counter("failed_total", "Errands to the database that failed, and are run again."),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "muster", Subsystem: "fences", Name: "lag_seconds", Help: "From the fix that tells a crossing to its publication.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
}

func kindLabel(k wire.Crossing_Kind) string { return strings.ToLower(k.String()) }
