package host

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// 200 calls over two regions, which end in every way that there is, leave nothing: no
// goroutine, no memory, no entry. Two people in one of ten have connections and hear each
// other; in all of them with MUSTER_PROVE_CALLS.
func TestCallsLeaveNothing(t *testing.T) {
	const rounds, atOnce = 10, 20
	w := newWorld(t, "eu1", "us1")
	w.record.PushToTalk = true
	round := func(n int) {
		var all sync.WaitGroup
		for i := range atOnce {
			all.Go(func() {
				id := fmt.Sprint("call ", n, " ", i)
				if i < 2 || os.Getenv("MUSTER_PROVE_CALLS") != "" {
					w.converse(id, i)
				} else {
					w.come(id, i)
				}
			})
		}
		all.Wait()
		w.eventually("nothing is left of the calls", func() bool { return w.node("eu1").Calls()+w.node("us1").Calls() == 0 })
	}
	measure := func() (goroutines int, heap uint64) {
		for range 3 { // what is freed in one is gone in the next
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	for n := range 2 { // pools, and what is made once
		round(n)
	}
	time.Sleep(time.Second) // connections of devices end in their own time
	goroutines, heap := measure()
	for n := 2; n < rounds; n++ {
		round(n)
	}
	left, after := measure()
	for until := time.Now().Add(soon); left > goroutines && time.Now().Before(until); left, after = measure() {
		time.Sleep(50 * time.Millisecond)
	}
	if left > goroutines {
		stacks := make([]byte, 1<<20)
		t.Fatalf("%d goroutines more:\n%s", left-goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	t.Logf("%d goroutines, %d KiB, and after %d more calls %d KiB", goroutines, heap>>10, (rounds-2)*atOnce, after>>10)
	require.Less(t, int64(after)-int64(heap), int64((rounds-2)*atOnce*2048), "a call leaves memory")
	for _, id := range w.order {
		h := w.node(id).Host
		h.mu.Lock()
		for what, left := range map[string]int{
			"lives": len(h.lives), "at": len(h.at), "remotes": len(h.remotes), "outlets": len(h.outlets), "seats": len(h.seats), "pictures": len(h.pictures),
		} {
			require.Zero(t, left, what)
		}
		h.mu.Unlock()
		require.Zero(t, w.node(id).sfu.Stats().Peers)
		require.Zero(t, w.node(id).sfu.Stats().Sources)
	}
}

// end ends a call, as somebody who moderates does.
func (w *world) end(id string) {
	w.mu.Lock()
	w.ended[id] = true
	w.mu.Unlock()
	for _, n := range w.order {
		w.node(n).Reread(id)
	}
}

// come has three people come to a call and go, without connections.
func (w *world) come(id string, how int) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	ask := func(at *node, who media.Session, r *wire.CallRequest) error {
		r.Call = id
		_, err := at.Ask(ctx, who, theRoom, r)
		return err
	}
	join := func() *wire.CallRequest {
		return &wire.CallRequest{Body: &wire.CallRequest_Join{Join: &wire.CallJoin{PeerToPeer: how%2 == 0}}}
	}
	var people []media.Session
	var nodes []*node
	for i, at := range []regions.NodeID{"eu1", "us1", "us1"} {
		who := media.Session{User: fmt.Sprint("user ", i, " of ", id), Device: "d", Epoch: 10, Role: "member"}
		people, nodes = append(people, who), append(nodes, w.node(at))
		if err := ask(nodes[i], who, join()); err != nil {
			w.t.Error("join: ", err)
			return
		}
		_ = ask(nodes[i], who, &wire.CallRequest{Body: &wire.CallRequest_Set{Set: &wire.CallSet{Heading: new(float32(i)), MicMuted: new(true)}}})
		_ = ask(nodes[i], who, &wire.CallRequest{Body: &wire.CallRequest_Wants{Wants: &wire.CallWants{Wants: []*wire.CallWant{{Track: id, Height: 100}}}}})
	}
	switch how % 4 {
	case 0: // all leave
		for i, who := range people {
			_ = ask(nodes[i], who, leave())
		}
	case 1: // their sessions end, one after a reconnect elsewhere
		again := people[0]
		again.Epoch = 20
		nodes[1].Resume(again)
		_ = ask(nodes[1], again, join())
		nodes[0].Gone(people[0].ID(), "moved")
		nodes[1].Gone(again.ID(), "timed_out")
		nodes[1].Gone(people[1].ID(), "left")
		nodes[1].Ended(people[2].ID(), "timed_out") // the region's word, and its node's
		nodes[1].Gone(people[2].ID(), "timed_out")
	case 2: // they leave the room, are put out of it, are suspended
		nodes[0].Left(people[0].ID(), theRoom, "left")
		nodes[1].Left(people[1].ID(), theRoom, "removed")
		nodes[2].Suspend(people[2].ID())
		nodes[2].Gone(people[2].ID(), "timed_out")
	case 3: // it is ended for all
		w.end(id)
	}
}

// converse has two people hear each other, and leave.
func (w *world) converse(id string, how int) {
	in := func(c *client) { c.call, c.who.Role = id, "admin" }
	a, b := w.enter("a of "+id, "eu1", in), w.enter("b of "+id, "us1", in)
	_, err := a.ask(&wire.CallRequest{Body: &wire.CallRequest_Floor{Floor: &wire.CallFloorAsk{Hold: true}}})
	if err != nil {
		w.t.Error("floor: ", err)
	}
	until := time.Now().Add(soon)
	for b.count(a.who.User) < 5 && time.Now().Before(until) {
		time.Sleep(10 * time.Millisecond)
	}
	if b.count(a.who.User) < 5 {
		w.t.Error("a is not heard")
	}
	if how%2 == 0 {
		w.end(id)
	} else {
		for _, c := range []*client{a, b} {
			_, _ = c.ask(leave())
		}
	}
	a.leave()
	b.leave()
}
