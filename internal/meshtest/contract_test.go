package meshtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// document is what a test needs of the OpenAPI document.
type document struct {
	Paths map[string]map[string]struct {
		Responses map[string]any `json:"responses"`
	} `json:"paths"`
	fields map[string]bool // every property of every schema
}

func openAPI(t *testing.T, base string) document {
	t.Helper()
	resp, err := http.Get(base + "/api/v1/openapi.json")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var d document
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &d))
	d.fields = map[string]bool{}
	var all any
	require.NoError(t, json.Unmarshal(b, &all))
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if properties, ok := v["properties"].(map[string]any); ok {
				for name := range properties {
					d.fields[name] = true
				}
			}
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(all)
	return d
}

// has reports whether the document describes a request; parameters of path may
// stand for themselves as {}.
func (d document) has(method, path string) bool {
	for template, operations := range d.Paths {
		as := regexp.MustCompile(`\\\{[^}]*\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`)
		if _, ok := operations[strings.ToLower(method)]; ok && regexp.MustCompile("^"+as+"$").MatchString(path) {
			return true
		}
	}
	return false
}

// recorder keeps the last answer, and what was asked.
type recorder struct {
	asked []string
	last  []byte
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	r.asked = append(r.asked, req.Method+" "+req.URL.Path)
	r.last, err = io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(r.last))
	return resp, err
}

// Every call of the Go SDK is one that the OpenAPI document describes, and
// every field that the SDK reads is one that the server sends.
func TestGoSDKMatchesTheAPI(t *testing.T) {
	t.Parallel()
	m := Start(t, 1, 1)
	doc := openAPI(t, m.API)
	ctx := t.Context()
	wire := &recorder{}
	api := client.NewAPI(m.API, client.APIConfig{HTTP: &http.Client{Transport: wire, Timeout: Patience}})
	// reads checks that value was filled from fields that are there; unwrap
	// names where in the answer.
	reads := func(value any, unwrap ...string) {
		t.Helper()
		b, err := json.Marshal(value)
		require.NoError(t, err)
		var ours, theirs any
		require.NoError(t, json.Unmarshal(b, &ours))
		require.NoError(t, json.Unmarshal(wire.last, &theirs))
		for _, key := range unwrap {
			theirs = theirs.(map[string]any)[key]
		}
		requireFields(t, strings.Join(unwrap, "."), ours, theirs)
	}

	_, err := api.Register(ctx, "Contract", "contract@example.org", "correct horse battery", "test")
	require.NoError(t, err)
	reads(api.Credentials())
	_, err = api.Login(ctx, "contract@example.org", "correct horse battery", "test")
	require.NoError(t, err)
	reads(api.Credentials())
	require.NoError(t, api.Refresh(ctx))
	profile, err := api.Profile(ctx)
	require.NoError(t, err)
	reads(profile)
	require.Equal(t, "contract@example.org", profile.Email)
	created, err := api.CreateGroup(ctx, client.GroupDraft{Name: "Contract", Description: "d", Settings: map[string]any{"a": 1.0}})
	require.NoError(t, err)
	reads(created)
	group, err := api.Group(ctx, created.GroupID)
	require.NoError(t, err)
	reads(group)
	require.Equal(t, "d", group.Description)
	require.Len(t, group.Members, 1)
	invite, err := api.Invite(ctx, created.GroupID)
	require.NoError(t, err)
	reads(invite)
	require.True(t, invite.ExpiresAt.After(time.Now()))
	groups, err := api.Groups(ctx)
	require.NoError(t, err)
	require.Len(t, groups, 1)
	reads(groups, "groups")
	edge, err := api.Edge(ctx)
	require.NoError(t, err)
	reads(edge)

	guest := client.NewAPI(m.API, client.APIConfig{HTTP: &http.Client{Transport: wire, Timeout: Patience}})
	credentials, err := guest.Guest(ctx, "Guest of Contract", "test")
	require.NoError(t, err)
	reads(credentials)
	joined, err := guest.Join(ctx, invite.InviteCode)
	require.NoError(t, err)
	reads(joined, "group")
	session := (&User{API: api, mesh: m}).Connect(0, 0, client.Auto)
	_, err = session.Join(created.GroupID).Send(ctx, "for history")
	require.NoError(t, err)
	messages, err := api.Messages(ctx, created.GroupID, 0, 0, 10)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	require.Equal(t, "for history", messages[0].Body)
	require.NotZero(t, messages[0].SentAt)

	require.NoError(t, api.Kick(ctx, created.GroupID, credentials.UserID))
	err = guest.Leave(ctx, created.GroupID)
	var refused *client.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "not_member", refused.Code)
	require.NoError(t, api.Logout(ctx))

	for _, call := range wire.asked {
		method, path, _ := strings.Cut(call, " ")
		require.True(t, doc.has(method, path), "the document has no %s", call)
	}
}

// requireFields checks that every field of ours is in theirs.
func requireFields(t *testing.T, at string, ours, theirs any) {
	t.Helper()
	switch ours := ours.(type) {
	case map[string]any:
		other, ok := theirs.(map[string]any)
		require.True(t, ok, "%s is no object", at)
		for key, value := range ours {
			if key == "cert_sha256" || key == "user_id" && at == "" {
				continue // absent where there is none; kept over a refresh
			}
			require.Contains(t, other, key, "%s has no such field", at)
			requireFields(t, at+"."+key, value, other[key])
		}
	case []any:
		other, ok := theirs.([]any)
		require.True(t, ok, "%s is no list", at)
		for i := range min(len(ours), len(other)) {
			requireFields(t, fmt.Sprintf("%s[%d]", at, i), ours[i], other[i])
		}
	}
}

// More groups than a page holds: the next one is named by the Link header.
func TestGoSDKReadsAllPages(t *testing.T) {
	t.Parallel()
	m := Start(t, 1, 1)
	u := m.Guest(0, "Joiner")
	const count = 205
	for i := range count {
		_, err := u.CreateGroup(t.Context(), client.GroupDraft{Name: fmt.Sprint("Group ", i)})
		require.NoError(t, err)
	}
	groups, err := u.Groups(t.Context())
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, g := range groups {
		seen[g.GroupID] = true
	}
	require.Len(t, seen, count)
}

// All paths and fields that the TypeScript SDK names are the document's.
func TestTypeScriptSDKMatchesTheAPI(t *testing.T) {
	t.Parallel()
	doc := openAPI(t, withObjects(t, 1, 1).API)
	source := ""
	for _, part := range []string{"api", "account", "friends", "notifications", "conversations", "messages", "matching", "ratings", "reports"} {
		b, err := os.ReadFile("../../web/sdk/src/" + part + ".ts")
		require.NoError(t, err)
		source += string(b)
	}
	calls := regexp.MustCompile("#(?:call|fetchJson)\\(\"([A-Z]+)\", [`\"]([^`\"?]+)").FindAllStringSubmatch(source, -1)
	for _, list := range regexp.MustCompile("pages\\(this\\.#[a-z]+, [`\"]([^`\"?]+)").FindAllStringSubmatch(source, -1) {
		calls = append(calls, []string{"", "GET", list[1]})
	}
	for _, signIn := range regexp.MustCompile(`#signIn\("([^"]+)"`).FindAllStringSubmatch(source, -1) {
		calls = append(calls, []string{"", "POST", signIn[1]})
	}
	require.Greater(t, len(calls), 50)
	for _, call := range calls {
		path := "/api/v1" + regexp.MustCompile(`\$\{[^}]*\}`).ReplaceAllString(call[2], "x")
		require.True(t, doc.has(call[1], path), "the document has no %s %s", call[1], path)
	}
	fields := regexp.MustCompile(`\b[a-z]+_[a-z0-9_]+\b`).FindAllString(regexp.MustCompile(`(?s)/\*\*.*?\*/|//[^\n]*|"[^"\n]*"`).ReplaceAllString(source, ""), -1)
	require.Greater(t, len(fields), 20)
	for _, field := range fields {
		require.True(t, doc.fields[field], "the document has no field %s", field)
	}
}
