package room

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// FuzzFrames gives a room whatever decodes as frames of other nodes and
// regions: it must not panic, and must keep count of its members.
func FuzzFrames(f *testing.F) {
	seed := func(frames ...*peer.Frame) {
		var in []byte
		for i, fr := range frames {
			b, err := fr.MarshalVT()
			require.NoError(f, err)
			in = append(append(in, byte(i), byte(len(b)>>8), byte(len(b))), b...)
		}
		f.Add(in)
	}
	ann := session("ann/phone@10", "")
	join := &peer.Frame{Body: &peer.Frame_Join{Join: &peer.Join{Room: "r", Request: 1, Member: ann}}}
	seed(join, &peer.Frame{Body: &peer.Frame_Change{Change: &peer.Change{User: "ann", Device: &wire.Device{
		Device: "phone", Epoch: 10, State: wire.State_LEFT,
	}}}})
	seed(join, &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{Parts: []*wire.Part{{
		At:     &wire.Position{Region: "b", Epoch: 3, Seq: 1},
		People: []*wire.Person{{User: "ann", Devices: []*wire.Device{{Device: "phone", Epoch: 20}}}},
	}}}}})
	seed(&peer.Frame{Body: &peer.Frame_Attach{Attach: &peer.Attach{
		Members: []*peer.Member{ann, ann}, Positions: []*wire.Position{{Region: "a", Epoch: 1}},
		Fixes: []*wire.MemberFix{memberFix(ann, 1, time.Unix(1, 0))},
	}}}, &peer.Frame{Body: &peer.Frame_Subscribe{Subscribe: &peer.Subscribe{}}})
	seed(join, &peer.Frame{Body: &peer.Frame_Event{Event: &peer.Event{At: &wire.Position{Region: "b"}}}},
		&peer.Frame{Body: &peer.Frame_Report{Report: &peer.Report{Fix: memberFix(ann, 1, time.Unix(1, 0))}}})

	seed(join, &peer.Frame{Body: &peer.Frame_Revise{Revise: &peer.Revise{Revised: &wire.Revised{Change: 1, Message: &wire.Message{Number: 1}}}}},
		&peer.Frame{Body: &peer.Frame_Receive{Receive: &peer.Receive{Receipts: &wire.Receipts{Seen: []*wire.Seen{{User: "ann", Read: 1}}}}}},
		&peer.Frame{Body: &peer.Frame_Typing{Typing: &peer.Typing{Typing: &wire.Typing{User: "ann", On: true}}}})

	cfg := Config{Region: "a", Others: []regions.RegionID{"b"}}.WithDefaults()
	f.Fuzz(func(t *testing.T, in []byte) {
		now := time.Unix(1_000_000, 0)
		r := New(&cfg, "r", 7, 0, now)
		for len(in) > 3 {
			from, n := in[0], int(in[1])<<8|int(in[2])
			n = min(n, len(in)-3)
			var f peer.Frame
			if f.UnmarshalVT(in[3:3+n]) == nil {
				feedAny(r, now, from, &f)
			}
			in = in[3+n:]
			now = now.Add(time.Duration(from) * 100 * time.Millisecond)
			if next := r.Next(); due(next, now) {
				r.Tick(now)
			}
			consistent(t, r)
		}
	})
}

// consistent checks that a room keeps count of its members.
func consistent(t *testing.T, r *Room) {
	own, perNode := 0, 0
	for _, m := range r.roll.sorted {
		require.Same(t, m, r.roll.index[m.key])
		if m.node != "" {
			own++
			require.Equal(t, r.own.id, m.region)
		} else {
			require.False(t, m.hidden)
		}
	}
	for _, n := range r.nodes {
		perNode += n.members
	}
	require.Equal(t, own, r.roll.own)
	require.Equal(t, own, perNode)
	require.Len(t, r.roll.index, len(r.roll.sorted))
	for i, x := range r.posts {
		require.True(t, i == 0 || r.posts[i-1].user < x.user)
		require.Equal(t, x.user, x.fix.User)
		require.Equal(t, x.region == r.own.id, x.node != "")
		require.False(t, r.lapsing.After(x.until))
	}
	require.True(t, slices.IsSortedFunc(r.roll.sorted, compare))
	for _, g := range r.regions {
		at := g.position()
		var events []*peer.Event
		g.ring.last(len(g.ring.frames), func(f *peer.Frame) { events = append(events, f.GetEvent()) })
		require.Len(t, chain(events, at), len(events), "%s has a gap", g.id)
	}
}

// FuzzImport gives a room whatever decodes as a hand-over: it refuses it, or is
// whole and goes on.
func FuzzImport(f *testing.F) {
	cfg := Config{Region: "a", Others: []regions.RegionID{"b"}}.WithDefaults()
	now := time.Unix(1_000_000, 0)
	old := New(&cfg, "r", 7, 0, now)
	ann, bob := session("ann/phone@10", ""), session("bob/phone@11", "")
	bob.Hidden = true
	old.Join(now, "n1", &peer.Join{Member: ann, Version: 3})
	old.Join(now, "n2", &peer.Join{Member: bob})
	old.Subscribe(now, "b", nil)
	old.Parts(now, "b", &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{Parts: []*wire.Part{{
		At:     &wire.Position{Region: "b", Epoch: 3, Seq: 1},
		People: []*wire.Person{{User: "cem", Devices: []*wire.Device{{Device: "phone", Epoch: 20}}}},
	}}}}})
	first := old.Export(nil)
	old.Report(now, "n1", memberFix(ann, 1, now))
	old.Publish(now, &wire.Message{Number: 1})
	old.Revise(now, &wire.Revised{Change: 1, Message: &wire.Message{Number: 1}})
	old.Post(now, "n2", &peer.Post{Fix: memberFix(session("dan/"+edge.PostDevice+"@0", ""), 5, now), Until: stamp(now.Add(time.Hour))})
	tail := old.Export(first)
	bytes := func(h *peer.HandOver) []byte {
		b, err := h.MarshalVT()
		require.NoError(f, err)
		return b
	}
	f.Add(bytes(first), bytes(tail), uint64(8))
	f.Add(bytes(first), bytes(first), uint64(8))
	f.Add(bytes(&peer.HandOver{Room: "r", Epoch: 7}), bytes(&peer.HandOver{Room: "r", Epoch: 7, Tail: true, Regions: []*peer.HandOverRegion{
		{Position: &wire.Position{Region: "a", Epoch: 7}, Listens: true}, {Position: &wire.Position{Region: "b"}, Known: true},
	}, Members: []*peer.HandOverMember{{User: "u", Node: "n1", Device: &wire.Device{Region: "a", State: wire.State_LIVE}}, {}}}), uint64(9))

	f.Fuzz(func(t *testing.T, a, b []byte, epoch uint64) {
		var first, tail peer.HandOver
		if first.UnmarshalVT(a) != nil || tail.UnmarshalVT(b) != nil {
			return
		}
		stay := regions.Stay{SessionID: regions.SessionID{User: "ann", Device: "phone", Epoch: 10}, Node: "n1"}
		r, out, err := Import(&cfg, &first, &tail, regions.Epoch(epoch), []regions.Stay{stay}, now)
		if err != nil {
			require.Nil(t, r)
			return
		}
		consistent(t, r)
		require.Greater(t, r.own.epoch, tail.Epoch)
		require.GreaterOrEqual(t, r.change, tail.LastChange)
		for _, e := range out {
			require.NotNil(t, e.Frame)
		}
		r.Join(now, "n1", &peer.Join{Member: session("eve/phone@30", ""), Positions: []*wire.Position{{Region: "a", Epoch: tail.Epoch}}})
		r.Attach(now, "n1", &peer.Attach{Members: []*peer.Member{ann}}, nil)
		r.Reconcile(now, nil)
		r.Tick(now.Add(time.Minute))
		consistent(t, r)
		next := r.Export(nil)
		_, _, err = Import(&cfg, next, r.Export(next), r.Epoch()+1, nil, now)
		require.NoError(t, err)
	})
}

func feedAny(r *Room, now time.Time, from byte, f *peer.Frame) {
	node := []regions.NodeID{"n1", "n2"}[from%2]
	switch b := f.Body.(type) {
	case *peer.Frame_Join:
		r.Join(now, node, b.Join)
	case *peer.Frame_Attach:
		r.Attach(now, node, b.Attach, []regions.Stay{{SessionID: regions.SessionID{User: "ann", Device: "phone", Epoch: 10}, Node: "n1"}})
	case *peer.Frame_Change:
		r.Change(now, node, b.Change)
	case *peer.Frame_Report:
		r.Report(now, node, b.Report.GetFix())
	case *peer.Frame_Post:
		r.Post(now, node, b.Post)
	case *peer.Frame_Crossing:
		r.Cross(now, b.Crossing.GetCrossing())
	case *peer.Frame_Publish:
		r.Publish(now, b.Publish.GetMessage())
	case *peer.Frame_Revise:
		r.Revise(now, b.Revise.GetRevised())
	case *peer.Frame_Receive:
		r.Receive(now, b.Receive.GetReceipts())
	case *peer.Frame_Typing:
		r.Typing(now, []regions.RegionID{"a", "b"}[from%2], b.Typing)
	case *peer.Frame_Applied:
		r.Applied(now, node, b.Applied.GetVersion())
	case *peer.Frame_MembershipChanged:
		r.MembershipChanged(now, node, b.MembershipChanged.GetVersion())
	case *peer.Frame_Subscribe:
		r.Subscribe(now, "b", b.Subscribe)
	case *peer.Frame_Unsubscribe:
		r.Unsubscribe(now, "b")
	case *peer.Frame_Event:
		r.Event(now, "b", f)
	case *peer.Frame_Parts:
		r.Parts(now, "b", f)
	case *peer.Frame_Fixes:
		r.SettledFixes(now, "b", f)
	case *peer.Frame_Fence: // stands for the roster's words
		id := regions.SessionID{User: b.Fence.GetUser(), Device: b.Fence.GetDevice(), Epoch: regions.Epoch(b.Fence.GetEpoch())}
		r.Suspend(now, id)
		r.End(now, id, wire.Reason_TIMED_OUT)
		r.Reconcile(now, nil)
	default:
		r.NodeLost(now, node)
	}
}
