// Package expenses is what the members of groups spend for each other: how it is
// split, who owes whom and why, and how that is settled.
//
// # One transaction
//
// An expense changes three things at once, in one transaction: the group's wallet
// (what was spent), the expense itself, and the debts of its members, as one
// transaction of the group's book (core/ledger).
//
//	payers, cuts ──Settle──▶ debts ──▶ ledger: transaction, postings, balances ┐
//	          expense, or its next version ────────────────────────────────────┼─ COMMIT
//	          wallet of the currency ──────────────────────────────────────────┤
//	          expense.created, balance.changed (outbox) ───────────────────────┘
//
// Nothing that was posted is changed. Who edits an expense reverses its transaction
// and posts another one, who deletes it or undoes a settlement reverses it. Who edits
// names the version that they saw, and gets the present one if that is another.
//
// # Pure parts
//
// Split (who bears how much, by five rules, to the last minor unit), Settle (debts of
// who paid and who bears), Simplify (the fewest transfers that settle balances) and
// Circles (why what one is to pay isn't what they owe) know no database. They are
// tested against oracles that try everything.
//
// # Why
//
// With debts simplified, one may have to pay somebody with whom they never shared
// anything. Explain says why: the lines between the two (expenses, settlements,
// conversions, reversals) come to what they owe each other directly, and what lies
// between that and what is to be paid goes around in circles of people, each of whom
// owes the next one more. Lines and circles come to exactly what is to be paid: a
// transfer changes nobody's balance, so the difference of both is a circulation, and
// every circulation is made of circles.
//
// # Who
//
// Every member adds expenses, among those who are members then. Who added one, who
// paid it, and admins edit and delete it. A settlement is recorded and undone by
// those two between whom it is, and by admins. Who leaves a group keeps their debts:
// they stay in its book, and can be settled.
//
// # Currencies
//
// Each is kept apart. A debt becomes one in another currency by a conversion alone,
// which takes it off in one and puts it on in the other, by a rate that is written
// down: each currency still comes to zero, and no account but those of the two is
// needed for it.
//
// # The wallet
//
// A group may have a kitty: the account "wallet" is a party like a member. Who pays
// into it is owed by it; an expense that it paid is owed to it.
package expenses
