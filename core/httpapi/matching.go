package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/matching"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/errs"
)

// MatchingProfile is what a user chose about meeting people nearby.
type MatchingProfile struct {
	Open      bool     `json:"open" doc:"You find people nearby who are open, too, and are found by them, wherever your discoverable grant shows you. At first it is false"`
	Interests []string `json:"interests" nullable:"false" maxItems:"20" doc:"A few words each, at most 40 characters; kept in lower case, sorted"`
	Radius    int      `json:"radius" default:"5000" minimum:"500" maximum:"50000" doc:"Metres to look around in"`
	MaxAge    int      `json:"max_age" default:"900" minimum:"60" maximum:"1800" doc:"Seconds: how old a position of others may be. Coarse positions are up to 15 minutes late by themselves"`
	MinRating float64  `json:"min_rating" default:"0" minimum:"0" maximum:"5" doc:"The least ranking of those whom you are shown, and who are shown you; who has no ratings has 3. 0: any"`
	Say       string   `json:"say" default:"" maxLength:"280" doc:"What those read whom you are shown to"`
}

// MatchedPerson is somebody nearby who is open to talk.
type MatchedPerson struct {
	UserID         string   `json:"user_id"`
	Username       string   `json:"username"`
	ProfilePicture string   `json:"profile_picture" doc:"An https URL, or empty"`
	Say            string   `json:"say"`
	Interests      []string `json:"interests" nullable:"false"`
	Common         []string `json:"common" nullable:"false" doc:"Interests that you have, too"`
	Within         float64  `json:"within" doc:"Metres: they are no further away than that. One of 500, 1,000, 2,000, 5,000, 10,000, …; never finer than the precision that they chose"`
	Minutes        int      `json:"minutes" doc:"At most so many since they were there"`
	Rating         Rating   `json:"rating"`
	Relation       string   `json:"relation" enum:"none,sent,received,talking,declined" doc:"What there is between you: your open request, theirs, a talk, or they declined within a week"`
}

// TalkRequest is an open request to talk.
type TalkRequest struct {
	RequestID      string    `json:"request_id"`
	UserID         string    `json:"user_id" doc:"Who asked, or was asked"`
	Username       string    `json:"username"`
	ProfilePicture string    `json:"profile_picture" doc:"An https URL, or empty"`
	Say            string    `json:"say"`
	Rating         Rating    `json:"rating"`
	CreatedAt      time.Time `json:"created_at"`
	ExpiresAt      time.Time `json:"expires_at"`
}

// MatchesInput is where somebody looks around for people to talk to.
type MatchesInput struct {
	Radius float64 `query:"radius" minimum:"500" maximum:"50000" doc:"Metres. Default: that of your profile"`
	Limit  int     `query:"limit" default:"20" minimum:"1" maximum:"100"`
	Lat    float64 `query:"lat" minimum:"-90" maximum:"90" doc:"The centre, with lng. Default: where you are"`
	Lng    float64 `query:"lng" minimum:"-180" maximum:"180"`

	located bool
}

// Resolve notes whether there is a centre: 0 is a place like any other.
func (in *MatchesInput) Resolve(ctx huma.Context) (problems []error) {
	in.located, problems = located(ctx)
	return problems
}

const tagMatching = "matching"

func (a *api) matchingOperations() {
	store := a.Matching
	// Enough for somebody who reloads, too little to go over a map with.
	looks := newLimit("looks", auth.Limit{Burst: 60, Every: 5 * time.Second}, a.Now)

	type profileOutput struct{ Body MatchingProfile }
	profile := func(p matching.Profile, err error) (*profileOutput, error) {
		if err != nil {
			return nil, err
		}
		return &profileOutput{MatchingProfile{p.Open, p.Interests, p.Radius, int(p.MaxAge.Seconds()), p.MinRating, p.Say}}, nil
	}
	register(a, operation{id: "get-matching-profile", method: http.MethodGet, path: "/matching/profile", tag: tagMatching, summary: "What you chose about meeting people nearby"},
		func(ctx context.Context, _ *struct{}) (*profileOutput, error) {
			return profile(store.Profile(ctx, caller(ctx).User))
		})
	type matchingProfileInput struct {
		Body struct {
			Open      bool     `json:"open" doc:"You find people nearby who are open, too, and are found by them. Closing ends open requests; talks go on"`
			Interests []string `json:"interests,omitempty" maxItems:"20"`
			Radius    int      `json:"radius,omitempty" default:"5000" minimum:"500" maximum:"50000"`
			MaxAge    int      `json:"max_age,omitempty" default:"900" minimum:"60" maximum:"1800"`
			MinRating float64  `json:"min_rating,omitempty" default:"0" minimum:"0" maximum:"5"`
			Say       string   `json:"say,omitempty" maxLength:"280"`
		}
	}
	register(a, operation{id: "put-matching-profile", method: http.MethodPut, path: "/matching/profile", tag: tagMatching, summary: "Change that; what is absent becomes what it is at first"},
		func(ctx context.Context, in *matchingProfileInput) (*profileOutput, error) {
			b := in.Body
			return profile(store.SetProfile(ctx, caller(ctx).User, matching.Profile{
				Open: b.Open, Interests: b.Interests, Radius: b.Radius, MaxAge: time.Duration(b.MaxAge) * time.Second, MinRating: b.MinRating, Say: b.Say,
			}))
		})

	type matchesOutput struct {
		Body struct {
			People    []MatchedPerson `json:"people" nullable:"false"`
			More      bool            `json:"more" doc:"There are others: they come in the next ten minutes, since who was shown goes behind"`
			Unreached []string        `json:"unreached" nullable:"false" doc:"Regions that could not be asked, or not for all that is theirs: somebody there may be missing"`
		}
	}
	register(a, operation{id: "list-matches", refuses: []int{http.StatusConflict}, method: http.MethodGet, path: "/matching/people", tag: tagMatching,
		summary: "People near you who are open to talk: who shares interests, is close and well rated comes first, and who was shown goes behind those who weren't"},
		func(ctx context.Context, in *MatchesInput) (*matchesOutput, error) {
			me, now := caller(ctx).User, a.Now()
			if err := looks.take(ctx, me.String()); err != nil {
				return nil, err
			}
			look := matching.Look{Radius: in.Radius, Limit: in.Limit}
			if in.located {
				look.At = &geo.Point{Lat: in.Lat, Lng: in.Lng}
			}
			page, err := store.People(ctx, me, look)
			if err != nil {
				return nil, err
			}
			out := &matchesOutput{}
			out.Body.People, out.Body.More, out.Body.Unreached = []MatchedPerson{}, page.More, append([]string{}, page.Unreached...)
			for _, p := range page.People {
				if a.Location != nil { // it tells where they are, if only about
					a.Location.Recorder.Read(me, p.User, "matching", p.Precision, now)
				}
				out.Body.People = append(out.Body.People, MatchedPerson{
					p.User.String(), p.Username, p.Picture, p.Say, p.Interests, p.Common, p.Within, p.Minutes, ratingOf(p.Rating), string(p.Relation),
				})
			}
			return out, nil
		})
	a.talkOperations()
}

func (a *api) talkOperations() {
	store := a.Matching

	type talkRequestsInput struct {
		Direction string `query:"direction" default:"received" enum:"received,sent"`
		Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor    string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type talkRequestsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Requests []TalkRequest `json:"requests" nullable:"false"`
		}
	}
	register(a, operation{id: "list-talk-requests", method: http.MethodGet, path: "/matching/requests", tag: tagMatching, summary: "Open requests to talk, the latest first: those that you got, or that you sent"},
		func(ctx context.Context, in *talkRequestsInput) (*talkRequestsOutput, error) {
			list, next, err := store.Requests(ctx, caller(ctx).User, in.Direction == "sent", in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &talkRequestsOutput{Link: nextPage("/matching/requests", in.Limit, next, "direction", in.Direction)}
			out.Body.Requests = make([]TalkRequest, len(list))
			for i, r := range list {
				out.Body.Requests[i] = TalkRequest{r.ID.String(), r.User.String(), r.Username, r.Picture, r.Say, ratingOf(r.Rating), r.Created.UTC(), r.Expires.UTC()}
			}
			return out, nil
		})

	type requestTalkInput struct {
		Body struct {
			UserID string `json:"user_id" doc:"Somebody whom you were shown within the last hour, or who asked you"`
			Say    string `json:"say,omitempty" maxLength:"280" doc:"What they read with it"`
		}
	}
	type requestTalkOutput struct {
		Body struct {
			RequestID string `json:"request_id"`
			Room      string `json:"room,omitempty" doc:"Of the talk, if they had asked you: then this accepts"`
		}
	}
	register(a, operation{id: "request-talk", refuses: []int{http.StatusConflict}, method: http.MethodPost, path: "/matching/requests", tag: tagMatching,
		summary: "Ask somebody nearby to talk; again is a success. It holds for 24 hours. Who declined can't be asked for a week"},
		func(ctx context.Context, in *requestTalkInput) (*requestTalkOutput, error) {
			other, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			asked, err := store.Request(ctx, caller(ctx).User, other, in.Body.Say)
			if err != nil {
				return nil, err
			}
			out := &requestTalkOutput{}
			out.Body.RequestID, out.Body.Room = asked.ID.String(), asked.Room
			return out, nil
		})

	type talkRequestInput struct {
		RequestID string `path:"request_id"`
	}
	type talkOutput struct {
		Body struct {
			Room string `json:"room" doc:"Of the conversation, nearby:<talk_id>; the talk has the request's id"`
		}
	}
	register(a, operation{id: "accept-talk", refuses: []int{http.StatusConflict}, method: http.MethodPost, path: "/matching/requests/{request_id}/accept", tag: tagMatching,
		summary: "Accept somebody's request: there is a conversation then, for 24 hours or until one of you ends it"},
		func(ctx context.Context, in *talkRequestInput) (*talkOutput, error) {
			id, err := talkID(in.RequestID, "path.request_id")
			if err != nil {
				return nil, err
			}
			room, err := store.Accept(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			out := &talkOutput{}
			out.Body.Room = room
			return out, nil
		})
	for _, o := range []struct {
		operation
		do func(ctx context.Context, user core.UserID, id uuid.UUID) error
	}{
		{operation{id: "decline-talk", method: http.MethodPost, path: "/matching/requests/{request_id}/decline", summary: "Decline somebody's request; they can't repeat it for a week"}, store.Decline},
		{operation{id: "cancel-talk-request", method: http.MethodDelete, path: "/matching/requests/{request_id}", summary: "Take your own request back"}, store.Cancel},
	} {
		o.tag = tagMatching
		register(a, o.operation, func(ctx context.Context, in *talkRequestInput) (*Success, error) {
			id, err := talkID(in.RequestID, "path.request_id")
			if err != nil {
				return nil, err
			}
			return success(o.do(ctx, caller(ctx).User, id))
		})
	}

	type endTalkInput struct {
		TalkID string `path:"talk_id"`
	}
	register(a, operation{id: "end-talk", method: http.MethodPost, path: "/matching/talks/{talk_id}/end", tag: tagMatching, spreads: true,
		summary: "End a talk: neither writes any more, and both may rate each other. Again is a success"},
		func(ctx context.Context, in *endTalkInput) (*Success, error) {
			id, err := talkID(in.TalkID, "path.talk_id")
			if err != nil {
				return nil, err
			}
			return success(store.End(ctx, caller(ctx).User, id))
		})
}

func talkID(s, field string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return id, errs.New(errs.Invalid, "bad_request", "such an id is a UUID in lower case").At(field)
	}
	return id, nil
}
