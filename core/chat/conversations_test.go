package chat

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// events returns the kinds of what was left for a user, in order.
func (b *talkBundle) events(user core.UserID) (kinds []string) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT kind FROM outbox WHERE sink = 'test' AND key = $1 ORDER BY n`, user.Key())
		if err != nil {
			return err
		}
		kinds, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	return kinds
}

func (b *talkBundle) standing(user core.UserID, room string) string {
	b.t.Helper()
	st, err := b.Standing(b.t.Context(), user, room, 0)
	if err != nil {
		require.ErrorIs(b.t, err, ErrNotMember)
		return "out"
	}
	require.Equal(b.t, "eu-west", st.Home)
	if !st.Writes {
		return "reads"
	}
	return "writes"
}

func TestWhoMayOpen(t *testing.T) {
	for _, c := range []struct {
		t    terms
		todo bool
		err  error
	}{
		{terms{takes: Acquaintances, friends: true}, false, ErrNoPeer}, // nobody
		{terms{known: true, takes: Acquaintances}, false, ErrNoPeer},
		{terms{known: true, takes: Acquaintances, shared: true}, true, nil},
		{terms{known: true, takes: Acquaintances, friends: true}, true, nil},
		{terms{known: true, takes: Friends, shared: true}, false, ErrNoPeer},
		{terms{known: true, takes: Friends, friends: true}, true, nil},
		{terms{known: true, takes: Nobody, friends: true, shared: true}, false, ErrNoPeer},
		{terms{known: true, takes: Nobody, friends: true, present: 1}, false, ErrNoPeer},
		{terms{known: true, takes: Nobody, present: 2}, false, nil},
		{terms{known: true, takes: Acquaintances, friends: true, blocked: true, present: 2}, false, ErrNoPeer},
	} {
		todo, err := c.t.open()
		require.Equal(t, c.todo, todo, "%+v", c.t)
		require.ErrorIs(t, err, c.err, "%+v", c.t)
	}
}

// The story of a conversation of two: opened, found by both, closed by a block and
// found again, left, and opened again.
func TestAConversationOfTwo(t *testing.T) {
	b := setupTalks(t)
	ctx := t.Context()
	b.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	ana, bo, cy := b.person("ana"), b.person("bo"), b.person("cy")
	_, err := b.Open(ctx, ana, ana)
	require.ErrorIs(t, err, ErrSelf)
	_, err = b.Open(ctx, ana, bo)
	require.ErrorIs(t, err, ErrNoPeer)
	_, err = b.Open(ctx, ana, core.UserID(uuid.New()))
	require.ErrorIs(t, err, ErrNoPeer)
	b.friends(ana, bo)
	c, err := b.Open(ctx, ana, bo)
	require.NoError(t, err)
	room := core.DirectRoom(ana, bo)
	require.Equal(t, room, c.Room)
	require.Equal(t, OfDirect, c.Scope)
	require.Equal(t, "bo", c.Peer.Username)
	require.True(t, c.Writes)
	require.Equal(t, []string{room + " 1"}, b.heard())
	again, err := b.Open(ctx, bo, ana)
	require.NoError(t, err)
	require.Equal(t, "ana", again.Peer.Username)
	require.Empty(t, b.heard(), "nothing changed")
	require.Equal(t, []string{"writes", "writes", "out"}, []string{b.standing(ana, room), b.standing(bo, room), b.standing(cy, room)})
	_, err = b.Standing(ctx, ana, room, 2)
	require.ErrorIs(t, err, ErrBehind)
	_, err = b.Conversation(ctx, cy, room)
	require.ErrorIs(t, err, ErrNotMember)
	require.ErrorIs(t, b.Leave(ctx, cy, room), ErrNotMember)

	// A block puts both out while it lasts, and says nothing to the blocked one.
	block := func(sql string) {
		require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sql, ana, bo); err != nil {
				return err
			}
			return b.Parted(ctx, tx, ana, bo)
		}))
	}
	block(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`)
	require.Equal(t, []string{room + " 2"}, b.heard())
	for _, u := range []core.UserID{ana, bo} {
		require.Equal(t, "out", b.standing(u, room))
		_, err = b.Conversation(ctx, u, room)
		require.ErrorIs(t, err, ErrNotMember)
	}
	_, err = b.Open(ctx, bo, ana)
	require.ErrorIs(t, err, ErrNoPeer)
	block(`DELETE FROM blocks WHERE blocker = $1 AND blocked = $2`)
	require.Equal(t, "writes", b.standing(bo, room))
	b.heard()

	// Who leaves reads no more, and the other one writes no more.
	b.say(room, ana, 2)
	require.NoError(t, b.Leave(ctx, bo, room))
	require.Equal(t, []string{room + " 4", room + " 5"}, b.heard())
	require.Equal(t, []string{"reads", "out"}, []string{b.standing(ana, room), b.standing(bo, room)})
	require.False(t, b.one(ana, room).Writes)
	list, _, err := b.Conversations.Conversations(ctx, bo, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
	_, err = b.Open(ctx, ana, bo)
	require.NoError(t, err)
	require.Equal(t, "writes", b.standing(bo, room))
	require.Equal(t, uint64(2), b.one(bo, room).LastNumber)
	require.Equal(t, []string{core.ConversationOpened, core.ConversationLeft, core.ConversationOpened}, b.events(bo))
	require.Equal(t, []string{core.ConversationOpened, core.ConversationEnded, core.ConversationOpened}, b.events(ana))

	// Whose account ends leaves all of theirs.
	require.NoError(t, b.Depart(ctx, bo))
	require.NoError(t, b.Depart(ctx, bo))
	require.Equal(t, []string{"reads", "out"}, []string{b.standing(ana, room), b.standing(bo, room)})
	home, err := b.Home(ctx, room)
	require.NoError(t, err)
	require.Equal(t, "eu-west", home)
	_, err = b.Home(ctx, "direct:nobody's")
	require.ErrorIs(t, err, ErrNotMember)
}

func TestATalkBeginsAndEnds(t *testing.T) {
	b := setupTalks(t)
	ana, bo := b.person("ana"), b.person("bo")
	room := "nearby:" + uuid.NewString()
	create := func(room string, people ...core.UserID) error {
		return b.tx(func(ctx context.Context, tx pgx.Tx) error { return b.Create(ctx, tx, room, people, "eu-west") })
	}
	end := func() error {
		return b.tx(func(ctx context.Context, tx pgx.Tx) error { return b.End(ctx, tx, room, core.UserID{}) })
	}
	require.Error(t, create("group:"+uuid.NewString(), ana, bo))
	require.Error(t, create(room, ana))
	require.NoError(t, create(room, ana, bo))
	require.Equal(t, "writes", b.standing(bo, room))
	b.say(room, ana, 1)
	require.NoError(t, end())
	require.NoError(t, end())
	require.Equal(t, []string{room + " 1", room + " 2"}, b.heard())
	require.Equal(t, []string{"reads", "reads"}, []string{b.standing(ana, room), b.standing(bo, room)})
	require.Equal(t, "message", b.one(bo, room).Last.Body)
}

func TestSettingsAndMutes(t *testing.T) {
	b := setupTalks(t)
	ctx := t.Context()
	ana, bo, cy := b.person("ana"), b.person("bo"), b.person("cy")
	group := b.group(ana, bo, cy)
	set, err := b.Settings(ctx, ana)
	require.NoError(t, err)
	require.Equal(t, Settings{Everyone, Acquaintances}, set)
	_, err = b.SetSettings(ctx, ana, Settings{Receipts: Friends})
	require.ErrorIs(t, err, ErrBadChoice)
	_, err = b.SetSettings(ctx, ana, Settings{MessagesFrom: Everyone})
	require.ErrorIs(t, err, ErrBadChoice)
	set, err = b.SetSettings(ctx, ana, Settings{MessagesFrom: Nobody})
	require.NoError(t, err)
	require.Equal(t, Settings{Everyone, Nobody}, set)
	_, err = b.Open(ctx, bo, ana)
	require.ErrorIs(t, err, ErrNoPeer)

	// Who tells nobody is told nobody's, and still knows their own.
	b.say(group.Room(), cy, 4)
	told := map[core.UserID]Seen{}
	n := NewReceipts(b.db, ReceiptsConfig{Publish: func(_ string, seen []Seen) {
		for _, s := range seen {
			told[s.User] = s
		}
	}})
	set, err = b.SetSettings(ctx, ana, Settings{Receipts: Nobody})
	require.NoError(t, err)
	require.Equal(t, Settings{Nobody, Nobody}, set)
	b.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	require.NoError(t, n.Set(ctx, group.Room(), ana, "one", 3, 2))
	require.NoError(t, n.Set(ctx, group.Room(), bo, "one", 4, 9))
	require.NoError(t, n.Set(ctx, group.Room(), bo, "two", 1, 1))
	require.Equal(t, map[core.UserID]Seen{bo: {bo, 4, 4}}, told)
	require.Equal(t, []string{core.ConversationUpdated}, b.events(ana), "for her other devices")
	require.Empty(t, b.events(bo))
	others, own, err := b.ReceiptsOf(ctx, ana, group.Room())
	require.NoError(t, err)
	require.Empty(t, others)
	require.Equal(t, Seen{ana, 3, 2}, own)
	require.Equal(t, uint64(2), b.one(ana, group.Room()).Unread)
	others, _, err = b.ReceiptsOf(ctx, cy, group.Room())
	require.NoError(t, err)
	require.Equal(t, []Seen{{bo, 4, 4}}, others)
	b.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, bo, cy)
	others, _, err = b.ReceiptsOf(ctx, cy, group.Room())
	require.NoError(t, err)
	require.Empty(t, others, "a block hides it, in a group, too")

	// Muted, for those who tell people of messages.
	require.NoError(t, b.Mute(ctx, bo, group.Room(), b.Conversations.now().Add(time.Hour)))
	require.False(t, b.one(bo, group.Room()).MutedUntil.IsZero())
	hears := func() (list []Hearer) {
		require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
			list, err = b.Audience(ctx, tx, group.Room(), []core.UserID{bo, cy, core.UserID(uuid.New())})
			return err
		}))
		return list
	}
	require.ElementsMatch(t, []Hearer{{bo, true}, {cy, false}}, hears())
	require.NoError(t, b.Mute(ctx, bo, group.Room(), time.Time{}))
	require.ElementsMatch(t, []Hearer{{bo, false}, {cy, false}}, hears())
}

// Who joins begins at the last message; who comes back does, too.
func TestJoined(t *testing.T) {
	b := setupTalks(t)
	ana, bo := b.person("ana"), b.person("bo")
	group := b.group(ana)
	b.say(group.Room(), ana, 7)
	join := func() {
		require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'member')`, group, bo); err != nil {
				return err
			}
			return b.Joined(ctx, tx, bo, group)
		}))
	}
	join()
	require.Zero(t, b.one(bo, group.Room()).Unread)
	b.say(group.Room(), ana, 2)
	require.Equal(t, uint64(2), b.one(bo, group.Room()).Unread)
	require.Zero(t, b.one(ana, group.Room()).Unread, "she wrote them")
	require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM group_members WHERE user_id = $1`, bo); err != nil {
			return err
		}
		return b.Left(ctx, tx, bo, group)
	}))
	join()
	require.Zero(t, b.one(bo, group.Room()).Unread)
}

// A thousand conversations of all scopes, paged: each once, the newest message first,
// by the same statements however many there are.
func TestAThousandConversations(t *testing.T) {
	b := setupTalks(t)
	ana := b.person("ana")
	base := b.Conversations.now()
	b.exec(`WITH u AS (INSERT INTO users (id, username, username_key, guest, home_region)
		  SELECT gen_random_uuid(), 'p' || i::TEXT, 'p' || i::TEXT, true, 'eu-west' FROM generate_series(1, 500) i RETURNING id)
		INSERT INTO friends (user_id, friend_id) SELECT $1, id FROM u`, ana)
	b.exec(`INSERT INTO conversations (room, pair, home_region, created_at)
		SELECT 'direct:' || least($1::UUID::TEXT, friend_id::TEXT) || ':' || greatest($1::UUID::TEXT, friend_id::TEXT), true, 'eu-west', $2 FROM friends`, ana, base)
	b.exec(`INSERT INTO conversation_people (room, user_id, since)
		SELECT 'direct:' || least($1::UUID::TEXT, friend_id::TEXT) || ':' || greatest($1::UUID::TEXT, friend_id::TEXT), u, $2 FROM friends, unnest(ARRAY[$1::UUID, friend_id]) u`, ana, base)
	b.exec(`WITH g AS (INSERT INTO groups (id, name, home_region) SELECT gen_random_uuid(), 'g' || i::TEXT, 'eu-west' FROM generate_series(1, 500) i RETURNING id)
		INSERT INTO group_members (group_id, user_id, role, joined_at) SELECT id, $1, 'owner', $2 FROM g`, ana, base)
	b.exec(`INSERT INTO rooms (room, last_number) SELECT room, 20 FROM conversations UNION ALL SELECT 'group:' || group_id::TEXT, 20 FROM group_members`)
	b.exec(`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at)
		SELECT room, n, gen_random_uuid(), gen_random_uuid(), n::TEXT, 'x', $1::TIMESTAMPTZ + random() * INTERVAL '1 day' FROM rooms, generate_series(1, 20) n`, base)
	seen := map[string]bool{}
	var last time.Time
	var worst time.Duration
	for cursor, pages := "", 0; ; pages++ {
		began := time.Now()
		list, next, err := b.Conversations.Conversations(t.Context(), ana, cursor, 60)
		require.NoError(t, err)
		worst = max(worst, time.Since(began))
		for _, c := range list {
			require.False(t, seen[c.Room])
			require.True(t, last.IsZero() || !c.Active.After(last))
			require.Equal(t, uint64(20), c.Unread)
			require.NotNil(t, c.Last)
			require.Equal(t, c.Scope == OfGroup, c.Peer == nil)
			seen[c.Room], last = true, c.Active
		}
		if cursor = next; next == "" {
			require.Equal(t, 16, pages)
			break
		}
	}
	require.Len(t, seen, 1000)
	t.Logf("the slowest page took %v", worst)
	for _, bad := range []string{"x", "!", activeCursor{at: latest.AddDate(1, 0, 0)}.String(), activeCursor{at: base, room: "\x00"}.String()} {
		_, _, err := b.Conversations.Conversations(t.Context(), ana, bad, 10)
		require.ErrorIs(t, err, core.ErrBadCursor, bad)
	}
	require.Equal(t, OfBooking, ScopeOf("booking:x"))
	require.Empty(t, ScopeOf(fmt.Sprint("link:", ana)))
}
