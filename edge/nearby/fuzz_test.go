package nearby

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
)

func encoded(f *testing.F, m interface{ MarshalVT() ([]byte, error) }) []byte {
	f.Helper()
	b, err := m.MarshalVT()
	require.NoError(f, err)
	return b
}

// FuzzHandleUpdate: whatever a node says, nothing breaks, nothing grows without
// bound, and nobody is where no place was told.
func FuzzHandleUpdate(f *testing.F) {
	p := person("u", 5, geo.Point{Lat: 1, Lng: 2})
	f.Add(encoded(f, &peer.MapUpdate{Points: []*peer.MapPoint{pointOf(&p), gonePoint("u", 6)}}))
	f.Add(encoded(f, &peer.MapUpdate{Points: []*peer.MapPoint{{User: "u", Version: 1, Fix: &wire.Fix{Cell: 1}}, {}}}))
	bus := person(edge.Subject("f", "bus"), 5, geo.Point{Lat: 1, Lng: 2})
	f.Add(encoded(f, &peer.MapUpdate{Points: []*peer.MapPoint{pointOf(&bus), pointOf(&p), gonePoint("fleet:", 6), gonePoint("fleet:f", 6)}}))
	f.Add(encoded(f, &peer.MapUpdate{Refused: []uint32{0, 5000, 1 << 31}, Claims: []*peer.MapClaim{{User: "u", Version: 7}, {}}, Superseded: []*peer.MapClaim{{User: "u", Version: 9}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u peer.MapUpdate
		if u.UnmarshalVT(b) != nil {
			return
		}
		m := soleMap(nil)
		m.Put("u", "U", exactView(geo.Point{Lat: 50}), time.Now().Add(time.Hour))
		m.HandleUpdate("other", &u)
		require.LessOrEqual(t, m.owner.count.Load(), int64(len(u.Points)+1))
		for i := range m.owner.shards {
			s := &m.owner.shards[i]
			s.each(func(p *someone) {
				require.True(t, p.own.state != there || p.Point().Valid())
				require.LessOrEqual(t, len(p.user), maxUser)
				_, _, tag := m.owner.of(p.user)
				require.Same(t, p, s.find(tag))
			})
		}
		m.owner.sweep(time.Now(), 0, 1)
	})
}

// FuzzHandleQuery: answers are no longer than what was asked, and than allowed.
func FuzzHandleQuery(f *testing.F) {
	f.Add(encoded(f, &peer.MapQuery{Center: &wire.Point{Lat: 1, Lng: 2}, Radius: 1000, Limit: 5, Cells: []uint64{0x8628308ffffffff}}))
	f.Add(encoded(f, &peer.MapQuery{Box: &wire.Box{South: -90, North: 90, West: -180, East: 180}, Limit: 1 << 31, Since: 1 << 63}))
	f.Add(encoded(f, &peer.MapQuery{Center: &wire.Point{}, Radius: 5e4, Limit: 9, Fleet: "f"}))
	f.Add(encoded(f, &peer.MapQuery{Center: &wire.Point{}, Radius: 5e7, Limit: 1 << 31}))
	m := soleMap(nil)
	for i := range 3000 {
		m.Put(string(rune('a'+i%26))+string(rune('A'+i/26)), "U", exactView(geo.Point{Lat: float64(i%50) / 100}), time.Now().Add(time.Hour))
	}
	m.Put(edge.Subject("f", "bus"), "", exactView(geo.Point{}), time.Now().Add(time.Hour))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q peer.MapQuery
		if q.UnmarshalVT(b) != nil {
			return
		}
		found, err := m.HandleQuery(&q)
		if err != nil {
			require.ErrorIs(t, err, errQuery)
			return
		}
		require.LessOrEqual(t, len(found.Points), min(int(q.Limit), maxBox))
		for _, p := range found.Points {
			require.Equal(t, q.Fleet, edge.FleetOf(p.User))
		}
	})
}

// answers are links over which every node answers the same.
type answers struct {
	sole
	found *peer.MapFound
}

func (a answers) Slot(slot int) (regions.NodeID, regions.Epoch) { return a.SlotIn("", slot) }

func (answers) SlotIn(_ regions.RegionID, slot int) (regions.NodeID, regions.Epoch) {
	return []regions.NodeID{"n", "o"}[slot%2], 1
}

func (a answers) Call(context.Context, regions.NodeID, *peer.Call) (*peer.Answer, error) {
	return &peer.Answer{Body: &peer.Answer_MapFound{MapFound: a.found}}, nil
}

// mapOfTwo is the map of a node, which was not started, with another one that
// always answers the same.
func mapOfTwo(found *peer.MapFound) *Map {
	top := &regions.Topology{Regions: []regions.Region{{Name: "r", Nodes: []regions.Node{{ID: "n"}, {ID: "o"}}}}}
	return New(Config{
		Self: "n", Region: "r", Roster: answers{}, Topology: func() *regions.Topology { return top }, Links: answers{found: found}, Blocks: noBlocks{},
	})
}

// FuzzMapFound: whatever an owner answers, viewers get what they asked for.
func FuzzMapFound(f *testing.F) {
	p := person("u", 5, geo.Point{Lat: 0.01, Lng: 0.02})
	f.Add(encoded(f, &peer.MapFound{Points: []*peer.MapPoint{pointOf(&p), gonePoint("u", 6)}, Version: 3}))
	f.Add(encoded(f, &peer.MapFound{Points: []*peer.MapPoint{{User: "v", Fix: &wire.Fix{}}, {}}, Whole: true, More: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var found peer.MapFound
		if found.UnmarshalVT(b) != nil || found.Moved {
			return // which would be asked again, in real time
		}
		m := mapOfTwo(&found)
		for _, fleet := range []string{"", "f"} {
			got, err := m.Near(t.Context(), "viewer", fleet, geo.Point{}, 20_000, 10)
			require.NoError(t, err)
			require.LessOrEqual(t, len(got.People), 10)
			for _, n := range got.People {
				require.LessOrEqual(t, geo.Distance(geo.Point{}, n.View.Point), 20_000.1)
				require.NotEmpty(t, n.User)
				require.Equal(t, fleet, edge.FleetOf(n.User))
			}
		}
		var mark *Mark
		for range 2 {
			boxed, err := m.Box(t.Context(), &wire.Box{South: -1, North: 1, West: -1, East: 1}, mark)
			require.NoError(t, err)
			require.LessOrEqual(t, len(boxed.Points), 2*MaxBox)
			mark = boxed.Mark
		}
	})
}
