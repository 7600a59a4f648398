package chat

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Conversation is one as somebody in it sees it.
type Conversation struct {
	Room   string
	Scope  Scope
	Role   string // of the viewer; in a group owner, admin or member
	Writes bool   // false: it is over
	// Name and Picture are the group's; of two people the other one is Peer, nil if
	// their account is gone.
	Name, Picture string
	Peer          *Peer
	Active        time.Time // of the last message, or when the viewer came in

	LastNumber, LastChange uint64
	// Last is the last message; nil if there is none. It has no body if it was deleted,
	// for everyone or by the viewer for themself.
	Last *Message

	Own    Seen // the viewer's, of all their devices
	Unread uint64
	// Others is how far the other one of two has got, if both let that be known.
	Others     []Seen
	MutedUntil time.Time // zero: not muted
}

// Peer is the other one of two people.
type Peer struct {
	User              core.UserID
	Username, Picture string
	Rating            core.Rating
}

// ownLook is how many of a room's last messages are looked through for the viewer's
// own. Who writes has read what was there, and the receipts say so a moment later:
// those who look meanwhile, or after a node has died with it, are told so, too.
const ownLook = 100

// Conversations returns a page of all that a user is in, groups, too, the one with the
// newest message first, and the cursor of the next page, empty if there is none. One
// that comes alive meanwhile moves before the page that it would have been in: who
// pages hears of that through its message.
//
// It takes four statements, whatever is listed.
func (s *Conversations) Conversations(ctx context.Context, user core.UserID, cursor string, limit int) (list []Conversation, next string, err error) {
	from, err := parseActive(cursor)
	if err != nil {
		return nil, "", err
	}
	if list, err = s.list(ctx, user, "", from, limit+1); err != nil {
		return nil, "", fmt.Errorf("list conversations: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = activeCursor{list[limit-1].Active, list[limit-1].Room}.String()
	}
	return list, next, nil
}

// Conversation returns one that a user is in, or ErrNotMember.
func (s *Conversations) Conversation(ctx context.Context, user core.UserID, room string) (Conversation, error) {
	list, err := s.list(ctx, user, room, activeCursor{at: latest}, 1)
	switch {
	case err != nil:
		return Conversation{}, fmt.Errorf("read conversation: %w", err)
	case len(list) == 0:
		return Conversation{}, ErrNotMember
	}
	return list[0], nil
}

// activeCursor is where a page of conversations ended.
type activeCursor struct {
	at   time.Time
	room string
}

var latest = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func (c activeCursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", c.at.UnixMicro(), c.room))
}

func parseActive(s string) (activeCursor, error) {
	if s == "" {
		return activeCursor{at: latest}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return activeCursor{}, core.ErrBadCursor
	}
	at, room, ok := strings.Cut(string(b), " ")
	us, err := strconv.ParseInt(at, 10, 64)
	if err != nil || us < 0 || us > latest.UnixMicro() || !ok || !(mark{room: room}).sound() {
		return activeCursor{}, core.ErrBadCursor
	}
	return activeCursor{time.UnixMicro(us).UTC(), room}, nil
}

// listConversations reads which there are: of a user $1, all or the one in room $2,
// after ($3, $4), at most $5. What costs a look per conversation is done for all of
// them, since the newest come first, but by keys alone: the room's counter, and the
// time of the message that it counts.
const listConversations = `
	WITH hidden AS (
		SELECT blocked AS user_id FROM blocks WHERE blocker = $1 UNION SELECT blocker FROM blocks WHERE blocked = $1
	), mine AS (
		SELECT 'group:' || gm.group_id::TEXT AS room, gm.joined_at AS since, true AS writes, false AS pair, gm.role, gm.group_id
		FROM group_members AS gm WHERE gm.user_id = $1 AND ($2 = '' OR 'group:' || gm.group_id::TEXT = $2)
		UNION ALL
		SELECT p.room, p.since, c.ended_at IS NULL, c.pair, 'member', NULL
		FROM conversation_people AS p JOIN conversations AS c ON c.room = p.room
		WHERE p.user_id = $1 AND p.left_at IS NULL AND ($2 = '' OR p.room = $2)
		AND NOT (c.pair AND EXISTS (SELECT 1 FROM conversation_people AS o JOIN hidden AS h ON h.user_id = o.user_id WHERE o.room = p.room))
	), active AS (
		SELECT m.room, m.since, m.writes, m.pair, m.role, m.group_id, coalesce(r.last_number, 0) AS last_number, coalesce(r.last_change, 0) AS last_change,
			greatest(m.since, (SELECT x.sent_at FROM messages AS x WHERE x.room = m.room AND x.number = r.last_number)) AS at
		FROM mine AS m LEFT JOIN rooms AS r ON r.room = m.room
	), page AS (
		SELECT room, writes, pair, role, group_id, last_number, last_change, at FROM active WHERE (at, room) < ($3, $4) ORDER BY at DESC, room DESC LIMIT $5
	)
	SELECT a.room, a.role, a.writes, a.at, a.last_number, a.last_change, coalesce(g.name, ''), coalesce(g.avatar, ''),
		u.id, u.username, u.profile_picture, u.rating_sum, u.rating_count, mu.until
	FROM page AS a
	LEFT JOIN groups AS g ON g.id = a.group_id
	LEFT JOIN conversation_people AS o ON a.pair AND o.room = a.room AND o.user_id <> $1
	LEFT JOIN users AS u ON u.id = o.user_id
	LEFT JOIN conversation_mutes AS mu ON mu.room = a.room AND mu.user_id = $1 AND mu.until > $6
	ORDER BY a.at DESC, a.room DESC`

func (s *Conversations) list(ctx context.Context, user core.UserID, room string, from activeCursor, limit int) ([]Conversation, error) {
	var list []Conversation
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, listConversations, user, room, from.at, from.room, limit, s.now())
		if err != nil {
			return err
		}
		if list, err = pgx.CollectRows(rows, scanConversation); err != nil {
			return err
		}
		return fill(ctx, q, user, list)
	})
	return list, err
}

func scanConversation(row pgx.CollectableRow) (c Conversation, err error) {
	var peer *core.UserID
	var name, picture *string
	var sum, count *int64
	var muted *time.Time
	err = row.Scan(&c.Room, &c.Role, &c.Writes, &c.Active, &c.LastNumber, &c.LastChange, &c.Name, &c.Picture, &peer, &name, &picture, &sum, &count, &muted)
	if err != nil {
		return c, err
	}
	c.Scope, c.Active = ScopeOf(c.Room), c.Active.UTC()
	if peer != nil {
		c.Peer = &Peer{User: *peer, Username: *name, Picture: *picture, Rating: core.Rating{Sum: *sum, Count: *count}}
	}
	if muted != nil {
		c.MutedUntil = muted.UTC()
	}
	return c, nil
}

// fill reads what a page shows of its conversations.
func fill(ctx context.Context, q db.Querier, user core.UserID, list []Conversation) error {
	if len(list) == 0 {
		return nil
	}
	at := make(map[string]*Conversation, len(list))
	var rooms, whose []string // whose receipts, with users
	var users []core.UserID
	numbers := make([]int64, len(list))
	for i := range list {
		c := &list[i]
		c.Own.User = user
		at[c.Room] = c
		rooms, numbers[i] = append(rooms, c.Room), int64(c.LastNumber)
		whose, users = append(whose, c.Room), append(users, user)
		if c.Peer != nil {
			whose, users = append(whose, c.Room), append(users, c.Peer.User)
		}
	}
	if err := fillReceipts(ctx, q, user, at, whose, users); err != nil {
		return err
	}
	own := make([]int64, len(list))
	for i, c := range list {
		own[i] = max(int64(c.Own.Read), numbers[i]-ownLook)
	}
	if err := ownLast(ctx, q, user, rooms, own, func(room string, number uint64) { at[room].Own.sent(number) }); err != nil {
		return err
	}
	for i := range list {
		c := &list[i]
		c.Unread = c.LastNumber - min(c.Own.Read, c.LastNumber)
	}
	return fillLast(ctx, q, user, at, rooms, numbers)
}

// sent counts a message of one's own as read.
func (s *Seen) sent(number uint64) {
	s.Read = max(s.Read, number)
	s.Delivered = max(s.Delivered, s.Read)
}

func fillReceipts(ctx context.Context, q db.Querier, user core.UserID, at map[string]*Conversation, rooms []string, users []core.UserID) error {
	rows, err := q.Query(ctx,
		`SELECT r.room, r.user_id, max(r.delivered), max(r.read)
		 FROM unnest($1::TEXT[], $2::UUID[]) AS k (room, user_id) JOIN receipts AS r ON r.room = k.room AND r.user_id = k.user_id
		 WHERE r.user_id = $3 OR NOT EXISTS (SELECT 1 FROM conversation_settings AS s WHERE s.user_id IN ($3, r.user_id) AND s.receipts = 'nobody')
		 GROUP BY r.room, r.user_id`, rooms, users, user)
	if err != nil {
		return err
	}
	var room string
	var seen Seen
	_, err = pgx.ForEachRow(rows, []any{&room, &seen.User, &seen.Delivered, &seen.Read}, func() error {
		if c := at[room]; seen.User == user {
			c.Own = seen
		} else {
			c.Others = append(c.Others, seen)
		}
		return nil
	})
	return err
}

// ownLast gives each the number of the user's last message of a room after a number.
func ownLast(ctx context.Context, q db.Querier, user core.UserID, rooms []string, after []int64, each func(room string, number uint64)) error {
	rows, err := q.Query(ctx,
		`SELECT k.room, (SELECT m.number FROM messages AS m WHERE m.room = k.room AND m.number > k.after AND m.sender = $3 ORDER BY m.number DESC LIMIT 1)
		 FROM unnest($1::TEXT[], $2::BIGINT[]) AS k (room, after)`, rooms, after, user)
	if err != nil {
		return err
	}
	var room string
	var number *int64
	_, err = pgx.ForEachRow(rows, []any{&room, &number}, func() error {
		if number != nil {
			each(room, uint64(*number))
		}
		return nil
	})
	return err
}

func fillLast(ctx context.Context, q db.Querier, user core.UserID, at map[string]*Conversation, rooms []string, numbers []int64) error {
	rows, err := q.Query(ctx,
		`SELECT m.room, m.number, m.id, m.sender, coalesce(u.username, ''), m.client_id,
		   CASE WHEN h.number IS NULL THEN m.body ELSE '' END, m.sent_at, m.deleted_at IS NOT NULL, m.change
		 FROM unnest($1::TEXT[], $2::BIGINT[]) AS k (room, number) JOIN messages AS m ON m.room = k.room AND m.number = k.number
		 LEFT JOIN users AS u ON u.id = m.sender
		 LEFT JOIN message_hidden AS h ON h.user_id = $3 AND h.room = m.room AND h.number = m.number`, rooms, numbers, user)
	if err != nil {
		return err
	}
	last, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Message, err error) {
		err = row.Scan(&m.Room, &m.Number, &m.ID, &m.Sender, &m.SenderName, &m.ClientID, &m.Body, &m.SentAt, &m.Deleted, &m.Change)
		m.SentAt = m.SentAt.UTC()
		return m, err
	})
	for i := range last {
		at[last[i].Room].Last = &last[i]
	}
	return err
}

// ReceiptsOf returns how far the people of a room have got, as far as a user may know
// it, and how far they have themself. Who tells nobody is told nobody's, and neither of
// two between whom there is a block sees the other one's. Whether the user is in the
// room is the caller's business.
func (s *Conversations) ReceiptsOf(ctx context.Context, user core.UserID, room string) (others []Seen, own Seen, err error) {
	group, _ := core.GroupOf(room)
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		others, own = nil, Seen{User: user}
		rows, err := q.Query(ctx,
			`SELECT r.user_id, max(r.delivered), max(r.read) FROM receipts AS r WHERE r.room = $1 AND (r.user_id = $2 OR
			   NOT EXISTS (SELECT 1 FROM conversation_settings AS s WHERE s.user_id IN ($2, r.user_id) AND s.receipts = 'nobody')
			   AND NOT EXISTS (SELECT 1 FROM blocks AS b WHERE b.blocker = $2 AND b.blocked = r.user_id OR b.blocker = r.user_id AND b.blocked = $2)
			   AND (EXISTS (SELECT 1 FROM group_members AS g WHERE g.group_id = $3 AND g.user_id = r.user_id)
			     OR EXISTS (SELECT 1 FROM conversation_people AS p WHERE p.room = $1 AND p.user_id = r.user_id AND p.left_at IS NULL)))
			 GROUP BY r.user_id ORDER BY r.user_id`, room, user, group)
		if err != nil {
			return err
		}
		var seen Seen
		if _, err = pgx.ForEachRow(rows, []any{&seen.User, &seen.Delivered, &seen.Read}, func() error {
			if seen.User == user {
				own = seen
			} else {
				others = append(others, seen)
			}
			return nil
		}); err != nil {
			return err
		}
		var last int64
		if err := q.QueryRow(ctx, `SELECT coalesce((SELECT last_number FROM rooms WHERE room = $1), 0)`, room).Scan(&last); err != nil {
			return err
		}
		after := max(last-ownLook, asInt(own.Read))
		return ownLast(ctx, q, user, []string{room}, []int64{after}, func(_ string, n uint64) { own.sent(n) })
	})
	if err != nil {
		return nil, Seen{}, fmt.Errorf("read receipts: %w", err)
	}
	return others, own, nil
}
