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

	fleet := b.ok("POST", "/fleets", ana.token, obj{"name": "Scooters"})
	gateway := b.gateway(ana, fleet.str("fleet_id"))

	bodies := map[string]obj{ // what gets past the schema
		"create-group":     {"name": "x"},
		"join-group":       {"invite_code": "BCDFGHJKM0"},
		"put-member":       {"role": "admin"},
		"send-message":     {"client_id": "x", "body": "let me in"},
		"transfer-group":   {"user_id": eve.id},
		"update-location":  {"coordinates": obj{"lat": 45, "lng": 13}},
		"create-grant":     {"audience": obj{"kind": "discoverable"}, "precision": "r8"},
		"create-zone":      {"center": obj{"lat": 45, "lng": 13}, "radius": 300, "precision": "r8"},
		"create-link":      {"precision": "r8"},
		"create-ask":       {"user_id": eve.id},
		"accept-ask":       {"precision": "r8", "expires_in": 3600},
		"put-sharing":      {"paused": false},
		"put-track":        {"enabled": false},
		"block":            {"user_id": eve.id},
		"ban":              {"user_id": eve.id},
		"request-friend":   {"user_id": eve.id},
		"put-discoverable": {"discoverable": true},
		"create-fence":     {"name": "x", "shape": obj{"circle": obj{"center": obj{"lat": 45, "lng": 13}, "radius": 300}}},
		"put-meeting":      {"meet_distance": 100},
		"create-fleet":     {"name": "x"},
		"upgrade":          {"username": "Up", "email": "up@example.org", "password": "correct horse battery"},
	}
	public := map[string]bool{"register": true, "login": true, "guest": true, "refresh": true, "logout": true, "keys": true, "edge": true, "edge-probe": true, "demo": true, "open-link": true, "fleet-token": true}
	path := strings.NewReplacer("{group_id}", group, "{user_id}", ana.id, "{invite_code}", "BCDFGHJKM0",
		"{grant_id}", uuid.NewString(), "{zone_id}", uuid.NewString(), "{ask_id}", uuid.NewString(), "{link}", uuid.NewString(), "{fence_id}", uuid.NewString(),
		"{fleet_id}", fleet.str("fleet_id"), "{key_id}", uuid.NewString()).Replace

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
			b.refused(403, "fleet_token", method, where, gateway, body)
			if strings.Contains(template, "{fleet_id}") {
				b.refused(404, "fleet_not_found", method, where, eve.token, body)
				b.refused(404, "fleet_not_found", method, strings.Replace(where, fleet.str("fleet_id"), uuid.NewString(), 1), ana.token, body)
			}
			if strings.Contains(template, "{group_id}") {
				b.refused(404, "not_member", method, where, eve.token, body)
				b.refused(404, "not_member", method, where, bob.token, body) // was one
				b.refused(404, "not_member", method, strings.Replace(where, group, uuid.NewString(), 1), ana.token, body)
			}
		}
	}
	require.Greater(t, checked, 15)
}
