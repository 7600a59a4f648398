// Package local is a payment gateway of our own, for tests and for `muster dev`: a server
// that speaks Stripe's protocol as far as we use it (paths, forms, objects, errors,
// idempotency keys, signed webhooks, https://docs.stripe.com/api), so the adapter for
// Stripe can't tell. No money moves.
//
// # Methods
//
// What becomes of a payment its method says, by the names of Stripe's own test methods
// (https://docs.stripe.com/testing):
//
//	pm_card_visa                              succeeds, as any pm_ that isn't named here
//	pm_card_chargeDeclined                    is declined; …InsufficientFunds, …ExpiredCard
//	pm_card_authenticationRequired            asks the payer, at a page of this server
//	pm_card_pendingRefund                     succeeds; refunds take a while
//	pm_card_refundFail                        succeeds; refunds do, too, and come back
//	pm_local_slow, pm_local_slowDecline       take a while, as a bank's debit does
//	pm_local_failsLater                       succeeds, and is declined once it is saved
//
// # What goes wrong
//
// By [Chaos] webhooks are lost, doubled, held back until later ones have gone, and late;
// calls fail without an effect, or have one and aren't answered. It is drawn from a seed.
// A webhook that isn't taken is sent again a few times, as Stripe does for three days.
package local
