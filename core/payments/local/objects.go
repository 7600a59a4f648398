package local

import (
	"maps"
	"net/http"
	"strings"
	"time"
)

// The statuses of an intent (https://docs.stripe.com/payments/paymentintents/lifecycle).
const (
	requiresConfirmation  = "requires_confirmation"
	requiresAction        = "requires_action"
	requiresPaymentMethod = "requires_payment_method"
	processing            = "processing"
	succeeded             = "succeeded"
	canceled              = "canceled"
)

// Intent is a payment intent.
type Intent struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	Amount         int64             `json:"amount"`
	AmountReceived int64             `json:"amount_received"`
	Currency       string            `json:"currency"`
	Status         string            `json:"status"`
	Method         string            `json:"payment_method,omitempty"`
	Customer       string            `json:"customer,omitempty"`
	Save           string            `json:"setup_future_usage,omitempty"`
	Metadata       map[string]string `json:"metadata"`
	ClientSecret   string            `json:"client_secret"`
	Created        int64             `json:"created"`
	CanceledAt     int64             `json:"canceled_at,omitempty"`
	LastError      *failure          `json:"last_payment_error"`
	NextAction     *action           `json:"next_action"`

	Return   string `json:"local_return_url,omitempty"`
	Refunded int64  `json:"local_refunded"` // with what is pending
}

type action struct {
	Type     string            `json:"type"`
	Redirect map[string]string `json:"redirect_to_url,omitempty"`
}

// Refund is a refund.
type Refund struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"`
	Amount   int64             `json:"amount"`
	Currency string            `json:"currency"`
	Intent   string            `json:"payment_intent"`
	Status   string            `json:"status"` // pending, succeeded, failed
	Failure  string            `json:"failure_reason,omitempty"`
	Metadata map[string]string `json:"metadata"`
	Created  int64             `json:"created"`
}

type customer struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"`
	Deleted  bool              `json:"deleted,omitempty"`
	Metadata map[string]string `json:"metadata"`
}

// failure is an error as Stripe says it.
type failure struct {
	Status  int     `json:"-"`
	Type    string  `json:"type"`
	Code    string  `json:"code,omitempty"`
	Decline string  `json:"decline_code,omitempty"`
	Message string  `json:"message"`
	Param   string  `json:"param,omitempty"`
	Intent  *Intent `json:"payment_intent,omitempty"`
}

func invalid(code, param, message string) *failure {
	return &failure{Status: http.StatusBadRequest, Type: "invalid_request_error", Code: code, Param: param, Message: message}
}

func missing(what, id string) *failure {
	return &failure{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "resource_missing", Param: "id", Message: "No such " + what + ": '" + id + "'"}
}

func declined(code, decline string) *failure {
	return &failure{Status: http.StatusPaymentRequired, Type: "card_error", Code: code, Decline: decline, Message: "Your card was declined."}
}

// saved is what a method is called once it is a customer's: pm_saved_<n>_<method>.
const saved = "pm_saved_"

// behaviour is what a method is for.
func behaviour(method string) string {
	if rest, ok := strings.CutPrefix(method, saved); ok {
		_, was, _ := strings.Cut(rest, "_")
		if was == "pm_local_failsLater" {
			return "pm_card_chargeDeclined"
		}
		return was
	}
	if method == "pm_card_threeDSecure2Required" {
		return "pm_card_authenticationRequired"
	}
	return method
}

// confirmLocked charges an intent.
func (s *Server) confirmLocked(i *Intent, offSession bool, back string) *failure {
	if i.Status != requiresConfirmation && i.Status != requiresPaymentMethod {
		f := invalid("payment_intent_unexpected_state", "", "You cannot confirm this PaymentIntent because it has a status of "+i.Status+".")
		f.Intent = i
		return f
	}
	if offSession && !strings.HasPrefix(i.Method, saved) {
		return invalid("", "payment_method", "The payment method must be attached to the customer to be charged off session.")
	}
	i.LastError, i.Return = nil, back
	switch behaviour(i.Method) {
	case "pm_card_chargeDeclined":
		return s.refuseLocked(i, declined("card_declined", "generic_decline"))
	case "pm_card_chargeDeclinedInsufficientFunds":
		return s.refuseLocked(i, declined("card_declined", "insufficient_funds"))
	case "pm_card_chargeDeclinedExpiredCard":
		return s.refuseLocked(i, declined("expired_card", ""))
	case "pm_card_authenticationRequired":
		if offSession {
			return s.refuseLocked(i, declined("authentication_required", "authentication_required"))
		}
		i.Status = requiresAction
		i.NextAction = &action{Type: "redirect_to_url", Redirect: map[string]string{"url": s.URL() + "/action/" + i.ID + "?secret=" + i.ClientSecret, "return_url": back}}
		s.tellLocked("payment_intent.requires_action", i)
	case "pm_local_slow", "pm_local_slowDecline":
		i.Status = processing
		s.tellLocked("payment_intent.processing", i)
		s.later(s.cfg.Slow, func() { s.settle(i) })
	default:
		s.succeedLocked(i)
	}
	return nil
}

func (s *Server) refuseLocked(i *Intent, f *failure) *failure {
	i.Status, i.NextAction = requiresPaymentMethod, nil
	last := *f
	i.LastError = &last
	i.Method = ""
	s.tellLocked("payment_intent.payment_failed", i)
	f.Intent = i
	return f
}

func (s *Server) succeedLocked(i *Intent) {
	i.Status, i.AmountReceived, i.NextAction = succeeded, i.Amount, nil
	if i.Customer != "" && i.Save == "off_session" && !strings.HasPrefix(i.Method, saved) {
		i.Method = s.idLocked("pm_saved") + "_" + i.Method
	}
	s.tellLocked("payment_intent.succeeded", i)
}

// settle ends what a bank took its time for.
func (s *Server) settle(i *Intent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.Status != processing {
		return
	}
	if behaviour(i.Method) == "pm_local_slowDecline" {
		s.refuseLocked(i, declined("card_declined", "generic_decline"))
	} else {
		s.succeedLocked(i)
	}
	s.keepLocked()
}

func (s *Server) cancelLocked(i *Intent) *failure {
	if i.Status == succeeded || i.Status == canceled || i.Status == processing {
		f := invalid("payment_intent_unexpected_state", "", "You cannot cancel this PaymentIntent because it has a status of "+i.Status+".")
		f.Intent = i
		return f
	}
	i.Status, i.CanceledAt, i.NextAction = canceled, time.Now().Unix(), nil
	s.tellLocked("payment_intent.canceled", i)
	return nil
}

// refundLocked gives money of an intent back; amount 0: all that is left.
func (s *Server) refundLocked(i *Intent, amount int64, metadata map[string]string) (*Refund, *failure) {
	if amount == 0 {
		amount = i.AmountReceived - i.Refunded
	}
	switch {
	case i.Status != succeeded:
		return nil, invalid("payment_intent_unexpected_state", "payment_intent", "This PaymentIntent does not have a successful charge to refund.")
	case i.Refunded == i.AmountReceived:
		return nil, invalid("charge_already_refunded", "", "Charge has already been refunded.")
	case amount < 0 || amount > i.AmountReceived-i.Refunded:
		return nil, invalid("amount_too_large", "amount", "Refund amount is greater than unrefunded amount on charge.")
	}
	r := &Refund{ID: s.idLocked("re"), Object: "refund", Amount: amount, Currency: i.Currency, Intent: i.ID, Status: succeeded, Metadata: maps.Clone(metadata), Created: time.Now().Unix()}
	s.Refunds[r.ID] = r
	i.Refunded += amount
	then := ""
	switch behaviour(i.Method) {
	case "pm_card_pendingRefund":
		r.Status, then = "pending", succeeded
	case "pm_card_refundFail":
		then = "failed"
	}
	s.tellLocked("refund.created", r)
	if then != "" {
		s.later(s.cfg.Slow, func() { s.settleRefund(r, then) })
	}
	return r, nil
}

func (s *Server) settleRefund(r *Refund, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Status = status
	s.tellLocked("refund.updated", r)
	if status == "failed" {
		r.Failure = "expired_or_canceled_card"
		s.tellLocked("refund.failed", r)
	}
	s.keepLocked()
}

// RefundThere gives money back as an operator does at the gateway's own page.
func (s *Server) RefundThere(intent string, amount int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.Intents[intent]
	if i == nil {
		return http.ErrMissingFile
	}
	if _, f := s.refundLocked(i, amount, nil); f != nil {
		return &refused{f}
	}
	s.keepLocked()
	return nil
}

type refused struct{ *failure }

func (r *refused) Error() string { return r.Message }

// Snapshot is what the gateway has, by the payment's id in the metadata of intents, and
// refunds by their intent.
func (s *Server) Snapshot() (intents map[string][]Intent, refunds map[string][]Refund) {
	s.mu.Lock()
	defer s.mu.Unlock()
	intents, refunds = map[string][]Intent{}, map[string][]Refund{}
	for _, i := range s.Intents {
		intents[i.Metadata["muster_payment"]] = append(intents[i.Metadata["muster_payment"]], *i)
	}
	for _, r := range s.Refunds {
		refunds[r.Intent] = append(refunds[r.Intent], *r)
	}
	return intents, refunds
}

// Quiet stops everything that goes wrong.
func (s *Server) Quiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Chaos = Chaos{}
}
