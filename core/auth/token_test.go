package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// clock is a time that tests move.
type clock struct{ t time.Time }

func newClock() *clock                   { return &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }
func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

// memory is a KeySource that counts how often it is asked, and can fail.
type memory struct {
	keys  []PublicKey
	err   error
	asked int
}

func (m *memory) PublicKeys(context.Context) ([]PublicKey, error) {
	m.asked++
	return m.keys, m.err
}

func newKey(t *testing.T) (PublicKey, ed25519.PrivateKey) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return PublicKey{ID: thumbprint(public), Key: public}, private
}

func testIdentity(c *clock) Identity {
	return Identity{
		User: core.UserID(uuid.New()), Login: core.LoginID(uuid.New()),
		Name: "Ana", Guest: true, Expires: c.now().Add(15 * time.Minute),
	}
}

func TestVerifyRoundTrip(t *testing.T) {
	c := newClock()
	public, private := newKey(t)
	v := NewVerifier(&memory{keys: []PublicKey{public}}, VerifierConfig{Now: c.now})
	want := testIdentity(c)
	token, err := sign(private, public.ID, "muster", "muster", want, c.now())
	require.NoError(t, err)

	got, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	require.True(t, want.Expires.Equal(got.Expires))
	got.Expires = want.Expires
	require.Equal(t, want, got)

	// The claims are exactly these.
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(body, &m))
	require.Len(t, m, 8)
	for _, k := range []string{"sub", "sid", "name", "guest", "iat", "exp", "iss", "aud"} {
		require.Contains(t, m, k)
	}

	c.advance(15*time.Minute + leeway + time.Second)
	_, err = v.Verify(t.Context(), token)
	require.ErrorIs(t, err, ErrTokenExpired)
	late, err := v.verify(t.Context(), token, LogoutGrace)
	require.NoError(t, err, "a sign-out may come late")
	require.Equal(t, want.Login, late.Login)
	c.advance(LogoutGrace)
	_, err = v.verify(t.Context(), token, LogoutGrace)
	require.ErrorIs(t, err, ErrTokenExpired)
}

func TestForgedTokens(t *testing.T) {
	c := newClock()
	public, private := newKey(t)
	_, stranger := newKey(t)
	v := NewVerifier(&memory{keys: []PublicKey{public}}, VerifierConfig{Now: c.now})
	id := testIdentity(c)
	good, err := sign(private, public.ID, "muster", "muster", id, c.now())
	require.NoError(t, err)
	parts := strings.Split(good, ".")

	must := func(s string, err error) string { require.NoError(t, err); return s }
	with := func(change func(jwt.MapClaims)) string {
		m := jwt.MapClaims{
			"iss": "muster", "aud": "muster", "sub": id.User.String(), "sid": id.Login.String(),
			"name": "Ana", "iat": c.now().Unix(), "exp": c.now().Add(time.Minute).Unix(),
		}
		change(m)
		tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, m)
		tok.Header["kid"] = public.ID
		return must(tok.SignedString(private))
	}
	_, err = v.Verify(t.Context(), with(func(jwt.MapClaims) {}))
	require.NoError(t, err, "the base of the forgeries is good")

	pkix, err := x509.MarshalPKIXPublicKey(public.Key)
	require.NoError(t, err)
	hmacToken := func(secret []byte) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "muster", "aud": "muster", "sub": id.User.String(), "exp": c.now().Add(time.Minute).Unix()})
		tok.Header["kid"] = public.ID
		return must(tok.SignedString(secret))
	}
	none := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"iss": "muster", "aud": "muster", "exp": c.now().Add(time.Minute).Unix()})
	none.Header["kid"] = public.ID

	for name, token := range map[string]string{
		"empty":               "",
		"not a token":         "a.b.c",
		"two parts":           parts[0] + "." + parts[1],
		"too long":            good + strings.Repeat("A", maxToken),
		"signature cut":       good[:len(good)-4],
		"signature of others": parts[0] + "." + parts[1] + "." + strings.Split(with(func(jwt.MapClaims) {}), ".")[2],
		"padding":             good + "=",
		"other key, same kid": must(sign(stranger, public.ID, "muster", "muster", id, c.now())),
		"unknown kid":         must(sign(private, "other", "muster", "muster", id, c.now())),
		"no kid":              must(sign(private, "", "muster", "muster", id, c.now())),
		"other issuer":        must(sign(private, public.ID, "other", "muster", id, c.now())),
		"other audience":      must(sign(private, public.ID, "muster", "other", id, c.now())),
		"alg none":            must(none.SignedString(jwt.UnsafeAllowNoneSignatureType)),
		"hmac with public":    hmacToken(public.Key),
		"hmac with pkix":      hmacToken(pkix),
		"no exp":              with(func(m jwt.MapClaims) { delete(m, "exp") }),
		"no iat":              with(func(m jwt.MapClaims) { delete(m, "iat") }),
		"made in the future":  with(func(m jwt.MapClaims) { m["iat"] = c.now().Add(time.Hour).Unix() }),
		"no audience":         with(func(m jwt.MapClaims) { delete(m, "aud") }),
		"no issuer":           with(func(m jwt.MapClaims) { delete(m, "iss") }),
		"no subject":          with(func(m jwt.MapClaims) { delete(m, "sub") }),
		"subject no uuid":     with(func(m jwt.MapClaims) { m["sub"] = "admin" }),
		"no login":            with(func(m jwt.MapClaims) { delete(m, "sid") }),
		"expired and foreign": with(func(m jwt.MapClaims) { m["exp"] = c.now().Add(-time.Hour).Unix(); m["iss"] = "other" }),
	} {
		_, err := v.Verify(t.Context(), token)
		require.ErrorIs(t, err, ErrUnauthenticated, name)
	}
	_, err = v.Verify(t.Context(), with(func(m jwt.MapClaims) { m["exp"] = c.now().Add(-time.Hour).Unix() }))
	require.ErrorIs(t, err, ErrTokenExpired)
}

func FuzzVerify(f *testing.F) {
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	c := newClock()
	id := Identity{User: core.UserID(uuid.New()), Login: core.LoginID(uuid.New()), Expires: c.now().Add(time.Minute)}
	good, err := sign(private, "k", "muster", "muster", id, c.now())
	if err != nil {
		f.Fatal(err)
	}
	v := NewVerifier(&memory{keys: []PublicKey{{ID: "k", Key: public}}}, VerifierConfig{Now: c.now})
	f.Add(good)
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		if err != nil && !errors.Is(err, ErrUnauthenticated) && !errors.Is(err, ErrTokenExpired) {
			t.Fatalf("undocumented error: %v", err)
		}
		if err == nil && got.User != id.User {
			t.Fatal("somebody else")
		}
	})
}

// New keys are found when a token names them, forged kids don't become load,
// and a source that is away leaves what is known.
func TestVerifierRefresh(t *testing.T) {
	c := newClock()
	old, oldPrivate := newKey(t)
	src := &memory{keys: []PublicKey{old}}
	v := NewVerifier(src, VerifierConfig{Now: c.now})
	require.NoError(t, v.Start(t.Context()))
	defer v.Stop()
	require.Equal(t, 1, src.asked)
	oldToken, err := sign(oldPrivate, old.ID, "muster", "muster", testIdentity(c), c.now())
	require.NoError(t, err)

	fresh, freshPrivate := newKey(t)
	src.keys = append(src.keys, fresh)
	token, err := sign(freshPrivate, fresh.ID, "muster", "muster", testIdentity(c), c.now())
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), token)
	require.ErrorIs(t, err, ErrUnauthenticated, "too soon after the last look")
	c.advance(refreshAfter)
	_, err = v.Verify(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, 2, src.asked)

	for range 100 {
		forged, err := sign(freshPrivate, rand.Text(), "muster", "muster", testIdentity(c), c.now())
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), forged)
		require.ErrorIs(t, err, ErrUnauthenticated)
	}
	require.Equal(t, 2, src.asked, "forged kids ask at most every few seconds")

	src.err = errors.New("database away")
	c.advance(refreshAfter)
	require.Error(t, v.Refresh(t.Context()))
	_, err = v.Verify(t.Context(), oldToken)
	require.NoError(t, err, "the keys that are known still verify")
}

// A gateway's token says whose it is, and is not taken for a user's, nor the other
// way round.
func TestTokensOfGateways(t *testing.T) {
	c := newClock()
	public, private := newKey(t)
	v := NewVerifier(&memory{keys: []PublicKey{public}}, VerifierConfig{Now: c.now})
	want := Identity{Fleet: core.FleetID(uuid.New()), Login: core.LoginID(uuid.New()), Name: "Scooters", Expires: c.now().Add(15 * time.Minute)}
	token, err := sign(private, public.ID, "muster", "muster", want, c.now())
	require.NoError(t, err)
	got, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	require.True(t, want.Expires.Equal(got.Expires))
	got.Expires = want.Expires
	require.Equal(t, want, got)

	body, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	require.NoError(t, err)
	for _, forged := range []string{strings.Replace(string(body), `"fleet":true`, `"fleet":false`, 1), strings.Replace(string(body), `,"fleet":true`, ``, 1)} {
		require.NotEqual(t, string(body), forged)
		parts := strings.Split(token, ".")
		parts[1] = base64.RawURLEncoding.EncodeToString([]byte(forged))
		_, err = v.Verify(t.Context(), strings.Join(parts, "."))
		require.ErrorIs(t, err, ErrUnauthenticated)
	}
}

func TestGatewaysAreNoUsers(t *testing.T) {
	b := setup(t)
	fleet, key := core.FleetID(uuid.New()), core.LoginID(uuid.New())
	token, expires, err := b.Gateway(t.Context(), fleet, key, "Scooters")
	require.NoError(t, err)
	id, err := b.Verifier().Verify(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, []any{fleet, key, core.UserID{}}, []any{id.Fleet, id.Login, id.User})
	require.True(t, expires.Truncate(time.Second).Equal(id.Expires))
	_, err = b.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, ErrFleetToken)
	require.ErrorIs(t, b.Logout(t.Context(), token), ErrFleetToken)
	require.Empty(t, b.told.logins, "whoever has a token can't end the key's sessions")
}
