package chat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// talkBundle is a database with people in it.
type talkBundle struct {
	t *testing.T
	*Conversations
	mu   sync.Mutex
	now  time.Time
	told []string // what the edges were told
	url  string
}

func setupTalks(t *testing.T) *talkBundle {
	b := &talkBundle{t: t, url: devdb.TestURL(t), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.Conversations = NewConversations(devdb.Connect(t, b.url, db.Config{}), ConversationsConfig{Region: "eu-west", Announce: b, Now: func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now = b.now.Add(time.Millisecond)
		return b.now
	}})
	return b
}

func (b *talkBundle) MembershipChanged(_ context.Context, room string, version uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, fmt.Sprint(room, " ", version))
}

func (b *talkBundle) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := b.told
	b.told = nil
	return told
}

func (b *talkBundle) exec(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.tx(func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql, args...); return err }))
}

func (b *talkBundle) tx(fn func(ctx context.Context, tx pgx.Tx) error) error {
	return b.db.InTx(b.t.Context(), pgx.TxOptions{}, fn)
}

func (b *talkBundle) person(name string) core.UserID {
	id := core.UserID(uuid.New())
	b.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, name)
	return id
}

func (b *talkBundle) friends(x, y core.UserID) {
	b.exec(`INSERT INTO friends (user_id, friend_id) VALUES ($1, $2), ($2, $1)`, x, y)
}

// group makes a group of people, the first of whom owns it.
func (b *talkBundle) group(people ...core.UserID) core.GroupID {
	id := core.GroupID(uuid.New())
	b.exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'crew', 'eu-west')`, id)
	for i, p := range people {
		role := "member"
		if i == 0 {
			role = "owner"
		}
		b.exec(`INSERT INTO group_members (group_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4)`, id, p, role, b.Conversations.now())
	}
	return id
}

// say puts messages into a room.
func (b *talkBundle) say(room string, by core.UserID, n int) {
	b.exec(`WITH c AS (INSERT INTO rooms (room, last_number) VALUES ($1, $3::BIGINT)
		ON CONFLICT (room) DO UPDATE SET last_number = rooms.last_number + excluded.last_number RETURNING last_number)
		INSERT INTO messages (room, number, id, sender, client_id, body, sent_at)
		SELECT $1, c.last_number - $3::BIGINT + n, gen_random_uuid(), $2, gen_random_uuid()::TEXT, 'message', $4 FROM c, generate_series(1, $3::BIGINT) n`,
		room, by, n, b.Conversations.now())
}

func (b *talkBundle) one(user core.UserID, room string) Conversation {
	b.t.Helper()
	c, err := b.Conversation(b.t.Context(), user, room)
	require.NoError(b.t, err)
	return c
}

// Random devices of random people say random numbers in any order, again and again,
// through several nodes of which some are stopped in between, into a room that grows:
// what is stored is at each look at least what it was, and at the end the greatest
// that was said, at most the room's last number when it was. What is published is
// never more than what is stored, and what was published last is that.
func TestReceiptsAgainstAnOracle(t *testing.T) {
	b := setupTalks(t)
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(7, seed))
		people := []core.UserID{b.person(fmt.Sprint("a", seed)), b.person(fmt.Sprint("b", seed)), b.person(fmt.Sprint("c", seed))}
		room := b.group(people...).Room()
		b.say(room, people[0], 5)
		last := uint64(5)

		old := b.Conversations.now().AddDate(0, -6, 0) // so that a sweep finds all of them
		var mu sync.Mutex
		published := map[core.UserID]upTo{}
		node := func() *Receipts {
			n := NewReceipts(b.db, ReceiptsConfig{Flush: time.Duration(1+r.IntN(5)) * time.Millisecond, Now: func() time.Time { return old }, Publish: func(in string, seen []Seen) {
				mu.Lock()
				defer mu.Unlock()
				for _, s := range seen {
					published[s.User] = published[s.User].with(upTo{delivered: s.Delivered, read: s.Read})
				}
			}})
			require.NoError(t, n.Start(t.Context()))
			return n
		}
		nodes := []*Receipts{node(), node(), node()}
		want, was := map[core.UserID]upTo{}, map[core.UserID]Seen{}
		for range 120 {
			user, device := people[r.IntN(3)], fmt.Sprint("device", r.IntN(3))
			d, rd := uint64(r.IntN(int(last)+4)), uint64(r.IntN(int(last)+4))
			n := nodes[r.IntN(3)]
			if r.IntN(10) == 0 {
				require.NoError(t, n.Set(t.Context(), room, user, device, d, rd))
				want[user] = want[user].with(upTo{delivered: min(d, last), read: min(rd, last)})
			} else if d <= last && rd <= last { // what is clamped depends on when it is stored
				n.Advance(room, user, device, d, rd)
				want[user] = want[user].with(upTo{delivered: d, read: rd})
			}
			switch r.IntN(20) {
			case 0:
				i := r.IntN(3)
				nodes[i].Stop()
				nodes[i] = node()
			case 1:
				b.say(room, core.UserID(uuid.New()), 3)
				last += 3
			case 2:
				require.NoError(t, b.Sweep(t.Context()))
				who := people[r.IntN(3)]
				_, own, err := b.ReceiptsOf(t.Context(), who, room)
				require.NoError(t, err)
				require.GreaterOrEqual(t, own.Read, was[who].Read)
				require.GreaterOrEqual(t, own.Delivered, was[who].Delivered)
				require.LessOrEqual(t, own.Read, own.Delivered)
				require.LessOrEqual(t, own.Delivered, last)
				was[who] = own
			}
		}
		for _, n := range nodes {
			n.Stop()
			n.Stop()
			require.Zero(t, testutil.ToFloat64(n.dropped))
		}
		for i, p := range people {
			w := want[p]
			require.Equal(t, w, published[p], "seed %d", seed)
			_, own, err := b.ReceiptsOf(t.Context(), p, room)
			require.NoError(t, err)
			if i == 0 {
				w = w.with(upTo{read: 5}) // they wrote those
			}
			require.Equal(t, Seen{User: p, Delivered: w.delivered, Read: w.read}, own, "seed %d", seed)
			require.Equal(t, last-w.read, b.one(p, room).Unread)
		}
	}
}

// What can't be stored harms nobody else's; when too much waits, more is dropped and
// counted, and what waits goes on growing.
func TestReceiptsAreBounded(t *testing.T) {
	b := setupTalks(t)
	ana := b.person("ana")
	room := b.group(ana).Room()
	b.say(room, core.UserID(uuid.New()), 9)
	n := NewReceipts(b.db, ReceiptsConfig{Flush: time.Hour, Most: 2})
	require.NoError(t, n.Start(t.Context()))
	n.Advance(room, ana, "one", 3, 0)
	n.Advance(room, core.UserID(uuid.New()), "nobody's", 3, 0)
	n.Advance(room, ana, "three", 9, 9) // too much
	n.Advance(room, ana, "one", 7, 4)
	n.Advance(room, ana, "\x00", 9, 9)
	n.Advance("", ana, "one", 9, 9)
	require.Equal(t, 1.0, testutil.ToFloat64(n.dropped))
	n.Stop()
	n.Advance(room, ana, "one", 9, 9)
	require.Equal(t, 2.0, testutil.ToFloat64(n.dropped))
	_, own, err := b.ReceiptsOf(t.Context(), ana, room)
	require.NoError(t, err)
	require.Equal(t, Seen{ana, 7, 4}, own)
	require.ErrorIs(t, n.Set(t.Context(), room, ana, string(make([]byte, 65)), 1, 1), ErrBadDevice)
}

// What waits while its user leaves, or is blocked, is neither stored nor told.
func TestReceiptsOfWhoLeft(t *testing.T) {
	b := setupTalks(t)
	ctx := t.Context()
	ana, bo := b.person("ana"), b.person("bo")
	group := b.group(ana, bo)
	b.friends(ana, bo)
	talk, err := b.Open(ctx, ana, bo)
	require.NoError(t, err)
	var told []string
	n := NewReceipts(b.db, ReceiptsConfig{Publish: func(room string, seen []Seen) { told = append(told, fmt.Sprint(room, seen)) }})
	kept := func() (count int) {
		require.NoError(t, b.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			return q.QueryRow(ctx, `SELECT count(*) FROM receipts WHERE user_id = $1`, bo).Scan(&count)
		}))
		return count
	}
	for _, room := range []string{group.Room(), talk.Room} {
		b.say(room, ana, 3)
		n.Advance(room, bo, "phone", 3, 3)
	}
	b.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, ana, bo)
	require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM group_members WHERE user_id = $1`, bo); err != nil {
			return err
		}
		return b.Left(ctx, tx, bo, group)
	}))
	_, err = n.flush(ctx)
	require.NoError(t, err)
	require.Zero(t, kept())
	require.Empty(t, told)

	b.exec(`DELETE FROM blocks WHERE blocker = $1`, ana)
	n.Advance(talk.Room, bo, "phone", 2, 1)
	_, err = n.flush(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, kept())
	require.Len(t, told, 1)
	n.Advance(talk.Room, bo, "phone", 3, 3)
	require.NoError(t, b.Leave(ctx, bo, talk.Room))
	_, err = n.flush(ctx)
	require.NoError(t, err)
	require.Len(t, told, 1)

	b.exec(`INSERT INTO receipts (room, user_id, device, delivered, read, at) VALUES ($1, $2, 'late', 1, 1, $3)`, group.Room(), bo, b.Conversations.now())
	require.NoError(t, b.Sweep(ctx))
	require.Equal(t, 1, kept(), "the one of the talk, to which they may come back")
}

// What was stored of late may have been told to nobody; not of those who tell nobody.
func TestReceiptsOfLate(t *testing.T) {
	b := setupTalks(t)
	ana, bo, cy := b.person("ana"), b.person("bo"), b.person("cy")
	room := b.group(ana, bo, cy).Room()
	b.say(room, core.UserID(uuid.New()), 9)
	b.exec(`INSERT INTO conversation_settings (user_id, receipts) VALUES ($1, 'nobody')`, cy)
	now := time.Now()
	n := NewReceipts(devdb.Connect(t, b.url, db.Config{}), ReceiptsConfig{Now: func() time.Time { return now }})
	set := func(user core.UserID, device string, delivered, read uint64) {
		require.NoError(t, n.Set(t.Context(), room, user, device, delivered, read))
	}
	set(ana, "one", 7, 6)
	set(bo, "one", 4, 4)
	now = now.Add(2 * time.Minute)
	set(ana, "two", 3, 2) // her other device has more
	set(cy, "one", 9, 9)
	list, err := n.Lately(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, []Seen{{ana, 7, 6}}, list)
}

func TestReceiptsOfALostAnswerAreTold(t *testing.T) {
	b := setupTalks(t)
	ana := b.person("ana")
	room := b.group(ana).Room()
	b.say(room, core.UserID(uuid.New()), 9)
	var cuts atomic.Int64
	faults := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		if commit && cuts.Add(1) == 1 {
			return devdb.CutAnswered
		}
		return devdb.Spare
	}}
	told := make(chan []Seen, 10)
	n := NewReceipts(devdb.Connect(t, b.url, db.Config{Dial: faults.Dial}), ReceiptsConfig{Flush: time.Millisecond, Publish: func(_ string, s []Seen) { told <- s }})
	require.NoError(t, n.Start(t.Context()))
	n.Advance(room, ana, "one", 4, 2)
	select {
	case s := <-told:
		require.Equal(t, []Seen{{ana, 4, 2}}, s)
	case <-time.After(20 * time.Second):
		t.Fatal("not told")
	}
	n.Stop()
	require.Zero(t, testutil.ToFloat64(n.dropped))
}
