package matching

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about. ErrNobody is also what they hear who
// are blocked, or whom the other one would not be shown.
var (
	ErrClosed       = errs.New(errs.Conflict, "matching_closed", "open your matching profile first: who looks for people can be found by them")
	ErrNoPosition   = errs.New(errs.Conflict, "no_position", "it is not known where you are: report a position first, or name a lat and lng")
	ErrNobody       = errs.New(errs.NotFound, "person_not_found", "there is nobody like that near you: ask people whom you were shown of late")
	ErrSelf         = errs.New(errs.Invalid, "bad_request", "this is yourself").At("body.user_id")
	ErrNoRequest    = errs.New(errs.NotFound, "request_not_found", "there is no open request of that id")
	ErrDeclined     = errs.New(errs.Conflict, "request_declined", "they declined not long ago: leave them a week, or wait for theirs")
	ErrManyRequests = errs.New(errs.Conflict, "too_many_requests", "as many of your requests are open as may be: cancel some")
	ErrRequestRate  = errs.New(errs.RateLimited, "rate_limited", "you asked many people today: go on tomorrow").After(time.Hour)
	ErrManyTalks    = errs.New(errs.Conflict, "too_many_talks", "one of you has as many talks as one can: end one first")
	ErrNoTalk       = errs.New(errs.NotFound, "talk_not_found", "there is no talk of yours of that id")
	ErrBadProfile   = errs.New(errs.Invalid, "bad_matching_profile",
		"at most 20 interests of 1 to 40 characters; a radius of 500 to 50,000 m; an age of 60 to 1,800 s; a rating from 0 to 5; a text of at most 280 characters")
	ErrBadSay = errs.New(errs.Invalid, "bad_request", "a text has at most 280 characters and no control characters").At("body.say")
)

const (
	maxOpen  = 20 // requests of one user at a time
	maxDaily = 50 // requests of one user in a day
	maxTalks = 20 // of one user at a time

	// ShownFor is how long after somebody was shown they can be asked.
	ShownFor    = time.Hour
	requestLife = 24 * time.Hour
	talkLife    = 24 * time.Hour
	declinedFor = 7 * 24 * time.Hour
	keep        = 30 * 24 * time.Hour // what was answered, ended or shown
)

// Map is where people are, as the location engine tells it: only what a viewer may
// see, snapped to what was granted.
type Map interface {
	// Own returns where a user is, and since when; false if that is not known.
	Own(user core.UserID) (geo.Point, time.Time, bool)
	// Near returns those discoverable people within a radius in metres who are
	// nearest, without the viewer, those they are on no terms with, and what
	// lapsed; more: there are others.
	Near(ctx context.Context, viewer core.UserID, center geo.Point, radius float64) (Crowd, error)
}

// Crowd is who is near.
type Crowd struct {
	Sights    []Sight
	More      bool
	Unreached []string // regions that could not be asked
}

// Sight is where somebody is, as everybody may know it.
type Sight struct {
	User core.UserID
	View grant.View
}

// Ratings are what others think of people: core/ratings satisfies it. Who has none
// may be missing.
type Ratings interface {
	Ratings(ctx context.Context, users []core.UserID) (map[core.UserID]core.Rating, error)
}

// Blocks are core/friends. Within a transaction they answer as of it.
type Blocks interface {
	Hidden(ctx context.Context, user core.UserID) ([]core.UserID, error)
	Parted(ctx context.Context, a, b core.UserID) (bool, error)
}

// Talks makes and ends conversations, in the caller's transaction. home is the
// region that such a room is at home in.
type Talks interface {
	Create(ctx context.Context, tx pgx.Tx, room string, people []core.UserID, home string) error
	End(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error
}

// Meetings learns, in the caller's transaction, that two have met, who may rate
// each other now.
type Meetings interface {
	Opened(ctx context.Context, tx pgx.Tx, id uuid.UUID, people []core.UserID, at time.Time) error
}

// Notifier tells people what they may want to know while they are away, in the
// caller's transaction. core/notify satisfies it.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
}

// The kinds of notifications that come from here.
const (
	notifyRequest  = "talk_request"  // user_id asks
	notifyAccepted = "talk_accepted" // user_id accepted
)

// Config holds what a Store is made of; all but Map and Blocks may be nil.
type Config struct {
	Map      Map
	Blocks   Blocks
	Ratings  Ratings // nil: nobody has been rated
	Talks    Talks
	Meetings Meetings
	Notify   Notifier
	Secret   []byte           // the deployment's: decides among equals
	Now      func() time.Time // default time.Now
	Metrics  prometheus.Registerer
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db      *db.DB
	cfg     Config
	metrics *metrics
}

// New returns a Store.
func New(d *db.DB, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, cfg: cfg, metrics: newMetrics(cfg.Metrics)}
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

// pair are two people and the request or talk between them.
type pair struct {
	ID           uuid.UUID
	Asker, Asked core.UserID
}

// tell leaves an event for all devices of both, each with the other's id. by may be
// nobody.
func (p pair) tell(ctx context.Context, tx pgx.Tx, kind string, by core.UserID) error {
	event := func(to, about core.UserID) outbox.Event {
		e := core.TalkEvent{Request: p.ID.String(), User: about.String()}
		if by != (core.UserID{}) {
			e.By = by.String()
		}
		if kind == core.TalkAccepted || kind == core.TalkEnded {
			e.Room = Room(p.ID)
		}
		return outbox.Event{Key: to.Key(), Kind: kind, Data: e}
	}
	return outbox.Append(ctx, tx, event(p.Asker, p.Asked), event(p.Asked, p.Asker))
}

// Room is where a talk takes place.
func Room(talk uuid.UUID) string { return "nearby:" + talk.String() }
