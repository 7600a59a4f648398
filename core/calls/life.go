package calls

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

const (
	// SeenEvery is how often a media server is to say which calls go on at it.
	SeenEvery = 30 * time.Second
	// stale is when one that says nothing counts as gone.
	stale = 3 * time.Minute
	// DueEvery is how often EndDue is called.
	DueEvery = time.Minute
	// keep is how long it is known that there was a call.
	keep = 30 * 24 * time.Hour
)

// Seen tells that calls go on at this node, and returns those as they are now; of an id that
// nobody knows nothing comes back. A node says so as soon as somebody is in a call there,
// and then every SeenEvery: what it doesn't say for three minutes it has forgotten.
func (s *Store) Seen(ctx context.Context, ids []uuid.UUID) (list []Call, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx,
			`INSERT INTO call_servers (call_id, node, seen_at) SELECT id, $2, $3 FROM calls WHERE id = ANY($1) AND ended_at IS NULL
			 ON CONFLICT (call_id, node) DO UPDATE SET seen_at = excluded.seen_at`, ids, s.cfg.Node, s.now())
		if err != nil {
			return err
		}
		rows.Close()
		if rows, err = tx.Query(ctx, `SELECT `+columns+` FROM calls WHERE id = ANY($1)`, ids); err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("see calls: %w", err)
	}
	return list, nil
}

// Idle tells that nobody is in a call at this node any more, nor elsewhere, as far as it
// knows. The call ends, unless another node says that it goes on.
func (s *Store) Idle(ctx context.Context, id uuid.UUID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM call_servers WHERE call_id = $1 AND node = $2`, id, s.cfg.Node); err != nil {
			return err
		}
		c, err := one(tx.Query(ctx,
			`SELECT `+columns+` FROM calls WHERE id = $1 AND ended_at IS NULL
			 AND NOT EXISTS (SELECT 1 FROM call_servers s WHERE s.call_id = calls.id AND s.seen_at > $2)`, id, s.now().Add(-stale)))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.end(ctx, tx, c, core.UserID{})
	})
	if err != nil {
		return fmt.Errorf("leave a call idle: %w", err)
	}
	return nil
}

// Joined notes that somebody takes part in a call, so that they have not missed it.
func (s *Store) Joined(ctx context.Context, id uuid.UUID, user core.UserID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO call_people (call_id, user_id) SELECT c.id, u.id FROM calls c, users u
			WHERE c.id = $1 AND u.id = $2 AND u.deleted_at IS NULL ON CONFLICT (call_id, user_id) DO NOTHING`, id, user)
		return err
	})
	if err != nil {
		return fmt.Errorf("note who joined a call: %w", err)
	}
	return nil
}

// Cut ends a call for everybody, for an operator. ErrNoCall; again is a success.
func (s *Store) Cut(ctx context.Context, id uuid.UUID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		c, err := one(tx.Query(ctx, `SELECT `+columns+` FROM calls WHERE id = $1`, id))
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoCall
		}
		if err != nil {
			return err
		}
		return s.end(ctx, tx, c, core.UserID{})
	})
	if err != nil {
		return fmt.Errorf("cut a call: %w", err)
	}
	return nil
}

// atOnce is how many calls are looked for at a time.
const atOnce = 200

// EndDue ends calls of which no media server has said anything for long, and forgets
// those of a month ago. It can be called at any time, by several at once.
func (s *Store) EndDue(ctx context.Context) error {
	for {
		var due []uuid.UUID
		dead := s.now().Add(-stale)
		err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := q.Query(ctx,
				`SELECT id FROM calls WHERE ended_at IS NULL AND started_at <= $1
				 AND NOT EXISTS (SELECT 1 FROM call_servers s WHERE s.call_id = calls.id AND s.seen_at > $1) ORDER BY started_at LIMIT $2`, dead, atOnce)
			if err != nil {
				return err
			}
			due, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		})
		if err != nil {
			return fmt.Errorf("end stale calls: %w", err)
		}
		var failed error
		for _, id := range due { // one that fails keeps no other from its end
			err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				c, err := one(tx.Query(ctx,
					`SELECT `+columns+` FROM calls WHERE id = $1 AND ended_at IS NULL
					 AND NOT EXISTS (SELECT 1 FROM call_servers s WHERE s.call_id = calls.id AND s.seen_at > $2)`, id, dead))
				if errors.Is(err, pgx.ErrNoRows) {
					return nil
				}
				if err != nil {
					return err
				}
				return s.end(ctx, tx, c, core.UserID{})
			})
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("end stale call %s: %w", id, err))
			}
		}
		if failed != nil || len(due) < atOnce {
			return errors.Join(failed, s.forget(ctx))
		}
	}
}

func (s *Store) forget(ctx context.Context) error {
	for {
		var n int64
		err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `DELETE FROM calls WHERE id IN (SELECT id FROM calls WHERE ended_at <= $1 ORDER BY ended_at LIMIT $2)`, s.now().Add(-keep), atOnce)
			n = tag.RowsAffected()
			return err
		})
		if err != nil {
			return fmt.Errorf("forget calls: %w", err)
		}
		if n < atOnce {
			return nil
		}
	}
}

// end ends a call; one that is over stays as it is. by is nobody where it ended by itself.
func (s *Store) end(ctx context.Context, tx pgx.Tx, c Call, by core.UserID) error {
	if c.Ended() {
		return nil
	}
	c, err := one(tx.Query(ctx, `UPDATE calls SET ended_at = $2, version = version + 1 WHERE id = $1 RETURNING `+columns, c.ID, s.now()))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM call_servers WHERE call_id = $1`, c.ID); err != nil {
		return err
	}
	if err := s.missed(ctx, tx, c); err != nil {
		return err
	}
	return s.tell(ctx, tx, core.CallEnded, c, by)
}

// missed tells the one who was called, of two people, and did not come.
func (s *Store) missed(ctx context.Context, tx pgx.Tx, c Call) error {
	if s.cfg.Notify == nil || c.StartedBy == nil {
		return nil
	}
	other, ok := core.DirectOther(*c.StartedBy, c.Room)
	if !ok {
		return nil
	}
	var took bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM call_people WHERE call_id = $1 AND user_id = $2)`, c.ID, other).Scan(&took); err != nil || took {
		return err
	}
	return s.cfg.Notify.NotifyOnce(ctx, tx, other, "call_missed", "call:"+c.ID.String(), map[string]any{
		"room": c.Room, "user_id": c.StartedBy.String(), "session_id": c.ID.String(), "type": string(c.Type),
	})
}
