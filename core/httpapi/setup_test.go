package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/inapp"
	"github.com/mustermesh/muster/core/notify/webhook"
	"github.com/mustermesh/muster/core/notify/webpush"
	"github.com/mustermesh/muster/core/presence"
	"github.com/mustermesh/muster/core/users"
)

// bundle is a whole API on a real database, called over real HTTP.
type bundle struct {
	t       *testing.T
	db      *db.DB
	server  *httptest.Server
	metrics *prometheus.Registry
	log     *lockedBuffer
	sent    *sentMessages
	live    *fakeLive
	where   *fakeWhere
	record  *location.Recorder
	places  *location.Store
	auth    *auth.Service
	fleets  *fleets.Store
	files   *attachments.Store

	mu      sync.Mutex
	now     time.Time
	changes []string // what the edges were told
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(time.Millisecond)
	return b.now
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bundle) told(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = append(b.changes, s)
}

func (b *bundle) LoginRevoked(_ context.Context, l core.LoginID) { b.told("login " + l.String()) }
func (b *bundle) MembershipChanged(_ context.Context, room string, version uint64) {
	b.told(fmt.Sprintf("%s %d", room, version))
}

// sentMessages is chat with a memory of what was spread.
type sentMessages struct {
	*chat.Chat
	mu     sync.Mutex
	spread []chat.Message
}

func (s *sentMessages) Send(ctx context.Context, d chat.Draft, name string) (chat.Message, error) {
	m, stored, err := s.Store(ctx, d)
	if err == nil && stored {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.spread = append(s.spread, m)
	}
	return m, err
}

func (b *bundle) PresenceChanged(_ context.Context, u core.UserID, invisible bool) {
	b.told(fmt.Sprintf("%s invisible %t", u, invisible))
}

// fakeLive is who is in which room, as the mesh would tell.
type fakeLive struct {
	mu     sync.Mutex
	rooms  map[string][]*wire.Person // by user id
	err    error
	states map[string]wire.State // of a user in a room, "user room"
}

func (l *fakeLive) Live(_ context.Context, user string, rooms []string) (wire.State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := wire.State_LEFT
	for _, r := range rooms {
		if s, ok := l.states[user+" "+r]; ok {
			best = min(best, s)
		}
	}
	return best, l.err
}

func (l *fakeLive) People(_ context.Context, _, room, after string, limit int) (*wire.PeoplePage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	page := &wire.PeoplePage{Room: room, Counts: &wire.Counts{Live: uint32(len(l.rooms[room])), Suspended: 7}}
	for _, p := range l.rooms[room] {
		switch {
		case p.User <= after:
		case len(page.People) == limit:
			page.More = true
		default:
			page.People = append(page.People, p)
		}
	}
	return page, l.err
}

// testEdges is one region, and remembers who asked last.
type testEdges struct{ last EdgeCaller }

func (e *testEdges) Edges(c EdgeCaller) EdgeDirectory {
	e.last = c
	return EdgeDirectory{CertSHA256: "AAAA", TTL: 300, Regions: []EdgeRegion{{
		Name: "eu-west", Lat: 53.3, Lng: -6.2, State: "up", Load: 0.25,
		Nodes: []EdgeNode{{ID: "eu-west-1", HTTP: "http://127.0.1.1:1", WS: "ws://127.0.1.1:1/ws", WT: "https://127.0.1.1:2/wt", State: "up"}},
	}}}
}

func (*testEdges) Demo() (Demo, bool) { return Demo{}, false }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func setup(t *testing.T, change ...func(*Config)) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), metrics: prometheus.NewRegistry(), log: &lockedBuffer{},
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	log := slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	secret := []byte("0123456789abcdef0123456789abcdef")
	push, err := webpush.New(b.db, secret, webpush.Config{Contact: "mailto:ops@example.org"})
	require.NoError(t, err)
	hooks, err := webhook.New(b.db, secret, webhook.Config{})
	require.NoError(t, err)
	told, err := notify.New(b.db, secret, notify.Config{Channels: []notify.Channel{inapp.New(b.db, b.clock), push, hooks}, Now: b.clock, Log: log})
	require.NoError(t, err)
	a, err := auth.New(b.db, secret, "eu-west", auth.Config{
		Notify:         told,
		VerifierConfig: auth.VerifierConfig{Now: b.clock, Log: log},
		Hash:           auth.HashConfig{MemoryKiB: 64, Passes: 1},
		Announce:       b,
	})
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(a.Stop)
	b.live = &fakeLive{rooms: map[string][]*wire.Person{}, states: map[string]wire.State{}}
	places, err := location.New(b.db, secret, location.Config{Now: b.clock, Announce: b, LinkBase: "https://example.org/l/"})
	require.NoError(t, err)
	b.places, b.auth = places, a
	b.fleets, err = fleets.New(b.db, secret, fleets.Config{Now: b.clock, Announce: b})
	require.NoError(t, err)
	b.record = location.NewRecorder(places, log, nil)
	b.where = newFakeWhere(b)
	b.sent = &sentMessages{Chat: chat.New(b.db, chat.Config{})}
	t.Cleanup(b.sent.Stop)
	talks := chat.NewConversations(b.db, chat.ConversationsConfig{Region: "eu-west", Announce: b, Now: b.clock})
	cfg := Config{
		DB: b.db, Secret: secret, Auth: a, Users: users.New(b.db, b.clock),
		Groups:   groups.New(b.db, "eu-west", groups.Config{Now: b.clock, Announce: b, Leaving: places, Talk: talks, LinkBase: "https://example.org/join/", Notify: told}),
		Messages: b.sent, Talks: &Talks{talks, chat.NewReceipts(b.db, chat.ReceiptsConfig{Now: b.clock})}, Presence: presence.New(b.db, b), Live: b.live, Edges: &testEdges{},
		Location: &Location{Store: places, Recorder: b.record, Blocks: friends.New(b.db, friends.Config{Sharing: places, Notify: told, Now: b.clock}), Live: b.where}, Fleets: b.fleets,
		Notifications: &Notifications{Notifier: told, Push: push, Webhooks: hooks},
		Assets:        fstest.MapFS{"docs/swagger-ui.css": {Data: []byte("/* css */")}, "docs/swagger-ui-bundle.js": {Data: []byte("/* js */")}},
		Origins:       []string{"https://app.example.org"}, Log: log, Metrics: b.metrics, Now: b.clock,
	}
	withObjects(t, &cfg)
	b.files = cfg.Attachments
	withRatings(t, &cfg)
	withExpenses(&cfg)
	withPayments(&cfg)
	withSubscriptions(&cfg, &orders{})
	withMatching(b, &cfg)
	withCalls(b, &cfg)
	for _, f := range change {
		f(&cfg)
	}
	h, err := New(cfg)
	require.NoError(t, err)
	b.server = httptest.NewServer(h)
	t.Cleanup(b.server.Close)
	return b
}

// answer is a response that has been read.
type answer struct {
	*http.Response
	raw  []byte
	body map[string]any
}

func (b *bundle) request(method, path, token string, body any, headers ...string) answer {
	b.t.Helper()
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(v)
	case []byte:
		r = bytes.NewReader(v)
	default:
		j, err := json.Marshal(v)
		require.NoError(b.t, err)
		r = bytes.NewReader(j)
	}
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "/docs") {
		path = prefix + path
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.server.URL+path, r)
	require.NoError(b.t, err)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.server.Client().Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	a := answer{Response: resp, raw: raw}
	_ = json.Unmarshal(raw, &a.body) // what isn't an object is checked as raw
	return a
}

// ok is request for what must succeed.
func (b *bundle) ok(method, path, token string, body any, headers ...string) answer {
	b.t.Helper()
	a := b.request(method, path, token, body, headers...)
	require.Less(b.t, a.StatusCode, 300, "%s %s: %s", method, path, a.raw)
	return a
}

// refused is request for what must fail with a code.
func (b *bundle) refused(status int, code, method, path, token string, body any, headers ...string) answer {
	b.t.Helper()
	a := b.request(method, path, token, body, headers...)
	require.Equal(b.t, status, a.StatusCode, "%s %s: %s", method, path, a.raw)
	require.Equal(b.t, code, a.body["code"], "%s", a.raw)
	require.Equal(b.t, "application/problem+json", a.Header.Get("Content-Type"))
	require.EqualValues(b.t, status, a.body["status"])
	require.NotEmpty(b.t, a.body["detail"])
	require.NotEmpty(b.t, a.body["title"])
	return a
}

func (a answer) str(key string) string { s, _ := a.body[key].(string); return s }

type obj = map[string]any

// person is somebody signed in.
type person struct{ id, token, refresh string }

func (b *bundle) guest(name string) person {
	b.t.Helper()
	a := b.ok("POST", "/auth/guest", "", obj{"username": name, "device_info": obj{"model": "test"}})
	return person{a.str("user_id"), a.str("token"), a.str("refresh_token")}
}

// group makes a group, and lets the others in.
func (b *bundle) group(owner person, others ...person) string {
	b.t.Helper()
	a := b.ok("POST", "/groups", owner.token, obj{"name": "Friday crew"})
	for _, p := range others {
		b.ok("POST", "/groups/join", p.token, obj{"invite_code": a.str("invite_code")})
	}
	return a.str("group_id")
}
