package httpapi

import (
	"context"
	"net/http"

	"github.com/mustermesh/muster/core/auth"
)

// Tokens answer everything that begins or changes a login.
type Tokens struct {
	UserID       string `json:"user_id" doc:"UUID"`
	Token        string `json:"token" doc:"Access token, good for some minutes"`
	RefreshToken string `json:"refresh_token" doc:"Good for one refresh"`
}

type tokensOutput struct{ Body Tokens }

func tokensOf(t auth.Tokens, err error) (*tokensOutput, error) {
	if err != nil {
		return nil, err
	}
	return &tokensOutput{Tokens{UserID: t.User.String(), Token: t.Access, RefreshToken: t.Refresh}}, nil
}

// Spoken is the header of requests that lead to a mail.
type Spoken struct {
	Language string `header:"Accept-Language" doc:"What the mail is written in, if there is such a text"`
}

// origin tells auth where a request came from, as far as that is kept. The
// operation notes the address.
func origin(ctx context.Context, language string) context.Context {
	return auth.WithOrigin(ctx, auth.Origin{Network: auth.NetworkOf(exchangeOf(ctx).client), Language: language[:min(len(language), 256)]})
}

// KeySet is a JWK set (RFC 7517).
type KeySet struct {
	Keys []auth.JWK `json:"keys" nullable:"false"`
}

// ContentType makes a KeySet a huma.ContentTypeFilter.
func (KeySet) ContentType(string) string { return "application/jwk-set+json" }

func (a *api) authOperations() {
	const tag = "auth"

	type registerInput struct {
		Spoken
		Body struct {
			Username   string `json:"username" doc:"2 to 32 letters, digits, spaces, . _ -" example:"Ana"`
			Email      string `json:"email" example:"ana@example.org"`
			Password   string `json:"password" doc:"8 to 256 bytes"`
			DeviceInfo any    `json:"device_info,omitempty" doc:"Anything that describes the device, at most 2 KiB"`
		}
	}
	register(a, operation{id: "register", account: "email", method: http.MethodPost, path: "/auth/register", tag: tag, summary: "Register new user; a mail to confirm the address follows", public: true, limited: true, locates: true},
		func(ctx context.Context, in *registerInput) (*tokensOutput, error) {
			b := in.Body
			return tokensOf(a.Auth.Register(origin(ctx, in.Language), auth.Account{Username: b.Username, Email: b.Email, Password: b.Password}, b.DeviceInfo))
		})

	type loginInput struct {
		Body struct {
			Email      string `json:"email"`
			Password   string `json:"password"`
			DeviceInfo any    `json:"device_info,omitempty" doc:"Anything that describes the device, at most 2 KiB"`
		}
	}
	register(a, operation{id: "login", account: "email", refuses: []int{http.StatusUnauthorized}, method: http.MethodPost, path: "/auth/login", tag: tag, summary: "Authenticate user", public: true, limited: true, locates: true},
		func(ctx context.Context, in *loginInput) (*tokensOutput, error) {
			return tokensOf(a.Auth.Login(origin(ctx, ""), in.Body.Email, in.Body.Password, in.Body.DeviceInfo))
		})

	type guestInput struct {
		Body struct {
			Username   string `json:"username,omitempty" doc:"Absent: the server chooses one"`
			DeviceInfo any    `json:"device_info,omitempty" doc:"Anything that describes the device, at most 2 KiB"`
		}
	}
	register(a, operation{id: "guest", method: http.MethodPost, path: "/auth/guest", tag: tag, summary: "Try it without an account", public: true, limited: true, locates: true},
		func(ctx context.Context, in *guestInput) (*tokensOutput, error) {
			return tokensOf(a.Auth.Guest(origin(ctx, ""), in.Body.Username, in.Body.DeviceInfo))
		})

	type upgradeInput struct {
		Spoken
		Body struct {
			Username string `json:"username"`
			Email    string `json:"email"`
			Password string `json:"password"`
		}
	}
	register(a, operation{id: "upgrade", method: http.MethodPost, path: "/auth/upgrade", tag: tag, summary: "Make the signed-in guest an account; the user stays the same", limited: true, locates: true},
		func(ctx context.Context, in *upgradeInput) (*tokensOutput, error) {
			b := in.Body
			return tokensOf(a.Auth.Upgrade(origin(ctx, in.Language), caller(ctx), auth.Account{Username: b.Username, Email: b.Email, Password: b.Password}))
		})

	type refreshInput struct {
		Body struct {
			RefreshToken string `json:"refresh_token"`
		}
	}
	type refreshOutput struct {
		Body struct {
			Token        string `json:"token"`
			RefreshToken string `json:"refresh_token"`
		}
	}
	register(a, operation{id: "refresh", account: "refresh_token", refuses: []int{http.StatusUnauthorized}, method: http.MethodPost, path: "/auth/refresh", tag: tag, summary: "Refresh authentication token", public: true, limited: true, locates: true},
		func(ctx context.Context, in *refreshInput) (*refreshOutput, error) {
			t, err := a.Auth.Refresh(origin(ctx, ""), in.Body.RefreshToken)
			if err != nil {
				return nil, err
			}
			out := &refreshOutput{}
			out.Body.Token, out.Body.RefreshToken = t.Access, t.Refresh
			return out, nil
		})

	// The token to end is in the body, or in the header as everywhere else. It
	// may have expired, so this operation checks it itself.
	type logoutInput struct {
		Body *struct {
			Token string `json:"token,omitempty" doc:"The access token; absent: that of the Authorization header"`
		}
	}
	register(a, operation{id: "logout", account: "token", refuses: []int{http.StatusUnauthorized, http.StatusForbidden}, method: http.MethodPost, path: "/auth/logout", tag: tag, summary: "Invalidate user session", public: true, locates: true},
		func(ctx context.Context, in *logoutInput) (*Success, error) {
			token := exchangeOf(ctx).bearer
			if in.Body != nil && in.Body.Token != "" {
				token = in.Body.Token
			}
			return success(a.Auth.Logout(origin(ctx, ""), token))
		})

	a.accountOperations()
	a.loginOperations()
	a.googleOperations()

	type keysOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         KeySet
	}
	register(a, operation{id: "keys", method: http.MethodGet, path: "/auth/keys", tag: tag, summary: "Public keys of access tokens (RFC 7517)", public: true},
		func(ctx context.Context, _ *struct{}) (*keysOutput, error) {
			keys, err := a.Auth.JWKS(ctx)
			if err != nil {
				return nil, err
			}
			out := &keysOutput{CacheControl: "public, max-age=300"}
			out.Body.Keys = keys
			return out, nil
		})
}
