package payments_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v82/webhook"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/local"
)

// What becomes of a payment by what its method does.
func TestPayments(t *testing.T) {
	w := setup(t, options{there: local.Config{Slow: 50 * time.Millisecond}})
	ana, bob := person(), person()
	for _, c := range []struct {
		method string
		want   payments.Status
		reason string
		told   string
	}{
		{"pm_card_visa", payments.Succeeded, "", "paid 1240"},
		{"pm_local_slow", payments.Succeeded, "", "paid 1240"},
		{"pm_card_chargeDeclined", payments.Failed, "generic_decline", "failed 0"},
		{"pm_card_chargeDeclinedInsufficientFunds", payments.Failed, "insufficient_funds", "failed 0"},
		{"pm_local_slowDecline", payments.Failed, "generic_decline", "failed 0"},
		{"card_unknown", payments.Failed, "resource_missing", "failed 0"},
	} {
		p := w.start(payments.Charge{User: ana, To: bob, Method: c.method})
		require.Equal(t, payments.Created, p.Status)
		d := w.become(p, c.want)
		require.Equal(t, c.reason, d.Reason, c.method)
		require.Equal(t, c.told, w.told(p.ID), c.method)
		require.Equal(t, c.want, d.History[len(d.History)-1].Status)
		require.Equal(t, payments.Created, d.History[0].Status)
		paid := int64(0)
		if c.want == payments.Succeeded {
			paid = 1240
		}
		require.Equal(t, paid, w.balance(group(p), ledger.Member(ana)), "the settlement is posted when it is paid, and only then")
	}
	require.Equal(t, int64(0), w.balance(ledger.UserBook(ana), ledger.User(ana)), "it was for somebody")
	require.Equal(t, int64(-2480), w.balance(ledger.UserBook(ana), ledger.Gateway("stripe")), "the gateway has what she paid")
	require.Equal(t, int64(2480), w.balance(ledger.UserBook(bob), ledger.User(bob)), "and he is owed it")

	_, err := w.Get(t.Context(), person(), uuid.New())
	require.ErrorIs(t, err, payments.ErrNoPayment)
	list, next, err := w.List(t.Context(), ana, "", 4)
	require.NoError(t, err)
	require.Len(t, list, 4)
	rest, next2, err := w.List(t.Context(), ana, next, 4)
	require.NoError(t, err)
	require.Len(t, rest, 2)
	require.Empty(t, next2)
	require.Equal(t, "pm_card_visa", rest[1].Method, "the latest first")
	his, _, err := w.List(t.Context(), bob, "", 50)
	require.NoError(t, err)
	require.Len(t, his, 2, "what failed is none of his business")
}

// A bank asks the payer, who says yes, or no, or nothing.
func TestTheBankAsks(t *testing.T) {
	w := setup(t, options{})
	answer := func(d payments.Details, answer string) {
		noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp, err := noRedirect.PostForm(d.Next.URL, url.Values{"answer": {answer}})
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "https://app.example.org/", resp.Header.Get("Location"))
	}
	ana, bob := person(), person()
	ask := func() (payments.Payment, payments.Details) {
		p := w.start(payments.Charge{User: ana, To: bob, Method: "pm_card_authenticationRequired"})
		d := w.become(p, payments.RequiresAction)
		require.NotEmpty(t, d.Next.Secret)
		_, err := w.Get(t.Context(), bob, p.ID)
		require.ErrorIs(t, err, payments.ErrNoPayment, "who isn't paid yet knows nothing")
		return p, d
	}
	p, d := ask()
	answer(d, "yes")
	w.become(p, payments.Succeeded)
	seen, err := w.Get(t.Context(), bob, p.ID)
	require.NoError(t, err)
	require.Zero(t, seen.Next)

	p, d = ask()
	answer(d, "no")
	require.Equal(t, "payment_intent_authentication_failure", w.become(p, payments.Failed).Reason)

	p, _ = ask()
	_, err = w.Cancel(t.Context(), bob, p.ID)
	require.ErrorIs(t, err, payments.ErrNoPayment)
	_, err = w.Cancel(t.Context(), ana, p.ID)
	require.NoError(t, err)
	w.become(p, payments.Canceled)
	_, err = w.Cancel(t.Context(), ana, p.ID)
	require.ErrorIs(t, err, payments.ErrOver)

	p, _ = ask()
	w.advance(25 * time.Hour)
	require.NoError(t, w.CheckDue(t.Context()))
	require.Equal(t, "action_expired", w.become(p, payments.Failed).Reason)
}

// Of what is to be paid one payment is under way at a time, and after it failed another
// one may come.
func TestOneAtATime(t *testing.T) {
	w := setup(t, options{there: local.Config{Slow: 300 * time.Millisecond}})
	c := payments.Charge{User: person(), To: person(), Ref: uuid.New(), Method: "pm_local_slowDecline"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var begun []payments.Payment
	for range 8 {
		wg.Go(func() {
			p, err := w.begin(c)
			if err != nil {
				require.ErrorIs(t, err, payments.ErrUnderWay)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			begun = append(begun, p)
		})
	}
	wg.Wait()
	require.Len(t, begun, 1)
	w.become(begun[0], payments.Failed)
	c.Method = "pm_card_visa"
	w.become(w.start(c), payments.Succeeded)

	for name, bad := range map[string]payments.Charge{
		"a number of a card": {User: c.User, Method: "4242424242424242"},
		"nothing":            {User: c.User, Method: "pm_card_visa", Money: core.Money{Currency: "EUR"}},
		"less than nothing":  {User: c.User, Method: "pm_card_visa", Money: core.Money{Amount: -1, Currency: "EUR"}},
		"no currency":        {User: c.User, Method: "pm_card_visa", Money: core.Money{Amount: 1, Currency: "XYZ"}},
		"nobody's purpose":   {User: c.User, Method: "pm_card_visa", Kind: "gift"},
	} {
		_, err := w.begin(bad)
		require.Error(t, err, name)
	}
}

// Money goes back: by who got it, at the gateway, and not more than there was.
func TestRefunds(t *testing.T) {
	w := setup(t, options{there: local.Config{Slow: 50 * time.Millisecond}})
	ana, bob := person(), person()
	paid := func(method string) payments.Payment {
		p := w.start(payments.Charge{User: ana, To: bob, Method: method})
		w.become(p, payments.Succeeded)
		return p
	}
	p := paid("pm_card_visa")
	_, err := w.Refund(t.Context(), ana, p.ID, 0)
	require.ErrorIs(t, err, payments.ErrNoPayment, "she can't take it back")
	_, err = w.Refund(t.Context(), bob, p.ID, 1241)
	require.ErrorIs(t, err, payments.ErrRefundable)
	_, err = w.Refund(t.Context(), bob, p.ID, 240)
	require.NoError(t, err)
	_, err = w.Refund(t.Context(), bob, p.ID, 1001)
	require.ErrorIs(t, err, payments.ErrRefundable)
	w.until(p, func(d payments.Details) bool { return d.Refunded == 240 && d.Status == payments.Succeeded })
	intents, _ := w.there.Snapshot()
	require.NoError(t, w.there.RefundThere(intents[p.ID.String()][0].ID, 1000))
	d := w.become(p, payments.Refunded)
	require.Len(t, d.Refunds, 2)
	require.Equal(t, "paid 1240, refunded 240, refunded 1000", w.told(p.ID))
	require.Zero(t, w.balance(group(p), ledger.Member(ana)))
	require.Zero(t, w.balance(ledger.UserBook(bob), ledger.User(bob)))
	require.Zero(t, w.balance(ledger.UserBook(ana), ledger.Gateway("stripe")))

	p = paid("pm_card_pendingRefund")
	_, err = w.Refund(t.Context(), bob, p.ID, 0)
	require.NoError(t, err)
	_, err = w.Refund(t.Context(), bob, p.ID, 0)
	require.ErrorIs(t, err, payments.ErrRefundable, "it is on its way")
	w.become(p, payments.Refunded)

	// One that her bank sends back: she is owed the money, by us.
	p = paid("pm_card_refundFail")
	_, err = w.Refund(t.Context(), bob, p.ID, 0)
	require.NoError(t, err)
	w.until(p, func(d payments.Details) bool {
		return len(d.Refunds) == 1 && d.Refunds[0].Status == payments.RefundFailed
	})
	require.Equal(t, "paid 1240, refunded 1240", w.told(p.ID))
	require.Equal(t, int64(1240), w.balance(ledger.UserBook(ana), ledger.User(ana)))

	// What its purpose doesn't want goes back by itself.
	p = w.start(payments.Charge{User: ana, Method: "pm_card_visa"})
	w.become(p, payments.Succeeded)
	give := func() error {
		return w.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return w.GiveBack(ctx, tx, p.ID) })
	}
	require.NoError(t, give())
	w.become(p, payments.Refunded)
	require.ErrorIs(t, give(), payments.ErrRefundable)

	report, err := w.books.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Faults)
}

// A method that was saved is charged while its owner is away, or isn't; and it is
// forgotten with them.
func TestOffSession(t *testing.T) {
	w := setup(t, options{})
	ana := person()
	first := w.become(w.start(payments.Charge{User: ana, Method: "pm_card_visa", Save: true}), payments.Succeeded)
	require.Contains(t, first.Method, "pm_saved_")
	w.become(w.start(payments.Charge{User: ana, Method: first.Method, OffSession: true}), payments.Succeeded)
	trial := w.become(w.start(payments.Charge{User: ana, Method: "pm_card_visa", OffSession: true}), payments.Succeeded)
	require.Contains(t, trial.Method, "pm_saved_", "what was given for later is theirs now")
	d := w.become(w.start(payments.Charge{User: ana, Method: "pm_card_authenticationRequired", OffSession: true}), payments.Failed)
	require.Equal(t, "authentication_required", d.Reason)
	later := w.become(w.start(payments.Charge{User: ana, Method: "pm_local_failsLater", Save: true}), payments.Succeeded)
	w.become(w.start(payments.Charge{User: ana, Method: later.Method, OffSession: true}), payments.Failed)
	require.Equal(t, int64(1), w.count(`SELECT count(*) FROM payment_customers`))

	w.exec(`UPDATE payment_customers SET user_id = NULL`)
	require.NoError(t, w.Sweep(t.Context()))
	require.Zero(t, w.count(`SELECT count(*) FROM payment_customers`))
	w.exec(`INSERT INTO payment_customers (gateway, customer_id) VALUES ('stripe', 'cus_gone')`)
	require.NoError(t, w.Sweep(t.Context()), "who isn't there is forgotten")
}

// The gateway can't be reached: what begins meanwhile is made up for, and what can't be
// is over, without anything taken.
func TestTheGatewayIsAway(t *testing.T) {
	away := &switched{}
	w := setup(t, options{around: func(g payments.Gateway) payments.Gateway { away.Gateway = g; return away }})
	away.off.Store(true)
	p, q := w.start(payments.Charge{User: person(), Method: "pm_card_visa"}), w.start(payments.Charge{User: person(), Method: "pm_card_visa"})
	require.Eventually(t, func() bool { return w.count(`SELECT count(*) FROM payments WHERE tries > 0`) == 2 }, 10*time.Second, 10*time.Millisecond)
	_, err := w.Cancel(t.Context(), q.User, q.ID)
	require.NoError(t, err)
	w.become(q, payments.Canceled)
	away.off.Store(false)
	w.advance(time.Hour)
	require.NoError(t, w.CheckDue(t.Context()))
	w.become(p, payments.Succeeded)

	away.off.Store(true)
	p = w.start(payments.Charge{User: person(), Method: "pm_card_visa"})
	require.Eventually(t, func() bool { return w.count(`SELECT count(*) FROM payments WHERE tries > 0 AND id = $1`, p.ID) == 1 }, 10*time.Second, 10*time.Millisecond)
	w.advance(13 * time.Hour)
	require.NoError(t, w.CheckDue(t.Context()))
	require.Equal(t, "gateway_unreachable", w.become(p, payments.Failed).Reason)
	require.Equal(t, "failed 0", w.told(p.ID))
}

// Webhooks that the gateway didn't sign, or signed for others or long ago, and such as
// are about nothing of ours, change nothing.
func TestForgedWebhooks(t *testing.T) {
	var mu sync.Mutex
	var bodies [][]byte
	w := setup(t, options{hear: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { // it is kept, and not told
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			bodies = append(bodies, b)
		})
	}})
	slow := w.start(payments.Charge{User: person(), To: person(), Method: "pm_card_authenticationRequired"})
	w.become(slow, payments.RequiresAction)
	intents, _ := w.there.Snapshot()
	intent := intents[slow.ID.String()][0].ID
	body := []byte(`{"id":"evt_forged","object":"event","type":"payment_intent.succeeded","api_version":"2025-09-30.clover","created":1,"data":{"object":{
		"id":"` + intent + `","object":"payment_intent","amount":1240,"amount_received":1240,"currency":"eur","status":"succeeded","metadata":{"muster_payment":"` + slow.ID.String() + `"}}}}`)
	sign := func(secret string, at time.Time, b []byte) string {
		return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: b, Secret: secret, Timestamp: at}).Header
	}
	hook := func(signature string, b []byte) error {
		h := http.Header{}
		if signature != "" {
			h.Set("Stripe-Signature", signature)
		}
		return w.Hook(t.Context(), "stripe", h, b)
	}
	good := w.there.Secret()
	for name, signature := range map[string]string{
		"none":               "",
		"nonsense":           "t=,v1=zz,,=",
		"another's":          sign("whsec_other", time.Now(), body),
		"too old":            sign(good, time.Now().Add(-6*time.Minute), body),
		"from the future":    sign(good, time.Now().Add(time.Hour), []byte("{}")),
		"of another body":    sign(good, time.Now(), append(bytes.Clone(body), ' ')),
		"an empty secret's":  sign("", time.Now(), body),
		"in a wrong version": "t=1,v0=" + sign(good, time.Now(), body),
	} {
		require.ErrorIs(t, hook(signature, body), payments.ErrSignature, name)
	}
	require.ErrorIs(t, w.Hook(t.Context(), "paypal", nil, body), payments.ErrNoGateway)
	for name, b := range map[string]string{
		"no JSON":               `{`,
		"no event":              `[]`,
		"no data":               `{"id":"evt_1","type":"payment_intent.succeeded"}`,
		"an intent that is one": `{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":1}}}`,
	} {
		require.ErrorIs(t, hook(sign(good, time.Now(), []byte(b)), []byte(b)), payments.ErrBadEvent, name)
	}
	for name, b := range map[string]string{
		"another kind":       `{"id":"evt_2","type":"invoice.paid","data":{"object":{"id":"in_1"}}}`,
		"another's intent":   `{"id":"evt_3","type":"payment_intent.succeeded","data":{"object":{"id":"pi_x","status":"succeeded","currency":"eur"}}}`,
		"an unknown payment": `{"id":"evt_4","type":"payment_intent.succeeded","data":{"object":{"id":"pi_x","status":"succeeded","metadata":{"muster_payment":"` + uuid.NewString() + `"}}}}`,
		"another amount": `{"id":"evt_5","type":"payment_intent.succeeded","data":{"object":{"id":"` + intent + `","status":"succeeded","amount_received":1,"currency":"eur",
			"metadata":{"muster_payment":"` + slow.ID.String() + `"}}}}`,
		"another intent": `{"id":"evt_6","type":"payment_intent.succeeded","data":{"object":{"id":"pi_y","status":"succeeded","amount_received":1240,"currency":"eur",
			"metadata":{"muster_payment":"` + slow.ID.String() + `"}}}}`,
	} {
		require.NoError(t, hook(sign(good, time.Now(), []byte(b)), []byte(b)), name)
	}
	w.become(slow, payments.RequiresAction)
	require.Empty(t, w.told(slow.ID))
	require.NoError(t, hook(sign(good, time.Now(), body), body), "signed by the gateway it counts")
	require.NoError(t, hook(sign(good, time.Now(), body), body), "and again")
	w.become(slow, payments.Succeeded)
	require.Equal(t, "paid 1240", w.told(slow.ID))
}

// A refund that was made at the gateway is known only by its webhook. If that is lost,
// what the gateway couldn't tell is asked for.
func TestMissedEvents(t *testing.T) {
	deaf := &deafness{}
	w := setup(t, options{there: local.Config{Resend: time.Millisecond}, hear: deaf.before})
	p := w.start(payments.Charge{User: person(), To: person(), Method: "pm_card_visa"})
	w.become(p, payments.Succeeded)
	deaf.on.Store(true)
	intents, _ := w.there.Snapshot()
	require.NoError(t, w.there.RefundThere(intents[p.ID.String()][0].ID, 0))
	require.Eventually(t, func() bool { return deaf.heard.Load() >= 6 }, 10*time.Second, time.Millisecond, "the gateway gives up")
	require.Equal(t, payments.Succeeded, w.become(p, payments.Succeeded).Status)
	require.NoError(t, w.AskMissed(t.Context()))
	require.NoError(t, w.AskMissed(t.Context()))
	w.become(p, payments.Refunded)
	require.Equal(t, "paid 1240, refunded 1240", w.told(p.ID))
}

// FuzzWebhook: whatever a body says, signed or not, nothing breaks, and nothing but an
// event that is signed comes through.
func FuzzWebhook(f *testing.F) {
	g, secret := fuzzed(f)
	for _, b := range []string{``, `{}`, `{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","status":"succeeded","amount_received":5,"currency":"jpy"}}}`,
		`{"id":"evt_1","type":"refund.updated","data":{"object":{"id":"re_1","status":"failed","amount":9223372036854775807,"currency":"kwd","payment_intent":"pi_1"}}}`,
		`{"id":"evt_1","type":"payment_intent.","data":{"object":null}}`, `{"data":{"object":{"payment_method":{},"last_payment_error":{}}}}`} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := http.Header{}
		_, err := g.Event(h, b)
		require.ErrorIs(t, err, payments.ErrSignature)
		h.Set("Stripe-Signature", webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: b, Secret: secret}).Header)
		e, err := g.Event(h, b)
		if err != nil {
			require.ErrorIs(t, err, payments.ErrBadEvent)
			return
		}
		if e.State != nil {
			require.NotEmpty(t, e.State.ID)
			require.GreaterOrEqual(t, e.State.Money.Amount, int64(0))
		}
	})
}
