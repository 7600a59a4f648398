package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core/auth"
)

// GoogleStart is a sign-in at Google that was begun.
type GoogleStart struct {
	URL       string    `json:"url" doc:"Where the person goes now"`
	State     string    `json:"state" doc:"To be kept by this app, and sent with the code that the redirect brings. It is another one than the redirect's, which others may see"`
	ExpiresAt time.Time `json:"expires_at"`
}

type googleStartOutput struct{ Body GoogleStart }

func googleStartOf(g auth.GoogleStart, err error) (*googleStartOutput, error) {
	if err != nil {
		return nil, err
	}
	return &googleStartOutput{GoogleStart{g.URL, g.State, g.Expires.UTC()}}, nil
}

func (a *api) googleOperations() {
	const tag = "auth"

	type waysOutput struct {
		Body struct {
			Google bool `json:"google" doc:"Beside mail address and password, and guests"`
		}
	}
	register(a, operation{id: "sign-in-ways", method: http.MethodGet, path: "/auth/ways", tag: tag, summary: "By which ways one can sign in here", public: true},
		func(context.Context, *struct{}) (*waysOutput, error) {
			out := &waysOutput{}
			out.Body.Google = a.Auth.HasGoogle()
			return out, nil
		})

	register(a, operation{id: "begin-google", refuses: []int{http.StatusNotFound}, method: http.MethodGet, path: "/auth/google", tag: tag, summary: "Begin to sign in with Google", public: true, limited: true},
		func(ctx context.Context, _ *struct{}) (*googleStartOutput, error) {
			return googleStartOf(a.Auth.GoogleBegin(ctx))
		})

	type googleInput struct {
		Body struct {
			Code       string `json:"code" maxLength:"2048" doc:"From the redirect"`
			State      string `json:"state" maxLength:"256" doc:"What the beginning answered, not the redirect's"`
			DeviceInfo any    `json:"device_info,omitempty" doc:"Anything that describes the device, at most 2 KiB"`
		}
	}
	register(a, operation{id: "google", account: "state", refuses: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone}, method: http.MethodPost, path: "/auth/google", tag: tag, public: true, limited: true, locates: true,
		summary: "Sign in with Google: as who it is linked to, as who has its address if that is confirmed on both sides, else as a new user"},
		func(ctx context.Context, in *googleInput) (*tokensOutput, error) {
			return tokensOf(a.Auth.GoogleSignIn(origin(ctx, ""), in.Body.Code, in.Body.State, in.Body.DeviceInfo))
		})

	type linkedOutput struct {
		Body struct {
			Linked   bool       `json:"linked"`
			Email    string     `json:"email,omitempty" doc:"At Google, when it was linked"`
			LinkedAt *time.Time `json:"linked_at,omitempty"`
		}
	}
	register(a, operation{id: "get-google-link", method: http.MethodGet, path: "/auth/google/link", tag: tag, summary: "The Google account that is linked"},
		func(ctx context.Context, _ *struct{}) (*linkedOutput, error) {
			email, since, err := a.Auth.GoogleLinked(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			out := &linkedOutput{}
			if !since.IsZero() {
				since = since.UTC()
				out.Body.Linked, out.Body.Email, out.Body.LinkedAt = true, email, &since
			}
			return out, nil
		})

	type linkBeginInput struct {
		Body struct {
			Password string `json:"password,omitempty" doc:"Of the account; absent if it has none, then the login must be minutes old"`
		}
	}
	register(a, operation{id: "begin-google-link", method: http.MethodPost, path: "/auth/google/link", tag: tag, limited: true, locates: true,
		summary: "Begin to link a Google account"},
		func(ctx context.Context, in *linkBeginInput) (*googleStartOutput, error) {
			return googleStartOf(a.Auth.GoogleLinkBegin(origin(ctx, ""), caller(ctx), in.Body.Password))
		})

	type linkInput struct {
		Body struct {
			Code  string `json:"code" maxLength:"2048" doc:"From the redirect"`
			State string `json:"state" maxLength:"256" doc:"What the beginning answered, not the redirect's"`
		}
	}
	register(a, operation{id: "put-google-link", refuses: []int{http.StatusGone}, method: http.MethodPut, path: "/auth/google/link", tag: tag, limited: true, locates: true,
		summary: "Link the Google account; both sides must have confirmed their mail address"},
		func(ctx context.Context, in *linkInput) (*Success, error) {
			return success(a.Auth.GoogleLink(origin(ctx, ""), caller(ctx), in.Body.Code, in.Body.State))
		})

	register(a, operation{id: "delete-google-link", method: http.MethodDelete, path: "/auth/google/link", tag: tag, locates: true,
		summary: "Unlink the Google account, unless it is the only way in"},
		func(ctx context.Context, _ *struct{}) (*Success, error) {
			return success(a.Auth.GoogleUnlink(origin(ctx, ""), caller(ctx)))
		})
}
