package ledger

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

func compareDebts(x, y Debt) int {
	return cmp.Or(cmp.Compare(x.Money.Currency, y.Money.Currency), cmp.Compare(x.A, y.A), cmp.Compare(x.B, y.B))
}

// Debts returns all that is owed in a book, sorted by currency and names; nothing that
// is zero.
func (s *Store) Debts(ctx context.Context, q db.Querier, book Book) ([]Debt, error) {
	rows, err := q.Query(ctx, `SELECT a, b, currency, amount FROM ledger_debts WHERE book = $1 AND amount <> 0`, book)
	if err != nil {
		return nil, fmt.Errorf("read debts: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanDebt)
	if err != nil {
		return nil, fmt.Errorf("read debts: %w", err)
	}
	slices.SortFunc(list, compareDebts) // not by the database: its collation may be another
	return list, nil
}

func scanDebt(row pgx.CollectableRow) (d Debt, err error) {
	return d, row.Scan(&d.A, &d.B, &d.Money.Currency, &d.Money.Amount)
}

// Debt is what is between two accounts: a owes b, negative if b owes a.
func (s *Store) Debt(ctx context.Context, q db.Querier, book Book, a, b Account, currency core.Currency) (core.Money, error) {
	m := core.Money{Currency: currency}
	first, second := min(a, b), max(a, b)
	err := q.QueryRow(ctx, `SELECT COALESCE(sum(amount), 0)::BIGINT FROM ledger_debts WHERE book = $1 AND a = $2 AND b = $3 AND currency = $4`,
		book, first, second, currency).Scan(&m.Amount)
	if err != nil {
		return core.Money{}, fmt.Errorf("read debt: %w", err)
	}
	if first != a {
		m = m.Negate()
	}
	return m, nil
}

// Balance is what an account is owed in all, or owes if it is negative.
type Balance struct {
	Account Account
	Money   core.Money
}

// Balances sums debts up, sorted by currency and name; those of a currency come to
// zero. A balance that is zero is left out.
func Balances(debts []Debt) ([]Balance, error) {
	type key struct {
		account  Account
		currency core.Currency
	}
	sums := map[key]core.Money{}
	add := func(a Account, m core.Money) (err error) {
		k := key{a, m.Currency}
		sums[k], err = core.Money{Amount: sums[k].Amount, Currency: m.Currency}.Add(m)
		return err
	}
	for _, d := range debts {
		if err := cmp.Or(add(d.A, d.Money.Negate()), add(d.B, d.Money)); err != nil {
			return nil, fmt.Errorf("sum up debts: %w", err)
		}
	}
	out := make([]Balance, 0, len(sums))
	for k, m := range sums {
		if m.Amount != 0 {
			out = append(out, Balance{k.account, m})
		}
	}
	slices.SortFunc(out, func(x, y Balance) int {
		return cmp.Or(cmp.Compare(x.Money.Currency, y.Money.Currency), cmp.Compare(x.Account, y.Account))
	})
	return out, nil
}

// Balances is what the accounts of a book are owed.
func (s *Store) Balances(ctx context.Context, q db.Querier, book Book) ([]Balance, error) {
	debts, err := s.Debts(ctx, q, book)
	if err != nil {
		return nil, err
	}
	return Balances(debts)
}

// Get returns a transaction with its lines.
func (s *Store) Get(ctx context.Context, q db.Querier, book Book, id uuid.UUID) (Transaction, error) {
	rows, err := q.Query(ctx, `SELECT seq FROM ledger_transactions WHERE book = $1 AND id = $2`, book, id)
	if err != nil {
		return Transaction{}, fmt.Errorf("read transaction: %w", err)
	}
	seqs, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return Transaction{}, fmt.Errorf("read transaction: %w", err)
	}
	if len(seqs) == 0 {
		return Transaction{}, ErrNoTransaction
	}
	p, err := read(ctx, q, book, seqs[0]-1, 1)
	if err != nil {
		return Transaction{}, err
	}
	return p.list[0], nil
}

// Since returns a book's transactions after a number, the oldest first, at most so many.
func (s *Store) Since(ctx context.Context, q db.Querier, book Book, after int64, limit int) ([]Transaction, error) {
	p, err := read(ctx, q, book, after, limit)
	return p.list, err
}

// page is a part of a book.
type page struct {
	list    []Transaction
	orphans []int64 // numbers that have postings, and are no transaction's
	last    int64   // it goes up to this number; the greatest there is: to the end
}

// read returns a page of a book. By two statements, each along the order of a primary
// key: a join of the two takes a minute for ten thousand transactions, if the database
// has not counted yet what is in its tables.
func read(ctx context.Context, q db.Querier, book Book, after int64, limit int) (p page, err error) {
	rows, err := q.Query(ctx, `SELECT seq, id, kind, ref, reverses, author, at, hash FROM ledger_transactions
		WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT $3`, book, after, limit)
	if err == nil {
		p.list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Transaction, error) { return scan(book, row) })
	}
	if err != nil {
		return page{}, fmt.Errorf("read transactions: %w", err)
	}
	p.last = math.MaxInt64
	if len(p.list) == limit {
		p.last = p.list[limit-1].Seq
	}
	if rows, err = q.Query(ctx, `SELECT seq, debtor, creditor, currency, amount FROM ledger_postings
		WHERE book = $1 AND seq > $2 AND seq <= $3 ORDER BY seq, line`, book, after, p.last); err != nil {
		return page{}, fmt.Errorf("read postings: %w", err)
	}
	var seq int64
	var l Line
	rest := p.list
	if _, err = pgx.ForEachRow(rows, []any{&seq, &l.Debtor, &l.Creditor, &l.Money.Currency, &l.Money.Amount}, func() error {
		for len(rest) > 0 && rest[0].Seq < seq {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].Seq == seq {
			rest[0].Lines = append(rest[0].Lines, l)
		} else if n := len(p.orphans); n == 0 || p.orphans[n-1] != seq {
			p.orphans = append(p.orphans, seq)
		}
		return nil
	}); err != nil {
		return page{}, fmt.Errorf("read postings: %w", err)
	}
	return p, nil
}

func scan(book Book, row pgx.CollectableRow) (Transaction, error) {
	t := Transaction{Book: book}
	var author *core.UserID
	var hash []byte
	err := row.Scan(&t.Seq, &t.ID, &t.Kind, &t.Ref, &t.Reverses, &author, &t.At, &hash)
	t.At = t.At.UTC()
	if author != nil {
		t.By = *author
	}
	if len(hash) == len(t.Hash) { // else none: no hash of ours has another length
		copy(t.Hash[:], hash)
	}
	return t, err
}

// Between is a posting between two accounts, of the transaction that it is part of.
type Between struct {
	Line
	Number   int // of the line in its transaction, from 0
	Seq      int64
	ID       uuid.UUID
	Kind     string
	Ref      uuid.UUID
	Reverses *uuid.UUID
	By       core.UserID
	At       time.Time
}

// Place is where a page of Lines ended; the zero Place is before the newest.
type Place struct {
	Seq  int64
	Line int
}

// Lines returns the postings between two accounts in a currency, the newest first: those
// below a place, and at most so many. All of them add up to the debt of the two.
func (s *Store) Lines(ctx context.Context, q db.Querier, book Book, a, b Account, currency core.Currency, below Place, limit int) ([]Between, error) {
	if below == (Place{}) {
		below.Seq = math.MaxInt64
	}
	rows, err := q.Query(ctx, `SELECT p.seq, p.line, p.debtor, p.creditor, p.amount, t.id, t.kind, t.ref, t.reverses, t.author, t.at
		FROM ((SELECT seq, line, debtor, creditor, amount FROM ledger_postings
		        WHERE book = $1 AND debtor = $2 AND creditor = $3 AND currency = $4 AND (seq, line) < ($5, $6) ORDER BY seq DESC, line DESC LIMIT $7)
		      UNION ALL
		      (SELECT seq, line, debtor, creditor, amount FROM ledger_postings
		        WHERE book = $1 AND debtor = $3 AND creditor = $2 AND currency = $4 AND (seq, line) < ($5, $6) ORDER BY seq DESC, line DESC LIMIT $7)
		      ORDER BY seq DESC, line DESC LIMIT $7) AS p
		JOIN ledger_transactions t ON t.book = $1 AND t.seq = p.seq
		ORDER BY p.seq DESC, p.line DESC`, book, a, b, currency, below.Seq, below.Line, limit)
	if err != nil {
		return nil, fmt.Errorf("read lines: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Between, err error) {
		var author *core.UserID
		x.Money.Currency = currency
		err = row.Scan(&x.Seq, &x.Number, &x.Debtor, &x.Creditor, &x.Money.Amount, &x.ID, &x.Kind, &x.Ref, &x.Reverses, &author, &x.At)
		if author != nil {
			x.By = *author
		}
		x.At = x.At.UTC()
		return x, err
	})
	if err != nil {
		return nil, fmt.Errorf("read lines: %w", err)
	}
	return list, nil
}
