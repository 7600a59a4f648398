package chat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/errs"
)

// Whatever is there and whatever comes, in a batch that repeats itself: new
// messages get the next numbers without a gap in the order in which they came,
// and known ones keep theirs.
func TestBatches(t *testing.T) {
	c := start(t, devdb.Test(t))
	known := make(map[key]Message)
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(1, seed))
		var batch []*pending
		for range 1 + r.IntN(40) {
			p := &pending{id: uuid.New(), Draft: Draft{Room: room, ClientID: fmt.Sprint(r.IntN(1000)), Body: fmt.Sprint(r.Int())}}
			p.Sender[0] = byte(r.IntN(3))
			if m, ok := known[key{p.Sender, p.ClientID}]; ok && r.IntN(2) == 0 {
				p.id = m.ID // an earlier attempt of this call
			}
			batch = append(batch, p)
		}
		answers, err := c.try(t.Context(), room, batch)
		require.NoError(t, err)
		require.Len(t, answers, len(batch))
		for i, a := range answers {
			p := batch[i]
			m, ok := known[key{p.Sender, p.ClientID}]
			if !ok {
				m = Message{Room: room, Number: uint64(len(known) + 1), ID: p.id, Sender: p.Sender,
					ClientID: p.ClientID, Body: p.Body, SentAt: a.message.SentAt}
				known[key{p.Sender, p.ClientID}] = m
			}
			require.Equal(t, answer{message: m, stored: m.ID == p.id}, a)
		}
		last, _, err := c.Last(t.Context(), room)
		require.NoError(t, err)
		require.Equal(t, uint64(len(known)), last)
	}
}

// A batch of new messages is one wait for the database; the first one of a connection, which prepares its statements, is two.
func TestABatchIsOneRoundTrip(t *testing.T) {
	var writes atomic.Int64
	f := &devdb.Faults{Decide: func(bool) devdb.Cut {
		writes.Add(1)
		return devdb.Spare
	}}
	c := start(t, devdb.Connect(t, devdb.TestURL(t), db.Config{Dial: f.Dial, MaxConns: 1}))
	sender := user()
	trips := func(clientID string, wantStored bool) int64 {
		before := writes.Load()
		_, stored, err := c.Store(t.Context(), Draft{Room: room, Sender: sender, ClientID: clientID, Body: "x"})
		require.NoError(t, err)
		require.Equal(t, wantStored, stored)
		return writes.Load() - before
	}
	require.Equal(t, int64(2), trips("0", true))
	for i := range 20 {
		require.Equal(t, int64(1), trips(fmt.Sprint(i+1), true))
	}
	require.Positive(t, trips("0", false)) // to find that out is another one, and more the first time
}

// A message that another node commits while this one waits for the counter
// isn't seen by the statement that waits, and still is there only once.
func TestStoredElsewhereMeanwhile(t *testing.T) {
	c := start(t, devdb.Test(t))
	theirs := Message{ID: uuid.New(), Sender: user(), ClientID: "a", Body: "theirs"}
	locked, commit := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		require.NoError(t, c.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO rooms (room, last_number) VALUES ($1, 1)`, room)
			if err == nil {
				_, err = tx.Exec(ctx, `INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) VALUES ($1, 1, $2, $3, 'a', 'theirs', now())`,
					room, theirs.ID, uuid.UUID(theirs.Sender))
			}
			close(locked)
			<-commit
			return err
		}))
	})
	<-locked
	batch := []*pending{
		{id: uuid.New(), Draft: Draft{Room: room, Sender: user(), ClientID: "a", Body: "first"}},
		{id: uuid.New(), Draft: Draft{Room: room, Sender: theirs.Sender, ClientID: "a", Body: "ours"}},
		{id: uuid.New(), Draft: Draft{Room: room, Sender: user(), ClientID: "a", Body: "last"}},
	}
	wg.Go(func() {
		_, err := c.try(t.Context(), room, batch)
		require.True(t, db.Violates(err, "messages_client_id_unique"), "%v", err)
		answers, err := c.commit(room, batch)
		require.NoError(t, err)
		require.Equal(t, []bool{true, false, true}, []bool{answers[0].stored, answers[1].stored, answers[2].stored})
		require.Equal(t, "theirs", answers[1].message.Body)
		require.Equal(t, []uint64{2, 1, 3}, []uint64{answers[0].message.Number, answers[1].message.Number, answers[2].message.Number})
	})
	waitsForALock(t, c.db)
	close(commit)
	wg.Wait()
}

// waitsForALock returns once some statement waits for another transaction.
func waitsForALock(t *testing.T, d *db.DB) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waiting int
		require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
			return q.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
				AND datname = current_database()`).Scan(&waiting)
		}))
		return waiting > 0
	}, 10*time.Second, 5*time.Millisecond)
}

// ack is what a sender was told.
type ack struct {
	draft  Draft
	number uint64
	id     uuid.UUID
}

// storm lets many senders write into a few rooms through several nodes, each
// repeating a message until it is acknowledged, sometimes at another node,
// sometimes once more after that. Then it checks what must hold whatever
// happened: numbers are dense, nothing is there twice, nothing that was
// acknowledged is lost, and every answer for a message is the same.
func storm(t *testing.T, nodes []*Chat, rooms, senders, each int) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	acks := make(map[string][]ack)
	var retries, broadcast atomic.Int64
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			sender := user()
			r := rand.New(rand.NewPCG(2, uint64(s)))
			for i := range each {
				d := Draft{Room: fmt.Sprintf("group:%d", r.IntN(rooms)), Sender: sender, ClientID: fmt.Sprint(i), Body: fmt.Sprint(s, i)}
				for extra := r.IntN(8) == 0; ; {
					m, stored, err := nodes[r.IntN(len(nodes))].Store(ctx, d)
					if err != nil {
						e, temporary := errs.From(err)
						if !temporary || e.RetryAfter == 0 {
							t.Errorf("store: %v", err)
							return
						}
						retries.Add(1)
						continue
					}
					if stored {
						broadcast.Add(1)
					}
					mu.Lock()
					acks[d.Room] = append(acks[d.Room], ack{d, m.Number, m.ID})
					mu.Unlock()
					last, _, err := nodes[r.IntN(len(nodes))].Last(ctx, d.Room)
					if err == nil && last < m.Number {
						t.Errorf("acknowledged %d, but the last is %d", m.Number, last)
					}
					if !extra {
						break
					}
					extra = false
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d messages, %d retries, %d broadcast", senders*each, retries.Load(), broadcast.Load())
	require.LessOrEqual(t, broadcast.Load(), int64(senders*each))
	require.GreaterOrEqual(t, broadcast.Load()+retries.Load(), int64(senders*each), "only a caller that was left in doubt isn't told to broadcast")

	total := 0
	for room, acked := range acks {
		var all []Message
		for more := true; more; {
			var page Listing
			var err error
			var before uint64
			if len(all) > 0 {
				before = all[0].Number
			}
			err = eventuallyRead(ctx, func() (err error) {
				page, err = nodes[0].History(ctx, core.UserID{}, room, Page{Before: before, Limit: MaxPage})
				return err
			})
			require.NoError(t, err)
			all, more = append(page.Messages, all...), page.More
		}
		ids := make(map[key]bool)
		for i, m := range all {
			require.Equal(t, uint64(i+1), m.Number, "dense from 1")
			k := key{m.Sender, m.ClientID}
			require.False(t, ids[k], "once")
			ids[k] = true
		}
		for _, a := range acked {
			require.LessOrEqual(t, a.number, uint64(len(all)), "acknowledged and lost")
			m := all[a.number-1]
			require.Equal(t, a.id, m.ID)
			require.Equal(t, a.draft, Draft{Room: m.Room, Sender: m.Sender, ClientID: m.ClientID, Body: m.Body})
		}
		total += len(all)
	}
	require.Equal(t, senders*each, total)
}

func eventuallyRead(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

func TestStormFromSeveralNodes(t *testing.T) {
	url := devdb.TestURL(t)
	var nodes []*Chat
	for range 3 {
		nodes = append(nodes, start(t, devdb.Connect(t, url, db.Config{})))
	}
	storm(t, nodes, 2, 30, 20)
}

// The same while connections break at COMMIT, before and after it, and
// elsewhere, and the server ends sessions.
func TestStormWithKilledConnections(t *testing.T) {
	url := devdb.TestURL(t)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(3, 4))
	faults := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		mu.Lock()
		defer mu.Unlock()
		if n := r.IntN(30); commit && n < 6 {
			return []devdb.Cut{devdb.CutUnsent, devdb.CutLost, devdb.CutAnswered}[n%3]
		}
		if r.IntN(200) == 0 {
			return devdb.CutLost
		}
		return devdb.Spare
	}}
	var nodes []*Chat
	for range 3 {
		nodes = append(nodes, start(t, devdb.Connect(t, url, db.Config{Dial: faults.Dial, Name: "node"})))
	}
	killer := devdb.Connect(t, url, db.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			err := killer.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE application_name = 'node' ORDER BY random() LIMIT 1`)
				return err
			})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("kill: %v", err)
			}
		}
	})
	storm(t, nodes, 2, 20, 20)
	cancel()
	wg.Wait()
	t.Logf("%d connections cut", faults.Cuts())
	require.Positive(t, faults.Cuts())
}

// Messages per second of hot and of many rooms, from one and from three nodes.
func BenchmarkStore(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		for _, rooms := range []int{1, 20} {
			b.Run(fmt.Sprintf("nodes=%d/rooms=%d", nodes, rooms), func(b *testing.B) {
				url := devdb.TestURL(b)
				var cs []*Chat
				for range nodes {
					cs = append(cs, start(b, devdb.Connect(b, url, db.Config{})))
				}
				var n atomic.Int64
				b.SetParallelism(50)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					sender := user()
					for pb.Next() {
						i := n.Add(1)
						_, _, err := cs[i%int64(nodes)].Store(b.Context(), Draft{Room: fmt.Sprintf("group:%d", i%int64(rooms)),
							Sender: sender, ClientID: fmt.Sprint(i), Body: "a message of ordinary length, as people write them"})
						if err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}
