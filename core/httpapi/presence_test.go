package httpapi

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/presence"
	"github.com/mustermesh/muster/internal/errs"
)

func TestPresenceSettings(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	require.JSONEq(t, `{"invisible":false,"last_seen_audience":"groups"}`, string(b.ok("GET", "/me/presence", ana.token, nil).raw))
	require.JSONEq(t, `{"invisible":true,"last_seen_audience":"groups"}`, string(b.ok("PATCH", "/me/presence", ana.token, obj{"invisible": true}).raw))
	require.JSONEq(t, `{"invisible":true,"last_seen_audience":"nobody"}`,
		string(b.ok("PATCH", "/me/presence", ana.token, obj{"last_seen_audience": "nobody"}).raw))
	require.JSONEq(t, `{"invisible":true,"last_seen_audience":"nobody"}`, string(b.ok("PATCH", "/me/presence", ana.token, obj{}).raw))
	require.Equal(t, []string{ana.id + " invisible true"}, b.changes)
	a := b.refused(400, "bad_audience", "PATCH", "/me/presence", ana.token, obj{"last_seen_audience": "friends"})
	require.Equal(t, "body.last_seen_audience", a.str("field"))
	b.refused(400, "bad_request", "PATCH", "/me/presence", ana.token, obj{"invisible": "yes"})
	b.refused(400, "bad_request", "PATCH", "/me/presence", ana.token, obj{"visible": true})
	a = b.refused(405, "method_not_allowed", "PUT", "/me/presence", ana.token, obj{})
	require.Equal(t, "GET, HEAD, PATCH", a.Header.Get("Allow"))
}

func TestPresenceOfAUser(t *testing.T) {
	b := setup(t)
	ana, bo, eve := b.guest("Ana"), b.guest("Bo"), b.guest("Eve")
	room := "group:" + b.group(ana, bo)
	of := func(who person) string { return "/users/" + who.id + "/presence" }
	is := func(want string, viewer, who person) {
		t.Helper()
		require.JSONEq(t, want, string(b.ok("GET", of(who), viewer.token, nil).raw))
	}
	enters := func(who person, s wire.State) {
		b.live.mu.Lock()
		defer b.live.mu.Unlock()
		b.live.states[who.id+" "+room] = s
	}
	is(`{"state":"offline"}`, ana, bo)
	id, err := core.ParseUserID(bo.id)
	require.NoError(t, err)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	require.NoError(t, presence.New(b.db, nil).Seen(t.Context(), map[core.UserID]time.Time{id: noon}))
	is(`{"state":"offline","last_seen":"2026-03-01T12:00:00Z"}`, ana, bo)
	enters(bo, wire.State_LIVE)
	is(`{"state":"online"}`, ana, bo)
	enters(bo, wire.State_SUSPENDED)
	is(`{"state":"away","last_seen":"2026-03-01T12:00:00Z"}`, ana, bo)

	enters(bo, wire.State_LIVE)
	b.ok("PATCH", "/me/presence", bo.token, obj{"invisible": true})
	is(`{"state":"offline","last_seen":"2026-03-01T12:00:00Z"}`, ana, bo)
	is(`{"state":"online"}`, bo, bo)
	b.ok("PATCH", "/me/presence", bo.token, obj{"last_seen_audience": "nobody"})
	is(`{"state":"offline"}`, ana, bo)

	b.refused(404, "user_not_found", "GET", of(bo), eve.token, nil)
	b.refused(404, "user_not_found", "GET", "/users/"+uuid.NewString()+"/presence", eve.token, nil)
	b.refused(400, "bad_request", "GET", "/users/"+strings.ToUpper(bo.id)+"/presence", ana.token, nil)
	b.ok("PATCH", "/me/presence", bo.token, obj{"last_seen_audience": "everyone"})
	is(`{"state":"unknown","last_seen":"2026-03-01T12:00:00Z"}`, eve, bo)
	b.ok("PATCH", "/me/presence", bo.token, obj{"invisible": false})
	is(`{"state":"unknown","last_seen":"2026-03-01T12:00:00Z"}`, eve, bo)

	b.live.mu.Lock()
	b.live.err = errors.New("no owner")
	b.live.mu.Unlock()
	is(`{"state":"unknown","last_seen":"2026-03-01T12:00:00Z"}`, ana, bo)
}

func TestPresenceOfAGroup(t *testing.T) {
	b := setup(t)
	ana, eve := b.guest("Ana"), b.guest("Eve")
	group := b.group(ana)
	path := "/groups/" + group + "/presence"
	require.JSONEq(t, `{"counts":{"live":0,"suspended":7},"people":[]}`, string(b.ok("GET", path, ana.token, nil).raw))
	since := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	people := []*wire.Person{
		{User: uuid.NewString(), Name: "Bo", Devices: []*wire.Device{
			{Device: "phone", State: wire.State_SUSPENDED, Region: "eu-west", Node: "eu-west-1", Since: since, Transport: wire.Transport_WEBTRANSPORT},
			{Device: "laptop", State: wire.State_LIVE, Region: "us-east", Node: "us-east-2", Transport: wire.Transport_WEBSOCKET},
		}},
		{User: uuid.NewString(), Name: "Cy", Devices: []*wire.Device{{Device: "phone", State: wire.State_SUSPENDED}}},
		{User: uuid.NewString(), Name: "Di", Devices: []*wire.Device{{Device: "phone", State: wire.State_LEFT}}},
		{User: uuid.NewString(), Name: "Ed"},
	}
	slices.SortFunc(people, func(x, y *wire.Person) int { return strings.Compare(x.User, y.User) })
	b.live.rooms["group:"+group] = people

	states := map[string]string{}
	pages := 0
	for next := path + "?limit=3"; next != ""; pages++ {
		a := b.ok("GET", next, ana.token, nil)
		require.EqualValues(t, obj{"live": 4.0, "suspended": 7.0}, a.body["counts"])
		for _, p := range a.body["people"].([]any) {
			states[p.(obj)["name"].(string)] = p.(obj)["state"].(string)
			if p.(obj)["name"] == "Bo" {
				require.Equal(t, []any{
					obj{"device": "phone", "state": "away", "since": "2026-03-01T12:00:00Z", "region": "eu-west", "node": "eu-west-1", "transport": "webtransport"},
					obj{"device": "laptop", "state": "online", "region": "us-east", "node": "us-east-2", "transport": "websocket"},
				}, p.(obj)["devices"])
			}
		}
		next, _ = strings.CutSuffix(strings.TrimPrefix(a.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	}
	require.Equal(t, map[string]string{"Bo": "online", "Cy": "away", "Di": "offline", "Ed": "unknown"}, states)
	require.Equal(t, 2, pages)

	b.refused(404, "not_member", "GET", path, eve.token, nil)
	b.refused(400, "bad_request", "GET", path+"?after=x", ana.token, nil)
	b.refused(400, "bad_request", "GET", path+"?limit=501", ana.token, nil)
	b.live.mu.Lock()
	b.live.err = errs.New(errs.Unavailable, "retry", "the room is moving: try again").After(time.Second)
	b.live.mu.Unlock()
	a := b.refused(503, "retry", "GET", path, ana.token, nil)
	require.Equal(t, "1", a.Header.Get("Retry-After"))
}

// A deployment part without a mesh still knows when people were here.
func TestPresenceWithoutMesh(t *testing.T) {
	b := setup(t, func(c *Config) { c.Live = nil })
	ana, bo := b.guest("Ana"), b.guest("Bo")
	group := b.group(ana, bo)
	require.JSONEq(t, `{"state":"unknown"}`, string(b.ok("GET", "/users/"+bo.id+"/presence", ana.token, nil).raw))
	b.refused(404, "not_found", "GET", "/groups/"+group+"/presence", ana.token, nil)
}
