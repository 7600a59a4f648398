package roster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// prove is how many worlds are played: MUSTER_PROVE_FLOOR, or a twentieth of
// what make prove-floor says.
func prove(t *testing.T) int {
	if s := os.Getenv("MUSTER_PROVE_FLOOR"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	return 200
}

// TestCallPlaces plays random commands and compares each step with what a naive
// reading of the rules says: who may move, where to, and that no epoch of a call
// ever goes back, not even after the region forgot it.
func TestCallPlaces(t *testing.T) {
	totals := map[string]int{}
	worlds := prove(t) / 5
	for seed := range worlds {
		w := &callWorld{t: t, r: rand.New(rand.NewPCG(uint64(seed), 9)), m: NewMachine("eu"), stamp: regions.Stamp{Term: 1, ClockMs: 1000},
			last: map[regions.CallID]regions.Epoch{}, heard: map[regions.CallID]moment{}, totals: totals}
		w.m.OnEffects = func(_ uint64, e []Effect) { w.effects = e }
		for range 300 {
			w.step()
		}
		checkCalls(t, w.m.state)
		again, _, err := restore(bytesOf(t, w.m.state), "eu")
		require.NoError(t, err)
		require.Equal(t, image(t, w.m.state), image(t, again))
		checkCalls(t, again)
	}
	t.Logf("%d worlds of 300 commands: %v", worlds, totals)
	for _, what := range []string{"placed", "no media", "moved off a dead node", "moved off a draining node", "ended with its node", "lapsed", "gone", "left"} {
		require.NotZero(t, totals[what], what)
	}
}

type callWorld struct {
	t       *testing.T
	r       *rand.Rand
	m       *Machine
	stamp   regions.Stamp
	began   uint64 // of the term
	index   uint64
	effects []Effect
	last    map[regions.CallID]regions.Epoch // ever
	heard   map[regions.CallID]moment
	totals  map[string]int
}

func (w *callWorld) command() *peer.RosterCommand {
	node := fmt.Sprintf("n%d", 1+w.r.IntN(4))
	n, _ := w.m.state.Node(regions.NodeID(node))
	call := fmt.Sprintf("c%d", w.r.IntN(12))
	var of Call
	if c, ok := w.m.state.Call(regions.CallID(call)); ok {
		of = *c
	}
	switch k := w.r.IntN(40); {
	case k < 3 || (n.Incarnation == 0 && k < 20):
		start := max(n.Incarnation+w.r.Uint64N(2), 1)
		return command(&peer.NodeUp{Node: node, Incarnation: start, Capacity: 1, Media: w.r.Uint32N(4)})
	case k < 5:
		return command(&peer.NodeDown{Node: node, Incarnation: n.Incarnation})
	case k < 6:
		return command(&peer.NodeDrain{Node: node, Incarnation: n.Incarnation})
	case k < 7:
		return command(&peer.NodeRemove{Node: node})
	case k < 24:
		return command(&peer.CallPlace{Call: call, Room: "group:" + call})
	case k < 30:
		return command(&peer.CallKeep{Node: string(of.Place.Node), Incarnation: of.Place.Incarnation, Calls: []*peer.CallKept{
			{Call: call, Epoch: uint64(of.Place.Epoch) - w.r.Uint64N(2)}}})
	case k < 33:
		return command(&peer.CallGone{Call: call, Node: string(of.Place.Node), Epoch: uint64(of.Place.Epoch) - w.r.Uint64N(2)})
	case k < 36:
		return command(&peer.CallLeft{Call: call, Node: string(of.Former.Node), Epoch: uint64(of.Former.Epoch)})
	default:
		return command(&peer.CallExpire{KeepMs: 60_000, Max: 1 + w.r.Uint32N(3)})
	}
}

func (w *callWorld) since(m moment) uint64 {
	if m.term == w.stamp.Term {
		return w.stamp.UptimeMs - m.at
	}
	return w.stamp.UptimeMs - w.began
}

func (w *callWorld) step() {
	t, s := w.t, w.m.state
	if w.r.IntN(40) == 0 {
		w.stamp.Term++
		w.stamp.UptimeMs = w.r.Uint64N(1 << 40)
		w.stamp.ClockMs -= min(w.stamp.ClockMs, w.r.Uint64N(20_000))
		w.began = w.stamp.UptimeMs
	} else {
		d := w.r.Uint64N(8000)
		w.stamp.UptimeMs += d
		w.stamp.ClockMs += d
	}
	before, nodes, hosted := maps.Clone(s.calls), maps.Clone(s.nodes), maps.Clone(s.hosted)
	c := w.command()
	w.index++
	w.effects = nil
	a := apply(t, w.m, w.index, seal(t, w.stamp, c))[0]
	if w.r.IntN(4) == 0 {
		checkCalls(t, s)
	}
	moves := map[regions.CallID]CallMoved{}
	for _, e := range w.effects {
		if m, ok := e.(CallMoved); ok {
			require.NotContains(t, moves, m.Call)
			moves[m.Call] = m
		}
	}
	now := moment{w.stamp.Term, w.stamp.UptimeMs}
	for _, call := range slices.Sorted(maps.Keys(before)) {
		was, is := before[call], s.calls[call]
		m, told := moves[call]
		dead := s.nodes[was.Place.Node].Incarnation != was.Place.Incarnation || s.nodes[was.Place.Node].State == Down
		media := slices.ContainsFunc(s.Nodes(), func(n Node) bool { return n.State == Up && n.Media > 0 })
		switch {
		case is == nil:
			switch {
			case c.GetCallGone() != nil:
				w.totals["gone"]++
				require.False(t, told)
				require.True(t, c.GetCallGone().Call == string(call) && c.GetCallGone().Epoch == uint64(was.Place.Epoch) && was.Former == Place{})
			case c.GetCallExpire() != nil:
				w.totals["lapsed"]++
				require.GreaterOrEqual(t, w.since(w.heard[call]), uint64(60_000))
			default:
				w.totals["ended with its node"]++
				require.True(t, dead && !media)
			}
			if c.GetCallGone() == nil {
				require.Equal(t, CallMoved{Call: call, Room: was.Room, From: was.Place.Node, Epoch: was.Place.Epoch}, m)
			}
			delete(w.heard, call)
		case is.Place == was.Place:
			require.False(t, told)
			require.False(t, dead, "on a dead node")
			if is.Former != was.Former {
				f := s.nodes[was.Former.Node]
				require.Equal(t, Place{}, is.Former)
				require.True(t, c.GetCallLeft() != nil || f.State == Down || f.Incarnation != was.Former.Incarnation)
				w.totals["left"]++
			}
		default:
			require.Equal(t, CallMoved{Call: call, Room: was.Room, From: was.Place.Node, To: is.Place.Node, Epoch: is.Place.Epoch, Draining: !dead}, m)
			w.fresh(is, nil, nil)
			w.heard[call] = now
			if dead {
				w.totals["moved off a dead node"]++
				require.True(t, is.Former == Place{} || is.Former == was.Former)
			} else {
				w.totals["moved off a draining node"]++
				require.Equal(t, Draining, s.nodes[was.Place.Node].State, "moved without need")
				require.Equal(t, was.Place, is.Former)
			}
		}
	}
	for call, is := range s.calls {
		if before[call] == nil {
			w.totals["placed"]++
			require.Equal(t, string(call), c.GetCallPlace().GetCall())
			w.fresh(is, nodes, hosted)
		}
	}
	if p := c.GetCallPlace(); p != nil {
		is := s.calls[regions.CallID(p.Call)]
		if a.Code == peer.RosterCode_ROSTER_NO_MEDIA {
			w.totals["no media"]++
			require.Empty(t, s.hosts())
			require.Nil(t, is)
		} else {
			require.Zero(t, a.Code)
			require.Equal(t, uint64(is.Place.Epoch), a.Epoch)
			require.Equal(t, string(is.Place.Node), a.Call.Node)
			w.heard[is.ID] = now
		}
	}
	if k := c.GetCallKeep(); k != nil && a.Code == peer.RosterCode_ROSTER_OK && len(a.Lost) == 0 {
		w.heard[regions.CallID(k.Calls[0].Call)] = now
	}
	if c.GetCallExpire() != nil && !a.More {
		for call := range s.calls {
			require.Less(t, w.since(w.heard[call]), uint64(60_000), "it has lapsed")
		}
	}
}

// fresh judges a new place: a node that is up and hosts media, under an epoch
// that the call never had or passed; the least loaded one, if the loads are given.
func (w *callWorld) fresh(is *Call, nodes map[regions.NodeID]Node, hosted map[regions.NodeID]int) {
	n := w.m.state.nodes[is.Place.Node]
	require.True(w.t, n.State == Up && n.Media > 0 && n.Incarnation == is.Place.Incarnation, "placed on a node that can't have it")
	require.Greater(w.t, is.Place.Epoch, w.last[is.ID], "an epoch that went back")
	w.last[is.ID] = is.Place.Epoch
	load := func(n Node) float64 { return float64(hosted[n.ID]+1) / float64(n.Media) }
	for _, o := range nodes {
		if o.State == Up && o.Media > 0 {
			require.LessOrEqual(w.t, load(n), load(o), "%s has fewer calls for what it can", o.ID)
		}
	}
}

// Calls spread in proportion to what nodes can host, and the loss of a node
// moves its own calls only, onto all the others.
func TestCallsSpread(t *testing.T) {
	s := New("eu")
	stamp := regions.Stamp{Term: 1, ClockMs: 1}
	for i, media := range []uint32{100, 200, 100, 0, 400} {
		s.Apply(stamp, command(&peer.NodeUp{Node: fmt.Sprintf("n%d", i+1), Incarnation: 1, Capacity: 1, Media: media}))
	}
	for i := range 800 {
		s.Apply(stamp, command(&peer.CallPlace{Call: fmt.Sprint("c", i), Room: "r"}))
	}
	require.Equal(t, map[regions.NodeID]int{"n1": 100, "n2": 200, "n3": 100, "n5": 400}, s.hosted)
	before := maps.Clone(s.calls)
	_, effects := s.Apply(stamp, command(&peer.NodeDown{Node: "n5", Incarnation: 1}))
	require.Equal(t, map[regions.NodeID]int{"n1": 200, "n2": 400, "n3": 200}, s.hosted)
	moved := 0
	for _, e := range effects {
		if m, ok := e.(CallMoved); ok {
			moved++
			require.Equal(t, regions.NodeID("n5"), m.From)
		}
	}
	require.Equal(t, 400, moved)
	for call, c := range s.calls {
		require.True(t, before[call] == c || before[call].Place.Node == "n5")
	}
	checkCalls(t, s)

	// One after the other drains: the last has all, and nowhere to send them to,
	// until a node comes up.
	for _, n := range []string{"n1", "n2", "n3"} {
		s.Apply(stamp, command(&peer.NodeDrain{Node: n, Incarnation: 1}))
	}
	require.Equal(t, map[regions.NodeID]int{"n3": 800}, s.hosted)
	a, _ := s.Apply(stamp, command(&peer.CallPlace{Call: "new", Room: "r"}))
	require.Equal(t, peer.RosterCode_ROSTER_NO_MEDIA, a.Code)
	s.Apply(stamp, command(&peer.NodeUp{Node: "n6", Incarnation: 1, Media: 1}))
	require.Equal(t, map[regions.NodeID]int{"n6": 800}, s.hosted)
	c, _ := s.Call("c1")
	require.Equal(t, regions.NodeID("n3"), c.Former.Node)
	require.Len(t, s.CallsOn("n3"), 800)

	// Nobody is at the new place yet: that doesn't end the call.
	a, _ = s.Apply(stamp, command(&peer.CallGone{Call: "c1", Node: "n6", Epoch: uint64(c.Place.Epoch)}))
	require.True(t, a.More)
	a, _ = s.Apply(stamp, command(&peer.CallGone{Call: "c1", Node: "n3", Epoch: uint64(c.Former.Epoch)}))
	require.Equal(t, peer.RosterCode_ROSTER_STALE_CALL, a.Code)
	s.Apply(stamp, command(&peer.CallLeft{Call: "c1", Node: "n3", Epoch: uint64(c.Former.Epoch)}))
	a, _ = s.Apply(stamp, command(&peer.CallGone{Call: "c1", Node: "n6", Epoch: uint64(c.Place.Epoch)}))
	require.Zero(t, a.Code)
	_, ok := s.Call("c1")
	require.False(t, ok)
}

func TestCallBounds(t *testing.T) {
	s := New("eu")
	stamp := regions.Stamp{Term: 1, ClockMs: 1}
	s.Apply(stamp, command(&peer.NodeUp{Node: "n1", Incarnation: 1, Media: 1}))
	place := func(call, room string) peer.RosterCode {
		a, _ := s.Apply(stamp, command(&peer.CallPlace{Call: call, Room: room}))
		return a.Code
	}
	long := string(make([]byte, maxRoom+1))
	for _, names := range [][2]string{{"", "r"}, {"c", ""}, {long, "r"}, {"c", long}} {
		require.Equal(t, invalid, place(names[0], names[1]))
	}
	for i := range MaxCalls {
		require.Zero(t, place(fmt.Sprint(i), "r"))
	}
	require.Equal(t, peer.RosterCode_ROSTER_TOO_MANY, place("x", "r"))
	require.Zero(t, place("7", "r"), "it has its place")
	require.Equal(t, invalid, place("7", "s"))

	keep := &peer.CallKeep{Node: "n1", Incarnation: 1}
	for i := range MaxKept {
		c, _ := s.Call(regions.CallID(fmt.Sprint(i)))
		keep.Calls = append(keep.Calls, &peer.CallKept{Call: string(c.ID), Epoch: uint64(c.Place.Epoch)})
	}
	a, _ := s.Apply(stamp, command(keep))
	require.True(t, a.Code == 0 && len(a.Lost) == 0)
	keep.Calls = append(keep.Calls, &peer.CallKept{})
	a, _ = s.Apply(stamp, command(keep))
	require.Equal(t, peer.RosterCode_ROSTER_TOO_MANY, a.Code)

	// Others end by time, a part at once.
	stamp.UptimeMs = 120_000
	s.Apply(stamp, command(&peer.CallKeep{Node: "n1", Incarnation: 1, Calls: keep.Calls[:5]}))
	ended := 0
	for more := true; more; {
		a, effects := s.Apply(stamp, command(&peer.CallExpire{KeepMs: 120_000, Max: 1000}))
		require.Len(t, effects, int(a.Changed))
		ended += int(a.Changed)
		more = a.More
	}
	require.Equal(t, MaxCalls-5, ended)
	require.Equal(t, 5, s.Calls())

	floor := func(call, user string, f func(*peer.FloorAsk)) *peer.RosterAnswer {
		x := &peer.FloorAsk{Call: call, User: user, Device: "d", Epoch: 1, Region: "eu", Node: "n1"}
		if f != nil {
			f(x)
		}
		a, _ := s.Apply(stamp, command(x))
		return a
	}
	for _, wrong := range []func(*peer.FloorAsk){
		func(x *peer.FloorAsk) { x.User = "" }, func(x *peer.FloorAsk) { x.Device = long }, func(x *peer.FloorAsk) { x.Epoch = 0 },
		func(x *peer.FloorAsk) { x.Epoch = MaxEpoch + 1 }, func(x *peer.FloorAsk) { x.Region = "" }, func(x *peer.FloorAsk) { x.Node = "" },
		func(x *peer.FloorAsk) { x.Priority = 256 }, func(x *peer.FloorAsk) { x.MaxTalkMs = maxTalkMs + 1 }, func(x *peer.FloorAsk) { x.Call = "" },
	} {
		require.Equal(t, invalid, floor("c", "u", wrong).Code)
	}
	require.Zero(t, s.Floors())
	for i := range MaxWaiting + 1 {
		require.Zero(t, floor("c", fmt.Sprint(i), nil).Code)
	}
	require.Equal(t, peer.RosterCode_ROSTER_TOO_MANY, floor("c", "x", func(x *peer.FloorAsk) { x.Priority = 9 }).Code)
	require.Equal(t, uint32(MaxWaiting), floor("c", "64", nil).Floor.Position, "it keeps its place")
	heir := floor("c", "0", func(x *peer.FloorAsk) { x.Epoch, x.Node = 2, "n2" })
	require.Equal(t, uint32(1), heir.Floor.Position, "a floor that it had is its own beyond the bound")
	for i := range MaxCalls - 1 {
		floor(fmt.Sprint(i), "u", nil)
	}
	require.Equal(t, peer.RosterCode_ROSTER_TOO_MANY, floor("x", "u", nil).Code)
	require.Zero(t, floor("7", "u", nil).Code)
	again, _, err := restore(bytesOf(t, s), "eu")
	require.NoError(t, err)
	require.Equal(t, image(t, s), image(t, again))
	stamp.UptimeMs += 3001
	for more := true; more; {
		a, _ := s.Apply(stamp, command(&peer.CallExpire{KeepMs: 120_000, Max: 10_000}))
		more = a.More
	}
	require.Zero(t, s.Floors())
	require.Equal(t, 5, s.Calls())
}

// What is heard of again and again waits about once.
func TestCallQueuesAreBounded(t *testing.T) {
	s := New("eu")
	stamp := regions.Stamp{Term: 1, ClockMs: 1}
	s.Apply(stamp, command(&peer.NodeUp{Node: "n1", Incarnation: 1, Media: 1}))
	for range 10_000 {
		s.Apply(stamp, command(&peer.CallPlace{Call: "c", Room: "r"}))
		s.Apply(stamp, command(&peer.FloorAsk{Call: "c", User: "u", Device: "d", Epoch: 1, Region: "eu", Node: "n1"}))
	}
	require.Less(t, len(s.unheard.waiting), 2000)
	require.Less(t, len(s.silent.waiting), 2000)
	checkCalls(t, s)
}

// A snapshot of the version before calls is read still.
func TestSnapshotWithoutCalls(t *testing.T) {
	s := New("eu")
	s.Apply(regions.Stamp{Term: 1, ClockMs: 7}, command(&peer.NodeUp{Node: "n1", Incarnation: 1, Capacity: 1}))
	s.Apply(regions.Stamp{Term: 1, ClockMs: 7}, command(&peer.SessionOpen{User: "u", Device: "d", Node: "n1", Incarnation: 1, Connection: 1}))
	b := image(t, s)
	old := slices.Clone(b[:len(b)-4-2]) // without the two empty lists
	old[len(magic)] = 1
	again, _, err := restore(sealed(old), "eu")
	require.NoError(t, err)
	require.Equal(t, b, image(t, again))
	old[len(magic)] = 3
	_, _, err = restore(sealed(old), "eu")
	require.ErrorContains(t, err, "format 3")
}
