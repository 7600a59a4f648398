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
	ErrNoAsk      = errs.New(errs.NotFound, "ask_not_found", "there is no such ask that waits for you")
	ErrAskOpen    = errs.New(errs.Conflict, "ask_open", "you have asked them already: wait for the answer")
	ErrBadAsk     = errs.New(errs.Invalid, "bad_ask", "an ask has a message of at most 200 characters, and wishes a minute to 30 days").At("body.expires_in")
	errAskedALot  = errs.New(errs.RateLimited, "rate_limited", "you ask too many people: wait a while")
	errAskedAgain = errs.New(errs.RateLimited, "rate_limited", "they answered not long ago: wait before you ask again")
)

const (
	askLife    = 24 * time.Hour // until it is answered
	askShare   = time.Hour      // what is wished for, by default
	maxAskLife = 30 * 24 * time.Hour
	askAgain   = 12 * time.Hour // after one that was declined
	asksADay   = 30             // of a user
)

// AskState is what became of an ask.
type AskState string

const (
	AskOpen      AskState = "open"
	AskAccepted  AskState = "accepted"
	AskDeclined  AskState = "declined"
	AskWithdrawn AskState = "withdrawn" // by who asked, or by a block
	AskExpired   AskState = "expired"
)

// Ask is somebody's question where somebody else is.
type Ask struct {
	ID           uuid.UUID
	Asker, Asked core.UserID
	AskerName    string
	AskedName    string
	Message      string
	Precision    grant.Precision // wished for
	Life         time.Duration   // wished for
	State        AskState
	CreatedAt    time.Time
	Expires      time.Time // of the ask
}

// AskDraft is what a new ask is made of.
type AskDraft struct {
	Asked     core.UserID
	Message   string
	Precision grant.Precision
	Life      time.Duration // 0: an hour
}

// Ask asks somebody who shares a group where they are, in the caller's
// transaction. Nothing is shared by it.
func (s *Store) Ask(ctx context.Context, tx pgx.Tx, user core.UserID, d AskDraft) (Ask, error) {
	if d.Life == 0 {
		d.Life = askShare
	}
	message, ok := core.CleanText(d.Message, 0, maxPurpose, true)
	if !ok || d.Life < minLife || d.Life > maxAskLife {
		return Ask{}, ErrBadAsk
	}
	if err := checkTerms(d.Precision, nil); err != nil {
		return Ask{}, err
	}
	if err := acquainted(ctx, tx, user, d.Asked); err != nil {
		return Ask{}, err
	}
	now := s.now()
	var today int
	var oldest, declined *time.Time
	var open bool
	if err := tx.QueryRow(ctx,
		`SELECT (SELECT count(*) FROM location_asks WHERE asker = $1 AND created_at > $3),
		   (SELECT min(created_at) FROM location_asks WHERE asker = $1 AND created_at > $3),
		   (SELECT max(answered_at) FROM location_asks WHERE asker = $1 AND asked = $2 AND state = 'declined'),
		   EXISTS (SELECT 1 FROM location_asks WHERE asker = $1 AND asked = $2 AND state = 'open' AND expires_at > $4)`,
		user, d.Asked, now.Add(-24*time.Hour), now).Scan(&today, &oldest, &declined, &open); err != nil {
		return Ask{}, err
	}
	switch {
	case open:
		return Ask{}, ErrAskOpen
	case declined != nil && now.Before(declined.Add(askAgain)):
		return Ask{}, errAskedAgain.After(declined.Add(askAgain).Sub(now))
	case today >= asksADay:
		return Ask{}, errAskedALot.After(oldest.Add(24 * time.Hour).Sub(now))
	}
	a := Ask{ID: uuid.New(), Asker: user, Asked: d.Asked, Message: message, Precision: d.Precision, Life: d.Life,
		State: AskOpen, CreatedAt: now, Expires: now.Add(askLife)}
	if _, err := tx.Exec(ctx,
		`INSERT INTO location_asks (id, asker, asked, message, precision, seconds, state, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, 'open', $7, $8)`,
		a.ID, user, d.Asked, message, int16(d.Precision), int64(d.Life.Seconds()), now, a.Expires); err != nil {
		return Ask{}, err
	}
	err := tx.QueryRow(ctx, `SELECT a.username, b.username FROM users a, users b WHERE a.id = $1 AND b.id = $2`, user, d.Asked).
		Scan(&a.AskerName, &a.AskedName)
	return a, err
}

// Accept answers an ask by a grant, as precise and long as the one who was asked
// wants, in the caller's transaction. After the commit the caller calls
// TellGrant.
func (s *Store) Accept(ctx context.Context, tx pgx.Tx, user core.UserID, ask uuid.UUID, p grant.Precision, life time.Duration) (Grant, error) {
	if err := checkTerms(p, nil); err != nil {
		return Grant{}, err
	}
	if err := checkLife(life); err != nil {
		return Grant{}, err
	}
	asker, message, err := s.answer(ctx, tx, user, ask, AskAccepted)
	if err != nil {
		return Grant{}, err
	}
	if err := bump(ctx, tx, user); err != nil {
		return Grant{}, err
	}
	message, _ = core.CleanText(message, 0, maxPurpose, false)
	return s.insert(ctx, tx, user, Draft{Audience: grant.Audience{Kind: grant.Person, ID: asker.String()}, Precision: p, Life: life, Purpose: message})
}

// Decline answers an ask by nothing.
func (s *Store) Decline(ctx context.Context, user core.UserID, ask uuid.UUID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, _, err := s.answer(ctx, tx, user, ask, AskDeclined)
		return err
	})
	if err != nil {
		return fmt.Errorf("decline: %w", err)
	}
	return nil
}

// answer ends an open ask to the user.
func (s *Store) answer(ctx context.Context, tx pgx.Tx, user core.UserID, ask uuid.UUID, to AskState) (asker core.UserID, message string, err error) {
	err = tx.QueryRow(ctx,
		`UPDATE location_asks SET state = $3, answered_at = $4 WHERE id = $1 AND asked = $2 AND state = 'open' AND expires_at > $4 RETURNING asker, message`,
		ask, user, to, s.now()).Scan(&asker, &message)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoAsk
	}
	return asker, message, err
}

// Withdraw takes one's own ask back.
func (s *Store) Withdraw(ctx context.Context, user core.UserID, ask uuid.UUID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE location_asks SET state = 'withdrawn', answered_at = $3 WHERE id = $1 AND asker = $2 AND state = 'open'`,
			ask, user, s.now())
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoAsk
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("withdraw ask: %w", err)
	}
	return nil
}

// Asks returns what others asked the user, or the user asked others, the latest
// first, and the cursor of the next page, empty if there is none.
func (s *Store) Asks(ctx context.Context, user core.UserID, mine bool, cursor string, limit int) (list []Ask, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT q.id, q.asker, q.asked, a.username, b.username, q.message, q.precision, q.seconds,
			   CASE WHEN q.state = 'open' AND q.expires_at <= $5 THEN 'expired' ELSE q.state END, q.created_at, q.expires_at
			 FROM location_asks q JOIN users a ON a.id = q.asker JOIN users b ON b.id = q.asked
			 WHERE ($2 AND q.asker = $1 OR NOT $2 AND q.asked = $1) AND (q.created_at, q.id) < ($3, $4)
			 ORDER BY q.created_at DESC, q.id DESC LIMIT $6`, user, mine, after.At, after.ID, s.now(), limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Ask, err error) {
			var p int16
			var seconds int64
			err = row.Scan(&a.ID, &a.Asker, &a.Asked, &a.AskerName, &a.AskedName, &a.Message, &p, &seconds, &a.State, &a.CreatedAt, &a.Expires)
			a.Precision, a.Life = grant.Precision(p), time.Duration(seconds)*time.Second
			a.CreatedAt, a.Expires = a.CreatedAt.UTC(), a.Expires.UTC()
			return a, err
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list asks: %w", err)
	}
	list, next = core.Page(list, limit, func(a Ask) core.Position { return core.Position{At: a.CreatedAt, ID: a.ID} })
	return list, next, nil
}
