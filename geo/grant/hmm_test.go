package grant

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// tracker is the attacker's best model: a hidden Markov model whose states are
// the cells two resolutions finer, 49 in each cell that was seen or is next to
// one, times whether the subject is about to leave the cell that is told. It
// knows the algorithm and the secret moments, how noisy receivers are and how
// fast people walk, and that they may have got into a car. What it believes at a
// step takes all sightings into account, earlier and later ones (forward-backward).
// It doesn't know of cloaks: told of them it finds homes less well, since it
// can't tell who stays from who passes.
type tracker struct {
	res    int
	points []geo.Point
	noisy  [][]input // of each point, what the level decides by, under some noise
	blocks [][]int32 // points between which walks are not told apart
	walk   [][]int32 // which blocks are within a step's walk of each
	naive  bool      // the victim tells the cell of each fix at once
	after  map[geo.Cell][]outcomes
}

// outcomes are what may be told next, with their probabilities.
type outcomes []outcome

type outcome struct {
	cell    geo.Cell
	leaving bool
	p       float64
}

const (
	stays  = 0.9
	walks  = 0.08
	drives = 0.02
	draws  = 10 // noisy fixes per point
)

func newTracker(t testing.TB, res int, step time.Duration, seen []sighting, naive bool) *tracker {
	k := &tracker{res: res, naive: naive, after: map[geo.Cell][]outcomes{}}
	cells := map[geo.Cell]bool{}
	for _, s := range seen {
		if cells[s.cell] {
			continue
		}
		around, err := h3.Disk(s.cell, 1)
		require.NoError(t, err)
		cells[s.cell] = true
		for _, c := range around {
			if _, ok := cells[c]; !ok {
				cells[c] = false
			}
		}
	}
	// The same noise for all points: what differs is where they are.
	rng := rand.New(rand.NewPCG(7, 7))
	type shift struct{ bearing, metres float64 }
	noise := make([]shift, draws)
	for i := range noise {
		noise[i] = shift{rng.Float64() * 360, 12 * math.Sqrt(-2*math.Log(1-rng.Float64()))}
	}
	for c := range cells {
		for a := range 7 {
			for b := range 7 {
				p, err := h3.Center(c.Child(a).Child(b))
				require.NoError(t, err)
				k.points = append(k.points, p)
				in := make([]input, draws)
				for i, n := range noise {
					in[i] = k.input(t, geo.Destination(p, n.bearing, n.metres))
				}
				k.noisy = append(k.noisy, in)
			}
		}
	}
	k.block(step)
	return k
}

// block finds where people may walk to in a step. Where they get over many cells
// in it, all points of a finer cell are taken for one: the same to the eye, and a
// hundredth of the work.
func (k *tracker) block(step time.Duration) {
	size := 1
	reach := 1.4*step.Seconds() + 2*geo.EdgeLength(k.res+2)
	if reach > 4*geo.EdgeLength(k.res+1) {
		size = 7
	}
	var vecs []geo.Vec
	for i := 0; i < len(k.points); i += size {
		vecs = append(vecs, k.points[i].Vec()) // the middle one
		block := make([]int32, size)
		for j := range block {
			block[j] = int32(i + j)
		}
		k.blocks = append(k.blocks, block)
	}
	k.walk = make([][]int32, len(vecs))
	for i := range vecs {
		for j := range vecs {
			if vecs[i].Chord2(vecs[j]) <= geo.Chord2(reach) {
				k.walk[i] = append(k.walk[i], int32(j))
			}
		}
	}
}

// input is what the level of the tracker's resolution decides by where a fix
// is at p: for a coarse level, the finer cell that it is in.
func (k *tracker) input(t testing.TB, p geo.Point) input {
	fine := mustCell(t, p, geo.MaxResolution)
	if k.res == MaxResolution {
		return input{p, 18, fine}
	}
	c := fine.Parent(k.res + 1)
	center, err := h3.Center(c)
	require.NoError(t, err)
	return input{center, geo.EdgeLength(k.res + 1), c}
}

// next returns, for each point, what may be told after a cell was told.
func (k *tracker) next(t testing.TB, told geo.Cell) []outcomes {
	if k.naive {
		told = 0 // whatever it was
	}
	if out, ok := k.after[told]; ok {
		return out
	}
	if k.naive {
		out := make([]outcomes, len(k.points))
		for i, ins := range k.noisy {
			for _, in := range ins {
				out[i] = out[i].add(in.cell.Parent(k.res), false)
			}
		}
		k.after[told] = out
		return out
	}
	shape, err := newShape(told)
	require.NoError(t, err)
	out := make([]outcomes, len(k.points))
	for i, ins := range k.noisy {
		for _, in := range ins {
			l := level{told: shape}
			mine := in.cell.Parent(k.res)
			c, err := l.next(in, mine, false)
			require.NoError(t, err)
			out[i] = out[i].add(c, l.leaving)
		}
	}
	k.after[told] = out
	return out
}

func (o outcomes) add(c geo.Cell, leaving bool) outcomes {
	for i := range o {
		if o[i].cell == c && o[i].leaving == leaving {
			o[i].p += 1.0 / draws
			return o
		}
	}
	return append(o, outcome{c, leaving, 1.0 / draws})
}

// never is the probability of what the model holds for impossible: models are
// wrong.
const never = 1e-4

func (o outcomes) of(c geo.Cell, leaving bool) float64 {
	for _, x := range o {
		if x.cell == c && x.leaving == leaving {
			return x.p
		}
	}
	return never
}

// belief is a probability for each point: staying, and about to leave.
type belief [2][]float64

func newBelief(n int) belief { return belief{make([]float64, n), make([]float64, n)} }

func (b belief) scale() {
	sum := 0.0
	for l := range b {
		for _, v := range b[l] {
			sum += v
		}
	}
	for l := range b {
		for i := range b[l] {
			b[l][i] /= sum
		}
	}
}

// spread moves people: the kernel is symmetric but for its normalisation, so it
// serves both directions.
func (k *tracker) spread(from, to []float64) {
	sum := 0.0
	for _, v := range from {
		sum += v
	}
	jump := drives * sum / float64(len(from))
	for i := range to {
		to[i] = jump + stays*from[i]
	}
	arrive := make([]float64, len(k.blocks))
	for i, block := range k.blocks {
		v := 0.0
		for _, p := range block {
			v += from[p]
		}
		if v < 1e-12*sum {
			continue
		}
		share := walks * v / float64(len(k.walk[i])*len(block))
		for _, j := range k.walk[i] {
			arrive[j] += share
		}
	}
	for j, block := range k.blocks {
		for _, p := range block {
			to[p] += arrive[j]
		}
	}
}

// believe returns the belief at each step, given all sightings.
func (k *tracker) believe(t testing.TB, seen []sighting) [][]float64 {
	n := len(k.points)
	forward := make([]belief, len(seen))
	now := newBelief(n)
	for i, c := range k.next(t, seen[0].cell) {
		now[0][i] = c.of(seen[0].cell, false)
	}
	now.scale()
	forward[0] = now
	// Who leaves is told of the cell that they are in.
	leave := func(i int, c geo.Cell) float64 {
		p := 0.0
		for _, in := range k.noisy[i] {
			if in.cell.Parent(k.res) == c {
				p += 1.0 / draws
			}
		}
		return max(p, never)
	}
	for s := 1; s < len(seen); s++ {
		after, c := k.next(t, seen[s-1].cell), seen[s].cell
		pred, next := newBelief(n), newBelief(n)
		k.spread(now[0], pred[0])
		if !k.naive {
			k.spread(now[1], pred[1])
		}
		for i := range n {
			next[0][i] = pred[0][i] * after[i].of(c, false)
			if !k.naive {
				next[0][i] += pred[1][i] * leave(i, c)
				next[1][i] = pred[0][i] * after[i].of(c, true)
			}
		}
		next.scale()
		forward[s], now = next, next
	}
	out := make([][]float64, len(seen))
	later := belief{slices.Repeat([]float64{1}, n), slices.Repeat([]float64{1}, n)}
	for s := len(seen) - 1; s >= 0; s-- {
		post, sum := make([]float64, n), 0.0
		for i := range n {
			post[i] = forward[s][0][i]*later[0][i] + forward[s][1][i]*later[1][i]
			sum += post[i]
		}
		for i := range post {
			post[i] /= sum
		}
		out[s] = post
		if s == 0 {
			break
		}
		after, c := k.next(t, seen[s-1].cell), seen[s].cell
		weighted, before := newBelief(n), newBelief(n)
		for i := range n {
			weighted[0][i] = after[i].of(c, false) * later[0][i]
			if !k.naive {
				weighted[0][i] += after[i].of(c, true) * later[1][i]
				weighted[1][i] = leave(i, c) * later[0][i]
			}
		}
		k.spread(weighted[0], before[0])
		if !k.naive {
			k.spread(weighted[1], before[1])
		}
		before.scale()
		later = before
	}
	return out
}

// mean returns where a belief is in the middle.
func (k *tracker) mean(b []float64) geo.Point {
	var v geo.Vec
	for i, w := range b {
		p := k.points[i].Vec()
		v.X, v.Y, v.Z = v.X+w*p.X, v.Y+w*p.Y, v.Z+w*p.Z
	}
	return geo.Point{
		Lat: math.Atan2(v.Z, math.Hypot(v.X, v.Y)) * 180 / math.Pi,
		Lng: math.Atan2(v.Y, v.X) * 180 / math.Pi,
	}
}
