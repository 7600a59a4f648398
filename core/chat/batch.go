package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// key is what a message is known by within its room.
type key struct {
	sender   core.UserID
	clientID string
}

// distinct returns what of a batch goes to the database: the same client id may
// come twice in it, and the first one counts.
func distinct(batch []*pending) []*pending {
	seen := make(map[key]bool, len(batch))
	var ps []*pending
	for _, p := range batch {
		if k := (key{p.Sender, p.ClientID}); !seen[k] {
			seen[k] = true
			ps = append(ps, p)
		}
	}
	return ps
}

// commit stores a batch, and keeps trying as long as that may help.
func (c *Chat) commit(room string, batch []*pending) ([]answer, error) {
	ctx, cancel := context.WithTimeout(behind(c.ctx, batch), c.patience)
	defer cancel()
	began := time.Now()
	attempt, news := c.tryNew, true
	if slices.ContainsFunc(batch, func(p *pending) bool { return p.ReplyTo != 0 }) {
		attempt, news = c.try, false
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		answers, err := attempt(ctx, room, batch)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", db.ErrAmbiguous, err)
		}
		again := errors.Is(err, errOutsider) || errors.Is(err, db.ErrAmbiguous) || errors.Is(err, db.ErrContended) || errors.Is(err, db.ErrUnavailable) ||
			db.Violates(err, "messages_client_id_unique") // stored elsewhere meanwhile: next time it is seen
		if !again {
			c.metrics.committed(began, answers)
			return answers, err
		}
		attempt = c.try // looks for what is there
		if news {
			if news = false; db.Violates(err, "messages_client_id_unique") || errors.Is(err, errOutsider) {
				continue // something was sent again, or somebody is not in the room
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// tryNew stores a batch of which it takes for granted that all is new and answers
// nothing, as nearly always, in one round trip: to look for what is there costs the
// database more than to store what isn't.
func (c *Chat) tryNew(ctx context.Context, room string, batch []*pending) ([]answer, error) {
	d := draftsOf(batch)
	now := time.Now().UTC().Truncate(time.Microsecond)
	count := int64(len(d.ns))
	var last int64
	err := c.db.InOneTrip(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(b *pgx.Batch) {
		sql, _, in := c.writers(room, d.senders)
		b.Queue(sql, append([]any{room, now, d.ns, d.ids, d.senders, d.clients, d.bodies, count}, in...)...).QueryRow(func(row pgx.Row) error {
			err := row.Scan(&last)
			if errors.Is(err, pgx.ErrNoRows) {
				return errOutsider
			}
			return err
		})
		c.noteMissed(ctx, b, room, now)
	})
	if err != nil {
		return nil, fmt.Errorf("store new messages: %w", err)
	}
	messages := make([]Message, 0, count)
	for i, p := range distinct(batch) {
		messages = append(messages, Message{Room: room, Number: uint64(last - count + 1 + int64(i)), ID: p.id, Sender: p.Sender,
			ClientID: p.ClientID, Body: p.Body, SentAt: now})
	}
	return answered(batch, messages), nil
}

// storeNew stores messages that are new, the n-th (from 0) with the n-th next
// number, and answers with the last one's. One that is there breaks
// messages_client_id_unique, and with it the whole statement: no number is lost. If anybody
// of a batch is not in the room, nothing is stored and nothing answered. It follows one of
// the beginnings below.
const storeNew = `, counter AS (
		INSERT INTO rooms (room, last_number)
		SELECT $1::TEXT, $8::BIGINT WHERE (SELECT count(*) FROM writers) = cardinality($9::UUID[])
		ON CONFLICT (room) DO UPDATE SET last_number = rooms.last_number + excluded.last_number
		RETURNING last_number
	), stored AS (
		INSERT INTO messages (room, number, id, sender, client_id, body, sent_at)
		SELECT $1, c.last_number - $8 + 1 + d.n, d.id, d.sender, d.client_id, d.body, $2
		FROM counter AS c CROSS JOIN unnest($3::BIGINT[], $4::UUID[], $5::UUID[], $6::TEXT[], $7::TEXT[]) AS d (n, id, sender, client_id, body)
	)
	SELECT last_number FROM counter`

// errOutsider is for a batch with a message of somebody who is not in the room.
var errOutsider = errors.New("somebody of the batch is not in the room")

// Who of the senders $9 is in the room and may write there. That was looked at when they
// sent, but then their messages waited. So it is looked at again in the statement that
// stores them, under a lock for which leaving, being removed, a block or an end of the
// conversation waits: what is stored is stored before that, or not at all.
//
// Of a group it is each sender's own row, which goes with the membership. Of others it
// is the conversation's, since all these add to its version; the subquery sees that as of
// the statement's beginning, so one that changed while the lock was waited for is none.
const (
	writersAny   = `writers AS (SELECT u AS user_id FROM unnest($9::UUID[]) AS s (u))`
	writersGroup = `writers AS (
		SELECT user_id FROM group_members WHERE group_id = $10::UUID AND user_id = ANY($9::UUID[]) FOR KEY SHARE
	)`
	writersTalk = `talk AS (
		SELECT c.pair FROM conversations AS c WHERE c.room = $1 AND c.ended_at IS NULL
		AND c.version = (SELECT version FROM conversations WHERE room = $1) FOR SHARE
	), writers AS (
		SELECT p.user_id FROM talk AS t CROSS JOIN conversation_people AS p
		WHERE p.room = $1 AND p.left_at IS NULL AND p.user_id = ANY($9::UUID[]) AND NOT (t.pair AND EXISTS (
			SELECT 1 FROM conversation_people AS o JOIN blocks AS b ON b.blocker = p.user_id AND b.blocked = o.user_id OR b.blocker = o.user_id AND b.blocked = p.user_id
			WHERE o.room = $1))
	)`
)

// writers returns the statements that store, new messages and any, and what they need
// besides.
func (c *Chat) writers(room string, senders []pgtype.UUID) (ofNew, ofAny string, args []any) {
	var each pgtype.FlatArray[pgtype.UUID]
	for _, s := range senders {
		if !slices.Contains(each, s) {
			each = append(each, s)
		}
	}
	group, ok := core.GroupOf(room)
	switch {
	case !c.cfg.Members:
		return `WITH ` + writersAny + storeNew, `WITH ` + writersAny + store, []any{each}
	case ok:
		return `WITH ` + writersGroup + storeNew, `WITH ` + writersGroup + store, []any{each, group}
	}
	return `WITH ` + writersTalk + storeNew, `WITH ` + writersTalk + store, []any{each}
}

// drafts are what a batch has that may be new, in columns.
type drafts struct {
	ns           []int64
	ids, senders pgtype.FlatArray[pgtype.UUID] // uuid.UUID would go through a string
	clients      []string
	bodies       []string
	replies      []int64
}

func draftsOf(batch []*pending) (d drafts) {
	for i, p := range distinct(batch) {
		d.ns = append(d.ns, int64(i))
		d.ids = append(d.ids, pgtype.UUID{Bytes: p.id, Valid: true})
		d.senders = append(d.senders, pgtype.UUID{Bytes: p.Sender, Valid: true})
		d.clients = append(d.clients, p.ClientID)
		d.bodies = append(d.bodies, p.Body)
		d.replies = append(d.replies, int64(p.ReplyTo))
	}
	return d
}

// try stores a batch in one round trip.
func (c *Chat) try(ctx context.Context, room string, batch []*pending) ([]answer, error) {
	d := draftsOf(batch)
	var messages []Message
	opts := pgx.TxOptions{IsoLevel: pgx.ReadCommitted} // see the package comment
	err := c.db.InOneTrip(ctx, opts, func(b *pgx.Batch) {
		now := time.Now().UTC().Truncate(time.Microsecond)
		_, sql, in := c.writers(room, d.senders)
		b.Queue(sql, append([]any{room, now, d.ns, d.ids, d.senders, d.clients, d.bodies, d.replies}, in...)...).Query(func(rows pgx.Rows) (err error) {
			messages, err = pgx.CollectRows(rows, scan)
			return err
		})
		c.noteMissed(ctx, b, room, now)
	})
	if err != nil {
		return nil, fmt.Errorf("store messages: %w", err)
	}
	return answered(batch, messages), nil
}

// answered finds each draft's message. One without a message is somebody's who is not in
// the room, or answers what isn't there: store leaves it out.
func answered(batch []*pending, messages []Message) []answer {
	there := make(map[key]Message, len(messages))
	var in []core.UserID
	for _, m := range messages {
		if m.Number == 0 {
			in = append(in, m.Sender)
			continue
		}
		there[key{m.Sender, m.ClientID}] = m
	}
	answers := make([]answer, len(batch))
	for i, p := range batch {
		m, ok := there[key{p.Sender, p.ClientID}]
		if !ok {
			if answers[i].err = ErrNoReplyTo; !slices.Contains(in, p.Sender) {
				answers[i].err = ErrNotMember
			}
			continue
		}
		// Our own id on a row: this attempt stored it, or one before it that
		// did commit.
		answers[i] = answer{message: m, stored: m.ID == p.id}
	}
	return answers
}

// store is what a batch needs of the database, and answers with the message of
// each draft, the one that was there or the new one, and with a row of number 0 for each
// sender who may write. It follows one of the beginnings above.
//
// A statement of READ COMMITTED sees the tables as of its beginning, except for
// the row that ON CONFLICT finds: that is waited for and taken as it is then.
// So the counter is right, and "known" may miss what was committed while this
// statement waited. Such a message breaks messages_client_id_unique, and with
// it the whole statement: no number is lost.
const store = `, draft AS (
		SELECT d.n, d.id, d.sender, d.client_id, d.body, d.reply_to
		FROM unnest($3::BIGINT[], $4::UUID[], $5::UUID[], $6::TEXT[], $7::TEXT[], $8::BIGINT[]) AS d (n, id, sender, client_id, body, reply_to)
	), known AS (
		SELECT m.number, m.id, m.sender, m.client_id, m.body, m.sent_at, m.reply_to, m.change, m.parts
		FROM draft AS d JOIN messages AS m ON m.room = $1 AND m.sender = d.sender AND m.client_id = d.client_id
	), fresh AS (
		SELECT d.id, d.sender, d.client_id, d.body, d.reply_to, row_number() OVER (ORDER BY d.n DESC) AS before_last
		FROM draft AS d LEFT JOIN known AS k ON k.sender = d.sender AND k.client_id = d.client_id
		WHERE k.number IS NULL AND d.sender IN (SELECT user_id FROM writers) AND (d.reply_to = 0 OR EXISTS (SELECT 1 FROM messages AS r WHERE r.room = $1 AND r.number = d.reply_to))
	), counter AS (
		INSERT INTO rooms (room, last_number)
		SELECT $1, count(*) FROM fresh HAVING count(*) > 0
		ON CONFLICT (room) DO UPDATE SET last_number = rooms.last_number + excluded.last_number
		RETURNING last_number
	), stored AS (
		INSERT INTO messages (room, number, id, sender, client_id, body, sent_at, reply_to)
		SELECT $1, c.last_number + 1 - f.before_last, f.id, f.sender, f.client_id, f.body, $2, f.reply_to
		FROM fresh AS f CROSS JOIN counter AS c
		RETURNING number, id, sender, client_id, body, sent_at, reply_to, change, parts
	)
	SELECT $1::TEXT, number, id, sender, '', client_id, body, sent_at, reply_to, change, parts FROM known
	UNION ALL
	SELECT $1::TEXT, number, id, sender, '', client_id, body, sent_at, reply_to, change, parts FROM stored
	UNION ALL
	SELECT $1::TEXT, 0, user_id, user_id, '', '', '', $2, 0, 0, false FROM writers`

// scan reads a row of room, number, id, sender, sender's name, client id, body,
// time, what it answers, its change, and whether there is more to it.
func scan(row pgx.CollectableRow) (Message, error) {
	var m Message
	var sender uuid.UUID
	err := row.Scan(&m.Room, &m.Number, &m.ID, &sender, &m.SenderName, &m.ClientID, &m.Body, &m.SentAt, &m.ReplyTo, &m.Change, &m.parts)
	m.Sender = core.UserID(sender)
	m.SentAt = m.SentAt.UTC()
	return m, err
}
