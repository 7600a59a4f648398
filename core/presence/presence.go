// Package presence is what people chose about how they are seen, and when they
// were here last. Who is here now is not its business: that lives in the
// region's roster and in rooms.
//
// # Who sees what
//
// Somebody is seen by those who share a group with them; to all others they
// don't exist (ErrNotFound), unless they let everyone know when they were
// here last. The audience says who may know that:
//
//	everyone   any signed-in user
//	groups     those who share a group (the default)
//	nobody     only oneself
//
// While somebody is invisible, they look offline to everybody else, and when
// they were here is not written down: what shows later is from before.
//
// Of two people of whom one has blocked the other, each looks invisible to the
// other, and when they were here last is not told, whatever they chose; if they
// share no group, they don't exist for each other.
//
// # Writing last seen
//
// Seen takes many people at once and never lowers a time. It is called with
// batches, not for each event: see the settings of internal/node.
package presence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrNotFound    = errs.New(errs.NotFound, "user_not_found", "there is no such user, or you share no group with them")
	ErrBadAudience = errs.New(errs.Invalid, "bad_audience", "an audience is everyone, groups or nobody").At("body.last_seen_audience")
)

// Audience says who may know when somebody was here last.
type Audience string

const (
	Everyone Audience = "everyone"
	Groups   Audience = "groups"
	Nobody   Audience = "nobody"
)

// Settings are what a user chose.
type Settings struct {
	Invisible bool
	LastSeen  Audience
}

// Change names what is to be replaced; nil leaves a field as it is.
type Change struct {
	Invisible *bool
	LastSeen  *Audience
}

// Announcer tells all nodes that somebody became invisible, or visible again.
// It must bound its own time; what it can't reach learns it when a session of
// theirs begins.
type Announcer interface {
	PresenceChanged(ctx context.Context, user core.UserID, invisible bool)
}

// Store is the settings and times. It is safe for concurrent use.
type Store struct {
	db       *db.DB
	announce Announcer
}

// New returns a Store; announce may be nil.
func New(d *db.DB, announce Announcer) *Store { return &Store{db: d, announce: announce} }

// Get returns a user's settings; who never chose has the defaults.
func (s *Store) Get(ctx context.Context, user core.UserID) (set Settings, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		set, err = get(ctx, q, user)
		return err
	})
	if err != nil {
		return Settings{}, fmt.Errorf("read presence settings: %w", err)
	}
	return set, nil
}

func get(ctx context.Context, q db.Querier, user core.UserID) (Settings, error) {
	s := Settings{LastSeen: Groups}
	err := q.QueryRow(ctx, `SELECT invisible, last_seen_audience FROM presence WHERE user_id = $1`, user).Scan(&s.Invisible, &s.LastSeen)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return s, err
}

// Update changes a user's settings and returns what they are now. Whether
// somebody is visible is announced when it changed, after the commit.
func (s *Store) Update(ctx context.Context, user core.UserID, c Change) (set Settings, err error) {
	if c.LastSeen != nil && *c.LastSeen != Everyone && *c.LastSeen != Groups && *c.LastSeen != Nobody {
		return Settings{}, ErrBadAudience
	}
	var before Settings
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if before, err = get(ctx, tx, user); err != nil {
			return err
		}
		set = before
		if c.Invisible != nil {
			set.Invisible = *c.Invisible
		}
		if c.LastSeen != nil {
			set.LastSeen = *c.LastSeen
		}
		if set == before {
			return nil
		}
		_, err := tx.Exec(ctx,
			`INSERT INTO presence (user_id, invisible, last_seen_audience) VALUES ($1, $2, $3)
			 ON CONFLICT (user_id) DO UPDATE SET invisible = excluded.invisible, last_seen_audience = excluded.last_seen_audience`,
			user, set.Invisible, set.LastSeen)
		return err
	})
	if err != nil {
		return Settings{}, fmt.Errorf("change presence settings: %w", err)
	}
	if set.Invisible != before.Invisible && s.announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.announce.PresenceChanged(ctx, user, set.Invisible) })
	}
	return set, nil
}

// View is what one user may know of another.
type View struct {
	Shared    []core.GroupID // groups that both are in, in whose rooms they see each other
	Invisible bool           // looks offline; never so to oneself
	LastSeen  time.Time      // zero: unknown, or not for this viewer
}

// sharedGroups bounds a View: a session is in far fewer rooms.
const sharedGroups = 500

// View returns what viewer may know of user.
func (s *Store) View(ctx context.Context, viewer, user core.UserID) (v View, err error) {
	var audience Audience
	var seen *time.Time
	var parted bool
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT coalesce(p.invisible, false), coalesce(p.last_seen_audience, 'groups'), p.last_seen,
			   EXISTS (SELECT 1 FROM blocks WHERE blocker = $1 AND blocked = $2 OR blocker = $2 AND blocked = $1),
			   ARRAY(SELECT a.group_id FROM group_members a JOIN group_members b ON b.group_id = a.group_id
			     WHERE a.user_id = $1 AND b.user_id = $2 ORDER BY a.group_id LIMIT $3)
			 FROM users u LEFT JOIN presence p ON p.user_id = u.id WHERE u.id = $2`,
			viewer, user, sharedGroups).Scan(&v.Invisible, &audience, &seen, &parted, &v.Shared)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return View{}, ErrNotFound
	case err != nil:
		return View{}, fmt.Errorf("read presence: %w", err)
	}
	self := viewer == user
	if parted {
		v.Invisible, audience = true, Nobody
	}
	if !self && len(v.Shared) == 0 && audience != Everyone {
		return View{}, ErrNotFound
	}
	v.Invisible = v.Invisible && !self
	if seen != nil && (self || audience != Nobody) {
		v.LastSeen = seen.UTC()
	}
	return v, nil
}

// Seen raises the times at which people were here last. It never lowers one,
// and leaves out who is invisible or no user any more.
func (s *Store) Seen(ctx context.Context, at map[core.UserID]time.Time) error {
	if len(at) == 0 {
		return nil
	}
	ids, times := make([]core.UserID, 0, len(at)), make([]time.Time, 0, len(at))
	for id, t := range at {
		ids, times = append(ids, id), append(times, t)
	}
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		// In the order of the ids, so that two nodes' batches don't wait for
		// each other crosswise.
		_, err := tx.Exec(ctx,
			`INSERT INTO presence (user_id, last_seen)
			   SELECT u.id, v.at FROM unnest($1::UUID[], $2::TIMESTAMPTZ[]) AS v (id, at) JOIN users u ON u.id = v.id ORDER BY u.id
			 ON CONFLICT (user_id) DO UPDATE SET last_seen = excluded.last_seen
			   WHERE NOT presence.invisible AND (presence.last_seen IS NULL OR presence.last_seen < excluded.last_seen)`,
			ids, times)
		return err
	})
	if err != nil {
		return fmt.Errorf("write last seen: %w", err)
	}
	return nil
}
