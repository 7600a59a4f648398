package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
)

// RenewEvery is how often RenewDue is called.
const RenewEvery = time.Minute

// renewAtOnce is how many that are due are looked for at a time.
const renewAtOnce = 200

// RenewDue renews, tries again and ends what has come due. It can be called at any
// time, by several at once.
func (s *Store) RenewDue(ctx context.Context) error {
	var last core.UserID
	var failed error
	for {
		var due []core.UserID
		err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			var now *time.Time
			if s.cfg.Now != nil {
				now = new(s.cfg.Now())
			}
			rows, err := q.Query(ctx,
				`SELECT s.user_id FROM subscriptions s JOIN users u ON u.id = s.user_id
				 WHERE s.due_at <= coalesce($1, now()) AND s.user_id > $2 AND u.deleted_at IS NULL ORDER BY s.user_id LIMIT $3`, now, last, renewAtOnce)
			if err != nil {
				return err
			}
			due, err = pgx.CollectRows(rows, pgx.RowTo[core.UserID])
			return err
		})
		if err != nil {
			return errors.Join(failed, fmt.Errorf("renew subscriptions: %w", err))
		}
		for _, user := range due { // one that fails keeps no other from its own
			last = user
			if _, err := s.decide(ctx, user, func(_ context.Context, _ pgx.Tx, now time.Time, sub Subscription) (Subscription, Effects, error) {
				sub, e := sub.Tick(now)
				return sub, e, nil
			}); err != nil {
				failed = errors.Join(failed, fmt.Errorf("renew %s: %w", user, err))
			}
		}
		if len(due) < renewAtOnce {
			return failed
		}
	}
}

// Payment is one as its purpose hears of it.
type Payment struct {
	ID       uuid.UUID // of the attempt
	Charge   uuid.UUID // what it refers to
	User     core.UserID
	Method   string // by which it can be charged again; empty: as before
	Refunded int64  // of it, so far
}

// kept is a charge as it is kept.
type kept struct {
	state    string
	period   int64
	amount   core.Money
	payment  *uuid.UUID
	refunded int64
}

func find(ctx context.Context, tx pgx.Tx, charge uuid.UUID) (c kept, err error) {
	err = tx.QueryRow(ctx, `SELECT state, period, amount, currency, payment_id, refunded FROM subscription_charges WHERE id = $1`, charge).
		Scan(&c.state, &c.period, &c.amount.Amount, &c.amount.Currency, &c.payment, &c.refunded)
	if errors.Is(err, pgx.ErrNoRows) { // the account is gone
		err = nil
	}
	return c, err
}

// Paid hears, in the transaction in which that becomes so, that a payment has
// succeeded. Again it changes nothing.
func (s *Store) Paid(ctx context.Context, tx pgx.Tx, p Payment) error {
	c, err := find(ctx, tx, p.Charge)
	switch {
	case err != nil:
		return fmt.Errorf("subscription paid: %w", err)
	case c.payment != nil && *c.payment == p.ID:
		return nil
	case c.state != "open":
		return s.gateway.Return(ctx, tx, p.ID)
	}
	before, now, err := s.load(ctx, tx, p.User)
	if err != nil {
		return fmt.Errorf("subscription paid: %w", err)
	}
	after, e := before.Paid(now, p.Charge)
	if e.Refund {
		return s.gateway.Return(ctx, tx, p.ID)
	}
	if p.Method != "" {
		after.Method, after.Saved = p.Method, true
	}
	if err := s.keep(ctx, tx, now, before, after, e); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE subscription_charges SET payment_id = $2 WHERE id = $1`, p.Charge, p.ID); err != nil {
		return fmt.Errorf("subscription paid: %w", err)
	}
	return nil
}

// Failed hears that a payment is over, and nothing was taken.
func (s *Store) Failed(ctx context.Context, tx pgx.Tx, p Payment) error {
	before, now, err := s.load(ctx, tx, p.User)
	if err != nil {
		return fmt.Errorf("subscription payment failed: %w", err)
	}
	after, e := before.Failed(now, p.ID)
	return s.keep(ctx, tx, now, before, after, e)
}

// Refunded hears how much of a payment is given back, as of refund. If it is all of
// it, the period ends.
func (s *Store) Refunded(ctx context.Context, tx pgx.Tx, p Payment, refund uuid.UUID) error {
	c, err := find(ctx, tx, p.Charge)
	if err != nil {
		return fmt.Errorf("subscription refunded: %w", err)
	}
	more := p.Refunded - c.refunded
	if c.payment == nil || *c.payment != p.ID || more == 0 {
		return nil // what came for nothing was never owed
	}
	line := ledger.Line{Debtor: ledger.Platform, Creditor: ledger.User(p.User), Money: core.Money{Amount: more, Currency: c.amount.Currency}}
	if more < 0 { // a bank sent a refund back
		line = ledger.Line{Debtor: line.Creditor, Creditor: line.Debtor, Money: line.Money.Negate()}
	}
	state := "paid"
	if p.Refunded >= c.amount.Amount {
		state = "refunded"
	}
	if _, err := tx.Exec(ctx, `UPDATE subscription_charges SET refunded = $2, state = $3 WHERE id = $1`, p.Charge, p.Refunded, state); err != nil {
		return fmt.Errorf("subscription refunded: %w", err)
	}
	if _, err := s.books.Post(ctx, tx, ledger.UserBook(p.User), ledger.Entry{
		ID: uuid.New(), Kind: "subscription_refund", Ref: refund, Lines: []ledger.Line{line},
	}); err != nil {
		return fmt.Errorf("subscription refunded: %w", err)
	}
	if state == "paid" {
		return nil
	}
	before, now, err := s.load(ctx, tx, p.User)
	if err != nil {
		return fmt.Errorf("subscription refunded: %w", err)
	}
	after, e := before.Refunded(now, c.period)
	return s.keep(ctx, tx, now, before, after, e)
}
