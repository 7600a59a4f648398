package chat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// accounts makes users, who react and are mentioned.
func accounts(t testing.TB, d *db.DB, n int) (ids []core.UserID) {
	t.Helper()
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		ids = nil
		for range n {
			id := user()
			if _, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, home_region) VALUES ($1, $2, $2, 'eu-west')`, id, id.String()); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	}))
	return ids
}

// shelf is uploads as a chat sees them.
type shelf struct {
	mu   sync.Mutex
	gone []uuid.UUID
}

func (s *shelf) Attach(_ context.Context, _ pgx.Tx, _ core.UserID, _ string, ids []uuid.UUID) (list []Attachment, err error) {
	for _, id := range ids {
		if id == uuid.Nil {
			return nil, errNoUpload
		}
		list = append(list, Attachment{ID: id, Name: "cat.png", Type: "image/png", Size: 7, Width: 3, Height: 2, Thumbnail: true})
	}
	return list, nil
}

func (s *shelf) Detach(_ context.Context, _ pgx.Tx, ids []uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, ids...)
	return nil
}

var errNoUpload = errors.New("no such upload")

// told collects whom a chat notifies.
type told struct {
	mu   sync.Mutex
	list []string
	keys []string
}

func (n *told) NotifyOnce(_ context.Context, _ pgx.Tx, to core.UserID, kind, once string, _ map[string]any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if once = to.String() + once; slices.Contains(n.keys, once) {
		return nil
	}
	n.keys = append(n.keys, once)
	n.list = append(n.list, to.String()+" "+kind)
	return nil
}

// everybody hears a room, and those of muted have muted it.
func everybody(muted ...core.UserID) func(context.Context, pgx.Tx, string, []core.UserID) ([]Hearer, error) {
	return func(_ context.Context, _ pgx.Tx, _ string, of []core.UserID) (list []Hearer, err error) {
		for _, u := range of {
			list = append(list, Hearer{User: u, Muted: slices.Contains(muted, u)})
		}
		return list, nil
	}
}

// rows counts what the tables beside messages have of a message.
func rows(t testing.TB, d *db.DB, room string, number uint64) (n int) {
	t.Helper()
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT (SELECT count(*) FROM message_mentions WHERE room = $1 AND number = $2)
			+ (SELECT count(*) FROM message_attachments WHERE room = $1 AND number = $2)
			+ (SELECT count(*) FROM message_edits WHERE room = $1 AND number = $2)
			+ (SELECT count(*) FROM message_reactions WHERE room = $1 AND number = $2)
			+ (SELECT count(*) FROM messages WHERE room = $1 AND number = $2 AND (body <> '' OR pinned_at IS NOT NULL OR parts))`,
			room, int64(number)).Scan(&n)
	}))
	return n
}

// Whom an edit mentions anew is told, though they have the message; nobody is told twice,
// and who has left is not mentioned any more.
func TestEditsMention(t *testing.T) {
	d, ctx := devdb.Test(t), t.Context()
	people := accounts(t, d, 4)
	ada, bob, eve, dan := people[0], people[1], people[2], people[3]
	room := "group:" + uuid.NewString()
	notices, gone := &told{}, core.UserID{}
	c := New(d, Config{Notify: notices, Audience: func(ctx context.Context, tx pgx.Tx, room string, of []core.UserID) ([]Hearer, error) {
		list, err := everybody()(ctx, tx, room, of)
		return slices.DeleteFunc(list, func(h Hearer) bool { return h.User == gone }), err
	}})
	t.Cleanup(c.Stop)
	_, _, err := c.Store(ctx, Draft{Room: room, Sender: ada, ClientID: "1", Body: "you", Mentions: []core.UserID{bob, eve}})
	require.NoError(t, err)
	edit := func(mentions ...core.UserID) (uint64, []core.UserID) {
		m, err := c.Edit(ctx, Actor{User: ada}, room, 1, "you", mentions, nil)
		require.NoError(t, err)
		return m.Change, sorted(m.Mentions)
	}
	expect := func(change uint64, mentions ...core.UserID) func(uint64, []core.UserID) {
		return func(c uint64, m []core.UserID) {
			t.Helper()
			require.Equal(t, change, c)
			require.Equal(t, sorted(mentions), m)
		}
	}
	tellAll := func() {
		var jobs []missed
		require.NoError(t, d.Read(ctx, func(ctx context.Context, q db.Querier) error {
			list, err := q.Query(ctx, `SELECT payload FROM jobs WHERE kind = $1 ORDER BY id`, MissedJob)
			if err != nil {
				return err
			}
			jobs, err = pgx.CollectRows(list, pgx.RowTo[missed])
			return err
		}))
		for _, j := range jobs {
			require.NoError(t, c.tellMissed(ctx, j))
		}
	}
	tellAll()
	require.Len(t, notices.list, 2)
	require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO receipts (room, user_id, device, delivered, read, at) VALUES ($1, $2, 'd', 1, 1, now())`, room, dan)
		return err
	}))
	expect(1, bob, dan)(edit(bob, dan))
	expect(1, bob, dan)(edit(dan, bob))
	tellAll()
	require.Len(t, notices.list, 3)
	require.Equal(t, dan.String()+" mention", notices.list[2])
	expect(2, dan)(edit(dan))
	expect(3, bob, dan)(edit(dan, bob))
	tellAll()
	require.Len(t, notices.list, 3, "bob was told before")
	gone = bob
	expect(3, bob, dan)(edit(dan, bob))
	expect(4, dan, eve)(edit(dan, bob, eve))
	expect(5)(edit())
}

// The life of a message: with everything, edited, reacted to, pinned, deleted.
func TestRevisions(t *testing.T) {
	d := devdb.Test(t)
	files, notices := &shelf{}, &told{}
	people := accounts(t, d, 3)
	ada, bob, eve := people[0], people[1], people[2]
	var revised []Message
	c := New(d, Config{Attachments: files, Notify: notices, Audience: everybody(eve), Revised: func(_ context.Context, m Message) { revised = append(revised, m) }})
	t.Cleanup(c.Stop)
	ctx := t.Context()

	first, _, err := c.Store(ctx, Draft{Room: room, Sender: ada, ClientID: "1", Body: "who comes?"})
	require.NoError(t, err)
	photo := uuid.New()
	draft := Draft{Room: room, Sender: bob, ClientID: "1", ReplyTo: first.Number, Mentions: []core.UserID{ada, eve, bob}, Attachments: []uuid.UUID{photo}}
	m, stored, err := c.Store(ctx, draft)
	require.NoError(t, err)
	require.True(t, stored)
	require.Equal(t, uint64(2), m.Number)
	var jobs []missed
	queued := func() {
		require.NoError(t, d.Read(ctx, func(ctx context.Context, q db.Querier) error {
			list, err := q.Query(ctx, `SELECT payload FROM jobs WHERE kind = $1`, MissedJob)
			if err != nil {
				return err
			}
			jobs, err = pgx.CollectRows(list, pgx.RowTo[missed])
			return err
		}))
	}
	queued()
	require.Len(t, jobs, 1)
	require.NoError(t, c.tellMissed(ctx, jobs[0]))
	require.Equal(t, []string{ada.String() + " mention"}, notices.list, "not whoever muted it, nor oneself")
	seen := func(user core.UserID, room string, number int) {
		require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO receipts (room, user_id, device, delivered, read, at) VALUES ($1, $2, 'd', $3, 0, now())`, room, user, number)
			return err
		}))
	}
	seen(ada, room, 2)
	require.NoError(t, c.tellMissed(ctx, jobs[0]))
	require.Len(t, notices.list, 1, "whose device has it is not away")
	again, stored, err := c.Store(ctx, draft)
	require.NoError(t, err)
	require.False(t, stored)
	require.Equal(t, m.Number, again.Number)
	require.Equal(t, m.Attachments, again.Attachments)
	require.ElementsMatch(t, []core.UserID{ada, eve, bob}, again.Mentions)
	queued()
	require.Len(t, jobs, 1, "told once")

	_, _, err = c.Store(ctx, Draft{Room: room, Sender: bob, ClientID: "2", Body: "x", ReplyTo: 99})
	require.ErrorIs(t, err, ErrNoReplyTo)
	_, _, err = c.Store(ctx, Draft{Room: room, Sender: bob, ClientID: "2", Attachments: []uuid.UUID{uuid.Nil}})
	require.ErrorIs(t, err, errNoUpload)
	number, change, err := c.Last(ctx, room)
	require.NoError(t, err)
	require.Equal(t, []uint64{2, 0}, []uint64{number, change}, "a refused one takes no number")

	// Edits: one's own, with a history, on what was read.
	_, err = c.Edit(ctx, Actor{User: ada, Moderates: true}, room, 2, "hacked", nil, nil)
	require.ErrorIs(t, err, ErrNotYours)
	m, err = c.Edit(ctx, Actor{User: bob}, room, 2, "me", []core.UserID{eve}, new(uint64(0)))
	require.NoError(t, err)
	require.Equal(t, uint64(1), m.Change)
	require.Equal(t, "me", m.Body)
	require.Equal(t, []core.UserID{eve}, m.Mentions)
	require.Len(t, m.Attachments, 1)
	require.False(t, m.EditedAt.IsZero())
	_, err = c.Edit(ctx, Actor{User: bob}, room, 2, "me too", nil, new(uint64(0)))
	require.ErrorIs(t, err, ErrRevised)
	same, err := c.Edit(ctx, Actor{User: bob}, room, 2, "me", []core.UserID{eve, eve}, nil)
	require.NoError(t, err)
	require.Equal(t, uint64(1), same.Change, "nothing changed")
	edits, err := c.Edits(ctx, room, 2)
	require.NoError(t, err)
	require.Len(t, edits, 1)
	require.Empty(t, edits[0].Body)

	// Reactions and pins.
	for _, bad := range []string{"", "a", "👍 ", "ok", "1", "👍👍👍👍👍👍👍👍👍👍👍👍👍👍👍👍👍"} {
		_, err = c.React(ctx, Actor{User: ada}, room, 2, bad, true)
		require.ErrorIs(t, err, ErrBadEmoji, bad)
	}
	for _, emoji := range []string{"👍", "❤️", "1️⃣", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "👍🏽", "🇩🇪", "‼️", "☀"} {
		_, err = c.React(ctx, Actor{User: ada}, room, 1, emoji, true)
		require.NoError(t, err, emoji)
		_, err = c.React(ctx, Actor{User: ada}, room, 1, emoji, false)
		require.NoError(t, err, emoji)
	}
	_, err = c.React(ctx, Actor{User: eve}, room, 2, "👍", true)
	require.NoError(t, err)
	m, err = c.React(ctx, Actor{User: ada}, room, 2, "👍", true)
	require.NoError(t, err)
	require.Equal(t, []Reaction{{Emoji: "👍", Users: []core.UserID{eve, ada}}}, m.Reactions)
	twice, err := c.React(ctx, Actor{User: ada}, room, 2, "👍", true)
	require.NoError(t, err)
	require.Equal(t, m, twice)
	m, err = c.Pin(ctx, Actor{User: ada}, room, 2, true)
	require.NoError(t, err)
	require.True(t, m.Pinned)
	pins, err := c.Pinned(ctx, ada, room)
	require.NoError(t, err)
	require.Equal(t, []Message{m}, pins)

	// For oneself alone: a place without anything, which nobody else has.
	require.NoError(t, c.Hide(ctx, ada, room, 2))
	require.ErrorIs(t, c.Hide(ctx, ada, room, 3), ErrNoMessage)
	list, err := c.History(ctx, ada, room, Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, list.Messages, 2)
	hidden := list.Messages[1]
	require.True(t, hidden.Hidden)
	require.Empty(t, hidden.Body)
	require.Empty(t, hidden.Attachments)
	require.Empty(t, hidden.Reactions)
	list, err = c.History(ctx, bob, room, Page{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, m, list.Messages[1])

	// For everybody: nothing of it is left.
	_, err = c.Delete(ctx, Actor{User: eve}, room, 2)
	require.ErrorIs(t, err, ErrNotYours)
	require.NotZero(t, rows(t, d, room, 2))
	gone, err := c.Delete(ctx, Actor{User: eve, Moderates: true}, room, 2)
	require.NoError(t, err)
	require.Equal(t, Message{Room: room, Number: 2, ID: m.ID, Sender: bob, SenderName: bob.String(), ClientID: "1", SentAt: m.SentAt, ReplyTo: 1, Deleted: true, Change: m.Change + 1}, gone)
	require.Zero(t, rows(t, d, room, 2))
	require.Equal(t, []uuid.UUID{photo}, files.gone)
	edits, err = c.Edits(ctx, room, 2)
	require.NoError(t, err)
	require.Empty(t, edits)
	for _, err := range []error{
		func() error { _, err := c.Edit(ctx, Actor{User: bob}, room, 2, "back", nil, nil); return err }(),
		func() error { _, err := c.React(ctx, Actor{User: bob}, room, 2, "👍", true); return err }(),
		func() error { _, err := c.Pin(ctx, Actor{User: bob}, room, 2, true); return err }(),
	} {
		require.ErrorIs(t, err, ErrGone)
	}
	for _, number := range []uint64{0, 3, 1 << 63} {
		_, err = c.Delete(ctx, Actor{User: bob}, room, number)
		require.ErrorIs(t, err, ErrNoMessage)
	}
	again, stored, err = c.Store(ctx, draft)
	require.NoError(t, err)
	require.False(t, stored)
	require.True(t, again.Deleted, "sent again, it stays deleted")

	heard := uint64(0)
	for _, m := range revised { // what was so already is told again
		require.True(t, m.Change == heard || m.Change == heard+1)
		heard = m.Change
	}
	_, change, err = c.Last(ctx, room)
	require.NoError(t, err)
	require.Equal(t, change, heard)
}

// In a conversation of two whoever is away is told of the first message that they don't
// have, and not of those after it.
func TestMissed(t *testing.T) {
	d := devdb.Test(t)
	notices := &told{}
	c := New(d, Config{Notify: notices})
	t.Cleanup(c.Stop)
	ctx := t.Context()
	people := accounts(t, d, 2)
	ada, bob := people[0], people[1]
	pair := core.DirectRoom(ada, bob)
	exec := func(sql string, args ...any) {
		require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, args...)
			return err
		}))
	}
	exec(`INSERT INTO conversations (room, pair, home_region, created_at) VALUES ($1, true, 'eu-west', now())`, pair)
	exec(`INSERT INTO conversation_people (room, user_id, since) VALUES ($1, $2, now()), ($1, $3, now())`, pair, ada, bob)
	for i := range 3 {
		_, _, err := c.Store(ctx, Draft{Room: pair, Sender: ada, ClientID: fmt.Sprint(i), Body: "hello"})
		require.NoError(t, err)
	}
	work := func() []string {
		notices.list = nil
		var list []missed
		require.NoError(t, d.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := q.Query(ctx, `SELECT payload FROM jobs WHERE kind = $1 AND run_at > now()`, MissedJob)
			if err != nil {
				return err
			}
			list, err = pgx.CollectRows(rows, pgx.RowTo[missed])
			return err
		}))
		for _, j := range list {
			require.NoError(t, c.tellMissed(ctx, j))
		}
		return notices.list
	}
	require.Equal(t, []string{bob.String() + " message"}, work(), "once for all three, or for those of two jobs")
	exec(`UPDATE messages SET sent_at = sent_at - INTERVAL '1 minute' WHERE number = 1`)
	require.Empty(t, work(), "they were told of an older one")
	exec(`INSERT INTO receipts (room, user_id, device, delivered, read, at) VALUES ($1, $2, 'd', 2, 0, now())`, pair, bob)
	require.Equal(t, []string{bob.String() + " message"}, work(), "of what came since they were here")
	exec(`INSERT INTO conversation_mutes (room, user_id, until) VALUES ($1, $2, now() + INTERVAL '1 hour')`, pair, bob)
	require.Empty(t, work())
	exec(`DELETE FROM conversation_mutes`)
	exec(`UPDATE receipts SET delivered = 3`)
	require.Empty(t, work(), "they are here")
}

// What is found is in conversations that one is in now, with nobody who is blocked.
func TestSearch(t *testing.T) {
	d := devdb.Test(t)
	c := New(d, Config{})
	t.Cleanup(c.Stop)
	ctx := t.Context()
	exec := func(sql string, args ...any) {
		require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, args...)
			return err
		}))
	}
	people := accounts(t, d, 2)
	ada, bob := people[0], people[1]
	id, ok := core.GroupOf(room)
	require.True(t, ok)
	exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'walkers', 'eu-west')`, id)
	exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'owner')`, id, ada)
	pair := core.DirectRoom(ada, bob)
	exec(`INSERT INTO conversations (room, pair, home_region, created_at) VALUES ($1, true, 'eu-west', now())`, pair)
	exec(`INSERT INTO conversation_people (room, user_id, since) VALUES ($1, $2, now()), ($1, $3, now())`, pair, ada, bob)
	for i, body := range []string{"Meet at the Lake, 18:30", "the lakeside café", "Übermorgen!", "it's foo@example.org & co", "nothing"} {
		_, _, err := c.Store(ctx, Draft{Room: room, Sender: ada, ClientID: fmt.Sprint(i), Body: body})
		require.NoError(t, err)
	}
	for i, other := range []string{pair, "group:x"} {
		_, _, err := c.Store(ctx, Draft{Room: other, Sender: bob, ClientID: fmt.Sprint(i), Body: "another lake"})
		require.NoError(t, err)
	}
	find := func(room, q string) (numbers []uint64) {
		list, _, err := c.Search(ctx, ada, room, q, "", 10)
		require.NoError(t, err, q)
		for _, m := range list {
			numbers = append(numbers, m.Number)
		}
		return numbers
	}
	require.Equal(t, []uint64{2, 1}, find(room, "lake"))
	require.Equal(t, []uint64{1, 2, 1}, find("", "LAK"))
	require.Equal(t, []uint64{1}, find(room, "meet lake"))
	require.Equal(t, []uint64{3}, find(room, "überm"), "whatever the database's locale")
	require.Equal(t, []uint64{2}, find(room, "café"))
	require.Equal(t, []uint64{4}, find(room, "foo@example.org"))
	require.Empty(t, find(room, "lak side"))
	require.Empty(t, find(room, "lake' | 'x"))
	require.Empty(t, find("group:x", "lake"), "not in it")
	for _, bad := range []string{"", "a", "&|", "1 ", "one two three four five six seven eight nine"} {
		_, _, err := c.Search(ctx, ada, room, bad, "", 10)
		require.ErrorIs(t, err, ErrBadSearch, bad)
	}
	_, next, err := c.Search(ctx, ada, room, "lake", "", 1)
	require.NoError(t, err)
	page, next, err := c.Search(ctx, ada, room, "lake", next, 1)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, uint64(1), page[0].Number)
	require.Empty(t, next)

	require.NoError(t, c.Hide(ctx, ada, room, 1))
	require.Equal(t, []uint64{2}, find(room, "lake"))
	_, err = c.Delete(ctx, Actor{User: ada}, room, 2)
	require.NoError(t, err)
	require.Empty(t, find(room, "lake"))
	_, err = c.Edit(ctx, Actor{User: ada}, room, 5, "the lake, after all", nil, nil)
	require.NoError(t, err)
	require.Equal(t, []uint64{5}, find(room, "lake"))

	require.Equal(t, []uint64{1}, find(pair, "lake"))
	exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, bob, ada)
	require.Empty(t, find(pair, "lake"))
	exec(`DELETE FROM blocks`)
	exec(`UPDATE conversation_people SET left_at = now() WHERE user_id = $1`, ada)
	require.Equal(t, []uint64{5}, find("", "lake"))
	exec(`DELETE FROM group_members`)
	require.Empty(t, find("", "lake"))
}

// op is one of what people do to a message at random.
type op struct {
	kind   int
	by     core.UserID
	number uint64
	body   string
	emoji  string
	on     bool
}

type opKey struct{}

// Whatever people do to messages at the same time, through several nodes, while
// others write: revisions are dense, each is one step of a machine that knows nothing
// of databases, what was told of a revision is what is stored, and who asks for what
// changed after any point has the truth.
// Where nobody knows whether a revision was stored, it is asked for again: then it is so
// already, and the others are told all the same.
func TestARevisionOfALostAnswerIsTold(t *testing.T) {
	url := devdb.TestURL(t)
	d := devdb.Connect(t, url, db.Config{})
	ada, room := accounts(t, d, 1)[0], "group:"+uuid.NewString()
	_, _, err := start(t, d).Store(t.Context(), Draft{Room: room, Sender: ada, ClientID: "c", Body: "one"})
	require.NoError(t, err)
	var cuts atomic.Int64
	faults := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		if commit && cuts.Add(1) == 1 {
			return devdb.CutAnswered
		}
		return devdb.Spare
	}}
	var told []uint64
	c := New(devdb.Connect(t, url, db.Config{Dial: faults.Dial}), Config{Revised: func(_ context.Context, m Message) { told = append(told, m.Change) }})
	t.Cleanup(c.Stop)
	edit := func() error {
		_, err := c.Edit(t.Context(), Actor{User: ada}, room, 1, "two", nil, nil)
		return err
	}
	require.ErrorIs(t, edit(), db.ErrAmbiguous)
	require.Empty(t, told)
	require.NoError(t, edit())
	require.Equal(t, []uint64{1}, told)
}

func TestRevisionsAtRandom(t *testing.T) {
	const messages, workers, each = 12, 8, 60
	url := devdb.TestURL(t)
	type step struct {
		ops []op // that told it: who made it, and who found it so
		m   Message
	}
	var mu sync.Mutex
	steps := map[uint64]step{} // by change
	cfg := Config{Audience: everybody(), Revised: func(ctx context.Context, m Message) {
		mu.Lock()
		defer mu.Unlock()
		s, twice := steps[m.Change]
		if twice {
			assert.Equal(t, s.m.normal(), m.normal(), "change %d was told as something else", m.Change)
		}
		steps[m.Change] = step{append(s.ops, ctx.Value(opKey{}).(op)), m}
	}}
	var nodes []*Chat
	for range 2 {
		c := New(devdb.Connect(t, url, db.Config{}), cfg)
		t.Cleanup(c.Stop)
		nodes = append(nodes, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	people := accounts(t, nodes[0].db, 4)
	emojis := []string{"👍", "❤️", "🎉"}
	model := map[uint64]Message{}
	for i := range messages {
		m, _, err := nodes[0].Store(ctx, Draft{Room: room, Sender: people[i%len(people)], ClientID: fmt.Sprint(i), Body: fmt.Sprint("said ", i), Mentions: people[:i%3]})
		require.NoError(t, err)
		m.SenderName = m.Sender.String()
		model[m.Number] = m
	}

	do := func(c *Chat, o op) (Message, error) {
		ctx := context.WithValue(ctx, opKey{}, o)
		switch o.kind {
		case 0:
			return c.Delete(ctx, Actor{User: o.by}, room, o.number)
		case 1, 2, 3:
			return c.Edit(ctx, Actor{User: o.by}, room, o.number, o.body, nil, nil)
		case 4, 5:
			return c.Pin(ctx, Actor{User: o.by}, room, o.number, o.on)
		}
		return c.React(ctx, Actor{User: o.by}, room, o.number, o.emoji, o.on)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for i := range each {
				o := op{kind: r.IntN(12), by: people[r.IntN(len(people))], number: 1 + r.Uint64N(messages), body: fmt.Sprint(w, i), emoji: emojis[r.IntN(len(emojis))], on: r.IntN(3) > 0}
				if o.kind == 0 && r.IntN(4) > 0 {
					o.kind = 6 // few are deleted
				}
				m, err := do(nodes[r.IntN(len(nodes))], o)
				if err != nil && !errors.Is(err, ErrNotYours) && !errors.Is(err, ErrGone) {
					t.Errorf("%+v: %v", o, err)
				}
				if err == nil && m.Number != o.number {
					t.Errorf("%+v: answered with %d", o, m.Number)
				}
			}
		})
	}
	wg.Go(func() { // counts the same row up
		for i := range 50 {
			if _, _, err := nodes[i%2].Store(ctx, Draft{Room: room, Sender: people[0], ClientID: fmt.Sprint("late", i), Body: "meanwhile"}); err != nil {
				t.Errorf("store: %v", err)
			}
		}
	})
	wg.Wait()

	number, last, err := nodes[0].Last(ctx, room)
	require.NoError(t, err)
	require.Equal(t, uint64(messages+50), number)
	require.Len(t, steps, int(last), "dense, and each told")
	t.Logf("%d revisions", last)
	require.Greater(t, last, uint64(100))
	for change := range last {
		change++
		s, ok := steps[change]
		require.True(t, ok, "change %d", change)
		was := model[s.m.Number]
		i := slices.IndexFunc(s.ops, func(o op) bool { return !idle(was, o) })
		require.GreaterOrEqual(t, i, 0, "nobody made change %d", change)
		o := s.ops[i]
		want := step1(t, was, o)
		want.Change = change
		got := s.m
		if o.kind >= 1 && o.kind <= 3 {
			require.False(t, got.EditedAt.Before(was.SentAt))
			want.EditedAt = got.EditedAt
		}
		require.Equal(t, want.normal(), got.normal(), "change %d by %+v", change, o)
		model[o.number] = got
	}
	// The highest change is the truth, and asking from anywhere leads there.
	all, err := nodes[1].History(ctx, people[0], room, Page{Before: messages + 1, Limit: MaxPage})
	require.NoError(t, err)
	require.Len(t, all.Messages, messages)
	for _, m := range all.Messages {
		require.Equal(t, model[m.Number].normal(), m.normal())
		if m.Deleted {
			require.Zero(t, rows(t, nodes[0].db, room, m.Number))
		}
	}
	for _, from := range []uint64{0, last / 2, last - 1, last} {
		known := map[uint64]Message{}
		for change, s := range steps {
			if change <= from && change >= known[s.m.Number].Change {
				known[s.m.Number] = s.m
			}
		}
		for more, at := true, from; more; {
			l, err := nodes[0].History(ctx, people[1], room, Page{Revised: true, ChangedAfter: at, Limit: 3})
			require.NoError(t, err)
			for _, m := range l.Messages {
				require.Greater(t, m.Change, at)
				at, known[m.Number] = m.Change, m
			}
			more = l.More
		}
		for n, m := range known {
			require.Equal(t, model[n].normal(), m.normal(), "from %d", from)
		}
	}
}

// normal is a message with what has no order in one order.
func (m Message) normal() Message {
	m.parts = false
	m.Mentions = slices.Clone(m.Mentions)
	slices.SortFunc(m.Mentions, func(a, b core.UserID) int { return slices.Compare(a[:], b[:]) })
	var list []Reaction
	for _, r := range m.Reactions {
		if len(r.Users) == 0 {
			continue
		}
		r.Users = slices.Clone(r.Users)
		slices.SortFunc(r.Users, func(a, b core.UserID) int { return slices.Compare(a[:], b[:]) })
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Reaction) int { return slices.Compare([]byte(a.Emoji), []byte(b.Emoji)) })
	m.Reactions = list
	if len(m.Mentions) == 0 {
		m.Mentions = nil
	}
	return m
}

// idle reports whether an operation finds a message as it would make it.
func idle(m Message, o op) bool {
	switch o.kind {
	case 0:
		return m.Deleted
	case 1, 2, 3:
		return m.Body == o.body
	case 4, 5:
		return m.Pinned == o.on
	}
	return o.on == slices.ContainsFunc(m.Reactions, func(r Reaction) bool { return r.Emoji == o.emoji && slices.Contains(r.Users, o.by) })
}

// step1 is what an operation that was counted makes of a message.
func step1(t *testing.T, m Message, o op) Message {
	require.False(t, m.Deleted, "what is deleted stays as it is: %+v", o)
	switch o.kind {
	case 0:
		require.Equal(t, m.Sender, o.by)
		return Message{Room: m.Room, Number: m.Number, ID: m.ID, Sender: m.Sender, SenderName: m.SenderName, ClientID: m.ClientID, SentAt: m.SentAt, ReplyTo: m.ReplyTo, Deleted: true}
	case 1, 2, 3:
		require.Equal(t, m.Sender, o.by)
		require.NotEqual(t, m.Body, o.body)
		m.Body, m.Mentions = o.body, nil
		return m
	case 4, 5:
		require.NotEqual(t, o.on, m.Pinned, "no change")
		m.Pinned = o.on
		return m
	}
	i := slices.IndexFunc(m.Reactions, func(r Reaction) bool { return r.Emoji == o.emoji })
	m.Reactions = slices.Clone(m.Reactions)
	if i < 0 {
		i = len(m.Reactions)
		m.Reactions = append(m.Reactions, Reaction{Emoji: o.emoji})
	}
	users := slices.Clone(m.Reactions[i].Users)
	require.NotEqual(t, o.on, slices.Contains(users, o.by), "no change")
	if o.on {
		users = append(users, o.by)
	} else {
		users = slices.DeleteFunc(users, func(u core.UserID) bool { return u == o.by })
	}
	m.Reactions[i].Users = users
	return m
}
