package session

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// comesBack is the hello of a client that comes back: it names its epoch and positions.
func comesBack(epoch uint64, rooms ...string) *wire.ClientFrame {
	f := hello("ann l1", "phone", rooms...)
	f.GetHello().Epoch = epoch
	for _, follow := range f.GetHello().Follows {
		follow.Positions = []*wire.Position{{Region: "r1", Epoch: 7, Seq: 0}, {Region: "r2", Epoch: 3, Seq: epoch}}
	}
	return f
}

func (w *world) comesBack(t testing.TB, epoch uint64, rooms ...string) (*pipe, uint64) {
	t.Helper()
	p := w.connect()
	p.ask(1, comesBack(epoch, rooms...))
	welcome := p.next(t).GetWelcome()
	require.NotNil(t, welcome)
	for range rooms {
		require.NotNil(t, p.next(t).GetSnapshot())
	}
	synctest.Wait()
	return p, welcome.Epoch
}

func TestResumeOnAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		w1, w2 := r.node(t, "n1", Config{}), r.node(t, "n2", Config{})
		p := w1.live(t, "ann l1", "phone", roomA, roomB)
		p.cut()
		<-p.over
		require.Equal(t, "suspended 1 n1 a b", r.of("ann", "phone"))
		before := len(r.said())
		q, epoch := w2.comesBack(t, 1, roomA)
		require.EqualValues(t, 2, epoch)
		require.Equal(t, "live 2 n2 a b", r.of("ann", "phone"))
		time.Sleep(notFollowedFor)
		synctest.Wait()
		require.Equal(t, "live 2 n2 a", r.of("ann", "phone"), "it left a room that it doesn't follow")
		require.Equal(t, []string{"ann/phone leave b"}, r.said()[before:], "the region knew that it was in the other one")
		require.Equal(t, []string{"ann/phone join a", "ann/phone leave b BYE"}, w2.hub.said())
		require.Len(t, w2.hub.positions, 2)
		require.Equal(t, "ann/phone gone MOVED", w1.hub.said()[3], "which nobody sees")
		require.Zero(t, w1.Len())
		require.EqualValues(t, 1, w1.count(t, "transitions_total", "suspended", "fenced"))
		require.EqualValues(t, 1, w2.count(t, "transitions_total", "authenticating", "resumed"))
		time.Sleep(time.Hour) // with pings
		synctest.Wait()
		q.cut()
		w1.Stop()
		w2.Stop()
	})
}

func TestJoinWhoseAnswerWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone")
		p.ask(2, join(roomA))
		synctest.Wait()
		p.cut() // with the answer unread
		<-p.over
		q, _ := w.comesBack(t, 1)
		time.Sleep(time.Second)
		q.ask(2, join(roomA))
		require.NotNil(t, q.next(t).GetSnapshot())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"ann/phone join a", "ann/phone suspend", "ann/phone gone MOVED", "ann/phone join a"}, w.hub.said(), "nobody saw it leave")
		require.Equal(t, "live 2 n1 a", w.region.of("ann", "phone"))
		q.cut()
		w.Stop()
	})
}

// Without an event ever seen, again and again, on either node, and on one that
// was started anew.
func TestResumeRepeatedly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		nodes := []*world{r.node(t, "n1", Config{}), r.node(t, "n2", Config{})}
		p := nodes[0].live(t, "ann l1", "phone", roomA)
		epoch := uint64(1)
		for i := range 12 {
			if i%3 != 2 { // else the old connection is still there
				p.cut()
				<-p.over
			}
			w := nodes[i/2%2]
			if i%4 == 1 {
				r.giveUp(w.config.Node)
				w.Stop()
				w = r.node(t, w.config.Node, Config{})
				nodes[i/2%2] = w
			}
			var now uint64
			p, now = w.comesBack(t, epoch, roomA)
			require.Greater(t, now, epoch)
			epoch = now
			require.Equal(t, fmt.Sprintf("live %d %s a", epoch, w.config.Node), r.of("ann", "phone"))
			for _, said := range append(nodes[0].hub.said(), nodes[1].hub.said()...) {
				require.NotContains(t, said, "leave")
				require.False(t, strings.Contains(said, "gone") && !strings.Contains(said, "MOVED"), said)
			}
		}
		entered := 0
		for _, said := range r.said() {
			if strings.Contains(said, "enter") {
				entered++
			}
		}
		require.Equal(t, 1, entered, "the region kept the room")
		p.cut()
		nodes[0].Stop()
		nodes[1].Stop()
	})
}

func TestLostWhileTheRegionIsTold(t *testing.T) {
	for name, after := range map[string]func(w *world, p *pipe){
		"suspended": func(w *world, p *pipe) { p.cut(); <-p.over },
		"ended":     func(w *world, p *pipe) { p.ask(3, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{}}); <-p.over },
		"fenced": func(w *world, p *pipe) {
			w.region.mu.Lock()
			delete(w.region.devices, device{"ann", "phone"})
			w.region.mu.Unlock()
			w.Fenced(regions.SessionID{User: "ann", Device: "phone", Epoch: 1}, 9)
			<-p.over
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				p := w.live(t, "ann l1", "phone")
				proceed := make(chan struct{})
				w.region.entering = func() { <-proceed }
				p.ask(2, join(roomA))
				synctest.Wait()
				after(w, p)
				close(proceed)
				synctest.Wait()
				switch name {
				case "suspended": // it is in the room, and nobody can deliver to it
					require.Equal(t, "suspended 1 n1 a", w.region.of("ann", "phone"))
					require.Equal(t, []string{"ann/phone suspend", "ann/phone join a", "ann/phone suspend"}, w.hub.said())
				case "ended":
					require.Equal(t, "gone", w.region.of("ann", "phone"))
					require.Equal(t, []string{"ann/phone gone BYE"}, w.hub.said())
				case "fenced":
					require.Equal(t, []string{"ann/phone gone MOVED"}, w.hub.said())
					require.EqualValues(t, 9, p.lastWord(t).Epoch)
				}
				w.region.entering = nil
				w.Stop()
			})
		})
	}
}

// What the region says of a session may overtake the answer that names it.
func TestTheRegionsWordBeforeItsAnswer(t *testing.T) {
	t.Run("fenced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegion()
			w1, w2 := r.node(t, "n1", Config{}), r.node(t, "n2", Config{})
			old := w1.live(t, "ann l1", "phone", roomA)
			var there *pipe
			r.opened = func() {
				r.opened = nil
				there = w2.live(t, "ann l1", "phone", roomA)
				synctest.Wait() // node 1 has been told
			}
			here := w1.connect()
			here.ask(1, hello("ann l1", "phone", roomA))
			c := here.lastWord(t)
			require.Equal(t, wire.CodeSuperseded, c.Code)
			require.EqualValues(t, 3, c.Epoch)
			require.Empty(t, here.out, "it never was welcome")
			require.Equal(t, wire.CodeSuperseded, old.lastWord(t).Code)
			<-here.over
			<-old.over
			synctest.Wait()
			require.Equal(t, "live 3 n2 a", r.of("ann", "phone"))
			require.Zero(t, w1.Len())
			require.Empty(t, w1.opening)
			there.cut()
			<-there.over
			w1.Stop()
			w2.Stop()
		})
	})
	t.Run("fenced by itself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			old := w.live(t, "ann l1", "phone", roomA)
			w.region.opened = func() { w.region.opened = nil; synctest.Wait() }
			p := w.live(t, "ann l1", "phone", roomA)
			require.EqualValues(t, 2, old.lastWord(t).Epoch)
			synctest.Wait()
			require.Equal(t, []string{"ann/phone join a", "ann/phone join a", "ann/phone gone MOVED"}, w.hub.said(), "no gap between them")
			p.cut()
			w.Stop()
		})
	})
	t.Run("fenced, and then no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			old := w.live(t, "ann l1", "phone", roomA)
			w.region.opening = func() {
				w.Fenced(regions.SessionID{User: "ann", Device: "phone", Epoch: 1}, 5)
				w.region.openErr = errs.New(errs.Unavailable, edge.CodeRetry, "no leader")
			}
			p := w.connect()
			p.ask(1, hello("ann l1", "phone", roomA))
			require.Equal(t, wire.CodeRetry, p.lastWord(t).Code)
			require.EqualValues(t, 5, old.lastWord(t).Epoch)
			<-old.over
			<-p.over
			require.Zero(t, w.Len())
			w.Stop()
		})
	})
	for name, tell := range map[string]func(w *world){
		"ended": func(w *world) {
			w.Ended(regions.SessionID{User: "ann", Device: "phone", Epoch: 1}, wire.Reason_TIMED_OUT)
		},
		"node given up": func(w *world) { w.NodeLost() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				w.region.opened = func() { tell(w) }
				p := w.connect()
				p.ask(1, hello("ann l1", "phone", roomA))
				require.Equal(t, wire.CodeRetry, p.lastWord(t).Code)
				<-p.over
				require.Zero(t, w.Len())
				require.Equal(t, "suspended 1 n1", w.region.of("ann", "phone"))
				w.region.opened = nil
				w.live(t, "ann l1", "phone", roomA).cut()
				w.Stop()
			})
		})
	}
}

func TestEnded(t *testing.T) {
	ann := regions.SessionID{User: "ann", Device: "phone", Epoch: 1}
	t.Run("before a resume", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			p.cut()
			<-p.over
			time.Sleep(29 * time.Second)
			w.region.opening = func() { // the hello is under way as the grace time ends
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
			q := w.connect()
			q.ask(1, comesBack(1, roomA))
			require.NotNil(t, q.next(t).GetWelcome())
			require.NotNil(t, q.next(t).GetSnapshot())
			synctest.Wait()
			require.Equal(t, "live 2 n1 a", w.region.of("ann", "phone"))
			require.Equal(t, []string{"ann/phone enter a", "ann/phone suspend", "ann/phone enter a"}, w.region.said(), "the region had forgotten")
			require.Equal(t, []string{"ann/phone join a", "ann/phone suspend", "ann/phone gone TIMED_OUT", "ann/phone join a"}, w.hub.said())
			q.cut()
			w.Stop()
		})
	})
	t.Run("told after a resume", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			p.cut()
			<-p.over
			w.region.holdBack(true)
			time.Sleep(31 * time.Second)
			q, _ := w.comesBack(t, 1, roomA)
			w.region.tell()
			synctest.Wait()
			require.Equal(t, 1, w.Len())
			require.Equal(t, "live 2 n1 a", w.region.of("ann", "phone"))
			q.ask(2, send(roomA, "m", "hi"))
			require.NotNil(t, q.next(t).GetSent())
			q.cut()
			w.region.holdBack(false)
			w.Stop()
		})
	})
	t.Run("although it is connected", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			w.Ended(regions.SessionID{User: "ann", Device: "phone", Epoch: 7}, 0)
			require.Equal(t, 1, w.Len(), "that was another one")
			w.Ended(ann, 0)
			require.Equal(t, wire.CodeRetry, p.lastWord(t).Code)
			<-p.over
			require.Equal(t, "ann/phone gone TIMED_OUT", w.hub.said()[1])
			w.Stop()
		})
	})
	t.Run("never told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.region.holdBack(true)
			p := w.live(t, "ann l1", "phone", roomA)
			p.cut()
			<-p.over
			time.Sleep(119 * time.Second)
			require.Equal(t, 1, w.Len())
			time.Sleep(2 * time.Second)
			synctest.Wait()
			require.Zero(t, w.Len(), "memory is bounded")
			require.Equal(t, "ann/phone gone MOVED", w.hub.said()[2], "but only the region says who left")
			w.Stop()
		})
	})
}

// A device that connects to two nodes at the same moment ends up live on one,
// whatever order the answers and the word to the loser have.
func TestTwiceAtOnce(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		for _, first := range []int{0, 1} {
			t.Run(fmt.Sprint(nodes, " nodes, answer to ", first, " first"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRegion()
					ws := []*world{r.node(t, "n1", Config{})}
					ws = append(ws, ws[0])
					if nodes == 2 {
						ws[1] = r.node(t, "n2", Config{})
					}
					n := 0
					answer := []chan struct{}{make(chan struct{}), make(chan struct{})}
					r.opened = func() {
						r.mu.Lock()
						mine := answer[n]
						n++
						r.mu.Unlock()
						<-mine
					}
					p := []*pipe{ws[0].connect(), ws[1].connect()}
					for i := range p {
						p[i].ask(1, hello("ann l1", "phone", roomA))
						synctest.Wait()
					}
					close(answer[first])
					synctest.Wait()
					close(answer[1-first])
					synctest.Wait()
					c := p[0].lastWord(t)
					require.Equal(t, wire.CodeSuperseded, c.Code)
					require.EqualValues(t, 2, c.Epoch)
					<-p[0].over
					require.EqualValues(t, 2, p[1].next(t).GetWelcome().GetEpoch())
					require.NotNil(t, p[1].next(t).GetSnapshot())
					require.Empty(t, p[1].closed)
					require.Equal(t, 1, ws[1].Len())
					require.Equal(t, "live 2 "+string(ws[1].config.Node)+" a", r.of("ann", "phone"))
					p[1].cut()
					for _, w := range ws {
						w.Stop()
					}
				})
			})
		}
	}
}

func TestSentAway(t *testing.T) {
	for name, tell := range map[string]func(w *world){
		"given up": func(w *world) { w.region.giveUp("n1") },
		"cut off":  func(w *world) { w.SendAway() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{})
				var all []*pipe
				for i := range 40 {
					all = append(all, w.live(t, "ann l1", fmt.Sprint("d", i), roomA))
				}
				w.live(t, "bob l2", "phone", roomA).cut()
				synctest.Wait()
				tell(w)
				when := map[uint32]bool{}
				for _, p := range all {
					c := p.lastWord(t)
					require.Equal(t, wire.CodeRetry, c.Code)
					require.NotZero(t, c.RetryAfterMs)
					when[c.RetryAfterMs] = true
					<-p.over
				}
				require.Greater(t, len(when), 20, "not all at once")
				require.Equal(t, 41, w.Len(), "the region says when that is over")
				synctest.Wait()
				require.Equal(t, "suspended 1 n1 a", w.region.of("ann", "d0"))
				p, _ := w.comesBack(t, 1, roomA)
				p.cut()
				w.Stop()
			})
		})
	}
	t.Run("no contact", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.region.away = true
			p := w.connect()
			p.ask(1, hello("ann l1", "phone"))
			require.Equal(t, wire.CodeRetry, p.lastWord(t).Code, "at once: another node may do better")
			<-p.over
			w.Stop()
		})
	})
}

func TestReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.region.holdBack(true)
		fine := w.live(t, "ann l1", "fine", roomA)
		gone := w.live(t, "ann l1", "gone", roomA)
		paused := w.live(t, "ann l1", "paused", roomA)
		asleep := w.live(t, "ann l1", "asleep", roomA)
		asleep.cut()
		<-asleep.over
		w.region.mu.Lock()
		delete(w.region.devices, device{"ann", "gone"})
		delete(w.region.devices, device{"ann", "asleep"})
		w.region.devices[device{"ann", "paused"}].live = false
		// Opened, and the answer lost; and one that is being opened.
		lost := regions.SessionID{User: "ann", Device: "lost", Epoch: 90}
		w.region.devices[device{"ann", "lost"}] = &entered{id: lost, node: "n1", live: true, rooms: []string{roomA}}
		w.region.mu.Unlock()
		time.Sleep(settled / 2)
		proceed := make(chan struct{})
		w.region.opened = func() { <-proceed }
		late := w.connect()
		late.ask(1, hello("ann l1", "late"))
		synctest.Wait()

		w.Reconcile(w.region.held("n1"))
		require.Equal(t, "suspended 90 n1 a", w.region.of("ann", "lost"))
		require.Equal(t, 4, w.Len(), "this node's copy may be behind")
		time.Sleep(settled / 2)
		w.Reconcile(w.region.held("n1"))
		require.Equal(t, wire.CodeRetry, gone.lastWord(t).Code)
		require.Equal(t, wire.CodeRetry, paused.lastWord(t).Code)
		synctest.Wait()
		require.Equal(t, 2, w.Len())
		require.Empty(t, fine.closed)
		close(proceed)
		require.NotNil(t, late.next(t).GetWelcome())
		require.Equal(t, "live 5 n1", w.region.of("ann", "late"))
		fine.cut()
		late.cut()
		w.Stop()
	})
}

// Rooms that the region has the device in and the session does not come to.
func TestRoomsLeftBehind(t *testing.T) {
	lose := func(t *testing.T, w *world, rooms ...string) {
		p := w.live(t, "ann l1", "phone", rooms...)
		p.cut()
		<-p.over
	}
	ping := func(t *testing.T, p *pipe) {
		time.Sleep(29 * time.Second)
		p.ask(0, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{}})
		time.Sleep(2 * time.Second)
		synctest.Wait()
	}
	t.Run("started anew", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			lose(t, w, roomA, roomB)
			p := w.live(t, "ann l1", "phone")
			p.ask(2, join(roomB))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.Equal(t, "live 2 n1 a b", w.region.of("ann", "phone"))
			ping(t, p)
			require.Equal(t, "live 2 n1 b", w.region.of("ann", "phone"))
			require.Equal(t, "ann/phone leave a BYE", w.hub.said()[len(w.hub.said())-1])
			p.cut()
			w.Stop()
		})
	})
	t.Run("left without having been joined", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			lose(t, w, roomA)
			p := w.live(t, "ann l1", "phone")
			p.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: roomA}}})
			require.NotNil(t, p.next(t).GetDone())
			require.Equal(t, "live 2 n1", w.region.of("ann", "phone"))
			p.cut()
			w.Stop()
		})
	})
	t.Run("refused for now", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			w.hub.refuse = errs.New(errs.Unavailable, edge.CodeRetry, "the owner is away")
			for _, room := range []string{roomA, roomB} {
				p.ask(2, join(room))
				require.Equal(t, wire.CodeRetry, p.next(t).GetError().GetCode())
			}
			w.hub.refuse = nil
			p.ask(3, join(roomA))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.Equal(t, "live 1 n1 a b", w.region.of("ann", "phone"), "it may try again")
			ping(t, p)
			require.Equal(t, "live 1 n1 a", w.region.of("ann", "phone"), "but it didn't")
			p.cut()
			w.Stop()
		})
	})
	t.Run("no longer a member", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			w.hub.last.Removed(roomA, wire.Reason_REMOVED)
			require.Equal(t, wire.CodeNotMember, p.next(t).GetError().GetCode())
			require.Equal(t, "live 1 n1", w.region.of("ann", "phone"))
			w.hub.refuse = errs.New(errs.Forbidden, edge.CodeNotMember, "out")
			p.ask(2, join(roomB))
			require.Equal(t, wire.CodeNotMember, p.next(t).GetError().GetCode())
			require.Equal(t, "live 1 n1", w.region.of("ann", "phone"))
			p.cut()
			w.Stop()
		})
	})
}

func TestEnter(t *testing.T) {
	t.Run("what comes during a call goes together", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			calls, proceed := 0, make(chan struct{})
			w.region.entering = func() { calls++; <-proceed }
			for i := range 10 {
				p.ask(uint64(i+2), join(fmt.Sprintf("group:00000000-0000-4000-8000-00000000010%d", i)))
			}
			synctest.Wait()
			close(proceed)
			for range 10 {
				require.NotNil(t, p.next(t).GetSnapshot())
			}
			require.Equal(t, 2, calls)
			p.ask(20, join("group:00000000-0000-4000-8000-000000000101"))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.Equal(t, 2, calls, "known already")
			p.cut()
			w.Stop()
		})
	})
	t.Run("the region is away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			w.region.enterErr = errs.New(errs.Unavailable, edge.CodeRetry, "no leader").After(time.Second)
			p.ask(2, join(roomA))
			require.EqualValues(t, 1000, p.next(t).GetError().GetRetryAfterMs())
			require.Empty(t, w.hub.said(), "not in a room that the region doesn't know of")
			w.region.enterErr = nil
			p.ask(2, join(roomA))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.Contains(t, w.region.of("ann", "phone"), " "+short(roomA), "it is told again: the first time it may have heard nothing")
			p.cut()
			w.Stop()
		})
	})
	t.Run("it is not the device's session any more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			w.region.mu.Lock()
			clear(w.region.devices)
			w.region.mu.Unlock()
			p.ask(2, join(roomA))
			require.Equal(t, wire.CodeSuperseded, p.lastWord(t).Code)
			<-p.over
			require.Zero(t, w.Len())
			w.Stop()
		})
	})
}

// A request whose answer was lost with the connection is sent again under the
// same id on the next one, here on another node.
func TestRequestsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		w1, w2 := r.node(t, "n1", Config{}), r.node(t, "n2", Config{})
		w2.core.stored, w2.core.numbers = w1.core.stored, w1.core.numbers // one database
		requests := []*wire.ClientFrame{
			send(roomA, "m1", "hi"),
			{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: roomB}}},
			join(roomA),
			{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, Limit: 1}}},
			report(goodFix(1), roomA),
		}
		p := w1.live(t, "ann l1", "phone", roomA, roomB)
		for i, f := range requests {
			p.ask(uint64(10+i), f)
		}
		synctest.Wait()
		require.Len(t, p.out, len(requests), "all took effect, and no answer arrived")
		p.cut()
		<-p.over
		q, _ := w2.comesBack(t, 1, roomA)
		for i, f := range requests {
			q.ask(uint64(10+i), f)
		}
		answers := map[uint64]*wire.ServerFrame{}
		for range requests {
			f := q.next(t)
			answers[f.Re] = f
		}
		require.EqualValues(t, 1, answers[10].GetSent().Message.Number, "the first answer")
		require.NotNil(t, answers[11].GetDone(), "it has left")
		require.NotNil(t, answers[12].GetSnapshot())
		require.Len(t, answers[13].GetPage().Messages, 1)
		require.NotNil(t, answers[14].GetDone())
		require.EqualValues(t, 1, w1.core.numbers[roomA])
		require.NotContains(t, w2.hub.said(), "publish a hi")
		require.Empty(t, q.out)
		q.cut()
		w1.Stop()
		w2.Stop()
	})
}

func TestInvisible(t *testing.T) {
	invisible := func(w *world, user string, yes bool) {
		w.SetInvisible(user, yes)
		synctest.Wait()
	}
	t.Run("and back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.core.invisible["ann"] = true
			p := w.live(t, "ann l1", "phone", roomA, roomB)
			require.True(t, w.hub.hidden)
			require.Equal(t, "live 1 n1", w.region.of("ann", "phone"), "a room's next owner knows nothing")
			invisible(w, "ann", true) // no news
			invisible(w, "bob", true)
			require.Len(t, w.hub.said(), 2)
			invisible(w, "ann", false)
			require.Equal(t, "ann/phone hide false", w.hub.said()[2])
			require.Equal(t, "live 1 n1 a b", w.region.of("ann", "phone"))
			invisible(w, "ann", false)
			require.Len(t, w.hub.said(), 3)
			p.ask(2, join(roomA))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.False(t, w.hub.hidden)
			require.Equal(t, []string{"ann/phone enter a b"}, w.region.said())
			p.cut()
			<-p.over
			invisible(w, "ann", true)
			require.Equal(t, "ann/phone hide true", w.hub.said()[len(w.hub.said())-1], "suspended ones too")
			require.Equal(t, "suspended 1 n1", w.region.of("ann", "phone"))
			w.core.invisible["ann"] = true
			q, _ := w.comesBack(t, 1, roomA)
			require.True(t, w.hub.hidden)
			require.Equal(t, "live 2 n1", w.region.of("ann", "phone"))
			q.cut()
			w.Stop()
		})
	})
	t.Run("while it is joining", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			proceed := make(chan struct{})
			w.region.entering = func() { <-proceed }
			p.ask(2, join(roomA))
			synctest.Wait()
			invisible(w, "ann", true)
			close(proceed)
			require.NotNil(t, p.next(t).GetSnapshot())
			synctest.Wait()
			require.True(t, w.hub.hidden)
			require.Equal(t, "live 1 n1", w.region.of("ann", "phone"))

			// The other way round: seen only after the region knows.
			proceed = make(chan struct{})
			w.SetInvisible("ann", false)
			synctest.Wait()
			p.ask(3, join(roomB))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.True(t, w.hub.hidden, "not yet")
			close(proceed)
			synctest.Wait()
			require.Equal(t, "ann/phone hide false", w.hub.said()[len(w.hub.said())-1])
			require.Equal(t, "live 1 n1 a b", w.region.of("ann", "phone"))
			p.cut()
			w.Stop()
		})
	})
	t.Run("back and forth", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.core.invisible["ann"] = true
			p := w.live(t, "ann l1", "phone", roomA)
			proceed := make(chan struct{})
			w.region.entering = func() { <-proceed }
			for _, yes := range []bool{false, true, false, true} {
				invisible(w, "ann", yes)
			}
			close(proceed)
			synctest.Wait()
			require.Equal(t, []string{"ann/phone join a"}, w.hub.said(), "nobody saw a thing")
			require.Equal(t, "live 1 n1", w.region.of("ann", "phone"))
			invisible(w, "ann", false)
			require.Equal(t, "live 1 n1 a", w.region.of("ann", "phone"))
			require.Equal(t, "ann/phone hide false", w.hub.said()[1])
			p.cut()
			w.Stop()
		})
	})
	t.Run("the region can't be told", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.core.invisible["ann"] = true
			p := w.live(t, "ann l1", "phone", roomA)
			w.region.enterErr = errs.New(errs.Unavailable, edge.CodeRetry, "no leader")
			invisible(w, "ann", false)
			require.Equal(t, wire.CodeRetry, p.lastWord(t).Code, "its next session is seen from the start")
			<-p.over
			w.Stop()
		})
	})
	t.Run("not known yet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			w.core.settingsErr = errs.New(errs.Unavailable, edge.CodeRetry, "the database is away")
			p := w.connect()
			p.ask(1, hello("bob l2", "phone", roomA))
			require.NotNil(t, p.next(t).GetWelcome())
			require.Equal(t, wire.CodeRetry, p.next(t).GetError().GetCode(), "nobody is shown before it is known that they want to be")
			invisible(w, "bob", true)
			p.ask(2, join(roomA))
			require.NotNil(t, p.next(t).GetSnapshot())
			require.True(t, w.hub.hidden)
			p.cut()
			w.Stop()
		})
	})
}

func TestLastSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		w1, w2 := r.node(t, "n1", Config{}), r.node(t, "n2", Config{})
		w1.live(t, "ann l1", "phone").cut()
		bob := w1.live(t, "bob l2", "phone")
		bob.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{}})
		<-bob.over
		w1.live(t, "eve l3", "phone")
		eve := w2.live(t, "eve l3", "phone") // moved: she is still here
		synctest.Wait()
		require.ElementsMatch(t, []string{"ann", "bob"}, w1.core.wasHere)
		eve.cut()
		w1.Stop()
		w2.Stop()
	})
}

func TestPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		ask := func(limit uint32) *wire.PeoplePage {
			p.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_ListPeople{ListPeople: &wire.ListPeople{Room: roomA, After: "u", Limit: limit}}})
			return p.next(t).GetPeoplePage()
		}
		page := ask(3)
		require.Len(t, page.People, 3)
		require.Equal(t, "u0", page.People[0].User)
		require.EqualValues(t, 1000, page.Counts.Live)
		require.False(t, page.More)
		require.Len(t, ask(0).People, 100)
		page = ask(1 << 20)
		require.Less(t, page.SizeVT(), wire.MaxServerFrame)
		require.Less(t, len(page.People), 500)
		require.True(t, page.More, "what doesn't fit a frame is asked for next")
		w.deps.People = func(context.Context, string, string, string, int) (*wire.PeoplePage, error) {
			return nil, context.DeadlineExceeded
		}
		p.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_ListPeople{ListPeople: &wire.ListPeople{Room: roomA}}})
		require.Equal(t, wire.CodeRetry, p.next(t).GetError().GetCode())
		p.cut()
		w.Stop()
	})
}
