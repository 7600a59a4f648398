package meshtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// request asks the HTTP API of a region's first node and returns what it says.
func (u *User) request(region int, method, path string, body any) (status int, text string) {
	t := u.mesh.t
	t.Helper()
	token, err := u.Token(t.Context(), "")
	require.NoError(t, err)
	var in bytes.Buffer
	if body != nil {
		require.NoError(t, json.NewEncoder(&in).Encode(body))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, u.mesh.Topology.Regions[region].Nodes[0].HTTP+"/api/v1"+path, &in)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(b)
}

// sights are the ways in which one user perceives another, which a block ends:
// each reports whether they do.
func sights(m *Mesh, viewer, other *User, room *client.Room, group string) map[string]func() bool {
	t := m.t
	says := func(path string, where string) func() bool { // in any region
		return func() bool {
			status, text := viewer.request(len(path)%len(m.Topology.Regions), http.MethodGet, path, nil)
			require.Contains(t, []int{http.StatusOK, http.StatusNotFound}, status, text)
			return status == http.StatusOK && strings.Contains(text, where)
		}
	}
	return map[string]func() bool{
		"room":       func() bool { _, ok := Member(room, other.ID); return ok },
		"position":   func() bool { _, ok := FixOf(room, other.ID); return ok },
		"room count": func() bool { return room.Counts().Live == 3 },
		"list": func() bool {
			p, err := room.ListPeople(t.Context(), "", 1)
			require.NoError(t, err)
			all, err := room.ListPeople(t.Context(), "", 0)
			require.NoError(t, err)
			return p.Counts.Live == 3 && slices.ContainsFunc(all.People, func(m client.Member) bool { return m.User == other.ID })
		},
		"list over HTTP":   says("/groups/"+group+"/presence", other.ID),
		"counts over HTTP": says("/groups/"+group+"/presence?limit=1", `"live":3`),
		"presence":         says("/users/"+other.ID+"/presence", `"online"`),
		"profile":          says("/users/"+other.ID, other.ID),
		"positions":        says("/location/group/"+group, other.ID),
		"proximity":        says("/location/proximity/"+group, other.ID),
		"nearby":           says("/location/nearby?lat=48.2&lng=16.37&radius=5000", other.ID),
		"search":           says("/users/search?q="+other.Name, other.ID),
		"friends":          says("/friends", other.ID),
	}
}

// Two who are on no terms perceive nothing of each other, in whichever regions they
// are and whoever of them wanted that; but that both are in a group, and what they
// write there. Others are not concerned. When it ends they see each other again.
func TestBlockedIsInvisible(t *testing.T) {
	t.Parallel()
	m := Start(t, 3, 1)
	ana, bo, cy := m.Guest(0, "Anabel").Connect(0, 0, client.Auto), m.Guest(1, "Boris").Connect(1, 0, client.Auto), m.Guest(2, "Cyrus").Connect(2, 0, client.Auto)
	all := []*User{ana, bo, cy}
	group := m.Group(cy, ana, bo)
	rooms := map[*User]*client.Room{}
	do := func(u *User, method, path string, body any) {
		t.Helper()
		status, text := u.request(2, method, path, body)
		require.Less(t, status, 300, "%s %s: %s", method, path, text)
	}
	for _, u := range all {
		rooms[u] = u.Join(group)
		do(u, http.MethodPut, "/users/discoverable", map[string]any{"discoverable": true})
		do(u, http.MethodPost, "/location/grants", map[string]any{"audience": map[string]any{"kind": "discoverable"}, "precision": "r8"})
	}
	for i, u := range all {
		for _, other := range all[i+1:] {
			do(u, http.MethodPost, "/friends/requests", map[string]any{"user_id": other.ID})
			do(other, http.MethodPost, "/friends/requests/"+u.ID+"/accept", nil)
		}
	}
	report := func() {
		for i, u := range all {
			require.NoError(t, rooms[u].Report(client.Fix{Point: geo.Point{Lat: 48.2 + float64(i)/1000, Lng: 16.37}, Accuracy: 5}))
		}
	}
	report()
	expect := func(what string, viewer, other *User, want bool) {
		t.Helper()
		for name, sees := range sights(m, viewer, other, rooms[viewer], group) {
			if name == "friends" && want && (viewer != cy && other != cy) && strings.HasPrefix(what, "again") {
				continue // what ended stays ended
			}
			m.Eventually(what+": "+viewer.Name+" and "+other.Name+" by "+name, func() bool { return sees() == want })
		}
	}
	for _, viewer := range all {
		for _, other := range all {
			if viewer != other {
				expect("before", viewer, other, true)
			}
		}
	}

	do(bo, http.MethodPost, "/blocks", map[string]any{"user_id": ana.ID})
	apart := func(what string) {
		t.Helper()
		report()
		for _, pair := range [][2]*User{{ana, bo}, {bo, ana}} {
			expect(what, pair[0], pair[1], false)
			viewer, other := pair[0], pair[1]
			for _, path := range []string{"/friends/requests", "/location/asks"} {
				status, text := viewer.request(0, http.MethodPost, path, map[string]any{"user_id": other.ID})
				require.Equal(t, http.StatusNotFound, status, text)
				require.Contains(t, text, "user_not_found")
			}
			_, text := viewer.request(0, http.MethodGet, "/groups/"+group+"/members", nil)
			require.Contains(t, text, other.ID, "membership stays")
		}
		for _, other := range []*User{ana, bo} {
			_, sees := Member(rooms[cy], other.ID)
			require.True(t, sees, "Cyrus sees both")
			require.EqualValues(t, 3, rooms[cy].Counts().Live)
		}
	}
	apart("blocked")
	said, err := rooms[ana].Send(t.Context(), "is anybody here?")
	require.NoError(t, err)
	m.Eventually("messages stay", func() bool {
		return slices.ContainsFunc(rooms[bo].Messages(), func(m client.Message) bool { return m.ID == said.ID })
	})
	m.Eventually("and nothing is missing", func() bool { return rooms[ana].Err() == nil && rooms[bo].Err() == nil })

	// In another region the same holds, for who comes with what they know.
	ana.Session.Close()
	ana.Connect(1, 0, client.Auto)
	rooms[ana] = ana.Join(group)
	apart("in the same region")

	do(bo, http.MethodDelete, "/blocks/"+ana.ID, nil)
	report()
	for _, pair := range [][2]*User{{ana, bo}, {bo, ana}} {
		expect("again", pair[0], pair[1], true)
	}
}
