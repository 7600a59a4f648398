package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mustermesh/muster/internal/errs"
)

// Problem is how every failure is answered: RFC 9457, with the stable name of
// the failure as "code".
type Problem struct {
	Title  string       `json:"title" doc:"The meaning of the HTTP status"`
	Status int          `json:"status" doc:"The HTTP status"`
	Code   string       `json:"code" doc:"The stable name of the failure" example:"token_expired"`
	Detail string       `json:"detail" doc:"What to do, for people"`
	Field  string       `json:"field,omitempty" doc:"The input that is wrong, the first if there are several" example:"body.email"`
	Errors []FieldError `json:"errors,omitempty" nullable:"false" doc:"The inputs that are wrong"`

	Conflict *ExpenseConflict `json:"conflict,omitempty" doc:"Of expense_changed: both sides"`

	retryAfter time.Duration
	challenge  bool // answer with WWW-Authenticate
}

// FieldError says what is wrong with one input.
type FieldError struct {
	Field   string `json:"field" doc:"A path such as body.email" example:"body.email"`
	Message string `json:"message"`
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus makes a Problem a huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes a Problem a huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders makes a Problem a huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.challenge { // RFC 6750 section 3
		h.Set("WWW-Authenticate", `Bearer realm="muster"`)
	}
	return h
}

func newProblem(status int, code errs.Code, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: string(code), Detail: detail, challenge: status == http.StatusUnauthorized}
}

// wrong adds an input that is wrong. The first one is also said in detail.
func (p *Problem) wrong(field, message string) {
	if p.Field == "" {
		p.Field = field
		if p.Detail == someWrong {
			p.Detail = field + ": " + message
		}
	}
	p.Errors = append(p.Errors, FieldError{Field: field, Message: message})
}

const someWrong = "some input is wrong"

// write answers a request outside of an operation.
func (p *Problem) write(w http.ResponseWriter) {
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may have gone
}

// fromError translates a failure of core. The details of what the client can't
// change are logged and not told.
func fromError(ctx context.Context, log *slog.Logger, err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	e, told := errs.From(err)
	switch {
	case !told && ctx.Err() != nil && errors.Is(err, context.Canceled):
		return newProblem(statusClientGone, "client_gone", "the client did not wait for the answer")
	case !told && errors.Is(err, context.DeadlineExceeded):
		e = errs.New(errs.Unavailable, "timeout", "this took too long; try again").After(time.Second)
		log.WarnContext(ctx, "request timed out", "err", err)
	case !told:
		log.ErrorContext(ctx, "request failed", "err", err)
	case e.Kind == errs.Unavailable:
		log.WarnContext(ctx, "request refused", "err", err)
	}
	p := newProblem(int(e.Kind), e.Code, e.Message)
	p.retryAfter = e.RetryAfter
	if e.Field != "" {
		p.wrong(e.Field, e.Message)
	}
	return p
}

// statusClientGone is nginx's: nobody reads it, logs and metrics tell it apart.
const statusClientGone = 499

// huma has two settings that are the process's: how errors look, and that
// field names are matched exactly. They are the same for every API made here.
func init() {
	huma.ValidateStrictCasing = true
	huma.NewError = humaProblem
}

// humaProblem translates what huma itself refuses. Wrong input is 400, as it
// is when a domain finds it; values are not echoed, they may be passwords.
func humaProblem(status int, msg string, details ...error) huma.StatusError {
	code := errs.Code("bad_request")
	if msg == "validation failed" {
		msg = someWrong
	}
	switch status {
	case http.StatusRequestEntityTooLarge:
		return tooLarge(0)
	case http.StatusRequestTimeout:
		code = "timeout"
	case http.StatusUnsupportedMediaType:
		code = "unsupported_media_type"
		msg = "send application/json"
	case http.StatusUnprocessableEntity:
		status = http.StatusBadRequest
	case http.StatusInternalServerError:
		// Only for a body that broke off: operations return Problems.
		status = http.StatusBadRequest
		msg = "the request's body could not be read"
		details = nil
	}
	p := newProblem(status, code, msg)
	for _, err := range details {
		d, ok := err.(huma.ErrorDetailer)
		if !ok {
			continue
		}
		p.wrong(d.ErrorDetail().Location, d.ErrorDetail().Message)
	}
	return p
}

func tooLarge(limit int64) *Problem {
	detail := "the request's body is too large"
	if limit > 0 {
		detail += ": at most " + strconv.FormatInt(limit, 10) + " bytes"
	}
	return newProblem(http.StatusRequestEntityTooLarge, "too_large", detail)
}
