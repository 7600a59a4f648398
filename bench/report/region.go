package report

import (
	"fmt"
	"io"
)

// Opens is the result of `muster bench opens`.
type Opens struct {
	Head
	Nodes         int       `json:"nodes"` // logs on disk, QUIC between them; all in the load generator's process
	Devices       int       `json:"devices"`
	InFlight      int       `json:"in_flight_per_node"`
	PerSecond     float64   `json:"opens_per_second"`
	Busy          int64     `json:"refused_as_busy"` // at that rate; they were made again
	HalfPerSecond float64   `json:"half_opens_per_second"`
	Latency       Quantiles `json:"latency_at_half"` // from when it was due
}

// Print writes it for people.
func (r *Opens) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `opens: %d nodes with their logs on disk, in one process with the load generator, %d CPUs
%.0f session opens a second with %d in flight per node (%d refused as busy and made again)
at %.0f a second: p50 %.2f, p90 %.2f, p99 %.2f, max %.1f ms
`, r.Nodes, r.Machine.CPUs, r.PerSecond, r.InFlight, r.Busy, r.HalfPerSecond, r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// Roster is the result of `muster bench roster`.
type Roster struct {
	Head
	Nodes    int `json:"nodes"`
	Sessions int `json:"sessions"`
	Rooms    int `json:"rooms"`
	InFlight int `json:"in_flight_per_node"`

	OpenSeconds float64 `json:"open_seconds"` // each session opened and entered into a room

	// One node killed; from then on.
	LostSessions       int     `json:"lost_sessions"`
	SuspendedSeconds   float64 `json:"suspended_after_seconds"`
	NodeResumedSeconds float64 `json:"node_resumed_after_seconds"` // opened again at the other nodes

	// All nodes killed and started again; from the start on.
	ReadySeconds      float64 `json:"ready_after_seconds"`
	AllResumedSeconds float64 `json:"all_resumed_after_seconds"`

	SnapshotBytes int64   `json:"snapshot_bytes"`
	Snapshots     int     `json:"snapshots_on_disk"`
	LongestStall  float64 `json:"longest_stall_ms"` // of a roster, by one log entry or the beginning of a snapshot
	Busy          int64   `json:"refused_as_busy"`
}

// Print writes it for people.
func (r *Roster) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `roster: %d sessions in %d rooms, %d nodes with their logs on disk, in one process, %d CPUs
opened and entered into rooms in %.1f s
a node dies with %d sessions: all suspended after %.2f s, all live again at the others after %.1f s
the whole region restarts: ready after %.2f s, all %d sessions live again after %.1f s
snapshot %.1f MiB; longest stall of Apply %.1f ms; %d openings refused as busy and made again
`, r.Sessions, r.Rooms, r.Nodes, r.Machine.CPUs, r.OpenSeconds, r.LostSessions, r.SuspendedSeconds, r.NodeResumedSeconds,
		r.ReadySeconds, r.Sessions, r.AllResumedSeconds, mib(r.SnapshotBytes), r.LongestStall, r.Busy)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
