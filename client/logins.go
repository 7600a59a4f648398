package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// LoginInfo is a device that is signed in.
type LoginInfo struct {
	LoginID    string    `json:"login_id"`
	DeviceInfo any       `json:"device_info"` // what the app said about it
	Network    string    `json:"network"`     // from which it signed in; empty: not known
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	Current    bool      `json:"current"` // the one that asks
}

// Logins lists where the user is signed in, the newest first.
func (a *API) Logins(ctx context.Context) ([]LoginInfo, error) {
	return pages[LoginInfo](ctx, a, "/api/v1/auth/logins?limit=200", "logins")
}

// EndLogin signs a device out; its sessions are closed when it returns.
func (a *API) EndLogin(ctx context.Context, loginID string) error {
	return a.call(ctx, http.MethodDelete, "/api/v1/auth/logins/"+url.PathEscape(loginID), nil, nil)
}

// EndOtherLogins signs all other devices out, and returns how many.
func (a *API) EndOtherLogins(ctx context.Context) (int, error) {
	var out struct{ Ended int }
	err := a.call(ctx, http.MethodDelete, "/api/v1/auth/logins", nil, &out)
	return out.Ended, err
}
