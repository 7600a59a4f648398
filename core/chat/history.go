package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// ErrNoMessage is for a number that no message of the room has.
var ErrNoMessage = errs.New(errs.NotFound, "message_not_found", "there is no such message in this room")

// full are a message's columns as scanFull reads them, for the viewer $1.
const full = `
	m.room, m.number, m.id, m.sender, COALESCE(u.username, ''), m.client_id, m.body, m.sent_at, m.reply_to,
	m.edited_at, m.deleted_at IS NOT NULL, m.pinned_at IS NOT NULL, m.change,
	CASE WHEN m.parts THEN (SELECT array_agg(x.user_id ORDER BY x.user_id) FROM message_mentions AS x
		WHERE x.room = m.room AND x.number = m.number) END,
	CASE WHEN m.parts THEN (SELECT json_agg(json_build_object('id', a.id, 'name', a.name, 'type', a.type, 'size', a.size,
			'width', a.width, 'height', a.height, 'thumbnail', a.thumbnail) ORDER BY a.place)
		FROM message_attachments AS a WHERE a.room = m.room AND a.number = m.number) END,
	CASE WHEN m.change > 0 THEN (SELECT array_agg(CAST(r.user_id AS TEXT) || r.emoji ORDER BY r.reacted_at, r.user_id, r.emoji)
		FROM message_reactions AS r WHERE r.room = m.room AND r.number = m.number) END,
	EXISTS (SELECT 1 FROM message_hidden AS h WHERE h.user_id = $1 AND h.room = m.room AND h.number = m.number)
	FROM messages AS m LEFT JOIN users AS u ON u.id = m.sender`

func scanFull(row pgx.CollectableRow) (m Message, err error) {
	var sender uuid.UUID
	var edited *time.Time
	var mentions []uuid.UUID
	var files []byte
	var reactions []string
	if err := row.Scan(&m.Room, &m.Number, &m.ID, &sender, &m.SenderName, &m.ClientID, &m.Body, &m.SentAt, &m.ReplyTo,
		&edited, &m.Deleted, &m.Pinned, &m.Change, &mentions, &files, &reactions, &m.Hidden); err != nil {
		return m, err
	}
	m.Sender, m.SentAt = core.UserID(sender), m.SentAt.UTC()
	if edited != nil {
		m.EditedAt = edited.UTC()
	}
	if m.Hidden {
		m.Body, m.EditedAt, m.Pinned = "", time.Time{}, false
		return m, nil
	}
	for _, id := range mentions {
		m.Mentions = append(m.Mentions, core.UserID(id))
	}
	if files != nil {
		if err := json.Unmarshal(files, &m.Attachments); err != nil {
			return m, fmt.Errorf("attachments: %w", err)
		}
	}
	for _, r := range reactions { // a UUID, and the emoji
		id, err := uuid.Parse(r[:36])
		if err != nil {
			return m, fmt.Errorf("reactions: %w", err)
		}
		emoji := r[36:]
		i := slices.IndexFunc(m.Reactions, func(r Reaction) bool { return r.Emoji == emoji })
		if i < 0 {
			i = len(m.Reactions)
			m.Reactions = append(m.Reactions, Reaction{Emoji: emoji})
		}
		m.Reactions[i].Users = append(m.Reactions[i].Users, core.UserID(id))
	}
	return m, nil
}

// What one reads.
const (
	byNumber   = `SELECT ` + full + ` WHERE m.room = $2 AND m.number = $3`
	byClientID = `SELECT ` + full + ` WHERE m.room = $2 AND m.sender = $3 AND m.client_id = $4`
)

// one reads a message; the arguments begin with $2.
func one(ctx context.Context, q db.Querier, viewer core.UserID, sql string, args ...any) (Message, error) {
	rows, err := q.Query(ctx, sql, append([]any{viewer}, args...)...)
	if err != nil {
		return Message{}, err
	}
	m, err := pgx.CollectExactlyOneRow(rows, scanFull)
	if errors.Is(err, pgx.ErrNoRows) {
		return Message{}, ErrNoMessage
	}
	return m, err
}

// Get returns a message as a viewer may see it.
func (c *Chat) Get(ctx context.Context, viewer core.UserID, room string, number uint64) (m Message, err error) {
	if number > math.MaxInt64 {
		return Message{}, ErrNoMessage
	}
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		m, err = one(ctx, q, viewer, byNumber, room, number)
		return err
	})
	if err != nil {
		return Message{}, fmt.Errorf("read message: %w", err)
	}
	return m, nil
}

// Page says which messages of a room are asked for: the newest below Before, the
// oldest above After, those around a number, or those that were revised after a
// change; the newest of all if none of the four is set. At most one is.
type Page struct {
	Before, After, Around uint64
	Revised               bool // those revised after ChangedAfter, which may be 0
	ChangedAfter          uint64
	Limit                 int // held to 1..MaxPage
}

// Listing is a page of messages in ascending order of number; of those revised after
// a change, as they are now, in ascending order of change.
type Listing struct {
	Messages []Message
	More     bool // in the direction that was asked for; around a number: before it
	MoreNew  bool // around a number: after it
}

// History returns messages of a room as a viewer may see them: those that they
// deleted for themself have their places, and nothing in them.
func (c *Chat) History(ctx context.Context, viewer core.UserID, room string, p Page) (l Listing, err error) {
	p.Limit = min(max(p.Limit, 1), MaxPage)
	if p.Around > 0 {
		half := max(p.Limit/2, 1)
		after := p.Around - 1
		before, err := c.History(ctx, viewer, room, Page{Before: min(p.Around, math.MaxInt64), Limit: half})
		if err != nil || after >= math.MaxInt64 {
			return before, err
		}
		rest, err := c.page(ctx, viewer, room, above, after, max(p.Limit-half, 1))
		return Listing{slices.Concat(before.Messages, rest.Messages), before.More, rest.More}, err
	}
	switch {
	case p.Revised:
		return c.page(ctx, viewer, room, revised, p.ChangedAfter, p.Limit)
	case p.After > 0:
		return c.page(ctx, viewer, room, above, p.After, p.Limit)
	case p.Before == 0:
		p.Before = math.MaxInt64
	}
	l, err = c.page(ctx, viewer, room, below, p.Before, p.Limit)
	slices.Reverse(l.Messages)
	return l, err
}

// What a page is of.
const (
	below   = `SELECT ` + full + ` WHERE m.room = $2 AND m.number < $3 ORDER BY m.number DESC LIMIT $4`
	above   = `SELECT ` + full + ` WHERE m.room = $2 AND m.number > $3 ORDER BY m.number LIMIT $4`
	revised = `SELECT ` + full + ` WHERE m.room = $2 AND m.change > $3 ORDER BY m.change LIMIT $4`
)

func (c *Chat) page(ctx context.Context, viewer core.UserID, room, sql string, from uint64, limit int) (l Listing, err error) {
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, sql, viewer, room, int64(min(from, math.MaxInt64)), limit+1)
		if err != nil {
			return err
		}
		l.Messages, err = pgx.CollectRows(rows, scanFull)
		return err
	})
	if err != nil {
		return Listing{}, fmt.Errorf("read messages: %w", err)
	}
	if l.More = len(l.Messages) > limit; l.More {
		l.Messages = l.Messages[:limit]
	}
	return l, nil
}

// Pinned returns a room's pinned messages, the one that was pinned last first: at
// most MaxPins.
func (c *Chat) Pinned(ctx context.Context, viewer core.UserID, room string) (list []Message, err error) {
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT `+full+` WHERE m.room = $2 AND m.pinned_at IS NOT NULL ORDER BY m.pinned_at DESC, m.number DESC LIMIT $3`, viewer, room, MaxPins)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanFull)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read pinned messages: %w", err)
	}
	return slices.DeleteFunc(list, func(m Message) bool { return m.Hidden }), nil
}

// Edition is what a message said at a time.
type Edition struct {
	Body string
	At   time.Time
}

// Edits returns what a message said before, the first first; without what it says
// now. Of one that was deleted nothing is left.
func (c *Chat) Edits(ctx context.Context, room string, number uint64) (list []Edition, err error) {
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT body, written_at FROM message_edits WHERE room = $1 AND number = $2 ORDER BY change`, room, int64(min(number, math.MaxInt64)))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Edition, err error) {
			err = row.Scan(&e.Body, &e.At)
			e.At = e.At.UTC()
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read edits: %w", err)
	}
	return list, nil
}

// Last returns the numbers of the room's newest message and of its last revision; 0
// for none.
func (c *Chat) Last(ctx context.Context, room string) (number, change uint64, err error) {
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT last_number, last_change FROM rooms WHERE room = $1`, room).Scan(&number, &change)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, 0, nil
	case err != nil:
		return 0, 0, fmt.Errorf("read last numbers: %w", err)
	}
	return number, change, nil
}
