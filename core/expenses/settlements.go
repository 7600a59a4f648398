package expenses

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

// The kinds of settlements.
const (
	Payment    = "payment"
	Conversion = "conversion"
)

// What may have become of a settlement:
//
//	cash, transfer, other, conversion:  recorded ──Undo──▶ undone
//	card:  pending ──Settled──▶ settled ──Refunded──▶ undone
//	         │  ▲└──not paid──▶ failed
//	         └──Undo──▶ undone
//
// Money counts in the book while it is recorded or settled. One that failed or was
// undone is settled after all if the gateway says so later: then the money has moved.
const (
	Recorded = "recorded"
	Pending  = "pending"
	Settled  = "settled"
	Failed   = "failed"
	Undone   = "undone"
)

// Card is the method of payment that waits for a gateway. Others are said by who
// records them.
const Card = "card"

var methods = []string{"cash", "transfer", "other", Card}

// ErrPaid is for undoing what a gateway moved.
var ErrPaid = errs.New(errs.Conflict, "settlement_paid", "this was paid by card: refund the payment")

// Settlement is money that one gave another one, or a debt that was converted.
type Settlement struct {
	ID       uuid.UUID
	Group    core.GroupID
	Kind     string
	Status   string
	Version  int64
	From, To ledger.Account // who paid whom; of a conversion, who owes whom
	Money    core.Money
	Refunded int64      // of it
	Into     core.Money // of a conversion
	Rate     string
	Method   string
	Note     string

	CreatedBy            core.UserID
	CreatedAt, ChangedAt time.Time

	posted *uuid.UUID
}

// Between reports whether a user is one of the two.
func (s Settlement) between(user core.UserID) bool {
	me := ledger.Member(user)
	return s.From == me || s.To == me
}

// lines are what a settlement posts: who got the money owes it to who gave it.
func (s Settlement) lines() []ledger.Line {
	lines := []ledger.Line{{Debtor: s.To, Creditor: s.From, Money: s.Money}}
	if s.Kind == Conversion {
		lines = append(lines, ledger.Line{Debtor: s.From, Creditor: s.To, Money: s.Into})
	}
	return lines
}

// kind is that of its transaction.
func (s Settlement) kind() string {
	if s.Kind == Conversion {
		return KindConversion
	}
	return KindSettlement
}

// Settle records that one pays another. One of the two may, and admins; by card only
// who pays, and nothing is posted until that is paid.
func (s *Store) Settle(ctx context.Context, user core.UserID, group core.GroupID, st Settlement) (Settlement, error) {
	st.Kind, st.Status, st.Into, st.Rate = Payment, Recorded, core.Money{}, ""
	if st.Method == "" {
		st.Method = methods[0]
	}
	if st.Method == Card {
		st.Status = Pending
	}
	if !slices.Contains(methods, st.Method) {
		return Settlement{}, ErrBadSettlement.At("body.method")
	}
	return s.record(ctx, "settle", user, group, st)
}

// Convert makes a debt one in another currency, by st.Rate: of one of a unit (such
// as a euro) of the first so many of the second. Who may settle it may.
func (s *Store) Convert(ctx context.Context, user core.UserID, group core.GroupID, st Settlement) (out Settlement, err error) {
	st.Kind, st.Status, st.Method = Conversion, Recorded, "other"
	if err := checkMoney(st.Money); err != nil {
		return Settlement{}, err
	}
	if st.Into, err = exchange(st.Money, st.Into.Currency, st.Rate); err != nil {
		return Settlement{}, err
	}
	return s.record(ctx, "convert", user, group, st)
}

func (s *Store) record(ctx context.Context, what string, user core.UserID, group core.GroupID, st Settlement) (Settlement, error) {
	var ok bool
	if st.Note, ok = core.CleanText(st.Note, 0, 2000, true); !ok {
		return Settlement{}, ErrBadSettlement.At("body.note")
	}
	if err := checkMoney(st.Money); err != nil {
		return Settlement{}, err
	}
	if st.From == st.To || st.Money.Amount == 0 {
		return Settlement{}, ErrBadSettlement
	}
	err := s.ledger.InTurn(ctx, ledger.GroupBook(group), func(ctx context.Context, tx pgx.Tx) (err error) {
		st.posted = nil
		role, err := s.role(ctx, tx, user, group)
		if err != nil {
			return err
		}
		if role == plain && !st.between(user) || st.Method == Card && st.From != ledger.Member(user) {
			return ErrForbidden
		}
		if err := s.known(ctx, tx, group, st.From, st.To); err != nil {
			return err
		}
		now := s.now()
		st.ID, st.Group, st.Version, st.CreatedBy, st.CreatedAt, st.ChangedAt = uuid.New(), group, 1, user, now, now
		var posted []ledger.Transaction
		if st.Status == Recorded {
			if posted, err = s.post(ctx, tx, &st, user, ledger.Entry{Kind: st.kind(), Lines: st.lines()}); err != nil {
				return err
			}
		}
		var b pgx.Batch
		b.Queue(`INSERT INTO settlements (id, group_id, kind, status, version, payer, payee, currency, amount, into_currency, into_amount, rate, method, note,
			   posted, created_by, created_at, changed_at)
			 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)`,
			st.ID, group, st.Kind, st.Status, st.Version, st.From, st.To, st.Money.Currency, st.Money.Amount, st.Into.Currency, st.Into.Amount, st.Rate, st.Method, st.Note,
			st.posted, user, now)
		return s.announce(ctx, tx, &b, st, posted, user, core.SettlementCreated)
	})
	if err != nil {
		return Settlement{}, fmt.Errorf("%s: %w", what, err)
	}
	return st, nil
}

// post posts a transaction of a settlement's, which is the one in force then.
func (s *Store) post(ctx context.Context, tx pgx.Tx, st *Settlement, by core.UserID, e ledger.Entry) ([]ledger.Transaction, error) {
	if e.ID == uuid.Nil {
		e.ID, e.Ref, e.By = uuid.New(), st.ID, by
	}
	st.posted = &e.ID
	return s.ledger.Post(ctx, tx, ledger.GroupBook(st.Group), e)
}

// announce sends what a settlement's change has queued, with its events, and
// notifies the other one of the two.
func (s *Store) announce(ctx context.Context, tx pgx.Tx, b *pgx.Batch, st Settlement, posted []ledger.Transaction, by core.UserID, kind string) error {
	if err := tell(ctx, b, st.Group, posted, kind, core.MoneyEvent{Settlement: st.ID.String(), Version: st.Version}); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if s.cfg.Notify == nil || st.Status == Pending || st.Status == Failed {
		return nil // nothing has happened yet
	}
	people := []core.UserID{by}
	for _, who := range []ledger.Account{st.From, st.To} {
		if to, ok := who.Member(); ok && to != by {
			people = append(people, to)
		}
	}
	there, err := accounts(ctx, tx, people)
	if err != nil {
		return err
	}
	for _, to := range people[1:] {
		if !there[to] || !there[by] {
			continue
		}
		if err := s.cfg.Notify.Notify(ctx, tx, to, "settlement", map[string]any{
			"group_id": st.Group.String(), "user_id": by.String(), "settlement_id": st.ID.String(), "status": st.Status, "kind": st.Kind,
		}); err != nil {
			return err
		}
	}
	return nil
}

// known returns an error unless accounts are the wallet, members, or people who have
// left and are in the book.
func (s *Store) known(ctx context.Context, tx pgx.Tx, group core.GroupID, accounts ...ledger.Account) error {
	unknown := map[core.UserID]ledger.Account{}
	var users []core.UserID
	for _, a := range accounts {
		if user, ok := a.Member(); ok {
			users, unknown[user] = append(users, user), a
		} else if a != ledger.Wallet {
			return ErrNoSuchMember
		}
	}
	rows, err := tx.Query(ctx, `SELECT user_id FROM group_members WHERE group_id = $1 AND user_id = ANY($2)`, group, users)
	if err != nil {
		return err
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[core.UserID])
	if err != nil {
		return err
	}
	for _, m := range members {
		delete(unknown, m)
	}
	if len(unknown) == 0 {
		return nil
	}
	debts, err := s.ledger.Debts(ctx, tx, ledger.GroupBook(group))
	if err != nil {
		return err
	}
	for _, a := range unknown {
		if !slices.ContainsFunc(debts, func(d ledger.Debt) bool { return d.A == a || d.B == a }) {
			return ErrNoSuchMember
		}
	}
	return nil
}

// Undo takes a settlement or a conversion back, by a reversal. Who recorded it may,
// those two, and admins. Again is a success. What was paid by card is refunded
// instead.
func (s *Store) Undo(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) (st Settlement, err error) {
	err = s.ledger.InTurn(ctx, ledger.GroupBook(group), func(ctx context.Context, tx pgx.Tx) error {
		role, err := s.role(ctx, tx, user, group)
		if err != nil {
			return err
		}
		if st, err = settlement(ctx, tx, id); err != nil {
			return err
		}
		switch {
		case st.Group != group:
			return ErrNoSettlement
		case role == plain && st.CreatedBy != user && !st.between(user):
			return ErrForbidden
		case st.Status == Settled:
			return ErrPaid
		case st.Status == Undone || st.Status == Failed:
			return nil
		}
		var posted []ledger.Transaction
		if st.Status == Recorded {
			if posted, err = s.reverse(ctx, tx, &st, user); err != nil {
				return err
			}
		}
		st.Status = Undone
		return s.change(ctx, tx, &st, posted, user)
	})
	if err != nil {
		return Settlement{}, fmt.Errorf("undo settlement: %w", err)
	}
	return st, nil
}

func (s *Store) reverse(ctx context.Context, tx pgx.Tx, st *Settlement, by core.UserID) ([]ledger.Transaction, error) {
	reversal, err := s.ledger.Reverse(ctx, tx, ledger.GroupBook(st.Group), *st.posted, by)
	if err != nil {
		return nil, err
	}
	return s.post(ctx, tx, st, by, reversal)
}

// change writes what has become of a settlement.
func (s *Store) change(ctx context.Context, tx pgx.Tx, st *Settlement, posted []ledger.Transaction, by core.UserID) error {
	st.Version++
	st.ChangedAt = s.now()
	var b pgx.Batch
	b.Queue(`UPDATE settlements SET status = $2, version = $3, refunded = $4, posted = $5, changed_at = $6 WHERE id = $1`,
		st.ID, st.Status, st.Version, st.Refunded, st.posted, st.ChangedAt)
	return s.announce(ctx, tx, &b, *st, posted, by, core.SettlementUpdated)
}

// Settled says what became of a settlement's payment, in the transaction that knows:
// it was paid, and is posted, or it failed. Again changes nothing.
//
// A settlement goes with its group, and its payment doesn't: then there is nothing to
// say.
func (s *Store) Settled(ctx context.Context, tx pgx.Tx, id uuid.UUID, paid bool) error {
	st, err := settlement(ctx, tx, id)
	if errors.Is(err, ErrNoSettlement) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settled: %w", err)
	}
	payer, _ := st.From.Member()
	var posted []ledger.Transaction
	switch {
	case st.Method != Card || st.posted != nil: // was there before
		return nil
	case paid:
		st.Status = Settled
		posted, err = s.post(ctx, tx, &st, payer, ledger.Entry{Kind: st.kind(), Lines: st.lines()})
	case st.Status == Pending:
		st.Status = Failed
	default:
		return nil
	}
	if err == nil {
		err = s.change(ctx, tx, &st, posted, payer)
	}
	if err != nil {
		return fmt.Errorf("settled: %w", err)
	}
	return nil
}

// Refunded says how much of a settlement's payment has gone back by now, all
// together, in the transaction that knows. Again changes nothing.
func (s *Store) Refunded(ctx context.Context, tx pgx.Tx, id uuid.UUID, total int64) error {
	st, err := settlement(ctx, tx, id)
	if errors.Is(err, ErrNoSettlement) { // see Settled
		return nil
	}
	if err != nil {
		return fmt.Errorf("refunded: %w", err)
	}
	more := min(total, st.Money.Amount) - st.Refunded
	if st.Status != Settled || more <= 0 {
		return nil
	}
	payee, _ := st.To.Member()
	var posted []ledger.Transaction
	if more == st.Money.Amount {
		posted, err = s.reverse(ctx, tx, &st, payee)
	} else {
		back := core.Money{Amount: more, Currency: st.Money.Currency}
		posted, err = s.post(ctx, tx, &st, payee, ledger.Entry{Kind: KindRefund, Lines: []ledger.Line{{Debtor: st.From, Creditor: st.To, Money: back}}})
	}
	if err == nil {
		if st.Refunded += more; st.Refunded == st.Money.Amount {
			st.Status = Undone
		}
		err = s.change(ctx, tx, &st, posted, payee)
	}
	if err != nil {
		return fmt.Errorf("refunded: %w", err)
	}
	return nil
}

const settled = `id, group_id, kind, status, version, payer, payee, currency, amount, refunded, into_currency, into_amount, rate, method, note, posted, created_by, created_at, changed_at`

func scanSettlement(cr pgx.CollectableRow) (st Settlement, err error) {
	err = cr.Scan(&st.ID, &st.Group, &st.Kind, &st.Status, &st.Version, &st.From, &st.To, &st.Money.Currency, &st.Money.Amount, &st.Refunded,
		&st.Into.Currency, &st.Into.Amount, &st.Rate, &st.Method, &st.Note, &st.posted, &st.CreatedBy, &st.CreatedAt, &st.ChangedAt)
	st.CreatedAt, st.ChangedAt = st.CreatedAt.UTC(), st.ChangedAt.UTC()
	return st, err
}

func settlement(ctx context.Context, q db.Querier, id uuid.UUID) (Settlement, error) {
	rows, err := q.Query(ctx, `SELECT `+settled+` FROM settlements WHERE id = $1`, id)
	if err != nil {
		return Settlement{}, err
	}
	st, err := pgx.CollectExactlyOneRow(rows, scanSettlement)
	if errors.Is(err, pgx.ErrNoRows) {
		return Settlement{}, ErrNoSettlement
	}
	return st, err
}

// Settlement returns one to a member of its group.
func (s *Store) Settlement(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) (st Settlement, err error) {
	err = s.read(ctx, "read settlement", user, group, func(ctx context.Context, q db.Querier) error {
		if st, err = settlement(ctx, q, id); err == nil && st.Group != group {
			err = ErrNoSettlement
		}
		return err
	})
	return st, err
}

// Payable returns a settlement that waits for its payer to pay by card: to nobody
// else.
func (s *Store) Payable(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) (Settlement, error) {
	st, err := s.Settlement(ctx, user, group, id)
	switch {
	case err != nil:
		return Settlement{}, err
	case st.From != ledger.Member(user):
		return Settlement{}, ErrForbidden
	case st.Method != Card || st.Status != Pending && st.Status != Failed:
		return Settlement{}, ErrNotPending
	}
	return st, nil
}

// Settlements returns a page of a group's settlements and conversions, the latest
// first, and the cursor of the next one, empty if there is none.
func (s *Store) Settlements(ctx context.Context, user core.UserID, group core.GroupID, cursor string, limit int) (page []Settlement, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.read(ctx, "list settlements", user, group, func(ctx context.Context, q db.Querier) error {
		page, err = s.settlements(ctx, q, group, after, limit+1)
		return err
	})
	page, next = core.Page(page, limit, func(st Settlement) core.Position { return core.Position{At: st.CreatedAt, ID: st.ID} })
	return page, next, err
}

func (s *Store) settlements(ctx context.Context, q db.Querier, group core.GroupID, after core.Position, limit int) ([]Settlement, error) {
	rows, err := q.Query(ctx, `SELECT `+settled+` FROM settlements WHERE group_id = $1 AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4`,
		group, after.At, after.ID, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanSettlement)
}
