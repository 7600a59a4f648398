package session

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

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
		check(snapshot.GetSnapshot().Parts[0].Fixes, 2, false)
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
