package meshtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// Ana walks into the group's fence and out of it, and past Far, who stands in it
// and is of another region. The owner of the room dies while she is in. Everybody
// is told once that she came and once that she went, and the list says the same.
// Far takes the position back, and goes: nobody is told.
func TestAFenceWhoseOwnerDies(t *testing.T) {
	t.Parallel()
	m := hasty(t, 2, 3)
	ana, bo := m.Guest(0, "Ana"), m.Guest(0, "Bo")
	far := m.Guest(1, "Far").Connect(1, 0, client.Auto)
	group := m.Group(ana, bo, far)
	dies := m.owner(0, group)
	ana.Connect(0, (dies+1)%3, client.Auto)
	bo.Connect(0, (dies+2)%3, client.Auto)
	users := []*User{ana, bo, far}
	rooms := make([]*client.Room, len(users))
	for i, u := range users {
		rooms[i] = u.Join(group)
	}
	home := geo.Point{Lat: 45.3271, Lng: 14.4422}
	bo.send(http.MethodPost, "/groups/"+group+"/fences",
		`{"name": "Home", "shape": {"circle": {"center": {"lat": 45.3271, "lng": 14.4422}, "radius": 200}}}`, http.StatusCreated)
	ana.send(http.MethodPut, "/groups/"+group+"/meeting", `{"meet_distance": 100}`, http.StatusOK)
	// What was captured before there was the fence does not count, and the walk is
	// of the last minutes.
	require.NoError(t, m.DB.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE fences SET updated_at = updated_at - INTERVAL '1 hour'`)
		return err
	}))

	// A fix every 20 s of her time, which ends before now.
	path := []float64{-900, -700, -500, -300, -100, 0, 100, 300, 500, 700, 900}
	clock := time.Now().Add(-time.Duration(len(path)+8) * 20 * time.Second)
	stays := true
	walk := func(metres ...float64) {
		t.Helper()
		for _, x := range metres {
			clock = clock.Add(20 * time.Second)
			if stays {
				there := geo.Destination(home, 0, 50)
				require.NoError(t, rooms[2].Report(client.Fix{Point: there, Accuracy: 5, Captured: clock.Add(time.Millisecond)}))
				m.Eventually("Far is heard", func() bool {
					f, ok := FixOf(rooms[1], far.ID)
					return ok && !f.Captured.Before(clock)
				})
			}
			here := geo.Destination(home, 90, x)
			require.NoError(t, rooms[0].Report(client.Fix{Point: here, Accuracy: 5, Captured: clock.Add(2 * time.Millisecond)}))
			m.Eventually("Ana is heard", func() bool {
				f, ok := FixOf(rooms[2], ana.ID)
				return ok && geo.Distance(f.Point, here) < 1
			})
		}
	}
	told := func(r *client.Room) (list []string) {
		for _, c := range r.Crossings() {
			list = append(list, told(c, users))
		}
		slices.Sort(list)
		return list
	}
	all := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		for i, r := range rooms {
			m.Eventually(fmt.Sprint(users[i].Name, " hears ", want), func() bool { return slices.Equal(told(r), want) })
		}
	}
	walk(path[:6]...)
	inside := []string{"Far enter Home", "Ana enter Home", meeting(ana, far, "meet")}
	all(inside...)

	m.Kill(m.nodeAt(0, dies))
	m.Eventually("the room has another owner", func() bool {
		owner := m.OwnerOf(0, group)
		return owner != "" && owner != m.Topology.Regions[0].Nodes[dies].ID
	})
	for _, r := range rooms { // all follow the new one
		_, err := r.Send(t.Context(), "still here")
		require.NoError(t, err)
	}
	walk(path[6:]...)
	outside := append(inside, "Ana exit Home", meeting(ana, far, "part"))
	all(outside...)

	stays = false
	require.NoError(t, far.Session.Withdraw(t.Context()))
	m.Eventually("where Far is, is taken back", func() bool { _, ok := FixOf(rooms[1], far.ID); return !ok })
	require.NoError(t, rooms[2].Report(client.Fix{Point: geo.Destination(home, 0, 3000), Accuracy: 5, Captured: time.Now()}))
	m.Eventually("Far is elsewhere", func() bool { _, ok := FixOf(rooms[1], far.ID); return ok })
	walk(700, 400, 0)
	outside = append(outside, "Ana enter Home")
	all(outside...)

	var list struct {
		Crossings []struct {
			ID    string `json:"crossing_id"`
			Kind  string `json:"kind"`
			Name  string `json:"name"`
			User  string `json:"user_id"`
			Other string `json:"other_id"`
		} `json:"crossings"`
	}
	far.read("/groups/"+group+"/fences/crossings", &list)
	var stored []string
	ids := map[string]bool{}
	for _, c := range list.Crossings {
		stored = append(stored, said(users, c.User, c.Other, c.Kind, c.Name))
		ids[c.ID] = true
	}
	slices.Sort(stored)
	slices.Sort(outside)
	require.Equal(t, outside, stored)
	for _, r := range rooms {
		for _, c := range r.Crossings() {
			require.True(t, ids[c.ID], "what was told is what is stored")
		}
		require.NoError(t, r.Err())
	}
}

// read gets what the API has, from a node of the second region.
func (u *User) read(path string, out any) {
	t := u.mesh.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.mesh.Topology.Regions[1].Nodes[0].HTTP+"/api/v1"+path, nil)
	require.NoError(t, err)
	token, err := u.Token(t.Context(), "")
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, path)
	require.NoError(t, json.NewDecoder(res.Body).Decode(out))
}

func told(c client.Crossing, users []*User) string {
	return said(users, c.User, c.Other, strings.ToLower(c.Kind.String()), c.Name)
}

func said(users []*User, user, other, kind, fence string) string {
	name := func(id string) string {
		for _, u := range users {
			if u.ID == id {
				return u.Name
			}
		}
		return ""
	}
	if other != "" {
		return name(user) + " and " + name(other) + " " + kind
	}
	return name(user) + " " + kind + " " + fence
}

func meeting(a, b *User, kind string) string {
	if b.ID < a.ID {
		a, b = b, a
	}
	return a.Name + " and " + b.Name + " " + kind
}
