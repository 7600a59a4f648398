package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/subscriptions"
)

// SubscriptionView is what a user has subscribed to.
type SubscriptionView struct {
	PlanID        string      `json:"plan_id" doc:"Of GET /plans; of who has none, free"`
	Status        string      `json:"subscription_status" enum:"free,incomplete,trialing,active,past_due,canceled,expired"`
	Expiry        *time.Time  `json:"subscription_expiry" doc:"The end of what is paid for, or was; null: nothing ever was"`
	Price         *core.Money `json:"price,omitempty" doc:"Of a period"`
	Months        int         `json:"months,omitempty" doc:"That a period has"`
	Period        int64       `json:"period" doc:"The number of the newest period that was paid for; 0: none"`
	Renews        bool        `json:"renews" doc:"Another period follows"`
	NextPlanID    string      `json:"next_plan_id,omitempty" doc:"The plan from the next period on, if that is another one"`
	PaymentMethod string      `json:"payment_method,omitempty" doc:"What the payment gateway calls it"`
	PaymentID     string      `json:"payment_id,omitempty" doc:"The payment that is under way: see GET /payments/{payment_id}"`
	NextAttempt   *time.Time  `json:"next_attempt,omitempty" doc:"When a payment that failed is tried again"`
}

func subscriptionView(s subscriptions.Subscription) SubscriptionView {
	out := SubscriptionView{PlanID: subscriptions.Free, Status: string(s.Status()), Period: s.Period}
	if s.State == "" {
		return out
	}
	if s.State != subscriptions.Incomplete {
		out.Expiry = &s.Span.Ends
	}
	if s.State == subscriptions.Expired {
		return out
	}
	out.PlanID, out.Price, out.Months, out.PaymentMethod = s.Terms.Plan, &s.Terms.Price, s.Terms.Months, s.Method
	out.Renews = !s.Cancel
	if s.Next != nil {
		out.NextPlanID = s.Next.Plan
	}
	if c := s.Charge; c != nil && c.Trying != uuid.Nil {
		out.PaymentID = c.Trying.String()
	} else if c != nil {
		out.NextAttempt = &c.NextTry
	}
	return out
}

// SubscriptionPlan is what can be subscribed to.
type SubscriptionPlan struct {
	PlanID    string         `json:"plan_id"`
	Name      string         `json:"name"`
	Months    int            `json:"months" doc:"That a period has"`
	TrialDays int            `json:"trial_days" doc:"For who never had any"`
	Prices    []core.Money   `json:"prices" nullable:"false" doc:"Of a period, in each currency that it can be paid in; none: it costs nothing"`
	Features  map[string]any `json:"features" doc:"Switches (true) and numbers, by name"`
}

// subscriptionChange is how a change of the subscription is answered.
type subscriptionChange struct {
	Body struct {
		Success      bool             `json:"success"`
		Subscription SubscriptionView `json:"subscription"`
	}
}

func changedSubscription(s subscriptions.Subscription, err error) (*subscriptionChange, error) {
	if err != nil {
		return nil, err
	}
	out := &subscriptionChange{}
	out.Body.Success, out.Body.Subscription = true, subscriptionView(s)
	return out, nil
}

func (a *api) subscriptionOperations() {
	const tag = "subscriptions"

	type plansOutput struct {
		Body struct {
			Plans []SubscriptionPlan `json:"plans" nullable:"false"`
		}
	}
	register(a, operation{id: "list-plans", method: http.MethodGet, path: "/plans", tag: tag, stale: true, summary: "What can be subscribed to, the cheapest first"},
		func(ctx context.Context, _ *struct{}) (*plansOutput, error) {
			list, err := a.Subscriptions.Plans(ctx)
			if err != nil {
				return nil, err
			}
			out := &plansOutput{}
			out.Body.Plans = make([]SubscriptionPlan, len(list))
			for i, p := range list {
				out.Body.Plans[i] = SubscriptionPlan{PlanID: p.ID, Name: p.Name, Months: p.Months, TrialDays: p.TrialDays, Features: p.Features,
					Prices: append([]core.Money{}, p.Prices...)}
			}
			return out, nil
		})

	type mySubscriptionOutput struct {
		Body struct {
			Status       string           `json:"subscription_status" enum:"free,incomplete,trialing,active,past_due,canceled,expired"`
			Expiry       *time.Time       `json:"subscription_expiry" doc:"The end of what is paid for, or was; null: nothing ever was"`
			Features     map[string]any   `json:"features" doc:"What you may do now: switches (true) and numbers, by name"`
			Subscription SubscriptionView `json:"subscription"`
		}
	}
	register(a, operation{id: "get-subscription", method: http.MethodGet, path: "/users/subscription", tag: tag, summary: "What you have subscribed to, and what you may do for it"},
		func(ctx context.Context, _ *struct{}) (*mySubscriptionOutput, error) {
			s, err := a.Subscriptions.Get(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			view := subscriptionView(s)
			out := &mySubscriptionOutput{}
			out.Body.Status, out.Body.Expiry, out.Body.Features, out.Body.Subscription = view.Status, view.Expiry, s.Features, view
			return out, nil
		})

	type planInput struct {
		Body struct {
			PlanID        string        `json:"plan_id" doc:"Of GET /plans; free ends it with what is paid for"`
			PaymentMethod string        `json:"payment_method" doc:"What the payment gateway calls it, such as pm_…; never the data of a card"`
			Currency      core.Currency `json:"currency,omitempty" doc:"In which it is paid; default: as before, or the deployment's"`
		}
	}
	register(a, operation{id: "choose-plan", method: http.MethodPost, path: "/users/subscription", tag: tag,
		summary: "Subscribe to a plan, change it, or how it is paid. A dearer plan begins at once, and what is left of the period is taken off its price; a cheaper one begins with the next period"},
		func(ctx context.Context, in *planInput) (*subscriptionChange, error) {
			return changedSubscription(a.Subscriptions.Subscribe(ctx, caller(ctx).User, in.Body.PlanID, in.Body.PaymentMethod, in.Body.Currency))
		})

	register(a, operation{id: "cancel-subscription", method: http.MethodDelete, path: "/users/subscription", tag: tag, summary: "End your subscription with what is paid for"},
		func(ctx context.Context, _ *struct{}) (*subscriptionChange, error) {
			return changedSubscription(a.Subscriptions.Cancel(ctx, caller(ctx).User))
		})

	register(a, operation{id: "resume-subscription", method: http.MethodPost, path: "/users/subscription/resume", tag: tag, summary: "Have a subscription that you ended go on, before it has ended"},
		func(ctx context.Context, _ *struct{}) (*subscriptionChange, error) {
			return changedSubscription(a.Subscriptions.Resume(ctx, caller(ctx).User))
		})
}
