package location

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

var (
	ErrNoZone       = errs.New(errs.NotFound, "zone_not_found", "you have no such zone")
	ErrTooManyZones = errs.New(errs.Conflict, "too_many_zones", "you have as many zones as one can: delete one first")
	ErrBadZone      = errs.New(errs.Invalid, "bad_zone", "a zone has a center, a radius in metres, a precision from r0 to r10, and a name of at most 80 characters")
)

const maxZones = 20

// Zone is a place in which nobody sees the user finer than its precision. Only
// its maker ever reads it.
type Zone struct {
	ID        uuid.UUID
	Name      string
	CreatedAt time.Time
	grant.Zone
}

// AddZone makes a zone in the caller's transaction. After the commit the caller
// calls Tell.
func (s *Store) AddZone(ctx context.Context, tx pgx.Tx, user core.UserID, name string, z grant.Zone) (Zone, error) {
	name, ok := core.CleanText(name, 0, 80, false)
	if !ok {
		return Zone{}, ErrBadZone.At("body.name")
	}
	if err := z.Check(); err != nil {
		return Zone{}, errs.New(errs.Invalid, "bad_zone", "%v", err)
	}
	if err := bump(ctx, tx, user); err != nil {
		return Zone{}, err
	}
	var others int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM location_zones WHERE user_id = $1`, user).Scan(&others); err != nil {
		return Zone{}, err
	}
	if others >= maxZones {
		return Zone{}, ErrTooManyZones
	}
	out := Zone{ID: uuid.New(), Name: name, CreatedAt: s.now(), Zone: z}
	_, err := tx.Exec(ctx,
		`INSERT INTO location_zones (id, user_id, name, lat, lng, radius, precision, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		out.ID, user, name, z.Center.Lat, z.Center.Lng, z.Radius, int16(z.Precision), out.CreatedAt)
	return out, err
}

// Zones returns a user's zones, the oldest first.
func (s *Store) Zones(ctx context.Context, user core.UserID) (list []Zone, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, name, lat, lng, radius, precision, created_at FROM location_zones WHERE user_id = $1 ORDER BY created_at, id`, user)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (z Zone, err error) {
			var p int16
			err = row.Scan(&z.ID, &z.Name, &z.Center.Lat, &z.Center.Lng, &z.Radius, &p, &z.CreatedAt)
			z.Precision, z.CreatedAt = grant.Precision(p), z.CreatedAt.UTC()
			return z, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list zones: %w", err)
	}
	return list, nil
}

// RemoveZone deletes a zone.
func (s *Store) RemoveZone(ctx context.Context, user core.UserID, id uuid.UUID) error {
	return s.change(ctx, "remove zone", user, func(ctx context.Context, tx pgx.Tx) ([]core.UserID, error) {
		tag, err := tx.Exec(ctx, `DELETE FROM location_zones WHERE id = $1 AND user_id = $2`, id, user)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoZone
		}
		return nil, err
	})
}

// Pause says whether a user shows their position to nobody, whatever they
// granted.
type Pause struct {
	Paused bool
	Until  time.Time // zero: until it is ended
}

// Paused returns a user's pause.
func (s *Store) Paused(ctx context.Context, user core.UserID) (p Pause, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		p = Pause{}
		rows, err := q.Query(ctx, `SELECT paused, paused_until FROM location_sharing WHERE user_id = $1`, user)
		if err != nil {
			return err
		}
		var until *time.Time
		_, err = pgx.ForEachRow(rows, []any{&p.Paused, &until}, func() error {
			p.Paused, p.Until = isPaused(p.Paused, until, s.now()), orZero(until)
			return nil
		})
		return err
	})
	if err != nil {
		return Pause{}, fmt.Errorf("read pause: %w", err)
	}
	if !p.Paused {
		p.Until = time.Time{}
	}
	return p, nil
}

// SetPause begins a pause for so long (0: until it is ended), or ends it.
func (s *Store) SetPause(ctx context.Context, user core.UserID, paused bool, life time.Duration) (p Pause, err error) {
	if err := checkLife(life); err != nil {
		return Pause{}, err
	}
	err = s.change(ctx, "pause sharing", user, func(ctx context.Context, tx pgx.Tx) ([]core.UserID, error) {
		p = Pause{Paused: paused}
		if paused && life > 0 {
			p.Until = s.now().Add(life)
		}
		_, err := tx.Exec(ctx, `UPDATE location_sharing SET paused = $2, paused_until = $3 WHERE user_id = $1`, user, p.Paused, orNil(p.Until))
		return nil, err
	})
	return p, err
}
