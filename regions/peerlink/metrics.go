package peerlink

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/regions"
)

// metrics of one node; the caller adds the node's name where a process runs
// several (prometheus.WrapRegistererWith).
type metrics struct {
	frames  *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	dropped prometheus.Counter
	downs   *prometheus.CounterVec
	links   *prometheus.GaugeVec
	calls   *prometheus.CounterVec
	refused prometheus.Counter
}

// traffic counts the frames and bytes of a link.
type traffic struct{ frames, bytes prometheus.Counter }

func (m *metrics) traffic(direction string, class class, peer regions.RegionID) traffic {
	return traffic{
		m.frames.WithLabelValues(direction, class.String(), string(peer)),
		m.bytes.WithLabelValues(direction, class.String(), string(peer)),
	}
}

func (t traffic) count(bytes int) {
	t.frames.Inc()
	t.bytes.Add(float64(bytes))
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_peerlink_" + name, Help: help}, labels)
	}
	m := &metrics{
		frames:  vec("frames_total", "Frames sent to and received from peers.", "direction", "class", "peer_region"),
		bytes:   vec("bytes_total", "Bytes of those frames, and of streams.", "direction", "class", "peer_region"),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_peerlink_datagrams_dropped_total", Help: "Datagrams that made room for newer ones, or whose link was down."}),
		downs:   vec("downs_total", "Times a link to a peer broke or could not be made.", "class"),
		links:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "muster_peerlink_links", Help: "Links that are up."}, []string{"direction", "class"}),
		calls:   vec("calls_total", "Calls made to peers.", "outcome"),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_peerlink_refused_total", Help: "Connections of peers that were refused."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.frames, m.bytes, m.dropped, m.downs, m.links, m.calls, m.refused} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("peerlink: %w", err)
		}
	}
	return m, nil
}
