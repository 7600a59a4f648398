package fences

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/fence"
)

// story is running Fences of one node, in a bubble of its own time.
type story struct {
	*Fences
	t     *testing.T
	table *table

	mu   sync.Mutex
	told []string
	ids  map[string]bool
	owns bool
}

func tell(t *testing.T, f Fencing, run func(t *testing.T, s *story)) {
	synctest.Test(t, func(t *testing.T) {
		s := &story{t: t, table: newTable(f, time.Now), ids: map[string]bool{}, owns: true}
		s.start()
		defer func() { s.Stop() }()
		run(t, s)
	})
}

func (s *story) start() {
	s.Fences = New(Config{Store: s.table, Publish: s.publish, Owns: func(string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.owns
	}})
	require.NoError(s.t, s.Start(context.Background()))
}

// change does something to the table.
func (s *story) change(f func(b *table)) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	f(s.table)
}

func (s *story) publish(room string, c *wire.Crossing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ids[c.Id] { // as clients do
		s.ids[c.Id] = true
		s.told = append(s.told, say(c))
	}
}

func (s *story) heard() []string {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	s.told = nil
	return told
}

// moves reports positions, a fix every 20 s.
func (s *story) moves(user string, places ...geo.Point) {
	for _, p := range places {
		wait(20 * time.Second)
		s.Observe(testRoom, 1, fixOf(user, "phone", time.Now(), p, 5), true)
		synctest.Wait()
	}
}

// wait lets the bubble's time pass, and what it brings happen.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func line(from, to, step float64) (out []geo.Point) {
	for x := from; x <= to; x += step {
		out = append(out, at(x, 0))
	}
	return out
}

func TestInAndOut(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.moves("ana", line(-900, 0, 150)...)
		require.Equal(t, []string{"ana enter home"}, s.heard())
		s.moves("ana", line(50, 900, 150)...)
		require.Equal(t, []string{"ana exit home"}, s.heard())
		// Through it between two fixes.
		s.moves("ana", at(0, 900), at(0, 600), at(0, -600), at(0, -900))
		require.Equal(t, []string{"ana enter home (passed)", "ana exit home (passed)"}, s.heard())
		require.Len(t, s.table.list, 4)
	})
}

// A device whose clock is ahead crosses no fence in the future; what is said to be
// of later than any device may say is none.
func TestClocksAhead(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		ahead := func(d time.Duration, p geo.Point) {
			wait(20 * time.Second)
			s.Observe(testRoom, 1, fixOf("ana", "phone", time.Now().Add(d), p, 5), true)
			synctest.Wait()
		}
		for _, p := range line(-900, 0, 150) {
			ahead(wire.MaxFixAhead, p)
		}
		require.Equal(t, []string{"ana enter home"}, s.heard())
		require.False(t, s.table.list[0].At.AsTime().After(time.Now()))
		ahead(time.Hour, at(900, 0))
		ahead(time.Hour, at(1200, 0))
		require.Empty(t, s.heard())
		require.EqualValues(t, 2, testutil.ToFloat64(s.metrics.bad))
		s.moves("ana", line(50, 900, 150)...)
		require.Equal(t, []string{"ana exit home"}, s.heard())
	})
}

func TestDwell(t *testing.T) {
	f := circle("home", 200)
	f.Dwell = 2 * time.Minute
	tell(t, Fencing{Version: 1, Fences: []Fence{f}}, func(t *testing.T, s *story) {
		s.moves("ana", at(-900, 0), at(-600, 0), at(0, 0), at(0, 0), at(600, 0), at(900, 0))
		require.Empty(t, s.heard(), "not for long enough")
		s.moves("ana", at(600, 0))
		for range 8 {
			s.moves("ana", at(0, 0))
		}
		require.Equal(t, []string{"ana dwell home"}, s.heard())
		s.moves("ana", at(600, 0), at(900, 0))
		require.Equal(t, []string{"ana exit home"}, s.heard())
	})
}

// Who says nothing is where they were; the next owner knows it, too.
func TestSilence(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.moves("ana", at(-900, 0), at(-600, 0), at(0, 0), at(0, 0))
		require.Equal(t, []string{"ana enter home"}, s.heard())
		wait(edge.FixLife)
		// The sharer withdraws what lapses.
		s.Observe(testRoom, 1, withdrawnFix("ana", "phone", time.Now()), true)
		wait(3 * time.Hour)
		require.Empty(t, s.heard())
		s.Stop()
		s.start()
		s.moves("ana", at(5000, 0))
		require.Equal(t, []string{"ana exit home"}, s.heard())
	})
}

// Of somebody who takes their position back nothing more is told, nor kept as
// where they are.
func TestWithdrawn(t *testing.T) {
	tell(t, Fencing{Version: 1, Meet: 100, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.moves("bo", at(0, 20))
		s.moves("ana", at(-900, 0), at(-600, 0))
		s.moves("bo", at(0, 20))
		s.moves("ana", at(0, 0))
		s.moves("bo", at(0, 20))
		require.ElementsMatch(t, []string{"bo enter home", "ana enter home", "ana+bo meet"}, s.heard())
		s.Observe(testRoom, 1, withdrawnFix("ana", "phone", time.Now()), true)
		require.Empty(t, s.heard())
		s.change(func(b *table) {
			for key, st := range b.states {
				require.Equal(t, key[1] == "bo" && key[2] == "", st.Inside, "%v", key)
			}
		})
		s.moves("ana", at(5000, 0), at(5100, 0))
		s.moves("bo", at(0, 20))
		require.Empty(t, s.heard(), "where she went is hers to know")
		s.moves("ana", at(0, 0), at(0, 0), at(0, 0))
		require.Equal(t, []string{"ana enter home"}, s.heard()[:1])

		// Before it could be stored.
		s.change(func(b *table) { b.fail = func() error { return errors.New("broken") } })
		s.moves("ana", at(600, 0), at(900, 0))
		s.Observe(testRoom, 1, withdrawnFix("ana", "phone", time.Now()), true)
		wait(time.Minute)
		s.change(func(b *table) { b.fail = b.lose })
		wait(time.Minute)
		require.Empty(t, s.heard())
	})
}

// Positions that are coarse say nothing of fences within their cell, and of
// larger ones to the minute.
func TestCoarse(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200), circle("town", 20_000)}}, func(t *testing.T, s *story) {
		for _, x := range []float64{-60_000, -40_000, 0, 0, 0, 0} {
			wait(5 * time.Minute)
			f := fixOf("ana", edge.PostDevice, time.Now().Truncate(time.Minute), at(x, 0), 1400)
			f.Epoch, f.Fix.Cell = 0, 0x871fb4662ffffff
			s.Observe(testRoom, 1, f, true)
		}
		require.Equal(t, []string{"ana enter town"}, s.heard())
		require.Zero(t, s.table.list[0].At.AsTime().Sub(s.table.list[0].At.AsTime().Truncate(time.Minute)))
	})
}

// A tablet that lies at home does not bring its owner home.
func TestTwoDevices(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.moves("ana", line(-900, 900, 150)...)
		require.Equal(t, []string{"ana enter home", "ana exit home"}, s.heard())
		for i := range 10 {
			wait(10 * time.Second)
			s.Observe(testRoom, 1, fixOf("ana", "tablet", time.Now(), at(0, 0), 5), true)
			s.moves("ana", at(900+20*float64(i), 0))
		}
		require.Empty(t, s.heard())
	})
}

// Two part when one of them is not shown any more.
func TestMeetingsEnd(t *testing.T) {
	tell(t, Fencing{Version: 1, Meet: 100}, func(t *testing.T, s *story) {
		for range 5 {
			s.moves("bo", at(0, 20))
			s.moves("ana", at(0, 0))
		}
		require.Equal(t, []string{"ana+bo meet"}, s.heard())
		for range 42 {
			s.moves("ana", at(0, 0))
		}
		require.Empty(t, s.heard())
		for range 10 {
			s.moves("ana", at(0, 0))
		}
		require.Equal(t, []string{"ana+bo part"}, s.heard())
	})
}

// Fences that change are taken up with the group's version, or after a while.
func TestChanges(t *testing.T) {
	tell(t, Fencing{Version: 1}, func(t *testing.T, s *story) {
		s.moves("ana", at(0, 0), at(0, 0))
		require.Equal(t, 1, s.table.reads, "nothing is read of a room without fences")
		set := func(version uint64, all ...Fence) {
			s.change(func(b *table) { b.fencing = Fencing{Version: version, Fences: all} })
		}
		set(2, circle("home", 200))
		s.Observe(testRoom, 2, fixOf("ana", "phone", time.Now(), at(0, 0), 5), true)
		s.moves("ana", at(0, 0), at(0, 0))
		require.Equal(t, []string{"ana enter home"}, s.heard())

		larger := circle("home", 1000)
		larger.Revision = 2
		s.change(func(b *table) { clear(b.states) }) // as whoever changes it does
		set(3, larger)
		wait(reload) // nobody told
		s.moves("ana", at(0, 0), at(0, 0))
		require.Equal(t, []string{"ana enter home"}, s.heard(), "visits are counted anew")
		s.moves("ana", at(600, 0), at(700, 0))
		require.Empty(t, s.heard())
		set(4)
		wait(reload)
		s.moves("ana", at(2000, 0), at(3000, 0), at(4000, 0))
		require.Empty(t, s.heard())
		require.Zero(t, testutil.ToFloat64(s.metrics.rooms))
	})
}

// A database that does not answer delays what is told, and nothing is told twice.
func TestDatabaseAway(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.change(func(b *table) { b.fail = func() error { return errors.New("away") } })
		s.moves("ana", line(-900, 900, 150)...)
		require.Empty(t, s.heard())
		well := s.table.lose
		s.change(func(b *table) { // it is done, and nobody knows
			b.fail, b.lose = well, func() error { return errors.New("lost") }
		})
		wait(time.Minute)
		s.change(func(b *table) { b.lose = well })
		wait(time.Minute)
		require.Equal(t, []string{"ana enter home", "ana exit home"}, s.heard())
		require.Len(t, s.table.list, 2)
	})
}

// A queue that is full keeps the newest of each device, and that it was withdrawn.
func TestFullQueue(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.change(func(b *table) { b.fail = func() error { return errors.New("away") } })
		start := time.Now()
		say := func(user string, i int, f *wire.MemberFix) {
			f.Fix.Captured.Seconds += int64(i)
			s.Observe(testRoom, 1, f, true)
		}
		for i := range 1000 {
			for u := range 3 {
				say("", i, fixOf(fmt.Sprint("u", u), "phone", start.Add(-time.Hour), at(float64(i)-500, 0), 5))
			}
			if i == 700 {
				say("", i, withdrawnFix("u0", "phone", start.Add(-time.Hour)))
			}
		}
		var r *room
		for _, w := range s.workers {
			w.mu.Lock()
			if w.rooms[testRoom] != nil {
				r = w.rooms[testRoom]
			}
			require.LessOrEqual(t, len(w.rooms), 1)
			w.mu.Unlock()
		}
		require.LessOrEqual(t, len(r.queue), queueLimit)
		gone := false
		for _, x := range r.queue {
			gone = gone || x.fix.Fix.Point == nil
		}
		require.True(t, gone)
		s.change(func(b *table) { b.fail = b.lose })
		wait(time.Minute)
		require.Empty(t, s.heard(), "nobody is inside by the newest")
	})
}

// A room that is another's now is watched no more; one without fences is
// forgotten when it is silent.
func TestRoomsAreForgotten(t *testing.T) {
	tell(t, Fencing{Version: 1, Fences: []Fence{circle("home", 200)}}, func(t *testing.T, s *story) {
		s.moves("ana", at(0, 0))
		require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.rooms))
		wait(time.Minute)
		require.Equal(t, 1.0, testutil.ToFloat64(s.metrics.rooms))
		s.mu.Lock()
		s.owns = false
		s.mu.Unlock()
		wait(time.Minute)
		require.Zero(t, testutil.ToFloat64(s.metrics.rooms))
		s.Observe("direct:a:b", 1, fixOf("ana", "phone", time.Now(), home, 5), true)
		s.change(func(b *table) { b.fencing = Fencing{Version: 1} })
		s.moves("ana", at(0, 0))
		wait(noneMost + time.Minute)
		for _, w := range s.workers {
			w.mu.Lock()
			require.Empty(t, w.rooms)
			w.mu.Unlock()
		}
	})
}

func manyFences(n int) (f Fencing) {
	f.Version = 1
	for i := range n {
		x := circle(fmt.Sprint(i), 100)
		x.Shape = fence.Shape{Circle: &fence.Circle{Center: at(float64(i%10)*400, float64(i/10)*400), Radius: 100}}
		f.Fences = append(f.Fences, x)
	}
	return f
}

// unfenced returns Fences that know that the room has none.
func unfenced(t testing.TB) (*Fences, *wire.MemberFix) {
	f := New(Config{Store: newTable(Fencing{Version: 1}, time.Now), Owns: func(string) bool { return true }})
	require.NoError(t, f.Start(context.Background()))
	t.Cleanup(f.Stop)
	fix := fixOf("ana", "phone", time.Now(), home, 5)
	f.Observe(testRoom, 1, fix, true)
	require.Eventually(t, func() bool {
		for _, w := range f.workers {
			w.mu.Lock()
			r := w.rooms[testRoom]
			none := r != nil && r.none
			w.mu.Unlock()
			if none {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
	return f, fix
}

// A fix in a room without fences costs a look.
// A room that was empty for a while is forgotten by its owner, and with it the
// version that told of a fence: what comes then waits for the fences to be read.
func TestARoomThatBeginsAnew(t *testing.T) {
	tell(t, Fencing{Version: 5}, func(t *testing.T, s *story) {
		report := func(version uint64, x float64) {
			wait(5 * time.Second)
			s.Observe(testRoom, version, fixOf("ana", "phone", time.Now(), at(x, 0), 5), true)
			synctest.Wait()
		}
		report(5, -900)
		wait(time.Second)
		s.change(func(b *table) { b.fencing = Fencing{Version: 6, Fences: []Fence{circle("home", 200)}} })
		for x := -900.; x <= 900; x += 150 {
			report(0, x)
		}
		require.Equal(t, []string{"ana enter home", "ana exit home"}, s.heard())
	})
}

func TestNoFencesCostNothing(t *testing.T) {
	f, fix := unfenced(t)
	require.Zero(t, testing.AllocsPerRun(100, func() { f.Observe(testRoom, 1, fix, true) }))
}

func BenchmarkFixWithoutFences(b *testing.B) {
	f, fix := unfenced(b)
	b.ReportAllocs()
	for b.Loop() {
		f.Observe(testRoom, 1, fix, true)
	}
}

// A walk over a hundred fences, from which every crossing is stored at once.
func BenchmarkFixWithFences(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWatch(testRoom)
			w.load(began, manyFences(n))
			now, crossings := began, 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(10 * time.Second)
				p := at(float64(i%400)*10, float64(i/400%10)*400)
				w.fix(now, fixOf("ana", "phone", now, p, 8), true)
				for len(w.out) > 0 {
					out := w.out
					w.out = nil
					for _, x := range out {
						if x.retell {
							w.retold(now, nil)
							continue
						}
						w.crossed(now, x, State{}, true, nil)
						crossings++
					}
				}
			}
			b.ReportMetric(float64(crossings)/float64(b.N), "crossings/op")
		})
	}
}

// A crowd that moves: a bounded number of pairs is watched.
func TestCrowd(t *testing.T) {
	w := newWatch(testRoom)
	w.load(began, Fencing{Version: 1, Meet: 50})
	for i := range 200 {
		w.fix(began, fixOf(fmt.Sprintf("u%03d", i), "phone", began, at(float64(i), 0), 5), true)
	}
	require.Len(t, w.pairs, maxPairs)
	now := began.Add(time.Hour)
	w.tick(now, true)
	for _, e := range w.pairs {
		require.False(t, e.idle(), "what is far apart, or silent, is watched no more")
	}
}

func BenchmarkFixWithMeetings(b *testing.B) {
	for _, n := range []int{10, 60} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWatch(testRoom)
			w.load(began, Fencing{Version: 1, Meet: 50})
			w.out = nil
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now := began.Add(time.Duration(i) * time.Second)
				w.fix(now, fixOf(fmt.Sprint("u", i%n), "phone", now, at(float64(i%n)*200, float64(i/n%100)), 8), true)
				w.out = nil
			}
		})
	}
}
