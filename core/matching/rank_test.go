package matching

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// full is what make prove-matching multiplies counts by.
func full(t testing.TB) int {
	if s := os.Getenv("MUSTER_PROVE_MATCHING"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	return 1
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func viewer() Viewer {
	p := Closed()
	p.Open, p.Interests = true, []string{"chess", "tea"}
	return Viewer{User: core.UserID(uuid.New()), Profile: p, At: square, Since: noon, Radius: 5000, Ranking: 3, Round: 7, Seed: []byte("seed")}
}

func candidate(metres float64) Candidate {
	p := Closed()
	p.Open = true
	return Candidate{User: core.UserID(uuid.New()), Profile: p, Ranking: 3, Relation: None,
		View: grant.View{Point: geo.Destination(square, 80, metres), Precision: grant.Exact, Captured: noon}}
}

func TestEligible(t *testing.T) {
	for name, spoil := range map[string]func(v *Viewer, c *Candidate){
		"closed oneself":       func(v *Viewer, _ *Candidate) { v.Profile.Open = false },
		"closed":               func(_ *Viewer, c *Candidate) { c.Profile.Open = false },
		"oneself":              func(v *Viewer, c *Candidate) { c.User = v.User },
		"on no terms":          func(v *Viewer, c *Candidate) { v.Hidden = map[core.UserID]bool{c.User: true} },
		"far":                  func(_ *Viewer, c *Candidate) { c.View.Point = geo.Destination(square, 80, 5001) },
		"stale":                func(v *Viewer, c *Candidate) { c.View.Captured = noon.Add(-v.Profile.MaxAge - time.Second) },
		"stale oneself":        func(v *Viewer, _ *Candidate) { v.Since = noon.Add(-maxAge - time.Second) },
		"below the floor":      func(v *Viewer, _ *Candidate) { v.Profile.MinRating = 3.01 },
		"below the other's":    func(_ *Viewer, c *Candidate) { c.Profile.MinRating = 3.01 },
		"worse than the floor": func(v *Viewer, c *Candidate) { v.Profile.MinRating, c.Ranking = 3, 2.9 },
	} {
		v, c := viewer(), candidate(4999)
		require.True(t, v.Eligible(&c, noon), name)
		spoil(&v, &c)
		require.False(t, v.Eligible(&c, noon), name)
	}
}

func TestClass(t *testing.T) {
	for metres, want := range map[float64]float64{0: 500, 499: 500, 501: 1000, 4000: 5000, 49_000: 50_000, 90_000: 100_000, 150_000: 200_000} {
		require.Equal(t, want, Class(square, candidate(metres).View), metres)
	}
	coarse := grant.View{Point: square, Cell: 1, Accuracy: 3700}
	require.Equal(t, 5000.0, Class(square, coarse), "not finer than the cell")
}

func TestOrder(t *testing.T) {
	v := viewer()
	better := []func(c *Candidate){
		func(c *Candidate) { c.Profile.Interests = []string{"chess", "tea"} },
		func(c *Candidate) { c.Profile.Interests = []string{"chess", "go"} },
		func(c *Candidate) {},
		func(c *Candidate) { c.View.Point = geo.Destination(square, 0, 3000) },
		func(c *Candidate) { c.View.Point, c.Ranking = geo.Destination(square, 0, 5001), 1 },
		func(c *Candidate) { c.Shown = 2 },
		func(c *Candidate) { c.Shown, c.Profile.Interests = 5, []string{"chess", "tea"} },
		func(c *Candidate) { c.Shown = 5 },
		func(c *Candidate) { c.Relation = Talking },
		func(c *Candidate) { c.Relation, c.Shown = Declined, 3 },
	}
	var cs []Candidate
	for _, make := range better {
		c := candidate(10)
		make(&c)
		cs = append(cs, c)
	}
	want := make([]core.UserID, len(cs))
	for i, c := range cs {
		want[i] = c.User
	}
	for range 50 {
		rand.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
		v.Order(cs)
		got := make([]core.UserID, len(cs))
		for i, c := range cs {
			got[i] = c.User
		}
		require.Equal(t, want, got)
	}
}

func TestLuckIsTheSameWithinARoundOnly(t *testing.T) {
	v := viewer()
	var cs []Candidate
	for range 20 {
		cs = append(cs, candidate(10))
	}
	order := func() (ids []core.UserID) {
		rand.Shuffle(len(cs), func(i, j int) { cs[i], cs[j] = cs[j], cs[i] })
		v.Order(cs)
		for _, c := range cs {
			ids = append(ids, c.User)
		}
		return ids
	}
	first := order()
	require.Equal(t, first, order())
	v.Round++
	require.NotEqual(t, first, order())
	v.Round--
	v.Seed = []byte("another")
	require.NotEqual(t, first, order())
}

// TestNobodyIsStarved has people of all merits wait for their turn, for hundreds
// of rounds, while a tenth is away at a time and a fifth is new: nobody is here and
// eligible for more rounds without being shown than the package comment says.
func TestNobodyIsStarved(t *testing.T) {
	cases := []struct{ people, page, rounds int }{{15, 20, 50}, {300, 20, 100}, {1000, 50, 60}}
	if full(t) > 1 {
		cases = []struct{ people, page, rounds int }{{300, 20, 6000}, {1000, 50, 2000}, {2000, 20, 2200}}
	}
	for _, n := range cases {
		t.Run(fmt.Sprintf("%d people, %d a page", n.people, n.page), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(uint64(n.people), 1))
			v := viewer()
			cs := make([]Candidate, n.people)
			index, comes := map[core.UserID]int{}, map[core.UserID]int64{} // in which round, for the first time
			for i := range cs {
				cs[i] = candidate(rng.Float64() * 6000)
				index[cs[i].User] = i
				cs[i].Ranking = 1 + 4*rng.Float64()
				cs[i].Profile.Interests = [][]string{nil, {"chess"}, {"chess", "tea"}}[rng.IntN(3)]
				if rng.IntN(5) == 0 {
					comes[cs[i].User] = rng.Int64N(int64(n.rounds))
				}
			}
			bound := maxMerit + (n.people+n.page-1)/n.page
			shown, waits, longest := map[core.UserID]int{}, map[core.UserID]int{}, 0
			var here []Candidate
			for v.Round = 1; v.Round <= int64(n.rounds); v.Round++ {
				here = here[:0]
				for _, c := range cs {
					if rng.IntN(10) > 0 && v.Round >= comes[c.User] {
						here = append(here, c)
					}
				}
				v.Order(here)
				for i, c := range here {
					waits[c.User]++
					longest = max(longest, waits[c.User])
					require.LessOrEqual(t, waits[c.User], bound, "round %d: of merit %d, shown %d times", v.Round, v.Merit(&c), shown[c.User])
					if i < n.page {
						shown[c.User]++
						waits[c.User], cs[index[c.User]].Shown = 0, v.Round
					}
				}
			}
			counts := []int{}
			for _, c := range cs {
				if comes[c.User] == 0 { // from the beginning
					counts = append(counts, shown[c.User])
				}
			}
			least, most := slices.Min(counts), slices.Max(counts)
			t.Logf("%d rounds: shown %d to %d times; longest wait %d rounds, bound %d, mean %.1f", n.rounds, least, most, longest, bound, float64(n.people)/float64(n.page))
		})
	}
}
