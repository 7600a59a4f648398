package report

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Presence is the result of `muster bench presence`.
type Presence struct {
	Head
	Mesh Mesh `json:"mesh"`

	Users     int     `json:"users"`
	RoomSize  int     `json:"room_size"`
	Rooms     int     `json:"rooms"`
	Visitors  int     `json:"visitors"` // who come and go, beside the users
	Warmup    float64 `json:"warmup_seconds"`
	Transport string  `json:"transport"`
	Tick      float64 `json:"tick_ms"`  // fixes are merged per tick
	Merge     float64 `json:"merge_ms"` // presence of one room and region that follows so soon is merged; the visitors keep more apart
	CPUScope  string  `json:"cpu_scope"`

	PresenceRun
	// Steps is how the highest rate was looked for, Highest what was measured
	// there; the first step is the run above.
	Steps   []Step       `json:"steps,omitempty"`
	Highest *PresenceRun `json:"highest,omitempty"`
}

// PresenceRun is what was measured at one rate.
type PresenceRun struct {
	Rate    float64 `json:"updates_per_second"` // fixes and changes
	Seconds float64 `json:"seconds"`

	Pairs   []Pair `json:"pairs"`             // fixes: from the intended time of sending to the application's callback
	Changes []Pair `json:"changes,omitempty"` // presence: from the server's stamp (since) to the application's callback
	Calls   []Pair `json:"calls,omitempty"`   // presence: from the intended call of Leave or Join, SQL and Raft in it
	Links   []Flow `json:"links,omitempty"`

	Sent        int64 `json:"fixes_sent"` // in the measured time
	Deliveries  int64 `json:"deliveries"` // of those, to the application
	Expected    int64 `json:"deliveries_expected"`
	Superseded  int64 `json:"superseded"`
	Duplicates  int64 `json:"duplicates"`    // the same (epoch, n) given to the application twice, or an older one
	LostFinal   int64 `json:"lost_finals"`   // see Pair.Lost
	ChangesSent int64 `json:"changes_sent"`  // somebody came or went
	ChangesLost int64 `json:"changes_lost"`  // deliveries of those that never came
	Refused     int64 `json:"calls_refused"` // Joins and Leaves that failed
	Gaps        int64 `json:"gaps"`          // events that had to be asked for again
	Overflowed  int64 `json:"overflowed"`    // times that the load generator was too slow to listen
	Reconnects  int64 `json:"reconnects"`

	CPUSeconds    float64 `json:"cpu_seconds"`
	CPUPerMillion float64 `json:"cpu_seconds_per_million_deliveries"`
}

// Broken says what of the product's word was broken; nil: nothing.
func (r *PresenceRun) Broken() error {
	err := errors.Join(Faulty("fixes", r.Pairs), Faulty("presence", r.Changes))
	if r.Refused > 0 {
		err = errors.Join(err, fmt.Errorf("bench: %d calls failed", r.Refused))
	}
	return err
}

// Late says which goals were missed.
func (r *PresenceRun) Late(tick float64) error {
	return errors.Join(CrossRegion.Later(tick).Missed("fixes", r.Pairs), CrossRegion.Missed("presence", r.Changes))
}

// Broken says what of the product's word was broken at the given rate; nil:
// nothing.
func (p *Presence) Broken() error { return p.PresenceRun.Broken() }

// Late says which goals were missed at the given rate.
func (p *Presence) Late() error { return p.PresenceRun.Late(p.Tick) }

// Step sums a run up.
func (r *PresenceRun) Step(tick float64) Step {
	s := Step{Rate: r.Rate, Cores: round(r.CPUSeconds / r.Seconds)}
	latency := func(p Pair) *Quantiles { return &p.Latency }
	s.P50, s.P99 = worst(r.Changes, latency)
	if len(r.Changes) == 0 {
		s.P50, s.P99 = worst(r.Pairs, latency)
	}
	if err := errors.Join(r.Broken(), r.Late(tick)); err != nil {
		s.Why, _, _ = strings.Cut(err.Error(), "\n")
	}
	return s
}

// Print writes the table.
func (p *Presence) Print(w io.Writer) error {
	fmt.Fprintf(w, "presence: %d users in %d rooms of %d, %d who come and go, %d regions x %d nodes, %s, %d CPUs\n",
		p.Users, p.Rooms, p.RoomSize, p.Visitors, len(p.Mesh.Regions), p.Mesh.Nodes, p.Transport, p.Machine.CPUs)
	fmt.Fprintf(w, "link: %s; jitter %g ms, loss %s; merge tick %g ms; times in ms\n", p.Mesh.Baseline, p.Mesh.Jitter, percent(p.Mesh.Loss), p.Tick)
	err := p.PresenceRun.print(w, p.CPUScope)
	printSteps(w, p.Steps)
	if p.Highest != nil && err == nil {
		err = p.Highest.print(w, p.CPUScope)
	}
	return err
}

func (r *PresenceRun) print(w io.Writer, scope string) error {
	fmt.Fprintf(w, "\n%.0f updates a second for %.0f s\nfixes, from the intended sending to the application's callback; crossing: after the sender's own region, less the link\n", r.Rate, r.Seconds)
	err := printPairs(w, r.Pairs)
	if len(r.Changes) > 0 {
		fmt.Fprintln(w, "\npresence changes, from the server's stamp to the application's callback")
		err = errors.Join(err, printPairs(w, r.Changes))
		fmt.Fprintln(w, "\nthe same, from the call (Leave, or Join with its SQL and Raft)")
		err = errors.Join(err, printPairs(w, r.Calls))
	}
	err = errors.Join(err, printFlows(w, r.Links))
	_, err2 := fmt.Fprintf(w, `
fixes sent %d; delivered %d of %d, superseded %d; duplicates %d; lost final positions %d
presence changes %d, deliveries of them lost %d, calls refused %d; gaps %d; overflows %d; reconnects %d
CPU %.1f s, %.1f s per million deliveries (%s)
`, r.Sent, r.Deliveries, r.Expected, r.Superseded, r.Duplicates, r.LostFinal, r.ChangesSent, r.ChangesLost, r.Refused, r.Gaps, r.Overflowed, r.Reconnects,
		r.CPUSeconds, r.CPUPerMillion, scope)
	if err = errors.Join(err, err2); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (p *Presence) page() page {
	pg := page{
		Title: "Muster: presence across regions", Head: p.Head, Verdict: errors.Join(p.Broken(), p.Late()),
		Lead: fmt.Sprintf("%d people in %d rooms that span all regions move and see each other move, while %d others come and go. "+
			"Latency is held against a bare UDP echo on the same emulated link in the same run.", p.Users, p.Rooms, p.Visitors),
		Facts: append(p.Mesh.facts(), [][2]string{
			{"Updates", fmt.Sprintf("%.0f/s for %.0f s", p.Rate, p.Seconds)},
			{"Rooms", fmt.Sprintf("%d of %d", p.Rooms, p.RoomSize)},
			{"Deliveries", fmt.Sprintf("%d", p.Deliveries)},
			{"Merge tick of fixes", fmt.Sprintf("%g ms", p.Tick)},
			{"CPU, all together", fmt.Sprintf("%.2f cores", p.CPUSeconds/p.Seconds)},
		}...),
	}
	pg.Sections = p.PresenceRun.sections(p.Tick, "")
	pg.Sections = append(pg.Sections, stepSection(p.Steps)...)
	if p.Highest != nil {
		pg.Sections = append(pg.Sections, p.Highest.sections(p.Tick, fmt.Sprintf(" at %.0f updates/s", p.Highest.Rate))...)
	}
	return pg
}

func (r *PresenceRun) sections(tick float64, at string) []section {
	added := func(p Pair) [][2]float64 { return p.CDF }
	list := []section{}
	if len(r.Changes) > 0 {
		list = append(list, section{
			Title: "Presence changes" + at, Text: "From the server's stamp to the application's callback.",
			Plots: pairPlots("Coming and going, from", r.Changes, CrossRegion, added), Table: pairTable(r.Changes),
		})
	}
	return append(append(list, section{
		Title: "Fixes" + at,
		Text: fmt.Sprintf("From the intended time of sending to the application's callback. A fix waits for the room's merge tick, up to %g ms by design: the first plots show what crossing a link adds "+
			"to the same fix, held against its delivery in the sender's own region; the second ones and the table have the wait in them.", tick),
		Plots: append(pairPlots("Crossing, from", r.Pairs, CrossRegion, func(p Pair) [][2]float64 { return p.CrossingCDF }),
			pairPlots("With the tick, from", r.Pairs, CrossRegion.Later(tick), added)...),
		Table: pairTable(r.Pairs),
	}), linkSection(r.Links)...)
}
