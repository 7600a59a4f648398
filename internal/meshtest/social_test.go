package meshtest

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// hears collects the kinds of what a session is told about its user.
func (u *User) hears() *hearing {
	h := &hearing{who: u.Name}
	notices := u.Session.Notices(u.mesh.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // until the test's context ends
		for e := range notices {
			if n, ok := e.(client.Noticed); ok {
				h.take(n.Notice, true)
			}
		}
	})
	u.mesh.t.Cleanup(wg.Wait)
	return h
}

// What people do to each other in one region reaches all their devices in others
// while it happens: friendships, and what groups do about somebody.
func TestSocialEventsAreLive(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 1)
	ana, bo := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo").Connect(1, 0, client.Auto)
	heardA, heardB := ana.hears(), bo.hears()
	do := func(u *User, region int, method, path string, body any) {
		t.Helper()
		status, text := u.request(region, method, path, body)
		require.Less(t, status, 300, "%s %s: %s", method, path, text)
	}
	last := func(h *hearing, prefix string, want ...string) func() bool {
		return func() bool { return slices.Equal(h.of(prefix), want) }
	}
	do(ana, 0, http.MethodPost, "/friends/requests", map[string]any{"user_id": bo.ID})
	m.Eventually("Bo is asked", last(heardB, "friend.", "friend.requested"))
	do(bo, 1, http.MethodPost, "/friends/requests/"+ana.ID+"/decline", nil)
	m.Eventually("Ana hears", last(heardA, "friend.", "friend.requested", "friend.declined"))
	do(bo, 1, http.MethodPost, "/friends/requests", map[string]any{"user_id": ana.ID})
	do(bo, 0, http.MethodDelete, "/friends/requests/"+ana.ID, nil)
	do(bo, 1, http.MethodPost, "/friends/requests", map[string]any{"user_id": ana.ID})
	do(ana, 0, http.MethodPost, "/friends/requests/"+bo.ID+"/accept", nil)
	do(ana, 1, http.MethodDelete, "/friends/"+bo.ID, nil)
	all := []string{"friend.requested", "friend.declined", "friend.requested", "friend.canceled", "friend.requested", "friend.accepted", "friend.removed"}
	m.Eventually("both heard all, in order", func() bool { return last(heardA, "friend.", all...)() && last(heardB, "friend.", all...)() })
	m.Eventually("who is asked, and whose request is accepted, is notified", func() bool {
		_, text := bo.request(1, http.MethodGet, "/notifications", nil)
		_, other := ana.request(0, http.MethodGet, "/notifications", nil)
		return strings.Count(text, `"friend_request"`) == 1 && strings.Count(text, `"friend_accepted"`) == 1 && strings.Count(other, `"friend_request"`) == 1
	})

	group := m.Group(ana, bo)
	room := bo.Join(group)
	do(ana, 1, http.MethodPost, "/groups/"+group+"/bans", map[string]any{"user_id": bo.ID})
	m.Eventually("Bo is out", func() bool { return room.Err() != nil })
	m.Eventually("Bo's devices hear it", last(heardB, "group.", "group.joined", "group.banned"))
}
