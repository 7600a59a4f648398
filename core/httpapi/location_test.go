package httpapi

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/h3"
	"github.com/mustermesh/muster/internal/errs"
)

// at is a place so many metres north of the middle of the tests.
func at(north float64) obj {
	p := geo.Destination(middle, 0, north)
	return obj{"lat": p.Lat, "lng": p.Lng}
}

var middle = geo.Point{Lat: 45.328, Lng: 13.964}

// cellOf is the cell of a resolution that the middle is in.
func cellOf(res int) geo.Cell {
	c, _ := h3.CellOf(middle, res)
	return c
}

// again signs somebody in whose token has lapsed.
func (b *bundle) again(p person) person {
	b.t.Helper()
	a := b.ok("POST", "/auth/refresh", "", obj{"refresh_token": p.refresh})
	return person{p.id, a.str("token"), a.str("refresh_token")}
}

// report has somebody report a place in a group ("": none).
func (b *bundle) report(who person, group string, north float64) {
	b.t.Helper()
	body := obj{"coordinates": at(north), "accuracy": 10}
	if group != "" {
		body["group_id"] = group
	}
	b.ok("POST", "/location/update", who.token, body)
}

// list are the answer's objects under a key, by a field of theirs.
func (a answer) list(key, by string) map[string]obj {
	out := map[string]obj{}
	for _, v := range a.body[key].([]any) {
		out[v.(obj)[by].(string)] = v.(obj)
	}
	return out
}

func TestReportAndLook(t *testing.T) {
	b := setup(t)
	ana, bo, cy, eve := b.guest("Ana"), b.guest("Bo"), b.guest("Cy"), b.guest("Eve")
	group := b.group(ana, bo, cy)
	group2 := b.group(ana, bo)
	locations, proximity := "/location/group/"+group, "/location/proximity/"+group
	require.JSONEq(t, `{"locations":[]}`, string(b.ok("GET", locations, ana.token, nil).raw))
	require.JSONEq(t, `{"proximities":[]}`, string(b.ok("GET", proximity, ana.token, nil).raw))

	b.report(bo, group, 1000)
	b.advance(3 * time.Second)
	seen := b.ok("GET", locations, cy.token, nil).list("locations", "user_id")
	require.Len(t, seen, 1)
	require.Equal(t, at(1000), seen[bo.id]["coordinates"])
	require.Equal(t, "exact", seen[bo.id]["precision"])
	require.Equal(t, 10.0, seen[bo.id]["accuracy"])
	require.InDelta(t, 3, seen[bo.id]["age"].(float64), 0.1)
	for _, absent := range []string{"speed", "heading", "battery", "cell"} {
		require.NotContains(t, seen[bo.id], absent)
	}
	require.JSONEq(t, `{"locations":[]}`, string(b.ok("GET", "/location/group/"+group2, ana.token, nil).raw), "another group was not named")
	require.JSONEq(t, `{"proximities":[]}`, string(b.ok("GET", proximity, cy.token, nil).raw), "without a position of one's own there is no distance")
	b.where.unreached = []string{"ap-south", "us-west"}
	for _, path := range []string{locations, proximity} {
		require.Equal(t, "ap-south,us-west", b.ok("GET", path, cy.token, nil).Header.Get("Unreached-Regions"))
	}
	b.where.unreached = nil
	require.Empty(t, b.ok("GET", locations, cy.token, nil).Header.Values("Unreached-Regions"))

	b.report(ana, group, 0)
	near := b.ok("GET", proximity, ana.token, nil).list("proximities", "user_id")
	require.Len(t, near, 1)
	require.InDelta(t, 1000, near[bo.id]["distance"].(float64), 0.1)
	require.InDelta(t, 0, near[bo.id]["direction"].(float64), 0.1)
	require.InDelta(t, 180, b.ok("GET", proximity, bo.token, nil).list("proximities", "user_id")[ana.id]["direction"].(float64), 0.1)

	// Order is by capture time: what comes late replaces nothing.
	b.ok("POST", "/location/update", bo.token, obj{"group_id": group, "coordinates": at(5000), "timestamp": b.clock().Add(-time.Minute)})
	require.Equal(t, at(1000), b.ok("GET", locations, ana.token, nil).list("locations", "user_id")[bo.id]["coordinates"])
	b.ok("POST", "/location/update", bo.token, obj{"group_id": group, "coordinates": at(2000), "seq": 7})
	b.ok("POST", "/location/update", bo.token, obj{"group_id": group, "coordinates": at(1000), "seq": 6})
	require.Equal(t, at(2000), b.ok("GET", locations, ana.token, nil).list("locations", "user_id")[bo.id]["coordinates"])
	b.ok("POST", "/location/update", bo.token, obj{"group_id": group, "coordinates": at(1500), "seq": 8, "speed": 0.8, "heading": 360, "battery": 0})
	got := b.ok("GET", locations, ana.token, nil).list("locations", "user_id")[bo.id]
	require.Equal(t, []any{0.8, 0.0, 0.0}, []any{got["speed"], got["heading"], got["battery"]})
	require.NotContains(t, got, "accuracy", "not known")

	// Bo and Cy are on no terms: neither sees the other, in either way.
	b.report(cy, group, 500)
	b.ok("POST", "/blocks", cy.token, obj{"user_id": bo.id})
	for viewer, not := range map[person]person{bo: cy, cy: bo} {
		require.NotContains(t, b.ok("GET", locations, viewer.token, nil).list("locations", "user_id"), not.id)
		require.NotContains(t, b.ok("GET", proximity, viewer.token, nil).list("proximities", "user_id"), not.id)
		require.Contains(t, b.ok("GET", proximity, viewer.token, nil).list("proximities", "user_id"), ana.id)
	}

	b.ok("DELETE", "/location/me", bo.token, nil)
	require.NotContains(t, b.ok("GET", locations, ana.token, nil).list("locations", "user_id"), bo.id)
	b.advance(16 * time.Minute)
	ana = b.again(ana)
	require.JSONEq(t, `{"locations":[]}`, string(b.ok("GET", locations, ana.token, nil).raw), "lapsed")

	b.refused(404, "not_member", "POST", "/location/update", b.again(eve).token, obj{"group_id": group, "coordinates": at(0)})
	b.where.err = errors.New("no owner of the room")
	b.refused(500, "internal", "GET", locations, ana.token, nil)
}

func TestReportsThatAreRefused(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	now := b.clock()
	for _, c := range []struct {
		code string
		body any
	}{
		{"bad_request", obj{}},
		{"bad_request", obj{"coordinates": nil}},
		{"bad_request", obj{"coordinates": obj{}}},
		{"bad_request", obj{"coordinates": obj{"lat": 45}}},
		{"bad_request", obj{"coordinates": []any{45, 13}}},
		{"bad_request", obj{"coordinates": obj{"lat": "45", "lng": "13"}}},
		{"bad_coordinates", obj{"coordinates": obj{"lat": 0, "lng": 0}}},
		{"bad_coordinates", obj{"coordinates": obj{"lat": 90.1, "lng": 0}}},
		{"bad_coordinates", obj{"coordinates": obj{"lat": 0, "lng": -180.1}}},
		{"bad_coordinates", obj{"coordinates": obj{"lat": 1e300, "lng": 0}}},
		{"bad_request", `{"coordinates":{"lat":NaN,"lng":0}}`},
		{"bad_request", obj{"coordinates": at(0), "accuracy": -1}},
		{"bad_fix", obj{"coordinates": at(0), "accuracy": 1e6}},
		{"bad_request", obj{"coordinates": at(0), "heading": 361}},
		{"bad_request", obj{"coordinates": at(0), "speed": -1}},
		{"bad_fix", obj{"coordinates": at(0), "speed": 1e9}},
		{"bad_request", obj{"coordinates": at(0), "battery": 80}},
		{"bad_request", obj{"coordinates": at(0), "group_id": "x"}},
		{"bad_request", obj{"coordinates": at(0), "timestamp": "yesterday"}},
		{"fix_in_future", obj{"coordinates": at(0), "timestamp": now.Add(time.Minute)}},
		{"fix_too_old", obj{"coordinates": at(0), "timestamp": now.Add(-25 * time.Hour)}},
		{"bad_request", obj{"coordinates": at(0), "seq": -1}},
		{"bad_request", obj{"coordinates": at(0), "permission": "denied"}},
	} {
		a := b.refused(400, c.code, "POST", "/location/update", ana.token, c.body)
		require.NotContains(t, string(a.raw), "45.3", "values are not echoed")
	}
	require.Empty(t, b.where.known())
}

func TestReportsAreLimited(t *testing.T) {
	b := setup(t, func(c *Config) { c.Location.Limit = auth.Limit{Burst: 3, Every: 10 * time.Second} })
	ana, bo := b.guest("Ana"), b.guest("Bo")
	for range 3 {
		b.report(ana, "", 0)
	}
	a := b.refused(429, "rate_limited", "POST", "/location/update", ana.token, obj{"coordinates": at(0)})
	require.Equal(t, "10", a.Header.Get("Retry-After"))
	b.report(bo, "", 0)
	b.advance(10 * time.Second)
	b.report(ana, "", 0)
}

// A report that was not taken comes again under its number, which is then new.
func TestARefusedReportComesAgain(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	b.where.refuse = errs.New(errs.Unavailable, "retry", "too many people")
	body := obj{"coordinates": at(0), "seq": 5}
	b.refused(503, "retry", "POST", "/location/update", ana.token, body)
	b.where.refuse = nil
	b.ok("POST", "/location/update", ana.token, body)
	require.NotEmpty(t, b.where.known())
}

func TestGrantsOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo, cy := b.guest("Ana"), b.guest("Bo"), b.guest("Cy")
	group := b.group(ana, bo)
	b.changes = nil
	body := obj{"audience": obj{"kind": "group", "id": group}, "precision": "r8", "expires_in": 3600, "purpose": "hike"}
	g := b.ok("POST", "/location/grants", ana.token, body, "Idempotency-Key", "k1")
	require.Equal(t, 201, g.StatusCode)
	again := b.ok("POST", "/location/grants", ana.token, body, "Idempotency-Key", "k1")
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.Equal(t, g.raw, again.raw)
	require.Equal(t, obj{"kind": "group", "id": group, "name": "Friday crew"}, g.body["audience"])
	require.Equal(t, "sharing "+ana.id+" 1", b.changes[0])
	b.refused(409, "idempotency_key_reused", "POST", "/location/grants", ana.token, obj{"audience": obj{"kind": "discoverable"}, "precision": "r8"}, "Idempotency-Key", "k1")

	// The group sees the cell, whatever the report says.
	b.report(ana, group, 0)
	seen := b.ok("GET", "/location/group/"+group, bo.token, nil).list("locations", "user_id")[ana.id]
	cell := cellOf(8)
	require.Equal(t, "r8", seen["precision"])
	require.Equal(t, cell.String(), seen["cell"])
	center, err := h3.Center(cell)
	require.NoError(t, err)
	require.Equal(t, obj{"lat": center.Lat, "lng": center.Lng}, seen["coordinates"])
	require.Greater(t, seen["accuracy"].(float64), 300.0)
	b.report(bo, group, 3000)
	p := b.ok("GET", "/location/proximity/"+group, bo.token, nil).list("proximities", "user_id")[ana.id]
	require.InDelta(t, geo.Distance(geo.Destination(middle, 0, 3000), center), p["distance"].(float64), 0.1, "to the cell")

	path := "/location/grants/" + g.str("grant_id")
	c := b.ok("PATCH", path, ana.token, obj{"precision": "exact", "expires_in": 0})
	require.NotContains(t, c.body, "expires_at")
	require.Equal(t, "hike", c.str("purpose"))
	require.Equal(t, "exact", b.ok("GET", "/location/group/"+group, bo.token, nil).list("locations", "user_id")[ana.id]["precision"])
	b.refused(404, "grant_not_found", "PATCH", path, bo.token, obj{})
	b.refused(404, "grant_not_found", "DELETE", path, bo.token, nil)
	b.refused(400, "bad_request", "DELETE", "/location/grants/x", ana.token, nil)

	b.ok("PUT", "/location/sharing", ana.token, obj{"paused": true, "expires_in": 600})
	require.NotContains(t, b.ok("GET", "/location/group/"+group, bo.token, nil).list("locations", "user_id"), ana.id)
	require.Equal(t, true, b.ok("GET", "/location/sharing", ana.token, nil).body["paused"])
	b.ok("PUT", "/location/sharing", ana.token, obj{"paused": false})
	require.JSONEq(t, `{"paused":false}`, string(b.ok("GET", "/location/sharing", ana.token, nil).raw))

	b.ok("DELETE", path, ana.token, nil)
	b.report(ana, group, 0)
	require.NotContains(t, b.ok("GET", "/location/group/"+group, bo.token, nil).list("locations", "user_id"), ana.id, "naming the group shares nothing now")
	require.Equal(t, true, b.ok("GET", "/location/grants", ana.token, nil).list("grants", "grant_id")[g.str("grant_id")]["ended"])
	b.ok("DELETE", path+"?forget=true", ana.token, nil)
	b.report(ana, group, 0)
	require.Contains(t, b.ok("GET", "/location/group/"+group, bo.token, nil).list("locations", "user_id"), ana.id)

	// To a person.
	b.changes = nil
	b.ok("POST", "/location/grants", ana.token, obj{"audience": obj{"kind": "person", "id": bo.id}, "precision": "r9"})
	a, err := core.ParseUserID(ana.id)
	require.NoError(t, err)
	o, err := core.ParseUserID(bo.id)
	require.NoError(t, err)
	room := core.DirectRoom(a, o)
	require.Len(t, b.changes, 2)
	require.True(t, strings.HasPrefix(b.changes[1], room+" "), "the other is told")
	people := b.ok("GET", "/location/people", bo.token, nil).list("people", "user_id")
	require.Equal(t, room, people[ana.id]["room"])
	require.Equal(t, "r9", people[ana.id]["precision"])
	require.Equal(t, "r9", people[ana.id]["location"].(obj)["precision"])
	require.JSONEq(t, `{"people":[]}`, string(b.ok("GET", "/location/people", ana.token, nil).raw))
	b.ok("DELETE", "/location/me", ana.token, nil)
	require.NotContains(t, b.ok("GET", "/location/people", bo.token, nil).list("people", "user_id")[ana.id], "location")

	for code, bad := range map[string][]obj{
		"bad_request": {
			{}, {"audience": obj{"kind": "everyone"}, "precision": "r8"}, {"audience": obj{"kind": "discoverable"}, "precision": "r11"},
			{"audience": obj{"kind": "discoverable"}, "precision": 8}, {"audience": obj{"kind": "discoverable"}, "precision": "none"},
			{"audience": obj{"kind": "discoverable"}}, {"audience": obj{"kind": "discoverable"}, "precision": "r8", "expires_in": -1},
		},
		"bad_grant": {
			{"audience": obj{"kind": "group"}, "precision": "r8"}, {"audience": obj{"kind": "person", "id": "x"}, "precision": "r8"},
			{"audience": obj{"kind": "discoverable", "id": bo.id}, "precision": "r8"}, {"audience": obj{"kind": "discoverable"}, "precision": "r8", "expires_in": 10},
			{"audience": obj{"kind": "discoverable"}, "precision": "r8", "expires_in": int64(math.MaxInt64)},
			{"audience": obj{"kind": "discoverable"}, "precision": "r8", "purpose": strings.Repeat("x", 201)},
		},
	} {
		for _, body := range bad {
			b.refused(400, code, "POST", "/location/grants", ana.token, body)
		}
	}
	b.refused(404, "not_member", "POST", "/location/grants", cy.token, obj{"audience": obj{"kind": "group", "id": group}, "precision": "r8"})
	b.refused(404, "user_not_found", "POST", "/location/grants", cy.token, obj{"audience": obj{"kind": "person", "id": ana.id}, "precision": "r8"})

	z := b.ok("POST", "/location/zones", ana.token, obj{"name": "home", "center": at(0), "radius": 300, "precision": "r6"}, "Idempotency-Key", "z")
	require.Equal(t, "home", b.ok("GET", "/location/zones", ana.token, nil).list("zones", "zone_id")[z.str("zone_id")]["name"])
	b.refused(400, "bad_zone", "POST", "/location/zones", ana.token, obj{"center": at(0), "radius": 300, "precision": "exact"})
	b.refused(400, "bad_zone", "POST", "/location/zones", ana.token, obj{"center": at(0), "radius": 0, "precision": "r6"})
	b.refused(404, "zone_not_found", "DELETE", "/location/zones/"+z.str("zone_id"), bo.token, nil)
	b.ok("DELETE", "/location/zones/"+z.str("zone_id"), ana.token, nil)
}

func TestNearbyOverHTTP(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	var others []person
	for i := range 4 {
		p := b.guest(fmt.Sprint("Neighbour ", i))
		precision := "exact"
		if i == 3 {
			precision = "r6"
		}
		b.ok("POST", "/location/grants", p.token, obj{"audience": obj{"kind": "discoverable"}, "precision": precision})
		b.report(p, "", float64(100*(i+1)))
		others = append(others, p)
	}
	b.refused(409, "no_position", "GET", "/location/nearby", ana.token, nil)
	b.report(ana, "", 0)
	people := func(query string) (ids []string, more bool) {
		a := b.ok("GET", "/location/nearby"+query, ana.token, nil)
		for _, p := range a.body["people"].([]any) {
			ids = append(ids, p.(obj)["user_id"].(string))
		}
		return ids, a.body["more"].(bool)
	}
	ids, more := people("?radius=350")
	require.Equal(t, []string{others[0].id, others[1].id, others[2].id}, ids, "who chose a coarse position is where its cell is")
	require.False(t, more)
	ids, more = people("?radius=350&limit=2")
	require.Len(t, ids, 2)
	require.True(t, more)
	ids, _ = people(fmt.Sprintf("?radius=50&lat=%v&lng=%v", at(200)["lat"], at(200)["lng"]))
	require.Equal(t, []string{others[1].id}, ids)
	got := b.ok("GET", "/location/nearby", ana.token, nil).list("people", "user_id")
	require.Equal(t, "r6", got[others[3].id]["precision"])
	require.Equal(t, "Neighbour 0", got[others[0].id]["name"])
	require.InDelta(t, 100, got[others[0].id]["distance"].(float64), 0.1)

	b.ok("POST", "/blocks", others[0].token, obj{"user_id": ana.id})
	b.ok("POST", "/blocks", ana.token, obj{"user_id": others[1].id})
	ids, _ = people("?radius=350")
	require.Equal(t, []string{others[2].id}, ids)
	b.advance(16 * time.Minute)
	ana = b.again(ana)
	b.report(ana, "", 0)
	ids, _ = people("")
	require.Empty(t, ids, "stale")
	for _, bad := range []string{"?radius=0", "?radius=50001", "?limit=0", "?limit=101", "?lat=45", "?lng=13", "?lat=91&lng=0", "?lat=x&lng=0", "?cursor=x"} {
		b.refused(400, "bad_request", "GET", "/location/nearby"+bad, ana.token, nil)
	}
}

func TestReceiptsOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo := b.guest("Ana"), b.guest("Bo")
	group := b.group(ana, bo)
	b.report(ana, group, 0)
	b.ok("GET", "/location/proximity/"+group, bo.token, nil) // learns nothing: has no position
	b.ok("GET", "/location/group/"+group, bo.token, nil)
	b.ok("GET", "/location/group/"+group, bo.token, nil)
	b.ok("GET", "/location/group/"+group, ana.token, nil)
	b.report(bo, group, 100)
	b.ok("GET", "/location/proximity/"+group, bo.token, nil)
	b.record.Stop()
	var receipts []obj
	for next := "/location/receipts?limit=1"; next != ""; {
		a := b.ok("GET", next, ana.token, nil)
		for _, r := range a.body["receipts"].([]any) {
			receipts = append(receipts, r.(obj))
		}
		next, _ = strings.CutSuffix(strings.TrimPrefix(a.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	}
	require.Len(t, receipts, 2)
	require.Equal(t, obj{"kind": "user", "id": bo.id, "name": "Bo"}, receipts[0]["reader"])
	require.Equal(t, []any{"proximity", 1.0, "exact"}, []any{receipts[0]["how"], receipts[0]["reads"], receipts[0]["precision"]})
	require.Equal(t, []any{"group", 2.0}, []any{receipts[1]["how"], receipts[1]["reads"]})
	b.refused(400, "bad_cursor", "GET", "/location/receipts?cursor=x", ana.token, nil)
}

func TestAsksOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo, eve := b.guest("Ana"), b.guest("Bo"), b.guest("Eve")
	b.group(ana, bo)
	b.refused(404, "user_not_found", "POST", "/location/asks", eve.token, obj{"user_id": ana.id})
	b.refused(400, "bad_request", "POST", "/location/asks", ana.token, obj{"user_id": "x"})
	b.refused(400, "bad_ask", "POST", "/location/asks", ana.token, obj{"user_id": bo.id, "duration": 5})
	body := obj{"user_id": bo.id, "message": "where?", "precision": "r9", "duration": 1800}
	k := b.ok("POST", "/location/asks", ana.token, body, "Idempotency-Key", "k")
	require.Equal(t, k.raw, b.ok("POST", "/location/asks", ana.token, body, "Idempotency-Key", "k").raw)
	b.refused(409, "ask_open", "POST", "/location/asks", ana.token, body)
	in := b.ok("GET", "/location/asks", bo.token, nil).list("asks", "ask_id")[k.str("ask_id")]
	require.Equal(t, []any{"open", "where?", "r9", 1800.0}, []any{in["state"], in["message"], in["precision"], in["duration"]})
	require.Equal(t, obj{"user_id": ana.id, "username": "Ana"}, in["from"])
	path := "/location/asks/" + k.str("ask_id")
	b.refused(400, "bad_request", "POST", path+"/accept", bo.token, obj{})
	b.refused(404, "ask_not_found", "POST", path+"/accept", eve.token, obj{"precision": "r5", "expires_in": 600})
	g := b.ok("POST", path+"/accept", bo.token, obj{"precision": "r5", "expires_in": 600}, "Idempotency-Key", "a")
	require.Equal(t, g.raw, b.ok("POST", path+"/accept", bo.token, obj{"precision": "r5", "expires_in": 600}, "Idempotency-Key", "a").raw)
	b.refused(404, "ask_not_found", "POST", path+"/decline", bo.token, nil)
	b.report(bo, "", 0)
	require.Equal(t, "r5", b.ok("GET", "/location/people", ana.token, nil).list("people", "user_id")[bo.id]["location"].(obj)["precision"])
	k = b.ok("POST", "/location/asks", ana.token, obj{"user_id": bo.id})
	require.Equal(t, "exact", k.str("precision"))
	b.ok("POST", "/location/asks/"+k.str("ask_id")+"/decline", bo.token, nil)
	a := b.refused(429, "rate_limited", "POST", "/location/asks", ana.token, obj{"user_id": bo.id})
	require.NotEmpty(t, a.Header.Get("Retry-After"))
	k = b.ok("POST", "/location/asks", bo.token, obj{"user_id": ana.id})
	b.ok("DELETE", "/location/asks/"+k.str("ask_id"), bo.token, nil)
	first := b.ok("GET", "/location/asks?direction=out&limit=1", ana.token, nil)
	next, _ := strings.CutSuffix(strings.TrimPrefix(first.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	require.Len(t, b.ok("GET", next, ana.token, nil).list("asks", "ask_id"), 1)
}

func TestLinksOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo := b.guest("Ana"), b.guest("Bo")
	body := obj{"precision": "r7", "expires_in": 3600, "purpose": "mum"}
	l := b.ok("POST", "/location/links", ana.token, body, "Idempotency-Key", "k")
	require.Equal(t, l.raw, b.ok("POST", "/location/links", ana.token, body, "Idempotency-Key", "k").raw)
	require.Equal(t, "https://example.org/l/"+l.str("token"), l.str("url"))
	open := "/location/links/" + l.str("token")
	a := b.ok("GET", open, "", nil)
	require.NotContains(t, a.body, "location")
	b.report(ana, "", 0)
	a = b.ok("GET", open, "", nil)
	require.Equal(t, "r7", a.body["location"].(obj)["precision"])
	require.NotContains(t, string(a.raw), ana.id)
	require.NotContains(t, string(a.raw), "Ana")
	require.NotContains(t, string(a.raw), "mum")
	require.Equal(t, l.str("token"), b.ok("GET", "/location/links", ana.token, nil).list("links", "link_id")[l.str("link_id")]["token"])
	b.refused(404, "link_not_found", "DELETE", "/location/links/"+l.str("link_id"), bo.token, nil)
	b.ok("DELETE", "/location/links/"+l.str("link_id"), ana.token, nil)

	// Never made, ended and malformed look alike.
	var answers []string
	for _, token := range []string{l.str("token"), strings.Repeat("A", 32), "x", l.str("link_id")} {
		answers = append(answers, string(b.refused(404, "link_not_found", "GET", "/location/links/"+token, "", nil).raw))
	}
	require.Len(t, slices.Compact(answers), 1)
	b.refused(400, "bad_request", "GET", "/location/links/"+strings.Repeat("A", 65), "", nil)
	b.refused(400, "bad_link", "POST", "/location/links", ana.token, obj{"precision": "r7", "expires_in": 31 * 24 * 3600})

	b.record.Stop()
	receipts := b.ok("GET", "/location/receipts", ana.token, nil).body["receipts"].([]any)
	require.Len(t, receipts, 1)
	require.Equal(t, obj{"kind": "link", "id": l.str("link_id"), "name": "mum"}, receipts[0].(obj)["reader"])
	require.NotContains(t, b.log.String(), l.str("token"))
}

func TestLinksAreLimitedByAddress(t *testing.T) {
	b := setup(t, func(c *Config) { c.AddressLimit = auth.Limit{Burst: 3, Every: time.Minute} })
	for range 3 {
		b.refused(404, "link_not_found", "GET", "/location/links/x", "", nil)
	}
	b.refused(429, "rate_limited", "GET", "/location/links/x", "", nil)
}

func TestTrackOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo := b.guest("Ana"), b.guest("Bo")
	require.JSONEq(t, `{"enabled":false,"retention_days":30,"points":0}`, string(b.ok("GET", "/location/track", ana.token, nil).raw))
	b.refused(400, "bad_track", "PUT", "/location/track", ana.token, obj{"enabled": true, "retention_days": 4000})
	b.ok("PUT", "/location/track", ana.token, obj{"enabled": true, "retention_days": 90})
	start := b.clock().Truncate(time.Second)
	for i := range 20 { // late ones too
		b.ok("POST", "/location/update", ana.token, obj{"coordinates": at(float64(100 * i)), "accuracy": 10, "speed": 1.5, "heading": 90,
			"timestamp": start.Add(-time.Duration(i) * time.Minute)})
	}
	b.record.Stop()
	tr := b.ok("GET", "/location/track", ana.token, nil)
	require.EqualValues(t, 20, tr.body["points"])
	require.Equal(t, start.Format(time.RFC3339), tr.str("last"))

	var points []any
	for next := "/location/track/points?limit=7"; next != ""; {
		a := b.ok("GET", next, ana.token, nil)
		points = append(points, a.body["points"].([]any)...)
		next, _ = strings.CutSuffix(strings.TrimPrefix(a.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	}
	require.Len(t, points, 20)
	require.Equal(t, at(0), points[19].(obj)["coordinates"])
	require.Equal(t, at(1900), points[0].(obj)["coordinates"])
	span := "from=" + start.Add(-5*time.Minute).Format(time.RFC3339) + "&until=" + start.Add(-2*time.Minute).Format(time.RFC3339)
	require.Len(t, b.ok("GET", "/location/track/points?"+span, ana.token, nil).body["points"], 3)
	require.JSONEq(t, `{"points":[]}`, string(b.ok("GET", "/location/track/points", bo.token, nil).raw))

	a := b.ok("GET", "/location/track/export?"+span, ana.token, nil)
	require.Equal(t, "application/gpx+xml", a.Header.Get("Content-Type"))
	var gpx struct {
		XMLName xml.Name `xml:"http://www.topografix.com/GPX/1/1 gpx"`
		Version string   `xml:"version,attr"`
		Points  []struct {
			Lat   float64   `xml:"lat,attr"`
			Lon   float64   `xml:"lon,attr"`
			Time  time.Time `xml:"time"`
			Speed float64   `xml:"extensions>TrackPointExtension>speed"`
		} `xml:"trk>trkseg>trkpt"`
	}
	require.NoError(t, xml.Unmarshal(a.raw, &gpx))
	require.Equal(t, "1.1", gpx.Version)
	require.Len(t, gpx.Points, 3)
	require.True(t, gpx.Points[0].Time.Equal(start.Add(-5*time.Minute)))
	require.InDelta(t, at(500)["lat"].(float64), gpx.Points[0].Lat, 1e-6)
	require.InDelta(t, middle.Lng, gpx.Points[0].Lon, 1e-6)
	require.Equal(t, 1.5, gpx.Points[0].Speed)

	a = b.ok("GET", "/location/track/export?format=geojson", ana.token, nil)
	require.Equal(t, "application/geo+json", a.Header.Get("Content-Type"))
	require.Equal(t, `attachment; filename="track.geojson"`, a.Header.Get("Content-Disposition"))
	require.Len(t, a.body["features"], 20)
	last := a.body["features"].([]any)[19].(obj)
	require.Equal(t, []any{at(0)["lng"], at(0)["lat"]}, last["geometry"].(obj)["coordinates"])
	require.Equal(t, obj{"time": start.Format(time.RFC3339), "accuracy": 10.0, "speed": 1.5, "heading": 90.0}, last["properties"])
	require.Empty(t, b.ok("GET", "/location/track/export?format=geojson", bo.token, nil).body["features"])
	b.refused(400, "bad_request", "GET", "/location/track/export?format=kml", ana.token, nil)

	require.EqualValues(t, 3, b.ok("DELETE", "/location/track?"+span, ana.token, nil).body["deleted"])
	require.EqualValues(t, 17, b.ok("DELETE", "/location/track", ana.token, nil).body["deleted"])
	log := regexp.MustCompile(`"time":"[^"]*"`).ReplaceAllString(b.log.String(), "") // seconds may look like degrees
	require.NotContains(t, log, "45.3", "no position is logged")
	require.NotContains(t, log, "13.96")
}

// A long export is read page by page.
func TestLongExport(t *testing.T) {
	views := func(n int) func(func(grant.View) error) error {
		return func(yield func(grant.View) error) error {
			for i := range n {
				if err := yield(grant.View{Point: geo.Point{Lat: -0.0000001, Lng: -179.9999999}, Captured: time.Unix(int64(i), 0)}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, write := range []func(io.Writer, func(func(grant.View) error) error) error{writeGPX, writeGeoJSON} {
		var text strings.Builder
		require.NoError(t, write(&text, views(5000)))
		require.Contains(t, text.String(), "-179.9999999")
		require.Error(t, write(failing{}, views(1)))
	}
	require.Equal(t, "-0.0000001", number(-1e-7, 7), "no exponent in XML")
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestFencesOverHTTP(t *testing.T) {
	b := setup(t)
	ana, bo := b.guest("Ana"), b.guest("Bo")
	group := b.group(ana, bo)
	path := "/groups/" + group + "/fences"
	require.JSONEq(t, `{"fences":[],"meet_distance":0}`, string(b.ok("GET", path, bo.token, nil).raw))
	body := obj{"name": "Station", "shape": obj{"circle": obj{"center": at(0), "radius": 200}}, "dwell": 60}
	b.changes = nil
	f := b.ok("POST", path, bo.token, body, "Idempotency-Key", "k")
	require.Equal(t, f.raw, b.ok("POST", path, bo.token, body, "Idempotency-Key", "k").raw)
	require.True(t, strings.HasPrefix(b.changes[0], "group:"+group+" "), "the room is told")
	require.Equal(t, body["shape"].(obj)["circle"].(obj)["center"], f.body["shape"].(obj)["circle"].(obj)["center"])
	require.Equal(t, bo.id, f.str("created_by"))
	for _, shape := range []obj{
		{"cells": []any{cellOf(9).String()}},
		{"polygon": []any{[]any{at(0), at(1000), obj{"lat": middle.Lat, "lng": middle.Lng + 0.01}}}},
	} {
		a := b.ok("POST", path, ana.token, obj{"name": "x", "shape": shape})
		require.Equal(t, shape, a.body["shape"])
		b.refused(403, "role_required", "DELETE", path+"/"+a.str("fence_id"), bo.token, nil)
	}
	for _, shape := range []obj{
		{}, {"circle": obj{"center": at(0), "radius": -1}}, {"cells": []any{}}, {"polygon": []any{[]any{at(0)}}},
		{"cells": []any{cellOf(9).String()}, "circle": obj{"center": at(0), "radius": 100}},
	} {
		b.refused(400, "bad_fence", "POST", path, ana.token, obj{"name": "x", "shape": shape})
	}
	b.refused(400, "bad_request", "POST", path, ana.token, obj{"name": "x", "shape": obj{"cells": []any{"zzz"}}})
	b.refused(400, "bad_fence", "POST", path, ana.token, obj{"name": "", "shape": body["shape"]})
	c := b.ok("PATCH", path+"/"+f.str("fence_id"), ana.token, obj{"name": "Main station", "dwell": 0})
	require.Equal(t, []any{"Main station", 2.0}, []any{c.body["name"], c.body["revision"]})
	b.refused(404, "fence_not_found", "PATCH", path+"/"+uuid.NewString(), ana.token, obj{})
	b.refused(403, "role_required", "PUT", "/groups/"+group+"/meeting", bo.token, obj{"meet_distance": 100})
	b.refused(400, "bad_fence", "PUT", "/groups/"+group+"/meeting", ana.token, obj{"meet_distance": 1})
	b.ok("PUT", "/groups/"+group+"/meeting", ana.token, obj{"meet_distance": 100})
	require.EqualValues(t, 100, b.ok("GET", path, bo.token, nil).body["meet_distance"])

	id, err := uuid.Parse(f.str("fence_id"))
	require.NoError(t, err)
	who, err := core.ParseUserID(bo.id)
	require.NoError(t, err)
	_, stored, err := b.places.Cross(t.Context(), "group:"+group, location.Crossing{ID: uuid.New(), Kind: location.Enter, Fence: id, Name: "Main station", User: who, At: b.clock(), Revision: 2, N: 1})
	require.NoError(t, err)
	require.True(t, stored)
	crossings := b.ok("GET", path+"/crossings", ana.token, nil).body["crossings"].([]any)
	require.Len(t, crossings, 1)
	require.Equal(t, []any{"enter", bo.id, "Main station", false}, []any{crossings[0].(obj)["kind"], crossings[0].(obj)["user_id"], crossings[0].(obj)["name"], crossings[0].(obj)["passed"]})
	b.ok("DELETE", path+"/"+f.str("fence_id"), bo.token, nil)
	b.refused(404, "fence_not_found", "DELETE", path+"/"+f.str("fence_id"), bo.token, nil)
}

func TestBlocksOverHTTP(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	b.refused(404, "user_not_found", "POST", "/blocks", ana.token, obj{"user_id": uuid.NewString()})
	b.refused(400, "bad_request", "POST", "/blocks", ana.token, obj{"user_id": ana.id})
	b.refused(400, "bad_request", "POST", "/blocks", ana.token, obj{"user_id": "x"})
	for i := range 5 {
		other := b.guest(fmt.Sprint("Other ", i))
		b.ok("POST", "/blocks", ana.token, obj{"user_id": other.id})
		b.ok("POST", "/blocks", ana.token, obj{"user_id": other.id})
	}
	var names []string
	for next := "/blocks?limit=2"; next != ""; {
		a := b.ok("GET", next, ana.token, nil)
		for _, p := range a.body["blocks"].([]any) {
			names = append(names, p.(obj)["username"].(string))
			b.ok("DELETE", "/blocks/"+p.(obj)["user_id"].(string), ana.token, nil)
		}
		next, _ = strings.CutSuffix(strings.TrimPrefix(a.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	}
	require.Equal(t, []string{"Other 4", "Other 3", "Other 2", "Other 1", "Other 0"}, names)
	require.JSONEq(t, `{"blocks":[]}`, string(b.ok("GET", "/blocks", ana.token, nil).raw))
	b.ok("DELETE", "/blocks/"+uuid.NewString(), ana.token, nil)
}

// crowd is a mesh that knows a lot of people, also those whose positions lapsed.
type crowd struct {
	*fakeWhere
	sights []location.Sight
}

func (c *crowd) Room(context.Context, string) (location.Found, error) {
	return location.Found{Sights: c.sights}, nil
}
func (c *crowd) Near(_ context.Context, _ core.UserID, _ core.FleetID, _ geo.Point, _ float64, _ int) (location.Found, error) {
	return location.Found{Sights: c.sights}, nil
}

// Of 10,000 people a third denies the permission, and a third went stale.
func TestDeniedAndStale(t *testing.T) {
	var mesh *crowd
	b := setup(t, func(c *Config) {
		mesh = &crowd{fakeWhere: c.Location.Live.(*fakeWhere)}
		c.Location.Live = mesh
	})
	const people = 9_999
	ana := b.guest("Ana")
	group := b.group(ana)
	var ids []core.UserID
	require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		ids = nil
		for range people {
			ids = append(ids, core.UserID(uuid.New()))
		}
		if _, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) SELECT v, v::TEXT, v::TEXT, true, 'eu-west' FROM unnest($1::UUID[]) AS v`, ids); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO group_members (group_id, user_id, role) SELECT $1, v, 'member' FROM unnest($2::UUID[]) AS v`, group, ids)
		return err
	}))
	now := b.clock()
	ages := map[string]float64{}
	for i, id := range ids {
		age := time.Duration(i%900) * time.Second
		switch i % 3 {
		case 0: // denied: their app has nothing to report, so the mesh has nothing
			continue
		case 1: // stale: moved on without opening the app
			age += fakeLife
		case 2:
			ages[id.String()] = age.Seconds()
		}
		captured := now.Add(-age)
		p := geo.Destination(middle, float64(i%360), float64(i))
		raw, err := grant.NewRaw(p, 10, grant.Reading{}, grant.Reading{}, grant.Reading{}, captured)
		require.NoError(t, err)
		mesh.sights = append(mesh.sights, location.Sight{User: id, View: grant.Own(raw), Until: captured.Add(fakeLife)})
	}
	b.report(ana, "", 0)
	for _, c := range []struct{ path, key string }{
		{"/location/group/" + group, "locations"}, {"/location/proximity/" + group, "proximities"}, {"/location/nearby", "people"},
	} {
		b.mu.Lock()
		b.now = now
		b.mu.Unlock()
		seen := b.ok("GET", c.path, ana.token, nil).list(c.key, "user_id")
		for id, got := range seen {
			age, live := ages[id]
			require.True(t, live, "%s shows somebody who denied or is stale", c.key)
			require.InDelta(t, age, got["age"].(float64), 1)
			if at, ok := got["coordinates"].(obj); ok {
				p := geo.Point{Lat: at["lat"].(float64), Lng: at["lng"].(float64)}
				require.Less(t, geo.Distance(middle, p), 20_000.0, "nobody is at (0, 0)")
			}
			if d, ok := got["distance"].(float64); ok {
				require.Less(t, d, 20_000.0)
			}
		}
		// Those at the very edge of the time to live may lapse while it is asked.
		require.InDelta(t, len(ages), len(seen), 5, c.key)
	}

	// Whoever denied is refused what stands for nothing, and can use the rest.
	for _, nothing := range []any{obj{"lat": 0, "lng": 0}, nil, obj{}} {
		b.request(http.MethodPost, "/location/update", ana.token, obj{"group_id": group, "coordinates": nothing})
	}
	denied := b.guest("Denied")
	b.refused(400, "bad_coordinates", "POST", "/location/update", denied.token, obj{"coordinates": obj{"lat": 0, "lng": 0}})
	b.refused(400, "bad_request", "POST", "/location/update", denied.token, obj{"coordinates": nil})
	b.refused(409, "no_position", "GET", "/location/nearby", denied.token, nil)
	b.ok("GET", fmt.Sprintf("/location/nearby?lat=%v&lng=%v", middle.Lat, middle.Lng), denied.token, nil)
	b.ok("DELETE", "/location/me", denied.token, nil)
}
