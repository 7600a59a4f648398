package payments

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/ledger"
)

// What ledger entries of payments are called. Their ref is the payment.
const (
	entryPayment = "payment"
	entryRefund  = "refund"
	entryBounced = "refund_bounced" // it went back, and the payer's bank didn't take it
)

// posting is what is to be posted into one book.
type posting struct {
	book    ledger.Book
	entries []ledger.Entry
}

// postings are what follows from a change. The ids follow from what they are of, so
// that the ledger would refuse a second one. It is pure.
func postings(was, p Payment) []posting {
	payer := posting{book: ledger.UserBook(p.User)}
	payee := posting{book: ledger.UserBook(p.To)}
	add := func(kind string, of uuid.UUID, m core.Money, back bool) {
		in := ledger.Line{Debtor: ledger.Gateway(p.Gateway), Creditor: ledger.User(p.User), Money: m}
		on := ledger.Line{Debtor: ledger.User(p.User), Creditor: ledger.Platform, Money: m}
		out := ledger.Line{Debtor: ledger.Platform, Creditor: ledger.User(p.To), Money: m}
		if back {
			for _, l := range []*ledger.Line{&in, &on, &out} {
				l.Debtor, l.Creditor = l.Creditor, l.Debtor
			}
		}
		e := ledger.Entry{ID: of, Kind: kind, Ref: p.ID, Lines: []ledger.Line{in}}
		if someone(p.To) != nil && kind != entryBounced {
			e.Lines = append(e.Lines, on)
			payee.entries = append(payee.entries, ledger.Entry{ID: uuid.NewSHA1(of, []byte("payee")), Kind: kind, Ref: p.ID, Lines: []ledger.Line{out}})
		}
		payer.entries = append(payer.entries, e)
	}
	if p.Status.Paid() && !was.Status.Paid() {
		add(entryPayment, p.ID, p.Money, false)
	}
	for _, c := range refundChanges(was, p) {
		if c.succeeded {
			add(entryRefund, c.ID, c.Money, true)
		} else {
			// We have the money again, and owe it to the payer.
			add(entryBounced, uuid.NewSHA1(c.ID, []byte("bounced")), c.Money, false)
		}
	}
	list := slices.DeleteFunc([]posting{payer, payee}, func(b posting) bool { return len(b.entries) == 0 })
	slices.SortFunc(list, func(a, b posting) int { return strings.Compare(string(a.book), string(b.book)) }) // books are locked in one order
	return list
}

func (s *Store) post(ctx context.Context, tx pgx.Tx, was, p Payment) error {
	for _, b := range postings(was, p) {
		if _, err := s.ledger.Post(ctx, tx, b.book, b.entries...); err != nil {
			return fmt.Errorf("post payment: %w", err)
		}
	}
	return nil
}
