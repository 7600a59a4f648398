package meshtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
)

// Two who stand on both sides of the border between two regions' parts of the
// Earth, one connected here and the other there, find each other: also when the
// node that has their part of the map dies, and not when one has withdrawn. A
// region that can't be asked is named.
func TestNeighboursFindEachOtherAcrossRegions(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 2)
	ann, bob := m.Guest(0, "Ann").Connect(0, 0, client.WebSocketOnly), m.Guest(1, "Bob").Connect(1, 0, client.WebTransportOnly)
	cyd := m.Guest(1, "Cyd") // by HTTP alone, and never seen
	for _, u := range []*User{ann, bob} {
		u.send(http.MethodPost, "/location/grants", `{"audience": {"kind": "discoverable"}, "precision": "r9", "purpose": "to be found"}`, http.StatusCreated)
	}
	l := []regions.Location{m.Topology.Regions[0].Location, m.Topology.Regions[1].Location}
	a, b := geo.Point{Lat: l[0].Lat, Lng: l[0].Lng}, geo.Point{Lat: l[1].Lat, Lng: l[1].Lng}
	border := geo.Destination(a, geo.Bearing(a, b), geo.Distance(a, b)/2)
	west, east := geo.Destination(border, geo.Bearing(border, b), 6000), geo.Destination(border, geo.Bearing(border, a), 6000)
	where := map[*User]geo.Point{ann: west, bob: east} // each at home in the other's region
	report := func() {
		for u, p := range where {
			require.NoError(t, u.Session.Report(client.Fix{Point: p, Accuracy: 5}))
		}
	}
	report()
	cyd.send(http.MethodPost, "/location/update", fmt.Sprintf(`{"coordinates": {"lat": %v, "lng": %v}, "accuracy": 5}`, border.Lat, border.Lng), http.StatusOK)

	near := func(u *User) (names, unreached []string) {
		got, err := u.Session.Nearby(t.Context(), border, 20_000, 10)
		require.NoError(t, err)
		for _, n := range got.People {
			of := map[string]*User{"Ann": ann, "Bob": bob}[n.Name]
			require.Equal(t, of.ID, n.User)
			require.NotZero(t, n.Fix.Cell, "as coarse as granted")
			require.Less(t, geo.Distance(n.Fix.Point, where[of]), 500.0)
			require.InDelta(t, geo.Distance(border, n.Fix.Point), n.Distance, 1)
			names = append(names, n.Name)
		}
		return names, got.Unreached
	}
	see := func() {
		t.Helper()
		m.Eventually("Ann sees Bob", func() bool { n, _ := near(ann); return slices.Equal(n, []string{"Bob"}) })
		m.Eventually("Bob sees Ann", func() bool { n, _ := near(bob); return slices.Equal(n, []string{"Ann"}) })
	}
	began := time.Now()
	see()
	t.Logf("found after %v", time.Since(began))

	// The other node of each region, which may own their cells, dies and comes back.
	for _, i := range []int{1, 3} {
		m.Kill(i)
	}
	began = time.Now()
	m.Eventually("the regions gave the nodes up", func() bool {
		return m.Nodes[0].Cluster().Calm() && slices.IndexFunc(owners(m, 0), func(n regions.NodeID) bool { return n == m.Nodes[1].ID() }) < 0
	})
	see()
	t.Logf("found again after %v", time.Since(began))
	for _, i := range []int{1, 3} {
		require.NoError(t, m.Restart(t.Context(), i))
	}
	m.Eventually("slots are where they belong", m.Balanced)
	see()

	m.Net.CutBoth(m.Region(0), m.Region(1))
	m.Eventually("the other region is unreached", func() bool {
		_, unreached := near(ann)
		return slices.Equal(unreached, []string{m.Region(1)})
	})
	m.Net.Heal()
	see()

	require.NoError(t, bob.Session.Withdraw(t.Context()))
	m.Eventually("Bob has withdrawn", func() bool { n, _ := near(ann); return len(n) == 0 })
}

// owners are the owners of a region's slots, as its first node has them.
func owners(m *Mesh, region int) (out []regions.NodeID) {
	for _, n := range m.Nodes {
		if n.Region() != m.Topology.Regions[region].Name {
			continue
		}
		for slot := range regions.Slots {
			owner, _ := n.Cluster().Slot(slot)
			out = append(out, owner)
		}
		break
	}
	return out
}

// send makes a request of the API as the user.
func (u *User) send(method, path, body string, want int) http.Header {
	u.mesh.t.Helper()
	token, err := u.Token(u.mesh.t.Context(), "")
	require.NoError(u.mesh.t, err)
	req, err := http.NewRequestWithContext(u.mesh.t.Context(), method, u.mesh.API+"/api/v1"+path, strings.NewReader(body))
	require.NoError(u.mesh.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(u.mesh.t, err)
	defer res.Body.Close()
	require.Equal(u.mesh.t, want, res.StatusCode, path)
	return res.Header
}
