package scenario

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/geo"
)

// What peers were measured with: points of a city, and who asks in it.
const (
	geoConns  = 8
	geoBatch  = 32
	geoLoad   = 256  // points of a request when a server is filled
	geoRadius = 1000 // metres
	geoLimit  = 20
	geoStep   = 10 // metres of a move

	geoTie = 1 // metres: a server may store points and reckon distances that much coarser
)

// geoCity is the middle of a square of 40 km by 40 km.
var geoCity = geo.Point{Lat: 52.52, Lng: 13.405}

const (
	geoHalfLat = 20_000 / 111_195.0
	geoHalfLng = geoHalfLat / 0.6085
)

func geoAnywhere(r *rand.Rand) geo.Point {
	return geo.Point{Lat: geoCity.Lat + (2*r.Float64()-1)*geoHalfLat, Lng: geoCity.Lng + (2*r.Float64()-1)*geoHalfLng}
}

// geoWorld is the points that all servers are given. Each goes to and fro between
// two places, in an order that has nothing to do with where they are: so where it
// is follows from how often it has moved.
type geoWorld struct {
	names      []string
	home, away []geo.Point
	order      []int
}

func newGeoWorld(points int) *geoWorld {
	r := rand.New(rand.NewPCG(1, uint64(points)))
	w := &geoWorld{order: r.Perm(points)}
	for i := range points {
		home := geoAnywhere(r)
		w.names = append(w.names, strconv.Itoa(i))
		w.home = append(w.home, home)
		w.away = append(w.away, geo.Destination(home, 360*r.Float64(), geoStep))
	}
	return w
}

// geoMover is the share of the points that one connection moves, one after the
// other.
type geoMover struct {
	*geoWorld
	share int
	moved int // so many moves were made
}

// size is how many points the share has.
func (m *geoMover) size() int { return (len(m.order) - m.share + geoConns - 1) / geoConns }

// point is the n-th of the share.
func (m *geoMover) point(n int) int { return m.order[m.share+n*geoConns] }

// homes sets moves to where points of the share begin, from the n-th on, and
// returns how many there were.
func (m *geoMover) homes(moves []peers.Move, n int) int {
	k := min(len(moves), m.size()-n)
	for i := range k {
		p := m.point(n + i)
		moves[i] = peers.Move{Name: m.names[p], To: m.home[p]}
	}
	return k
}

// next sets moves to the next ones.
func (m *geoMover) next(moves []peers.Move) {
	for i := range moves {
		p := m.point(m.moved % m.size())
		to := m.home[p]
		if m.moved/m.size()%2 == 0 {
			to = m.away[p]
		}
		moves[i] = peers.Move{Name: m.names[p], To: to}
		m.moved++
	}
}

// geoTruth is where all points are, and by brute force who is near.
type geoTruth struct {
	*geoWorld
	at []geo.Vec
}

func newGeoTruth(w *geoWorld, movers []*geoMover) *geoTruth {
	t := &geoTruth{geoWorld: w, at: make([]geo.Vec, len(w.home))}
	for _, m := range movers {
		for n := range m.size() {
			p, moves := m.point(n), m.moved/m.size()
			if n < m.moved%m.size() {
				moves++
			}
			if t.at[p] = w.home[p].Vec(); moves%2 == 1 {
				t.at[p] = w.away[p].Vec()
			}
		}
	}
	return t
}

// judge says whether an answer is the true one, point by point, and whether it
// is right but for those that are equally far, give or take.
func (t *geoTruth) judge(from geo.Point, answer []string) (same, right bool) {
	type candidate struct {
		name     string
		distance float64
	}
	v, reach := from.Vec(), geo.Chord2(geoRadius+geoTie)
	var truth []candidate
	for i := range t.at {
		if c := v.Chord2(t.at[i]); c <= reach {
			truth = append(truth, candidate{t.names[i], geo.Chord2Distance(c)})
		}
	}
	slices.SortFunc(truth, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	within := func(radius float64) (n int) {
		for n < min(geoLimit, len(truth)) && truth[n].distance <= radius {
			n++
		}
		return n
	}
	same = len(answer) == within(geoRadius)
	right = len(answer) >= within(geoRadius-geoTie) && len(answer) <= within(geoRadius+geoTie)
	seen := map[string]bool{}
	for i := 0; right && i < len(answer); i++ {
		same = same && answer[i] == truth[i].name
		p, err := strconv.Atoi(answer[i])
		if err != nil || p < 0 || p >= len(t.at) || seen[answer[i]] {
			return false, false
		}
		seen[answer[i]] = true
		off := geo.Chord2Distance(v.Chord2(t.at[p])) - truth[i].distance
		right = off >= -geoTie && off <= geoTie
	}
	return same && right, right
}
