package httpapi

import (
	"context"
	"net/http"
)

// accountOperations are those on the mail address and the password.
func (a *api) accountOperations() {
	const tag = "auth"

	type verifyInput struct {
		Spoken
		Body struct {
			Token string `json:"token" maxLength:"256" doc:"What the mail's link ends with"`
		}
	}
	register(a, operation{id: "verify-email", account: "token", refuses: []int{http.StatusGone}, method: http.MethodPost, path: "/auth/verify", tag: tag, public: true, limited: true, locates: true,
		summary: "Confirm a mail address by the token that was sent to it; one that was asked for takes the place of the old one"},
		func(ctx context.Context, in *verifyInput) (*Success, error) {
			return success(a.Auth.Verify(origin(ctx, in.Language), in.Body.Token))
		})

	type resendInput struct{ Spoken }
	register(a, operation{id: "resend-verification", method: http.MethodPost, path: "/auth/verify/resend", tag: tag, limited: true, locates: true,
		summary: "Send another mail to confirm the account's address, unless it is confirmed"},
		func(ctx context.Context, in *resendInput) (*Success, error) {
			return success(a.Auth.ResendVerification(origin(ctx, in.Language), caller(ctx)))
		})

	type emailInput struct {
		Spoken
		Body struct {
			Email    string `json:"email" example:"ana@example.org"`
			Password string `json:"password,omitempty" doc:"Of the account; absent if it has none, then the login must be minutes old"`
		}
	}
	register(a, operation{id: "change-email", method: http.MethodPost, path: "/auth/email", tag: tag, limited: true, locates: true,
		summary: "Ask for another mail address: the token that is sent to it makes the change, and the old one is told"},
		func(ctx context.Context, in *emailInput) (*Success, error) {
			return success(a.Auth.ChangeEmail(origin(ctx, in.Language), caller(ctx), in.Body.Email, in.Body.Password))
		})

	type passwordInput struct {
		Body struct {
			Old string `json:"old,omitempty" doc:"Absent if the account has none, then the login must be minutes old"`
			New string `json:"new" doc:"8 to 256 bytes"`
		}
	}
	register(a, operation{id: "change-password", method: http.MethodPost, path: "/auth/password", tag: tag, limited: true, locates: true, spreads: true,
		summary: "Change the password; all other logins end"},
		func(ctx context.Context, in *passwordInput) (*Success, error) {
			return success(a.Auth.ChangePassword(origin(ctx, ""), caller(ctx), in.Body.Old, in.Body.New))
		})

	type forgotInput struct {
		Spoken
		Body struct {
			Email string `json:"email" example:"ana@example.org"`
		}
	}
	register(a, operation{id: "forgot-password", account: "email", method: http.MethodPost, path: "/auth/password/forgot", tag: tag, public: true, limited: true, locates: true,
		summary: "Have a token for a new password mailed to an address, if an account has it; the answer does not tell"},
		func(ctx context.Context, in *forgotInput) (*Success, error) {
			return success(a.Auth.Forgot(origin(ctx, in.Language), in.Body.Email))
		})

	type resetInput struct {
		Body struct {
			Token    string `json:"token" maxLength:"256" doc:"What the mail's link ends with"`
			Password string `json:"password" doc:"The new one, 8 to 256 bytes"`
		}
	}
	register(a, operation{id: "reset-password", account: "token", refuses: []int{http.StatusGone}, method: http.MethodPost, path: "/auth/password/reset", tag: tag, public: true, limited: true, locates: true,
		summary: "Choose a new password by the token that was mailed; all logins end, and a linked Google account is unlinked"},
		func(ctx context.Context, in *resetInput) (*Success, error) {
			return success(a.Auth.Reset(origin(ctx, ""), in.Body.Token, in.Body.Password))
		})
}
