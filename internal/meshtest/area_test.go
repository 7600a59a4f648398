package meshtest

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

func shows(v *client.View) []string {
	users := []string{}
	for _, s := range v.Sights() {
		users = append(users, s.User)
	}
	return users
}

// Who watches an area of a room is told who is in it, from all regions, also who
// stood there before, and nothing of the others; after a reconnect again.
func TestAnAreaOfARoom(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 3)
	ana, bo := m.Guest(0, "Ana").ConnectTo(client.Auto, m.Endpoint(0, 2), m.Endpoint(0, 1)), m.Guest(1, "Bo").Connect(1, 1, client.Auto)
	cy, di := m.Guest(0, "Cy").Connect(0, 1, client.Auto), m.Guest(1, "Di").Connect(1, 0, client.Auto)
	group := m.Group(ana, bo, cy, di)
	rooms := map[*User]*client.Room{}
	for _, u := range []*User{ana, bo, cy, di} {
		rooms[u] = u.Join(group)
	}
	at := func(u *User, lat, lng float64) {
		require.NoError(t, rooms[u].Report(client.Fix{Point: geo.Point{Lat: lat, Lng: lng}, Accuracy: 5}))
	}
	at(bo, 52.5, 13.4)
	at(di, 48.1, 11.5)
	m.Eventually("Ana has heard of both", func() bool { return len(rooms[ana].Fixes()) == 2 })

	berlin := client.Box{SouthWest: geo.Point{Lat: 52.4, Lng: 13.2}, NorthEast: geo.Point{Lat: 52.6, Lng: 13.6}}
	v, err := rooms[ana].Watch(berlin)
	require.NoError(t, err)
	m.Eventually("Bo is shown, who stood there before", func() bool { return slices.Equal(shows(v), []string{bo.ID}) })
	at(cy, 52.51, 13.41)
	both := []string{bo.ID, cy.ID}
	slices.Sort(both)
	m.Eventually("Cy is shown", func() bool { return slices.Equal(shows(v), both) })
	heard := rooms[ana].Counters().Fixes
	at(di, 48.2, 11.5)
	at(bo, 52.52, 13.42)
	m.Eventually("Bo has moved", func() bool {
		return slices.ContainsFunc(v.Sights(), func(s client.Sight) bool { return s.User == bo.ID && s.Point.Lat == 52.52 })
	})
	require.Equal(t, heard, rooms[ana].Counters().Fixes, "fixes of the room are told as Views")
	_, err = rooms[di].Send(t.Context(), "messages are told")
	require.NoError(t, err)
	m.Eventually("the message is there", func() bool { return len(rooms[ana].Messages()) == 1 })

	at(cy, 51, 12)
	m.Eventually("Cy has gone", func() bool { return slices.Equal(shows(v), []string{bo.ID}) })
	require.NoError(t, bo.Session.Withdraw(t.Context()))
	m.Eventually("Bo has withdrawn", func() bool { return len(shows(v)) == 0 })

	// Another area; then another node.
	require.NoError(t, v.Look(client.Box{SouthWest: geo.Point{Lat: 48, Lng: 11}, NorthEast: geo.Point{Lat: 48.5, Lng: 12}}))
	m.Eventually("Di is shown", func() bool { return slices.Equal(shows(v), []string{di.ID}) })
	keys := v.Counters().Keys
	m.Kill(m.nodeAt(0, 2))
	m.Eventually("the area is told over another connection", func() bool { return v.Counters().Keys > keys })
	require.NoError(t, rooms[di].Leave(t.Context()))
	m.Eventually("Di has left", func() bool { return len(shows(v)) == 0 })
	v.Close()
	at(cy, 50, 10)
	m.Eventually("fixes are told again", func() bool {
		return slices.ContainsFunc(rooms[ana].Fixes(), func(f client.MemberFix) bool { return f.User == cy.ID && f.Point.Lat == 50 })
	})
}

// Who watches an area of the map is shown the discoverable people in it, as
// coarsely as they wish, whom a block takes off it.
func TestAnAreaOfTheMap(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 2)
	ann, bob := m.Guest(0, "Ann").Connect(0, 0, client.WebTransportOnly), m.Guest(1, "Bob").Connect(1, 0, client.Auto)
	cyd, dan := m.Guest(0, "Cyd").Connect(0, 1, client.Auto), m.Guest(1, "Dan").Connect(1, 1, client.Auto)
	for u, precision := range map[*User]string{ann: "exact", bob: "r8", cyd: "exact"} { // Dan is nobody's to see
		u.send(http.MethodPost, "/location/grants", `{"audience": {"kind": "discoverable"}, "precision": "`+precision+`", "purpose": "to be found"}`, http.StatusCreated)
	}
	here := geo.Point{Lat: 52.5, Lng: 13.4}
	for _, u := range []*User{ann, bob, cyd, dan} {
		require.NoError(t, u.Session.Report(client.Fix{Point: here, Accuracy: 5}))
	}
	v, err := ann.Session.WatchMap(client.Box{SouthWest: geo.Point{Lat: 52.4, Lng: 13.2}, NorthEast: geo.Point{Lat: 52.6, Lng: 13.6}})
	require.NoError(t, err)
	both := []string{bob.ID, cyd.ID}
	slices.Sort(both)
	m.Eventually("Bob and Cyd are shown", func() bool { return slices.Equal(shows(v), both) })
	for _, s := range v.Sights() {
		require.Equal(t, s.User == bob.ID, s.Cell != 0, "as coarse as granted")
		require.Less(t, geo.Distance(here, s.Point), 600.0)
	}
	require.NoError(t, cyd.Session.Report(client.Fix{Point: geo.Point{Lat: 52.51, Lng: 13.41}, Accuracy: 5}))
	m.Eventually("Cyd has moved", func() bool {
		return slices.ContainsFunc(v.Sights(), func(s client.Sight) bool { return s.User == cyd.ID && s.Point.Lat == 52.51 })
	})
	bob.send(http.MethodPost, "/blocks", `{"user_id": "`+ann.ID+`"}`, http.StatusOK)
	m.Eventually("Bob has blocked Ann", func() bool { return slices.Equal(shows(v), []string{cyd.ID}) })
	require.NoError(t, cyd.Session.Withdraw(t.Context()))
	m.Eventually("Cyd has withdrawn", func() bool { return len(shows(v)) == 0 })
}
