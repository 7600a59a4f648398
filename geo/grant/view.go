package grant

import (
	"time"

	"github.com/mustermesh/muster/geo"
)

// View is a position as an audience may see it: the only form in which one goes
// downstream. Views can be compared with ==, and two equal ones need be sent
// only once: a coarse view stays equal between two of the subject's moments,
// whatever the device reports.
type View struct {
	Point     geo.Point // the cell's centre, where it is coarse
	Precision Precision
	Cell      geo.Cell // 0 where it is exact
	// Accuracy in metres: what the device said (68 %, 0 is unknown), or the
	// radius of the cell.
	Accuracy float32
	// Speed in m/s, Heading in degrees from true north, Battery from 0 to 1:
	// never in a coarse view.
	Speed, Heading, Battery Reading
	// Captured is when the device was there; in a coarse view the subject's
	// moment, a whole minute, that the cell was told for.
	Captured time.Time
}
