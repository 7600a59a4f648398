package chat

import (
	"context"
	"errors"
	"fmt"
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
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		answers, err := c.try(ctx, room, batch)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", db.ErrAmbiguous, err)
		}
		again := errors.Is(err, db.ErrAmbiguous) || errors.Is(err, db.ErrContended) || errors.Is(err, db.ErrUnavailable) ||
			db.Violates(err, "messages_client_id_unique") // stored elsewhere meanwhile: next time it is seen
		if !again {
			c.metrics.committed(began, answers)
			return answers, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// try stores a batch in one round trip.
func (c *Chat) try(ctx context.Context, room string, batch []*pending) ([]answer, error) {
	var (
		ns           []int64
		ids, senders pgtype.FlatArray[pgtype.UUID] // uuid.UUID would go through a string
		clients      []string
		bodies       []string
	)
	for i, p := range distinct(batch) {
		ns = append(ns, int64(i))
		ids = append(ids, pgtype.UUID{Bytes: p.id, Valid: true})
		senders = append(senders, pgtype.UUID{Bytes: p.Sender, Valid: true})
		clients = append(clients, p.ClientID)
		bodies = append(bodies, p.Body)
	}
	var messages []Message
	opts := pgx.TxOptions{IsoLevel: pgx.ReadCommitted} // see the package comment
	err := c.db.InOneTrip(ctx, opts, func(b *pgx.Batch) {
		now := time.Now().UTC().Truncate(time.Microsecond)
		b.Queue(store, room, now, ns, ids, senders, clients, bodies).Query(func(rows pgx.Rows) (err error) {
			messages, err = pgx.CollectRows(rows, scan)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store messages: %w", err)
	}
	there := make(map[key]Message, len(messages))
	for _, m := range messages {
		there[key{m.Sender, m.ClientID}] = m
	}
	answers := make([]answer, len(batch))
	for i, p := range batch {
		m := there[key{p.Sender, p.ClientID}]
		// Our own id on a row: this attempt stored it, or one before it that
		// did commit.
		answers[i] = answer{message: m, stored: m.ID == p.id}
	}
	return answers, nil
}

// store is what a batch needs of the database, and answers with the message of
// each draft: the one that was there, or the new one.
//
// A statement of READ COMMITTED sees the tables as of its beginning, except for
// the row that ON CONFLICT finds: that is waited for and taken as it is then.
// So the counter is right, and "known" may miss what was committed while this
// statement waited. Such a message breaks messages_client_id_unique, and with
// it the whole statement: no number is lost.
const store = `
	WITH draft AS (
		SELECT d.n, d.id, d.sender, d.client_id, d.body
		FROM unnest($3::BIGINT[], $4::UUID[], $5::UUID[], $6::TEXT[], $7::TEXT[]) AS d (n, id, sender, client_id, body)
	), known AS (
		SELECT m.number, m.id, m.sender, m.client_id, m.body, m.sent_at
		FROM draft AS d JOIN messages AS m ON m.room = $1 AND m.sender = d.sender AND m.client_id = d.client_id
	), fresh AS (
		SELECT d.id, d.sender, d.client_id, d.body, row_number() OVER (ORDER BY d.n DESC) AS before_last
		FROM draft AS d LEFT JOIN known AS k ON k.sender = d.sender AND k.client_id = d.client_id
		WHERE k.number IS NULL
	), counter AS (
		INSERT INTO rooms (room, last_number)
		SELECT $1, count(*) FROM fresh HAVING count(*) > 0
		ON CONFLICT (room) DO UPDATE SET last_number = rooms.last_number + excluded.last_number
		RETURNING last_number
	), stored AS (
		INSERT INTO messages (room, number, id, sender, client_id, body, sent_at)
		SELECT $1, c.last_number + 1 - f.before_last, f.id, f.sender, f.client_id, f.body, $2
		FROM fresh AS f CROSS JOIN counter AS c
		RETURNING number, id, sender, client_id, body, sent_at
	)
	SELECT $1::TEXT, number, id, sender, '', client_id, body, sent_at FROM known
	UNION ALL
	SELECT $1::TEXT, number, id, sender, '', client_id, body, sent_at FROM stored`

// scan reads a row of room, number, id, sender, sender's name, client id,
// body, time.
func scan(row pgx.CollectableRow) (Message, error) {
	var m Message
	var sender uuid.UUID
	err := row.Scan(&m.Room, &m.Number, &m.ID, &sender, &m.SenderName, &m.ClientID, &m.Body, &m.SentAt)
	m.Sender = core.UserID(sender)
	m.SentAt = m.SentAt.UTC()
	return m, err
}
