package session

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what operators see of sessions.
type Metrics struct {
	sessions    *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	illegal     *prometheus.CounterVec
	frames      *prometheus.CounterVec
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
		frames:      counter("frames_total", "Frames received, by kind.", "kind"),
		errors:      counter("errors_total", "Frames refused, by code.", "code"),
		closes:      counter("closes_total", "Connections that the node closed, by code.", "code"),
	}
	if reg != nil {
		reg.MustRegister(m.sessions, m.transitions, m.illegal, m.frames, m.errors, m.closes)
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
