package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// ErrClosed is returned by a session after Close.
var ErrClosed = errors.New("client: session closed")

// ErrLeft is returned by a room after Leave.
var ErrLeft = errors.New("client: room left")

// Error is a refusal by the server, over HTTP or in a session. Codes are those
// of docs/protocol.md, the same on both.
type Error struct {
	Code       string
	Status     int    // HTTP's; 0 in a session
	Message    string // what to do, for people
	Field      string // the offending input of an HTTP call, if one is named
	RetryAfter time.Duration

	room     string          // that it is about; of a session
	conflict json.RawMessage // see PresentExpense
}

func (e *Error) Error() string {
	if e.Message == "" {
		return "client: " + e.Code
	}
	return fmt.Sprintf("client: %s: %s", e.Code, e.Message)
}

// IsCode reports whether err is a refusal with the given code.
func IsCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

func problem(p *wire.Problem) error {
	if p == nil {
		return nil
	}
	return &Error{Code: p.Code, Message: p.Message}
}

func refusal(e *wire.Error) *Error {
	return &Error{Code: e.GetCode(), Message: e.GetMessage(), RetryAfter: millis(e.GetRetryAfterMs()), room: e.GetRoom()}
}

// passing reports whether the same request may well succeed later.
func (e *Error) passing() bool {
	switch e.Code {
	case wire.CodeRetry, wire.CodeRateLimited, wire.CodeDraining:
		return true
	}
	return false
}

func millis(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

func errorsAs(err error) (*Error, bool) { return errors.AsType[*Error](err) }
