package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Logins is the result of `muster bench logins`.
type Logins struct {
	Head
	Load
	Accounts  int           `json:"accounts"`
	PerSecond float64       `json:"logins_per_second"`
	Seconds   float64       `json:"stretch_seconds"`
	Rounds    []LoginsRound `json:"rounds"`

	Refused      int64  `json:"messages_refused"`
	Closed       int64  `json:"sessions_closed"`
	FirstFailure string `json:"first_failure,omitempty"`
}

// LoginsRound is a stretch without sign-ins and one with them.
type LoginsRound struct {
	Idle LoginsStretch `json:"idle"`
	Busy LoginsStretch `json:"busy"`
}

// LoginsStretch is what was measured for a while.
type LoginsStretch struct {
	Events Quantiles `json:"events"` // from when a message was due until it was heard, at each hearer
	Heard  int64     `json:"heard"`
	Lost   int       `json:"lost"`
	Cores  float64   `json:"server_cores"`

	Offered      int64     `json:"offered"`
	OK           int64     `json:"signed_in"`
	TurnedAway   int64     `json:"turned_away"` // 429 or 503 with Retry-After
	Failed       int64     `json:"failed"`
	FirstFailure string    `json:"first_failure,omitempty"`
	Took         Quantiles `json:"took"` // of those that signed in
}

// median is of the rounds.
func (r *Logins) median(of func(LoginsRound) float64) float64 {
	var all []float64
	for _, round := range r.Rounds {
		all = append(all, of(round))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (r *Logins) p99() (idle, busy float64) {
	return r.median(func(l LoginsRound) float64 { return l.Idle.Events.P99 }), r.median(func(l LoginsRound) float64 { return l.Busy.Events.P99 })
}

// Print writes it for people.
func (r *Logins) Print(w io.Writer) error {
	fmt.Fprintf(w, `logins: %g sign-ins a second by password, open loop, at one node whose rooms talk: %d people in %d rooms of %d, %g messages a second
%d CPUs for server, database and load generator; %d rounds of %g s without and %g s with sign-ins
`, r.PerSecond, r.Users, r.Load.Rooms, r.RoomSize, r.MessagesPerSecond, r.Machine.CPUs, len(r.Rounds), r.Seconds, r.Seconds)
	fmt.Fprintf(w, "%-7s  %33s  %10s  %9s %9s %6s  %21s\n", "", "events p50 / p90 / p99 / max, ms", "cores", "signed in", "turned", "failed", "sign-in p50 / p99, ms")
	for _, round := range r.Rounds {
		s := round.Idle
		fmt.Fprintf(w, "%-7s  %7.1f / %6.1f / %6.1f / %6.1f  %10.2f\n", "idle", s.Events.P50, s.Events.P90, s.Events.P99, s.Events.Max, s.Cores)
		s = round.Busy
		fmt.Fprintf(w, "%-7s  %7.1f / %6.1f / %6.1f / %6.1f  %10.2f  %7.1f/s %7.1f/s %6d  %8.0f / %8.0f\n", "logins", s.Events.P50, s.Events.P90, s.Events.P99, s.Events.Max,
			s.Cores, float64(s.OK)/r.Seconds, float64(s.TurnedAway)/r.Seconds, s.Failed, s.Took.P50, s.Took.P99)
	}
	idle, busy := r.p99()
	verdict := "within twice its idle figure"
	if r.Late() != nil {
		verdict = "more than twice its idle figure"
	}
	_, err := fmt.Fprintf(w, "event p99, median of the rounds: %.1f ms idle, %.1f ms with sign-ins: %s\n", idle, busy, verdict)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Broken says what must never be: something lost, or a sign-in that got neither
// tokens nor a time to come back.
func (r *Logins) Broken() error {
	var errs []error
	for i, round := range r.Rounds {
		for _, s := range []LoginsStretch{round.Idle, round.Busy} {
			if s.Lost > 0 || s.Failed > 0 {
				errs = append(errs, fmt.Errorf("round %d: %d deliveries lost, %d sign-ins failed: %s", i+1, s.Lost, s.Failed, s.FirstFailure))
			}
		}
		if round.Busy.OK == 0 {
			errs = append(errs, fmt.Errorf("round %d: nobody signed in", i+1))
		}
	}
	if r.Refused > 0 || r.Closed > 0 {
		errs = append(errs, fmt.Errorf("%d messages were refused, %d sessions closed: %s", r.Refused, r.Closed, r.FirstFailure))
	}
	return errors.Join(errs...)
}

// Late says whether the goal was missed.
func (r *Logins) Late() error {
	if idle, busy := r.p99(); busy > 2*idle {
		return fmt.Errorf("event p99 is %.1f ms with sign-ins, more than twice the %.1f ms without", busy, idle)
	}
	return nil
}
