package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/auth/googletest"
	"github.com/mustermesh/muster/core/db"
)

// letters satisfies auth.Notifier and has the last token that was mailed to each
// address.
type letters struct {
	mu     sync.Mutex
	tokens map[string]string
	spoke  map[string]string
}

func (*letters) Notify(context.Context, pgx.Tx, core.UserID, string, map[string]any) error {
	return nil
}

func (l *letters) Mail(ctx context.Context, _ pgx.Tx, address, language, template string, data map[string]any) error {
	link, _ := data["link"].(string)
	db.AfterCommit(ctx, func(context.Context) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tokens[address] = link[strings.LastIndexByte(link, '/')+1:]
		l.spoke[address] = template + " " + language
	})
	return nil
}

func (l *letters) last(address string) (token, spoke string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	token, spoke = l.tokens[address], l.spoke[address]
	delete(l.tokens, address)
	return token, spoke
}

// setupMail is setup with accounts that send mails and know Google.
func setupMail(t *testing.T) (*bundle, *letters, *googletest.Server) {
	post := &letters{tokens: map[string]string{}, spoke: map[string]string{}}
	var fake *googletest.Server
	var accounts *auth.Service
	b := setup(t, func(c *Config) {
		fake = googletest.New(t, c.Now)
		provider, err := google.New(google.Config{
			ClientID: googletest.ClientID, ClientSecret: googletest.ClientSecret, RedirectURL: googletest.RedirectURL,
			Issuer: fake.URL, Client: fake.Client, Now: c.Now,
		})
		require.NoError(t, err)
		accounts, err = auth.New(c.DB, []byte("0123456789abcdef0123456789abcdef"), "eu-west", auth.Config{
			VerifierConfig: auth.VerifierConfig{Now: c.Now, Log: c.Log}, Hash: auth.HashConfig{MemoryKiB: 64, Passes: 1},
			Notify: post, Google: provider, LinkBase: "https://app.example.org/",
		})
		require.NoError(t, err)
		require.NoError(t, accounts.Start(t.Context()))
		t.Cleanup(accounts.Stop)
		c.Auth = accounts
	})
	b.auth = accounts
	return b, post, fake
}

// recover does the jobs that a forgotten password left.
func (b *bundle) recover() {
	b.t.Helper()
	var payloads [][]byte
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `DELETE FROM jobs WHERE kind = $1 RETURNING payload`, auth.RecoverJob)
		if err != nil {
			return err
		}
		payloads, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
		return err
	}))
	for _, p := range payloads {
		require.NoError(b.t, b.auth.Recover(b.t.Context(), p))
	}
}

func TestLifeOfAnAddressAndAPassword(t *testing.T) {
	b, post, _ := setupMail(t)
	const email, password = "ana@example.org", "correct horse"
	a := b.ok("POST", "/auth/register", "", obj{"username": "Ana", "email": email, "password": password}, "Accept-Language", "de-CH, fr;q=0.5")
	token := a.str("token")
	require.Equal(t, false, b.ok("GET", "/users/profile", token, nil).body["email_verified"])
	mailed, spoke := post.last(email)
	require.Equal(t, "verify_email de-CH, fr;q=0.5", spoke)
	b.refused(410, "token_invalid", "POST", "/auth/verify", "", obj{"token": "mmt_unknown"})
	b.refused(400, "bad_request", "POST", "/auth/verify", "", obj{"token": strings.Repeat("x", 300)})
	b.ok("POST", "/auth/verify/resend", token, nil)
	b.ok("POST", "/auth/verify", "", obj{"token": mailed})
	b.refused(410, "token_invalid", "POST", "/auth/verify", "", obj{"token": mailed})
	require.Equal(t, true, b.ok("GET", "/users/profile", token, nil).body["email_verified"])

	b.refused(403, "wrong_password", "POST", "/auth/email", token, obj{"email": "new@example.org", "password": "wrong horse"})
	b.ok("POST", "/auth/email", token, obj{"email": "new@example.org", "password": password})
	require.Equal(t, email, b.ok("GET", "/users/profile", token, nil).str("email"))
	mailed, _ = post.last("new@example.org")
	b.ok("POST", "/auth/verify", "", obj{"token": mailed}, "Accept-Language", "fr")
	require.Equal(t, "new@example.org", b.ok("GET", "/users/profile", token, nil).str("email"))
	_, spoke = post.last(email)
	require.Equal(t, "email_changed fr", spoke)

	other := b.ok("POST", "/auth/login", "", obj{"email": "new@example.org", "password": password}).str("token")
	field := b.refused(400, "bad_password", "POST", "/auth/password", token, obj{"old": password, "new": "short"})
	require.Equal(t, "body.new", field.str("field"))
	b.refused(403, "wrong_password", "POST", "/auth/password", token, obj{"old": "wrong horse", "new": "another horse"})
	b.ok("POST", "/auth/password", token, obj{"old": password, "new": "another horse"})
	b.ok("GET", "/users/profile", token, nil)
	b.refused(401, "signed_out", "GET", "/users/profile", other, nil)

	// The same answer for everybody.
	known := b.ok("POST", "/auth/password/forgot", "", obj{"email": "new@example.org"}, "Accept-Language", "de")
	unknown := b.ok("POST", "/auth/password/forgot", "", obj{"email": "eve@example.org"})
	require.Equal(t, known.raw, unknown.raw)
	require.Equal(t, known.StatusCode, unknown.StatusCode)
	b.recover()
	eve, _ := post.last("eve@example.org")
	require.Empty(t, eve)
	mailed, spoke = post.last("new@example.org")
	require.Equal(t, "reset_password de", spoke)
	b.refused(400, "bad_password", "POST", "/auth/password/reset", "", obj{"token": mailed, "password": "short"})
	b.ok("POST", "/auth/password/reset", "", obj{"token": mailed, "password": "third horse"})
	b.refused(410, "token_invalid", "POST", "/auth/password/reset", "", obj{"token": mailed, "password": "third horse"})
	b.refused(401, "signed_out", "GET", "/users/profile", token, nil)
	token = b.ok("POST", "/auth/login", "", obj{"email": "new@example.org", "password": "third horse"}).str("token")

	events := b.ok("GET", "/auth/events?limit=3", token, nil)
	require.Contains(t, events.Header.Get("Link"), "/api/v1/auth/events?limit=3&cursor=")
	first := events.body["events"].([]any)[0].(obj)
	require.Equal(t, "signed_in", first["kind"])
	require.Equal(t, "127.0.0.0/24", first["network"])
	require.NotContains(t, string(b.ok("GET", "/auth/events?limit=200", token, nil).raw), "example.org", "no addresses")
	require.NotContains(t, b.log.String(), "example.org", "nor in the log")

	guest := b.guest("Bob")
	b.refused(409, "guest", "POST", "/auth/verify/resend", guest.token, nil)
	b.refused(409, "guest", "POST", "/auth/password", guest.token, obj{"new": "correct horse"})
	b.refused(409, "guest", "POST", "/auth/email", guest.token, obj{"email": "bob@example.org"})
}

func TestListAndEndLogins(t *testing.T) {
	b, _, _ := setupMail(t)
	first := b.ok("POST", "/auth/register", "", obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse"}).str("token")
	var others []string
	for _, device := range []any{obj{"model": "Pixel 9"}, "Firefox", nil} {
		others = append(others, b.ok("POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "correct horse", "device_info": device}).str("token"))
	}
	page := b.ok("GET", "/auth/logins?limit=2", first, nil)
	list := page.body["logins"].([]any)
	require.Len(t, list, 2)
	require.Equal(t, "Firefox", list[1].(obj)["device_info"])
	next := strings.TrimSuffix(strings.TrimPrefix(page.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	list = b.ok("GET", next, first, nil).body["logins"].([]any)
	require.Len(t, list, 2)
	require.Equal(t, obj{"model": "Pixel 9"}, list[0].(obj)["device_info"])
	require.Equal(t, true, list[1].(obj)["current"])
	for _, key := range []string{"login_id", "device_info", "network", "created_at", "last_used_at", "current"} {
		require.Contains(t, list[0], key)
	}

	id := list[0].(obj)["login_id"].(string)
	b.refused(404, "login_not_found", "DELETE", "/auth/logins/"+id, b.guest("Eve").token, nil)
	b.refused(400, "bad_request", "DELETE", "/auth/logins/"+strings.ToUpper(id), first, nil)
	b.ok("DELETE", "/auth/logins/"+id, first, nil)
	b.refused(401, "signed_out", "GET", "/users/profile", others[0], nil)
	require.EqualValues(t, 2, b.ok("DELETE", "/auth/logins", first, nil).body["ended"])
	b.refused(401, "signed_out", "GET", "/users/profile", others[1], nil)
	b.ok("GET", "/users/profile", first, nil)
}

// What is done under an Idempotency-Key is done as without one, also where the
// answer is a failure that must leave something.
func TestAccountsUnderIdempotencyKeys(t *testing.T) {
	b, post, _ := setupMail(t)
	key := []string{"Idempotency-Key", "0b8c7e60-6f10-4d5f-9d6e-111111111111"}
	body := obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse"}
	first := b.ok("POST", "/auth/register", "", body, key...)
	again := b.ok("POST", "/auth/register", "", body, key...)
	require.Equal(t, first.body, again.body)
	mailed, _ := post.last("ana@example.org")
	require.NotEmpty(t, mailed)
	for range 2 {
		b.ok("POST", "/auth/verify", "", obj{"token": mailed}, key...)
	}
	b.refused(410, "token_invalid", "POST", "/auth/verify", "", obj{"token": mailed})

	fresh := b.ok("POST", "/auth/refresh", "", obj{"refresh_token": first.str("refresh_token")})
	b.refused(401, "refresh_reused", "POST", "/auth/refresh", "", obj{"refresh_token": first.str("refresh_token")}, key...)
	b.refused(401, "signed_out", "GET", "/users/profile", fresh.str("token"), nil)

	in := b.ok("POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "correct horse"}, key...)
	b.ok("POST", "/auth/password", in.str("token"), obj{"old": "correct horse", "new": "another horse"}, key...)
	b.ok("POST", "/auth/password", in.str("token"), obj{"old": "correct horse", "new": "another horse"}, key...)
}

func TestSignInWithGoogle(t *testing.T) {
	b, _, fake := setupMail(t)
	who := googletest.Person{Subject: "1100", Email: "ana@example.org", Name: "Ana"}
	begin := b.ok("GET", "/auth/google", "", nil)
	code, redirected := fake.SignIn(t, begin.str("url"), who)
	expires, err := time.Parse(time.RFC3339, begin.str("expires_at"))
	require.NoError(t, err)
	require.True(t, expires.After(b.clock()))
	b.refused(410, "google_state_invalid", "POST", "/auth/google", "", obj{"code": code, "state": redirected})
	in := b.ok("POST", "/auth/google", "", obj{"code": code, "state": begin.str("state"), "device_info": obj{"model": "test"}})
	token := in.str("token")
	require.NotEmpty(t, in.str("refresh_token"))
	profile := b.ok("GET", "/users/profile", token, nil)
	require.Equal(t, "Ana", profile.str("username"))
	require.Equal(t, true, profile.body["email_verified"])
	link := b.ok("GET", "/auth/google/link", token, nil)
	require.Equal(t, "ana@example.org", link.str("email"))
	b.refused(409, "no_password", "DELETE", "/auth/google/link", token, nil)
	b.ok("POST", "/auth/password", token, obj{"new": "correct horse"})
	b.ok("DELETE", "/auth/google/link", token, nil)
	require.Equal(t, false, b.ok("GET", "/auth/google/link", token, nil).body["linked"])
	b.refused(403, "wrong_password", "POST", "/auth/google/link", token, obj{"password": "wrong horse"})
	begin = b.ok("POST", "/auth/google/link", token, obj{"password": "correct horse"})
	code, _ = fake.SignIn(t, begin.str("url"), who)
	b.ok("PUT", "/auth/google/link", token, obj{"code": code, "state": begin.str("state")})
	require.Equal(t, true, b.ok("GET", "/auth/google/link", token, nil).body["linked"])

	begin = b.ok("GET", "/auth/google", "", nil)
	_, _ = fake.SignIn(t, begin.str("url"), who)
	b.refused(401, "google_refused", "POST", "/auth/google", "", obj{"code": "4/guessed", "state": begin.str("state")})
	fake.Fail(googletest.Fail{Token: http.StatusBadGateway})
	begin = b.ok("GET", "/auth/google", "", nil)
	code, _ = fake.SignIn(t, begin.str("url"), who)
	away := b.refused(503, "google_unreachable", "POST", "/auth/google", "", obj{"code": code, "state": begin.str("state")})
	require.NotEmpty(t, away.Header.Get("Retry-After"))

	// A failure of our configuration is our fault, and its details are not told.
	fake.Fail(googletest.Fail{TokenError: "invalid_client"})
	begin = b.ok("GET", "/auth/google", "", nil)
	code, _ = fake.SignIn(t, begin.str("url"), who)
	b.refused(500, "internal", "POST", "/auth/google", "", obj{"code": code, "state": begin.str("state")})
	require.Contains(t, b.log.String(), "invalid_client")
	require.NotContains(t, b.log.String(), code)
	require.NotContains(t, b.log.String(), googletest.ClientSecret)
	var problem Problem
	require.NoError(t, json.Unmarshal(away.raw, &problem))

	off := setup(t)
	off.refused(404, "google_off", "GET", "/auth/google", "", nil)
}
