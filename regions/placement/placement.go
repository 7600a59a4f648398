// Package placement decides where a client should be: which region, and which
// edge node within it. It is pure: no clock, socket or randomness of its own.
//
// # The decision
//
// Candidates are compared by rank first and by round trip second.
//
//	rank  1  up
//	      2  up, but full: this client is one of those to be turned away
//	      3  nothing was heard of it yet
//	      4  drains: it takes nothing new
//	      5  down
//
// So a client that no candidate suits still gets one: the nearest of the least
// bad ones. That everything is down is more often an error of who says so than
// the truth (Amazon Route 53 answers alike when all is unhealthy).
//
// The round trip is what the client measured, or else an estimate from the
// great circle: 8 ms, and a millisecond for each 65 km. Light in fibre goes and
// comes back 100 km in a millisecond, and cables make detours: of the 45 pairs
// of cloud regions in internal/simnet's table of published figures the estimate
// is wrong by 14 % in the median. Without a place of the client, and for
// candidates that have none, it is Policy.Unknown, so the order that the
// candidates came in decides.
//
// # Why nobody is moved back and forth
//
// Three kinds of hysteresis, each for its own cause:
//
//   - Measurements vary. The candidate at which the client is now counts as
//     nearer than it is: another one must beat it by Policy.Margin and by
//     Policy.Share, both. (Over several rounds of measuring, that is the
//     client's business: it has them.)
//   - Load varies. Turning away begins at Policy.High and ends below Policy.Low
//     (Shed), and in between not everybody is turned away but a share that
//     grows from nothing at Low to all at 1, so that the next region does not get
//     all of it at once. Who belongs to the share depends on who the client is
//     (Client.Key) and not on chance, so it gets the same answer each time; and
//     a client that is there is not sent away at all.
//   - Health varies. What is up or down is decided before (see regions/steering,
//     Health).
package placement

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mustermesh/muster/geo"
)

// State is how a candidate stands.
type State uint8

// States of a candidate.
const (
	Unknown  State = iota // nothing was heard yet
	Up                    //
	Draining              // serves what it has, takes nothing new
	Down                  //
)

func (s State) String() string {
	return [...]string{"unknown", "up", "draining", "down"}[s]
}

// Candidate is a region, or a node, that a client could be sent to.
type Candidate struct {
	Name  string
	At    *geo.Point    // nil: nobody knows
	RTT   time.Duration // as the client measured it; 0: it did not
	Load  float64       // 0 nobody is there … 1 full
	State State
	Full  bool // clients are turned away, see Shed
}

// Client is who is to be sent somewhere.
type Client struct {
	At      *geo.Point // nil: nobody knows
	Key     uint64     // the same for the same client or network, spread over all values
	Current string     // the candidate at which it is; empty: at none
}

// Policy says what counts how much. The zero value of a field is its default.
type Policy struct {
	Margin    time.Duration // 20 ms: by so much another one must be nearer
	Share     float64       // 0.25: and by this share of the present round trip
	High, Low float64       // 0.85, 0.70: load at which turning away begins, and below which it ends
	Unknown   time.Duration // 160 ms: the round trip of which nothing is known
}

func (p Policy) withDefaults() Policy {
	p.Margin = cmp.Or(p.Margin, 20*time.Millisecond)
	p.Share = cmp.Or(p.Share, 0.25)
	p.High = cmp.Or(p.High, 0.85)
	p.Low = min(cmp.Or(p.Low, 0.70), p.High)
	p.Unknown = cmp.Or(p.Unknown, 160*time.Millisecond)
	return p
}

// Shed says whether a candidate of this load turns clients away, given that it
// did before.
func (p Policy) Shed(did bool, load float64) bool {
	p = p.withDefaults()
	if did {
		return load >= p.Low
	}
	return load >= p.High
}

// Order returns the places in all of the candidates, the best first, in into's
// memory if that is large enough. What is equally good stays in all's order.
func (p Policy) Order(c Client, all []Candidate, into []int) []int {
	p = p.withDefaults()
	var few [16]score
	scores := few[:0]
	into = into[:0]
	for i := range all {
		scores = append(scores, p.score(c, &all[i]))
		into = append(into, i)
	}
	slices.SortStableFunc(into, func(a, b int) int { return scores[a].compare(scores[b]) })
	return into
}

// Best is the first of Order, without ordering the rest; -1 if there is none.
func (p Policy) Best(c Client, all []Candidate) int {
	p = p.withDefaults()
	best, at := score{}, -1
	for i := range all {
		if s := p.score(c, &all[i]); at < 0 || s.compare(best) < 0 {
			best, at = s, i
		}
	}
	return at
}

type score struct {
	rank  uint8
	trips float64 // seconds
}

func (s score) compare(o score) int {
	return cmp.Or(cmp.Compare(s.rank, o.rank), cmp.Compare(s.trips, o.trips))
}

func (p Policy) score(c Client, o *Candidate) score {
	here := c.Current != "" && c.Current == o.Name
	trip := p.trip(c, o).Seconds()
	if here {
		// Another one is clearly nearer if it is below both.
		trip = min(trip-p.Margin.Seconds(), trip*(1-p.Share))
	}
	return score{p.rank(c, o, here), trip}
}

func (p Policy) rank(c Client, o *Candidate, here bool) uint8 {
	switch o.State {
	case Up:
		if o.Full && !here && turnedAway(c.Key, o.Name) < (o.Load-p.Low)/(1-p.Low) {
			return 2
		}
		return 1
	case Draining:
		return 4
	case Down:
		return 5
	default:
		return 3
	}
}

// turnedAway is where a client stands in the queue to be turned away from a
// candidate, in [0, 1). It differs between candidates, or those next to one
// that is full would all turn the same clients away.
func turnedAway(key uint64, name string) float64 {
	h := uint64(14695981039346656037) ^ key
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211 // FNV-1a
	}
	// MurmurHash3's finalizer: FNV alone hardly moves the high bits.
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return float64(h>>11) / (1 << 53)
}

func (p Policy) trip(c Client, o *Candidate) time.Duration {
	switch {
	case o.RTT > 0:
		return o.RTT
	case c.At == nil || o.At == nil:
		return p.Unknown
	default:
		return Estimate(*c.At, *o.At)
	}
}

// Estimate is the round trip that two places so far apart usually have.
func Estimate(a, b geo.Point) time.Duration {
	const base, metresPerMs = 8, 65e3
	return time.Duration((base + geo.Distance(a, b)/metresPerMs) * float64(time.Millisecond))
}

// Spread returns the places in nodes in the order in which one client should try
// them: what is up in random order, those with more capacity more often near the
// front; then what is not, by rank. weights are the capacities, 0 counts as 1.
// (Efraimidis & Spirakis 2006: by an exponential variate over the weight.)
func Spread(states []State, weights []int, r *rand.Rand) []int {
	p := Policy{}
	keys := make([]score, len(states))
	order := make([]int, len(states))
	for i, s := range states {
		keys[i] = score{p.rank(Client{}, &Candidate{State: s}, false), r.ExpFloat64() / math.Max(1, float64(weights[i]))}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return keys[a].compare(keys[b]) })
	return order
}
