package grant

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/mustermesh/muster/geo"
)

// Kind is a kind of audience.
type Kind string

const (
	Person       Kind = "person"       // ID is a user's id
	Group        Kind = "group"        // ID is a group's id
	Link         Kind = "link"         // ID is that of a link: whoever has its token
	Discoverable Kind = "discoverable" // whoever is near; no ID
)

// Audience is who may see.
type Audience struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id,omitempty"`
}

// String is "person:…", "group:…", "link:…" or "discoverable".
func (a Audience) String() string {
	if a.Kind == Discoverable {
		return string(a.Kind)
	}
	return string(a.Kind) + ":" + a.ID
}

// Check says what is wrong with an audience.
func (a Audience) Check() error {
	switch a.Kind {
	case Person, Group, Link:
		if a.ID == "" || len(a.ID) > maxID || !utf8.ValidString(a.ID) {
			return fmt.Errorf("audience: want the id of a %s", a.Kind)
		}
	case Discoverable:
		if a.ID != "" {
			return errors.New("audience: whoever is near has no id")
		}
	default:
		return errors.New("audience: want a person, a group, a link or discoverable")
	}
	return nil
}

// Grant lets an audience see the subject.
type Grant struct {
	Audience  Audience  `json:"audience"`
	Precision Precision `json:"precision"`
	Expires   time.Time `json:"expires,omitzero"` // zero: until it is taken back
	Purpose   string    `json:"purpose,omitempty"`
}

const (
	maxID      = 128
	maxPurpose = 200
)

// Check says what is wrong with a grant.
func (g Grant) Check() error {
	if err := g.Audience.Check(); err != nil {
		return err
	}
	if g.Precision == None || g.Precision > Exact {
		return errors.New("precision: want \"exact\" or \"r0\" to \"r10\"")
	}
	if utf8.RuneCountInString(g.Purpose) > maxPurpose || !utf8.ValidString(g.Purpose) {
		return fmt.Errorf("purpose: want at most %d characters", maxPurpose)
	}
	return nil
}

// live reports whether the grant holds at a moment. It doesn't in the moment
// that it expires.
func (g Grant) live(now time.Time) bool { return g.Expires.IsZero() || now.Before(g.Expires) }

// Zone is a place, such as a home, in which nobody sees the subject finer than
// its precision.
type Zone struct {
	Center    geo.Point `json:"center"`
	Radius    float64   `json:"radius"` // metres
	Precision Precision `json:"precision"`
}

// maxZoneRadius bounds a zone, in radii of its cells: a zone much larger than
// they are takes coarser ones.
const maxZoneRadius = 12

// Check says what is wrong with a zone.
func (z Zone) Check() error {
	if !z.Center.Valid() {
		return errors.New("center: want a latitude from -90 to 90 and a longitude from -180 to 180")
	}
	res, ok := z.Precision.Resolution()
	if !ok {
		return errors.New("precision: want \"r0\" to \"r10\"")
	}
	if limit := math.Floor(maxZoneRadius * geo.MaxRadius(res)); !(z.Radius > 0 && z.Radius <= limit) {
		return fmt.Errorf("radius: want more than 0 and at most %.0f metres with the precision %v", limit, z.Precision)
	}
	return nil
}
