package subscriptions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrNoPlan        = errs.New(errs.NotFound, "plan_not_found", "there is no such plan: see GET /plans")
	ErrNotOffered    = errs.New(errs.Invalid, "currency_not_offered", "the plan has no price in this currency: see GET /plans").At("body.currency")
	ErrBadMethod     = errs.New(errs.Invalid, "bad_payment_method", "a payment method is what the payment gateway calls it, at most 200 characters").At("body.payment_method")
	ErrNoGateway     = errs.New(errs.Conflict, "no_payments", "nobody can pay here: this deployment has no payment gateway")
	ErrNone          = errs.New(errs.NotFound, "no_subscription", "you have no subscription, or it has ended")
	ErrPending       = errs.New(errs.Conflict, "payment_pending", "a payment is under way: wait for what becomes of it")
	ErrOtherCurrency = errs.New(errs.Conflict, "other_currency", "your subscription is paid in another currency: end it first")
)

const maxMethod = 200

// Gateway takes money: core/payments satisfies it, by an adapter.
type Gateway interface {
	// Charge begins a payment in the caller's transaction. What becomes of it is told
	// to Paid or Failed.
	Charge(ctx context.Context, tx pgx.Tx, o Order) error
	// Return gives back all of a payment, once the caller's transaction has committed.
	Return(ctx context.Context, tx pgx.Tx, payment uuid.UUID) error
}

// Order is a payment to be made.
type Order struct {
	ID     uuid.UUID // the payment's
	Charge uuid.UUID // of which one payment is under way at a time
	User   core.UserID
	Amount core.Money
	Method string // the gateway's name for it
	// Away says that the user isn't there to be asked anything: Method has paid before.
	// Else it is to be saved, so that it can be charged so later.
	Away bool
}

// Notifier tells users what becomes of their subscription; core/notify satisfies it.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Currency core.Currency    // of who says none. Default EUR
	Now      func() time.Time // default: the database's clock
	Notify   Notifier         // nil: nobody is told
	// Changed is called in each transaction that changes what a user has, and returns
	// the version of their profile as of then; users.Changed. nil: nobody else shows it.
	Changed func(ctx context.Context, tx pgx.Tx, user core.UserID) (version uint64, err error)
}

// Store is all subscriptions. It is safe for concurrent use, on many nodes.
type Store struct {
	db      *db.DB
	books   *ledger.Store
	gateway Gateway
	cfg     Config
	rights  *Entitlements
}

// New returns a Store. Without a gateway nobody can subscribe.
func New(d *db.DB, books *ledger.Store, gateway Gateway, cfg Config) *Store {
	cfg.Currency = cmp.Or(cfg.Currency, "EUR")
	s := &Store{db: d, books: books, gateway: gateway, cfg: cfg}
	s.rights = newEntitlements(s)
	return s
}

// Entitlements are what users may do for what they pay.
func (s *Store) Entitlements() *Entitlements { return s.rights }

// Get returns a user's subscription, which may have ended, or be none.
func (s *Store) Get(ctx context.Context, user core.UserID) (sub Subscription, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		sub, _, err = s.load(ctx, tx, user)
		return err
	})
	if err != nil {
		return Subscription{}, fmt.Errorf("subscription: %w", err)
	}
	return sub, nil
}

// Status is what a user's profile says of it.
func (s *Store) Status(ctx context.Context, q db.Querier, user core.UserID) (State, error) {
	sub := Subscription{}
	err := q.QueryRow(ctx, `SELECT state, cancel FROM subscriptions WHERE user_id = $1`, user).Scan(&sub.State, &sub.Cancel)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("subscription: %w", err)
	}
	return sub.Status(), nil
}

// Subscribe begins a subscription, changes the plan of one, or how it is paid; free
// ends it with its period. An empty currency is that of the present one.
func (s *Store) Subscribe(ctx context.Context, user core.UserID, planID, method string, currency core.Currency) (Subscription, error) {
	if planID == Free {
		return s.Cancel(ctx, user)
	}
	if s.gateway == nil {
		return Subscription{}, ErrNoGateway
	}
	if clean, ok := core.CleanText(method, 1, maxMethod, false); !ok || clean != method {
		return Subscription{}, ErrBadMethod
	}
	return s.decide(ctx, user, func(ctx context.Context, tx pgx.Tx, now time.Time, sub Subscription) (Subscription, Effects, error) {
		p, err := plan(ctx, tx, planID)
		if err != nil {
			return sub, Effects{}, err
		}
		in := cmp.Or(currency, s.cfg.Currency)
		if currency == "" && sub.live() {
			in = sub.Terms.Price.Currency
		}
		price, ok := p.Price(in)
		if !ok {
			return sub, Effects{}, ErrNotOffered
		}
		return sub.Subscribe(now, Terms{Plan: p.ID, Rank: p.Rank, Price: price, Months: p.Months}, method, time.Duration(p.TrialDays)*day)
	})
}

// Cancel ends a subscription with what is paid for.
func (s *Store) Cancel(ctx context.Context, user core.UserID) (Subscription, error) {
	return s.decide(ctx, user, func(_ context.Context, _ pgx.Tx, now time.Time, sub Subscription) (Subscription, Effects, error) {
		return sub.CancelAtEnd(now)
	})
}

// Resume takes a cancellation back.
func (s *Store) Resume(ctx context.Context, user core.UserID) (Subscription, error) {
	return s.decide(ctx, user, func(_ context.Context, _ pgx.Tx, now time.Time, sub Subscription) (Subscription, Effects, error) {
		return sub.Resume(now)
	})
}

// decide makes and keeps a decision about a user's subscription.
func (s *Store) decide(ctx context.Context, user core.UserID,
	fn func(ctx context.Context, tx pgx.Tx, now time.Time, sub Subscription) (Subscription, Effects, error)) (sub Subscription, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		before, now, err := s.load(ctx, tx, user)
		if err != nil {
			return err
		}
		after, effects, err := fn(ctx, tx, now, before)
		if err != nil {
			return err
		}
		if err := s.keep(ctx, tx, now, before, after, effects); err != nil {
			return err
		}
		sub, _, err = s.load(ctx, tx, user)
		return err
	})
	if err != nil {
		return Subscription{}, fmt.Errorf("subscription: %w", err)
	}
	return sub, nil
}

// load reads what a user has, and what time it is.
func (s *Store) load(ctx context.Context, q db.Querier, user core.UserID) (sub Subscription, now time.Time, err error) {
	sub.User = user
	var nextPlan *string
	var nextRank, nextAmount, nextMonths *int64
	err = q.QueryRow(ctx,
		`SELECT now(), s.version, s.state, s.cancel, s.plan_id, p.rank, s.amount, s.currency, s.months, s.next_plan_id, n.rank, s.next_amount, s.next_months,
		   s.payment_method, s.method_saved, s.trialed, s.period, s.starts_at, s.ends_at, s.anchor_at, s.anchor_months
		 FROM subscriptions s JOIN plans p ON p.id = s.plan_id LEFT JOIN plans n ON n.id = s.next_plan_id WHERE s.user_id = $1`, user).
		Scan(&now, &sub.Version, &sub.State, &sub.Cancel, &sub.Terms.Plan, &sub.Terms.Rank, &sub.Terms.Price.Amount, &sub.Terms.Price.Currency, &sub.Terms.Months,
			&nextPlan, &nextRank, &nextAmount, &nextMonths, &sub.Method, &sub.Saved, &sub.Trialed, &sub.Period,
			&sub.Span.Starts, &sub.Span.Ends, &sub.Span.Anchor, &sub.Span.Months)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		err = q.QueryRow(ctx, `SELECT now()`).Scan(&now)
	case err == nil && nextPlan != nil:
		sub.Next = &Terms{*nextPlan, *nextRank, core.Money{Amount: *nextAmount, Currency: sub.Terms.Price.Currency}, int(*nextMonths)}
	}
	if err != nil {
		return Subscription{}, now, err
	}
	sub.Span.utc()
	if now = now.UTC(); s.cfg.Now != nil {
		now = s.cfg.Now().UTC().Truncate(time.Microsecond)
	}
	if sub.live() {
		if sub.Charge, err = openCharge(ctx, q, user); err != nil {
			return Subscription{}, now, err
		}
	}
	present := Free
	if now.Before(sub.PaidUntil()) {
		present = sub.Terms.Plan
	}
	err = q.QueryRow(ctx, `SELECT features FROM plans WHERE id = $1`, present).Scan(&sub.Features)
	return sub, now, err
}

func (s *Span) utc() {
	s.Starts, s.Ends, s.Anchor = s.Starts.UTC(), s.Ends.UTC(), s.Anchor.UTC()
}

func openCharge(ctx context.Context, q db.Querier, user core.UserID) (*Charge, error) {
	c := &Charge{}
	var trying *uuid.UUID
	var failed, next *time.Time
	err := q.QueryRow(ctx,
		`SELECT c.id, c.period, c.plan_id, p.rank, c.price, c.currency, c.months, c.amount, c.starts_at, c.ends_at, c.anchor_at, c.anchor_months,
		   c.attempts, c.trying, c.failed_at, c.next_try_at
		 FROM subscription_charges c JOIN plans p ON p.id = c.plan_id WHERE c.user_id = $1 AND c.state = 'open'`, user).
		Scan(&c.ID, &c.Period, &c.Terms.Plan, &c.Terms.Rank, &c.Terms.Price.Amount, &c.Terms.Price.Currency, &c.Terms.Months, &c.Amount.Amount,
			&c.Span.Starts, &c.Span.Ends, &c.Span.Anchor, &c.Span.Months, &c.Attempts, &trying, &failed, &next)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	c.Amount.Currency = c.Terms.Price.Currency
	c.Span.utc()
	if trying != nil {
		c.Trying = *trying
	}
	if failed != nil {
		c.FailedAt = failed.UTC()
	}
	if next != nil {
		c.NextTry = next.UTC()
	}
	return c, err
}

// orNull is how a time that may be missing is kept.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// keep writes a decision and has its effects.
func (s *Store) keep(ctx context.Context, tx pgx.Tx, now time.Time, before, after Subscription, e Effects) error {
	if reflect.DeepEqual(before, after) && e == (Effects{}) {
		return nil
	}
	var b pgx.Batch
	keepSubscription(&b, after)
	if e.Void != uuid.Nil { // first: it makes room for another
		b.Queue(`UPDATE subscription_charges SET state = 'void', trying = NULL, next_try_at = NULL WHERE id = $1 AND state = 'open'`, e.Void)
	}
	if e.Open != nil {
		keepCharge(&b, now, after.User, *e.Open)
	} else if after.Charge != nil {
		keepCharge(&b, now, after.User, *after.Charge)
	}
	if e.Paid != nil {
		b.Queue(`UPDATE subscription_charges SET state = 'paid', trying = NULL, next_try_at = NULL, paid_at = $2 WHERE id = $1`, e.Paid.ID, now)
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	if c := after.Charge; e.Try {
		if err := s.gateway.Charge(ctx, tx, Order{c.Trying, c.ID, after.User, c.Amount, after.Method, e.Away && after.Saved}); err != nil {
			return err
		}
	}
	if e.Paid != nil && e.Paid.Amount.Amount > 0 {
		// They owe it to the deployment; that it was paid to the gateway is in the book
		// by core/payments.
		if _, err := s.books.Post(ctx, tx, ledger.UserBook(after.User), ledger.Entry{
			ID: e.Paid.ID, Kind: "subscription", Ref: e.Paid.ID, By: after.User,
			Lines: []ledger.Line{{Debtor: ledger.User(after.User), Creditor: ledger.Platform, Money: e.Paid.Amount}},
		}); err != nil {
			return err
		}
	}
	if err := s.tell(ctx, tx, after, e.Tell); err != nil {
		return err
	}
	return s.changed(ctx, tx, after.User, after.Version+1)
}

func keepSubscription(b *pgx.Batch, s Subscription) {
	var nextPlan *string
	var nextAmount *int64
	var nextMonths *int
	if s.Next != nil {
		nextPlan, nextAmount, nextMonths = &s.Next.Plan, &s.Next.Price.Amount, &s.Next.Months
	}
	b.Queue(`INSERT INTO subscriptions (user_id, version, state, cancel, plan_id, amount, currency, months, next_plan_id, next_amount, next_months,
		   payment_method, method_saved, trialed, period, starts_at, ends_at, anchor_at, anchor_months, due_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
		 ON CONFLICT (user_id) DO UPDATE SET version = excluded.version, state = excluded.state, cancel = excluded.cancel, plan_id = excluded.plan_id,
		   amount = excluded.amount, currency = excluded.currency, months = excluded.months, next_plan_id = excluded.next_plan_id,
		   next_amount = excluded.next_amount, next_months = excluded.next_months, payment_method = excluded.payment_method, method_saved = excluded.method_saved, trialed = excluded.trialed,
		   period = excluded.period, starts_at = excluded.starts_at, ends_at = excluded.ends_at, anchor_at = excluded.anchor_at,
		   anchor_months = excluded.anchor_months, due_at = excluded.due_at`,
		s.User, s.Version+1, s.State, s.Cancel, s.Terms.Plan, s.Terms.Price.Amount, s.Terms.Price.Currency, s.Terms.Months, nextPlan, nextAmount, nextMonths,
		s.Method, s.Saved, s.Trialed, s.Period, s.Span.Starts, s.Span.Ends, s.Span.Anchor, s.Span.Months, orNull(s.Due()))
}

func keepCharge(b *pgx.Batch, now time.Time, user core.UserID, c Charge) {
	var trying *uuid.UUID
	if c.Trying != uuid.Nil {
		trying = &c.Trying
	}
	b.Queue(`INSERT INTO subscription_charges (id, user_id, period, plan_id, price, amount, currency, months, starts_at, ends_at, anchor_at, anchor_months,
		   state, attempts, trying, failed_at, next_try_at, created_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'open', $13, $14, $15, $16, $17)
		 ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, trying = excluded.trying, failed_at = excluded.failed_at, next_try_at = excluded.next_try_at`,
		c.ID, user, c.Period, c.Terms.Plan, c.Terms.Price.Amount, c.Amount.Amount, c.Amount.Currency, c.Terms.Months,
		c.Span.Starts, c.Span.Ends, c.Span.Anchor, c.Span.Months, c.Attempts, trying, orNull(c.FailedAt), orNull(c.NextTry), now)
}

// notices are the kinds of notification by what is told.
var notices = map[News]string{Renewed: "subscription_renewed", PaymentFailed: "subscription_payment_failed", Ended: "subscription_ended"}

func (s *Store) tell(ctx context.Context, tx pgx.Tx, sub Subscription, n News) error {
	if n == "" || s.cfg.Notify == nil {
		return nil
	}
	again := ""
	if sub.Charge != nil && !sub.Charge.NextTry.IsZero() {
		again = sub.Charge.NextTry.Format(time.DateOnly)
	}
	return s.cfg.Notify.Notify(ctx, tx, sub.User, notices[n], map[string]any{
		"plan": sub.Terms.Plan, "until": sub.Span.Ends.Format(time.DateOnly), "again": again,
	})
}

// changed has everybody who remembers what a user has forget it.
func (s *Store) changed(ctx context.Context, tx pgx.Tx, user core.UserID, version uint64) error {
	if err := outbox.Append(ctx, tx, outbox.Event{Key: user.Key(), Kind: core.SubscriptionUpdated, Data: core.SubscriptionEvent{Version: version}}); err != nil {
		return err
	}
	if s.cfg.Changed == nil {
		db.AfterCommit(ctx, func(context.Context) { s.rights.forget(user) })
		return nil
	}
	profile, err := s.cfg.Changed(ctx, tx, user)
	if err == nil {
		db.AfterCommit(ctx, func(context.Context) { s.rights.Changed(user, profile) })
	}
	return err
}
