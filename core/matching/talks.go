package matching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// End ends a talk of the user's. Again is a success.
func (s *Store) End(ctx context.Context, user core.UserID, talk uuid.UUID) error {
	return s.change(ctx, "end a talk", func(ctx context.Context, tx pgx.Tx) error {
		p := pair{ID: talk}
		var at *time.Time
		err := tx.QueryRow(ctx, `SELECT asker, asked, ended_at FROM talks WHERE id = $1`, talk).Scan(&p.Asker, &p.Asked, &at)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && user != p.Asker && user != p.Asked:
			return ErrNoTalk
		case err != nil || at != nil:
			return err
		}
		return s.end(ctx, tx, p, user, s.now())
	})
}

// end ends a talk that goes on. by may be nobody.
func (s *Store) end(ctx context.Context, tx pgx.Tx, p pair, by core.UserID, now time.Time) error {
	if _, err := tx.Exec(ctx, `UPDATE talks SET ended_at = $2 WHERE id = $1`, p.ID, now); err != nil {
		return err
	}
	if s.cfg.Talks != nil {
		if err := s.cfg.Talks.End(ctx, tx, Room(p.ID), by); err != nil {
			return fmt.Errorf("end the conversation: %w", err)
		}
	}
	if s.cfg.Meetings != nil {
		if err := s.cfg.Meetings.Opened(ctx, tx, p.ID, []core.UserID{p.Asker, p.Asked}, now); err != nil {
			return fmt.Errorf("note the encounter: %w", err)
		}
	}
	how := "user"
	if by == (core.UserID{}) {
		how = "time"
	}
	db.AfterCommit(ctx, func(context.Context) { s.metrics.talks.WithLabelValues(how).Inc() })
	return p.tell(ctx, tx, core.TalkEnded, by)
}

// Parted ends what is between two people, one of whom (a) wants no more of the other
// one, in the transaction of that.
func (s *Store) Parted(ctx context.Context, tx pgx.Tx, a, b core.UserID) error {
	if err := s.close(ctx, tx, a, b); err != nil {
		return err
	}
	return s.endAll(ctx, tx, a, `SELECT id, asker, asked FROM talks WHERE (asker = $1 AND asked = $2 OR asker = $2 AND asked = $1) AND ended_at IS NULL`, a, b)
}

// Ended ends the talk of a room, if it is one of a talk that goes on, in the transaction
// in which the conversation ends: mostly since one of the two has left it.
func (s *Store) Ended(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error {
	id, err := uuid.Parse(strings.TrimPrefix(room, "nearby:"))
	if err != nil || Room(id) != room {
		return nil
	}
	return s.endAll(ctx, tx, by, `SELECT id, asker, asked FROM talks WHERE id = $1 AND ended_at IS NULL`, id)
}

// endAll ends the talks that a query finds.
func (s *Store) endAll(ctx context.Context, tx pgx.Tx, by core.UserID, sql string, args ...any) error {
	ps, err := pairs(ctx, tx, sql, args...)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if err := s.end(ctx, tx, p, by, s.now()); err != nil {
			return err
		}
	}
	return nil
}

// pairs returns what a query finds, in an order that all transactions keep.
func pairs(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]pair, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	ps, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p pair, err error) {
		err = row.Scan(&p.ID, &p.Asker, &p.Asked)
		return p, err
	})
	slices.SortFunc(ps, func(a, b pair) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return ps, err
}

// expired tells that the time of requests is over, which a statement has closed.
func (s *Store) expired(ctx context.Context, tx pgx.Tx, sql string, args ...any) (n int, err error) {
	ps, err := pairs(ctx, tx, sql, args...)
	if err != nil {
		return 0, err
	}
	for _, p := range ps {
		s.count(ctx, "expired")
		if err := p.tell(ctx, tx, core.TalkCanceled, core.UserID{}); err != nil {
			return 0, err
		}
	}
	return len(ps), nil
}

// batch is how many requests or talks are closed in one transaction.
const batch = 200

// Expire closes requests and talks whose time is over. It is called every minute, on
// one node; until then an open request whose time is over counts as closed.
func (s *Store) Expire(ctx context.Context) error {
	for {
		n := 0
		err := s.change(ctx, "expire talks", func(ctx context.Context, tx pgx.Tx) error {
			now := s.now()
			requests, err := s.expired(ctx, tx,
				`UPDATE talk_requests SET state = 'expired', answered_at = $1
				 WHERE id IN (SELECT id FROM talk_requests WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2) RETURNING id, asker, asked`, now, batch)
			if err != nil {
				return err
			}
			talks, err := pairs(ctx, tx, `SELECT id, asker, asked FROM talks WHERE ended_at IS NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2`, now, batch)
			if err != nil {
				return err
			}
			for _, p := range talks {
				if err := s.end(ctx, tx, p, core.UserID{}, now); err != nil {
					return err
				}
			}
			n = max(requests, len(talks))
			return nil
		})
		if err != nil || n < batch {
			return err
		}
	}
}

// Sweep deletes what was answered, ended or shown long ago.
func (s *Store) Sweep(ctx context.Context) error {
	return s.change(ctx, "sweep talks", func(ctx context.Context, tx pgx.Tx) error {
		for _, sql := range []string{
			`DELETE FROM talk_requests WHERE answered_at < $1`,
			`DELETE FROM talks WHERE ended_at < $1`,
			`DELETE FROM matching_shown WHERE shown_at < $1`,
		} {
			if _, err := tx.Exec(ctx, sql, s.now().Add(-keep)); err != nil {
				return err
			}
		}
		return nil
	})
}
