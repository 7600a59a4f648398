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
)

// plain is the role of who is no admin.
const plain = "member"

// role returns a member's role.
func (s *Store) role(ctx context.Context, q db.Querier, user core.UserID, group core.GroupID) (role string, err error) {
	err = q.QueryRow(ctx, `SELECT role FROM group_members WHERE group_id = $1 AND user_id = $2`, group, user).Scan(&role)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", ErrNotMember
	}
	return role, err
}

// columns of an expense that its versions have, too.
const (
	versioned = `version, title, category, note, spent_at, currency, amount, payers, paid, mode, members, parts, cuts, receipts, posted, changed_by, changed_at`
	whole     = versioned + `, id, group_id, ordinal, recurring_id, created_by, created_at, deleted`
)

// row is where an expense is scanned to.
type row struct {
	e       Expense
	payers  []string
	paid    []int64
	members []core.UserID
	parts   []string
	cuts    []int64
}

func (r *row) versioned() []any {
	e := &r.e
	return []any{&e.Version, &e.Title, &e.Category, &e.Note, &e.at, &e.Money.Currency, &e.Money.Amount, &r.payers, &r.paid, &e.Mode,
		&r.members, &r.parts, &r.cuts, &e.Receipts, &e.posted, &e.ChangedBy, &e.ChangedAt}
}

func (r *row) whole() []any {
	e := &r.e
	return append(r.versioned(), &e.ID, &e.Group, &e.Ordinal, &e.Recurring, &e.CreatedBy, &e.CreatedAt, &e.Deleted)
}

func (r *row) expense() Expense {
	e := r.e
	e.at, e.ChangedAt, e.CreatedAt = e.at.UTC(), e.ChangedAt.UTC(), e.CreatedAt.UTC()
	e.On = e.at.Truncate(24 * time.Hour)
	e.Paid, e.Parts, e.Cuts = staked(r.payers, r.paid), nil, nil
	for i, m := range r.members {
		e.Parts, e.Cuts = append(e.Parts, Part{m, r.parts[i]}), append(e.Cuts, Cut{m, r.cuts[i]})
	}
	return e
}

func staked(payers []string, paid []int64) (list []Stake) {
	for i, p := range payers {
		list = append(list, Stake{ledger.Account(p), paid[i]})
	}
	return list
}

func collect(rows pgx.Rows) ([]Expense, error) {
	return pgx.CollectRows(rows, func(cr pgx.CollectableRow) (Expense, error) {
		var r row
		err := cr.Scan(r.whole()...)
		return r.expense(), err
	})
}

func one(ctx context.Context, q db.Querier, group core.GroupID, id uuid.UUID) (Expense, error) {
	rows, err := q.Query(ctx, `SELECT `+whole+` FROM expenses WHERE id = $1 AND group_id = $2`, id, group)
	if err != nil {
		return Expense{}, err
	}
	list, err := collect(rows)
	if err == nil && len(list) == 0 {
		err = ErrNoExpense
	}
	if err != nil {
		return Expense{}, err
	}
	return list[0], nil
}

// read runs fn for a member of the group.
func (s *Store) read(ctx context.Context, what string, user core.UserID, group core.GroupID, fn func(ctx context.Context, q db.Querier) error) error {
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		if _, err := s.role(ctx, q, user, group); err != nil {
			return err
		}
		return fn(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Get returns an expense as it is, also if it is deleted.
func (s *Store) Get(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) (e Expense, err error) {
	err = s.read(ctx, "read expense", user, group, func(ctx context.Context, q db.Querier) error {
		e, err = one(ctx, q, group, id)
		return err
	})
	return e, err
}

// Filter chooses expenses; what is zero lets all pass.
type Filter struct {
	Member   core.UserID // who paid or has a part
	Category string
	From, To time.Time // days, both included
}

// List returns a page of a group's expenses, the latest day first, and the cursor
// of the next one, empty if there is none.
func (s *Store) List(ctx context.Context, user core.UserID, group core.GroupID, f Filter, cursor string, limit int) (page []Expense, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.read(ctx, "list expenses", user, group, func(ctx context.Context, q db.Querier) error {
		page, err = s.page(ctx, q, group, f, after, limit+1)
		return err
	})
	page, next = core.Page(page, limit, position)
	return page, next, err
}

func position(e Expense) core.Position { return core.Position{At: e.at, ID: e.ID} }

func (s *Store) page(ctx context.Context, q db.Querier, group core.GroupID, f Filter, after core.Position, limit int) ([]Expense, error) {
	var member *core.UserID
	if f.Member != (core.UserID{}) {
		member = &f.Member
	}
	if f.To.IsZero() {
		f.To = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	rows, err := q.Query(ctx, `SELECT `+whole+` FROM expenses
		WHERE group_id = $1 AND (spent_at, id) < ($2, $3) AND spent_at >= $4 AND spent_at < $5 AND NOT deleted AND ($6 = '' OR category = $6)
		  AND ($7::UUID IS NULL OR $7 = ANY(members) OR $8 = ANY(payers))
		ORDER BY spent_at DESC, id DESC LIMIT $9`,
		group, after.At, after.ID, f.From, f.To.Add(24*time.Hour), f.Category, member, string(ledger.Member(f.Member)), limit)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

// History returns all versions of an expense, the latest first. They are as many as
// people made, so there are no pages.
func (s *Store) History(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) (versions []Expense, err error) {
	err = s.read(ctx, "read expense's history", user, group, func(ctx context.Context, q db.Querier) error {
		e, err := one(ctx, q, group, id)
		if err != nil {
			return err
		}
		rows, err := q.Query(ctx, `SELECT `+versioned+` FROM expense_versions WHERE expense_id = $1 AND version < $2 ORDER BY version DESC LIMIT 1000`, id, e.Version)
		if err != nil {
			return err
		}
		before, err := pgx.CollectRows(rows, func(cr pgx.CollectableRow) (Expense, error) {
			r := row{e: e}
			r.e.Deleted = false
			err := cr.Scan(r.versioned()...)
			return r.expense(), err
		})
		versions = slices.Concat([]Expense{e}, before)
		return err
	})
	return versions, err
}
