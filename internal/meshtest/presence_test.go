package meshtest

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// ask reads from the HTTP API of a region's first node.
func (u *User) ask(region int, path string) map[string]any {
	t := u.mesh.t
	t.Helper()
	token, err := u.Token(t.Context(), "")
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.mesh.Topology.Regions[region].Nodes[0].HTTP+"/api/v1"+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, path)
	var out map[string]any
	require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
	return out
}

// Who becomes invisible is gone for all others at once, in rooms and over HTTP,
// in every region, and hears everything; who is visible again is back. When
// they leave, others know when they were here.
func TestInvisible(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 2)
	ana, bo := m.Guest(0, "Ana").Connect(0, 1, client.Auto), m.Guest(1, "Bo").Connect(1, 1, client.Auto)
	near := m.Guest(1, "Cy").Connect(1, 0, client.Auto)
	group := m.Group(ana, bo, near)
	rooms := []*client.Room{ana.Join(group), near.Join(group)}
	hidden := bo.Join(group)
	seen := func(want bool) func() bool {
		return func() bool {
			for _, r := range rooms {
				if b, ok := Member(r, bo.ID); ok != want || want && !b.Live() {
					return false
				}
			}
			return true
		}
	}
	state := func(want string) func() bool {
		return func() bool {
			for _, viewer := range []*User{ana, near} {
				p, err := viewer.UserPresence(t.Context(), bo.ID)
				require.NoError(t, err)
				if p.State != want {
					return false
				}
			}
			return true
		}
	}
	live := func(region int) any {
		return ana.ask(region, "/groups/"+group+"/presence")["counts"].(map[string]any)["live"]
	}
	chooses := func(c client.PresenceChange) {
		want, err := bo.UpdatePresence(t.Context(), c)
		require.NoError(t, err)
		now, err := bo.PresenceSettings(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, now)
	}
	yes, no, nobody := true, false, "nobody"
	m.Eventually("all see Bo", seen(true))
	m.Eventually("Bo is online", state("online"))
	m.Eventually("three are live, in either region", func() bool { return live(0) == 3.0 && live(1) == 3.0 })

	chooses(client.PresenceChange{Invisible: &yes})
	m.Eventually("nobody sees Bo", seen(false))
	m.Eventually("Bo looks offline", state("offline"))
	m.Eventually("two are live", func() bool { return live(0) == 2.0 && live(1) == 2.0 })
	_, err := rooms[0].Send(t.Context(), "is Bo here?")
	require.NoError(t, err)
	m.Eventually("Bo hears it", func() bool { return len(bodies(hidden)) == 1 })
	bo.Session.Close()
	bo.Connect(1, 0, client.Auto).Join(group)
	<-time.After(300 * time.Millisecond) // somebody might see Bo come
	require.True(t, seen(false)())
	require.Nil(t, ana.ask(0, "/users/"+bo.ID+"/presence")["last_seen"], "not while invisible")

	chooses(client.PresenceChange{Invisible: &no})
	m.Eventually("all see Bo again", seen(true))
	m.Eventually("Bo is online again", state("online"))
	begin := time.Now()
	bo.Session.Close()
	m.Eventually("all see Bo leave", seen(false))
	m.Eventually("Ana knows when Bo was here", func() bool {
		p, err := ana.UserPresence(t.Context(), bo.ID)
		require.NoError(t, err)
		return p.LastSeen.After(begin.Add(-time.Second)) && !p.LastSeen.After(time.Now().Add(time.Second))
	})
	chooses(client.PresenceChange{LastSeenAudience: &nobody})
	p, err := ana.UserPresence(t.Context(), bo.ID)
	require.NoError(t, err)
	require.Equal(t, client.UserPresence{State: "offline"}, p)
}
