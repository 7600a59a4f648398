// Package calls keeps which calls there are: in which room, since when, of which type,
// and what those who moderate decided about them. Who is in one right now, and what they
// say to each other, is the business of the media servers (package media), which know a
// call by its id; what must outlive them is here.
//
// # Life of a call
//
//	            ┌── Change: locked, push to talk, hearing ──┐
//	            ▼                                           │
//	Start ──▶ live ─────────────────────────────────────────┘
//	            ├── End: somebody who moderates
//	            ├── Idle: nobody is in it any more, at the last media server that had it
//	            └── EndDue: no media server has said anything for three minutes
//	            ▼
//	          ended (forgotten after a month)
//
// A room has at most one live call: who starts one while there is one gets that.
//
// # Who may
//
// Who is in the room and may write there may start and join. Admins and owners of a
// group moderate its calls; in rooms of two both do.
//
// # Who hears of it
//
// The room of a group, or each of the people of another one, through the outbox:
// core.CallStarted, CallChanged, CallEnded; the nodes at once, by Config.Changed. Each
// change of a call has a higher version.
package calls

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	ErrNoCall     = errs.New(errs.NotFound, "no_call", "there is no such call in a room of yours")
	ErrEnded      = errs.New(errs.Gone, "call_ended", "the call is over")
	ErrForbidden  = errs.New(errs.Forbidden, "forbidden", "this is for those who moderate the call: admins and the owner of its group")
	ErrRoomOver   = errs.New(errs.Conflict, "conversation_ended", "this conversation is over: nobody calls in it any more")
	ErrBadType    = errs.New(errs.Invalid, "bad_request", "a call is of type audio or video").At("body.type")
	ErrBadHearing = errs.New(errs.Invalid, "bad_request", "most is 0 to 50 streams, loudness and nearness are weights from 0 to 1, and radius is 0 to 100,000 metres").At("body.hearing")
)

// Type is what a call is started for; whoever is in it may still send a picture or not.
type Type string

// The types of calls.
const (
	Audio Type = "audio"
	Video Type = "video"
)

// Hearing says how it is chosen who is heard.
type Hearing struct {
	Most     int64   // streams at a time; 0: all
	Loudness float64 // weight, 0 to 1
	Nearness float64 // weight, 0 to 1
	Radius   float64 // metres, beyond which nobody is heard; 0: no limit
}

const (
	maxStreams = 50
	maxRadius  = 100_000
)

func (h Hearing) check() error {
	in := func(v, most float64) bool { return !math.IsNaN(v) && v >= 0 && v <= most }
	if h.Most < 0 || h.Most > maxStreams || !in(h.Loudness, 1) || !in(h.Nearness, 1) || !in(h.Radius, maxRadius) {
		return ErrBadHearing
	}
	return nil
}

// Call is one.
type Call struct {
	ID         uuid.UUID
	Room       string
	Group      *core.GroupID // whose room it is; nil: no group's
	Type       Type
	Home       string       // region of the room: where its talk floor is
	StartedBy  *core.UserID // nil: their account is gone
	StartedAt  time.Time
	EndedAt    *time.Time // nil: it goes on
	Locked     bool       // nobody else joins
	PushToTalk bool
	Hearing    Hearing
	Version    int64 // from 1; of two states of a call the one with the higher is the truth
}

// Ended reports whether it is over.
func (c Call) Ended() bool { return c.EndedAt != nil }

// Participant is somebody who is in a call now.
type Participant struct {
	User         core.UserID
	Device       string
	Name         string
	Region       string
	JoinedAt     time.Time
	MicMuted     bool
	SpeakerMuted bool // hears nobody
	Camera       bool
	Screen       bool
	Music        bool
	Suspended    bool // its connection is lost, and may come back
}

// Live says who is in calls; the media servers know.
type Live interface {
	// Participants returns those of a call. An error: it is not known just now.
	Participants(ctx context.Context, call uuid.UUID) ([]Participant, error)
}

// Standing is what somebody is in a room.
type Standing struct {
	Role   string // owner, admin or member
	Home   string // region of the room
	Writes bool   // false: the conversation is over
}

// Rooms says who is in which.
type Rooms interface {
	// Standing returns a user's, in the transaction that ctx is within, if it is. An
	// error that is for the client: they are not in it, or there is no such room.
	Standing(ctx context.Context, user core.UserID, room string) (Standing, error)
}

// Notifier tells people of calls that they missed, in the caller's transaction.
type Notifier interface {
	// NotifyOnce tells nothing that a user was told under that key before.
	NotifyOnce(ctx context.Context, tx pgx.Tx, to core.UserID, kind, once string, data map[string]any) error
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	// Node is whose media server Seen and Idle speak for.
	Node string
	// Changed hears of each change of a call after its commit. It must not block.
	Changed func(ctx context.Context, c Call)
	Notify  Notifier         // nil: nobody is told what they missed
	Now     func() time.Time // default time.Now
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db    *db.DB
	rooms Rooms
	cfg   Config
}

// New returns a Store.
func New(d *db.DB, rooms Rooms, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, rooms: rooms, cfg: cfg}
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

const columns = `id, room, group_id, type, home_region, started_by, started_at, ended_at, locked, push_to_talk, hear_most, hear_loudness, hear_nearness, hear_radius, version`

func scan(row pgx.CollectableRow) (c Call, err error) {
	err = row.Scan(&c.ID, &c.Room, &c.Group, &c.Type, &c.Home, &c.StartedBy, &c.StartedAt, &c.EndedAt, &c.Locked, &c.PushToTalk,
		&c.Hearing.Most, &c.Hearing.Loudness, &c.Hearing.Nearness, &c.Hearing.Radius, &c.Version)
	c.StartedAt = c.StartedAt.UTC()
	if c.EndedAt != nil {
		c.EndedAt = new(c.EndedAt.UTC())
	}
	return c, err
}

func one(rows pgx.Rows, err error) (Call, error) {
	if err != nil {
		return Call{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scan)
}

// Draft is a call that is to be started.
type Draft struct {
	Room       string
	Type       Type
	PushToTalk bool
	Hearing    *Hearing // nil: everybody
}

// Start begins a call in a room, or returns the one that there is, as it is.
func (s *Store) Start(ctx context.Context, user core.UserID, d Draft) (c Call, fresh bool, err error) {
	if d.Type != Audio && d.Type != Video {
		return Call{}, false, ErrBadType
	}
	hearing := Hearing{Loudness: 1}
	if d.Hearing != nil {
		hearing = *d.Hearing
	}
	if err := hearing.check(); err != nil {
		return Call{}, false, err
	}
	room := d.Room
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		fresh = false
		st, err := s.rooms.Standing(db.Within(ctx, tx), user, room)
		switch {
		case err != nil:
			return err
		case !st.Writes:
			return ErrRoomOver
		}
		c, err = one(tx.Query(ctx, `SELECT `+columns+` FROM calls WHERE room = $1 AND ended_at IS NULL`, room))
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		// Of two that start at the same time the other one may have won meanwhile: then
		// this transaction conflicts, and is repeated.
		c, err = one(tx.Query(ctx,
			`INSERT INTO calls (id, room, group_id, type, home_region, started_by, started_at, push_to_talk, hear_most, hear_loudness, hear_nearness, hear_radius)
			 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING `+columns,
			uuid.New(), room, groupOf(room), string(d.Type), st.Home, user, s.now(), d.PushToTalk, hearing.Most, hearing.Loudness, hearing.Nearness, hearing.Radius))
		if err != nil {
			return err
		}
		fresh = true
		return s.tell(ctx, tx, core.CallStarted, c, user)
	})
	if err != nil {
		return Call{}, false, fmt.Errorf("start a call: %w", err)
	}
	return c, fresh, nil
}

func groupOf(room string) *core.GroupID {
	if id, ok := core.GroupOf(room); ok {
		return &id
	}
	return nil
}

// tell leaves an event for the room, and has the nodes hear of the change.
func (s *Store) tell(ctx context.Context, tx pgx.Tx, kind string, c Call, by core.UserID) error {
	e := core.CallEvent{Call: c.ID.String(), Room: c.Room, Type: string(c.Type), Version: c.Version}
	if by != (core.UserID{}) {
		e.By = by.String()
	}
	if s.cfg.Changed != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.cfg.Changed(ctx, c) })
	}
	if c.Group != nil {
		return outbox.Append(ctx, tx, outbox.Event{Key: c.Room, Kind: kind, Data: e})
	}
	rows, err := tx.Query(ctx, `SELECT user_id FROM conversation_people WHERE room = $1 AND left_at IS NULL ORDER BY user_id`, c.Room)
	if err != nil {
		return err
	}
	people, err := pgx.CollectRows(rows, pgx.RowTo[core.UserID])
	if err != nil {
		return err
	}
	events := make([]outbox.Event, len(people))
	for i, p := range people {
		events[i] = outbox.Event{Key: p.Key(), Kind: kind, Data: e}
	}
	return outbox.Append(ctx, tx, events...)
}

// Record returns a call, over or not, for whoever serves it.
func (s *Store) Record(ctx context.Context, id uuid.UUID) (c Call, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) (err error) {
		c, err = one(q.Query(ctx, `SELECT `+columns+` FROM calls WHERE id = $1`, id))
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Call{}, ErrNoCall
	case err != nil:
		return Call{}, fmt.Errorf("read a call: %w", err)
	}
	return c, nil
}

// Get returns a call, over or not, to one who is in its room, and what they are there.
func (s *Store) Get(ctx context.Context, user core.UserID, id uuid.UUID) (c Call, st Standing, err error) {
	if c, err = s.Record(ctx, id); err != nil {
		return Call{}, Standing{}, err
	}
	if st, err = s.rooms.Standing(ctx, user, c.Room); err != nil {
		return Call{}, Standing{}, hide(err)
	}
	return c, st, nil
}

// hide makes a call of a room that the caller is not in one that there is not.
func hide(err error) error {
	if e, ok := errs.From(err); ok && e.Kind != errs.Unavailable {
		return ErrNoCall
	}
	return err
}

// Moderates reports whether somebody with a standing in a call's room moderates it.
func (c Call) Moderates(st Standing) bool {
	return c.Group == nil || st.Role == "owner" || st.Role == "admin"
}

// Change is what those who moderate decide; nil: it stays.
type Change struct {
	Locked     *bool
	PushToTalk *bool
	Hearing    *Hearing
}

// Change changes a live call, for one who moderates. What is so already changes nothing.
func (s *Store) Change(ctx context.Context, user core.UserID, id uuid.UUID, change Change) (c Call, err error) {
	if change.Hearing != nil {
		if err := change.Hearing.check(); err != nil {
			return Call{}, err
		}
	}
	err = s.moderate(ctx, user, id, func(ctx context.Context, tx pgx.Tx, was Call) error {
		c = was
		if change.Locked != nil {
			c.Locked = *change.Locked
		}
		if change.PushToTalk != nil {
			c.PushToTalk = *change.PushToTalk
		}
		if change.Hearing != nil {
			c.Hearing = *change.Hearing
		}
		if c == was {
			return nil
		}
		if was.Ended() {
			return ErrEnded
		}
		c, err = one(tx.Query(ctx,
			`UPDATE calls SET locked = $2, push_to_talk = $3, hear_most = $4, hear_loudness = $5, hear_nearness = $6, hear_radius = $7, version = version + 1
			 WHERE id = $1 RETURNING `+columns, id, c.Locked, c.PushToTalk, c.Hearing.Most, c.Hearing.Loudness, c.Hearing.Nearness, c.Hearing.Radius))
		if err != nil {
			return err
		}
		return s.tell(ctx, tx, core.CallChanged, c, user)
	})
	if err != nil {
		return Call{}, fmt.Errorf("change a call: %w", err)
	}
	return c, nil
}

// End ends a call for everybody, for one who moderates. Again is a success.
func (s *Store) End(ctx context.Context, user core.UserID, id uuid.UUID) error {
	err := s.moderate(ctx, user, id, func(ctx context.Context, tx pgx.Tx, c Call) error {
		return s.end(ctx, tx, c, user)
	})
	if err != nil {
		return fmt.Errorf("end a call: %w", err)
	}
	return nil
}

// moderate runs do in a transaction, with a call that the user moderates.
func (s *Store) moderate(ctx context.Context, user core.UserID, id uuid.UUID, do func(ctx context.Context, tx pgx.Tx, c Call) error) error {
	return s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		c, err := one(tx.Query(ctx, `SELECT `+columns+` FROM calls WHERE id = $1`, id))
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoCall
		}
		if err != nil {
			return err
		}
		st, err := s.rooms.Standing(db.Within(ctx, tx), user, c.Room)
		switch {
		case err != nil:
			return hide(err)
		case !c.Moderates(st):
			return ErrForbidden
		}
		return do(ctx, tx, c)
	})
}
