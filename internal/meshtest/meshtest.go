// Package meshtest starts whole meshes inside a test: several regions of real
// nodes on a real database, joined by real QUIC links with emulated distance,
// and users who live in them through the Go SDK. What is asserted here holds
// for the shipped path, since it is the shipped path.
package meshtest

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/regions"
)

// Patience is how long a test waits for what must happen: far more than it
// takes, so that a loaded machine fails nothing.
const Patience = 30 * time.Second

// Mesh is a running mesh that ends with its test.
type Mesh struct {
	*node.Mesh
	API  string // base URL of the first node
	DB   *db.DB
	edge client.Edge
	t    *testing.T
}

// Start runs regions × nodes on a database of the test's own.
func Start(t *testing.T, regionCount, nodes int) *Mesh {
	t.Helper()
	return StartWith(t, node.MeshConfig{Regions: regionCount, Nodes: nodes})
}

// StartWith is Start for a mesh that is special in some way: what a mesh needs
// and cfg lacks is filled in.
func StartWith(t *testing.T, cfg node.MeshConfig) *Mesh {
	t.Helper()
	if cfg.Secret = []byte(strings.Repeat("s", 32)); cfg.DB == nil {
		cfg.DB = devdb.Test(t)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	m, err := node.NewMesh(cfg)
	require.NoError(t, err)
	t.Cleanup(m.Stop)
	require.NoError(t, m.Start(context.Background()))
	mesh := &Mesh{Mesh: m, API: m.Topology.Regions[0].Nodes[0].HTTP, DB: cfg.DB, t: t}
	mesh.Eventually("slots are where they belong", mesh.Balanced)
	mesh.edge, err = client.NewAPI(mesh.API, client.APIConfig{}).Edge(t.Context())
	require.NoError(t, err)
	return mesh
}

// Region returns the name of a region by its number.
func (m *Mesh) Region(i int) string { return string(m.Topology.Regions[i].Name) }

// User is somebody with an account, a session, and rooms.
type User struct {
	*client.API
	Name    string
	ID      string
	Session *client.Session
	mesh    *Mesh
}

// Guest signs a guest up at the given region's first node, without a session.
func (m *Mesh) Guest(region int, name string) *User {
	m.t.Helper()
	u := &User{Name: name, mesh: m, API: client.NewAPI(m.Topology.Regions[region].Nodes[0].HTTP, client.APIConfig{})}
	c, err := u.Guest(m.t.Context(), name, "meshtest")
	require.NoError(m.t, err)
	u.ID = c.UserID
	return u
}

// Connect opens the user's session, on the given node of a region.
func (u *User) Connect(region, nodeNumber int, how client.Transport) *User {
	u.mesh.t.Helper()
	return u.ConnectTo(how, u.mesh.Endpoint(region, nodeNumber))
}

// Endpoint is a node of a region as the SDK names it.
func (m *Mesh) Endpoint(region, nodeNumber int) client.Endpoint {
	m.t.Helper()
	id := string(m.Topology.Regions[region].Nodes[nodeNumber].ID)
	all := m.edge.Endpoints() // in the order of the list, which is not the topology's
	i := slices.IndexFunc(all, func(ep client.Endpoint) bool { return ep.Node == id })
	require.GreaterOrEqual(m.t, i, 0, id)
	return all[i]
}

// ConnectTo opens the user's session on the first of the endpoints that works.
func (u *User) ConnectTo(how client.Transport, endpoints ...client.Endpoint) *User {
	t := u.mesh.t
	t.Helper()
	pins, err := u.mesh.edge.Pins()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	u.Session, err = client.Connect(ctx, client.Config{
		Endpoints: endpoints, Tokens: u.API, Dialer: &client.Dialer{Transport: how, CertSHA256: pins},
	})
	require.NoError(t, err)
	t.Cleanup(u.Session.Close)
	return u
}

// Join enters a group's room.
func (u *User) Join(group string) *client.Room {
	t := u.mesh.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	r, err := u.Session.Join(ctx, client.GroupRoom(group))
	require.NoError(t, err)
	return r
}

// Group makes a group of the first user with all others as members.
func (m *Mesh) Group(owner *User, others ...*User) string {
	m.t.Helper()
	g, err := owner.CreateGroup(m.t.Context(), client.GroupDraft{Name: "Group of " + owner.Name})
	require.NoError(m.t, err)
	for _, o := range others {
		_, err := o.API.Join(m.t.Context(), g.InviteCode)
		require.NoError(m.t, err)
	}
	return g.GroupID
}

// Eventually waits until f holds.
func (m *Mesh) Eventually(what string, f func() bool) {
	m.t.Helper()
	require.Eventually(m.t, f, Patience, 5*time.Millisecond, what)
}

// Member returns what a room shows of a user.
func Member(r *client.Room, user string) (client.Member, bool) {
	for _, m := range r.Members() {
		if m.User == user {
			return m, true
		}
	}
	return client.Member{}, false
}

// FixOf returns the last fix a room shows of a user.
func FixOf(r *client.Room, user string) (client.MemberFix, bool) {
	for _, f := range r.Fixes() {
		if f.User == user {
			return f, true
		}
	}
	return client.MemberFix{}, false
}

// OwnerOf returns the node that owns a group's room in a region, as a node of
// it that runs knows.
func (m *Mesh) OwnerOf(region int, group string) regions.NodeID {
	for _, n := range m.Nodes {
		if n.Region() == m.Topology.Regions[region].Name && n.Cluster().Current() {
			owner, _ := n.Cluster().Owner(client.GroupRoom(group))
			return owner
		}
	}
	return ""
}

// Balanced reports whether every slot is where it belongs.
func (m *Mesh) Balanced() bool {
	for _, n := range m.Nodes {
		if !n.Cluster().Calm() || len(n.Cluster().Moves(1)) > 0 {
			return false
		}
	}
	return true
}
