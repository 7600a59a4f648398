package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// sfuDelivered is the least that has to arrive for a run to count.
const sfuDelivered = 0.99

// SFU is the result of `muster bench sfu`.
type SFU struct {
	Head
	Rounds  int       `json:"rounds"`
	Seconds float64   `json:"seconds"`
	Cases   []SFUCase `json:"cases"`
}

// SFUCase is all runs of a workload.
type SFUCase struct {
	Case      string   `json:"case"`
	Goal      float64  `json:"goal_per_cpu_second,omitempty"`
	GoalDelay float64  `json:"goal_p99_ms,omitempty"`
	Runs      []SFURun `json:"runs"`
}

// SFURun is one run. Packets are of RTP.
type SFURun struct {
	In           float64   `json:"in_per_second"`
	Forwarded    float64   `json:"forwarded_per_second"`
	PerCPUSecond float64   `json:"forwarded_per_cpu_second"`
	Cores        float64   `json:"server_cores"`
	ClientCores  float64   `json:"client_cores"`
	Delivered    float64   `json:"delivered_of_expected"`
	Delay        Quantiles `json:"delay"` // from the sender's write to the receiver's read
	Reads        float64   `json:"read_calls_per_second"`
	Writes       float64   `json:"write_calls_per_second"`
	Repeated     float64   `json:"repeated_per_second"`
	MemoryBytes  int64     `json:"memory_bytes"`
}

func (c SFUCase) median() SFURun {
	runs := slices.SortedFunc(slices.Values(c.Runs), func(a, b SFURun) int { return cmp.Compare(a.PerCPUSecond, b.PerCPUSecond) })
	return runs[len(runs)/2]
}

// Print writes it for people.
func (r *SFU) Print(w io.Writer) error {
	fmt.Fprintf(w, "sfu: one room, media server in a process of its own, participants of pion in another, loopback, all on %d CPUs; median of %d runs of %.0f s\n",
		r.Machine.CPUs, r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tin/s\tforwarded/s\tper CPU s\tgoal\tcores\tclients\tdelivered\tdelay ms\treads/s\twrites/s\tMiB\t")
	fmt.Fprintln(t, "\t\t\t\t\t\tcores\t\tp50 / p99\t\t\t\t")
	for _, c := range r.Cases {
		m := c.median()
		goal := ""
		if c.Goal > 0 {
			goal = fmt.Sprintf("%.0f", c.Goal)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%s\t%.3f\t%.2f\t%.4f\t%s\t%.0f\t%.0f\t%.0f\t\n", c.Case, m.In, m.Forwarded, m.PerCPUSecond, goal, m.Cores, m.ClientCores,
			m.Delivered, pair(m.Delay), m.Reads, m.Writes, float64(m.MemoryBytes)/(1<<20))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, c := range r.Cases {
		var all []string
		for _, run := range c.Runs {
			all = append(all, fmt.Sprintf("%.0f", run.PerCPUSecond))
		}
		fmt.Fprintf(w, "%s: forwarded per CPU second of each run: %s\n", c.Case, strings.Join(all, ", "))
	}
	return nil
}

// Broken says what must never be.
func (r *SFU) Broken() error {
	var errs []error
	for _, c := range r.Cases {
		for _, run := range c.Runs {
			if run.Forwarded == 0 {
				errs = append(errs, fmt.Errorf("%s: nothing was forwarded", c.Case))
			}
		}
	}
	return errors.Join(errs...)
}

// Late says which goals were missed.
func (r *SFU) Late() error {
	var errs []error
	for _, c := range r.Cases {
		m := c.median()
		if m.PerCPUSecond < c.Goal {
			errs = append(errs, fmt.Errorf("%s: %.0f packets forwarded per CPU second, the goal is %.0f", c.Case, m.PerCPUSecond, c.Goal))
		}
		if m.Delivered < sfuDelivered {
			errs = append(errs, fmt.Errorf("%s: %.3f of what was sent arrived: its figures are not those of the workload", c.Case, m.Delivered))
		}
		if c.GoalDelay > 0 && m.Delay.P99 > c.GoalDelay {
			errs = append(errs, fmt.Errorf("%s: %.2f ms on the way (p99), the goal is %.0f", c.Case, m.Delay.P99, c.GoalDelay))
		}
	}
	return errors.Join(errs...)
}
