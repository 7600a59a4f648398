package report

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Messages is the result of `muster bench messages`.
type Messages struct {
	Head
	Mesh Mesh `json:"mesh"`

	Users     int     `json:"users"`
	RoomSize  int     `json:"room_size"`
	Rooms     int     `json:"rooms"`
	Size      int     `json:"body_bytes"`
	Warmup    float64 `json:"warmup_seconds"`
	Transport string  `json:"transport"`
	Since     string  `json:"deliveries_count_from"`

	MessagesRun
	Steps   []Step       `json:"steps,omitempty"` // as in Presence
	Highest *MessagesRun `json:"highest,omitempty"`
}

// MessagesRun is what was measured at one rate.
type MessagesRun struct {
	Rate    float64 `json:"messages_per_second"`
	Seconds float64 `json:"seconds"`

	Deliveries []Pair `json:"deliveries"` // from the room's home region to a receiver's, from commit to the application's callback
	// Writes are from the sender's region to the room's home, from the intended
	// call to its answer. Their link is a round trip.
	Writes []Pair `json:"writes"`
	Links  []Flow `json:"links,omitempty"`

	Acknowledged int64   `json:"messages_acknowledged"` // in the measured time
	Refused      int64   `json:"refused"`
	Lost         int     `json:"lost"`       // deliveries of acknowledged messages that never came
	Duplicated   int64   `json:"duplicated"` // messages given to an application twice
	CPUSeconds   float64 `json:"cpu_seconds"`
	FirstFailure string  `json:"first_failure,omitempty"`
}

// wideTrips is how many wide round trips a write took at the median: what it
// took longer than one from within the home region, in round trips of the bare
// link.
func (r *MessagesRun) wideTrips(p Pair) float64 {
	if p.Link == nil || p.Link.P50 == 0 {
		return 0
	}
	for _, home := range r.Writes {
		if home.From == p.To && home.To == p.To {
			return round((p.Latency.P50 - home.Latency.P50) / p.Link.P50)
		}
	}
	return round(p.Latency.P50 / p.Link.P50)
}

// Broken says what of the product's word was broken; nil: nothing. That a write
// takes one wide round trip is part of it: a second one would show as 2.
func (r *MessagesRun) Broken() error {
	var err error
	if r.Lost != 0 || r.Duplicated != 0 || r.Refused != 0 {
		err = fmt.Errorf("bench: messages: %d lost, %d doubled, %d refused: there may be none %s", r.Lost, r.Duplicated, r.Refused, r.FirstFailure)
	}
	for _, p := range r.Writes {
		if trips := r.wideTrips(p); p.wide() && trips > 1.5 {
			err = errors.Join(err, fmt.Errorf("bench: a message from %s to a room at home in %s took %.1f wide round trips: one is enough", p.From, p.To, trips))
		}
	}
	return err
}

// Late says which goals were missed.
func (r *MessagesRun) Late() error { return CrossRegion.Missed("messages", r.Deliveries) }

// Step sums a run up.
func (r *MessagesRun) Step() Step {
	s := Step{Rate: r.Rate, Cores: round(r.CPUSeconds / r.Seconds)}
	s.P50, s.P99 = worst(r.Deliveries, func(p Pair) *Quantiles { return &p.Latency })
	if err := errors.Join(r.Broken(), r.Late()); err != nil {
		s.Why, _, _ = strings.Cut(err.Error(), "\n")
	}
	return s
}

// Print writes it for people.
func (p *Messages) Print(w io.Writer) error {
	fmt.Fprintf(w, "messages: %d users in %d rooms of %d, %d bytes each, %d regions x %d nodes, %s, %d CPUs\n",
		p.Users, p.Rooms, p.RoomSize, p.Size, len(p.Mesh.Regions), p.Mesh.Nodes, p.Transport, p.Machine.CPUs)
	fmt.Fprintf(w, "link: %s; jitter %g ms, loss %s; database: %s; times in ms\n", p.Mesh.Baseline, p.Mesh.Jitter, percent(p.Mesh.Loss), p.Mesh.Database)
	err := p.MessagesRun.print(w, p.Since)
	printSteps(w, p.Steps)
	if p.Highest != nil {
		err = errors.Join(err, p.Highest.print(w, p.Since))
	}
	return err
}

func (r *MessagesRun) print(w io.Writer, since string) error {
	fmt.Fprintf(w, "\n%.0f messages a second for %.0f s\nfrom %s, to the application's callback; from the room's home region\n", r.Rate, r.Seconds, since)
	err := printPairs(w, r.Deliveries)
	fmt.Fprintln(w, "\nwrites, from the intended call to its answer; from the sender's region to the room's home, the link is there and back")
	err = errors.Join(err, printPairs(w, r.Writes))
	for _, p := range r.Writes {
		if p.wide() {
			fmt.Fprintf(w, "  %s to %s: %.2f wide round trips\n", p.From, p.To, r.wideTrips(p))
		}
	}
	err = errors.Join(err, printFlows(w, r.Links))
	_, err2 := fmt.Fprintf(w, "\nacknowledged %d, refused %d, deliveries lost %d, twice %d; CPU %.1f s, servers, database's clients and load generator together\n",
		r.Acknowledged, r.Refused, r.Lost, r.Duplicated, r.CPUSeconds)
	if err = errors.Join(err, err2); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (p *Messages) page() page {
	pg := page{
		Title: "Muster: messages across regions", Head: p.Head, Verdict: errors.Join(p.Broken(), p.Late()),
		Lead: fmt.Sprintf("%d people write to each other in %d rooms that span all regions. A message is stored in its room's home region and spread from there: "+
			"its way to the others counts from %s; what the write itself takes stands apart.", p.Users, p.Rooms, p.Since),
		Facts: append(p.Mesh.facts(), [][2]string{
			{"Messages", fmt.Sprintf("%.0f/s of %d bytes, for %.0f s", p.Rate, p.Size, p.Seconds)},
			{"Rooms", fmt.Sprintf("%d of %d", p.Rooms, p.RoomSize)},
			{"Lost, twice, refused", fmt.Sprintf("%d, %d, %d", p.Lost, p.Duplicated, p.Refused)},
			{"CPU, all together", fmt.Sprintf("%.2f cores", p.CPUSeconds/p.Seconds)},
		}...),
	}
	pg.Sections = p.MessagesRun.sections("")
	pg.Sections = append(pg.Sections, stepSection(p.Steps)...)
	if p.Highest != nil {
		pg.Sections = append(pg.Sections, p.Highest.sections(fmt.Sprintf(" at %.0f/s", p.Highest.Rate))...)
	}
	return pg
}

func (r *MessagesRun) sections(at string) []section {
	added := func(p Pair) [][2]float64 { return p.CDF }
	writes := pairTable(r.Writes)
	writes.Header = append(writes.Header, "wide round trips")
	for i, p := range r.Writes {
		if p.wide() && p.Link != nil {
			writes.Rows[i] = append(writes.Rows[i], fmt.Sprintf("%.2f", r.wideTrips(p)))
		}
	}
	return append([]section{{
		Title: "From commit to the others" + at,
		Plots: pairPlots("Rooms at home in", r.Deliveries, CrossRegion, added), Table: pairTable(r.Deliveries),
	}, {
		Title: "Writes" + at, Text: "From the intended call to its answer; the link is there and back. A room's home region stores its messages in one transaction that stays there, so a write from elsewhere takes one wide round trip more than one from home.",
		Plots: pairPlots("From", r.Writes, Goal{}, added), Table: writes,
	}}, linkSection(r.Links)...)
}
