package report

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// Mesh is what scenarios over emulated links run on.
type Mesh struct {
	Regions []string `json:"regions"`
	Nodes   int      `json:"nodes_per_region,omitempty"`
	// Baseline says what the bare link was measured on.
	Baseline string  `json:"baseline"`
	Jitter   float64 `json:"jitter_ms"` // the most that is added to a packet's delay
	Loss     float64 `json:"loss"`      // share of packets
	Database string  `json:"database"`  // where it stands
}

// Pair is one direction between two regions, or within one.
type Pair struct {
	From       string `json:"from"` // the sender's region
	To         string `json:"to"`   // the receiver's
	Deliveries int64  `json:"deliveries"`
	Expected   int64  `json:"deliveries_expected"`
	Superseded int64  `json:"superseded,omitempty"` // of fixes: replaced by a newer one before they were delivered, as latest-wins allows
	Duplicates int64  `json:"duplicates"`
	Lost       int64  `json:"lost"` // of fixes: (receiver, sender) whose last known fix is not the sender's last

	Latency Quantiles `json:"latency"`
	// Link is the one-way bare link, measured in the same run as half the round
	// trip of an echo: its median, and its 99th percentile.
	Link *Bare `json:"link,omitempty"`
	// Added is Latency less the link's median.
	Added *Quantiles `json:"added,omitempty"`
	// CDF is the distribution of what was added: (ms, share up to there).
	CDF [][2]float64 `json:"added_cdf,omitempty"`

	// Crossing, of fixes: how much later than within the sender's own region the
	// same fix arrived, less the link. Both waited for the same merge tick.
	Crossing    *Quantiles   `json:"crossing,omitempty"`
	CrossingCDF [][2]float64 `json:"crossing_cdf,omitempty"`
}

// Bare is a link without a product on it, one way.
type Bare struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// wide reports whether the pair is of two regions.
func (p Pair) wide() bool { return p.From != p.To }

// Over is how much the quantiles are over those of a bare link, like to like:
// the median over its median, the 99th percentile over its 99th.
func (p Pair) Over(q Quantiles) (p50, p99 float64) {
	return round(q.P50 - p.Link.P50), round(q.P99 - p.Link.P99)
}

// Goal is what may be added to the bare link, in milliseconds.
type Goal struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// CrossRegion is the goal for what goes from region to region.
var CrossRegion = Goal{P50: 3, P99: 10}

// Later is the goal for what may wait for so long by design.
func (g Goal) Later(ms float64) Goal { return Goal{g.P50 + ms, g.P99 + ms} }

// Missed says how many pairs of regions don't reach the goal, and which is the
// worst.
func (g Goal) Missed(what string, pairs []Pair) error {
	var missed, measured int
	var worst Pair
	var by float64
	for _, p := range pairs {
		if !p.wide() || p.Link == nil || p.Deliveries == 0 {
			continue
		}
		measured++
		if p50, p99 := p.Over(p.Latency); p50 > g.P50 || p99 > g.P99 {
			missed++
			if over := max(p50-g.P50, p99-g.P99); missed == 1 || over > by {
				worst, by = p, over
			}
		}
	}
	if missed == 0 {
		return nil
	}
	p50, p99 := worst.Over(worst.Latency)
	return fmt.Errorf("bench: %s: %d of %d pairs of regions are later than %g ms p50 or %g ms p99 over the bare link; the worst is %s to %s with %.1f and %.1f",
		what, missed, measured, g.P50, g.P99, worst.From, worst.To, p50, p99)
}

// Faulty says how much was lost or doubled.
func Faulty(what string, pairs []Pair) error {
	var lost, doubled int64
	for _, p := range pairs {
		lost += p.Lost
		doubled += p.Duplicates
	}
	if lost == 0 && doubled == 0 {
		return nil
	}
	return fmt.Errorf("bench: %s: %d lost, %d doubled: there may be none", what, lost, doubled)
}

// worst returns the pairs of regions' highest figures over the bare link.
func worst(pairs []Pair, of func(Pair) *Quantiles) (p50, p99 float64) {
	for _, p := range pairs {
		q := of(p)
		if !p.wide() || p.Link == nil || q == nil || p.Deliveries == 0 {
			continue
		}
		a, b := p.Over(*q)
		p50, p99 = max(p50, a), max(p99, b)
	}
	return p50, p99
}

// Flow is what one region sent to another over the emulated link while the load
// ran.
type Flow struct {
	From string `json:"from"`
	To   string `json:"to"`

	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes"`            // of UDP payload
	Idle    float64 `json:"idle_bytes_per_s"` // of the same link without load, before

	Updates    int64   `json:"updates"`    // from From with receivers in To
	Deliveries int64   `json:"deliveries"` // to those
	PerUpdate  float64 `json:"bytes_per_update"`
	// PerDelivery is what a delivery costs on the link.
	PerDelivery float64 `json:"bytes_per_delivery"`
	// Naive is what an update would cost if each receiver got it over the link:
	// the bytes that the receivers' sessions read, without any transport around
	// them.
	Naive float64 `json:"naive_bytes_per_update"`
}

// NewFlow sums a link up: what went over it in a time, less what would have
// gone anyway, and what the receivers read of what came over it.
func NewFlow(f Flow, seconds, read float64) Flow {
	if f.Updates > 0 {
		net := max(0, float64(f.Bytes)-f.Idle*seconds)
		f.PerUpdate = round(net / float64(f.Updates))
		f.Naive = round(read / float64(f.Updates))
	}
	if f.Deliveries > 0 {
		f.PerDelivery = round(f.PerUpdate * float64(f.Updates) / float64(f.Deliveries))
	}
	f.Idle = round(f.Idle)
	return f
}

func printFlows(w io.Writer, flows []Flow) error {
	if len(flows) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nover each region link; UDP payload, less what an idle link carries")
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "from\tto\tupdates\treceivers\tpackets\tKiB\tidle B/s\tB/update\tB/delivery\tnaive B/update\ttimes\t")
	for _, f := range flows {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t\n", f.From, f.To, f.Updates, ratio(float64(f.Deliveries), float64(f.Updates)),
			f.Packets, float64(f.Bytes)/1024, f.Idle, f.PerUpdate, f.PerDelivery, f.Naive, ratio(f.Naive, f.PerUpdate))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func printPairs(w io.Writer, pairs []Pair) error {
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "from\tto\tdelivered\tsuperseded\tlost\tdup\tp50\tp90\tp99\tmax\tlink p50\tp99\tover the link p50\tp99\tcrossing p50\tp99\t")
	for _, r := range pairs {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t", r.From, r.To, r.Deliveries, r.Superseded,
			r.Lost, r.Duplicates, r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max)
		for _, q := range []*Quantiles{&r.Latency, r.Crossing} {
			switch {
			case r.Link == nil && q == &r.Latency:
				fmt.Fprint(t, "-\t-\t-\t-\t")
			case r.Link == nil || q == nil:
				fmt.Fprint(t, "-\t-\t")
			case q == r.Crossing: // the link is off already
				fmt.Fprintf(t, "%.1f\t%.1f\t", q.P50, q.P99)
			default:
				p50, p99 := r.Over(*q)
				fmt.Fprintf(t, "%.1f\t%.1f\t%.1f\t%.1f\t", r.Link.P50, r.Link.P99, p50, p99)
			}
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 3, 64) + " %" }
