// Package errs is the one small list of error kinds that cross a process
// boundary, and the codes under which clients know them.
//
// An error that a caller must choose on carries a Kind and a Code; everything
// else is internal: it is logged where it is handled and the user is told
// nothing but "internal". Each edge translates once: core/httpapi to RFC 9457
// problem+json, edge/session to wire.Error frames and close codes. Both show
// the same Code, so documentation names every failure once.
package errs

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what the caller can do about an error. The numbers are HTTP's
// (RFC 9110 section 15), because that is the vocabulary everybody knows.
type Kind int

const (
	Internal     Kind = 500 // our fault; the details are in the log
	Invalid      Kind = 400 // the input is wrong: change it
	Unauthorized Kind = 401 // sign in (again)
	Forbidden    Kind = 403 // signed in, but not allowed
	NotFound     Kind = 404
	Conflict     Kind = 409 // somebody else was first: read again
	Gone         Kind = 410 // was there once (an expired invite)
	TooLarge     Kind = 413
	RateLimited  Kind = 429 // again after RetryAfter
	Unavailable  Kind = 503 // again after RetryAfter
)

// Code is the stable, machine-readable name of a failure, such as
// "token_expired". Codes are documented in docs/protocol.md.
type Code string

// Error is a failure that the client is told about.
type Error struct {
	Kind       Kind
	Code       Code
	Message    string        // one sentence that says what to do
	Field      string        // the offending input, as a path such as "body.email"; may be empty
	RetryAfter time.Duration // > 0 only for RateLimited and Unavailable
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is makes errors.Is(err, target) true when the codes are equal, so that a
// package can export one *Error value per failure as its sentinel.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// New returns an error of the given kind; message says what to do.
func New(kind Kind, code Code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// At returns a copy of e that names the offending input field.
func (e *Error) At(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// After returns a copy of e that tells when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// From returns the *Error in err's chain, or an Internal one that hides err.
// The second result is false when the details were hidden: log them.
func From(err error) (*Error, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e, true
	}
	return &Error{Kind: Internal, Code: "internal", Message: "something went wrong on our side; try again"}, false
}
