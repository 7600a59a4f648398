package node

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/ledger"
)

func TestOperatorsVerifyTheLedger(t *testing.T) {
	d := devdb.Test(t)
	n := &Node{cfg: Config{DB: d}}
	n.state.Store(1)
	h := (&control{nodes: func() []*Node { return []*Node{n} }}).handler()
	ask := func(what string, v any) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9090/ctl/ledger/verify"+what, nil))
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), v), rec.Body.String())
		return rec.Code
	}
	var v LedgerView
	require.Equal(t, http.StatusOK, ask("", &v))
	require.Equal(t, LedgerView{Books: []LedgerBook{}, Faults: []LedgerFault{}}, v)

	books := ledger.New(d, ledger.Config{})
	var list []ledger.Book
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		for range ledgerPage + 3 {
			book := ledger.UserBook(core.UserID(uuid.New()))
			list = append(list, book)
			if _, err := books.Post(ctx, tx, book, ledger.Entry{ID: uuid.New(), Kind: "charge", Lines: []ledger.Line{{
				Debtor: ledger.Platform, Creditor: ledger.Gateway("stripe"), Money: core.Money{Amount: 399, Currency: "EUR"}}}}); err != nil {
				return err
			}
		}
		return nil
	}))
	require.Equal(t, http.StatusOK, ask("", &v))
	require.Len(t, v.Books, ledgerPage)
	require.Equal(t, v.Books[ledgerPage-1].Book, v.Next)
	var rest LedgerView
	require.Equal(t, http.StatusOK, ask("?after="+v.Next, &rest))
	require.Len(t, rest.Books, 3)
	require.Empty(t, rest.Next)
	require.Empty(t, append(v.Faults, rest.Faults...))

	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE ledger_postings SET amount = 398 WHERE book = $1`, list[7])
		return err
	}))
	var one LedgerView
	require.Equal(t, http.StatusOK, ask("?book="+string(list[7]), &one))
	require.Len(t, one.Books, 1)
	require.EqualValues(t, []int64{1, 1}, []int64{one.Transactions, one.Postings})
	require.Len(t, one.Faults, 2, "hash and debt: %v", one.Faults)
	require.Equal(t, string(list[7]), one.Faults[0].Book)
	require.EqualValues(t, 1, one.Faults[0].Seq)
	require.Equal(t, http.StatusBadRequest, ask("?book=x", &map[string]string{}))
}
