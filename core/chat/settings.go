package chat

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Audience is whom a user means by a choice.
type Audience string

const (
	Everyone      Audience = "everyone"      // in the conversation
	Acquaintances Audience = "acquaintances" // friends, and who shares a group
	Friends       Audience = "friends"
	Nobody        Audience = "nobody"
)

// Settings are what a user chose about their conversations.
type Settings struct {
	// Receipts is who is told how far they have got: Everyone or Nobody. Who tells
	// nobody is told nobody's.
	Receipts Audience
	// MessagesFrom is who may open a conversation with them: Acquaintances, Friends
	// or Nobody.
	MessagesFrom Audience
}

const readSettings = `SELECT coalesce((SELECT receipts FROM conversation_settings WHERE user_id = $1), 'everyone'),
	coalesce((SELECT messages_from FROM conversation_settings WHERE user_id = $1), 'acquaintances')`

// Settings returns what a user chose.
func (s *Conversations) Settings(ctx context.Context, user core.UserID) (set Settings, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, readSettings, user).Scan(&set.Receipts, &set.MessagesFrom)
	})
	if err != nil {
		return Settings{}, fmt.Errorf("read conversation settings: %w", err)
	}
	return set, nil
}

// SetSettings changes what a user chose; what is empty stays.
func (s *Conversations) SetSettings(ctx context.Context, user core.UserID, to Settings) (set Settings, err error) {
	switch to.Receipts {
	case "", Everyone, Nobody:
	default:
		return Settings{}, ErrBadChoice.At("body.receipts")
	}
	switch to.MessagesFrom {
	case "", Acquaintances, Friends, Nobody:
	default:
		return Settings{}, ErrBadChoice.At("body.messages_from")
	}
	err = s.change(ctx, "change conversation settings", func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, readSettings, user).Scan(&set.Receipts, &set.MessagesFrom); err != nil {
			return err
		}
		was := set
		if to.Receipts != "" {
			set.Receipts = to.Receipts
		}
		if to.MessagesFrom != "" {
			set.MessagesFrom = to.MessagesFrom
		}
		if set == was {
			return nil
		}
		if _, err := tx.Exec(ctx,
			`INSERT INTO conversation_settings (user_id, receipts, messages_from) VALUES ($1, $2, $3)
			 ON CONFLICT (user_id) DO UPDATE SET receipts = excluded.receipts, messages_from = excluded.messages_from`,
			user, set.Receipts, set.MessagesFrom); err != nil {
			return err
		}
		return tell(ctx, tx, core.ConversationUpdated, "", []core.UserID{user}, user)
	})
	return set, err
}

// Mute has nothing of a conversation notified to a user until a time; a time that has
// passed ends that. Whether they are in it is the caller's business.
func (s *Conversations) Mute(ctx context.Context, user core.UserID, room string, until time.Time) error {
	return s.change(ctx, "mute a conversation", func(ctx context.Context, tx pgx.Tx) (err error) {
		if until.After(s.now()) {
			_, err = tx.Exec(ctx, `INSERT INTO conversation_mutes (room, user_id, until) VALUES ($1, $2, $3)
				ON CONFLICT (room, user_id) DO UPDATE SET until = excluded.until`, room, user, until)
		} else {
			_, err = tx.Exec(ctx, `DELETE FROM conversation_mutes WHERE room = $1 AND user_id = $2`, room, user)
		}
		if err != nil {
			return err
		}
		return tell(ctx, tx, core.ConversationUpdated, room, []core.UserID{user}, user)
	})
}

const (
	hearTalk = `
		SELECT p.user_id, EXISTS (SELECT 1 FROM conversation_mutes AS m WHERE m.room = $1 AND m.user_id = p.user_id AND m.until > $3)
		FROM conversation_people AS p WHERE p.room = $4 AND p.left_at IS NULL AND p.user_id = ANY($2::UUID[]) ORDER BY p.user_id`
	hearGroup = `
		SELECT p.user_id, EXISTS (SELECT 1 FROM conversation_mutes AS m WHERE m.room = $1 AND m.user_id = p.user_id AND m.until > $3)
		FROM group_members AS p WHERE p.group_id = $4 AND p.user_id = ANY($2::UUID[]) ORDER BY p.user_id`
)

// Audience returns those of some users who are in a room and write or read there, and
// which of them muted it: see Config.Audience.
func (s *Conversations) Audience(ctx context.Context, tx pgx.Tx, room string, of []core.UserID) ([]Hearer, error) {
	sql, in := hearTalk, any(room)
	if group, ok := core.GroupOf(room); ok {
		sql, in = hearGroup, group
	}
	rows, err := tx.Query(ctx, sql, room, of, s.now(), in)
	if err != nil {
		return nil, fmt.Errorf("read who hears a room: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Hearer, err error) {
		err = row.Scan(&h.User, &h.Muted)
		return h, err
	})
}
