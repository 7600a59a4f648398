package grant

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

var midnight = time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)

func fixAt(t testing.TB, p geo.Point, accuracy float32, captured time.Time) Raw {
	raw, err := NewRaw(p, accuracy, Read(1), Read(2), Read(0.5), captured)
	require.NoError(t, err)
	return raw
}

func take(t testing.TB, s *Snapper, raw Raw, now time.Time) {
	t.Helper()
	_, err := s.Take(raw, now)
	require.NoError(t, err)
}

// everything is all that a snapper shows to those who see coarsely.
func everything(s *Snapper) (views [MaxResolution + 1]View) {
	for r := range views {
		views[r] = s.view(Cells(r))
	}
	return views
}

// TestOnlyMomentsCount: what a device reports between two of its subject's
// moments may be anything, and no coarse view shows it.
func TestOnlyMomentsCount(t *testing.T) {
	a, b := newTelling("ada"), newTelling("ada")
	rng, last, changes := rand.New(rand.NewPCG(1, 1)), time.Time{}, 0
	v := newVictim(t, 3, 9, anywhere, func(now time.Time, truth geo.Point, raw Raw) {
		before := everything(a)
		take(t, a, raw, now)
		if m := a.moment(MaxResolution, now); m.After(last) {
			last = m
			take(t, b, raw, now)
			if everything(a) != before {
				changes++
			}
		} else {
			require.Equal(t, before, everything(a))
			elsewhere := geo.Point{Lat: 180*rng.Float64() - 90, Lng: 360*rng.Float64() - 180}
			take(t, b, fixAt(t, elsewhere, 5, now), now)
		}
		require.Equal(t, everything(a), everything(b))
	})
	v.day()
	require.Greater(t, changes, 280, "a view is renewed every five minutes")
}

// TestNothingButTheFinestToldCellShows replaces a day by another one that has
// nothing in common with it but which cell of the finest resolution was told
// when: the victim jumps to random places in that cell all day. Then 20 puppets
// ask both for all that a viewer can get: views at all resolutions at once,
// distances, directions, who is nearer. All answers are the same, byte for byte.
func TestNothingButTheFinestToldCellShows(t *testing.T) {
	type moment struct {
		now  time.Time
		raw  Raw
		told geo.Cell
		all  [MaxResolution + 1]View
	}
	var day []moment
	a, last := newTelling("ada"), time.Time{}
	newVictim(t, 5, 8, onCorner, func(now time.Time, _ geo.Point, raw Raw) {
		if m := a.moment(MaxResolution, now); m.After(last) {
			last = m
			take(t, a, raw, now)
			// Whoever jumps to and fro in a cell stays nowhere, so compare with
			// somebody whose places are forgotten, at this resolution.
			a.told.level[MaxResolution].places = nil
			day = append(day, moment{now, raw, a.told.level[MaxResolution].told.cell, everything(a)})
		}
	}).day()

	rng := rand.New(rand.NewPCG(2, 2))
	within := func(c geo.Cell) geo.Point {
		center, err := h3.Center(c)
		require.NoError(t, err)
		for {
			p := geo.Destination(center, rng.Float64()*360, rng.Float64()*geo.MaxRadius(MaxResolution))
			if mustCell(t, p, MaxResolution) == c {
				return p
			}
		}
	}
	puppets := make([]geo.Point, 20)
	for i := range puppets {
		puppets[i] = geo.Destination(Own(day[0].raw).Point, rng.Float64()*360, rng.Float64()*9000)
	}
	b, off := newTelling("ada"), 0.0
	for i, m := range day {
		p := within(m.told)
		if i+1 < len(day) && day[i+1].told != m.told {
			next, err := newShape(day[i+1].told)
			require.NoError(t, err)
			if geo.Distance(next.center, b.center()) < apart*next.radius+astray {
				p = next.center // be on the way there
			}
		}
		off += geo.Distance(p, Own(m.raw).Point) / float64(len(day))
		take(t, b, fixAt(t, p, 5, m.raw.Captured()), m.now)
		b.told.level[MaxResolution].places = nil
		got := everything(b)
		require.Equal(t, m.all, got, "at %v", m.now)
		for r := range got {
			for _, q := range puppets {
				require.Equal(t, geo.Distance(q, m.all[r].Point), geo.Distance(q, got[r].Point))
				require.Equal(t, geo.Bearing(q, m.all[r].Point), geo.Bearing(q, got[r].Point))
			}
			nearest := func(v View) []geo.Point {
				return slices.SortedFunc(slices.Values(puppets), func(x, y geo.Point) int {
					return int(geo.Distance(x, v.Point) - geo.Distance(y, v.Point))
				})
			}
			require.Equal(t, nearest(m.all[r]), nearest(got[r]))
		}
	}
	require.Greater(t, off, 30.0, "they were elsewhere")
}

// center is that of the finest cell that is told.
func (s *Snapper) center() geo.Point {
	if s.told == nil {
		return geo.Point{}
	}
	return s.told.level[MaxResolution].told.center
}

// TestCoarserCellsFollowFromFinerOnes: what is told at a resolution is the
// parent of what is or was told at the next finer one, so whoever sees that has
// nothing to gain from seeing the coarser one too.
func TestCoarserCellsFollowFromFinerOnes(t *testing.T) {
	for seed := range uint64(5) {
		s := newTelling(fmt.Sprint(seed))
		var told [MaxResolution + 1]map[geo.Cell]bool
		for r := range told {
			told[r] = map[geo.Cell]bool{}
		}
		v := newVictim(t, seed, 6+int(seed), living(seed%3), func(now time.Time, _ geo.Point, raw Raw) {
			take(t, s, raw, now)
			for r := MaxResolution; r >= 0; r-- {
				c := s.view(Cells(r)).Cell
				require.Equal(t, r, c.Resolution())
				if told[r][c] = true; r < MaxResolution {
					require.True(t, slices.ContainsFunc(keys(told[r+1]), func(f geo.Cell) bool { return f.Parent(r) == c }))
				}
			}
		})
		for range 2 {
			v.day()
		}
	}
}

func keys(m map[geo.Cell]bool) (out []geo.Cell) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// TestNoFlicker has people live on edges and at corners for ten days. Their
// cells of the nights are those of the first one, where the naive way shows one
// side, then the other, all night.
func TestNoFlicker(t *testing.T) {
	for res := 7; res <= MaxResolution; res++ {
		for how := onEdge; how < livings; how++ {
			flips, naive, cells, lives := 0, 0, 0, 3
			for seed := range uint64(lives) {
				s, nights := newTelling(fmt.Sprint(seed)), map[geo.Cell]bool{}
				var last, lastNaive geo.Cell
				v := newVictim(t, seed, res, how, func(now time.Time, _ geo.Point, raw Raw) {
					take(t, s, raw, now)
					if now.Hour() < 1 || now.Hour() >= 6 {
						last, lastNaive = 0, 0
						return
					}
					c, n := s.view(Cells(res)).Cell, mustCell(t, Own(raw).Point, res)
					if last != 0 && c != last {
						flips++
					}
					if lastNaive != 0 && n != lastNaive {
						naive++
					}
					nights[c] = true
					last, lastNaive = c, n
				})
				for range 10 {
					v.day()
				}
				cells += len(nights)
			}
			t.Logf("r%d %s: %d changes in %d nights, naive %d; %d cells for %d homes", res, how, flips, 10*lives, naive, cells, lives)
			require.LessOrEqual(t, flips, 1)
			require.LessOrEqual(t, cells, lives+1)
			require.Greater(t, naive, 1000)
		}
	}
}

// TestMemory restarts somebody's node each hour of a week, which must not
// show: with memory the nights are as they are without restarts. Without it,
// homes on the corner of cells are told by different cells.
func TestMemory(t *testing.T) {
	nights := map[bool]map[geo.Cell]bool{true: {}, false: {}}
	for remembers, cells := range nights {
		s, restart := newTelling("ada"), midnight
		var memory []byte
		v := newVictim(t, 4, 8, onCorner, func(now time.Time, _ geo.Point, raw Raw) {
			take(t, s, raw, now)
			m, err := s.Memory()
			require.NoError(t, err)
			if m != nil {
				memory = m
			}
			if now.Sub(restart) > time.Hour {
				s, restart = NewSnapper([]byte("secret"), "ada"), now
				if remembers && memory != nil {
					require.NoError(t, s.Recall(memory))
				}
				take(t, s, raw, now)
				require.NoError(t, s.start(now))
			}
			if now.Hour() >= 1 && now.Hour() < 6 {
				cells[s.view(Cells(8)).Cell] = true
			}
		})
		for range 7 {
			v.day()
		}
	}
	require.Len(t, nights[true], 1)
	require.Greater(t, len(nights[false]), 1)
}

func TestMemoryIsSealed(t *testing.T) {
	s, now := newTelling("ada"), midnight
	home := geo.Point{Lat: 52.5, Lng: 13.4}
	for range 30 {
		now = now.Add(time.Minute)
		take(t, s, fixAt(t, home, 5, now), now)
	}
	m, err := s.Memory()
	require.NoError(t, err)
	require.NotEmpty(t, m)
	again, err := s.Memory()
	require.NoError(t, err)
	require.Nil(t, again, "nothing new")

	for name, other := range map[string]*Snapper{
		"another subject": NewSnapper([]byte("secret"), "bob"),
		"another secret":  NewSnapper([]byte("other"), "ada"),
	} {
		require.ErrorIs(t, other.Recall(m), ErrMemory, name)
	}
	require.ErrorIs(t, NewSnapper([]byte("secret"), "ada").Recall([]byte{}), ErrMemory)
	require.ErrorIs(t, NewSnapper([]byte("secret"), "ada").Recall(m[:len(m)-1]), ErrMemory)

	// A fix may come before the memory is there; nothing was told by then.
	b := NewSnapper([]byte("secret"), "ada")
	take(t, b, fixAt(t, home, 5, now), now)
	require.NoError(t, b.Recall(m))
	require.NoError(t, b.start(now))
	require.Equal(t, everything(s), everything(b))
}

// Two nodes learn without knowing of each other. Whose memory is stored first
// decides; then all tell the same, and nothing is stored again and again.
func TestMemoriesMeet(t *testing.T) {
	home, work, far := geo.Point{Lat: 52.5, Lng: 13.4}, geo.Point{Lat: 48.1, Lng: 11.6}, geo.Point{Lat: 1, Lng: 2}
	stay := func(s *Snapper, at geo.Point, from time.Time) {
		for i := range 60 {
			now := from.Add(time.Duration(i+1) * time.Minute)
			take(t, s, fixAt(t, at, 5, now), now)
		}
	}
	kept := func(s *Snapper) []byte {
		m, err := s.Memory()
		require.NoError(t, err)
		require.LessOrEqual(t, len(m), MaxMemory)
		return m
	}
	a, b := newTelling("ada"), newTelling("ada")
	stay(a, home, midnight)
	stay(b, home, midnight)
	stay(b, work, midnight.Add(time.Hour))
	other, err := newShape(a.told.level[7].places[0].told.cell) // what a tells of home...
	require.NoError(t, err)
	for i := range b.told.level[7].places { // ...b tells by another cell
		if p := &b.told.level[7].places[i]; p.told.cell == other.cell {
			p.told = b.told.level[7].places[len(b.told.level[7].places)-1].told
		}
	}
	stored := kept(a)
	require.NotNil(t, kept(b), "which is refused: a's is there already")
	require.NoError(t, b.Recall(stored))
	require.NoError(t, b.Recall(stored), "again, as long as nothing else is there")
	merged := kept(b)
	require.NotNil(t, merged)
	require.NoError(t, b.Recall(merged))
	require.Nil(t, kept(b))
	require.NoError(t, a.Recall(merged))
	require.Nil(t, kept(a))
	require.Len(t, a.told.level[10].places, 2)
	for res := range a.told.level {
		for i, p := range a.told.level[res].places {
			q := b.told.level[res].places[i]
			require.Equal(t, p.told.cell, q.told.cell, "%d", res)
			require.Less(t, geo.Distance(p.point, q.point), 1.0)
		}
	}
	c := NewSnapper([]byte("secret"), "ada")
	require.NoError(t, c.Recall(merged))
	require.Nil(t, kept(c))
	require.Len(t, c.told.level[10].places, 2)

	// Nothing is stored, though it was said: it is said again.
	require.NoError(t, a.Recall(nil))
	require.NotNil(t, kept(a))
	require.NoError(t, c.Recall(nil))
	require.NoError(t, NewSnapper(nil, "eve").Recall(nil))

	// More places than are kept: both keep the same ones, in few steps.
	for i := range maxPlaces {
		stay(a, geo.Point{Lat: far.Lat + float64(i), Lng: far.Lng}, midnight.Add(time.Duration(2*i+4)*time.Hour))
		stay(b, geo.Point{Lat: far.Lat, Lng: far.Lng + 30 + float64(i)}, midnight.Add(time.Duration(2*i+5)*time.Hour))
	}
	stored = merged
	for _, s := range []*Snapper{a, b, a, b} {
		require.NoError(t, s.Recall(stored))
		if m := kept(s); m != nil {
			stored = m
		}
	}
	for _, s := range []*Snapper{a, b} {
		require.NoError(t, s.Recall(stored))
		require.Nil(t, kept(s))
		require.Len(t, s.told.level[10].places, maxPlaces)
	}

	// What is seen each day is stored each day, lest it be the oldest.
	last := a.told.level[10].places[maxPlaces-1].point
	day := midnight.Add(60 * time.Hour)
	stay(a, last, day)
	require.NotNil(t, kept(a))
	stay(a, last, day.Add(2*time.Hour))
	require.Nil(t, kept(a))
}

func FuzzRecall(f *testing.F) {
	s, now := newTelling("ada"), midnight
	for range 30 {
		now = now.Add(time.Minute)
		take(f, s, fixAt(f, geo.Point{Lat: 52.5, Lng: 13.4}, 5, now), now)
	}
	m, err := s.Memory()
	require.NoError(f, err)
	aead, err := s.aead()
	require.NoError(f, err)
	plain, err := aead.Open(nil, nil, m, []byte("ada"))
	require.NoError(f, err)
	f.Add(plain)
	f.Add(plain[:len(plain)-3])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewSnapper([]byte("secret"), "ada")
		if err := s.Recall(aead.Seal(nil, nil, b, []byte("ada"))); err != nil {
			require.ErrorIs(t, err, ErrMemory)
			return
		}
		take(t, s, fixAt(t, geo.Point{Lat: 1, Lng: 2}, 5, midnight), midnight)
		for _, v := range everything(s) {
			require.True(t, v.Cell.Valid())
		}
	})
}

func TestLateFixes(t *testing.T) {
	s := newTelling("ada")
	here, there := geo.Point{Lat: 52.5, Lng: 13.4}, geo.Point{Lat: 48.1, Lng: 11.6}
	take(t, s, fixAt(t, here, 5, midnight), midnight.Add(time.Second))
	before := everything(s)
	for _, captured := range []time.Time{midnight, midnight.Add(-time.Minute)} {
		changed, err := s.Take(fixAt(t, there, 5, captured), midnight.Add(time.Hour))
		require.NoError(t, err)
		require.False(t, changed)
	}
	require.Equal(t, before, everything(s))
	require.Equal(t, here, s.view(Exact).Point)

	// One that was two hours on its way says so, no more precisely than others.
	take(t, s, fixAt(t, there, 5, midnight.Add(30*time.Minute)), midnight.Add(2*time.Hour))
	captured := midnight.Add(30*time.Minute + 17*time.Second)
	take(t, s, fixAt(t, there, 5, captured), captured.Add(2*time.Hour))
	for r, v := range everything(s) {
		if r > 1 {
			require.NotEqual(t, before[r].Cell, v.Cell, "r%d", r)
		}
		require.Equal(t, s.moment(r, captured).Truncate(time.Minute), v.Captured)
	}
	require.Equal(t, captured, s.view(Exact).Captured)
	require.Equal(t, captured, s.Captured())
}

func TestMomentsAreTheSubjectsOwn(t *testing.T) {
	phases := map[time.Duration]bool{}
	for i := range 100 {
		a := NewSnapper([]byte("secret"), fmt.Sprint(i))
		b, c := NewSnapper([]byte("secret"), fmt.Sprint(i)), NewSnapper([]byte("other"), fmt.Sprint(i))
		for _, s := range []*Snapper{a, b, c} {
			s.moment(0, midnight)
		}
		require.Equal(t, a.phase, b.phase)
		require.NotEqual(t, a.phase, c.phase)
		require.True(t, a.phase >= 0 && a.phase < longest)
		phases[a.phase] = true
		for r := range MaxResolution {
			require.Zero(t, Period(r)%Period(r+1), "the moments of r%d are some of r%d", r, r+1)
			m := a.moment(r, midnight)
			require.False(t, m.After(midnight))
			require.Less(t, midnight.Sub(m), Period(r))
			require.Equal(t, m, a.moment(r+1, m))
		}
	}
	require.Len(t, phases, 100)
}

// TestBorder holds the distance to a cell's border against points that are made
// to be at a distance of it: on a pole, the antimeridian and all pentagons too.
func TestBorder(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	places := []geo.Point{{Lat: 90}, {Lat: -90}, {Lat: 10, Lng: 180}, {Lat: -60, Lng: -180}, {Lat: 52.5, Lng: 13.4}}
	for res := range MaxResolution + 1 {
		cells := pentagons(t, res)
		for _, p := range places {
			cells = append(cells, mustCell(t, p, res))
		}
		for _, c := range cells {
			s, err := newShape(c)
			require.NoError(t, err)
			require.LessOrEqual(t, s.radius, geo.MaxRadius(res))
			corners, err := h3.Boundary(c)
			require.NoError(t, err)
			require.Greater(t, s.border(s.center), 0.5*s.radius)
			for i, p := range corners {
				require.InDelta(t, 0, s.border(p), 1e-6*s.radius)
				next := corners[(i+1)%len(corners)]
				middle := geo.Destination(p, geo.Bearing(p, next), geo.Distance(p, next)/2)
				require.InDelta(t, 0, s.border(middle), 0.001*s.radius)
			}
			for range 20 {
				// No farther than any point of the border, and no nearer than one
				// would have to go to get into the cell.
				p := geo.Destination(s.center, rng.Float64()*360, rng.Float64()*3*s.radius)
				d := s.border(p)
				for i, a := range corners {
					b := corners[(i+1)%len(corners)]
					on := geo.Destination(a, geo.Bearing(a, b), rng.Float64()*geo.Distance(a, b))
					require.LessOrEqual(t, d, geo.Distance(p, on)+0.001*s.radius)
				}
				in, err := h3.CellOf(p, res)
				require.NoError(t, err)
				step, err := h3.CellOf(geo.Destination(p, rng.Float64()*360, 0.99*d), res)
				require.NoError(t, err)
				if d > 0.01*s.radius {
					require.Equal(t, in == c, step == c, "%v: %v m from the border of %v", p, d, c)
				}
			}
		}
	}
}

func pentagons(t testing.TB, res int) (cells []geo.Cell) {
	for base := range 122 {
		c := geo.Cell(0x8001fffffffffff | uint64(base)<<45)
		for range res {
			c = c.Child(0)
		}
		if require.True(t, c.Valid()); c.IsPentagon() {
			cells = append(cells, c)
		}
	}
	require.Len(t, cells, 12)
	return cells
}

// TestAccuracyIsHonest: the radius of a coarse view means what the accuracy of a
// fix means, that two times in three the truth is no farther away.
func TestAccuracyIsHonest(t *testing.T) {
	for res := 4; res <= MaxResolution; res++ {
		within, all := 0, 0
		for seed := range uint64(8) {
			s := newTelling(fmt.Sprint(seed))
			newVictim(t, seed, res, anywhere, func(now time.Time, truth geo.Point, raw Raw) {
				take(t, s, raw, now)
				v := s.view(Cells(res))
				if all++; geo.Distance(truth, v.Point) <= float64(v.Accuracy) {
					within++
				}
			}).day()
		}
		t.Logf("r%d: %.0f %% within", res, 100*float64(within)/float64(all))
		require.Greater(t, float64(within)/float64(all), 0.68)
	}
}

func TestSeeingTakesNoMemory(t *testing.T) {
	bob := Audience{Kind: Person, ID: "bob"}
	climbers := Audience{Kind: Group, ID: "climbers"}
	set, err := NewSet([]Grant{{Audience: bob, Precision: Exact}, {Audience: climbers, Precision: Cells(8)}}, nil, false)
	require.NoError(t, err)
	s := NewSnapper(nil, "ada")
	fixes := make([]Raw, 300)
	for i := range fixes {
		fixes[i] = fixAt(t, geo.Point{Lat: 52.5, Lng: 13.4}, 5, midnight.Add(time.Duration(i+1)*time.Second))
	}
	for _, who := range [][]Audience{{bob}, {climbers}, {bob, climbers}} {
		i := 0
		s = NewSnapper(nil, "ada")
		require.Zero(t, testing.AllocsPerRun(200, func() {
			take(t, s, fixes[i], midnight)
			if _, ok := set.View(midnight, s, who...); !ok {
				panic("nobody")
			}
			i++
		}), "%v", who)
	}
}

func BenchmarkView(b *testing.B) {
	bob := Audience{Kind: Person, ID: "bob"}
	for _, p := range []Precision{Exact, Cells(8)} {
		b.Run(p.String(), func(b *testing.B) {
			set, err := NewSet([]Grant{{Audience: bob, Precision: p}}, nil, false)
			require.NoError(b, err)
			s, at, now := NewSnapper(nil, "ada"), geo.Point{Lat: 52.5, Lng: 13.4}, midnight
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Second)
				at.Lng += 1.5e-5 // a metre each second
				raw, err := NewRaw(at, 5, Reading{}, Reading{}, Reading{}, now)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Take(raw, now); err != nil {
					b.Fatal(err)
				}
				if _, ok := set.View(now, s, bob); !ok {
					b.Fatal("nobody")
				}
			}
		})
	}
}
