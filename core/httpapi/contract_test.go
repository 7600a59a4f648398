package httpapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The contract, as the specification of the API gives it: path, request and
// response fields. A response field written "a[]b,c" is a list of objects
// with b and c, "a{}b,c" an object. Beyond that specification groups have a
// home_region, positions say more than where and when, and a call may be of another
// room, and say how one talks in it.
var contract = []struct {
	id, method, path   string
	request            string
	response           string
	optionalInRequests bool // the request has a body that may be absent
}{
	{"S1.37", "POST", "/auth/register", "username email password device_info", "user_id token refresh_token", false},
	{"S1.38", "POST", "/auth/login", "email password device_info", "user_id token refresh_token", false},
	{"S1.39", "POST", "/auth/refresh", "refresh_token", "token refresh_token", false},
	{"S1.40", "POST", "/auth/logout", "token", "success", false},
	{"S1.41", "GET", "/users/profile", "", "user_id username email email_verified profile_picture settings subscription_status", false},
	{"S1.42", "PUT", "/users/profile", "username profile_picture settings", "success user{}user_id,username,email,email_verified,profile_picture,settings,subscription_status", false},
	{"S1.45", "GET", "/groups", "", "groups[]group_id,name,avatar,member_count,last_active", false},
	{"S1.46", "POST", "/groups", "name description avatar settings", "group_id invite_code", false},
	{"S1.47", "GET", "/groups/{group_id}", "", "group_id name description avatar settings members[]user_id,username,profile_picture,role,joined_at created_at home_region", false},
	{"S1.48", "PUT", "/groups/{group_id}", "name description avatar settings", "success group{}group_id,name,description,avatar,settings,members,created_at,home_region", false},
	{"S1.49", "POST", "/groups/{group_id}/invite", "", "invite_code expires_at", true},
	{"S1.51", "POST", "/location/update", "group_id coordinates accuracy speed heading battery timestamp seq", "success", false},
	{"S1.52", "GET", "/location/group/{group_id}", "", "locations[]user_id,coordinates,timestamp,accuracy,speed,heading,battery,age,precision", false},
	{"S1.53", "GET", "/location/proximity/{group_id}", "", "proximities[]user_id,distance,direction,age,precision", false},
	{"S1.63", "GET", "/communication/sessions", "", "sessions[]session_id,group_id,type,participants,started_at", false},
	{"S1.64", "POST", "/communication/sessions", "group_id type room push_to_talk hearing", "session_id signaling_url", false},
	{"S1.50", "POST", "/groups/join", "invite_code", "success group{}group_id,name,description,avatar,settings,members,created_at,home_region", false},
}

// requireKeys checks an answer's keys against the contract's notation.
func requireKeys(t *testing.T, id, want string, body map[string]any) {
	t.Helper()
	got := map[string]any{}
	maps.Copy(got, body)
	for _, field := range strings.Fields(want) {
		name, inner := field, ""
		list := false
		if n, in, ok := strings.Cut(field, "[]"); ok {
			name, inner, list = n, in, true
		} else if n, in, ok := strings.Cut(field, "{}"); ok {
			name, inner = n, in
		}
		v, ok := got[name]
		require.True(t, ok, "%s: %s is missing", id, name)
		require.NotNil(t, v, "%s: %s is null", id, name)
		delete(got, name)
		if inner == "" {
			continue
		}
		objects := []any{v}
		if list {
			objects = v.([]any)
			require.NotEmpty(t, objects, "%s: %s", id, name)
		}
		for _, o := range objects {
			keys := slices.Sorted(maps.Keys(o.(map[string]any)))
			require.Equal(t, slices.Sorted(slices.Values(strings.Split(inner, ","))), keys, "%s: %s", id, name)
		}
	}
	require.Empty(t, got, "%s: more keys than the contract has", id)
}

func TestContractOfAnswers(t *testing.T) {
	b := setup(t)
	account := obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse", "device_info": obj{"os": "test"}}
	answers := map[string]answer{}
	answers["S1.37"] = b.ok("POST", "/auth/register", "", account)
	delete(account, "username")
	answers["S1.38"] = b.ok("POST", "/auth/login", "", account)
	answers["S1.39"] = b.ok("POST", "/auth/refresh", "", obj{"refresh_token": answers["S1.38"].str("refresh_token")})
	token := answers["S1.37"].str("token")
	answers["S1.41"] = b.ok("GET", "/users/profile", token, nil)
	require.Equal(t, "free", answers["S1.41"].str("subscription_status"))
	answers["S1.42"] = b.ok("PUT", "/users/profile", token, obj{"username": "Ana Lima", "profile_picture": "https://example.org/a.png", "settings": obj{"theme": "dark"}})
	require.Equal(t, true, answers["S1.42"].body["success"])
	answers["S1.46"] = b.ok("POST", "/groups", token, obj{"name": "Friday crew", "description": "d", "avatar": "", "settings": obj{}})
	group := answers["S1.46"].str("group_id")
	answers["S1.45"] = b.ok("GET", "/groups", token, nil)
	answers["S1.47"] = b.ok("GET", "/groups/"+group, token, nil)
	answers["S1.48"] = b.ok("PUT", "/groups/"+group, token, obj{"name": "Saturday crew", "description": "", "avatar": "", "settings": obj{}})
	answers["S1.49"] = b.ok("POST", "/groups/"+group+"/invite", token, nil)
	bob := b.guest("Bob")
	answers["S1.50"] = b.ok("POST", "/groups/join", bob.token, obj{"invite_code": answers["S1.49"].str("invite_code")})
	require.Equal(t, true, answers["S1.50"].body["success"])
	fix := obj{"group_id": group, "coordinates": obj{"lat": 45.3, "lng": 13.9}, "accuracy": 10, "speed": 1.5, "heading": 90, "battery": 0.5,
		"timestamp": b.clock().Format(time.RFC3339Nano), "seq": 1}
	answers["S1.51"] = b.ok("POST", "/location/update", token, fix)
	require.Equal(t, true, answers["S1.51"].body["success"])
	b.ok("POST", "/location/update", bob.token, fix)
	answers["S1.52"] = b.ok("GET", "/location/group/"+group, token, nil)
	answers["S1.53"] = b.ok("GET", "/location/proximity/"+group, token, nil)
	answers["S1.64"] = b.ok("POST", "/communication/sessions", token, obj{"group_id": group, "type": "audio"})
	answers["S1.63"] = b.ok("GET", "/communication/sessions", token, nil)
	answers["S1.40"] = b.ok("POST", "/auth/logout", "", obj{"token": token})
	require.Equal(t, true, answers["S1.40"].body["success"])
	for _, c := range contract {
		requireKeys(t, c.id, c.response, answers[c.id].body)
	}
}

func TestContractOfTheDocument(t *testing.T) {
	b := setup(t)
	a := b.ok("GET", "/openapi.json", "", nil)
	require.Equal(t, "application/openapi+json;version=3.1", a.Header.Get("Content-Type"))
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			RequestBody struct {
				Required bool
				Content  map[string]struct{ Schema schema }
			}
			Responses map[string]struct {
				Content map[string]struct{ Schema schema }
			}
		}
		Components struct{ Schemas map[string]schema }
	}
	require.NoError(t, json.Unmarshal(a.raw, &doc))
	require.True(t, strings.HasPrefix(doc.OpenAPI, "3.1"))
	resolve := func(s schema) schema {
		if s.Ref != "" {
			return doc.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		}
		return s
	}
	for _, c := range contract {
		op, ok := doc.Paths[prefix+c.path][strings.ToLower(c.method)]
		require.True(t, ok, c.id)
		request := slices.Sorted(maps.Keys(resolve(op.RequestBody.Content["application/json"].Schema).Properties))
		if c.optionalInRequests {
			require.False(t, op.RequestBody.Required, "%s: can be called without a body", c.id)
		} else {
			require.Equal(t, slices.Sorted(slices.Values(strings.Fields(c.request))), request, "%s: fields of the request", c.id)
		}
		for status, r := range op.Responses {
			if status[0] != '2' {
				require.Contains(t, r.Content, "application/problem+json", c.id)
				require.Contains(t, resolve(r.Content["application/problem+json"].Schema).Properties, "code", c.id)
				continue
			}
			want := map[string]bool{}
			for _, f := range strings.Fields(c.response) {
				f, _, _ = strings.Cut(f, "[]")
				f, _, _ = strings.Cut(f, "{}")
				want[f] = true
			}
			require.Equal(t, slices.Sorted(maps.Keys(want)),
				slices.Sorted(maps.Keys(resolve(r.Content["application/json"].Schema).Properties)), "%s: fields of the response", c.id)
		}
	}
}

type schema struct {
	Ref        string `json:"$ref"`
	Properties map[string]json.RawMessage
}
