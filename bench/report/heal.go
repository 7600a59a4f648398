package report

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"text/tabwriter"
)

// HealAllowed is how long after a healing, and one round trip, everybody knows
// everything again: milliseconds.
const HealAllowed = 1500

// Heal is the result of `muster bench heal`.
type Heal struct {
	Head
	Mesh         Mesh        `json:"mesh"`
	Load         Load        `json:"load"`
	Allowed      float64     `json:"allowed_ms"` // beside one round trip
	Rounds       []HealRound `json:"rounds"`
	Acknowledged int64       `json:"messages_acknowledged"`
	FirstFailure string      `json:"first_failure,omitempty"`
}

// HealRound is one cut and its healing.
type HealRound struct {
	Seed   uint64  `json:"seed"`
	Region string  `json:"region"`
	Kind   string  `json:"kind"`
	Moved  string  `json:"node_that_went,omitempty"`
	Cut    float64 `json:"cut_seconds"`

	Unknown Quantiles `json:"shown_as_unknown_after"` // since the cut, to applications on both sides
	Hidden  int       `json:"not_shown"`              // (application, region) that were not told

	// Converged is when the last application knew everything of every region
	// again, since the healing; Over is that less one round trip of the pair of
	// regions, at most; Messages when the last one had heard all that was stored
	// before.
	Converged float64      `json:"converged_ms"`
	Over      float64      `json:"over_round_trip_ms"`
	Messages  float64      `json:"messages_ms"`
	Pairs     []HealPair   `json:"pairs"`
	CDF       [][2]float64 `json:"converged_cdf"`

	Lost int `json:"lost"` // deliveries of acknowledged messages that never came
	Faults
	Away  int64 `json:"home_unreachable"` // times that a message had to be sent again since its room's home region could not be reached, or did not answer
	Apart int   `json:"apart"`            // (who, whom) that don't see each other afterwards
}

// HealPair is how long applications in one region took to know everything of
// another one.
type HealPair struct {
	From string  `json:"from"`
	To   string  `json:"to"`
	RTT  float64 `json:"rtt_ms"`
	P50  float64 `json:"p50_ms"`
	Max  float64 `json:"max_ms"`
}

// Broken says what of the product's word was broken; nil: nothing.
func (r *Heal) Broken() error {
	for _, h := range r.Rounds {
		if h.Lost != 0 || h.Duplicated != 0 || h.Left != 0 || h.Refused != 0 || h.Closed != 0 || h.Apart != 0 {
			return fmt.Errorf("bench: seed %d (%s %s) broke it: lost %d, %+v, apart %d; first: %s", h.Seed, h.Region, h.Kind, h.Lost, h.Faults, h.Apart, r.FirstFailure)
		}
	}
	return nil
}

// Late says which goals were missed.
func (r *Heal) Late() error {
	late, worst := 0, 0.0
	for _, h := range r.Rounds {
		if h.Over > r.Allowed {
			late++
			worst = max(worst, h.Over)
		}
	}
	if late == 0 {
		return nil
	}
	return fmt.Errorf("bench: %d of %d healings took longer than %.0f ms and a round trip: up to %.0f ms", late, len(r.Rounds), r.Allowed, worst)
}

// Print writes it for people.
func (r *Heal) Print(w io.Writer) error {
	fmt.Fprintf(w, "heal: one of %d regions of %d nodes cut off; %d clients in %d rooms, %g fixes/s, %g messages/s, %d CPUs\nthe database can be reached from everywhere\n\n",
		len(r.Mesh.Regions), r.Mesh.Nodes, r.Load.Users, r.Load.Rooms, r.Load.FixesPerSecond, r.Load.MessagesPerSecond, r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	fmt.Fprintln(t, "seed\tregion\tkind\tnode\tcut s\tunknown after ms\tmax\tnot told\tconverged ms\tover rtt\tmessages ms\tlost\ttwice\tleft\tsuspended\trefused\thome away\tapart\t")
	for _, h := range r.Rounds {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%d\t%.0f\t%.0f\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", h.Seed, h.Region, h.Kind, h.Moved, h.Cut, h.Unknown.P50, h.Unknown.Max, h.Hidden,
			h.Converged, h.Over, h.Messages, h.Lost, h.Duplicated, h.Left, h.Suspended, h.Refused, h.Away, h.Apart)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if _, err := fmt.Fprintf(w, "\nmessages acknowledged %d; allowed after healing: %.0f ms and one round trip\n", r.Acknowledged, r.Allowed); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (r *Heal) page() page {
	pg := page{
		Title: "Muster: a region is cut off and comes back", Head: r.Head, Verdict: errors.Join(r.Broken(), r.Late()),
		Lead: "One region is cut off from the others while everybody moves and some write; then the cut heals. Nobody may be seen to leave, no message may be lost or come twice, " +
			"and everybody has to know everything of everybody within 1.5 s and one round trip.",
		Facts: append(r.Mesh.facts(), [][2]string{
			{"Clients", fmt.Sprintf("%d in %d rooms", r.Load.Users, r.Load.Rooms)},
			{"Load", fmt.Sprintf("%g fixes/s, %g messages/s", r.Load.FixesPerSecond, r.Load.MessagesPerSecond)},
			{"Cuts", fmt.Sprint(len(r.Rounds))},
			{"Messages", fmt.Sprint(r.Acknowledged)},
		}...),
	}
	worst := series{name: "last application, less one round trip", dots: true, color: 1}
	shown := series{name: "shown as unknown, median", dots: true}
	var curves []template.HTML
	t := table{Names: 4, Header: []string{"seed", "region", "kind", "node that went", "unknown after ms", "converged ms", "over round trip", "messages ms", "lost", "twice", "left", "suspended", "home away"}}
	p := plot{title: "Converged, by round", x: "ms after healing", y: "share of (application, region)", ys: axis{from: 0, to: 1}, marks: []mark{{r.Allowed, "1.5 s"}}}
	for i, h := range r.Rounds {
		worst.points = append(worst.points, [2]float64{float64(i + 1), h.Over})
		shown.points = append(shown.points, [2]float64{float64(i + 1), h.Unknown.P50})
		p.series = append(p.series, series{name: fmt.Sprintf("%d: %s", h.Seed, h.Kind), color: i, points: h.CDF})
		t.Rows = append(t.Rows, []string{fmt.Sprint(h.Seed), h.Region, h.Kind, h.Moved, fmt.Sprintf("%.0f", h.Unknown.P50), fmt.Sprintf("%.0f", h.Converged), fmt.Sprintf("%.0f", h.Over),
			fmt.Sprintf("%.0f", h.Messages), fmt.Sprint(h.Lost), fmt.Sprint(h.Duplicated), fmt.Sprint(h.Left), fmt.Sprint(h.Suspended), fmt.Sprint(h.Away)})
		if len(p.series) == 10 || i == len(r.Rounds)-1 {
			curves = append(curves, p.svg())
			p.series = nil
		}
	}
	curves = append(curves,
		plot{title: "Worst of each round", x: "round", y: "ms after healing", series: []series{worst}}.svg(),
		plot{title: "When the cut was shown", x: "round", y: "ms after the cut", series: []series{shown}}.svg())
	pg.Sections = []section{{
		Title: "Convergence after healing",
		Text:  "An application has converged on a region when it is told that the region can be heard, and has a fix of each of its people that is no older than their last one before the healing.",
		Plots: curves, Table: t,
	}}
	return pg
}
