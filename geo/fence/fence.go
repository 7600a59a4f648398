package fence

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/mustermesh/muster/geo"
)

// ErrInvalid is wrapped by every error about what a caller gave: a shape, a
// fence, a pair, a fix.
var ErrInvalid = errors.New("not valid")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Fix says where a subject was. What is coarse is a fix like any other, whose
// accuracy is the radius of its cell.
type Fix struct {
	At    time.Time // when it was captured; milliseconds count
	Point geo.Point
	// Accuracy in metres: the subject is within it with 68 %. 0 is unknown, for
	// which DefaultAccuracy stands.
	Accuracy float64
}

// DefaultAccuracy stands for an accuracy that is not known.
const DefaultAccuracy = 50

// Fence is an area whose enters and exits are told.
type Fence struct {
	// ID names this fence with this shape: one whose shape changes is removed
	// and added under another ID, since its visits are counted anew.
	ID    string
	Shape Shape
	// Dwell, if set, tells a visit only when it has lasted this long.
	Dwell time.Duration
	// From, if set, leaves out fixes that were captured earlier.
	From time.Time
}

// Pair is two subjects whose coming near and going apart is told.
type Pair struct {
	ID     string
	A, B   string  // subjects
	Radius float64 // metres
	Dwell  time.Duration
	From   time.Time
}

// Kind of an event.
type Kind uint8

const (
	Enter Kind = 1 + iota
	Exit
)

func (k Kind) String() string {
	switch k {
	case Enter:
		return "enter"
	case Exit:
		return "exit"
	}
	return "invalid"
}

// Change says what an event is to those told before.
type Change uint8

const (
	// Told is an event that is new.
	Told Change = iota
	// Amended is an event that was told before, with the same N: a late fix
	// changed what else it says.
	Amended
	// Retracted takes back an event that was told: with the late fix there was
	// none. If it is an Enter, what came after it is taken back first.
	Retracted
)

func (c Change) String() string {
	switch c {
	case Told:
		return "told"
	case Amended:
		return "amended"
	case Retracted:
		return "retracted"
	}
	return "invalid"
}

// Reason says why an event was told, where no edge was passed.
type Reason uint8

const (
	// Moved: the subject passed the edge.
	Moved Reason = iota
	// First: the subject was inside when it was first seen. Only of an Enter.
	First
	// Stale: one of the pair was not heard of for too long. Only of an Exit.
	Stale
	// Gone: the subject was dropped. Only of an Exit.
	Gone
)

func (r Reason) String() string {
	switch r {
	case Moved:
		return "moved"
	case First:
		return "first"
	case Stale:
		return "stale"
	case Gone:
		return "gone"
	}
	return "invalid"
}

// Event is an enter or an exit. (Fence, Subject, N) or (Pair, N) identify it.
type Event struct {
	Fence   string // or
	Pair    string
	Subject string // of a fence's events
	// N counts the events of a fence and a subject, or of a pair, from 1. Enters
	// are odd, exits even.
	N    uint32
	Kind Kind
	// At is when the edge was passed, between the fixes by interpolation. It is
	// earlier than what told it.
	At     time.Time
	Reason Reason
	// Crossed: no fix was surely on the other side; the path between them was.
	Crossed bool
	Change  Change
}

// Verdict says what became of a fix.
type Verdict uint8

const (
	// Taken: the fix counts.
	Taken Verdict = iota
	// Aside: nobody travels like this. It counts if the next one confirms it.
	Aside
	// TooLate: it is older than the window, and changes nothing.
	TooLate
	// Duplicate: a fix of the same moment, no worse, is there.
	Duplicate
)

func (v Verdict) String() string {
	switch v {
	case Taken:
		return "taken"
	case Aside:
		return "aside"
	case TooLate:
		return "too late"
	case Duplicate:
		return "duplicate"
	}
	return "invalid"
}

// State of a subject and a fence, or of a pair.
type State uint8

const (
	Unknown State = iota
	Outside
	Inside
)

func (s State) String() string {
	switch s {
	case Outside:
		return "outside"
	case Inside:
		return "inside"
	}
	return "unknown"
}

// Standing is what is known of a subject and a fence, or of a pair.
type Standing struct {
	// State is what was sure last. It is Unknown until something was.
	State State
	// Since is when the subject entered, if inside.
	Since time.Time
	// Unclear, if set, is since when the disc of every fix lay over the edge, so
	// that none could tell.
	Unclear time.Time
	// TooCoarse: the last fix's disc is larger than the fence. Fixes like it will
	// never say that the subject is inside.
	TooCoarse bool
}

// Config of an engine. The zero value works.
type Config struct {
	// Window is how much later than a newer one a fix may come, by capture time,
	// and still count. 2 min by default. No more than MaxWindow fixes are kept.
	Window time.Duration
	// Gap between two fixes over which nobody guesses the path: no crossing is
	// told there. 5 min by default.
	Gap time.Duration
	// Stale is how long a subject may not be heard of before its pairs end.
	// 2 min by default, at most Gap.
	Stale time.Duration
	// MaxSpeed in m/s, above which a jump is kept aside. 340 by default: faster
	// than airliners.
	MaxSpeed float64
}

// MaxWindow is how many fixes of a subject, or of a pair, can be out of order.
const MaxWindow = 128

func (c Config) withDefaults() Config {
	if c.Window <= 0 {
		c.Window = 2 * time.Minute
	}
	if c.Gap <= 0 {
		c.Gap = 5 * time.Minute
	}
	if c.Stale <= 0 {
		c.Stale = 2 * time.Minute
	}
	c.Stale = min(c.Stale, c.Gap)
	if !(c.MaxSpeed > 0) {
		c.MaxSpeed = 340
	}
	return c
}

// sample is a fix as the engine computes with it.
type sample struct {
	t   int64 // Unix ms
	v   geo.Vec
	acc float64
}

// minAccuracy keeps a receiver's optimism from making every decimetre count.
const minAccuracy = 1

// maxAccuracy is anywhere.
const maxAccuracy = 20_000_000

// maxTime bounds capture times, so that sums of them can't overflow.
const maxTime = int64(1) << 52

func (f Fix) sample() (sample, error) {
	t := f.At.UnixMilli()
	switch {
	case !f.Point.Valid():
		return sample{}, invalid("a fix needs lat within ±90 and lng within ±180")
	case math.IsNaN(f.Accuracy) || f.Accuracy < 0 || math.IsInf(f.Accuracy, 0):
		return sample{}, invalid("an accuracy is metres, not negative")
	case t < -maxTime || t > maxTime:
		return sample{}, invalid("a fix's capture time is out of range")
	}
	acc := f.Accuracy
	if acc == 0 {
		acc = DefaultAccuracy
	}
	return sample{t, f.Point.Vec(), min(max(acc, minAccuracy), maxAccuracy)}, nil
}
