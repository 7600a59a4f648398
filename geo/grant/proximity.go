package grant

import (
	"math"

	"github.com/mustermesh/muster/geo"
)

// Proximity is how far and where somebody is, as far as one may know: it is
// computed from views, and says how wrong it may be.
type Proximity struct {
	// Distance in metres, rounded to what Uncertainty leaves of it.
	Distance float64
	// Uncertainty in metres: both accuracies together.
	Uncertainty float64
	// Direction from one to the other in degrees from true north, and by how
	// many degrees it may be wrong, which is 180 if one may be where the other
	// is: then it means nothing.
	Direction, Spread float64
}

// Between returns where to is, seen from from.
func Between(from, to View) Proximity {
	d := geo.Distance(from.Point, to.Point)
	p := Proximity{
		Uncertainty: math.Ceil(float64(from.Accuracy) + float64(to.Accuracy)),
		Direction:   math.Mod(math.Round(geo.Bearing(from.Point, to.Point)), 360),
		Spread:      180,
	}
	step := rounding(p.Uncertainty)
	p.Distance = math.Round(d/step) * step
	if p.Uncertainty < d {
		p.Spread = math.Ceil(math.Asin(p.Uncertainty/d) * 180 / math.Pi)
	}
	return p
}

// rounding returns the step to which a distance with an uncertainty is rounded:
// the largest of 1, 2, 5, 10, 20, … metres that is at most half of it.
func rounding(uncertainty float64) float64 {
	half := max(uncertainty/2, 1)
	unit := math.Pow10(int(math.Log10(half)))
	switch {
	case 5*unit <= half:
		return 5 * unit
	case 2*unit <= half:
		return 2 * unit
	}
	return unit
}

// Compass returns the name of a direction in degrees: N, NE, E, SE, S, SW, W or
// NW.
func Compass(degrees float64) string {
	i := int(math.Round((math.Mod(degrees, 360)+360)/45)) % 8
	return [...]string{"N", "NE", "E", "SE", "S", "SW", "W", "NW"}[i]
}
