package meshtest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
)

// A region is added to a mesh that runs, and taken away again; nobody else is
// restarted or disconnected.
func TestRegionsComeAndGo(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 2)
	ann, bob := m.Guest(0, "Ann").Connect(0, 0, client.WebSocketOnly), m.Guest(1, "Bob").Connect(1, 1, client.WebTransportOnly)
	group := m.Group(ann, bob)
	a, b := ann.Join(group), bob.Join(group)
	sees := func(r *client.Room, u *User) func() bool {
		return func() bool {
			got, ok := Member(r, u.ID)
			return ok && got.Live()
		}
	}
	m.Eventually("Ann sees Bob", sees(a, bob))
	before := []uint64{ann.Session.Status().Epoch, bob.Session.Status().Epoch}

	began := time.Now()
	require.NoError(t, m.AddRegion(t.Context()))
	t.Logf("a region came in %v", time.Since(began))
	began = time.Now()
	var err error
	m.edge, err = client.NewAPI(m.API, client.APIConfig{}).Edge(t.Context())
	require.NoError(t, err)
	require.Len(t, m.edge.Regions, 3, "clients hear of it")
	cyd := m.Guest(2, "Cyd")
	ann.admit(group, cyd)
	cyd.Connect(2, 0, client.WebSocketOnly)
	c := cyd.Join(group)
	for _, r := range []*client.Room{a, b} {
		m.Eventually("Cyd is seen", sees(r, cyd))
	}
	m.Eventually("Cyd sees Ann", sees(c, ann))
	m.Eventually("Cyd sees Bob", sees(c, bob))
	t.Logf("seen after %v", time.Since(began))
	require.Less(t, time.Since(began), 10*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	require.NoError(t, c.Report(client.Fix{Point: geo.Point{Lat: 18.5, Lng: 73.8}, Accuracy: 5}))
	m.Eventually("where Cyd is", func() bool { _, ok := FixOf(a, cyd.ID); return ok })
	_, err = b.Send(ctx, "welcome")
	require.NoError(t, err)
	m.Eventually("Cyd reads", func() bool { return len(bodies(c)) == 1 })

	require.NoError(t, m.RemoveRegion())
	began = time.Now()
	for _, r := range []*client.Room{a, b} {
		m.Eventually("Cyd's region is lost", func() bool { _, ok := Member(r, cyd.ID); return !ok })
	}
	t.Logf("gone after %v", time.Since(began))
	require.Less(t, time.Since(began), 5*time.Second)
	require.Equal(t, before, []uint64{ann.Session.Status().Epoch, bob.Session.Status().Epoch}, "nobody was disconnected")
	_, err = a.Send(ctx, "still here")
	require.NoError(t, err)
	m.Eventually("Bob reads", func() bool { return len(bodies(b)) == 2 })

	// It is added once more, with nothing of what it had.
	cyd.Session.Close()
	require.NoError(t, m.AddRegion(t.Context()))
	m.Eventually("clients hear of it again, and where it is now", func() bool {
		m.edge, err = client.NewAPI(m.API, client.APIConfig{}).Edge(t.Context())
		require.NoError(t, err)
		return slices.ContainsFunc(m.edge.Endpoints(), func(ep client.Endpoint) bool { return ep.WS == m.Topology.Regions[2].Nodes[0].WS })
	})
	dee := m.Guest(2, "Dee")
	ann.admit(group, dee)
	dee.Connect(2, 0, client.WebSocketOnly)
	d := dee.Join(group)
	for _, r := range []*client.Room{a, b} {
		m.Eventually("Dee is seen", sees(r, dee))
		m.Eventually("the region is heard", func() bool { return len(r.Unreached()) == 0 })
	}
	_, err = d.Send(ctx, "again")
	require.NoError(t, err)
	for _, r := range []*client.Room{a, b} {
		m.Eventually("Dee is read", func() bool { return slices.Contains(bodies(r), "again") })
	}
	require.Equal(t, before, []uint64{ann.Session.Status().Epoch, bob.Session.Status().Epoch}, "nobody was disconnected")
}

// A region gets a node that only this node's own file names: its region takes it
// in, and the others learn where it is.
func TestNodesAreLearned(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 2)
	ann, bob := m.Guest(0, "Ann").Connect(0, 0, client.WebSocketOnly), m.Guest(1, "Bob")
	group := m.Group(ann, bob)
	a := ann.Join(group)
	began := time.Now()
	require.NoError(t, m.AddNode(t.Context(), 1))
	t.Logf("a node came in %v", time.Since(began))
	added := m.Topology.Regions[1].Nodes[2]
	m.Eventually("slots are where they belong", m.Balanced)
	t.Logf("has its slots after %v", time.Since(began))
	owned := 0
	for slot := range regions.Slots {
		if owner, _ := m.Nodes[2].Cluster().Slot(slot); owner == added.ID {
			owned++
		}
	}
	require.Positive(t, owned)
	var err error
	m.edge, err = client.NewAPI(m.API, client.APIConfig{}).Edge(t.Context())
	require.NoError(t, err)
	bob.ConnectTo(client.WebSocketOnly, client.Endpoint{Region: m.Region(1), Node: string(added.ID), WS: added.WS})
	b := bob.Join(group)
	m.Eventually("Ann sees Bob", func() bool {
		got, ok := Member(a, bob.ID)
		return ok && got.Live() && got.Devices[0].Node == string(added.ID)
	})
	m.Eventually("Bob sees Ann", func() bool { got, ok := Member(b, ann.ID); return ok && got.Live() })

	// Rooms of all of its slots work, from a region that had not heard of it.
	m.Eventually("the other region knows its addresses", func() bool {
		for _, s := range m.Nodes[0].Cluster().Standings() {
			for _, n := range s.Nodes {
				if n.Node == added {
					return true
				}
			}
		}
		return false
	})
}
