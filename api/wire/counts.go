package wire

// Without takes a person out of the counts, and reports whether they had anybody.
// A blip is told to nobody: who is known as suspended may count as live, and the
// other way round.
func (c *Counts) Without(state State) bool {
	switch {
	case c.GetLive()+c.GetSuspended() == 0:
		return false
	case c.Suspended == 0 || state == State_LIVE && c.Live > 0:
		c.Live--
	default:
		c.Suspended--
	}
	return true
}
