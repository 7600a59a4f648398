package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mustermesh/muster/api/wire"
)

// APIConfig describes an API; the zero value works.
type APIConfig struct {
	HTTP *http.Client // nil: one of its own, with a time limit
	// Credentials of an earlier sign-in.
	Credentials Credentials
	// OnCredentials is told when the credentials change: refresh tokens are
	// good for one use, so a program that wants to stay signed in keeps these.
	OnCredentials func(Credentials)
}

// Credentials are what a sign-in returns.
type Credentials struct {
	UserID       string `json:"user_id"`
	Token        string `json:"token"`
	RefreshToken string `json:"refresh_token"`
}

// API calls the HTTP API as one user. It keeps the tokens and renews them when
// they lapse. It is safe for concurrent use.
type API struct {
	base string
	http *http.Client
	cfg  APIConfig

	flight singleflight.Group // of refreshes
	mu     sync.Mutex
	creds  Credentials
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// NewAPI returns an API at a base URL such as "https://muster.example".
func NewAPI(base string, cfg APIConfig) *API {
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	return &API{base: strings.TrimRight(base, "/"), http: cfg.HTTP, cfg: cfg, creds: cfg.Credentials}
}

// Credentials returns the present ones.
func (a *API) Credentials() Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.creds
}

func (a *API) keep(c Credentials) {
	a.mu.Lock()
	a.creds = c
	a.mu.Unlock()
	if a.cfg.OnCredentials != nil {
		a.cfg.OnCredentials(c)
	}
}

// Token implements TokenSource: it renews the access token if it is the stale
// one or about to lapse. Concurrent calls share one refresh.
func (a *API) Token(ctx context.Context, stale string) (string, error) {
	c := a.Credentials()
	if c.Token != "" && c.Token != stale && remaining(c.Token, time.Hour) > 10*time.Second {
		return c.Token, nil
	}
	if c.RefreshToken == "" {
		return "", &Error{Code: wire.CodeUnauthenticated, Status: http.StatusUnauthorized, Message: "sign in first"}
	}
	// A caller that goes away must not fail those who share its refresh, nor
	// lose the new refresh token.
	done := a.flight.DoChan(c.RefreshToken, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return a.refresh(ctx, c.RefreshToken)
	})
	select {
	case r := <-done:
		token, _ := r.Val.(string)
		return token, r.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (a *API) refresh(ctx context.Context, old string) (string, error) {
	if c := a.Credentials(); c.RefreshToken != old {
		return c.Token, nil // somebody was faster
	}
	var c Credentials
	body := map[string]string{"refresh_token": old}
	if err := a.do(ctx, http.MethodPost, "/api/v1/auth/refresh", "", body, &c); err != nil {
		return "", err
	}
	if !a.swap(old, c) {
		return "", &Error{Code: wire.CodeSignedOut, Status: http.StatusUnauthorized, Message: "this login was left meanwhile"}
	}
	return c.Token, nil
}

// swap keeps what a refresh token was traded for, unless somebody signed out,
// or in as somebody else, meanwhile.
func (a *API) swap(old string, c Credentials) bool {
	a.mu.Lock()
	if a.creds.RefreshToken != old {
		a.mu.Unlock()
		return false
	}
	c.UserID = a.creds.UserID
	a.creds = c
	a.mu.Unlock()
	if a.cfg.OnCredentials != nil {
		a.cfg.OnCredentials(c)
	}
	return true
}

// Refresh renews the tokens now.
func (a *API) Refresh(ctx context.Context) error {
	_, err := a.Token(ctx, a.Credentials().Token)
	return err
}

// call is do with the present token, renewed once if the server finds it
// lapsed.
func (a *API) call(ctx context.Context, method, path string, in, out any) error {
	return a.signed(ctx, func(token string) error { return a.do(ctx, method, path, token, in, out) })
}

// signed does something with the present token, and again with a fresh one.
func (a *API) signed(ctx context.Context, do func(token string) error) error {
	token, err := a.Token(ctx, "")
	if err != nil {
		return err
	}
	err = do(token)
	if refused, ok := errorsAs(err); ok && refused.Status == http.StatusUnauthorized {
		if token, err = a.Token(ctx, token); err != nil {
			return err
		}
		return do(token)
	}
	return err
}

func (a *API) do(ctx context.Context, method, path, token string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("client: %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := a.request(ctx, method, path, token, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" && method != http.MethodGet {
		req.Header.Set("Idempotency-Key", NewDevice())
	}
	_, err = a.send(a.http, req, out)
	return err
}

func (a *API) request(ctx context.Context, method, path, token string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("User-Agent", SDK)
	return req, nil
}

// send reads the answer to a request, whose path it names in what fails.
func (a *API) send(by *http.Client, req *http.Request, out any) (http.Header, error) {
	path := strings.TrimPrefix(req.URL.String(), a.base)
	resp, err := by.Do(req)
	if err != nil {
		// The URL in a url.Error repeats what is said here.
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, fmt.Errorf("client: %s %s: %w", req.Method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("client: %s %s: %w", req.Method, path, err)
	}
	if resp.StatusCode >= 300 {
		return nil, problemOf(resp, b)
	}
	if p, ok := out.(interface{ follow(link string) }); ok {
		p.follow(resp.Header.Get("Link"))
	}
	if out == nil || len(b) == 0 {
		return resp.Header, nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("client: %s %s: %w", req.Method, path, err)
	}
	return resp.Header, nil
}

// page is one page of a list.
type page struct {
	fields map[string]json.RawMessage
	next   string // path of the next one; empty: there is none
}

func (p *page) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &p.fields) }

// follow reads the next page from a Link header (RFC 8288).
func (p *page) follow(link string) {
	if path, ok := strings.CutPrefix(link, "<"); ok {
		p.next, _, _ = strings.Cut(path, ">")
	}
}

// pages reads all pages of a list, whose entries are in a field of that name.
func pages[T any](ctx context.Context, a *API, path, field string) (all []T, err error) {
	for path != "" {
		var p page
		if err := a.call(ctx, http.MethodGet, path, nil, &p); err != nil {
			return nil, err
		}
		var some []T
		if err := json.Unmarshal(p.fields[field], &some); err != nil {
			return nil, fmt.Errorf("client: list of %s: %w", field, err)
		}
		all, path = append(all, some...), p.next
	}
	return all, nil
}

// problemOf reads RFC 9457 problem+json, or makes do with the status.
func problemOf(resp *http.Response, body []byte) *Error {
	var p struct {
		Code   string `json:"code"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Field  string `json:"field"`

		Conflict json.RawMessage `json:"conflict"`
	}
	_ = json.Unmarshal(body, &p)
	e := &Error{Code: p.Code, Status: resp.StatusCode, Message: p.Detail, Field: p.Field, conflict: p.Conflict}
	if e.Code == "" {
		e.Code = "http_" + strconv.Itoa(resp.StatusCode)
	}
	if e.Message == "" {
		e.Message = p.Title
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}
