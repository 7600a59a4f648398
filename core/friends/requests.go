package friends

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Relation is how somebody stands to the user who asks.
type Relation string

const (
	None     Relation = "none"
	Sent     Relation = "sent"     // the user asked them
	Received Relation = "received" // they asked the user
	Friends  Relation = "friends"
)

// facts are what is read before a request is decided.
type facts struct {
	known, blocked, friends, received, shared bool

	sent     string    // state of the user's own request; "" for none
	answered time.Time // when it was
	takes    Audience  // whose requests the other one takes
	open     int       // requests of the user's
	today    int       // people whom they asked
}

// verdict is what a request comes to.
type verdict int

const (
	nothing verdict = iota // it is so already
	ask
	askAgain // without a notification: the other one had one of late
	befriend
)

// decide says what a request comes to. It is the same answer for who is blocked,
// who is not wanted, and nobody at all.
func (f facts) decide(now time.Time) (verdict, error) {
	switch {
	case !f.known || f.blocked:
		return nothing, ErrNoUser
	case f.friends || f.sent == "open":
		return nothing, nil
	case f.received:
		return befriend, nil
	case f.takes == Nobody || f.takes == Groups && !f.shared:
		return nothing, ErrNoUser
	case f.sent == "declined" && now.Sub(f.answered) < declinedFor:
		return nothing, ErrDeclined
	case f.open >= maxOpen:
		return nothing, ErrManyRequests
	case f.today >= maxDaily:
		return nothing, ErrRequestRate
	case f.sent == "canceled" && now.Sub(f.answered) < notifyAgain:
		return askAgain, nil
	}
	return ask, nil
}

func (s *Store) facts(ctx context.Context, q db.Querier, user, other core.UserID, now time.Time) (f facts, err error) {
	var answered *time.Time
	err = q.QueryRow(ctx,
		`SELECT EXISTS (SELECT 1 FROM users WHERE id = $2 AND deleted_at IS NULL),
		   EXISTS (SELECT 1 FROM blocks WHERE blocker = $1 AND blocked = $2 OR blocker = $2 AND blocked = $1),
		   EXISTS (SELECT 1 FROM friends WHERE user_id = $1 AND friend_id = $2),
		   EXISTS (SELECT 1 FROM friend_requests WHERE requester = $2 AND requested = $1 AND state = 'open'),
		   EXISTS (SELECT 1 FROM group_members a JOIN group_members b ON b.group_id = a.group_id WHERE a.user_id = $1 AND b.user_id = $2),
		   coalesce((SELECT state FROM friend_requests WHERE requester = $1 AND requested = $2), ''),
		   (SELECT answered_at FROM friend_requests WHERE requester = $1 AND requested = $2),
		   coalesce((SELECT requests FROM friend_settings WHERE user_id = $2), 'everyone'),
		   (SELECT count(*) FROM friend_requests WHERE requester = $1 AND state = 'open'),
		   (SELECT count(*) FROM friend_requests WHERE requester = $1 AND created_at > $3 AND requested <> $2)`,
		user, other, now.Add(-24*time.Hour)).
		Scan(&f.known, &f.blocked, &f.friends, &f.received, &f.shared, &f.sent, &answered, &f.takes, &f.open, &f.today)
	if answered != nil {
		f.answered = *answered
	}
	return f, err
}

// Request asks somebody to be friends, or accepts if they asked first. It returns
// how they stand now.
func (s *Store) Request(ctx context.Context, user, other core.UserID) (r Relation, err error) {
	if user == other {
		return None, ErrSelf
	}
	err = s.change(ctx, "ask to be friends", func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		f, err := s.facts(ctx, tx, user, other, now)
		if err != nil {
			return err
		}
		r = Sent
		if f.friends {
			r = Friends
		}
		v, err := f.decide(now)
		switch {
		case err != nil || v == nothing:
			return err
		case v == befriend:
			r = Friends
			return s.befriend(ctx, tx, user, other)
		}
		if _, err := tx.Exec(ctx,
			`INSERT INTO friend_requests (requester, requested, state, created_at) VALUES ($1, $2, 'open', $3)
			 ON CONFLICT (requester, requested) DO UPDATE SET state = 'open', created_at = excluded.created_at, answered_at = NULL`,
			user, other, now); err != nil {
			return err
		}
		if err := tell(ctx, tx, core.FriendRequested, user, other); err != nil || v == askAgain {
			return err
		}
		return s.notify(ctx, tx, other, notifyRequest, user)
	})
	return r, err
}

// Accept makes friends of a user and somebody who asked them.
func (s *Store) Accept(ctx context.Context, user, from core.UserID) error {
	return s.change(ctx, "accept a request", func(ctx context.Context, tx pgx.Tx) error {
		var open, friends bool
		if err := tx.QueryRow(ctx,
			`SELECT EXISTS (SELECT 1 FROM friend_requests WHERE requester = $2 AND requested = $1 AND state = 'open'),
			   EXISTS (SELECT 1 FROM friends WHERE user_id = $1 AND friend_id = $2)`, user, from).Scan(&open, &friends); err != nil {
			return err
		}
		switch {
		case friends:
			return nil
		case !open: // a block has closed it
			return ErrNoRequest
		}
		return s.befriend(ctx, tx, user, from)
	})
}

// befriend makes friends of a user and the other one, who had asked.
func (s *Store) befriend(ctx context.Context, tx pgx.Tx, user, other core.UserID) error {
	if _, err := s.answer(ctx, tx, other, user, "accepted"); err != nil {
		return err
	}
	var most int
	if err := tx.QueryRow(ctx,
		`SELECT greatest((SELECT count(*) FROM friends WHERE user_id = $1), (SELECT count(*) FROM friends WHERE user_id = $2))`, user, other).
		Scan(&most); err != nil {
		return err
	}
	if most >= maxFriends {
		return ErrManyFriends
	}
	if _, err := tx.Exec(ctx, `INSERT INTO friends (user_id, friend_id, since) VALUES ($1, $2, $3), ($2, $1, $3)`, user, other, s.now()); err != nil {
		return err
	}
	if err := tell(ctx, tx, core.FriendAccepted, user, other); err != nil {
		return err
	}
	return s.notify(ctx, tx, other, notifyAccepted, user)
}

// Decline answers somebody's request. They may not ask again for a week.
func (s *Store) Decline(ctx context.Context, user, from core.UserID) error {
	return s.change(ctx, "decline a request", func(ctx context.Context, tx pgx.Tx) error {
		was, err := s.answer(ctx, tx, from, user, "declined")
		if err != nil {
			return err
		}
		if was {
			return tell(ctx, tx, core.FriendDeclined, user, from)
		}
		var declined bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM friend_requests WHERE requester = $1 AND requested = $2 AND state = 'declined')`, from, user).
			Scan(&declined)
		if err == nil && !declined {
			err = ErrNoRequest
		}
		return err
	})
}

// Cancel takes one's own request back; without one it is a success. One that was
// accepted meanwhile is ErrFriends.
func (s *Store) Cancel(ctx context.Context, user, to core.UserID) error {
	return s.change(ctx, "cancel a request", func(ctx context.Context, tx pgx.Tx) error {
		was, err := s.answer(ctx, tx, user, to, "canceled")
		if err != nil {
			return err
		}
		if was {
			return tell(ctx, tx, core.FriendCanceled, user, to)
		}
		var friends bool
		err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM friends WHERE user_id = $1 AND friend_id = $2)`, user, to).Scan(&friends)
		if err == nil && friends {
			err = ErrFriends
		}
		return err
	})
}

// Unfriend ends a friendship; without one it is a success. The other one is not
// notified.
func (s *Store) Unfriend(ctx context.Context, user, other core.UserID) error {
	return s.change(ctx, "end a friendship", func(ctx context.Context, tx pgx.Tx) error { return unfriend(ctx, tx, user, other) })
}

func unfriend(ctx context.Context, tx pgx.Tx, by, other core.UserID) error {
	tag, err := tx.Exec(ctx, `DELETE FROM friends WHERE user_id = $1 AND friend_id = $2 OR user_id = $2 AND friend_id = $1`, by, other)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	return tell(ctx, tx, core.FriendRemoved, by, other)
}

// answer closes an open request; false: there is none.
func (s *Store) answer(ctx context.Context, tx pgx.Tx, from, to core.UserID, state string) (bool, error) {
	tag, err := tx.Exec(ctx,
		`UPDATE friend_requests SET state = $3, answered_at = $4 WHERE requester = $1 AND requested = $2 AND state = 'open'`, from, to, state, s.now())
	return tag.RowsAffected() > 0, err
}

// ---------------------------------------------------------------- lists

// Person is somebody in a list of friends or of requests.
type Person struct {
	User              core.UserID
	Username, Picture string
	Rating            core.Rating
	Since             time.Time // friends; or when it was asked
}

// Friends returns a user's friends, the latest first, and the cursor of the next
// page, empty if there is none.
func (s *Store) Friends(ctx context.Context, user core.UserID, cursor string, limit int) ([]Person, string, error) {
	return s.people(ctx, user, cursor, limit,
		`SELECT u.id, u.username, u.profile_picture, u.rating_sum, u.rating_count, f.since FROM friends f JOIN users u ON u.id = f.friend_id
		 WHERE f.user_id = $1 AND u.deleted_at IS NULL AND (f.since, f.friend_id) < ($2, $3) ORDER BY f.since DESC, f.friend_id DESC LIMIT $4`)
}

// Requests returns whose open requests a user has, or with sent whom they asked,
// the latest first.
func (s *Store) Requests(ctx context.Context, user core.UserID, sent bool, cursor string, limit int) ([]Person, string, error) {
	if sent {
		return s.people(ctx, user, cursor, limit,
			`SELECT u.id, u.username, u.profile_picture, u.rating_sum, u.rating_count, r.created_at FROM friend_requests r JOIN users u ON u.id = r.requested
			 WHERE r.requester = $1 AND r.state = 'open' AND u.deleted_at IS NULL AND (r.created_at, r.requested) < ($2, $3) ORDER BY r.created_at DESC, r.requested DESC LIMIT $4`)
	}
	return s.people(ctx, user, cursor, limit,
		`SELECT u.id, u.username, u.profile_picture, u.rating_sum, u.rating_count, r.created_at FROM friend_requests r JOIN users u ON u.id = r.requester
		 WHERE r.requested = $1 AND r.state = 'open' AND u.deleted_at IS NULL AND (r.created_at, r.requester) < ($2, $3) ORDER BY r.created_at DESC, r.requester DESC LIMIT $4`)
}

func (s *Store) people(ctx context.Context, user core.UserID, cursor string, limit int, sql string) (list []Person, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, sql, user, after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Person, err error) {
			err = row.Scan(&p.User, &p.Username, &p.Picture, &p.Rating.Sum, &p.Rating.Count, &p.Since)
			return p, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list friends: %w", err)
	}
	list, next = core.Page(list, limit, func(p Person) core.Position { return core.Position{At: p.Since, ID: uuid.UUID(p.User)} })
	return list, next, nil
}

// ---------------------------------------------------------------- search

// Found is somebody who was found by name.
type Found struct {
	User              core.UserID
	Username, Picture string
	Relation          Relation

	term []byte
}

// Search returns those discoverable people whose name, or a word in it, begins
// with q, by name, and the cursor of the next page, empty if there is none. Nobody
// is found who blocked the viewer or is blocked by them, as of now: it is no
// stale read.
func (s *Store) Search(ctx context.Context, viewer core.UserID, q, cursor string, limit int) (list []Found, next string, err error) {
	from, below, err := core.SearchRange(q)
	if err != nil {
		return nil, "", err
	}
	after, err := core.ParsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		// Of several words of a name the first in order counts.
		rows, err := q.Query(ctx,
			`SELECT t.term, u.id, u.username, u.profile_picture,
			   CASE WHEN EXISTS (SELECT 1 FROM friends f WHERE f.user_id = $1 AND f.friend_id = u.id) THEN 'friends'
			     WHEN EXISTS (SELECT 1 FROM friend_requests r WHERE r.requester = $1 AND r.requested = u.id AND r.state = 'open') THEN 'sent'
			     WHEN EXISTS (SELECT 1 FROM friend_requests r WHERE r.requester = u.id AND r.requested = $1 AND r.state = 'open') THEN 'received'
			     ELSE 'none' END
			 FROM user_terms t JOIN users u ON u.id = t.user_id
			 WHERE t.term >= $2 AND t.term < $3 AND (t.term, t.user_id) > ($4, $5) AND t.user_id <> $1 AND u.deleted_at IS NULL
			   AND NOT EXISTS (SELECT 1 FROM user_terms o WHERE o.user_id = t.user_id AND o.term >= $2 AND o.term < t.term)
			   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = $1 AND b.blocked = t.user_id)
			   AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker = t.user_id AND b.blocked = $1)
			 ORDER BY t.term, t.user_id LIMIT $6`, viewer, from, below, after.Term, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Found, err error) {
			err = row.Scan(&f.term, &f.User, &f.Username, &f.Picture, &f.Relation)
			return f, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("search people: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = core.Place{Term: list[limit-1].term, ID: uuid.UUID(list[limit-1].User)}.Cursor()
	}
	return list, next, nil
}

// Renamed brings up to date by what a user is found, in the transaction that
// changed their name.
func Renamed(ctx context.Context, tx pgx.Tx, user core.UserID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM user_terms WHERE user_id = $1`, user); err != nil {
		return err
	}
	var name string
	err := tx.QueryRow(ctx, `SELECT u.username FROM users u JOIN friend_settings f ON f.user_id = u.id WHERE u.id = $1 AND f.discoverable AND u.deleted_at IS NULL`, user).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO user_terms (term, user_id) SELECT t.term, $2 FROM unnest($1::BYTEA[]) AS t (term)`, core.SearchTerms(name), user)
	return err
}
