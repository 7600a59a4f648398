// Package ledger keeps who owes whom, so that it can prove itself.
//
// # Books
//
// A book is what is kept together: the money of a group, or of a user with whoever
// runs the deployment. It is a chain of transactions, numbered from 1 without a hole,
// that are never changed. A transaction has lines, and a line is one row: the debtor
// owes the creditor so much more.
//
//	book group:7f…                          Ana    Bob    Eve
//	  1  expense  Bob owes Ana 12.40 EUR  +24.80 −12.40
//	              Eve owes Ana 12.40 EUR                −12.40
//	  2  settled  Ana owes Bob 12.40 EUR  −12.40 +12.40        Bob has paid her
//	  3  reverses 1 …                                          the expense was none
//
// That both sides are in one row is why money can't be lost or made: whatever is
// posted, each currency adds up to zero over all accounts. There are no transactions
// to balance, and no constraint that must wait for a COMMIT (TigerBeetle's transfers
// have this shape). Currencies never mix; one becomes another by a transaction with
// lines in both, through the account exchange.
//
// What is wrong is taken back, never changed: by the same lines the other way around,
// in a transaction that names the one that it reverses, once at most.
//
// # Debts
//
// What is between two accounts is kept in a row of its own, which the transaction that
// posts changes blindly: it adds to it without reading. A balance is the sum of an
// account's debts. Both can be made again from the postings at any time (Verify).
//
// # The chain
//
// Each transaction has a hash of the one before, of itself and of its lines (link says
// which bytes), and the book has the newest number and hash. Whoever changes an amount
// in the database, takes a transaction away or puts one in between has to make all
// later hashes again; who noted a book's head before finds that out, too.
//
// # Writing
//
//	Turn(book) ─▶ BEGIN ─▶ Lock: the head, others wait ─▶ Append: transactions, lines, debts, head ─▶ COMMIT
//
// Two trips, or none of its own if the caller sends them along with what else it reads
// and writes. Nothing of it is a read that PostgreSQL counts at SERIALIZABLE, so those
// who write to different books don't conflict. Those of one book take turns in a
// process (turns); between processes the head's row decides.
package ledger
