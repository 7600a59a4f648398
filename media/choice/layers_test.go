package choice

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// runs is how many seeds a test tries: MUSTER_PROVE_MEDIA times as many, if it is set.
func runs(n uint64) uint64 {
	times, err := strconv.ParseUint(os.Getenv("MUSTER_PROVE_MEDIA"), 10, 16)
	if err != nil {
		return n
	}
	return n * times
}

func TestPicturesGetTheirLayers(t *testing.T) {
	camera := func() *Picture { return &Picture{Rates: [3]int{150, 500, 1500}, Layers: 3, Most: 2, Now: -1} }
	a, b := camera(), camera()
	got := func(budget int, atLeast bool) [2]int {
		Distribute([]*Picture{a, b}, budget, atLeast)
		return [2]int{a.Got, b.Got}
	}
	require.Equal(t, [2]int{2, 2}, got(10_000, false))
	require.Equal(t, [2]int{-1, -1}, got(50, false))
	require.Equal(t, [2]int{0, 0}, got(50, true))
	require.Equal(t, [2]int{0, -1}, got(190, false), "a lowest layer is given for 0.4 of it")
	require.Equal(t, [2]int{0, 0}, got(300, false))
	require.Equal(t, [2]int{1, 0}, got(750, false), "the first one before the others")
	require.Equal(t, [2]int{1, 1}, got(1050, false))
	require.Equal(t, [2]int{0, 0}, got(300+350+49, false), "a step up leaves a tenth free")
	a.Now = 1
	require.Equal(t, [2]int{1, 0}, got(300+350, false), "which is not needed for what there is")
	a.Most = 0
	require.Equal(t, [2]int{0, 2}, got(10_000, false), "no more than is shown")
	a.Rates[0] = 0
	require.Equal(t, [2]int{-1, 2}, got(10_000, false), "what does not come is not given")
	require.Equal(t, 60, Distribute([]*Picture{camera()}, 10, false))
	require.Zero(t, Distribute([]*Picture{camera()}, 1650, false))
}

// Whatever comes, is shown and fits: the budget holds but for lowest layers, nothing more
// would fit, and who comes first gets no less than an equal one that comes later.
func TestDistribute(t *testing.T) {
	for seed := range runs(20_000) {
		r := rand.New(rand.NewPCG(seed, 3))
		var list []*Picture
		for range 1 + r.IntN(8) {
			p := &Picture{Layers: 1 + r.IntN(3), Now: r.IntN(4) - 1}
			p.Most = r.IntN(p.Layers)
			rate := 50 + r.IntN(200)
			for l := range p.Layers {
				if p.Rates[l] = rate; r.IntN(8) == 0 {
					p.Rates[l] = 0
				}
				rate *= 2 + r.IntN(3)
			}
			list = append(list, p)
			if r.IntN(3) == 0 {
				equal := *p
				list = append(list, &equal)
			}
		}
		budget, atLeast := r.IntN(6_000), r.IntN(4) == 0
		lack := Distribute(list, budget, atLeast)
		sum, lowest := 0, 0
		for i, p := range list {
			require.LessOrEqual(t, p.Got, p.Most)
			if p.Got < 0 {
				continue
			}
			require.Positive(t, p.Rates[p.Got])
			sum += p.Rates[p.Got]
			below := *p
			below.Got = -1
			lowest += p.Rates[below.next()]
			if i > 0 && p.Rates == list[i-1].Rates && p.Layers == list[i-1].Layers && p.Most == list[i-1].Most && p.Now == list[i-1].Now {
				require.LessOrEqual(t, p.Got, list[i-1].Got, "seed %d: %d", seed, i)
			}
		}
		require.LessOrEqual(t, sum-lowest, max(0, budget-lowest), "seed %d: beyond lowest layers the budget holds", seed)
		left := float64(budget - sum)
		wants := false
		for _, p := range list {
			next := p.next()
			if next < 0 || next > p.Most {
				continue
			}
			wants = true
			_, room := p.step(next)
			require.Greater(t, room, left, "seed %d: it would have fitted", seed)
			require.False(t, atLeast && p.Got < 0)
		}
		require.Equal(t, wants, lack > 0, "seed %d: what is lacking is told", seed)
	}
}
