// Package jobs does work later: work that is enqueued in the transaction that
// makes it necessary, so that both happen or neither does, and work that comes
// due by the calendar.
//
// # The life of a job
//
// A job is a row. One that is done has none.
//
//	              claim: a batch, SKIP LOCKED, a lease
//	Enqueue ──▶ ready ────────────────────────────────▶ running ──ok──▶ (deleted)
//	              ▲                                        │
//	              ├──── failed: wait, doubled, jittered ───┤
//	              ├──── the lease ran out: process died ───┤
//	              ├──── the queue stops: not counted ──────┤
//	              │                                        ▼
//	              └──────────── Retry (operator) ──────── dead   Permanent, or attempts used up
//
// A claim is READ COMMITTED: SERIALIZABLE finds conflicts between claims that
// took different rows, and half of the work goes into retries (docs/adr/0099).
// Each claim has a lease token that every finish names. A worker that was paused
// for longer than its lease, whose job is somebody else's by then, changes
// nothing; it learns that when it extends its leases and the job's context ends.
//
// So a job is done at least once, and twice only if a process dies, or can't
// reach the database, between the effect and the finish. Handlers make that
// harmless: they check what they are about to do, or hand [Work].ID on to who
// remembers it.
//
// # Kinds
//
// Each kind has its handler, its number of workers on each node, its time limit
// and its back-off, so a slow one holds up nobody else. A node claims only kinds
// that it has handlers for; during an update the new kinds wait for new nodes.
// What is claimed on a node is bounded by the kinds' workers; all else waits in
// the table.
//
// # Schedules
//
// A [Schedule] has periods: instants that follow from a calendar in a time zone,
// or from an interval. For each period exactly one row is made in job_periods,
// however many nodes plan, and with it, in one transaction, a job. Planning goes
// on from the newest row, by the database's clock, of which there is one. So a
// clock that jumps ahead makes periods come early, and one that jumps back makes
// none come again. Of periods that passed while nobody was there, the schedule's
// [Late] policy says what becomes of them.
package jobs
