package client

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// world is a region as a client sees it: nodes that share one room and know
// which of a device's connections is the session's. Everything takes a random
// time, nodes come and go, connections break and are asked to leave.
type world struct {
	*memory
	names []string

	mu    sync.Mutex
	rng   *rand.Rand
	live  *fakeConn
	ready bool // the room is back on the live connection
	log   []*wire.Event
	slot  uint64 // epoch of the room's owner
	sent  map[string]*wire.Message
	holes *wan // nil: nothing is ever held up
}

func newWorld(t *testing.T, seed uint64, holes bool) *world {
	names := []string{"a", "b", "c", "d"}
	w := &world{
		memory: newMemory(t, names...), names: names, rng: rand.New(rand.NewPCG(seed, 7)), slot: 5,
		sent: map[string]*wire.Message{},
	}
	if holes {
		w.holes = &wan{memory: w.memory, rtt: distances, held: map[string]way{}}
		w.via = w.holes.dial
		for name, f := range w.nodes {
			f.ep.Region = map[string]string{"a": "eu", "b": "eu", "c": "us", "d": "us"}[name]
		}
	}
	for _, f := range w.nodes {
		f.greet(func(c *fakeConn, cf *wire.ClientFrame) bool { return w.hello(f, c, cf.GetHello()) })
		f.handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) { w.request(c, cf) })
	}
	return w
}

func (w *world) n(n int) int { // called with the lock
	return w.rng.IntN(n)
}

// after does something a random time later.
func (w *world) after(most time.Duration, do func()) {
	time.AfterFunc(time.Duration(w.rng.Int64N(int64(most))), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	})
}

func (w *world) hello(f *fake, c *fakeConn, h *wire.Hello) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case h.GetTicket() != nil && w.n(10) == 0:
		c.closeWith(wire.CodeBadTicket, 0, 0)
		return true
	case w.n(10) == 0:
		c.closeWith(wire.CodeDraining, 0, time.Second)
		return true
	}
	for f.epoch.Load() < h.GetEpoch() {
		f.epoch.Store(h.GetEpoch())
	}
	old := w.live
	w.live, w.ready = c, false
	won := f.epoch.Load() + 1
	if old != nil {
		w.after(100*time.Millisecond, func() { old.closeWith(wire.CodeSuperseded, won, 0) })
	}
	w.after(100*time.Millisecond, func() {
		if w.live != c {
			return
		}
		f.welcome(c, c.re)
		w.after(100*time.Millisecond, func() {
			for _, follow := range h.GetFollows() {
				require.Len(w.t, follow.GetPositions(), 1)
				w.back(c, follow.GetPositions()[0])
			}
		})
	})
	return true
}

// back continues the room for a client from its position.
func (w *world) back(c *fakeConn, at *wire.Position) {
	if w.live != c {
		return
	}
	w.ready = true
	i := int(at.GetSeq())
	require.LessOrEqual(w.t, i, len(w.log))
	require.True(w.t, i == 0 || w.log[i-1].GetAt().GetEpoch() == at.GetEpoch(), "an owner knows its own numbers")
	frames := []*wire.ServerFrame{resumed()}
	for _, e := range w.log[i:] {
		frames = append(frames, &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: e}})
	}
	c.send(frames...)
}

func (w *world) request(c *fakeConn, cf *wire.ClientFrame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	refuse := func(code string) {
		c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: code, Room: room, RetryAfterMs: 20}}})
	}
	if c != w.live {
		refuse(wire.CodeSuperseded)
		return
	}
	switch b := cf.GetBody().(type) {
	case *wire.ClientFrame_Join:
		if len(b.Join.GetPositions()) > 0 {
			w.back(c, b.Join.GetPositions()[0])
			return
		}
		w.ready = true
		at := &wire.Position{Region: "eu-west", Epoch: w.slot, Seq: uint64(len(w.log))}
		c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{
			Room: room, Recovered: true, LastNumber: uint64(len(w.sent)), Parts: []*wire.Part{{At: at}},
		}}})
	case *wire.ClientFrame_Send:
		if !w.ready {
			refuse(wire.CodeNotJoined)
			return
		}
		m := w.sent[b.Send.GetClientId()]
		if m == nil {
			m = stored(uint64(len(w.sent) + 1))
			m.ClientId = b.Send.GetClientId()
			w.sent[m.ClientId] = m
			w.say(&wire.Event{Body: &wire.Event_Message{Message: m}})
		}
		if w.n(20) == 0 { // stored, and the answer is lost
			c.closing(0)
			return
		}
		w.after(50*time.Millisecond, func() {
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: m}}})
		})
	}
}

// say numbers an event of the room and tells the client.
func (w *world) say(e *wire.Event) {
	e.Room = room
	e.At = &wire.Position{Region: "eu-west", Epoch: w.slot, Seq: uint64(len(w.log) + 1)}
	w.log = append(w.log, e)
	if w.ready {
		w.live.send(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: e}})
	}
}

// fault does something bad.
func (w *world) fault() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holes != nil && w.n(2) == 0 {
		what, ways := []string{"a", "b", "c", "d", "eu", "us"}[w.n(6)], way(1+w.n(3))
		w.holes.hold(what, ways)
		w.after(15*time.Second, func() { w.holes.hold(what, 0) })
		return
	}
	switch k := w.n(10); {
	case k < 4:
		var targets []string
		for range w.n(3) {
			targets = append(targets, w.names[w.n(len(w.names))])
		}
		c, deadline := w.live, time.Duration(w.n(5))*time.Second+time.Second
		w.goaway(c, deadline, targets...)
		time.AfterFunc(deadline, func() { c.closeWith(wire.CodeDraining, 0, 100*time.Millisecond) })
	case k < 6:
		w.live.closing(0)
	case k < 7:
		w.live.closeWith(wire.CodeSlow, 0, 0)
	case k < 8:
		prior := w.slot
		w.slot += uint64(w.n(3)) + 1
		w.say(&wire.Event{PriorEpoch: prior, Body: &wire.Event_Continued{Continued: &wire.Continued{}}})
	default:
		// One node at least stays.
		w.set(w.names[1+w.n(len(w.names)-1)], []reach{up, up, down, silent}[w.n(4)])
	}
}

// Whatever happens to nodes and connections, a message is stored once, answered
// once and given out once, in order, and no event is missed without a word.
func TestWorld(t *testing.T) { play(t, false) }

// The same when nodes and regions become black holes for a while, in one
// direction or both: what was said comes late then, hellos included.
func TestWorldWithHoles(t *testing.T) { play(t, true) }

func play(t *testing.T, holes bool) {
	var moves, seamless int
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, holes)
				s, told := w.connect(w.names...)
				r, err := s.Join(t.Context(), room)
				require.NoError(t, err)

				const messages = 100
				answered := make([]uint64, messages)
				var senders sync.WaitGroup
				for i := range messages {
					senders.Go(func() {
						time.Sleep(time.Duration(i) * 400 * time.Millisecond)
						m, err := r.Send(t.Context(), fmt.Sprint(i))
						if err != nil {
							t.Errorf("message %d: %v", i, err)
						}
						answered[i] = m.Number
					})
				}
				pace := rand.New(rand.NewPCG(seed, 9))
				for range 40 {
					time.Sleep(time.Duration(pace.Int64N(int64(2 * time.Second))))
					w.fault()
				}
				for _, n := range w.names {
					w.set(n, up)
				}
				senders.Wait()
				time.Sleep(time.Minute)

				require.Equal(t, Live, s.Status().Phase, "%v", s.Status().Err)
				want := make([]uint64, messages)
				for i := range want {
					want[i] = uint64(i + 1)
				}
				require.Equal(t, want, numbers(r), "given out once, in order")
				slices.Sort(answered)
				require.Equal(t, want, answered, "each has a number of its own")
				require.Len(t, w.sent, messages)
				require.Zero(t, r.Counters().Gaps)
				w.mu.Lock()
				end := w.log[len(w.log)-1].GetAt()
				w.mu.Unlock()
				s.mu.Lock()
				at := r.state.Positions()[0]
				s.mu.Unlock()
				require.Equal(t, end.GetSeq(), at.GetSeq())
				require.Equal(t, end.GetEpoch(), at.GetEpoch())
				for _, m := range told.told() {
					moves++
					if (m.Reason == MoveAsked || m.Reason == MoveSilent) && m.Gap < 100*time.Millisecond {
						seamless++
					}
				}
			})
		})
	}
	t.Logf("%d changes of connection, %d of them asked for and without a gap", moves, seamless)
	require.Greater(t, seamless, 50)
}
