package roster

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// command wraps one of the messages of roster.proto.
func command(m any) *peer.RosterCommand {
	c := &peer.RosterCommand{}
	switch m := m.(type) {
	case *peer.NodeUp:
		c.Body = &peer.RosterCommand_NodeUp{NodeUp: m}
	case *peer.NodeDrain:
		c.Body = &peer.RosterCommand_NodeDrain{NodeDrain: m}
	case *peer.NodeDown:
		c.Body = &peer.RosterCommand_NodeDown{NodeDown: m}
	case *peer.NodeRemove:
		c.Body = &peer.RosterCommand_NodeRemove{NodeRemove: m}
	case *peer.SlotBalance:
		c.Body = &peer.RosterCommand_SlotBalance{SlotBalance: m}
	case *peer.SlotMove:
		c.Body = &peer.RosterCommand_SlotMove{SlotMove: m}
	case *peer.SessionOpen:
		c.Body = &peer.RosterCommand_SessionOpen{SessionOpen: m}
	case *peer.SessionResume:
		c.Body = &peer.RosterCommand_SessionResume{SessionResume: m}
	case *peer.SessionSuspend:
		c.Body = &peer.RosterCommand_SessionSuspend{SessionSuspend: m}
	case *peer.SessionClose:
		c.Body = &peer.RosterCommand_SessionClose{SessionClose: m}
	case *peer.SessionExpire:
		c.Body = &peer.RosterCommand_SessionExpire{SessionExpire: m}
	case *peer.RoomJoin:
		c.Body = &peer.RosterCommand_RoomJoin{RoomJoin: m}
	case *peer.RoomLeave:
		c.Body = &peer.RosterCommand_RoomLeave{RoomLeave: m}
	case *peer.DeviceSeen:
		c.Body = &peer.RosterCommand_DeviceSeen{DeviceSeen: m}
	case *peer.CallPlace:
		c.Body = &peer.RosterCommand_CallPlace{CallPlace: m}
	case *peer.CallKeep:
		c.Body = &peer.RosterCommand_CallKeep{CallKeep: m}
	case *peer.CallGone:
		c.Body = &peer.RosterCommand_CallGone{CallGone: m}
	case *peer.CallLeft:
		c.Body = &peer.RosterCommand_CallLeft{CallLeft: m}
	case *peer.CallExpire:
		c.Body = &peer.RosterCommand_CallExpire{CallExpire: m}
	case *peer.FloorAsk:
		c.Body = &peer.RosterCommand_FloorAsk{FloorAsk: m}
	case *peer.FloorRelease:
		c.Body = &peer.RosterCommand_FloorRelease{FloorRelease: m}
	case *peer.FloorTake:
		c.Body = &peer.RosterCommand_FloorTake{FloorTake: m}
	}
	return c
}

// entry is what consensus gives to a machine at once.
type entry struct {
	stamp    regions.Stamp
	commands [][]byte
}

func seal(t testing.TB, stamp regions.Stamp, cs ...*peer.RosterCommand) entry {
	e := entry{stamp: stamp}
	for _, c := range cs {
		b, err := c.MarshalVT()
		require.NoError(t, err)
		e.commands = append(e.commands, b)
	}
	return e
}

func apply(t testing.TB, m *Machine, index uint64, e entry) (as []*peer.RosterAnswer) {
	for _, c := range e.commands {
		a := &peer.RosterAnswer{}
		require.NoError(t, a.UnmarshalVT(m.Apply(index, e.stamp, c)))
		as = append(as, a)
	}
	return as
}

// image is a state as its snapshot: equal states have equal ones.
func image(t testing.TB, s *State) []byte {
	var b bytes.Buffer
	require.NoError(t, s.snapshot(0)(&b))
	return b.Bytes()
}

func bytesOf(t testing.TB, s *State) *bytes.Reader { return bytes.NewReader(image(t, s)) }

// sealed is a snapshot with the checksum that it should have.
func sealed(b []byte) *bytes.Reader {
	return bytes.NewReader(binary.BigEndian.AppendUint32(slices.Clone(b), crc32.Checksum(b, castagnoli)))
}

// check compares every index, queue and count with the devices themselves.
func check(t testing.TB, s *State) {
	t.Helper()
	var counts Counts
	rooms := map[string][]int32{}
	held := map[regions.NodeID][]int32{}
	free := 0
	listed := 0
	for place, x := range s.devices.all {
		if x == nil {
			free++
			require.Contains(t, s.devices.free, int32(place))
			continue
		}
		require.Equal(t, int32(place), x.place)
		require.Same(t, x, s.devices.get(x.User, x.Device))
		counts.Stays += len(x.rooms)
		require.True(t, slices.IsSorted(x.Rooms()))
		for _, r := range x.rooms {
			require.Same(t, r, s.rooms[r.name])
			rooms[r.name] = append(rooms[r.name], x.place)
		}
		require.LessOrEqual(t, len(x.rooms), MaxRooms)
		require.LessOrEqual(t, len(x.earlier), maxEarlier)
		queue := s.gone.waiting
		switch x.State {
		case Live:
			counts.Live++
			n := s.nodes[x.Node]
			require.True(t, n.Incarnation == x.Incarnation && n.State != Down, "%s is live on a node that is not", x.User)
			require.Zero(t, x.idle)
		case Suspended:
			counts.Suspended++
			queue = s.suspended.waiting
		case Gone:
			counts.Gone++
			require.Empty(t, x.rooms)
		}
		if x.State != Gone {
			require.Equal(t, x.Epoch, x.Highest())
			held[x.Node] = append(held[x.Node], x.place)
		}
		if x.State != Live {
			require.Contains(t, queue, waiting[int32]{x.place, x.idle.order})
		}
	}
	for user, of := range s.devices.users {
		require.NotEmpty(t, of)
		listed += len(of)
		require.True(t, slices.IsSortedFunc(of, func(a, b *Session) int { return byDevice(a, b.Device) }), user)
	}
	require.Equal(t, counts.devices(), listed)
	require.Len(t, s.devices.free, free)
	counts.Rooms = len(rooms)
	require.Equal(t, counts, s.counts)
	require.Len(t, s.rooms, len(rooms))
	for name, members := range rooms {
		require.Equal(t, members, s.rooms[name].members)
	}
	listed = 0
	for slot, of := range s.inSlot {
		listed += len(of)
		for i, r := range of {
			require.True(t, r.at == i && r.slot == slot && s.rooms[r.name] == r && regions.SlotOf(r.name) == slot, r.name)
		}
	}
	require.Equal(t, counts.Rooms, listed)
	for node, p := range s.held {
		var got []int32
		p.each(func(place int32) { got = append(got, place) })
		require.Equal(t, held[node], got, "%s", node)
	}
	for i, slot := range s.slots {
		if slot.Owner != "" {
			require.NotEqual(t, Down, s.nodes[slot.Owner].State, "slot %d is of %s", i, slot.Owner)
		}
	}
	for _, q := range []queue[int32]{s.suspended, s.gone} {
		require.True(t, slices.IsSortedFunc(q.waiting, func(a, b waiting[int32]) int { return int(a.order) - int(b.order) }))
	}
	checkCalls(t, s)
}

// checkCalls does so for calls and floors.
func checkCalls(t testing.TB, s *State) {
	t.Helper()
	hosted := map[regions.NodeID]int{}
	set := func(q queue[regions.CallID]) map[waiting[regions.CallID]]bool {
		in := make(map[waiting[regions.CallID]]bool, len(q.waiting))
		for i, w := range q.waiting {
			require.True(t, i == 0 || q.waiting[i-1].order < w.order)
			in[w] = true
		}
		return in
	}
	unheard, silent := set(s.unheard), set(s.silent)
	for call, c := range s.calls {
		require.Equal(t, call, c.ID)
		hosted[c.Place.Node]++
		for _, p := range []Place{c.Place, c.Former} {
			n := s.nodes[p.Node]
			require.True(t, p == (Place{}) || (n.Incarnation == p.Incarnation && n.State != Down), "%s is on a node that is not", call)
			require.LessOrEqual(t, p.Epoch, s.issued)
		}
		require.Less(t, c.Former.Epoch, c.Place.Epoch)
		require.NotEqual(t, c.Former.Node, c.Place.Node)
		require.True(t, unheard[waiting[regions.CallID]{call, c.kept.order}], "%s would never lapse", call)
	}
	require.Equal(t, hosted, s.hosted)
	for call, f := range s.floors {
		require.Equal(t, call, f.Call)
		require.False(t, f.empty())
		require.True(t, silent[waiting[regions.CallID]{call, f.touched.order}], "%s would never end", call)
		require.LessOrEqual(t, len(f.queue), MaxWaiting+1)
		of := map[device]bool{}
		for i, c := range f.queue {
			require.True(t, i == 0 || (f.queue[i-1].rank() >= c.rank() && !c.heir))
			require.False(t, of[c.device()], "waits twice")
			of[c.device()] = true
			require.True(t, f.holder == nil || f.holder.device() != c.device() || (c.heir && c.Epoch > f.holder.Epoch), "waits for what it has")
		}
		if h := f.holder; h != nil {
			require.LessOrEqual(t, h.grant, uint64(s.issued))
			require.Nil(t, f.rest)
		}
	}
}
