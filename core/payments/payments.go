package payments

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrNoPayment  = errs.New(errs.NotFound, "payment_not_found", "there is no such payment of yours")
	ErrNoGateway  = errs.New(errs.NotFound, "gateway_not_found", "there is no such gateway here")
	ErrMethod     = errs.New(errs.Invalid, "bad_payment_method", "a payment method is the gateway's id of it, such as pm_…: never the data of a card").At("body.payment_method")
	ErrUnderWay   = errs.New(errs.Conflict, "payment_under_way", "there is a payment of this already: wait for it, or cancel it")
	ErrOver       = errs.New(errs.Conflict, "payment_over", "this payment is over: it can't be canceled any more")
	ErrRefundable = errs.New(errs.Conflict, "not_refundable", "so much of this payment can't be given back")
	ErrSignature  = errs.New(errs.Invalid, "bad_signature", "this is not signed by the gateway, or too long ago").At("header")
	ErrBadEvent   = errs.New(errs.Invalid, "bad_event", "this is no event of the gateway's")
)

// Charge is what is to be paid.
type Charge struct {
	ID     uuid.UUID   // default: a random one
	User   core.UserID // who pays
	To     core.UserID // who gets it; zero: the platform
	Kind   string      // what it is for: its Purpose is told
	Ref    uuid.UUID   // which one: of each kind and ref one payment is under way at a time
	Money  core.Money
	Method string // of the payer, by the gateway's id

	// OffSession says that the payer isn't there: where they would be asked something, it
	// fails. The method is one that an earlier payment has saved.
	OffSession bool
	Save       bool // so that Payment.Method can be charged later, off session
}

// Payment is a charge, and how it goes.
type Payment struct {
	Charge
	Gateway   string
	Status    Status
	Reason    string // why it failed, in the gateway's word, such as card_declined
	Refunded  int64  // of Money.Amount, in its currency
	CreatedAt time.Time
	UpdatedAt time.Time

	gatewayID string // of the intent; empty: there is none that we know
	customer  string // of the payer, at the gateway
	phase     Phase
	stop      bool // somebody wants it canceled
	version   int64
	tries     int // calls that failed in a row
	nextAt    *time.Time
	refunds   []Refund
}

// Refund is money that goes back.
type Refund struct {
	ID        uuid.UUID
	Payment   uuid.UUID
	Money     core.Money
	Status    RefundStatus
	Reason    string
	By        core.UserID // zero: an operator, at the gateway
	CreatedAt time.Time
	gatewayID string
}

// Purpose is what payments of a kind are for. Each of its methods is called once for
// what it says, in the transaction in which that becomes so: what it writes by tx, or by
// stores that it gives ctx to, is there if that is. An error keeps that from becoming so,
// and it is tried again. It may run several times, as any transaction.
type Purpose interface {
	Paid(ctx context.Context, tx pgx.Tx, p Payment) error
	// Failed: it is over and nothing was taken. p.Status is Failed or Canceled.
	Failed(ctx context.Context, tx pgx.Tx, p Payment) error
	// Refunded: r.Money went back, with which it is p.Refunded in all.
	Refunded(ctx context.Context, tx pgx.Tx, p Payment, r Refund) error
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Log     *slog.Logger          // default: discard
	Metrics prometheus.Registerer // nil: not registered
	Now     func() time.Time      // default time.Now
}

// Store is all payments. It is safe for concurrent use.
type Store struct {
	db       *db.DB
	ledger   *ledger.Store
	gateway  Gateway
	purposes map[string]Purpose
	cfg      Config
	metrics  *metrics
}

// New returns a Store whose payments go by gateway.
func New(d *db.DB, books *ledger.Store, gateway Gateway, cfg Config) *Store {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, ledger: books, gateway: gateway, purposes: map[string]Purpose{}, cfg: cfg, metrics: newMetrics(cfg.Metrics)}
}

// For says what payments of a kind are for. Call it before the store is used.
func (s *Store) For(kind string, p Purpose) { s.purposes[kind] = p }

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Start begins a payment in the caller's transaction: with its COMMIT, and not before,
// the gateway is asked, in the background. So what it answers, even no, comes later: to
// the Purpose, and as an event to the payer.
func (s *Store) Start(ctx context.Context, tx pgx.Tx, c Charge) (Payment, error) {
	if s.purposes[c.Kind] == nil {
		return Payment{}, fmt.Errorf("start payment: nobody knows what %q is for", c.Kind)
	}
	if err := c.Money.Check(); err != nil {
		return Payment{}, err
	}
	if c.Money.Amount <= 0 {
		return Payment{}, core.ErrAmount
	}
	if !method(c.Method) {
		return Payment{}, ErrMethod
	}
	if c.ID == uuid.Nil {
		c.ID = uuid.New()
	}
	now := s.now()
	p := Payment{Charge: c, Gateway: s.gateway.Name(), Status: Created, CreatedAt: now, UpdatedAt: now, version: 1, nextAt: new(now.Add(handOver))}
	if err := insert(ctx, tx, p); err != nil {
		return Payment{}, err
	}
	if err := s.told(ctx, tx, p, bySelf(c)); err != nil {
		return Payment{}, err
	}
	return p, drive(ctx, tx, false, p.ID)
}

// handOver is how long the job of a payment has, before it is looked at by the schedule.
const handOver = time.Minute

func bySelf(c Charge) string {
	if c.OffSession {
		return byUs
	}
	return byPayer
}

// Job is the kind of job that takes a payment on.
const Job = "payment"

type job struct {
	Payment uuid.UUID `json:"payment_id"`
	Ask     bool      `json:"ask,omitempty"`
}

// drive has payments taken on once this has committed. Of a job that fails, the schedule
// takes the place: see CheckDue.
func drive(ctx context.Context, tx pgx.Tx, ask bool, ids ...uuid.UUID) error {
	list := make([]jobs.Job, len(ids))
	for i, id := range ids {
		list[i] = jobs.Job{Kind: Job, Payload: job{id, ask}, MaxAttempts: 5}
	}
	return jobs.Enqueue(ctx, tx, list...)
}

// Do is the handler of Job.
func (s *Store) Do(ctx context.Context, w jobs.Work) error {
	var j job
	if err := w.Decode(&j); err != nil {
		return err
	}
	return s.Advance(ctx, j.Payment, j.Ask)
}

// method reports whether this could be a gateway's id of a method. Above all it is no
// number of a card.
func method(s string) bool {
	if len(s) < 4 || len(s) > 200 {
		return false
	}
	letters := false
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			letters = true
		case c >= '0' && c <= '9', c == '-':
		default:
			return false
		}
	}
	return letters
}
