package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/jobs"
)

// Who is away is told that there is a message: of any in a conversation that is no
// group's, and in a group of one that mentions them. Whether somebody is away shows by
// what their devices have a few seconds later, so a job looks then. It is enqueued with
// the message, in the same trip.

// MissedJob is the kind of the job that Missed does.
const MissedJob = "chat.missed"

// missedEvery is both how long messages of a room are looked at as one, and how long
// after that.
const missedEvery = 5 * time.Second

// Kinds of notifications, with room, number and user_id.
const (
	notifyMessage = "message" // the first that somebody doesn't have
	notifyMention = "mention"
)

// missed is what the job gets.
type missed struct {
	Room   string      `json:"room"`
	From   time.Time   `json:"from,omitzero"`   // of messages sent in the five seconds from then on, or
	Number uint64      `json:"number,omitzero"` // of this one,
	Users  []uuid.UUID `json:"users,omitempty"` // these, whom it mentions
	Edited bool        `json:"edited,omitzero"` // since it was edited: that they have it says nothing
}

// noteMissed has messages that are stored now looked after later. There is one job of
// a room for some seconds, however many messages come.
func (c *Chat) noteMissed(ctx context.Context, b *pgx.Batch, room string, now time.Time) {
	if _, group := core.GroupOf(room); group || c.cfg.Notify == nil {
		return
	}
	from := now.Truncate(missedEvery)
	// A payload of a text and a time can be written.
	_ = jobs.EnqueueLater(ctx, b, jobs.Job{
		Kind: MissedJob, Key: room + " " + from.Format(time.RFC3339), Payload: missed{Room: room, From: from}, RunAt: from.Add(2 * missedEvery),
	})
}

// noteMentions does it for whom a message of a group mentions.
func (c *Chat) noteMentions(ctx context.Context, tx pgx.Tx, m Message, users []core.UserID, edited bool) error {
	var ids []uuid.UUID
	for _, u := range users {
		if u != m.Sender {
			ids = append(ids, uuid.UUID(u))
		}
	}
	if _, group := core.GroupOf(m.Room); !group || c.cfg.Notify == nil || len(ids) == 0 {
		return nil
	}
	return jobs.Enqueue(ctx, tx, jobs.Job{
		Kind: MissedJob, Payload: missed{Room: m.Room, Number: m.Number, Users: ids, Edited: edited}, RunAt: c.now().Add(missedEvery),
	})
}

// Missed does a MissedJob. It may be done twice: nobody is told twice of a message.
func (c *Chat) Missed(ctx context.Context, w jobs.Work) error {
	var what missed
	if err := w.Decode(&what); err != nil {
		return err
	}
	return c.tellMissed(ctx, what)
}

func (c *Chat) tellMissed(ctx context.Context, what missed) error {
	err := c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if what.Number > 0 {
			return c.tellMentioned(ctx, tx, what)
		}
		return c.tellAway(ctx, tx, what)
	})
	if err != nil {
		return fmt.Errorf("tell who missed a message: %w", err)
	}
	return nil
}

// whoMissed are those people of a conversation, who haven't muted it, whose first
// message that they don't have is of some seconds: if it is an older one, they were told
// then.
const whoMissed = `
	SELECT p.user_id, f.number, f.sender
	FROM conversations AS c JOIN conversation_people AS p ON p.room = c.room AND p.left_at IS NULL
	CROSS JOIN LATERAL (
		SELECT m.number, m.sender, m.sent_at FROM messages AS m
		WHERE m.room = p.room AND m.sender <> p.user_id AND m.deleted_at IS NULL
		AND m.number > coalesce((SELECT max(r.delivered) FROM receipts AS r WHERE r.room = p.room AND r.user_id = p.user_id), 0)
		ORDER BY m.number LIMIT 1) AS f
	WHERE c.room = $1 AND f.sent_at >= $2 AND f.sent_at < $3
	AND NOT EXISTS (SELECT 1 FROM conversation_mutes AS x WHERE x.room = p.room AND x.user_id = p.user_id AND x.until > $4)
	AND NOT EXISTS (SELECT 1 FROM blocks AS b
		WHERE c.pair AND (b.blocker = p.user_id AND b.blocked = f.sender OR b.blocker = f.sender AND b.blocked = p.user_id))`

func (c *Chat) tellAway(ctx context.Context, tx pgx.Tx, what missed) error {
	rows, err := tx.Query(ctx, whoMissed, what.Room, what.From, what.From.Add(missedEvery), c.now())
	if err != nil {
		return err
	}
	type away struct {
		user, sender core.UserID
		number       uint64
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a away, err error) {
		return a, row.Scan(&a.user, &a.number, &a.sender)
	})
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := c.tell(ctx, tx, a.user, notifyMessage, what.Room, a.number, a.sender); err != nil {
			return err
		}
	}
	return nil
}

func (c *Chat) tellMentioned(ctx context.Context, tx pgx.Tx, what missed) error {
	m, err := one(ctx, tx, core.UserID{}, byNumber, what.Room, what.Number)
	if errors.Is(err, ErrNoMessage) || c.cfg.Audience == nil {
		return nil
	}
	if err != nil {
		return err
	}
	users := slices.DeleteFunc(m.Mentions, func(u core.UserID) bool { return !slices.Contains(what.Users, uuid.UUID(u)) })
	if len(users) == 0 { // edited or deleted meanwhile
		return nil
	}
	heard, err := c.cfg.Audience(ctx, tx, what.Room, users)
	if err != nil {
		return err
	}
	for _, h := range heard {
		var has, parted bool
		if err := tx.QueryRow(ctx, `SELECT coalesce((SELECT max(delivered) FROM receipts WHERE room = $1 AND user_id = $2), 0) >= $3,
			EXISTS (SELECT 1 FROM blocks WHERE blocker = $2 AND blocked = $4 OR blocker = $4 AND blocked = $2)`,
			what.Room, h.User, int64(what.Number), m.Sender).Scan(&has, &parted); err != nil {
			return err
		}
		if has && !what.Edited || parted || h.Muted {
			continue
		}
		if err := c.tell(ctx, tx, h.User, notifyMention, what.Room, what.Number, m.Sender); err != nil {
			return err
		}
	}
	return nil
}

func (c *Chat) tell(ctx context.Context, tx pgx.Tx, to core.UserID, kind, room string, number uint64, sender core.UserID) error {
	data := map[string]any{"room": room, "number": number, "user_id": sender.String()}
	if group, ok := core.GroupOf(room); ok {
		data["group_id"] = group.String()
	}
	return c.cfg.Notify.NotifyOnce(ctx, tx, to, kind, fmt.Sprint(kind, " ", room, " ", number), data)
}
