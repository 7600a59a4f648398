package nearby

import (
	"time"

	"github.com/mustermesh/muster/geo"
)

// Here reports whether this node has all that is within radius metres of a point:
// then Near asks nobody about it but, for people, who blocked whom.
func (m *Map) Here(at geo.Point, radius float64) bool {
	if !at.Valid() || !(radius >= 0 && radius <= MaxRadius) {
		return false
	}
	return m.here(area{regions: m.atlas.Load().around(nil, at.Vec(), radius+2*geo.MaxRadius(resolution), time.Now())})
}
