package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/internal/errs"
)

// metrics of one node; the caller adds the node's name where a process runs
// several (prometheus.WrapRegistererWith).
type metrics struct {
	registry  prometheus.Registerer
	proposals *prometheus.CounterVec
	latency   prometheus.Histogram
	batches   prometheus.Histogram
	terms     prometheus.Counter
	leading   prometheus.Gauge
	gauges    []prometheus.Collector // of the running node
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registry:  r,
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_consensus_proposals_total", Help: "Commands proposed on this node."}, []string{"outcome"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_consensus_proposal_seconds", Help: "From propose to result.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 13),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_consensus_batch_commands", Help: "Commands in one entry of the log, on the leader.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		terms:   prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_consensus_elected_total", Help: "Times that this node became the leader."}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{Name: "muster_consensus_leading", Help: "1 while this node leads."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.proposals, m.latency, m.batches, m.terms, m.leading} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("consensus: %w", err)
		}
	}
	return m, nil
}

// watch adds what is read off a running node.
func (m *metrics) watch(n *Node) {
	if m.registry == nil {
		return
	}
	gauge := func(name, help string, f func() float64) {
		g := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "muster_consensus_" + name, Help: help}, f)
		if m.registry.Register(g) == nil {
			m.gauges = append(m.gauges, g)
		}
	}
	gauge("term", "Raft's term.", func() float64 { return float64(n.raft.CurrentTerm()) })
	gauge("commit_index", "The last committed entry that this node knows of.", func() float64 { return float64(n.raft.CommitIndex()) })
	gauge("contact_seconds", "Since this node was last known to be part of its region; -1: never.", func() float64 {
		if at := n.Contact(); !at.IsZero() {
			return time.Since(at).Seconds()
		}
		return -1
	})
	gauge("machine_longest_seconds", "The longest that one entry of the log, or the beginning of a snapshot, has kept the machine.", func() float64 {
		return time.Duration(n.fsm.longest.Load()).Seconds()
	})
	gauge("failed", "1 if the disk or the machine failed.", func() float64 {
		if n.Err() != nil {
			return 1
		}
		return 0
	})
}

func (m *metrics) unwatch() {
	for _, g := range m.gauges {
		m.registry.Unregister(g)
	}
}

func (m *metrics) leads(lead bool) {
	if lead {
		m.terms.Inc()
		m.leading.Set(1)
		return
	}
	m.leading.Set(0)
}

func (m *metrics) batch(commands int) { m.batches.Observe(float64(commands)) }

func (m *metrics) proposed(err error, took time.Duration) {
	outcome := "ok"
	var known *errs.Error
	switch {
	case err == nil:
		m.latency.Observe(took.Seconds())
	case errors.As(err, &known):
		outcome = string(known.Code)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		outcome = "gave_up"
	default:
		outcome = "failed"
	}
	m.proposals.WithLabelValues(outcome).Inc()
}
