// Package payments takes money from people by a gateway (Stripe), and tells whatever
// it was for (a settlement, a subscription) exactly once how that went.
//
// # The life of a payment
//
//	Start ─▶ created ─▶ requires_action ─▶ processing ─┬▶ succeeded ─▶ refunded
//	            │              │               │       ├▶ failed      declined
//	            └──────────────┴───────────────┴───────┴▶ canceled    taken back, or nobody went on
//
// A payment is one try with one method. What is at the gateway is called an intent
// there, and has a phase of its own; our status follows from that alone (status.go):
// of all phases only two last, paid and canceled, and whoever hears of one of these,
// however late, in whatever order and however often, may believe it. Everything else
// that a webhook says is a reason to ask the gateway, and no more: an event is as old
// as it is, and two of the same second have no order. So webhooks may be lost, doubled
// and reordered. A decline leaves an intent that could still be paid; it is canceled
// there before the payment counts as failed.
//
// # Steps
//
//	in a transaction            then, one call to the gateway each
//	Start: row, job   ─commit─▶ create ─▶ confirm ─▶ (ask, ask …) ─▶ cancel
//	Refund: row, job  ─commit─▶ refund ─▶ (ask …)
//
// next (next.go) is pure: it says from the row alone which call comes now, so a process
// that dies between two of them loses nothing, and whoever finds the row goes on. Each
// call bears a key of its own of the payment's id, and so is made once however often it
// is sent. An intent is created without being charged, and its id is stored, before it
// is confirmed: no money ever moves for an intent that we don't know, even where the
// answer to a call is lost for so long that the gateway forgets the key.
//
// The answer to a call is kept only if the row is still as it was before (version), so
// an older answer never takes the place of a newer one.
//
// # Exactly once
//
// The transaction that makes a payment succeeded, failed, canceled or refunded tells
// its Purpose, posts to the ledger, and tells the people, or none of that happens.
//
//	payer's book:  gateway owes payer   (money came in)
//	               payer owes platform  (it was for somebody: the platform passes it on)
//	payee's book:  platform owes payee
//
// The last two only where somebody else gets it. A refund posts the same the other way
// around.
//
// # Nobody is waited for
//
// Each payment that isn't over has a time at which it is looked at again (next_at), by
// one scheduled job for all of them. What a lost webhook would have told is found out
// so, within a minute at first, and within a quarter of an hour later.
//
// # No cards
//
// A method is the gateway's id of what the payer gave to the gateway itself. No data of
// cards comes here.
package payments
