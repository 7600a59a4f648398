package db

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How reads that may be stale are bounded.
const (
	// followerAge is how far back a follower of CockroachDB is read:
	// follower_read_timestamp() is 4.2 s ago by default, and ages are told in whole
	// seconds.
	followerAge = 5 * time.Second
	// maxReplicaAge is the oldest that a replica of PostgreSQL may be. One that is
	// behind by more is left alone until it has caught up. So is one whose primary
	// writes nothing, since nobody can tell the two apart: but then that one has
	// time for reads.
	maxReplicaAge = 10 * time.Second
	// measureEvery is how often a replica is asked how old it is; retryReplica how
	// long one that did not answer is left alone.
	measureEvery = time.Second
	retryReplica = 5 * time.Second
	// replicaTimeout bounds how long a connection to a replica may take: the
	// primary is there, too.
	replicaTimeout = time.Second
)

// ReadStale is Read for answers that may be a few seconds old: lists and profiles
// that everybody reads, never what a decision is based on, nor what the caller has
// just written. It is served near by and off the primary's way where that can be:
// on CockroachDB by the nearest replica, as of a moment that all of them know; on
// PostgreSQL by the replica in Config, if it is not too old. In a transaction of
// the caller's (see Within) it reads there.
//
// How old the answer may be is noted for who asked with NoteAge.
func (d *DB) ReadStale(ctx context.Context, fn func(ctx context.Context, q Querier) error) error {
	switch {
	case member(ctx).joined, ctx.Value(currentKey{}) != nil:
	case d.cockroach:
		if done, err := d.readFollower(ctx, fn); done {
			return err
		}
	case d.replica != nil:
		if done, err := d.replica.read(ctx, fn); done {
			return err
		}
	}
	return d.Read(ctx, fn)
}

type currentKey struct{}

// Current returns a context under which ReadStale is Read: for who promised answers
// that are not old.
func Current(ctx context.Context) context.Context {
	return context.WithValue(ctx, currentKey{}, true)
}

// readFollower reads as of a moment in the past. What that moment can't answer,
// such as a table that is younger, is not done.
func (d *DB) readFollower(ctx context.Context, fn func(ctx context.Context, q Querier) error) (done bool, err error) {
	tx, err := d.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: `BEGIN TRANSACTION READ ONLY, AS OF SYSTEM TIME follower_read_timestamp()`})
	if err != nil {
		return false, nil // Read says why
	}
	err = fn(ctx, tx)
	rollback(ctx, tx) // it wrote nothing
	switch c := code(err); {
	case conflict(err), connectionLost(err), c == undefinedTable, c == undefinedColumn:
		return false, nil
	case err == nil:
		noteAge(ctx, followerAge)
	}
	return true, err
}

const undefinedColumn = "42703"

// replica is a pool of connections to a server that follows the primary.
type replica struct {
	pool *pgxpool.Pool
	now  func() time.Time

	mu       sync.Mutex // guards the following
	age      time.Duration
	measured time.Time // when age was true
	asking   bool      // somebody measures
	downTill time.Time
}

// replicaAge is how far a server is behind its primary: 0 if it is one itself.
const replicaAge = `SELECT CAST(CASE WHEN pg_is_in_recovery()
	THEN COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 1000000000)
	ELSE 0 END AS DOUBLE PRECISION)`

func openReplica(url string, configure func(*pgxpool.Config)) (*replica, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("replica's url: %w", err)
	}
	configure(pc)
	// A server that follows another one knows no SERIALIZABLE.
	pc.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	pc.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pc.ConnConfig.ConnectTimeout = replicaTimeout
	// It is not asked now: the primary serves until there is one.
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	return &replica{pool: pool, now: time.Now}, nil
}

func (r *replica) read(ctx context.Context, fn func(ctx context.Context, q Querier) error) (done bool, err error) {
	if !r.usable(ctx) {
		return false, nil
	}
	age := r.bound() // before the read: it gets only younger meanwhile
	if age > maxReplicaAge {
		return false, nil
	}
	err = fn(ctx, r.pool)
	switch {
	case err == nil:
		noteAge(ctx, age)
	case ctx.Err() == nil && (conflict(err) || connectionLost(err) || cannotConnect(err)):
		// A conflict is with what the primary did meanwhile.
		if !conflict(err) {
			r.down()
		}
		return false, nil
	}
	return true, err
}

// bound is the oldest that the replica may be: it never goes back.
func (r *replica) bound() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.age + r.now().Sub(r.measured)
}

// usable has the replica's age measured now and then, by one caller, while others
// go on with what is known.
func (r *replica) usable(ctx context.Context) bool {
	r.mu.Lock()
	now := r.now()
	known := !r.measured.IsZero()
	switch {
	case now.Before(r.downTill):
		r.mu.Unlock()
		return false
	case r.asking, known && now.Sub(r.measured) < measureEvery:
		r.mu.Unlock()
		return known
	}
	r.asking = true
	r.mu.Unlock()

	var seconds float64
	err := r.pool.QueryRow(ctx, replicaAge).Scan(&seconds)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking = false
	switch {
	case err == nil:
		r.age, r.measured = max(0, time.Duration(seconds*float64(time.Second))), now
		return true
	case ctx.Err() == nil || errors.Is(err, context.DeadlineExceeded):
		r.downTill = r.now().Add(retryReplica)
	}
	return false
}

func (r *replica) down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.downTill = r.now().Add(retryReplica)
}

// Age is how old the answers to what was read under a context may be.
type Age struct{ most atomic.Int64 }

type ageKey struct{}

// NoteAge returns a context under which ReadStale notes how old its answers may
// be.
func NoteAge(ctx context.Context) (context.Context, *Age) {
	a := &Age{}
	return context.WithValue(ctx, ageKey{}, a), a
}

// Most is the age of the oldest answer; 0 if all were current.
func (a *Age) Most() time.Duration { return time.Duration(a.most.Load()) }

func noteAge(ctx context.Context, age time.Duration) {
	a, ok := ctx.Value(ageKey{}).(*Age)
	if !ok {
		return
	}
	for {
		before := a.most.Load()
		if int64(age) <= before || a.most.CompareAndSwap(before, int64(age)) {
			return
		}
	}
}
