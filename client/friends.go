package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Friend is somebody who is a friend of the user's, or was asked to be one, or asks.
type Friend struct {
	UserID         string    `json:"user_id"`
	Username       string    `json:"username"`
	ProfilePicture string    `json:"profile_picture"`
	Since          time.Time `json:"since"` // when they became friends, or it was asked
}

// Friends lists the user's friends, the latest first.
func (a *API) Friends(ctx context.Context) ([]Friend, error) {
	return pages[Friend](ctx, a, "/api/v1/friends?limit=200", "friends")
}

// FriendRequests lists open requests, the latest first: those that the user got, or
// sent.
func (a *API) FriendRequests(ctx context.Context, sent bool) ([]Friend, error) {
	direction := "received"
	if sent {
		direction = "sent"
	}
	type request struct {
		Friend
		CreatedAt time.Time `json:"created_at"`
	}
	all, err := pages[request](ctx, a, "/api/v1/friends/requests?limit=200&direction="+direction, "requests")
	out := make([]Friend, len(all))
	for i, r := range all {
		out[i] = r.Friend
		out[i].Since = r.CreatedAt
	}
	return out, err
}

// RequestFriend asks somebody to be friends. They are at once if they had asked.
func (a *API) RequestFriend(ctx context.Context, userID string) (friends bool, err error) {
	var out struct {
		Relation string `json:"relation"`
	}
	err = a.call(ctx, http.MethodPost, "/api/v1/friends/requests", map[string]string{"user_id": userID}, &out)
	return out.Relation == "friends", err
}

// AcceptFriend accepts a request.
func (a *API) AcceptFriend(ctx context.Context, userID string) error {
	return a.call(ctx, http.MethodPost, friendRequest(userID)+"/accept", nil, nil)
}

// DeclineFriend declines a request; it can't be repeated for a while.
func (a *API) DeclineFriend(ctx context.Context, userID string) error {
	return a.call(ctx, http.MethodPost, friendRequest(userID)+"/decline", nil, nil)
}

// CancelFriend takes the user's own request back.
func (a *API) CancelFriend(ctx context.Context, userID string) error {
	return a.call(ctx, http.MethodDelete, friendRequest(userID), nil, nil)
}

// Unfriend ends a friendship.
func (a *API) Unfriend(ctx context.Context, userID string) error {
	return a.call(ctx, http.MethodDelete, "/api/v1/friends/"+url.PathEscape(userID), nil, nil)
}

func friendRequest(userID string) string {
	return "/api/v1/friends/requests/" + url.PathEscape(userID)
}

// Found is somebody who was found by name.
type Found struct {
	UserID         string `json:"user_id"`
	Username       string `json:"username"`
	ProfilePicture string `json:"profile_picture"`
	Relation       string `json:"relation"` // none, friends, or an open request: sent, received
}

// SearchPeople finds those who chose to be found, by how a word of their name begins:
// the first 50.
func (a *API) SearchPeople(ctx context.Context, name string) ([]Found, error) {
	var out struct{ People []Found }
	err := a.call(ctx, http.MethodGet, "/api/v1/users/search?limit=50&q="+url.QueryEscape(name), nil, &out)
	return out.People, err
}

// SetDiscoverable chooses whether the user is found by name.
func (a *API) SetDiscoverable(ctx context.Context, found bool) error {
	return a.call(ctx, http.MethodPut, "/api/v1/users/discoverable", map[string]bool{"discoverable": found}, nil)
}
