// Package friends is how two people stand to each other: friends, asked to be,
// or on no terms (blocks). And by what names those are found who want it.
//
// # A request
//
//	           Request              Accept, or Request by the other one
//	(none) ────────────▶ open ─────────────────────────────────▶ friends
//	                     │  │                                       │
//	                     │  └─ Decline ─▶ declined                  │ Unfriend, Block
//	                     └─ Cancel, Block ─▶ canceled               ▼
//	                                                             (none)
//
// There is at most one request each way, and never both: who asks somebody by
// whom they were asked accepts. A declined one isn't told as a notification,
// and can't be made again for a week. A canceled one can, but the other one is
// notified only once a day. Who is friends, or asked already, asks again with
// success and nothing happens; so does who accepts, declines or cancels twice.
// Each of these is one SERIALIZABLE transaction that reads what it relies on,
// so whatever two people do at once comes out as if one had been first.
//
// # Blocks
//
// A block works both ways and in silence. From then on they don't exist for each
// other: neither finds the other by name, nearby or in an area, sees when the
// other is here or was, asks for friendship, or learns the other's position by a
// grant, an ask, or a group that both are in; what they had granted each other
// ends, and so do friendship and requests. The blocked one is not told, and gets
// the answers that they would get for somebody who is not there, takes no
// requests, looks offline and shares nothing. In a group that both are in, that
// the other one is a member, and what they write, stays: see
// docs/adr/0098-blocks-in-shared-rooms.md.
//
// # Being found
//
// Nobody is found by name who didn't choose to. The name is stored under its
// terms then (core.SearchTerms), in the transaction that changed either.
package friends

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about. ErrNoUser is also what they hear who
// are blocked, or whose requests are not wanted.
var (
	ErrNoUser       = errs.New(errs.NotFound, "user_not_found", "there is no such user")
	ErrSelf         = errs.New(errs.Invalid, "bad_request", "this is yourself").At("body.user_id")
	ErrTooMany      = errs.New(errs.Conflict, "too_many_blocks", "you block as many people as one can: unblock somebody first")
	ErrNoRequest    = errs.New(errs.NotFound, "request_not_found", "there is no open request of theirs")
	ErrDeclined     = errs.New(errs.Conflict, "request_declined", "they declined not long ago: leave them a week, or wait for theirs")
	ErrFriends      = errs.New(errs.Conflict, "already_friends", "you are friends: it was accepted before you took it back")
	ErrManyFriends  = errs.New(errs.Conflict, "too_many_friends", "one of you has as many friends as one can")
	ErrManyRequests = errs.New(errs.Conflict, "too_many_requests", "as many of your requests are open as may be: cancel some")
	ErrRequestRate  = errs.New(errs.RateLimited, "rate_limited", "you asked many people today: go on tomorrow").After(time.Hour)
	ErrBadAudience  = errs.New(errs.Invalid, "bad_audience", "those who may ask are everyone, groups or nobody").At("body.requests")
)

const (
	maxBlocks  = 1000
	maxFriends = 5000
	maxOpen    = 200 // requests of one user at a time
	maxDaily   = 100 // people whom one user asks in a day

	declinedFor = 7 * 24 * time.Hour  // before one may ask again
	notifyAgain = 24 * time.Hour      // of a request that was canceled
	keepRequest = 30 * 24 * time.Hour // that was answered
)

// Sharing is what a block changes of what two people show each other: Parted is
// part of the transaction, Tell comes after it. core/location satisfies it.
type Sharing interface {
	Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error
	Tell(ctx context.Context, user core.UserID, others ...core.UserID)
}

// Notifier tells people what they may want to know while they are away, in the
// caller's transaction, and forgets what two were told about each other, one of
// whom blocks the other. core/notify satisfies it.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
	Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error
}

// The kinds of notifications that come from here.
const (
	notifyRequest  = "friend_request"  // user_id asks
	notifyAccepted = "friend_accepted" // user_id accepted
)

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Sharing Sharing          // may be nil
	Notify  Notifier         // may be nil
	Now     func() time.Time // default time.Now
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db  *db.DB
	cfg Config
}

// New returns a Store.
func New(d *db.DB, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, cfg: cfg}
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// change runs fn in a transaction.
func (s *Store) change(ctx context.Context, what string, fn func(context.Context, pgx.Tx) error) error {
	if err := s.db.InTx(ctx, pgx.TxOptions{}, fn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// tell leaves an event for all devices of both, each with the other's id.
func tell(ctx context.Context, tx pgx.Tx, kind string, by, other core.UserID) error {
	event := func(to, about core.UserID) outbox.Event {
		return outbox.Event{Key: to.Key(), Kind: kind, Data: core.FriendEvent{User: about.String(), By: by.String()}}
	}
	return outbox.Append(ctx, tx, event(by, other), event(other, by))
}

func (s *Store) notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, about core.UserID) error {
	if s.cfg.Notify == nil {
		return nil
	}
	return s.cfg.Notify.Notify(ctx, tx, to, kind, map[string]any{"user_id": about.String()})
}

// Sweep deletes requests that were answered long ago.
func (s *Store) Sweep(ctx context.Context) error {
	return s.change(ctx, "sweep requests", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM friend_requests WHERE answered_at < $1`, s.now().Add(-max(keepRequest, declinedFor)))
		return err
	})
}

// ---------------------------------------------------------------- settings

// Audience says who may ask somebody to be friends.
type Audience string

const (
	Everyone Audience = "everyone" // who knows the id
	Groups   Audience = "groups"   // who shares a group
	Nobody   Audience = "nobody"
)

// Settings are what a user chose.
type Settings struct {
	Discoverable bool // found by name
	Requests     Audience
}

// Settings returns what a user chose.
func (s *Store) Settings(ctx context.Context, user core.UserID) (set Settings, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT coalesce(f.discoverable, false), coalesce(f.requests, 'everyone') FROM users u LEFT JOIN friend_settings f ON f.user_id = u.id WHERE u.id = $1`, user).
			Scan(&set.Discoverable, &set.Requests)
	})
	if err != nil {
		return Settings{}, fmt.Errorf("read friend settings: %w", err)
	}
	return set, nil
}

// SetSettings changes what a user chose. An empty Requests stays as it is.
func (s *Store) SetSettings(ctx context.Context, user core.UserID, discoverable bool, requests Audience) (set Settings, err error) {
	if requests != "" && requests != Everyone && requests != Groups && requests != Nobody {
		return Settings{}, ErrBadAudience
	}
	err = s.change(ctx, "change friend settings", func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx,
			`INSERT INTO friend_settings (user_id, discoverable, requests) VALUES ($1, $2, $3)
			 ON CONFLICT (user_id) DO UPDATE SET discoverable = excluded.discoverable,
			   requests = CASE WHEN $4 = '' THEN friend_settings.requests ELSE $4 END
			 RETURNING discoverable, requests`,
			user, discoverable, cmp.Or(requests, Everyone), string(requests)).Scan(&set.Discoverable, &set.Requests); err != nil {
			return err
		}
		return Renamed(ctx, tx, user)
	})
	return set, err
}
