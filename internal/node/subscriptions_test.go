package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/local"
	"github.com/mustermesh/muster/core/payments/stripe"
	"github.com/mustermesh/muster/core/subscriptions"
	"github.com/mustermesh/muster/core/users"
)

// From a trial to a renewal that is declined, through the payments and the gateway's
// protocol: what is charged is in the user's book once, and comes to nothing there.
func TestSubscriptionsArePaid(t *testing.T) {
	d := devdb.Test(t)
	books := ledger.New(d, ledger.Config{})
	var money *payments.Store
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if assert.NoError(t, err) && money.Hook(r.Context(), stripe.Name, r.Header, body) != nil {
			w.WriteHeader(http.StatusInternalServerError) // it is sent again
		}
	}))
	t.Cleanup(hook.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	there, err := local.New(l, local.Config{Webhook: hook.URL, Slow: 10 * time.Millisecond, Chaos: local.Chaos{Double: 0.3, Seed: 8}})
	require.NoError(t, err)
	gateway, err := stripe.New(stripe.Config{Key: there.Key(), Secrets: []string{there.Secret()}, URL: there.URL()})
	require.NoError(t, err)
	money = payments.New(d, books, gateway, payments.Config{})

	var ahead atomic.Int64
	pays := subscriptions.New(d, books, charging{money}, subscriptions.Config{Changed: users.Changed,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	money.For(paysFor, subscriptionPayments{pays})
	queue := jobs.New(d, jobs.Config{})
	queue.Handle(payments.Job, jobs.Handler{Do: money.Do})
	require.NoError(t, there.Start(t.Context()))
	t.Cleanup(there.Stop)
	require.NoError(t, queue.Start(t.Context()))
	t.Cleanup(queue.Stop)

	ana := core.UserID(uuid.New())
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, 'ana', 'ana', true, 'eu-west')`, ana)
		return err
	}))
	until := func(want subscriptions.State, period int64) (s subscriptions.Subscription) {
		t.Helper()
		require.Eventually(t, func() bool {
			s, err = pays.Get(t.Context(), ana)
			return err == nil && s.Status() == want && s.Period == period && (s.Charge == nil || s.Charge.Trying == uuid.Nil)
		}, 20*time.Second, 10*time.Millisecond, "%s, period %d", want, period)
		return s
	}
	later := func(days int) {
		ahead.Add(int64(time.Duration(days) * 24 * time.Hour))
		require.NoError(t, pays.RenewDue(t.Context()))
	}
	subscribe := func(plan, method string) {
		t.Helper()
		_, err := pays.Subscribe(t.Context(), ana, plan, method, "EUR")
		require.NoError(t, err)
	}

	subscribe("plus", "pm_local_failsLater")
	until(subscriptions.Trialing, 0)
	later(14) // the first payment saves the method
	s := until(subscriptions.Active, 1)
	require.True(t, s.Saved)
	later(31)
	s = until(subscriptions.PastDue, 1)
	require.False(t, s.Charge.NextTry.IsZero())
	subscribe("plus", "pm_card_visa")
	s = until(subscriptions.Active, 2)
	later(31)
	until(subscriptions.Active, 3)
	subscribe("pro", "pm_card_chargeDeclined")
	s = until(subscriptions.Active, 3)
	require.Equal(t, "plus", s.Terms.Plan)
	subscribe("pro", "pm_card_visa")
	s = until(subscriptions.Active, 4)
	require.Equal(t, "pro", s.Terms.Plan)

	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		balances, err := books.Balances(ctx, q, ledger.UserBook(ana))
		if err != nil {
			return err
		}
		var paid int64
		if err := q.QueryRow(ctx, `SELECT sum(amount)::BIGINT FROM subscription_charges WHERE user_id = $1 AND state = 'paid'`, ana).Scan(&paid); err != nil {
			return err
		}
		got := map[ledger.Account]int64{}
		for _, b := range balances {
			got[b.Account] = b.Money.Amount
		}
		require.Greater(t, paid, int64(3*399))
		require.Equal(t, paid, got[ledger.Platform])
		require.Equal(t, -paid, got[ledger.Gateway(stripe.Name)])
		require.Zero(t, got[ledger.User(ana)])
		return nil
	}))
	report, err := books.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Faults)
}
