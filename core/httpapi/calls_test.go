package httpapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/calls"
	"github.com/mustermesh/muster/turn/cred"
)

// fakeCalls is who is in calls, and where relays are.
type fakeCalls struct {
	b *bundle

	mu   sync.Mutex
	in   map[uuid.UUID][]calls.Participant
	err  error
	none bool
}

func (f *fakeCalls) Participants(_ context.Context, call uuid.UUID) ([]calls.Participant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.in[call], f.err
}

func (f *fakeCalls) ICEServers(user core.UserID) []cred.ICEServer {
	if f.none {
		return nil
	}
	secrets := cred.Secrets{"0123456789abcdef0123456789abcdef"}
	return secrets.ICEServers([]cred.Server{{URLs: []string{"turn:eu.example.org:3478"}}, {URLs: []string{"turn:us.example.org:3478"}}}, user.String(), f.b.clock(), time.Hour)
}

// callRooms asks as the API does.
type callRooms struct{ cfg *Config }

func (r callRooms) Standing(ctx context.Context, user core.UserID, room string) (calls.Standing, error) {
	if id, ok := core.GroupOf(room); ok {
		st, err := r.cfg.Groups.Member(ctx, user, id, 0)
		return calls.Standing{Role: string(st.Role), Home: st.Home, Writes: true}, err
	}
	st, err := r.cfg.Talks.Standing(ctx, user, room, 0)
	return calls.Standing{Role: st.Role, Home: st.Home, Writes: st.Writes}, err
}

func withCalls(b *bundle, cfg *Config) *fakeCalls {
	f := &fakeCalls{b: b, in: map[uuid.UUID][]calls.Participant{}}
	cfg.Calls = &Calls{Store: calls.New(cfg.DB, callRooms{cfg}, calls.Config{Now: cfg.Now}), Live: f, ICE: f}
	return f
}

// aCall is a new one of the owner's, in a group of its own: each who asks has one that
// goes on.
func aCall(w *world) map[string]string {
	return map[string]string{"session_id": w.ok("POST", "/communication/sessions", w.people["owner"].token, obj{"group_id": w.group, "type": "audio"}).str("session_id")}
}

func TestSessions(t *testing.T) {
	var live *fakeCalls
	b := setup(t, func(c *Config) { live = c.Calls.Live.(*fakeCalls) })
	ana, bo, eve := b.guest("Ana"), b.guest("Bo"), b.guest("Eve")
	group := b.group(ana, bo)
	const path = "/communication/sessions"

	first := b.ok("POST", path, bo.token, obj{"group_id": group, "type": "video"})
	require.Equal(t, http.StatusCreated, first.StatusCode)
	require.Equal(t, "ws://127.0.1.1:1/ws/communication", first.str("signaling_url"))
	again := b.ok("POST", path, ana.token, obj{"group_id": group, "type": "audio"})
	require.Equal(t, http.StatusOK, again.StatusCode)
	require.Equal(t, first.body, again.body, "there is one")
	id := first.str("session_id")
	call := uuid.MustParse(id)
	boID, err := core.ParseUserID(bo.id)
	require.NoError(t, err)
	live.in[call] = []calls.Participant{{User: boID, Device: "phone", Name: "Bo", Region: "eu-west", JoinedAt: b.clock(), MicMuted: true}}

	list := b.ok("GET", path, ana.token, nil)
	requireKeys(t, "S1.63", "sessions[]session_id,group_id,type,participants,started_at", list.body)
	one := list.body["sessions"].([]any)[0].(obj)
	require.Equal(t, id, one["session_id"])
	require.Equal(t, group, one["group_id"])
	require.Equal(t, "video", one["type"])
	who := one["participants"].([]any)[0].(obj)
	require.Equal(t, bo.id, who["user_id"])
	require.Equal(t, true, who["mic_muted"])
	require.Empty(t, b.ok("GET", path, eve.token, nil).body["sessions"])
	live.err = errors.New("no region answers")
	require.Nil(t, b.ok("GET", path, ana.token, nil).body["sessions"].([]any)[0].(obj)["participants"], "not known is not nobody")
	live.err = nil

	got := b.ok("GET", path+"/"+id, bo.token, nil)
	require.Equal(t, obj{"most": 0.0, "loudness": 1.0, "nearness": 0.0, "radius": 0.0}, got.body["hearing"])
	require.Equal(t, false, got.body["moderates"])
	require.Equal(t, bo.id, got.str("started_by"))
	b.refused(404, "no_call", "GET", path+"/"+id, eve.token, nil)
	b.refused(403, "forbidden", "PATCH", path+"/"+id, bo.token, obj{"locked": true})
	got = b.ok("PATCH", path+"/"+id, ana.token, obj{"locked": true, "push_to_talk": true, "hearing": obj{"most": 4, "nearness": 1, "radius": 200}})
	require.Equal(t, true, got.body["locked"])
	require.Equal(t, true, got.body["push_to_talk"])
	require.Equal(t, obj{"most": 4.0, "loudness": 1.0, "nearness": 1.0, "radius": 200.0}, got.body["hearing"])
	require.Equal(t, got.body, b.ok("PATCH", path+"/"+id, ana.token, obj{}).body, "what is not named stays")

	b.refused(403, "forbidden", "DELETE", path+"/"+id, bo.token, nil)
	b.ok("DELETE", path+"/"+id, ana.token, nil)
	b.ok("DELETE", path+"/"+id, ana.token, nil)
	b.refused(410, "call_ended", "PATCH", path+"/"+id, ana.token, obj{"locked": false})
	require.NotEmpty(t, b.ok("GET", path+"/"+id, bo.token, nil).str("ended_at"))
	require.Empty(t, b.ok("GET", path, ana.token, nil).body["sessions"])
	require.NotEqual(t, id, b.ok("POST", path, bo.token, obj{"group_id": group, "type": "audio"}).str("session_id"))

	// Of two people.
	room := b.ok("POST", "/conversations", ana.token, obj{"user_id": bo.id}).str("room")
	id = b.ok("POST", path, ana.token, obj{"room": room, "type": "audio", "push_to_talk": true}).str("session_id")
	direct := b.ok("GET", path, bo.token, nil).body["sessions"].([]any)[0].(obj)
	require.Equal(t, room, direct["room"])
	require.Empty(t, direct["group_id"])
	b.ok("PATCH", path+"/"+id, bo.token, obj{"push_to_talk": false})
	b.ok("DELETE", path+"/"+id, bo.token, nil)

	for body, code := range map[string]string{
		`{"type":"audio"}`:                "bad_request",
		`{"group_id":"x","type":"audio"}`: "bad_request",
		`{"group_id":"` + group + `","room":"group:` + group + `","type":"audio"}`: "bad_request",
		`{"group_id":"` + group + `","type":"hologram"}`:                           "bad_request",
		`{"group_id":"` + group + `","type":"audio","hearing":{"most":51}}`:        "bad_request",
		`{"group_id":"` + group + `","type":"audio","hearing":{"radius":-1}}`:      "bad_request",
	} {
		b.refused(400, code, "POST", path, ana.token, body)
	}
	b.refused(404, "not_member", "POST", path, eve.token, obj{"group_id": group, "type": "audio"})
	b.refused(404, "not_member", "POST", path, eve.token, obj{"room": room, "type": "audio"})
	b.refused(404, "not_member", "POST", path, eve.token, obj{"room": "nowhere", "type": "audio"})
	b.refused(400, "bad_request", "GET", path+"/x", ana.token, nil)
	b.refused(404, "no_call", "GET", path+"/"+uuid.NewString(), ana.token, nil)
}

func TestTurn(t *testing.T) {
	var live *fakeCalls
	b := setup(t, func(c *Config) { live = c.Calls.Live.(*fakeCalls) })
	ana := b.guest("Ana")
	a := b.ok("GET", "/turn", ana.token, nil)
	require.Equal(t, "private, no-store", a.Header.Get("Cache-Control"))
	servers := a.body["ice_servers"].([]any)
	require.Len(t, servers, 2)
	first := servers[0].(obj)
	require.Equal(t, []any{"turn:eu.example.org:3478"}, first["urls"], "in the order that it was given")
	user, until, err := cred.Parse(first["username"].(string))
	require.NoError(t, err)
	require.Equal(t, ana.id, user)
	require.WithinDuration(t, b.clock().Add(time.Hour), until, time.Minute)
	require.Equal(t, until.UTC().Format(time.RFC3339), a.str("expires_at"))
	live.none = true
	a = b.ok("GET", "/turn", ana.token, nil)
	require.Empty(t, a.body["ice_servers"])
	require.NotContains(t, a.body, "expires_at")
	b.refused(401, "unauthenticated", "GET", "/turn", "", nil)
}
