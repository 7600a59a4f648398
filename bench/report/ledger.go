package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// The goals of the ledger: expenses of many groups against pgbench's transactions, and
// what members ask about a group with much in it.
const (
	ledgerShare   = 1.0 / 3
	ledgerQueryMs = 50
)

// Ledger is the result of `muster bench ledger`: expenses over HTTP, beside pgbench's
// TPC-B-like transactions on the same database server.
type Ledger struct {
	Head
	Rounds  int          `json:"rounds"`
	Seconds float64      `json:"seconds"`
	Clients int          `json:"clients"`
	Ways    int          `json:"ways"`  // members among whom an expense is split
	Scale   int          `json:"scale"` // of pgbench
	Cases   []LedgerCase `json:"cases"`
	Queries *LedgerAsked `json:"queries,omitempty"`
	Faults  []string     `json:"faults,omitempty"` // of what is stored
}

// LedgerCase is all runs of a case.
type LedgerCase struct {
	Case string      `json:"case"`
	Runs []LedgerRun `json:"runs"`
}

// LedgerRun is one run: of Muster, and of pgbench just before it.
type LedgerRun struct {
	Created       float64   `json:"expenses_per_second"`
	Pgbench       float64   `json:"pgbench_per_second"`
	Share         float64   `json:"of_pgbench"`
	Took          Quantiles `json:"took"`
	ServerCores   float64   `json:"server_cores"`
	DatabaseCores float64   `json:"database_cores"`
	ClientCores   float64   `json:"load_generator_cores"`
	Failed        int64     `json:"failed"`
}

// LedgerAsked is what questions about one group took.
type LedgerAsked struct {
	Members   int                  `json:"members"`
	Expenses  int                  `json:"expenses"`
	PerSecond float64              `json:"per_second"`
	Took      map[string]Quantiles `json:"took"` // by question, and of all
	Failed    int64                `json:"failed"`
}

// median is the run in the middle, by its share.
func (c LedgerCase) median() LedgerRun {
	runs := slices.SortedFunc(slices.Values(c.Runs), func(a, b LedgerRun) int {
		if a.Share < b.Share {
			return -1
		}
		return 1
	})
	return runs[len(runs)/2]
}

// Print writes it for people.
func (r *Ledger) Print(w io.Writer) error {
	fmt.Fprintf(w, "ledger: expenses over HTTP, split %d ways, by %d clients; pgbench: TPC-B-like, scale %d, %d clients, SERIALIZABLE, on the same PostgreSQL with fsync; all on %d CPUs, the load generators too; median of %d runs of %.0f s\n",
		r.Ways, r.Clients, r.Scale, r.Clients, r.Machine.CPUs, r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\texpenses/s\tpgbench tps\tof it\ttook ms\tserver\tdatabase\tclients\tfailed\t")
	fmt.Fprintln(t, "\t\t\t\tp50 / p99\tcores\tcores\tcores\t\t")
	for _, c := range r.Cases {
		m := c.median()
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%s\t%.2f\t%.2f\t%.2f\t%d\t\n", c.Case, m.Created, m.Pgbench, m.Share, pair(m.Took), m.ServerCores, m.DatabaseCores, m.ClientCores, m.Failed)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, c := range r.Cases {
		var all []string
		for _, run := range c.Runs {
			all = append(all, fmt.Sprintf("%.0f of %.0f", run.Created, run.Pgbench))
		}
		fmt.Fprintf(w, "%s: expenses per second of each run, beside pgbench: %s\n", c.Case, strings.Join(all, ", "))
	}
	if q := r.Queries; q != nil {
		fmt.Fprintf(w, "a group of %d members and %d expenses, asked %.0f times a second, each when it is due (ms, p50 / p99):\n", q.Members, q.Expenses, q.PerSecond)
		names := make([]string, 0, len(q.Took))
		for name := range q.Took {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(w, "  %-10s %s\n", name, pair(q.Took[name]))
		}
	}
	return nil
}

// Broken says what must never be.
func (r *Ledger) Broken() error {
	var errs []error
	for _, c := range r.Cases {
		for _, run := range c.Runs {
			if run.Failed > 0 {
				errs = append(errs, fmt.Errorf("%s: %d expenses failed", c.Case, run.Failed))
			}
		}
	}
	if r.Queries != nil && r.Queries.Failed > 0 {
		errs = append(errs, fmt.Errorf("%d questions failed", r.Queries.Failed))
	}
	for _, f := range r.Faults {
		errs = append(errs, errors.New(f))
	}
	return errors.Join(errs...)
}

// Late says which goals were missed.
func (r *Ledger) Late() error {
	var errs []error
	for _, c := range r.Cases {
		if m := c.median(); m.Share < ledgerShare && strings.Contains(c.Case, "groups") {
			errs = append(errs, fmt.Errorf("%s: %.0f expenses per second, %.2f of pgbench's %.0f", c.Case, m.Created, m.Share, m.Pgbench))
		}
	}
	if q := r.Queries; q != nil && q.Took["all"].P99 > ledgerQueryMs {
		errs = append(errs, fmt.Errorf("questions about a group took %.0f ms (p99)", q.Took["all"].P99))
	}
	return errors.Join(errs...)
}
