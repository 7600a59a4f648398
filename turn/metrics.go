package turn

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/turn/allocation"
)

// collector reads the counts of the shards when it is asked: they are live, and cost
// nothing while packets pass. No label says who: users are many, and their names are
// in the logs of whoever minted their credentials.
type collector struct{ *Server }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("muster_turn_"+name, help, labels, nil)
}

var (
	descAllocations = desc("allocations", "Allocations at the moment, by how their clients are connected.", "transport")
	descConnections = desc("connections", "TCP and TLS connections of clients at the moment.")
	descUsers       = desc("users", "Users with an allocation at the moment, or who had one in the last seconds.")
	descDraining    = desc("draining", "1 while new allocations are refused.")
	descCreated     = desc("allocations_total", "Allocations made.")
	descEnded       = desc("allocations_ended_total", "Allocations that ended.")
	descPackets     = desc("packets_total", "Packets relayed, by direction: out to peers, in to clients.", "direction")
	descBytes       = desc("bytes_total", "Bytes of payload relayed, by direction: out to peers, in to clients.", "direction")
	descRefused     = desc("refused_total", "Requests refused and packets dropped, by reason.", "reason")
	descBindings    = desc("bindings_total", "Binding requests, which clients learn their own address by.")
	descPermissions = desc("permissions_total", "Permissions made or refreshed.")
	descChannels    = desc("channels_total", "Channels bound or refreshed.")
	descTurnedAway  = desc("connections_refused_total", "Connections closed at once because there were too many.")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	var sum allocation.Counts
	now := map[Transport]int{UDP: 0, TCP: 0, TLS: 0}
	for _, sh := range c.shards {
		sh.mu.Lock()
		counts := sh.machine.Counts
		sh.machine.Each(func(a *allocation.Allocation) { now[c.o.Listen[a.Flow.Listener].Transport]++ })
		sh.mu.Unlock()
		sum.Add(&counts)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for transport, n := range now {
		gauge(descAllocations, float64(n), string(transport))
	}
	draining := 0.0
	if c.Draining() {
		draining = 1
	}
	gauge(descDraining, draining)
	gauge(descConnections, float64(c.connections.count()))
	gauge(descUsers, float64(c.common.Users.Len()))
	counter(descCreated, sum.Created)
	counter(descEnded, sum.Ended)
	counter(descPackets, sum.PacketsOut, "out")
	counter(descPackets, sum.PacketsIn, "in")
	counter(descBytes, sum.BytesOut, "out")
	counter(descBytes, sum.BytesIn, "in")
	for r := range allocation.Reasons {
		counter(descRefused, sum.Refused[r], allocation.Reason(r).String())
	}
	counter(descBindings, sum.Bindings)
	counter(descPermissions, sum.Permissions)
	counter(descChannels, sum.ChannelsSet)
	counter(descTurnedAway, uint64(c.turnedAway.Load()))
}
