package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

func (b *bundle) FleetChanged(_ context.Context, f core.FleetID, version uint64) {
	b.told(fmt.Sprintf("fleet %s %d", f, version))
}

func (b *bundle) KeysRevoked(_ context.Context, keys []core.LoginID) {
	for _, k := range keys {
		b.told("key " + k.String())
	}
}

// gateway makes a key of a fleet, and returns what it is traded for.
func (b *bundle) gateway(owner person, fleet string) string {
	b.t.Helper()
	k := b.ok("POST", "/fleets/"+fleet+"/keys", owner.token, nil)
	return b.ok("POST", "/fleets/token", "", obj{"key": k.str("key")}).str("access_token")
}

func TestLifeOfAFleet(t *testing.T) {
	b := setup(t)
	ana, eve := b.guest("Ana"), b.guest("Eve")
	body := obj{"name": " Scooters ", "precision": "r9", "expires_in": 3600}
	made := b.ok("POST", "/fleets", ana.token, body, keyHeader, "f-1")
	require.Equal(t, 201, made.StatusCode)
	again := b.ok("POST", "/fleets", ana.token, body, keyHeader, "f-1")
	require.Equal(t, string(made.raw), string(again.raw))
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.Equal(t, 1, b.count("fleets"))
	require.Equal(t, "Scooters", made.str("name"))
	require.Equal(t, "r9", made.str("precision"))
	require.NotEmpty(t, made.str("expires_at"))
	require.EqualValues(t, 1, made.body["version"])
	id := made.str("fleet_id")
	f := "/fleets/" + id

	require.Len(t, b.ok("GET", "/fleets", ana.token, nil).list("fleets", "fleet_id"), 1)
	require.JSONEq(t, `{"fleets":[]}`, string(b.ok("GET", "/fleets", eve.token, nil).raw))
	require.Equal(t, made.body, b.ok("GET", f, ana.token, nil).body)

	b.changes = nil
	got := b.ok("PATCH", f, ana.token, obj{"precision": "exact"})
	require.Equal(t, "exact", got.str("precision"))
	require.Equal(t, made.body["expires_at"], got.body["expires_at"], "unchanged")
	got = b.ok("PATCH", f, ana.token, obj{"expires_in": 0, "name": "Mopeds"})
	require.NotContains(t, got.body, "expires_at")
	got = b.ok("PATCH", f, ana.token, obj{"precision": "none"})
	require.Equal(t, "none", got.str("precision"))
	b.refused(400, "bad_fleet", "PATCH", f, ana.token, obj{"expires_in": 3600})
	got = b.ok("PATCH", f, ana.token, obj{"precision": "r0", "expires_in": 60})
	require.EqualValues(t, 5, got.body["version"], "what was refused is no version")
	require.Equal(t, []string{"fleet " + id + " 2", "fleet " + id + " 3", "fleet " + id + " 4", "fleet " + id + " 5"}, b.changes)
	b.advance(time.Minute)
	require.Equal(t, "none", b.ok("GET", f, ana.token, nil).str("precision"), "expired")

	for _, bad := range []obj{{"name": " "}, {"name": strings.Repeat("x", 81)}, {"name": "x", "precision": "r8", "expires_in": 59}, {"name": "x", "expires_in": 3600}, {"name": "x", "precision": "r8", "expires_in": 400_000_000}} {
		b.refused(400, "bad_fleet", "POST", "/fleets", ana.token, bad)
	}
	for _, bad := range []obj{{}, {"name": "x", "precision": "r11"}, {"name": "x", "precision": ""}, {"name": "x", "expires_in": -1}, {"name": "x", "owner": eve.id}} {
		b.refused(400, "bad_request", "POST", "/fleets", ana.token, bad)
	}
	b.refused(400, "bad_request", "GET", "/fleets/token", ana.token, nil)
	b.refused(400, "bad_request", "GET", "/fleets/"+strings.ToUpper(id), ana.token, nil)

	k := b.ok("POST", f+"/keys", ana.token, nil)
	b.changes = nil
	b.ok("DELETE", f, ana.token, nil)
	require.Equal(t, []string{"key " + k.str("key_id"), "fleet " + id + " 6"}, b.changes)
	for _, gone := range []string{"GET", "PATCH", "DELETE"} {
		var body any
		if gone == "PATCH" {
			body = obj{"precision": "exact"}
		}
		b.refused(404, "fleet_not_found", gone, f, ana.token, body)
	}
	b.refused(404, "fleet_not_found", "GET", f+"/keys", ana.token, nil)
	b.refused(404, "fleet_not_found", "POST", f+"/keys", ana.token, nil)
	b.refused(401, "key_invalid", "POST", "/fleets/token", "", obj{"key": k.str("key")})
	require.JSONEq(t, `{"fleets":[]}`, string(b.ok("GET", "/fleets", ana.token, nil).raw))
}

func TestKeysOfAFleet(t *testing.T) {
	b := setup(t)
	ana, eve := b.guest("Ana"), b.guest("Eve")
	id := b.ok("POST", "/fleets", ana.token, obj{"name": "Scooters"}).str("fleet_id")
	other := b.ok("POST", "/fleets", ana.token, obj{"name": "Vans"}).str("fleet_id")
	keys := "/fleets/" + id + "/keys"
	made := b.ok("POST", keys, ana.token, obj{"name": "depot"}, keyHeader, "k-1")
	require.Equal(t, 201, made.StatusCode)
	secret := made.str("key")
	require.Regexp(t, `^mfk_[A-Za-z0-9_-]{43}$`, secret)
	again := b.ok("POST", keys, ana.token, obj{"name": "depot"}, keyHeader, "k-1")
	require.Equal(t, made.body, again.body, "who did not hear the answer asks again")
	b.refused(409, "idempotency_key_reused", "POST", "/fleets/"+other+"/keys", ana.token, obj{"name": "depot"}, keyHeader, "k-1")
	b.refused(400, "bad_fleet", "POST", keys, ana.token, obj{"name": strings.Repeat("x", 81)})

	list := b.ok("GET", keys, ana.token, nil)
	require.Len(t, list.list("keys", "key_id"), 1)
	require.NotContains(t, string(list.raw), "mfk_", "it is told once")
	require.NotContains(t, b.log.String(), "mfk_")
	got := b.ok("POST", "/fleets/token", "", obj{"key": secret})
	require.Equal(t, id, got.str("fleet_id"))
	require.EqualValues(t, 900, got.body["expires_in"])
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(got.str("access_token"), ".")[1])
	require.NoError(t, err)
	var c obj
	require.NoError(t, json.Unmarshal(claims, &c))
	require.Equal(t, []any{id, made.str("key_id"), true, "Scooters"}, []any{c["sub"], c["sid"], c["fleet"], c["name"]})
	who, err := b.auth.Verifier().Verify(t.Context(), got.str("access_token"))
	require.NoError(t, err)
	require.Equal(t, []any{id, core.UserID{}, made.str("key_id")}, []any{who.Fleet.String(), who.User, who.Login.String()})

	b.refused(403, "fleet_token", "POST", "/auth/logout", got.str("access_token"), nil)
	b.refused(403, "fleet_token", "POST", "/auth/logout", "", obj{"token": got.str("access_token")})
	for _, bad := range []string{"", "mfk_", secret[4:], secret + "x", ana.token, got.str("access_token"), ana.refresh} {
		a := b.refused(401, "key_invalid", "POST", "/fleets/token", "", obj{"key": bad})
		require.NotContains(t, string(a.raw), "mfk_")
	}
	b.refused(401, "refresh_invalid", "POST", "/auth/refresh", "", obj{"refresh_token": secret})

	one := keys + "/" + made.str("key_id")
	b.refused(404, "fleet_not_found", "DELETE", one, eve.token, nil)
	b.refused(404, "key_not_found", "DELETE", "/fleets/"+other+"/keys/"+made.str("key_id"), ana.token, nil)
	b.refused(404, "key_not_found", "DELETE", keys+"/"+uuid.NewString(), ana.token, nil)
	b.changes = nil
	b.ok("DELETE", one, ana.token, nil)
	require.Equal(t, []string{"key " + made.str("key_id")}, b.changes)
	b.refused(404, "key_not_found", "DELETE", one, ana.token, nil)
	b.refused(401, "key_invalid", "POST", "/fleets/token", "", obj{"key": secret})
	require.JSONEq(t, `{"keys":[]}`, string(b.ok("GET", keys, ana.token, nil).raw))
}

func TestTradingKeysIsLimited(t *testing.T) {
	b := setup(t, func(c *Config) { c.AddressLimit = auth.Limit{Burst: 2, Every: 10 * time.Second} })
	for range 2 {
		b.refused(401, "key_invalid", "POST", "/fleets/token", "", obj{"key": "mfk_guess"})
	}
	a := b.refused(429, "rate_limited", "POST", "/fleets/token", "", obj{"key": "mfk_guess"})
	require.Equal(t, "10", a.Header.Get("Retry-After"))
}

func TestSubjectsNearby(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	fleet := core.FleetID(uuid.New())
	now := b.clock()
	sight := func(subject string, north float64, until time.Time) location.Sight {
		return location.Sight{Subject: subject, Until: until, View: grant.View{Point: geo.Destination(middle, 0, north), Precision: grant.Exact, Captured: now}}
	}
	b.where.subjects = map[core.FleetID][]location.Sight{fleet: {sight("s-1", 100, now.Add(time.Minute)), sight("old", 150, now), sight("s-2", 200, now.Add(time.Minute))}}
	b.where.unreached = []string{"ap-south"}
	at := fmt.Sprintf("/location/nearby?lat=%v&lng=%v", middle.Lat, middle.Lng)

	a := b.ok("GET", at+"&fleet="+fleet.String(), ana.token, nil)
	require.Empty(t, a.body["people"])
	require.Equal(t, []any{"ap-south"}, a.body["unreached"])
	list := a.body["subjects"].([]any)
	require.Len(t, list, 2, "what lapsed is not there")
	first := list[0].(obj)
	require.Equal(t, "s-1", first["subject_id"])
	require.InDelta(t, 100, first["distance"].(float64), 0.1)
	require.InDelta(t, 0, first["direction"].(float64), 0.1)
	require.NotContains(t, first, "user_id")

	a = b.ok("GET", at, ana.token, nil)
	require.Empty(t, a.body["subjects"])
	require.Equal(t, []any{"ap-south"}, a.body["unreached"])
	b.where.unreached = nil
	require.JSONEq(t, `{"people":[],"subjects":[],"more":false,"unreached":[]}`, string(b.ok("GET", at+"&fleet="+uuid.NewString(), ana.token, nil).raw))
	for _, bad := range []string{"x", strings.ToUpper(fleet.String()), "fleet:" + fleet.String()} {
		b.refused(400, "bad_request", "GET", at+"&fleet="+bad, ana.token, nil)
	}
}
