package httpapi

import (
	"context"
	"net/http"

	"github.com/mustermesh/muster/core/users"
)

// Profile is a user as they see themselves.
type Profile struct {
	UserID             string         `json:"user_id" doc:"UUID"`
	Username           string         `json:"username"`
	Email              string         `json:"email" doc:"Empty for a guest"`
	EmailVerified      bool           `json:"email_verified" doc:"Somebody confirmed that they read its mail"`
	ProfilePicture     string         `json:"profile_picture" doc:"A URL, or empty"`
	Settings           map[string]any `json:"settings" doc:"Whatever the apps keep here"`
	SubscriptionStatus string         `json:"subscription_status" enum:"free,incomplete,trialing,active,past_due,canceled,expired" doc:"See GET /users/subscription"`
}

func profileOf(p users.Profile) Profile {
	return Profile{
		UserID: p.ID.String(), Username: p.Username, Email: p.Email, EmailVerified: p.Verified, ProfilePicture: p.Picture,
		Settings: p.Settings, SubscriptionStatus: string(p.Subscription),
	}
}

type profileAnswer struct {
	Body struct {
		Success bool    `json:"success"`
		User    Profile `json:"user"`
	}
}

func answerProfile(p users.Profile) *profileAnswer {
	out := &profileAnswer{}
	out.Body.Success, out.Body.User = true, profileOf(p)
	return out
}

// Card is a user as others see them.
type Card struct {
	UserID         string `json:"user_id" doc:"UUID"`
	Username       string `json:"username"`
	ProfilePicture string `json:"profile_picture" doc:"A URL, or empty"`
	Rating         Rating `json:"rating"`
}

func (a *api) userOperations() {
	const tag = "users"

	type profileOutput struct{ Body Profile }
	register(a, operation{id: "get-profile", method: http.MethodGet, path: "/users/profile", tag: tag, summary: "The signed-in user"},
		func(ctx context.Context, _ *struct{}) (*profileOutput, error) {
			p, err := a.Users.Get(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			return &profileOutput{profileOf(p)}, nil
		})

	type profileInput struct {
		Body struct {
			Username       *string        `json:"username,omitempty" doc:"Absent: unchanged"`
			ProfilePicture *string        `json:"profile_picture,omitempty" doc:"An https URL, or empty; absent: unchanged"`
			Settings       map[string]any `json:"settings,omitempty" doc:"Replaced as a whole, at most 8 KiB; absent: unchanged"`
		}
	}
	register(a, operation{id: "put-profile", method: http.MethodPut, path: "/users/profile", tag: tag, summary: "Change the signed-in user"},
		func(ctx context.Context, in *profileInput) (*profileAnswer, error) {
			p, err := a.Users.Update(ctx, caller(ctx).User, users.Change{
				Username: in.Body.Username, Picture: in.Body.ProfilePicture, Settings: in.Body.Settings,
			})
			if err != nil {
				return nil, err
			}
			return answerProfile(p), nil
		})
}

func (a *api) cardOperations() {
	type cardInput struct {
		User        string `path:"user_id"`
		IfNoneMatch string `header:"If-None-Match"`
	}
	type cardOutput struct {
		Status       int
		ETag         string `header:"ETag"`
		CacheControl string `header:"Cache-Control"`
		Body         Card
	}
	register(a, operation{
		id: "get-user", method: http.MethodGet, path: "/users/{user_id}", tag: "users", stale: true, summary: "A user as others see them", refuses: []int{http.StatusNotModified},
	}, func(ctx context.Context, in *cardInput) (*cardOutput, error) {
		id, err := userID(in.User, "path.user_id")
		if err != nil {
			return nil, err
		}
		c, err := a.Cards.Get(ctx, caller(ctx).User, id)
		if err != nil {
			return nil, err
		}
		// It may be kept, but each time it is asked whether it still holds, and
		// whether it is still for this viewer.
		out := &cardOutput{Status: http.StatusOK, ETag: c.ETag(), CacheControl: "private, no-cache"}
		if matches(in.IfNoneMatch, out.ETag) {
			out.Status = http.StatusNotModified
			return out, nil
		}
		out.Body = Card{UserID: c.ID.String(), Username: c.Username, ProfilePicture: c.Picture, Rating: ratingOf(c.Rating)}
		return out, nil
	})
}
