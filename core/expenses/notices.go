package expenses

import (
	"cmp"
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

// NoticesEvery is how often Notices is called.
const NoticesEvery = 15 * time.Second

const (
	noticesAtOnce = 100
	toldAtOnce    = 1000 // transactions of a book
)

// Notices notifies members of the expenses that changed what they owe: each once for
// all that came in a while, since on a journey there are many. It can be called at
// any time, by several at once.
func (s *Store) Notices(ctx context.Context) error {
	for {
		var due []core.GroupID
		err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := q.Query(ctx, `SELECT group_id FROM expense_wallets WHERE due_at <= $1 ORDER BY due_at LIMIT $2`, s.now(), noticesAtOnce)
			if err != nil {
				return err
			}
			due, err = pgx.CollectRows(rows, pgx.RowTo[core.GroupID])
			return err
		})
		if err != nil {
			return fmt.Errorf("notify of expenses: %w", err)
		}
		if len(due) == 0 {
			return nil
		}
		slices.SortFunc(due, func(a, b core.GroupID) int { return slices.Compare(a[:], b[:]) })
		var failed error                            // one holds up no other
		for _, group := range slices.Compact(due) { // of several currencies
			if err := s.notice(ctx, group); err != nil {
				failed = errors.Join(failed, fmt.Errorf("notify of expenses: group %s: %w", group, err))
			}
		}
		if failed != nil {
			return failed
		}
	}
}

// notice tells one group's members what is new. Whoever adds an expense meanwhile
// writes to the wallet, too: one of the two comes after the other.
func (s *Store) notice(ctx context.Context, group core.GroupID) error {
	book := ledger.GroupBook(group)
	return s.ledger.InTurn(ctx, book, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE expense_wallets SET due_at = NULL WHERE group_id = $1 AND due_at IS NOT NULL`, group); err != nil {
			return err
		}
		var told int64
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(told), 0) FROM expense_notices WHERE group_id = $1`, group).Scan(&told); err != nil {
			return err
		}
		for {
			list, err := s.ledger.Since(ctx, tx, book, told, toldAtOnce)
			if err != nil {
				return err
			}
			items := news(list)
			var people []core.UserID
			for _, n := range items {
				people = append(people, n.to, n.by)
			}
			there, err := accounts(ctx, tx, people)
			if err != nil {
				return err
			}
			for _, n := range items {
				if !there[n.to] || !there[n.by] {
					continue
				}
				if err := s.cfg.Notify.Notify(ctx, tx, n.to, "expense", n.data(group)); err != nil {
					return err
				}
			}
			if len(list) > 0 {
				told = list[len(list)-1].Seq
			}
			if len(list) < toldAtOnce {
				break
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO expense_notices (group_id, told) SELECT id, $2::BIGINT FROM groups WHERE id = $1
			ON CONFLICT (group_id) DO UPDATE SET told = excluded.told`, group, told)
		return err
	})
}

// accounts says which users there still are. Books keep ids after accounts have ended;
// nobody can be notified of those, nor of what they did.
func accounts(ctx context.Context, tx pgx.Tx, users []core.UserID) (map[core.UserID]bool, error) {
	there := map[core.UserID]bool{}
	if len(users) == 0 {
		return there, nil
	}
	rows, err := tx.Query(ctx, `SELECT id FROM users WHERE id = ANY($1)`, users)
	if err != nil {
		return nil, err
	}
	var id core.UserID
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		there[id] = true
		return nil
	})
	return there, err
}

// item is what is new for a member.
type item struct {
	to    core.UserID
	about []uuid.UUID // expenses
	by    core.UserID // who wrote the latest
}

func (n item) data(group core.GroupID) map[string]any {
	d := map[string]any{"group_id": group.String(), "user_id": n.by.String(), "count": len(n.about)}
	if len(n.about) == 1 {
		d["expense_id"] = n.about[0].String()
	}
	return d
}

// news says what transactions changed for whom, beside who wrote them: what was
// posted and reversed in the end is none.
func news(list []ledger.Transaction) (out []item) {
	type key struct {
		who   core.UserID
		about uuid.UUID
	}
	sums := map[key]map[core.Currency]int64{}
	by := map[uuid.UUID]core.UserID{}
	var order []uuid.UUID // the latest change last
	for _, t := range list {
		if t.Kind != KindExpense {
			continue
		}
		order = append(slices.DeleteFunc(order, func(id uuid.UUID) bool { return id == t.Ref }), t.Ref)
		by[t.Ref] = t.By
		for _, l := range t.Lines {
			for who, sign := range map[ledger.Account]int64{l.Debtor: -1, l.Creditor: 1} {
				user, ok := who.Member()
				if !ok {
					continue
				}
				k := key{user, t.Ref}
				if sums[k] == nil {
					sums[k] = map[core.Currency]int64{}
				}
				sums[k][l.Money.Currency] += sign * l.Money.Amount
			}
		}
	}
	items := map[core.UserID]*item{}
	place := map[uuid.UUID]int{}
	for i, id := range order {
		place[id] = i
	}
	for k, amounts := range sums {
		changed := false
		for _, a := range amounts {
			changed = changed || a != 0
		}
		if !changed || by[k.about] == k.who {
			continue
		}
		n := items[k.who]
		if n == nil {
			n = &item{to: k.who}
			items[k.who] = n
		}
		n.about = append(n.about, k.about)
	}
	for _, n := range items {
		slices.SortFunc(n.about, func(a, b uuid.UUID) int { return cmp.Compare(place[a], place[b]) })
		n.by = by[n.about[len(n.about)-1]]
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b item) int { return compareUsers(a.to, b.to) })
	return out
}
