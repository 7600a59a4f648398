// Package stripe takes payments by Stripe: it is a payments.Gateway.
//
// # What is used
//
// Payment intents (create, confirm, get, cancel), refunds, customers for methods that
// are charged later, events and their webhooks. Of stripe-go we use the backend, the
// types and the check of signatures; its resource clients bring all of Stripe's API
// into the binary.
//
// Everything that we make bears our id as metadata, so an event is known as ours even
// if the answer to the call that made it was lost. Each call that makes something has an
// idempotency key of that id; Stripe remembers keys for at least 24 hours
// (https://docs.stripe.com/api/idempotent_requests).
//
// # Amounts
//
// Stripe counts some currencies in other units than ISO 4217's minor ones
// (https://docs.stripe.com/currencies): see units.
package stripe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	stripe "github.com/stripe/stripe-go/v82"
	"github.com/stripe/stripe-go/v82/form"
	"github.com/stripe/stripe-go/v82/webhook"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/payments"
)

// Name is the gateway's, in paths and in the ledger.
const Name = "stripe"

// What we keep with things at Stripe.
const (
	metaPayment = "muster_payment"
	metaRefund  = "muster_refund"
	metaUser    = "muster_user"
)

// Config is how the deployment is known at Stripe.
type Config struct {
	Key string // secret key of the API, sk_… or rk_…
	// Secrets of the webhook's endpoint, whsec_…; several while one takes the place of
	// another.
	Secrets []string
	// Return is the page to which banks send people back; empty: methods that would need
	// one are not offered.
	Return string
	URL    string // of the API. Default Stripe's
	Client *http.Client
}

// Gateway is Stripe. It is safe for concurrent use.
type Gateway struct {
	cfg     Config
	backend stripe.Backend
}

var _ payments.Gateway = (*Gateway)(nil)

// timeout of a call is shorter than that of who calls.
const timeout = 20 * time.Second

// New returns the gateway.
func New(cfg Config) (*Gateway, error) {
	if cfg.Key == "" || len(cfg.Secrets) == 0 {
		return nil, errors.New("stripe: a key and the webhook's secret are required")
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: timeout}
	}
	return &Gateway{cfg, stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL:               stripe.String(cmp.Or(cfg.URL, stripe.APIURL)),
		HTTPClient:        cfg.Client,
		EnableTelemetry:   stripe.Bool(false),
		MaxNetworkRetries: stripe.Int64(0), // whoever calls tries again, and remembers that
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
	})}, nil
}

// Name implements payments.Gateway.
func (g *Gateway) Name() string { return Name }

// params are what every call has. The same key makes a call the same.
func params(ctx context.Context, key string) stripe.Params {
	p := stripe.Params{Context: ctx}
	if key != "" {
		p.SetIdempotencyKey(key)
	}
	return p
}

func (g *Gateway) call(method, path string, p stripe.ParamsContainer, out stripe.LastResponseSetter) error {
	return refusal(g.backend.Call(method, path, g.cfg.Key, p, out))
}

// refusal tells errors that stay from those that pass. A key that isn't ours any more,
// or a limit, is nothing that a payment should end by.
func refusal(err error) error {
	e, ok := errors.AsType[*stripe.Error](err)
	if !ok || e.Type == stripe.ErrorTypeIdempotency {
		return err
	}
	switch e.HTTPStatusCode {
	case http.StatusBadRequest, http.StatusPaymentRequired, http.StatusNotFound:
		return &payments.Refusal{Reason: reason(e), Err: err}
	}
	return err
}

func reason(e *stripe.Error) string {
	return cmp.Or(string(e.DeclineCode), string(e.Code), string(e.Type), "refused")
}

// Customer implements payments.Gateway.
func (g *Gateway) Customer(ctx context.Context, user core.UserID) (string, error) {
	var c stripe.Customer
	err := g.call(http.MethodPost, "/v1/customers", &stripe.CustomerParams{
		Params: params(ctx, "customer:"+user.String()), Metadata: map[string]string{metaUser: user.String()},
	}, &c)
	return c.ID, err
}

// Forget implements payments.Gateway.
func (g *Gateway) Forget(ctx context.Context, customer string) error {
	var c stripe.Customer
	err := g.call(http.MethodDelete, stripe.FormatURLPath("/v1/customers/%s", customer), &stripe.CustomerParams{Params: params(ctx, "")}, &c)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.HTTPStatusCode == http.StatusNotFound {
		return nil
	}
	return err
}

// Create implements payments.Gateway. Off session Stripe charges only what is its
// customer's; a method that was given for later, as for a trial, becomes that now. One
// that is already stays as it is.
func (g *Gateway) Create(ctx context.Context, i payments.Intent) (payments.State, error) {
	amount, err := units(i.Money)
	if err != nil {
		return payments.State{}, &payments.Refusal{Reason: "amount_not_supported", Err: err}
	}
	if i.OffSession {
		var m stripe.PaymentMethod
		if err := g.call(http.MethodPost, stripe.FormatURLPath("/v1/payment_methods/%s/attach", i.Method), &stripe.PaymentMethodAttachParams{
			Params: params(ctx, i.Payment.String()+":attach"), Customer: &i.Customer,
		}, &m); err != nil {
			return payments.State{}, err
		}
		i.Method = m.ID
	}
	p := &stripe.PaymentIntentParams{
		Params:        params(ctx, i.Payment.String()),
		Amount:        &amount,
		Currency:      stripe.String(strings.ToLower(string(i.Money.Currency))),
		PaymentMethod: &i.Method,
		Metadata:      map[string]string{metaPayment: i.Payment.String()},
		AutomaticPaymentMethods: &stripe.PaymentIntentAutomaticPaymentMethodsParams{
			Enabled: stripe.Bool(true),
		},
	}
	if g.cfg.Return == "" {
		p.AutomaticPaymentMethods.AllowRedirects = stripe.String("never")
	}
	if i.Customer != "" {
		p.Customer = &i.Customer
	}
	if i.Save {
		p.SetupFutureUsage = stripe.String(string(stripe.PaymentIntentSetupFutureUsageOffSession))
	}
	return g.intent(http.MethodPost, "/v1/payment_intents", p)
}

// Confirm implements payments.Gateway.
func (g *Gateway) Confirm(ctx context.Context, i payments.Intent) (payments.State, error) {
	p := &stripe.PaymentIntentConfirmParams{Params: params(ctx, i.Payment.String()+":confirm")}
	if i.OffSession {
		p.OffSession = stripe.Bool(true)
	} else if g.cfg.Return != "" {
		p.ReturnURL = &g.cfg.Return
	}
	return g.intent(http.MethodPost, stripe.FormatURLPath("/v1/payment_intents/%s/confirm", i.ID), p)
}

// Get implements payments.Gateway.
func (g *Gateway) Get(ctx context.Context, id string) (payments.State, error) {
	return g.intent(http.MethodGet, stripe.FormatURLPath("/v1/payment_intents/%s", id), &stripe.PaymentIntentParams{Params: params(ctx, "")})
}

// Cancel implements payments.Gateway. It has no key: a cancel of what is canceled is
// refused, and who is refused looks.
func (g *Gateway) Cancel(ctx context.Context, i payments.Intent) (payments.State, error) {
	return g.intent(http.MethodPost, stripe.FormatURLPath("/v1/payment_intents/%s/cancel", i.ID), &stripe.PaymentIntentCancelParams{Params: params(ctx, "")})
}

// intent makes a call that answers an intent. A decline is an error that brings the
// intent along.
func (g *Gateway) intent(method, path string, p stripe.ParamsContainer) (payments.State, error) {
	var i stripe.PaymentIntent
	err := g.call(method, path, p, &i)
	if e, ok := errors.AsType[*stripe.Error](err); ok && e.Type == stripe.ErrorTypeCard && e.PaymentIntent != nil {
		if e.PaymentIntent.LastPaymentError == nil {
			e.PaymentIntent.LastPaymentError = e
		}
		i, err = *e.PaymentIntent, nil
	}
	if err != nil {
		return payments.State{}, err
	}
	return state(&i)
}

// Refund implements payments.Gateway.
func (g *Gateway) Refund(ctx context.Context, intent string, r payments.Refund) (payments.RefundState, error) {
	amount, err := units(r.Money)
	if err != nil {
		return payments.RefundState{}, &payments.Refusal{Reason: "amount_not_supported", Err: err}
	}
	var out stripe.Refund
	if err := g.call(http.MethodPost, "/v1/refunds", &stripe.RefundParams{
		Params: params(ctx, r.ID.String()), PaymentIntent: &intent, Amount: &amount,
		Metadata: map[string]string{metaPayment: r.Payment.String(), metaRefund: r.ID.String()},
	}, &out); err != nil {
		return payments.RefundState{}, err
	}
	return refundState(&out)
}

// GetRefund implements payments.Gateway.
func (g *Gateway) GetRefund(ctx context.Context, id string) (payments.RefundState, error) {
	var out stripe.Refund
	if err := g.call(http.MethodGet, stripe.FormatURLPath("/v1/refunds/%s", id), &stripe.RefundParams{Params: params(ctx, "")}, &out); err != nil {
		return payments.RefundState{}, err
	}
	return refundState(&out)
}

// Event implements payments.Gateway. The signature is HMAC-SHA-256 of the time and the
// body; one that is older than five minutes counts for nothing
// (https://docs.stripe.com/webhooks#verify-manually).
func (g *Gateway) Event(header http.Header, body []byte) (payments.Event, error) {
	for _, secret := range g.cfg.Secrets {
		if err := webhook.ValidatePayload(body, header.Get("Stripe-Signature"), secret); err != nil {
			continue
		}
		var e stripe.Event
		if err := json.Unmarshal(body, &e); err != nil {
			return payments.Event{}, payments.ErrBadEvent
		}
		return event(&e)
	}
	return payments.Event{}, payments.ErrSignature
}

// kinds of the events that say something about payments. (The creation of an intent
// says nothing that its creator wouldn't know.)
var kinds = []string{
	"payment_intent.succeeded", "payment_intent.canceled", "payment_intent.payment_failed", "payment_intent.processing", "payment_intent.requires_action",
	"refund.created", "refund.updated", "refund.failed",
}

// maxMissed bounds the pages of events that are asked for at once.
const maxMissed = 20

// Missed implements payments.Gateway.
func (g *Gateway) Missed(ctx context.Context, since time.Time) (list []payments.Event, err error) {
	p := &stripe.EventListParams{
		ListParams:      stripe.ListParams{Context: ctx, Limit: stripe.Int64(100)},
		CreatedRange:    &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()},
		DeliverySuccess: stripe.Bool(false),
		Types:           stripe.StringSlice(kinds),
	}
	for range maxMissed {
		var body form.Values
		form.AppendTo(&body, p)
		var page stripe.EventList
		if err := g.backend.CallRaw(http.MethodGet, "/v1/events", g.cfg.Key, []byte(body.Encode()), &stripe.Params{Context: ctx}, &page); err != nil {
			return list, err
		}
		for _, e := range page.Data {
			p.StartingAfter = &e.ID
			if ours, err := event(e); err == nil {
				list = append(list, ours)
			}
		}
		if !page.HasMore || len(page.Data) == 0 {
			break
		}
	}
	return list, nil
}

func event(e *stripe.Event) (out payments.Event, err error) {
	out = payments.Event{ID: e.ID, Kind: string(e.Type), At: time.Unix(e.Created, 0).UTC()}
	bad := e.ID == "" || len(e.ID) > 255 || e.Data == nil
	switch of, what, _ := strings.Cut(out.Kind, "."); {
	case of == "payment_intent" && what != "created":
		var i stripe.PaymentIntent
		if bad || json.Unmarshal(e.Data.Raw, &i) != nil {
			return out, payments.ErrBadEvent
		}
		s, err := state(&i)
		if err != nil {
			return out, nil // in a way that we never take payments
		}
		out.State = &s
	case of == "refund", out.Kind == "charge.refund.updated":
		var r stripe.Refund
		if bad || json.Unmarshal(e.Data.Raw, &r) != nil {
			return out, payments.ErrBadEvent
		}
		s, err := refundState(&r)
		if err != nil {
			return out, nil
		}
		out.Refund = &s
	}
	return out, nil
}

// state is an intent as payments know it.
func state(i *stripe.PaymentIntent) (payments.State, error) {
	if i.ID == "" {
		return payments.State{}, errors.New("stripe: an intent without an id")
	}
	s := payments.State{ID: i.ID, Payment: id(i.Metadata[metaPayment])}
	amount := i.Amount
	switch i.Status {
	case stripe.PaymentIntentStatusRequiresConfirmation:
		s.Phase = payments.PhaseReady
	case stripe.PaymentIntentStatusRequiresAction:
		s.Phase = payments.PhaseAction
		s.Next.Secret = i.ClientSecret
		if i.NextAction != nil && i.NextAction.RedirectToURL != nil {
			s.Next.URL = i.NextAction.RedirectToURL.URL
		}
	case stripe.PaymentIntentStatusProcessing:
		s.Phase = payments.PhaseWorking
	case stripe.PaymentIntentStatusRequiresPaymentMethod:
		s.Phase = payments.PhaseRefused
	case stripe.PaymentIntentStatusSucceeded:
		s.Phase, amount = payments.PhasePaid, i.AmountReceived
	case stripe.PaymentIntentStatusCanceled:
		s.Phase = payments.PhaseStopped
	default: // requires_capture: ours are captured at once
		return payments.State{}, fmt.Errorf("stripe: an intent that is %q", i.Status)
	}
	if e := i.LastPaymentError; e != nil && s.Phase != payments.PhasePaid {
		s.Reason = reason(e)
	}
	if i.PaymentMethod != nil {
		s.Method = i.PaymentMethod.ID
	}
	s.Money = money(amount, i.Currency)
	return s, nil
}

func refundState(r *stripe.Refund) (payments.RefundState, error) {
	if r.ID == "" {
		return payments.RefundState{}, errors.New("stripe: a refund without an id")
	}
	s := payments.RefundState{ID: r.ID, Refund: id(r.Metadata[metaRefund]), Payment: id(r.Metadata[metaPayment]), Money: money(r.Amount, r.Currency), Reason: string(r.FailureReason)}
	if r.PaymentIntent != nil {
		s.Intent = r.PaymentIntent.ID
	}
	switch r.Status {
	case stripe.RefundStatusPending, stripe.RefundStatusRequiresAction:
		s.Status = payments.RefundPending
	case stripe.RefundStatusSucceeded:
		s.Status = payments.RefundSucceeded
	case stripe.RefundStatusFailed, stripe.RefundStatusCanceled:
		s.Status = payments.RefundFailed
		s.Reason = cmp.Or(s.Reason, string(r.Status))
	default:
		return payments.RefundState{}, fmt.Errorf("stripe: a refund that is %q", r.Status)
	}
	return s, nil
}

// id is one of ours, or none.
func id(s string) uuid.UUID {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return uuid.Nil
	}
	return u
}
