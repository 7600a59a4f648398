package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

type blocks struct {
	mu    sync.Mutex
	users map[string]bool
}

func (b *blocks) Blocked(context.Context, string) (map[string]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.users, nil
}

func (b *blocks) set(users ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users = map[string]bool{}
	for _, u := range users {
		b.users[u] = true
	}
}

// Who is on no terms with somebody is not told where they are, by a room that
// both are in either.
func TestBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t, Config{}), &blocks{}
		w.deps.Blocks = b
		b.set("eve")
		p := w.live(t, "ann l1", "phone", roomA)
		c := w.Clients("ann")[0]
		fixes := func(n uint64) []*wire.MemberFix {
			var list []*wire.MemberFix
			for _, user := range []string{"bob", "eve"} {
				list = append(list, &wire.MemberFix{User: user, Device: "d", Epoch: 7, Fix: &wire.Fix{
					Point: &wire.Point{Lat: 48, Lng: 11}, Accuracy: 5, N: n, Captured: timestamppb.Now(),
				}})
			}
			return list
		}
		frame := func(n uint64) *edge.Frame {
			return edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: roomA, Fixes: fixes(n)}}})
		}
		check := func(got []*wire.MemberFix, n uint64, eve bool) {
			t.Helper()
			users := []string{"bob"}
			if eve {
				users = append(users, "eve")
			}
			require.Len(t, got, len(users))
			for i, f := range got {
				require.Equal(t, users[i], f.User)
				require.Equal(t, n, f.Fix.N)
				require.EqualValues(t, 48, f.Fix.Point.Lat)
			}
		}
		c.Deliver(frame(1))
		check(p.next(t).GetFixes().GetFixes(), 1, false)
		c.Deliver(edge.NewFrame(&wire.ServerFrame{Re: 9, Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{
			Room: roomA, Parts: []*wire.Part{{Fixes: fixes(2)}},
		}}}))
		snapshot := p.next(t)
		require.EqualValues(t, 9, snapshot.Re)
		check(snapshot.GetSnapshot().Parts[0].Fixes, 2, false)
		c.Deliver(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: roomA, Fixes: fixes(3)[1:]}}})) // nothing is left of it
		for _, x := range []*wire.Crossing{{User: "eve", Fence: "f"}, {User: "bob", Other: "eve"}, {User: "bob", Fence: "f"}} {
			c.Deliver(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
				Room: roomA, At: &wire.Position{Seq: 3}, Body: &wire.Event_Crossing{Crossing: x},
			}}}))
			e := p.next(t).GetEvent()
			require.EqualValues(t, 3, e.At.Seq, "no gap")
			require.Equal(t, x.User == "bob" && x.Other == "", e.GetCrossing() != nil)
		}
		c.Deliver(edge.Bundle([]*edge.Frame{frame(4), frame(5)}))
		check(p.next(t).GetFixes().GetFixes(), 4, false)
		check(p.next(t).GetFixes().GetFixes(), 5, false)

		b.set()
		w.BlocksChanged("ann")
		synctest.Wait()
		require.Equal(t, roomA, p.next(t).GetSnapshot().GetRoom(), "with everybody")
		c.Deliver(frame(6))
		check(p.next(t).GetFixes().GetFixes(), 6, true)
		b.set("eve", "zoe")
		w.BlocksChanged("ann")
		synctest.Wait()
		require.Equal(t, roomA, p.next(t).GetSnapshot().GetRoom(), "without eve")
		c.Deliver(frame(7))
		check(p.next(t).GetFixes().GetFixes(), 7, false)
		p.cut()
		<-p.over
		w.Stop()
	})
}

// A room that can't be entered again right now is later, though the client did
// nothing: it shows somebody whom it must not, or not somebody whom it may.
func TestBlockedWhileCoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t, Config{}), &blocks{}
		b.set("eve")
		w.deps.Blocks = b
		p := w.live(t, "ann l1", "phone", roomA)
		away := func(err error) {
			w.core.mu.Lock()
			defer w.core.mu.Unlock()
			w.core.lastErr = err
		}
		away(errors.New("the database burns"))
		b.set()
		w.BlocksChanged("ann")
		time.Sleep(time.Second)
		away(nil)
		require.Equal(t, roomA, p.next(t).GetSnapshot().GetRoom(), "no error")
		p.cut()
		<-p.over
		w.Stop()
	})
}

// areas hears whose choice has changed.
type areas struct {
	edge.Areas
	mu     sync.Mutex
	chosen int
}

func (a *areas) Choose(edge.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chosen++
}

func (a *areas) Gone(edge.Client) {}

// Who is blocked is gone from what the client shows at once, though nothing moves;
// and soon also where nobody told of the block.
func TestBlockedNow(t *testing.T) {
	for _, told := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w, b, a := newWorld(t, Config{}), &blocks{}, &areas{}
			b.set()
			away := true
			w.deps.Blocks, w.deps.Areas = b, a
			w.deps.Fixes = func(_ context.Context, room string) (list []*wire.MemberFix, err error) {
				require.Equal(t, roomA, room)
				if away {
					away = false
					return nil, errors.New("the owner moves")
				}
				for _, user := range []string{"bob", "eve"} {
					list = append(list, &wire.MemberFix{User: user, Device: "d", Epoch: 7, Fix: &wire.Fix{Point: &wire.Point{Lat: 48, Lng: 11}, N: 4}})
				}
				return list, nil
			}
			p := w.live(t, "ann l1", "phone", roomA)
			b.set("eve")
			if told {
				w.BlocksChanged("ann")
			}
			for range 6 { // pings
				time.Sleep(9 * time.Second)
				p.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
				synctest.Wait()
			}
			var gone []*wire.MemberFix
			for pongs := 0; pongs < 6; {
				f := p.next(t)
				gone = append(gone, f.GetFixes().GetFixes()...)
				if f.GetPong() != nil {
					pongs++
				}
			}
			require.Len(t, gone, 1)
			require.Equal(t, "eve", gone[0].User)
			require.Nil(t, gone[0].Fix.Point)
			require.EqualValues(t, 5, gone[0].Fix.N)
			require.Equal(t, 1, a.chosen)
			p.cut()
			<-p.over
			w.Stop()
		})
	}
}

// lateBlocks takes its time to answer, of when it was asked.
type lateBlocks struct {
	blocks
	takes time.Duration
}

func (b *lateBlocks) Blocked(ctx context.Context, user string) (map[string]bool, error) {
	users, err := b.blocks.Blocked(ctx, user)
	time.Sleep(b.takes)
	return users, err
}

// A block that is told while an older answer is on its way is asked for again,
// though who asks has to wait until that came.
func TestBlockedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t, Config{AtOnce: 1}), &lateBlocks{takes: time.Second}
		b.set()
		w.deps.Blocks = b
		p := w.live(t, "ann l1", "phone", roomA)
		w.BlocksChanged("ann")
		time.Sleep(b.takes / 2)
		b.set("eve")
		w.BlocksChanged("ann")
		time.Sleep(2 * b.takes)
		require.Equal(t, map[string]bool{"eve": true}, *w.Clients("ann")[0].(*Session).Hidden())
		p.cut()
		<-p.over
		w.Stop()
	})
}

// Of who is on no terms with somebody no room says that they are here: they are in
// no part, event or count. Who comes back to a room that they know is sent all of
// it anew.
func TestBlockedPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t, Config{}), &blocks{}
		w.deps.Blocks = b
		b.set("eve", "zoe")
		p := w.live(t, "ann l1", "phone", roomA)
		c := w.Clients("ann")[0]
		person := func(user string, devices ...*wire.Device) *wire.Person {
			return &wire.Person{User: user, Name: user, Devices: devices}
		}
		device := func(name string, epoch uint64, state wire.State) *wire.Device {
			return &wire.Device{Device: name, Epoch: epoch, State: state}
		}
		const live, suspended, left = wire.State_LIVE, wire.State_SUSPENDED, wire.State_LEFT
		counts := func(l, s uint32) *wire.Counts { return &wire.Counts{Live: l, Suspended: s} }
		same := func(want, got *wire.Counts) {
			t.Helper()
			require.Equal(t, [2]uint32{want.Live, want.Suspended}, [2]uint32{got.Live, got.Suspended})
		}
		fix := func(user, device string) *wire.MemberFix {
			return &wire.MemberFix{User: user, Device: device, Fix: &wire.Fix{Point: &wire.Point{Lat: 48}, N: 4}}
		}
		deliver := func(re uint64) *wire.Snapshot {
			c.Deliver(edge.NewFrame(&wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Room: roomA, Parts: []*wire.Part{
				{At: &wire.Position{Region: "eu"}, Counts: counts(3, 1), Fixes: []*wire.MemberFix{fix("bob", "d"), fix("eve", "a"), fix("eve", edge.PostDevice)}, People: []*wire.Person{
					person("ann", device("phone", 1, live)), person("bob", device("d", 1, live)),
					person("eve", device("a", 5, suspended), device("b", 6, live)), person("zoe", device("a", 2, suspended)),
				}},
				{At: &wire.Position{Region: "us"}, Counts: counts(1, 0), People: []*wire.Person{person("eve", device("c", 9, live))}},
			}}}}))
			return p.next(t).GetSnapshot()
		}
		s := deliver(7)
		require.Len(t, s.Parts, 2)
		require.Len(t, s.Parts[0].People, 2)
		require.Empty(t, s.Parts[1].People)
		require.Len(t, s.Parts[0].Fixes, 1)
		same(counts(2, 0), s.Parts[0].Counts)
		same(counts(0, 0), s.Parts[1].Counts)

		event := func(region string, c1 *wire.Counts, people ...*wire.Person) *wire.Presence {
			c.Deliver(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
				Room: roomA, At: &wire.Position{Region: region, Seq: 4}, Body: &wire.Event_Presence{Presence: &wire.Presence{People: people, Counts: c1}},
			}}}))
			e := p.next(t).GetEvent()
			require.EqualValues(t, 4, e.At.Seq, "its number stays")
			return e.GetPresence()
		}
		x := event("eu", counts(2, 2), person("eve", device("b", 6, suspended)))
		require.Empty(t, x.People)
		same(counts(2, 0), x.Counts)
		x = event("eu", counts(2, 1), person("eve", device("a", 5, left), device("b", 6, left)), person("bob", device("d", 1, live)))
		require.Len(t, x.People, 1)
		same(counts(2, 0), x.Counts)
		x = event("eu", counts(2, 1), person("zoe", device("a", 1, left)))
		same(counts(2, 0), x.Counts)
		x = event("us", counts(1, 0), person("eve", device("c", 10, live)))
		same(counts(0, 0), x.Counts)
		x = event("us", counts(0, 0), person("eve", device("c", 10, left)))
		same(counts(0, 0), x.Counts)

		p.ask(8, &wire.ClientFrame{Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: roomA, Positions: []*wire.Position{{Region: "eu", Epoch: 3, Seq: 4}}}}})
		require.EqualValues(t, 8, p.next(t).Re)
		w.hub.mu.Lock()
		require.Len(t, w.hub.positions, 1)
		require.Zero(t, w.hub.positions[0].Epoch, "nothing is continued that may have them")
		w.hub.mu.Unlock()
		w.Clients("ann")[0].(*Session).veil.returns(roomA)
		s = deliver(8)
		require.Len(t, s.Parts[0].Fixes, 2)
		require.Nil(t, s.Parts[0].Fixes[1].Fix.Point, "what no device's leave takes with it")
		require.Len(t, deliver(9).Parts[0].Fixes, 1)
		p.cut()
		<-p.over
		w.Stop()
	})
}

// A room that is left while it is being entered again is left.
func TestBlockedAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t, Config{}), &blocks{}
		b.set()
		w.deps.Blocks = b
		p := w.live(t, "ann l1", "phone", roomA)
		answer := make(chan struct{})
		w.core.mu.Lock()
		w.core.block = answer
		w.core.mu.Unlock()
		b.set("eve")
		w.BlocksChanged("ann")
		synctest.Wait() // core is being asked about the room
		p.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: roomA}}})
		synctest.Wait()
		close(answer)
		for p.next(t).Re != 5 {
		}
		synctest.Wait()
		require.Zero(t, w.hub.members(roomA))
		require.Empty(t, w.Clients("ann")[0].(*Session).rooms)
		p.cut()
		<-p.over
		w.Stop()
	})
}
