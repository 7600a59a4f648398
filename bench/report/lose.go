package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// LoseTimes are how long it may take to live in another region: milliseconds.
type LoseTimes struct {
	Foreground float64 `json:"foreground_p99_ms"`
	Idle       float64 `json:"idle_max_ms"`
}

// LoseGoal is that.
var LoseGoal = LoseTimes{Foreground: 3000, Idle: 20_000}

// Lose is the result of `muster bench lose-region`.
type Lose struct {
	Head
	Mesh         Mesh        `json:"mesh"`
	Load         Load        `json:"load"`
	Goal         LoseTimes   `json:"goal"`
	Rounds       []LoseRound `json:"rounds"`
	Foreground   LoseClients `json:"foreground"` // of all rounds
	Idle         LoseClients `json:"idle"`
	Acknowledged int64       `json:"messages_acknowledged"`
	FirstFailure string      `json:"first_failure,omitempty"`
}

// LoseRound is the loss of one region.
type LoseRound struct {
	Region     string      `json:"region"`
	Foreground LoseClients `json:"foreground"`
	Idle       LoseClients `json:"idle"`
	Lost       int         `json:"lost"` // deliveries of acknowledged messages that never came
	Faults
	Away  int64 `json:"home_unreachable"` // times that a message had to be sent again since its room's home region could not be reached, or did not answer
	Apart int   `json:"apart"`            // (who, whom) that don't see each other afterwards
}

// LoseClients are clients of a region that was lost.
type LoseClients struct {
	Clients   int       `json:"clients"`
	Stranded  int       `json:"stranded"`        // who live nowhere
	Live      Quantiles `json:"live_elsewhere"`  // since the loss, until welcomed elsewhere
	Back      Quantiles `json:"rooms_back"`      // since the loss, until all rooms were back
	Recovered int       `json:"rooms_continued"` // whose rooms went on from where they were
	Times     []float64 `json:"live_ms"`

	CDF [][2]float64 `json:"live_cdf"`
}

// Sum sums the rounds up.
func (r *Lose) Sum() {
	for _, of := range []struct {
		sum *LoseClients
		get func(*LoseRound) *LoseClients
	}{{&r.Foreground, func(l *LoseRound) *LoseClients { return &l.Foreground }}, {&r.Idle, func(l *LoseRound) *LoseClients { return &l.Idle }}} {
		for i := range r.Rounds {
			c := of.get(&r.Rounds[i])
			of.sum.Clients += c.Clients
			of.sum.Stranded += c.Stranded
			of.sum.Recovered += c.Recovered
			of.sum.Times = append(of.sum.Times, c.Times...)
			of.sum.Back.Max = max(of.sum.Back.Max, c.Back.Max)
		}
		t := of.sum.Times
		slices.Sort(t)
		if n := len(t); n > 0 {
			of.sum.Live = Quantiles{t[n/2], t[n*90/100], t[n*99/100], t[n-1]}
			for i, v := range t {
				of.sum.CDF = append(of.sum.CDF, [2]float64{v, round(float64(i+1) / float64(n))})
			}
		}
	}
}

// Broken says what of the product's word was broken; nil: nothing.
func (r *Lose) Broken() error {
	for _, l := range r.Rounds {
		if l.Lost != 0 || l.Duplicated != 0 || l.Left != 0 || l.Refused != 0 || l.Closed != 0 || l.Apart != 0 || l.Foreground.Stranded+l.Idle.Stranded != 0 {
			return fmt.Errorf("bench: the loss of %s broke it: stranded %d, lost %d, %+v, apart %d; first: %s",
				l.Region, l.Foreground.Stranded+l.Idle.Stranded, l.Lost, l.Faults, l.Apart, r.FirstFailure)
		}
	}
	return nil
}

// Late says which goals were missed.
func (r *Lose) Late() (err error) {
	if r.Foreground.Live.P99 > r.Goal.Foreground {
		err = fmt.Errorf("bench: in the foreground it took %.0f ms (p99) to live elsewhere: at most %.0f", r.Foreground.Live.P99, r.Goal.Foreground)
	}
	if r.Idle.Live.Max > r.Goal.Idle {
		err = errors.Join(err, fmt.Errorf("bench: idle clients took up to %.0f ms to live elsewhere: at most %.0f", r.Idle.Live.Max, r.Goal.Idle))
	}
	return err
}

// Print writes it for people.
func (r *Lose) Print(w io.Writer) error {
	fmt.Fprintf(w, "lose-region: %d of %d regions of %d nodes lost for good, one after another; %d clients in %d rooms, half of them idle, %g messages/s, %d CPUs\nthe database is outside the lost regions and survives\n\n",
		len(r.Rounds), len(r.Mesh.Regions), r.Mesh.Nodes, r.Load.Users, r.Load.Rooms, r.Load.MessagesPerSecond, r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "region\twho\tclients\tstranded\tlive p50 ms\tp90\tp99\tmax\trooms back max\tcontinued\tlost\ttwice\tleft\tvanished\tsuspended\trefused\tapart\t")
	row := func(name, who string, c LoseClients, l *LoseRound) {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t", name, who, c.Clients, c.Stranded, c.Live.P50, c.Live.P90, c.Live.P99, c.Live.Max, c.Back.Max, c.Recovered)
		if l != nil {
			fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t", l.Lost, l.Duplicated, l.Left, l.Vanished, l.Suspended, l.Refused, l.Apart)
		}
		fmt.Fprintln(t)
	}
	for i := range r.Rounds {
		l := &r.Rounds[i]
		row(l.Region, "foreground", l.Foreground, l)
		row("", "idle", l.Idle, nil)
	}
	row("all", "foreground", r.Foreground, nil)
	row("", "idle", r.Idle, nil)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if _, err := fmt.Fprintf(w, "\nmessages acknowledged %d; goals: %.0f ms p99 in the foreground, %.0f ms idle\n", r.Acknowledged, r.Goal.Foreground, r.Goal.Idle); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (r *Lose) page() page {
	pg := page{
		Title: "Muster: a region is lost for good", Head: r.Head, Verdict: errors.Join(r.Broken(), r.Late()),
		Lead: "From one moment on nothing goes into a region or out of it, neither to other regions nor to clients; no connection is closed. Half of its clients are in the foreground and move, the others only are there. " +
			"The database stands outside the lost region.",
		Facts: append(r.Mesh.facts(), [][2]string{
			{"Clients", fmt.Sprintf("%d in %d rooms", r.Load.Users, r.Load.Rooms)},
			{"Lost regions", fmt.Sprint(len(r.Rounds))},
			{"Foreground, p50 / p99", fmt.Sprintf("%.0f / %.0f ms", r.Foreground.Live.P50, r.Foreground.Live.P99)},
			{"Idle, p50 / max", fmt.Sprintf("%.0f / %.0f ms", r.Idle.Live.P50, r.Idle.Live.Max)},
			{"Rooms continued", fmt.Sprintf("%d of %d", r.Foreground.Recovered+r.Idle.Recovered, r.Foreground.Clients+r.Idle.Clients)},
			{"Messages", fmt.Sprint(r.Acknowledged)},
		}...),
	}
	t := table{Names: 2, Header: []string{"region", "who", "clients", "stranded", "live p50", "p90", "p99", "max", "rooms back max", "continued", "lost", "twice", "left"}}
	for _, l := range r.Rounds {
		for _, who := range []struct {
			name string
			c    LoseClients
		}{{"foreground", l.Foreground}, {"idle", l.Idle}} {
			t.Rows = append(t.Rows, []string{l.Region, who.name, fmt.Sprint(who.c.Clients), fmt.Sprint(who.c.Stranded), fmt.Sprintf("%.0f", who.c.Live.P50), fmt.Sprintf("%.0f", who.c.Live.P90),
				fmt.Sprintf("%.0f", who.c.Live.P99), fmt.Sprintf("%.0f", who.c.Live.Max), fmt.Sprintf("%.0f", who.c.Back.Max), fmt.Sprint(who.c.Recovered), fmt.Sprint(l.Lost), fmt.Sprint(l.Duplicated), fmt.Sprint(l.Left)})
		}
	}
	foreground := plot{title: "Clients in the foreground", x: "ms since the loss", y: "share that lives elsewhere", ys: axis{from: 0, to: 1},
		series: []series{{points: r.Foreground.CDF}}, marks: []mark{{r.Goal.Foreground, "p99 goal"}}}
	idle := plot{title: "Idle clients", x: "ms since the loss", y: "share that lives elsewhere", ys: axis{from: 0, to: 1},
		series: []series{{points: r.Idle.CDF}}, marks: []mark{{r.Goal.Idle, "goal"}}}
	pg.Sections = []section{{Title: "Until they live in another region", Plots: nil, Table: t}}
	pg.Sections[0].Plots = append(pg.Sections[0].Plots, foreground.svg(), idle.svg())
	return pg
}
