package privacy

// inBooks is why ids stay in what people owe each other. Who is owed money by somebody
// whose account has ended is still owed it, and the hashes of a book cover its ids. The
// id leads to nothing any more: there is no name, and no row that it is of.
const inBooks = "an id without a name, without which what others owe or are owed would not come out"

// aboutLedger are books. Nobody writes text into them.
var aboutLedger = []table{
	{
		name: "ledger_debts",
		keep: map[string][]string{inBooks: cols("book", "a", "b"), technics: cols("currency")},
		export: `SELECT d.book, d.a, d.b, d.currency, d.amount FROM ledger_debts d
			WHERE d.book IN (SELECT 'group:' || CAST(m.group_id AS TEXT) FROM group_members m WHERE m.user_id = $1 UNION SELECT 'user:' || CAST($1::UUID AS TEXT))
			  AND ('member:' || CAST($1::UUID AS TEXT) IN (d.a, d.b) OR 'user:' || CAST($1::UUID AS TEXT) IN (d.a, d.b)) ORDER BY d.book, d.a, d.b, d.currency`,
	},
	{
		name: "ledger_postings",
		keep: map[string][]string{inBooks: cols("book", "debtor", "creditor"), technics: cols("currency")},
		export: `SELECT p.book, p.seq, t.kind, t.at, p.debtor, p.creditor, p.currency, p.amount
			FROM ledger_postings p JOIN ledger_transactions t ON t.book = p.book AND t.seq = p.seq
			WHERE p.book IN (SELECT 'group:' || CAST(m.group_id AS TEXT) FROM group_members m WHERE m.user_id = $1 UNION SELECT 'user:' || CAST($1::UUID AS TEXT))
			  AND ('member:' || CAST($1::UUID AS TEXT) IN (p.debtor, p.creditor) OR 'user:' || CAST($1::UUID AS TEXT) IN (p.debtor, p.creditor)) ORDER BY p.book, p.seq, p.line`,
	},
	{
		name:   "ledger_transactions",
		keep:   map[string][]string{inBooks: cols("book", "author"), random: cols("id", "ref", "reverses"), technics: cols("kind", "hash")},
		hidden: "it is with its postings",
	},
	{
		name:   "ledger_books",
		keep:   map[string][]string{inBooks: cols("book"), technics: cols("hash")},
		hidden: forWork,
	},
}
