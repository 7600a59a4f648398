package host

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// A mute by somebody who moderates, and a kick, outlive the node that carried them out:
// also for somebody without a connection at the time.
func TestAMoveUndoesNoModeration(t *testing.T) {
	w := newWorld(t, "eu1", "eu2")
	a, b, c := w.enter("a", "eu2", func(c *client) { c.who.Role = "admin" }), w.enter("b", "eu2"), w.enter("c", "eu2")
	w.hears(a, b, c)
	moderate := func(m *wire.CallModerate) {
		_, err := a.ask(&wire.CallRequest{Body: &wire.CallRequest_Moderate{Moderate: m}})
		require.NoError(t, err)
	}
	w.node("eu2").Suspend(c.who.ID())
	w.eventually("c's connection is gone", func() (ok bool) { a.get(func() { ok = a.state["c"].GetSuspended() }); return ok })
	moderate(&wire.CallModerate{What: &wire.CallModerate_Mute{Mute: &wire.CallWho{User: "b"}}})
	moderate(&wire.CallModerate{What: &wire.CallModerate_Lock{Lock: true}})
	moderate(&wire.CallModerate{What: &wire.CallModerate_Kick{Kick: &wire.CallWho{User: "c"}}})
	w.eventually("b is muted and c is out", func() (ok bool) {
		a.get(func() { ok = a.state["b"].GetMicMuted() && a.state["c"] == nil })
		return ok
	})
	w.move("eu", true)
	w.eventually("it is at the other node", func() bool { return w.node("eu1").Calls() == 0 })
	w.eventually("and so are a and b", func() (ok bool) { a.get(func() { ok = a.joins == 2 }); return ok })
	a.get(func() {
		require.True(t, a.state["b"].GetMicMuted())
		require.Nil(t, a.state["c"])
	})
	n := a.count("b")
	from := b.count("a")
	w.eventually("b hears a", func() bool { return b.count("a") > from+20 })
	require.LessOrEqual(t, a.count("b"), n+2, "what b sends goes nowhere")
	require.Equal(t, []string{"a", "b"}, a.people())
}

// What is given back of the floor is given back when nothing is forwarded any more, not
// before: else the next one's first words meet the last ones.
func TestAGateIsClosedBeforeTheFloorIsGivenBack(t *testing.T) {
	w := newWorld(t, "eu1")
	w.record.PushToTalk = true
	n := w.node("eu1")
	slow := &slowGates{SFU: n.sfu, released: make(chan struct{}), early: make(chan bool, 100)}
	n.Host.cfg.SFU = slow
	n.Host.cfg.Floor = releases{floorAt{n}, slow}
	a := w.enter("a", "eu1")
	ask := func(hold bool) {
		_, err := a.ask(&wire.CallRequest{Body: &wire.CallRequest_Floor{Floor: &wire.CallFloorAsk{Hold: hold}}})
		require.NoError(t, err)
	}
	w.eventually("its microphone is there", slow.published)
	ask(true)
	slow.watch.Store(true)
	ask(false)
	require.False(t, <-slow.early, "it was given back while packets passed")
}

// slowGates is an SFU whose gates take a moment to close.
type slowGates struct {
	media.SFU
	released chan struct{} // closed with the floor's release
	early    chan bool     // whether that was before a gate was closed
	watch    atomic.Bool
	once     sync.Once
	mu       sync.Mutex
	sources  int
}

func (s *slowGates) published() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources > 0
}

func (s *slowGates) Join(c media.PeerConfig) (media.Peer, error) {
	c.Events = slowEvents{c.Events, s}
	return s.SFU.Join(c)
}

type slowEvents struct {
	media.PeerEvents
	s *slowGates
}

func (e slowEvents) Published(s media.Source) {
	e.PeerEvents.Published(slowSource{s, e.s})
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.s.sources++
}

type slowSource struct {
	media.Source
	s *slowGates
}

func (x slowSource) Gate(until time.Time) {
	if x.s.watch.Load() && until.Equal(shut) {
		select {
		case <-x.s.released:
			x.s.early <- true
		case <-time.After(200 * time.Millisecond):
			x.s.early <- false
		}
	}
	x.Source.Gate(until)
}

type releases struct {
	floorAt
	s *slowGates
}

func (r releases) Release(ctx context.Context, home regions.RegionID, f regions.FloorRelease) (regions.FloorAnswer, error) {
	r.s.once.Do(func() { close(r.s.released) })
	return r.floorAt.Release(ctx, home, f)
}
