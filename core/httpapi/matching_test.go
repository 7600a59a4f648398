package httpapi

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/matching"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// withMatching adds people nearby, by the same answers that nearby gives.
func withMatching(b *bundle, cfg *Config) {
	cfg.Matching = matching.New(cfg.DB, matching.Config{
		Map: mapOf{b.where}, Blocks: cfg.Location.Blocks, Ratings: cfg.Ratings, Meetings: met{cfg.Ratings}, Notify: cfg.Notifications.Notifier,
		Secret: cfg.Secret, Now: cfg.Now, Metrics: b.metrics,
	})
}

type mapOf struct{ live location.Live }

func (m mapOf) Own(user core.UserID) (geo.Point, time.Time, bool) {
	raw, ok := m.live.Own(user)
	if !ok {
		return geo.Point{}, time.Time{}, false
	}
	v := grant.Own(raw)
	return v.Point, v.Captured, true
}

func (m mapOf) Near(ctx context.Context, viewer core.UserID, center geo.Point, radius float64) (c matching.Crowd, err error) {
	found, err := m.live.Near(ctx, viewer, core.FleetID{}, center, radius, 1000)
	c.More, c.Unreached = found.More, found.Unreached
	for _, s := range found.Sights {
		c.Sights = append(c.Sights, matching.Sight{User: s.User, View: s.View})
	}
	return c, err
}

type met struct{ ratings *ratings.Store }

func (m met) Opened(ctx context.Context, tx pgx.Tx, id uuid.UUID, people []core.UserID, at time.Time) error {
	return m.ratings.Opened(ctx, tx, ratings.Encounter{ID: id, Kind: ratings.Nearby, People: people, At: at})
}

// aTalkRequest is one of the other member's to the owner.
func aTalkRequest(w *world) map[string]string {
	return map[string]string{"request_id": w.once("talk request", func() string {
		return w.talk(`INSERT INTO talk_requests (id, asker, asked, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`, "other", "owner")
	})}
}

// anOwnTalkRequest is one of the owner's.
func anOwnTalkRequest(w *world) map[string]string {
	return map[string]string{"request_id": w.once("own talk request", func() string {
		return w.talk(`INSERT INTO talk_requests (id, asker, asked, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)`, "owner", "other")
	})}
}

// aTalk is the owner's with the other member.
func aTalk(w *world) map[string]string {
	return map[string]string{"talk_id": w.talk(`INSERT INTO talks (id, asker, asked, opened_at, expires_at) VALUES ($1, $2, $3, $4, $5)`, "owner", "other")}
}

func (w *world) talk(sql, asker, asked string) string {
	id, now := uuid.NewString(), w.clock()
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, id, w.people[asker].id, w.people[asked].id, now, now.Add(24*time.Hour))
		return err
	}))
	return id
}

func TestMeetingSomebodyNearby(t *testing.T) {
	b := setup(t)
	ana, bo := b.guest("Ana"), b.guest("Bo")
	b.refused(409, "matching_closed", "GET", "/matching/people", ana.token, nil)
	profile := b.ok("GET", "/matching/profile", ana.token, nil)
	require.Equal(t, obj{"open": false, "interests": []any{}, "radius": 5000., "max_age": 900., "min_rating": 0., "say": ""}, profile.body)
	for _, p := range []person{ana, bo} {
		// A coarse position may be a quarter of an hour late by itself.
		b.ok("PUT", "/matching/profile", p.token, obj{"open": true, "interests": []string{"Chess"}, "say": "hello", "max_age": 1800})
	}
	b.refused(400, "bad_request", "PUT", "/matching/profile", ana.token, obj{"open": true, "radius": 1})
	b.refused(400, "bad_matching_profile", "PUT", "/matching/profile", ana.token, obj{"open": true, "interests": []string{" "}})
	b.refused(409, "no_position", "GET", "/matching/people", ana.token, nil)
	b.ok("POST", "/location/update", ana.token, obj{"coordinates": obj{"lat": 45.65, "lng": 13.77}})
	b.ok("POST", "/location/update", bo.token, obj{"coordinates": obj{"lat": 45.6512, "lng": 13.7712}})
	people := func(p person, query string) []any {
		return b.ok("GET", "/matching/people"+query, p.token, nil).body["people"].([]any)
	}
	require.Empty(t, people(ana, ""), "bo shares with nobody")
	b.ok("POST", "/location/grants", bo.token, obj{"audience": obj{"kind": "discoverable"}, "precision": "r7"})
	got := people(ana, "")
	require.Len(t, got, 1)
	require.Equal(t, obj{"user_id": bo.id, "username": "Bo", "profile_picture": "", "say": "hello", "interests": []any{"chess"}, "common": []any{"chess"},
		"within": 2000., "minutes": got[0].(obj)["minutes"], "rating": obj{"count": 0., "ranking": 3.}, "relation": "none"}, got[0], "of a cell of 1.4 km nothing finer is told")
	require.Len(t, people(bo, "?lat=45.65&lng=13.77"), 0, "ana can't be found")
	require.Len(t, people(ana, "?lat=45.65&lng=13.77&radius=3000"), 1)
	require.Empty(t, people(ana, "?lat=46.65&lng=13.77"))

	b.refused(404, "person_not_found", "POST", "/matching/requests", bo.token, obj{"user_id": ana.id})
	asked := b.ok("POST", "/matching/requests", ana.token, obj{"user_id": bo.id, "say": "coffee?"})
	id := asked.str("request_id")
	require.NotContains(t, asked.body, "room")
	list := b.ok("GET", "/matching/requests", bo.token, nil).body["requests"].([]any)
	require.Len(t, list, 1)
	require.Equal(t, []any{id, ana.id, "coffee?"}, []any{list[0].(obj)["request_id"], list[0].(obj)["user_id"], list[0].(obj)["say"]})
	require.Len(t, b.ok("GET", "/matching/requests?direction=sent", ana.token, nil).body["requests"], 1)
	b.refused(404, "request_not_found", "POST", "/matching/requests/"+id+"/accept", ana.token, nil)
	room := b.ok("POST", "/matching/requests/"+id+"/accept", bo.token, nil).str("room")
	require.Equal(t, "nearby:"+id, room)
	require.Equal(t, room, b.ok("POST", "/matching/requests", ana.token, obj{"user_id": bo.id}).str("room"))
	b.ok("POST", "/matching/talks/"+id+"/end", ana.token, nil)
	b.refused(404, "talk_not_found", "POST", "/matching/talks/"+uuid.NewString()+"/end", ana.token, nil)
	require.Len(t, b.ok("GET", "/ratings/pending", bo.token, nil).body["encounters"], 1)

	// Whoever was shown knows by whom.
	b.record.Stop()
	require.Contains(t, string(b.ok("GET", "/location/receipts", bo.token, nil).raw), `"matching"`)
}
