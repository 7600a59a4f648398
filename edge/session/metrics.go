package session

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/wire"
)

// Metrics are what operators see of sessions.
type Metrics struct {
	sessions    *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	illegal     *prometheus.CounterVec
	frames      map[string]prometheus.Counter // by kind
	errors      *prometheus.CounterVec
	closes      *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "muster", Subsystem: "session", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "muster", Subsystem: "session", Name: "current", Help: "Sessions by state.",
		}, []string{"state"}),
		transitions: counter("transitions_total", "Changes of a session's state.", "from", "event"),
		illegal:     counter("transitions_refused_total", "Events that a session's state does not allow.", "from", "event"),
		frames:      map[string]prometheus.Counter{},
		errors:      counter("errors_total", "Frames refused, by code.", "code"),
		closes:      counter("closes_total", "Connections that the node closed, by code.", "code"),
	}
	frames := counter("frames_total", "Frames received, by kind.", "kind")
	m.frames[badFrame] = frames.WithLabelValues(badFrame)
	kinds := new(wire.ClientFrame).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	for i := range kinds.Len() {
		kind := string(kinds.Get(i).Name())
		m.frames[kind] = frames.WithLabelValues(kind)
	}
	if reg != nil {
		reg.MustRegister(m.sessions, m.transitions, m.illegal, frames, m.errors, m.closes)
	}
	return m
}

func (m *Metrics) moved(from State, e Event, to State, ok bool) {
	if !ok {
		m.illegal.WithLabelValues(from.String(), e.String()).Inc()
		return
	}
	m.transitions.WithLabelValues(from.String(), e.String()).Inc()
	m.sessions.WithLabelValues(from.String()).Dec()
	if to != Closed {
		m.sessions.WithLabelValues(to.String()).Inc()
	}
}
