// Package notify tells people things, by the ways that they chose: mail, web
// push, webhooks, the app's list. Each way is a [Channel], in a package of its own
// below this one; a new one touches nothing here.
//
// # The life of a notification
//
//	transaction ──Notify──▶ notifications: a row       jobs: "notify"
//	                                                     │ plans, in one transaction
//	         ┌───────────────────────────────────────────┤
//	         ▼ per channel and address                   ▼ a channel that only writes to the database
//	 notify_deliveries: queued                         sent
//	         │ jobs: "notify.<channel>"
//	         ├── not wanted any more, read elsewhere ──▶ muted
//	         ├── quiet hours ──▶ the job comes again when they are over
//	         ├── Deliver: nil ─────────────────────────▶ sent
//	         ├── Deliver: Refused ─────────────────────▶ dead, the job is done
//	         └── Deliver: another error ──▶ failed ──▶ again: after a quarter of a minute, doubled up to an hour
//	                                           └── for two days ──▶ dead, and a dead job
//
// What the caller's transaction does is two inserts, whatever the channels are
// like. Who is told by what, where they are reached, whether it is night there, is
// decided later, and again when a delivery is tried.
//
// # Once
//
// A delivery's id is the same in all attempts, and what the other side knows it
// by. It is marked as sent as soon as the channel has taken it; only a node that
// ends between the two sends it again. Jobs may run twice for their own reasons:
// they look at the state first.
//
// # Mail to an address
//
// [Notifier.Mail] is for addresses that need not be a user's, or not any more, and
// for links that are secrets. Its row has them sealed (AES-256-GCM under a key
// derived from the deployment's secret) until the mail is sent or given up.
//
// # What is stored
//
// Ids, no names and no addresses: names are looked up when a text is made,
// addresses when a delivery is tried. docs/adr/0101-notifications.md has the
// reasons.
package notify
