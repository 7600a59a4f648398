package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// CallSession is a call as the HTTP API tells of it.
type CallSession struct {
	ID           string            `json:"session_id"`
	GroupID      string            `json:"group_id"` // empty where it is in a room that is no group's
	Room         string            `json:"room"`
	Type         string            `json:"type"`         // audio or video
	Participants []CallParticipant `json:"participants"` // nil: not known just now
	StartedAt    time.Time         `json:"started_at"`

	// CallSession and ChangeCall tell these, too.
	StartedBy  string      `json:"started_by"`
	EndedAt    *time.Time  `json:"ended_at"`
	Locked     bool        `json:"locked"`
	PushToTalk bool        `json:"push_to_talk"`
	Hearing    CallHearing `json:"hearing"`
	Moderates  bool        `json:"moderates"` // may change and end it
	Version    int64       `json:"version"`
}

// CallParticipant is a device in a call.
type CallParticipant struct {
	UserID       string    `json:"user_id"`
	Username     string    `json:"username"`
	DeviceID     string    `json:"device_id"`
	Region       string    `json:"region"`
	JoinedAt     time.Time `json:"joined_at"`
	MicMuted     bool      `json:"mic_muted"`
	SpeakerMuted bool      `json:"speaker_muted"`
	Camera       bool      `json:"camera"`
	Screen       bool      `json:"screen"`
	Music        bool      `json:"music"`
	Suspended    bool      `json:"suspended"`
}

// CallHearing says how it is chosen who is heard.
type CallHearing struct {
	Most     int     `json:"most"`     // streams at a time; 0: all
	Loudness float64 `json:"loudness"` // weights, 0 to 1
	Nearness float64 `json:"nearness"`
	Radius   float64 `json:"radius"` // metres; 0: no limit
}

// CallDraft is a call to start.
type CallDraft struct {
	GroupID    string       `json:"group_id,omitempty"` // or
	Room       string       `json:"room,omitempty"`
	Type       string       `json:"type"` // audio or video
	PushToTalk bool         `json:"push_to_talk,omitempty"`
	Hearing    *CallHearing `json:"hearing,omitempty"` // nil: everybody
}

// StartedCall is a new call, or the one that there was.
type StartedCall struct {
	ID           string `json:"session_id"`
	SignalingURL string `json:"signaling_url"` // of /ws/communication; a Session needs none
}

// CallChange is what those who moderate may change; nil: it stays.
type CallChange struct {
	Locked     *bool        `json:"locked,omitempty"`
	PushToTalk *bool        `json:"push_to_talk,omitempty"`
	Hearing    *CallHearing `json:"hearing,omitempty"`
}

// ICEServer is one with which a call is reached.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

func callPath(id string) string { return "/api/v1/communication/sessions/" + url.PathEscape(id) }

// CallSessions lists the calls that go on in the user's rooms, the latest first.
func (a *API) CallSessions(ctx context.Context) ([]CallSession, error) {
	var out struct {
		Sessions []CallSession `json:"sessions"`
	}
	err := a.call(ctx, http.MethodGet, "/api/v1/communication/sessions", nil, &out)
	for i, s := range out.Sessions {
		if s.GroupID != "" {
			out.Sessions[i].Room = GroupRoom(s.GroupID)
		}
	}
	return out.Sessions, err
}

// StartCall starts a call; where one goes on already, it is that one.
func (a *API) StartCall(ctx context.Context, d CallDraft) (c StartedCall, err error) {
	err = a.call(ctx, http.MethodPost, "/api/v1/communication/sessions", d, &c)
	return c, err
}

// CallSession reads one, over or not.
func (a *API) CallSession(ctx context.Context, id string) (c CallSession, err error) {
	err = a.call(ctx, http.MethodGet, callPath(id), nil, &c)
	return c, err
}

// ChangeCall locks a call, or says how one talks and hears in it.
func (a *API) ChangeCall(ctx context.Context, id string, change CallChange) (c CallSession, err error) {
	err = a.call(ctx, http.MethodPatch, callPath(id), change, &c)
	return c, err
}

// EndCall ends a call for everybody.
func (a *API) EndCall(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, callPath(id), nil, nil)
}

// ICEServers are those with which a call is reached where nothing else gets through, the
// nearest region first, and until when their credentials are good.
func (a *API) ICEServers(ctx context.Context) (list []ICEServer, until time.Time, err error) {
	var out struct {
		Servers []ICEServer `json:"ice_servers"`
		Until   time.Time   `json:"expires_at"`
	}
	err = a.call(ctx, http.MethodGet, "/api/v1/turn", nil, &out)
	return out.Servers, out.Until, err
}
