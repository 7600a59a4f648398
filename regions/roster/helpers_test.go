package roster

import (
	"bytes"
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
			require.Contains(t, queue, waiting{x.place, x.idle.order})
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
	for _, q := range []queue{s.suspended, s.gone} {
		require.True(t, slices.IsSortedFunc(q.waiting, func(a, b waiting) int { return int(a.order) - int(b.order) }))
	}
}
