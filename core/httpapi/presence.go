package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/presence"
)

// Live is what the operations on presence need of the mesh: who is here now.
// Who may ask is checked before it is called.
type Live interface {
	// Live returns how a user is present in any of these rooms: LIVE if one of
	// their devices is, else SUSPENDED if one is, else LEFT. It answers for as
	// much of the mesh as this node knows of; STATE_UNSPECIFIED is "I can't tell".
	Live(ctx context.Context, user string, rooms []string) (wire.State, error)
	// People returns a page of a room's people by user id: those after the id
	// (empty: from the start), at most limit; without those with whom the viewer is
	// on no terms, who are not counted either.
	People(ctx context.Context, viewer, room, after string, limit int) (*wire.PeoplePage, error)
}

// PresenceSettings are what users chose about how they are seen.
type PresenceSettings struct {
	Invisible        bool   `json:"invisible" doc:"Look offline to everybody else"`
	LastSeenAudience string `json:"last_seen_audience" enum:"everyone,groups,nobody" doc:"Who may know when you were here last: any user, those who share a group with you, nobody"`
}

// UserPresence is how somebody looks to the user who asks.
type UserPresence struct {
	State    string     `json:"state" enum:"online,away,offline,unknown" doc:"away: every connection of theirs is lost, and they may be back any moment; unknown: it can't be told, or you share no group"`
	LastSeen *time.Time `json:"last_seen,omitempty" doc:"When they were here last; absent while they are online, when it is not known, and when you may not know"`
}

// GroupPresence is a page of who is in a group's room now.
type GroupPresence struct {
	Counts PresenceCounts `json:"counts"`
	People []LivePerson   `json:"people" nullable:"false" doc:"By user id"`
}

// PresenceCounts count people, not devices, over the whole room.
type PresenceCounts struct {
	Live      uint32 `json:"live"`
	Suspended uint32 `json:"suspended" doc:"Those of whom every connection is lost, within the grace time"`
}

// LivePerson is somebody in a room.
type LivePerson struct {
	User    string       `json:"user" doc:"User id"`
	Name    string       `json:"name"`
	State   string       `json:"state" enum:"online,away,offline,unknown" doc:"Merged from the devices: online if any is"`
	Devices []LiveDevice `json:"devices" nullable:"false"`
}

// LiveDevice is one of a person's devices.
type LiveDevice struct {
	Device    string     `json:"device"`
	State     string     `json:"state" enum:"online,away,offline,unknown"`
	Since     *time.Time `json:"since,omitempty" doc:"Of the state"`
	Region    string     `json:"region"`
	Node      string     `json:"node"`
	Transport string     `json:"transport,omitempty" enum:"webtransport,websocket"`
}

// stateName says a state of the realtime protocol in the words of people.
func stateName(s wire.State) string {
	switch s {
	case wire.State_LIVE:
		return "online"
	case wire.State_SUSPENDED:
		return "away"
	case wire.State_LEFT:
		return "offline"
	default:
		return "unknown"
	}
}

func livePersonOf(p *wire.Person) LivePerson {
	out := LivePerson{User: p.User, Name: p.Name, State: "unknown", Devices: make([]LiveDevice, len(p.Devices))}
	best := wire.State_STATE_UNSPECIFIED
	for i, d := range p.Devices {
		out.Devices[i] = LiveDevice{Device: d.Device, State: stateName(d.State), Region: d.Region, Node: d.Node}
		if d.Since != nil {
			since := d.Since.AsTime()
			out.Devices[i].Since = &since
		}
		switch d.Transport {
		case wire.Transport_WEBTRANSPORT:
			out.Devices[i].Transport = "webtransport"
		case wire.Transport_WEBSOCKET:
			out.Devices[i].Transport = "websocket"
		}
		if best == wire.State_STATE_UNSPECIFIED || d.State != wire.State_STATE_UNSPECIFIED && d.State < best {
			best = d.State // LIVE is before SUSPENDED before LEFT
		}
	}
	out.State = stateName(best)
	return out
}

func (a *api) presenceOperations() {
	const tag = "presence"

	type settingsOutput struct{ Body PresenceSettings }
	settings := func(s presence.Settings, err error) (*settingsOutput, error) {
		if err != nil {
			return nil, err
		}
		return &settingsOutput{PresenceSettings{Invisible: s.Invisible, LastSeenAudience: string(s.LastSeen)}}, nil
	}
	register(a, operation{id: "get-presence-settings", method: http.MethodGet, path: "/me/presence", tag: tag, summary: "How the signed-in user wants to be seen"},
		func(ctx context.Context, _ *struct{}) (*settingsOutput, error) {
			return settings(a.Presence.Get(ctx, caller(ctx).User))
		})

	type settingsInput struct {
		Body struct {
			Invisible        *bool   `json:"invisible,omitempty" doc:"Absent: unchanged"`
			LastSeenAudience *string `json:"last_seen_audience,omitempty" doc:"everyone, groups or nobody; absent: unchanged"`
		}
	}
	register(a, operation{id: "patch-presence-settings", method: http.MethodPatch, path: "/me/presence", tag: tag, spreads: true, summary: "Change how the signed-in user wants to be seen; it holds at once, for open sessions too"},
		func(ctx context.Context, in *settingsInput) (*settingsOutput, error) {
			return settings(a.Presence.Update(ctx, caller(ctx).User,
				presence.Change{Invisible: in.Body.Invisible, LastSeen: (*presence.Audience)(in.Body.LastSeenAudience)}))
		})

	type userInput struct {
		UserID string `path:"user_id"`
	}
	type userOutput struct{ Body UserPresence }
	register(a, operation{id: "get-user-presence", method: http.MethodGet, path: "/users/{user_id}/presence", tag: tag, summary: "How somebody looks who shares a group with you, and when they were here last"},
		func(ctx context.Context, in *userInput) (*userOutput, error) {
			user, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			v, err := a.Presence.View(ctx, caller(ctx).User, user)
			if err != nil {
				return nil, err
			}
			out := &userOutput{UserPresence{State: stateName(a.liveState(ctx, user, v))}}
			if out.Body.State != "online" && !v.LastSeen.IsZero() {
				out.Body.LastSeen = &v.LastSeen
			}
			return out, nil
		})

	if a.Live == nil {
		return
	}
	type groupPresenceInput struct {
		GroupID string `path:"group_id"`
		After   string `query:"after" doc:"From the Link header of the page before: the last user id of it"`
		Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
	}
	type groupPresenceOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body GroupPresence
	}
	register(a, operation{id: "list-presence", method: http.MethodGet, path: "/groups/{group_id}/presence", tag: tag, summary: "Who is in a group's room now, and how many"},
		func(ctx context.Context, in *groupPresenceInput) (*groupPresenceOutput, error) {
			id, _, err := a.standing(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			if in.After != "" {
				if _, err := userID(in.After, "query.after"); err != nil {
					return nil, err
				}
			}
			page, err := a.Live.People(ctx, caller(ctx).User.String(), id.Room(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &groupPresenceOutput{}
			out.Body.Counts = PresenceCounts{Live: page.GetCounts().GetLive(), Suspended: page.GetCounts().GetSuspended()}
			out.Body.People = make([]LivePerson, len(page.GetPeople()))
			for i, p := range page.GetPeople() {
				out.Body.People[i] = livePersonOf(p)
			}
			if n := len(out.Body.People); n > 0 && page.GetMore() {
				out.Link = "<" + prefix + "/groups/" + in.GroupID + "/presence?after=" + url.QueryEscape(out.Body.People[n-1].User) +
					"&limit=" + strconv.Itoa(in.Limit) + `>; rel="next"`
			}
			return out, nil
		})
}

// liveState is how a user looks to somebody with this view. Whoever shares no
// group can't tell the invisible from others: to them it is unknown of everybody.
func (a *api) liveState(ctx context.Context, user core.UserID, v presence.View) wire.State {
	switch {
	case len(v.Shared) == 0 || a.Live == nil:
		return wire.State_STATE_UNSPECIFIED
	case v.Invisible:
		return wire.State_LEFT
	}
	rooms := make([]string, len(v.Shared))
	for i, g := range v.Shared {
		rooms[i] = g.Room()
	}
	state, err := a.Live.Live(ctx, user.String(), rooms)
	if err != nil {
		a.Log.WarnContext(ctx, "presence not known", "err", err)
		return wire.State_STATE_UNSPECIFIED
	}
	return state
}
