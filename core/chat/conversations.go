package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// Scope is what a conversation is of: the beginning of its room's id.
type Scope string

const (
	OfGroup   Scope = "group"   // members are core/groups'
	OfDirect  Scope = "direct"  // two people who know each other
	OfNearby  Scope = "nearby"  // two who met through core/matching
	OfBooking Scope = "booking" //
)

// ScopeOf returns the scope of a room, empty if nobody talks in rooms like that.
func ScopeOf(room string) Scope {
	s, _, _ := strings.Cut(room, ":")
	if scope := Scope(s); slices.Contains([]Scope{OfGroup, OfDirect, OfNearby, OfBooking}, scope) {
		return scope
	}
	return ""
}

// What callers choose on. ErrNoPeer is also what those hear who are blocked, or
// whose messages are not wanted.
var (
	ErrNotMember = errs.New(errs.NotFound, "not_member", "there is no such conversation, or you are not in it")
	ErrNoPeer    = errs.New(errs.NotFound, "user_not_found", "there is no such user, or they take no messages from you")
	ErrSelf      = errs.New(errs.Invalid, "bad_request", "this is yourself").At("body.user_id")
	ErrEnded     = errs.New(errs.Conflict, "conversation_ended", "this conversation is over: nobody writes in it any more")
	ErrBehind    = errs.New(errs.Unavailable, "retry", "a newer state of the conversation is on its way: try again").After(100 * time.Millisecond)
	ErrBadChoice = errs.New(errs.Invalid, "bad_choice", "receipts go to everyone or nobody, messages come from acquaintances, friends or nobody")
)

// Announcer tells the edges of this region that the version of who may be in a room
// is now at least this. It returns when they have applied it; it must bound its own
// time.
type Announcer interface {
	MembershipChanged(ctx context.Context, room string, version uint64)
}

// ConversationsConfig holds what is optional about Conversations; its zero value
// works.
type ConversationsConfig struct {
	Region   string           // where rooms that are opened here are at home
	Announce Announcer        // may be nil
	Now      func() time.Time // default time.Now
	// Ended, if there is one, is part of the transaction in which a conversation ends,
	// by whomever: nobody, if it was time.
	Ended func(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error
}

// Conversations are who talks with whom outside of groups, and what everybody sees
// of all their conversations, groups', too. It is safe for concurrent use.
//
//	Open, Create            Leave of one of two, End, the end of an account
//	     ──────────▶ goes on ──────────────────────────────────▶ over
//	                    ▲                                          │
//	                    └───────── Open, of two who know ──────────┘
//	                               each other
//
// Who is in one that is over still reads it; who left does not. Two people between
// whom there is a block are in none of theirs while it lasts, and find them again
// when it ends.
//
// Each change of who may read or write adds one to the conversation's version, in
// its transaction, and is announced before it is acknowledged: see core/groups.
type Conversations struct {
	db  *db.DB
	cfg ConversationsConfig
}

// NewConversations returns the conversations of a migrated database.
func NewConversations(d *db.DB, cfg ConversationsConfig) *Conversations {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Conversations{db: d, cfg: cfg}
}

// now is a time as the database keeps it.
func (s *Conversations) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// change runs fn in a transaction.
func (s *Conversations) change(ctx context.Context, what string, fn func(context.Context, pgx.Tx) error) error {
	if err := s.db.InTx(ctx, pgx.TxOptions{}, fn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// terms are how two people stand to each other before one opens a conversation.
type terms struct {
	known, blocked, friends, shared bool

	takes   Audience // whose messages the other one takes
	present int      // how many of the two are in the conversation already
}

// open says whether there is something to do, or why that may not be.
func (t terms) open() (bool, error) {
	switch {
	case !t.known || t.blocked:
		return false, ErrNoPeer
	case t.present == 2:
		return false, nil
	case t.takes == Nobody || !t.friends && (t.takes == Friends || !t.shared):
		return false, ErrNoPeer
	}
	return true, nil
}

// Open returns the conversation of a user with somebody, and makes it if there is
// none, or it is over: with a friend, or somebody who shares a group, as the other
// one allows it. One that there is stays whatever they choose later, but for a block.
func (s *Conversations) Open(ctx context.Context, user, other core.UserID) (Conversation, error) {
	if user == other {
		return Conversation{}, ErrSelf
	}
	room := core.DirectRoom(user, other)
	err := s.change(ctx, "open a conversation", func(ctx context.Context, tx pgx.Tx) error {
		var t terms
		if err := tx.QueryRow(ctx,
			`SELECT EXISTS (SELECT 1 FROM users WHERE id = $2 AND deleted_at IS NULL),
			   EXISTS (SELECT 1 FROM blocks WHERE blocker = $1 AND blocked = $2 OR blocker = $2 AND blocked = $1),
			   EXISTS (SELECT 1 FROM friends WHERE user_id = $1 AND friend_id = $2),
			   EXISTS (SELECT 1 FROM group_members a JOIN group_members b ON b.group_id = a.group_id WHERE a.user_id = $1 AND b.user_id = $2),
			   coalesce((SELECT messages_from FROM conversation_settings WHERE user_id = $2), 'acquaintances'),
			   (SELECT count(*) FROM conversation_people p JOIN conversations c ON c.room = p.room
			    WHERE p.room = $3 AND p.left_at IS NULL AND c.ended_at IS NULL)`, user, other, room).
			Scan(&t.known, &t.blocked, &t.friends, &t.shared, &t.takes, &t.present); err != nil {
			return err
		}
		if todo, err := t.open(); err != nil || !todo {
			return err
		}
		return s.begin(ctx, tx, room, []core.UserID{user, other}, s.cfg.Region, user)
	})
	if err != nil {
		return Conversation{}, err
	}
	return s.Conversation(ctx, user, room)
}

// Create begins a conversation in the caller's transaction. home is the region that
// its room is at home in.
func (s *Conversations) Create(ctx context.Context, tx pgx.Tx, room string, people []core.UserID, home string) error {
	if scope := ScopeOf(room); scope == "" || scope == OfGroup || len(people) < 2 {
		return fmt.Errorf("create conversation %q of %d: there is no such thing", room, len(people))
	}
	if err := s.begin(ctx, tx, room, people, home, core.UserID{}); err != nil {
		return fmt.Errorf("create conversation: %w", err)
	}
	return nil
}

// begin writes that people are in a conversation from now on.
func (s *Conversations) begin(ctx context.Context, tx pgx.Tx, room string, people []core.UserID, home string, by core.UserID) error {
	now := s.now()
	var version uint64
	if err := tx.QueryRow(ctx,
		`INSERT INTO conversations (room, pair, home_region, created_at) VALUES ($1, $2, $3, $4)
		 ON CONFLICT (room) DO UPDATE SET version = conversations.version + 1, ended_at = NULL RETURNING version`,
		room, len(people) == 2, home, now).Scan(&version); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx,
		`INSERT INTO conversation_people (room, user_id, since) SELECT $1, u, $3 FROM unnest($2::UUID[]) AS u
		 ON CONFLICT (room, user_id) DO UPDATE SET since = excluded.since, left_at = NULL`, room, people, now); err != nil {
		return err
	}
	s.announce(ctx, room, version)
	return tell(ctx, tx, core.ConversationOpened, room, people, by)
}

// End has nobody write in a conversation any more, in the caller's transaction. by
// may be nobody; again is a success.
func (s *Conversations) End(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error {
	var version uint64
	err := tx.QueryRow(ctx, `UPDATE conversations SET ended_at = $2, version = version + 1 WHERE room = $1 AND ended_at IS NULL RETURNING version`,
		room, s.now()).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end conversation: %w", err)
	}
	if s.cfg.Ended != nil {
		if err := s.cfg.Ended(ctx, tx, room, by); err != nil {
			return fmt.Errorf("end conversation: %w", err)
		}
	}
	s.announce(ctx, room, version)
	people, err := present(ctx, tx, room)
	if err != nil {
		return fmt.Errorf("end conversation: %w", err)
	}
	return tell(ctx, tx, core.ConversationEnded, room, people, by)
}

// Leave takes a user out of a conversation that is no group's; what was said there
// is gone for them. Of two, that ends it for the other one, who still reads it.
func (s *Conversations) Leave(ctx context.Context, user core.UserID, room string) error {
	return s.change(ctx, "leave a conversation", func(ctx context.Context, tx pgx.Tx) error {
		var pair bool
		err := tx.QueryRow(ctx,
			`UPDATE conversation_people SET left_at = $3 FROM conversations c
			 WHERE c.room = conversation_people.room AND conversation_people.room = $1 AND user_id = $2 AND left_at IS NULL RETURNING c.pair`,
			room, user, s.now()).Scan(&pair)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotMember
		}
		if err != nil {
			return err
		}
		if err := forget(ctx, tx, user, room); err != nil {
			return err
		}
		if err := tell(ctx, tx, core.ConversationLeft, room, []core.UserID{user}, user); err != nil {
			return err
		}
		if pair {
			if err := s.End(ctx, tx, room, user); err != nil {
				return err
			}
		}
		return s.bump(ctx, tx, bumpRoom, room)
	})
}

// forget deletes what is kept of somebody in a room that they left. How far they had
// got is not: in a room of two they may come back.
func forget(ctx context.Context, tx pgx.Tx, user core.UserID, room string) error {
	_, err := tx.Exec(ctx, `DELETE FROM conversation_mutes WHERE room = $1 AND user_id = $2`, room, user)
	return err
}

// Parted is for when a block of two people begins or ends, in its transaction: the
// edges look anew who may be in their conversations.
func (s *Conversations) Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error {
	return s.bump(ctx, tx, bumpPair, a, b)
}

// Depart takes a user whose account has ended out of all their conversations. It can
// be repeated.
func (s *Conversations) Depart(ctx context.Context, user core.UserID) error {
	var rooms []string
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT room FROM conversation_people WHERE user_id = $1 AND left_at IS NULL ORDER BY room`, user)
		if err != nil {
			return err
		}
		rooms, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return fmt.Errorf("depart: %w", err)
	}
	for _, room := range rooms { // a transaction for each: who is in many holds up none for long
		if err := s.Leave(ctx, user, room); err != nil && !errors.Is(err, ErrNotMember) {
			return fmt.Errorf("depart: %w", err)
		}
	}
	return nil
}

// Those whose versions get one more.
const (
	bumpRoom = `UPDATE conversations SET version = version + 1 WHERE room = $1 RETURNING room, version`
	bumpPair = `UPDATE conversations SET version = version + 1 WHERE pair AND room IN
		(SELECT x.room FROM conversation_people AS x JOIN conversation_people AS y ON y.room = x.room WHERE x.user_id = $1 AND y.user_id = $2)
		RETURNING room, version`
)

// bump adds one to the versions of conversations, and announces them.
func (s *Conversations) bump(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var room string
	var version uint64
	_, err = pgx.ForEachRow(rows, []any{&room, &version}, func() error {
		s.announce(ctx, room, version)
		return nil
	})
	return err
}

// announce tells the edges once the transaction has committed.
func (s *Conversations) announce(ctx context.Context, room string, version uint64) {
	if s.cfg.Announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.cfg.Announce.MembershipChanged(ctx, room, version) })
	}
}

// present returns who is in a conversation.
func present(ctx context.Context, q db.Querier, room string) ([]core.UserID, error) {
	rows, err := q.Query(ctx, `SELECT user_id FROM conversation_people WHERE room = $1 AND left_at IS NULL ORDER BY user_id`, room)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[core.UserID])
}

// tell leaves an event for all devices of people.
func tell(ctx context.Context, tx pgx.Tx, kind, room string, people []core.UserID, by core.UserID) error {
	var events []outbox.Event
	for i, p := range people {
		e := core.ConversationEvent{Room: room}
		if len(people) == 2 {
			e.User = people[1-i].String()
		}
		if by != (core.UserID{}) {
			e.By = by.String()
		}
		events = append(events, outbox.Event{Key: p.Key(), Kind: kind, Data: e})
	}
	return outbox.Append(ctx, tx, events...)
}

// Standing is what somebody may do in a conversation that is no group's.
type Standing struct {
	Role    string // member
	Name    string // of the user
	Version uint64 // of who may be in it, as of which this is true
	Home    string // region in which its messages are written
	Writes  bool   // false: it is over
}

// Standing returns a user's standing in a conversation, as of version min or later.
// It is one statement, so what it says belongs together. For who is not in it, or is
// on no terms with the other one, it returns ErrNotMember, with the version if there
// is such a conversation; ErrBehind means that the database it asked doesn't know min
// yet.
func (s *Conversations) Standing(ctx context.Context, user core.UserID, room string, min uint64) (st Standing, err error) {
	var name *string
	var in, blocked bool
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT c.version, c.home_region, c.ended_at IS NULL, u.username, me.user_id IS NOT NULL,
			   c.pair AND EXISTS (SELECT 1 FROM conversation_people p JOIN blocks b
			     ON b.blocker = $2 AND b.blocked = p.user_id OR b.blocker = p.user_id AND b.blocked = $2 WHERE p.room = $1)
			 FROM conversations c
			 LEFT JOIN conversation_people me ON me.room = c.room AND me.user_id = $2 AND me.left_at IS NULL
			 LEFT JOIN users u ON u.id = me.user_id WHERE c.room = $1`, room, user).
			Scan(&st.Version, &st.Home, &st.Writes, &name, &in, &blocked)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Standing{}, ErrNotMember
	case err != nil:
		return Standing{}, fmt.Errorf("read standing: %w", err)
	case st.Version < min:
		return Standing{}, ErrBehind
	case !in || blocked || name == nil:
		return Standing{Version: st.Version, Home: st.Home}, ErrNotMember
	}
	st.Role, st.Name = "member", *name
	return st, nil
}

// Home returns the region in which the messages of a conversation that is no group's
// are written; it never changes.
func (s *Conversations) Home(ctx context.Context, room string) (region string, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT home_region FROM conversations WHERE room = $1`, room).Scan(&region)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", ErrNotMember
	case err != nil:
		return "", fmt.Errorf("read home region: %w", err)
	}
	return region, nil
}
