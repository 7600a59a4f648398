package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	"github.com/cockroachdb/cockroach-go/v2/crdb/crdbpgxv5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mustermesh/muster/internal/errs"
)

// What callers choose on. All three are temporary: a client may try again,
// after ErrAmbiguous only under the same idempotency key.
var (
	// ErrAmbiguous means that the connection was lost during COMMIT: the
	// transaction is either wholly there or wholly not.
	ErrAmbiguous = errs.New(errs.Unavailable, "outcome_unknown",
		"the database did not answer in time; send the same request again").After(time.Second)
	// ErrContended means that a transaction lost against others each time it
	// was tried. Nothing was written.
	ErrContended = errs.New(errs.Unavailable, "contention",
		"too many writers at once; try again").After(time.Second)
	// ErrUnavailable means that the database can't be reached. Nothing was
	// written.
	ErrUnavailable = errs.New(errs.Unavailable, "database_unavailable",
		"the database cannot be reached; try again").After(2 * time.Second)
)

// InTx runs fn in a transaction, SERIALIZABLE unless opts says otherwise, and
// commits it; if fn returns an error or panics, nothing is written. fn may
// run several times (see the package comment): it must not have effects
// outside of tx, and must set its results anew each time.
//
// A ctx that is done before COMMIT rolls back. A COMMIT under way isn't cut
// short by ctx: that would only replace an answer by ErrAmbiguous.
//
// What is to happen only if it commits is said by AfterCommit. With a context of
// another transaction's (Within) fn takes part in that one, whatever opts say.
func (d *DB) InTx(ctx context.Context, opts pgx.TxOptions, fn func(ctx context.Context, tx pgx.Tx) error) error {
	reads := opts.AccessMode == pgx.ReadOnly
	if u := d.joinable(ctx, reads); u != nil {
		defer u.leave()
		return u.join(ctx, !reads, fn)
	}
	attempt := d.attempt
	if d.cockroach {
		attempt = d.attemptCockroach
	}
	return d.retry(ctx, func() (bool, error) {
		again, err := attempt(ctx, opts, fn)
		return again || reads && errors.Is(err, ErrAmbiguous), err // whatever became of it, nothing was written
	})
}

// InOneTrip is InTx for statements that don't need each other's answers: BEGIN,
// what fn queues and COMMIT are sent together and waited for once. The server
// skips all that follows a statement that failed, COMMIT too.
//
// fn may run several times. The functions it gives to [pgx.QueuedQuery] only
// read answers and set the results anew: what they return comes after COMMIT.
// Since that is under way from the start, a connection that is lost, or a ctx
// that ends, leaves ErrAmbiguous at any time. So this is for transactions that
// bear being repeated.
func (d *DB) InOneTrip(ctx context.Context, opts pgx.TxOptions, fn func(b *pgx.Batch)) error {
	if u := d.joinable(ctx, false); u != nil {
		defer u.leave()
		return u.join(ctx, true, func(ctx context.Context, tx pgx.Tx) error {
			var b pgx.Batch
			fn(&b)
			return tx.SendBatch(ctx, &b).Close()
		})
	}
	return d.retry(ctx, func() (bool, error) { return d.attemptOneTrip(ctx, opts, fn) })
}

// Read runs fn for single SELECT statements, each a transaction of its own,
// and runs it again when one of them met a conflict or a lost connection.
// Reads that must fit together belong in InTx.
func (d *DB) Read(ctx context.Context, fn func(ctx context.Context, q Querier) error) error {
	if u := d.joinable(ctx, true); u != nil {
		defer u.leave()
		return u.read(ctx, fn)
	}
	return d.retry(ctx, func() (bool, error) {
		err := fn(ctx, d.pool)
		return conflict(err) || connectionLost(err), err
	})
}

// retry runs attempt until it returns nil, says that it is no use, or has
// been run often enough.
func (d *DB) retry(ctx context.Context, attempt func() (again bool, err error)) error {
	for n := 0; ; n++ {
		again, err := attempt()
		switch {
		case err == nil:
			return nil
		case !again:
			return asUnavailable(err)
		case ctx.Err() != nil:
			return fmt.Errorf("%w, last attempt: %w", context.Cause(ctx), asUnavailable(err))
		case n+1 >= d.maxAttempts && conflict(err):
			return fmt.Errorf("%w: gave up after %d attempts: %w", ErrContended, n+1, err)
		case n+1 >= d.maxAttempts:
			return fmt.Errorf("%w: gave up after %d attempts: %w", ErrUnavailable, n+1, err)
		}
		select {
		case <-time.After(backoff(n)):
		case <-ctx.Done():
			return fmt.Errorf("%w, last attempt: %w", context.Cause(ctx), err)
		}
	}
}

// backoff is full jitter: a random time below a bound that doubles from 2 ms
// to 300 ms. Those who lost together must not come back together.
func backoff(n int) time.Duration {
	bound := min(2*time.Millisecond<<min(n, 8), 300*time.Millisecond)
	return rand.N(bound) + time.Millisecond
}

// attempt is one BEGIN..COMMIT. again is true only if surely nothing was
// written.
func (d *DB) attempt(ctx context.Context, opts pgx.TxOptions, fn func(context.Context, pgx.Tx) error) (again bool, err error) {
	tx, err := d.pool.BeginTx(ctx, opts)
	if err != nil {
		return conflict(err) || connectionLost(err), fmt.Errorf("begin: %w", err)
	}
	conn := tx.Conn() // the pool forgets it once the transaction ends
	u := newUnit(d, tx)
	committing := false
	defer func() {
		if u.end(); !committing { // also when fn panics
			rollback(ctx, tx)
		}
	}()

	err = fn(membership{unit: u}.on(ctx), tx)
	u.end()
	if failure := u.failed(); failure != nil {
		err = failure
	}
	if err != nil {
		return conflict(err) || conn.IsClosed(), err
	}
	committing = true
	return u.commit(ctx, tx)
}

// attemptOneTrip is one BEGIN..COMMIT in one go. It is the same on
// CockroachDB: without a savepoint COMMIT says there, too, what happened.
func (d *DB) attemptOneTrip(ctx context.Context, opts pgx.TxOptions, fn func(b *pgx.Batch)) (again bool, err error) {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return connectionLost(err), fmt.Errorf("begin: %w", err)
	}
	defer conn.Release()
	var b pgx.Batch
	b.BeginTx(opts)
	fn(&b)
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" { // ROLLBACK: the server's way to say that it didn't
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
	results := conn.SendBatch(ctx, &b)
	if err = results.Close(); err == nil {
		return false, nil
	}
	rollback(ctx, results.Tx()) // a statement failed: the transaction is still open
	if _, unsent := errors.AsType[pgx.ErrPreprocessingBatch](err); unsent {
		return conflict(err) || connectionLost(err), err
	}
	return notCommitted(err)
}

// notCommitted tells what an error means once COMMIT has been sent.
func notCommitted(err error) (again bool, _ error) {
	if conflict(err) || rolledBack(err) {
		return conflict(err), err
	}
	// Without an answer nobody knows. pgconn.SafeToRetry doesn't either: when
	// the answer to a COMMIT is lost, pgx v5.12 reports "conn closed", which
	// claims that nothing was sent.
	return false, fmt.Errorf("%w: %w", ErrAmbiguous, err)
}

// attemptCockroach lets cockroach-go retry inside its restart savepoint,
// where RELEASE is the commit. It comes back for a conflict only when that
// found a way out of the savepoint, so beyond that only a connection lost
// before RELEASE is worth another attempt.
func (d *DB) attemptCockroach(ctx context.Context, opts pgx.TxOptions, fn func(context.Context, pgx.Tx) error) (again bool, err error) {
	var conn *pgx.Conn
	var u *unit
	returned := false // fn has returned nil: RELEASE may have been sent
	err = crdbpgx.ExecuteTx(crdb.WithMaxRetries(ctx, d.maxAttempts), d.pool, opts, func(tx pgx.Tx) error {
		conn, returned, u = tx.Conn(), false, newUnit(d, tx)
		defer u.end() // also when fn panics
		err := fn(membership{unit: u}.on(ctx), tx)
		u.end()
		if failure := u.failed(); failure != nil {
			err = failure
		}
		if err != nil {
			return err
		}
		returned = true
		return nil
	})
	if err == nil {
		u.keep(ctx)
		return false, nil
	}
	if ambiguous, ok := errors.AsType[*crdb.AmbiguousCommitError](err); ok {
		if rolledBack(ambiguous) {
			return false, err
		}
		return false, fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}
	if exceeded, ok := errors.AsType[*crdb.MaxRetriesExceededError](err); ok {
		return false, fmt.Errorf("%w: %w", ErrContended, exceeded)
	}
	lost := conn == nil && connectionLost(err) || conn != nil && conn.IsClosed() && !returned
	return lost || conflict(err), err
}

// rollback ends a transaction that failed. Its own error says nothing that
// the caller can use: the connection is closed then, which rolls back too.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// SQLSTATE classes and codes: PostgreSQL manual, appendix A.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	uniqueViolation      = "23505"
	duplicateTable       = "42P07"
	undefinedTable       = "42P01"
)

// code returns the SQLSTATE in err's chain, or "".
func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// conflict reports an error after which the server has rolled back and asks
// to try the whole transaction again.
func conflict(err error) bool {
	c := code(err)
	return c == serializationFailure || c == deadlockDetected
}

// rolledBack reports an error of COMMIT that is the server's word that
// nothing was written: an ERROR, or a ROLLBACK instead of a COMMIT. FATAL and
// PANIC are no such word, they may strike between the commit and its answer;
// nor are 08xxx (connection) and 40003 (completion unknown).
func rolledBack(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !fatal(pg) && pg.Code != "40003" && pg.Code[:min(2, len(pg.Code))] != "08"
}

func fatal(pg *pgconn.PgError) bool {
	severity := pg.SeverityUnlocalized
	if severity == "" {
		severity = pg.Severity
	}
	return severity == "FATAL" || severity == "PANIC"
}

// connectionLost reports that an established connection broke. A connection
// that can't be made isn't meant: waiting for the server to come back is for
// the caller's caller.
func connectionLost(err error) bool {
	if err == nil || cannotConnect(err) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fatal(pg)
	}
	_, network := errors.AsType[net.Error](err)
	return network || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func cannotConnect(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// asUnavailable marks errors that say that there is no server to talk to.
func asUnavailable(err error) error {
	if cannotConnect(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// Violates reports whether err says that a row broke the named unique
// constraint or index; an empty name stands for any.
func Violates(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == uniqueViolation && (constraint == "" || pg.ConstraintName == constraint)
}
