package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Turn is the result of `muster bench turn`: what one TURN server relays per second of
// its own user and system time.
type Turn struct {
	Head
	Rounds      int        `json:"rounds"`
	Seconds     float64    `json:"seconds"`
	Bytes       int        `json:"payload_bytes"`
	Allocations int        `json:"allocations"`
	Cases       []TurnRows `json:"cases"`
	Idle        []TurnIdle `json:"idle,omitempty"`
}

// TurnRows is one load on all servers.
type TurnRows struct {
	Case string    `json:"case"`
	Rows []TurnRow `json:"servers"`
	// Ratio of what Muster relays per CPU second to what the other one does; 0 without
	// one.
	Ratio float64 `json:"ratio,omitempty"`
}

// TurnRow is the median run of one server, by packets per CPU second, and all of them.
type TurnRow struct {
	Server string `json:"server"`
	TurnRun
	Runs []TurnRun `json:"runs"`
}

// TurnRun is one run of one server. A packet that comes back is relayed twice, and its
// latency is that of both ways.
type TurnRun struct {
	Sent         float64   `json:"sent_per_second"`
	Relayed      float64   `json:"relayed_per_second"`
	Cores        float64   `json:"server_cores"`
	PerCPUSecond float64   `json:"relayed_per_cpu_second"`
	Loss         float64   `json:"loss"`
	Latency      Quantiles `json:"latency"`
}

// TurnIdle is what a server grew by for allocations, with a channel each, that do
// nothing; the kernel's part of their sockets is not in it.
type TurnIdle struct {
	Server        string  `json:"server"`
	Allocations   int     `json:"allocations"`
	PerAllocation float64 `json:"bytes_per_allocation"`
}

// Add adds the runs of a case.
func (r *Turn) Add(name string, runs map[string][]TurnRun) {
	rows := TurnRows{Case: name}
	per := map[string]float64{}
	for server, all := range runs {
		sorted := slices.SortedFunc(slices.Values(all), func(a, b TurnRun) int { return cmp.Compare(a.PerCPUSecond, b.PerCPUSecond) })
		median := sorted[len(sorted)/2]
		per[server] = median.PerCPUSecond
		rows.Rows = append(rows.Rows, TurnRow{server, median, all})
	}
	slices.SortFunc(rows.Rows, func(a, b TurnRow) int { return cmp.Compare(a.Server, b.Server) })
	for server, other := range per {
		if server != "muster" && other > 0 && per["muster"] > 0 {
			rows.Ratio = round(per["muster"] / other)
		}
	}
	r.Cases = append(r.Cases, rows)
}

// Print writes it for people.
func (r *Turn) Print(w io.Writer) error {
	fmt.Fprintf(w, "turn: %d allocations over UDP with a channel each, %d-byte payloads, median of %d runs of %.0f s, %d CPUs\n",
		r.Allocations, r.Bytes, r.Rounds, r.Seconds, r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "load\tserver\trelayed/s\tper CPU s\tloss %\tp50 ms\tp99 ms\tratio")
	for _, c := range r.Cases {
		for _, row := range c.Rows {
			ratio := ""
			if row.Server == "muster" && c.Ratio > 0 {
				ratio = fmt.Sprintf("%.2f", c.Ratio)
			}
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.3f\t%.2f\t%.2f\t%s\n", c.Case, row.Server, row.Relayed, row.PerCPUSecond, 100*row.Loss,
				row.Latency.P50, row.Latency.P99, ratio)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, i := range r.Idle {
		fmt.Fprintf(w, "idle: %s: %.0f bytes for each of %d allocations\n", i.Server, i.PerAllocation, i.Allocations)
	}
	return nil
}

// Broken says what must not be: that most packets did not arrive.
func (r *Turn) Broken() error {
	for _, c := range r.Cases {
		for _, row := range c.Rows {
			if row.Server == "muster" && row.Loss > 0.5 {
				return fmt.Errorf("%s: %.0f %% of the packets were lost", c.Case, 100*row.Loss)
			}
		}
	}
	return nil
}

// Late says which goals were missed: at least what the other server relays per CPU
// second, and less than a thousandth lost, or no more than the other one loses.
func (r *Turn) Late() error {
	var all error
	for _, c := range r.Cases {
		other := 0.0
		for _, row := range c.Rows {
			if row.Server != "muster" {
				other = row.Loss
			}
		}
		for _, row := range c.Rows {
			if row.Server == "muster" && row.Loss > max(other, 0.001) {
				all = errors.Join(all, fmt.Errorf("%s: %.3f %% of the packets were lost", c.Case, 100*row.Loss))
			}
		}
		if c.Ratio > 0 && c.Ratio < 1 {
			all = errors.Join(all, fmt.Errorf("%s: %.2f of what the other server relays per CPU second", c.Case, c.Ratio))
		}
	}
	return all
}
