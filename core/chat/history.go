package chat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
)

// History returns up to limit messages of a room in ascending order: the
// newest ones below before, or the oldest ones above after. At most one of
// the two is set; with neither it is the newest of all. more says whether
// there are others in that direction. limit is held to 1..MaxPage.
func (c *Chat) History(ctx context.Context, room string, before, after uint64, limit int) (messages []Message, more bool, err error) {
	limit = min(max(limit, 1), MaxPage)
	sql, from := `
		SELECT m.room, m.number, m.id, m.sender, COALESCE(u.username, ''), m.client_id, m.body, m.sent_at
		FROM messages AS m LEFT JOIN users AS u ON u.id = m.sender
		WHERE m.room = $1 AND m.number < $2
		ORDER BY m.number DESC LIMIT $3`, before
	switch {
	case after > 0:
		sql, from = `
		SELECT m.room, m.number, m.id, m.sender, COALESCE(u.username, ''), m.client_id, m.body, m.sent_at
		FROM messages AS m LEFT JOIN users AS u ON u.id = m.sender
		WHERE m.room = $1 AND m.number > $2
		ORDER BY m.number LIMIT $3`, after
	case before == 0:
		from = math.MaxInt64
	}
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, sql, room, int64(min(from, math.MaxInt64)), limit+1)
		if err != nil {
			return err
		}
		messages, err = pgx.CollectRows(rows, scan)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("read messages: %w", err)
	}
	if more = len(messages) > limit; more {
		messages = messages[:limit]
	}
	if after == 0 {
		slices.Reverse(messages)
	}
	return messages, more, nil
}

// Last returns the number of the room's newest message, 0 if it has none.
func (c *Chat) Last(ctx context.Context, room string) (last uint64, err error) {
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT last_number FROM rooms WHERE room = $1`, room).Scan(&last)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read last message number: %w", err)
	}
	return last, nil
}
