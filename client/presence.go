package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// PresenceSettings are what a user chose about how they are seen.
type PresenceSettings struct {
	Invisible        bool   `json:"invisible"`          // look offline to everybody else
	LastSeenAudience string `json:"last_seen_audience"` // everyone, groups or nobody
}

// PresenceChange names what is to be replaced; nil leaves a setting as it is.
type PresenceChange struct {
	Invisible        *bool   `json:"invisible,omitempty"`
	LastSeenAudience *string `json:"last_seen_audience,omitempty"`
}

// UserPresence is how somebody looks to the user who asks.
type UserPresence struct {
	State    string    `json:"state"`     // online, away, offline or unknown
	LastSeen time.Time `json:"last_seen"` // zero while they are online, and when it can't be known
}

// PresenceSettings returns how the signed-in user wants to be seen.
func (a *API) PresenceSettings(ctx context.Context) (s PresenceSettings, err error) {
	return s, a.call(ctx, http.MethodGet, "/api/v1/me/presence", nil, &s)
}

// UpdatePresence changes how the signed-in user wants to be seen. It holds at
// once, for open sessions too.
func (a *API) UpdatePresence(ctx context.Context, c PresenceChange) (s PresenceSettings, err error) {
	return s, a.call(ctx, http.MethodPatch, "/api/v1/me/presence", c, &s)
}

// UserPresence returns how somebody looks who shares a group with the user. To
// follow people, join a room with a Session instead of asking again and again.
func (a *API) UserPresence(ctx context.Context, userID string) (p UserPresence, err error) {
	return p, a.call(ctx, http.MethodGet, "/api/v1/users/"+url.PathEscape(userID)+"/presence", nil, &p)
}
