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
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/outbox"
)

// The kinds of transactions in a group's book.
const (
	KindExpense    = "expense"
	KindSettlement = "settlement"
	KindConversion = "conversion"
	KindRefund     = "refund" // a part of a settlement that came back
)

// Preview splits a draft as Create would, and writes nothing.
func (s *Store) Preview(ctx context.Context, user core.UserID, group core.GroupID, d Draft) (e Expense, err error) {
	if err := d.check(s.now()); err != nil {
		return Expense{}, err
	}
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		f := queueFacts(&b, user, group, &d)
		e = Expense{Group: group, Draft: d, CreatedBy: user}
		b.Queue(`SELECT coalesce(max(ordinals), 0) FROM expense_wallets WHERE group_id = $1 AND currency = $2`, group, d.Money.Currency).
			QueryRow(func(row pgx.Row) error { return row.Scan(&e.Ordinal) })
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		e.Cuts, err = e.complete(user, f.members, nil, e.Ordinal)
		return err
	})
	if err != nil {
		return Expense{}, fmt.Errorf("preview expense: %w", err)
	}
	return e, nil
}

// Create adds an expense. Every member may.
func (s *Store) Create(ctx context.Context, user core.UserID, group core.GroupID, d Draft) (e Expense, err error) {
	if err := d.check(s.now()); err != nil {
		return Expense{}, err
	}
	err = s.ledger.InTurn(ctx, ledger.GroupBook(group), func(ctx context.Context, tx pgx.Tx) error {
		e, err = s.create(ctx, tx, user, group, d, nil)
		return err
	})
	if err != nil {
		return Expense{}, fmt.Errorf("create expense: %w", err)
	}
	return e, nil
}

// facts are what is read before an expense is written.
type facts struct {
	role    string        // of who writes it
	members []core.UserID // of those whom it names; all, if it names nobody
}

// queueFacts queues their reading, which fails for who is no member.
func queueFacts(b *pgx.Batch, user core.UserID, group core.GroupID, d *Draft) *facts {
	f := &facts{}
	b.Queue(`SELECT m.role, ARRAY(SELECT o.user_id FROM group_members o WHERE o.group_id = $1 AND ($4 OR o.user_id = ANY($3)) ORDER BY o.user_id)
		FROM group_members m WHERE m.group_id = $1 AND m.user_id = $2`, group, user, append(d.people(), user), d.everybody()).
		QueryRow(func(row pgx.Row) error {
			err := row.Scan(&f.role, &f.members)
			if errors.Is(err, pgx.ErrNoRows) {
				err = ErrNotMember
			}
			return err
		})
	return f
}

// again says which period of which recurring expense one is.
type again struct {
	id     uuid.UUID
	period time.Time
}

func (s *Store) create(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, d Draft, of *again) (Expense, error) {
	var reads, b pgx.Batch
	head := s.ledger.Lock(&reads, ledger.GroupBook(group))
	var ordinal int64
	s.spend(&reads, group, d.Money, 1, &ordinal)
	f := queueFacts(&reads, user, group, &d)
	if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
		return Expense{}, err
	}
	now := s.now()
	e := Expense{
		ID: uuid.New(), Group: group, Version: 1, Ordinal: ordinal, Draft: d,
		CreatedBy: user, CreatedAt: now, ChangedBy: user, ChangedAt: now,
	}
	e.at = e.On.Add(now.Sub(now.Truncate(24 * time.Hour)))
	var err error
	if e.Cuts, err = e.complete(user, f.members, nil, e.Ordinal); err != nil {
		return Expense{}, err
	}
	if err := s.attach(ctx, tx, user, group, e.Receipts); err != nil {
		return Expense{}, err
	}
	e.posted = uuid.New()
	posted, err := s.ledger.Append(&b, head, e.entry(user))
	if err != nil {
		return Expense{}, err
	}
	var period *time.Time
	if of != nil {
		e.Recurring, period = &of.id, &of.period
	}
	payers, paid, members, parts, cuts := e.columns()
	b.Queue(`INSERT INTO expenses (id, group_id, version, ordinal, title, category, note, spent_at, currency, amount, payers, paid, mode, members, parts, cuts,
		   receipts, posted, recurring_id, period, created_by, created_at, changed_by, changed_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $21, $22)`,
		e.ID, group, e.Version, e.Ordinal, e.Title, e.Category, e.Note, e.at, e.Money.Currency, e.Money.Amount, payers, paid, e.Mode, members, parts, cuts,
		list(e.Receipts), e.posted, e.Recurring, period, user, now)
	if err := tell(ctx, &b, group, posted, core.ExpenseCreated, core.MoneyEvent{Expense: e.ID.String(), Version: e.Version}); err != nil {
		return Expense{}, err
	}
	return e, tx.SendBatch(ctx, &b).Close()
}

// tell queues the events of a change.
func tell(ctx context.Context, b *pgx.Batch, group core.GroupID, posted []ledger.Transaction, kind string, e core.MoneyEvent) error {
	e.Group = group.String()
	events := []outbox.Event{{Key: group.Room(), Kind: kind, Data: e}}
	if len(posted) > 0 {
		events = append(events, outbox.Event{Key: group.Room(), Kind: core.BalanceChanged,
			Data: core.MoneyEvent{Group: group.String(), Version: posted[len(posted)-1].Seq}})
	}
	return outbox.AppendTo(ctx, b, events...)
}

// list is a slice that is no NULL.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (e *Expense) columns() (payers []string, paid []int64, members []core.UserID, parts []string, cuts []int64) {
	payers, paid = stakes(e.Paid)
	for i, c := range e.Cuts { // sorted, as the parts are
		members, parts, cuts = append(members, c.User), append(parts, e.Parts[i].Value), append(cuts, c.Amount)
	}
	return payers, paid, members, parts, cuts
}

func stakes(list []Stake) (who []string, amounts []int64) {
	who, amounts = []string{}, []int64{}
	for _, p := range list {
		who, amounts = append(who, string(p.Who)), append(amounts, p.Amount)
	}
	return who, amounts
}

func (s *Store) attach(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	if s.cfg.Receipts == nil {
		return ErrNoReceipts
	}
	return s.cfg.Receipts.Attach(ctx, tx, user, group.Room(), ids)
}

func (s *Store) detach(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	if len(ids) == 0 || s.cfg.Receipts == nil {
		return nil
	}
	return s.cfg.Receipts.Detach(ctx, tx, ids)
}

// present reads an expense that a user wants to change, and whether they may.
func (s *Store) present(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, id uuid.UUID) (Expense, error) {
	role, err := s.role(ctx, tx, user, group)
	if err != nil {
		return Expense{}, err
	}
	e, err := one(ctx, tx, group, id)
	switch {
	case err != nil:
		return Expense{}, err
	case role == plain && e.CreatedBy != user && !e.paidBy(user):
		return Expense{}, ErrForbidden
	}
	return e, nil
}

// Update replaces an expense's draft. Who added or paid it may, and admins. A
// version other than the one that was seen is Changed.
func (s *Store) Update(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID, version int64, d Draft) (e Expense, err error) {
	if err := d.check(s.now()); err != nil {
		return Expense{}, err
	}
	err = s.ledger.InTurn(ctx, ledger.GroupBook(group), func(ctx context.Context, tx pgx.Tx) error {
		e, err = s.update(ctx, tx, user, group, id, version, d)
		return err
	})
	if err != nil {
		return Expense{}, fmt.Errorf("update expense: %w", err)
	}
	return e, nil
}

func (s *Store) update(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, id uuid.UUID, version int64, d Draft) (Expense, error) {
	was, err := s.present(ctx, tx, user, group, id)
	switch {
	case err != nil:
		return Expense{}, err
	case was.Version != version:
		return Expense{}, &Changed{was}
	case was.Deleted:
		return Expense{}, ErrNoExpense
	}
	var reads, b pgx.Batch
	head := s.ledger.Lock(&reads, ledger.GroupBook(group))
	f := queueFacts(&reads, user, group, &d)
	if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
		return Expense{}, err
	}
	e := was
	e.Draft, e.Version, e.ChangedBy, e.ChangedAt = d, was.Version+1, user, s.now()
	e.at = e.On.Add(was.at.Sub(was.On))
	// Unless it says so, who added it has paid, as then; and who had a part in it may
	// keep it, also if they have left.
	if e.Cuts, err = e.complete(was.CreatedBy, f.members, was.people(), e.Ordinal); err != nil {
		return Expense{}, err
	}
	if err := s.attach(ctx, tx, user, group, difference(e.Receipts, was.Receipts)); err != nil {
		return Expense{}, err
	}
	if err := s.detach(ctx, tx, difference(was.Receipts, e.Receipts)); err != nil {
		return Expense{}, err
	}
	var posted []ledger.Transaction
	if e.Money != was.Money || !slices.Equal(e.Paid, was.Paid) || !slices.Equal(e.Cuts, was.Cuts) {
		reversal, err := s.ledger.Reverse(ctx, tx, head.Book, was.posted, user)
		if err != nil {
			return Expense{}, err
		}
		e.posted = uuid.New()
		if posted, err = s.ledger.Append(&b, head, reversal, e.entry(user)); err != nil {
			return Expense{}, err
		}
	}
	keep(&b, id)
	unspend(&b, group, was.Money)
	s.spend(&b, group, e.Money, 0, nil)
	payers, paid, members, parts, cuts := e.columns()
	b.Queue(`UPDATE expenses SET version = $2, title = $3, category = $4, note = $5, spent_at = $6, currency = $7, amount = $8, payers = $9, paid = $10,
		   mode = $11, members = $12, parts = $13, cuts = $14, receipts = $15, posted = $16, changed_by = $17, changed_at = $18 WHERE id = $1`,
		id, e.Version, e.Title, e.Category, e.Note, e.at, e.Money.Currency, e.Money.Amount, payers, paid,
		e.Mode, members, parts, cuts, list(e.Receipts), e.posted, user, e.ChangedAt)
	if err := tell(ctx, &b, group, posted, core.ExpenseUpdated, core.MoneyEvent{Expense: id.String(), Version: e.Version}); err != nil {
		return Expense{}, err
	}
	return e, tx.SendBatch(ctx, &b).Close()
}

// entry is what an expense posts.
func (e *Expense) entry(by core.UserID) ledger.Entry {
	return ledger.Entry{ID: e.posted, Kind: KindExpense, Ref: e.ID, By: by, Lines: e.lines(e.Cuts)}
}

// keep queues that the present version of an expense is kept.
func keep(b *pgx.Batch, id uuid.UUID) {
	b.Queue(`INSERT INTO expense_versions (expense_id, `+versioned+`) SELECT id, `+versioned+` FROM expenses WHERE id = $1`, id)
}

// spend queues that a group has spent more, by so many expenses that are new, and
// that its members are to be notified. It is an upsert that returns what was there,
// not a read first: see core/ledger.
func (s *Store) spend(b *pgx.Batch, group core.GroupID, m core.Money, fresh int64, ordinal *int64) {
	var due *time.Time
	if s.cfg.Notify != nil {
		due = new(s.now().Add(s.cfg.NoticeAfter))
	}
	b.Queue(`INSERT INTO expense_wallets (group_id, currency, spent, ordinals, due_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (group_id, currency) DO UPDATE SET spent = expense_wallets.spent + excluded.spent,
		  ordinals = expense_wallets.ordinals + excluded.ordinals, due_at = coalesce(expense_wallets.due_at, excluded.due_at)
		RETURNING spent, ordinals`, group, m.Currency, m.Amount, fresh, due).
		QueryRow(func(row pgx.Row) error {
			var spent, n int64
			if err := row.Scan(&spent, &n); err != nil {
				return err
			}
			if spent > core.MaxAmount {
				return core.ErrAmount.At("body.amount")
			}
			if ordinal != nil {
				*ordinal = n - fresh
			}
			return nil
		})
}

func unspend(b *pgx.Batch, group core.GroupID, m core.Money) {
	b.Queue(`UPDATE expense_wallets SET spent = spent - $3 WHERE group_id = $1 AND currency = $2`, group, m.Currency, m.Amount)
}

func difference(a, b []uuid.UUID) []uuid.UUID {
	return slices.DeleteFunc(slices.Clone(a), func(id uuid.UUID) bool { return slices.Contains(b, id) })
}

// Delete takes an expense back, by a reversal. Who may edit it may. A version of 0
// stands for the present one. Again is a success.
func (s *Store) Delete(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID, version int64) error {
	err := s.ledger.InTurn(ctx, ledger.GroupBook(group), func(ctx context.Context, tx pgx.Tx) error {
		e, err := s.present(ctx, tx, user, group, id)
		switch {
		case err != nil:
			return err
		case e.Deleted:
			return nil
		case version != 0 && version != e.Version:
			return &Changed{e}
		}
		if err := s.detach(ctx, tx, e.Receipts); err != nil {
			return err
		}
		var reads, b pgx.Batch
		head := s.ledger.Lock(&reads, ledger.GroupBook(group))
		if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
			return err
		}
		reversal, err := s.ledger.Reverse(ctx, tx, head.Book, e.posted, user)
		if err != nil {
			return err
		}
		posted, err := s.ledger.Append(&b, head, reversal)
		if err != nil {
			return err
		}
		keep(&b, id)
		unspend(&b, group, e.Money)
		s.spend(&b, group, core.Money{Currency: e.Money.Currency}, 0, nil) // to have it notified
		b.Queue(`UPDATE expenses SET version = version + 1, deleted = true, posted = $2, changed_by = $3, changed_at = $4 WHERE id = $1`,
			id, reversal.ID, user, s.now())
		if err := tell(ctx, &b, group, posted, core.ExpenseDeleted, core.MoneyEvent{Expense: id.String(), Version: e.Version + 1}); err != nil {
			return err
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("delete expense: %w", err)
	}
	return nil
}
