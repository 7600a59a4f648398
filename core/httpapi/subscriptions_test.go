package httpapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/subscriptions"
	"github.com/mustermesh/muster/core/users"
)

// orders are payments that were asked for: it satisfies subscriptions.Gateway.
type orders []subscriptions.Order

func (o *orders) Charge(_ context.Context, _ pgx.Tx, order subscriptions.Order) error {
	*o = append(*o, order)
	return nil
}

func (*orders) Return(context.Context, pgx.Tx, uuid.UUID) error { return nil }

// withSubscriptions adds plans and subscriptions to an API.
func withSubscriptions(cfg *Config, gateway subscriptions.Gateway) {
	cfg.Subscriptions = subscriptions.New(cfg.DB, ledger.New(cfg.DB, ledger.Config{Now: cfg.Now}), gateway,
		subscriptions.Config{Now: cfg.Now, Notify: cfg.Notifications, Changed: users.Changed})
	cfg.Users.OnGet(func(ctx context.Context, q db.Querier, user core.UserID) (users.Subscription, error) {
		state, err := cfg.Subscriptions.Status(ctx, q, user)
		return users.Subscription(state), err
	})
}

// subscribed has all people on a trial.
func subscribed(w *world) map[string]string {
	w.once("subscribed", func() string {
		for name, p := range w.people {
			if name != "deleted" {
				w.ok("POST", "/users/subscription", p.token, obj{"plan_id": "plus", "payment_method": "pm_card_visa"})
			}
		}
		return "yes"
	})
	return nil
}

func TestSubscription(t *testing.T) {
	var asked orders
	b := setup(t, func(cfg *Config) { withSubscriptions(cfg, &asked) })
	ana := b.guest("Ana")
	plans := b.ok("GET", "/plans", ana.token, nil).body["plans"].([]any)
	require.Len(t, plans, 3)
	require.Equal(t, "free", plans[0].(obj)["plan_id"])
	require.Equal(t, obj{"amount": 399.0, "currency": "EUR"}, plans[1].(obj)["prices"].([]any)[0])

	now := b.ok("GET", "/users/subscription", ana.token, nil).body
	require.Equal(t, "free", now["subscription_status"])
	require.Nil(t, now["subscription_expiry"])
	require.Contains(t, now, "subscription_expiry")
	free := now["features"].(obj)["upload_bytes"].(float64)
	for _, c := range []struct{ body, code string }{
		{`{"plan_id":"gold","payment_method":"pm_card_visa"}`, "plan_not_found"},
		{`{"plan_id":"plus","payment_method":""}`, "bad_payment_method"},
		{`{"plan_id":"plus","payment_method":"pm_card_visa","currency":"KWD"}`, "currency_not_offered"},
	} {
		a := b.request("POST", "/users/subscription", ana.token, c.body)
		require.Equal(t, c.code, a.body["code"], c.body)
	}
	require.Equal(t, "no_subscription", b.request("DELETE", "/users/subscription", ana.token, nil).body["code"])

	got := b.ok("POST", "/users/subscription", ana.token, obj{"plan_id": "plus", "payment_method": "pm_card_visa"}).body
	require.Equal(t, true, got["success"])
	require.Equal(t, "trialing", got["subscription"].(obj)["subscription_status"])
	require.Empty(t, asked)
	now = b.ok("GET", "/users/subscription", ana.token, nil).body
	require.Equal(t, "trialing", now["subscription_status"])
	expiry, err := time.Parse(time.RFC3339, now["subscription_expiry"].(string))
	require.NoError(t, err)
	require.WithinDuration(t, b.clock().Add(14*24*time.Hour), expiry, time.Minute)
	require.Greater(t, now["features"].(obj)["upload_bytes"], free)
	require.Equal(t, "trialing", b.ok("GET", "/users/profile", ana.token, nil).body["subscription_status"])

	require.Equal(t, "canceled", b.ok("DELETE", "/users/subscription", ana.token, nil).body["subscription"].(obj)["subscription_status"])
	require.Equal(t, "trialing", b.ok("POST", "/users/subscription/resume", ana.token, nil).body["subscription"].(obj)["subscription_status"])

	// Another one pays at once, and the key makes it one payment.
	bob := b.guest("Bob")
	pro := obj{"plan_id": "pro", "payment_method": "pm_card_visa", "currency": "JPY"}
	for range 2 {
		got = b.request("POST", "/users/subscription", bob.token, pro, "Idempotency-Key", strings.Repeat("k", 20)).body["subscription"].(obj)
		require.Equal(t, "incomplete", got["subscription_status"])
		require.Len(t, asked, 1)
		require.Equal(t, asked[0].ID.String(), got["payment_id"])
		require.Equal(t, obj{"amount": 1500.0, "currency": "JPY"}, got["price"])
	}
	require.Equal(t, "payment_pending", b.request("POST", "/users/subscription", bob.token, pro).body["code"])
	require.Equal(t, "incomplete", b.ok("GET", "/users/profile", bob.token, nil).body["subscription_status"])
}

func TestNobodyCanPay(t *testing.T) {
	b := setup(t, func(cfg *Config) { withSubscriptions(cfg, nil) })
	a := b.request("POST", "/users/subscription", b.guest("Ana").token, obj{"plan_id": "plus", "payment_method": "pm_card_visa"})
	require.Equal(t, "no_payments", a.body["code"])
}
