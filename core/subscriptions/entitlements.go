package subscriptions

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/maypok86/otter/v2"

	"github.com/mustermesh/muster/core"
)

// Entitlements tell what users may do for what they pay. It is safe for concurrent
// use.
type Entitlements struct {
	store *Store
	known *otter.Cache[core.UserID, known]
}

// rights are what somebody may do, as of a version of their profile.
type rights struct {
	features Features
	version  uint64
}

// known is what is remembered of a user.
type known struct {
	rights rights
	least  uint64 // there is at least this version
	until  time.Time
}

const (
	knownMost = 50_000 // users
	knownFor  = time.Minute
)

func newEntitlements(s *Store) *Entitlements {
	return &Entitlements{store: s, known: otter.Must(&otter.Options[core.UserID, known]{
		MaximumSize: knownMost,
		Executor:    func(f func()) { f() }, // its upkeep runs in the caller: no goroutine without an owner
	})}
}

// Limit returns the number that a user's plan sets for a feature; ok is false if it
// sets none. Asked in a transaction (db.Within), it reads there.
func (e *Entitlements) Limit(ctx context.Context, user core.UserID, feature string) (n int64, ok bool, err error) {
	f, err := e.features(ctx, user)
	n, ok = f.Limit(feature)
	return n, ok, err
}

// Allows tells whether a user's plan has a feature.
func (e *Entitlements) Allows(ctx context.Context, user core.UserID, feature string) (bool, error) {
	f, err := e.features(ctx, user)
	return f.Allows(feature), err
}

func (e *Entitlements) features(ctx context.Context, user core.UserID) (Features, error) {
	now := time.Now() // of this process: it bounds what is remembered, and decides nothing
	k, _ := e.known.GetIfPresent(user)
	if k.rights.version > 0 && now.Before(k.until) {
		return k.rights.features, nil
	}
	r, left, err := e.read(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("entitlements: %w", err)
	}
	e.known.Compute(user, func(k known, _ bool) (known, otter.ComputeOp) {
		if r.version < k.least || r.version < k.rights.version { // a change came in between
			return k, otter.CancelOp
		}
		return known{rights: r, least: r.version, until: now.Add(min(left, knownFor))}, otter.WriteOp
	})
	return r.features, nil
}

// read returns what a user may do, and for how long at least.
func (e *Entitlements) read(ctx context.Context, user core.UserID) (r rights, left time.Duration, err error) {
	err = e.store.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		// The version of the profile, which changes with the subscription: who has none
		// has that, too.
		if err := tx.QueryRow(ctx, `SELECT profile_version FROM users WHERE id = $1`, user).Scan(&r.version); err != nil {
			return err
		}
		sub, now, err := e.store.load(ctx, tx, user)
		if r.features, left = sub.Features, knownFor; sub.PaidUntil().After(now) {
			left = sub.PaidUntil().Sub(now)
		}
		return err
	})
	return r, left, err
}

// Changed hears that a user's profile has a version now, which may be because of
// their subscription.
func (e *Entitlements) Changed(user core.UserID, version uint64) {
	e.known.Compute(user, func(k known, _ bool) (known, otter.ComputeOp) {
		if k.least >= version {
			return k, otter.CancelOp
		}
		return known{least: version}, otter.WriteOp
	})
}

// forget is Changed without a version.
func (e *Entitlements) forget(user core.UserID) { e.known.Invalidate(user) }
