package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/payments"
)

// Payments are what operations on payments need.
type Payments struct {
	*payments.Store
	// Settle begins the payment of a settlement that waits for it, in the caller's
	// transaction.
	Settle func(ctx context.Context, user core.UserID, group core.GroupID, settlement uuid.UUID, method string) (payments.Payment, error)
}

// Payment is money that somebody pays by a gateway.
type Payment struct {
	PaymentID string     `json:"payment_id" doc:"UUID"`
	UserID    string     `json:"user_id" doc:"Who pays"`
	To        string     `json:"to,omitempty" doc:"Who gets it; absent: whoever runs the deployment"`
	Kind      string     `json:"kind" enum:"settlement,subscription" doc:"What for"`
	Ref       string     `json:"ref" doc:"Which one: the settlement's id, or the subscription's charge"`
	Money     core.Money `json:"money"`
	Status    string     `json:"status" enum:"created,requires_action,processing,succeeded,failed,canceled,refunded" doc:"created and processing: the gateway will tell; requires_action: read the payment for what its payer has to do; failed and canceled: nothing was taken; a part that went back leaves it succeeded"`
	Reason    string     `json:"reason,omitempty" doc:"Why it failed, in the gateway's word, such as card_declined or insufficient_funds"`
	Refunded  int64      `json:"refunded" doc:"Minor units that went back"`
	Gateway   string     `json:"gateway"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// PaymentRefund is money that goes back.
type PaymentRefund struct {
	RefundID  string     `json:"refund_id" doc:"UUID"`
	Money     core.Money `json:"money"`
	Status    string     `json:"status" enum:"pending,succeeded,failed"`
	Reason    string     `json:"reason,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
}

// PaymentChange is one line of a payment's history.
type PaymentChange struct {
	Status   string    `json:"status"`
	Refunded int64     `json:"refunded"`
	Reason   string    `json:"reason,omitempty"`
	Source   string    `json:"source" doc:"Who said so: payer, platform, gateway (it was asked), webhook"`
	At       time.Time `json:"at"`
}

// PaymentAction is what the payer has to do for their bank.
type PaymentAction struct {
	URL          string `json:"url,omitempty" doc:"A page to open"`
	ClientSecret string `json:"client_secret" doc:"For the gateway's own library. It is the payer's alone: don't store or log it"`
}

// PaymentDetails are a payment with all that is known of it.
type PaymentDetails struct {
	Payment
	Refunds []PaymentRefund `json:"refunds" nullable:"false"`
	History []PaymentChange `json:"history" nullable:"false"`
	Action  *PaymentAction  `json:"action,omitempty" doc:"Told to the payer, while status is requires_action"`
}

func paymentOf(p payments.Payment) Payment {
	out := Payment{
		PaymentID: p.ID.String(), UserID: p.User.String(), Kind: p.Kind, Ref: p.Ref.String(), Money: p.Money, Status: string(p.Status), Reason: p.Reason,
		Refunded: p.Refunded, Gateway: p.Gateway, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
	if p.To != (core.UserID{}) {
		out.To = p.To.String()
	}
	return out
}

func refundOf(r payments.Refund) PaymentRefund {
	return PaymentRefund{r.ID.String(), r.Money, string(r.Status), r.Reason, r.CreatedAt}
}

// PaymentAnswer is a payment.
type PaymentAnswer struct{ Body Payment }

func paymentAnswer(p payments.Payment, err error) (*PaymentAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &PaymentAnswer{paymentOf(p)}, nil
}

// paymentID reads an id. A malformed one is no payment's.
func paymentID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return id, payments.ErrNoPayment
	}
	return id, nil
}

// hookInput is a webhook as it came, with whatever header its signature is in.
type hookInput struct {
	Gateway string `path:"gateway" example:"stripe"`
	RawBody []byte `contentType:"application/json"`
	header  http.Header
}

// Resolve satisfies huma.Resolver.
func (in *hookInput) Resolve(ctx huma.Context) []error {
	in.header = http.Header{}
	ctx.EachHeader(in.header.Add)
	return nil
}

func (a *api) paymentOperations() {
	const tag = "payments"

	register(a, operation{id: "hear-payment-gateway", method: http.MethodPost, path: "/payments/webhooks/{gateway}", tag: tag, public: true, raw: true,
		refuses: []int{http.StatusNotFound},
		apart:   "an event counts once, by its id",
		summary: "For the payment gateway alone: what became of payments, signed by it"},
		func(ctx context.Context, in *hookInput) (*Success, error) {
			return success(a.Payments.Hook(ctx, in.Gateway, in.header, in.RawBody))
		})

	type paySettlementInput struct {
		Group      string `path:"group_id"`
		Settlement string `path:"settlement_id"`
		Body       struct {
			Method string `json:"payment_method" maxLength:"200" doc:"The gateway's id of it, such as Stripe's pm_…: what the payer gave to the gateway itself. Never the data of a card" example:"pm_card_visa"`
		}
	}
	register(a, operation{id: "pay-settlement", method: http.MethodPost, path: "/groups/{group_id}/settlements/{settlement_id}/payment", tag: tag, status: http.StatusAccepted,
		summary: "Pay a settlement of the method card: its payer. The gateway is asked once this is stored; what it says comes as payment.updated, and the settlement follows"},
		func(ctx context.Context, in *paySettlementInput) (*PaymentAnswer, error) {
			group, id, err := groupAnd(in.Group, in.Settlement, expenses.ErrNoSettlement)
			if err != nil {
				return nil, err
			}
			return paymentAnswer(a.Payments.Settle(ctx, caller(ctx).User, group, id, in.Body.Method))
		})

	type listPaymentsInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type listPaymentsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Payments []Payment `json:"payments" nullable:"false"`
		}
	}
	register(a, operation{id: "list-payments", method: http.MethodGet, path: "/payments", tag: tag, summary: "What you paid, or were paid, by a gateway, the latest first"},
		func(ctx context.Context, in *listPaymentsInput) (*listPaymentsOutput, error) {
			list, next, err := a.Payments.List(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &listPaymentsOutput{Link: nextPage("/payments", in.Limit, next)}
			out.Body.Payments = make([]Payment, len(list))
			for i, p := range list {
				out.Body.Payments[i] = paymentOf(p)
			}
			return out, nil
		})

	type paymentInput struct {
		Payment string `path:"payment_id"`
	}
	type paymentOutput struct{ Body PaymentDetails }
	register(a, operation{id: "get-payment", method: http.MethodGet, path: "/payments/{payment_id}", tag: tag, summary: "A payment, its refunds and its history; to its payer, too, what their bank wants of them"},
		func(ctx context.Context, in *paymentInput) (*paymentOutput, error) {
			id, err := paymentID(in.Payment)
			if err != nil {
				return nil, err
			}
			d, err := a.Payments.Get(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			out := &paymentOutput{PaymentDetails{Payment: paymentOf(d.Payment), Refunds: make([]PaymentRefund, len(d.Refunds)), History: make([]PaymentChange, len(d.History))}}
			for i, r := range d.Refunds {
				out.Body.Refunds[i] = refundOf(r)
			}
			for i, c := range d.History {
				out.Body.History[i] = PaymentChange{string(c.Status), c.Refunded, c.Reason, c.Source, c.At}
			}
			if d.Next != (payments.Action{}) {
				out.Body.Action = &PaymentAction{d.Next.URL, d.Next.Secret}
			}
			return out, nil
		})

	register(a, operation{id: "cancel-payment", method: http.MethodPost, path: "/payments/{payment_id}/cancel", tag: tag, status: http.StatusAccepted,
		summary: "Cancel a payment of yours that isn't over. Whether that was in time its status says"},
		func(ctx context.Context, in *paymentInput) (*PaymentAnswer, error) {
			id, err := paymentID(in.Payment)
			if err != nil {
				return nil, err
			}
			return paymentAnswer(a.Payments.Cancel(ctx, caller(ctx).User, id))
		})

	type refundInput struct {
		Payment string `path:"payment_id"`
		Body    struct {
			Amount int64 `json:"amount,omitempty" minimum:"0" doc:"Minor units; absent: all that is left"`
		}
	}
	type refundOutput struct{ Body PaymentRefund }
	register(a, operation{id: "refund-payment", method: http.MethodPost, path: "/payments/{payment_id}/refund", tag: tag, status: http.StatusAccepted,
		summary: "Give back what you were paid, or a part of it. When it has come through the payment says, and what it was for is owed again"},
		func(ctx context.Context, in *refundInput) (*refundOutput, error) {
			id, err := paymentID(in.Payment)
			if err != nil {
				return nil, err
			}
			r, err := a.Payments.Refund(ctx, caller(ctx).User, id, in.Body.Amount)
			if err != nil {
				return nil, err
			}
			return &refundOutput{refundOf(r)}, nil
		})
}
