package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v82/webhook"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/stripe"
)

const hookSecret = "whsec_of_tests"

// withPayments has money paid by a gateway that nobody reaches: what it says comes by webhooks.
func withPayments(cfg *Config) {
	g, err := stripe.New(stripe.Config{Key: "sk_test", Secrets: []string{hookSecret}, URL: "http://127.0.0.1:1"})
	if err != nil {
		panic(err)
	}
	s := payments.New(cfg.DB, ledger.New(cfg.DB, ledger.Config{Now: cfg.Now}), g, payments.Config{Now: cfg.Now})
	s.For("settlement", settlements{cfg})
	cfg.Payments = &Payments{Store: s, Settle: func(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID, method string) (p payments.Payment, err error) {
		err = cfg.DB.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			st, err := cfg.Expenses.Payable(db.Within(ctx, tx), user, group, id)
			if err != nil {
				return err
			}
			to, _ := st.To.Member()
			p, err = s.Start(ctx, tx, payments.Charge{User: user, To: to, Kind: "settlement", Ref: id, Money: st.Money, Method: method})
			return err
		})
		return p, err
	}}
}

type settlements struct{ *Config }

func (s settlements) Paid(ctx context.Context, tx pgx.Tx, p payments.Payment) error {
	return s.Expenses.Settled(ctx, tx, p.Ref, true)
}

func (s settlements) Failed(ctx context.Context, tx pgx.Tx, p payments.Payment) error {
	return s.Expenses.Settled(ctx, tx, p.Ref, false)
}

func (s settlements) Refunded(ctx context.Context, tx pgx.Tx, p payments.Payment, _ payments.Refund) error {
	return s.Expenses.Refunded(ctx, tx, p.Ref, p.Refunded)
}

// aCardSettlement is one that waits for the owner to pay it.
func aCardSettlement(w *world) map[string]string {
	return map[string]string{"settlement_id": w.ok("POST", "/groups/"+w.group+"/settlements", w.people["owner"].token,
		obj{"to": obj{"user_id": w.people["other"].id}, "money": euros(100), "method": "card"}).str("settlement_id")}
}

// aPayment is one of the owner's that is under way.
func aPayment(w *world) map[string]string {
	id := aCardSettlement(w)["settlement_id"]
	return map[string]string{"payment_id": w.ok("POST", "/groups/"+w.group+"/settlements/"+id+"/payment", w.people["owner"].token,
		obj{"payment_method": "pm_card_visa"}).str("payment_id")}
}

// hook sends a webhook.
func (b *bundle) hook(gateway, secret string, at time.Time, body string) (status int) {
	b.t.Helper()
	signed := webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at})
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.server.URL+prefix+"/payments/webhooks/"+gateway, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Stripe-Signature", signed.Header)
	resp, err := b.server.Client().Do(req)
	require.NoError(b.t, err)
	require.NoError(b.t, resp.Body.Close())
	return resp.StatusCode
}

// A debt is settled by card: what the gateway says, and nobody else, settles it.
func TestPaySettlement(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	group := b.group(ana, bob, eve)
	st := b.ok("POST", "/groups/"+group+"/settlements", ana.token, obj{"to": obj{"user_id": bob.id}, "money": euros(1240), "method": "card"}).str("settlement_id")
	path := "/groups/" + group + "/settlements/" + st
	b.refused(403, "role_required", "POST", path+"/payment", eve.token, obj{"payment_method": "pm_card_visa"})
	b.refused(400, "bad_payment_method", "POST", path+"/payment", ana.token, obj{"payment_method": "4242424242424242"})
	p := b.ok("POST", path+"/payment", ana.token, obj{"payment_method": "pm_card_visa"})
	require.Equal(t, "created", p.str("status"))
	id := p.str("payment_id")
	b.refused(409, "payment_under_way", "POST", path+"/payment", ana.token, obj{"payment_method": "pm_card_visa"})
	b.refused(404, "payment_not_found", "GET", "/payments/"+id, bob.token, nil)

	event := func(evt, amount string) string {
		return `{"id":"` + evt + `","object":"event","type":"payment_intent.succeeded","created":1,"data":{"object":{"id":"pi_1","object":"payment_intent","status":"succeeded",
			"amount_received":` + amount + `,"currency":"eur","metadata":{"muster_payment":"` + id + `"}}}}`
	}
	now := time.Now()
	require.Equal(t, http.StatusBadRequest, b.hook("stripe", "whsec_other", now, event("evt_1", "1240")))
	require.Equal(t, http.StatusBadRequest, b.hook("stripe", hookSecret, now.Add(-time.Hour), event("evt_1", "1240")))
	require.Equal(t, http.StatusNotFound, b.hook("paypal", hookSecret, now, event("evt_1", "1240")))
	require.Equal(t, http.StatusRequestEntityTooLarge, b.hook("stripe", hookSecret, now, strings.Repeat(" ", 65<<10)))
	require.Equal(t, http.StatusOK, b.hook("stripe", hookSecret, now, event("evt_0", "1")), "another amount is for a person to look at")
	require.Equal(t, "pending", b.ok("GET", path, ana.token, nil).str("status"))
	for range 3 {
		require.Equal(t, http.StatusOK, b.hook("stripe", hookSecret, now, event("evt_1", "1240")))
	}
	require.Equal(t, "settled", b.ok("GET", path, eve.token, nil).str("status"))
	require.Equal(t, "succeeded", b.ok("GET", "/payments/"+id, bob.token, nil).str("status"))
	b.refused(409, "payment_over", "POST", "/payments/"+id+"/cancel", ana.token, nil)
	b.refused(404, "payment_not_found", "POST", "/payments/"+id+"/refund", ana.token, obj{})
	b.refused(409, "not_refundable", "POST", "/payments/"+id+"/refund", bob.token, obj{"amount": 1241})
	require.Equal(t, "pending", b.ok("POST", "/payments/"+id+"/refund", bob.token, obj{"amount": 240}).str("status"))
}
