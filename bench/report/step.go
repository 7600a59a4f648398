package report

import (
	"fmt"
	"io"
)

// Step is a run at one rate.
type Step struct {
	Rate  float64 `json:"updates_per_second"`
	P50   float64 `json:"over_link_p50_ms"` // of the worst pair of regions
	P99   float64 `json:"over_link_p99_ms"`
	Why   string  `json:"missed,omitempty"` // why this rate is too high
	Cores float64 `json:"cores"`
}

func printSteps(w io.Writer, steps []Step) {
	for i, s := range steps {
		if i == 0 {
			fmt.Fprintln(w, "\nthe highest rate:")
		}
		verdict := "carried"
		if s.Why != "" {
			verdict = "too much: " + s.Why
		}
		fmt.Fprintf(w, "  %6.0f/s, %.2f cores: p50 %.1f, p99 %.1f over the link at worst; %s\n", s.Rate, s.Cores, s.P50, s.P99, verdict)
	}
}

func stepSection(steps []Step) []section {
	if len(steps) == 0 {
		return nil
	}
	t := table{Names: 1, Header: []string{"", "per second", "cores", "p50 over link", "p99 over link"}}
	for _, s := range steps {
		verdict := "carried"
		if s.Why != "" {
			verdict = s.Why
		}
		t.Rows = append(t.Rows, []string{verdict, fmt.Sprintf("%.0f", s.Rate), fmt.Sprintf("%.2f", s.Cores), ms(s.P50), ms(s.P99)})
	}
	return []section{{
		Title: "The highest rate", Text: "The rate is doubled until the goals are missed or something is lost, then tried once between; figures of the worst pair of regions.", Table: t,
	}}
}
