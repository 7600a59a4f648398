// Package privacy gives people what is stored about them, and deletes it.
//
// # The inventory
//
// inventory.go lists every table, and of each every column that could name a
// person, with what becomes of it when that person's account is deleted:
//
//	erase       the row goes
//	anonymise   the row stays, and does not name them any more
//	keep        it names nobody, or is not theirs; with the reason
//
// A test compares that with the schema, and fails for a table or a column without
// a rule; another fills every table with somebody's traces, deletes them, and looks
// through every column of every table for their id, their name and their address.
//
// # The end of an account
//
//	Delete ── one transaction ──▶ ended: no name, no credentials, no login; answered
//	  │                             │
//	  └─ job ──────────────────────▶│ erase: groups, fleets, objects, then the inventory
//	                                │
//	       token life later ───────▶│ erase again, and the last: logins, the user's row
//	                                ▼
//	                              nothing
//
// Between the two, a row without a name keeps foreign keys in place, and the ended
// logins are still there for nodes that ask which ones they must refuse. What was
// on its way when the account ended, such as a message of a session in a region
// that was cut off, is caught by the second time: by then no token of the user's is
// valid anywhere.
//
// Each step can be repeated, so a job that is interrupted just begins again.
//
// # What is not deleted
//
// What others wrote, also about the person, is theirs. A message of the person's
// keeps its number, since the numbers of a room are dense, but neither its text nor
// its sender. Groups that they owned pass to another member; see
// docs/adr/0103-objects-and-deletion.md. In books of who owes whom, ids stay: see
// inventory_ledger.go.
package privacy
