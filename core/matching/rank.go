package matching

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// Viewer is who looks around.
type Viewer struct {
	User    core.UserID
	Profile Profile
	At      geo.Point // their own
	Since   time.Time // they were there
	Radius  float64   // metres
	Ranking float64
	Hidden  map[core.UserID]bool // on no terms with them
	Round   int64                // of theirs, from 1
	Seed    []byte               // decides among equals
}

// Candidate is somebody near.
type Candidate struct {
	User     core.UserID
	View     grant.View
	Profile  Profile
	Ranking  float64
	Shown    int64    // the viewer's last round before this one in which they were shown; 0: never
	Relation Relation // to the viewer
}

// Relation is what there is between two people already.
type Relation string

// The relations of somebody to the viewer.
const (
	None     Relation = "none"
	Sent     Relation = "sent"     // the viewer asked them
	Received Relation = "received" // they asked the viewer
	Talking  Relation = "talking"
	Declined Relation = "declined" // they declined the viewer of late
)

// Eligible reports whether a viewer may be shown somebody.
func (v *Viewer) Eligible(c *Candidate, now time.Time) bool {
	return v.Profile.Open && c.Profile.Open && c.User != v.User && !v.Hidden[c.User] &&
		now.Sub(v.Since) <= maxAge && now.Sub(c.View.Captured) <= v.Profile.MaxAge &&
		geo.Distance(v.At, c.View.Point) <= v.Radius &&
		c.Ranking >= v.Profile.MinRating && v.Ranking >= c.Profile.MinRating
}

// classes are how far somebody is, at most, in metres.
var classes = [...]float64{500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000}

// Class returns how far a view is from a point, at most: the least of a few
// distances that isn't less than it, nor than the radius of the view's cell.
func Class(from geo.Point, v grant.View) float64 {
	d := geo.Distance(from, v.Point)
	if v.Cell != 0 {
		d = max(d, float64(v.Accuracy))
	}
	i, _ := slices.BinarySearch(classes[:], d)
	if i == len(classes) { // coarser than any radius
		return math.Ceil(d/100_000) * 100_000
	}
	return classes[i]
}

// maxMerit is the most that speaks for somebody, in rounds of waiting.
const maxMerit = 4 + 2 + 2

// Merit says what speaks for somebody, from 0 to maxMerit: interests in common,
// closeness, ranking.
func (v *Viewer) Merit(c *Candidate) int64 {
	m := int64(min(len(common(v.Profile.Interests, c.Profile.Interests)), 4))
	switch class := Class(v.At, c.View); {
	case class <= 1000:
		m += 2
	case class <= 5000:
		m++
	}
	switch {
	case c.Ranking >= 4: // ten ratings of 4.5
		m += 2
	case c.Ranking >= 3.5:
		m++
	}
	return m
}

// common returns what two sorted lists have in common.
func common(a, b []string) []string {
	out := []string{}
	for _, w := range a {
		if _, ok := slices.BinarySearch(b, w); ok {
			out = append(out, w)
		}
	}
	return out
}

// Order sorts candidates in the order in which a viewer is shown them: first those
// whom it is of use to show, of them first who waited longest and has most merit.
func (v *Viewer) Order(cs []Candidate) {
	type key struct {
		idle  bool
		never bool
		score int64
		luck  uint64
	}
	keys := make(map[core.UserID]key, len(cs))
	for i := range cs {
		c := &cs[i]
		k := key{idle: c.Relation != None, never: c.Shown == 0, score: v.Merit(c), luck: v.luck(c.User)}
		if !k.never {
			k.score += v.Round - c.Shown
		}
		keys[c.User] = k
	}
	slices.SortFunc(cs, func(a, b Candidate) int {
		x, y := keys[a.User], keys[b.User]
		return cmp.Or(compareBool(x.idle, y.idle), compareBool(y.never, x.never), cmp.Compare(y.score, x.score),
			cmp.Compare(x.luck, y.luck), slices.Compare(a.User[:], b.User[:]))
	})
}

// compareBool has false first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// luck decides among equals, another way each round.
func (v *Viewer) luck(c core.UserID) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(v.Seed)
	_, _ = h.Write(v.User[:])
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(v.Round)))
	_, _ = h.Write(c[:])
	return h.Sum64()
}

// minutes is an age in whole minutes, never less than it is.
func minutes(age time.Duration) int { return int(math.Ceil(max(0, age).Minutes())) }
