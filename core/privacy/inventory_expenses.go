package privacy

const amounts = "amounts of money, and by what rule they came about"

// aboutExpenses is what debts are about. It is the record of all who owe or are owed
// by it, so it stays as the books do, with ids without names; what somebody wrote
// beside it goes.
var aboutExpenses = []table{
	{
		name:   "expense_versions",
		steps:  []step{{columns: cols("note"), do: anonymise, sql: `UPDATE expense_versions SET note = '' WHERE changed_by = $1 AND note <> ''`}},
		keep:   map[string][]string{random: cols("expense_id", "posted", "receipts"), ofGroup: cols("title", "category"), technics: cols("currency", "mode"), amounts: cols("paid", "parts", "cuts"), inBooks: cols("payers", "members", "changed_by")},
		export: `SELECT expense_id, version, title, category, note, spent_at, currency, amount, changed_at FROM expense_versions WHERE changed_by = $1 ORDER BY changed_at, expense_id, version`,
	},
	{
		name:  "expenses",
		steps: []step{{columns: cols("note"), do: anonymise, sql: `UPDATE expenses SET note = '' WHERE (created_by = $1 OR changed_by = $1) AND note <> ''`}},
		keep: map[string][]string{random: cols("id", "group_id", "posted", "receipts", "recurring_id"), ofGroup: cols("title", "category"), technics: cols("currency", "mode"),
			amounts: cols("paid", "parts", "cuts"), inBooks: cols("payers", "members", "created_by", "changed_by")},
		export: `SELECT id, group_id, version, title, category, note, spent_at, currency, amount, payers, paid, mode, members, parts, cuts, created_by, created_at, deleted FROM expenses
			WHERE group_id IN (SELECT m.group_id FROM group_members m WHERE m.user_id = $1)
			  AND ($1 = ANY(members) OR 'member:' || CAST($1::UUID AS TEXT) = ANY(payers) OR created_by = $1) ORDER BY created_at, id`,
	},
	{
		name:   "expense_wallets",
		keep:   map[string][]string{random: cols("group_id"), technics: cols("currency")},
		hidden: noPeople,
	},
	{
		name:  "settlements",
		steps: []step{{columns: cols("note"), do: anonymise, sql: `UPDATE settlements SET note = '' WHERE created_by = $1 AND note <> ''`}},
		keep: map[string][]string{random: cols("id", "group_id", "posted"), technics: cols("kind", "status", "currency", "into_currency", "method"),
			amounts: cols("rate"), inBooks: cols("payer", "payee", "created_by")},
		export: `SELECT id, group_id, kind, status, payer, payee, currency, amount, refunded, into_currency, into_amount, rate, method, note, created_by, created_at FROM settlements
			WHERE group_id IN (SELECT m.group_id FROM group_members m WHERE m.user_id = $1)
			  AND ('member:' || CAST($1::UUID AS TEXT) IN (payer, payee) OR created_by = $1) ORDER BY created_at, id`,
	},
	{
		name:  "recurring_expenses",
		steps: []step{{columns: cols("created_by"), do: erase, sql: `DELETE FROM recurring_expenses WHERE created_by = $1`}},
		rows:  cols("note"),
		keep: map[string][]string{random: cols("id", "group_id"), ofGroup: cols("title", "category", "every", "zone"), technics: cols("currency", "mode", "problem"),
			amounts: cols("paid", "parts"), inBooks: cols("payers", "members")},
		export: `SELECT id, group_id, every, zone, starts_on, until_on, title, category, note, currency, amount, created_at FROM recurring_expenses WHERE created_by = $1 ORDER BY created_at, id`,
	},
	{
		name:   "expense_notices",
		keep:   map[string][]string{random: cols("group_id")},
		hidden: noPeople,
	},
}
