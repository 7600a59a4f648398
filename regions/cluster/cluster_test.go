package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

func TestASessionsLife(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, 1, size, nil, func(t *testing.T, m *mesh) {
				for i, n := range m.all() {
					user := fmt.Sprintf("u%d", i)
					id := n.open(t, user, 1)
					require.Greater(t, id.Epoch, regions.ClockEpoch(time.Now().Add(-time.Second)))
					require.Equal(t, id, n.open(t, user, 1), "the same connection")
					require.NoError(t, n.Enter(t.Context(), id, "group:a", "group:b"))
					n.Leave(id, "group:b")
					require.NoError(t, n.Settle(t.Context()))
					time.Sleep(50 * time.Millisecond)
					for _, o := range m.all() {
						stays := o.Stays("group:a")
						require.Len(t, stays, i+1)
						require.Equal(t, id, stays[i].SessionID)
						require.Equal(t, n.id, stays[i].Node)
						require.Equal(t, "U"+user[1:], stays[i].Name)
						require.False(t, stays[i].Suspended)
						require.WithinDuration(t, time.Now(), stays[i].Since, time.Second)
						require.Empty(t, o.Stays("group:b"))
						require.Equal(t, []string{"group:a"}, o.RoomsIn(regions.SlotOf("group:a")))
					}
				}
				first, last := m.all()[0], m.all()[size-1]
				id := regions.SessionID{User: "u0", Device: "d", Epoch: first.session("u0").Epoch}
				first.Suspend(id)
				require.NoError(t, first.Settle(t.Context()))
				time.Sleep(50 * time.Millisecond)
				require.True(t, last.Stays("group:a")[0].Suspended)
				require.Equal(t, []string{fmt.Sprintf("suspended %s u0 [group:a]", first.id)}, last.tales("suspended"))

				// It goes on elsewhere.
				o, err := last.Open(t.Context(), regions.Opening{User: "u0", Device: "d", Connection: 77, Floor: id.Epoch + 1000})
				require.NoError(t, err)
				require.Equal(t, regions.Opened{Epoch: id.Epoch + 1001, PreviousNode: first.id, PreviousEpoch: id.Epoch, Rooms: []string{"group:a"}}, o)
				time.Sleep(50 * time.Millisecond)
				require.Equal(t, []string{fmt.Sprintf("fenced %s u0 true", first.id)}, first.tales("fenced"))
				require.Equal(t, wire.CodeSuperseded, code(first.Enter(t.Context(), id, "group:c")))
				first.Close(id, wire.Reason_BYE) // too late, and no harm
				now := regions.SessionID{User: "u0", Device: "d", Epoch: o.Epoch}
				last.Close(now, wire.Reason_SIGNED_OUT)
				require.NoError(t, first.Settle(t.Context()))
				require.NoError(t, last.Settle(t.Context()))
				time.Sleep(50 * time.Millisecond)
				require.Len(t, first.Stays("group:a"), size-1)
				require.Equal(t, []string{fmt.Sprintf("ended %s u0 [group:a] SIGNED_OUT", last.id)}, first.tales("ended"))
				require.Equal(t, []string{"resync"}, first.tales("resync"))
				require.Empty(t, first.tales("wrong"))
			})
		})
	}
}

func code(err error) string {
	e, _ := errs.From(err)
	return string(e.Code)
}

// An open whose answer was lost is made again, and is one session still.
func TestOpensAreIdempotent(t *testing.T) {
	for _, size := range []int{3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, 1, size, nil, func(t *testing.T, m *mesh) {
				type result struct {
					user  string
					epoch regions.Epoch
				}
				results := make(chan result, 1000)
				opened := 0
				for round := range 4 {
					lead := m.leader()
					for i := range 40 {
						at := m.others(lead.id)[i%(size-1)]
						user := fmt.Sprintf("u%d-%d", round, i)
						opened++
						go func() {
							time.Sleep(time.Duration(i) * time.Millisecond)
							results <- result{user, at.open(t, user, uint64(1000*round+i+1)).Epoch}
						}()
					}
					time.Sleep(20 * time.Millisecond)
					switch round {
					case 0:
						m.cut(lead.id, true, false) // it hears, its answers don't arrive
					case 1:
						m.cut(lead.id, true, true)
					case 2:
						require.NoError(t, lead.TransferLeadership(t.Context()))
					case 3:
						m.kill(lead.id)
					}
					for range 40 {
						r := <-results
						for _, n := range m.all() {
							if n != lead {
								m.eventually(func() bool { x := n.session(r.user); return x != nil && x.Epoch == r.epoch }, "a session that is not there")
							}
						}
					}
					m.net.Heal()
					m.leader()
				}
				for _, n := range m.all() {
					require.NoError(t, n.node.Read(t.Context()))
					require.Empty(t, n.tales("fenced"), "two opens of one connection")
					n.View(func(s *roster.State, _ uint64) { require.Equal(t, opened, s.Counts().Live) })
				}
			})
		})
	}
}

// A session of a node that is given up between an open and its answer.
func TestOpenOfASuspendedConnectionResumes(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n := m.follower()
		id := n.open(t, "u", 7)
		n.Suspend(id)
		require.NoError(t, n.Settle(t.Context()))
		again := n.open(t, "u", 7)
		require.Greater(t, again.Epoch, id.Epoch)
		require.NoError(t, n.node.Read(t.Context()))
		require.Equal(t, roster.Live, n.session("u").State)
		n.Close(again, wire.Reason_BYE)
		require.NoError(t, n.Settle(t.Context()))
		_, err := n.Open(t.Context(), regions.Opening{User: "u", Device: "d", Connection: 7})
		require.Equal(t, wire.CodeRetry, code(err))
		_, err = n.Open(t.Context(), regions.Opening{Device: "d", Connection: 8})
		require.Equal(t, wire.CodeBadRequest, code(err))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = n.Open(ctx, regions.Opening{User: "u", Device: "d", Connection: 9})
		require.Equal(t, wire.CodeRetry, code(err))
	})
}

func TestTooManyRooms(t *testing.T) {
	bubble(t, 1, 1, nil, func(t *testing.T, m *mesh) {
		n := m.leader()
		id := n.open(t, "u", 1)
		var rooms []string
		for i := range roster.MaxRooms {
			rooms = append(rooms, fmt.Sprintf("group:%d", i))
		}
		require.NoError(t, n.Enter(t.Context(), id, rooms...))
		require.Equal(t, wire.CodeTooManyRooms, code(n.Enter(t.Context(), id, "group:x")))
		n.Leave(id, rooms[1:]...)
		require.NoError(t, n.Enter(t.Context(), id, rooms[5]))
		require.NoError(t, n.Settle(t.Context()))
		require.NoError(t, n.node.Read(t.Context()))
		require.Equal(t, []string{rooms[0], rooms[5]}, n.session("u").Rooms())
	})
}

// A dead node costs one command: its sessions are suspended, its slots owned by
// others, in about a second and a half.
func TestADeadNodeIsGivenUpOnce(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
				dead := m.leader()
				if who == "follower" {
					dead = m.follower()
				}
				id := dead.open(t, "u", 1)
				require.NoError(t, dead.Enter(t.Context(), id, "group:a"))
				balance(t, m)
				time.Sleep(time.Second)
				rest := m.others(dead.id)
				began := time.Now()
				m.kill(dead.id)
				for _, n := range rest {
					m.eventually(func() bool { return n.slots()[dead.id] == 0 }, "slots of the dead")
				}
				took := time.Since(began)
				t.Log("slots are owned again after", took)
				require.Less(t, took, 2*time.Second)
				time.Sleep(10 * time.Second)
				given := 0
				for _, n := range rest {
					given += n.lines("node is given up")
					require.Equal(t, []string{fmt.Sprintf("node %s down false", dead.id)}, n.tales(fmt.Sprintf("node %s down", dead.id)))
					require.Equal(t, []string{fmt.Sprintf("suspended %s u [group:a]", dead.id)}, n.tales("suspended"))
					require.True(t, n.Stays("group:a")[0].Suspended)
					require.Empty(t, n.tales("lost"))
					require.Empty(t, n.tales("wrong"))
				}
				require.Equal(t, 1, given)

				// Back as a new incarnation.
				again := m.start(dead.id)
				require.NoError(t, again.ready(t))
				time.Sleep(10 * time.Millisecond)
				require.Equal(t, []string{"resync"}, again.tales(""), "history is not told")
				state, _ := again.state(dead.id)
				require.Equal(t, roster.Up, state.State)
				require.Zero(t, again.slots()[dead.id], "it takes nothing by itself")
				m.eventually(again.Current, "not current")
			})
		})
	}
}

// balance moves slots until the plan is empty, as the owners do.
func balance(t *testing.T, m *mesh) {
	t.Helper()
	m.eventually(func() bool {
		done := true
		for _, n := range m.all("r1") {
			for _, mv := range n.Moves(regions.Slots) {
				done = false
				epoch, err := n.Move(t.Context(), mv.Slot, mv.Epoch, mv.To)
				require.NoError(t, err)
				require.Greater(t, epoch, mv.Epoch)
			}
		}
		return done
	}, "never balanced")
}

// A node that can't be heard for a while is given up, and comes back by itself.
func TestGivenUpByMistake(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
				balance(t, m)
				n := m.leader()
				if who == "follower" {
					n = m.follower()
				}
				id := n.open(t, "u", 1)
				m.net.Hold(string(n.id))
				time.Sleep(5 * time.Second)
				require.False(t, n.Current())
				require.NotZero(t, n.slots()[n.id], "it knows nothing")
				m.net.Release(string(n.id))
				for range 1000 { // whatever lay in its sockets
					if n.Current() {
						break
					}
					time.Sleep(time.Millisecond)
				}
				require.True(t, n.Current())
				require.Zero(t, n.slots()[n.id], "current, and believes to own what others do")
				m.eventually(func() bool { s, _ := n.state(n.id); return s.State == roster.Up }, "not back")
				require.NoError(t, n.Err())
				require.Equal(t, []string{"lost"}, n.tales("lost"))
				require.Equal(t, roster.Suspended, n.session("u").State)
				again := n.open(t, "u", 2)
				require.Greater(t, again.Epoch, id.Epoch)
				balance(t, m)
				require.InDelta(t, 341, n.slots()[n.id], 80)
				time.Sleep(5 * time.Second)
				require.Equal(t, []string{"lost"}, n.tales("lost"), "given up again")
			})
		})
	}
}

// Nothing acts on an old copy of the roster for more than 2 s, whatever way
// the cut goes, nor after it was stopped.
func TestCurrentEndsInTime(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		for _, how := range []string{"both", "out", "in", "held"} {
			t.Run(who+" "+how, func(t *testing.T) {
				bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
					n := m.leader()
					if who == "follower" {
						n = m.follower()
					}
					require.True(t, n.Current())
					switch how {
					case "both":
						m.cut(n.id, true, true)
					case "out":
						m.cut(n.id, true, false)
					case "in":
						m.cut(n.id, false, true)
					case "held":
						m.net.Hold(string(n.id))
					}
					began := time.Now()
					m.eventually(func() bool { return !n.Current() }, "still current")
					require.LessOrEqual(t, time.Since(began), 2*time.Second+20*time.Millisecond)
					require.Greater(t, time.Since(began), time.Second, "a blip is no cut")
					time.Sleep(3 * time.Second)
					require.False(t, n.Current())
					require.Greater(t, time.Since(n.Contact()), 4*time.Second)
					for _, o := range m.others(n.id) {
						require.True(t, o.Current())
					}
					m.net.Heal()
					// When it is again, it has seen what it missed.
					m.eventually(n.Current, "not current again")
					s, _ := n.state(n.id)
					require.True(t, s.State == roster.Up || n.slots()[n.id] == 0)
				})
			})
		}
	}
}

// Its edge acts by what the hooks told it, so a node is not current before they
// told what it missed, however long they take.
func TestCurrentAfterTheHooks(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		balance(t, m)
		n := m.follower()
		m.net.Hold(string(n.id))
		time.Sleep(5 * time.Second)
		require.False(t, n.Current())
		n.mu.Lock()
		n.wait = make(chan struct{})
		n.mu.Unlock()
		goOn := sync.OnceFunc(func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			close(n.wait)
			n.wait = nil
		})
		defer goOn()
		m.net.Release(string(n.id))
		m.eventually(func() bool { return n.slots()[n.id] == 0 }, "it never knows what it missed")
		time.Sleep(time.Second) // more than one proof
		require.False(t, n.Current(), "its edge still believes to own slots")
		goOn()
		m.eventually(n.Current, "not current again")
	})
}

// An election is no reason to stop.
func TestCurrentThroughElections(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		for range 3 {
			lead := m.leader()
			rest := m.others(lead.id)
			m.kill(lead.id)
			for range 300 {
				for _, n := range rest {
					require.True(t, n.Current(), "%v since", time.Since(n.Contact()))
				}
				time.Sleep(10 * time.Millisecond)
			}
			require.NoError(t, m.start(lead.id).ready(t))
		}
	})
}

// Suspended sessions end after their grace time on the leader's clock, which a
// new leader restarts.
func TestGrace(t *testing.T) {
	bubble(t, 1, 3, func(c *Config) { c.Keep = time.Minute }, func(t *testing.T, m *mesh) {
		lead := m.leader()
		n := m.follower()
		for _, user := range []string{"a", "b"} {
			id := n.open(t, user, uint64(user[0]))
			require.NoError(t, n.Enter(t.Context(), id, "group:"+user))
		}
		suspend := func(user string) {
			n.Suspend(regions.SessionID{User: user, Device: "d", Epoch: n.session(user).Epoch})
			require.NoError(t, n.Settle(t.Context()))
		}
		suspend("a")
		time.Sleep(29 * time.Second)
		require.NotNil(t, n.session("a"))
		time.Sleep(2 * time.Second)
		require.Nil(t, n.session("a"))
		require.Equal(t, []string{fmt.Sprintf("ended %s a [group:a] TIMED_OUT", n.id)}, n.tales("ended"))

		suspend("b")
		time.Sleep(20 * time.Second)
		m.kill(lead.id)
		time.Sleep(25 * time.Second)
		require.NotNil(t, n.session("b"), "the new leader counts anew")
		time.Sleep(8 * time.Second)
		require.Nil(t, n.session("b"))

		// Devices are forgotten, and then nothing is written.
		time.Sleep(100 * time.Second)
		n.View(func(s *roster.State, _ uint64) { require.Zero(t, s.Counts()) })
		var before, after uint64
		n.View(func(_ *roster.State, index uint64) { before = index })
		time.Sleep(time.Minute)
		n.View(func(_ *roster.State, index uint64) { after = index })
		require.Equal(t, before, after, "an idle region writes")
	})
}

func TestManySessionsEndInTime(t *testing.T) {
	bubble(t, 1, 3, func(c *Config) { c.Grace = 5 * time.Second }, func(t *testing.T, m *mesh) {
		n := m.follower()
		const users = expireMost + 100
		for i := range users {
			go n.open(t, fmt.Sprint("u", i), uint64(i+1))
		}
		m.eventually(func() bool {
			live := 0
			n.View(func(s *roster.State, _ uint64) { live = s.Counts().Live })
			return live == users
		}, "not all open")
		rest := m.others(n.id)
		m.kill(n.id)
		m.eventually(func() bool { return len(rest[0].tales("ended")) == users }, "not all ended")
		require.Len(t, rest[0].tales("suspended"), users)
	})
}
