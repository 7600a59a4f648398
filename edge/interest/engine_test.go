package interest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/viewstate"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
)

const room = "group:0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f"

// phone is a client that has a view of what it is told.
type phone struct {
	user string

	mu     sync.Mutex
	views  map[uint32]*viewstate.State
	frames int
	lossy  int
	fixes  []*wire.MemberFix // told of the room itself
}

func newPhone(user string) *phone { return &phone{user: user, views: map[uint32]*viewstate.State{}} }

func (p *phone) Member() *peer.Member {
	return &peer.Member{User: p.user, Device: &wire.Device{Device: "phone", Epoch: 1}}
}

func (p *phone) Deliver(f *edge.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := wire.DecodeServer(f.Body())
	if err == nil && m.GetFixes() != nil {
		p.fixes = append(p.fixes, m.GetFixes().Fixes...)
		return
	}
	if err != nil || m.GetView() == nil {
		panic("no view")
	}
	v := m.GetView()
	if p.views[v.Watch] == nil {
		p.views[v.Watch] = viewstate.New()
	}
	p.frames++
	if f.Lossy() {
		p.lossy++
	}
	p.views[v.Watch].Apply(time.Now(), v)
}

func (p *phone) Refused(uint64, string, error) {}
func (p *phone) Removed(string, wire.Reason)   {}
func (p *phone) Superseded(uint64)             {}

// sees returns whom a watch shows; nil: nothing was told yet.
func (p *phone) sees(watch uint32) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.views[watch] == nil {
		return nil
	}
	all := []string{}
	for _, s := range p.views[watch].Sights() {
		all = append(all, s.User)
	}
	return all
}

// town is rooms, the map, and blocks.
type fakeTown struct {
	mu      sync.Mutex
	tap     map[string]edge.Tap
	tapped  map[string]map[edge.Client]bool
	fixes   []*wire.MemberFix
	failing bool
	reads   int
	points  []*peer.MapPoint
	polls   int
	slow    time.Duration // how long the map takes to answer
	blocked map[string]map[string]bool
	read    []string
}

func newTown() *fakeTown {
	return &fakeTown{tap: map[string]edge.Tap{}, tapped: map[string]map[edge.Client]bool{}, blocked: map[string]map[string]bool{}}
}

func (t *fakeTown) Tap(c edge.Client, room string, to edge.Tap) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tapped[room] == nil {
		return false
	}
	if to == nil {
		delete(t.tapped[room], c)
		if len(t.tapped[room]) == 0 {
			t.tap[room] = nil
		}
		return true
	}
	t.tapped[room][c] = true
	if t.tap[room] != to {
		t.tap[room] = to
		to.Anew()
	}
	return true
}

func (t *fakeTown) out(c edge.Client, room string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tapped[room][c] {
		t.tap[room].Out(c)
		delete(t.tapped[room], c)
		if len(t.tapped[room]) == 0 {
			t.tap[room] = nil
		}
	}
}

func (t *fakeTown) Fixes(context.Context, string) ([]*wire.MemberFix, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads++
	if t.failing {
		return nil, errors.New("no owner")
	}
	return t.fixes, nil
}

func (t *fakeTown) Box(context.Context, *wire.Box, any) (Found, error) {
	t.mu.Lock()
	slow := t.slow
	t.mu.Unlock()
	time.Sleep(slow)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.polls++
	return Found{Points: t.points, Whole: true}, nil
}

func (t *fakeTown) Blocked(_ context.Context, viewer string) (map[string]bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.blocked[viewer]; ok {
		return b, nil
	}
	return nil, nil
}

func (t *fakeTown) Told(string, string, grant.Precision, time.Time, time.Time) {}
func (t *fakeTown) Saw(string, string, time.Time, time.Time)                   {}
func (t *fakeTown) Read(viewer, subject, how string, precision grant.Precision, _ time.Time) {
	t.set(func() { t.read = append(t.read, viewer+" "+subject+" "+how+" "+precision.String()) })
}

func (t *fakeTown) polled() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.polls
}

func (t *fakeTown) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

func (t *fakeTown) tell(room string, f *wire.ServerFrame) {
	b, err := f.MarshalVT()
	if err != nil {
		panic(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if tap := t.tap[room]; tap != nil {
		if f.GetEvent() != nil {
			tap.Event(b)
		} else {
			tap.Fixes(b)
		}
	}
}

func fixAt(user string, n uint64, lat, lng float64) *wire.MemberFix {
	return &wire.MemberFix{User: user, Device: "phone", Epoch: 1, Fix: &wire.Fix{
		Point: &wire.Point{Lat: lat, Lng: lng}, Captured: timestamppb.Now(), N: n,
	}}
}

func moved(fixes ...*wire.MemberFix) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: room, Fixes: fixes}}}
}

func presence(user string, epoch uint64, state wire.State) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{Room: room, Body: &wire.Event_Presence{
		Presence: &wire.Presence{People: []*wire.Person{{User: user, Devices: []*wire.Device{{Device: "phone", Epoch: epoch, State: state}}}}},
	}}}}
}

func point(user string, version uint64, lat, lng float64) *peer.MapPoint {
	return &peer.MapPoint{User: user, Version: version, Until: timestamppb.New(time.Now().Add(time.Minute)), Fix: fixAt(user, 1, lat, lng).Fix}
}

var berlin = &wire.Box{South: 52.5, West: 13.3, North: 52.55, East: 13.45}

func watchOf(n uint32, room string, b *wire.Box) *wire.Watch {
	return &wire.Watch{Watch: n, Room: room, Area: b}
}

func startEngine(t *testing.T, w *fakeTown) *Engine {
	e := New(Config{Taps: w, Rooms: w, Map: w, Blocks: w, Receipts: w})
	require.NoError(t, e.Start(t.Context()))
	t.Cleanup(e.Stop)
	return e
}

func pass(d time.Duration) {
	time.Sleep(d) // in fake time
	synctest.Wait()
}

func TestARoomIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		w.fixes = []*wire.MemberFix{fixAt("ann", 1, 52.52, 13.4), fixAt("bob", 1, 48.1, 11.5)}
		e := startEngine(t, w)
		p := newPhone("me")
		require.NoError(t, e.Watch(p, watchOf(1, room, berlin)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann"}, p.sees(1))

		w.tell(room, moved(fixAt("bob", 2, 52.51, 13.31), fixAt("cid", 1, 52.53, 13.41)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann", "bob", "cid"}, p.sees(1))
		require.Equal(t, 1, p.lossy)

		// Within the margin it stays, beyond it is gone.
		w.tell(room, moved(fixAt("bob", 3, 52.51, 13.292)))
		pass(200 * time.Millisecond)
		require.Contains(t, p.sees(1), "bob")
		w.tell(room, moved(fixAt("bob", 4, 52.51, 13.28)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann", "cid"}, p.sees(1))

		// Who leaves is gone for sure; its late fix brings nobody back.
		lossy := p.lossy
		w.tell(room, presence("cid", 1, wire.State_LEFT))
		w.tell(room, moved(fixAt("cid", 2, 52.53, 13.41)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"ann"}, p.sees(1))
		require.Equal(t, lossy, p.lossy)

		// Another area.
		require.NoError(t, e.Watch(p, watchOf(1, room, &wire.Box{South: 52.4, West: 13.2, North: 52.515, East: 13.3})))
		pass(400 * time.Millisecond)
		require.Equal(t, []string{"bob"}, p.sees(1))

		// It lapses, and is withdrawn, without a word of where.
		w.tell(room, moved(&wire.MemberFix{User: "bob", Device: "phone", Epoch: 1, Fix: &wire.Fix{N: 5}}))
		pass(200 * time.Millisecond)
		require.Empty(t, p.sees(1))
		w.tell(room, moved(fixAt("bob", 6, 52.51, 13.28)))
		pass(200 * time.Millisecond)
		require.Equal(t, []string{"bob"}, p.sees(1))
		pass(15*time.Minute + 2*time.Second)
		require.Empty(t, p.sees(1))

		// Nothing happens, nothing is told.
		frames := p.frames
		pass(time.Hour)
		require.Equal(t, frames, p.frames)

		e.Unwatch(p, 1)
		pass(time.Second)
		require.Nil(t, w.tap[room])
		require.Empty(t, e.rooms)
	})
}

// While an area is watched the room's fixes are not told: when the watch ends the
// client hears what they said, or it would go on showing who stands still where
// they were, and who withdrew at all.
func TestWhatARoomSaidMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		w.fixes = []*wire.MemberFix{fixAt("ann", 1, 52.52, 13.4), fixAt("bob", 1, 48.1, 11.5)}
		e := startEngine(t, w)
		p, other := newPhone("me"), newPhone("other")
		require.NoError(t, e.Watch(other, watchOf(1, room, berlin)))
		require.NoError(t, e.Watch(p, watchOf(1, room, berlin)))
		pass(time.Second)
		w.tell(room, moved(fixAt("ann", 2, 52.53, 13.4)))
		pass(time.Second)
		require.NoError(t, e.Watch(p, watchOf(2, room, berlin)))
		pass(time.Second)
		e.Unwatch(p, 1)
		pass(time.Second)
		require.Empty(t, p.fixes, "it still watches")
		w.tell(room, moved(&wire.MemberFix{User: "bob", Device: "phone", Epoch: 1, Fix: &wire.Fix{N: 2}}))
		pass(time.Second)

		e.Unwatch(p, 2)
		pass(time.Second)
		last := map[string]*wire.Fix{}
		for _, f := range p.fixes {
			last[f.User] = f.Fix
		}
		require.EqualValues(t, 2, last["ann"].GetN())
		require.EqualValues(t, 2, last["bob"].GetN())
		require.Nil(t, last["bob"].GetPoint())
		require.Empty(t, other.fixes)
	})
}

// However often the area of a watch changes, its key frames are newer each time.
func TestAWatchThatWandersForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		e := startEngine(t, w)
		p := newPhone("me")
		for i := range 5000 {
			lat := float64(i%80) + 0.25
			w.set(func() { w.points = []*peer.MapPoint{point("ann", uint64(i+1), lat, 13.4)} })
			require.NoError(t, e.Watch(p, watchOf(1, "", &wire.Box{South: lat - 0.02, West: 13.3, North: lat + 0.02, East: 13.45})))
			pass(300 * time.Millisecond)
		}
		before := p.frames
		w.set(func() { w.points = []*peer.MapPoint{point("bob", 1, -40, 13.4)} })
		require.NoError(t, e.Watch(p, watchOf(1, "", &wire.Box{South: -40.02, West: 13.3, North: -39.98, East: 13.45})))
		pass(5 * time.Second)
		require.Greater(t, p.frames, before)
		require.Equal(t, []string{"bob"}, p.sees(1))
	})
}

func TestARoomIsReadAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		w.failing = true
		e := startEngine(t, w)
		p := newPhone("me")
		require.NoError(t, e.Watch(p, watchOf(1, room, berlin)))
		w.tell(room, moved(fixAt("ann", 1, 52.52, 13.4)))
		pass(time.Second)
		require.Equal(t, []string{"ann"}, p.sees(1), "what is known is shown")
		w.set(func() {
			w.failing, w.fixes = false, []*wire.MemberFix{fixAt("ann", 1, 52.52, 13.4), fixAt("bob", 1, 52.52, 13.4)}
		})
		pass(3 * time.Second)
		require.Equal(t, []string{"ann", "bob"}, p.sees(1))
		require.LessOrEqual(t, w.reads, 3)

		// Something was missed: ann has left meanwhile.
		w.set(func() { w.fixes = w.fixes[1:] })
		w.tap[room].Anew()
		pass(3 * time.Second)
		require.Equal(t, []string{"bob"}, p.sees(1))

		// Too much at once.
		reads := w.reads
		for range 2*inboxLimit + 10 {
			w.tap[room].Fixes([]byte{1})
		}
		pass(3 * time.Second)
		require.Equal(t, reads+1, w.reads)
	})
}

// A room that starts over again and again is read now and then.
func TestARoomThatDoesNotSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		e := startEngine(t, w)
		require.NoError(t, e.Watch(newPhone("me"), watchOf(1, room, berlin)))
		pass(time.Second)
		reads := w.reads
		for range 60 {
			w.tap[room].Anew()
			pass(500 * time.Millisecond)
		}
		pass(settle)
		require.InDelta(t, reads+int(30*time.Second/settleMost), w.reads, 2)
	})
}

// Rooms and parts of the map don't take each other's place, and who comes to one
// that is watched takes none.
func TestFull(t *testing.T) {
	const other = "group:0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e70"
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room], w.tapped[other] = map[edge.Client]bool{}, map[edge.Client]bool{}
		e := startEngine(t, w)
		e.maxRooms, e.maxCharts = 1, 1
		p, q := newPhone("me"), newPhone("you")
		far := &wire.Box{South: 48.1, West: 11.5, North: 48.2, East: 11.6}
		require.NoError(t, e.Watch(p, watchOf(1, "", berlin)))
		require.ErrorIs(t, e.Watch(p, watchOf(2, "", far)), errFull)
		require.NoError(t, e.Watch(p, watchOf(2, room, berlin)))
		require.ErrorIs(t, e.Watch(q, watchOf(1, other, berlin)), errFull)
		require.NoError(t, e.Watch(q, watchOf(1, room, berlin)))
		require.NoError(t, e.Watch(q, watchOf(2, "", berlin)))
	})
}

func TestAClientIsOutOfTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.tapped[room] = map[edge.Client]bool{}
		e := startEngine(t, w)
		p, q := newPhone("p"), newPhone("q")
		require.NoError(t, e.Watch(p, watchOf(1, room, berlin)))
		require.NoError(t, e.Watch(q, watchOf(1, room, berlin)))
		pass(time.Second)
		w.out(p, room)
		pass(time.Second)
		w.tell(room, moved(fixAt("ann", 1, 52.52, 13.4)))
		pass(time.Second)
		require.Empty(t, p.sees(1))
		require.Equal(t, []string{"ann"}, q.sees(1))
		// Out, and back before that has got around.
		w.out(q, room)
		require.NoError(t, e.Watch(q, watchOf(1, room, berlin)))
		w.set(func() { w.fixes = []*wire.MemberFix{fixAt("bob", 1, 52.52, 13.4)} })
		w.tell(room, moved(w.fixes...))
		pass(3 * time.Second)
		require.Contains(t, q.sees(1), "bob")
		e.Gone(q)
		e.Gone(q)
		pass(time.Second)
		require.Empty(t, e.rooms)
		require.Empty(t, e.clients)
	})
}

func TestTheMapIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		w.blocked["me"] = map[string]bool{"eve": true}
		w.points = []*peer.MapPoint{point("ann", 1, 52.52, 13.4), point("eve", 1, 52.52, 13.4), point("me", 1, 52.52, 13.4)}
		e := startEngine(t, w)
		p, q := newPhone("me"), newPhone("you")
		require.NoError(t, e.Watch(p, watchOf(1, "", berlin)))
		require.NoError(t, e.Watch(q, watchOf(2, "", &wire.Box{South: 52.505, West: 13.31, North: 52.55, East: 13.45})))
		pass(500 * time.Millisecond)
		require.Equal(t, []string{"ann"}, p.sees(1))
		require.Equal(t, []string{"ann", "eve", "me"}, q.sees(2))
		slices.Sort(w.read)
		require.Equal(t, []string{"me ann nearby exact", "you ann nearby exact", "you eve nearby exact", "you me nearby exact"}, w.read)
		require.Len(t, e.charts, 1, "both look at the same part of the map")
		polls := w.polled()
		pass(20 * time.Second)
		require.InDelta(t, polls+10, w.polled(), 1)

		w.set(func() { w.points = []*peer.MapPoint{point("ann", 2, 52.53, 13.4), point("eve", 2, 52.52, 13.4)} })
		pass(3 * time.Second)
		require.Equal(t, []string{"ann", "eve"}, q.sees(2))
		lossy := q.lossy
		w.set(func() { w.blocked["you"] = map[string]bool{"ann": true} })
		pass(3 * time.Second)
		require.Equal(t, []string{"eve"}, q.sees(2))
		require.Equal(t, lossy, q.lossy, "who is blocked is gone for sure")

		// Another part of the map takes its place when it is known.
		require.NoError(t, e.Watch(p, watchOf(1, "", &wire.Box{South: 48.1, West: 11.5, North: 48.2, East: 11.6})))
		w.set(func() { w.points = append(w.points, point("kim", 1, 48.15, 11.55)) })
		pass(time.Second)
		require.Equal(t, []string{"kim"}, p.sees(1))

		e.Gone(p)
		e.Gone(q)
		pass(time.Second)
		polls = w.polled()
		pass(10 * time.Second)
		require.Equal(t, polls, w.polled())
		require.Empty(t, e.charts)
	})
}

func TestWhatIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown()
		e := startEngine(t, w)
		p := newPhone("me")
		require.ErrorIs(t, e.Watch(p, watchOf(1, room, berlin)), errNotJoined)
		require.Error(t, e.Watch(p, watchOf(0, "", berlin)))
		require.Error(t, e.Watch(p, watchOf(1, "", &wire.Box{South: 1, North: 0, East: 1})))
		require.Error(t, e.Watch(p, watchOf(1, "", &wire.Box{South: -10, North: 10, East: 1})))
		for i := range uint32(wire.MaxWatches) {
			require.NoError(t, e.Watch(p, watchOf(i+1, "", berlin)))
		}
		require.ErrorIs(t, e.Watch(p, watchOf(9, "", berlin)), errTooMany)
	})
}

// Whatever sessions do at once, nothing of them is left.
func TestWatchesComeAndGo(t *testing.T) {
	w := newTown()
	w.tapped[room] = map[edge.Client]bool{}
	w.points = []*peer.MapPoint{point("ann", 1, 52.52, 13.4)}
	e := New(Config{Taps: w, Rooms: w, Map: w, Blocks: w, Tick: time.Millisecond, Poll: 2 * time.Millisecond})
	require.NoError(t, e.Start(t.Context()))
	defer e.Stop()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			p := newPhone(fmt.Sprint(i))
			for n := range uint64(300) {
				at := rng.Float64()
				b := &wire.Box{South: 52 + at, West: 13 + at, North: 52.1 + at, East: 13.1 + at}
				switch rng.IntN(6) {
				case 0:
					e.Unwatch(p, 1+rng.Uint32N(3))
				case 1:
					w.out(p, room)
				case 2:
					_ = e.Watch(p, watchOf(1+rng.Uint32N(3), room, b))
				case 3:
					w.tell(room, moved(fixAt(p.user, n, 52+rng.Float64(), 13+rng.Float64())))
				default:
					_ = e.Watch(p, watchOf(1+rng.Uint32N(3), "", b))
				}
			}
			e.Gone(p)
		})
	}
	wg.Wait()
	require.Empty(t, e.clients)
	require.Empty(t, e.rooms)
	require.Empty(t, e.charts)
	require.Nil(t, w.tap[room])
}
