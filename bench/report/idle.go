package report

import (
	"fmt"
	"io"
)

// Idle is the result of `muster bench idle`. The server's process is measured
// from outside: the memory it has in RAM, and its user and system time.
type Idle struct {
	Head
	Sessions int `json:"sessions"`
	Rooms    int `json:"rooms"`
	RoomSize int `json:"room_size"`

	OpenSeconds  float64 `json:"open_seconds"`
	QuietSeconds float64 `json:"quiet_seconds"`
	RSSBefore    int64   `json:"rss_before_bytes"`
	RSSAfter     int64   `json:"rss_after_bytes"`

	KiBPerSession       float64 `json:"kib_per_session"`
	CPUMicrosPerConnect float64 `json:"cpu_us_per_connect"` // handshake, hello, join, and telling the others
	IdleCores           float64 `json:"idle_cores"`
	Reconnects          int64   `json:"reconnects"`
}

// Print writes it for people.
func (r *Idle) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `idle: %d WebSocket sessions in %d rooms of %d, no TLS, server in a process of its own, %d CPUs
memory    %.1f KiB a session (%.1f -> %.1f MiB in RAM)
connect   %.0f us of CPU a session, presence told to the room included; all open after %.1f s
idle      %.3f cores over %.0f s; %d reconnects
`, r.Sessions, r.Rooms, r.RoomSize, r.Machine.CPUs, r.KiBPerSession, mib(r.RSSBefore), mib(r.RSSAfter),
		r.CPUMicrosPerConnect, r.OpenSeconds, r.IdleCores, r.QuietSeconds, r.Reconnects)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func mib(b int64) float64 { return float64(b) / (1 << 20) }
