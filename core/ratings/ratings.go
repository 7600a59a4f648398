// Package ratings is what people give each other after they met: one to five stars
// and a text, once per encounter and person.
//
// # An encounter
//
// Whoever ends something that people took part in (a nearby conversation, a
// booking, a hangout) opens an encounter in the same transaction. For two weeks
// each of its people may rate each other one, and change that:
//
//	Opened ──▶ open ── Rate ──▶ hidden ──┬─ the other one rated, too ─▶ both are revealed
//	                     ▲        │      │
//	                     └─ again ┘      └─ the window ended (CloseDue) ─▶ all are revealed
//
// # Blind
//
// Until a rating is revealed nothing that anybody but its rater can see depends on
// it: no list, sum, version of a profile or event, nor when any of these comes. So
// nobody waits for what the other one gives to give it back, and who has rated can
// tell only whether the other one has, by what is revealed. A revealed one stays as
// it is.
//
// # One value
//
// Sum and count of what somebody got are kept with the user, and changed in the
// transaction that reveals, together with the version of their profile: whatever
// shows a person shows that (core.Rating). Verify counts again.
//
// # Who rated
//
// That two people met is theirs to know. Others read stars and text, and on which
// day they were revealed; the rater is told to the rated alone.
package ratings

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrNoEncounter = errs.New(errs.NotFound, "encounter_not_found", "there is no such encounter of yours, or it can't be rated any more")
	ErrNoUser      = errs.New(errs.NotFound, "user_not_found", "there is no such user in this encounter")
	ErrSelf        = errs.New(errs.Invalid, "bad_request", "this is yourself").At("body.user_id")
	ErrBadRating   = errs.New(errs.Invalid, "bad_rating", "a rating is 1 to 5 stars and a text of at most 1,000 characters")
	ErrRevealed    = errs.New(errs.Conflict, "rating_revealed", "you both have rated: your ratings stay as they are")
)

// window is for how long an encounter can be rated.
const window = 14 * 24 * time.Hour

const maxText = 1000

// Kind is what people took part in.
type Kind string

// The kinds of encounters.
const (
	Nearby  Kind = "nearby"
	Booking Kind = "booking"
	Hangout Kind = "hangout"
	Direct  Kind = "direct"
)

// Encounter is something that people took part in.
type Encounter struct {
	ID     uuid.UUID // of what they took part in, such as the conversation: once each
	Kind   Kind
	People []core.UserID
	At     time.Time // when it was over
}

// Profiles keeps what users got: core/users satisfies it. Rated adds to it in the
// caller's transaction, and sees to it that whoever remembers a profile reads it
// anew.
type Profiles interface {
	Rated(ctx context.Context, tx pgx.Tx, more map[core.UserID]core.Rating) error
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now func() time.Time // default time.Now
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db       *db.DB
	profiles Profiles
	cfg      Config
}

// New returns a Store.
func New(d *db.DB, profiles Profiles, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, profiles: profiles, cfg: cfg}
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Opened lets the people of an encounter rate each other, from the transaction that
// ends it. Again it changes nothing.
func (s *Store) Opened(ctx context.Context, tx pgx.Tx, e Encounter) error {
	if len(e.People) < 2 {
		return fmt.Errorf("open encounter %s: fewer than two people met", e.ID)
	}
	at := e.At.UTC().Truncate(time.Microsecond)
	if _, err := tx.Exec(ctx,
		`WITH opened AS (
		   INSERT INTO encounters (id, kind, opened_at, window_ends) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING RETURNING id)
		 INSERT INTO encounter_people (encounter_id, user_id) SELECT opened.id, u.id FROM opened, users u WHERE u.id = ANY($5)`,
		e.ID, e.Kind, at, at.Add(window), e.People); err != nil {
		return fmt.Errorf("open encounter: %w", err)
	}
	return nil
}

// Given is a rating as its rater knows it.
type Given struct {
	Encounter uuid.UUID
	User      core.UserID // who is rated
	Stars     int
	Text      string
	Revealed  bool
	Until     time.Time // it can be changed before then, unless it is revealed
}

// facts are what is read before a rating is decided.
type facts struct {
	closed        bool
	until         time.Time
	took, theirs  bool // part in it: the rater, and the one to be rated
	mine, reverse *row
}

type row struct {
	ID       *uuid.UUID
	Stars    *int64
	Text     *string
	Revealed *bool
}

// decide says whether a rating may be written; again: it is the same as one that is
// revealed.
func (f facts) decide(now time.Time, stars int, text string) (again bool, err error) {
	switch {
	case !f.took || f.closed || !now.Before(f.until):
		return false, ErrNoEncounter
	case !f.theirs:
		return false, ErrNoUser
	case f.mine == nil || !*f.mine.Revealed:
		return false, nil
	case *f.mine.Stars == int64(stars) && *f.mine.Text == text:
		return true, nil
	}
	return false, ErrRevealed
}

// Rate gives somebody stars, or changes what was given, while it isn't revealed.
func (s *Store) Rate(ctx context.Context, user core.UserID, encounter uuid.UUID, other core.UserID, stars int, text string) (g Given, err error) {
	text, ok := core.CleanText(text, 0, maxText, true)
	switch {
	case stars < 1 || stars > 5:
		return Given{}, ErrBadRating.At("body.stars")
	case !ok:
		return Given{}, ErrBadRating.At("body.text")
	case user == other:
		return Given{}, ErrSelf
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		f, err := s.facts(ctx, tx, user, encounter, other)
		if err != nil {
			return err
		}
		again, err := f.decide(s.now(), stars, text)
		if err != nil {
			return err
		}
		g = Given{Encounter: encounter, User: other, Stars: stars, Text: text, Revealed: again, Until: f.until.UTC()}
		if again {
			return nil
		}
		var id uuid.UUID
		if err := tx.QueryRow(ctx,
			`INSERT INTO ratings (id, encounter_id, rater, ratee, stars, text) VALUES ($1, $2, $3, $4, $5, $6)
			 ON CONFLICT (encounter_id, rater, ratee) DO UPDATE SET stars = excluded.stars, text = excluded.text RETURNING id`,
			uuid.New(), encounter, user, other, stars, text).Scan(&id); err != nil {
			return err
		}
		if f.reverse == nil {
			return nil
		}
		g.Revealed = true
		return s.reveal(ctx, tx, []hidden{
			{*f.reverse.ID, encounter, &other, user, *f.reverse.Stars},
			{id, encounter, &user, other, int64(stars)},
		})
	})
	if err != nil {
		return Given{}, fmt.Errorf("rate: %w", err)
	}
	return g, nil
}

func (s *Store) facts(ctx context.Context, q db.Querier, user core.UserID, encounter uuid.UUID, other core.UserID) (f facts, err error) {
	var mine, reverse row
	err = q.QueryRow(ctx,
		`SELECT e.closed_at IS NOT NULL, e.window_ends,
		   EXISTS (SELECT 1 FROM encounter_people p WHERE p.encounter_id = e.id AND p.user_id = $2),
		   EXISTS (SELECT 1 FROM encounter_people p JOIN users u ON u.id = p.user_id WHERE p.encounter_id = e.id AND p.user_id = $3 AND u.deleted_at IS NULL),
		   m.id, m.stars, m.text, m.revealed_at IS NOT NULL, r.id, r.stars, r.text, r.revealed_at IS NOT NULL
		 FROM encounters e
		 LEFT JOIN ratings m ON m.encounter_id = e.id AND m.rater = $2 AND m.ratee = $3
		 LEFT JOIN ratings r ON r.encounter_id = e.id AND r.rater = $3 AND r.ratee = $2
		 WHERE e.id = $1`, encounter, user, other).
		Scan(&f.closed, &f.until, &f.took, &f.theirs, &mine.ID, &mine.Stars, &mine.Text, &mine.Revealed, &reverse.ID, &reverse.Stars, &reverse.Text, &reverse.Revealed)
	if errors.Is(err, pgx.ErrNoRows) {
		return facts{}, nil
	}
	if mine.ID != nil {
		f.mine = &mine
	}
	if reverse.ID != nil {
		f.reverse = &reverse
	}
	return f, err
}

// hidden is a rating that is to be revealed.
type hidden struct {
	id        uuid.UUID
	encounter uuid.UUID
	rater     *core.UserID // nil: their account is gone
	ratee     core.UserID
	stars     int64
}

// reveal shows ratings, and adds them to what those got who were rated.
func (s *Store) reveal(ctx context.Context, tx pgx.Tx, list []hidden) error {
	if len(list) == 0 {
		return nil
	}
	var ids []uuid.UUID
	var events []outbox.Event
	more := map[core.UserID]core.Rating{}
	for _, h := range list {
		ids = append(ids, h.id)
		sum := more[h.ratee]
		more[h.ratee] = core.Rating{Sum: sum.Sum + h.stars, Count: sum.Count + 1}
		e := core.RatingEvent{Encounter: h.encounter.String()}
		if h.rater != nil {
			e.User = h.rater.String()
		}
		events = append(events, outbox.Event{Key: h.ratee.Key(), Kind: core.RatingRevealed, Data: e})
	}
	// The day is enough: at the same instant both of a pair are revealed, and who
	// looked at both profiles would know that they met.
	if _, err := tx.Exec(ctx, `UPDATE ratings SET revealed_at = $2 WHERE id = ANY($1) AND revealed_at IS NULL`, ids, s.now().Truncate(24*time.Hour)); err != nil {
		return err
	}
	if err := s.profiles.Rated(ctx, tx, more); err != nil {
		return err
	}
	return outbox.Append(ctx, tx, events...)
}
