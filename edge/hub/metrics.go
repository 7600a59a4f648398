package hub

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/edge/room"
)

type metrics struct {
	rooms, members, clients                prometheus.Gauge
	events, relayed, deliveries            prometheus.Counter
	fixesIn, fixesMerged, resubs, reattach prometheus.Counter
	dropped, fenced, handovers, continued  prometheus.Counter
	lost                                   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "muster", Subsystem: "hub", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "muster", Subsystem: "hub", Name: name, Help: help})
		reg.MustRegister(c)
		return c
	}
	return &metrics{
		rooms:       gauge("rooms", "Rooms that this node owns."),
		members:     gauge("members", "Members of those rooms, of all regions."),
		clients:     gauge("clients", "Stays of this node's sessions in rooms."),
		events:      counter("events_total", "Events numbered by this node."),
		relayed:     counter("relayed_total", "Events of other regions relayed by this node."),
		deliveries:  counter("deliveries_total", "Frames handed to sessions."),
		fixesIn:     counter("fixes_total", "Fixes taken by rooms of this node."),
		fixesMerged: counter("fixes_merged_total", "Fixes that left in a merged frame."),
		resubs:      counter("resubscribes_total", "Gaps met in another region's feed."),
		reattach:    counter("reattaches_total", "Feeds that started over from their positions."),
		dropped:     counter("dropped_total", "Frames that were stale, duplicate, misrouted or too many."),
		fenced:      counter("fenced_total", "Frames refused because they came under an older slot epoch."),
		handovers:   counter("handovers_total", "Slots that this node stood still for, to hand them over."),
		lost:        counter("members_lost_total", "Members dropped because their region could not be reached for too long."),
		continued:   counter("continued_total", "Rooms that go on here where another node handed them over."),
	}
}

// take moves a room's counts over.
func (m *metrics) take(s *room.Stats) {
	if *s == (room.Stats{}) {
		return
	}
	m.events.Add(float64(s.Events))
	m.relayed.Add(float64(s.Relayed))
	m.fixesIn.Add(float64(s.FixesIn))
	m.fixesMerged.Add(float64(s.FixesSent))
	m.resubs.Add(float64(s.Resubscribes))
	m.dropped.Add(float64(s.Dropped))
	m.lost.Add(float64(s.Lost))
	*s = room.Stats{}
}
