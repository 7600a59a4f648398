// Package chat stores the messages of rooms and reads them back.
//
// # Numbers
//
// The messages of a room are numbered 1, 2, 3, … without a gap; the number is
// their only order. The counter (rooms.last_number) and the rows are written by
// one statement that locks the counter's row first, so whoever is told a number
// can read every lower one.
//
// # Group commit
//
// A commit costs a round trip and a sync of the disk, whatever is in it. So
// while a batch of a room is being committed, what arrives for that room waits
// and goes together with the next:
//
//	Store ─┐                      ┌─ BEGIN, one statement, COMMIT ─┐
//	Store ─┼─▶ waiting (bounded) ─┤  in one round trip             ├─▶ answers
//	Store ─┘   one per room       └─ one batch at a time ◀─────────┘
//
// The statement looks the client ids up, counts the room's number up by what is
// new, and inserts that; see store in batch.go.
//
// Batches of one room from several nodes queue at the lock of the counter.
// Rooms don't wait for each other. When the queue of a room is full, Store
// answers ErrBusy at once: a sender who is told to slow down is better than a
// queue that grows.
//
// # Exactly once
//
// A message is known by (room, sender, client id). A repeated one gets the
// first one's answer and stored=false. Each draft gets its id before the first
// attempt: when a COMMIT was ambiguous, the next attempt finds the client ids,
// and a row with our own id says that the first attempt did it.
//
// # Isolation
//
// The transaction runs in READ COMMITTED, not SERIALIZABLE as all others, and
// loses nothing by that: the counter is read and written under the lock of its
// row, messages never change, and the unique constraints on (room, number) and
// (room, sender, client_id) hold in any isolation. What it gains stands in
// docs/adr/0010-sql-transactions.md: in SERIALIZABLE, PostgreSQL fails all who
// waited for the lock instead of letting the next one through.
package chat

import (
	"context"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// Limits of a message.
const (
	MaxBody     = 4000 // runes
	MaxClientID = 64   // runes
	MaxRoom     = 128  // bytes
	MaxPage     = 200  // messages of one History
)

const (
	maxWaiting = 1024 // per room on this node; a full queue takes well under a second
	maxBatch   = 256
)

// What callers choose on. The codes are those of the realtime protocol.
var (
	ErrBadMessage = errs.New(errs.Invalid, "bad_message",
		"a message has 1 to %d characters of text and a client id of 1 to %d characters", MaxBody, MaxClientID)
	ErrBusy = errs.New(errs.RateLimited, "rate_limited",
		"too many messages are waiting in this room; send it again").After(time.Second)
	ErrStopped = errs.New(errs.Unavailable, "draining",
		"this node is shutting down; connect again").After(time.Second)
)

// Draft is a message before it has a number. Its room and its sender's right
// to write there are the caller's business.
type Draft struct {
	Room     string
	Sender   core.UserID
	ClientID string // chosen by the client, unique per sender and room
	Body     string
}

// Message is a stored message.
type Message struct {
	Room       string
	Number     uint64
	ID         uuid.UUID
	Sender     core.UserID
	SenderName string // of today; only History fills it in
	ClientID   string
	Body       string
	SentAt     time.Time // when its batch was written
}

// Chat stores and reads messages. It is safe for concurrent use.
type Chat struct {
	db     *db.DB
	ctx    context.Context // of all batches: ends when Stop runs out of patience
	cancel context.CancelFunc
	// patience is how long a batch is tried while the database conflicts, is
	// away or leaves us in doubt; grace is how long Stop lets what is waiting
	// go through.
	patience, grace time.Duration
	wg              sync.WaitGroup // writers, one per room with something waiting
	metrics         metrics

	mu      sync.Mutex // guards the following fields
	stopped bool
	rooms   map[string]*queue // rooms with a writer
}

// queue is what waits for a room's writer.
type queue struct {
	waiting []*pending
}

// pending is a draft whose caller waits.
type pending struct {
	Draft
	id     uuid.UUID
	ctx    context.Context // of the caller
	answer chan answer     // holds one, so the writer never waits
}

type answer struct {
	message Message
	stored  bool
	err     error
}

// New returns a Chat on a migrated database.
func New(d *db.DB) *Chat {
	ctx, cancel := context.WithCancel(context.Background())
	return &Chat{db: d, ctx: ctx, cancel: cancel, patience: 10 * time.Second, grace: 5 * time.Second,
		rooms: make(map[string]*queue), metrics: newMetrics()}
}

// Stop refuses further messages, lets those that wait go through, and returns
// when nothing runs any more. It may be called twice.
func (c *Chat) Stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	defer time.AfterFunc(c.grace, c.cancel).Stop()
	c.wg.Wait()
	c.cancel()
}

// Store stores a message and returns after COMMIT. stored is false if the
// message was there already, from an earlier call with the same room, sender
// and client id; then the earlier message is the answer, whatever the draft
// says.
//
// A caller that gets an error, or whose ctx ends, can't know whether the
// message is stored, unless the error is ErrBadMessage, ErrBusy or ErrStopped.
// It finds out by calling again with the same client id.
func (c *Chat) Store(ctx context.Context, d Draft) (m Message, stored bool, err error) {
	if !valid(d) {
		return Message{}, false, ErrBadMessage
	}
	p := &pending{Draft: d, id: uuid.New(), ctx: ctx, answer: make(chan answer, 1)}
	if err := c.enqueue(p); err != nil {
		return Message{}, false, err
	}
	select {
	case a := <-p.answer:
		return a.message, a.stored, a.err
	case <-ctx.Done():
		return Message{}, false, context.Cause(ctx)
	}
}

// valid: NUL is the one character of UTF-8 that SQL's text can't hold.
func valid(d Draft) bool {
	text := func(s string, max int) bool {
		if s == "" || len(s) > max*utf8.UTFMax || !utf8.ValidString(s) {
			return false
		}
		for i := range len(s) {
			if s[i] == 0 {
				return false
			}
		}
		return utf8.RuneCountInString(s) <= max
	}
	return text(d.Body, MaxBody) && text(d.ClientID, MaxClientID) && text(d.Room, MaxRoom) && len(d.Room) <= MaxRoom
}

func (c *Chat) enqueue(p *pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrStopped
	}
	q := c.rooms[p.Room]
	if q == nil {
		q = &queue{}
		c.rooms[p.Room] = q
		c.wg.Go(func() { c.writeRoom(p.Room, q) })
	}
	if len(q.waiting) >= maxWaiting {
		return ErrBusy
	}
	q.waiting = append(q.waiting, p)
	return nil
}

// next takes the next batch of a room; none ends its writer.
func (c *Chat) next(room string, q *queue) []*pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(q.waiting) == 0 {
		delete(c.rooms, room)
		return nil
	}
	n := min(len(q.waiting), maxBatch)
	batch := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return batch
}

// writeRoom commits what waits for a room, batch after batch, until nothing
// does.
func (c *Chat) writeRoom(room string, q *queue) {
	for {
		batch := c.next(room, q)
		if batch == nil {
			return
		}
		batch = wanted(batch)
		if len(batch) == 0 {
			continue
		}
		answers, err := c.commit(room, batch)
		for i, p := range batch {
			if err != nil {
				p.answer <- answer{err: err}
			} else {
				p.answer <- answers[i]
			}
		}
	}
}

// wanted leaves out those whose callers have gone before their turn.
func wanted(batch []*pending) []*pending {
	var w []*pending
	for _, p := range batch {
		if err := p.ctx.Err(); err != nil {
			p.answer <- answer{err: err}
		} else {
			w = append(w, p)
		}
	}
	return w
}
