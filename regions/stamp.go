package regions

// Stamp is what a leader adds to an entry of its region's log: all that a
// command may know of time. Replicas read no clock of their own.
type Stamp struct {
	Term     uint64 // of the leader
	ClockMs  uint64 // its wall clock, Unix: the lowest epoch to issue
	UptimeMs uint64 // its monotonic clock, from any origin of its own
}
