package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"

	"github.com/mustermesh/muster/internal/node"
)

type (
	// CtlLedgerCmd is about who owes whom: any process will do.
	CtlLedgerCmd struct {
		Verify CtlLedgerVerifyCmd `cmd:"" help:"Read books from their beginning and compare every number, hash and debt with what is kept; fail if something was changed. With --json also how far each book goes."`
	}
	// CtlLedgerVerifyCmd verifies books.
	CtlLedgerVerifyCmd struct {
		Book string `help:"One book, group:<uuid> or user:<uuid>; default: all." placeholder:"BOOK"`
	}
)

// Run verifies books.
func (l *CtlLedgerVerifyCmd) Run(ctx context.Context, c *CtlCmd) error {
	var all node.LedgerView
	for after := ""; ; {
		query := neturl.Values{"after": {after}}
		if l.Book != "" {
			query = neturl.Values{"book": {l.Book}}
		}
		var v node.LedgerView
		if err := c.call(ctx, http.MethodGet, "ledger/verify", query, &v); err != nil {
			return err
		}
		all.Books, all.Faults = append(all.Books, v.Books...), append(all.Faults, v.Faults...)
		all.Transactions += v.Transactions
		all.Postings += v.Postings
		if after = v.Next; after == "" || l.Book != "" {
			break
		}
	}
	if err := c.show(all, func(w io.Writer) {
		for _, f := range all.Faults {
			fmt.Fprintf(w, "%s\t#%d\t%s\n", f.Book, f.Seq, f.What)
		}
		if l.Book != "" {
			for _, b := range all.Books {
				fmt.Fprintf(w, "%s ends at %d with hash %s\n", b.Book, b.Seq, b.Hash)
			}
		}
		fmt.Fprintf(w, "%d books, %d transactions, %d postings verified, %d faults\n", len(all.Books), all.Transactions, all.Postings, len(all.Faults))
	}); err != nil {
		return err
	}
	if n := len(all.Faults); n > 0 {
		return fmt.Errorf("%d faults: somebody changed what is kept, or it is a bug", n)
	}
	return nil
}
