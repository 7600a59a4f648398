package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

func start(t testing.TB, d *db.DB) *Chat {
	t.Helper()
	c := New(d, Config{})
	t.Cleanup(c.Stop)
	return c
}

func user() core.UserID { return core.UserID(uuid.New()) }

const room = "group:6a9c2ba4-25b2-4f3b-a7c5-d3cd0a0b7d11"

func TestStoreAndReadBack(t *testing.T) {
	d := devdb.Test(t)
	c := start(t, d)
	ada := user()
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, home_region) VALUES ($1, 'Ada', 'ada', 'eu-west')`, uuid.UUID(ada))
		return err
	}))

	last, _, err := c.Last(t.Context(), room)
	require.NoError(t, err)
	require.Zero(t, last)

	first, stored, err := c.Store(t.Context(), Draft{Room: room, Sender: ada, ClientID: "a", Body: "hello 🌍"})
	require.NoError(t, err)
	require.True(t, stored)
	require.Equal(t, uint64(1), first.Number)
	require.WithinDuration(t, time.Now(), first.SentAt, time.Minute)
	second, stored, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: "a", Body: "a stranger's"})
	require.NoError(t, err)
	require.True(t, stored, "client ids are the sender's own")
	require.Equal(t, uint64(2), second.Number)

	again, stored, err := c.Store(t.Context(), Draft{Room: room, Sender: ada, ClientID: "a", Body: "something else"})
	require.NoError(t, err)
	require.False(t, stored)
	require.Equal(t, first, again, "a retry gets the first answer")

	elsewhere, stored, err := c.Store(t.Context(), Draft{Room: "group:x", Sender: ada, ClientID: "a", Body: "hi"})
	require.NoError(t, err)
	require.True(t, stored)
	require.Equal(t, uint64(1), elsewhere.Number)

	l, err := c.History(t.Context(), core.UserID{}, room, Page{Limit: 10})
	require.NoError(t, err)
	require.False(t, l.More)
	first.SenderName = "Ada"
	require.Equal(t, []Message{first, second}, l.Messages)
	last, _, err = c.Last(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, uint64(2), last)

	w := first.Wire()
	require.Equal(t, uint64(1), w.Number)
	require.Equal(t, "Ada", w.SenderName)
	require.Equal(t, first.SentAt, w.SentAt.AsTime())
}

func TestHistoryPages(t *testing.T) {
	c := start(t, devdb.Test(t))
	const total = 50
	var wg sync.WaitGroup
	for i := range total {
		wg.Go(func() {
			_, _, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: "x", Body: fmt.Sprint(i)})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	numbers := func(before, after uint64, limit int) (ns []uint64, more bool) {
		l, err := c.History(t.Context(), core.UserID{}, room, Page{Before: before, After: after, Limit: limit})
		require.NoError(t, err)
		for _, m := range l.Messages {
			ns = append(ns, m.Number)
		}
		return ns, l.More
	}
	for _, limit := range []int{1, 7, 25, 50, 51} {
		var forward, backward []uint64
		for after, more := uint64(0), true; more; {
			var page []uint64
			if after == 0 { // an after of 0 asks for the newest: start with the first
				page, _ = numbers(2, 0, limit)
				more = true
			} else {
				page, more = numbers(0, after, limit)
			}
			forward = append(forward, page...)
			after = forward[len(forward)-1]
			require.Equal(t, more, after < total)
		}
		for before, more := uint64(0), true; more; {
			var page []uint64
			page, more = numbers(before, 0, limit)
			backward = append(page, backward...)
			before = backward[0]
			require.Equal(t, more, before > 1)
		}
		for i := range uint64(total) {
			require.Equal(t, i+1, forward[i])
			require.Equal(t, i+1, backward[i])
		}
		require.Len(t, forward, total)
		require.Len(t, backward, total)
	}
	none, more := numbers(1, 0, 10)
	require.Empty(t, none)
	require.False(t, more)
	none, more = numbers(0, total, 10)
	require.Empty(t, none)
	require.False(t, more)
	none, _ = numbers(0, 1<<63+5, 10)
	require.Empty(t, none, "a cursor beyond SQL's integers")
	all, _ := numbers(1<<63+5, 0, 1<<30)
	require.Len(t, all, total)
	one, _ := numbers(0, 0, -1)
	require.Equal(t, []uint64{total}, one)
}

func TestBadDrafts(t *testing.T) {
	c := start(t, devdb.Test(t))
	good := Draft{Room: room, Sender: user(), ClientID: strings.Repeat("ä", MaxClientID), Body: strings.Repeat("🌍", MaxBody)}
	_, stored, err := c.Store(t.Context(), good)
	require.NoError(t, err)
	require.True(t, stored)
	for name, change := range map[string]func(d *Draft){
		"no body":             func(d *Draft) { d.Body = "" },
		"body too long":       func(d *Draft) { d.Body += "x" },
		"huge body":           func(d *Draft) { d.Body = strings.Repeat("x", 10<<20) },
		"body not UTF-8":      func(d *Draft) { d.Body = "\xff" },
		"NUL in body":         func(d *Draft) { d.Body = "a\x00b" },
		"no client id":        func(d *Draft) { d.ClientID = "" },
		"client id too long":  func(d *Draft) { d.ClientID += "x" },
		"client id not UTF-8": func(d *Draft) { d.ClientID = "\xc0\x80" },
		"NUL in client id":    func(d *Draft) { d.ClientID = "\x00" },
		"no room":             func(d *Draft) { d.Room = "" },
		"room too long":       func(d *Draft) { d.Room = strings.Repeat("x", MaxRoom+1) },
	} {
		d := good
		change(&d)
		_, _, err := c.Store(t.Context(), d)
		require.ErrorIs(t, err, ErrBadMessage, name)
	}
	last, _, err := c.Last(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, uint64(1), last)
}

// What waits while a batch commits goes together with the next.
func TestGroupCommit(t *testing.T) {
	var commits atomic.Int64
	f := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		if commit {
			commits.Add(1)
		}
		return devdb.Spare
	}}
	c := start(t, devdb.Connect(t, devdb.TestURL(t), db.Config{Dial: f.Dial}))
	const n = 500
	release := holdRoom(t, c.db)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, _, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: fmt.Sprint(i), Body: "x"})
			require.NoError(t, err)
		})
	}
	eventuallyWaiting(t, c, n-maxBatch) // the first batch may be a whole one
	before := commits.Load()
	release()
	wg.Wait()
	require.LessOrEqual(t, commits.Load()-before, int64(10), "500 messages in a handful of transactions")
}

// holdRoom locks the room's counter, as a batch of another node does.
func holdRoom(t *testing.T, d *db.DB) (release func()) {
	t.Helper()
	held, end := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		require.NoError(t, d.InTx(context.WithoutCancel(t.Context()), pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO rooms (room, last_number) VALUES ($1, 0)
				ON CONFLICT (room) DO UPDATE SET last_number = rooms.last_number`, room)
			close(held)
			<-end
			return err
		}))
	})
	<-held
	release = sync.OnceFunc(func() { close(end); wg.Wait() })
	t.Cleanup(release)
	return release
}

func eventuallyWaiting(t *testing.T, c *Chat, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.rooms[room] != nil && len(c.rooms[room].waiting) >= n
	}, 10*time.Second, time.Millisecond)
}

func TestFullQueue(t *testing.T) {
	c := start(t, devdb.Test(t))
	release := holdRoom(t, c.db)
	var wg sync.WaitGroup
	var stored, refused atomic.Int64
	for i := range maxWaiting + maxBatch + 100 {
		wg.Go(func() {
			_, _, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: fmt.Sprint(i), Body: "x"})
			if err == nil {
				stored.Add(1)
				return
			}
			require.ErrorIs(t, err, ErrBusy)
			e, _ := errs.From(err)
			require.Equal(t, errs.RateLimited, e.Kind)
			require.Positive(t, e.RetryAfter)
			refused.Add(1)
		})
	}
	require.Eventually(t, func() bool { return refused.Load() >= 100 }, 10*time.Second, time.Millisecond)

	// Others aren't held up.
	_, _, err := c.Store(t.Context(), Draft{Room: "group:other", Sender: user(), ClientID: "a", Body: "x"})
	require.NoError(t, err)

	release()
	wg.Wait()
	last, _, err := c.Last(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, stored.Load(), int64(last), "a refused message is not stored")
}

// A caller that goes away before its turn takes its message along.
func TestCallerGone(t *testing.T) {
	c := start(t, devdb.Test(t))
	release := holdRoom(t, c.db)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // occupies the writer
		_, _, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: "a", Body: "x"})
		require.NoError(t, err)
	})
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.rooms[room] != nil && len(c.rooms[room].waiting) == 0
	}, 10*time.Second, time.Millisecond)
	wg.Go(func() {
		_, _, err := c.Store(ctx, Draft{Room: room, Sender: user(), ClientID: "b", Body: "x"})
		require.ErrorIs(t, err, context.Canceled)
	})
	eventuallyWaiting(t, c, 1)
	cancel()
	release()
	wg.Wait()
	c.Stop()
	last, _, err := c.Last(t.Context(), room)
	require.NoError(t, err)
	require.Equal(t, uint64(1), last)
}

func TestStop(t *testing.T) {
	c := start(t, devdb.Test(t))
	release := holdRoom(t, c.db)
	var wg sync.WaitGroup
	send := func(i int) {
		wg.Go(func() {
			_, stored, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: fmt.Sprint(i), Body: "x"})
			require.NoError(t, err, "what waits goes through")
			require.True(t, stored)
		})
	}
	send(0) // occupies the writer
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.rooms[room] != nil && len(c.rooms[room].waiting) == 0
	}, 10*time.Second, time.Millisecond)
	for i := range 19 {
		send(i + 1)
	}
	eventuallyWaiting(t, c, 19)
	stopping := make(chan struct{})
	wg.Go(func() { close(stopping); c.Stop() })
	<-stopping
	require.Eventually(t, func() bool {
		_, _, err := c.Store(t.Context(), Draft{Room: "group:other", Sender: user(), ClientID: uuid.NewString(), Body: "x"})
		return err != nil && errors.Is(err, ErrStopped)
	}, 10*time.Second, time.Millisecond)
	release()
	wg.Wait()
	c.Stop()
	require.Empty(t, c.rooms)
}

// Stop doesn't wait for ever for a database that doesn't answer.
func TestStopOnADeadDatabase(t *testing.T) {
	c := start(t, devdb.Test(t))
	c.grace = 50 * time.Millisecond
	holdRoom(t, c.db)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := c.Store(t.Context(), Draft{Room: room, Sender: user(), ClientID: "a", Body: "x"})
		require.ErrorIs(t, err, db.ErrAmbiguous)
	})
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.rooms) == 1
	}, 10*time.Second, time.Millisecond)
	c.Stop()
	wg.Wait()
}

// The same for a batch that is tried for too long.
func TestPatience(t *testing.T) {
	c := start(t, devdb.Test(t))
	c.patience = 50 * time.Millisecond
	release := holdRoom(t, c.db)
	d := Draft{Room: room, Sender: user(), ClientID: "a", Body: "x"}
	_, _, err := c.Store(t.Context(), d)
	require.ErrorIs(t, err, db.ErrAmbiguous)
	release()
	c.patience = time.Minute
	m, _, err := c.Store(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, uint64(1), m.Number)
}
