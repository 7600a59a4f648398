// Package users is the profiles: what a person shows of themselves (name,
// picture) and the settings that their apps keep. Who may sign in as somebody
// is the business of core/auth; both work on the same row, auth on the
// credentials and users on the rest.
//
// # Cards
//
// What others see of a profile is a [Card], with what they gave that person
// (core/ratings). It has a version, which each change
// adds one to, in its transaction, together with an event in the outbox. [Cards]
// keeps them in memory under user and version:
//
//	change ──▶ version + 1, event profile.updated ──▶ every node: Changed(user, version)
//	                                                    │ a card of a lower version is dropped,
//	read ◀── card in memory, or as it is in SQL  ◀──────┘ and none is put in its place
//
// A node that doesn't hear of a change learns of it when the card has been in
// memory for a minute. Clients get the version as the ETag.
//
// # Pictures
//
// A picture is either a URL that the user gave, or one that they uploaded: then
// [Pictures] makes squares of it, which are objects, and the URL is of this API.
package users

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about, beside those of core.
var (
	ErrNotFound      = errs.New(errs.NotFound, "user_not_found", "there is no such user")
	ErrUsernameTaken = errs.New(errs.Conflict, "username_taken", "this username is taken: choose another").At("body.username")
)

// Subscription is how a user's subscription is.
type Subscription string

// Free is that of whoever never had one.
const Free Subscription = "free"

// Profile is a user as they see themselves.
type Profile struct {
	ID           core.UserID
	Username     string
	Email        string // empty for a guest
	Verified     bool   // the address was confirmed
	Guest        bool
	Picture      string
	Settings     map[string]any
	Subscription Subscription
}

// Change names what is to be replaced; nil leaves a field as it is.
type Change struct {
	Username *string
	Picture  *string
	Settings map[string]any // as a whole
}

// Store is the profiles. It is safe for concurrent use.
type Store struct {
	db       *db.DB
	now      func() time.Time
	pictures *Pictures // nil: nobody uploads any
	cards    *Cards    // nil: likewise
	named    func(ctx context.Context, tx pgx.Tx, user core.UserID) error
	pays     func(ctx context.Context, q db.Querier, user core.UserID) (Subscription, error)
}

// New returns a Store; now is the clock (time.Now).
func New(d *db.DB, now func() time.Time) *Store { return &Store{db: d, now: now} }

// OnName has fn called in each transaction that gives a user another name. It is
// set before the Store is used.
func (s *Store) OnName(fn func(ctx context.Context, tx pgx.Tx, user core.UserID) error) { s.named = fn }

// OnGet has fn called for what a profile says of a user's subscription. It is set
// before the Store is used.
func (s *Store) OnGet(fn func(ctx context.Context, q db.Querier, user core.UserID) (Subscription, error)) {
	s.pays = fn
}

// Get returns a user's profile.
func (s *Store) Get(ctx context.Context, id core.UserID) (p Profile, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		p, err = s.get(ctx, q, id)
		return err
	})
	if err != nil {
		return Profile{}, fmt.Errorf("read profile: %w", err)
	}
	return p, nil
}

// Update changes a user's profile and returns what it is now.
func (s *Store) Update(ctx context.Context, id core.UserID, c Change) (p Profile, err error) {
	var display, key *string
	var settings []byte
	if c.Username != nil {
		name, err := core.ParseUsername(*c.Username)
		if err != nil {
			return p, core.ErrBadUsername.At("body.username")
		}
		display, key = &name.Display, &name.Key
	}
	if c.Picture != nil {
		if err := core.CheckPicture(*c.Picture); err != nil && !s.pictures.own(*c.Picture) {
			return p, core.ErrBadPicture.At("body.profile_picture")
		}
	}
	if c.Settings != nil {
		if settings, err = core.EncodeSettings(c.Settings); err != nil {
			return p, core.ErrBadSettings.At("body.settings")
		}
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`UPDATE users SET username = coalesce($2, username), username_key = coalesce($3, username_key),
			   profile_picture = coalesce($4, profile_picture), settings = coalesce($5, settings), updated_at = $6
			 WHERE id = $1`,
			id, display, key, c.Picture, settings, s.now())
		if db.Violates(err, "users_username_unique") {
			return ErrUsernameTaken
		}
		if err != nil {
			return err
		}
		if c.Username != nil && s.named != nil {
			if err := s.named(ctx, tx, id); err != nil {
				return err
			}
		}
		if c.Picture != nil {
			if err := s.pictures.replaced(ctx, tx, id, *c.Picture); err != nil {
				return err
			}
		}
		if err := s.changed(ctx, tx, id); err != nil {
			return err
		}
		p, err = s.get(ctx, tx, id)
		return err
	})
	if err != nil {
		return Profile{}, fmt.Errorf("update profile: %w", err)
	}
	return p, nil
}

// changed adds one to the version of a profile and says so, in the transaction
// that changes it.
func (s *Store) changed(ctx context.Context, tx pgx.Tx, id core.UserID) error {
	version, err := Changed(ctx, tx, id)
	if err == nil && s.cards != nil {
		db.AfterCommit(ctx, func(context.Context) { s.cards.Changed(id, version) }) // here at once, elsewhere by the event
	}
	return err
}

// Changed adds one to the version of a user's profile, and leaves the event, in the
// transaction that changes their name or their picture.
func Changed(ctx context.Context, tx pgx.Tx, id core.UserID) (version uint64, err error) {
	err = tx.QueryRow(ctx, `UPDATE users SET profile_version = profile_version + 1 WHERE id = $1 RETURNING profile_version`, id).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("profile version: %w", err)
	}
	return version, outbox.Append(ctx, tx, outbox.Event{
		Key: id.Key(), Kind: core.ProfileUpdated, Data: ProfileEvent{User: id.String(), Version: version},
	})
}

// Rated adds to what people gave to users, in the transaction that reveals it. Who
// has ended their account gets nothing.
func (s *Store) Rated(ctx context.Context, tx pgx.Tx, more map[core.UserID]core.Rating) error {
	// In one order, so that two transactions don't wait for each other.
	for _, id := range slices.SortedFunc(maps.Keys(more), func(a, b core.UserID) int { return bytes.Compare(a[:], b[:]) }) {
		tag, err := tx.Exec(ctx, `UPDATE users SET rating_sum = rating_sum + $2, rating_count = rating_count + $3 WHERE id = $1 AND deleted_at IS NULL`,
			id, more[id].Sum, more[id].Count)
		if err != nil {
			return fmt.Errorf("rate user: %w", err)
		}
		if tag.RowsAffected() == 0 {
			continue
		}
		if err := s.changed(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}

// ProfileEvent is what core.ProfileUpdated says.
type ProfileEvent struct {
	User    string `json:"user_id"`
	Version uint64 `json:"version"`
}

func (s *Store) get(ctx context.Context, q db.Querier, id core.UserID) (Profile, error) {
	p := Profile{ID: id, Subscription: Free}
	err := q.QueryRow(ctx, `SELECT username, coalesce(email, ''), email_verified_at IS NOT NULL, guest, profile_picture, settings FROM users WHERE id = $1 AND deleted_at IS NULL`, id).
		Scan(&p.Username, &p.Email, &p.Verified, &p.Guest, &p.Picture, &p.Settings)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, ErrNotFound
	case err == nil && s.pays != nil:
		p.Subscription, err = s.pays(ctx, q, id)
	}
	return p, err
}
