// Package db is the one door to SQL: a bounded pool, transactions that are
// retried correctly, and the schema.
//
// # Two servers, one language
//
// Muster runs on CockroachDB and on PostgreSQL 15 or later, with SQL that
// both speak: no LISTEN, advisory locks, triggers, sequences, deferred
// constraints or integer division (tools/crdbcheck parses every statement
// with CockroachDB's grammar). Every connection defaults to SERIALIZABLE.
//
// # InTx
//
//	         ┌────────────────── back-off, jittered ◀──────────────┐
//	         ▼                                                     │
//	BEGIN ──▶ fn ──ok──▶ COMMIT ──ok──▶ nil                        │
//	         │             ├── 40001, 40P01 ───────────────────────┤ nothing happened
//	         │             ├── connection lost ──▶ ErrAmbiguous    │ nobody knows
//	         │             └── other ──▶ that error, rolled back   │
//	         ├── 40001, 40P01, connection lost ────────────────────┘ nothing happened
//	         └── other ──▶ ROLLBACK, that error
//
// Each attempt is a transaction of its own, because on PostgreSQL a rollback
// to a savepoint keeps the snapshot that caused the conflict, and an error of
// COMMIT is an answer: a serialization failure may be found only there.
// (cockroach-go's ExecuteTx retries inside a savepoint and ignores COMMIT's
// error, which is right on CockroachDB, where RELEASE commits, and loses
// acknowledged writes on PostgreSQL. It is used only behind InTx, only on
// CockroachDB; see docs/adr/0010-sql-transactions.md.)
//
// So fn may run several times: it has no side effects outside of its
// transaction and sets its results anew each time. A caller that gets
// ErrAmbiguous finds out what happened by what it wrote in the same
// transaction: an idempotency row, a client-chosen id.
//
// # InOneTrip
//
// Each arrow of the picture is a round trip, and a round trip costs a caller
// nearby more in waking up than in work. A transaction whose statements don't
// need each other's answers, and which may be repeated, is sent at once:
//
//	BEGIN, statements, COMMIT ──ok──▶ nil
//	         ├── 40001, 40P01 of any of them ──▶ back-off, again
//	         ├── other error of any of them ──▶ that error, nothing happened
//	         └── connection lost ──▶ ErrAmbiguous
//
// # Several stores, one transaction
//
// A store begins a transaction by InTx and knows nothing of who calls it. Called
// with a context from Within it takes part in the caller's instead, behind a
// savepoint; by Together even one that begins only when the first of them does.
// Conflicts go to the outermost, which begins again with everything:
//
//	InTx ─▶ fn ─▶ store.InTx(Within(ctx, tx)) ──ok──▶ RELEASE ──▶ … ──▶ COMMIT ──▶ effects
//	  ▲              ├── 40001, connection lost ──┐ even if swallowed
//	  └──────────────│──────────────────────────── ┘
//	                 └── other ──▶ ROLLBACK TO, its effects are forgotten
//
// So what is told to others is an effect (AfterCommit): it happens once the
// outermost has committed, and never for what was rolled back.
package db
