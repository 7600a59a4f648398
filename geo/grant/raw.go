package grant

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/mustermesh/muster/geo"
)

// Reading is something that a device may report beside its position.
type Reading struct {
	Value float32
	Known bool
}

// Read returns a known reading.
func Read(v float32) Reading { return Reading{Value: v, Known: true} }

// Raw is a fix as a device reported it. Nothing in it can be read outside of
// this package but when it was captured; printed, logged or encoded it shows
// nothing. It leaves as the View of an audience, by Set.View, or as the
// subject's own, by Own.
//
// It is a function inside because fmt doesn't ask the unexported fields of other
// structs how they want to be printed: it prints what it finds there, through
// pointers even, but can't look into a function.
type Raw struct{ open func() View }

// hidden is all that a Raw says about itself.
const hidden = "fix(hidden)"

// NewRaw takes what a device reported: accuracy in metres (68 %; 0 is unknown),
// speed in m/s, heading in degrees from true north, battery from 0 to 1.
func NewRaw(p geo.Point, accuracy float32, speed, heading, battery Reading, captured time.Time) (Raw, error) {
	in := func(r Reading, low, high float32) bool {
		return !r.Known || r.Value >= low && r.Value <= high // NaN is in nothing
	}
	switch {
	case !p.Valid():
		return Raw{}, errors.New("coordinates: want a latitude from -90 to 90 and a longitude from -180 to 180")
	case !(accuracy >= 0 && accuracy <= maxAccuracy):
		return Raw{}, fmt.Errorf("accuracy: want 0 to %d metres", int(maxAccuracy))
	case !in(speed, 0, maxSpeed):
		return Raw{}, fmt.Errorf("speed: want 0 to %d metres per second", int(maxSpeed))
	case !in(heading, 0, 360):
		return Raw{}, errors.New("heading: want 0 to 360 degrees from true north")
	case !in(battery, 0, 1):
		return Raw{}, errors.New("battery: want 0 to 1")
	case captured.IsZero():
		return Raw{}, errors.New("a fix without the time of its capture")
	}
	if heading.Known {
		heading.Value = float32(math.Mod(float64(heading.Value), 360))
	}
	forget := func(r Reading) Reading {
		if !r.Known {
			return Reading{}
		}
		return r
	}
	v := View{
		Point: p, Precision: Exact, Accuracy: accuracy,
		Speed: forget(speed), Heading: forget(heading), Battery: forget(battery),
		Captured: captured.UTC(),
	}
	return Raw{func() View { return v }}, nil
}

const (
	maxAccuracy float32 = 100_000
	maxSpeed    float32 = 12_000 // what orbits is not a person
)

// Captured says when the device was where it says. It orders fixes; the zero
// time is a Raw that holds none.
func (r Raw) Captured() time.Time { return Own(r).Captured }

// Own returns the fix as it is, for the subject's own devices and own track.
// It is the only way out that asks for no grant: who calls it has made sure
// that the reader is the subject.
func Own(r Raw) View {
	if r.open == nil {
		return View{}
	}
	return r.open()
}

func (Raw) String() string               { return hidden }
func (Raw) GoString() string             { return hidden }
func (Raw) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(hidden)) }
func (Raw) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Raw) MarshalText() ([]byte, error) { return []byte(hidden), nil }
func (Raw) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
