package host

import (
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

func soundPacket(n uint32, payload []byte) *rtp.Packet {
	return &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960, SSRC: 1}, Payload: payload}
}

// Three in one region, of whom two have their sessions at another node than the SFU.
func TestThreeHearEachOther(t *testing.T) {
	w := newWorld(t, "eu1", "eu2")
	a, b, c := w.enter("a", "eu1"), w.enter("b", "eu2"), w.enter("c", "eu2")
	w.hears(a, b, c)
	for _, x := range []*client{a, b, c} {
		require.Equal(t, []string{"a", "b", "c"}, x.people())
		x.get(func() { require.Empty(t, x.gone) })
	}
	_, err := c.ask(leave())
	require.NoError(t, err)
	w.eventually("c is gone", func() bool { return len(a.people()) == 2 && len(b.people()) == 2 })
	a.get(func() { require.Equal(t, []string{"c left"}, a.gone) })
}

// A node drains: nobody hears a gap, nobody is told that somebody went.
func TestADrainIsNotHeard(t *testing.T) {
	w := newWorld(t, "eu1", "eu2")
	a, b, c := w.enter("a", "eu1"), w.enter("b", "eu2"), w.enter("c", "eu2")
	w.hears(a, b, c)
	all := []*client{a, b, c}
	since := map[*client]map[string]uint32{}
	for _, x := range all {
		since[x] = map[string]uint32{}
		for _, y := range all {
			since[x][y.who.User] = x.last(y.who.User)
		}
	}
	from, to := w.move("eu", true)
	w.eventually("the node is empty", func() bool { return from.Calls() == 0 })
	require.Equal(t, 1, to.Calls())
	w.hears(a, b, c)
	for _, x := range all {
		for _, y := range all {
			if x != y {
				gap := x.gap(y.who.User, since[x][y.who.User])
				t.Logf("%s of %s: a gap of %v", x.who.User, y.who.User, gap)
				require.Less(t, gap, 300*time.Millisecond)
			}
		}
		x.get(func() { require.Empty(t, x.gone); require.Equal(t, 2, x.joins) })
	}
}

// A node is lost with all that it had.
func TestANodeIsLost(t *testing.T) {
	w := newWorld(t, "eu1", "eu2", "eu3")
	a, b := w.enter("a", "eu2"), w.enter("b", "eu3")
	w.hears(a, b)
	from := w.node("eu1")
	require.Equal(t, 1, from.Calls())
	w.kill(from)
	w.move("eu", false)
	w.hears(a, b)
	for _, x := range []*client{a, b} {
		require.Equal(t, []string{"a", "b"}, x.people())
		x.get(func() { require.Empty(t, x.gone) })
	}
}

func leave() *wire.CallRequest {
	return &wire.CallRequest{Body: &wire.CallRequest_Leave{Leave: &wire.CallLeave{}}}
}
