package httpapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/auth"
)

var (
	fuzzRequests = flag.Int("api.requests", 2000, "random requests against the OpenAPI document")
	fuzzSeed     = flag.Uint64("api.seed", 1, "of the random requests")
)

// TestDocumentHolds sends random requests, valid and invalid, made from the OpenAPI
// document alone: none is answered by a 5xx, and every answer has a status, a
// content type and a body that the document names.
func TestDocumentHolds(t *testing.T) {
	much := auth.Limit{Burst: 1 << 20, Every: time.Millisecond}
	b := setup(t, func(c *Config) {
		c.AddressLimit, c.UserLimit, c.LoginLimit, c.ChangeLimit, c.Location.Limit = much, much, much, much, much
	})
	f := newFuzz(t, b, *fuzzSeed)
	for n := range *fuzzRequests {
		if n%100 == 0 { // some requests end logins, and people
			f.begin()
		}
		f.send(f.request())
	}
	t.Logf("%d requests, answered %v", *fuzzRequests, f.statuses)
	asked := slices.Collect(maps.Keys(f.succeeded))
	if *fuzzRequests >= 1000 {
		require.Greater(t, len(asked), len(f.operations)/2, "valid requests get through: %v", asked)
	}
}

// fuzz makes requests from a document.
type fuzz struct {
	t          *testing.T
	b          *bundle
	r          *rand.Rand
	doc        obj
	operations []described
	schemas    *jsonschema.Compiler
	compiled   map[string]*jsonschema.Schema

	world     *world
	ids       map[string][]string // of things that exist, by the names of parameters and fields
	tokens    []string
	statuses  map[int]int
	succeeded map[string]bool
}

func newFuzz(t *testing.T, b *bundle, seed uint64) *fuzz {
	f := &fuzz{
		t: t, b: b, r: rand.New(rand.NewPCG(seed, 1)), statuses: map[int]int{}, succeeded: map[string]bool{},
		schemas: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{},
	}
	raw := b.ok("GET", "/openapi.json", "", nil).raw
	require.NoError(t, json.Unmarshal(raw, &f.doc))
	f.operations = operationsOf(f.doc)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	require.NoError(t, f.schemas.AddResource("openapi.json", doc))
	f.schemas.AssertFormat()
	return f
}

// begin makes people and things to ask for.
func (f *fuzz) begin() {
	w := newWorld(f.b)
	f.world = w
	owner, member := w.people["owner"], w.people["member"]
	f.ids = map[string][]string{"group_id": {w.group}}
	for _, p := range w.people {
		f.ids["user_id"] = append(f.ids["user_id"], p.id)
	}
	f.tokens = []string{owner.token, owner.token, owner.token, member.token, w.people["admin"].token, w.people["stranger"].token, w.people["blocked"].token, w.people["deleted"].token, "", "x"}
	made := func(word, path, body string) {
		a := f.b.ok("POST", path, owner.token, body)
		f.ids[word] = append(f.ids[word], a.str(word))
	}
	made("grant_id", "/location/grants", aGrant)
	made("zone_id", "/location/zones", aZone)
	made("fence_id", "/groups/"+w.group+"/fences", aFence)
	made("fleet_id", "/fleets", `{"name":"x"}`)
	made("key_id", "/fleets/"+f.ids["fleet_id"][0]+"/keys", `{}`)
	made("webhook_id", "/webhooks", aHook)
	made("subscription_id", "/notifications/push", aPush)
	made("link_id", "/location/links", aLink)
	made("invite_code", "/groups/"+w.group+"/invite", `{}`)
	f.ids["link"] = f.ids["link_id"]
	f.ids["ask_id"] = []string{anAsk(w)["ask_id"]}
	f.ids["notification_id"] = []string{aNotification(w)["notification_id"]}
	f.ids["login_id"] = []string{aLogin(w)["login_id"]}
	f.ids["refresh_token"] = []string{w.people["stranger"].refresh}
	f.ids["email"] = []string{"a@example.org", "b@example.org"}
	f.ids["password"] = []string{"correct horse", "wrong horse"}
}

// fuzzed is one request.
type fuzzed struct {
	op      described
	target  string
	headers http.Header
	body    []byte
}

func (q fuzzed) String() string {
	return fmt.Sprintf("%s: %s %s %q %q", q.op.id, q.op.method, q.target, q.body[:min(len(q.body), 2000)], q.headers)
}

func (f *fuzz) chance(percent int) bool { return f.r.IntN(100) < percent }

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func (f *fuzz) request() fuzzed {
	op := pick(f.r, f.operations)
	q := fuzzed{op: op, headers: http.Header{}, target: op.path}
	query := url.Values{}
	for _, p := range list(op.operation["parameters"]) {
		p := p.(obj)
		name, _ := p["name"].(string)
		schema, _ := p["schema"].(obj)
		switch p["in"] {
		case "path":
			q.target = strings.ReplaceAll(q.target, "{"+name+"}", url.PathEscape(f.pathValue(name)))
		case "query":
			if p["required"] == true || f.chance(40) {
				query.Set(name, f.text(f.value(name, schema, 0)))
			}
		case "header":
			if f.chance(20) {
				q.headers.Set(name, f.headerValue(name))
			}
		}
	}
	if f.chance(3) {
		query.Set(pick(f.r, []string{"limit", "cursor", "nothing", "q"}), f.noise())
	}
	if len(query) > 0 {
		q.target += "?" + query.Encode()
	}
	if token := pick(f.r, f.tokens); token != "" && !(op.public && f.chance(80)) {
		q.headers.Set("Authorization", "Bearer "+token)
	}
	f.addBody(&q)
	return q
}

func (f *fuzz) pathValue(name string) string {
	if known := f.ids[name]; len(known) > 0 && f.chance(80) {
		return pick(f.r, known)
	}
	if v := f.noise(); v != "" && v != "." && v != ".." && f.chance(30) {
		return v
	}
	return uuid.NewString()
}

func (f *fuzz) headerValue(name string) string {
	if name != keyHeader {
		return pick(f.r, []string{"en", "de", "fr-CH, fr;q=0.9", "*", "%%%", "0", "-1", `"x"`})
	}
	if f.chance(50) {
		return uuid.NewString()
	}
	return pick(f.r, []string{"used-again-01234567890", "x", strings.Repeat("k", 200), "a b"})
}

// addBody gives a request a body of the document's, or one that is wrong.
func (f *fuzz) addBody(q *fuzzed) {
	described, _ := q.op.operation["requestBody"].(obj)
	content, _ := described["content"].(obj)
	if content == nil {
		if f.chance(3) {
			q.body = []byte(`{"x":1}`)
		}
		return
	}
	kind := pick(f.r, slices.Sorted(maps.Keys(content)))
	if described["required"] != true && f.chance(30) {
		return
	}
	if kind != "application/json" {
		q.body = []byte(f.noise() + strings.Repeat("x", f.r.IntN(100)))
	} else {
		schema, _ := content[kind].(obj)["schema"].(obj)
		v := f.value("", schema, 0)
		if f.chance(35) {
			v = f.spoil(v)
		}
		var err error
		q.body, err = json.Marshal(v)
		require.NoError(f.t, err)
		if f.chance(6) {
			q.body = f.damage(q.body)
		}
	}
	if f.chance(3) {
		kind = pick(f.r, []string{"", "text/plain", "application/xml", "multipart/form-data", "application/json; charset=latin1", ";"})
	}
	q.headers.Set("Content-Type", kind)
}

// value makes a valid value of a schema; a name that is known takes what exists.
func (f *fuzz) value(name string, s obj, depth int) any {
	if ref, ok := s["$ref"].(string); ok {
		schemas := f.doc["components"].(obj)["schemas"].(obj)
		return f.value(name, schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(obj), depth+1)
	}
	if options, ok := s["enum"].([]any); ok {
		return pick(f.r, options)
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		if options, ok := s[word].([]any); ok {
			return f.value(name, pick(f.r, options).(obj), depth+1)
		}
	}
	kind, _ := s["type"].(string)
	if kinds, ok := s["type"].([]any); ok {
		kind, _ = pick(f.r, kinds).(string)
	}
	number := func(key string, otherwise float64) float64 {
		if v, ok := s[key].(float64); ok {
			return v
		}
		return otherwise
	}
	switch kind {
	case "null":
		return nil
	case "boolean":
		return f.chance(50)
	case "integer":
		low, high := number("minimum", 0), number("maximum", 1<<20)
		if f.chance(20) {
			return pick(f.r, []float64{low, high})
		}
		return math.Floor(low + f.r.Float64()*min(high-low, 1<<30))
	case "number":
		low, high := number("minimum", -180), number("maximum", 180)
		return low + f.r.Float64()*(high-low)
	case "string":
		return f.string(name, s, int(number("minLength", 0)), int(number("maxLength", 40)))
	case "array":
		items, _ := s["items"].(obj)
		out := []any{}
		for range f.r.IntN(4) {
			out = append(out, f.value(name, items, depth+1))
		}
		return out
	case "object":
		out := obj{}
		required := list(s["required"])
		properties, _ := s["properties"].(obj)
		for _, key := range slices.Sorted(maps.Keys(properties)) {
			if slices.Contains(required, any(key)) || f.chance(50) && depth < 6 {
				out[key] = f.value(key, properties[key].(obj), depth+1)
			}
		}
		if more, ok := s["additionalProperties"].(obj); ok {
			for range f.r.IntN(3) {
				out[f.noise()] = f.value("", more, depth+1)
			}
		} else if properties == nil {
			out[f.noise()] = f.noise()
		}
		return out
	}
	return f.anything(0)
}

func (f *fuzz) string(name string, s obj, shortest, longest int) string {
	if known := f.ids[name]; len(known) > 0 && f.chance(80) {
		return pick(f.r, known)
	}
	if strings.HasSuffix(name, "id") && f.chance(80) { // of some kind
		return pick(f.r, f.ids[pick(f.r, slices.Sorted(maps.Keys(f.ids)))])
	}
	switch format, _ := s["format"].(string); format {
	case "date-time":
		return f.b.clock().Add(time.Duration(f.r.Int64N(int64(48*time.Hour))) - 24*time.Hour).Format(time.RFC3339Nano)
	case "uuid":
		return uuid.NewString()
	case "uri":
		return "https://example.org/x"
	}
	if example, ok := s["example"].(string); ok && f.chance(70) {
		return example
	}
	if list := list(s["examples"]); len(list) > 0 && f.chance(70) {
		return f.text(pick(f.r, list))
	}
	if _, ok := s["pattern"]; ok {
		return pick(f.r, []string{"22:00", "07:30", "exact", "r8", "r0", "eu-west:23.5"})
	}
	v := pick(f.r, []string{"Ana", "r8", "exact", "https://example.org/a.png", "group", "x y", "Übergröße 😀", f.noise()})
	for len([]rune(v)) < shortest {
		v += "x"
	}
	return string([]rune(v)[:min(len([]rune(v)), longest)])
}

func (f *fuzz) text(v any) string {
	switch v := v.(type) {
	case []any:
		var parts []string
		for _, p := range v {
			parts = append(parts, f.text(p))
		}
		return strings.Join(parts, ",")
	case float64:
		return strings.TrimSuffix(fmt.Sprintf("%.6f", v), ".000000")
	}
	return fmt.Sprint(v)
}

// noise is text that nobody expects.
func (f *fuzz) noise() string {
	return pick(f.r, []string{
		"", " ", "x", "null", "0", "-1", "1e309", "true", "'; DROP TABLE users; --", "%00", "../../etc/passwd", "\u0000", "\ufeff", "\u202e", "é", "e\u0301", "😀", "a\nb", "\t",
		strings.Repeat("a", 300), strings.Repeat("ß", 5000), "9223372036854775808", "99999999999999999999999", "NaN", "2026-02-30T25:61:61Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z",
		"00000000-0000-0000-0000-000000000000", "{\"a\":1}", "<script>", "//", "?", "#", ",", ";", "https://", "http://[::1]:namedport", "a@b", "\"", "\\", "MDAwMA", "eyJhIjoxfQ", "=",
	})
}

func (f *fuzz) anything(depth int) any {
	switch n := f.r.IntN(8); {
	case n == 0:
		return nil
	case n == 1:
		return f.chance(50)
	case n == 2:
		return pick(f.r, []float64{0, -1, 1, 0.5, 1e18, -1e18, 1e308, 180, -91, 1 << 53})
	case n == 3 && depth < 3:
		return []any{f.anything(depth + 1), f.anything(depth + 1)}
	case n == 4 && depth < 3:
		return obj{f.noise(): f.anything(depth + 1)}
	}
	return f.noise()
}

// spoil changes one place of a value.
func (f *fuzz) spoil(v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		switch n := f.r.IntN(10); {
		case n == 0 || len(keys) == 0:
			v[f.noise()] = f.anything(0)
		case n == 1:
			delete(v, pick(f.r, keys))
		default:
			key := pick(f.r, keys)
			v[key] = f.spoil(v[key])
		}
		return v
	case []any:
		if len(v) > 0 && f.chance(60) {
			i := f.r.IntN(len(v))
			v[i] = f.spoil(v[i])
			return v
		}
	}
	return f.anything(0)
}

// damage makes what is not JSON any more, or not only.
func (f *fuzz) damage(body []byte) []byte {
	switch f.r.IntN(6) {
	case 0:
		return body[:f.r.IntN(len(body)+1)]
	case 1:
		return append(body, '}')
	case 2:
		return []byte(strings.Repeat("[", 50) + strings.Repeat("]", 50))
	case 3:
		return bytes.Replace(body, []byte(`":"`), []byte("\":\"\xff"), 1)
	case 4:
		return append(bytes.Clone(body[:max(0, len(body)-1)]), []byte(`,"x":1,"x":2}`)...)
	}
	return []byte(`{"x":"` + strings.Repeat("a", 70<<10) + `"}`)
}

// send sends a request and judges the answer.
func (f *fuzz) send(q fuzzed) {
	req, err := http.NewRequestWithContext(f.t.Context(), q.op.method, f.b.server.URL+prefix+q.target, bytes.NewReader(q.body))
	require.NoError(f.t, err, "%v", q)
	req.Header = q.headers
	resp, err := f.b.server.Client().Do(req)
	require.NoError(f.t, err, "%v", q)
	body, err := io.ReadAll(resp.Body)
	require.NoError(f.t, err, "%v", q)
	require.NoError(f.t, resp.Body.Close())
	f.statuses[resp.StatusCode]++
	if resp.StatusCode < 300 {
		f.succeeded[q.op.id] = true
	}
	if wrong := f.judge(q, resp, body); wrong != "" {
		f.t.Errorf("%s\n  %v\n  %d %s", wrong, q, resp.StatusCode, body[:min(len(body), 500)])
	}
}

func (f *fuzz) judge(q fuzzed, resp *http.Response, body []byte) string {
	if resp.StatusCode >= 500 {
		return "a failure of ours"
	}
	status := fmt.Sprint(resp.StatusCode)
	described, ok := q.op.operation["responses"].(obj)[status].(obj)
	if !ok {
		return "a status that is not in the document"
	}
	content, _ := described["content"].(obj)
	if len(content) == 0 {
		if len(body) > 0 {
			return "a body that is not in the document"
		}
		return ""
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	media, ok := content[kind].(obj)
	if !ok {
		return "a content type that is not in the document: " + kind
	}
	if s, _ := media["schema"].(obj); s == nil || s["format"] == "binary" {
		return ""
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return "no JSON"
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace
	at := "openapi.json#/paths/" + escape(prefix+q.op.path) + "/" + strings.ToLower(q.op.method) + "/responses/" + status + "/content/" + escape(kind) + "/schema"
	schema := f.compiled[at]
	if schema == nil {
		schema, err = f.schemas.Compile(at)
		require.NoError(f.t, err)
		f.compiled[at] = schema
	}
	if err := schema.Validate(value); err != nil {
		return "a body that does not match its schema: " + err.Error()
	}
	if p, ok := value.(map[string]any); ok && kind == "application/problem+json" && fmt.Sprint(p["status"]) != status {
		return "a problem of another status"
	}
	return ""
}
