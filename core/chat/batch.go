package chat

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

// key is what a message is known by within its room.
type key struct {
	sender   core.UserID
	clientID string
}

// number decides about a batch: which drafts are new and get the numbers after
// last, and what everybody is answered. known are the messages of the room
// under the keys of the batch.
func number(batch []*pending, known map[key]Message, last uint64, now time.Time) (fresh []Message, answers []answer) {
	answers = make([]answer, len(batch))
	for i, p := range batch {
		k := key{p.Sender, p.ClientID}
		m, ok := known[k]
		// Our own id on a row that is already there: an attempt before this
		// one did commit.
		stored := ok && m.ID == p.id
		if !ok {
			last++
			m = Message{Room: p.Room, Number: last, ID: p.id, Sender: p.Sender, ClientID: p.ClientID, Body: p.Body, SentAt: now}
			fresh = append(fresh, m)
			if known == nil {
				known = make(map[key]Message)
			}
			known[k] = m // the same client id may come twice in one batch
			stored = true
		}
		answers[i] = answer{message: m, stored: stored}
	}
	return fresh, answers
}

// commit stores a batch, and keeps trying as long as that may help.
func (c *Chat) commit(room string, batch []*pending) ([]answer, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.patience)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		answers, err := c.try(ctx, room, batch)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", db.ErrAmbiguous, err)
		}
		again := errors.Is(err, db.ErrAmbiguous) || errors.Is(err, db.ErrContended) || errors.Is(err, db.ErrUnavailable)
		if !again {
			return answers, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// try stores a batch in one transaction of three round trips and COMMIT.
func (c *Chat) try(ctx context.Context, room string, batch []*pending) (answers []answer, err error) {
	var senders []uuid.UUID
	var clientIDs []string
	for _, p := range batch {
		senders = append(senders, uuid.UUID(p.Sender))
		clientIDs = append(clientIDs, p.ClientID)
	}
	opts := pgx.TxOptions{IsoLevel: pgx.ReadCommitted} // see the package comment
	err = c.db.InTx(ctx, opts, func(ctx context.Context, tx pgx.Tx) error {
		last, known, err := lockRoom(ctx, tx, room, senders, clientIDs)
		if err != nil {
			return err
		}
		var fresh []Message
		fresh, answers = number(batch, known, last, time.Now().UTC().Truncate(time.Microsecond))
		return insert(ctx, tx, room, last, fresh)
	})
	if err != nil {
		return nil, fmt.Errorf("store messages: %w", err)
	}
	return answers, nil
}

// lockRoom locks the room's counter, and then, seeing all that was committed
// under that lock before, reads the messages it has under the given keys.
func lockRoom(ctx context.Context, tx pgx.Tx, room string, senders []uuid.UUID, clientIDs []string) (last uint64, known map[key]Message, err error) {
	for {
		var both pgx.Batch
		both.Queue(`SELECT last_number FROM rooms WHERE room = $1 FOR UPDATE`, room)
		both.Queue(`
			SELECT m.room, m.number, m.id, m.sender, '', m.client_id, m.body, m.sent_at
			FROM unnest($2::UUID[], $3::TEXT[]) AS d (sender, client_id)
			JOIN messages AS m ON m.room = $1 AND m.sender = d.sender AND m.client_id = d.client_id`,
			room, senders, clientIDs)
		results := tx.SendBatch(ctx, &both)
		err = results.QueryRow().Scan(&last)
		if err == nil {
			var rows pgx.Rows
			if rows, err = results.Query(); err == nil {
				known, err = collect(rows)
			}
		}
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return last, known, err
		}
		// The room's first message. Whoever makes the row, the next turn of
		// the loop locks it.
		_, err = tx.Exec(ctx, `INSERT INTO rooms (room, last_number) VALUES ($1, 0) ON CONFLICT (room) DO NOTHING`, room)
		if err != nil {
			return 0, nil, err
		}
	}
}

func collect(rows pgx.Rows) (map[key]Message, error) {
	known := make(map[key]Message)
	messages, err := pgx.CollectRows(rows, scan)
	for _, m := range messages {
		known[key{m.Sender, m.ClientID}] = m
	}
	return known, err
}

func insert(ctx context.Context, tx pgx.Tx, room string, last uint64, fresh []Message) error {
	if len(fresh) == 0 {
		return nil
	}
	var (
		numbers      []int64
		ids, senders []uuid.UUID
		clients      []string
		bodies       []string
	)
	for _, m := range fresh {
		numbers = append(numbers, int64(m.Number))
		ids = append(ids, m.ID)
		senders = append(senders, uuid.UUID(m.Sender))
		clients = append(clients, m.ClientID)
		bodies = append(bodies, m.Body)
	}
	var both pgx.Batch
	both.Queue(`UPDATE rooms SET last_number = $2 WHERE room = $1`, room, int64(last)+int64(len(fresh)))
	both.Queue(`
		INSERT INTO messages (room, number, id, sender, client_id, body, sent_at)
		SELECT $1, d.number, d.id, d.sender, d.client_id, d.body, $2
		FROM unnest($3::BIGINT[], $4::UUID[], $5::UUID[], $6::TEXT[], $7::TEXT[]) AS d (number, id, sender, client_id, body)`,
		room, fresh[0].SentAt, numbers, ids, senders, clients, bodies)
	return tx.SendBatch(ctx, &both).Close()
}

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
