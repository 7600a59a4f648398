package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/auth/googletest"
)

var anaAtGoogle = googletest.Person{Subject: "1100", Email: "ana@example.org", Name: "Ana Lucía"}

// signIn is a whole sign-in at Google.
func (b *accounts) signIn(t *testing.T, who googletest.Person) (Tokens, error) {
	t.Helper()
	g, err := b.GoogleBegin(t.Context())
	require.NoError(t, err)
	code, _ := b.google.SignIn(t, g.URL, who)
	return b.GoogleSignIn(t.Context(), code, g.State, map[string]any{"model": "test"})
}

func TestGoogleMakesAnAccount(t *testing.T) {
	b := setupAccounts(t)
	first, err := b.signIn(t, anaAtGoogle)
	require.NoError(t, err)
	id := b.identity(t, first)
	require.Equal(t, "Ana Lucía", id.Name)
	require.False(t, id.Guest)
	email, verified := b.verifiedAddress(t, id.User)
	require.Equal(t, "ana@example.org", email)
	require.True(t, verified)
	require.Empty(t, b.post.take(), "nothing is left to confirm")

	moved := anaAtGoogle
	moved.Email, moved.Name, moved.Unverified = "ana@elsewhere.example", "Somebody", true
	again, err := b.signIn(t, moved)
	require.NoError(t, err, "the subject is who it is, not the address")
	require.Equal(t, first.User, again.User)
	require.Subset(t, b.kinds(t, id.User), []EventKind{EventSignedIn, EventGoogleLinked, EventRegistered})
	require.Equal(t, 1, b.post.told(t, id.User, "new_login"))
	linked, since, err := b.GoogleLinked(t.Context(), id.User)
	require.NoError(t, err)
	require.Equal(t, "ana@example.org", linked)
	require.False(t, since.IsZero())

	_, err = b.Login(t.Context(), "ana@example.org", "", nil)
	require.ErrorIs(t, err, ErrInvalidCredentials, "it has no password")
	require.ErrorIs(t, b.GoogleUnlink(t.Context(), id), ErrNoPassword)

	// A login that is minutes old stands for the password, an older one does not.
	require.NoError(t, b.ChangeEmail(t.Context(), id, "new@example.org", ""))
	b.post.take()
	b.clock.advance(11 * time.Minute)
	require.ErrorIs(t, b.ChangeEmail(t.Context(), id, "new@example.org", ""), ErrSignInAgain)
	require.ErrorIs(t, b.ChangePassword(t.Context(), id, "", "correct horse"), ErrSignInAgain)
	fresh, err := b.signIn(t, anaAtGoogle)
	require.NoError(t, err)
	now := b.identity(t, fresh)
	require.NoError(t, b.ChangePassword(t.Context(), now, "", "correct horse"))
	require.NoError(t, b.GoogleUnlink(t.Context(), now))
	require.NoError(t, b.GoogleUnlink(t.Context(), now), "again is a success")
	linked, _, err = b.GoogleLinked(t.Context(), id.User)
	require.NoError(t, err)
	require.Empty(t, linked)
	_, err = b.Login(t.Context(), "ana@example.org", "correct horse", nil)
	require.NoError(t, err)
}

// An account is linked by its address only when that is confirmed on both sides:
// else somebody who wrote another's address into theirs would share it.
func TestGoogleLinksByConfirmedAddress(t *testing.T) {
	b := setupAccounts(t)
	id, _, token := b.register(t, ana)
	_, err := b.signIn(t, anaAtGoogle)
	require.ErrorIs(t, err, ErrEmailUnverified, "not confirmed here")
	require.NoError(t, b.Verify(t.Context(), token))
	unverified := anaAtGoogle
	unverified.Unverified = true
	_, err = b.signIn(t, unverified)
	require.ErrorIs(t, err, ErrGoogleEmail, "not confirmed there")
	tok, err := b.signIn(t, anaAtGoogle)
	require.NoError(t, err)
	require.Equal(t, id.User, tok.User)
	require.Contains(t, b.kinds(t, id.User), EventGoogleLinked)
	_, err = b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.NoError(t, err, "the password stays")

	other := anaAtGoogle
	other.Subject = "2200"
	_, err = b.signIn(t, other)
	require.ErrorIs(t, err, ErrGoogleOther, "another account at Google with the address")

	nobody := googletest.Person{Subject: "3300", Email: "", Name: "Eve"}
	_, err = b.signIn(t, nobody)
	require.ErrorIs(t, err, ErrGoogleEmail)
}

// Who registered with another's address keeps nothing when its reader comes: not
// the password, not a login, not a Google account of their own.
func TestGoogleAndAddressesOfOthers(t *testing.T) {
	b := setupAccounts(t)
	thief, _, _ := b.register(t, ana) // the address is another's
	g, err := b.GoogleLinkBegin(t.Context(), thief, ana.Password)
	require.NoError(t, err)
	code, _ := b.google.SignIn(t, g.URL, googletest.Person{Subject: "666", Email: "thief@example.org", Name: "Thief"})
	require.ErrorIs(t, b.GoogleLink(t.Context(), thief, code, g.State), ErrEmailUnverified)

	token := b.forgot(t, ana.Email)[0].token
	require.NoError(t, b.Reset(t.Context(), token, "the owner's horse"))
	tok, err := b.signIn(t, anaAtGoogle)
	require.NoError(t, err)
	require.Equal(t, thief.User, tok.User)
	_, err = b.Login(t.Context(), ana.Email, ana.Password, nil)
	require.ErrorIs(t, err, ErrInvalidCredentials)

	// One that was linked in between goes with the next reset.
	id := b.identity(t, tok)
	require.NoError(t, b.GoogleUnlink(t.Context(), id))
	g, err = b.GoogleLinkBegin(t.Context(), id, "the owner's horse")
	require.NoError(t, err)
	evil := googletest.Person{Subject: "666", Email: "thief@example.org", Name: "Thief"}
	code, _ = b.google.SignIn(t, g.URL, evil)
	require.NoError(t, b.GoogleLink(t.Context(), id, code, g.State))
	require.NoError(t, b.Reset(t.Context(), b.forgot(t, ana.Email)[0].token, "third horse"))
	in, err := b.signIn(t, evil)
	require.NoError(t, err)
	require.NotEqual(t, id.User, in.User, "a new user of their own")
}

func TestGoogleLink(t *testing.T) {
	b := setupAccounts(t)
	id, _, token := b.register(t, ana)
	require.NoError(t, b.Verify(t.Context(), token))
	_, err := b.GoogleLinkBegin(t.Context(), id, "wrong horse")
	require.ErrorIs(t, err, ErrWrongPassword)
	work := googletest.Person{Subject: "1100", Email: "ana@work.example", Name: "Ana"}
	link := func(id Identity, who googletest.Person) error {
		g, err := b.GoogleLinkBegin(t.Context(), id, "correct horse")
		require.NoError(t, err)
		code, _ := b.google.SignIn(t, g.URL, who)
		return b.GoogleLink(t.Context(), id, code, g.State)
	}
	unverified := work
	unverified.Unverified = true
	require.ErrorIs(t, link(id, unverified), ErrGoogleEmail)
	require.NoError(t, link(id, work), "the address may be another one")
	require.NoError(t, link(id, work), "again is a success")
	other := work
	other.Subject = "2200"
	require.ErrorIs(t, link(id, other), ErrGoogleOther)
	tok, err := b.signIn(t, work)
	require.NoError(t, err)
	require.Equal(t, id.User, tok.User)

	bob, _, token := b.register(t, Account{"Bob", "bob@example.org", "correct horse"})
	require.NoError(t, b.Verify(t.Context(), token))
	require.ErrorIs(t, link(bob, work), ErrGoogleTaken)

	g, err := b.Guest(t.Context(), "", nil)
	require.NoError(t, err)
	_, err = b.GoogleLinkBegin(t.Context(), b.identity(t, g), "")
	require.ErrorIs(t, err, ErrGuest)
}

// A sign-in is finished once, in time, by the app that began it, for what it was
// begun.
func TestGoogleStates(t *testing.T) {
	b := setupAccounts(t)
	begin := func() (GoogleStart, string, string) {
		g, err := b.GoogleBegin(t.Context())
		require.NoError(t, err)
		code, state := b.google.SignIn(t, g.URL, anaAtGoogle)
		return g, code, state
	}
	g, code, redirected := begin()
	require.NotEqual(t, g.State, redirected)
	_, err := b.GoogleSignIn(t.Context(), code, redirected, nil)
	require.ErrorIs(t, err, ErrGoogleState, "who saw the redirect has nothing")
	_, err = b.GoogleSignIn(t.Context(), code, g.State, nil)
	require.NoError(t, err)
	_, err = b.GoogleSignIn(t.Context(), code, g.State, nil)
	require.ErrorIs(t, err, ErrGoogleState, "once")

	// A code that was begun elsewhere, such as the attacker's own: PKCE.
	g, _, _ = begin()
	_, foreign, _ := begin()
	_, err = b.GoogleSignIn(t.Context(), foreign, g.State, nil)
	require.ErrorIs(t, err, google.ErrRefused)

	g, code, _ = begin()
	b.clock.advance(11 * time.Minute)
	_, err = b.GoogleSignIn(t.Context(), code, g.State, nil)
	require.ErrorIs(t, err, ErrGoogleState, "lapsed")

	id, _, token := b.register(t, Account{"Bob", "bob@example.org", "correct horse"})
	require.NoError(t, b.Verify(t.Context(), token))
	g, code, _ = begin()
	require.ErrorIs(t, b.GoogleLink(t.Context(), id, code, g.State), ErrGoogleState, "a sign-in links nothing")
	g, err = b.GoogleLinkBegin(t.Context(), id, "correct horse")
	require.NoError(t, err)
	code, _ = b.google.SignIn(t, g.URL, anaAtGoogle)
	_, err = b.GoogleSignIn(t.Context(), code, g.State, nil)
	require.ErrorIs(t, err, ErrGoogleState, "a link signs nobody in")
	second, err := b.Login(t.Context(), "bob@example.org", "correct horse", nil)
	require.NoError(t, err)
	g, err = b.GoogleLinkBegin(t.Context(), id, "correct horse")
	require.NoError(t, err)
	code, _ = b.google.SignIn(t, g.URL, anaAtGoogle)
	require.ErrorIs(t, b.GoogleLink(t.Context(), b.identity(t, second), code, g.State), ErrGoogleState, "of another login")

	// The database has nothing that finishes one.
	g, _, _ = begin()
	var n int
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM google_states s WHERE position($1 IN s::TEXT) > 0`, g.State)))
	require.Zero(t, n)
	b.clock.advance(11 * time.Minute)
	require.NoError(t, b.Sweep(t.Context()))
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM google_states`)))
	require.Zero(t, n)

	b.cfg.Google = nil
	_, err = b.GoogleBegin(t.Context())
	require.ErrorIs(t, err, ErrGoogleOff)
	_, err = b.GoogleSignIn(t.Context(), "code", "state", nil)
	require.ErrorIs(t, err, ErrGoogleOff)
}

func TestForgedIDTokens(t *testing.T) {
	b := setupAccounts(t)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	kid, public := b.google.KeyID(), b.google.PublicKey()
	pkix, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	set := func(key string, value any) googletest.Fail {
		return googletest.Fail{Claims: func(c jwt.MapClaims) { c[key] = value }}
	}
	signed := func(method jwt.SigningMethod, key any) googletest.Fail {
		return googletest.Fail{Sign: func(c jwt.MapClaims) string {
			tok := jwt.NewWithClaims(method, c)
			tok.Header["kid"] = kid
			s, err := tok.SignedString(key)
			require.NoError(t, err)
			return s
		}}
	}
	for name, fail := range map[string]googletest.Fail{
		"another issuer":           set("iss", "https://accounts.example"),
		"another audience":         set("aud", "other.apps.example"),
		"more audiences, no party": {Claims: func(c jwt.MapClaims) { c["aud"] = []string{googletest.ClientID, "other"}; delete(c, "azp") }},
		"another party":            set("azp", "other.apps.example"),
		"another nonce":            set("nonce", "other"),
		"no nonce":                 {Claims: func(c jwt.MapClaims) { delete(c, "nonce") }},
		"lapsed":                   set("exp", b.clock.now().Add(-time.Minute).Unix()),
		"no expiry":                {Claims: func(c jwt.MapClaims) { delete(c, "exp") }},
		"of the future":            set("iat", b.clock.now().Add(time.Hour).Unix()),
		"another access token":     set("at_hash", base64.RawURLEncoding.EncodeToString(make([]byte, 16))),
		"no subject":               set("sub", ""),
		"none at all":              {NoIDToken: true},
		"no signature":             signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"of the public key":        signed(jwt.SigningMethodHS256, pkix),
		"of another key":           signed(jwt.SigningMethodRS256, stranger),
		"nonsense":                 {Sign: func(jwt.MapClaims) string { return "a.b.c" }},
		"a refused code":           {TokenError: "invalid_grant"},
	} {
		b.google.Fail(fail)
		_, err := b.signIn(t, anaAtGoogle)
		require.ErrorIs(t, err, google.ErrRefused, name)
	}
	b.google.Fail(googletest.Fail{TokenError: "invalid_client"})
	_, err = b.signIn(t, anaAtGoogle)
	require.ErrorContains(t, err, "invalid_client", "a fault of ours: for the log")
	require.NotErrorIs(t, err, google.ErrRefused)
	var n int
	require.NoError(t, b.db.Read(t.Context(), scan(&n, `SELECT count(*) FROM users`)))
	require.Zero(t, n)
	b.google.Fail(googletest.Fail{})
	_, err = b.signIn(t, anaAtGoogle)
	require.NoError(t, err)
}

func TestGoogleAway(t *testing.T) {
	b := setupAccounts(t)
	b.google.Fail(googletest.Fail{Discovery: http.StatusServiceUnavailable})
	_, err := b.GoogleBegin(t.Context())
	require.ErrorIs(t, err, google.ErrUnreachable)
	for _, fail := range []googletest.Fail{{Token: 500}, {Token: 429}, {Keys: 502}} {
		b.google.Fail(fail)
		_, err := b.signIn(t, anaAtGoogle)
		require.ErrorIs(t, err, google.ErrUnreachable)
	}
	b.google.Fail(googletest.Fail{Deny: true})
	g, err := b.GoogleBegin(t.Context())
	require.NoError(t, err)
	require.Equal(t, "access_denied", b.google.Visit(t, g.URL, anaAtGoogle).Get("error"))
	b.google.Fail(googletest.Fail{})
	_, err = b.signIn(t, anaAtGoogle)
	require.NoError(t, err)

	// New keys are found, and the document is read once a day, if it can be.
	b.google.Rotate(t)
	_, err = b.signIn(t, anaAtGoogle)
	require.NoError(t, err)
	asked := b.google.Asked("/.well-known/openid-configuration")
	b.clock.advance(25 * time.Hour)
	b.google.Fail(googletest.Fail{Discovery: 500})
	_, err = b.signIn(t, anaAtGoogle)
	require.NoError(t, err, "the one that is known goes on being used")
	require.Equal(t, asked+1, b.google.Asked("/.well-known/openid-configuration"))

	u, err := url.Parse(g.URL)
	require.NoError(t, err)
	require.Equal(t, "openid email profile", u.Query().Get("scope"))
}

// One person who signs in twice at once, or whose name is taken, is one user.
func TestConcurrentSignInsWithGoogle(t *testing.T) {
	b := setupAccounts(t)
	_, err := b.Guest(t.Context(), "Ana Lucía", nil)
	require.NoError(t, err)
	const n = 4
	var starts [n]GoogleStart
	var codes [n]string
	for i := range n {
		starts[i], err = b.GoogleBegin(t.Context())
		require.NoError(t, err)
		codes[i], _ = b.google.SignIn(t, starts[i].URL, anaAtGoogle)
	}
	var users [n]Tokens
	require.Equal(t, n, wins(t, n, func(i int) (err error) {
		users[i], err = b.GoogleSignIn(t.Context(), codes[i], starts[i].State, nil)
		return err
	}))
	for _, u := range users {
		require.Equal(t, users[0].User, u.User)
	}
	require.Regexp(t, `^Ana Lucía-[a-z2-7]{5}$`, b.identity(t, users[0]).Name)

	// One state that is sent twice at once signs in once.
	g, err := b.GoogleBegin(t.Context())
	require.NoError(t, err)
	code, _ := b.google.SignIn(t, g.URL, anaAtGoogle)
	require.Equal(t, 1, wins(t, n, func(int) error {
		_, err := b.GoogleSignIn(t.Context(), code, g.State, nil)
		return err
	}, ErrGoogleState))
}
