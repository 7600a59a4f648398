package auth

import (
	"time"

	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrUnauthenticated    = errs.New(errs.Unauthorized, "unauthenticated", "send a valid access token: Authorization: Bearer …")
	ErrTokenExpired       = errs.New(errs.Unauthorized, "token_expired", "the access token has expired: refresh it")
	ErrSignedOut          = errs.New(errs.Unauthorized, "signed_out", "this login was ended: sign in again")
	ErrFleetToken         = errs.New(errs.Forbidden, "fleet_token", "this token is of a fleet's gateway: it opens a session that sends positions, and nothing else; use the token of a user")
	ErrInvalidCredentials = errs.New(errs.Unauthorized, "invalid_credentials", "the mail address or the password is wrong")
	ErrRefreshInvalid     = errs.New(errs.Unauthorized, "refresh_invalid", "the refresh token is unknown or has expired: sign in again")
	ErrRefreshReused      = errs.New(errs.Unauthorized, "refresh_reused", "the refresh token was used before: this login is ended, sign in again")
	ErrBadEmail           = errs.New(errs.Invalid, "bad_email", "give a mail address such as ana@example.org").At("body.email")
	ErrBadPassword        = errs.New(errs.Invalid, "bad_password", "a password has 8 to 256 bytes of UTF-8 without control characters").At("body.password")
	ErrBadDeviceInfo      = errs.New(errs.Invalid, "bad_device_info", "device_info has at most 2 KiB").At("body.device_info")
	ErrUsernameTaken      = errs.New(errs.Conflict, "username_taken", "this username is taken: choose another").At("body.username")
	ErrEmailTaken         = errs.New(errs.Conflict, "email_taken", "there is an account with this mail address: sign in").At("body.email")
	ErrNotGuest           = errs.New(errs.Conflict, "not_guest", "this is an account already")
	ErrRateLimited        = errs.New(errs.RateLimited, "rate_limited", "too many attempts: wait a little")
	errBusy               = errs.New(errs.Unavailable, "busy", "too many sign-ins at once: try again").After(time.Second)
)
