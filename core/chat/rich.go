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
	"github.com/mustermesh/muster/core/db"
)

// errOvertaken is for an attempt during which another one stored the message: all that it
// did is undone, and the next one finds that.
var errOvertaken = errors.New("the message was stored meanwhile")

// storeRich stores a message that mentions people or brings files. Those are rare,
// and several statements: so each is a transaction of its own, beside the batches.
func (c *Chat) storeRich(ctx context.Context, p *pending) (m Message, stored bool, err error) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return Message{}, false, ErrStopped
	}
	c.wg.Add(1)
	c.mu.Unlock()
	defer c.wg.Done()
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	began := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		m, stored, err = c.tryRich(ctx, p)
		again := errors.Is(err, db.ErrAmbiguous) || errors.Is(err, errOvertaken) || db.Violates(err, "messages_client_id_unique")
		if !again {
			c.metrics.committed(began, []answer{{message: m, stored: stored, err: err}})
			return m, stored, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return Message{}, false, err
		}
	}
}

func (c *Chat) tryRich(ctx context.Context, p *pending) (m Message, stored bool, err error) {
	err = c.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
		m, stored = Message{}, false
		// Not as the sender sees it: the answer may be told to the room again.
		there, err := one(ctx, tx, core.UserID{}, byClientID, p.Room, p.Sender, p.ClientID)
		if err == nil {
			m, stored = there, there.ID == p.id
			return nil
		}
		if !errors.Is(err, ErrNoMessage) {
			return err
		}
		var files []Attachment
		if len(p.Attachments) > 0 {
			if c.cfg.Attachments == nil {
				return ErrBadMessage
			}
			if files, err = c.cfg.Attachments.Attach(ctx, tx, p.Sender, p.Room, p.Attachments); err != nil {
				if _, known := one(ctx, tx, core.UserID{}, byClientID, p.Room, p.Sender, p.ClientID); known == nil {
					return errOvertaken // and its files are in it
				}
				return err
			}
		}
		d := draftsOf([]*pending{p})
		_, sql, in := c.writers(p.Room, d.senders)
		rows, err := tx.Query(ctx, sql, append([]any{p.Room, c.now(), d.ns, d.ids, d.senders, d.clients, d.bodies, d.replies}, in...)...)
		if err != nil {
			return err
		}
		messages, err := pgx.CollectRows(rows, scan)
		if err != nil {
			return err
		}
		a := answered([]*pending{p}, messages)[0]
		if a.err != nil {
			return a.err
		}
		if m, stored = a.message, a.stored; !stored {
			return errOvertaken // with its own files, not these
		}
		if m.Attachments = files; len(files) > 0 {
			if err := putFiles(ctx, tx, m); err != nil {
				return err
			}
		}
		if m.Mentions, err = c.mention(ctx, tx, m, p.Mentions); err != nil {
			return err
		}
		var later pgx.Batch
		if c.noteMissed(ctx, &later, m.Room, m.SentAt); later.Len() > 0 {
			if err := tx.SendBatch(ctx, &later).Close(); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE messages SET parts = true WHERE room = $1 AND number = $2`, m.Room, m.Number)
		return err
	})
	if err != nil {
		return Message{}, false, fmt.Errorf("store message: %w", err)
	}
	return m, stored, nil
}

func putFiles(ctx context.Context, tx pgx.Tx, m Message) error {
	var b pgx.Batch
	for i, f := range m.Attachments {
		b.Queue(`INSERT INTO message_attachments (room, number, place, id, name, type, size, width, height, thumbnail)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			m.Room, m.Number, i, f.ID, f.Name, f.Type, f.Size, f.Width, f.Height, f.Thumbnail)
	}
	return tx.SendBatch(ctx, &b).Close()
}

// mention notes whom a message mentions, of those who hear it, and has them told.
func (c *Chat) mention(ctx context.Context, tx pgx.Tx, m Message, users []core.UserID) ([]core.UserID, error) {
	ids, err := c.heard(ctx, tx, m.Room, users)
	if err != nil {
		return nil, err
	}
	if err := c.noteMentions(ctx, tx, m, ids, false); err != nil {
		return nil, err
	}
	return ids, putMentions(ctx, tx, m, ids)
}

// heard returns those of some users who hear a room, sorted. Others are left out: they
// are nobody here.
func (c *Chat) heard(ctx context.Context, tx pgx.Tx, room string, users []core.UserID) (ids []core.UserID, err error) {
	if len(users) == 0 || c.cfg.Audience == nil {
		return nil, nil
	}
	hearers, err := c.cfg.Audience(ctx, tx, room, users)
	if err != nil {
		return nil, fmt.Errorf("who hears a message: %w", err)
	}
	for _, h := range hearers {
		ids = append(ids, h.User)
	}
	return sorted(ids), nil
}

// sorted returns users in order, each once.
func sorted(users []core.UserID) []core.UserID {
	users = slices.SortedFunc(slices.Values(users), func(a, b core.UserID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(users)
}

func putMentions(ctx context.Context, tx pgx.Tx, m Message, users []core.UserID) error {
	if len(users) == 0 {
		return nil
	}
	all := make([]uuid.UUID, len(users))
	for i, id := range users {
		all[i] = uuid.UUID(id)
	}
	_, err := tx.Exec(ctx, `INSERT INTO message_mentions (room, number, user_id) SELECT $1::TEXT, $2::BIGINT, u FROM unnest($3::UUID[]) AS v (u) ON CONFLICT DO NOTHING`,
		m.Room, m.Number, all)
	return err
}

// now is a time as the database keeps it.
func (c *Chat) now() time.Time { return c.cfg.Now().UTC().Truncate(time.Microsecond) }
