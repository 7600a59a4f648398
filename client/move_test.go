package client

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

// inRoom connects to the first of the nodes and joins the room; b, the second,
// is left to the test.
func inRoom(t *testing.T, names ...string) (m *memory, s *Session, w *watch, r *Room, a *fakeConn) {
	t.Helper()
	m = newMemory(t, names...)
	for _, f := range m.nodes {
		f.handle(joins(0, 3, nil))
	}
	s, w = m.connect(names...)
	a = m.nodes[names[0]].next()
	r, err := s.Join(t.Context(), room)
	require.NoError(t, err)
	m.dialed()
	return m, s, w, r, a
}

// numbers drains the room's events and returns the numbers of the messages.
func numbers(r *Room) (out []uint64) {
	synctest.Wait()
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	for _, e := range r.queue.events {
		if m, ok := e.(MessageArrived); ok {
			out = append(out, m.Message.Number)
		}
	}
	r.queue.events = nil
	return out
}

func isGone(c *fakeConn) bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func TestGoaway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, w, r, a := inRoom(t, "a", "b", "c")
		b := m.hold("b")
		a.send(message(4, 1))
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		require.Equal(t, "ticket of goaway", string(c.hello.GetTicket()))
		require.EqualValues(t, 101, c.hello.GetEpoch())
		require.EqualValues(t, 4, c.hello.GetFollows()[0].GetPositions()[0].GetSeq())

		a.send(message(5, 2)) // while the new one is on the way
		synctest.Wait()
		b.welcome(c, c.re)
		synctest.Wait()
		require.Equal(t, "b", s.Status().Node)
		require.False(t, isGone(a), "until the rooms are back")
		a.send(message(6, 3), message(9, 9)) // the old one is no judge of what is missing
		require.Equal(t, []uint64{1, 2, 3}, numbers(r))
		c.send(resumed(), message(5, 2), message(6, 3), message(7, 4))
		require.Equal(t, []uint64{4}, numbers(r))
		require.True(t, isGone(a))

		time.Sleep(time.Second)
		require.Equal(t, []Phase{Live, Live}, w.phases(), "nobody sees it reconnecting")
		require.Equal(t, []Move{{
			FromRegion: "eu-west", FromNode: "a", ToRegion: "eu-west", ToNode: "b",
			Reason: MoveAsked, Epoch: 102, Replayed: 1, Duplicates: 2,
		}}, w.told())
		require.Zero(t, r.Counters().Gaps)
		require.Equal(t, []string{"b"}, m.dialed())
		require.EqualValues(t, 1, s.Counters().Goaways)

		// What it lost later it looks for where it is now, and shows its ticket.
		c.closing(0)
		c = b.next()
		require.Equal(t, "ticket of b", string(c.hello.GetTicket()))
	})
}

func TestGoawayWithoutTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, w, _, a := inRoom(t, "a", "b")
		m.goaway(a, 10*time.Second)
		c := m.nodes["b"].next()
		c.send(resumed())
		synctest.Wait()
		require.Equal(t, "b", s.Status().Node, "one of its own choice")
		require.Equal(t, []Phase{Live, Live}, w.phases())
	})
}

func TestTargetUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, w, _, a := inRoom(t, "a", "b", "c", "d")
		m.set("b", silent)
		m.set("c", down)
		m.goaway(a, 10*time.Second, "b", "c")
		m.nodes["d"].next().send(resumed())
		time.Sleep(time.Second)
		require.Equal(t, "d", s.Status().Node)
		require.Equal(t, []string{"b", "c", "d"}, m.dialed(), "the targets, then the others; not the one that goes")
		require.Equal(t, []Phase{Live, Live}, w.phases())
		require.Zero(t, w.told()[0].Gap)
	})
}

// The old connection breaks while the new one is on the way.
func TestOldBreaksInTheMiddle(t *testing.T) {
	for name, wait := range map[string]time.Duration{"a moment before": patience / 2, "long before": 3 * patience} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, w, r, a := inRoom(t, "a", "b")
				b := m.hold("b")
				m.goaway(a, 10*time.Second, "b")
				c := b.next()
				a.closing(0)
				time.Sleep(wait)
				want := []Phase{Live}
				if wait > patience {
					want = append(want, Reconnecting)
				}
				require.Equal(t, want, w.phases())
				b.welcome(c, c.re)
				c.send(resumed(), message(4, 1))
				time.Sleep(time.Second)
				require.Equal(t, append(want, Live), w.phases())
				require.Equal(t, []uint64{1}, numbers(r))
				require.Equal(t, []string{"b"}, m.dialed())
				require.Equal(t, wait, w.told()[0].Gap, "and no other attempt")
			})
		})
	}
}

// The new connection breaks before its rooms are back.
func TestNewBreaksAfterWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, w, r, a := inRoom(t, "a", "b", "c")
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		b.welcome(c, c.re)
		synctest.Wait()
		c.closing(0)
		c = b.next()
		require.True(t, isGone(a), "its session is over in any case")
		require.EqualValues(t, 102, c.hello.GetEpoch())
		require.Equal(t, "ticket of b", string(c.hello.GetTicket()))
		b.welcome(c, c.re)
		c.send(resumed(), message(4, 1))
		time.Sleep(time.Second)
		require.Equal(t, []Phase{Live, Live, Reconnecting, Live}, w.phases())
		require.Equal(t, []uint64{1}, numbers(r))
		require.Len(t, w.told(), 1)
		require.Equal(t, "a", w.told()[0].FromNode)
		require.Equal(t, "b", s.Status().Node)
	})
}

// Nothing can be reached until the node is gone.
func TestDeadlinePasses(t *testing.T) {
	for name, closed := range map[string]bool{"closed by the server": true, "not even closed": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, s, w, r, a := inRoom(t, "a", "b", "c")
				m.set("b", down)
				m.set("c", down)
				m.goaway(a, 5*time.Second, "b")
				time.Sleep(5 * time.Second)
				require.Equal(t, Live, s.Status().Phase)
				a.send(message(4, 1))
				require.Equal(t, []uint64{1}, numbers(r), "it works to the end")
				if closed {
					a.closeWith(wire.CodeDraining, 0, time.Second)
				} else {
					time.Sleep(overdue)
				}
				synctest.Wait()
				require.Equal(t, Reconnecting, s.Status().Phase)
				require.True(t, isGone(a))
				m.dialed()
				time.Sleep(time.Minute)
				d := m.dialed()
				require.Equal(t, []string{"b", "c", "a"}, d[:min(3, len(d))], "the node that went comes last")
				c := m.nodes["a"].next()
				require.EqualValues(t, 4, c.hello.GetFollows()[0].GetPositions()[0].GetSeq())
				c.send(resumed())
				time.Sleep(time.Second)
				require.Equal(t, []Phase{Live, Reconnecting, Live}, w.phases())
				require.Equal(t, MoveAsked, w.told()[0].Reason)
				require.NotZero(t, w.told()[0].Gap)
			})
		})
	}
}

// A second Goaway comes over the new connection, before or after its rooms are
// back.
func TestGoawayAgain(t *testing.T) {
	for name, first := range map[string]bool{"settled": true, "not yet": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, s, w, r, a := inRoom(t, "a", "b", "c")
				m.goaway(a, 10*time.Second, "b")
				b := m.nodes["b"].next()
				if first {
					b.send(resumed())
					time.Sleep(time.Second)
				}
				m.goaway(b, 10*time.Second, "c")
				c := m.nodes["c"].next()
				require.Equal(t, "ticket of goaway", string(c.hello.GetTicket()))
				c.send(resumed(), message(4, 1))
				time.Sleep(time.Second)
				require.Equal(t, "c", s.Status().Node)
				require.Equal(t, []uint64{1}, numbers(r))
				require.True(t, isGone(a) && isGone(b) && !isGone(c))
				require.Equal(t, []Phase{Live, Live, Live}, w.phases())
				from := "a"
				if first {
					require.Len(t, w.told(), 2)
					from = "b"
				} else {
					require.Len(t, w.told(), 1)
				}
				require.Equal(t, from, w.told()[len(w.told())-1].FromNode)
				require.Zero(t, w.told()[0].Gap)
			})
		})
	}
}

// The server ends the old session as soon as the new one has its epoch; the
// client may hear of it before or after the Welcome.
func TestSupersededByOneself(t *testing.T) {
	for name, first := range map[string]bool{"superseded first": true, "welcome first": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, s, w, r, a := inRoom(t, "a", "b")
				b := m.hold("b")
				m.goaway(a, 10*time.Second, "b")
				c := b.next()
				if first {
					a.closeWith(wire.CodeSuperseded, 102, 0)
					time.Sleep(50 * time.Millisecond)
				}
				b.welcome(c, c.re)
				if !first {
					synctest.Wait()
					a.closeWith(wire.CodeSuperseded, 102, 0)
				}
				synctest.Wait()
				c.send(resumed(), message(4, 1))
				time.Sleep(time.Minute)
				require.Equal(t, []Phase{Live, Live}, w.phases())
				require.Equal(t, []uint64{1}, numbers(r))
				require.Equal(t, Live, s.Status().Phase)
				require.Equal(t, []string{"b"}, m.dialed())
			})
		})
	}
}

// The Welcome that superseded the old connection was lost: one goes above it.
func TestSupersededAndTheWelcomeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, _, _, a := inRoom(t, "a", "b")
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		a.closeWith(wire.CodeSuperseded, 202, 0)
		synctest.Wait()
		c.closing(0)
		c = b.next()
		require.EqualValues(t, 202, c.hello.GetEpoch(), "names the epoch that won")
		b.welcome(c, c.re)
		synctest.Wait()
		require.Equal(t, Live, s.Status().Phase)
	})
}

// Two programs that share a device id do not supersede each other for ever.
func TestSupersededByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, _, _, a := inRoom(t, "a")
		for epoch := range uint64(2) {
			a.closeWith(wire.CodeSuperseded, 500+epoch, 0)
			a = m.nodes["a"].next()
			require.Equal(t, 500+epoch, a.hello.GetEpoch())
		}
		a.closeWith(wire.CodeSuperseded, 600, 0)
		<-s.Done()
		require.True(t, IsCode(s.Status().Err, wire.CodeSuperseded))
	})
}

// A message that has no answer yet is sent again on the new connection under
// the same id; both answers may come, it is given out once.
func TestSendDuringMove(t *testing.T) {
	for _, answers := range []string{"old", "new", "both", "old refuses"} {
		t.Run(answers, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				type sent struct {
					c  *fakeConn
					cf *wire.ClientFrame
				}
				m, _, _, r, a := inRoom(t, "a", "b")
				sends := make(chan sent, 8)
				for _, f := range m.nodes {
					f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
						if cf.GetSend() != nil {
							sends <- sent{c, cf}
						}
					})
				}
				done := make(chan error, 1)
				go func() {
					got, err := r.Send(t.Context(), "once")
					if err == nil && got.Number != 1 {
						err = fmt.Errorf("number %d", got.Number)
					}
					done <- err
				}()
				one := <-sends
				m.goaway(a, 10*time.Second, "b")
				two := <-sends
				require.NotSame(t, one.c, two.c)
				require.Equal(t, one.cf.GetId(), two.cf.GetId())
				require.Equal(t, one.cf.GetSend().GetClientId(), two.cf.GetSend().GetClientId())
				reply := func(s sent) {
					s.c.send(&wire.ServerFrame{Re: s.cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored(1)}}})
					synctest.Wait()
				}
				if answers == "old refuses" {
					one.c.send(&wire.ServerFrame{Re: one.cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeNotJoined, Room: room}}})
					synctest.Wait()
				}
				if answers == "old" || answers == "both" {
					reply(one)
				}
				if answers != "old" {
					reply(two)
				}
				require.NoError(t, <-done)
				two.c.send(resumed(), message(4, 1), message(5, 2))
				require.Equal(t, []uint64{1, 2}, numbers(r))
			})
		})
	}
}

// The old session is told off before the new one is welcomed: that is no answer.
func TestSupersededIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _, r, a := inRoom(t, "a", "b")
		b := m.hold("b")
		for name, f := range m.nodes {
			f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
				switch {
				case cf.GetSend() != nil && name == "a":
					c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: wire.CodeSuperseded, Room: room}}})
				case cf.GetSend() != nil:
					c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored(1)}}})
				}
			})
		}
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		done := make(chan error, 1)
		go func() {
			_, err := r.Send(t.Context(), "once")
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		b.welcome(c, c.re)
		c.send(resumed())
		require.NoError(t, <-done)
	})
}

// Rooms that were joined or left over the old connection after the new one's
// hello.
func TestRoomsDuringMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const other = "group:00000000-0000-4000-8000-000000000002"
		m, s, _, r, a := inRoom(t, "a", "b")
		frames := make(chan *wire.ClientFrame, 16)
		for name, f := range m.nodes {
			f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
				if name == "b" {
					frames <- cf
				}
				if j := cf.GetJoin(); j != nil {
					snap := snapshot(cf.GetId(), 0, 3)
					snap.GetSnapshot().Room = j.GetRoom()
					c.send(snap)
				} else if cf.GetLeave() != nil {
					c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
				}
			})
		}
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		require.NoError(t, r.Leave(t.Context()))
		o, err := s.Join(t.Context(), other)
		require.NoError(t, err)
		b.welcome(c, c.re)
		synctest.Wait()
		var joined, left string
		for range len(frames) {
			cf := <-frames
			joined += cf.GetJoin().GetRoom()
			left += cf.GetLeave().GetRoom()
		}
		require.Equal(t, other, joined)
		require.Equal(t, room, left)
		event := message(4, 1)
		event.GetEvent().Room = other
		c.send(event)
		require.Equal(t, []uint64{1}, numbers(o))
	})
}

// A bye said in the middle of a move goes to the session that lives on.
func TestCloseDuringMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, _, _, a := inRoom(t, "a", "b")
		byes := make(chan string, 2)
		for name, f := range m.nodes {
			f.handle(func(_ *fakeConn, cf *wire.ClientFrame, _ bool) {
				if cf.GetBye() != nil {
					byes <- name
				}
			})
		}
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		time.AfterFunc(time.Second, func() { b.welcome(c, c.re) })
		s.Close()
		require.Equal(t, "b", <-byes)
		require.Empty(t, byes)
		require.ErrorIs(t, s.Status().Err, ErrClosed)
	})
}

func TestBadTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, w, _, a := inRoom(t, "a", "b")
		for _, f := range m.nodes {
			f.greet(func(c *fakeConn, cf *wire.ClientFrame) bool {
				if cf.GetHello().GetTicket() == nil {
					return false
				}
				c.closeWith(wire.CodeBadTicket, 0, 0)
				return true
			})
		}
		a.closing(0)
		refused := m.nodes["a"].next()
		began := time.Now()
		c := m.nodes["a"].next()
		require.Zero(t, time.Since(began), "at once, and at the same node")
		require.NotEmpty(t, refused.hello.GetTicket())
		require.Empty(t, c.hello.GetTicket())
		require.EqualValues(t, 101, c.hello.GetEpoch())
		c.send(resumed())
		synctest.Wait()
		require.Equal(t, Live, s.Status().Phase)

		// The same while it moves.
		m.goaway(c, 10*time.Second, "b")
		m.nodes["b"].next()
		m.nodes["b"].next().send(resumed())
		time.Sleep(time.Second)
		require.Equal(t, []Phase{Live, Reconnecting, Live, Live}, w.phases())
	})
}

// A long random life: events come over both connections while the session moves
// from node to node and back; every message is given out once and in order, and
// no gap is seen.
func TestMovesLoseNothing(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				m, _, w, r, at := inRoom(t, "a", "b", "c")
				log := []*wire.ServerFrame{nil, nil, nil, nil} // what room's owner has said; seq 3 was the snapshot's
				told := map[*fakeConn]int{at: 3}
				say := func() {
					log = append(log, message(uint64(len(log)), uint64(len(log)-3)))
				}
				// catch up brings a connection further, not always to the end.
				catch := func(c *fakeConn) {
					for told[c] < len(log)-1 && rng.IntN(4) > 0 {
						told[c]++
						c.send(log[told[c]])
					}
				}
				here := "a"
				for range 30 {
					to := []string{"a", "b", "c"}[rng.IntN(3)]
					if to == here {
						continue
					}
					next := m.hold(to)
					m.goaway(at, 10*time.Second, to)
					c := next.next()
					told[c] = int(c.hello.GetFollows()[0].GetPositions()[0].GetSeq())
					for _, step := range []func(){
						func() { next.welcome(c, c.re) },
						func() { c.send(resumed()) },
						func() { catch(c) },
					} {
						for range rng.IntN(5) {
							say()
							catch(at)
							if rng.IntN(2) == 0 {
								synctest.Wait()
							}
						}
						step()
					}
					synctest.Wait()
					if rng.IntN(2) == 0 {
						time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
					}
					at, here = c, to
				}
				for told[at] < len(log)-1 {
					told[at]++
					at.send(log[told[at]])
				}
				got := numbers(r)
				var want []uint64
				for i := range log[4:] {
					want = append(want, uint64(i+1))
				}
				require.Equal(t, want, got)
				require.Zero(t, r.Counters().Gaps)
				require.False(t, slices.Contains(w.phases(), Reconnecting))
			})
		})
	}
}

// The last fix is told again to the new session.
func TestFixDuringMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, _, _, a := inRoom(t, "a", "b")
		got := make(chan uint64, 8)
		m.nodes["b"].handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			if cf.GetReport() != nil {
				got <- cf.GetReport().GetFix().GetN()
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
			}
		})
		require.NoError(t, s.Report(Fix{Point: geo.Point{Lat: 1, Lng: 2}}))
		m.goaway(a, 10*time.Second, "b")
		m.nodes["b"].next().send(resumed())
		require.EqualValues(t, 1, <-got)
	})
}
