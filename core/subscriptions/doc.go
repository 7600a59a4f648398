// Package subscriptions is what users pay for again and again, and what they may do
// for it.
//
// # The life of a subscription
//
// A user has one, or none. Its decisions are pure ([Subscription] with a time given);
// the [Store] keeps it as a row, and does in the same transaction what a decision
// asks for.
//
//	             ┌───── trial ─────▶ trialing ─┐ it ends: renewal
//	Subscribe ───┤                             ▼
//	             └─▶ incomplete ──paid──────▶ active ◀──── paid ────┐
//	                     │                     │ │ ▲                │
//	                     │ failed              │ │ └─ period ends, paid
//	                     ▼                     │ └─── renewal failed ──▶ past_due
//	                  expired ◀── canceled ◀───┘                       │ after 1, 3 and
//	                     ▲         and its period ends                 │ 7 days again
//	                     └─────────────────── failed to the last ──────┘
//
// Cancel takes effect at the end of what is paid for; until then Resume undoes it. A
// dearer plan begins at once: the rest of the period that is paid for is taken off
// its price, and a period begins there. A cheaper one begins with the next period.
//
// # A charge per period
//
// Periods are numbered, and each but a trial has one charge (unique by user and
// period among those that are not void). A charge is tried by payments, one at a time:
// as long as nobody knows what became of one, no other begins. A payment begins in the
// transaction that decides on it, under an id that follows from the charge, and what
// became of it is told by core/payments in the transaction in which that becomes so.
// So whichever process dies when, neither is done without the other. Money that comes
// for a charge that is paid or void by then goes back.
//
// The time is the database's, of which there is one. A clock that jumps ahead makes
// one renewal early, and one that jumps back makes none come again. Of periods that
// have passed while nobody was there to renew, only the present one is charged.
//
// # Entitlements
//
// A feature is a switch or a number of the plan ([Entitlements]). Answers are kept in
// memory under user and version:
//
//	change ──▶ version + 1, event subscription.updated ──▶ every node: Changed(user, version)
//	                                                         │ an older answer is dropped
//	Limit ◀── answer in memory, or as it is in SQL ◀─────────┘ and none is put in its place
//
// and for no longer than a minute, or than what is paid for.
package subscriptions
