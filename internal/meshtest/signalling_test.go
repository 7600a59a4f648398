package meshtest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
)

// speaker is a client that knows of calls alone, at /ws/communication.
type speaker struct {
	t     *testing.T
	ctx   context.Context
	conn  *websocket.Conn
	lines []string // that were read and not looked at
	n     int
}

type spoken map[string]any

func (m *Mesh) speaker(url string) *speaker {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), Patience)
	m.t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, url, nil)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return &speaker{t: m.t, ctx: ctx, conn: conn}
}

// next returns the next event of a kind; what came before it is passed over.
func (s *speaker) next(kind string) spoken {
	s.t.Helper()
	for {
		for len(s.lines) == 0 {
			_, b, err := s.conn.Read(s.ctx)
			require.NoError(s.t, err, "waiting for %s", kind)
			s.lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		}
		var e spoken
		require.NoError(s.t, json.Unmarshal([]byte(s.lines[0]), &e))
		s.lines = s.lines[1:]
		if e["event"] == kind {
			return e
		}
	}
}

// ask sends an event, and returns the answer, be it an error.
func (s *speaker) ask(event spoken) spoken {
	s.t.Helper()
	s.n++
	event["request_id"] = s.n
	b, err := json.Marshal(event)
	require.NoError(s.t, err)
	require.NoError(s.t, s.conn.Write(s.ctx, websocket.MessageText, b))
	for {
		for len(s.lines) == 0 {
			_, b, err := s.conn.Read(s.ctx)
			require.NoError(s.t, err, "waiting for the answer to %v", event["event"])
			s.lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		}
		for i, line := range s.lines {
			var e spoken
			require.NoError(s.t, json.Unmarshal([]byte(line), &e))
			if e["request_id"] == float64(s.n) {
				s.lines = append(s.lines[:i:i], s.lines[i+1:]...) // events are looked at later
				return e
			}
		}
		_, b, err := s.conn.Read(s.ctx)
		require.NoError(s.t, err)
		s.lines = append(s.lines, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
}

// Two people in two regions take part in a call: one over the session protocol, one by
// the events of /ws/communication.
func TestSignallingOfTwoRegions(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 1, Calls: true})
	ctx := t.Context()
	ana, bo, eve := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo"), m.Guest(1, "Eve")
	group := m.Group(ana, bo)
	started, err := ana.API.StartCall(ctx, client.CallDraft{GroupID: group, Type: "audio"})
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(started.SignalingURL, wire.PathCommunication), started.SignalingURL)
	room := ana.Join(group)
	call, joined, err := room.JoinCall(ctx, started.ID, nil)
	require.NoError(t, err)
	require.Len(t, joined.State.Participants, 1)
	events := make(chan *client.CallEvent, 1000)
	go func() {
		defer close(events)
		for e := range call.Events(ctx) {
			if c, ok := e.(*client.CallEvent); ok {
				events <- c
			}
		}
	}()
	heard := func(what string, is func(*client.CallEvent) bool) {
		t.Helper()
		late := time.After(Patience)
		for {
			select {
			case e, ok := <-events:
				require.True(t, ok, what)
				if is(e) {
					return
				}
			case <-late:
				require.Fail(t, what)
			}
		}
	}
	bos := func(is func(*wire.CallParticipant) bool) func(*client.CallEvent) bool {
		return func(e *client.CallEvent) bool {
			for _, p := range append(e.GetChanged().GetParticipants(), e.GetJoined().GetState().GetParticipants()...) {
				if p.User == bo.ID && is(p) {
					return true
				}
			}
			return false
		}
	}

	url := strings.Replace(m.Topology.Regions[1].Nodes[0].HTTP, "http", "ws", 1) + wire.PathCommunication
	s := m.speaker(url)
	token, err := bo.API.Token(ctx, "")
	require.NoError(t, err)
	me := s.ask(spoken{"event": "authenticate", "token": token, "device_id": "phone"})
	require.Equal(t, bo.ID, me["user_id"], "%v", me)
	require.Equal(t, "error", s.ask(spoken{"event": "mute_mic", "session_id": started.ID})["event"])
	ack := s.ask(spoken{"event": "join_session", "session_id": started.ID, "mic_muted": true})
	require.Equal(t, "ack", ack["event"], "%v", ack)
	require.NotNil(t, ack["place"])
	heard("Bo has joined", bos(func(p *wire.CallParticipant) bool { return p.MicMuted && p.Region == m.Region(1) }))
	m.Eventually("Bo knows of Ana", func() bool {
		list, err := bo.API.CallSessions(ctx)
		require.NoError(t, err)
		return len(list) == 1 && len(list[0].Participants) == 2
	})

	require.Equal(t, "ack", s.ask(spoken{"event": "unmute_mic"})["event"])
	heard("Bo has unmuted", bos(func(p *wire.CallParticipant) bool { return !p.MicMuted }))
	require.Equal(t, "ack", s.ask(spoken{"event": "share_music"})["event"])
	heard("Bo shares music", bos(func(p *wire.CallParticipant) bool { return p.Music }))
	require.Equal(t, "ack", s.ask(spoken{"event": "stop_music"})["event"])
	require.Equal(t, "ack", s.ask(spoken{"event": "mute_speaker"})["event"])
	heard("Bo hears nobody", bos(func(p *wire.CallParticipant) bool { return p.SpeakerMuted && !p.Music }))

	require.NoError(t, call.Set(ctx, &wire.CallSet{MicMuted: new(true)}))
	for muted := s.next("mic_muted"); muted["user_id"] != ana.ID; muted = s.next("mic_muted") {
	}
	require.NoError(t, call.Moderate(ctx, &wire.CallModerate{What: &wire.CallModerate_Mute{Mute: &wire.CallWho{User: bo.ID}}}))
	for muted := s.next("mic_muted"); muted["user_id"] != bo.ID; muted = s.next("mic_muted") {
	}
	require.Equal(t, "forbidden", s.ask(spoken{"event": "lock_session"})["code"], "a member does not moderate")
	require.Equal(t, "bad_description", s.ask(spoken{"event": "describe", "connection": "up", "n": 1, "sdp": "nonsense", "place": ack["place"]})["code"])
	require.Equal(t, "bad_request", s.ask(spoken{"event": "dance"})["code"])

	// A stranger, and who is put out of the group.
	other := m.speaker(url)
	token, err = eve.API.Token(ctx, "")
	require.NoError(t, err)
	other.ask(spoken{"event": "authenticate", "token": token, "device_id": "phone"})
	require.Equal(t, "not_member", other.ask(spoken{"event": "join_session", "session_id": started.ID})["code"])
	require.NoError(t, ana.API.Kick(ctx, group, bo.ID))
	require.Equal(t, "removed", s.next("session_ended")["reason"])
	heard("Bo is gone", func(e *client.CallEvent) bool {
		return len(e.GetChanged().GetGone()) > 0 && e.GetChanged().GetGone()[0].User == bo.ID
	})

	require.NoError(t, ana.API.EndCall(ctx, started.ID))
	heard("it is over", func(e *client.CallEvent) bool { return e.GetOver().GetReason() == "ended" })
	require.True(t, client.IsCode(call.Set(ctx, &wire.CallSet{Music: new(true)}), wire.CodeCallEnded))
}
