package grant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// Set is all that a subject decided about who may see. It is immutable but for
// posts, and so, like its Snapper, belongs to one goroutine or lock.
type Set struct {
	grants map[Audience][]Grant
	zones  []region
	ghost  bool
	posts  map[string]time.Time // group -> until when its post lives
}

// NewSet checks and takes a subject's grants, home zones and ghost mode, in
// which nobody sees anything. Grants that have expired matter too: one for a
// group says that its posts grant nothing by themselves (see Post).
func NewSet(grants []Grant, zones []Zone, ghost bool) (*Set, error) {
	s := &Set{grants: make(map[Audience][]Grant, len(grants)), ghost: ghost, posts: map[string]time.Time{}}
	for i, g := range grants {
		if err := g.Check(); err != nil {
			return nil, fmt.Errorf("grant %d: %w", i, err)
		}
		s.grants[g.Audience] = append(s.grants[g.Audience], g)
	}
	for i, z := range zones {
		if err := z.Check(); err != nil {
			return nil, fmt.Errorf("zone %d: %w", i, err)
		}
		r, err := newRegion(z)
		if err != nil {
			return nil, fmt.Errorf("zone %d: %w", i, err)
		}
		s.zones = append(s.zones, r)
	}
	return s, nil
}

// Post notes that a fix named a group: it grants the group the exact position
// until its time to live is over, unless the subject set a grant of their own
// for the group. That one decides alone, also once it has expired; so taking a
// share back is leaving an expired grant.
func (s *Set) Post(group string, until time.Time) {
	if until.After(s.posts[group]) {
		s.posts[group] = until
	}
}

// Posts are the groups that posts named and until when, for the Set that
// replaces this one.
func (s *Set) Posts() map[string]time.Time { return maps.Clone(s.posts) }

// Forget drops what posts granted that is over.
func (s *Set) Forget(now time.Time) {
	maps.DeleteFunc(s.posts, func(_ string, until time.Time) bool { return !now.Before(until) })
}

// Audiences are those that hold a live grant, in order of their texts.
func (s *Set) Audiences(now time.Time) []Audience {
	if s.ghost {
		return nil
	}
	var out []Audience
	for a := range s.grants {
		if s.granted(now, a) != None {
			out = append(out, a)
		}
	}
	for g := range s.posts {
		a := Audience{Kind: Group, ID: g}
		if _, own := s.grants[a]; !own && s.granted(now, a) != None {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b Audience) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// granted is the finest grant that holds for an audience.
func (s *Set) granted(now time.Time, a Audience) Precision {
	p := None
	own, set := s.grants[a]
	for i := range own {
		if own[i].live(now) {
			p = max(p, own[i].Precision)
		}
	}
	if !set && a.Kind == Group && now.Before(s.posts[a.ID]) {
		p = Exact
	}
	return p
}

// Plain reports whether an audience sees the newest fix or nothing, whatever was
// before: who asks for it needs no Snapper that heard the others. It may become
// otherwise only in another Set.
func (s *Set) Plain(a Audience) bool {
	return len(s.zones) == 0 && !slices.ContainsFunc(s.grants[a], func(g Grant) bool { return g.Precision != Exact })
}

// For decides how finely somebody sees the subject: somebody who is all of the
// audiences, such as a person and a member of a group, gets the finest of the
// grants that hold for one of them, lowered by the zones that the subject is
// in. It is false where they see nothing.
func (s *Set) For(now time.Time, at *Snapper, audiences ...Audience) (Precision, bool) {
	if s.ghost || !at.known() {
		return None, false
	}
	p := None
	for _, a := range audiences {
		p = max(p, s.granted(now, a))
	}
	if p == None {
		return None, false
	}
	if p < Exact || len(s.zones) > 0 {
		// Valid points have cells; if the library disagrees nobody sees anything.
		if at.start(now) != nil {
			return None, false
		}
	}
	if p == Exact && len(s.zones) > 0 && at.find() != nil {
		return None, false
	}
	low := p
	for i := range s.zones {
		if s.zones[i].holds(p, at) {
			low = min(low, s.zones[i].precision)
		}
	}
	if res, coarse := low.Resolution(); coarse && !at.told.level[res].known() {
		return None, false
	}
	return low, true
}

// View is what somebody who is all of the audiences sees of the subject, false
// where that is nothing.
func (s *Set) View(now time.Time, at *Snapper, audiences ...Audience) (View, bool) {
	p, ok := s.For(now, at, audiences...)
	if !ok {
		return View{}, false
	}
	return at.view(p), true
}

// region is the set of whole cells, of the zone's resolution, in which a zone
// holds: all whose centre is near that of the cell that the zone's centre is in.
// It depends on that cell and on the radius only. If it were the cells that the
// zone touches, then which neighbours belong to it would tell on which side of
// its cell the home is.
type region struct {
	precision Precision
	cells     map[geo.Cell]struct{}
}

func newRegion(z Zone) (region, error) {
	res, _ := z.Precision.Resolution()
	c, err := cellOf(z.Center, res)
	if err != nil {
		return region{}, err
	}
	middle, err := h3.Center(c)
	if err != nil {
		return region{}, err
	}
	// A cell that touches the zone has its centre within the zone's radius, the
	// radius of the cell that the zone's centre is in and its own, which Circle
	// adds.
	cells, err := h3.Circle(nil, middle, z.Radius+geo.MaxRadius(res), res, maxRegion)
	if err != nil {
		return region{}, err
	}
	r := region{z.Precision, make(map[geo.Cell]struct{}, len(cells))}
	for _, c := range cells {
		r.cells[c] = struct{}{}
	}
	return r, nil
}

// maxRegion is more cells than a zone can have by Zone.Check.
const maxRegion = 1024

// holds reports whether the zone lowers p. Who sees coarsely must learn nothing
// of the raw position by it, so for them it holds by what they were told, or
// would be. An exact view shows all there is until the device is in the region,
// and nothing until it was told to have left: entering shows at once, leaving
// at one of the subject's moments.
func (r *region) holds(p Precision, at *Snapper) bool {
	res, _ := r.precision.Resolution()
	if p <= r.precision {
		return false
	}
	finest := at.told.cell
	if g, coarse := p.Resolution(); coarse {
		finest = at.told.level[g].told.cell
	}
	return r.has(at.told.level[res].told.cell) || r.has(finest.Parent(res))
}

func (r *region) has(c geo.Cell) bool { _, ok := r.cells[c]; return ok }
