package comm

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
)

// event is one of a client's, whatever it is: each kind has a few of these.
type event struct {
	Event     string          `json:"event"`
	RequestID json.RawMessage `json:"request_id"`
	SessionID string          `json:"session_id"`

	Token  string `json:"token"`
	Epoch  uint64 `json:"epoch"`
	Ticket []byte `json:"ticket"`
	SDK    string `json:"sdk"`

	MicMuted     bool `json:"mic_muted"`
	SpeakerMuted bool `json:"speaker_muted"`
	PeerToPeer   bool `json:"peer_to_peer"`
	Fresh        bool `json:"fresh"`

	Heading    *float32        `json:"heading"`
	Connection string          `json:"connection"`
	N          uint64          `json:"n"`
	SDP        string          `json:"sdp"`
	Restart    bool            `json:"restart"`
	Place      uint64          `json:"place"`
	Media      []media         `json:"media"`
	Candidate  json.RawMessage `json:"candidate"`
	Tracks     []want          `json:"tracks"`
	Hold       bool            `json:"hold"`
	Priority   uint32          `json:"priority"`
	UserID     string          `json:"user_id"`
	DeviceID   string          `json:"device_id"`
	Data       json.RawMessage `json:"data"`
}

type media struct {
	Mid    string `json:"mid"`
	Source string `json:"source"`
}

type want struct {
	Track  string `json:"track"`
	Height uint32 `json:"height"`
}

// set are the events that change one thing about oneself.
var set = map[string]*wire.CallSet{
	"mute_mic":       {MicMuted: new(true)},
	"unmute_mic":     {MicMuted: new(false)},
	"mute_speaker":   {SpeakerMuted: new(true)},
	"unmute_speaker": {SpeakerMuted: new(false)},
	"share_music":    {Music: new(true)},
	"stop_music":     {Music: new(false)},
	"share_camera":   {Camera: new(true)},
	"stop_camera":    {Camera: new(false)},
	"share_screen":   {Screen: new(true)},
	"stop_screen":    {Screen: new(false)},
}

var sources = map[string]wire.CallSource{
	"mic": wire.CallSource_MIC, "camera": wire.CallSource_CAMERA, "screen": wire.CallSource_SCREEN,
	"music": wire.CallSource_MUSIC, "screen_audio": wire.CallSource_SCREEN_AUDIO,
}

var connections = map[string]wire.CallDescription_Connection{"up": wire.CallDescription_UP, "down": wire.CallDescription_DOWN}

// maxRequestID is how long a client's own id of a request may be, as JSON.
const maxRequestID = 128

func bad(code, message string) error {
	return fmt.Errorf("%w: %w", wire.ErrBadFrame, &wire.Problem{Code: code, Message: message})
}

// Read makes a frame of an event. What makes no sense about a call it leaves to the
// session, which refuses it like anybody's; with an error that can name its request the
// frame has an id.
func (s *Speaker) Read(line []byte) (*wire.ClientFrame, error) {
	if len(line) > wire.MaxClientFrame {
		return nil, wire.ErrTooLarge
	}
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, bad(wire.CodeBadFrame, "send an event: a JSON object with the fields that docs/protocol.md names")
	}
	if bytes.Equal(e.RequestID, []byte("null")) {
		e.RequestID = nil
	}
	if id := e.RequestID; len(id) > maxRequestID || len(id) > 0 && id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
		return nil, bad(wire.CodeBadRequest, "a request_id is a string or a number, at most 128 characters long")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.SessionID == "" && len(s.calls) == 1 {
		for e.SessionID = range s.calls { // the one that there is
		}
	}
	f := &wire.ClientFrame{}
	known := s.frame(&e, f)
	if len(s.asked) >= maxAsked {
		return nil, bad(wire.CodeRateLimited, "wait for answers before you ask more")
	}
	s.last++
	f.Id = s.last
	s.asked[f.Id] = asked{e.Event, e.RequestID, e.SessionID}
	if !known {
		return f, bad(wire.CodeBadRequest, "there is no such event")
	}
	return f, nil
}

// frame makes what an event asks for; false: there is no such event.
func (s *Speaker) frame(e *event, f *wire.ClientFrame) bool {
	switch e.Event {
	case "authenticate":
		if s.device != "" { // on a connection that has a session: a fresh token
			f.Body = &wire.ClientFrame_Reauth{Reauth: &wire.Reauth{Token: e.Token}}
			return true
		}
		s.device = e.DeviceID
		f.Body = &wire.ClientFrame_Hello{Hello: &wire.Hello{
			Version: wire.Version, Token: e.Token, Device: e.DeviceID, Sdk: e.SDK, Epoch: e.Epoch, Ticket: e.Ticket,
		}}
		return true
	case "ping":
		f.Body = &wire.ClientFrame_Ping{Ping: &wire.Ping{}}
		return true
	}
	r := request(e)
	if r.Body == nil {
		return false
	}
	f.Body = &wire.ClientFrame_Call{Call: r}
	return true
}

func request(e *event) *wire.CallRequest {
	r := &wire.CallRequest{Call: e.SessionID}
	whom := &wire.CallWho{User: e.UserID, Device: e.DeviceID}
	moderate := func(m *wire.CallModerate) { r.Body = &wire.CallRequest_Moderate{Moderate: m} }
	if one, ok := set[e.Event]; ok {
		r.Body = &wire.CallRequest_Set{Set: proto.CloneOf(one)}
		return r
	}
	switch e.Event {
	case "join_session":
		r.Body = &wire.CallRequest_Join{Join: &wire.CallJoin{MicMuted: e.MicMuted, SpeakerMuted: e.SpeakerMuted, PeerToPeer: e.PeerToPeer, Fresh: e.Fresh}}
	case "leave_session":
		r.Body = &wire.CallRequest_Leave{Leave: &wire.CallLeave{}}
	case "set_heading":
		r.Body = &wire.CallRequest_Set{Set: &wire.CallSet{Heading: e.Heading}}
	case "describe":
		d := &wire.CallDescription{Connection: connections[e.Connection], N: e.N, Offer: e.Connection == "up", Sdp: e.SDP, Restart: e.Restart, Place: e.Place}
		for _, m := range e.Media {
			d.Media = append(d.Media, &wire.CallMedia{Mid: m.Mid, Source: sources[m.Source]})
		}
		r.Body = &wire.CallRequest_Describe{Describe: d}
	case "candidate":
		c := &wire.CallCandidate{Connection: connections[e.Connection], Place: e.Place}
		if !bytes.Equal(e.Candidate, []byte("null")) {
			c.Candidate = string(e.Candidate)
		}
		r.Body = &wire.CallRequest_Candidate{Candidate: c}
	case "want":
		w := &wire.CallWants{}
		for _, t := range e.Tracks {
			w.Wants = append(w.Wants, &wire.CallWant{Track: t.Track, Height: t.Height})
		}
		r.Body = &wire.CallRequest_Wants{Wants: w}
	case "floor":
		r.Body = &wire.CallRequest_Floor{Floor: &wire.CallFloorAsk{Hold: e.Hold, Priority: e.Priority}}
	case "signal":
		r.Body = &wire.CallRequest_Signal{Signal: &wire.CallSignal{User: e.UserID, Device: e.DeviceID, Epoch: e.Epoch, Data: string(e.Data)}}
	case "mute_participant":
		moderate(&wire.CallModerate{What: &wire.CallModerate_Mute{Mute: whom}})
	case "kick_participant":
		moderate(&wire.CallModerate{What: &wire.CallModerate_Kick{Kick: whom}})
	case "take_floor":
		moderate(&wire.CallModerate{What: &wire.CallModerate_TakeFloor{TakeFloor: whom}})
	case "lock_session":
		moderate(&wire.CallModerate{What: &wire.CallModerate_Lock{Lock: true}})
	case "unlock_session":
		moderate(&wire.CallModerate{What: &wire.CallModerate_Lock{Lock: false}})
	case "end_session":
		moderate(&wire.CallModerate{What: &wire.CallModerate_End{End: true}})
	}
	return r
}
