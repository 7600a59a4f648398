// Package google asks Google who somebody is: OpenID Connect's authorization code
// flow (OpenID Connect Core 1.0, section 3.1) with PKCE (RFC 7636). It holds
// nothing of anybody; core/auth decides what follows from the answer.
//
//	app ── URL ──▶ Google asks the person ── redirect, code ──▶ app
//	app ── code ──▶ Exchange ── code, verifier ──▶ token endpoint ── ID token
//
// Of the ID token the signature (keys by discovery), issuer, audience, authorized
// party, expiry, nonce and access token hash are checked. What comes from the
// token endpoint is not trusted for coming from there.
package google

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrRefused     = errs.New(errs.Unauthorized, "google_refused", "Google did not confirm who this is: begin again")
	ErrUnreachable = errs.New(errs.Unavailable, "google_unreachable", "Google cannot be reached; try again").After(2 * time.Second)
)

// Issuer is Google's name of itself.
const Issuer = "https://accounts.google.com"

// Config is how the deployment is registered at Google. Client id and secret and
// the redirect's URL are needed.
type Config struct {
	ClientID, ClientSecret string
	// RedirectURL is the page of the app to which Google sends people back.
	RedirectURL string

	Issuer string           // default: Google's
	Client *http.Client     // default: one with a limit of 5 s
	Now    func() time.Time // default time.Now
	Log    *slog.Logger     // default: discard
}

// Person is who signed in at Google.
type Person struct {
	Subject       string // never changes
	Email         string // may change
	EmailVerified bool
	Name          string
}

// Provider is Google. It is safe for concurrent use, and looks for Google only
// when it is first needed.
type Provider struct {
	cfg Config

	mu    sync.Mutex // guards the following; held while it is read
	known *discovered
	at    time.Time // when
}

// discovered is what Google's discovery document says.
type discovered struct {
	oauth    oauth2.Config
	keys     *oidc.RemoteKeySet
	verifier *oidc.IDTokenVerifier
}

// discoverAgain is how long the discovery document is good.
const discoverAgain = 24 * time.Hour

// New returns a Provider.
func New(cfg Config) (*Provider, error) {
	if cfg.ClientID == "" || cfg.ClientSecret == "" || cfg.RedirectURL == "" {
		return nil, errors.New("google: client id, client secret and redirect URL are needed")
	}
	cfg.Issuer = cmp.Or(cfg.Issuer, Issuer)
	cfg.Client = cmp.Or(cfg.Client, &http.Client{Timeout: 5 * time.Second})
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Provider{cfg: cfg}, nil
}

// URL is where a person signs in and allows it. verifier and nonce are the
// sign-in's own secrets; state comes back in the redirect.
func (p *Provider) URL(ctx context.Context, state, verifier, nonce string) (string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	return d.oauth.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce), oauth2.SetAuthURLParam("prompt", "select_account")), nil
}

// Exchange trades the redirect's code for who it is.
func (p *Provider) Exchange(ctx context.Context, code, verifier, nonce string) (Person, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return Person{}, err
	}
	ctx = oidc.ClientContext(ctx, p.cfg.Client) // oauth2 reads the same key
	token, err := d.oauth.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		answer, answered := errors.AsType[*oauth2.RetrieveError](err)
		switch {
		case answered && answer.ErrorCode == "invalid_grant": // RFC 6749 section 5.2
			return Person{}, ErrRefused
		case answered && answer.Response.StatusCode < 500 && answer.Response.StatusCode != http.StatusTooManyRequests:
			return Person{}, fmt.Errorf("google: token endpoint: %s", cmp.Or(answer.ErrorCode, answer.Response.Status)) // our configuration
		}
		return Person{}, p.unreachable("token endpoint", err)
	}
	raw, _ := token.Extra("id_token").(string)
	// Keys that can't be read are told from a signature that is wrong by doing this
	// first; the verifier finds them known.
	if _, err := d.keys.VerifySignature(ctx, raw); err != nil && strings.HasPrefix(err.Error(), "fetching keys") {
		return Person{}, p.unreachable("keys", err)
	}
	id, err := d.verifier.Verify(ctx, raw)
	if err == nil {
		err = p.check(id, token.AccessToken, nonce)
	}
	var claims struct {
		Email         string `json:"email"`
		EmailVerified bool   `json:"email_verified"`
		Name          string `json:"name"`
		Authorized    string `json:"azp"`
	}
	if err == nil {
		err = id.Claims(&claims)
	}
	if err == nil && (len(id.Audience) > 1 || claims.Authorized != "") && claims.Authorized != p.cfg.ClientID {
		err = errors.New("it is for another party")
	}
	if err != nil {
		p.cfg.Log.WarnContext(ctx, "an ID token of Google's was refused", "err", err)
		return Person{}, ErrRefused
	}
	return Person{Subject: id.Subject, Email: claims.Email, EmailVerified: claims.EmailVerified, Name: claims.Name}, nil
}

// check is what the verifier leaves to its callers.
func (p *Provider) check(id *oidc.IDToken, access, nonce string) error {
	switch {
	case id.Subject == "" || len(id.Subject) > 255: // OpenID Connect Core, section 2
		return errors.New("it has no subject")
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return errors.New("it has another nonce")
	case id.IssuedAt.After(p.cfg.Now().Add(5 * time.Minute)):
		return errors.New("it is of the future")
	case id.AccessTokenHash != "":
		return id.VerifyAccessToken(access)
	}
	return nil
}

func (p *Provider) unreachable(what string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	// The text may hold an answer's body, which may hold tokens.
	p.cfg.Log.Warn("Google can't be reached", "what", what)
	return fmt.Errorf("%w: %s", ErrUnreachable, what)
}

// discover returns the discovery document, read at most once a day. One that
// can't be read again goes on being used.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if p.known != nil && now.Sub(p.at) < discoverAgain {
		return p.known, nil
	}
	ctx = oidc.ClientContext(ctx, p.cfg.Client)
	provider, err := oidc.NewProvider(ctx, p.cfg.Issuer)
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err == nil {
		err = provider.Claims(&document)
	}
	if err != nil {
		if p.known != nil {
			p.at = now.Add(time.Hour - discoverAgain)
			return p.known, nil
		}
		return nil, p.unreachable("discovery", err)
	}
	keys := oidc.NewRemoteKeySet(ctx, document.Keys)
	p.at, p.known = now, &discovered{
		oauth: oauth2.Config{
			ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, RedirectURL: p.cfg.RedirectURL,
			Endpoint: provider.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
		},
		keys: keys, verifier: oidc.NewVerifier(p.cfg.Issuer, keys, &oidc.Config{ClientID: p.cfg.ClientID, Now: p.cfg.Now}),
	}
	return p.known, nil
}
