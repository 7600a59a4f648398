package interest

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	watches, places                        prometheus.Gauge
	keys, deltas, bytes, refused, failures prometheus.Counter
}

// newMetrics registers nothing where there is no registry.
func newMetrics(reg prometheus.Registerer) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "muster", Subsystem: "interest", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "muster", Subsystem: "interest", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &metrics{
		watches:  gauge("watches", "Areas that this node's sessions watch."),
		places:   gauge("places", "Rooms and parts of the map that they are in."),
		keys:     counter("key_frames_total", "Key frames, or parts of them."),
		deltas:   counter("delta_frames_total", "Frames on top of a key frame."),
		bytes:    counter("bytes_total", "Bytes of both."),
		refused:  counter("refused_total", "Fixes beyond what a place holds."),
		failures: counter("failures_total", "Questions to rooms and the map without an answer."),
	}
}
