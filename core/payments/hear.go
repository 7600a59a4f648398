package payments

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/internal/errs"
)

// Hook takes a webhook of a gateway as it came. After nil the gateway may forget it.
func (s *Store) Hook(ctx context.Context, gateway string, header http.Header, body []byte) error {
	if gateway != s.gateway.Name() {
		return ErrNoGateway
	}
	e, err := s.gateway.Event(header, body)
	if err != nil {
		s.metrics.heard(eventRefused)
		return err
	}
	return s.hear(ctx, e)
}

// errEarly has the gateway send an event again.
var errEarly = errs.New(errs.Unavailable, "retry", "this is about what isn't known yet; send it again").After(time.Minute)

// hear takes what an event says, once.
func (s *Store) hear(ctx context.Context, e Event) error {
	var result string
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		result, err = s.take(ctx, tx, e)
		return err
	})
	if err != nil {
		s.metrics.heard(eventFailed)
		return fmt.Errorf("payment event %s: %w", e.Kind, err)
	}
	s.metrics.heard(result)
	if result == eventEarly {
		return errEarly
	}
	return nil
}

func (s *Store) take(ctx context.Context, tx pgx.Tx, e Event) (result string, err error) {
	p, err := s.about(ctx, tx, e)
	if errors.Is(err, ErrNoPayment) {
		return eventOthers, nil
	}
	if err != nil {
		return "", err
	}
	if e.Refund != nil && p.phase != PhasePaid { // then it was paid, and nobody has told us yet
		return eventEarly, drive(ctx, tx, true, p.ID)
	}
	tag, err := tx.Exec(ctx, `INSERT INTO payment_events (gateway, event_id, kind, payment_id, received_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		p.Gateway, e.ID, e.Kind, p.ID, s.now())
	if err != nil {
		return "", err
	}
	if tag.RowsAffected() == 0 {
		return eventAgain, nil
	}
	ask := false
	err = s.changed(ctx, tx, p, byWebhook, func(p *Payment) error {
		switch {
		case e.Refund != nil:
			s.hearRefund(ctx, p, *e.Refund)
		case p.odd(*e.State):
			s.reportOdd(ctx, *p, *e.State)
		default:
			ask = p.see(*e.State, false)
		}
		p.nextAt = p.again(s.now())
		return nil
	})
	if err != nil {
		return "", err
	}
	if ask {
		return eventTaken, drive(ctx, tx, true, p.ID)
	}
	return eventTaken, nil
}

// about finds the payment of an event.
func (s *Store) about(ctx context.Context, tx pgx.Tx, e Event) (Payment, error) {
	var id uuid.UUID
	var intent string
	switch {
	case e.State != nil:
		id, intent = e.State.Payment, e.State.ID
	case e.Refund != nil:
		id, intent = e.Refund.Payment, e.Refund.Intent
	default:
		return Payment{}, ErrNoPayment
	}
	if id == uuid.Nil {
		err := tx.QueryRow(ctx, `SELECT id FROM payments WHERE gateway = $1 AND gateway_id = $2`, s.gateway.Name(), intent).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return Payment{}, ErrNoPayment
		}
		if err != nil {
			return Payment{}, err
		}
	}
	p, err := load(ctx, tx, id)
	if err == nil && p.Gateway != s.gateway.Name() {
		err = ErrNoPayment
	}
	return p, err
}

// hearRefund takes what an event says of a refund; of one that was made at the gateway,
// this is the first that we know.
func (s *Store) hearRefund(ctx context.Context, p *Payment, r RefundState) {
	i := -1
	for j, known := range p.refunds {
		if known.ID == r.Refund || known.gatewayID == r.ID {
			i = j
		}
	}
	if i < 0 {
		// One of ours that is on its way doesn't count: of two for the same money the
		// gateway refuses one.
		if r.Money.Currency != p.Money.Currency || r.Money.Amount <= 0 || r.Money.Amount > p.Money.Amount-p.Refunded {
			s.cfg.Log.ErrorContext(ctx, "a refund at the gateway doesn't fit its payment: look at it there", "payment", p.ID, "refund", r.ID)
			return
		}
		p.refunds = append(p.refunds, Refund{ID: uuid.NewSHA1(p.ID, []byte(r.ID)), Payment: p.ID, Money: r.Money, Status: RefundPending, CreatedAt: s.now()})
		i = len(p.refunds) - 1
	}
	was := p.refunds[i].Status
	p.seeRefund(&p.refunds[i], r)
	if was == RefundSucceeded && p.refunds[i].Status == RefundFailed {
		s.cfg.Log.ErrorContext(ctx, "a refund came back: the payer is owed the money", "payment", p.ID, "refund", r.ID)
	}
}

// MissedEvery is how often AskMissed is to run.
const MissedEvery = 15 * time.Minute

// AskMissed takes the events of the last days that the gateway couldn't tell us: of what
// was done there, such as a refund, we'd know nothing else. (What we do ourselves is
// asked for by itself.)
func (s *Store) AskMissed(ctx context.Context) error {
	list, err := s.gateway.Missed(ctx, s.now().Add(-3*24*time.Hour))
	for _, e := range list {
		if failed := s.hear(ctx, e); failed != nil && !errors.Is(failed, errEarly) {
			err = errors.Join(err, failed)
		}
	}
	if err != nil {
		return fmt.Errorf("missed payment events: %w", err)
	}
	return nil
}

// keepEvents is longer than a gateway sends an event again (Stripe: 3 days).
const keepEvents = 30 * 24 * time.Hour

// Sweep forgets events that won't come again, and has the gateway forget people who have
// deleted their account.
func (s *Store) Sweep(ctx context.Context) error {
	var gone []string
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM payment_events WHERE received_at < $1`, s.now().Add(-keepEvents)); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT customer_id FROM payment_customers WHERE user_id IS NULL AND gateway = $1 LIMIT 100`, s.gateway.Name())
		if err != nil {
			return err
		}
		gone, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep payments: %w", err)
	}
	for _, customer := range gone {
		if err := s.gateway.Forget(ctx, customer); err != nil {
			return fmt.Errorf("sweep payments: forget a customer: %w", err)
		}
		err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `DELETE FROM payment_customers WHERE gateway = $1 AND customer_id = $2`, s.gateway.Name(), customer)
			return err
		})
		if err != nil {
			return fmt.Errorf("sweep payments: %w", err)
		}
	}
	return nil
}
