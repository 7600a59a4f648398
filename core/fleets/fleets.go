package fleets

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about, beside those of keys.
var (
	ErrNoFleet       = errs.New(errs.NotFound, "fleet_not_found", "you have no such fleet")
	ErrTooManyFleets = errs.New(errs.Conflict, "too_many_fleets", "you have as many fleets as one can: delete one first, and not too many a day")
	ErrBadName       = errs.New(errs.Invalid, "bad_fleet", "a name has 1 to 80 characters").At("body.name")
	ErrBadPrecision  = errs.New(errs.Invalid, "bad_precision", "a precision is none, exact, or an H3 resolution from r0 (coarsest) to r10").At("body.precision")
	ErrBadExpiry     = errs.New(errs.Invalid, "bad_fleet", "a fleet is shown for a minute to ten years, or until that is ended").At("body.expires_in")
	ErrNotShown      = errs.New(errs.Invalid, "bad_fleet", "nobody sees this fleet, so that has no end: name a precision, too").At("body.expires_in")
)

const (
	maxFleets  = 20 // of a user
	maxKeys    = 10 // of a fleet
	pastAsWell = 10 // times as many rows, with what was ended and is still kept

	maxName  = 80
	minLife  = time.Minute
	maxLife  = 10 * 365 * 24 * time.Hour
	keepPast = 24 * time.Hour // what was deleted or revoked: longer than edges ask back, and than a token lives
)

// Announcer tells all nodes what changed, after the commit. Both methods return
// when those of this region know, and bound their own time.
type Announcer interface {
	// FleetChanged: who sees a fleet is now as of this version or later.
	FleetChanged(ctx context.Context, fleet core.FleetID, version uint64)
	// KeysRevoked: the sessions of these keys are over.
	KeysRevoked(ctx context.Context, keys []core.LoginID)
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now      func() time.Time // default time.Now
	Announce Announcer        // may be nil
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db     *db.DB
	cfg    Config
	secret []byte // of keys
}

// New returns a Store. The secret has at least 32 bytes and is the same on all
// nodes.
func New(d *db.DB, secret []byte, cfg Config) (*Store, error) {
	if len(secret) < 32 {
		return nil, errors.New("fleets: the node secret needs at least 32 bytes")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "muster fleet keys", 32)
	if err != nil {
		return nil, fmt.Errorf("fleets: derive key: %w", err)
	}
	return &Store{db: d, cfg: cfg, secret: key}, nil
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Shown is what everybody sees of a fleet's subjects.
type Shown struct {
	Precision grant.Precision // None: nothing
	Expires   time.Time       // zero: until it is ended
}

// At is what holds at a moment: nothing once it has expired.
func (s Shown) At(now time.Time) Shown {
	if s.Precision == grant.None || !s.Expires.IsZero() && !now.Before(s.Expires) {
		return Shown{}
	}
	return s
}

// Fleet is one as its owner sees it.
type Fleet struct {
	ID                   core.FleetID
	Name                 string
	Shown                Shown
	Version              uint64
	CreatedAt, UpdatedAt time.Time
}

// Draft is what a new fleet is made of.
type Draft struct {
	Name      string
	Precision grant.Precision
	Life      time.Duration // of what is shown; 0: until it is ended
}

// Create makes a fleet in the caller's transaction.
func (s *Store) Create(ctx context.Context, tx pgx.Tx, owner core.UserID, d Draft) (Fleet, error) {
	now := s.now()
	f := Fleet{ID: core.FleetID(uuid.New()), Version: 1, CreatedAt: now, UpdatedAt: now}
	if err := f.apply(Change{Name: &d.Name, Precision: &d.Precision, Life: lifeOf(d)}, now); err != nil {
		return Fleet{}, err
	}
	var live, all int
	if err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE deleted_at IS NULL), count(*) FROM fleets WHERE user_id = $1`, owner).Scan(&live, &all); err != nil {
		return Fleet{}, err
	}
	if live >= maxFleets || all >= maxFleets*pastAsWell {
		return Fleet{}, ErrTooManyFleets
	}
	_, err := tx.Exec(ctx,
		`INSERT INTO fleets (id, user_id, name, precision, expires_at, version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, 1, $6, $6)`,
		f.ID, owner, f.Name, int16(f.Shown.Precision), orNil(f.Shown.Expires), now)
	return f, err
}

func lifeOf(d Draft) *time.Duration {
	if d.Life == 0 {
		return nil
	}
	return &d.Life
}

// Change names what is to be replaced; nil leaves a field as it is.
type Change struct {
	Name      *string
	Precision *grant.Precision // None: nobody sees it
	Life      *time.Duration   // from now; 0: until it is ended
}

// apply validates a change and carries it out.
func (f *Fleet) apply(c Change, now time.Time) error {
	if c.Name != nil {
		name, ok := core.CleanText(*c.Name, 1, maxName, false)
		if !ok {
			return ErrBadName
		}
		f.Name = name
	}
	f.Shown = f.Shown.At(now)
	if c.Precision != nil {
		if *c.Precision > grant.Exact {
			return ErrBadPrecision
		}
		f.Shown.Precision = *c.Precision
	}
	if c.Life != nil {
		switch {
		case *c.Life != 0 && (*c.Life < minLife || *c.Life > maxLife):
			return ErrBadExpiry
		case f.Shown.Precision == grant.None && *c.Life != 0:
			return ErrNotShown
		case *c.Life == 0:
			f.Shown.Expires = time.Time{}
		default:
			f.Shown.Expires = now.Add(*c.Life)
		}
	}
	if f.Shown.Precision == grant.None {
		f.Shown.Expires = time.Time{}
	}
	return nil
}

// Change replaces fields of a fleet.
func (s *Store) Change(ctx context.Context, owner core.UserID, id core.FleetID, c Change) (f Fleet, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		// The row's lock puts changes in a line.
		rows, err := tx.Query(ctx,
			`UPDATE fleets SET version = version + 1, updated_at = $3 WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL
			 RETURNING id, name, precision, expires_at, version, created_at, updated_at`, id, owner, s.now())
		if err != nil {
			return err
		}
		if f, err = oneFleet(rows); err != nil {
			return err
		}
		if err = f.apply(c, f.UpdatedAt); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE fleets SET name = $2, precision = $3, expires_at = $4 WHERE id = $1`,
			id, f.Name, int16(f.Shown.Precision), orNil(f.Shown.Expires))
		return err
	})
	if err != nil {
		return Fleet{}, fmt.Errorf("change fleet: %w", err)
	}
	if s.cfg.Announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.cfg.Announce.FleetChanged(ctx, id, f.Version) })
	}
	return f, nil
}

// Delete ends a fleet: nobody sees its subjects, and its gateways' sessions are
// over.
func (s *Store) Delete(ctx context.Context, owner core.UserID, id core.FleetID) error {
	var version uint64
	var keys []core.LoginID
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		err := tx.QueryRow(ctx,
			`UPDATE fleets SET version = version + 1, precision = 0, expires_at = NULL, updated_at = $3, deleted_at = $3
			 WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL RETURNING version`, id, owner, now).Scan(&version)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoFleet
		}
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `UPDATE fleet_keys SET revoked_at = $2 WHERE fleet_id = $1 AND revoked_at IS NULL RETURNING id`, id, now)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowTo[core.LoginID])
		return err
	})
	if err != nil {
		return fmt.Errorf("delete fleet: %w", err)
	}
	if s.cfg.Announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) {
			s.cfg.Announce.KeysRevoked(ctx, keys) // first: then nobody brings a subject back
			s.cfg.Announce.FleetChanged(ctx, id, version)
		})
	}
	return nil
}

// List returns a user's fleets, the oldest first.
func (s *Store) List(ctx context.Context, owner core.UserID) (list []Fleet, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, name, precision, expires_at, version, created_at, updated_at FROM fleets
			 WHERE user_id = $1 AND deleted_at IS NULL ORDER BY created_at, id`, owner)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanFleet)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list fleets: %w", err)
	}
	return list, nil
}

// Get returns a fleet of a user's.
func (s *Store) Get(ctx context.Context, owner core.UserID, id core.FleetID) (f Fleet, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, name, precision, expires_at, version, created_at, updated_at FROM fleets
			 WHERE id = $1 AND user_id = $2 AND deleted_at IS NULL`, id, owner)
		if err != nil {
			return err
		}
		f, err = oneFleet(rows)
		return err
	})
	if err != nil {
		return Fleet{}, fmt.Errorf("get fleet: %w", err)
	}
	return f, nil
}

// Choices returns what everybody sees of a fleet, and as of which version. Of a
// fleet that is no more they see nothing; once its row is gone, too, the version
// is 0.
func (s *Store) Choices(ctx context.Context, id core.FleetID) (shown Shown, version uint64, err error) {
	var p int16
	var expires *time.Time
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		p, expires, version = 0, nil, 0
		err := q.QueryRow(ctx, `SELECT precision, expires_at, version FROM fleets WHERE id = $1`, id).Scan(&p, &expires, &version)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return Shown{}, 0, fmt.Errorf("read choices of fleet: %w", err)
	}
	return Shown{grant.Precision(p), orZero(expires)}, version, nil
}

// Sweep deletes what was ended so long ago that nobody asks for it.
func (s *Store) Sweep(ctx context.Context) error {
	before := s.now().Add(-keepPast)
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM fleet_keys WHERE revoked_at < $1`, before); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM fleets WHERE deleted_at < $1`, before)
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep fleets: %w", err)
	}
	return nil
}

func oneFleet(rows pgx.Rows) (Fleet, error) {
	f, err := pgx.CollectExactlyOneRow(rows, scanFleet)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoFleet
	}
	return f, err
}

func scanFleet(row pgx.CollectableRow) (f Fleet, err error) {
	var p int16
	var expires *time.Time
	err = row.Scan(&f.ID, &f.Name, &p, &expires, &f.Version, &f.CreatedAt, &f.UpdatedAt)
	f.Shown = Shown{grant.Precision(p), orZero(expires)}
	f.CreatedAt, f.UpdatedAt = f.CreatedAt.UTC(), f.UpdatedAt.UTC()
	return f, err
}

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
