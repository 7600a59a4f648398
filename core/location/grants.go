package location

import (
	"context"
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

var (
	ErrNoGrant       = errs.New(errs.NotFound, "grant_not_found", "you have no such grant")
	ErrTooManyGrants = errs.New(errs.Conflict, "too_many_grants", "you have as many grants as one can: end one first")
	ErrBadAudience   = errs.New(errs.Invalid, "bad_grant", "an audience is a person or a group, with its id, or discoverable").At("body.audience")
	ErrBadPrecision  = errs.New(errs.Invalid, "bad_precision", "a precision is exact, or an H3 resolution from r0 (coarsest) to r10").At("body.precision")
	ErrBadExpiry     = errs.New(errs.Invalid, "bad_grant", "a grant lasts for a minute to ten years, or until it is ended").At("body.expires_in")
	ErrBadPurpose    = errs.New(errs.Invalid, "bad_grant", "a purpose has at most 200 characters").At("body.purpose")
)

const (
	maxGrants   = 200 // of a user, those to groups that have ended included
	minLife     = time.Minute
	maxLife     = 10 * 365 * 24 * time.Hour
	maxPurpose  = 200
	keepExpired = 24 * time.Hour // what expired, but for the last of a group
)

// Grant is one as its maker sees it.
type Grant struct {
	ID                   uuid.UUID
	Audience             grant.Audience
	Name                 string // of the person or group
	Precision            grant.Precision
	Purpose              string
	Expires              time.Time // zero: until it is ended
	CreatedAt, UpdatedAt time.Time
}

// Draft is what a new grant is made of.
type Draft struct {
	Audience  grant.Audience
	Precision grant.Precision
	Life      time.Duration // 0: until it is ended
	Purpose   string
}

// checkTerms validates what grants, asks and links have in common.
func checkTerms(p grant.Precision, purpose *string) (err error) {
	if p == grant.None || p > grant.Exact {
		return ErrBadPrecision
	}
	if purpose != nil {
		var ok bool
		if *purpose, ok = core.CleanText(*purpose, 0, maxPurpose, false); !ok {
			return ErrBadPurpose
		}
	}
	return nil
}

func checkLife(d time.Duration) error {
	if d != 0 && (d < minLife || d > maxLife) {
		return ErrBadExpiry
	}
	return nil
}

// Grant makes a grant in the caller's transaction. After the commit the caller
// calls TellGrant.
func (s *Store) Grant(ctx context.Context, tx pgx.Tx, user core.UserID, d Draft) (Grant, error) {
	if d.Audience.Check() != nil || d.Audience.Kind == grant.Link {
		return Grant{}, ErrBadAudience
	}
	if err := checkTerms(d.Precision, &d.Purpose); err != nil {
		return Grant{}, err
	}
	if err := checkLife(d.Life); err != nil {
		return Grant{}, err
	}
	if err := bump(ctx, tx, user); err != nil {
		return Grant{}, err
	}
	return s.insert(ctx, tx, user, d)
}

// insert writes a grant whose terms are valid and whose user's version was
// raised, if the user may grant the audience anything.
func (s *Store) insert(ctx context.Context, tx pgx.Tx, user core.UserID, d Draft) (Grant, error) {
	now := s.now()
	g := Grant{ID: uuid.New(), Audience: d.Audience, Precision: d.Precision, Purpose: d.Purpose, CreatedAt: now, UpdatedAt: now}
	if d.Life > 0 {
		g.Expires = now.Add(d.Life)
	}
	var person *core.UserID
	var group *core.GroupID
	switch d.Audience.Kind {
	case grant.Person:
		id, err := core.ParseUserID(d.Audience.ID)
		if err != nil {
			return Grant{}, ErrBadAudience
		}
		if err := acquainted(ctx, tx, user, id); err != nil {
			return Grant{}, err
		}
		if err := tx.QueryRow(ctx, `SELECT username FROM users WHERE id = $1`, id).Scan(&g.Name); err != nil {
			return Grant{}, err
		}
		person = &id
	case grant.Group:
		id, err := core.ParseGroupID(d.Audience.ID)
		if err != nil {
			return Grant{}, ErrBadAudience
		}
		err = tx.QueryRow(ctx,
			`SELECT g.name FROM groups g JOIN group_members gm ON gm.group_id = g.id WHERE g.id = $1 AND gm.user_id = $2`, id, user).Scan(&g.Name)
		if errors.Is(err, pgx.ErrNoRows) {
			return Grant{}, ErrNoGroup
		}
		if err != nil {
			return Grant{}, err
		}
		// This one says from now on what the group may see.
		if _, err := tx.Exec(ctx, `DELETE FROM location_grants WHERE user_id = $1 AND group_id = $2 AND expires_at <= $3`, user, id, now); err != nil {
			return Grant{}, err
		}
		group = &id
	}
	// What nobody lists any more must not take the room of what is to come.
	if _, err := tx.Exec(ctx, `DELETE FROM location_grants WHERE user_id = $1 AND audience <> 'group' AND expires_at <= $2`, user, now); err != nil {
		return Grant{}, err
	}
	var others int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM location_grants WHERE user_id = $1`, user).Scan(&others); err != nil {
		return Grant{}, err
	}
	if others >= maxGrants {
		return Grant{}, ErrTooManyGrants
	}
	_, err := tx.Exec(ctx,
		`INSERT INTO location_grants (id, user_id, audience, person_id, group_id, precision, purpose, expires_at, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`,
		g.ID, user, g.Audience.Kind, person, group, int16(g.Precision), g.Purpose, orNil(g.Expires), now)
	return g, err
}

// TellGrant announces that a user's grant to an audience changed.
func (s *Store) TellGrant(ctx context.Context, user core.UserID, to grant.Audience) {
	s.Tell(ctx, user, personOf(to)...)
}

func personOf(a grant.Audience) []core.UserID {
	if id, err := core.ParseUserID(a.ID); err == nil && a.Kind == grant.Person {
		return []core.UserID{id}
	}
	return nil
}

// GrantChange names what is to be replaced; nil leaves a field as it is.
type GrantChange struct {
	Precision *grant.Precision
	Life      *time.Duration // from now; 0: until it is ended
	Purpose   *string
}

// ChangeGrant replaces terms of a grant, also of one that has ended.
func (s *Store) ChangeGrant(ctx context.Context, user core.UserID, id uuid.UUID, c GrantChange) (g Grant, err error) {
	if c.Precision != nil {
		err = checkTerms(*c.Precision, c.Purpose)
	} else {
		err = checkTerms(grant.Exact, c.Purpose)
	}
	if err == nil && c.Life != nil {
		err = checkLife(*c.Life)
	}
	if err != nil {
		return Grant{}, err
	}
	err = s.change(ctx, "change grant", user, func(ctx context.Context, tx pgx.Tx) ([]core.UserID, error) {
		if g, err = one(ctx, tx, user, id); err != nil {
			return nil, err
		}
		g.UpdatedAt = s.now()
		if c.Precision != nil {
			g.Precision = *c.Precision
		}
		if c.Purpose != nil {
			g.Purpose = *c.Purpose
		}
		if c.Life != nil {
			g.Expires = time.Time{}
			if *c.Life > 0 {
				g.Expires = g.UpdatedAt.Add(*c.Life)
			}
		}
		_, err := tx.Exec(ctx, `UPDATE location_grants SET precision = $2, purpose = $3, expires_at = $4, updated_at = $5 WHERE id = $1`,
			id, int16(g.Precision), g.Purpose, orNil(g.Expires), g.UpdatedAt)
		return personOf(g.Audience), err
	})
	return g, err
}

// EndGrant takes a grant back. Of a grant to a group an ended one stays, so that
// a fix that names the group does not share with it again, unless forget.
func (s *Store) EndGrant(ctx context.Context, user core.UserID, id uuid.UUID, forget bool) error {
	return s.change(ctx, "end grant", user, func(ctx context.Context, tx pgx.Tx) ([]core.UserID, error) {
		g, err := one(ctx, tx, user, id)
		if err != nil {
			return nil, err
		}
		if g.Audience.Kind == grant.Group && !forget {
			now := s.now()
			_, err = tx.Exec(ctx, `UPDATE location_grants SET expires_at = $2, updated_at = $2 WHERE id = $1 AND (expires_at IS NULL OR expires_at > $2)`, id, now)
		} else {
			_, err = tx.Exec(ctx, `DELETE FROM location_grants WHERE id = $1`, id)
		}
		return personOf(g.Audience), err
	})
}

// Grants returns a user's grants, the oldest first: those that hold, and of
// groups also those that have ended.
func (s *Store) Grants(ctx context.Context, user core.UserID) (list []Grant, err error) {
	now := s.now()
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT g.id, g.audience, g.person_id, g.group_id, coalesce(u.username, gr.name, ''), g.precision, g.purpose, g.expires_at, g.created_at, g.updated_at
			 FROM location_grants g LEFT JOIN users u ON u.id = g.person_id LEFT JOIN groups gr ON gr.id = g.group_id
			 WHERE g.user_id = $1 AND (g.audience = 'group' OR g.expires_at IS NULL OR g.expires_at > $2)
			 ORDER BY g.created_at, g.id`, user, now)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanGrant)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	return list, nil
}

// one reads a grant of the user's.
func one(ctx context.Context, q db.Querier, user core.UserID, id uuid.UUID) (Grant, error) {
	rows, err := q.Query(ctx,
		`SELECT g.id, g.audience, g.person_id, g.group_id, coalesce(u.username, gr.name, ''), g.precision, g.purpose, g.expires_at, g.created_at, g.updated_at
		 FROM location_grants g LEFT JOIN users u ON u.id = g.person_id LEFT JOIN groups gr ON gr.id = g.group_id
		 WHERE g.id = $1 AND g.user_id = $2`, id, user)
	if err != nil {
		return Grant{}, err
	}
	g, err := pgx.CollectExactlyOneRow(rows, scanGrant)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoGrant
	}
	return g, err
}

func scanGrant(row pgx.CollectableRow) (g Grant, err error) {
	var person, group *uuid.UUID
	var p int16
	var expires *time.Time
	err = row.Scan(&g.ID, &g.Audience.Kind, &person, &group, &g.Name, &p, &g.Purpose, &expires, &g.CreatedAt, &g.UpdatedAt)
	for _, id := range []*uuid.UUID{person, group} {
		if id != nil {
			g.Audience.ID = id.String()
		}
	}
	g.Precision, g.Expires, g.CreatedAt, g.UpdatedAt = grant.Precision(p), orZero(expires), g.CreatedAt.UTC(), g.UpdatedAt.UTC()
	return g, err
}
