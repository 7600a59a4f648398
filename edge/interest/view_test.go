package interest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/viewstate"
)

// told is a frame of a view.
type told struct {
	*wire.View
	lossy bool
}

// bench is a scene, one view of it, and its clock.
type bench struct {
	*Scene
	t    testing.TB
	view *View
	now  time.Time
}

func newBench(t testing.TB) *bench {
	b := &bench{Scene: NewScene(), t: t, view: NewView(7, 0), now: time.UnixMilli(1_800_000_000_000)}
	b.Add(b.view)
	b.Look(b.view, &wire.Box{North: 1.6, East: 1.6}) // with a margin of 0.1
	return b
}

func (b *bench) fix(user string, n uint64, lat, lng float64) *wire.MemberFix {
	return &wire.MemberFix{User: user, Device: "d", Epoch: 1, Fix: &wire.Fix{Point: &wire.Point{Lat: lat, Lng: lng}, N: n, Captured: timestamppb.New(b.now)}}
}

func (b *bench) at(user string, n uint64, lat, lng float64) {
	b.Apply(b.now, b.fix(user, n, lat, lng), time.Time{})
}

func (b *bench) after(d time.Duration) (out []told) {
	b.now = b.now.Add(d)
	b.Tick(b.now, func(_ *View, frame []byte, lossy bool) {
		f, err := wire.DecodeServer(frame)
		require.NoError(b.t, err)
		require.Equal(b.t, uint32(7), f.GetView().Watch)
		out = append(out, told{f.GetView(), lossy})
	})
	return out
}

const tick = 100 * time.Millisecond

func TestWhatIsToldWhen(t *testing.T) {
	b := newBench(t)
	b.at("ann", 1, 1, 1)
	b.at("far", 1, 5, 5)
	frames := b.after(0)
	require.Len(t, frames, 1)
	require.False(t, frames[0].lossy)
	require.Equal(t, uint32(1), frames[0].Key)
	require.Len(t, frames[0].Sights, 1)
	require.Equal(t, "ann", frames[0].Sights[0].User)
	require.Empty(t, b.after(time.Hour/10), "nothing has changed")

	// A move is the difference to the key frame, by handle.
	b.at("ann", 2, 1.000010, 1)
	frames = b.after(tick)
	require.True(t, frames[0].lossy)
	s := frames[0].Sights[0]
	require.Equal(t, int32(10), s.GetLat())
	require.Nil(t, s.Lng)
	require.Empty(t, s.User)
	require.Nil(t, s.Age)
	require.Less(t, frames[0].SizeVT(), 20)

	// Five seconds after the key frame, the next one; without the name.
	require.Len(t, b.after(5*time.Second), 1)
	b.at("ann", 3, 1.000020, 1)
	require.Equal(t, int32(10), b.after(tick)[0].Sights[0].GetLat())
	require.Empty(t, b.after(4*time.Second))
	frames = b.after(time.Second)
	require.Equal(t, uint32(0), frames[0].N)
	require.Equal(t, int32(1_000_020), frames[0].Sights[0].GetLat())
	require.Empty(t, frames[0].Sights[0].User)
	require.Equal(t, uint32(5), frames[0].Sights[0].GetAge())

	// Into the margin and out of it; back with the same handle.
	b.at("ann", 4, 1.65, 1)
	require.False(t, b.after(tick)[0].Sights[0].Gone)
	b.at("ann", 5, 1.75, 1)
	frames = b.after(tick)
	require.True(t, frames[0].Sights[0].Gone)
	require.True(t, frames[0].lossy)
	b.at("ann", 6, 1.65, 1)
	require.Empty(t, b.after(tick), "only inside of the area it comes back")
	b.at("ann", 7, 1.5, 1)
	require.Equal(t, uint32(1), b.after(tick)[0].Sights[0].Handle)

	// Out, which may get lost, and then withdrawn, which may not.
	b.at("ann", 8, 3, 1)
	require.True(t, b.after(tick)[0].lossy)
	b.Apply(b.now, &wire.MemberFix{User: "ann", Device: "d", Epoch: 1, Fix: &wire.Fix{N: 9}}, time.Time{})
	frames = b.after(tick)
	require.False(t, frames[0].lossy)
	require.True(t, frames[0].Sights[0].Gone)
	require.Empty(t, b.after(6 * time.Second)[0].Sights, "not in the key frame")

	// Who came and went within a tick was never there.
	b.at("bob", 1, 1, 1)
	b.at("bob", 2, 3, 1)
	require.Empty(t, b.after(tick))
}

func TestManyNewOnesHasten(t *testing.T) {
	b := newBench(t)
	b.after(0)
	for i := range 20 {
		b.at(fmt.Sprint("user ", i), 1, 1, 1)
	}
	frames := b.after(tick)
	require.True(t, frames[0].lossy)
	require.Equal(t, uint32(1), frames[0].Key)
	frames = b.after(time.Second)
	require.Equal(t, uint32(2), frames[0].Key, "with their names, once and for all")
	require.Len(t, frames[0].Sights, 20)
}

func TestBounds(t *testing.T) {
	b := newBench(t)
	b.after(0)
	name := func(i int) string { return fmt.Sprintf("5f0c1d3e-7d2c-4a0a-9a53-%012d", i) }
	for i := range 1500 {
		b.at(name(i), 1, 1, 1)
	}
	seen := map[string]bool{}
	for ticks := 0; len(seen) < maxSights; ticks++ {
		frames := b.after(10 * time.Millisecond)
		if len(frames) > 0 && frames[0].N == 0 {
			t.Fatal("no key frame yet")
		}
		require.NotEmpty(t, frames)
		require.LessOrEqual(t, len(frames), maxDatagrams)
		for _, f := range frames {
			require.LessOrEqual(t, f.SizeVT(), datagramBytes)
			for _, s := range f.Sights {
				require.False(t, seen[s.User], "who was told waits for the others")
				seen[s.User] = true
			}
		}
	}
	// Those who wait are shown when others have left, after the next key frame.
	for i := range 300 {
		b.at(name(i), 2, 50, 50)
	}
	all := 0
	for range 80 {
		for _, f := range b.after(tick) {
			if f.N == 0 && !f.More {
				all = 0
			}
			if f.N == 0 {
				all += len(f.Sights)
				require.LessOrEqual(t, f.SizeVT(), keyBytes+100)
			}
		}
	}
	require.Len(t, b.view.sights, maxSights)
	require.LessOrEqual(t, len(b.view.order), maxOrder)
	require.Empty(t, b.view.dirty)
	for i := range maxSubjects {
		b.at(fmt.Sprint(i), 1, 70, 70)
	}
	require.Len(t, b.subjects, maxSubjects)
	require.NotZero(t, b.Stats.Refused)
	b.now = b.now.Add(time.Hour)
	b.Tick(b.now, func(*View, []byte, bool) {})
	require.Empty(t, b.subjects, "all have lapsed")
}

func TestABoxOverTheAntimeridianAndAtThePole(t *testing.T) {
	for _, c := range []struct {
		box      *wire.Box
		lat, lng float64
		in, near bool
	}{
		{&wire.Box{South: -1, West: 179, North: 1, East: -179}, 0, 180, true, true},
		{&wire.Box{South: -1, West: 179, North: 1, East: -179}, 0, -180, true, true},
		{&wire.Box{South: -1, West: 179, North: 1, East: -179}, 0, -178.9, false, true},
		{&wire.Box{South: -1, West: 179, North: 1, East: -179}, 0, 178.8, false, false},
		{&wire.Box{South: -1, West: 179, North: 1, East: -179}, 0, 0, false, false},
		{&wire.Box{South: -90, West: -180, North: 90, East: 180}, 90, 12, true, true},
		{&wire.Box{South: 80, West: -180, North: 90, East: 180}, 79.5, 180, false, true},
		{&wire.Box{South: -10, West: 170, North: 10, East: 169}, 0, 169.5, false, true},
		{&wire.Box{South: 0, West: -180, North: 1, East: -179}, 0.5, 179.95, false, true},
	} {
		a := areaOf(c.box)
		require.Equal(t, c.in, a.has(degrees(c.lat), degrees(c.lng), false), "%v", c)
		require.Equal(t, c.near, a.has(degrees(c.lat), degrees(c.lng), true), "%v", c)
	}
	// A grid for all, wherever they look.
	for _, b := range []*wire.Box{
		{South: -1, West: 179.5, North: -0.2, East: -179.9}, {South: 89.5, West: -30, North: 90, East: 30},
		{South: 52.5, West: 13.3, North: 52.55, East: 13.45}, {South: -0.3, West: -180, North: 0.1, East: -179.7},
		{South: -80, West: 0, North: -79.9, East: 180},
	} {
		w := wider(b)
		require.Nil(t, wire.CheckBox(w), "%v", w)
		p := &place{box: w}
		require.True(t, p.holds(b), "%v in %v", b, w)
		require.True(t, p.fits(b), "%v in %v", b, w)
	}
}

// A fix of somebody shown, one of somebody far away, and a tick in which many have
// moved cost no memory.
func TestAllocations(t *testing.T) {
	b := newBench(t)
	for i := range 1000 {
		b.at(fmt.Sprint("user ", i), 1, 1+float64(i%2)*5, 1)
	}
	b.after(0)
	in, far := b.fix("user 0", 2, 1.1, 1), b.fix("user 1", 2, 6.1, 1)
	n := uint64(2)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		n++
		in.Fix.N, far.Fix.N = n, n
		b.Apply(b.now, in, time.Time{})
		b.Apply(b.now, far, time.Time{})
	}), "Apply")
	emit := func(*View, []byte, bool) {}
	var fixes []*wire.MemberFix
	for i := range 200 {
		fixes = append(fixes, b.fix(fmt.Sprint("user ", 2*i), 2, 1.2, 1))
	}
	b.after(tick)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		n++
		for _, f := range fixes {
			f.Fix.N = n
			f.Fix.Point.Lat = 1 + float64(n%100)/1000
			b.Apply(b.now, f, time.Time{})
		}
		b.now = b.now.Add(tick)
		b.Tick(b.now, emit)
	}), "Tick")
	require.Zero(t, testing.AllocsPerRun(200, func() { b.Tick(b.now, emit) }), "Tick without news")
}

// BenchmarkTick is a tenth of 1,000 people who move once a second, watched by 50
// viewers of whom each sees a twentieth.
func BenchmarkTick(b *testing.B) {
	w := newBench(b)
	for i := range 49 {
		v := NewView(7, 0)
		w.Add(v)
		w.Look(v, &wire.Box{South: float64(i) / 10, North: 1 + float64(i)/10, East: 1})
	}
	var fixes []*wire.MemberFix
	for i := range 1000 {
		fixes = append(fixes, w.fix(fmt.Sprint("user ", i), 1, float64(i%100)/20, 0.5))
		w.Apply(w.now, fixes[i], time.Time{})
	}
	n, frames := uint64(1), 0
	for b.Loop() {
		n++
		for i := range 100 {
			f := fixes[(int(n)*100+i)%1000]
			f.Fix.N = n
			f.Fix.Point.Lng = 0.5 + float64(n%100)/1e5
			w.Apply(w.now, f, time.Time{})
		}
		w.now = w.now.Add(tick)
		w.Tick(w.now, func(*View, []byte, bool) { frames++ })
	}
	b.ReportMetric(float64(frames)/float64(b.N), "frames/op")
}

// Whatever comes, in whatever order, a view tells only of its area, and a client
// that hears all of it sees what is there.
func FuzzScene(f *testing.F) {
	f.Add([]byte{0, 10, 10, 1, 20, 20, 9, 0, 0, 2, 30, 30, 9, 1, 0, 0, 200, 10, 9, 9, 9})
	f.Add([]byte{0, 10, 10, 9, 0, 0, 7, 0, 0, 9, 0, 0, 0, 11, 11, 8, 3, 0, 9, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newBench(t)
		client := newClient()
		n := uint64(0)
		for ; len(b) >= 3; b = b[3:] {
			user := string('a' + b[0]%6)
			n++
			switch kind := b[0] / 6 % 8; kind {
			case 0, 1, 2:
				w.at(user, n-uint64(b[0]%3), float64(b[1])/100, float64(b[2])/100)
			case 3:
				w.Apply(w.now, &wire.MemberFix{User: user, Device: "d", Epoch: 1, Fix: &wire.Fix{N: n}}, time.Time{})
			case 4:
				w.Left(user, "d", uint64(b[1]%3))
			case 5:
				w.Look(w.view, &wire.Box{South: float64(b[1])/100 - 0.1, North: float64(b[1])/100 + 1, East: 0.1 + float64(b[2])/100})
			case 6:
				w.Hide(w.view, map[string]bool{user: true}, b[1] == 0)
			case 7:
				mark := w.Mark()
				if b[1]%2 == 0 {
					w.at(user, n, float64(b[1])/100, float64(b[2])/100)
				}
				w.Only(mark)
			}
			if b[2]%2 == 0 {
				client.hears(w.after(time.Duration(b[1]) * 10 * time.Millisecond))
			}
		}
		client.hears(w.after(keyEvery + time.Second))
		client.hears(w.after(keyEvery + time.Second))
		want := map[string]bool{}
		for _, s := range w.subjects {
			if !w.view.may(s) || !w.view.area.has(s.lat, s.lng, true) {
				continue
			}
			x := w.view.sights[s]
			if w.view.area.has(s.lat, s.lng, false) {
				require.NotNil(t, x)
			}
			if x != nil && !x.gone {
				want[s.user] = true
			}
		}
		require.Equal(t, want, client.sees())
		require.LessOrEqual(t, len(w.view.order), 2*len(w.subjects)+6)
	})
}

// listener is a client that hears all of it.
type listener struct{ state *viewstate.State }

func newClient() *listener { return &listener{viewstate.New()} }

func (l *listener) hears(frames []told) {
	for _, f := range frames {
		l.state.Apply(time.UnixMilli(0), f.View)
	}
}

func (l *listener) sees() map[string]bool {
	all := map[string]bool{}
	for _, s := range l.state.Sights() {
		all[s.User] = true
	}
	return all
}
