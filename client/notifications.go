package client

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Notification is something the user was told, and can read again.
type Notification struct {
	NotificationID string         `json:"notification_id"`
	Kind           string         `json:"kind"`
	Title          string         `json:"title"` // in the user's language
	Text           string         `json:"text"`
	Data           map[string]any `json:"data"`
	CreatedAt      time.Time      `json:"created_at"`
	ReadAt         *time.Time     `json:"read_at"` // nil: not read
}

// Notifications returns the newest ones first, at most limit (200 is the most).
func (a *API) Notifications(ctx context.Context, limit int) ([]Notification, error) {
	var out struct{ Notifications []Notification }
	err := a.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/notifications?limit=%d", limit), nil, &out)
	return out.Notifications, err
}

// UnreadNotifications returns how many were not read, up to 1,000.
func (a *API) UnreadNotifications(ctx context.Context) (int, error) {
	var out struct{ Unread int }
	err := a.call(ctx, http.MethodGet, "/api/v1/notifications/unread", nil, &out)
	return out.Unread, err
}

// ReadNotifications marks all up to the newest one that was seen as read.
func (a *API) ReadNotifications(ctx context.Context, newest Notification) error {
	return a.call(ctx, http.MethodPost, "/api/v1/notifications/read", map[string]time.Time{"until": newest.CreatedAt}, nil)
}
