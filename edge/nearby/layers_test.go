package nearby

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
)

// TestLayersComeAndGo: a fleet's is there as long as it has a point, and neither
// too many of them nor too many subjects leave people without room.
func TestLayersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner(func(int) bool { return true }, 8, 2)
		berlin := geo.Point{Lat: 52.52, Lng: 13.4}
		subject := func(fleet string, n int) Person {
			return person(edge.Subject(fleet, fmt.Sprint(n)), 1, geo.Destination(berlin, 0, float64(n)))
		}
		names := func(fleet string) (out []string) {
			people, _ := o.near(time.Now(), fleet, berlin, 1000, 10)
			for _, p := range people {
				out = append(out, p.User)
			}
			return out
		}
		require.Equal(t, taken, o.give(t, person("ann", 1, berlin)))
		require.Equal(t, taken, o.give(t, subject("a", 1)))
		require.Equal(t, taken, o.give(t, subject("b", 1)))
		require.Equal(t, crowded, o.give(t, subject("c", 1)), "two fleets are enough")
		require.Equal(t, []string{"ann"}, names(""))
		require.Equal(t, []string{"fleet:a:1"}, names("a"))
		require.Equal(t, []string{"fleet:b:1"}, names("b"))
		require.Empty(t, names("c"))
		for n := 2; n < 5; n++ {
			require.Equal(t, taken, o.give(t, subject("a", n)))
		}
		require.Equal(t, full, o.give(t, subject("a", 5)), "a quarter is people's")
		require.Equal(t, taken, o.give(t, person("bob", 1, berlin)))
		require.EqualValues(t, 7, o.count.Load(), "who was refused left nothing behind")

		o.gone(edge.Subject("b", "1"), 2, time.Now().Add(life))
		require.Equal(t, 1, o.fleetCount())
		require.Empty(t, names("b"))
		require.Equal(t, full, o.give(t, subject("c", 1)))
		o.gone(edge.Subject("a", "1"), 2, time.Now().Add(life))
		require.Equal(t, taken, o.give(t, subject("c", 1)))
		time.Sleep(life)
		o.sweep(time.Now(), 0, 1)
		require.Zero(t, o.fleetCount())
		require.Zero(t, o.count.Load())
		for i := range o.fleets {
			require.Empty(t, o.fleets[i].of)
		}
	})
}

// TestSlotsThatWentTakeSubjects: as they take people.
func TestSlotsThatWentTakeSubjects(t *testing.T) {
	owned := true
	o := newOwner(func(int) bool { return owned }, 8, 2)
	berlin := geo.Point{Lat: 52.52, Lng: 13.4}
	require.Equal(t, taken, o.give(t, person(edge.Subject("a", "1"), 1, berlin)))
	require.Equal(t, taken, o.give(t, person("ann", 1, berlin)))
	owned = false
	o.drop()
	require.Zero(t, o.count.Load())
	require.Zero(t, o.fleetCount())
}

// TestNodesThatErrShowNoOtherLayer: what an owner answers is checked.
func TestNodesThatErrShowNoOtherLayer(t *testing.T) {
	berlin := geo.Point{Lat: 52.52, Lng: 13.4}
	ann, bus, tram := person("ann", 1, berlin), person(edge.Subject("a", "bus"), 1, berlin), person(edge.Subject("b", "tram"), 1, berlin)
	m := mapOfTwo(&peer.MapFound{Points: []*peer.MapPoint{pointOf(&ann), pointOf(&bus), pointOf(&tram)}, Whole: true})
	for fleet, want := range map[string]string{"": "ann", "a": bus.User, "b": tram.User, "c": ""} {
		got, err := m.Near(t.Context(), "viewer", fleet, berlin, 20_000, 10)
		require.NoError(t, err)
		if want == "" {
			require.Empty(t, got.People)
			continue
		}
		require.Len(t, got.People, 1)
		require.Equal(t, want, got.People[0].User)
	}
	boxed, err := m.Box(t.Context(), &wire.Box{South: 52, North: 53, West: 13, East: 14}, nil)
	require.NoError(t, err)
	require.Len(t, boxed.Points, 1)
	require.Equal(t, "ann", boxed.Points[0].User)

	_, err = m.HandleQuery(&peer.MapQuery{Box: &wire.Box{North: 1, East: 1}, Fleet: "a"})
	require.ErrorIs(t, err, errQuery, "nobody watches a box of subjects")
}
