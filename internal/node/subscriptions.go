package node

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/subscriptions"
	"github.com/mustermesh/muster/core/users"
)

// paysFor is what payments of subscriptions are called.
const paysFor = "subscription"

// newSubscriptions makes what users pay for again and again, by the payments that
// there are; nil: nobody can subscribe.
func newSubscriptions(cfg *Config, books *ledger.Store, money *payments.Store, people *users.Store, told subscriptions.Notifier, w *work) *subscriptions.Store {
	var gateway subscriptions.Gateway
	if money != nil {
		gateway = charging{money}
	}
	s := subscriptions.New(cfg.DB, books, gateway, subscriptions.Config{Notify: told, Changed: users.Changed})
	if money != nil {
		money.For(paysFor, subscriptionPayments{s})
	}
	people.OnGet(func(ctx context.Context, q db.Querier, user core.UserID) (users.Subscription, error) {
		state, err := s.Status(ctx, q, user)
		return users.Subscription(state), err
	})
	w.Schedule(jobs.Schedule{
		Name: "renew_subscriptions", Every: subscriptions.RenewEvery, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.RenewDue(ctx) },
	})
	return s
}

// allowance is how much of something a user may have, for what they pay.
type allowance = func(ctx context.Context, user core.UserID) (int64, error)

// limit is the number that users' plans set for a feature, without a bound where
// theirs sets none. What it asks is made later than who asks it.
func limit(s **subscriptions.Store, feature string) allowance {
	return func(ctx context.Context, user core.UserID) (int64, error) {
		n, ok, err := (*s).Entitlements().Limit(ctx, user, feature)
		if err == nil && !ok {
			n = math.MaxInt64
		}
		return n, err
	}
}

// charging is core/payments as core/subscriptions sees it: neither knows the other.
type charging struct{ *payments.Store }

// Charge satisfies subscriptions.Gateway.
func (c charging) Charge(ctx context.Context, tx pgx.Tx, o subscriptions.Order) error {
	_, err := c.Start(ctx, tx, payments.Charge{
		ID: o.ID, User: o.User, Kind: paysFor, Ref: o.Charge, Money: o.Amount, Method: o.Method, OffSession: o.Away, Save: !o.Away,
	})
	return err
}

// Return satisfies subscriptions.Gateway.
func (c charging) Return(ctx context.Context, tx pgx.Tx, payment uuid.UUID) error {
	return c.GiveBack(ctx, tx, payment)
}

// subscriptionPayments is core/subscriptions as core/payments sees it.
type subscriptionPayments struct{ *subscriptions.Store }

func paymentOf(p payments.Payment) subscriptions.Payment {
	return subscriptions.Payment{ID: p.ID, Charge: p.Ref, User: p.User, Method: p.Method, Refunded: p.Refunded}
}

// Paid satisfies payments.Purpose.
func (s subscriptionPayments) Paid(ctx context.Context, tx pgx.Tx, p payments.Payment) error {
	return s.Store.Paid(ctx, tx, paymentOf(p))
}

// Failed satisfies payments.Purpose.
func (s subscriptionPayments) Failed(ctx context.Context, tx pgx.Tx, p payments.Payment) error {
	return s.Store.Failed(ctx, tx, paymentOf(p))
}

// Refunded satisfies payments.Purpose.
func (s subscriptionPayments) Refunded(ctx context.Context, tx pgx.Tx, p payments.Payment, r payments.Refund) error {
	return s.Store.Refunded(ctx, tx, paymentOf(p), r.ID)
}
