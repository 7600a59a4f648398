package host

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// marks are the newest frames that everybody has of everybody.
func marks(all []*client) map[string]uint32 {
	m := map[string]uint32{}
	for _, x := range all {
		for _, y := range all {
			m[x.who.User+y.who.User] = x.last(y.who.User)
		}
	}
	return m
}

// gaps checks what nobody heard since then.
func gaps(t *testing.T, all []*client, since map[string]uint32, most time.Duration) {
	t.Helper()
	for _, x := range all {
		for _, y := range all {
			if x != y {
				gap := x.gap(y.who.User, since[x.who.User+y.who.User])
				t.Logf("%s of %s: a gap of %v", x.who.User, y.who.User, gap)
				require.Less(t, gap, most)
			}
		}
	}
}

// Three regions, two participants each: everybody hears everybody, and each track crosses
// each link between regions once.
func TestThreeRegions(t *testing.T) {
	w := newWorld(t, "eu1", "eu2", "us1", "ap1")
	w.delay = 20 * time.Millisecond
	var all []*client
	for i, at := range []string{"eu1", "eu2", "us1", "us1", "ap1", "ap1"} {
		all = append(all, w.enter(fmt.Sprint("p", i), at))
	}
	w.hears(all...)
	for _, x := range all {
		require.Len(t, x.people(), 6)
		x.get(func() { require.Empty(t, x.gone) })
	}
	// Frames that crossed in a while, beside what was sent: two tracks each way.
	before := w.crossed()
	from := all[0].number()
	time.Sleep(time.Second)
	frames := int(all[0].number() - from)
	const size = 13 + 12 + 12 + 60 // payload, RTP, cascade, extensions and room for tails
	for link, n := range w.crossed() {
		n -= before[link]
		t.Logf("%v: %d bytes for %d frames of each of 2 tracks", link, n, frames)
		require.Less(t, n, 2*frames*size*3/2, "each track crosses once")
		require.Greater(t, n, frames*13, "tracks cross")
	}
	// On the way between regions nothing is added but the link.
	x := all[0].heardOf("p2")
	t.Logf("the longest way from us to eu, of %v on the link: %v", w.delay, x.late)
}

func (w *world) crossed() map[[2]regions.NodeID]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := map[[2]regions.NodeID]int{}
	for link, of := range w.sent {
		m[link] = of[0]
	}
	return m
}

func (c *client) number() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *client) heardOf(user string) ear2 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.heard[c.micOf(user)]
}

// What is lost between regions is repaired.
func TestLossBetweenRegionsIsRepaired(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	w.delay, w.loss = 20*time.Millisecond, 0.05
	a, b := w.enter("a", "eu1"), w.enter("b", "us1")
	w.hears(a, b)
	since := marks([]*client{a, b})
	w.eventually("300 frames", func() bool { return a.last("b") > since["ab"]+300 && b.last("a") > since["ba"]+300 })
	for _, x := range []*client{a, b} {
		user := map[string]string{"a": "b", "b": "a"}[x.who.User]
		missing := 0
		e, from := x.heardOf(user), since[x.who.User+user]
		x.get(func() {
			for n := from; n < from+280; n++ {
				if e.numbers[n] == 0 {
					missing++
				}
			}
		})
		t.Logf("%s lacks %d of 280 frames at 5 %% loss", x.who.User, missing)
		require.LessOrEqual(t, missing, 3)
	}
}

// A node of one of two regions drains: neither those who are there nor those of the other
// region hear it.
func TestADrainIsNotHeardElsewhere(t *testing.T) {
	w := newWorld(t, "eu1", "eu2", "us1")
	w.delay = 20 * time.Millisecond
	all := []*client{w.enter("a", "eu1"), w.enter("b", "eu2"), w.enter("c", "us1")}
	w.hears(all...)
	since := marks(all)
	from, _ := w.move("eu", true)
	w.eventually("the node is empty", func() bool { return from.Calls() == 0 })
	w.hears(all...)
	gaps(t, all, since, 300*time.Millisecond)
	for _, x := range all {
		x.get(func() { require.Empty(t, x.gone) })
	}
}

// A whole region is lost: those of the others go on, and hear so.
func TestARegionIsLost(t *testing.T) {
	w := newWorld(t, "eu1", "us1", "ap1")
	all := []*client{w.enter("a", "eu1"), w.enter("b", "us1"), w.enter("c", "ap1")}
	w.hears(all...)
	since := marks(all)
	w.kill(w.node("ap1"))
	two := all[:2]
	w.eventually("c is gone", func() bool { return len(all[0].people()) == 2 && len(all[1].people()) == 2 })
	w.hears(two...)
	gaps(t, two, since, 300*time.Millisecond)
	for _, x := range two {
		x.get(func() { require.Equal(t, []string{"c region_lost"}, x.gone) })
	}
}

// A region is cut off and comes back: nobody is given up.
func TestACutHeals(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	a, b := w.enter("a", "eu1"), w.enter("b", "us1")
	w.hears(a, b)
	w.mu.Lock()
	w.cut["us"] = true
	w.mu.Unlock()
	time.Sleep(time.Second)
	w.mu.Lock()
	clear(w.cut)
	w.mu.Unlock()
	w.hears(a, b)
	for _, x := range []*client{a, b} {
		x.get(func() { require.Empty(t, x.gone) })
	}
}

// Two talk without a server until a third one comes; then all are at the SFU, without
// joining again.
func TestAThirdOneMovesTwoToTheSFU(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	able := func(c *client) { c.p2p = true }
	a, b := w.enter("a", "eu1", able), w.enter("b", "us1", able)
	w.eventually("they talk directly", func() bool {
		direct := 0
		for _, x := range []*client{a, b} {
			x.get(func() {
				if x.direct && len(x.state) == 2 {
					direct++
				}
			})
		}
		return direct == 2
	})
	_, err := a.ask(&wire.CallRequest{Body: &wire.CallRequest_Signal{Signal: &wire.CallSignal{User: "b", Device: "d", Data: `{"description":{}}`}}})
	require.NoError(t, err)
	w.eventually("signals are passed on", func() (ok bool) {
		b.get(func() { ok = len(b.signal) == 1 && b.signal[0] == `a {"description":{}}` })
		return ok
	})
	c := w.enter("c", "us1", able)
	w.hears(a, b, c)
	for _, x := range []*client{a, b, c} {
		x.get(func() { require.Empty(t, x.gone); require.Equal(t, 1, x.joins); require.False(t, x.direct) })
	}
	_, err = c.ask(leave())
	require.NoError(t, err)
	w.eventually("c is gone", func() bool { return len(a.people()) == 2 })
	w.hears(a, b)
	a.get(func() { require.False(t, a.direct, "no flapping") })
}

// A device comes back under a higher epoch, at another node: nobody sees it go, it keeps
// what it has, and what the lower epoch says is refused.
func TestAReconnectIsNotSeen(t *testing.T) {
	w := newWorld(t, "eu1", "eu2", "us1")
	a, b := w.enter("a", "eu1"), w.enter("b", "us1")
	w.hears(a, b)
	old := a.who
	since := marks([]*client{a, b})
	came := 0
	b.get(func() { came = len(b.came) })
	a.edge.Suspend(old.ID())
	w.mu.Lock()
	w.epoch++
	a.who.Epoch, a.who.Node = w.epoch, "eu2"
	delete(w.nodes["eu1"].clients, old.ID())
	a.edge = w.nodes["eu2"]
	w.mu.Unlock()
	a.attach()
	a.edge.Resume(a.who)
	w.eventually("it is told all", func() (ok bool) { a.get(func() { ok = a.joins == 2 }); return ok })
	w.eventually("others see the new epoch", func() (ok bool) {
		b.get(func() { ok = b.state["a"].GetEpoch() == uint64(a.who.Epoch) && !b.state["a"].GetSuspended() })
		return ok
	})
	w.hears(a, b)
	gaps(t, []*client{a, b}, since, 300*time.Millisecond)
	b.get(func() { require.Empty(t, b.gone); require.Len(t, b.came, came) })
	w.node("eu1").Gone(old.ID(), "timed_out") // it was late
	_, err := w.node("eu1").Host.Ask(t.Context(), old, theRoom, &wire.CallRequest{Call: theCall, Body: &wire.CallRequest_Join{Join: &wire.CallJoin{}}})
	require.ErrorIs(t, err, media.ErrSuperseded)
	w.hears(a, b)
	require.Equal(t, []string{"a", "b"}, b.people())
}

// Somebody who moderates mutes, puts out and locks, wherever the others are.
func TestModeration(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	a, b, c := w.enter("a", "eu1", func(c *client) { c.who.Role = "admin" }), w.enter("b", "us1"), w.enter("c", "us1")
	w.hears(a, b, c)
	moderate := func(x *client, m *wire.CallModerate) error {
		_, err := x.ask(&wire.CallRequest{Body: &wire.CallRequest_Moderate{Moderate: m}})
		return err
	}
	require.ErrorIs(t, moderate(b, &wire.CallModerate{What: &wire.CallModerate_Kick{Kick: &wire.CallWho{User: "a"}}}), media.ErrForbidden)
	require.NoError(t, moderate(a, &wire.CallModerate{What: &wire.CallModerate_Mute{Mute: &wire.CallWho{User: "b"}}}))
	w.eventually("b is muted", func() (ok bool) { c.get(func() { ok = c.state["b"].GetMicMuted() }); return ok })
	time.Sleep(200 * time.Millisecond)
	n := a.count("b")
	w.hears(a, c)
	require.LessOrEqual(t, a.count("b"), n+2, "what b sends goes nowhere")
	require.NoError(t, moderate(a, &wire.CallModerate{What: &wire.CallModerate_Lock{Lock: true}}))
	require.NoError(t, moderate(a, &wire.CallModerate{What: &wire.CallModerate_Kick{Kick: &wire.CallWho{User: "b"}}}))
	w.eventually("b is out", func() (ok bool) { b.get(func() { ok = b.over == "kicked" }); return ok && len(a.people()) == 2 })
	a.get(func() { require.Equal(t, []string{"b kicked"}, a.gone) })
	w.eventually("it is locked", func() bool {
		_, err := b.ask(&wire.CallRequest{Body: &wire.CallRequest_Join{Join: &wire.CallJoin{Fresh: true}}})
		e, _ := errs.From(err)
		return e.Code == media.ErrCallLocked.Code
	})
	w.node("us1").Left(c.who.ID(), theRoom, "removed")
	w.eventually("c is out of the group and the call", func() (ok bool) { c.get(func() { ok = c.over == "removed" }); return ok && len(a.people()) == 1 })
	require.NoError(t, moderate(a, &wire.CallModerate{What: &wire.CallModerate_End{End: true}}))
	w.eventually("it is over", func() (ok bool) { a.get(func() { ok = a.over == "ended" }); return ok })
	w.eventually("nothing is left of it", func() bool { return w.node("eu1").Calls() == 0 && w.node("us1").Calls() == 0 })
}

// A call in which nobody is any more is told to be idle, and leaves nothing.
func TestAnEmptyCallIsIdle(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	a, b := w.enter("a", "eu1"), w.enter("b", "us1")
	w.hears(a, b)
	for _, x := range []*client{a, b} {
		_, err := x.ask(leave())
		require.NoError(t, err)
	}
	w.eventually("nothing is left of it", func() bool { return w.node("eu1").Calls() == 0 && w.node("us1").Calls() == 0 && w.idle.Load() > 0 })
	for _, id := range w.order {
		h := w.node(id).Host
		h.mu.Lock()
		require.Empty(t, h.at)
		require.Empty(t, h.remotes)
		require.Empty(t, h.outlets)
		require.Empty(t, h.seats)
		h.mu.Unlock()
		require.Zero(t, w.node(id).sfu.Stats().Peers)
	}
}

// Push to talk: only who has the floor is heard, one at a time, and the next one in the
// queue when it is given back.
func TestPushToTalk(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	w.record.PushToTalk = true
	a, b := w.enter("a", "eu1"), w.enter("b", "us1")
	w.eventually("they see each other", func() bool { return len(a.people()) == 2 && len(b.people()) == 2 })
	floor := func(x *client, hold bool) *wire.CallFloor {
		f, err := x.ask(&wire.CallRequest{Body: &wire.CallRequest_Floor{Floor: &wire.CallFloorAsk{Hold: hold}}})
		require.NoError(t, err)
		return f.GetCallFloor()
	}
	require.True(t, floor(a, true).GetMine())
	w.eventually("a is heard", func() bool { return b.count("a") > 150 }) // longer than a lease
	require.Zero(t, a.count("b"))
	f := floor(b, true)
	require.False(t, f.GetMine())
	require.Equal(t, "a", f.GetHolder().GetUser())
	require.EqualValues(t, 1, f.GetPosition())
	require.Zero(t, a.count("b"))
	floor(a, false)
	w.eventually("it is b's turn", func() (ok bool) { b.get(func() { ok = b.floor.GetMine() }); return ok })
	w.eventually("b is heard", func() bool { return a.count("b") > 50 })
	w.eventually("a sees who talks", func() (ok bool) { a.get(func() { ok = a.floor.GetHolder().GetUser() == "b" }); return ok })
	n := b.count("a")
	time.Sleep(200 * time.Millisecond)
	require.LessOrEqual(t, b.count("a"), n+2, "a is heard no more")

	w.mu.Lock()
	w.cut["eu"] = true // the call's home; b is the holder elsewhere
	w.mu.Unlock()
	w.eventually("b can't go on", func() (ok bool) { b.get(func() { ok = !b.floor.GetMine() && b.floor.GetUnavailable() }); return ok })
}

// Who is far away is not heard, and who is near is heard from where they are.
func TestVoicesFollowTheMap(t *testing.T) {
	w := newWorld(t, "eu1", "us1")
	w.record.Hearing = media.Hearing{Nearness: 1, Radius: 1000}
	here := geo.Point{Lat: 46.05, Lng: 14.5}
	w.where["a"], w.where["b"], w.where["c"] = here, geo.Destination(here, 90, 100), geo.Destination(here, 0, 50_000)
	a, b, c := w.enter("a", "eu1"), w.enter("b", "us1"), w.enter("c", "us1")
	w.hears(a, b)
	w.eventually("b is to the right", func() (ok bool) {
		a.get(func() {
			s := a.sounds[a.micOf("b")]
			ok = s != nil && s.Pan > 0.3 && a.sounds[a.micOf("c")] == nil
		})
		return ok
	})
	n := a.count("c")
	w.hears(a, b)
	require.LessOrEqual(t, a.count("c"), n+2)
	require.Len(t, c.people(), 3)
	w.mu.Lock()
	w.where["c"] = here
	w.mu.Unlock()
	w.hears(a, b, c)
}
