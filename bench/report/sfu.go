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

const (
	sfuDelivered = 0.99 // the least that has to arrive for a run to count
	sfuRatio     = 1.5  // the goal, beside another server in the same run
)

// SFU is the result of `muster bench sfu`.
type SFU struct {
	Head
	Rounds  int       `json:"rounds"`
	Seconds float64   `json:"seconds"`
	Cases   []SFUCase `json:"cases"`
}

// SFUCase is all runs of a workload.
type SFUCase struct {
	Case      string    `json:"case"`
	Goal      float64   `json:"goal_per_cpu_second,omitempty"` // where there is nothing to compare with
	GoalDelay float64   `json:"goal_added_p99_ms,omitempty"`
	Servers   []SFURuns `json:"servers"`
}

// SFURuns is all runs of a workload on one server, a round each.
type SFURuns struct {
	Server string   `json:"server"`
	Runs   []SFURun `json:"runs"`
	// Ratio is what this server forwards per CPU second to what the other one does in the
	// same round, the median; 0 without another one.
	Ratio float64 `json:"ratio,omitempty"`
	// Added is the 99th percentile less that of the same round without a server, the
	// median, in ms.
	Added float64 `json:"added_p99_ms"`
}

// Servers of a result.
const (
	SFUMuster  = "muster"
	SFUServe   = "muster serve" // with all that a node does
	SFULiveKit = "livekit"
	SFUDirect  = "none" // participants are connected to each other
)

// SFURun is one run. Packets are of RTP. Of what has no server nothing is said of one.
type SFURun struct {
	In           float64   `json:"in_per_second"`
	Forwarded    float64   `json:"forwarded_per_second"` // that receivers got
	PerCPUSecond float64   `json:"forwarded_per_cpu_second,omitempty"`
	Cores        float64   `json:"server_cores,omitempty"`
	ClientCores  float64   `json:"client_cores"`
	Delivered    float64   `json:"delivered_of_expected"`
	Delay        Quantiles `json:"delay"` // from the sender's write to the receiver's read
	Reads        float64   `json:"read_calls_per_second,omitempty"`
	Writes       float64   `json:"write_calls_per_second,omitempty"`
	Repeated     float64   `json:"repeated_per_second,omitempty"`
	MemoryBytes  int64     `json:"memory_bytes,omitempty"`
}

// Add adds the runs of a server, of as many rounds as the others'.
func (c *SFUCase) Add(server string, run SFURun) {
	i := slices.IndexFunc(c.Servers, func(r SFURuns) bool { return r.Server == server })
	if i < 0 {
		i = len(c.Servers)
		c.Servers = append(c.Servers, SFURuns{Server: server})
	}
	c.Servers[i].Runs = append(c.Servers[i].Runs, run)
}

// Compare fills in what comes of the servers beside each other.
func (c *SFUCase) Compare() {
	other, none := c.of(SFULiveKit), c.of(SFUDirect)
	for i := range c.Servers {
		s := &c.Servers[i]
		var ratios, added []float64
		for n, run := range s.Runs {
			if n < len(other) && strings.HasPrefix(s.Server, SFUMuster) {
				ratios = append(ratios, run.PerCPUSecond/other[n].PerCPUSecond)
			}
			if n < len(none) && s.Server != SFUDirect {
				added = append(added, run.Delay.P99-none[n].Delay.P99)
			}
		}
		s.Ratio, s.Added = round(middle(ratios)), round(middle(added))
	}
}

func (c *SFUCase) of(server string) []SFURun {
	for _, s := range c.Servers {
		if s.Server == server {
			return s.Runs
		}
	}
	return nil
}

// middle is the median, the upper one of two; 0 of nothing.
func middle(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

func (s SFURuns) median() SFURun {
	key := func(r SFURun) float64 { return r.PerCPUSecond }
	if s.Server == SFUDirect {
		key = func(r SFURun) float64 { return r.Delay.P99 }
	}
	runs := slices.SortedFunc(slices.Values(s.Runs), func(a, b SFURun) int { return cmp.Compare(key(a), key(b)) })
	return runs[len(runs)/2]
}

// Print writes it for people.
func (r *SFU) Print(w io.Writer) error {
	fmt.Fprintf(w, "sfu: one room, media server in a process of its own, participants of pion in another, loopback, all on %d CPUs; servers in turn, median of %d runs of %.0f s\n",
		r.Machine.CPUs, r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tserver\tin/s\tforwarded/s\tper CPU s\tratio\tcores\tclients'\tdelivered\tdelay ms\tadded ms\treads/s\twrites/s\tMiB\t")
	fmt.Fprintln(t, "\t\t\t\t\t\t\tcores\t\tp50 / p99\tp99\t\t\t\t")
	some := func(format string, v float64) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	for _, c := range r.Cases {
		for _, s := range c.Servers {
			m := s.median()
			fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%s\t%s\t%s\t%.2f\t%.4f\t%s\t%s\t%s\t%s\t%s\t\n", c.Case, s.Server, m.In, m.Forwarded, some("%.0f", m.PerCPUSecond),
				some("%.2f", s.Ratio), some("%.3f", m.Cores), m.ClientCores, m.Delivered, pair(m.Delay), some("%+.1f", s.Added), some("%.0f", m.Reads), some("%.0f", m.Writes), some("%.0f", float64(m.MemoryBytes)/(1<<20)))
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, c := range r.Cases {
		for _, s := range c.Servers {
			var all []string
			for _, run := range s.Runs {
				per := "-"
				if run.PerCPUSecond > 0 {
					per = fmt.Sprintf("%.0f", run.PerCPUSecond)
				}
				all = append(all, fmt.Sprintf("%s (%.1f ms)", per, run.Delay.P99))
			}
			fmt.Fprintf(w, "%s, %s: forwarded per CPU second (delay p99) of each run: %s\n", c.Case, s.Server, strings.Join(all, ", "))
		}
	}
	return nil
}

// Broken says what must never be.
func (r *SFU) Broken() error {
	var errs []error
	for _, c := range r.Cases {
		for _, s := range c.Servers {
			for _, run := range s.Runs {
				if run.Forwarded == 0 {
					errs = append(errs, fmt.Errorf("%s, %s: nothing was forwarded", c.Case, s.Server))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Late says which goals were missed.
func (r *SFU) Late() error {
	var errs []error
	for _, c := range r.Cases {
		for _, s := range c.Servers {
			m := s.median()
			if m.Delivered < sfuDelivered {
				errs = append(errs, fmt.Errorf("%s, %s: %.3f of what was sent arrived: its figures are not those of the workload", c.Case, s.Server, m.Delivered))
			}
			if !strings.HasPrefix(s.Server, SFUMuster) {
				continue
			}
			switch {
			case c.Goal == 0: // none
			case s.Ratio > 0 && s.Ratio < sfuRatio:
				errs = append(errs, fmt.Errorf("%s, %s: %.2f times what LiveKit forwards per CPU second, the goal is %.1f", c.Case, s.Server, s.Ratio, sfuRatio))
			case s.Ratio == 0 && m.PerCPUSecond < c.Goal:
				errs = append(errs, fmt.Errorf("%s, %s: %.0f packets forwarded per CPU second, the goal is %.0f", c.Case, s.Server, m.PerCPUSecond, c.Goal))
			}
			if c.GoalDelay > 0 && s.Added > c.GoalDelay {
				errs = append(errs, fmt.Errorf("%s, %s: %.2f ms more on the way than without a server (p99), the goal is %.0f", c.Case, s.Server, s.Added, c.GoalDelay))
			}
		}
	}
	return errors.Join(errs...)
}
