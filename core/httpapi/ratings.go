package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/internal/errs"
)

// Rating is what people who met somebody gave them: the same wherever that person
// is shown.
type Rating struct {
	Average *float64 `json:"average,omitempty" doc:"Of 1 to 5 stars; absent without a rating"`
	Count   int64    `json:"count" doc:"Of ratings that are revealed"`
	Ranking float64  `json:"ranking" doc:"To order and to filter by: the average with five ratings of 3 stars added, so that one rating doesn't decide"`
}

func ratingOf(r core.Rating) Rating {
	out := Rating{Count: r.Count, Ranking: r.Ranking()}
	if r.Count > 0 {
		out.Average = new(r.Average())
	}
	return out
}

// RatedPerson is somebody whom you met, or who rated.
type RatedPerson struct {
	UserID         string       `json:"user_id" doc:"UUID"`
	Username       string       `json:"username"`
	ProfilePicture string       `json:"profile_picture" doc:"A URL, or empty"`
	Mine           *GivenRating `json:"mine,omitempty" doc:"What you gave them so far"`
}

// GivenRating is a rating of yours.
type GivenRating struct {
	Stars    int    `json:"stars"`
	Text     string `json:"text"`
	Revealed bool   `json:"revealed" doc:"You both have rated, and it stays as it is"`
}

// PendingEncounter is one whose people you may rate.
type PendingEncounter struct {
	EncounterID string        `json:"encounter_id" doc:"UUID"`
	Kind        string        `json:"kind" enum:"nearby,booking,hangout,direct"`
	At          time.Time     `json:"at" doc:"When it was over"`
	Until       time.Time     `json:"until" doc:"When all that was given is revealed, and nothing can be given any more"`
	People      []RatedPerson `json:"people" nullable:"false"`
}

// RevealedRating is what somebody gave.
type RevealedRating struct {
	RatingID string       `json:"rating_id" doc:"UUID"`
	Kind     string       `json:"kind" enum:"nearby,booking,hangout,direct" doc:"What they met for"`
	Stars    int          `json:"stars"`
	Text     string       `json:"text"`
	Day      string       `json:"day" format:"date" doc:"When it was revealed"`
	Rater    *RatedPerson `json:"rater,omitempty" doc:"Told to the rated and the rater alone; absent, too, if their account is gone"`
}

func ratedPerson(p ratings.Person) RatedPerson {
	out := RatedPerson{UserID: p.ID.String(), Username: p.Username, ProfilePicture: p.Picture}
	if p.Mine != nil {
		out.Mine = &GivenRating{p.Mine.Stars, p.Mine.Text, p.Mine.Revealed}
	}
	return out
}

func (a *api) ratingOperations() {
	const tag = "ratings"

	type rateInput struct {
		Body struct {
			EncounterID string `json:"encounter_id" doc:"Of GET /ratings/pending"`
			UserID      string `json:"user_id" doc:"Whom you rate: another one of its people"`
			Stars       int    `json:"stars" doc:"1 to 5"`
			Text        string `json:"text,omitempty" doc:"At most 1,000 characters"`
		}
	}
	type rateOutput struct {
		Body struct {
			Success bool        `json:"success"`
			Rating  GivenRating `json:"rating"`
			Until   time.Time   `json:"until" doc:"When all that was given is revealed"`
		}
	}
	register(a, operation{id: "rate", method: http.MethodPost, path: "/ratings", tag: tag,
		summary: "Rate somebody whom you met, or change what you gave: nobody sees it until they have rated you, too, or the window has ended"},
		func(ctx context.Context, in *rateInput) (*rateOutput, error) {
			encounter, err := uuid.Parse(in.Body.EncounterID)
			if err != nil {
				return nil, errs.New(errs.Invalid, "bad_request", "an encounter id is a UUID").At("body.encounter_id")
			}
			user, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			g, err := a.Ratings.Rate(ctx, caller(ctx).User, encounter, user, in.Body.Stars, in.Body.Text)
			if err != nil {
				return nil, err
			}
			out := &rateOutput{}
			out.Body.Success, out.Body.Rating, out.Body.Until = true, GivenRating{g.Stars, g.Text, g.Revealed}, g.Until
			return out, nil
		})

	type pendingRatingsInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type pendingRatingsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Encounters []PendingEncounter `json:"encounters" nullable:"false"`
		}
	}
	register(a, operation{id: "list-pending-ratings", method: http.MethodGet, path: "/ratings/pending", tag: tag, summary: "Whom you may rate, the latest first, with what you gave so far"},
		func(ctx context.Context, in *pendingRatingsInput) (*pendingRatingsOutput, error) {
			list, next, err := a.Ratings.Pending(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &pendingRatingsOutput{Link: nextPage("/ratings/pending", in.Limit, next)}
			out.Body.Encounters = make([]PendingEncounter, len(list))
			for i, e := range list {
				p := PendingEncounter{EncounterID: e.ID.String(), Kind: string(e.Kind), At: e.At, Until: e.Until}
				for _, who := range e.People {
					p.People = append(p.People, ratedPerson(who))
				}
				out.Body.Encounters[i] = p
			}
			return out, nil
		})

	type userRatingsInput struct {
		User   string `path:"user_id"`
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type userRatingsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Rating  Rating           `json:"rating"`
			Ratings []RevealedRating `json:"ratings" nullable:"false"`
		}
	}
	register(a, operation{id: "list-user-ratings", method: http.MethodGet, path: "/users/{user_id}/ratings", tag: tag, summary: "What people gave a user, the latest first"},
		func(ctx context.Context, in *userRatingsInput) (*userRatingsOutput, error) {
			id, err := userID(in.User, "path.user_id")
			if err != nil {
				return nil, err
			}
			card, err := a.Cards.Get(ctx, caller(ctx).User, id) // who must not see them learns nothing
			if err != nil {
				return nil, err
			}
			list, next, err := a.Ratings.Of(ctx, caller(ctx).User, id, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &userRatingsOutput{Link: nextPage("/users/"+in.User+"/ratings", in.Limit, next)}
			out.Body.Rating, out.Body.Ratings = ratingOf(card.Rating), make([]RevealedRating, len(list))
			for i, r := range list {
				out.Body.Ratings[i] = RevealedRating{RatingID: r.ID.String(), Kind: string(r.Encounter), Stars: r.Stars, Text: r.Text, Day: r.Day.Format(time.DateOnly)}
				if r.Rater != nil {
					out.Body.Ratings[i].Rater = new(ratedPerson(*r.Rater))
				}
			}
			return out, nil
		})
}
