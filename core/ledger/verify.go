package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Fault is something that nobody could have posted.
type Fault struct {
	Book Book
	Seq  int64 // of the transaction; 0: the book as a whole
	What string
}

// Report is what Verify found.
type Report struct {
	Heads                  []Head // of the books, as they are stored
	Transactions, Postings int64
	Faults                 []Fault // at most maxFaults per book
}

// maxFaults bounds what is said of one book: after a hole all numbers are wrong.
const maxFaults = 20

// Books lists books that something is stored of, after one: a page of all of them.
func (s *Store) Books(ctx context.Context, after Book, limit int) (list []Book, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT book FROM (
			(SELECT book FROM ledger_books WHERE book > $1 ORDER BY book LIMIT $2)
			UNION (SELECT DISTINCT book FROM ledger_transactions WHERE book > $1 ORDER BY book LIMIT $2)
			UNION (SELECT DISTINCT book FROM ledger_debts WHERE book > $1 ORDER BY book LIMIT $2)
			UNION (SELECT DISTINCT book FROM ledger_postings WHERE book > $1 ORDER BY book LIMIT $2)) AS b
			ORDER BY book LIMIT $2`, after, limit)
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowTo[Book])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list books: %w", err)
	}
	return list, nil
}

// Verify reads books from their beginning, all if none is named, and compares what it
// finds with what is kept: numbers without a hole, every hash, reversals, debts. It
// doesn't stand in anybody's way.
func (s *Store) Verify(ctx context.Context, books ...Book) (Report, error) {
	var all Report
	if len(books) > 0 {
		err := s.verify(ctx, &all, books)
		return all, err
	}
	for after := Book(""); ; {
		page, err := s.Books(ctx, after, 100)
		if err != nil || len(page) == 0 {
			return all, err
		}
		if err := s.verify(ctx, &all, page); err != nil {
			return all, err
		}
		after = page[len(page)-1]
	}
}

func (s *Store) verify(ctx context.Context, all *Report, books []Book) error {
	for _, book := range books {
		var a *audit
		// One snapshot per book, at a level at which no writer conflicts with it.
		if err := s.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) (err error) {
			a, err = s.audit(ctx, tx, book)
			return err
		}); err != nil {
			return fmt.Errorf("verify %s: %w", book, err)
		}
		all.Heads = append(all.Heads, a.head)
		all.Transactions += a.transactions
		all.Postings += a.postings
		all.Faults = append(all.Faults, a.faults...)
	}
	return nil
}

// auditPage is how many transactions are held at once.
const auditPage = 1000

func (s *Store) audit(ctx context.Context, q db.Querier, book Book) (*audit, error) {
	a := &audit{head: Head{Book: book}, posted: map[uuid.UUID]*fingerprint{}, debts: map[Debt]int64{}}
	rows, err := q.Query(ctx, `SELECT seq, hash FROM ledger_books WHERE book = $1`, book)
	if err != nil {
		return nil, err
	}
	var hash []byte
	if _, err := pgx.ForEachRow(rows, []any{&a.head.Seq, &hash}, func() error {
		if err := a.head.Hash.scan(hash); err != nil {
			a.fault(0, "has a head without a hash: %s", err)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for after := int64(math.MinInt64); after < math.MaxInt64; {
		p, err := read(ctx, q, book, after, auditPage)
		if err != nil {
			return nil, err
		}
		for i := range p.list {
			a.transaction(&p.list[i])
		}
		for _, seq := range p.orphans {
			a.fault(seq, "has postings, and is no transaction")
		}
		after = p.last
	}
	debts, err := s.Debts(ctx, q, book)
	if err != nil {
		return nil, err
	}
	a.end(debts)
	return a, nil
}

// audit follows one book.
type audit struct {
	head Head // as it is stored

	at                     Head // as far as it was followed
	transactions, postings int64
	posted                 map[uuid.UUID]*fingerprint
	debts                  map[Debt]int64 // by debts without their amounts
	faults                 []Fault
}

// fingerprint is what must be known of a transaction when it is taken back.
type fingerprint struct {
	lines    Hash
	reversed bool
}

func printOf(t *Transaction) *fingerprint {
	var b []byte
	for _, l := range t.Lines {
		b = fmt.Appendf(b, "%q owes %q %d %q\n", l.Debtor, l.Creditor, l.Money.Amount, l.Money.Currency)
	}
	return &fingerprint{lines: sha256.Sum256(b)}
}

func (a *audit) fault(seq int64, format string, args ...any) {
	if len(a.faults) < maxFaults {
		a.faults = append(a.faults, Fault{a.head.Book, seq, fmt.Sprintf(format, args...)})
	}
}

func (a *audit) transaction(t *Transaction) {
	a.transactions++
	a.postings += int64(len(t.Lines))
	if want := a.at.Seq + 1; t.Seq != want {
		a.fault(t.Seq, "follows %d: %d are missing", a.at.Seq, t.Seq-want)
	}
	if want := link(a.at.Hash, t); t.Hash != want {
		a.fault(t.Seq, "has hash %x instead of %x: it was changed, or does not belong here", t.Hash, want)
	}
	a.at.Seq, a.at.Hash = t.Seq, t.Hash // so that one change is one fault
	if t.Reverses != nil {
		switch of := a.posted[*t.Reverses]; {
		case of == nil:
			a.fault(t.Seq, "takes back %s, which is not before it", *t.Reverses)
		case of.reversed:
			a.fault(t.Seq, "takes back %s again", *t.Reverses)
		case printOf(&Transaction{Entry: t.Reversal(t.By)}).lines != of.lines:
			a.fault(t.Seq, "takes back %s by other lines", *t.Reverses)
		default:
			of.reversed = true
		}
	}
	a.posted[t.ID] = printOf(t)
	for _, l := range t.Lines {
		if l.Money.Amount <= 0 || l.Money.Amount > core.MaxAmount || l.Debtor == l.Creditor {
			a.fault(t.Seq, "says that %s owes %s %s", l.Debtor, l.Creditor, l.Money)
		}
		d, amount := l.debt()
		a.debts[d] += amount
	}
}

func (a *audit) end(stored []Debt) {
	if a.head.Seq != a.at.Seq || a.head.Hash != a.at.Hash {
		a.fault(0, "ends at %d with hash %x, and its head says %d with hash %x", a.at.Seq, a.at.Hash, a.head.Seq, a.head.Hash)
	}
	for _, d := range stored {
		key := Debt{d.A, d.B, core.Money{Currency: d.Money.Currency}}
		if sum := a.debts[key]; sum != d.Money.Amount {
			a.fault(0, "keeps that %s owes %s %s, and its postings come to %d", d.A, d.B, d.Money, sum)
		}
		delete(a.debts, key)
	}
	var lost []Debt
	for d, amount := range a.debts {
		if d.Money.Amount = amount; amount != 0 {
			lost = append(lost, d)
		}
	}
	slices.SortFunc(lost, compareDebts)
	for _, d := range lost {
		a.fault(0, "keeps nothing between %s and %s, and its postings come to %s", d.A, d.B, d.Money)
	}
}
