package room

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// What is handed over fits a frame: of long rings the newest events, of large
// rooms nothing at all.
func TestHandOverFits(t *testing.T) {
	r, _, now := crowd(300)
	r.cfg.RingBytes = 2 << 20
	for n := range uint64(300) {
		r.Publish(now, &wire.Message{Number: n + 1, Body: strings.Repeat("x", 4000)})
	}
	first := r.Export(nil)
	require.Less(t, first.SizeVT(), handOverMost)
	r.Publish(now, &wire.Message{Number: 301})
	next, _, err := Import(r.cfg, first, r.Export(first), 8, staysOf(r), now)
	require.NoError(t, err)
	require.Equal(t, 300, next.Len())
	require.Equal(t, r.Seq()+1, next.Seq(), "only that it goes on is told")
	from := &wire.Position{Region: "a", Epoch: 7, Seq: r.Seq() - 20}
	n, ok := next.missed(next.own, from)
	require.True(t, ok)
	require.Equal(t, 21, n)
	from.Seq = r.Seq() - 140
	_, ok = next.missed(next.own, from)
	require.False(t, ok)

	var stays []regions.Stay
	for i := range 30_000 {
		stays = append(stays, regions.Stay{Node: "n0", Name: strings.Repeat("x", 100), SessionID: regions.SessionID{
			User: fmt.Sprintf("4f1c2d3e-7d2c-4a0a-9a53-%012d", i), Device: "phone", Epoch: 7,
		}})
	}
	r = New(r.cfg, "r", 7, 0, now)
	r.Adopt(now, stays)
	first = r.Export(nil)
	require.Less(t, first.SizeVT(), handOverMost)
	_, _, err = Import(r.cfg, first, r.Export(first), 8, nil, now)
	require.Error(t, err)
}

func staysOf(r *Room) (stays []regions.Stay) {
	for _, m := range r.roll.sorted {
		stays = append(stays, regions.Stay{SessionID: regions.SessionID{User: m.user, Device: m.device}})
	}
	return stays
}

// A ring that was begun anew between the two exports has no events of before.
func TestHandOverAfterAGap(t *testing.T) {
	r, _, now := crowd(3)
	parts := func(seq uint64) {
		r.Parts(now, "b", &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{Parts: []*wire.Part{{
			At: &wire.Position{Region: "b", Epoch: 3, Seq: seq},
		}}}}})
	}
	event := func(seq uint64) {
		at := &wire.Position{Region: "b", Epoch: 3, Seq: seq}
		r.Event(now, "b", &peer.Frame{Body: &peer.Frame_Event{Event: &peer.Event{At: at, Frame: encode(&wire.ServerFrame{
			Body: &wire.ServerFrame_Event{Event: &wire.Event{At: at, Body: &wire.Event_Message{Message: &wire.Message{Number: seq}}}},
		})}}})
	}
	parts(10)
	event(11)
	first := r.Export(nil)
	parts(20)
	event(21)
	next, _, err := Import(r.cfg, first, r.Export(first), 8, staysOf(r), now)
	require.NoError(t, err)
	b := next.region("b")
	for seq, want := range map[uint64]bool{10: false, 11: false, 19: false, 20: true, 21: true} {
		_, ok := next.missed(b, &wire.Position{Region: "b", Epoch: 3, Seq: seq})
		require.Equal(t, want, ok, fmt.Sprint(seq))
	}
}

// A hidden session of a node that died meanwhile is nowhere else noted.
func TestHandOverOfWhoIsHiddenOnADeadNode(t *testing.T) {
	r, _, now := crowd(3)
	eve := session("eve/phone@50", "")
	eve.Hidden = true
	r.Join(now, "n9", &peer.Join{Member: eve})
	for _, attaches := range []bool{true, false} {
		first := r.Export(nil)
		next, _, err := Import(r.cfg, first, r.Export(first), 8, staysOf(r), now)
		require.NoError(t, err)
		if attaches {
			next.Attach(now, "n9", &peer.Attach{Members: []*peer.Member{eve}}, nil)
		}
		for _, after := range []time.Duration{time.Second, 4 * time.Second, 6 * time.Second} {
			require.NotNil(t, next.node("n9"))
			next.Reconcile(now.Add(after), staysOf(r))
		}
		require.Equal(t, attaches, next.node("n9") != nil)
	}
}

// Many who leave at once are told of in several events.
func TestMassTimeOut(t *testing.T) {
	r, ms, now := crowd(1000)
	now = now.Add(time.Second)
	r.Join(now, "n0", &peer.Join{Member: session("zoe/phone@9999", "")}) // what follows waits
	for _, m := range ms {
		r.End(now, regions.SessionID{User: m.User, Device: m.Device.Device, Epoch: regions.Epoch(m.Device.Epoch)}, wire.Reason_TIMED_OUT)
	}
	events, left := 0, 0
	for _, e := range r.Tick(now.Add(time.Second)) {
		if e.Region != "b" {
			continue
		}
		events++
		var f wire.ServerFrame
		require.NoError(t, f.UnmarshalVT(e.Frame.GetEvent().GetFrame()))
		p := f.GetEvent().GetPresence()
		left += len(p.People)
		require.Equal(t, uint32(1), p.Counts.Live)
	}
	require.Equal(t, 4, events)
	require.Equal(t, 1000, left)
}
