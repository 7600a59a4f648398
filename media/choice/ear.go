package choice

import (
	"time"

	"github.com/mustermesh/muster/geo"
)

// Weights say whom one hears in a call.
type Weights struct {
	Most     int     // streams at a time; 0: all
	Loudness float64 // weight, 0 to 1
	Nearness float64 // weight, 0 to 1
	Radius   float64 // metres, beyond which nobody is heard; 0: no limit
}

// Place is where somebody is. One that is not known neither helps nor harms.
type Place struct {
	At    geo.Point // as the other may see it
	Known bool
}

// Sound is a stream that could be heard.
type Sound struct {
	ID    string
	Level uint8 // smoothed, in -dBov; see Meter
	Place Place
}

// Listener is who hears.
type Listener struct {
	Place      Place
	Heading    float64 // degrees from true north
	HasHeading bool    // else north is ahead
}

// Heard is how a stream reaches a listener.
type Heard struct {
	Yes  bool
	Gain float32 // hint, 0 to 1
	Pan  float32 // hint, -1 (left) to 1
	// From is when what belongs to it began: a talker who just came in is heard from the
	// first syllable if packets since then (200 ms at most) are sent, too.
	From time.Time
}

// Ear chooses whom one listener hears.
type Ear struct{}

// Choose says for each sound whether it is heard, into heard, which it returns; at the
// same places as the sounds.
func (e *Ear) Choose(heard []Heard, now time.Time, w Weights, l Listener, sounds []Sound) []Heard {
	return nil
}
