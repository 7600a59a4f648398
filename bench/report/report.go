// Package report holds the results of benchmarks: their JSON form, which is
// kept in bench/baseline, and the table that people read.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"
	"time"
)

// Machine says where a benchmark ran; figures of different machines are not to
// be compared.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// Quantiles are latencies in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Less returns the quantiles less a part that does not count.
func (q Quantiles) Less(ms float64) Quantiles {
	return Quantiles{round(q.P50 - ms), round(q.P90 - ms), round(q.P99 - ms), round(q.Max - ms)}
}

// Here is the machine that this runs on.
func Here() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
}

// Head is what all results begin with.
type Head struct {
	Scenario string    `json:"scenario"`
	Time     time.Time `json:"time"`
	Machine  Machine   `json:"machine"`
}

// NewHead returns the head of a result that is ready now.
func NewHead(scenario string) Head {
	return Head{Scenario: scenario, Time: time.Now().UTC().Truncate(time.Second), Machine: Here()}
}

// QuantilesOf reads them from a source.
func QuantilesOf(at func(p float64) time.Duration, most time.Duration) Quantiles {
	return Quantiles{Millis(at(50)), Millis(at(90)), Millis(at(99)), Millis(most)}
}

// Millis is d in milliseconds, to a hundredth.
func Millis(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

func round(ms float64) float64 {
	if ms < 0 {
		return float64(int64(ms*100-0.5)) / 100
	}
	return float64(int64(ms*100+0.5)) / 100
}

// Presence is the result of `muster bench presence`.
type Presence struct {
	Head

	Users     int     `json:"users"`
	RoomSize  int     `json:"room_size"`
	Rooms     int     `json:"rooms"`
	Rate      float64 `json:"fixes_per_second_and_user"`
	Seconds   float64 `json:"seconds"`
	Warmup    float64 `json:"warmup_seconds"`
	Transport string  `json:"transport"`
	Tick      float64 `json:"tick_ms"`
	// Baseline says what the bare link was measured on.
	Baseline string `json:"baseline"`

	Pairs []Pair `json:"pairs"`

	Sent       int64 `json:"fixes_sent"` // in the measured time
	Deliveries int64 `json:"deliveries"` // of those, to the application
	Expected   int64 `json:"deliveries_expected"`
	// Superseded fixes were replaced by a newer one of the same user before
	// they were delivered, as latest-wins allows.
	Superseded int64 `json:"superseded"`
	Duplicates int64 `json:"duplicates"`  // the same (epoch, n) given to the application twice, or an older one
	LostFinal  int64 `json:"lost_finals"` // (receiver, sender) whose last known fix is not the sender's last
	Gaps       int64 `json:"gaps"`        // events that had to be asked for again
	Reconnects int64 `json:"reconnects"`

	CPUSeconds    float64 `json:"cpu_seconds"`
	CPUPerMillion float64 `json:"cpu_seconds_per_million_deliveries"`
	CPUScope      string  `json:"cpu_scope"`
}

// Pair is one direction between two regions, or within one.
type Pair struct {
	From       string `json:"from"` // the sender's region
	To         string `json:"to"`   // the receiver's
	Deliveries int64  `json:"deliveries"`
	Expected   int64  `json:"deliveries_expected"`
	Superseded int64  `json:"superseded"`
	Duplicates int64  `json:"duplicates"`
	LostFinal  int64  `json:"lost_finals"`

	// Latency counts from the intended time of sending to the application's
	// callback.
	Latency Quantiles `json:"latency"`
	// Link is the one-way median of the bare link, measured in the same run as
	// half the round trip of an echo.
	Link *float64 `json:"link_ms,omitempty"`
	// Added is Latency less Link; BeyondTick is Added less the whole merge
	// tick, up to which a fix may wait for others by design.
	Added      *Quantiles `json:"added,omitempty"`
	BeyondTick *Quantiles `json:"beyond_tick,omitempty"`
}

// WriteJSON writes the JSON form of a result.
func WriteJSON(w io.Writer, result any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(result); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Print writes the table.
func (p *Presence) Print(w io.Writer) error {
	fmt.Fprintf(w, "presence: %d users in %d rooms of %d, %g fixes/s each, %.0f s after %.0f s of warm-up, %s, %d CPUs\n",
		p.Users, p.Rooms, p.RoomSize, p.Rate, p.Seconds, p.Warmup, p.Transport, p.Machine.CPUs)
	fmt.Fprintf(w, "link: %s; merge tick %g ms\n\n", p.Baseline, p.Tick)
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "from\tto\tdelivered\tsuperseded\tlost\tdup\tp50\tp90\tp99\tmax\tlink\tadded p50\tp90\tp99\tmax\tp99 beyond tick\t")
	for _, r := range p.Pairs {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t", r.From, r.To, r.Deliveries, r.Superseded,
			r.LostFinal, r.Duplicates, r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max)
		if r.Added != nil {
			fmt.Fprintf(t, "%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t", *r.Link, r.Added.P50, r.Added.P90, r.Added.P99, r.Added.Max, r.BeyondTick.P99)
		} else {
			fmt.Fprint(t, "-\t-\t-\t-\t-\t-\t")
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := fmt.Fprintf(w, `
times in ms; from the intended sending to the application's callback
fixes sent %d; delivered %d of %d, superseded %d; duplicates %d; lost final positions %d; gaps %d; reconnects %d
CPU %.1f s, %.1f s per million deliveries (%s)
`, p.Sent, p.Deliveries, p.Expected, p.Superseded, p.Duplicates, p.LostFinal, p.Gaps, p.Reconnects,
		p.CPUSeconds, p.CPUPerMillion, p.CPUScope)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
