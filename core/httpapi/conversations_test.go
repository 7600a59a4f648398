package httpapi

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
)

// A conversation of two over HTTP: opened, written in, read on one device and so on
// all, muted, blocked, left.
func TestConversations(t *testing.T) {
	b := setup(t)
	ana, bo, cy := b.guest("Ana"), b.guest("Bo"), b.guest("Cy")
	b.refused(404, "user_not_found", "POST", "/conversations", ana.token, obj{"user_id": bo.id})
	group := b.group(ana, bo)
	room := b.ok("POST", "/conversations", ana.token, obj{"user_id": bo.id}).str("room")
	require.Equal(t, room, b.ok("POST", "/conversations", bo.token, obj{"user_id": ana.id}).str("room"))
	path := "/conversations/" + room
	for _, id := range []string{"a", "b", "c"} {
		b.ok("POST", path+"/messages", ana.token, obj{"client_id": id, "body": "hello"})
	}
	list := b.ok("GET", "/conversations", bo.token, nil).body["conversations"].([]any)
	require.Len(t, list, 2, "the group, too")
	first := list[0].(obj)
	require.Equal(t, room, first["room"])
	require.Equal(t, "Ana", first["name"])
	require.Equal(t, 3.0, first["unread"])
	require.Equal(t, "hello", first["last_message"].(obj)["body"])
	require.Equal(t, "group:"+group, list[1].(obj)["room"])
	require.Zero(t, b.ok("GET", path, ana.token, nil).body["unread"], "who writes has read")

	b.ok("PUT", path+"/receipts", bo.token, obj{"device": "phone", "delivered": 3, "read": 2})
	b.ok("PUT", path+"/receipts", bo.token, obj{"delivered": 1, "read": 1})
	b.ok("PUT", path+"/receipts", bo.token, obj{"device": "made up", "delivered": 2, "read": 1})
	var devices int
	require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT count(*) FROM receipts WHERE room = $1 AND user_id = $2`, room, bo.id).Scan(&devices)
	}))
	require.Equal(t, 1, devices, "one a login, whatever it calls itself")
	require.Equal(t, 1.0, b.ok("GET", path, bo.token, nil).body["unread"])
	require.Equal(t, []any{obj{"user": bo.id, "delivered": 3.0, "read": 2.0}}, b.ok("GET", path, ana.token, nil).body["receipts"])
	b.refused(404, "not_member", "GET", path+"/receipts", cy.token, nil)

	b.ok("PUT", path+"/mute", bo.token, obj{"until": "2099-01-01T00:00:00Z"})
	require.Equal(t, "2099-01-01T00:00:00Z", b.ok("GET", path, bo.token, nil).str("muted_until"))
	b.ok("PUT", path+"/mute", bo.token, obj{})
	require.Equal(t, "nobody", b.ok("PUT", "/conversations/settings", bo.token, obj{"receipts": "nobody"}).str("receipts"))
	require.Equal(t, "acquaintances", b.ok("GET", "/conversations/settings", bo.token, nil).str("messages_from"))
	require.Empty(t, b.ok("GET", path, ana.token, nil).body["receipts"])

	b.ok("DELETE", path, bo.token, nil)
	b.refused(404, "not_member", "GET", path, bo.token, nil)
	require.Equal(t, false, b.ok("GET", path, ana.token, nil).body["writes"])
	b.refused(409, "conversation_ended", "POST", path+"/messages", ana.token, obj{"client_id": "x", "body": "are you there?"})
}

// What can't be a room is none.
func TestRoomsThatAreNone(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	for _, room := range []string{"direct%3A%00", "direct%3A%FF", "%00"} {
		for _, path := range []string{"", "/messages", "/pins", "/receipts", "/messages/1/edits"} {
			b.refused(404, "not_member", "GET", "/conversations/"+room+path, ana.token, nil)
		}
		b.refused(404, "not_member", "GET", "/messages/search?q=hello&room="+room, ana.token, nil)
	}
}
