package chat

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// Limits of revisions.
const (
	MaxPins      = 50  // of a room
	maxEmojis    = 20  // different ones on a message
	maxEmoji     = 64  // bytes: the longest sequences have some 40
	maxEditions  = 100 // of a message
	editFor      = 24 * time.Hour
	maxReactions = 1000 // of a message
)

// What callers choose on.
var (
	ErrNotYours    = errs.New(errs.Forbidden, "not_your_message", "only who wrote a message edits it, and only they or an admin delete it")
	ErrGone        = errs.New(errs.Conflict, "message_deleted", "this message was deleted")
	ErrLateEdit    = errs.New(errs.Conflict, "too_late", "a message can be edited for %d hours, and %d times", int(editFor.Hours()), maxEditions)
	ErrRevised     = errs.New(errs.Conflict, "message_changed", "the message was changed meanwhile: read it again, and decide anew")
	ErrBadEmoji    = errs.New(errs.Invalid, "bad_emoji", "a reaction is one emoji").At("path.emoji")
	ErrManyEmojis  = errs.New(errs.Conflict, "too_many_reactions", "this message has as many reactions as it can have")
	ErrManyPins    = errs.New(errs.Conflict, "too_many_pins", "a conversation has at most %d pinned messages: take one off first", MaxPins)
	errNothingToDo = errors.New("it is so already")
)

// Actor is who revises a message. That they may is the caller's business, who looks at it
// first; whether who edits, reacts or pins still writes in the room: see Config.Members.
type Actor struct {
	User      core.UserID
	Moderates bool // an admin of the room: may delete what others wrote
}

// Who writes in a room: of a group, and of other conversations. As for messages (see
// writersGroup) it is looked at again in the transaction, under a lock for which leaving,
// being removed, a block or an end waits.
const (
	writesInGroup = `SELECT user_id FROM group_members WHERE group_id = $1::UUID AND user_id = $2::UUID FOR KEY SHARE`
	writesInTalk  = `WITH talk AS (
		SELECT c.pair FROM conversations AS c WHERE c.room = $1 AND c.ended_at IS NULL
		AND c.version = (SELECT version FROM conversations WHERE room = $1) FOR SHARE
	)
	SELECT p.user_id FROM talk AS t CROSS JOIN conversation_people AS p
	WHERE p.room = $1 AND p.left_at IS NULL AND p.user_id = $2::UUID AND NOT (t.pair AND EXISTS (
		SELECT 1 FROM conversation_people AS o JOIN blocks AS b ON b.blocker = p.user_id AND b.blocked = o.user_id OR b.blocker = o.user_id AND b.blocked = p.user_id
		WHERE o.room = $1))`
)

// stillWrites refuses who does not write in a room any more, until the transaction's end.
func (c *Chat) stillWrites(ctx context.Context, tx pgx.Tx, room string, user core.UserID) error {
	if !c.cfg.Members {
		return nil
	}
	sql, in := writesInTalk, any(room)
	if group, ok := core.GroupOf(room); ok {
		sql, in = writesInGroup, group
	}
	var id uuid.UUID
	err := tx.QueryRow(ctx, sql, in, user).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotMember
	}
	return err
}

// right is what a revision takes.
type right bool

const (
	asWriter right = true  // to write in the room at that moment
	asReader right = false // what the caller has looked at
)

// revise makes a revision: fn changes the message m, whose next change is the one
// given. If it returns errNothingToDo, nothing is counted, but the others are told once
// more: an attempt of which nobody knew what became of it told them nothing.
//
// The counter's row is locked first but for the writer's, as by who stores messages: so
// changes are dense, and a message is revised by one at a time. Like theirs the transaction is READ
// COMMITTED, which lets the next one through as soon as the lock is free.
func (c *Chat) revise(ctx context.Context, what string, by Actor, as right, room string, number uint64, fn func(ctx context.Context, tx pgx.Tx, m Message, change uint64) error) (m Message, err error) {
	if number == 0 || number > math.MaxInt64 {
		return Message{}, ErrNoMessage
	}
	revised := false
	err = c.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
		revised = false
		if as == asWriter {
			if err := c.stillWrites(ctx, tx, room, by.User); err != nil {
				return err
			}
		}
		var change uint64
		if err := tx.QueryRow(ctx, `SELECT last_change + 1 FROM rooms WHERE room = $1 FOR UPDATE`, room).Scan(&change); errors.Is(err, pgx.ErrNoRows) {
			return ErrNoMessage
		} else if err != nil {
			return err
		}
		if m, err = one(ctx, tx, by.User, byNumber, room, number); err != nil {
			return err
		}
		switch err := fn(ctx, tx, m, change); {
		case errors.Is(err, errNothingToDo):
			return c.tellRevised(ctx, tx, m)
		case err != nil:
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE messages SET change = $3 WHERE room = $1 AND number = $2`, room, number, int64(change)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE rooms SET last_change = $2 WHERE room = $1`, room, int64(change)); err != nil {
			return err
		}
		revised = true
		if m, err = one(ctx, tx, by.User, byNumber, room, number); err != nil {
			return err
		}
		return c.tellRevised(ctx, tx, m)
	})
	if err != nil {
		return Message{}, fmt.Errorf("%s: %w", what, err)
	}
	if revised {
		c.metrics.revisions.Inc()
	}
	return m, nil
}

// tellRevised tells the others what a message is now, after the commit.
func (c *Chat) tellRevised(ctx context.Context, tx pgx.Tx, m Message) (err error) {
	if c.cfg.Revised == nil || m.Change == 0 {
		return nil
	}
	if m.Hidden { // for who revised it, not for the others
		if m, err = one(ctx, tx, core.UserID{}, byNumber, m.Room, m.Number); err != nil {
			return err
		}
	}
	db.AfterCommit(ctx, func(ctx context.Context) { c.cfg.Revised(ctx, m) })
	return nil
}

// Edit replaces what a message of the actor's says, and whom it mentions. With
// ifChange it does so only if that is the message's change; else ErrRevised. The same
// text and mentions again change nothing. Who is mentioned and was not before is told; who
// is not in the room any more is not mentioned any more.
func (c *Chat) Edit(ctx context.Context, by Actor, room string, number uint64, body string, mentions []core.UserID, ifChange *uint64) (Message, error) {
	if !validText(body, MaxBody) || len(mentions) > MaxMentions {
		return Message{}, ErrBadMessage
	}
	return c.revise(ctx, "edit message", by, asWriter, room, number, func(ctx context.Context, tx pgx.Tx, m Message, change uint64) error {
		now, err := c.heard(ctx, tx, room, mentions)
		if err != nil {
			return err
		}
		var editions int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM message_edits WHERE room = $1 AND number = $2`, room, int64(number)).Scan(&editions); err != nil {
			return err
		}
		switch {
		case m.Sender != by.User:
			return ErrNotYours
		case m.Deleted || m.Hidden:
			return ErrGone
		// Also when it is sent again, and somebody has left since.
		case m.Body == body && (slices.Equal(now, sorted(m.Mentions)) || slices.Equal(sorted(mentions), sorted(m.Mentions))):
			return errNothingToDo
		case ifChange != nil && *ifChange != m.Change:
			return ErrRevised
		case c.now().Sub(m.SentAt) > editFor || editions >= maxEditions:
			return ErrLateEdit
		}
		written := m.SentAt
		if !m.EditedAt.IsZero() {
			written = m.EditedAt
		}
		if _, err := tx.Exec(ctx, `INSERT INTO message_edits (room, number, change, body, written_at) VALUES ($1, $2, $3, $4, $5)`,
			room, int64(number), int64(change), m.Body, written); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM message_mentions WHERE room = $1 AND number = $2`, room, int64(number)); err != nil {
			return err
		}
		// Who was mentioned before was told then.
		fresh := slices.DeleteFunc(slices.Clone(now), func(u core.UserID) bool { return slices.Contains(m.Mentions, u) })
		if err := c.noteMentions(ctx, tx, m, fresh, true); err != nil {
			return err
		}
		if err := putMentions(ctx, tx, m, now); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE messages SET body = $3, edited_at = $4, parts = $5 WHERE room = $1 AND number = $2`,
			room, int64(number), body, c.now(), len(now)+len(m.Attachments) > 0)
		return err
	})
}

// Delete deletes a message for everyone: its place, its sender and its times stay.
func (c *Chat) Delete(ctx context.Context, by Actor, room string, number uint64) (Message, error) {
	return c.revise(ctx, "delete message", by, asReader, room, number, func(ctx context.Context, tx pgx.Tx, m Message, _ uint64) error {
		switch {
		case m.Sender != by.User && !by.Moderates:
			return ErrNotYours
		case m.Deleted:
			return errNothingToDo
		}
		if err := c.detach(ctx, tx, room, number); err != nil {
			return err
		}
		var b pgx.Batch
		for _, sql := range []string{
			`DELETE FROM message_mentions WHERE room = $1 AND number = $2`,
			`DELETE FROM message_attachments WHERE room = $1 AND number = $2`,
			`DELETE FROM message_edits WHERE room = $1 AND number = $2`,
			`DELETE FROM message_reactions WHERE room = $1 AND number = $2`,
		} {
			b.Queue(sql, room, int64(number))
		}
		b.Queue(`UPDATE messages SET body = '', parts = false, edited_at = NULL, pinned_at = NULL, deleted_at = $3 WHERE room = $1 AND number = $2`,
			room, int64(number), c.now())
		return tx.SendBatch(ctx, &b).Close()
	})
}

// detach has a message's files removed.
func (c *Chat) detach(ctx context.Context, tx pgx.Tx, room string, number uint64) error {
	rows, err := tx.Query(ctx, `SELECT id FROM message_attachments WHERE room = $1 AND number = $2`, room, int64(number))
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(ids) == 0 || c.cfg.Attachments == nil {
		return err
	}
	return c.cfg.Attachments.Detach(ctx, tx, ids)
}

// Hide deletes a message for one user alone, on all their devices, which are told. It
// is no revision: nobody else learns of it.
func (c *Chat) Hide(ctx context.Context, user core.UserID, room string, number uint64) error {
	err := c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM messages WHERE room = $1 AND number = $2)`, room, int64(min(number, math.MaxInt64))).Scan(&there); err != nil {
			return err
		}
		if !there {
			return ErrNoMessage
		}
		tag, err := tx.Exec(ctx, `INSERT INTO message_hidden (user_id, room, number) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, user, room, int64(number))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return outbox.Append(ctx, tx, outbox.Event{Key: user.Key(), Kind: core.MessageHidden, Data: core.MessageEvent{Room: room, Number: number}})
	})
	if err != nil {
		return fmt.Errorf("hide message: %w", err)
	}
	return nil
}

// React adds or takes back a reaction of the actor's.
func (c *Chat) React(ctx context.Context, by Actor, room string, number uint64, emoji string, on bool) (Message, error) {
	if !validEmoji(emoji) {
		return Message{}, ErrBadEmoji
	}
	return c.revise(ctx, "react to message", by, asWriter, room, number, func(ctx context.Context, tx pgx.Tx, m Message, _ uint64) error {
		if m.Deleted || m.Hidden {
			return ErrGone
		}
		total, mine := 0, false
		known := false
		for _, r := range m.Reactions {
			total += len(r.Users)
			if r.Emoji == emoji {
				known, mine = true, slices.Contains(r.Users, by.User)
			}
		}
		switch {
		case mine == on:
			return errNothingToDo
		case on && (total >= maxReactions || !known && len(m.Reactions) >= maxEmojis):
			return ErrManyEmojis
		case on:
			_, err := tx.Exec(ctx, `INSERT INTO message_reactions (room, number, user_id, emoji, reacted_at) VALUES ($1, $2, $3, $4, $5)`,
				room, int64(number), by.User, emoji, c.now())
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM message_reactions WHERE room = $1 AND number = $2 AND user_id = $3 AND emoji = $4`,
			room, int64(number), by.User, emoji)
		return err
	})
}

// validEmoji wants something short without letters, spaces or control characters:
// which sequences are emojis changes with each version of Unicode. Digits, '#' and
// '*' begin keycaps, and end with U+20E3.
func validEmoji(s string) bool {
	if !validText(s, maxEmoji) || len(s) > maxEmoji {
		return false
	}
	symbol := false
	for _, r := range s {
		switch {
		case unicode.Is(unicode.So, r), unicode.Is(unicode.Sk, r), unicode.Is(unicode.Sm, r), unicode.Is(unicode.Po, r) && r > unicode.MaxLatin1, r == '\u20e3', r == '©', r == '®':
			symbol = true
		case unicode.Is(unicode.Mn, r), r == '\u200d', strings.ContainsRune("0123456789#*", r), r >= 0xe0020 && r <= 0xe007f: // marks, joiners, keycaps, tags of flags
		default:
			return false
		}
	}
	return symbol
}

// Pin pins a message, or takes it off.
func (c *Chat) Pin(ctx context.Context, by Actor, room string, number uint64, on bool) (Message, error) {
	return c.revise(ctx, "pin message", by, asWriter, room, number, func(ctx context.Context, tx pgx.Tx, m Message, _ uint64) error {
		if m.Deleted {
			return ErrGone
		}
		var at *time.Time
		var pins int
		var pinned bool
		if err := tx.QueryRow(ctx, `SELECT count(*), COALESCE(bool_or(number = $2), false) FROM messages WHERE room = $1 AND pinned_at IS NOT NULL`,
			room, int64(number)).Scan(&pins, &pinned); err != nil {
			return err
		}
		switch {
		case pinned == on:
			return errNothingToDo
		case on && pins >= MaxPins:
			return ErrManyPins
		case on:
			at = new(c.now())
		}
		_, err := tx.Exec(ctx, `UPDATE messages SET pinned_at = $3 WHERE room = $1 AND number = $2`, room, int64(number), at)
		return err
	})
}
