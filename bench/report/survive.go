package report

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Load is the load under which nodes come and go.
type Load struct {
	Users             int     `json:"users"`
	Rooms             int     `json:"rooms"`
	RoomSize          int     `json:"room_size"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	FixesPerSecond    float64 `json:"fixes_per_second,omitempty"`
}

// Faults are what should not be, in some time; and what may be, but shows.
type Faults struct {
	Duplicated  int64 `json:"duplicated"`  // messages given to an application twice
	Left        int64 `json:"left"`        // times that somebody saw somebody leave who did not
	Suspended   int64 `json:"suspended"`   // times that somebody saw somebody suspended: a blip, no fault
	Unrecovered int64 `json:"unrecovered"` // times that a room said events were lost (recovered: false)
	Overflowed  int64 `json:"overflowed"`  // times that the load generator itself was too slow
	Refused     int64 `json:"refused"`     // messages that were never acknowledged
	Closed      int64 `json:"closed"`      // sessions or rooms that ended
	Vanished    int64 `json:"vanished"`    // times that somebody who moved to another region was seen to be gone for a moment
}

// Seconds is d in seconds, to a millisecond.
func Seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}

// Drain is the result of `muster bench drain`.
type Drain struct {
	Head
	Load          Load         `json:"load"`
	Nodes         int          `json:"nodes"`
	RatePerSecond float64      `json:"configured_reconnects_per_second"`
	Rounds        []DrainRound `json:"rounds"`
	Acknowledged  int64        `json:"messages_acknowledged"`
	Latency       Quantiles    `json:"delivery"` // of messages, from when they were due, all the time
	FirstFailure  string       `json:"first_failure,omitempty"`
}

// DrainRound is one rolling drain of all nodes.
type DrainRound struct {
	Lost int `json:"lost"` // deliveries of acknowledged messages that never came
	Faults
	Apart         int       `json:"apart"` // (who, whom) that don't see each other afterwards
	Reconnects    int       `json:"reconnects"`
	MostPerSecond int       `json:"most_reconnects_in_a_second"`
	DrainSeconds  []float64 `json:"drain_seconds"` // per node, until the process ended
	Seconds       float64   `json:"seconds"`
}

// Broken says what of the product's word was broken; nil: nothing.
func (r *Drain) Broken() error {
	for i, d := range r.Rounds {
		if d.Lost != 0 || d.Duplicated != 0 || d.Left != 0 || d.Unrecovered != 0 || d.Refused != 0 || d.Closed != 0 || d.Apart != 0 {
			return fmt.Errorf("bench: round %d broke it: %+v %s", i+1, d, r.FirstFailure)
		}
		if float64(d.MostPerSecond) > r.RatePerSecond {
			return fmt.Errorf("bench: round %d: %d reconnects in one second, configured are %g", i+1, d.MostPerSecond, r.RatePerSecond)
		}
	}
	return nil
}

// Print writes it for people.
func (r *Drain) Print(w io.Writer) error {
	fmt.Fprintf(w, "drain: %d clients in %d rooms, %g messages/s, %d nodes drained one after another, %d rounds, %d CPUs\n\n",
		r.Load.Users, r.Load.Rooms, r.Load.MessagesPerSecond, r.Nodes, len(r.Rounds), r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "round\tlost\tdup\tleft\tsuspended\tunrecovered\trefused\tclosed\treconnects\tmost/s\tdrain s\tround s\t")
	var worst float64
	var sum DrainRound
	for i, d := range r.Rounds {
		slow := slices.Max(d.DrainSeconds)
		worst = max(worst, slow)
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t\n", i+1, d.Lost, d.Duplicated, d.Left, d.Suspended,
			d.Unrecovered, d.Refused, d.Closed, d.Reconnects, d.MostPerSecond, slow, d.Seconds)
		sum.Lost += d.Lost
		sum.Duplicated += d.Duplicated
		sum.Left += d.Left
		sum.Reconnects += d.Reconnects
		sum.MostPerSecond = max(sum.MostPerSecond, d.MostPerSecond)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := fmt.Fprintf(w, `
%d rounds: lost %d, duplicated %d, "left" %d; %d reconnects, at most %d in a second (configured: %g); slowest drain %.1f s
%d messages acknowledged; delivered after p50 %.1f, p99 %.1f, max %.0f ms from when they were due
`, len(r.Rounds), sum.Lost, sum.Duplicated, sum.Left, sum.Reconnects, sum.MostPerSecond, r.RatePerSecond, worst,
		r.Acknowledged, r.Latency.P50, r.Latency.P99, r.Latency.Max)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Failover is the result of `muster bench failover`.
type Failover struct {
	Head
	Load   Load            `json:"load"`
	Nodes  int             `json:"nodes"`
	Grace  float64         `json:"grace_seconds"`
	Rounds []FailoverRound `json:"rounds"`
	Quiet  *Quiet          `json:"quiet,omitempty"`

	// Gone is after how long others saw devices leave that were lost with a
	// node, from then or from the last change of the leader, which begins the
	// grace time anew; none may be seen earlier than the grace time.
	Gone         Quantiles `json:"gone_after"`
	Abandoned    int       `json:"abandoned"`
	Ghosts       int       `json:"ghosts"` // (who, whom) still shown when the grace time is long over
	Early        int       `json:"early"`  // seen to leave before the grace time was over
	Acknowledged int64     `json:"messages_acknowledged"`
	FirstFailure string    `json:"first_failure,omitempty"`
}

// FailoverRound is the end, or a pause, of the node that leads.
type FailoverRound struct {
	How   string `json:"how"` // SIGKILL, SIGSTOP
	Node  string `json:"node"`
	Rooms int    `json:"rooms"` // that it owned
	// Alive is per room of its, from the signal until a message that was sent
	// after it was heard by somebody else on another node.
	Alive []float64 `json:"rooms_live_after_ms"`
	All   float64   `json:"all_rooms_live_after_ms"`
	Lost  int       `json:"lost"`
	Faults
	Apart   int     `json:"apart"`
	Fenced  float64 `json:"fenced"` // frames that others refused as of an older epoch
	Seconds float64 `json:"seconds"`
}

// Quiet is a time of load without faults.
type Quiet struct {
	Seconds   float64 `json:"seconds"`
	Elections float64 `json:"elections"`
	Lost      int     `json:"lost"`
	Faults
	Delivery Quantiles `json:"delivery"`
}

// Alive is the distribution over rounds of one kind of the time until all
// rooms of the dead node live again, and over rooms.
func (r *Failover) Alive(how string) (rounds, rooms Quantiles) {
	var all, each []float64
	for _, f := range r.Rounds {
		if f.How == how {
			all, each = append(all, f.All), append(each, f.Alive...)
		}
	}
	return quantiles(all), quantiles(each)
}

// quantiles of few values, by nearest rank.
func quantiles(v []float64) Quantiles {
	if len(v) == 0 {
		return Quantiles{}
	}
	slices.Sort(v)
	at := func(p float64) float64 { return v[min(len(v)-1, int(p*float64(len(v))))] }
	return Quantiles{P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: v[len(v)-1]}
}

// Broken says what of the product's word was broken; nil: nothing. How fast is
// for people to judge: it depends on the machine.
func (r *Failover) Broken() error {
	for i, f := range r.Rounds {
		if f.Lost != 0 || f.Duplicated != 0 || f.Left != 0 || f.Refused != 0 || f.Closed != 0 || f.Apart != 0 {
			return fmt.Errorf("bench: round %d broke it: %+v %s", i+1, f, r.FirstFailure)
		}
	}
	if r.Ghosts != 0 || r.Early != 0 {
		return fmt.Errorf("bench: %d ghosts, %d seen to leave within the grace time", r.Ghosts, r.Early)
	}
	if q := r.Quiet; q != nil && (q.Elections != 0 || q.Lost != 0 || q.Duplicated != 0 || q.Left != 0 || q.Closed != 0) {
		return fmt.Errorf("bench: without a fault: %+v %s", *q, r.FirstFailure)
	}
	return nil
}

// Print writes it for people.
func (r *Failover) Print(w io.Writer) error {
	fmt.Fprintf(w, "failover: %d clients in %d rooms, %g messages/s, %d nodes, the leader killed or paused, %d CPUs\n\n",
		r.Load.Users, r.Load.Rooms, r.Load.MessagesPerSecond, r.Nodes, r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "round\thow\tnode\trooms\tall live after ms\tlost\tdup\tleft\tsuspended\tunrecovered\trefused\tclosed\tfenced\tround s\t")
	for i, f := range r.Rounds {
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f\t%.1f\t\n", i+1, f.How, f.Node, f.Rooms, f.All, f.Lost,
			f.Duplicated, f.Left, f.Suspended, f.Unrecovered, f.Refused, f.Closed, f.Fenced, f.Seconds)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	fmt.Fprintln(w)
	for _, how := range []string{"SIGKILL", "SIGSTOP"} {
		if rounds, rooms := r.Alive(how); rounds.Max > 0 {
			fmt.Fprintf(w, "%s: all rooms live again p50 %.0f ms, max %.0f ms; each room p50 %.0f ms, p90 %.0f ms\n",
				how, rounds.P50, rounds.Max, rooms.P50, rooms.P90)
		}
	}
	_, err := fmt.Fprintf(w, "%d devices lost with their node: seen to leave p50 %.1f s, max %.1f s after that or the last change of the leader (grace %.0f s); %d too early, %d ghosts; %d messages acknowledged\n",
		r.Abandoned, r.Gone.P50/1000, r.Gone.Max/1000, r.Grace, r.Early, r.Ghosts, r.Acknowledged)
	if q := r.Quiet; q != nil && err == nil {
		_, err = fmt.Fprintf(w, "%.0f s without a fault: %.0f elections, lost %d, duplicated %d, left %d; delivered after p50 %.1f, p99 %.1f, max %.0f ms\n",
			q.Seconds, q.Elections, q.Lost, q.Duplicated, q.Left, q.Delivery.P50, q.Delivery.P99, q.Delivery.Max)
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
