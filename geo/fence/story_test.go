package fence

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

var home = geo.Point{Lat: 45.3, Lng: 14}

// story is what was told, one line an event.
func story(events []Event) string {
	var b strings.Builder
	for _, ev := range events {
		fmt.Fprintf(&b, "%s%s%s %d %s %.0f", ev.Fence, ev.Pair, ev.Subject, ev.N, ev.Kind, ev.At.Sub(epoch).Seconds())
		if ev.Reason != Moved {
			fmt.Fprintf(&b, " %s", ev.Reason)
		}
		if ev.Crossed {
			b.WriteString(" crossed")
		}
		if ev.Change != Told {
			fmt.Fprintf(&b, " %s", ev.Change)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// exact returns fixes with little error, at the times and metres east.
func exact(timesAndPlaces ...float64) []Fix {
	var fs []Fix
	for i := 0; i < len(timesAndPlaces); i += 2 {
		fs = append(fs, Fix{At: at(timesAndPlaces[i]), Point: xy{timesAndPlaces[i+1], 0}.on(home), Accuracy: 3})
	}
	return fs
}

func TestStories(t *testing.T) {
	near := Fence{ID: "f", Shape: circle(home, 100)}
	dwell := near
	dwell.Dwell = 2 * time.Minute
	for name, c := range map[string]struct {
		f    Fence
		fs   []Fix
		want string
	}{
		"in and out": {near, exact(0, -400, 30, -200, 60, 0, 90, 200, 120, 400),
			"fs 1 enter 45\nfs 2 exit 75\n"},
		"through, between two fixes": {near, exact(0, -600, 30, -200, 60, 200, 90, 600),
			"fs 1 enter 38 crossed\nfs 2 exit 52 crossed\n"},
		"first seen inside": {near, exact(0, 10, 30, 0, 60, 300),
			"fs 1 enter 0 first\nfs 2 exit 40\n"},
		"never seen inside":                   {near, exact(0, 300, 30, 200, 60, 300), ""},
		"out and in again, between two fixes": {near, append(exact(0, 0, 30, 90), exact(60, -50, 90, 0)...), "fs 1 enter 0 first\n"},
		"a short visit where one must stay":   {dwell, exact(0, -400, 30, 0, 60, 10, 90, 400, 120, 800), ""},
		"a visit that is told when it is long enough": {dwell, exact(0, -400, 30, 0, 60, 10, 100, 0, 150, 0, 180, 400),
			"fs 1 enter 22\nfs 2 exit 158\n"},
		"a visit in a tunnel, as long as that": {dwell, exact(0, -400, 30, 0, 230, 0, 260, 400, 290, 500),
			"fs 1 enter 22\nfs 2 exit 238\n"},
		"a jump that nobody can travel": {near, exact(0, -50_000, 30, -50_000, 31, 0, 32, -50_000, 60, -50_000), ""},
		"a jump that the next fix confirms": {near, exact(0, -50_000, 30, -50_000, 31, 0, 32, 0, 60, 0, 90, 0),
			"fs 1 enter 31\n"},
		"a gap in which one could have been anywhere": {near, exact(0, -400, 400, 400, 430, 500), ""},
		"entered in a tunnel": {near, exact(0, -400, 30, -200, 200, 0, 230, 0),
			"fs 1 enter 115\n"},
	} {
		t.Run(name, func(t *testing.T) {
			e := mustEngine(t, Config{}, c.f)
			require.Equal(t, c.want, story(run(t, e, "s", c.fs)))
		})
	}
}

func TestALateFixAmends(t *testing.T) {
	e := mustEngine(t, Config{}, Fence{ID: "f", Shape: circle(home, 100)})
	fs := exact(0, -400, 30, -200, 60, 200, 90, 600)
	events := run(t, e, "s", fs[:3])
	require.Equal(t, "fs 1 enter 38 crossed\nfs 2 exit 52 crossed\n", story(events))
	// He waited, and then went fast.
	events = run(t, e, "s", exact(50, -200))
	require.Equal(t, "fs 1 enter 52 crossed amended\nfs 2 exit 58 crossed amended\n", story(events))
	// He drove round it.
	events = run(t, e, "s", []Fix{{At: at(55), Point: xy{0, 500}.on(home), Accuracy: 3}})
	require.Equal(t, "fs 2 exit 58 crossed retracted\nfs 1 enter 52 crossed retracted\n", story(events))
	_, v, err := e.Observe(nil, "s", fs[2])
	require.NoError(t, err)
	require.Equal(t, Duplicate, v)
	run(t, e, "s", exact(300, 600))
	_, v, err = e.Observe(nil, "s", exact(179, 600)[0])
	require.NoError(t, err)
	require.Equal(t, TooLate, v)
}

// Somebody whose place is known to a cell only is never said to be inside of
// what is smaller, however often it is said, and the engine tells why.
func TestCoarseFixesDoNotEnterSmallFences(t *testing.T) {
	cell, err := h3.CellOf(home, 8)
	require.NoError(t, err)
	center, err := h3.Center(cell)
	require.NoError(t, err)
	e := mustEngine(t, Config{}, Fence{ID: "small", Shape: circle(center, 300)}, Fence{ID: "town", Shape: circle(center, 5000)})
	var events []Event
	for i := range 500 {
		events, _, err = e.Observe(events, "s", Fix{At: at(60 * float64(i)), Point: center, Accuracy: 530})
		require.NoError(t, err)
	}
	require.Equal(t, "towns 1 enter 0 first\n", story(events))
	s := e.Standing("small", "s")
	require.Equal(t, Standing{State: Unknown, Unclear: at(0), TooCoarse: true}, s)
	require.Equal(t, Standing{State: Inside, Since: at(0)}, e.Standing("town", "s"))
	// Nor does going from cell to cell over it cross it.
	e = mustEngine(t, Config{}, Fence{ID: "small", Shape: circle(center, 300)})
	for i := range 20 {
		far := xy{-20_000 + 2000*float64(i), 0}.on(center)
		events, _, err = e.Observe(nil, "s", Fix{At: at(60 * float64(i)), Point: far, Accuracy: 530})
		require.NoError(t, err)
		require.Empty(t, events)
	}
}

func TestFencesComeAndGo(t *testing.T) {
	e := New(Config{})
	run(t, e, "s", exact(0, -400, 30, 0, 60, 0))
	events, err := e.Add(nil, Fence{ID: "f", Shape: circle(home, 100)})
	require.NoError(t, err)
	require.Equal(t, "fs 1 enter 22\n", story(events), "of the window")
	events, err = e.Add(nil, Fence{ID: "g", Shape: circle(home, 100), From: at(45)})
	require.NoError(t, err)
	require.Equal(t, "gs 1 enter 60 first\n", story(events))
	_, err = e.Add(nil, Fence{ID: "f", Shape: circle(home, 100)})
	require.ErrorIs(t, err, ErrInvalid)
	e.Remove("f")
	e.Remove("f")
	require.Equal(t, "gs 2 exit 68\n", story(run(t, e, "s", exact(90, 400, 120, 400))))
	require.Equal(t, Standing{}, e.Standing("f", "s"))
	require.Equal(t, Outside, e.Standing("g", "s").State)

	run(t, e, "s", exact(150, 0, 180, 0))
	require.Equal(t, "gs 4 exit 200 gone\n", story(e.Drop(nil, "s", at(200))))
	require.Equal(t, Unknown, e.Standing("g", "s").State)
	require.Equal(t, "gs 5 enter 240 first\n", story(run(t, e, "s", exact(199, 0, 240, 0))))

	for _, bad := range []Fix{
		{At: at(0), Point: geo.Point{Lat: 91}},
		{At: at(0), Accuracy: -1},
		{At: at(0), Accuracy: math.NaN()},
		{At: time.Unix(1<<60, 0)},
	} {
		_, _, err := e.Observe(nil, "s", bad)
		require.ErrorIs(t, err, ErrInvalid)
	}
}

func TestMeetings(t *testing.T) {
	pairOf := func(p Pair) *Engine {
		e := New(Config{})
		p.ID, p.A, p.B = "p", "a", "b"
		_, err := e.AddPair(nil, p)
		require.NoError(t, err)
		return e
	}
	both := func(e *Engine, a, b []Fix) string {
		var events []Event
		for len(a) > 0 || len(b) > 0 {
			who, f := "a", &a
			if len(a) == 0 || len(b) > 0 && b[0].At.Before(a[0].At) {
				who, f = "b", &b
			}
			events = append(events, run(t, e, who, (*f)[:1])...)
			*f = (*f)[1:]
		}
		return story(events)
	}
	still := exact(10, 0, 40, 0, 70, 0, 100, 0, 130, 0, 160, 0, 190, 0)

	e := pairOf(Pair{Radius: 200})
	require.Equal(t, "p 1 enter 45\np 2 exit 135\n",
		both(e, exact(0, -800, 30, -400, 60, 0, 90, 0, 120, 0, 150, 400, 180, 800), still))
	require.Equal(t, Outside, e.PairStanding("p").State)

	// They pass each other between two fixes, each on the way.
	e = pairOf(Pair{Radius: 200})
	require.Equal(t, "p 1 enter 68 crossed\np 2 exit 82 crossed\n", both(e,
		exact(0, -1000, 30, -600, 60, -200, 90, 200, 120, 600, 150, 1000),
		exact(0, 1000, 30, 600, 60, 200, 90, -200, 120, -600, 150, -1000)))

	// One is not heard of: by what the other one says, or by the clock.
	e = pairOf(Pair{Radius: 200})
	require.Equal(t, "p 1 enter 10 first\np 2 exit 160 stale\n", both(e,
		exact(0, 0, 40, 0), exact(10, 0, 40, 0, 70, 0, 100, 0, 130, 0, 160, 0, 190, 0)))
	e = pairOf(Pair{Radius: 200})
	require.Equal(t, "p 1 enter 10 first\n", both(e, exact(0, 0, 40, 0), exact(10, 0, 40, 0)))
	require.Equal(t, Inside, e.PairStanding("p").State)
	require.Empty(t, e.Expire(nil, at(160)))
	require.Equal(t, "p 2 exit 160 stale\n", story(e.Expire(nil, at(161))))
	require.Equal(t, Unknown, e.PairStanding("p").State)
	// One was heard after all, late: they were still near, until later.
	require.Equal(t, "p 2 exit 160 stale retracted\n", story(append(
		run(t, e, "a", exact(80, 0)), run(t, e, "b", exact(81, 0))...)))
	require.Equal(t, "p 2 exit 200 stale\n", story(e.Expire(nil, at(300))))

	// Dwell, and an end.
	e = pairOf(Pair{Radius: 200, Dwell: time.Minute})
	require.Equal(t, "p 1 enter 0 first\n", both(e, exact(0, 0, 30, 0, 60, 0, 90, 0), exact(0, 0, 30, 0, 60, 0, 90, 0)))
	require.Equal(t, "p 2 exit 95 gone\n", story(e.Drop(nil, "b", at(95))))
	e.RemovePair("p")
	require.Empty(t, e.pairs)

	// Two coarse ones are never said to be near.
	e = pairOf(Pair{Radius: 200})
	for i := range 100 {
		for _, who := range []string{"a", "b"} {
			events, _, err := e.Observe(nil, who, Fix{At: at(60 * float64(i)), Point: home, Accuracy: 530})
			require.NoError(t, err)
			require.Empty(t, events)
		}
	}
	require.True(t, e.PairStanding("p").TooCoarse)
	require.Equal(t, Unknown, e.PairStanding("p").State)

	for _, bad := range []Pair{{}, {ID: "x", A: "a", B: "a", Radius: 5}, {ID: "x", A: "a", B: "b"}, {ID: "p", A: "a", B: "b", Radius: 5}} {
		_, err := e.AddPair(nil, bad)
		require.ErrorIs(t, err, ErrInvalid)
	}
}
