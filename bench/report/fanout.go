package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Fanout is the result of `muster bench fanout`: what one server process
// delivers to the members of a room, per second of its own user and system time.
type Fanout struct {
	Head
	Rounds  int          `json:"rounds"`
	Seconds float64      `json:"seconds"`
	Bytes   int          `json:"message_bytes"`
	Cases   []FanoutRows `json:"cases"`
}

// FanoutRows is one load on all servers.
type FanoutRows struct {
	Case string      `json:"case"`
	Rows []FanoutRow `json:"servers"`
	// Ratio of what Muster delivers per CPU second to what the other one does;
	// 0 without one.
	Ratio float64 `json:"ratio,omitempty"`
}

// FanoutRow is the median run of one server, by deliveries per CPU second, and
// all of them.
type FanoutRow struct {
	Server string `json:"server"`
	FanoutRun
	Runs []FanoutRun `json:"runs"`
}

// FanoutRun is one run of one server. A delivery is a message, or the position
// of one member, that arrived at one member.
type FanoutRun struct {
	Deliveries   float64   `json:"deliveries_per_second"`
	Sent         float64   `json:"sent_per_second"`
	Cores        float64   `json:"server_cores"`
	PerCPUSecond float64   `json:"deliveries_per_cpu_second"`
	Latency      Quantiles `json:"latency"`
}

// Add adds the runs of a case.
func (r *Fanout) Add(name string, runs map[string][]FanoutRun) {
	rows := FanoutRows{Case: name}
	per := map[string]float64{}
	for server, all := range runs {
		sorted := slices.SortedFunc(slices.Values(all), func(a, b FanoutRun) int { return cmp.Compare(a.PerCPUSecond, b.PerCPUSecond) })
		median := sorted[len(sorted)/2]
		per[server] = median.PerCPUSecond
		rows.Rows = append(rows.Rows, FanoutRow{server, median, all})
	}
	slices.SortFunc(rows.Rows, func(a, b FanoutRow) int { return cmp.Compare(a.Server, b.Server) })
	if other := per["centrifugo"]; other > 0 && per["muster"] > 0 {
		rows.Ratio = round(per["muster"] / other)
	}
	r.Cases = append(r.Cases, rows)
}

// Print writes it for people.
func (r *Fanout) Print(w io.Writer) error {
	fmt.Fprintf(w, "fanout: one room of one server process, %d-byte messages over WebSocket without TLS, median of %d runs of %.0f s, %d CPUs\n",
		r.Bytes, r.Rounds, r.Seconds, r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "load\tserver\tdeliveries/s\tper CPU s\tp50 ms\tp99 ms\tratio")
	for _, c := range r.Cases {
		for _, row := range c.Rows {
			ratio := ""
			if row.Server == "muster" && c.Ratio > 0 {
				ratio = fmt.Sprintf("%.2f", c.Ratio)
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%s\n", c.Case, row.Server, row.Deliveries, row.PerCPUSecond,
				row.Latency.P50, row.Latency.P99, ratio)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
