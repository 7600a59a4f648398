package room

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// crowd is a room of n members on three nodes, followed by another region.
func crowd(n int) (*Room, []*peer.Member, time.Time) {
	cfg := Config{Region: "a", Others: []regions.RegionID{"b"}}.WithDefaults()
	now := time.Unix(1_000_000, 0)
	r := New(&cfg, "group:8c0e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f10", 7, 0, now)
	r.Subscribe(now, "b", nil)
	var ms []*peer.Member
	for i := range n {
		m := session(fmt.Sprintf("4f1c2d3e-7d2c-4a0a-9a53-%012d/phone@%d", i, 10+i), "")
		r.Join(now, nodeOf(i), &peer.Join{Member: m})
		ms = append(ms, m)
	}
	now = now.Add(cfg.Merge)
	r.Tick(now) // they have been told of
	return r, ms, now
}

func nodeOf(i int) regions.NodeID { return regions.NodeID(fmt.Sprint("n", i%3)) }

// BenchmarkTick is one tick in which 1,000 members moved: 1,000 reports, and
// their merged frames to three nodes and a region.
func BenchmarkTick(b *testing.B) {
	r, ms, now := crowd(1000)
	nodes := make([]regions.NodeID, len(ms))
	for i := range ms {
		nodes[i] = nodeOf(i)
	}
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		at := stamp(now)
		for i, m := range ms {
			r.Report(now, nodes[i], &wire.MemberFix{User: m.User, Device: m.Device.Device, Epoch: m.Device.Epoch, Fix: &wire.Fix{
				Point: &wire.Point{Lat: 48, Lng: 11}, N: n, Captured: at,
			}})
		}
		now = now.Add(100 * time.Millisecond)
		r.Tick(now)
	}
}

// BenchmarkRelay is one message of another region passed on to three nodes.
func BenchmarkRelay(b *testing.B) {
	r, _, now := crowd(30)
	r.Parts(now, "b", &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{Parts: []*wire.Part{{
		At: &wire.Position{Region: "b", Epoch: 3},
	}}}}})
	at := &wire.Position{Region: "b", Epoch: 3}
	body := encode(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{Room: "r", At: at,
		Body: &wire.Event_Message{Message: &wire.Message{Number: 1, Body: "hello"}}}}})
	b.ReportAllocs()
	for b.Loop() {
		at.Seq++
		out := r.Event(now, "b", &peer.Frame{Body: &peer.Frame_Event{Event: &peer.Event{
			At: &wire.Position{Region: "b", Epoch: 3, Seq: at.Seq}, Frame: body,
		}}})
		if len(out) != 3 {
			b.Fatal(len(out))
		}
	}
}

// A merged frame must fit a datagram, the peer frame around it included.
func TestChunksFitADatagram(t *testing.T) {
	r, ms, now := crowd(1000)
	now = now.Add(time.Second)
	r.Report(now, nodeOf(0), memberFix(ms[0], 1, now)) // at once
	for i, m := range ms[1:] {
		r.Report(now, nodeOf(i+1), memberFix(m, 1, now))
	}
	seen := 0
	for _, e := range r.Tick(now.Add(100 * time.Millisecond)) {
		require.NotNil(t, e.Fixes)
		require.LessOrEqual(t, len(e.Fixes.Frame), lossyChunk)
		require.Less(t, (&peer.Datagram{Body: &peer.Datagram_Fixes{Fixes: e.Fixes}}).SizeVT(), 1200)
		if e.Node == "n0" {
			var f wire.ServerFrame
			require.NoError(t, f.UnmarshalVT(e.Fixes.Frame))
			seen += len(f.GetFixes().Fixes)
		}
	}
	require.Equal(t, 999, seen)
}

// Relaying costs no more than decoding the event once.
func TestRelayAllocations(t *testing.T) {
	r, _, now := crowd(30)
	r.Parts(now, "b", &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{Parts: []*wire.Part{{
		At: &wire.Position{Region: "b", Epoch: 3},
	}}}}})
	var frames []*peer.Frame
	for seq := range uint64(2000) {
		at := &wire.Position{Region: "b", Epoch: 3, Seq: seq + 1}
		frames = append(frames, &peer.Frame{Body: &peer.Frame_Event{Event: &peer.Event{At: at,
			Frame: encode(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{At: at,
				Body: &wire.Event_Message{Message: &wire.Message{Number: 1}}}}})}}})
	}
	for range 300 { // fill the ring
		r.Event(now, "b", frames[0])
		frames = frames[1:]
	}
	decode := testing.AllocsPerRun(100, func() {
		var f wire.ServerFrame
		_ = f.UnmarshalVT(frames[0].GetEvent().Frame)
	})
	relay := testing.AllocsPerRun(1000, func() {
		r.Event(now, "b", frames[0])
		frames = frames[1:]
	})
	require.LessOrEqual(t, relay, decode)
}

// BenchmarkRelayFixes is one merged frame of another region, of ten who moved,
// passed on to three nodes.
func BenchmarkRelayFixes(b *testing.B) {
	r, _, now := crowd(30)
	part := &wire.Part{At: &wire.Position{Region: "b", Epoch: 3}}
	var moved []*wire.MemberFix
	for i := range 10 {
		m := session(fmt.Sprintf("b%d/phone@%d", i, 10+i), "")
		part.People = append(part.People, &wire.Person{User: m.User, Devices: []*wire.Device{m.Device}})
		moved = append(moved, memberFix(m, 1, now))
	}
	r.Parts(now, "b", &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{Parts: []*wire.Part{part}}}})
	body := encode(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: "r", Fixes: moved}}})
	f := &peer.Fixes{Region: "b", Epoch: 3, Frame: body}
	b.ReportAllocs()
	for b.Loop() {
		out := r.Fixes(now, "b", f)
		if len(out) != 3 || out[0].Fixes != f {
			b.Fatal(len(out))
		}
	}
}
