package node

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/local"
	"github.com/mustermesh/muster/core/payments/stripe"
)

// StripeConfig is how the deployment is known at Stripe; without a key nobody pays by
// card.
type StripeConfig struct {
	Key           string `yaml:"-"`                   // from the environment, or from
	KeyFile       string `yaml:"key_file"`            // this
	WebhookSecret string `yaml:"-"`                   // of the webhook's endpoint; from the environment, or from
	SecretFile    string `yaml:"webhook_secret_file"` // this, one a line: several while one takes the place of another
	// ReturnURL is the app's page to which banks send people back. Default: the app.
	ReturnURL string `yaml:"return_url"`
	URL       string `yaml:"url"` // of the API; default: Stripe's
}

// Override puts what flags or the environment say in the place of what c says.
func (c *StripeConfig) Override(o StripeConfig) {
	c.Key, c.WebhookSecret = cmp.Or(o.Key, c.Key), cmp.Or(o.WebhookSecret, c.WebhookSecret)
	c.ReturnURL, c.URL = cmp.Or(o.ReturnURL, c.ReturnURL), cmp.Or(o.URL, c.URL)
}

// gateway returns nil if nobody pays by card.
func (c StripeConfig) gateway(app string) (payments.Gateway, error) {
	for what, f := range map[string]struct {
		file string
		into *string
	}{"key": {c.KeyFile, &c.Key}, "webhook secret": {c.SecretFile, &c.WebhookSecret}} {
		if f.file == "" || *f.into != "" {
			continue
		}
		b, err := os.ReadFile(f.file)
		if err != nil {
			return nil, fmt.Errorf("stripe: %s: %w", what, err)
		}
		*f.into = strings.TrimSpace(string(b))
	}
	if c.Key == "" {
		return nil, nil
	}
	g, err := stripe.New(stripe.Config{Key: c.Key, Secrets: strings.Fields(strings.ReplaceAll(c.WebhookSecret, ",", " ")), Return: cmp.Or(c.ReturnURL, app), URL: c.URL})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// paysSettlement is what payments of settlements are called.
const paysSettlement = "settlement"

// newPayments makes what takes money by a gateway; nil without one. What else payments
// are for is said by For.
func newPayments(cfg *Config, books *ledger.Store, money *expenses.Store, w *work) (*payments.Store, error) {
	gateway, err := cfg.Stripe.gateway(appBase(cfg.InviteBase))
	if gateway == nil {
		return nil, err
	}
	s := payments.New(cfg.DB, books, gateway, payments.Config{Log: cfg.Log, Metrics: cfg.Metrics})
	s.For(paysSettlement, settlementPaid{money})
	w.Handle(payments.Job, jobs.Handler{Do: s.Do, Workers: 4, Timeout: 2 * time.Minute})
	w.Schedule(jobs.Schedule{
		Name: "payments_due", Every: payments.DueEvery, Late: jobs.LateOnce, Timeout: time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.CheckDue(ctx) },
	})
	w.Schedule(jobs.Schedule{
		Name: "payment_events_missed", Every: payments.MissedEvery, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.AskMissed(ctx) },
	})
	w.sweep("payments", s.Sweep)
	return s, nil
}

// settlementPaid is what payments of settlements are for.
type settlementPaid struct{ expenses *expenses.Store }

// Paid satisfies payments.Purpose.
func (p settlementPaid) Paid(ctx context.Context, tx pgx.Tx, by payments.Payment) error {
	return p.expenses.Settled(ctx, tx, by.Ref, true)
}

// Failed satisfies payments.Purpose.
func (p settlementPaid) Failed(ctx context.Context, tx pgx.Tx, by payments.Payment) error {
	return p.expenses.Settled(ctx, tx, by.Ref, false)
}

// Refunded satisfies payments.Purpose.
func (p settlementPaid) Refunded(ctx context.Context, tx pgx.Tx, by payments.Payment, _ payments.Refund) error {
	return p.expenses.Refunded(ctx, tx, by.Ref, by.Refunded)
}

// paymentOperations are payments as core/httpapi sees them; nil without a gateway.
func paymentOperations(d *db.DB, s *payments.Store, money *expenses.Store) *httpapi.Payments {
	if s == nil {
		return nil
	}
	return &httpapi.Payments{Store: s, Settle: func(ctx context.Context, user core.UserID, group core.GroupID, settlement uuid.UUID, method string) (p payments.Payment, err error) {
		err = d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			st, err := money.Payable(db.Within(ctx, tx), user, group, settlement)
			if err != nil {
				return err
			}
			to, ok := st.To.Member()
			if !ok { // the kitty has no hands
				return expenses.ErrNotPending
			}
			p, err = s.Start(ctx, tx, payments.Charge{User: user, To: to, Kind: paysSettlement, Ref: settlement, Money: st.Money, Method: method})
			return err
		})
		return p, err
	}}
}

// openGateway has people pay by a gateway on this machine, unless there is another one.
func (d *Dev) openGateway(front string) error {
	if d.cfg.Stripe.Key != "" {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("local payment gateway: %w", err)
	}
	g, err := local.New(l, local.Config{Webhook: front + "/api/v1/payments/webhooks/" + stripe.Name, File: filepath.Join(d.cfg.Data, "payments.json"), Log: d.cfg.Log})
	if err != nil {
		_ = l.Close()
		return err
	}
	d.group.Add("payments", g)
	d.cfg.Stripe = StripeConfig{Key: g.Key(), WebhookSecret: g.Secret(), URL: g.URL(), ReturnURL: d.cfg.Stripe.ReturnURL}
	return nil
}
