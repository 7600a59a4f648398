package roster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// TestRandomWorlds sends random commands, many of them late, doubled or wrong,
// and checks what must hold whatever happens: see watcher. A second roster is
// restored from a snapshot now and then, gets the same log from there, and must
// be the same to the byte.
func TestRandomWorlds(t *testing.T) {
	worlds, steps := 25, 600
	if testing.Short() {
		worlds = 10
	}
	for seed := range worlds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, uint64(seed))
			for step := range steps {
				w.step()
				if step%50 == 0 {
					check(t, w.m.state)
					w.fork()
				}
			}
			check(t, w.m.state)
			require.Equal(t, image(t, w.m.state), image(t, w.copy.state))
			// All the ways there are were taken.
			if seed == 0 {
				for _, code := range []peer.RosterCode{0, 2, 3, 4, 5, 6} {
					require.NotZero(t, w.codes[code], code)
				}
			}
		})
	}
}

type world struct {
	t       *testing.T
	rand    *rand.Rand
	m, copy *Machine
	effects [2][]Effect
	index   uint64
	stamp   regions.Stamp
	starts  map[string]uint64
	conn    uint64
	log     []*peer.RosterCommand // to say again
	watcher watcher
	codes   map[peer.RosterCode]int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), stamp: regions.Stamp{Term: 1, ClockMs: 1000},
		starts: map[string]uint64{}, codes: map[peer.RosterCode]int{}, watcher: newWatcher(t),
	}
	w.m = NewMachine("eu")
	w.m.OnEffects = func(_ uint64, e []Effect) { w.effects[0] = append(w.effects[0], e...) }
	w.fork()
	return w
}

// fork makes the copy anew from a snapshot that is written while the original
// goes on.
func (w *world) fork() {
	write := w.m.Snapshot()
	before := w.index
	var tail []entry
	for range w.rand.IntN(5) {
		tail = append(tail, w.stepOne())
	}
	var b bytes.Buffer
	require.NoError(w.t, write(&b))
	w.copy = NewMachine("eu")
	require.NoError(w.t, w.copy.Restore(&b))
	w.copy.View(func(_ *State, index uint64) { require.Equal(w.t, before, index) })
	w.copy.OnEffects = func(_ uint64, e []Effect) { w.effects[1] = append(w.effects[1], e...) }
	for i, entry := range tail {
		apply(w.t, w.copy, before+uint64(i)+1, entry)
	}
	require.Equal(w.t, image(w.t, w.m.state), image(w.t, w.copy.state))
}

func (w *world) step() {
	want := w.index + 1
	entry := w.stepOne()
	w.effects[1] = nil
	got := apply(w.t, w.copy, want, entry)
	require.Equal(w.t, w.effects[0], w.effects[1])
	require.NotEmpty(w.t, got)
}

// stepOne does one entry of a few commands, and returns it.
func (w *world) stepOne() entry {
	switch w.rand.IntN(20) {
	case 0: // a new leader, whose clock is behind or ahead
		w.stamp.Term++
		w.stamp.UptimeMs = w.rand.Uint64N(100_000)
		w.stamp.ClockMs = max(5_500, w.stamp.ClockMs+w.rand.Uint64N(10_000)) - 5_000
	case 1:
		w.stamp.UptimeMs -= min(w.stamp.UptimeMs, w.rand.Uint64N(1000)) // must not matter
	default:
		d := w.rand.Uint64N(5_000)
		w.stamp.UptimeMs += d
		w.stamp.ClockMs += d
	}
	cs := make([]*peer.RosterCommand, 1+w.rand.IntN(4))
	for i := range cs {
		if len(w.log) > 0 && w.rand.IntN(10) == 0 {
			cs[i] = w.log[w.rand.IntN(len(w.log))] // late, or twice
			continue
		}
		cs[i] = w.command()
		w.log = append(w.log, cs[i])
		if len(w.log) > 50 {
			w.log = w.log[1:]
		}
	}
	entry := seal(w.t, w.stamp, cs...)
	w.index++
	w.effects[0] = nil
	as := apply(w.t, w.m, w.index, entry)
	require.Len(w.t, as, len(cs))
	for i, a := range as {
		w.codes[a.Code]++
		w.watcher.answered(cs[i], a)
	}
	w.watcher.saw(w.effects[0], cs)
	return entry
}

func (w *world) node() (string, uint64) {
	n := fmt.Sprintf("n%d", w.rand.IntN(4)+1)
	start := w.starts[n]
	if w.rand.IntN(15) == 0 && start > 1 {
		start-- // a ghost
	}
	return n, start
}

func (w *world) device() (user, device string, epoch uint64) {
	user, device = fmt.Sprintf("u%d", w.rand.IntN(8)), fmt.Sprintf("d%d", w.rand.IntN(2))
	if x := w.m.state.devices.get(user, device); x != nil {
		epoch = uint64(x.Epoch)
	}
	if w.rand.IntN(10) == 0 {
		epoch -= min(epoch, w.rand.Uint64N(2000))
	}
	return user, device, epoch
}

func (w *world) rooms() []string {
	out := make([]string, w.rand.IntN(3))
	for i := range out {
		out[i] = fmt.Sprintf("g:%d", w.rand.IntN(5))
	}
	return out
}

func (w *world) command() *peer.RosterCommand {
	node, start := w.node()
	user, device, epoch := w.device()
	switch n := w.rand.IntN(130); {
	case n >= 100:
		return w.callCommand(node, start, user, device, epoch)
	case n < 8:
		if start == 0 || w.rand.IntN(3) == 0 {
			w.starts[node]++
			start = w.starts[node]
		}
		return command(&peer.NodeUp{Node: node, Incarnation: start, Capacity: w.rand.Uint32N(3), Media: w.rand.Uint32N(3)})
	case n < 10:
		return command(&peer.NodeDrain{Node: node, Incarnation: start})
	case n < 12:
		return command(&peer.NodeDown{Node: node, Incarnation: start})
	case n < 13:
		return command(&peer.NodeRemove{Node: node})
	case n < 17:
		return command(&peer.SlotBalance{Max: w.rand.Uint32N(300)})
	case n < 20:
		slot := w.rand.IntN(regions.Slots)
		return command(&peer.SlotMove{Slot: uint32(slot), Epoch: uint64(w.m.state.slots[slot].Epoch) - w.rand.Uint64N(2), To: node})
	case n < 45:
		w.conn++
		return command(&peer.SessionOpen{
			User: user, Device: device, Node: node, Incarnation: start, Connection: w.conn,
			Floor: epoch * w.rand.Uint64N(2), Login: "l", Name: user, Transport: wire.Transport_WEBSOCKET,
		})
	case n < 52:
		c := &peer.SessionResume{User: user, Device: device, Epoch: epoch, Node: node, Incarnation: start}
		if x := w.m.state.devices.get(user, device); x != nil {
			c.Node, c.Incarnation, c.Connection = string(x.Node), x.Incarnation, x.Connection
		}
		return command(c)
	case n < 60:
		return command(&peer.SessionSuspend{User: user, Device: device, Epoch: epoch})
	case n < 65:
		return command(&peer.SessionClose{User: user, Device: device, Epoch: epoch, Reason: wire.Reason_BYE})
	case n < 70:
		return command(&peer.SessionExpire{GraceMs: 30_000, KeepMs: 60_000, Max: 1 + w.rand.Uint32N(5)})
	case n < 84:
		return command(&peer.RoomJoin{User: user, Device: device, Epoch: epoch, Rooms: w.rooms()})
	case n < 92:
		return command(&peer.RoomLeave{User: user, Device: device, Epoch: epoch, Rooms: w.rooms()})
	default:
		return command(&peer.DeviceSeen{User: user, Device: device, Region: []string{"us", "ap"}[w.rand.IntN(2)],
			Epoch: max(1, w.stamp.ClockMs+w.rand.Uint64N(4000)-2000)})
	}
}

// callCommand is one about a call or its floor.
func (w *world) callCommand(node string, start uint64, user, device string, epoch uint64) *peer.RosterCommand {
	call := fmt.Sprintf("c%d", w.rand.IntN(6))
	var place, former, grant uint64
	if c, ok := w.m.state.Call(regions.CallID(call)); ok && w.rand.IntN(5) > 0 {
		node, place, former = string(c.Place.Node), uint64(c.Place.Epoch), uint64(c.Former.Epoch)
		if former > 0 && w.rand.IntN(2) == 0 {
			node, place = string(c.Former.Node), former
		}
	}
	if f := w.m.state.floors[regions.CallID(call)]; f != nil && f.holder != nil {
		grant = f.holder.grant
		if h := f.holder; w.rand.IntN(2) == 0 {
			user, device, epoch = h.User, h.Device, uint64(h.Epoch)
		}
	}
	epoch = max(epoch, 1)
	switch w.rand.IntN(10) {
	case 0, 1, 2:
		return command(&peer.CallPlace{Call: call, Room: "g:" + call})
	case 3:
		return command(&peer.CallKeep{Node: node, Incarnation: start, Calls: []*peer.CallKept{{Call: call, Epoch: place}, {Call: "c1", Epoch: former}}})
	case 4:
		return command(&peer.CallGone{Call: call, Node: node, Epoch: place})
	case 5:
		return command(&peer.CallLeft{Call: call, Node: node, Epoch: former})
	case 6:
		return command(&peer.CallExpire{KeepMs: 30_000, Max: 1 + w.rand.Uint32N(5)})
	case 7:
		return command(&peer.FloorRelease{Call: call, User: user, Device: device, Epoch: epoch, Node: "m1", Grant: grant})
	case 8:
		return command(&peer.FloorTake{Call: call, Grant: grant})
	default:
		return command(&peer.FloorAsk{
			Call: call, User: user, Device: device, Epoch: epoch, Region: "us", Node: fmt.Sprintf("m%d", 1+w.rand.IntN(2)),
			Priority: w.rand.Uint32N(3), MaxTalkMs: 4000,
		})
	}
}

// watcher knows nothing of the roster but its commands, answers and effects,
// and judges them.
type watcher struct {
	t      *testing.T
	live   map[string]SessionOpened
	last   map[string]regions.Epoch // of a device, that was issued
	opens  map[opened]uint64        // what each connection was answered
	slots  map[int]SlotMoved        // the last of each
	owners map[Slot]regions.NodeID  // of a slot (for the owner) at an epoch
}

func newWatcher(t *testing.T) watcher {
	return watcher{
		t: t, live: map[string]SessionOpened{}, last: map[string]regions.Epoch{}, opens: map[opened]uint64{},
		slots: map[int]SlotMoved{}, owners: map[Slot]regions.NodeID{},
	}
}

// answered: a connection that opens again never gets less than it had; more
// only after a resume. TestOpenIsIdempotent has the strict form.
func (w *watcher) answered(c *peer.RosterCommand, a *peer.RosterAnswer) {
	o := c.GetSessionOpen()
	if o == nil || a.Code != peer.RosterCode_ROSTER_OK {
		return
	}
	key := opened{node: regions.NodeID(o.Node), incarnation: o.Incarnation, connection: o.Connection}
	was, again := w.opens[key]
	require.False(w.t, again && a.Epoch < was, "a connection got a lower epoch")
	w.opens[key] = a.Epoch
}

func (w *watcher) saw(effects []Effect, cs []*peer.RosterCommand) {
	over := func(key string, node regions.NodeID, epoch regions.Epoch) {
		if l, ok := w.live[key]; ok && l.Epoch == epoch {
			require.Equal(w.t, l.Node, node)
			delete(w.live, key)
		}
	}
	balances := slices.ContainsFunc(cs, func(c *peer.RosterCommand) bool { return c.GetSlotBalance() != nil || c.GetSlotMove() != nil })
	lost := map[regions.NodeID]bool{"": true}
	for _, e := range effects {
		switch e := e.(type) {
		case SessionOpened:
			key := e.User + "/" + e.Device
			_, two := w.live[key]
			require.False(w.t, two, "two live sessions")
			require.Greater(w.t, e.Epoch, w.last[key], "a session's epoch that went back")
			w.live[key], w.last[key] = e, e.Epoch
		case SessionFenced:
			require.True(w.t, e.Winning > e.Epoch || (e.Winning == e.Epoch && e.Region > "eu"))
			over(e.User+"/"+e.Device, e.Node, e.Epoch)
		case SessionSuspended:
			_, was := w.live[e.User+"/"+e.Device]
			require.True(w.t, was)
			over(e.User+"/"+e.Device, e.Node, e.Epoch)
		case SessionEnded:
			over(e.User+"/"+e.Device, e.Node, e.Epoch)
		case NodeChanged:
			if e.State == Down || e.State == Up {
				lost[e.Node] = true
			}
		case SlotMoved:
			// Without require, which is slow: there are many.
			was, at := w.slots[e.Slot], Slot{regions.NodeID(fmt.Sprint(e.Slot)), e.Epoch}
			if _, two := w.owners[at]; two || was.To != e.From || e.Epoch <= was.Epoch {
				w.t.Fatalf("two owners at one epoch, or one that went back: %+v after %+v", e, was)
			}
			w.owners[at] = e.To
			w.slots[e.Slot] = e
			if !balances && !lost[e.From] {
				w.t.Fatalf("slot %d left %s without need", e.Slot, e.From)
			}
		}
	}
}

// What a connection was granted is one epoch, but for resumes, which are above.
func TestOpenIsIdempotent(t *testing.T) {
	s := New("eu")
	stamp := regions.Stamp{ClockMs: 1}
	s.Apply(stamp, command(&peer.NodeUp{Node: "n1", Incarnation: 1, Capacity: 1}))
	r := rand.New(rand.NewPCG(1, 2))
	granted := map[uint64]uint64{}
	for range 5000 {
		stamp.ClockMs += r.Uint64N(3)
		conn := uint64(1 + r.IntN(len(granted)+1))
		if n := uint64(len(granted)); n > maxEarlier && conn+maxEarlier <= n {
			conn = n - r.Uint64N(maxEarlier) // a retry is never later than that
		}
		a, _ := s.Apply(stamp, command(&peer.SessionOpen{User: "u", Device: "d", Node: "n1", Incarnation: 1, Connection: conn}))
		switch was, again := granted[conn]; {
		case !again:
			require.Zero(t, a.Code)
			granted[conn] = a.Epoch
		case conn == uint64(len(granted)):
			require.Equal(t, was, a.Epoch)
		default:
			require.Equal(t, peer.RosterCode_ROSTER_SUPERSEDED, a.Code)
			require.Equal(t, granted[uint64(len(granted))], a.Epoch)
		}
	}
}

// Each node's share is in proportion to its capacity, within what hashing
// gives, and a node that comes or goes moves no more than its share.
func TestSpread(t *testing.T) {
	for _, capacities := range [][]uint32{{1}, {1, 1, 1}, {1, 1, 1, 1, 1}, {1, 2, 3}, {100, 100, 50}, {8, 8, 8, 8, 8, 8, 8, 8, 8}} {
		worst := 0.0
		for names := range 20 {
			s := New("eu")
			stamp := regions.Stamp{ClockMs: 1}
			total := uint32(0)
			for i, c := range capacities {
				total += c
				s.Apply(stamp, command(&peer.NodeUp{Node: fmt.Sprintf("eu-%d-%d", names, i+1), Incarnation: 1, Capacity: c}))
			}
			s.Apply(stamp, command(&peer.SlotBalance{Max: regions.Slots}))
			for i, c := range capacities {
				share := float64(regions.Slots) * float64(c) / float64(total)
				got := float64(len(s.SlotsOf(regions.NodeID(fmt.Sprintf("eu-%d-%d", names, i+1)))))
				require.InEpsilon(t, share, got, 0.35, "%v", capacities)
				worst = max(worst, got/share-1)
			}
			before := s.slots
			_, effects := s.Apply(stamp, command(&peer.NodeDown{Node: fmt.Sprintf("eu-%d-1", names), Incarnation: 1}))
			for _, e := range effects {
				if m, ok := e.(SlotMoved); ok {
					require.Equal(t, regions.NodeID(fmt.Sprintf("eu-%d-1", names)), m.From)
				}
			}
			// Back again, and balanced, all is as it was.
			s.Apply(stamp, command(&peer.NodeUp{Node: fmt.Sprintf("eu-%d-1", names), Incarnation: 2, Capacity: capacities[0]}))
			s.Apply(stamp, command(&peer.SlotBalance{Max: regions.Slots}))
			for i, slot := range s.slots {
				require.Equal(t, before[i].Owner, slot.Owner)
			}
		}
		t.Logf("%v: the busiest has %.0f %% over its share", capacities, 100*worst)
	}
}

// The costs that decide are those of logarithms, to the last of 32 digits.
func TestCost(t *testing.T) {
	require.Equal(t, uint64(64<<32), cost(0))
	require.Equal(t, uint64(64<<32), cost(1))
	require.Equal(t, uint64(1<<32), cost(1<<63))
	require.Equal(t, uint64(1), cost(^uint64(0)))
	last := cost(1)
	for h := uint64(2); h > 0 && h < 1<<63; h += h/7 + 1 {
		c := cost(h)
		require.LessOrEqual(t, c, last)
		last = c
	}
}

func TestBounds(t *testing.T) {
	s := New("eu")
	stamp := regions.Stamp{ClockMs: 1}
	for i := range MaxNodes + 1 {
		a, _ := s.Apply(stamp, command(&peer.NodeUp{Node: fmt.Sprintf("n%d", i), Incarnation: 1, Capacity: 1}))
		require.Equal(t, i == MaxNodes, a.Code == peer.RosterCode_ROSTER_TOO_MANY)
	}
	open := func(user, device string) *peer.RosterAnswer {
		a, _ := s.Apply(stamp, command(&peer.SessionOpen{User: user, Device: device, Node: "n0", Incarnation: 1, Connection: 1}))
		return a
	}
	for i := range MaxDevices + 1 {
		require.Equal(t, i == MaxDevices, open("u", fmt.Sprint(i)).Code == peer.RosterCode_ROSTER_TOO_MANY)
	}
	a := open("v", "d")
	rooms := make([]string, MaxRooms)
	for i := range rooms {
		rooms[i] = fmt.Sprintf("g:%d", i)
	}
	join := func(rooms ...string) peer.RosterCode {
		a, _ := s.Apply(stamp, command(&peer.RoomJoin{User: "v", Device: "d", Epoch: a.Epoch, Rooms: rooms}))
		return a.Code
	}
	require.Zero(t, join(rooms...))
	require.Zero(t, join(rooms...))
	require.Equal(t, peer.RosterCode_ROSTER_TOO_MANY, join("g:x"))
	require.Equal(t, peer.RosterCode_ROSTER_INVALID, join(""))
	for i := range maxIdle + 100 {
		_, _ = s.Apply(stamp, command(&peer.DeviceSeen{User: fmt.Sprint("w", i), Device: "d", Region: "us", Epoch: uint64(1000 + i)}))
	}
	require.Equal(t, maxIdle, s.Counts().Gone)
	require.Equal(t, regions.Epoch(1099), s.forgotten)
	require.Equal(t, uint64(1100), open("w0", "d").Epoch, "forgotten, but still above")

	// Many regions: the highest epochs stay.
	for i := range maxSeen + 5 {
		s.Apply(stamp, command(&peer.DeviceSeen{User: "x", Device: "d", Region: fmt.Sprint("r", i), Epoch: uint64(5000 + i)}))
	}
	x := s.Device("x", "d")
	require.Len(t, x.Elsewhere(), maxSeen)
	require.Equal(t, regions.Epoch(5000+maxSeen+4), x.Highest())

	// Nothing is so late that the queues grow without end.
	for i := range 20_000 {
		x, _ := s.Session("v", "d")
		s.Apply(stamp, command(&peer.SessionSuspend{User: "v", Device: "d", Epoch: uint64(x.Epoch)}))
		s.Apply(stamp, command(&peer.SessionOpen{User: "v", Device: "d", Node: "n0", Incarnation: 1, Connection: uint64(10 + i)}))
	}
	require.Less(t, len(s.suspended.waiting), 2000)
}
