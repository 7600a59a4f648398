package payments

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
)

// Who said that a payment is what it is, as its history says.
const (
	byPayer   = "payer"
	byUs      = "platform"
	byGateway = "gateway" // asked
	byWebhook = "webhook"
)

// refund returns one of p's refunds, which there is.
func (p *Payment) refund(id uuid.UUID) *Refund {
	i := slices.IndexFunc(p.refunds, func(r Refund) bool { return r.ID == id })
	if i < 0 { // never: refunds are not deleted
		return &Refund{}
	}
	return &p.refunds[i]
}

const columns = `id, user_id, to_user, kind, ref, amount, currency, method, off_session, save, gateway, coalesce(gateway_id, ''), customer_id,
	phase, status, reason, stop, refunded, version, tries, next_at, created_at, updated_at`

func scan(row pgx.CollectableRow) (p Payment, err error) {
	var to *core.UserID
	err = row.Scan(&p.ID, &p.User, &to, &p.Kind, &p.Ref, &p.Money.Amount, &p.Money.Currency, &p.Method, &p.OffSession, &p.Save, &p.Gateway, &p.gatewayID, &p.customer,
		&p.phase, &p.Status, &p.Reason, &p.stop, &p.Refunded, &p.version, &p.tries, &p.nextAt, &p.CreatedAt, &p.UpdatedAt)
	if to != nil {
		p.To = *to
	}
	p.CreatedAt, p.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
	return p, err
}

func scanRefund(row pgx.CollectableRow) (r Refund, err error) {
	var by *core.UserID
	err = row.Scan(&r.ID, &r.Payment, &r.Money.Amount, &r.gatewayID, &r.Status, &r.Reason, &by, &r.CreatedAt)
	if by != nil {
		r.By = *by
	}
	r.CreatedAt = r.CreatedAt.UTC()
	return r, err
}

// load reads a payment with its refunds.
func load(ctx context.Context, tx pgx.Tx, id uuid.UUID) (p Payment, err error) {
	var b pgx.Batch
	b.Queue(`SELECT `+columns+` FROM payments WHERE id = $1`, id).Query(func(rows pgx.Rows) (err error) {
		p, err = pgx.CollectExactlyOneRow(rows, scan)
		return err
	})
	b.Queue(`SELECT id, payment_id, amount, coalesce(gateway_id, ''), status, reason, by_user, created_at FROM payment_refunds WHERE payment_id = $1 ORDER BY created_at, id`, id).
		Query(func(rows pgx.Rows) (err error) {
			p.refunds, err = pgx.CollectRows(rows, scanRefund)
			return err
		})
	err = tx.SendBatch(ctx, &b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return Payment{}, ErrNoPayment
	}
	for i := range p.refunds {
		p.refunds[i].Money.Currency = p.Money.Currency
	}
	return p, err
}

// read reads a payment as it is now.
func (s *Store) read(ctx context.Context, id uuid.UUID) (p Payment, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = load(ctx, tx, id)
		return err
	})
	return p, err
}

func insert(ctx context.Context, tx pgx.Tx, p Payment) error {
	_, err := tx.Exec(ctx,
		`INSERT INTO payments (id, user_id, to_user, kind, ref, amount, currency, method, off_session, save, gateway, status, version, next_at, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)`,
		p.ID, p.User, someone(p.To), p.Kind, p.Ref, p.Money.Amount, p.Money.Currency, p.Method, p.OffSession, p.Save, p.Gateway, p.Status, p.version, p.nextAt, p.CreatedAt)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.ConstraintName == "payments_under_way" {
		return ErrUnderWay
	}
	if err != nil {
		return fmt.Errorf("start payment: %w", err)
	}
	return nil
}

// someone is NULL for nobody.
func someone(id core.UserID) *core.UserID {
	if id == (core.UserID{}) {
		return nil
	}
	return &id
}

// change changes a payment in a transaction of its own, with all that follows from that.
// fn is pure, but for its argument.
func (s *Store) change(ctx context.Context, id uuid.UUID, source string, fn func(*Payment) error) error {
	return s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		p, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		return s.changed(ctx, tx, p, source, fn)
	})
}

// changed is change for a payment that was read in this transaction.
func (s *Store) changed(ctx context.Context, tx pgx.Tx, was Payment, source string, fn func(*Payment) error) error {
	p := was
	p.refunds = slices.Clone(was.refunds)
	if err := fn(&p); err != nil {
		return err
	}
	p.version++
	news := p.Status != was.Status || p.Refunded != was.Refunded || p.Reason != was.Reason
	if news {
		p.UpdatedAt = s.now()
	}
	if err := s.save(ctx, tx, was, p); err != nil {
		return fmt.Errorf("keep payment: %w", err)
	}
	if err := s.tell(ctx, tx, was, p); err != nil {
		return err
	}
	if !news {
		return nil
	}
	return s.told(ctx, tx, p, source)
}

// save writes a payment, and its refunds as far as they have changed.
func (s *Store) save(ctx context.Context, tx pgx.Tx, was, p Payment) error {
	var b pgx.Batch
	b.Queue(`UPDATE payments SET gateway_id = nullif($2, ''), customer_id = $3, method = $4, phase = $5, status = $6, reason = $7, stop = $8, refunded = $9,
		version = $10, tries = $11, next_at = $12, updated_at = $13 WHERE id = $1`,
		p.ID, p.gatewayID, p.customer, p.Method, p.phase, p.Status, p.Reason, p.stop, p.Refunded, p.version, p.tries, p.nextAt, p.UpdatedAt)
	for i, r := range p.refunds {
		switch {
		case i >= len(was.refunds):
			b.Queue(`INSERT INTO payment_refunds (id, payment_id, amount, gateway_id, status, reason, by_user, created_at) VALUES ($1, $2, $3, nullif($4, ''), $5, $6, $7, $8)`,
				r.ID, p.ID, r.Money.Amount, r.gatewayID, r.Status, r.Reason, someone(r.By), r.CreatedAt)
		case r != was.refunds[i]:
			b.Queue(`UPDATE payment_refunds SET gateway_id = nullif($2, ''), status = $3, reason = $4 WHERE id = $1`, r.ID, r.gatewayID, r.Status, r.Reason)
		}
	}
	return tx.SendBatch(ctx, &b).Close()
}

// tell tells the ledger and the purpose what a change means.
func (s *Store) tell(ctx context.Context, tx pgx.Tx, was, p Payment) error {
	if err := s.post(ctx, tx, was, p); err != nil {
		return err
	}
	purpose := s.purposes[p.Kind]
	if purpose == nil {
		return fmt.Errorf("payment %s: nobody knows what %q is for", p.ID, p.Kind)
	}
	joined := db.Within(ctx, tx)
	var err error
	switch {
	case p.Status.Paid() && !was.Status.Paid():
		err = purpose.Paid(joined, tx, p)
	case p.Status.Over() && !was.Status.Over():
		err = purpose.Failed(joined, tx, p)
	}
	if err != nil {
		return fmt.Errorf("tell %s of payment: %w", p.Kind, err)
	}
	for _, c := range refundChanges(was, p) {
		if !c.succeeded {
			continue
		}
		if err := purpose.Refunded(joined, tx, p, c.Refund); err != nil {
			return fmt.Errorf("tell %s of refund: %w", p.Kind, err)
		}
	}
	if p.Status != was.Status {
		db.AfterCommit(ctx, func(context.Context) { s.metrics.became(p.Status) })
	}
	return nil
}

// refundChange is a refund whose money went back, or came back after that.
type refundChange struct {
	Refund
	succeeded bool // else it had, and came back
}

func refundChanges(was, p Payment) (list []refundChange) {
	for i, r := range p.refunds {
		before := RefundPending
		if i < len(was.refunds) {
			before = was.refunds[i].Status
		}
		succeeded := before == RefundPending && r.Status == RefundSucceeded
		if bounced := before == RefundSucceeded && r.Status == RefundFailed; succeeded || bounced {
			list = append(list, refundChange{r, succeeded})
		}
	}
	return list
}

// told writes down what a payment is now, and has payer and payee hear of it.
func (s *Store) told(ctx context.Context, tx pgx.Tx, p Payment, source string) error {
	if _, err := tx.Exec(ctx, `INSERT INTO payment_history (payment_id, version, status, refunded, reason, source, at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		p.ID, p.version, p.Status, p.Refunded, p.Reason, source, p.UpdatedAt); err != nil {
		return fmt.Errorf("keep payment's history: %w", err)
	}
	data := core.PaymentEvent{Payment: p.ID.String(), Status: string(p.Status)}
	events := []outbox.Event{{Key: p.User.Key(), Kind: core.PaymentUpdated, Data: data}}
	if someone(p.To) != nil && (p.Status.Paid()) {
		events = append(events, outbox.Event{Key: p.To.Key(), Kind: core.PaymentUpdated, Data: data})
	}
	return outbox.Append(ctx, tx, events...)
}

func (s *Store) knownCustomer(ctx context.Context, p Payment) (id string, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		err := q.QueryRow(ctx, `SELECT customer_id FROM payment_customers WHERE user_id = $1 AND gateway = $2`, p.User, p.Gateway).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			id, err = "", nil
		}
		return err
	})
	return id, err
}
