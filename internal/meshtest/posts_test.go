package meshtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/node"
)

// to sends a request to a node, by its number.
func (u *User) to(i int, method, path, body string) (int, string) {
	t := u.mesh.t
	t.Helper()
	var base string
	for _, r := range u.mesh.Topology.Regions {
		if i < len(r.Nodes) {
			base = r.Nodes[i].HTTP
			break
		}
		i -= len(r.Nodes)
	}
	token, err := u.Token(t.Context(), "")
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, base+"/api/v1"+path, strings.NewReader(body))
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

// where reads where somebody is from a list of a group's positions.
func (u *User) where(i int, group, user string) *geo.Point {
	status, body := u.to(i, http.MethodGet, "/location/group/"+group, "")
	require.Equal(u.mesh.t, http.StatusOK, status, body)
	var list struct {
		Locations []struct {
			UserID      string    `json:"user_id"`
			Coordinates geo.Point `json:"coordinates"`
		} `json:"locations"`
	}
	require.NoError(u.mesh.t, json.Unmarshal([]byte(body), &list))
	for _, l := range list.Locations {
		if l.UserID == user {
			return &l.Coordinates
		}
	}
	return nil
}

// Somebody who only posts over HTTP is seen in lists and by sessions of all
// regions, also when the room's owner dies, until they withdraw, at any node.
func TestSomebodyWithoutASession(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 3, DatabaseSurvives: true})
	ana, bo, cy := m.Guest(0, "Ana"), m.Guest(1, "Bo"), m.Guest(0, "Cy")
	group := m.Group(ana, bo, cy)
	owner := 0
	for i, n := range m.Nodes[:3] {
		if _, _, here := n.Hub().Fixes(client.GroupRoom(group)); here {
			owner = i
		}
	}
	keeper := (owner + 1) % 3
	update := func(lat float64) {
		t.Helper()
		status, body := ana.to(keeper, http.MethodPost, "/location/update", fmt.Sprintf(`{"group_id": %q, "coordinates": {"lat": %v, "lng": 14.5}, "accuracy": 5}`, group, lat))
		require.Equal(t, http.StatusOK, status, body)
	}
	is := func(p *geo.Point, lat float64) bool { return p != nil && p.Lat == lat }
	update(46)
	m.Eventually("lists of both regions have Ana, where nobody is in the room", func() bool {
		return is(cy.where(keeper, group, ana.ID), 46) && is(bo.where(4, group, ana.ID), 46)
	})
	bo.Connect(1, 0, client.Auto)
	atBo := bo.Join(group)
	sees := func(lat float64) func() bool {
		return func() bool { f, ok := FixOf(atBo, ana.ID); return ok && f.Point.Lat == lat }
	}
	m.Eventually("Bo, who comes now, sees Ana", sees(46))
	update(46.1)
	m.Eventually("and sees Ana move", sees(46.1))

	m.Kill(owner)
	m.Eventually("the list has Ana still", func() bool {
		status, body := cy.to(keeper, http.MethodGet, "/location/group/"+group, "")
		return status == http.StatusOK && strings.Contains(body, ana.ID)
	})
	update(46.2)
	m.Eventually("Bo sees Ana move on", sees(46.2))

	status, body := ana.to((owner+2)%3, http.MethodDelete, "/location/me", "")
	require.Less(t, status, 300, body)
	m.Eventually("nobody knows where Ana is", func() bool {
		_, ok := FixOf(atBo, ana.ID)
		return !ok && bo.where(4, group, ana.ID) == nil && cy.where(keeper, group, ana.ID) == nil
	})
}

// What is granted to a person goes to the room of the two, whoever of them is
// where; a grant that is taken back is over at once, one that is made coarser is
// seen coarser at once.
func TestSharingWithAPerson(t *testing.T) {
	m := Start(t, 2, 1)
	ana, bo := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo").Connect(1, 0, client.Auto)
	m.Group(ana, bo)
	direct := "direct:" + min(ana.ID, bo.ID) + ":" + max(ana.ID, bo.ID)
	_, err := bo.Session.Join(t.Context(), direct)
	require.Error(t, err, "nobody shares with anybody yet")
	status, body := ana.to(0, http.MethodPost, "/location/grants", fmt.Sprintf(`{"audience": {"kind": "person", "id": %q}, "precision": "exact"}`, bo.ID))
	require.Equal(t, http.StatusCreated, status, body)
	var grant struct {
		ID string `json:"grant_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &grant))
	at := geo.Point{Lat: 46.05, Lng: 14.5}
	require.NoError(t, ana.Session.Report(client.Fix{Point: at, Accuracy: 4}))
	var room *client.Room
	m.Eventually("Bo may join", func() bool {
		room, err = bo.Session.Join(t.Context(), direct)
		return err == nil
	})
	m.Eventually("Bo sees Ana exactly", func() bool { f, ok := FixOf(room, ana.ID); return ok && f.Point == at })

	began := time.Now()
	status, body = ana.to(0, http.MethodPatch, "/location/grants/"+grant.ID, `{"precision": "r7"}`)
	require.Equal(t, http.StatusOK, status, body)
	m.Eventually("Bo sees Ana's cell", func() bool { f, ok := FixOf(room, ana.ID); return ok && f.Cell != 0 && f.Point != at })
	t.Logf("coarser after %v", time.Since(began))
	began = time.Now()
	status, body = ana.to(0, http.MethodDelete, "/location/grants/"+grant.ID, "")
	require.Less(t, status, 300, body)
	m.Eventually("Bo does not see Ana, and is out", func() bool { _, ok := FixOf(room, ana.ID); return !ok || client.IsCode(room.Err(), wire.CodeNotMember) })
	t.Logf("gone after %v", time.Since(began))
}
