package choice

import (
	"math"
	"time"
)

const (
	// Silence is the level of silence, in -dBov (RFC 6464).
	Silence = 127
	// ActiveLevel is the level from which on sound is taken for speech, in -dBov, unless
	// a Meter says otherwise.
	ActiveLevel = 30

	attack  = 20 * time.Millisecond
	release = 60 * time.Millisecond
	share   = 250 * time.Millisecond // over which the time of speech is counted
	packet  = 60 * time.Millisecond  // of sound, at most as it is sent in calls
	// Somebody talks when so much of the time is speech, and no more when as little.
	talks, quiet = 0.4, 0.1
)

// Meter smooths the levels that come with a participant's packets (RFC 6464): quickly up,
// so that a first syllable counts, and slowly enough down to last from one to the next.
// Speech is told from a cough by how much of the last moments is loud. The zero value is
// silent. It belongs to one goroutine, or to its owner's lock.
type Meter struct {
	Active uint8 // in -dBov; 0: ActiveLevel

	gone    float64 // dB below the loudest possible, smoothed; see level
	speech  float64 // share of time
	talking bool
	at      time.Time // of the last packet
}

// Observe takes the level of a packet, in -dBov: 0 the loudest, 127 silence.
func (m *Meter) Observe(level uint8, now time.Time) {
	since := packet / 3 // of the first one, usually
	if m.at.IsZero() {
		m.gone = Silence
	} else {
		m.gone, m.speech = m.fade(now)
		since = min(max(now.Sub(m.at), 0), packet)
	}
	m.at = now
	x, over := float64(min(level, Silence)), release
	if x < m.gone {
		over = attack
	}
	m.gone += (x - m.gone) * part(since, over)
	active := m.Active
	if active == 0 {
		active = ActiveLevel
	}
	is := 0.0
	if level <= active {
		is = 1
	}
	m.speech += (is - m.speech) * part(since, share)
	m.talking = m.talks(m.speech)
}

// fade is how it is after the time since the last packet, with silence in all of it but
// what that packet lasted. An encoder that is silent sends little (DTX).
func (m *Meter) fade(now time.Time) (gone, speech float64) {
	silent := now.Sub(m.at) - packet
	if silent <= 0 {
		return m.gone, m.speech
	}
	return m.gone + (Silence-m.gone)*part(silent, release), m.speech * (1 - part(silent, share))
}

// part is how much of a step a low pass has done after a time.
func part(d, over time.Duration) float64 { return 1 - math.Exp(-float64(d)/float64(over)) }

func (m *Meter) talks(speech float64) bool {
	return speech >= talks || m.talking && speech > quiet
}

// Level is how loud it is now, in -dBov; it goes to silence when nothing comes.
func (m *Meter) Level(now time.Time) uint8 {
	if m.at.IsZero() {
		return Silence
	}
	gone, _ := m.fade(now)
	return uint8(math.Round(gone))
}

// Talking reports whether it is speech by now.
func (m *Meter) Talking(now time.Time) bool {
	_, speech := m.fade(now)
	return !m.at.IsZero() && m.talks(speech)
}
