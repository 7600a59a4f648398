package nearby

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	here, in, out                              prometheus.Counter // updates
	refusedMoved, refusedFull, refusedInvalid  prometheus.Counter
	refusedFleets, superseded                  prometheus.Counter
	askedNear, askedBox, servedNear, servedBox prometheus.Counter
	unreached                                  *prometheus.CounterVec
	fanOut, seconds                            prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, m *Map) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "muster_map_points", Help: "People and subjects of fleets on the map whose points this node has, as the owner of their slots.",
	}, func() float64 { return float64(m.owner.count.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "muster_map_published", Help: "People and subjects of fleets whom this node puts on the map, with those who went within the last minute.",
	}, func() float64 { return float64(m.publisher.count.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "muster_map_fleets", Help: "Fleets of which this node has points, each a layer of the map.",
	}, func() float64 { return float64(m.owner.fleetCount()) })
	updates := f.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_map_updates_total", Help: "Points that were put here, sent to other owners (out), or came from other nodes (in).",
	}, []string{"way"})
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_map_refused_total", Help: "Points that were not taken: the slot is another's, there is no room, there are too many fleets, or they make no sense.",
	}, []string{"why"})
	queries := f.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_map_queries_total", Help: "Questions to the map that began here (asked), or that other nodes asked (served).",
	}, []string{"role", "kind"})
	return &metrics{
		here: updates.WithLabelValues("here"), in: updates.WithLabelValues("in"), out: updates.WithLabelValues("out"),
		refusedMoved: refused.WithLabelValues("moved"), refusedFull: refused.WithLabelValues("full"), refusedInvalid: refused.WithLabelValues("invalid"),
		refusedFleets: refused.WithLabelValues("fleets"),
		superseded: f.NewCounter(prometheus.CounterOpts{
			Name: "muster_map_superseded_total", Help: "People whom this node put on the map and another did later.",
		}),
		askedNear: queries.WithLabelValues("asked", "near"), askedBox: queries.WithLabelValues("asked", "box"),
		servedNear: queries.WithLabelValues("served", "near"), servedBox: queries.WithLabelValues("served", "box"),
		unreached: f.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_map_unreached_total", Help: "Questions to which a region did not answer, or not for all that is its own.",
		}, []string{"of"}),
		fanOut: f.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_map_fan_out", Help: "How many nodes a question to the map went to, this one included.",
			Buckets: []float64{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128},
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_map_query_seconds", Help: "How long questions to the map took.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .2, .4, 1, 2, 4},
		}),
	}
}
