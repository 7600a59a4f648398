package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Change is one line of a payment's history.
type Change struct {
	Status   Status
	Refunded int64
	Reason   string
	Source   string // who said so: payer, platform, gateway (asked), webhook
	At       time.Time
}

// Details are a payment with all that is known of it.
type Details struct {
	Payment
	Refunds []Refund
	History []Change
	// Next is what the payer has to do, where Status is RequiresAction and they ask.
	Next Action
}

// theirs wants somebody who may see a payment: who pays, and who gets it once it is paid.
func (p *Payment) theirs(user core.UserID) error {
	if p.User == user || p.To == user && p.Status.Paid() {
		return nil
	}
	return ErrNoPayment
}

// Get reads a payment of a user's. What its payer has to do is asked of the gateway,
// since that is kept nowhere else; if it doesn't answer, that is left out.
func (s *Store) Get(ctx context.Context, user core.UserID, id uuid.UUID) (d Details, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		p, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := p.theirs(user); err != nil {
			return err
		}
		d = Details{Payment: p, Refunds: p.refunds}
		rows, err := tx.Query(ctx, `SELECT status, refunded, reason, source, at FROM payment_history WHERE payment_id = $1 ORDER BY version`, id)
		if err != nil {
			return err
		}
		d.History, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Change, err error) {
			err = row.Scan(&c.Status, &c.Refunded, &c.Reason, &c.Source, &c.At)
			c.At = c.At.UTC()
			return c, err
		})
		return err
	})
	if err != nil {
		return Details{}, fmt.Errorf("read payment: %w", err)
	}
	if d.Status == RequiresAction && d.User == user {
		if d.Next, err = s.action(ctx, d.Payment); err != nil {
			s.cfg.Log.WarnContext(ctx, "the payment gateway did not answer", "payment", id, "call", string(stepGet), "err", err)
		}
	}
	return d, nil
}

func (s *Store) action(ctx context.Context, p Payment) (Action, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // a person waits
	defer cancel()
	st, err := s.gateway.Get(ctx, p.gatewayID)
	return st.Next, err
}

// List reads the payments of a user, those to them too, the latest first.
func (s *Store) List(ctx context.Context, user core.UserID, cursor string, limit int) (list []Payment, next string, err error) {
	from, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT `+columns+` FROM payments WHERE id IN (
			(SELECT id FROM payments WHERE user_id = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4)
			UNION ALL
			(SELECT id FROM payments WHERE to_user = $1 AND status IN ('succeeded', 'refunded') AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4)
			) ORDER BY created_at DESC, id DESC LIMIT $4`, user, from.At, from.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list payments: %w", err)
	}
	list, next = core.Page(list, limit, func(p Payment) core.Position { return core.Position{At: p.CreatedAt, ID: p.ID} })
	return list, next, nil
}

// Cancel stops a payment that its payer doesn't want any more. Whether that was in time
// the gateway says: until then it is as it was.
func (s *Store) Cancel(ctx context.Context, user core.UserID, id uuid.UUID) (out Payment, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		p, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		switch {
		case p.User != user:
			return ErrNoPayment
		case p.Status.Over():
			return ErrOver
		}
		out = p
		if err := s.changed(ctx, tx, p, byPayer, func(p *Payment) error { p.stop = true; return nil }); err != nil {
			return err
		}
		return drive(ctx, tx, true, id)
	})
	if err != nil {
		return Payment{}, fmt.Errorf("cancel payment: %w", err)
	}
	return out, nil
}

// Refund gives money back that a user got by a payment; amount 0: all that is left of
// it. It is under way then, and the payment says when it has come through. Of what the
// platform got, refunds are made at the gateway.
func (s *Store) Refund(ctx context.Context, user core.UserID, id uuid.UUID, amount int64) (r Refund, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		p, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		if p.To != user || p.theirs(user) != nil {
			return ErrNoPayment
		}
		r, err = s.giveBack(ctx, tx, p, user, amount)
		return err
	})
	if err != nil {
		return Refund{}, fmt.Errorf("refund: %w", err)
	}
	return r, nil
}

// GiveBack gives all back that is left of a payment, for its purpose, which may call it
// while it is told: once the caller's transaction has committed.
func (s *Store) GiveBack(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	p, err := load(ctx, tx, id)
	if err == nil {
		_, err = s.giveBack(ctx, tx, p, core.UserID{}, 0)
	}
	if err != nil {
		return fmt.Errorf("give payment back: %w", err)
	}
	return nil
}

func (s *Store) giveBack(ctx context.Context, tx pgx.Tx, p Payment, by core.UserID, amount int64) (Refund, error) {
	left := p.refundable()
	r := Refund{ID: uuid.New(), Payment: p.ID, Money: core.Money{Amount: amount, Currency: p.Money.Currency}, Status: RefundPending, By: by, CreatedAt: s.now()}
	if amount == 0 {
		r.Money.Amount = left
	}
	if !p.Status.Paid() || r.Money.Amount <= 0 || r.Money.Amount > left {
		return Refund{}, ErrRefundable
	}
	if err := s.changed(ctx, tx, p, byUs, func(p *Payment) error {
		p.refunds = append(p.refunds, r)
		p.nextAt = p.again(s.now())
		return nil
	}); err != nil {
		return Refund{}, err
	}
	return r, drive(ctx, tx, false, p.ID)
}
