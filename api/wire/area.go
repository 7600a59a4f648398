package wire

import "math"

// Limits of watches.
const (
	MaxWatches = 4   // of a session
	MaxMapSpan = 1.0 // degrees of latitude, or as many metres of longitude, of a watch of discoverable people
)

// CheckBox checks a box: degrees on the globe, and not empty.
func CheckBox(b *Box) *Problem {
	if b == nil || !within(b.South, -90, 90) || !within(b.North, -90, 90) || !within(b.West, -180, 180) || !within(b.East, -180, 180) {
		return &Problem{CodeBadCoordinates, "latitude is within ±90 and longitude within ±180 degrees"}
	}
	if b.South >= b.North || b.West == b.East || b.West == 180 && b.East == -180 {
		return &Problem{CodeBadRequest, "an area has a south below its north, and a west that is not its east"}
	}
	return nil
}

// CheckWatch checks a Watch, but for whether its session is in the room.
func CheckWatch(w *Watch) *Problem {
	if w.GetWatch() == 0 {
		return &Problem{CodeBadRequest, "number watches from 1"}
	}
	if p := CheckBox(w.Area); p != nil {
		return p
	}
	if w.Room != "" {
		return CheckRoom(w.Room)
	}
	b := w.Area
	width := b.East - b.West
	if width < 0 {
		width += 360
	}
	nearest := min(math.Abs(b.South), math.Abs(b.North)) // to the equator
	if b.South < 0 && b.North > 0 {
		nearest = 0
	}
	if b.North-b.South > MaxMapSpan || width*math.Cos(nearest*math.Pi/180) > MaxMapSpan {
		return &Problem{CodeBadRequest, "an area of discoverable people is at most one degree of latitude (111 km) wide and high"}
	}
	return nil
}
