package meshtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wneessen/go-mail"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/auth/googletest"
	"github.com/mustermesh/muster/internal/node"
)

// letterbox takes all mails, and has the last token that was sent to each address.
type letterbox struct {
	mu     sync.Mutex
	tokens map[string]string
}

var tokenOf = regexp.MustCompile(`https://app\.example\.org/#/(?:verify|reset)/(\S+)`)

func (b *letterbox) Send(_ context.Context, m *mail.Msg) error {
	for _, part := range m.GetParts() {
		text, err := part.GetContent()
		if err != nil {
			return err
		}
		if found := tokenOf.FindSubmatch(text); found != nil && part.GetContentType() == mail.TypeTextPlain {
			b.mu.Lock()
			b.tokens[m.GetTo()[0].Address] = string(found[1])
			b.mu.Unlock()
		}
	}
	return nil
}

// token waits for a mail and returns its token.
func (b *letterbox) token(m *Mesh, address string) (token string) {
	m.t.Helper()
	m.Eventually("a mail for "+address, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		token = b.tokens[address]
		delete(b.tokens, address)
		return token != ""
	})
	return token
}

// ask makes a request of a region's first node; token may be empty.
func (m *Mesh) ask(region int, method, path, token string, body any) (status int, answer map[string]any) {
	m.t.Helper()
	b, err := json.Marshal(body)
	require.NoError(m.t, err)
	req, err := http.NewRequestWithContext(m.t.Context(), method, m.Topology.Regions[region].Nodes[0].HTTP+"/api/v1"+path, bytes.NewReader(b))
	require.NoError(m.t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(m.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(m.t, err)
	require.NoError(m.t, json.Unmarshal(raw, &answer), "%s", raw)
	return res.StatusCode, answer
}

func (m *Mesh) ok(region int, method, path, token string, body any) map[string]any {
	m.t.Helper()
	status, answer := m.ask(region, method, path, token, body)
	require.Less(m.t, status, 300, "%s %s: %v", method, path, answer)
	return answer
}

// An account through its life, on nodes of two regions: the address is confirmed by
// mail, sessions of a login end with it wherever it is ended, a new password by mail
// ends them all, and Google signs in by the confirmed address.
func TestAccountsAcrossRegions(t *testing.T) {
	t.Parallel()
	fake := googletest.New(t, time.Now)
	box := &letterbox{tokens: map[string]string{}}
	m := StartWith(t, node.MeshConfig{
		Regions: 2, Nodes: 1, InviteBase: "https://app.example.org/join/",
		Notify: node.NotifyConfig{Mail: box, From: "Muster <no-reply@example.org>"},
		Google: node.GoogleConfig{ClientID: googletest.ClientID, ClientSecret: googletest.ClientSecret, RedirectURL: googletest.RedirectURL, Issuer: fake.URL},
	})
	const email, password = "ana@example.org", "correct horse"
	first := &User{Name: "Ana", mesh: m, API: client.NewAPI(m.API, client.APIConfig{})}
	c, err := first.Register(t.Context(), "Ana", email, password, "phone")
	require.NoError(t, err)
	profile := func() map[string]any {
		token, err := first.Token(t.Context(), "")
		require.NoError(t, err)
		return m.ok(1, "GET", "/users/profile", token, nil)
	}
	require.Equal(t, false, profile()["email_verified"])
	m.ok(1, "POST", "/auth/verify", "", map[string]string{"token": box.token(m, email)})
	require.Equal(t, true, profile()["email_verified"])

	second := &User{Name: "Ana", ID: c.UserID, mesh: m, API: client.NewAPI(m.Topology.Regions[1].Nodes[0].HTTP, client.APIConfig{})}
	_, err = second.Login(t.Context(), email, password, "laptop")
	require.NoError(t, err)
	first.Connect(0, 0, client.Auto)
	second.Connect(1, 0, client.Auto)
	logins, err := first.Logins(t.Context())
	require.NoError(t, err)
	require.Len(t, logins, 2)
	n, err := first.EndOtherLogins(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	ended(t, second.Session)
	select {
	case <-first.Session.Done():
		t.Fatal("the login that asked ended, too")
	default:
	}

	m.ok(1, "POST", "/auth/password/forgot", "", map[string]string{"email": email})
	m.ok(1, "POST", "/auth/password/reset", "", map[string]string{"token": box.token(m, email), "password": "another horse"})
	ended(t, first.Session)
	status, _ := m.ask(0, "POST", "/auth/login", "", map[string]string{"email": email, "password": password})
	require.Equal(t, http.StatusUnauthorized, status)

	begun := m.ok(0, "GET", "/auth/google", "", nil)
	code, _ := fake.SignIn(t, begun["url"].(string), googletest.Person{Subject: "1100", Email: email, Name: "Ana"})
	in := m.ok(1, "POST", "/auth/google", "", map[string]any{"code": code, "state": begun["state"]})
	require.Equal(t, c.UserID, in["user_id"])
	events := m.ok(0, "GET", "/auth/events", in["token"].(string), nil)["events"].([]any)
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.(map[string]any)["kind"].(string))
	}
	require.Subset(t, kinds, []string{"registered", "email_verified", "signed_in", "login_ended", "password_reset_requested", "password_reset", "google_linked"})
}

func ended(t *testing.T, s *client.Session) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(Patience):
		t.Fatal("the session did not end")
	}
}
