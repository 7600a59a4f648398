package comm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
)

const (
	callID = "00000000-0000-4000-8000-0000000000a0"
	annID  = "00000000-0000-4000-8000-000000000001"
	boID   = "00000000-0000-4000-8000-000000000002"
)

func said(t *testing.T, b []byte) (events []map[string]any) {
	t.Helper()
	for line := range strings.Lines(string(b)) {
		var e map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &e), line)
		events = append(events, e)
	}
	return events
}

func names(events []map[string]any) (list []string) {
	for _, e := range events {
		list = append(list, fmt.Sprint(e["event"]))
	}
	return list
}

func (s *Speaker) must(t *testing.T, line string) *wire.ClientFrame {
	t.Helper()
	f, err := s.Read([]byte(line))
	require.NoError(t, err)
	return f
}

func done(re uint64) *wire.ServerFrame {
	return &wire.ServerFrame{Re: re, Body: &wire.ServerFrame_Done{Done: &wire.Done{}}}
}

func joinedFrame(re uint64, people ...*wire.CallParticipant) *wire.ServerFrame {
	return &wire.ServerFrame{Re: re, Body: &wire.ServerFrame_CallJoined{CallJoined: &wire.CallJoined{
		Place: 7, State: &wire.CallState{Room: "group:x", Type: "audio", Participants: people, Hearing: &wire.CallHearing{Loudness: 1}, Version: 3},
		IceServers: []*wire.CallIceServer{{Urls: []string{"turn:x"}, Username: "u", Credential: "c"}},
	}}}
}

func told(body any) *wire.ServerFrame {
	e := &wire.CallEvent{Call: callID, Place: 7, Version: 4}
	switch b := body.(type) {
	case *wire.CallChanged:
		e.Body = &wire.CallEvent_Changed{Changed: b}
	case *wire.CallOver:
		e.Body = &wire.CallEvent_Over{Over: b}
	case *wire.CallSignal:
		e.Body = &wire.CallEvent_Signal{Signal: b}
	case *wire.CallDescription:
		e.Body = &wire.CallEvent_Describe{Describe: b}
	case *wire.CallJoined:
		e.Body = &wire.CallEvent_Joined{Joined: b}
	}
	return &wire.ServerFrame{Body: &wire.ServerFrame_CallEvent{CallEvent: e}}
}

// joins a call with Ann in it.
func joined(t *testing.T) *Speaker {
	s := New()
	f := s.must(t, `{"event":"join_session","request_id":1,"session_id":"`+callID+`","mic_muted":true,"peer_to_peer":true}`)
	require.True(t, proto.Equal(&wire.CallJoin{MicMuted: true, PeerToPeer: true}, f.GetCall().GetJoin()))
	e := said(t, s.Write(joinedFrame(f.Id, &wire.CallParticipant{User: annID, Device: "phone", Epoch: 5, Name: "Ann"})))
	require.Equal(t, []string{"ack"}, names(e))
	require.EqualValues(t, 1, e[0]["request_id"])
	require.EqualValues(t, 7, e[0]["place"])
	require.Equal(t, "turn:x", e[0]["ice_servers"].([]any)[0].(map[string]any)["urls"].([]any)[0])
	require.Equal(t, annID, e[0]["session"].(map[string]any)["participants"].([]any)[0].(map[string]any)["user_id"])
	return s
}

func TestAuthenticate(t *testing.T) {
	s := New()
	f := s.must(t, `{"event":"authenticate","request_id":"a","token":"T","device_id":"phone","epoch":4,"ticket":"AQI="}`)
	h := f.GetHello()
	require.Equal(t, "T", h.GetToken())
	require.Equal(t, "phone", h.GetDevice())
	require.EqualValues(t, 4, h.GetEpoch())
	require.Equal(t, []byte{1, 2}, h.GetTicket())
	e := said(t, s.Write(&wire.ServerFrame{Re: f.Id, Body: &wire.ServerFrame_Welcome{Welcome: &wire.Welcome{User: annID, Name: "Ann", Epoch: 5, PingMs: 10000, Ticket: []byte{3}}}}))
	require.Equal(t, "a", e[0]["request_id"])
	require.Equal(t, annID, e[0]["user_id"])
	require.Equal(t, "Aw==", e[0]["ticket"])
	require.Equal(t, "fresh", s.must(t, `{"event":"authenticate","token":"fresh"}`).GetReauth().GetToken())
	require.Empty(t, s.Write(&wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{}}}), "of calls alone")
}

// The eight events of the specification, each by itself, without naming the one call.
func TestEventsOfTheSpecification(t *testing.T) {
	s := joined(t)
	for name, want := range map[string]*wire.CallSet{
		"mute_mic": {MicMuted: new(true)}, "unmute_mic": {MicMuted: new(false)},
		"mute_speaker": {SpeakerMuted: new(true)}, "unmute_speaker": {SpeakerMuted: new(false)},
		"share_music": {Music: new(true)}, "stop_music": {Music: new(false)},
	} {
		f := s.must(t, `{"event":"`+name+`","request_id":"`+name+`"}`)
		require.Equal(t, callID, f.GetCall().GetCall())
		require.True(t, proto.Equal(want, f.GetCall().GetSet()), name)
		require.Nil(t, wire.CheckCall(f.GetCall()), name)
		e := said(t, s.Write(done(f.Id)))
		require.Equal(t, []map[string]any{{"event": "ack", "request_id": name, "session_id": callID}}, e)
	}
	f := s.must(t, `{"event":"leave_session","request_id":9}`)
	require.NotNil(t, f.GetCall().GetLeave())
	require.Equal(t, []string{"ack"}, names(said(t, s.Write(done(f.Id)))))
	require.Empty(t, s.must(t, `{"event":"mute_mic"}`).GetCall().GetCall(), "it is in none any more")
}

func TestRequestsThatTheSessionTakes(t *testing.T) {
	s := joined(t)
	for line, kind := range map[string]string{
		`{"event":"describe","connection":"up","n":1,"sdp":"v=0","place":7,"media":[{"mid":"0","source":"mic"},{"mid":"1","source":"screen_audio"}]}`: "Describe",
		`{"event":"describe","connection":"down","n":1,"sdp":"v=0"}`:                                                                                  "Describe",
		`{"event":"describe","connection":"down","restart":true}`:                                                                                     "Describe",
		`{"event":"candidate","connection":"up","candidate":{"candidate":"x"}}`:                                                                       "Candidate",
		`{"event":"candidate","connection":"up","candidate":null}`:                                                                                    "Candidate",
		`{"event":"want","tracks":[{"track":"abc","height":720}]}`:                                                                                    "Wants",
		`{"event":"floor","hold":true}`:                                                                                                               "Floor",
		`{"event":"set_heading","heading":90}`:                                                                                                        "Set",
		`{"event":"share_camera"}`:                                                                                                                    "Set",
		`{"event":"signal","user_id":"` + boID + `","device_id":"tab","epoch":3,"data":{"a":[1]}}`:                                                    "Signal",
		`{"event":"mute_participant","user_id":"` + boID + `"}`:                                                                                       "Moderate",
		`{"event":"kick_participant","user_id":"` + boID + `","device_id":"tab"}`:                                                                     "Moderate",
		`{"event":"take_floor","user_id":"` + boID + `"}`:                                                                                             "Moderate",
		`{"event":"lock_session"}`:                                                                                                                    "Moderate",
		`{"event":"unlock_session"}`:                                                                                                                  "Moderate",
		`{"event":"end_session"}`:                                                                                                                     "Moderate",
	} {
		r := s.must(t, line).GetCall()
		require.Equal(t, "*wire.CallRequest_"+kind, fmt.Sprintf("%T", r.Body), line)
		require.Nil(t, wire.CheckCall(r), line)
	}
}

func TestWhatOthersDid(t *testing.T) {
	s := joined(t)
	bo := &wire.CallParticipant{User: boID, Device: "tab", Epoch: 3, Name: "Bo"}
	change := func(set func(*wire.CallParticipant)) []string {
		bo = proto.CloneOf(bo)
		set(bo)
		return names(said(t, s.Write(told(&wire.CallChanged{Participants: []*wire.CallParticipant{bo}}))))
	}
	require.Equal(t, []string{"participant_joined"}, change(func(*wire.CallParticipant) {}))
	require.Empty(t, change(func(*wire.CallParticipant) {}))
	require.Equal(t, []string{"mic_muted"}, change(func(p *wire.CallParticipant) { p.MicMuted = true }))
	require.Equal(t, []string{"mic_unmuted", "speaker_muted"}, change(func(p *wire.CallParticipant) { p.MicMuted, p.SpeakerMuted = false, true }))
	require.Equal(t, []string{"speaker_unmuted", "music_started"}, change(func(p *wire.CallParticipant) { p.SpeakerMuted, p.Music = false, true }))
	require.Equal(t, []string{"music_stopped", "participant_changed"}, change(func(p *wire.CallParticipant) {
		p.Music, p.Tracks = false, []*wire.CallTrack{{Id: "abc", Source: wire.CallSource_MIC}}
	}))
	require.Equal(t, []string{"participant_changed"}, change(func(p *wire.CallParticipant) { p.Epoch = 4 }), "it came back: neither left nor joined")
	gone := &wire.CallChanged{Gone: []*wire.CallGone{{User: boID, Device: "tab", Epoch: 3, Reason: "left"}}, Locked: new(true)}
	require.Equal(t, []string{"session_changed"}, names(said(t, s.Write(told(gone)))), "an earlier session of it is gone")
	ptt := said(t, s.Write(told(&wire.CallChanged{PushToTalk: new(true)})))
	require.Equal(t, []map[string]any{{"event": "session_changed", "session_id": callID, "place": 7.0, "version": 4.0, "push_to_talk": true}}, ptt)
	gone.Gone[0].Epoch, gone.Locked = 4, nil
	e := said(t, s.Write(told(gone)))
	require.Equal(t, []map[string]any{{"event": "participant_left", "session_id": callID, "place": 7.0, "version": 4.0, "user_id": boID, "device_id": "tab", "reason": "left"}}, e)

	e = said(t, s.Write(told(&wire.CallDescription{Connection: wire.CallDescription_DOWN, N: 2, Offer: true, Sdp: "v=0"})))
	require.Equal(t, "description down true", fmt.Sprint(e[0]["event"], " ", e[0]["connection"], " ", e[0]["offer"]))
	e = said(t, s.Write(told(&wire.CallSignal{User: boID, Device: "tab", Data: `{"candidate":1}`})))
	require.Equal(t, map[string]any{"candidate": 1.0}, e[0]["data"])
	require.Empty(t, s.Write(told(&wire.CallSignal{User: boID, Device: "tab", Data: `no json`})))
	require.Equal(t, []string{"session_state"}, names(said(t, s.Write(told(&wire.CallJoined{Place: 8})))))
	require.Equal(t, []string{"participant_joined"}, change(func(*wire.CallParticipant) {}), "all anew, and then")
	require.Equal(t, []string{"session_ended"}, names(said(t, s.Write(told(&wire.CallOver{Reason: "ended"})))))
	require.Empty(t, change(func(p *wire.CallParticipant) { p.MicMuted = true }), "of a call that is over nothing is told")
}

func TestRefusals(t *testing.T) {
	s := New()
	for _, line := range []string{`x`, `[]`, `{"event":7}`, `{"event":"mute_mic","request_id":{}}`, `{"event":"mute_mic","request_id":"` + strings.Repeat("a", 130) + `"}`, `{"event":"describe","n":-1}`, `null garbage`} {
		f, err := s.Read([]byte(line))
		require.ErrorIs(t, err, wire.ErrBadFrame, line)
		require.Nil(t, f, line)
		p, ok := errors.AsType[*wire.Problem](err)
		require.True(t, ok)
		require.NotEmpty(t, p.Message)
	}
	f, err := s.Read([]byte(`{"event":"dance","request_id":"d"}`))
	require.ErrorIs(t, err, wire.ErrBadFrame)
	e := said(t, s.Write(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: "bad_request", Message: "no", RetryAfterMs: 5}}}))
	require.Equal(t, []map[string]any{{"event": "error", "request_id": "d", "code": "bad_request", "message": "no", "retry_after_ms": 5.0}}, e)
	for range maxAsked {
		s.must(t, `{"event":"ping"}`)
	}
	_, err = s.Read([]byte(`{"event":"ping"}`))
	require.ErrorIs(t, err, wire.ErrBadFrame)
	require.Equal(t, []string{"closed"}, names(said(t, s.Write(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: &wire.Close{Code: "timeout"}}}))))
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"event":"join_session","request_id":"x","session_id":"` + callID + `"}`))
	f.Add([]byte(`{"event":"describe","connection":"up","media":[{"mid":"0","source":"mic"}],"sdp":"\ud800"}`))
	f.Add([]byte(`{"event":"want","tracks":[null,{"height":4294967296}]}`))
	f.Add([]byte(`{"event":"signal","data":[[[[]]]],"request_id":-0}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		s := New()
		for range 2 {
			frame, err := s.Read(line)
			if err == nil {
				require.NotZero(t, frame.Id)
				b, err := frame.MarshalVT() // what a frame may hold
				if err == nil {
					_, err = wire.DecodeClient(b)
				}
				require.NoError(t, err)
				_ = wire.CheckCall(frame.GetCall())
			}
			said(t, s.Write(joinedFrame(frame.GetId())))
			said(t, s.Write(told(&wire.CallOver{})))
		}
	})
}
