package db

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// unit is one attempt of an outermost transaction, as contexts know it.
type unit struct {
	db    *DB
	begin func(ctx context.Context) (pgx.Tx, error) // for one that begins late, see Together

	mu      sync.Mutex // guards the following
	tx      pgx.Tx     // nil: not begun
	users   int        // who are inside
	left    *sync.Cond // users became 0
	ended   bool
	kept    bool  // ended by a COMMIT
	wrote   bool  // something that joined may have written
	failure error // what the attempt can't recover from, even if nobody returned it
	effects []func(context.Context)
	held    func() // gives back what it holds, see Hold; nil: nothing
}

func newUnit(d *DB, tx pgx.Tx) *unit {
	u := &unit{db: d, tx: tx}
	u.left = sync.NewCond(&u.mu)
	return u
}

// membership is what a context knows of its transaction.
type membership struct {
	unit   *unit
	joined bool // InTx and Read take part
}

type unitKey struct{}

func (m membership) on(ctx context.Context) context.Context {
	return context.WithValue(ctx, unitKey{}, m)
}

func member(ctx context.Context) membership {
	m, _ := ctx.Value(unitKey{}).(membership)
	return m
}

// Within returns a context of a transaction's: InTx, InOneTrip and Read called with
// it take part in tx instead of beginning one of their own. ctx is the one that
// InTx gave beside tx. It is used by one goroutine at a time, like tx itself; once
// tx has ended, whoever still has it is on their own, as with any context.
//
// What takes part fails alone: its writes are undone (it has a savepoint) and the
// others' stay, if its error is swallowed. A conflict is for the outermost, though,
// which begins again with everything, whatever became of the error.
func Within(ctx context.Context, tx pgx.Tx) context.Context {
	m := member(ctx)
	switch {
	case m.unit == nil:
		panic("db: Within wants the context that came with the transaction")
	case m.joined:
		return ctx // tx is a part of it
	case m.unit.tx != tx:
		panic("db: Within got the context of another transaction")
	}
	m.joined = true
	return m.on(ctx)
}

// Apart returns a context without ctx's transaction: for what must stay whatever
// becomes of that, or is remembered outside of the database.
func Apart(ctx context.Context) context.Context {
	if member(ctx).unit == nil {
		return ctx
	}
	return membership{}.on(ctx)
}

// AfterCommit runs effect once the outermost transaction that ctx belongs to has
// committed, before its InTx returns; at once if ctx belongs to none, or that has
// committed already; never if it is rolled back, or if nobody knows. Effects run in
// the order in which they came, in the goroutine of the outermost InTx, and bound
// their own time: their context is free of the transaction and doesn't end with the
// caller's, since what they tell of is done.
func AfterCommit(ctx context.Context, effect func(ctx context.Context)) {
	if u := member(ctx).unit; u != nil {
		u.mu.Lock()
		switch {
		case !u.ended:
			u.effects = append(u.effects, effect)
			u.mu.Unlock()
			return
		case !u.kept:
			u.mu.Unlock()
			return
		}
		u.mu.Unlock()
	}
	effect(free(ctx))
}

func free(ctx context.Context) context.Context { return context.WithoutCancel(Apart(ctx)) }

// Inside reports whether InTx called with ctx takes part in another transaction.
func Inside(ctx context.Context) bool { return member(ctx).joined }

// Hold takes something, such as a place in a queue, for as long as the outermost
// transaction that ctx belongs to lasts: release is called when this attempt of it has
// ended, whichever way, before its effects.
//
// It takes nothing, and says false, if there is no such transaction, or it holds
// something already, or it has begun: whoever waits then has a snapshot that grows
// old, and locks, and those whom they wait for may be waiting for them.
func Hold(ctx context.Context, take func() (release func(), err error)) (bool, error) {
	u := member(ctx).unit
	if u == nil || !u.free() {
		return false, nil
	}
	release, err := take()
	if err != nil {
		return false, err
	}
	u.mu.Lock()
	if u.ended {
		u.mu.Unlock()
		release()
		return false, nil
	}
	u.held = release
	u.mu.Unlock()
	return true, nil
}

func (u *unit) free() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.ended && u.tx == nil && u.held == nil
}

// over gives back what the unit held, once it is committed or rolled back.
func (u *unit) over() {
	u.mu.Lock()
	release := u.held
	u.held = nil
	u.mu.Unlock()
	if release != nil {
		release()
	}
}

// Repeats reports that the transaction that ctx belongs to can't commit any more:
// what is made of it now is thrown away, and perhaps made again.
func Repeats(ctx context.Context) bool {
	u := member(ctx).unit
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failure != nil
}

// Work is what is done in one transaction by Together.
type Work struct {
	// First runs as soon as the transaction begins.
	First func(ctx context.Context, tx pgx.Tx) error
	// Do does the work. wrote tells whether something has taken part and may have
	// written. An error rolls back.
	Do func(ctx context.Context, wrote func() bool) error
	// Last runs before the COMMIT, in a transaction that is begun for it if need be.
	Last func(ctx context.Context, tx pgx.Tx) error
}

// Together makes one transaction of all that w.Do does by InTx and InOneTrip, and
// of what it reads after the first of them: see Within. It begins when it is needed,
// so that what comes before (hashing a password) holds neither a connection nor
// locks. Like the function of InTx, w's may run several times.
func (d *DB) Together(ctx context.Context, w Work) error {
	return d.retry(ctx, func() (bool, error) { return d.attemptTogether(ctx, w) })
}

func (d *DB) attemptTogether(ctx context.Context, w Work) (again bool, err error) {
	u := newUnit(d, nil)
	u.begin = func(ctx context.Context) (pgx.Tx, error) {
		tx, err := d.pool.BeginTx(ctx, pgx.TxOptions{})
		if err != nil {
			return nil, fmt.Errorf("begin: %w", err)
		}
		if err := w.First(membership{unit: u}.on(ctx), tx); err != nil {
			rollback(ctx, tx)
			return nil, err
		}
		return tx, nil
	}
	committing := false
	defer u.over()
	defer func() {
		if tx := u.end(); tx != nil && !committing { // also when one of w panics
			rollback(ctx, tx)
		}
	}()
	inside := membership{unit: u, joined: true}.on(ctx)
	err = w.Do(inside, func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.wrote
	})
	if err == nil && u.failed() == nil {
		var tx pgx.Tx
		if tx, err = u.transaction(inside); err == nil {
			err = w.Last(membership{unit: u}.on(ctx), tx)
		}
	}
	tx := u.end()
	if failure := u.failed(); failure != nil {
		err = failure
	}
	if err != nil {
		return conflict(err) || connectionLost(err) || tx != nil && tx.Conn().IsClosed(), err
	}
	committing = true
	return u.commit(ctx, tx)
}

// commit ends a unit that has succeeded so far, and has its effects.
func (u *unit) commit(ctx context.Context, tx pgx.Tx) (again bool, err error) {
	switch {
	case ctx.Err() != nil:
		rollback(ctx, tx)
		return false, context.Cause(ctx)
	case tx.Conn().IsClosed(): // somebody has overlooked it
		rollback(ctx, tx)
		return true, errors.New("connection lost before commit")
	}
	commitCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := tx.Commit(commitCtx); err != nil {
		return notCommitted(fmt.Errorf("commit: %w", err))
	}
	u.keep(ctx)
	return false, nil
}

// end waits until nobody is inside and lets nobody in any more. It returns the
// transaction, nil if none began.
func (u *unit) end() pgx.Tx {
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.users > 0 {
		u.left.Wait()
	}
	u.ended = true
	return u.tx
}

// keep runs the effects of a unit that has committed.
func (u *unit) keep(ctx context.Context) {
	u.over()
	u.mu.Lock()
	u.kept = true
	effects := u.effects
	u.mu.Unlock()
	for _, effect := range effects {
		effect(free(ctx))
	}
}

func (u *unit) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failure
}

// fail notes that the attempt is lost.
func (u *unit) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure == nil {
		u.failure = err
	}
}

// transaction begins the unit's, if it has not begun.
func (u *unit) transaction(ctx context.Context) (pgx.Tx, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failure != nil {
		return nil, u.failure
	}
	if u.tx == nil {
		u.mu.Unlock() // First may ask the unit something
		tx, err := u.begin(ctx)
		u.mu.Lock()
		if err != nil {
			u.failure = err
			return nil, err
		}
		u.tx = tx
	}
	return u.tx, nil
}

// joinable returns the unit that a call with ctx takes part in, nil for none. Who
// gets one must leave it. Reading alone doesn't begin a transaction.
func (d *DB) joinable(ctx context.Context, reads bool) *unit {
	m := member(ctx)
	if !m.joined || m.unit.db != d {
		return nil
	}
	u := m.unit
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended || reads && u.tx == nil {
		return nil
	}
	u.users++
	return u
}

func (u *unit) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users--; u.users == 0 {
		u.left.Broadcast()
	}
}

// join runs fn behind a savepoint: if it fails, what it did is undone and the rest
// stays.
func (u *unit) join(ctx context.Context, writes bool, fn func(context.Context, pgx.Tx) error) (err error) {
	tx, err := u.transaction(ctx)
	if err != nil {
		return err
	}
	u.mu.Lock()
	before := len(u.effects)
	u.mu.Unlock()
	part, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		u.note(tx, err)
		return fmt.Errorf("savepoint: %w", err)
	}
	done := false
	defer func() {
		if !done { // also when fn panics
			u.mu.Lock()
			u.effects = u.effects[:before]
			u.mu.Unlock()
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if back := part.Rollback(undo); back != nil {
				u.fail(fmt.Errorf("rollback to savepoint: %w", errors.Join(back, err)))
			}
		}
	}()
	if err = fn(ctx, part); err != nil {
		u.note(tx, err)
		return err
	}
	if err = part.Commit(ctx); err != nil { // RELEASE
		u.note(tx, err)
		return fmt.Errorf("release savepoint: %w", err)
	}
	done = true
	if writes {
		u.mu.Lock()
		u.wrote = true
		u.mu.Unlock()
	}
	return nil
}

// read runs fn on what has been written so far.
func (u *unit) read(ctx context.Context, fn func(context.Context, Querier) error) error {
	tx, err := u.transaction(ctx)
	if err != nil {
		return err
	}
	if err = fn(ctx, tx); err != nil {
		u.note(tx, err)
	}
	return err
}

// note keeps an error that is for the outermost to act on.
func (u *unit) note(tx pgx.Tx, err error) {
	if conflict(err) || tx.Conn().IsClosed() {
		u.fail(err)
	}
}
