package meshtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/obs"
)

// lines is a log that many write to.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) each(t *testing.T) (list []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.all.Bytes()) {
		var m map[string]any
		require.NoError(t, json.Unmarshal(line, &m))
		list = append(list, m)
	}
	return list
}

// What nobody but its owner may read.
const (
	canaryPassword = "canary-password-7Q"
	canaryWrong    = "canary-wrong-7Q"
	canaryMail     = "canary.mail.7q@canary.example"
	canaryBody     = "canary words of a message"
)

// Logs at debug level and traces of everything tell by which request, session and
// trace things belong together, on all nodes, and tell nothing of people.
func TestLogsAndTracesTellNothingOfPeople(t *testing.T) {
	log := &lines{}
	logger, err := obs.Logger(log, "json", "debug")
	require.NoError(t, err)
	spans := tracetest.NewSpanRecorder()
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 1, Log: logger, Traces: obs.TracesTo(spans, 1, "test")})

	var mu sync.Mutex
	secrets := []string{canaryPassword, canaryWrong, canaryMail, "canary.mail.7q", canaryBody}
	keep := func(s ...string) {
		mu.Lock()
		defer mu.Unlock()
		for _, one := range s {
			if one != "" {
				secrets = append(secrets, one)
			}
		}
	}
	ask := func(region int, token, method, path, id, body string) (status int, answer map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), method, m.Topology.Regions[region].Nodes[0].HTTP+"/api/v1"+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Request-Id", id)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		_ = json.NewDecoder(res.Body).Decode(&answer)
		for _, key := range []string{"token", "refresh_token", "invite_code"} {
			if s, ok := answer[key].(string); ok {
				keep(s)
			}
		}
		return res.StatusCode, answer
	}
	account := fmt.Sprintf(`{"username": "Canary", "email": %q, "password": %q}`, canaryMail, canaryPassword)
	status, ana := ask(0, "", http.MethodPost, "/auth/register", "request-register", account)
	require.Equal(t, http.StatusOK, status, ana)
	ask(0, "", http.MethodPost, "/auth/register", "request-taken", account)
	ask(0, "", http.MethodPost, "/auth/login", "request-login", fmt.Sprintf(`{"email": %q, "password": %q}`, canaryMail, canaryPassword))
	ask(0, "", http.MethodPost, "/auth/login", "request-wrong", fmt.Sprintf(`{"email": %q, "password": %q}`, canaryMail, canaryWrong))
	ask(0, "", http.MethodPost, "/auth/password/forgot", "request-forgot", fmt.Sprintf(`{"email": %q}`, canaryMail))
	ask(0, "", http.MethodPost, "/auth/register", "request-bad", fmt.Sprintf(`{"username": "x", "email": "no %s", "password": 7}`, canaryMail))
	token := ana["token"].(string)
	ask(0, token+"x", http.MethodGet, "/users/profile", "request-forged", "")
	_, fresh := ask(0, "", http.MethodPost, "/auth/refresh", "request-refresh", fmt.Sprintf(`{"refresh_token": %q}`, ana["refresh_token"]))
	require.NotEmpty(t, fresh["token"])
	status, made := ask(0, token, http.MethodPost, "/groups", "request-group", `{"name": "walkers"}`)
	require.Less(t, status, 300, made)
	group, _ := made["group_id"].(string)
	if group == "" {
		group = made["group"].(map[string]any)["group_id"].(string)
	}
	where := fmt.Sprintf(`{"group_id": %q, "coordinates": {"lat": %v, "lng": %v}, "accuracy": 5}`, group, canary.Lat, canary.Lng)
	status, out := ask(1, token, http.MethodPost, "/location/update", "request-where", where)
	require.Equal(t, http.StatusOK, status, out)
	ask(1, token, http.MethodPost, "/location/update", "request-nowhere", strings.Replace(where, `"lat": `, `"lat": 1`, 1))
	ask(1, token, http.MethodGet, "/location/group/"+group, "request-group-where", "")
	// Stored in the other region, where the group is at home.
	status, out = ask(1, token, http.MethodPost, "/groups/"+group+"/messages", "request-message", fmt.Sprintf(`{"client_id": "c-1", "body": %q}`, canaryBody))
	require.Equal(t, http.StatusCreated, status, out)

	api := client.NewAPI(m.API, client.APIConfig{Credentials: client.Credentials{
		UserID: ana["user_id"].(string), Token: fresh["token"].(string), RefreshToken: fresh["refresh_token"].(string),
	}, OnCredentials: func(c client.Credentials) { keep(c.Token, c.RefreshToken) }})
	u := (&User{API: api, ID: ana["user_id"].(string), mesh: m}).Connect(1, 0, client.WebSocketOnly)
	room := u.Join(group)
	_, err = room.Send(t.Context(), canaryBody)
	require.NoError(t, err)
	require.NoError(t, u.Session.Report(client.Fix{Point: canary, Accuracy: 5}))
	m.Eventually("a fix", func() bool { _, ok := FixOf(room, u.ID); return ok })
	u.Session.Close()
	ask(0, token, http.MethodPost, "/auth/logout", "request-logout", "")
	traceOf := func(request string) (trace string) {
		for _, l := range log.each(t) {
			if l["request"] == request && l["trace"] != nil {
				return l["trace"].(string)
			}
		}
		return ""
	}
	names := func(trace string) map[string]bool {
		have := map[string]bool{}
		for _, s := range spans.Ended() {
			if s.SpanContext().TraceID().String() == trace {
				have[s.Name()] = true
			}
		}
		return have
	}
	message := traceOf("request-message")
	require.NotEmpty(t, message)
	m.Eventually("the trace of a message through both regions", func() bool {
		have := names(message)
		return have["call"] && have["called"] && have["SELECT"] && len(have) >= 4
	})

	operations, sessions := map[string]bool{}, 0
	for _, l := range log.each(t) {
		if l["msg"] == "request" {
			require.NotEmpty(t, l["request"], l)
			require.NotEmpty(t, l["trace"], l)
			operations[l["operation"].(string)] = true
		}
		if l["session"] != nil {
			sessions++
		}
	}
	require.True(t, operations["login"] && operations["register"], operations)
	require.NotZero(t, sessions)
	require.True(t, func() bool {
		for _, s := range spans.Ended() {
			if strings.HasPrefix(s.Name(), "session ") {
				return true
			}
		}
		return false
	}())

	tells := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
				t.Errorf("%s tells %q: %s", where, s, text)
			}
		}
		if found := betrays(text); found != "" {
			t.Errorf("%s tells where somebody is, %s: %s", where, found, text)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, l := range log.each(t) {
		delete(l, "time")
		delete(l, "took")
		b, err := json.Marshal(l)
		require.NoError(t, err)
		tells("a line", string(b))
	}
	for _, s := range spans.Ended() {
		tells("a span", describe(s))
	}
	t.Logf("%d lines, %d spans, %d secrets", len(log.each(t)), len(spans.Ended()), len(secrets))
}

// describe is all that a span holds of text.
func describe(s sdktrace.ReadOnlySpan) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Name(), s.Status().Description)
	for _, a := range s.Attributes() {
		fmt.Fprintln(&b, a.Key, a.Value.String())
	}
	for _, e := range s.Events() {
		fmt.Fprintln(&b, e.Name)
		for _, a := range e.Attributes {
			fmt.Fprintln(&b, a.Key, a.Value.String())
		}
	}
	return b.String()
}
