package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Lock queues the statement that reads a book's head and keeps others from writing to
// the book until the transaction ends. What it returns is filled in once the batch is
// read.
//
// It is an upsert that changes nothing instead of a SELECT … FOR UPDATE: it makes the
// first head of a book, and at SERIALIZABLE on PostgreSQL it doesn't count as a read,
// so that who makes a book doesn't conflict with who writes to its neighbour in the
// index.
func (s *Store) Lock(b *pgx.Batch, book Book) *Head {
	h := &Head{Book: book}
	b.Queue(`INSERT INTO ledger_books (book, seq, hash) VALUES ($1, 0, $2)
		ON CONFLICT (book) DO UPDATE SET seq = ledger_books.seq RETURNING seq, hash`, book, make([]byte, len(h.Hash))).
		QueryRow(func(row pgx.Row) error {
			var hash []byte
			if err := row.Scan(&h.Seq, &hash); err != nil {
				return err
			}
			return h.Hash.scan(hash)
		})
	return h
}

func (h *Hash) scan(b []byte) error {
	if len(b) != len(h) {
		return fmt.Errorf("a hash has %d bytes instead of %d", len(b), len(h))
	}
	copy(h[:], b)
	return nil
}

// maxText bounds names and kinds.
const maxText = 100

// check refuses what can't be posted.
func (e *Entry) check() error {
	if e.ID == (uuid.UUID{}) || e.Kind == "" || len(e.Kind) > maxText {
		return errors.New("an entry has an id and a kind")
	}
	for _, l := range e.Lines {
		switch {
		case l.Debtor == "" || l.Creditor == "" || l.Debtor == l.Creditor || len(l.Debtor) > maxText || len(l.Creditor) > maxText:
			return fmt.Errorf("%q can't owe %q", l.Debtor, l.Creditor)
		case !l.Money.Currency.Known() && e.Reverses == nil: // it may have been, when that was posted
			return core.ErrCurrency
		case l.Money.Amount <= 0 || l.Money.Amount > core.MaxAmount:
			return core.ErrAmount
		}
	}
	return nil
}

// Append queues what writes entries into the book whose head was read by Lock, in the
// same transaction, and moves the head on.
func (s *Store) Append(b *pgx.Batch, h *Head, entries ...Entry) ([]Transaction, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	out := make([]Transaction, len(entries))
	at := s.cfg.Now().UTC().Truncate(time.Microsecond)
	var rows columns
	for i, e := range entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("post to %s: %w", h.Book, err)
		}
		t := Transaction{Entry: e, Book: h.Book, Seq: h.Seq + 1, At: at}
		t.Hash = link(h.Hash, &t)
		h.Seq, h.Hash, out[i] = t.Seq, t.Hash, t
		rows.add(&t)
	}
	debts, err := Sum(out)
	if err != nil {
		return nil, err
	}
	rows.queue(b, h.Book, at)
	queueDebts(b, h.Book, debts)
	b.Queue(`INSERT INTO ledger_books (book, seq, hash) VALUES ($1, $2, $3)
		ON CONFLICT (book) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`, h.Book, h.Seq, h.Hash[:])
	return out, nil
}

// columns are the rows of transactions and postings, as unnest takes them.
type columns struct {
	seq      []int64
	id, ref  []uuid.UUID
	kind     []string
	reverses []*uuid.UUID
	author   []*core.UserID
	hash     [][]byte

	of, line, amount []int64
	debtor, creditor []string
	currency         []string
}

func (c *columns) add(t *Transaction) {
	c.seq, c.id, c.ref = append(c.seq, t.Seq), append(c.id, t.ID), append(c.ref, t.Ref)
	c.kind, c.reverses, c.hash = append(c.kind, t.Kind), append(c.reverses, t.Reverses), append(c.hash, t.Hash[:])
	var author *core.UserID
	if t.By != (core.UserID{}) {
		author = &t.By
	}
	c.author = append(c.author, author)
	for i, l := range t.Lines {
		c.of, c.line, c.amount = append(c.of, t.Seq), append(c.line, int64(i)), append(c.amount, l.Money.Amount)
		c.debtor, c.creditor = append(c.debtor, string(l.Debtor)), append(c.creditor, string(l.Creditor))
		c.currency = append(c.currency, string(l.Money.Currency))
	}
}

func (c *columns) queue(b *pgx.Batch, book Book, at time.Time) {
	b.Queue(`INSERT INTO ledger_transactions (book, seq, id, kind, ref, reverses, author, at, hash)
		SELECT $1, t.seq, t.id, t.kind, t.ref, t.reverses, t.author, $2, t.hash
		FROM unnest($3::BIGINT[], $4::UUID[], $5::TEXT[], $6::UUID[], $7::UUID[], $8::UUID[], $9::BYTEA[]) AS t (seq, id, kind, ref, reverses, author, hash)`,
		book, at, c.seq, c.id, c.kind, c.ref, c.reverses, c.author, c.hash).Fn = explained
	if len(c.of) == 0 {
		return
	}
	b.Queue(`INSERT INTO ledger_postings (book, seq, line, debtor, creditor, currency, amount)
		SELECT $1, p.seq, p.line, p.debtor, p.creditor, p.currency, p.amount
		FROM unnest($2::BIGINT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::BIGINT[]) AS p (seq, line, debtor, creditor, currency, amount)`,
		book, c.of, c.line, c.debtor, c.creditor, c.currency, c.amount)
}

// queueDebts adds to what is owed, blindly: nobody reads it first, so two books that
// are neighbours in an index don't conflict.
func queueDebts(b *pgx.Batch, book Book, debts []Debt) {
	if len(debts) == 0 {
		return
	}
	var from, to, currencies []string
	var amounts []int64
	for _, d := range debts {
		from, to = append(from, string(d.A)), append(to, string(d.B))
		currencies, amounts = append(currencies, string(d.Money.Currency)), append(amounts, d.Money.Amount)
	}
	b.Queue(`INSERT INTO ledger_debts (book, a, b, currency, amount)
		SELECT $1, d.a, d.b, d.currency, d.amount FROM unnest($2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[]) AS d (a, b, currency, amount)
		ON CONFLICT (book, a, b, currency) DO UPDATE SET amount = ledger_debts.amount + excluded.amount`,
		book, from, to, currencies, amounts).Fn = explained
}

// explained runs a statement and gives its failures the names that clients know.
func explained(results pgx.BatchResults) error {
	_, err := results.Exec()
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil || !ok:
		return err
	case db.Violates(err, "ledger_transactions_reverses"):
		return fmt.Errorf("%w: %w", ErrReversed, err)
	case pg.ConstraintName == "ledger_debts_amount", pg.Code == "22003": // numeric_value_out_of_range
		return fmt.Errorf("%w: %w", core.ErrAmount, err)
	}
	return err
}

// Debt is what is between two accounts of a book: A owes B, or B owes A if the amount
// is negative. A has the smaller name.
type Debt struct {
	A, B  Account
	Money core.Money
}

// Sum is what transactions make of a blank book: one debt per pair and currency, sorted;
// none that is zero.
func Sum(list []Transaction) ([]Debt, error) {
	sums := map[Debt]int64{} // by debts without their amounts
	for _, t := range list {
		for _, l := range t.Lines {
			d, amount := l.debt()
			sum, err := core.Money{Amount: sums[d], Currency: l.Money.Currency}.Add(core.Money{Amount: amount, Currency: l.Money.Currency})
			if err != nil {
				return nil, err
			}
			sums[d] = sum.Amount
		}
	}
	maps.DeleteFunc(sums, func(_ Debt, amount int64) bool { return amount == 0 })
	out := make([]Debt, 0, len(sums))
	for d, amount := range sums {
		d.Money.Amount = amount
		out = append(out, d)
	}
	slices.SortFunc(out, compareDebts)
	return out, nil
}

// debt is what a line adds to which debt, which has no amount here.
func (l Line) debt() (Debt, int64) {
	if l.Debtor > l.Creditor {
		return Debt{l.Creditor, l.Debtor, core.Money{Currency: l.Money.Currency}}, -l.Money.Amount
	}
	return Debt{l.Debtor, l.Creditor, core.Money{Currency: l.Money.Currency}}, l.Money.Amount
}
