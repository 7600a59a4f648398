package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

// What sessions do while leaders die, links break and nodes pause is in the
// end what the region has: nothing is lost, nothing out of order.
func TestWishesSurviveEverything(t *testing.T) {
	seeds := uint64(2)
	if n, err := strconv.ParseUint(os.Getenv("MUSTER_RUNS"), 10, 32); err == nil {
		seeds = n
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			size := 3 + 2*int(seed%2)
			bubble(t, 1, size, nil, func(t *testing.T, m *mesh) {
				const sessions = 60
				type model struct {
					id    regions.SessionID
					at    *node
					rooms []string
					state roster.SessionState
				}
				models := make([]*model, sessions)
				// The first node keeps its sessions: it is never given up.
				at := m.all()[0]
				for i := range models {
					models[i] = &model{id: at.open(t, fmt.Sprint("u", i), uint64(i+1)), at: at, state: roster.Live}
				}
				over := make(chan struct{})
				var faults, work sync.WaitGroup
				faults.Go(func() {
					r := rand.New(rand.NewPCG(seed, 1))
					for {
						n := m.others(at.id)[r.IntN(size-1)]
						most := 2500
						switch r.IntN(5) {
						case 0:
							m.net.Hold(string(n.id))
						case 1:
							m.cut(n.id, true, false)
						case 2:
							m.cut(n.id, true, true)
						case 3: // the answers are lost; for longer, and at is given up
							m.net.Cut(string(n.id), string(at.id))
							most = 400
						case 4:
							_ = n.TransferLeadership(t.Context())
						}
						select {
						case <-time.After(time.Duration(300+r.IntN(most)) * time.Millisecond):
						case <-over:
							return
						}
						m.net.Heal()
						select {
						case <-time.After(time.Duration(r.IntN(1500)) * time.Millisecond):
						case <-over:
							return
						}
					}
				})
				for i, x := range models {
					work.Go(func() {
						r := rand.New(rand.NewPCG(seed, uint64(100+i)))
						for range 25 {
							time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
							rooms := make([]string, 1+r.IntN(3))
							for j := range rooms {
								rooms[j] = fmt.Sprint("group:", r.IntN(6))
							}
							if r.IntN(2) == 0 {
								// Until it is answered: whoever gives up can't know.
								for x.at.Enter(t.Context(), x.id, rooms...) != nil {
									time.Sleep(50 * time.Millisecond)
								}
								x.rooms = append(x.rooms, rooms...)
							} else {
								x.at.Leave(x.id, rooms...)
								x.rooms = slices.DeleteFunc(x.rooms, func(room string) bool { return slices.Contains(rooms, room) })
							}
						}
						switch r.IntN(4) {
						case 0:
							x.at.Suspend(x.id)
							x.state = roster.Suspended
						case 1:
							x.at.Suspend(x.id)
							x.at.Close(x.id, wire.Reason_BYE)
							x.at.Leave(x.id, "group:1")
							x.state = roster.Gone
						case 2:
							x.at.Close(x.id, wire.Reason_SIGNED_OUT)
							x.state = roster.Gone
						}
					})
				}
				work.Wait()
				close(over)
				faults.Wait()
				m.net.Heal()
				require.NoError(t, at.Settle(t.Context()))
				require.Empty(t, at.tales("lost"))
				for _, n := range m.all() {
					m.eventually(func() bool { return n.node.Read(t.Context()) == nil }, "no contact")
					for _, x := range models {
						got := n.session(x.id.User)
						if x.state == roster.Gone {
							require.Nil(t, got, "%s", x.id.User)
							continue
						}
						slices.Sort(x.rooms)
						x.rooms = slices.Compact(x.rooms)
						require.NotNil(t, got, "%s", x.id.User)
						require.Equal(t, x.state, got.State, x.id.User)
						require.ElementsMatch(t, x.rooms, got.Rooms(), x.id.User)
					}
				}
			})
		})
	}
}

// Without a leader, wishes wait; what they take is bounded by sessions.
func TestWishesWaitForALeader(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n := m.leader()
		id := n.open(t, "u", 1)
		require.NoError(t, n.Enter(t.Context(), id, "group:a", "group:b"))
		m.cut(n.id, true, true)
		for range 1000 {
			n.Leave(id, "group:a")
			n.Suspend(id)
		}
		time.Sleep(700 * time.Millisecond) // of the second until it is given up
		n.wishes.mu.Lock()
		wishes, rooms := len(n.wishes.of), 0
		if w := n.wishes.of[id]; w != nil {
			rooms = len(w.leave) + len(w.sent)
		}
		n.wishes.mu.Unlock()
		require.Equal(t, 1, wishes)
		require.Equal(t, 1, rooms)
		m.net.Heal()
		require.NoError(t, n.Settle(t.Context()))
		require.NoError(t, n.node.Read(t.Context()))
		require.Equal(t, []string{"group:b"}, n.session("u").Rooms())
		require.Equal(t, roster.Suspended, n.session("u").State)
		require.Empty(t, n.wishes.of)
	})
}

// The queue to the hooks is bounded: who is too slow reads everything again.
func TestEventsOverflow(t *testing.T) {
	e := &events{wake: make(chan struct{}, 1)}
	e.push(roster.SessionEnded{})
	e.begin()
	queue, missed, lost := e.take()
	require.Equal(t, []any{resync{}}, queue)
	require.False(t, missed || lost)
	e.push(nodeLost{})
	many := make([]any, maxEvents)
	e.push(many...)
	e.push(roster.SessionEnded{User: "after"})
	queue, missed, lost = e.take()
	require.True(t, missed && lost)
	require.Equal(t, []any{roster.SessionEnded{User: "after"}}, queue)
}
