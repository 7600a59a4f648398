package room

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
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
			own, perNode := 0, 0
			for _, m := range r.roll.sorted {
				require.Same(t, m, r.roll.index[m.key])
				if m.node != "" {
					own++
					require.Equal(t, cfg.Region, m.region)
				}
			}
			for _, n := range r.nodes {
				perNode += n.members
			}
			require.Equal(t, own, r.roll.own)
			require.Equal(t, own, perNode)
			require.Len(t, r.roll.index, len(r.roll.sorted))
		}
	})
}

func feedAny(r *Room, now time.Time, from byte, f *peer.Frame) {
	node := []regions.NodeID{"n1", "n2"}[from%2]
	switch b := f.Body.(type) {
	case *peer.Frame_Join:
		r.Join(now, node, b.Join)
	case *peer.Frame_Attach:
		r.Attach(now, node, b.Attach, nil)
	case *peer.Frame_Change:
		r.Change(now, node, b.Change)
	case *peer.Frame_Report:
		r.Report(now, node, b.Report.GetFix())
	case *peer.Frame_Publish:
		r.Publish(now, b.Publish.GetMessage())
	case *peer.Frame_Applied:
		r.Applied(now, node, b.Applied.GetVersion())
	case *peer.Frame_MembershipChanged:
		r.MembershipChanged(now, node, b.MembershipChanged.GetVersion())
	case *peer.Frame_Subscribe:
		r.Subscribe(now, "b", b.Subscribe.GetPosition())
	case *peer.Frame_Unsubscribe:
		r.Unsubscribe(now, "b")
	case *peer.Frame_Event:
		r.Event(now, "b", f)
	case *peer.Frame_Parts:
		r.Parts(now, "b", f)
	case *peer.Frame_Fixes:
		r.SettledFixes(now, "b", f)
	default:
		r.NodeLost(now, node)
	}
}
