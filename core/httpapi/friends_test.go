package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// ids returns the given key of the objects in a list of an answer.
func (a answer) ids(list, key string) (out []string) {
	all, _ := a.body[list].([]any)
	for _, x := range all {
		id, _ := x.(obj)[key].(string)
		out = append(out, id)
	}
	return out
}

// linked is the path of the next page, without the API's prefix; empty for none.
func linked(a answer) string {
	_, rest, _ := strings.Cut(a.Header.Get("Link"), "<"+prefix)
	path, _, _ := strings.Cut(rest, ">")
	return path
}

// A friendship from the search to its end, and what a block makes of it.
func TestFriendsOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bob, cy := b.guest("Ana Maria"), b.guest("Bob"), b.guest("Mariam")
	require.Equal(t, map[string]any{"discoverable": false, "requests": "everyone"}, b.ok("GET", "/users/discoverable", ana.token, nil).body)
	require.Empty(t, b.ok("GET", "/users/search?q=mar", bob.token, nil).ids("people", "user_id"))
	for _, p := range []person{ana, cy} {
		require.Equal(t, true, b.ok("PUT", "/users/discoverable", p.token, obj{"discoverable": true}).body["discoverable"])
	}
	page := b.ok("GET", "/users/search?q=MAR&limit=1", bob.token, nil)
	require.Equal(t, []string{ana.id}, page.ids("people", "user_id"))
	page = b.ok("GET", linked(page), bob.token, nil)
	require.Equal(t, []string{cy.id}, page.ids("people", "user_id"), "the link asks for the same name")
	require.Empty(t, linked(page))
	b.refused(400, "bad_query", "GET", "/users/search?q=m", bob.token, nil)
	b.ok("PUT", "/users/profile", cy.token, obj{"username": "Zoe"})

	b.refused(404, "user_not_found", "POST", "/friends/requests", bob.token, obj{"user_id": uuid.NewString()})
	require.Equal(t, "sent", b.ok("POST", "/friends/requests", bob.token, obj{"user_id": ana.id}).str("relation"))
	require.Equal(t, []string{ana.id}, b.ok("GET", "/friends/requests?direction=sent", bob.token, nil).ids("requests", "user_id"))
	require.Equal(t, []string{bob.id}, b.ok("GET", "/friends/requests", ana.token, nil).ids("requests", "user_id"))
	b.refused(404, "request_not_found", "POST", "/friends/requests/"+ana.id+"/accept", bob.token, nil)
	b.ok("POST", "/friends/requests/"+bob.id+"/decline", ana.token, nil)
	b.refused(409, "request_declined", "POST", "/friends/requests", bob.token, obj{"user_id": ana.id})
	b.ok("POST", "/friends/requests", ana.token, obj{"user_id": bob.id})
	b.ok("DELETE", "/friends/requests/"+bob.id, ana.token, nil)
	b.ok("POST", "/friends/requests", ana.token, obj{"user_id": bob.id})
	b.ok("POST", "/friends/requests/"+ana.id+"/accept", bob.token, nil)
	require.Equal(t, []string{ana.id}, b.ok("GET", "/friends", bob.token, nil).ids("friends", "user_id"))
	b.refused(409, "already_friends", "DELETE", "/friends/requests/"+bob.id, ana.token, nil)
	b.ok("DELETE", "/friends/"+ana.id, bob.token, nil)
	require.Empty(t, b.ok("GET", "/friends", ana.token, nil).ids("friends", "user_id"))

	b.ok("POST", "/blocks", ana.token, obj{"user_id": bob.id})
	for _, pair := range [][2]person{{ana, bob}, {bob, ana}} {
		b.refused(404, "user_not_found", "POST", "/friends/requests", pair[0].token, obj{"user_id": pair[1].id})
		require.NotContains(t, b.ok("GET", "/users/search?q=mar", pair[0].token, nil).ids("people", "user_id"), pair[1].id)
	}
}

// A list of people can't be copied page by page.
func TestSearchIsLimited(t *testing.T) {
	b := setup(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	for range 60 {
		b.ok("GET", "/users/search?q=an", ana.token, nil)
	}
	a := b.refused(http.StatusTooManyRequests, "rate_limited", "GET", "/users/search?q=an", ana.token, nil)
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	b.ok("GET", "/users/search?q=an", bob.token, nil)
	b.ok("GET", "/friends", ana.token, nil)
}

// A public group is found and joined by everybody but whom it bans.
func TestDirectoryAndBansOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	made := b.ok("POST", "/groups", ana.token, obj{"name": "Night Runners", "settings": obj{"visibility": "public"}})
	group := made.str("group_id")
	b.refused(400, "bad_settings", "PUT", "/groups/"+group, ana.token, obj{"settings": obj{"visibility": "hidden"}})
	private := b.group(ana)

	listed := b.ok("GET", "/groups/directory?q=run", bob.token, nil)
	require.Equal(t, []string{group}, listed.ids("groups", "group_id"))
	require.Equal(t, obj{"group_id": group, "name": "Night Runners", "description": "", "avatar": "", "member_count": 1.0, "joined": false}, listed.body["groups"].([]any)[0], "and nobody by name")
	require.Equal(t, []string{group}, b.ok("GET", "/groups/directory", bob.token, nil).ids("groups", "group_id"))
	b.refused(404, "not_member", "POST", "/groups/"+private+"/join", bob.token, nil)
	for _, p := range []person{bob, eve} {
		b.ok("POST", "/groups/"+group+"/join", p.token, nil)
		b.ok("POST", "/groups/"+group+"/join", p.token, nil)
	}

	b.refused(403, "role_required", "POST", "/groups/"+group+"/bans", eve.token, obj{"user_id": bob.id})
	b.ok("POST", "/groups/"+group+"/bans", ana.token, obj{"user_id": bob.id, "reason": "spam"})
	b.refused(404, "not_member", "GET", "/groups/"+group, bob.token, nil)
	b.refused(403, "banned", "POST", "/groups/"+group+"/join", bob.token, nil)
	b.refused(403, "banned", "POST", "/groups/join", bob.token, obj{"invite_code": made.str("invite_code")})
	bans := b.ok("GET", "/groups/"+group+"/bans", ana.token, nil)
	require.Equal(t, []string{bob.id}, bans.ids("bans", "user_id"))
	require.Equal(t, []string{ana.id}, bans.ids("bans", "by"))
	require.Equal(t, []string{"spam"}, bans.ids("bans", "reason"))
	b.ok("DELETE", "/groups/"+group+"/bans/"+bob.id, ana.token, nil)
	b.ok("POST", "/groups/"+group+"/join", bob.token, nil)
}
