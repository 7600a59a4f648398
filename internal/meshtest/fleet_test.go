package meshtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/regions"
)

// gateway opens the session of a fleet's gateway.
func (m *Mesh) gateway(key string, region int, how client.Transport) *client.Session {
	m.t.Helper()
	pins, err := m.edge.Pins()
	require.NoError(m.t, err)
	ctx, cancel := context.WithTimeout(m.t.Context(), Patience)
	defer cancel()
	api := client.NewAPI(m.Topology.Regions[region].Nodes[0].HTTP, client.APIConfig{})
	s, err := client.Connect(ctx, client.Config{
		Endpoints: []client.Endpoint{m.Endpoint(region, 0)}, Tokens: client.NewFleetTokens(api, key),
		Dialer: &client.Dialer{Transport: how, CertSHA256: pins},
	})
	require.NoError(m.t, err)
	m.t.Cleanup(s.Close)
	return s
}

// fleet makes a fleet of a user's, and a key for a gateway.
func (u *User) fleet(precision string) (id, key string) {
	u.mesh.t.Helper()
	f, err := u.CreateFleet(u.mesh.t.Context(), client.FleetDraft{Name: "Scooters", Precision: precision})
	require.NoError(u.mesh.t, err)
	k, err := u.CreateFleetKey(u.mesh.t.Context(), f.FleetID, "first")
	require.NoError(u.mesh.t, err)
	return f.FleetID, k.Key
}

// A gateway in one region brings the subjects of a fleet, around the border
// between two regions. Whoever asks for them in the other region finds them, as
// the fleet shows them right now, and nobody meets them among people. What is
// taken back, withdrawn, revoked or deleted is gone.
func TestAFleetIsFoundInAllRegions(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 1)
	olga, ann := m.Guest(0, "Olga"), m.Guest(1, "Ann").Connect(1, 0, client.Auto)
	id, key := olga.fleet("exact")
	gate := m.gateway(key, 0, client.WebTransportOnly)
	require.Equal(t, "fleet:"+id, gate.Status().User)

	l := []regions.Location{m.Topology.Regions[0].Location, m.Topology.Regions[1].Location}
	a, b := geo.Point{Lat: l[0].Lat, Lng: l[0].Lng}, geo.Point{Lat: l[1].Lat, Lng: l[1].Lng}
	border := geo.Destination(a, geo.Bearing(a, b), geo.Distance(a, b)/2)
	const subjects = 200
	at := map[string]geo.Point{}
	report := func() {
		t.Helper()
		var all []client.SubjectFix
		for name, p := range at {
			all = append(all, client.SubjectFix{Subject: name, Fix: client.Fix{Point: p, Accuracy: 3}})
		}
		out, err := gate.Ingest(t.Context(), all)
		require.NoError(t, err)
		require.Equal(t, client.Ingested{Taken: len(all)}, out)
	}
	for i := range subjects {
		at[fmt.Sprintf("s-%d", i)] = geo.Destination(border, float64(i*137%360), 40*float64(i))
	}
	report()
	find := func(center geo.Point, radius float64) map[string]client.Neighbour {
		t.Helper()
		got, err := ann.Session.NearbyFleet(t.Context(), id, center, radius, 100)
		require.NoError(t, err)
		found := map[string]client.Neighbour{}
		for _, n := range got.People {
			require.Equal(t, "fleet:"+id+":"+n.Subject, n.User)
			require.InDelta(t, geo.Distance(center, n.Fix.Point), n.Distance, 1)
			found[n.Subject] = n
		}
		require.Len(t, found, len(got.People))
		return found
	}
	began := time.Now()
	m.Eventually("Ann finds the nearest hundred", func() bool { return len(find(border, 20_000)) == 100 })
	t.Logf("found after %v", time.Since(began))
	for _, name := range []string{"s-0", "s-101", "s-199"} {
		n, ok := find(at[name], 30)[name]
		require.True(t, ok, name)
		require.Less(t, geo.Distance(n.Fix.Point, at[name]), 0.1)
		require.Zero(t, n.Fix.Cell)
	}
	m.Eventually("all of them are somewhere", func() bool {
		all := map[string]bool{}
		for bearing := range 12 {
			for name := range find(geo.Destination(border, float64(30*bearing), 5500), 4000) {
				all[name] = true
			}
		}
		for name := range find(border, 4000) { // a hundred
			all[name] = true
		}
		return len(all) == subjects
	})

	// Over HTTP, from the other region, too.
	ann.send(http.MethodPost, "/location/grants", `{"audience": {"kind": "discoverable"}, "precision": "r9"}`, http.StatusCreated)
	require.NoError(t, ann.Session.Report(client.Fix{Point: border, Accuracy: 5}))
	var near struct {
		People   []any
		Subjects []struct {
			SubjectID string  `json:"subject_id"`
			Distance  float64 `json:"distance"`
		}
	}
	ann.read(fmt.Sprintf("/location/nearby?lat=%v&lng=%v&radius=500&limit=100&fleet=%s", border.Lat, border.Lng, id), &near)
	require.Empty(t, near.People)
	require.Len(t, near.Subjects, 13, "forty metres apart, the first at the centre")
	for i, s := range near.Subjects {
		require.Equal(t, fmt.Sprintf("s-%d", i), s.SubjectID)
		require.InDelta(t, 40*i, s.Distance, 1)
	}

	// They don't drown people.
	cyd := m.Guest(0, "Cyd").Connect(0, 0, client.WebSocketOnly)
	m.Eventually("Cyd sees Ann, and no scooter", func() bool {
		got, err := cyd.Session.Nearby(t.Context(), border, 20_000, 100)
		require.NoError(t, err)
		require.LessOrEqual(t, len(got.People), 1)
		return len(got.People) == 1 && got.People[0].User == ann.ID
	})
	other, _ := olga.fleet("exact")
	got, err := ann.Session.NearbyFleet(t.Context(), other, border, 20_000, 100)
	require.NoError(t, err)
	require.Empty(t, got.People, "of another fleet")

	// One is taken out.
	out, err := gate.Ingest(t.Context(), []client.SubjectFix{{Subject: "s-3", Gone: true}})
	require.NoError(t, err)
	require.Equal(t, 1, out.Taken)
	m.Eventually("it is gone", func() bool { _, ok := find(border, 300)["s-3"]; return !ok })
	delete(at, "s-3")
	beside := m.gateway(key, 1, client.WebSocketOnly)
	out, err = beside.Ingest(t.Context(), []client.SubjectFix{{Subject: "s-4", Gone: true}})
	require.NoError(t, err)
	require.Equal(t, 1, out.Taken)
	m.Eventually("one is gone that came through another gateway", func() bool { _, ok := find(border, 300)["s-4"]; return !ok })
	delete(at, "s-4")
	beside.Close()

	// Coarser: from some moment on only cells are seen.
	coarse := func(n client.Neighbour) bool {
		if n.Fix.Cell == 0 {
			return false
		}
		require.Equal(t, 7, geo.Cell(n.Fix.Cell).Resolution())
		center, err := h3.Center(geo.Cell(n.Fix.Cell))
		require.NoError(t, err)
		require.Less(t, geo.Distance(n.Fix.Point, center), 1.0)
		return true
	}
	_, err = olga.ChangeFleet(t.Context(), id, client.FleetChange{Precision: new("r7")})
	require.NoError(t, err)
	allCoarse := func() bool {
		found := find(border, 20_000)
		for _, n := range found {
			if !coarse(n) {
				return false
			}
		}
		return len(found) == 100
	}
	m.Eventually("only cells are seen", allCoarse)
	report()
	for range 5 {
		require.True(t, allCoarse(), "and stay so")
	}

	// Nobody, and everybody again.
	_, err = olga.ChangeFleet(t.Context(), id, client.FleetChange{Precision: new(client.Nobody)})
	require.NoError(t, err)
	m.Eventually("nobody sees them", func() bool { return len(find(border, 20_000)) == 0 })
	_, err = olga.ChangeFleet(t.Context(), id, client.FleetChange{Precision: new("r9")})
	require.NoError(t, err)
	m.Eventually("all see them again", func() bool { report(); return len(find(border, 20_000)) == 100 })

	// A key is revoked: its sessions end, others go on.
	second, err := olga.CreateFleetKey(t.Context(), id, "second")
	require.NoError(t, err)
	third := m.gateway(second.Key, 1, client.WebSocketOnly)
	keys, err := olga.FleetKeys(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.NoError(t, olga.RevokeFleetKey(t.Context(), id, keys[0].KeyID))
	<-gate.Done()
	require.ErrorContains(t, gate.Status().Err, wire.CodeSignedOut)
	_, err = client.NewFleetTokens(client.NewAPI(m.API, client.APIConfig{}), key).Token(t.Context(), "")
	require.True(t, client.IsCode(err, "key_invalid"), "%v", err)
	gate = third
	at = map[string]geo.Point{"s-0": border}
	report()

	// The fleet is deleted.
	require.NoError(t, olga.DeleteFleet(t.Context(), id))
	<-gate.Done()
	m.Eventually("nothing is left of it", func() bool { return len(find(border, 20_000)) == 0 })
}

// What a gateway may not do, and what nobody else may do in its place; and that
// both it and its subjects have limits.
func TestAGatewayIsNoUser(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 1, Nodes: 1, Session: session.Config{
		Gateways: admit.Limits{Fixes: admit.Rate{PerSecond: 500, Burst: 1000}},
	}})
	olga := m.Guest(0, "Olga").Connect(0, 0, client.Auto)
	group := m.Group(olga)
	_, key := olga.fleet("exact")
	gate := m.gateway(key, 0, client.WebSocketOnly)

	fix := client.SubjectFix{Subject: "s", Fix: client.Fix{Point: geo.Point{Lat: 1, Lng: 2}}}
	_, err := olga.Session.Ingest(t.Context(), []client.SubjectFix{fix})
	require.True(t, client.IsCode(err, wire.CodeForbidden), "%v", err)
	_, err = gate.Join(t.Context(), client.GroupRoom(group))
	require.True(t, client.IsCode(err, wire.CodeForbidden), "%v", err)
	_, err = gate.Nearby(t.Context(), geo.Point{Lat: 1, Lng: 2}, 100, 1)
	require.True(t, client.IsCode(err, wire.CodeForbidden), "%v", err)
	require.True(t, client.IsCode(gate.Withdraw(t.Context()), wire.CodeForbidden))
	token, err := client.NewFleetTokens(olga.API, key).Token(t.Context(), "")
	require.NoError(t, err)
	for _, path := range []string{"/groups", "/fleets", "/location/nearby?lat=1&lng=2&radius=5"} {
		status, body := m.get(token, path)
		require.Equal(t, http.StatusForbidden, status, path)
		require.Contains(t, body, "fleet_token")
	}

	// One subject moves too often for itself, and then the gateway brings too much.
	again := make([]client.SubjectFix, 400)
	for i := range again {
		again[i] = fix
		again[i].Fix.Captured = time.Now().Add(time.Duration(i-400) * time.Millisecond)
	}
	out, err := gate.Ingest(t.Context(), again)
	require.NoError(t, err)
	require.InDelta(t, 200, out.Taken, 60, "the burst of a subject")
	require.Len(t, out.Refused, 400-out.Taken)
	for _, r := range out.Refused {
		require.Equal(t, wire.CodeRateLimited, r.Err.Code)
		require.Positive(t, r.Err.RetryAfter)
	}
	many := make([]client.SubjectFix, 900)
	for i := range many {
		many[i] = client.SubjectFix{Subject: fmt.Sprint("m", i), Fix: fix.Fix}
	}
	out, err = gate.Ingest(t.Context(), many)
	require.NoError(t, err)
	require.NotEmpty(t, out.Refused, "more than is left of the session's thousand")
	for _, r := range out.Refused {
		require.Equal(t, wire.CodeRateLimited, r.Err.Code)
		require.Positive(t, r.Err.RetryAfter)
		require.Less(t, r.Err.RetryAfter, 5*time.Second)
	}
	m.Eventually("all get through who wait as told", func() bool {
		out, err := gate.Ingest(t.Context(), many)
		require.NoError(t, err)
		return out.Taken == len(many)
	})
}

// get reads something of the API with a token.
func (m *Mesh) get(token, path string) (status int, body string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.API+"/api/v1"+path, nil)
	require.NoError(m.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(m.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(m.t, err)
	return res.StatusCode, string(b)
}
