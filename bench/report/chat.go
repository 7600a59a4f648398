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

// NakamaChat is what Nakama 3.40.0 does with PostgreSQL 15 in the case of one sender,
// 50 members and 8 messages under way, over JSON sockets: messages per second of the
// CPU of both. Measured on a machine of two cores, the load generator on the same.
const NakamaChat = 1510

// Chat is the result of `muster bench chat`: what messages that are stored cost, in
// CPU of the server and of its database.
type Chat struct {
	Head
	Rounds  int        `json:"rounds"`
	Seconds float64    `json:"seconds"`
	Bytes   int        `json:"message_bytes"`
	Cases   []ChatCase `json:"cases"`
}

// ChatCase is the median run of a case, by messages per CPU second, and all of them.
type ChatCase struct {
	Case string `json:"case"`
	ChatRun
	// Nakama is PerCPUSecond against that of Nakama; 0 where it was not measured.
	Nakama float64   `json:"times_nakama,omitempty"`
	Runs   []ChatRun `json:"runs"`
}

// ChatRun is one run of a case.
type ChatRun struct {
	Stored        float64   `json:"messages_per_second"` // acknowledged
	Deliveries    float64   `json:"deliveries_per_second"`
	ServerCores   float64   `json:"server_cores"`
	DatabaseCores float64   `json:"database_cores"`
	ClientCores   float64   `json:"load_generator_cores"`
	PerCPUSecond  float64   `json:"messages_per_cpu_second"` // of server and database
	Batch         float64   `json:"messages_per_commit"`
	Commit        Quantiles `json:"commit"` // of batches, by the server's histogram, between its bounds
	Ack           Quantiles `json:"ack"`    // from when a message was due until its sender had the answer
	Heard         Quantiles `json:"heard"`  // until others had it
	Refused       int64     `json:"refused"`
	Lost          int64     `json:"lost"` // deliveries of acknowledged messages, when all had settled
}

// Add adds the runs of a case; nakama: it was measured there, too.
func (r *Chat) Add(name string, runs []ChatRun, nakama bool) {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b ChatRun) int { return cmp.Compare(a.PerCPUSecond, b.PerCPUSecond) })
	c := ChatCase{Case: name, ChatRun: sorted[len(sorted)/2], Runs: runs}
	if nakama {
		c.Nakama = round(c.PerCPUSecond / NakamaChat)
	}
	r.Cases = append(r.Cases, c)
}

// Print writes it for people.
func (r *Chat) Print(w io.Writer) error {
	fmt.Fprintf(w, "chat: %d-byte messages, stored with fsync before they are acknowledged; one server process and PostgreSQL, load generator on the same %d CPUs but not counted; median of %d runs of %.0f s\n",
		r.Bytes, r.Machine.CPUs, r.Rounds, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "case\tmessages/s\tdeliveries/s\tserver\tdatabase\tmessages per\tmessages per\tcommit ms\tack ms\theard ms\tagainst\t")
	fmt.Fprintln(t, "\t\t\tcores\tcores\tCPU second\tcommit\tp50 / p99\tp50 / p99\tp50 / p99\tNakama\t")
	for _, c := range r.Cases {
		nakama := ""
		if c.Nakama > 0 {
			nakama = fmt.Sprintf("%.2f x", c.Nakama)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.0f\t%.1f\t%s\t%s\t%s\t%s\t\n", c.Case, c.Stored, c.Deliveries, c.ServerCores, c.DatabaseCores,
			c.PerCPUSecond, c.Batch, pair(c.Commit), pair(c.Ack), pair(c.Heard), nakama)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, c := range r.Cases {
		if len(c.Runs) < 2 {
			continue
		}
		var all []string
		for _, run := range c.Runs {
			all = append(all, fmt.Sprintf("%.0f", run.PerCPUSecond))
		}
		fmt.Fprintf(w, "%s: messages per CPU second of each run: %s\n", c.Case, strings.Join(all, ", "))
	}
	_, err := fmt.Fprintf(w, "Nakama 3.40.0 with PostgreSQL 15, one sender, 50 members, 8 under way: %d messages per CPU second\n", NakamaChat)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func pair(q Quantiles) string { return fmt.Sprintf("%.1f / %.1f", q.P50, q.P99) }

// Broken says what must never be: something acknowledged that somebody did not hear.
func (r *Chat) Broken() error {
	var errs []error
	for _, c := range r.Cases {
		for _, run := range c.Runs {
			if run.Lost != 0 || run.Refused > 0 {
				errs = append(errs, fmt.Errorf("%s: %d deliveries lost, %d messages refused", c.Case, run.Lost, run.Refused))
			}
		}
	}
	return errors.Join(errs...)
}

// Late says whether the goal was missed: twice what Nakama does.
func (r *Chat) Late() error {
	var errs []error
	for _, c := range r.Cases {
		if c.Nakama > 0 && c.Nakama < 2 {
			errs = append(errs, fmt.Errorf("%s: %.0f messages per CPU second, %.2f times Nakama's %d", c.Case, c.PerCPUSecond, c.Nakama, NakamaChat))
		}
	}
	return errors.Join(errs...)
}
