package interest

import (
	"math"

	"github.com/mustermesh/muster/api/wire"
)

const (
	micro = 1_000_000   // what positions are counted in: 1e-6 degrees, 11 cm
	round = 360 * micro // all the way around
	// marginShare of a side is how far beyond the area a subject that is in it may
	// go: whoever walks along its border does not come and go.
	marginShare = 16
)

// area is a box in micro-degrees, with the margin around it.
type area struct{ inner, outer box }

type box struct {
	south, north int32
	west         int32
	width        uint32 // to the east of west
}

// areaOf takes a box that passed wire.CheckBox.
func areaOf(b *wire.Box) area {
	in := box{south: degrees(b.South), north: degrees(b.North), west: degrees(b.West)}
	in.width = eastward(in.west, degrees(b.East))
	if in.width == 0 && b.East-b.West > 180 { // from -180 to 180
		in.width = round
	}
	up := (in.north - in.south) / marginShare
	aside := in.width / marginShare
	out := box{
		south: max(in.south-up, -90*micro), north: min(in.north+up, 90*micro),
		west: in.west - int32(aside), width: in.width + 2*aside,
	}
	if out.width >= round {
		out.width = round
	}
	return area{inner: in, outer: out}
}

func degrees(d float64) int32 { return int32(math.Round(d * micro)) }

// eastward is the way from one longitude east to another.
func eastward(from, to int32) uint32 {
	d := (int64(to) - int64(from)) % round
	if d < 0 {
		d += round
	}
	return uint32(d)
}

func (b *box) has(lat, lng int32) bool {
	return lat >= b.south && lat <= b.north && (b.width == round || eastward(b.west, lng) <= b.width)
}

// has reports whether a position is in the area, for a subject that was in it
// before or was not.
func (a *area) has(lat, lng int32, before bool) bool {
	if before {
		return a.outer.has(lat, lng)
	}
	return a.inner.has(lat, lng)
}
