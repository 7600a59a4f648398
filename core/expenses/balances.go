package expenses

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
)

// Person is a party of a group's money: somebody, or the wallet.
type Person struct {
	Account ledger.Account
	Name    string
	Picture string
	Member  bool // now; the wallet always is
}

// Position is how a group stands in a currency.
type Position struct {
	Currency  core.Currency
	Spent     int64      // by expenses in force
	Kitty     int64      // what the wallet holds; negative: it owes
	Balances  []Stake    // what each is owed; negative: owes. Sorted; none that is zero
	Transfers []Transfer // that settle all of them
}

// Standing is how a group stands.
type Standing struct {
	Simplified bool // the group has its debts simplified; else transfers are the debts
	People     map[ledger.Account]Person
	Positions  []Position // by currency
}

// debtsOf are the debts of one currency, with the one who owes first.
func debtsOf(debts []ledger.Debt, currency core.Currency) (list []Transfer) {
	for _, d := range debts {
		switch t := (Transfer{d.A, d.B, d.Money.Amount}); {
		case d.Money.Currency != currency:
		case t.Amount < 0:
			list = append(list, Transfer{t.To, t.From, -t.Amount})
		default:
			list = append(list, t)
		}
	}
	return list
}

// balancesOf is what debts come to for each.
func balancesOf(debts []Transfer) map[ledger.Account]int64 {
	balances := map[ledger.Account]int64{}
	for _, t := range debts {
		balances[t.From] -= t.Amount
		balances[t.To] += t.Amount
	}
	return balances
}

// transfersOf are those that settle debts of one currency.
func transfersOf(debts []Transfer, simplified bool) []Transfer {
	if simplified {
		return Simplify(balancesOf(debts))
	}
	return debts
}

// Balances returns how a group stands, as of one moment.
func (s *Store) Balances(ctx context.Context, user core.UserID, group core.GroupID) (st Standing, err error) {
	var debts []ledger.Debt
	wallets := map[core.Currency]int64{}
	err = s.snapshot(ctx, user, group, func(ctx context.Context, tx pgx.Tx, simplified bool) error {
		st = Standing{Simplified: simplified}
		clear(wallets)
		if debts, err = s.ledger.Debts(ctx, tx, ledger.GroupBook(group)); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT currency, spent FROM expense_wallets WHERE group_id = $1`, group)
		if err != nil {
			return err
		}
		var c core.Currency
		var spent int64
		if _, err = pgx.ForEachRow(rows, []any{&c, &spent}, func() error {
			wallets[c] = spent
			return nil
		}); err != nil {
			return err
		}
		st.People, err = people(ctx, tx, group, debts)
		return err
	})
	if err != nil {
		return Standing{}, fmt.Errorf("read balances: %w", err)
	}
	for _, d := range debts {
		wallets[d.Money.Currency] += 0 // those in which nothing is spent any more
	}
	for _, c := range slices.Sorted(maps.Keys(wallets)) {
		owed := debtsOf(debts, c)
		p := Position{Currency: c, Spent: wallets[c], Transfers: transfersOf(owed, st.Simplified)}
		balances := balancesOf(owed)
		p.Kitty = -balances[ledger.Wallet]
		for _, who := range slices.Sorted(maps.Keys(balances)) {
			if balances[who] != 0 {
				p.Balances = append(p.Balances, Stake{who, balances[who]})
			}
		}
		st.Positions = append(st.Positions, p)
	}
	return st, nil
}

// snapshot runs fn for a member, on one state of the database. REPEATABLE READ is that
// already; unlike SERIALIZABLE it stands in no writer's way.
func (s *Store) snapshot(ctx context.Context, user core.UserID, group core.GroupID, fn func(ctx context.Context, tx pgx.Tx, simplified bool) error) error {
	return s.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		var simplified bool
		err := tx.QueryRow(ctx, `SELECT coalesce(g.settings->>'simplify_debts', '') <> 'false' FROM group_members m JOIN groups g ON g.id = m.group_id
			WHERE m.group_id = $1 AND m.user_id = $2`, group, user).Scan(&simplified)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotMember
		}
		if err != nil {
			return err
		}
		return fn(ctx, tx, simplified)
	})
}

// people are a group's members, and whoever else has debts in it.
func people(ctx context.Context, q db.Querier, group core.GroupID, debts []ledger.Debt) (map[ledger.Account]Person, error) {
	out := map[ledger.Account]Person{ledger.Wallet: {Account: ledger.Wallet, Member: true}}
	var also []core.UserID
	for _, d := range debts {
		for _, a := range []ledger.Account{d.A, d.B} {
			if user, ok := a.Member(); ok {
				out[a] = Person{Account: a}
				also = append(also, user)
			}
		}
	}
	slices.SortFunc(also, compareUsers)
	also = slices.Compact(also)
	rows, err := q.Query(ctx,
		`SELECT u.id, u.username, u.profile_picture, EXISTS (SELECT 1 FROM group_members m WHERE m.group_id = $1 AND m.user_id = u.id) FROM users u
		 WHERE u.id IN (SELECT m.user_id FROM group_members m WHERE m.group_id = $1 UNION SELECT unnest($2::UUID[]))`, group, also)
	if err != nil {
		return nil, err
	}
	var id core.UserID
	var p Person
	_, err = pgx.ForEachRow(rows, []any{&id, &p.Name, &p.Picture, &p.Member}, func() error {
		p.Account = ledger.Member(id)
		out[p.Account] = p
		return nil
	})
	return out, err
}

// Line is something that changed what one owes another.
type Line struct {
	ledger.Between
	Amount int64  // that is owed more; less, if it is negative
	Title  string // of the expense, if it is one
}

// Explanation is why one is to pay another so much.
type Explanation struct {
	Currency   core.Currency
	Simplified bool
	People     map[ledger.Account]Person
	Total      int64 // to be paid; negative: the other way around. Direct and Circles come to it
	Direct     int64 // what lines come to, all of them
	Circles    []Circle
	Lines      []Line // a page of them, the newest first
}

// Explain says why one is to pay another what Balances says: the lines between the
// two, which come to what is owed directly, and the circles by which simplifying has
// changed that. It also returns the cursor of the next page of lines, empty if there
// is none.
func (s *Store) Explain(ctx context.Context, user core.UserID, group core.GroupID, from, to ledger.Account, currency core.Currency, cursor string, limit int) (x Explanation, next string, err error) {
	below, err := parsePlace(cursor)
	switch {
	case err != nil:
		return Explanation{}, "", err
	case !currency.Known():
		return Explanation{}, "", core.ErrCurrency.At("query.currency")
	case from == to:
		return Explanation{}, "", ErrNoSuchMember.At("query.to")
	}
	var debts []ledger.Debt
	err = s.snapshot(ctx, user, group, func(ctx context.Context, tx pgx.Tx, simplified bool) error {
		x = Explanation{Currency: currency, Simplified: simplified}
		book := ledger.GroupBook(group)
		if debts, err = s.ledger.Debts(ctx, tx, book); err != nil {
			return err
		}
		between, err := s.ledger.Lines(ctx, tx, book, from, to, currency, below, limit+1)
		if err != nil {
			return err
		}
		if next = ""; len(between) > limit {
			between = between[:limit]
			next = formatPlace(ledger.Place{Seq: between[limit-1].Seq, Line: between[limit-1].Number})
		}
		if x.Lines, err = titled(ctx, tx, between, from); err != nil {
			return err
		}
		x.People, err = people(ctx, tx, group, debts)
		return err
	})
	if err != nil {
		return Explanation{}, "", fmt.Errorf("explain debt: %w", err)
	}
	for _, who := range []ledger.Account{from, to} {
		if _, ok := x.People[who]; !ok && len(x.Lines) == 0 {
			return Explanation{}, "", ErrNoSuchMember.At("query")
		}
	}
	owed := debtsOf(debts, currency)
	transfers := transfersOf(owed, x.Simplified)
	x.Total, x.Direct, x.Circles = owes(transfers, from, to), owes(owed, from, to), Circles(owed, transfers, from, to)
	return x, next, nil
}

// owes is what one owes another by a list.
func owes(list []Transfer, from, to ledger.Account) (sum int64) {
	for _, t := range list {
		switch {
		case t.From == from && t.To == to:
			sum += t.Amount
		case t.From == to && t.To == from:
			sum -= t.Amount
		}
	}
	return sum
}

// titled adds to postings what people called them.
func titled(ctx context.Context, q db.Querier, list []ledger.Between, from ledger.Account) ([]Line, error) {
	var ids []uuid.UUID
	for _, b := range list {
		if b.Kind == KindExpense {
			ids = append(ids, b.Ref)
		}
	}
	titles := map[uuid.UUID]string{}
	if len(ids) > 0 {
		rows, err := q.Query(ctx, `SELECT id, title FROM expenses WHERE id = ANY($1)`, ids)
		if err != nil {
			return nil, err
		}
		var id uuid.UUID
		var title string
		if _, err := pgx.ForEachRow(rows, []any{&id, &title}, func() error {
			titles[id] = title
			return nil
		}); err != nil {
			return nil, err
		}
	}
	lines := make([]Line, len(list))
	for i, b := range list {
		lines[i] = Line{Between: b, Amount: b.Money.Amount, Title: titles[b.Ref]}
		if b.Debtor != from {
			lines[i].Amount = -b.Money.Amount
		}
	}
	return lines, nil
}

func formatPlace(p ledger.Place) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %d", p.Seq, p.Line))
}

func parsePlace(cursor string) (p ledger.Place, err error) {
	if cursor == "" {
		return p, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d %d", &p.Seq, &p.Line)
	}
	if err != nil || p.Seq <= 0 || p.Line < 0 {
		return ledger.Place{}, core.ErrBadCursor
	}
	return p, nil
}
