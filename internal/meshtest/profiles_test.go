package meshtest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/objects/dir"
	"github.com/mustermesh/muster/internal/node"
)

func withObjects(t *testing.T, regionCount, nodes int) *Mesh {
	files, err := dir.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, files.Close()) })
	return StartWith(t, node.MeshConfig{Regions: regionCount, Nodes: nodes, Objects: files})
}

// Each node has a card in its memory, and none shows the old one for long after a
// change: far less than the minute after which it is read anyway.
func TestAProfileChangesOnAllNodes(t *testing.T) {
	m := withObjects(t, 2, 2)
	ana, bob := m.Guest(0, "Ana"), m.Guest(1, "Bob")
	for i := range 4 {
		status, body := bob.to(i, http.MethodGet, "/users/"+ana.ID, "")
		require.Equal(t, http.StatusOK, status, body)
		require.Contains(t, body, `"Ana"`)
	}
	began := time.Now()
	for round, name := range []string{"Ana Lima", "Ana Maria"} {
		status, body := ana.to(round, http.MethodPut, "/users/profile", `{"username": "`+name+`"}`)
		require.Equal(t, http.StatusOK, status, body)
		_, body = bob.to(round, http.MethodGet, "/users/"+ana.ID, "")
		require.Contains(t, body, name, "where it was changed, at once")
		for i := range 4 {
			m.Eventually("the other nodes hear of it", func() bool {
				_, body := bob.to(i, http.MethodGet, "/users/"+ana.ID, "")
				return strings.Contains(body, name)
			})
		}
	}
	require.Less(t, time.Since(began), 50*time.Second)
}

// Who ends their account is gone everywhere: their sessions end in all regions,
// their group has another owner, and nobody sees them.
func TestAnAccountEndsEverywhere(t *testing.T) {
	m := withObjects(t, 2, 2)
	ana, bob := m.Guest(0, "Ana").Connect(1, 1, client.Auto), m.Guest(1, "Bob").Connect(1, 0, client.Auto)
	group := m.Group(ana, bob)
	ana.Join(group)
	room := bob.Join(group)
	m.Eventually("both are there", func() bool { return len(room.Members()) == 2 })
	_, err := ana.Session.Join(t.Context(), client.GroupRoom(group))
	require.NoError(t, err)

	status, body := ana.to(0, http.MethodDelete, "/users/profile", "")
	require.Equal(t, http.StatusOK, status, body)
	m.Eventually("her session is over", func() bool {
		select {
		case <-ana.Session.Done():
			return true
		default:
			return false
		}
	})
	m.Eventually("she is not in the room", func() bool { return len(room.Members()) == 1 })
	for i := range 4 {
		m.Eventually("nobody sees her", func() bool {
			status, _ := bob.to(i, http.MethodGet, "/users/"+ana.ID, "")
			return status == http.StatusNotFound
		})
	}
	m.Eventually("the group is Bob's", func() bool {
		_, body := bob.to(0, http.MethodGet, "/groups/"+group, "")
		return strings.Contains(body, `"role":"owner"`) && !strings.Contains(body, ana.ID)
	})
}
