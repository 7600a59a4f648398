package cluster

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/regions/roster"
)

// metrics of one node; the caller adds the node's name where a process runs
// several.
type metrics struct {
	registry prometheus.Registerer
	all      []prometheus.Collector
	fenced   prometheus.Counter
	unseen   prometheus.Counter
}

func newMetrics(c *Cluster, r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_cluster_" + name, Help: help})
	}
	m := &metrics{
		registry: r,
		fenced:   counter("fences_total", "Sessions of this node that a higher epoch ended."),
		unseen:   counter("sightings_dropped_total", "Words of other regions on devices that were dropped, since too many waited."),
	}
	if r == nil {
		return m, nil
	}
	m.all = append(m.all, m.fenced, m.unseen)
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "muster_cluster_" + name, Help: help, ConstLabels: labels}, f))
	}
	gauge("slots_owned", "Slots that this node owns.", nil, func() (n float64) {
		for _, s := range c.tables.own.Load() {
			if s.Owner == c.cfg.Self {
				n++
			}
		}
		return n
	})
	counts := func() (n roster.Counts) {
		c.View(func(s *roster.State, _ uint64) { n = s.Counts() })
		return n
	}
	const sessions = "Sessions of the region, by their state in the roster."
	gauge("sessions", sessions, prometheus.Labels{"state": "live"}, func() float64 { return float64(counts().Live) })
	gauge("sessions", sessions, prometheus.Labels{"state": "suspended"}, func() float64 { return float64(counts().Suspended) })
	gauge("sessions", sessions, prometheus.Labels{"state": "gone"}, func() float64 { return float64(counts().Gone) })
	gauge("calls", "Calls of the region whose SFU is this node.", nil, func() (n float64) {
		c.View(func(s *roster.State, _ uint64) { n = float64(s.Hosted(c.cfg.Self)) })
		return n
	})
	gauge("floors", "Calls whose talk floor is this region's to give, and somebody has or wants it.", nil, func() (n float64) {
		c.View(func(s *roster.State, _ uint64) { n = float64(s.Floors()) })
		return n
	})
	gauge("proposals_pending", "Sessions of this node of which the region is still to note something.", nil, func() float64 {
		c.wishes.mu.Lock()
		defer c.wishes.mu.Unlock()
		return float64(len(c.wishes.of))
	})
	gauge("events_waiting", "Changes that wait for the hooks.", nil, func() float64 { return float64(c.events.waiting()) })
	gauge("contact_seconds", "Age of the last proof that the copy of the roster is the latest; -1: never.", nil, func() float64 {
		if at := c.Contact(); !at.IsZero() {
			return time.Since(at).Seconds()
		}
		return -1
	})
	for _, collector := range m.all {
		if err := r.Register(collector); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, collector := range m.all {
		m.registry.Unregister(collector)
	}
}
