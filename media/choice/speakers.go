package choice

import "time"

// Silence is the level of silence, in -dBov (RFC 6464).
const Silence = 127

// Meter smooths the levels that come with a participant's packets (RFC 6464). The zero
// value is silent.
type Meter struct{}

// Observe takes the level of a packet, in -dBov: 0 the loudest, 127 silence.
func (m *Meter) Observe(level uint8, now time.Time) {}

// Level is how loud it is now, in -dBov; it goes to silence when nothing comes.
func (m *Meter) Level(now time.Time) uint8 { return Silence }

// Talking reports whether it is speech by now: loud for enough of the last half second.
func (m *Meter) Talking(now time.Time) bool { return false }

// Speakers keeps the list of who speaks in a call.
type Speakers struct{}

// Voice is a participant's sound as it is now.
type Voice struct {
	ID      string
	Level   uint8 // smoothed, in -dBov
	Talking bool  // see Meter.Talking
}

// Update returns the ids of those who speak, the loudest first, and whether the list is
// another one than before. It is valid until the next call.
func (s *Speakers) Update(now time.Time, voices []Voice) (ids []string, changed bool) {
	return nil, false
}
