package location

import (
	"cmp"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about, beside those of core and of the
// files that follow.
var (
	ErrNoUser   = errs.New(errs.NotFound, "user_not_found", "there is no such user, or you share no group with them")
	ErrNoGroup  = errs.New(errs.NotFound, "not_member", "there is no such group, or you are no member of it")
	ErrNoDirect = errs.New(errs.Forbidden, "not_member", "there is no such room, or you are no member of it")
	ErrBehind   = errs.New(errs.Unavailable, "retry", "a newer state is on its way: try again").After(100 * time.Millisecond)
)

// Live is where people are now, as the mesh knows it. Who may ask is checked
// before it is called, and receipts are written by the caller.
type Live interface {
	// Report takes a fix of a user's that did not come through a session and
	// shows it to whom their grants say, and to groups, which the fix names. One
	// that was captured before the last goes to the private track alone. name is
	// the user's.
	Report(ctx context.Context, user core.UserID, name string, raw grant.Raw, groups []core.GroupID) error
	// Withdraw takes the user's position back everywhere, and what fixes that
	// named a group granted.
	Withdraw(ctx context.Context, user core.UserID) error
	// Room returns the newest view of each person in a room (a group's, one of
	// two, a link's), without those that lapsed or were withdrawn.
	Room(ctx context.Context, room string) (Found, error)
	// Own returns the user's own last fix if this node has it.
	Own(user core.UserID) (grant.Raw, bool)
	// Near returns the discoverable people within a radius in metres, the nearest
	// first, without the viewer, whom they blocked or are blocked by, and what
	// lapsed; or the subjects of a fleet, unless that is zero.
	Near(ctx context.Context, viewer core.UserID, fleet core.FleetID, center geo.Point, radius float64, limit int) (Found, error)
}

// Found is who is near, or in a room.
type Found struct {
	Sights    []Sight  // the nearest first; in a room in no order
	More      bool     // there are others near
	Unreached []string // regions that could not be asked, or not for all that is theirs
}

// Sight is somebody's position as an audience sees it.
type Sight struct {
	User    core.UserID
	Subject string // of a fleet, instead of a user
	Name    string // may be empty
	View    grant.View
	Until   time.Time // when it lapses
}

// Announcer tells other nodes what changed, after the commit. Both methods
// return when those of this region know, and bound their own time.
type Announcer interface {
	// SharingChanged: a user's grants, zones, links, blocks or pauses are now of
	// this version or later.
	SharingChanged(ctx context.Context, user core.UserID, version uint64)
	// MembershipChanged: who may be in a room of two changed, or the fences of a
	// group's did.
	MembershipChanged(ctx context.Context, room string, version uint64)
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now      func() time.Time // default time.Now
	Announce Announcer        // may be nil
	LinkBase string           // of links, such as "https://example.org/l/"; default: no URLs
	// TrackPoints is how many points a private track has at most: 1,000,000, some
	// 150 MB.
	TrackPoints int64
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db      *db.DB
	cfg     Config
	seal    cipher.AEAD // of tracks
	linkKey []byte
}

// New returns a Store. The secret has at least 32 bytes and is the same on all
// nodes: tracks are sealed and tokens of links made with what is derived from it.
func New(d *db.DB, secret []byte, cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.TrackPoints = cmp.Or(cfg.TrackPoints, 1_000_000)
	s := &Store{db: d, cfg: cfg}
	return s, s.deriveKeys(secret)
}

// Sharing is all that an edge needs to show a user's fixes to others.
type Sharing struct {
	Grants  *grant.Set // the caller's own
	Version uint64     // of which this is
	Track   bool       // the user keeps a private track
	// Withdrawn is when they last took their position back: what was captured
	// until then is to be shown no more.
	Withdrawn time.Time

	Memory   []byte // what Recorder.Remember stored last; nil: nothing
	Memories uint64 // its version; 0: there is none
}

// Sharing returns what a user shares, as of version min or later; ErrBehind
// means that the database it asked doesn't know min yet. It is one statement, so
// all of it belongs together. A link is the audience Link with the link's id,
// served through the room LinkRoom.
func (s *Store) Sharing(ctx context.Context, user core.UserID, min uint64) (Sharing, error) {
	var out Sharing
	var grants []grant.Grant
	var zones []grant.Zone
	now := s.now()
	ghost := false
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		out, grants, zones, ghost = Sharing{}, nil, nil, false
		rows, err := q.Query(ctx,
			`SELECT 'user' AS what, NULL::UUID AS id, 0::SMALLINT AS precision, paused_until AS until, version, paused, track,
			   0::DOUBLE PRECISION AS lat, 0::DOUBLE PRECISION AS lng, 0::DOUBLE PRECISION AS radius, NULL::BYTEA AS sealed, withdrawn_at
			 FROM location_sharing WHERE user_id = $1
			 UNION ALL SELECT audience, coalesce(person_id, group_id), precision, expires_at, 0::BIGINT, false, false, 0::DOUBLE PRECISION, 0::DOUBLE PRECISION, 0::DOUBLE PRECISION, NULL::BYTEA, NULL::TIMESTAMPTZ
			 FROM location_grants WHERE user_id = $1
			 UNION ALL SELECT 'link', id, precision, expires_at, 0::BIGINT, false, false, 0::DOUBLE PRECISION, 0::DOUBLE PRECISION, 0::DOUBLE PRECISION, NULL::BYTEA, NULL::TIMESTAMPTZ
			 FROM location_links WHERE user_id = $1 AND expires_at > $2
			 UNION ALL SELECT 'zone', id, precision, NULL::TIMESTAMPTZ, 0::BIGINT, false, false, lat, lng, radius, NULL::BYTEA, NULL::TIMESTAMPTZ
			 FROM location_zones WHERE user_id = $1
			 UNION ALL SELECT 'memory', NULL::UUID, 0::SMALLINT, NULL::TIMESTAMPTZ, version, false, false, 0::DOUBLE PRECISION, 0::DOUBLE PRECISION, 0::DOUBLE PRECISION, sealed, NULL::TIMESTAMPTZ
			 FROM location_memories WHERE user_id = $1`, user, now)
		if err != nil {
			return err
		}
		var what string
		var id *uuid.UUID
		var p int16
		var until, withdrawn *time.Time
		var version uint64
		var paused, track bool
		var z grant.Zone
		var sealed []byte
		_, err = pgx.ForEachRow(rows, []any{&what, &id, &p, &until, &version, &paused, &track, &z.Center.Lat, &z.Center.Lng, &z.Radius, &sealed, &withdrawn}, func() error {
			switch what {
			case "user":
				out.Version, out.Track, out.Withdrawn = version, track, orZero(withdrawn)
				ghost = isPaused(paused, until, now)
			case "memory":
				out.Memory, out.Memories = sealed, version
			case "zone":
				z.Precision = grant.Precision(p)
				zones = append(zones, z)
			default:
				g := grant.Grant{Audience: grant.Audience{Kind: grant.Kind(what)}, Precision: grant.Precision(p)}
				if id != nil {
					g.Audience.ID = id.String()
				}
				if until != nil {
					g.Expires = until.UTC()
				}
				grants = append(grants, g)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return Sharing{}, fmt.Errorf("read sharing: %w", err)
	}
	if out.Version < min {
		return Sharing{}, ErrBehind
	}
	if out.Grants, err = grant.NewSet(grants, zones, ghost); err != nil {
		return Sharing{}, fmt.Errorf("read sharing: %w", err)
	}
	return out, nil
}

// SetWithdrawn stores that a user took their position back at a moment. Nodes that
// are told of that do it at once; those that missed it do when they read again what
// the user shares.
func (s *Store) SetWithdrawn(ctx context.Context, user core.UserID, at time.Time) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := bump(ctx, tx, user); err != nil {
			return err
		}
		_, err := tx.Exec(ctx,
			`UPDATE location_sharing SET withdrawn_at = greatest(coalesce(withdrawn_at, $2::TIMESTAMPTZ), $2::TIMESTAMPTZ) WHERE user_id = $1`, user, stored(at))
		return err
	})
	if err != nil {
		return fmt.Errorf("store a withdrawal: %w", err)
	}
	return nil
}

// ---------------------------------------------------------------- versions

// bump adds one to the versions of what users share. Its row locks also put the
// changes of one user in a line.
func bump(ctx context.Context, tx pgx.Tx, users ...core.UserID) error {
	_, err := tx.Exec(ctx,
		`INSERT INTO location_sharing (user_id, version) SELECT u.id, 1 FROM users u WHERE u.id = ANY($1::UUID[]) ORDER BY u.id
		 ON CONFLICT (user_id) DO UPDATE SET version = location_sharing.version + 1`, users)
	return err
}

// Tell announces what a user shares now, and who may be in the rooms of two with
// the others, once that is committed.
func (s *Store) Tell(ctx context.Context, user core.UserID, others ...core.UserID) {
	if s.cfg.Announce == nil {
		return
	}
	db.AfterCommit(ctx, func(ctx context.Context) {
		versions, err := s.versions(ctx, append([]core.UserID{user}, others...)...)
		if err != nil {
			return // they ask again by themselves after a while
		}
		s.cfg.Announce.SharingChanged(ctx, user, versions[user])
		for _, o := range others {
			s.cfg.Announce.MembershipChanged(ctx, core.DirectRoom(user, o), versions[user]+versions[o])
		}
	})
}

func (s *Store) versions(ctx context.Context, users ...core.UserID) (map[core.UserID]uint64, error) {
	versions := make(map[core.UserID]uint64, len(users))
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT user_id, version FROM location_sharing WHERE user_id = ANY($1::UUID[])`, users)
		if err != nil {
			return err
		}
		var id core.UserID
		var v uint64
		_, err = pgx.ForEachRow(rows, []any{&id, &v}, func() error { versions[id] = v; return nil })
		return err
	})
	return versions, err
}

// Left is called in the transaction that ends a user's membership of a group:
// what they granted it goes with the row.
func (s *Store) Left(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM fence_states WHERE group_id = $1 AND (user_id = $2 OR other_id = $2)`, group, user); err != nil {
		return err
	}
	return bump(ctx, tx, user)
}

// Parted is called in the transaction in which one of two people blocks the
// other, or ends that: what they granted and asked each other ends.
func (s *Store) Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error {
	if err := bump(ctx, tx, a, b); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx,
		`DELETE FROM location_grants WHERE user_id = $1 AND person_id = $2 OR user_id = $2 AND person_id = $1`, a, b); err != nil {
		return err
	}
	_, err := tx.Exec(ctx,
		`UPDATE location_asks SET state = 'withdrawn', answered_at = $3
		 WHERE state = 'open' AND (asker = $1 AND asked = $2 OR asker = $2 AND asked = $1)`, a, b, s.now())
	return err
}

// change runs fn in a transaction that changes what a user shares, and tells it.
// fn returns with whom a room of two may have changed.
func (s *Store) change(ctx context.Context, what string, user core.UserID, fn func(context.Context, pgx.Tx) (others []core.UserID, err error)) error {
	var others []core.UserID
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		if err = bump(ctx, tx, user); err != nil {
			return err
		}
		others, err = fn(ctx, tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.Tell(ctx, user, others...)
	return nil
}

// ---------------------------------------------------------------- rooms of two

// LinkRoom is the id of the room through which a link's views go. Nobody can
// join it.
func LinkRoom(link uuid.UUID) string { return "link:" + link.String() }

// Standing is what an edge must know to let somebody into a room of two.
type Standing struct {
	Username string
	Version  uint64
}

// DirectMember returns a user's standing in a room of two, as of version min or
// later. In it are both as long as one of them holds a live grant of the other,
// and neither has blocked the other; else it returns ErrNoDirect.
func (s *Store) DirectMember(ctx context.Context, user core.UserID, room string, min uint64) (st Standing, err error) {
	other, ok := core.DirectOther(user, room)
	if !ok {
		return Standing{}, ErrNoDirect
	}
	var granted bool
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT u.username, (SELECT coalesce(sum(version), 0)::BIGINT FROM location_sharing WHERE user_id IN ($1, $2)),
			   EXISTS (SELECT 1 FROM location_grants g
			     WHERE (g.user_id = $1 AND g.person_id = $2 OR g.user_id = $2 AND g.person_id = $1) AND (g.expires_at IS NULL OR g.expires_at > $3))
			   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = $1 AND b.blocked = $2 OR b.blocker = $2 AND b.blocked = $1)
			 FROM users u WHERE u.id = $1`, user, other, s.now()).Scan(&st.Username, &st.Version, &granted)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Standing{}, ErrNoDirect
	case err != nil:
		return Standing{}, fmt.Errorf("read standing: %w", err)
	case st.Version < min:
		return Standing{}, ErrBehind
	case !granted:
		return Standing{Version: st.Version}, ErrNoDirect
	}
	return st, nil
}

// ---------------------------------------------------------------- helpers

// acquainted returns ErrNoUser for people who share no group, or one of whom
// blocked the other: they don't exist for each other.
func acquainted(ctx context.Context, q db.Querier, user, other core.UserID) error {
	var ok bool
	err := q.QueryRow(ctx,
		`SELECT EXISTS (SELECT 1 FROM group_members a JOIN group_members b ON b.group_id = a.group_id WHERE a.user_id = $1 AND b.user_id = $2)
		   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = $1 AND b.blocked = $2 OR b.blocker = $2 AND b.blocked = $1)`,
		user, other).Scan(&ok)
	if err == nil && (!ok || user == other) {
		err = ErrNoUser
	}
	return err
}

// isPaused reports whether a pause holds at a moment.
func isPaused(paused bool, until *time.Time, now time.Time) bool {
	return paused && (until == nil || now.Before(*until))
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return stored(s.cfg.Now()) }

// stored is a time as the database keeps it: two that are equal here are there.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// orNil is how a time that may be absent is stored.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// orZero is how such a time is read.
func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
