package httpapi

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/core/users"
)

// withRatings adds ratings and reports to an API. They need cards.
func withRatings(t *testing.T, cfg *Config) {
	cfg.Ratings = ratings.New(cfg.DB, cfg.Users, ratings.Config{Now: cfg.Now})
	var err error
	cfg.Reports, err = reports.New(cfg.DB, cfg.Secret, seen{cfg.Groups, cfg.Cards}, reports.Config{Now: cfg.Now})
	require.NoError(t, err)
}

// seen are groups that one is in, and people who are not hidden.
type seen struct {
	groups *groups.Store
	cards  *users.Cards
}

func (s seen) See(ctx context.Context, user core.UserID, about reports.Subject) (reports.Seen, error) {
	var err error
	if id, ok := core.GroupOf(about.Room); ok {
		_, err = s.groups.Get(ctx, user, id)
	} else if about.Room == "" {
		_, err = s.cards.Get(ctx, user, about.User)
	} else {
		err = groups.ErrNotMember
	}
	if errors.Is(err, groups.ErrNotMember) || errors.Is(err, users.ErrNotFound) {
		err = reports.ErrNoSubject
	}
	return reports.Seen{User: about.User, Evidence: map[string]any{"is": "there"}}, err
}

// met has people meet.
func (b *bundle) met(people ...person) string {
	b.t.Helper()
	e := ratings.Encounter{ID: uuid.New(), Kind: ratings.Nearby, At: b.clock()}
	for _, p := range people {
		id, err := core.ParseUserID(p.id)
		require.NoError(b.t, err)
		e.People = append(e.People, id)
	}
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return ratings.New(b.db, nil, ratings.Config{}).Opened(ctx, tx, e)
	}))
	return e.ID.String()
}

// ratingsShown are what all that shows a person says of their rating.
func (b *bundle) ratingsShown(viewer, who person, group string) (all []string) {
	b.t.Helper()
	find := func(path, list string) {
		for _, v := range b.ok("GET", path, viewer.token, nil).body[list].([]any) {
			if o := v.(obj); o["user_id"] == who.id {
				all = append(all, fmt.Sprint(o["rating"]))
			}
		}
	}
	all = append(all, fmt.Sprint(b.ok("GET", "/users/"+who.id, viewer.token, nil).body["rating"]),
		fmt.Sprint(b.ok("GET", "/users/"+who.id+"/ratings", viewer.token, nil).body["rating"]))
	find("/groups/"+group+"/members", "members")
	find("/friends", "friends")
	return all
}

func TestRatings(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	group := b.group(ana, bob, eve)
	b.ok("POST", "/friends/requests", ana.token, obj{"user_id": bob.id})
	b.ok("POST", "/friends/requests", bob.token, obj{"user_id": ana.id})
	shown := func(want string) {
		t.Helper()
		require.Equal(t, []string{want, want, want, want}, b.ratingsShown(ana, bob, group), "one value")
	}
	shown("map[count:0 ranking:3]")

	encounter := b.met(ana, bob)
	pending := func(p person) []any {
		return b.ok("GET", "/ratings/pending", p.token, nil).body["encounters"].([]any)
	}
	require.Equal(t, bob.id, pending(ana)[0].(obj)["people"].([]any)[0].(obj)["user_id"])
	require.Empty(t, pending(eve))
	five := obj{"encounter_id": encounter, "user_id": bob.id, "stars": 5, "text": "on time"}
	etag := b.ok("GET", "/users/"+bob.id, eve.token, nil).Header.Get("ETag")
	require.Equal(t, obj{"stars": 5.0, "text": "on time", "revealed": false}, b.ok("POST", "/ratings", ana.token, five).body["rating"])
	require.Equal(t, 5.0, pending(ana)[0].(obj)["people"].([]any)[0].(obj)["mine"].(obj)["stars"])
	require.NotContains(t, pending(bob)[0].(obj)["people"].([]any)[0], "mine")
	shown("map[count:0 ranking:3]")
	require.Equal(t, 304, b.request("GET", "/users/"+bob.id, eve.token, nil, "If-None-Match", etag).StatusCode)

	require.Equal(t, true, b.ok("POST", "/ratings", bob.token, obj{"encounter_id": encounter, "user_id": ana.id, "stars": 3}).body["rating"].(obj)["revealed"])
	shown("map[average:5 count:1 ranking:3.33]")
	require.Equal(t, 200, b.request("GET", "/users/"+bob.id, eve.token, nil, "If-None-Match", etag).StatusCode)
	require.Empty(t, append(pending(ana), pending(bob)...))
	five["stars"] = 1
	b.refused(409, "rating_revealed", "POST", "/ratings", ana.token, five)

	list := func(viewer person) obj {
		return b.ok("GET", "/users/"+bob.id+"/ratings", viewer.token, nil).body["ratings"].([]any)[0].(obj)
	}
	require.Equal(t, "on time", list(eve)["text"])
	require.Equal(t, "2026-03-01", list(eve)["day"])
	require.NotContains(t, list(eve), "rater")
	require.Equal(t, ana.id, list(bob)["rater"].(obj)["user_id"])

	for code, body := range map[string]obj{
		"bad_rating":          {"encounter_id": encounter, "user_id": bob.id, "stars": 6},
		"bad_request":         {"encounter_id": "x", "user_id": bob.id, "stars": 5},
		"encounter_not_found": {"encounter_id": uuid.NewString(), "user_id": bob.id, "stars": 5},
	} {
		require.Equal(t, code, b.request("POST", "/ratings", ana.token, body).str("code"))
	}
	b.ok("POST", "/blocks", bob.token, obj{"user_id": eve.id})
	b.refused(404, "user_not_found", "GET", "/users/"+bob.id+"/ratings", eve.token, nil)
}

func TestReportAbuse(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	group := "group:" + b.group(ana, bob)
	about := obj{"user_id": bob.id, "reason": "spam", "text": "sells things"}
	id := b.ok("POST", "/reports", ana.token, about).str("report_id")
	require.Equal(t, id, b.ok("POST", "/reports", ana.token, about).str("report_id"), "once")
	require.NotEqual(t, id, b.ok("POST", "/reports", ana.token, obj{"room": group, "reason": "other"}).str("report_id"))
	b.refused(404, "subject_not_found", "POST", "/reports", eve.token, obj{"room": group, "reason": "other"})
	b.refused(404, "subject_not_found", "POST", "/reports", eve.token, obj{"talk": uuid.NewString(), "reason": "other"})
	b.refused(400, "bad_request", "POST", "/reports", ana.token, obj{"user_id": ana.id, "reason": "other"})
	b.refused(400, "bad_request", "POST", "/reports", ana.token, obj{"user_id": bob.id, "talk": uuid.NewString(), "reason": "other"})
	b.refused(400, "bad_request", "POST", "/reports", ana.token, obj{"user_id": bob.id, "reason": "dislike"})
	b.refused(400, "bad_report", "POST", "/reports", ana.token, obj{"reason": "other"})
	for range 18 {
		b.ok("POST", "/reports", ana.token, obj{"user_id": b.guest("").id, "reason": "spam"})
	}
	about["user_id"] = eve.id
	require.NotEmpty(t, b.refused(429, "rate_limited", "POST", "/reports", ana.token, about).Header.Get("Retry-After"))
	b.advance(25 * time.Hour)
	ana.token = b.ok("POST", "/auth/refresh", "", obj{"refresh_token": ana.refresh}).str("token")
	b.ok("POST", "/reports", ana.token, about)
}
