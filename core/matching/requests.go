package matching

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

// facts are what is read before a request is decided.
type facts struct {
	open, known, parted, shown bool // the user's profile; the other's; no terms; shown to the user of late
	talking                    bool
	sent, received             *uuid.UUID // open requests
	declined                   bool       // of late
	waiting, today             int        // requests of the user's: open, and of a day
}

// verdict is what a request comes to.
type verdict int

const (
	nothing verdict = iota // it is so already
	ask
	accept // theirs
)

// decide says what a request comes to. It is the same answer for who is blocked,
// who isn't open, and nobody at all.
func (f facts) decide() (verdict, error) {
	switch {
	case !f.open:
		return nothing, ErrClosed
	case !f.known || f.parted:
		return nothing, ErrNobody
	case f.talking || f.sent != nil:
		return nothing, nil
	case f.received != nil:
		return accept, nil
	case !f.shown:
		return nothing, ErrNobody
	case f.declined:
		return nothing, ErrDeclined
	case f.waiting >= maxOpen:
		return nothing, ErrManyRequests
	case f.today >= maxDaily:
		return nothing, ErrRequestRate
	}
	return ask, nil
}

func (s *Store) facts(ctx context.Context, tx pgx.Tx, user, other core.UserID, now time.Time) (f facts, talk *uuid.UUID, err error) {
	err = tx.QueryRow(ctx,
		`SELECT EXISTS (SELECT 1 FROM matching_profiles WHERE user_id = $1 AND open),
		   EXISTS (SELECT 1 FROM matching_profiles p JOIN users u ON u.id = p.user_id WHERE p.user_id = $2 AND p.open AND u.deleted_at IS NULL),
		   EXISTS (SELECT 1 FROM matching_shown WHERE viewer = $1 AND shown = $2 AND shown_at > $4),
		   (SELECT max(CAST(id AS TEXT)) FROM talks WHERE (asker = $1 AND asked = $2 OR asker = $2 AND asked = $1) AND ended_at IS NULL),
		   (SELECT max(CAST(id AS TEXT)) FROM talk_requests WHERE asker = $1 AND asked = $2 AND state = 'open' AND expires_at > $3),
		   (SELECT max(CAST(id AS TEXT)) FROM talk_requests WHERE asker = $2 AND asked = $1 AND state = 'open' AND expires_at > $3),
		   EXISTS (SELECT 1 FROM talk_requests WHERE asker = $1 AND asked = $2 AND state = 'declined' AND answered_at > $5),
		   (SELECT count(*) FROM talk_requests WHERE asker = $1 AND state = 'open' AND expires_at > $3),
		   (SELECT count(*) FROM talk_requests WHERE asker = $1 AND created_at > $6)`,
		user, other, now, now.Add(-ShownFor-bucket), now.Add(-declinedFor), now.Add(-24*time.Hour)).
		Scan(&f.open, &f.known, &f.shown, &talk, &f.sent, &f.received, &f.declined, &f.waiting, &f.today)
	if err != nil {
		return f, nil, err
	}
	f.talking = talk != nil
	f.parted, err = s.cfg.Blocks.Parted(ctx, user, other)
	return f, talk, err
}

// Asked is what came of a request.
type Asked struct {
	ID   uuid.UUID
	Room string // of the talk, if there is one already
}

// Request asks somebody whom the user was shown of late to talk, or accepts if they
// asked first.
func (s *Store) Request(ctx context.Context, user, other core.UserID, say string) (a Asked, err error) {
	if user == other {
		return a, ErrSelf
	}
	say, ok := core.CleanText(say, 0, maxSay, true)
	if !ok {
		return a, ErrBadSay
	}
	err = s.change(ctx, "ask to talk", func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		f, talk, err := s.facts(ctx, tx, user, other, now)
		if err != nil {
			return err
		}
		v, err := f.decide()
		a = Asked{}
		switch {
		case err != nil:
			return err
		case v == nothing && talk != nil:
			a = Asked{*talk, Room(*talk)}
			return nil
		case v == nothing:
			a.ID = *f.sent
			return nil
		case v == accept:
			a = Asked{*f.received, Room(*f.received)}
			return s.begin(ctx, tx, pair{*f.received, other, user}, now)
		}
		// One whose time is over, and nobody has said so yet, is in the way.
		if _, err := s.expired(ctx, tx,
			`UPDATE talk_requests SET state = 'expired', answered_at = $3 WHERE asker = $1 AND asked = $2 AND state = 'open' AND expires_at <= $3 RETURNING id, asker, asked`,
			user, other, now); err != nil {
			return err
		}
		a.ID = uuid.New()
		p := pair{a.ID, user, other}
		if _, err := tx.Exec(ctx, `INSERT INTO talk_requests (id, asker, asked, say, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			p.ID, p.Asker, p.Asked, say, now, now.Add(requestLife)); err != nil {
			return err
		}
		if err := p.tell(ctx, tx, core.TalkRequested, user); err != nil {
			return err
		}
		s.count(ctx, "sent")
		return s.notify(ctx, tx, other, notifyRequest, user)
	})
	return a, err
}

// count counts what became of a request, once that is committed.
func (s *Store) count(ctx context.Context, outcome string) {
	db.AfterCommit(ctx, func(context.Context) { s.metrics.requests.WithLabelValues(outcome).Inc() })
}

func (s *Store) notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, about core.UserID) error {
	if s.cfg.Notify == nil {
		return nil
	}
	return s.cfg.Notify.Notify(ctx, tx, to, kind, map[string]any{"user_id": about.String()})
}

// Accept makes a talk of somebody's request to the user, and returns its room.
// Again is a success, as long as the talk goes on.
func (s *Store) Accept(ctx context.Context, user core.UserID, request uuid.UUID) (room string, err error) {
	err = s.change(ctx, "accept a talk", func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		p, state, err := s.request(ctx, tx, request, now)
		if err != nil {
			return err
		}
		if p.Asked != user {
			return ErrNoRequest
		}
		switch state {
		case "open":
			parted, err := s.cfg.Blocks.Parted(ctx, p.Asker, p.Asked)
			if err != nil {
				return err
			}
			if parted {
				return ErrNoRequest
			}
			return s.begin(ctx, tx, p, now)
		case "accepted":
			var on bool
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM talks WHERE id = $1 AND ended_at IS NULL)`, request).Scan(&on); err != nil || on {
				return err
			}
		}
		return ErrNoRequest
	})
	if err != nil {
		return "", err
	}
	return Room(request), nil
}

// request returns a request and its state: an open one whose time is over is
// expired, whether or not that has been written.
func (s *Store) request(ctx context.Context, tx pgx.Tx, id uuid.UUID, now time.Time) (p pair, state string, err error) {
	var expires time.Time
	p.ID = id
	err = tx.QueryRow(ctx, `SELECT asker, asked, state, expires_at FROM talk_requests WHERE id = $1`, id).Scan(&p.Asker, &p.Asked, &state, &expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, "", ErrNoRequest
	}
	if state == "open" && !now.Before(expires) {
		state = "expired"
	}
	return p, state, err
}

// begin makes a talk of a request.
func (s *Store) begin(ctx context.Context, tx pgx.Tx, p pair, now time.Time) error {
	if _, err := answer(ctx, tx, p.ID, "accepted", now); err != nil {
		return err
	}
	var most int
	var home string
	if err := tx.QueryRow(ctx,
		`SELECT greatest((SELECT count(*) FROM talks WHERE (asker = $1 OR asked = $1) AND ended_at IS NULL),
		   (SELECT count(*) FROM talks WHERE (asker = $2 OR asked = $2) AND ended_at IS NULL)), (SELECT home_region FROM users WHERE id = $2)`,
		p.Asker, p.Asked).Scan(&most, &home); err != nil {
		return err
	}
	if most >= maxTalks {
		return ErrManyTalks
	}
	if _, err := tx.Exec(ctx, `INSERT INTO talks (id, asker, asked, opened_at, expires_at) VALUES ($1, $2, $3, $4, $5)`,
		p.ID, p.Asker, p.Asked, now, now.Add(talkLife)); err != nil {
		return err
	}
	if s.cfg.Talks != nil {
		if err := s.cfg.Talks.Create(ctx, tx, Room(p.ID), []core.UserID{p.Asker, p.Asked}, home); err != nil {
			return fmt.Errorf("create the conversation: %w", err)
		}
	}
	if err := p.tell(ctx, tx, core.TalkAccepted, p.Asked); err != nil {
		return err
	}
	s.count(ctx, "accepted")
	return s.notify(ctx, tx, p.Asker, notifyAccepted, p.Asked)
}

// answer closes an open request; false: it isn't open.
func answer(ctx context.Context, tx pgx.Tx, id uuid.UUID, state string, now time.Time) (bool, error) {
	tag, err := tx.Exec(ctx, `UPDATE talk_requests SET state = $2, answered_at = $3 WHERE id = $1 AND state = 'open'`, id, state, now)
	return tag.RowsAffected() > 0, err
}

// Decline answers somebody's request. They may not ask again for a week.
func (s *Store) Decline(ctx context.Context, user core.UserID, request uuid.UUID) error {
	return s.refuse(ctx, "decline a talk", request, "declined", core.TalkDeclined, func(p pair) bool { return p.Asked == user }, user)
}

// Cancel takes one's own request back.
func (s *Store) Cancel(ctx context.Context, user core.UserID, request uuid.UUID) error {
	return s.refuse(ctx, "cancel a request", request, "canceled", core.TalkCanceled, func(p pair) bool { return p.Asker == user }, user)
}

// refuse closes a request without a talk. Again is a success.
func (s *Store) refuse(ctx context.Context, what string, request uuid.UUID, state, kind string, may func(pair) bool, by core.UserID) error {
	return s.change(ctx, what, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		p, was, err := s.request(ctx, tx, request, now)
		switch {
		case err != nil:
			return err
		case !may(p) || was != "open" && was != state:
			return ErrNoRequest
		case was == state:
			return nil
		}
		if _, err := answer(ctx, tx, request, state, now); err != nil {
			return err
		}
		s.count(ctx, state)
		return p.tell(ctx, tx, kind, by)
	})
}

// close ends the open requests of a user's, or those between two: what the user
// asked is canceled, what they were asked is declined, without keeping the other one
// from asking again when the user was the one who left.
func (s *Store) close(ctx context.Context, tx pgx.Tx, user, other core.UserID) error {
	now := s.now()
	ps, err := pairs(ctx, tx,
		`UPDATE talk_requests SET state = 'canceled', answered_at = $3
		 WHERE state = 'open' AND (asker = $1 AND ($2::UUID IS NULL OR asked = $2) OR asked = $1 AND ($2::UUID IS NULL OR asker = $2)) RETURNING id, asker, asked`,
		user, orNull(other), now)
	if err != nil {
		return err
	}
	for _, p := range ps {
		kind := core.TalkCanceled
		if p.Asked == user {
			kind = core.TalkDeclined
		}
		s.count(ctx, "canceled")
		if err := p.tell(ctx, tx, kind, user); err != nil {
			return err
		}
	}
	return nil
}

func orNull(id core.UserID) *uuid.UUID {
	if id == (core.UserID{}) {
		return nil
	}
	return new(uuid.UUID(id))
}

// ---------------------------------------------------------------- lists

// Request is an open request to talk.
type Request struct {
	ID                uuid.UUID
	User              core.UserID // the other one
	Username, Picture string
	Say               string
	Created, Expires  time.Time
	Rating            core.Rating
}

// Requests returns the open requests that a user got, or with sent those that they
// made, the latest first, and the cursor of the next page, empty if there is none.
func (s *Store) Requests(ctx context.Context, user core.UserID, sent bool, cursor string, limit int) (list []Request, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		sql := `SELECT r.id, u.id, u.username, u.profile_picture, r.say, r.created_at, r.expires_at FROM talk_requests r JOIN users u ON u.id = r.asker
			WHERE r.asked = $1 AND r.state = 'open' AND r.expires_at > $2 AND u.deleted_at IS NULL AND (r.created_at, r.id) < ($3, $4) ORDER BY r.created_at DESC, r.id DESC LIMIT $5`
		if sent {
			sql = `SELECT r.id, u.id, u.username, u.profile_picture, r.say, r.created_at, r.expires_at FROM talk_requests r JOIN users u ON u.id = r.asked
			WHERE r.asker = $1 AND r.state = 'open' AND r.expires_at > $2 AND u.deleted_at IS NULL AND (r.created_at, r.id) < ($3, $4) ORDER BY r.created_at DESC, r.id DESC LIMIT $5`
		}
		rows, err := q.Query(ctx, sql, user, s.now(), after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Request, err error) {
			err = row.Scan(&r.ID, &r.User, &r.Username, &r.Picture, &r.Say, &r.Created, &r.Expires)
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list talk requests: %w", err)
	}
	list, next = core.Page(list, limit, func(r Request) core.Position { return core.Position{At: r.Created, ID: r.ID} })
	users := make([]core.UserID, len(list))
	for i, r := range list {
		users[i] = r.User
	}
	ratings, err := s.ratings(ctx, users)
	for i := range list {
		list[i].Rating = ratings[list[i].User]
	}
	return list, next, err
}
