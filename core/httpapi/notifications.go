package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/webhook"
	"github.com/mustermesh/muster/core/notify/webpush"
)

// Notifications is what the operations on notifications and webhooks need.
type Notifications struct {
	*notify.Notifier
	Push     *webpush.Channel
	Webhooks *webhook.Channel
}

// Notification is one as its user sees it.
type Notification struct {
	NotificationID string         `json:"notification_id" doc:"UUID"`
	Kind           string         `json:"kind" doc:"What it is about" example:"friend_request"`
	Title          string         `json:"title" doc:"In the user's language"`
	Text           string         `json:"text"`
	Data           map[string]any `json:"data" doc:"Ids of what it is about, by kind"`
	CreatedAt      time.Time      `json:"created_at"`
	ReadAt         *time.Time     `json:"read_at,omitempty" doc:"Absent: not read"`
}

// NotificationDelivery is what became of a notification by one way.
type NotificationDelivery struct {
	Channel  string    `json:"channel"`
	State    string    `json:"state" enum:"queued,failed,sent,dead,muted" doc:"failed: it will be tried again; dead: given up; muted: not wanted, or read elsewhere"`
	Attempts int       `json:"attempts"`
	Detail   string    `json:"detail" doc:"Why it failed or was not sent"`
	At       time.Time `json:"at" doc:"Of the last change"`
}

// QuietHours are hours in which nothing disturbs.
type QuietHours struct {
	From  string `json:"from" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" example:"22:00"`
	Until string `json:"until" pattern:"^([01][0-9]|2[0-3]):[0-5][0-9]$" doc:"The same as from: there are none" example:"07:30"`
}

// Preferences say by which channels one is told of a kind.
type Preferences map[string]map[string]bool

// Schema of an object of objects of booleans.
func (Preferences) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeObject, Description: "By kind, then by channel", MaxProperties: new(100),
		AdditionalProperties: &huma.Schema{Type: huma.TypeObject, MaxProperties: new(20), AdditionalProperties: &huma.Schema{Type: huma.TypeBoolean}}}
	s.PrecomputeMessages()
	return s
}

// NotificationSettings are how a user wants to be told.
type NotificationSettings struct {
	Language    string      `json:"language" doc:"BCP 47; empty: the default"`
	TimeZone    string      `json:"time_zone" doc:"Of the IANA database; empty: UTC"`
	QuietHours  QuietHours  `json:"quiet_hours"`
	Preferences Preferences `json:"preferences"`
}

func settingsOf(w notify.Wishes) NotificationSettings {
	return NotificationSettings{
		Language: w.Language, TimeZone: w.Zone, Preferences: w.Preferences,
		QuietHours: QuietHours{clock(w.Quiet.From), clock(w.Quiet.Until)},
	}
}

// clock writes minutes after midnight.
func clock(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

// minutes reads them; the schema has checked the form.
func minutes(clock string) int {
	var h, m int
	_, _ = fmt.Sscanf(clock, "%d:%d", &h, &m)
	return h*60 + m
}

const tagNotifications = "notifications"

func (a *api) notificationOperations() {
	n := a.Notifications

	type listInput struct {
		Unread bool   `query:"unread" doc:"Only those that were not read"`
		Limit  int    `query:"limit" default:"30" minimum:"1" maximum:"100"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type listOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Notifications []Notification `json:"notifications" nullable:"false"`
		}
	}
	register(a, operation{id: "list-notifications", method: http.MethodGet, path: "/notifications", tag: tagNotifications, summary: "Your notifications, the newest first"},
		func(ctx context.Context, in *listInput) (*listOutput, error) {
			list, next, err := n.List(ctx, caller(ctx).User, in.Unread, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &listOutput{Link: nextPage("/notifications", in.Limit, next)}
			if in.Unread {
				out.Link = strings.Replace(out.Link, "?", "?unread=true&", 1)
			}
			out.Body.Notifications = make([]Notification, len(list))
			for i, x := range list {
				out.Body.Notifications[i] = Notification{x.ID.String(), x.Kind, x.Title, x.Text, x.Data, x.CreatedAt, x.ReadAt}
			}
			return out, nil
		})

	type unreadOutput struct {
		Body struct {
			Unread int `json:"unread" doc:"Up to 1,000"`
		}
	}
	register(a, operation{id: "count-notifications", method: http.MethodGet, path: "/notifications/unread", tag: tagNotifications, summary: "How many notifications you have not read"},
		func(ctx context.Context, _ *struct{}) (*unreadOutput, error) {
			count, err := n.Unread(ctx, caller(ctx).User)
			out := &unreadOutput{}
			out.Body.Unread = count
			return out, err
		})

	type readInput struct {
		Body struct {
			Until time.Time `json:"until" doc:"created_at of the newest one that was seen"`
		}
	}
	register(a, operation{id: "read-notifications", method: http.MethodPost, path: "/notifications/read", tag: tagNotifications, summary: "Mark all notifications up to a moment as read"},
		func(ctx context.Context, in *readInput) (*Success, error) {
			return success(n.ReadUntil(ctx, caller(ctx).User, in.Body.Until))
		})

	type oneInput struct {
		ID string `path:"notification_id"`
	}
	register(a, operation{id: "read-notification", method: http.MethodPost, path: "/notifications/{notification_id}/read", tag: tagNotifications, summary: "Mark a notification as read"},
		func(ctx context.Context, in *oneInput) (*Success, error) {
			id, err := pathID(in.ID, "notification_id")
			if err != nil {
				return nil, err
			}
			return success(n.Read(ctx, caller(ctx).User, id))
		})

	type deliveriesOutput struct {
		Body struct {
			Deliveries []NotificationDelivery `json:"deliveries" nullable:"false"`
		}
	}
	register(a, operation{id: "list-deliveries", method: http.MethodGet, path: "/notifications/{notification_id}/deliveries", tag: tagNotifications, summary: "What became of a notification, by each way"},
		func(ctx context.Context, in *oneInput) (*deliveriesOutput, error) {
			id, err := pathID(in.ID, "notification_id")
			if err != nil {
				return nil, err
			}
			list, err := n.Deliveries(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			out := &deliveriesOutput{}
			out.Body.Deliveries = make([]NotificationDelivery, len(list))
			for i, d := range list {
				out.Body.Deliveries[i] = NotificationDelivery(d)
			}
			return out, nil
		})

	type toldOutput struct{ Body NotificationSettings }
	register(a, operation{id: "get-notification-settings", method: http.MethodGet, path: "/notifications/settings", tag: tagNotifications, summary: "How you want to be told"},
		func(ctx context.Context, _ *struct{}) (*toldOutput, error) {
			w, err := n.Wishes(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			return &toldOutput{settingsOf(w)}, nil
		})

	type toldInput struct {
		Body struct {
			Language    *string     `json:"language,omitempty" doc:"BCP 47, or empty; absent: unchanged"`
			TimeZone    *string     `json:"time_zone,omitempty" doc:"Of the IANA database, or empty; absent: unchanged"`
			QuietHours  *QuietHours `json:"quiet_hours,omitempty" doc:"Absent: unchanged"`
			Preferences Preferences `json:"preferences,omitempty" doc:"What is named is changed"`
		}
	}
	register(a, operation{id: "put-notification-settings", method: http.MethodPut, path: "/notifications/settings", tag: tagNotifications, summary: "Change how you want to be told"},
		func(ctx context.Context, in *toldInput) (*toldOutput, error) {
			c := notify.WishChange{Language: in.Body.Language, Zone: in.Body.TimeZone, Preferences: in.Body.Preferences}
			if q := in.Body.QuietHours; q != nil {
				c.Quiet = &notify.Quiet{From: minutes(q.From), Until: minutes(q.Until)}
			}
			w, err := n.ChangeWishes(ctx, caller(ctx).User, c)
			if err != nil {
				return nil, err
			}
			return &toldOutput{settingsOf(w)}, nil
		})

	a.pushOperations()
}

func (a *api) pushOperations() {
	n := a.Notifications

	type keyOutput struct {
		Body struct {
			PublicKey string `json:"public_key" doc:"The applicationServerKey to subscribe with, base64url"`
		}
	}
	register(a, operation{id: "get-push-key", method: http.MethodGet, path: "/notifications/push", tag: tagNotifications, summary: "The key with which a browser subscribes to pushes"},
		func(ctx context.Context, _ *struct{}) (*keyOutput, error) {
			key, err := n.Push.PublicKey(ctx)
			out := &keyOutput{}
			out.Body.PublicKey = key
			return out, err
		})

	type subscribeInput struct {
		Body struct {
			Endpoint       string   `json:"endpoint" maxLength:"2048"`
			ExpirationTime *float64 `json:"expirationTime,omitempty" doc:"Browsers give it; not used"`
			Keys           struct {
				P256DH string `json:"p256dh" maxLength:"100"`
				Auth   string `json:"auth" maxLength:"30"`
			} `json:"keys"`
		}
	}
	type subscribeOutput struct {
		Body struct {
			SubscriptionID string `json:"subscription_id" doc:"UUID"`
		}
	}
	register(a, operation{id: "subscribe-push", method: http.MethodPost, path: "/notifications/push", tag: tagNotifications, status: http.StatusCreated,
		summary: "Have this browser told by web push: send its PushSubscription. It ends with the login"},
		func(ctx context.Context, in *subscribeInput) (*subscribeOutput, error) {
			who := caller(ctx)
			id, err := n.Push.Subscribe(ctx, who.User, who.Login, webpush.Subscription{Endpoint: in.Body.Endpoint, P256DH: in.Body.Keys.P256DH, Auth: in.Body.Keys.Auth})
			out := &subscribeOutput{}
			out.Body.SubscriptionID = id.String()
			return out, err
		})

	type unsubscribeInput struct {
		ID string `path:"subscription_id"`
	}
	register(a, operation{id: "unsubscribe-push", method: http.MethodDelete, path: "/notifications/push/{subscription_id}", tag: tagNotifications, summary: "Have a browser told no more"},
		func(ctx context.Context, in *unsubscribeInput) (*Success, error) {
			id, err := pathID(in.ID, "subscription_id")
			if err != nil {
				return nil, err
			}
			return success(n.Push.Unsubscribe(ctx, caller(ctx).User, id))
		})
}
