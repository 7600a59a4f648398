package payments

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
)

// Gateway is who moves the money. Its calls may be repeated: each says by which key the
// gateway knows a repetition. Each answer is what is so now, there.
//
// A *Refusal says that the same call will never succeed. Any other error says nothing of
// what became of the call.
type Gateway interface {
	Name() string
	// Customer makes, or finds, the payer as the gateway knows them.
	Customer(ctx context.Context, user core.UserID) (string, error)
	// Forget removes a customer, with the methods that were saved. That there is none is
	// no error.
	Forget(ctx context.Context, customer string) error
	// Create makes an intent, which charges nothing yet.
	Create(ctx context.Context, i Intent) (State, error)
	// Confirm charges it. A decline is a State.
	Confirm(ctx context.Context, i Intent) (State, error)
	Get(ctx context.Context, id string) (State, error)
	Cancel(ctx context.Context, i Intent) (State, error)
	// Refund gives back money of an intent that was paid.
	Refund(ctx context.Context, intent string, r Refund) (RefundState, error)
	GetRefund(ctx context.Context, id string) (RefundState, error)
	// Event reads a webhook: ErrSignature, ErrBadEvent.
	Event(header http.Header, body []byte) (Event, error)
	// Missed lists events since then that the gateway couldn't tell us.
	Missed(ctx context.Context, since time.Time) ([]Event, error)
}

// Refusal is a call that the gateway won't carry out.
type Refusal struct {
	Reason string // in the gateway's word
	Err    error
}

func (r *Refusal) Error() string { return "the gateway refuses: " + r.Reason + ": " + r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// Intent is a payment as the gateway is told.
type Intent struct {
	Payment  uuid.UUID // the gateway keeps it with the intent, and says it in all that it tells
	ID       string    // the gateway's; empty before Create
	Customer string    // empty: none is needed
	Money    core.Money
	Method   string

	OffSession bool
	Save       bool
}

// State is an intent as the gateway says that it is.
type State struct {
	ID      string
	Payment uuid.UUID // nil: it isn't ours
	Phase   Phase
	Reason  string     // of the last failure
	Money   core.Money // that was received, once it is Paid; else what is asked for
	Method  string     // by which it was paid
	Next    Action     // what the payer has to do, if the Phase says so
}

// Action is what a payer has to do for their bank, at their own device.
type Action struct {
	URL    string // a page to open; may be empty
	Secret string // for the gateway's own library; it is theirs alone, and kept nowhere
}

// RefundState is a refund as the gateway says that it is.
type RefundState struct {
	ID      string
	Refund  uuid.UUID // nil: it was made at the gateway
	Intent  string
	Payment uuid.UUID // of the intent's, as far as the gateway says it
	Status  RefundStatus
	Reason  string
	Money   core.Money
}

// Event is what a webhook says. Of State and Refund one is set, or neither: it is about
// something else.
type Event struct {
	ID     string
	Kind   string
	At     time.Time
	State  *State
	Refund *RefundState
}
