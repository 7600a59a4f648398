package grant

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// The attacker program. A victim shares coarsely; the attacker controls 20
// puppets who may see them, knows the code, the secret moments, how people move
// and how receivers err (Kerckhoffs), collects all that a viewer gets for some
// days, and says where the victim is at each moment, and where they live. All
// that a viewer gets is computed from views (the types see to it, and
// TestNothingButTheFinestToldCellShows), so the told cells with their times are
// the attacker's whole input.
//
// There are two measures, both on average over a life, and up to chance (two
// standard errors over lives) and the 12 m that the receiver is off itself.
//
// A coarse grant is meant to give away the cell that the victim is in, all day. So
// somebody else is told that, the true cell at each of the moments, without any
// noise, and attacks in the same way: the attacker must never come closer.
//
// A cell by itself tells less, since where else somebody stays is told, too, and
// shops are near homes, which no snapping hides. So somebody else still is told the
// true cell of one moment, with nothing before and after it, and guesses its centre.
// The attacker must not come closer than that, either, but for a tenth of the cell's
// radius.
//
// That the attacks are good is shown by a naive snapper, which tells the cell of
// each fix, and by rounded distances: there they must come much closer.
//
// What may be inferred beyond that and isn't prevented: from cells that change
// while somebody moves, that they moved, about when and to which side. So this
// is no claim about single moments, but about the whole of what is collected.

// effort is how long the attacker tries: how many days of life each attack looks
// at per field, and for how many days each life is collected.
type effort struct{ days, life int }

// efforts returns what MUSTER_ATTACK_DAYS asks for, else a little, which is seeded:
// of each resolution one kind of home, for a day.
func efforts(t *testing.T) effort {
	s := os.Getenv("MUSTER_ATTACK_DAYS")
	if s == "" {
		return effort{life: 1}
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return effort{n, 3}
}

// fields runs an attack on all resolutions from the finest to areas of a country's
// size, and on homes everywhere in their cells.
func (e effort) fields(t *testing.T, attack func(t *testing.T, res int, how living)) {
	for res := MaxResolution; res >= 4; res-- {
		for how := range livings {
			if e.days == 0 && how != onEdge+living(res%2) {
				continue
			}
			t.Run(fmt.Sprintf("r%d/home %s", res, how), func(t *testing.T) {
				t.Parallel()
				attack(t, res, how)
			})
		}
	}
}

// score has, per life, the mean error of the attacker and of whoever is told
// the cell, in radii of the cell.
type score struct {
	res          int
	attack, cell []float64
}

// add adds a life; the errors are in metres, at the same moments.
func (s *score) add(res int, attack, cell []float64) {
	r := geo.EdgeLength(res)
	s.res, s.attack, s.cell = res, append(s.attack, mean(attack)/r), append(s.cell, mean(cell)/r)
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// gain returns how much closer the attacker comes, and the standard error of it.
func (s *score) gain() (closer, sigma float64) {
	d := make([]float64, len(s.cell))
	for i := range d {
		d[i] = s.cell[i] - s.attack[i]
	}
	closer = mean(d)
	for _, x := range d {
		sigma += (x - closer) * (x - closer)
	}
	n := float64(len(d))
	return closer, math.Sqrt(sigma / (n - 1) / n)
}

func (s *score) String() string {
	closer, sigma := s.gain()
	return fmt.Sprintf("attacker off by %.3f, told the cell %.3f radii; closer by %+.3f ± %.3f, %d lives",
		mean(s.attack), mean(s.cell), closer, sigma, len(s.cell))
}

// receiver is how many metres a victim's receiver is off, in each direction.
const receiver = 12

func (s *score) requireNoBetterThanTheCell(t *testing.T) {
	t.Helper()
	closer, sigma := s.gain()
	require.LessOrEqual(t, closer, 0.1+receiver/geo.EdgeLength(s.res)+2*sigma, "%v", s)
}

// requireNoBetterThan compares with somebody who attacks in the same way and is told
// the true cells.
func (s *score) requireNoBetterThan(t *testing.T, truth *score) {
	t.Helper()
	paired := score{res: s.res, attack: s.attack, cell: truth.attack}
	closer, sigma := paired.gain()
	require.LessOrEqual(t, closer, receiver/geo.EdgeLength(s.res)+2*sigma, "%v; told the true cells: %v", s, truth)
}

func (s *score) requireMuchBetterThanTheCell(t *testing.T) {
	t.Helper()
	require.Less(t, mean(s.attack), 0.7*mean(s.cell), "%v", s)
}

// sighting is what the attacker saw at a step, and the truth, which only the
// scoring reads.
type sighting struct {
	cell  geo.Cell
	truth geo.Point
	at    time.Time
}

// life is what is seen of one victim, by day, through a snapper.
type life struct {
	days [][]sighting
	step time.Duration
	home geo.Point
	res  int
}

// How a life is told.
const (
	ours  = iota // by our snapper
	naive        // the cell of each fix at once, but the attacker looks every few minutes only
	truth        // the true cell, at the moments of our snapper
	tellings
)

var tellingNames = [tellings]string{"ours", "naive", "truth"}

// watch returns a life as it is told in each of the ways.
func watch(t testing.TB, days int, seed uint64, res int, how living) (told [tellings]life) {
	s := newTelling(fmt.Sprint(seed))
	for i := range told {
		told[i] = life{step: Period(res), res: res}
	}
	told[naive].step = min(Period(res), 5*time.Minute)
	var last, lastNaive time.Time
	day := 0
	see := func(by int, cell geo.Cell, at geo.Point, now time.Time) {
		told[by].days[day] = append(told[by].days[day], sighting{cell, at, now})
	}
	v := newVictim(t, seed, res, how, func(now time.Time, at geo.Point, raw Raw) {
		take(t, s, raw, now)
		if m := s.moment(res, now); m.After(last) {
			last = m
			see(ours, s.view(Cells(res)).Cell, at, now)
			see(truth, mustCell(t, at, res), at, now)
		}
		if now.Sub(lastNaive) >= told[naive].step {
			lastNaive = now
			see(naive, mustCell(t, Own(raw).Point, res), at, now)
		}
	})
	for day = range days {
		for i := range told {
			told[i].days = append(told[i].days, nil)
		}
		v.day()
	}
	for i := range told {
		told[i].home = v.home
	}
	return told
}

func centerOf(t testing.TB, p geo.Point, res int) geo.Point {
	c, err := h3.Center(mustCell(t, p, res))
	require.NoError(t, err)
	return c
}

// TestAttackByTracking follows victims by a hidden Markov model, which combines
// averaging, change times, walking along borders and all the knowledge that the
// attacker has, and finds their homes from all nights together.
func TestAttackByTracking(t *testing.T) {
	e := efforts(t)
	e.fields(t, func(t *testing.T, res int, how living) {
		lives := max(6, e.days/e.life/3)
		if res >= 9 || res == 8 && e.days == 0 { // many cells
			lives = max(6, lives/3)
		}
		var always, homes [tellings]score
		for seed := range uint64(lives) {
			for i, l := range watch(t, e.life, seed, res, how) {
				attack, cell, home := track(t, l, i != ours)
				always[i].add(res, attack, cell)
				homes[i].add(res, []float64{geo.Distance(home, l.home)}, []float64{geo.Distance(centerOf(t, l.home, res), l.home)})
			}
		}
		for i, name := range tellingNames {
			t.Logf("%-5s all day: %v", name, &always[i])
			t.Logf("%-5s home:    %v", name, &homes[i])
		}
		for _, s := range [][tellings]score{always, homes} {
			s[ours].requireNoBetterThan(t, &s[truth])
			s[ours].requireNoBetterThanTheCell(t)
			if how != anywhere {
				s[naive].requireMuchBetterThanTheCell(t)
			}
		}
	})
}

// track returns the errors of the attacker and of whoever is told the cell at
// each step, and where the attacker thinks that the victim lives.
func track(t testing.TB, l life, naive bool) (attack, cell []float64, home geo.Point) {
	k := newTracker(t, l.res, l.step, slices.Concat(l.days...), naive)
	nights := make([]float64, len(k.points))
	for _, day := range l.days {
		b := k.believe(t, day)
		for s := range day {
			attack = append(attack, geo.Distance(k.mean(b[s]), day[s].truth))
			cell = append(cell, geo.Distance(centerOf(t, day[s].truth, l.res), day[s].truth))
		}
		for j, w := range b[len(b)/6] { // four in the morning
			nights[j] += math.Log(w + 1e-9)
		}
	}
	top, sum := slices.Max(nights), 0.0
	for j := range nights {
		nights[j] = math.Exp(nights[j] - top)
		sum += nights[j]
	}
	for j := range nights {
		nights[j] /= sum
	}
	return attack, cell, k.mean(nights)
}

// clues are what somebody might go by who wants to know on which side of its
// cell a home is: directions from the centre of the cell that is told at night,
// in radii.
type clues [4][2]float64

// cluesOf returns the clues of a life, and where the home is from the same centre.
func cluesOf(t testing.TB, l life) (c clues, home [2]float64) {
	count := map[geo.Cell]int{}
	for _, day := range l.days {
		for _, s := range day[:len(day)/4] {
			count[s.cell]++
		}
	}
	night := slices.MaxFunc(keysOf(count), func(a, b geo.Cell) int { return count[a] - count[b] })
	center, err := h3.Center(night)
	require.NoError(t, err)
	from := func(p geo.Point) (v [2]float64) {
		sin, cos := math.Sincos(geo.Bearing(center, p) * math.Pi / 180)
		d := geo.Distance(center, p) / geo.EdgeLength(l.res)
		return [2]float64{d * sin, d * cos}
	}
	var n [4]float64
	add := func(i int, cell geo.Cell) {
		p, err := h3.Center(cell)
		require.NoError(t, err)
		if v := from(p); math.Hypot(v[0], v[1]) < 4 {
			c[i][0], c[i][1], n[i] = c[i][0]+v[0], c[i][1]+v[1], n[i]+1
		}
	}
	for _, day := range l.days {
		for i, s := range day {
			add(0, s.cell) // where they are near home, on average
			if i < len(day)/4 {
				add(1, s.cell) // in the night, on average
			}
			if i > 0 && s.cell != night && day[i-1].cell == night {
				add(2, s.cell) // where they go
			}
			if i > 0 && s.cell == night && day[i-1].cell != night {
				add(3, day[i-1].cell) // where they come from
			}
		}
	}
	for i := range c {
		if n[i] > 0 {
			c[i][0], c[i][1] = c[i][0]/n[i], c[i][1]/n[i]
		}
	}
	return c, from(l.home)
}

func keysOf(m map[geo.Cell]int) (out []geo.Cell) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// TestAttackByLearning makes no model of the snapper. The attacker runs it on
// simulated lives like the victim's, and learns what the clues say about where
// in its cell the home is (least squares). Half of the lives are to learn from,
// half are the victims.
func TestAttackByLearning(t *testing.T) {
	e := efforts(t)
	e.fields(t, func(t *testing.T, res int, how living) {
		lives := max(12, e.days/e.life)
		var scores [tellings]score
		var all [tellings][]clues
		var homes [tellings][][2]float64
		var told []float64
		for seed := range uint64(lives) {
			for i, l := range watch(t, e.life, 1000+seed, res, how) {
				c, home := cluesOf(t, l)
				all[i], homes[i] = append(all[i], c), append(homes[i], home)
				if i == ours {
					told = append(told, geo.Distance(centerOf(t, l.home, res), l.home))
				}
			}
		}
		for i, name := range tellingNames {
			w := leastSquares(all[i][:lives/2], homes[i][:lives/2])
			for j := lives / 2; j < lives; j++ {
				d := homes[i][j]
				for k, c := range all[i][j] {
					d[0], d[1] = d[0]-w[k]*c[0], d[1]-w[k]*c[1]
				}
				scores[i].add(res, []float64{geo.EdgeLength(res) * math.Hypot(d[0], d[1])}, []float64{told[j]})
			}
			t.Logf("%-5s home: %v", name, &scores[i])
		}
		scores[ours].requireNoBetterThan(t, &scores[truth])
		scores[ours].requireNoBetterThanTheCell(t)
		if how != anywhere {
			scores[naive].requireMuchBetterThanTheCell(t)
		}
	})
}

// leastSquares returns the weights of the clues that fit the homes best, with a
// little ridge, since there may be few lives.
func leastSquares(all []clues, homes [][2]float64) (w [4]float64) {
	var a [4][5]float64
	for j, c := range all {
		for x := range 2 {
			for r := range 4 {
				for s := range 4 {
					a[r][s] += c[r][x] * c[s][x]
				}
				a[r][4] += c[r][x] * homes[j][x]
			}
		}
	}
	for r := range 4 {
		a[r][r] += 0.01 * float64(len(all))
	}
	for r := range 4 { // Gauss and Jordan; ridge makes it positive definite
		for s := range 4 {
			if s == r {
				continue
			}
			f := a[s][r] / a[r][r]
			for x := r; x < 5; x++ {
				a[s][x] -= f * a[r][x]
			}
		}
	}
	for r := range 4 {
		w[r] = a[r][4] / a[r][r]
	}
	return w
}

// TestAttackByDistances has the 20 puppets ask how far the victim is, from
// wherever they like, all night, and average and trilaterate (Gauss-Newton); then
// bisect who of two puppets is nearer, which needs no distances. Against
// distances from the fix, rounded to 100 m, both find the bed.
func TestAttackByDistances(t *testing.T) {
	e := efforts(t)
	e.fields(t, func(t *testing.T, res int, how living) {
		var triangles, orders [2]score
		for seed := range uint64(max(3, e.days/30)) {
			var ours, exact []View
			s := newTelling(fmt.Sprint(seed))
			v := newVictim(t, seed, res, how, func(now time.Time, _ geo.Point, raw Raw) {
				take(t, s, raw, now)
				if now.Second() == 0 && now.Minute()%5 == 0 {
					ours, exact = append(ours, s.view(Cells(res))), append(exact, Own(raw))
				}
			})
			v.stay(6 * time.Hour)
			told := []float64{geo.Distance(centerOf(t, v.home, res), v.home)}
			for i, views := range [][]View{ours, exact} {
				ask := func(q geo.Point, v View) float64 {
					if i == 0 {
						return geo.Distance(q, v.Point) // as core/location and edge/nearby have it, not even rounded
					}
					return 100 * math.Round(geo.Distance(q, v.Point)/100)
				}
				start := geo.Destination(v.home, float64(seed)*77, geo.EdgeLength(res)/2)
				triangles[i].add(res, []float64{geo.Distance(trilaterate(start, res, views, ask), v.home)}, told)
				orders[i].add(res, []float64{geo.Distance(bisect(start, res, views), v.home)}, told)
			}
		}
		for i, name := range []string{"ours", "naive"} {
			t.Logf("%-5s distances: %v", name, &triangles[i])
			t.Logf("%-5s order:     %v", name, &orders[i])
		}
		triangles[0].requireNoBetterThanTheCell(t)
		orders[0].requireNoBetterThanTheCell(t)
		triangles[1].requireMuchBetterThanTheCell(t)
		orders[1].requireMuchBetterThanTheCell(t)
	})
}

// trilaterate finds the point that fits best the distances that puppets are told
// all night, each in a place of its own every time.
func trilaterate(guess geo.Point, res int, views []View, ask func(geo.Point, View) float64) geo.Point {
	type told struct {
		from geo.Point
		d    float64
	}
	var all []told
	for n, v := range views {
		for puppet := range 20 {
			q := geo.Destination(guess, float64(puppet*18+n*7), geo.EdgeLength(res)*(0.5+float64((puppet*13+n*29)%40)/10))
			all = append(all, told{q, ask(q, v)})
		}
	}
	for range 8 {
		var xx, xy, yy, xd, yd float64
		for _, m := range all {
			sin, cos := math.Sincos(geo.Bearing(m.from, guess) * math.Pi / 180)
			d := m.d - geo.Distance(m.from, guess)
			xx, xy, yy, xd, yd = xx+sin*sin, xy+sin*cos, yy+cos*cos, xd+sin*d, yd+cos*d
		}
		det := xx*yy - xy*xy
		e, n := (yy*xd-xy*yd)/det, (xx*yd-xy*xd)/det
		guess = geo.Destination(guess, math.Atan2(e, n)*180/math.Pi, math.Hypot(e, n))
	}
	return guess
}

// bisect finds where somebody is by who of two puppets is nearer: once in the
// direction north, once east, a vote of the night for each step.
func bisect(around geo.Point, res int, views []View) geo.Point {
	var off [2]float64
	for axis, bearing := range []float64{90, 0} {
		low, high := -4*geo.EdgeLength(res), 4*geo.EdgeLength(res)
		for high-low > 1 {
			mid, votes := (low+high)/2, 0
			a, b := geo.Destination(around, bearing, mid+1000), geo.Destination(around, bearing, mid-1000)
			for _, v := range views {
				if geo.Distance(a, v.Point) < geo.Distance(b, v.Point) {
					votes++
				}
			}
			if 2*votes > len(views) {
				low = mid
			} else {
				high = mid
			}
		}
		off[axis] = (low + high) / 2
	}
	return geo.Destination(around, math.Atan2(off[0], off[1])*180/math.Pi, math.Hypot(off[0], off[1]))
}
