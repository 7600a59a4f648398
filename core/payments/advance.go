package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// maxSteps bounds how many calls one run of a job makes; it needs three or four.
const maxSteps = 12

// callTimeout bounds one call to the gateway.
const callTimeout = 30 * time.Second

// errChanged says that a payment has changed since it was read, so that an answer may be
// about what was before.
var errChanged = errors.New("the payment has changed meanwhile")

// Advance does for a payment what is to be done now: one call to the gateway after the
// other, each answer in a transaction of its own; ask: something may have happened at
// the gateway. It may run several times at once.
func (s *Store) Advance(ctx context.Context, id uuid.UUID, ask bool) error {
	for range maxSteps {
		p, err := s.read(ctx, id)
		if err != nil {
			return fmt.Errorf("advance payment: %w", err)
		}
		do, r := p.next(s.now(), ask)
		if do == stepNone {
			return nil
		}
		failed, err := s.step(ctx, p, do, r)
		switch {
		case errors.Is(err, errChanged):
		case err != nil:
			return fmt.Errorf("advance payment: %s: %w", do, err)
		case failed: // it is looked at again by and by
			return nil
		case do == stepGet || do == stepGetRefund:
			ask = false
		}
	}
	return nil
}

// step makes one call, and keeps what it was answered. failed says that nobody knows
// what became of it.
func (s *Store) step(ctx context.Context, p Payment, do step, r *Refund) (failed bool, err error) {
	answer, err := s.call(ctx, p, do, r)
	if err != nil {
		if ctx.Err() != nil {
			return true, context.Cause(ctx)
		}
		failed = true
		s.cfg.Log.WarnContext(ctx, "the payment gateway did not answer", "payment", p.ID, "call", string(do), "err", err)
		answer = func(p *Payment) { p.tries++ }
	}
	return failed, s.change(ctx, p.ID, byGateway, func(now *Payment) error {
		if now.version != p.version {
			return errChanged
		}
		now.tries = 0
		if failed {
			now.tries = p.tries
		}
		answer(now)
		now.nextAt = now.again(s.now())
		return nil
	})
}

// call makes one call to the gateway, and says what it changes.
func (s *Store) call(ctx context.Context, p Payment, do step, r *Refund) (func(*Payment), error) {
	switch {
	case do == stepExpire:
		return func(p *Payment) { p.stop, p.Reason = true, reasonExpired }, nil
	case do == stepGiveUp && p.stop:
		return func(p *Payment) { p.giveUp("") }, nil
	case do == stepGiveUp:
		return func(p *Payment) { p.giveUp(reasonUnreachable) }, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	i := Intent{Payment: p.ID, ID: p.gatewayID, Customer: p.customer, Money: p.Money, Method: p.Method, OffSession: p.OffSession, Save: p.Save}
	begun := time.Now()
	var st State
	var rs RefundState
	var err error
	switch do {
	case stepCreate:
		if (i.OffSession || i.Save) && i.Customer == "" {
			if i.Customer, err = s.customer(ctx, p); err != nil {
				break
			}
		}
		st, err = s.gateway.Create(ctx, i)
	case stepConfirm:
		st, err = s.gateway.Confirm(ctx, i)
	case stepGet:
		st, err = s.gateway.Get(ctx, i.ID)
	case stepCancel:
		st, err = s.gateway.Cancel(ctx, i)
	case stepRefund:
		rs, err = s.gateway.Refund(ctx, i.ID, *r)
	case stepGetRefund:
		rs, err = s.gateway.GetRefund(ctx, r.gatewayID)
	}
	refusal, refused := errors.AsType[*Refusal](err)
	s.metrics.called(do, begun, err, refused)
	switch {
	case refused:
		return s.refused(ctx, p, do, r, refusal)
	case err != nil:
		return nil, err
	case r != nil:
		return func(p *Payment) { p.seeRefund(p.refund(r.ID), rs) }, nil
	case p.odd(st):
		s.reportOdd(ctx, p, st)
		return func(*Payment) {}, nil
	}
	return func(p *Payment) {
		p.customer = i.Customer
		p.see(st, true)
	}, nil
}

// refused says what a call changes that the gateway won't carry out.
func (s *Store) refused(ctx context.Context, p Payment, do step, r *Refund, refusal *Refusal) (func(*Payment), error) {
	s.cfg.Log.WarnContext(ctx, "the payment gateway refuses", "payment", p.ID, "call", string(do), "reason", refusal.Reason)
	switch do {
	case stepCreate: // there is no intent
		return func(p *Payment) { p.giveUp(refusal.Reason) }, nil
	case stepRefund:
		return func(p *Payment) {
			p.seeRefund(p.refund(r.ID), RefundState{Status: RefundFailed, Reason: refusal.Reason})
		}, nil
	case stepConfirm, stepCancel:
		// It isn't in the phase that we think, or the call makes no sense to the gateway.
		// Without knowing, nothing is over.
		st, err := s.gateway.Get(ctx, p.gatewayID)
		if err != nil {
			return nil, err
		}
		if do == stepConfirm && st.Phase == PhaseReady { // it never will be: it is canceled
			return func(p *Payment) { p.stop, p.Reason = true, refusal.Reason }, nil
		}
		if do == stepCancel && st.Phase == p.phase {
			return nil, refusal // it is tried again later
		}
		return func(p *Payment) { p.see(st, true) }, nil
	}
	return nil, refusal
}

func (s *Store) reportOdd(ctx context.Context, p Payment, st State) {
	s.cfg.Log.ErrorContext(ctx, "the gateway received another amount than the payment's: look at it there", "payment", p.ID, "intent", st.ID)
}

// customer is the payer as the gateway knows them. Of two that are made at once one
// is kept; the other one is nobody's, and has no method.
func (s *Store) customer(ctx context.Context, p Payment) (string, error) {
	id, err := s.knownCustomer(ctx, p)
	if err != nil || id != "" {
		return id, err
	}
	if id, err = s.gateway.Customer(ctx, p.User); err != nil {
		return "", err
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO payment_customers (gateway, customer_id, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, p.Gateway, id, p.User)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("keep customer: %w", err)
	}
	return s.knownCustomer(ctx, p)
}

// DueEvery is how often CheckDue is to run.
const DueEvery = 15 * time.Second

// maxDue bounds how many payments one run of CheckDue looks at.
const maxDue = 500

// CheckDue makes jobs of the payments whose time has come: of those of which nobody told
// us anything, and whose own job died.
func (s *Store) CheckDue(ctx context.Context) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		rows, err := tx.Query(ctx, `UPDATE payments SET next_at = $2 WHERE id IN (SELECT id FROM payments WHERE next_at <= $1 ORDER BY next_at LIMIT $3) RETURNING id`,
			now, now.Add(handOver), maxDue)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		return drive(ctx, tx, true, ids...)
	})
	if err != nil {
		return fmt.Errorf("payments that are due: %w", err)
	}
	return nil
}
