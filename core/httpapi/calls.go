package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/calls"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/turn/cred"
)

// Calls are calls as the API has them.
type Calls struct {
	*calls.Store
	Live calls.Live // nil: nobody knows who is in them
	ICE  ICE        // nil: no servers
}

// ICE knows the servers with which a user's devices reach a call.
type ICE interface {
	// ICEServers returns them with credentials of the user's, the nearest region first,
	// without those that are about to go.
	ICEServers(user core.UserID) []cred.ICEServer
}

// Session is a live call of the caller's rooms.
type Session struct {
	SessionID    string               `json:"session_id" doc:"UUID: the call, in the realtime protocol, too"`
	GroupID      string               `json:"group_id" doc:"UUID; empty where it is in a room that is no group's"`
	Room         string               `json:"room,omitempty" doc:"Where it is no group's: direct:…, nearby:…, booking:…"`
	Type         string               `json:"type" enum:"audio,video" doc:"What it was started for"`
	Participants []SessionParticipant `json:"participants" doc:"Those who are in it now, the first one first; null: not known just now"`
	StartedAt    time.Time            `json:"started_at"`
}

// SessionParticipant is a device in a call.
type SessionParticipant struct {
	UserID       string    `json:"user_id"`
	Username     string    `json:"username"`
	DeviceID     string    `json:"device_id"`
	Region       string    `json:"region" doc:"Whose media server has it"`
	JoinedAt     time.Time `json:"joined_at"`
	MicMuted     bool      `json:"mic_muted"`
	SpeakerMuted bool      `json:"speaker_muted" doc:"Hears nobody"`
	Camera       bool      `json:"camera"`
	Screen       bool      `json:"screen"`
	Music        bool      `json:"music" doc:"Shares music"`
	Suspended    bool      `json:"suspended" doc:"Its connection is lost, and may come back"`
}

// SessionDetail is a call, over or not.
type SessionDetail struct {
	SessionID    string               `json:"session_id"`
	GroupID      string               `json:"group_id" doc:"UUID; empty where it is in a room that is no group's"`
	Room         string               `json:"room"`
	Type         string               `json:"type" enum:"audio,video"`
	Participants []SessionParticipant `json:"participants" doc:"null: not known just now"`
	StartedAt    time.Time            `json:"started_at"`
	StartedBy    string               `json:"started_by,omitempty" doc:"User id; absent: their account is gone"`
	EndedAt      *time.Time           `json:"ended_at,omitempty" doc:"Absent: it goes on"`
	Locked       bool                 `json:"locked" doc:"Nobody else joins"`
	PushToTalk   bool                 `json:"push_to_talk" doc:"Only who has the floor is heard"`
	Hearing      SessionHearing       `json:"hearing"`
	Moderates    bool                 `json:"moderates" doc:"You may change and end it"`
	Version      int64                `json:"version" doc:"Of two states of a call the one with the higher is the truth"`
}

// SessionHearing says how it is chosen who is heard.
type SessionHearing struct {
	Most     int64   `json:"most" required:"false" default:"0" doc:"Streams at a time, 0 to 50; 0: all"`
	Loudness float64 `json:"loudness" required:"false" default:"1" doc:"Weight, 0 to 1"`
	Nearness float64 `json:"nearness" required:"false" default:"0" doc:"Weight, 0 to 1: of how near people are, where they show it to the room"`
	Radius   float64 `json:"radius" required:"false" default:"0" doc:"Metres, up to 100,000, beyond which nobody is heard; 0: no limit"`
}

func (h *SessionHearing) hearing() *calls.Hearing {
	if h == nil {
		return nil
	}
	return &calls.Hearing{Most: h.Most, Loudness: h.Loudness, Nearness: h.Nearness, Radius: h.Radius}
}

func groupOfCall(c calls.Call) string {
	if c.Group == nil {
		return ""
	}
	return c.Group.String()
}

// participants are those of a call now; nil: nobody knows.
func (a *api) participants(ctx context.Context, c calls.Call) []SessionParticipant {
	list := []SessionParticipant{}
	if c.Ended() {
		return list
	}
	if a.Calls.Live == nil {
		return nil
	}
	now, err := a.Calls.Live.Participants(ctx, c.ID)
	if err != nil {
		a.Log.WarnContext(ctx, "participants of a call not known", "call", c.ID, "err", err)
		return nil
	}
	for _, p := range now {
		list = append(list, SessionParticipant{
			UserID: p.User.String(), Username: p.Name, DeviceID: p.Device, Region: p.Region, JoinedAt: p.JoinedAt,
			MicMuted: p.MicMuted, SpeakerMuted: p.SpeakerMuted, Camera: p.Camera, Screen: p.Screen, Music: p.Music, Suspended: p.Suspended,
		})
	}
	return list
}

func (a *api) sessionDetail(ctx context.Context, c calls.Call, moderates bool) SessionDetail {
	d := SessionDetail{
		SessionID: c.ID.String(), GroupID: groupOfCall(c), Room: c.Room, Type: string(c.Type), Participants: a.participants(ctx, c),
		StartedAt: c.StartedAt, EndedAt: c.EndedAt, Locked: c.Locked, PushToTalk: c.PushToTalk, Moderates: moderates, Version: c.Version,
		Hearing: SessionHearing{c.Hearing.Most, c.Hearing.Loudness, c.Hearing.Nearness, c.Hearing.Radius},
	}
	if c.StartedBy != nil {
		d.StartedBy = c.StartedBy.String()
	}
	return d
}

// signalingURL is where the caller's nearest node takes the events of calls; empty: that
// is not known.
func (a *api) signalingURL(ctx context.Context) string {
	if a.Edges == nil {
		return ""
	}
	for _, r := range a.Edges.Edges(EdgeCaller{Addr: exchangeOf(ctx).client}).Regions {
		for _, n := range r.Nodes {
			return n.WS + "/communication"
		}
	}
	return ""
}

func sessionID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return id, errs.New(errs.Invalid, "bad_request", "a session id is a UUID in lower case").At("path.session_id")
	}
	return id, nil
}

// participantsAtOnce is of how many calls of a list it is asked at a time who is in them.
const participantsAtOnce = 8

func (a *api) callOperations() {
	const tag = "communication"
	store := a.Calls.Store
	starts := newLimit("calls", auth.Limit{Burst: 20, Every: 5 * time.Second}, a.Now)

	type sessionsOutput struct {
		Body struct {
			Sessions []Session `json:"sessions" nullable:"false"`
		}
	}
	register(a, operation{id: "list-sessions", method: http.MethodGet, path: "/communication/sessions", tag: tag, summary: "The calls that go on in your rooms, the latest first"},
		func(ctx context.Context, _ *struct{}) (*sessionsOutput, error) {
			list, err := store.List(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			out := &sessionsOutput{}
			out.Body.Sessions = make([]Session, len(list))
			var wg sync.WaitGroup
			places := make(chan struct{}, participantsAtOnce)
			for i, c := range list {
				places <- struct{}{}
				wg.Go(func() {
					defer func() { <-places }()
					s := Session{SessionID: c.ID.String(), GroupID: groupOfCall(c), Type: string(c.Type), Participants: a.participants(ctx, c), StartedAt: c.StartedAt}
					if c.Group == nil {
						s.Room = c.Room
					}
					out.Body.Sessions[i] = s
				})
			}
			wg.Wait()
			return out, nil
		})

	type startInput struct {
		Body struct {
			GroupID    string          `json:"group_id,omitempty" doc:"Whose call it is"`
			Type       string          `json:"type" enum:"audio,video"`
			Room       string          `json:"room,omitempty" doc:"Instead of group_id: any room of yours"`
			PushToTalk bool            `json:"push_to_talk,omitempty" doc:"Only who has the floor is heard"`
			Hearing    *SessionHearing `json:"hearing,omitempty" doc:"How it is chosen who is heard; absent: everybody"`
		}
	}
	type startOutput struct {
		Status int
		Body   struct {
			SessionID    string `json:"session_id"`
			SignalingURL string `json:"signaling_url" doc:"The WebSocket of the nearest node for the events of calls; the realtime protocol has them, too"`
		}
	}
	register(a, operation{id: "start-session", refuses: []int{http.StatusConflict, http.StatusNotFound}, method: http.MethodPost, path: "/communication/sessions", tag: tag, status: http.StatusCreated, locates: true,
		summary: "Start a call in a room of yours (201); where one goes on already, it is that one, as it is (200)"},
		func(ctx context.Context, in *startInput) (*startOutput, error) {
			room := in.Body.Room
			switch b := in.Body; {
			case (b.GroupID == "") == (b.Room == ""):
				return nil, errs.New(errs.Invalid, "bad_request", "name either group_id or room").At("body.group_id")
			case b.GroupID != "":
				id, err := core.ParseGroupID(b.GroupID)
				if err != nil {
					return nil, errs.New(errs.Invalid, "bad_request", "a group id is a UUID in lower case").At("body.group_id")
				}
				room = id.Room()
			}
			me := caller(ctx).User
			if _, err := a.conversation(ctx, room); err != nil { // also for what can't be a room
				return nil, err
			}
			if err := starts.take(ctx, me.String()); err != nil {
				return nil, err
			}
			c, fresh, err := store.Start(ctx, me, calls.Draft{Room: room, Type: calls.Type(in.Body.Type), PushToTalk: in.Body.PushToTalk, Hearing: in.Body.Hearing.hearing()})
			if err != nil {
				return nil, err
			}
			out := &startOutput{Status: http.StatusOK}
			if fresh {
				out.Status = http.StatusCreated
			}
			out.Body.SessionID, out.Body.SignalingURL = c.ID.String(), a.signalingURL(ctx)
			return out, nil
		})

	type oneInput struct {
		Session string `path:"session_id"`
	}
	type oneOutput struct{ Body SessionDetail }
	register(a, operation{id: "get-session", refuses: []int{http.StatusNotFound}, method: http.MethodGet, path: "/communication/sessions/{session_id}", tag: tag, summary: "A call in one of your rooms, for a month after its end, too"},
		func(ctx context.Context, in *oneInput) (*oneOutput, error) {
			id, err := sessionID(in.Session)
			if err != nil {
				return nil, err
			}
			c, st, err := store.Get(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			return &oneOutput{a.sessionDetail(ctx, c, c.Moderates(st))}, nil
		})

	type changeInput struct {
		Session string `path:"session_id"`
		Body    struct {
			Locked     *bool           `json:"locked,omitempty" doc:"Nobody else joins"`
			PushToTalk *bool           `json:"push_to_talk,omitempty"`
			Hearing    *SessionHearing `json:"hearing,omitempty"`
		}
	}
	register(a, operation{id: "change-session", spreads: true, refuses: []int{http.StatusNotFound, http.StatusGone}, method: http.MethodPatch, path: "/communication/sessions/{session_id}", tag: tag,
		summary: "Lock a call, or say how one talks and hears in it: for admins and the owner of its group; in rooms of two, for both"},
		func(ctx context.Context, in *changeInput) (*oneOutput, error) {
			id, err := sessionID(in.Session)
			if err != nil {
				return nil, err
			}
			c, err := store.Change(ctx, caller(ctx).User, id, calls.Change{Locked: in.Body.Locked, PushToTalk: in.Body.PushToTalk, Hearing: in.Body.Hearing.hearing()})
			if err != nil {
				return nil, err
			}
			return &oneOutput{a.sessionDetail(ctx, c, true)}, nil
		})
	register(a, operation{id: "end-session", spreads: true, refuses: []int{http.StatusNotFound}, method: http.MethodDelete, path: "/communication/sessions/{session_id}", tag: tag,
		summary: "End a call for everybody: for admins and the owner of its group; in rooms of two, for both"},
		func(ctx context.Context, in *oneInput) (*Success, error) {
			id, err := sessionID(in.Session)
			if err != nil {
				return nil, err
			}
			return success(store.End(ctx, caller(ctx).User, id))
		})

	type turnOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         struct {
			ICEServers []cred.ICEServer `json:"ice_servers" nullable:"false" doc:"RTCIceServer each, the nearest region first; those that are about to go are left out. Credentials are yours, and good until expires_at: ask again before"`
			ExpiresAt  *time.Time       `json:"expires_at,omitempty"`
		}
	}
	register(a, operation{id: "turn", method: http.MethodGet, path: "/turn", tag: tag, summary: "Servers through which a call gets where nothing else gets through"},
		func(ctx context.Context, _ *struct{}) (*turnOutput, error) {
			out := &turnOutput{CacheControl: "private, no-store"}
			if a.Calls.ICE != nil {
				out.Body.ICEServers = a.Calls.ICE.ICEServers(caller(ctx).User)
			}
			if len(out.Body.ICEServers) == 0 {
				out.Body.ICEServers = []cred.ICEServer{}
				return out, nil
			}
			if _, until, err := cred.Parse(out.Body.ICEServers[0].Username); err == nil {
				out.Body.ExpiresAt = new(until.UTC())
			}
			return out, nil
		})
}
