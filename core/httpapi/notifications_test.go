package httpapi

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/jobs"
)

// notified is a bundle with a queue that does the work of notifications.
func notified(t *testing.T) (*bundle, *Notifications) {
	var n *Notifications
	b := setup(t, func(c *Config) { n = c.Notifications })
	q := jobs.New(b.db, jobs.Config{Poll: 100 * time.Millisecond})
	n.Handle(q)
	require.NoError(t, q.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(q.Stop)
	return b, n
}

func TestNotificationsOfAUser(t *testing.T) {
	b, n := notified(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	to, err := core.ParseUserID(ana.id)
	require.NoError(t, err)
	for range 3 {
		b.advance(time.Second)
		require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			return n.Notify(ctx, tx, to, "friend_request", obj{"user_id": bob.id})
		}))
	}
	require.Eventually(t, func() bool { return b.ok("GET", "/notifications/unread", ana.token, nil).body["unread"] == 3.0 }, 10*time.Second, 20*time.Millisecond)
	require.EqualValues(t, 0, b.ok("GET", "/notifications/unread", bob.token, nil).body["unread"])

	page := b.ok("GET", "/notifications?limit=2&unread=true", ana.token, nil)
	list := page.body["notifications"].([]any)
	require.Len(t, list, 2)
	newest := list[0].(obj)
	require.Equal(t, "friend_request", newest["kind"])
	require.Equal(t, "Bob wants to be friends", newest["title"])
	require.Equal(t, obj{"user_id": bob.id}, newest["data"])
	next := strings.TrimSuffix(strings.TrimPrefix(page.Header.Get("Link"), "<"+prefix), `>; rel="next"`)
	require.Contains(t, next, "unread=true")
	rest := b.ok("GET", next, ana.token, nil)
	require.Len(t, rest.body["notifications"], 1)
	require.Empty(t, rest.Header.Get("Link"))

	id := newest["notification_id"].(string)
	b.ok("POST", "/notifications/"+id+"/read", ana.token, nil)
	b.refused(404, "notification_not_found", "POST", "/notifications/"+id+"/read", bob.token, nil)
	require.EqualValues(t, 2, b.ok("GET", "/notifications/unread", ana.token, nil).body["unread"])
	deliveries := b.ok("GET", "/notifications/"+id+"/deliveries", ana.token, nil).body["deliveries"].([]any)
	require.Len(t, deliveries, 1)
	require.Equal(t, "app", deliveries[0].(obj)["channel"])
	require.Equal(t, "sent", deliveries[0].(obj)["state"])
	b.ok("POST", "/notifications/read", ana.token, obj{"until": newest["created_at"]})
	require.EqualValues(t, 0, b.ok("GET", "/notifications/unread", ana.token, nil).body["unread"])
}

func TestNotificationSettings(t *testing.T) {
	b, _ := notified(t)
	ana := b.guest("Ana")
	before := b.ok("GET", "/notifications/settings", ana.token, nil).body
	require.Equal(t, obj{"from": "00:00", "until": "00:00"}, before["quiet_hours"])
	after := b.ok("PUT", "/notifications/settings", ana.token, obj{
		"language": "de-AT", "time_zone": "Europe/Vienna", "quiet_hours": obj{"from": "22:05", "until": "07:30"},
		"preferences": obj{"friend_request": obj{"push": false}},
	}).body
	require.Equal(t, "de-AT", after["language"])
	require.Equal(t, obj{"from": "22:05", "until": "07:30"}, after["quiet_hours"])
	require.Equal(t, false, after["preferences"].(obj)["friend_request"].(obj)["push"])
	require.Equal(t, true, after["preferences"].(obj)["friend_request"].(obj)["app"])
	require.Equal(t, after, b.ok("PUT", "/notifications/settings", ana.token, obj{}).body)
	require.Equal(t, after, b.ok("GET", "/notifications/settings", ana.token, nil).body)
	for _, c := range []struct {
		code string
		body obj
	}{
		{"bad_language", obj{"language": "what is that"}},
		{"bad_time_zone", obj{"time_zone": "../../etc/passwd"}},
		{"bad_request", obj{"quiet_hours": obj{"from": "24:00", "until": "07:00"}}},
		{"bad_preference", obj{"preferences": obj{"party": obj{"app": true}}}},
		{"bad_preference", obj{"preferences": obj{"friend_request": obj{"fax": true}}}},
	} {
		b.refused(400, c.code, "PUT", "/notifications/settings", ana.token, c.body)
	}
}

func TestPushSubscriptions(t *testing.T) {
	b, _ := notified(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	server, err := base64.RawURLEncoding.DecodeString(b.ok("GET", "/notifications/push", ana.token, nil).str("public_key"))
	require.NoError(t, err)
	_, err = ecdh.P256().NewPublicKey(server)
	require.NoError(t, err)
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	subscription := obj{"endpoint": "https://push.example.org/x", "expirationTime": nil, "keys": obj{"p256dh": encode(key.PublicKey().Bytes()), "auth": encode(make([]byte, 16))}}
	id := b.ok("POST", "/notifications/push", ana.token, subscription).str("subscription_id")
	require.Equal(t, id, b.ok("POST", "/notifications/push", ana.token, subscription).str("subscription_id"))
	b.refused(404, "subscription_not_found", "DELETE", "/notifications/push/"+id, bob.token, nil)
	b.ok("DELETE", "/notifications/push/"+id, ana.token, nil)
	b.refused(404, "subscription_not_found", "DELETE", "/notifications/push/"+id, ana.token, nil)
	subscription["endpoint"] = "https://10.0.0.1/x"
	b.refused(400, "bad_subscription", "POST", "/notifications/push", ana.token, subscription)
}

func TestWebhooksOfUsersAndGroups(t *testing.T) {
	b, _ := notified(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	group := b.group(ana, bob)
	for path, stranger := range map[string]struct {
		token  string
		status int
		code   string
	}{
		"/webhooks":                      {bob.token, 404, "webhook_not_found"},
		"/groups/" + group + "/webhooks": {eve.token, 404, "not_member"},
	} {
		made := b.ok("POST", path, ana.token, obj{"url": "https://example.org/hook"})
		require.True(t, strings.HasPrefix(made.str("secret"), "whsec_"))
		list := b.ok("GET", path, ana.token, nil).body["webhooks"].([]any)
		require.Len(t, list, 1)
		require.NotContains(t, list[0], "secret")
		b.refused(stranger.status, stranger.code, "DELETE", path+"/"+made.str("webhook_id"), stranger.token, nil)
		b.ok("DELETE", path+"/"+made.str("webhook_id"), ana.token, nil)
		b.refused(404, "webhook_not_found", "DELETE", path+"/"+made.str("webhook_id"), ana.token, nil)
		b.refused(400, "bad_url", "POST", path, ana.token, obj{"url": "http://example.org/hook"})
		b.refused(400, "bad_url", "POST", path, ana.token, obj{"url": "https://192.168.1.1/hook"})
	}
	b.refused(403, "role_required", "POST", "/groups/"+group+"/webhooks", bob.token, obj{"url": "https://example.org/hook"})
	b.refused(403, "role_required", "GET", "/groups/"+group+"/webhooks", bob.token, nil)
}
