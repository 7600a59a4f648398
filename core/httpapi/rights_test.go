package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// Who may ask what, over every operation of the document: a new one is checked
// from its first day.
func TestEveryOperationChecksWhoAsks(t *testing.T) {
	b := setup(t)
	ana, bob, eve, out := b.guest("Ana"), b.guest("Bob"), b.guest("Eve"), b.guest("Out")
	group := b.group(ana, bob)
	b.ok("DELETE", "/groups/"+group+"/members/"+bob.id, ana.token, nil)
	b.ok("POST", "/auth/logout", out.token, nil)

	bodies := map[string]obj{ // what gets past the schema
		"create-group":   {"name": "x"},
		"join-group":     {"invite_code": "BCDFGHJKM0"},
		"put-member":     {"role": "admin"},
		"send-message":   {"client_id": "x", "body": "let me in"},
		"transfer-group": {"user_id": eve.id},
		"upgrade":        {"username": "Up", "email": "up@example.org", "password": "correct horse battery"},
	}
	public := map[string]bool{"register": true, "login": true, "guest": true, "refresh": true, "logout": true, "keys": true, "edge": true, "edge-probe": true, "demo": true}
	path := strings.NewReplacer("{group_id}", group, "{user_id}", ana.id, "{invite_code}", "BCDFGHJKM0").Replace

	doc := b.ok("GET", "/openapi.json", "", nil).body
	checked := 0
	for template, operations := range doc["paths"].(obj) {
		for method, described := range operations.(obj) {
			operation, method := described.(obj), strings.ToUpper(method)
			id := operation["operationId"].(string)
			where := strings.TrimPrefix(path(template), prefix)
			if security := operation["security"].([]any); len(security) == 0 {
				require.True(t, public[id], "%s needs no token", id)
				continue
			}
			require.False(t, public[id], id)
			checked++
			var body any
			if method != http.MethodGet && method != http.MethodDelete {
				body = obj{}
				if known, ok := bodies[id]; ok {
					body = known
				}
			}
			b.refused(401, "unauthenticated", method, where, "", body)
			b.refused(401, "unauthenticated", method, where, "x."+ana.token, body)
			b.refused(401, "signed_out", method, where, out.token, body)
			if strings.Contains(template, "{group_id}") {
				b.refused(404, "not_member", method, where, eve.token, body)
				b.refused(404, "not_member", method, where, bob.token, body) // was one
				b.refused(404, "not_member", method, strings.Replace(where, group, uuid.NewString(), 1), ana.token, body)
			}
		}
	}
	require.Greater(t, checked, 15)
}
