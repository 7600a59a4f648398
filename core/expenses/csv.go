package expenses

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
)

const exportPage = 500

// CSV returns a function that writes a group's expenses, settlements and conversions
// as a table: a row each, the latest first, and a column for each person, with what
// it changed of what they are owed. What fails before anything is written is an error
// at once. A conversion has two rows, one per currency.
func (s *Store) CSV(ctx context.Context, user core.UserID, group core.GroupID) (write func(ctx context.Context, w io.Writer) error, err error) {
	var columns []Person
	err = s.snapshot(ctx, user, group, func(ctx context.Context, tx pgx.Tx, _ bool) error {
		// All who ever were in it: whoever has left has their column, too.
		rows, err := tx.Query(ctx, `SELECT unnest(payers) FROM expenses WHERE group_id = $1 UNION SELECT 'member:' || unnest(members)::TEXT FROM expenses WHERE group_id = $1
			UNION SELECT payer FROM settlements WHERE group_id = $1 UNION SELECT payee FROM settlements WHERE group_id = $1`, group)
		if err != nil {
			return err
		}
		accounts, err := pgx.CollectRows(rows, pgx.RowTo[ledger.Account])
		if err != nil {
			return err
		}
		var all []ledger.Debt
		for _, a := range accounts {
			all = append(all, ledger.Debt{A: a, B: a})
		}
		found, err := people(ctx, tx, group, all)
		if err != nil {
			return err
		}
		columns = columns[:0]
		for a, p := range found {
			if a != ledger.Wallet || slices.Contains(accounts, a) {
				columns = append(columns, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("export expenses: %w", err)
	}
	slices.SortFunc(columns, func(a, b Person) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Account, b.Account)) })
	return func(ctx context.Context, w io.Writer) error { return s.export(ctx, user, group, columns, w) }, nil
}

func (s *Store) export(ctx context.Context, user core.UserID, group core.GroupID, columns []Person, w io.Writer) error {
	out := csv.NewWriter(w)
	header := []string{"Date", "Kind", "Title", "Category", "Note", "Currency", "Amount", "Paid by"}
	names := map[ledger.Account]string{}
	for _, p := range columns {
		names[p.Account] = nameOf(p)
		header = append(header, cell(nameOf(p)))
	}
	err := out.Write(header)
	line := func(day time.Time, kind, title, category, note string, m core.Money, paidBy []string, lines []ledger.Line) {
		if err != nil {
			return
		}
		net := map[ledger.Account]int64{}
		for _, l := range lines {
			net[l.Debtor] -= l.Money.Amount
			net[l.Creditor] += l.Money.Amount
		}
		row := []string{day.Format(time.DateOnly), kind, cell(title), category, cell(note), string(m.Currency), m.Decimal(), cell(strings.Join(paidBy, ", "))}
		for _, p := range columns {
			row = append(row, core.Money{Amount: net[p.Account], Currency: m.Currency}.Decimal())
		}
		err = out.Write(row)
	}
	first, _ := core.ParseCursor("", true)
	for after := first; err == nil; {
		var page []Expense
		if failed := s.read(ctx, "export expenses", user, group, func(ctx context.Context, q db.Querier) (err error) {
			page, err = s.page(ctx, q, group, Filter{}, after, exportPage)
			return err
		}); failed != nil {
			return failed
		}
		for _, e := range page {
			var payers []string
			for _, p := range e.Paid {
				payers = append(payers, names[p.Who])
			}
			line(e.On, "expense", e.Title, e.Category, e.Note, e.Money, payers, e.lines(e.Cuts))
		}
		if len(page) < exportPage {
			break
		}
		after = position(page[len(page)-1])
	}
	for after := first; err == nil; {
		var page []Settlement
		if failed := s.read(ctx, "export settlements", user, group, func(ctx context.Context, q db.Querier) (err error) {
			page, err = s.settlements(ctx, q, group, after, exportPage)
			return err
		}); failed != nil {
			return failed
		}
		for _, st := range page {
			if st.Status != Recorded && st.Status != Settled {
				continue
			}
			for _, l := range st.lines() {
				if l.Debtor == st.To {
					l.Money.Amount -= st.Refunded
				}
				line(st.CreatedAt, st.Kind, names[st.From]+" → "+names[st.To], "", st.Note, l.Money, []string{names[l.Creditor]}, []ledger.Line{l})
			}
		}
		if len(page) < exportPage {
			break
		}
		last := page[len(page)-1]
		after = core.Position{At: last.CreatedAt, ID: last.ID}
	}
	out.Flush()
	return errors.Join(err, out.Error())
}

func nameOf(p Person) string {
	if p.Account == ledger.Wallet {
		return "wallet"
	}
	return cmp.Or(p.Name, string(p.Account))
}

// cell keeps what people wrote from being a formula where a spreadsheet opens it
// (OWASP: CSV injection).
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
