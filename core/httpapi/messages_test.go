package httpapi

import (
	"net/url"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// numbers are those of the messages of an answer.
func (a answer) numbers() (out []int) {
	all, _ := a.body["messages"].([]any)
	for _, m := range all {
		out = append(out, int(m.(obj)["number"].(float64)))
	}
	return out
}

// What members do with messages, and what becomes of them.
func TestMessagesOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo, eve := b.guest("Ana"), b.guest("Bo"), b.guest("Eve")
	group := b.group(ana, bo)
	talk := "/conversations/group:" + group
	list := talk + "/messages"
	at := func(n int) string { return list + "/" + strconv.Itoa(n) }
	for i := range 9 {
		m := b.ok("POST", list, bo.token, obj{"client_id": strconv.Itoa(i), "body": "words of " + strconv.Itoa(i), "reply_to": i})
		require.Equal(t, 201, m.StatusCode)
		require.Equal(t, "Bo", m.str("sender_name"))
	}
	again := b.ok("POST", list, bo.token, obj{"client_id": "3", "body": "words of 3", "reply_to": 3})
	require.Equal(t, float64(4), again.body["number"])
	b.refused(400, "reply_not_found", "POST", list, bo.token, obj{"client_id": "x", "body": "x", "reply_to": 77})
	b.refused(404, "not_member", "POST", list, eve.token, obj{"client_id": "x", "body": "x"})
	b.refused(404, "not_member", "GET", list, eve.token, nil)
	b.refused(404, "not_member", "GET", "/conversations/direct:"+ana.id+":"+bo.id+"/messages", ana.token, nil)

	// Both ways, around one, and what changed.
	page := b.ok("GET", list+"?limit=4", ana.token, nil)
	require.Equal(t, []int{6, 7, 8, 9}, page.numbers())
	require.Equal(t, []int{2, 3, 4, 5}, b.ok("GET", linked(page), ana.token, nil).numbers())
	page = b.ok("GET", list+"?limit=4&after=2", ana.token, nil)
	require.Equal(t, []int{3, 4, 5, 6}, page.numbers())
	require.Equal(t, []int{7, 8, 9}, b.ok("GET", linked(page), ana.token, nil).numbers())
	page = b.ok("GET", list+"?limit=4&around=5", ana.token, nil)
	require.Equal(t, []int{3, 4, 5, 6}, page.numbers())
	require.Equal(t, true, page.body["more_new"])
	b.refused(400, "bad_request", "GET", list+"?before=3&after=2", ana.token, nil)
	require.Empty(t, b.ok("GET", list+"?changed_after=0", ana.token, nil).numbers())

	// Edits.
	b.refused(403, "not_your_message", "PATCH", at(2), ana.token, obj{"body": "hacked"})
	m := b.ok("PATCH", at(2), bo.token, obj{"body": "better words", "change": 0})
	require.Equal(t, "better words", m.str("body"))
	require.Equal(t, float64(1), m.body["change"])
	b.refused(409, "message_changed", "PATCH", at(2), bo.token, obj{"body": "the best", "change": 0})
	b.refused(404, "message_not_found", "PATCH", at(99), bo.token, obj{"body": "x"})
	edits := b.ok("GET", at(2)+"/edits", ana.token, nil).body["edits"].([]any)
	require.Len(t, edits, 1)
	require.Equal(t, "words of 1", edits[0].(obj)["body"])

	// Reactions, by the emoji in the path.
	thumb := at(2) + "/reactions/" + url.PathEscape("👍🏽")
	m = b.ok("PUT", thumb, ana.token, nil)
	require.Equal(t, []any{obj{"emoji": "👍🏽", "count": float64(1), "users": []any{ana.id}}}, m.body["reactions"])
	b.refused(400, "bad_emoji", "PUT", at(2)+"/reactions/hm", ana.token, nil)
	require.Nil(t, b.ok("DELETE", thumb, ana.token, nil).body["reactions"])

	// Pins.
	require.Equal(t, true, b.ok("PUT", at(2)+"/pin", ana.token, nil).body["pinned"])
	require.Equal(t, []int{2}, b.ok("GET", talk+"/pins", bo.token, nil).numbers())
	b.ok("DELETE", at(2)+"/pin", ana.token, nil)
	require.Empty(t, b.ok("GET", talk+"/pins", bo.token, nil).numbers())

	// Search.
	found := b.ok("GET", "/messages/search?limit=5&q=wor", ana.token, nil)
	require.Equal(t, []int{9, 8, 7, 6, 5}, found.numbers())
	require.Equal(t, []int{4, 3, 2, 1}, b.ok("GET", linked(found), ana.token, nil).numbers())
	require.Equal(t, []int{2}, b.ok("GET", "/messages/search?q=better+words&room=group:"+group, ana.token, nil).numbers())
	require.Empty(t, b.ok("GET", "/messages/search?q=words", eve.token, nil).numbers())
	b.refused(404, "not_member", "GET", "/messages/search?q=words&room=group:"+group, eve.token, nil)
	b.refused(400, "bad_query", "GET", "/messages/search?q=w", ana.token, nil)

	// Deleted for oneself, and for everyone, by an admin.
	b.ok("DELETE", at(3)+"?for=me", bo.token, nil)
	require.Empty(t, b.ok("GET", at(3), bo.token, nil).str("body"))
	require.Equal(t, "words of 2", b.ok("GET", at(3), ana.token, nil).str("body"))
	mine := b.ok("POST", list, ana.token, obj{"client_id": "a", "body": "of the owner"})
	b.refused(403, "not_your_message", "DELETE", at(int(mine.body["number"].(float64))), bo.token, nil)
	b.ok("DELETE", at(2), ana.token, nil)
	m = b.ok("GET", at(2), bo.token, nil)
	require.Equal(t, true, m.body["deleted"])
	require.Empty(t, m.str("body"))
	require.Empty(t, b.ok("GET", at(2)+"/edits", bo.token, nil).body["edits"])
	b.refused(409, "message_deleted", "PUT", thumb, ana.token, nil)
	require.Equal(t, []int{2}, b.ok("GET", list+"?changed_after=1", ana.token, nil).numbers())
	b.refused(404, "message_not_found", "DELETE", at(99), ana.token, nil)

	// Whoever has left reads, writes and finds nothing.
	b.ok("DELETE", talk, bo.token, nil)
	for _, path := range []string{list, at(1), at(1) + "/edits", talk + "/pins"} {
		b.refused(404, "not_member", "GET", path, bo.token, nil)
	}
	b.refused(404, "not_member", "DELETE", at(1), bo.token, nil)
	b.refused(404, "not_member", "PUT", at(1)+"/pin", bo.token, nil)
	require.Empty(t, b.ok("GET", "/messages/search?q=words", bo.token, nil).numbers())
	b.refused(404, "not_member", "GET", "/conversations/group:"+uuid.NewString()+"/messages", ana.token, nil)
}
