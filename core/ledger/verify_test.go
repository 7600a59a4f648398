package ledger_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/ledger"
)

// The bytes that a hash is of, as the documentation has them: whoever checks a book
// by a program of their own relies on them.
func TestHash(t *testing.T) {
	b := setup(t)
	b.book = "group:00000000-0000-4000-8000-000000000001"
	b.time = time.UnixMicro(1)
	first := ledger.Entry{
		ID: uuid.UUID{0: 0x11, 15: 0x22}, Kind: "expense", Ref: uuid.UUID{0: 0x33}, By: core.UserID{0: 0x44},
		Lines: []ledger.Line{{ledger.Wallet, "a", eur(258)}},
	}
	list, err := b.post(first, ledger.Entry{ID: uuid.UUID{15: 1}, Kind: "x", Reverses: &uuid.UUID{0: 0x55}})
	require.NoError(t, err)

	of := func(parts ...string) ledger.Hash {
		raw, err := hex.DecodeString(strings.Join(parts, ""))
		require.NoError(t, err)
		return sha256.Sum256(raw)
	}
	zeros := func(n int) string { return strings.Repeat("00", n) }
	text := func(s string) string { return hex.EncodeToString(append([]byte{0, byte(len(s))}, s...)) }
	one := of(zeros(32), "01", text(string(b.book)), "0000000000000001", "11"+zeros(14)+"22", text("expense"), "33"+zeros(15), zeros(16), "44"+zeros(15),
		"0000000000000001", "00000001", text("wallet"), text("a"), text("EUR"), "0000000000000102")
	require.Equal(t, one, list[0].Hash)
	two := of(hex.EncodeToString(one[:]), "01", text(string(b.book)), "0000000000000002", zeros(15)+"01", text("x"), zeros(16), "55"+zeros(15), zeros(16),
		"0000000000000001", "00000000")
	require.Equal(t, two, list[1].Hash)
}

// Whatever is changed in the database shows.
func TestTampering(t *testing.T) {
	b := setup(t)
	var ids []uuid.UUID
	for i := range int64(6) {
		e := entry(ledger.Line{bob, ana, eur(100 + i)}, ledger.Line{eve, ana, eur(200 + i)})
		ids = append(ids, e.ID)
		_, err := b.post(e)
		require.NoError(t, err)
	}
	_, err := b.reverse(ids[1]) // 7
	require.NoError(t, err)
	require.Empty(t, b.faults())
	tables := []string{"ledger_books", "ledger_transactions", "ledger_postings", "ledger_debts"}
	for _, table := range tables {
		b.exec(`CREATE TABLE kept_` + table + ` AS SELECT * FROM ` + table)
	}
	for name, x := range map[string]struct {
		sql  []string
		want []string // beginnings of faults
	}{
		"an amount": {[]string{`UPDATE ledger_postings SET amount = 1 WHERE seq = 3 AND line = 0`},
			[]string{"has hash", "keeps that member:01"}},
		"an amount, and what it comes to": {[]string{`UPDATE ledger_postings SET amount = amount + 1 WHERE seq = 3 AND line = 0`, `UPDATE ledger_debts SET amount = amount - 1 WHERE strpos(b, 'member:02') = 1`},
			[]string{"has hash"}},
		"who owes": {[]string{`UPDATE ledger_postings SET debtor = 'wallet' WHERE seq = 3 AND line = 0`},
			[]string{"has hash", "keeps that", "keeps nothing between member:01"}},
		"a transaction is gone": {[]string{`DELETE FROM ledger_transactions WHERE seq = 4`, `DELETE FROM ledger_postings WHERE seq = 4`},
			[]string{"follows 3: 1 are missing", "has hash", "keeps that", "keeps that"}},
		"a transaction is gone, its postings are not": {[]string{`DELETE FROM ledger_transactions WHERE seq = 4`},
			[]string{"follows 3: 1 are missing", "has hash", "has postings", "keeps that", "keeps that"}},
		"the newest is gone": {[]string{`DELETE FROM ledger_transactions WHERE seq = 7`, `DELETE FROM ledger_postings WHERE seq = 7`},
			[]string{"ends at 6", "keeps that", "keeps that"}},
		"the newest is gone, and the head tells": {[]string{`DELETE FROM ledger_transactions WHERE seq = 7`, `DELETE FROM ledger_postings WHERE seq = 7`, `UPDATE ledger_books SET seq = 6`},
			[]string{"ends at 6", "keeps that", "keeps that"}},
		"two are swapped": {[]string{`UPDATE ledger_transactions SET seq = CASE seq WHEN 3 THEN 104 ELSE 103 END WHERE seq IN (3, 4)`, `UPDATE ledger_transactions SET seq = seq - 100 WHERE seq > 100`,
			`UPDATE ledger_postings SET seq = CASE seq WHEN 3 THEN 104 ELSE 103 END WHERE seq IN (3, 4)`, `UPDATE ledger_postings SET seq = seq - 100 WHERE seq > 100`},
			[]string{"has hash", "has hash", "has hash"}},
		"a line is gone":    {[]string{`DELETE FROM ledger_postings WHERE seq = 7 AND line = 1`}, []string{"has hash", "takes back", "keeps that"}},
		"lines are swapped": {[]string{`UPDATE ledger_postings SET line = 7 - line WHERE seq = 2`}, []string{"has hash", "takes back"}},
		"a line is added":   {[]string{`INSERT INTO ledger_postings SELECT book, seq, 9, debtor, creditor, currency, amount FROM ledger_postings WHERE seq = 5 AND line = 0`}, []string{"has hash", "keeps that"}},
		"a debt":            {[]string{`UPDATE ledger_debts SET amount = amount + 1 WHERE strpos(b, 'member:02') = 1`}, []string{"keeps that"}},
		"a debt is gone":    {[]string{`DELETE FROM ledger_debts WHERE strpos(b, 'member:02') = 1`}, []string{"keeps nothing"}},
		"a debt too many":   {[]string{`INSERT INTO ledger_debts SELECT book, b, 'wallet', currency, 5 FROM ledger_debts WHERE strpos(b, 'member:02') = 1`}, []string{"keeps that"}},
		"the head":          {[]string{`UPDATE ledger_books SET hash = '\x00'::BYTEA`}, []string{"has a head without a hash", "ends at 7"}},
		"there is no head":  {[]string{`DELETE FROM ledger_books`}, []string{"ends at 7"}},
		"when":              {[]string{`UPDATE ledger_transactions SET at = at + INTERVAL '1 second' WHERE seq = 2`}, []string{"has hash"}},
		"who":               {[]string{`UPDATE ledger_transactions SET author = NULL WHERE seq = 2`}, []string{"has hash"}},
		"a hash":            {[]string{`UPDATE ledger_transactions SET hash = '\x00'::BYTEA WHERE seq = 2`}, []string{"has hash", "has hash"}},
		"what it takes back": {[]string{`UPDATE ledger_transactions SET reverses = id WHERE seq = 7`},
			[]string{"has hash", "takes back"}},
		"no book at all": {[]string{`DELETE FROM ledger_books`, `DELETE FROM ledger_transactions`, `DELETE FROM ledger_debts`}, []string{
			"has postings", "has postings", "has postings", "has postings", "has postings", "has postings", "has postings"}},
	} {
		for _, sql := range x.sql {
			b.exec(sql)
		}
		got := b.faults()
		require.Len(t, got, len(x.want), "%s: %q", name, got)
		for i, want := range x.want {
			require.True(t, strings.HasPrefix(got[i], want), "%s: %q", name, got)
		}
		r, err := b.Verify(t.Context())
		require.NoError(t, err)
		require.Len(t, r.Faults, len(got), "%s: it is found without being named", name)
		for _, table := range tables {
			b.exec(`DELETE FROM ` + table)
			b.exec(`INSERT INTO ` + table + ` SELECT * FROM kept_` + table)
		}
	}
	require.Empty(t, b.faults())
}

func TestBooks(t *testing.T) {
	b := setup(t)
	r, err := b.Verify(t.Context())
	require.NoError(t, err)
	require.Equal(t, ledger.Report{}, r)
	for range 5 {
		b.book = ledger.GroupBook(core.GroupID(uuid.New()))
		_, err := b.post(entry(ledger.Line{bob, ana, eur(1)}))
		require.NoError(t, err)
	}
	var all []ledger.Book
	for after := ledger.Book(""); ; after = all[len(all)-1] {
		page, err := b.Books(t.Context(), after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	require.Len(t, all, 5)
	r, err = b.Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, []int64{5, 5, 0}, []int64{r.Transactions, r.Postings, int64(len(r.Faults))})
	for i, h := range r.Heads {
		require.Equal(t, all[i], h.Book)
		require.EqualValues(t, 1, h.Seq)
		require.NotZero(t, h.Hash)
	}
}

// A long book is read in pages, and holes between them are found.
func TestLongBook(t *testing.T) {
	b := setup(t)
	list := make([]ledger.Entry, 2001)
	for i := range list {
		list[i] = entry(ledger.Line{bob, ana, eur(1)})
	}
	_, err := b.post(list...)
	require.NoError(t, err)
	r, err := b.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, r.Faults)
	require.EqualValues(t, []int64{2001, 2001}, []int64{r.Transactions, r.Postings})
	b.exec(`DELETE FROM ledger_transactions WHERE seq IN (1000, 2001)`)
	require.Len(t, b.faults(), 6, "each leaves postings, the first a hole and a hash, the second the head; and a debt: %q", b.faults())
}
