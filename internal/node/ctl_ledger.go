package node

import (
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

// LedgerView says whether what is kept of books is what was posted into them.
type LedgerView struct {
	Books        []LedgerBook  `json:"books"` // that were verified
	Transactions int64         `json:"transactions"`
	Postings     int64         `json:"postings"`
	Faults       []LedgerFault `json:"faults"`
	Next         string        `json:"next,omitempty"` // there are more: ask for those after it
}

// LedgerBook is how far a book goes. Who notes that elsewhere finds out if it is
// written anew from the beginning, too.
type LedgerBook struct {
	Book string `json:"book"`
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// LedgerFault is what nobody could have posted.
type LedgerFault struct {
	Book string `json:"book"`
	Seq  int64  `json:"seq,omitempty"` // absent: the book as a whole
	What string `json:"what"`
}

// Of all books so many are verified per request, and no further one after so long.
const (
	ledgerPage = 200
	ledgerTime = 5 * time.Second
)

// verifyLedger verifies ?book=, or a page of all books after ?after=.
func (c *control) verifyLedger(r *http.Request) (*LedgerView, error) {
	n, err := c.anyNode()
	if err != nil {
		return nil, err
	}
	books := ledger.New(n.cfg.DB, ledger.Config{})
	v := &LedgerView{Books: []LedgerBook{}, Faults: []LedgerFault{}}
	list, one := []ledger.Book{ledger.Book(r.FormValue("book"))}, r.FormValue("book") != ""
	if !one {
		if list, err = books.Books(r.Context(), ledger.Book(r.FormValue("after")), ledgerPage); err != nil {
			return nil, err
		}
	} else if kind, _, ok := strings.Cut(string(list[0]), ":"); !ok || kind != "group" && kind != "user" {
		return nil, errs.New(errs.Invalid, "invalid_book", "a book is group:<uuid> or user:<uuid>")
	}
	begun := time.Now()
	for i, book := range list {
		report, err := books.Verify(r.Context(), book)
		if err != nil {
			return nil, err
		}
		for _, h := range report.Heads {
			v.Books = append(v.Books, LedgerBook{Book: string(h.Book), Seq: h.Seq, Hash: hex.EncodeToString(h.Hash[:])})
		}
		for _, f := range report.Faults {
			v.Faults = append(v.Faults, LedgerFault{Book: string(f.Book), Seq: f.Seq, What: f.What})
		}
		v.Transactions += report.Transactions
		v.Postings += report.Postings
		if more := i+1 < len(list) || len(list) == ledgerPage; !one && more && (i+1 == len(list) || time.Since(begun) > ledgerTime) {
			v.Next = string(book)
			break
		}
	}
	return v, nil
}
