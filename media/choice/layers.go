package choice

import "time"

// Priority is how much a picture matters to the one who sees it.
type Priority uint8

const (
	Others  Priority = iota
	Speaker          // who speaks
	Screen           // shared: what is spoken about
)

// Limits of what a track has.
const (
	MaxSpatial  = 3 // simulcast layers
	MaxTemporal = 4 // temporal layers of each
)

// Layer is a simulcast layer as it is now.
type Layer struct {
	Height int // pixels; 0: not known
	// Rates are measured, in bit/s: of temporal layers up to the n-th. 0: it is not
	// sent now, or the layer has no such temporal layer.
	Rates [MaxTemporal]int
}

// Video is a picture that could be sent to a receiver.
type Video struct {
	ID       string
	Priority Priority
	Height   int               // that it is shown at, in pixels; 0: not shown
	Layers   [MaxSpatial]Layer // the smallest first
}

// Pick is what is sent of a track.
type Pick struct {
	Layer    int // Paused: nothing
	Temporal int // highest temporal layer
	Rate     int // bit/s, as measured
}

// Paused is the layer of what is not sent.
const Paused = -1

// LayersConfig has the times and margins of Layers. Zero values are replaced by what
// stands beside them.
type LayersConfig struct {
	Headroom float64       // 1.15: the estimate must be this many times what is sent to go up
	Hold     time.Duration // 1 s: for so long
	MaxHold  time.Duration // 4 s: Hold doubles to this when a step up was followed by one down
	Relapse  time.Duration // 8 s: within this time
}

// Layers chooses which layers one receiver gets.
type Layers struct{}

// NewLayers returns one that has chosen nothing.
func NewLayers(c LayersConfig) *Layers { return nil }

// Choose picks a layer for each track, into picks, which it returns; at the same places
// as the tracks. estimate is what the receiver's connection can take, in bit/s; audio is
// what of it sound has, which is never touched.
func (l *Layers) Choose(picks []Pick, now time.Time, estimate, audio int, tracks []Video) []Pick {
	return nil
}

// Probe is the rate in bit/s, sound included, that the connection would have to be
// shown to take before the next step up; 0: there is none.
func (l *Layers) Probe() int { return 0 }
