package roster

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// some is one command of each kind that finds something to do.
func some() []*peer.RosterCommand {
	return []*peer.RosterCommand{
		command(&peer.NodeUp{Node: "n1", Incarnation: 1, Capacity: 1}),
		command(&peer.NodeUp{Node: "n2", Incarnation: 1, Capacity: 2, Media: 1}),
		command(&peer.CallPlace{Call: "c", Room: "g:1"}),
		command(&peer.NodeUp{Node: "n1", Incarnation: 1, Capacity: 1, Media: 1}),
		command(&peer.SlotBalance{Max: 10}),
		command(&peer.SlotMove{Slot: 1, Epoch: 7, To: "n2"}),
		command(&peer.SessionOpen{User: "u", Device: "d", Node: "n1", Incarnation: 1, Connection: 1, Transport: wire.Transport_WEBTRANSPORT}),
		command(&peer.RoomJoin{User: "u", Device: "d", Epoch: 8, Rooms: []string{"g:1", "g:2"}}),
		command(&peer.RoomLeave{User: "u", Device: "d", Epoch: 8, Rooms: []string{"g:1"}}),
		command(&peer.SessionSuspend{User: "u", Device: "d", Epoch: 8}),
		command(&peer.SessionResume{User: "u", Device: "d", Epoch: 8, Node: "n1", Incarnation: 1, Connection: 1}),
		command(&peer.SessionOpen{User: "u", Device: "d", Node: "n2", Incarnation: 1, Connection: 1}),
		command(&peer.SessionOpen{User: "v", Device: "d", Node: "n2", Incarnation: 1, Connection: 2}),
		command(&peer.DeviceSeen{User: "u", Device: "d", Region: "us", Epoch: 99}),
		command(&peer.SessionClose{User: "v", Device: "d", Epoch: 8, Reason: wire.Reason_BYE}),
		command(&peer.CallPlace{Call: "d", Room: "g:1"}),
		command(&peer.FloorAsk{Call: "c", User: "u", Device: "d", Epoch: 8, Region: "us", Node: "m1"}),
		command(&peer.FloorAsk{Call: "c", User: "v", Device: "d", Epoch: 8, Region: "eu", Node: "n1", Priority: 3, MaxTalkMs: 5000}),
		command(&peer.FloorAsk{Call: "c", User: "u", Device: "d", Epoch: 8, Region: "us", Node: "m2"}),
		command(&peer.FloorAsk{Call: "c", User: "u", Device: "d", Epoch: 9, Region: "us", Node: "m3"}),
		command(&peer.NodeDrain{Node: "n2", Incarnation: 1}),
		command(&peer.CallKeep{Node: "n2", Incarnation: 1, Calls: []*peer.CallKept{{Call: "c", Epoch: 7}, {Call: "d", Epoch: 1}}}),
		command(&peer.FloorTake{Call: "c", Grant: 9}),
		command(&peer.FloorAsk{Call: "e", User: "u", Device: "d", Epoch: 8, Region: "us", Node: "m1"}),
		command(&peer.FloorAsk{Call: "e", User: "u", Device: "d", Epoch: 8, Region: "us", Node: "m2"}),
		command(&peer.FloorRelease{Call: "e", User: "u", Device: "d", Epoch: 8, Node: "m2", Grant: 11}),
		command(&peer.NodeDown{Node: "n1", Incarnation: 1}),
		command(&peer.CallLeft{Call: "c", Node: "n2", Epoch: 7}),
		command(&peer.CallGone{Call: "c", Node: "n1", Epoch: 10}),
		command(&peer.SessionExpire{Max: 1}),
		command(&peer.CallExpire{Max: 1}),
		command(&peer.NodeRemove{Node: "n1"}),
	}
}

// FuzzApply gives a machine whatever bytes as commands: it must not panic, must
// stay consistent, and must be the same after a snapshot.
func FuzzApply(f *testing.F) {
	var all []byte
	for _, c := range some() {
		b, err := c.MarshalVT()
		require.NoError(f, err)
		all = append(append(all, byte(len(b)>>8), byte(len(b))), b...)
		f.Add(bytes.Clone(all))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m := NewMachine("eu")
		for i := uint64(1); len(in) > 2; i++ {
			n := min(int(in[0])<<8|int(in[1]), len(in)-2)
			apply(t, m, i, entry{regions.Stamp{Term: 1 + i/8, ClockMs: 7 + i, UptimeMs: 7 + i}, [][]byte{in[2 : 2+n]}})
			in = in[2+n:]
		}
		check(t, m.state)
		s, _, err := restore(bytes.NewReader(image(t, m.state)), "eu")
		require.NoError(t, err)
		check(t, s)
		require.Equal(t, image(t, m.state), image(t, s))
	})
}

// FuzzRestore gives whatever bytes as a snapshot, with a checksum that is
// right, or nothing would get past it: none may panic or take memory beyond its
// own size, and what is taken is written the same again.
func FuzzRestore(f *testing.F) {
	s := New("eu")
	add := func() {
		b := image(f, s)
		f.Add(b[:len(b)-4])
	}
	add()
	for _, c := range some() {
		s.Apply(regions.Stamp{ClockMs: 7}, c)
		add()
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		in = binary.BigEndian.AppendUint32(in, crc32.Checksum(in, castagnoli))
		s, _, err := restore(bytes.NewReader(in), "eu")
		if err != nil {
			return
		}
		again, _, err := restore(bytes.NewReader(image(t, s)), "eu")
		require.NoError(t, err)
		require.Equal(t, image(t, s), image(t, again))
	})
}
