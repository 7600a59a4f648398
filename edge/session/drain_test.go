package session

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// told waits for the goaway.
func (p *pipe) told() *wire.Goaway {
	for {
		if g := (<-p.out).GetGoaway(); g != nil {
			return g
		}
	}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		w1, w2 := r.node(t, "n1", Config{}), r.node(t, "n2", Config{})
		const many = 60
		pipes := make([]*pipe, many)
		for i := range pipes {
			pipes[i] = w1.live(t, "ann l1", fmt.Sprint("d", i), roomA)
		}
		asleep := w1.live(t, "bob l2", "phone", roomA)
		asleep.cut()
		<-asleep.over

		plan := DrainPlan{
			Rate: 20, Deadline: 4 * time.Second,
			Targets: func() []*wire.Target { return []*wire.Target{{Region: "r1", Node: "n2", Ws: "ws://n2"}} },
		}
		start := time.Now()
		over := make(chan time.Duration, 1)
		go func() { w1.Drain(t.Context(), plan); over <- time.Since(start) }()

		// Half of the clients go as they are told, the others are not listening.
		var told, closed [many]time.Duration
		var goaways [many]*wire.Goaway
		var last [many]*wire.Close
		var clients sync.WaitGroup
		for i, p := range pipes {
			clients.Go(func() {
				goaways[i], told[i] = p.told(), time.Since(start)
				if i%2 == 0 {
					h := hello("ann l1", fmt.Sprint("d", i), roomA)
					h.GetHello().Ticket = goaways[i].Ticket
					q := w2.connect()
					q.ask(1, h)
					for (<-q.out).GetSnapshot() == nil {
					}
					defer q.cut()
				}
				last[i], closed[i] = <-p.closed, time.Since(start)
			})
		}
		synctest.Wait()
		late := w1.connect() // refused before it says a word
		require.Equal(t, wire.CodeDraining, late.lastWord(t).Code)

		took := <-over
		clients.Wait()
		synctest.Wait()
		require.InDelta(t, slices.Max(closed[:]).Seconds(), took.Seconds(), 0.1, "over when the last has gone")
		inOrder := true
		for i, g := range goaways {
			require.EqualValues(t, 4000, g.DeadlineMs)
			require.Equal(t, "n2", g.Targets[0].Node)
			if i%2 == 0 {
				require.Equal(t, wire.CodeSuperseded, last[i].Code, "the new path was first")
				require.Equal(t, told[i], closed[i])
			} else {
				require.Equal(t, wire.CodeDraining, last[i].Code)
				require.Equal(t, told[i]+4*time.Second, closed[i])
			}
			inOrder = inOrder && (i == 0 || told[i] >= told[i-1])
		}
		slices.Sort(told[:])
		for i := range many - 17 { // 16 a second are told, so that 20 a second never arrive
			require.GreaterOrEqual(t, told[i+17]-told[i], time.Second, "spread under the rate")
		}
		require.InDelta(t, many/16, told[many-1].Seconds(), 1, "and not slower")
		require.False(t, inOrder, "in random order")
		require.Equal(t, "suspended 61 n1 a", r.of("bob", "phone"))
		for _, said := range w1.hub.said() {
			require.NotContains(t, said, "leave")
			require.NotContains(t, said, "BYE")
		}
		w1.Stop()
		w2.Stop()
	})
}

func TestDrainWhileHellosAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		early := w.connect() // says hello later
		proceed := make(chan struct{})
		w.region.opened = func() { <-proceed }
		asking := w.connect()
		asking.ask(1, hello("ann l1", "phone", roomA))
		synctest.Wait()
		over := make(chan struct{})
		go func() { w.Drain(t.Context(), DrainPlan{Deadline: time.Second}); close(over) }()
		time.Sleep(500 * time.Millisecond)
		early.ask(1, hello("bob l2", "phone", roomA))
		c := early.lastWord(t)
		require.Equal(t, wire.CodeDraining, c.Code)
		require.NotZero(t, c.RetryAfterMs)
		select {
		case <-over:
			require.Fail(t, "one is under way")
		default:
		}
		close(proceed)
		require.NotNil(t, asking.next(t).GetWelcome())
		asking.told()
		require.Equal(t, wire.CodeDraining, asking.lastWord(t).Code)
		<-over
		synctest.Wait()
		require.Equal(t, "suspended 1 n1 a", w.region.of("ann", "phone"), "with its rooms")
		require.Equal(t, "gone", w.region.of("bob", "phone"))
		w.Stop()
	})
}

func TestDrainIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p, q := w.live(t, "ann l1", "phone", roomA), w.live(t, "bob l2", "phone", roomA)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.Drain(ctx, DrainPlan{Rate: 1.4, Deadline: time.Minute})
		require.Equal(t, wire.CodeDraining, p.lastWord(t).Code)
		require.Equal(t, wire.CodeDraining, q.lastWord(t).Code)
		<-p.over
		<-q.over
		require.Len(t, append(drained(p), drained(q)...), 1, "one was told")
		w.Drain(t.Context(), DrainPlan{})
		w.Stop()
	})
}

// drained returns the goaways among what a client was sent.
func drained(p *pipe) (all []*wire.Goaway) {
	for len(p.out) > 0 {
		if g := (<-p.out).GetGoaway(); g != nil {
			all = append(all, g)
		}
	}
	return all
}

// A client that was told to go does its work until it goes.
func TestRequestsWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		go w.Drain(t.Context(), DrainPlan{Deadline: 5 * time.Second})
		p.told()
		p.ask(2, send(roomA, "m1", "hi"))
		require.NotNil(t, p.next(t).GetSent())
		p.ask(3, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
		require.NotNil(t, p.next(t).GetDone())
		require.Nil(t, p.lastWord(t))
		<-p.over
		require.EqualValues(t, 1, w.count(t, "transitions_total", "draining", "ended"))
		synctest.Wait()
		w.Stop()
	})
}
