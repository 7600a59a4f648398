package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mustermesh/muster/core"
)

// Identity is who a valid access token speaks for: a user, or a gateway of a
// fleet.
type Identity struct {
	User    core.UserID  // zero for a gateway
	Fleet   core.FleetID // zero for a user
	Login   core.LoginID // of a gateway its key, which can be ended like a login
	Name    string       // of the user or fleet when the token was made
	Guest   bool
	Expires time.Time
}

// claims of an access token (RFC 7519 section 4.1), with "sid" as in OpenID
// Connect Front-Channel Logout and "name" as in OpenID Connect Core 5.1. With
// "fleet" the subject is a fleet, and "sid" the key of its gateway.
type claims struct {
	jwt.RegisteredClaims
	Login string `json:"sid"`
	Name  string `json:"name"`
	Guest bool   `json:"guest"`
	Fleet bool   `json:"fleet,omitempty"`
}

const (
	// leeway forgives clocks that differ between nodes.
	leeway = 5 * time.Second
	// LogoutGrace is how long after its expiry a token still ends its login.
	LogoutGrace = 24 * time.Hour
	// maxToken bounds what is decoded; ours have about 450 bytes.
	maxToken = 2048
)

// sign returns the access token of id.
func sign(key ed25519.PrivateKey, kid, issuer, audience string, id Identity, now time.Time) (string, error) {
	subject, fleet := id.User.String(), id.Fleet != core.FleetID{}
	if fleet {
		subject = id.Fleet.String()
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    issuer,
			Audience:  jwt.ClaimStrings{audience},
			Subject:   subject,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(id.Expires),
		},
		Login: id.Login.String(),
		Name:  id.Name,
		Guest: id.Guest,
		Fleet: fleet,
	})
	t.Header["kid"] = kid
	s, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	return s, nil
}

// Verify checks an access token. It touches the key source only for a kid that
// it has not seen, and not often: see Verifier.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	return v.verify(ctx, token, leeway)
}

// verify checks a token that may have expired up to late ago.
func (v *Verifier) verify(ctx context.Context, token string, late time.Duration) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, ErrUnauthenticated
	}
	// Everything a token could choose is pinned: the algorithm (RFC 8725
	// section 3.1), who made it, and for whom.
	now := v.now()
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(v.issuer),
		jwt.WithAudience(v.audience),
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
		// The leeway also bounds iat, checked below: it must not be late.
		jwt.WithLeeway(late),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	var c claims
	_, err := parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		return v.key(ctx, kid)
	})
	if err != nil {
		// Only a token that is genuine in every other way is "expired".
		if errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenInvalidIssuer) &&
			!errors.Is(err, jwt.ErrTokenInvalidAudience) {
			return Identity{}, ErrTokenExpired
		}
		return Identity{}, ErrUnauthenticated
	}
	id := Identity{Name: c.Name, Guest: c.Guest, Expires: c.ExpiresAt.Time}
	var subjectErr, loginErr error
	if c.Fleet {
		id.Fleet, subjectErr = core.ParseFleetID(c.Subject)
	} else {
		id.User, subjectErr = core.ParseUserID(c.Subject)
	}
	id.Login, loginErr = core.ParseLoginID(c.Login)
	if subjectErr != nil || loginErr != nil || c.Fleet && id.Fleet == (core.FleetID{}) || c.IssuedAt == nil || c.IssuedAt.After(now.Add(leeway)) {
		return Identity{}, ErrUnauthenticated
	}
	return id, nil
}
