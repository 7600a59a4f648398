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
			require.Len(t, got, 2)
			require.EqualValues(t, 48, got[0].Fix.Point.Lat)
			require.Equal(t, n, got[1].Fix.N)
			require.Equal(t, eve, got[1].Fix.Point != nil)
		}
		c.Deliver(frame(1))
		check(p.next(t).GetFixes().GetFixes(), 1, false)
		c.Deliver(edge.NewFrame(&wire.ServerFrame{Re: 9, Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{
			Room: roomA, Parts: []*wire.Part{{Fixes: fixes(2)}},
		}}}))
		snapshot := p.next(t)
		require.EqualValues(t, 9, snapshot.Re)
		check(snapshot.GetSnapshot().Parts[0].Fixes, 3, false)
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
		c.Deliver(frame(6))
		check(p.next(t).GetFixes().GetFixes(), 6, true)
		b.set("eve", "zoe")
		w.BlocksChanged("ann")
		synctest.Wait()
		c.Deliver(frame(7))
		check(p.next(t).GetFixes().GetFixes(), 7, false)
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
