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
	ErrTokenInvalid       = errs.New(errs.Gone, "token_invalid", "this link was used before, has lapsed or was replaced: ask for a new one").At("body.token")
	ErrWrongPassword      = errs.New(errs.Forbidden, "wrong_password", "the password is wrong")
	ErrSignInAgain        = errs.New(errs.Forbidden, "sign_in_again", "this account has no password: sign in again, then repeat this within ten minutes")
	ErrNoPassword         = errs.New(errs.Conflict, "no_password", "this account has no other way in: choose a password first, by mail")
	ErrGuest              = errs.New(errs.Conflict, "guest", "a guest has no mail address and no password: make this an account first")
	ErrEmailUnverified    = errs.New(errs.Conflict, "email_unverified", "confirm the account's mail address first, or choose a new password by mail")
	ErrLoginNotFound      = errs.New(errs.NotFound, "login_not_found", "you have no such login")
	ErrGoogleOff          = errs.New(errs.NotFound, "google_off", "nobody signs in with Google here")
	ErrGoogleState        = errs.New(errs.Gone, "google_state_invalid", "this sign-in at Google was finished before, has lapsed or was begun elsewhere: begin again, and send the state that its beginning answered").At("body.state")
	ErrGoogleEmail        = errs.New(errs.Conflict, "google_email_unverified", "Google has not confirmed this account's mail address: confirm it there first")
	ErrGoogleTaken        = errs.New(errs.Conflict, "google_taken", "this Google account belongs to another account here")
	ErrGoogleOther        = errs.New(errs.Conflict, "google_other", "this account is linked to another Google account: unlink that first")
	errBusy               = errs.New(errs.Unavailable, "busy", "too many sign-ins at once: try again").After(time.Second)
)
