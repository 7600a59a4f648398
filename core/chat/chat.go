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
// Where several messages are under way at any time, a batch waits a moment for those
// that the answers to the last one bring (gather).
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
//
// # Revisions
//
// A message is edited, deleted for everyone, reacted to and pinned. Revisions of a
// room are counted without a gap, too (rooms.last_change), and a message has the
// number of its last one: of two states of it the one with the higher change is the
// truth, and whoever misses a change asks for what was revised after the one before.
package chat

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// Limits of a message.
const (
	MaxMentions    = 20
	MaxAttachments = 10

	MaxBody     = 4000 // runes
	MaxClientID = 64   // runes
	MaxRoom     = 128  // bytes
	MaxPage     = 200  // messages of one History
)

const (
	maxWaiting = 1024 // per room on this node; a full queue takes well under a second
	maxBatch   = 256

	linger    = 20 * time.Millisecond // a room's writer waits for more, where many write
	maxGather = 2 * time.Millisecond  // a message waits for others to go with, at most, and half of the last commit
)

// What callers choose on. The codes are those of the realtime protocol.
var (
	ErrBadMessage = errs.New(errs.Invalid, "bad_message",
		"a message has 1 to %d characters of text (or an attachment), a client id of 1 to %d characters, and at most %d mentions and %d attachments",
		MaxBody, MaxClientID, MaxMentions, MaxAttachments)
	ErrNoReplyTo = errs.New(errs.Invalid, "reply_not_found", "the message that this answers is not in this room").At("body.reply_to")
	ErrBusy      = errs.New(errs.RateLimited, "rate_limited",
		"too many messages are waiting in this room; send it again").After(time.Second)
	ErrStopped = errs.New(errs.Unavailable, "draining",
		"this node is shutting down; connect again").After(time.Second)
)

// Draft is a message before it has a number. Its room and its sender's right
// to write there are the caller's business, who looks at it first: see Config.Members.
type Draft struct {
	Room        string
	Sender      core.UserID
	ClientID    string // chosen by the client, unique per sender and room
	Body        string // may be empty beside attachments
	ReplyTo     uint64 // number of the message that this answers; 0: none
	Mentions    []core.UserID
	Attachments []uuid.UUID // finished uploads of the sender

	Queued func() // optional: called when a plain one has its place among those of the room
}

// rich reports whether a draft needs more than a row.
func (d Draft) rich() bool { return len(d.Mentions)+len(d.Attachments) > 0 }

// Message is a stored message.
type Message struct {
	Room        string
	Number      uint64
	ID          uuid.UUID
	Sender      core.UserID
	SenderName  string // of today; only what is read back has it
	ClientID    string
	Body        string
	SentAt      time.Time // when its batch was written
	ReplyTo     uint64    // 0: none
	Mentions    []core.UserID
	Attachments []Attachment
	EditedAt    time.Time // zero: never
	Deleted     bool      // for everyone: body, mentions, attachments and reactions are gone
	Hidden      bool      // deleted for whoever reads it, who gets none of these either
	Reactions   []Reaction
	Pinned      bool
	Change      uint64 // which of the room's revisions made it so; 0: none

	parts bool // mentions or attachments, which were not read
}

// Attachment is what a message says of a file that came with it.
type Attachment struct {
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	Type      string    `json:"type"`  // media type, by its content
	Size      int64     `json:"size"`  // bytes
	Width     int       `json:"width"` // pixels of an image, else 0
	Height    int       `json:"height"`
	Thumbnail bool      `json:"thumbnail"`
}

// Reaction is an emoji and who reacted with it, the first one first.
type Reaction struct {
	Emoji string
	Users []core.UserID
}

// Attachments are the files that come with messages. core/attachments satisfies it.
type Attachments interface {
	// Attach gives a sender's finished uploads to a message, in its transaction. What
	// is another's, unfinished or in a message already it refuses.
	Attach(ctx context.Context, tx pgx.Tx, sender core.UserID, room string, ids []uuid.UUID) ([]Attachment, error)
	// Detach removes the files of a message that is deleted, in that transaction.
	Detach(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error
}

// Notifier tells people of a message while they are away, in the caller's
// transaction.
type Notifier interface {
	// NotifyOnce tells nothing that a user was told under that key before.
	NotifyOnce(ctx context.Context, tx pgx.Tx, to core.UserID, kind, once string, data map[string]any) error
}

// Hearer is somebody who hears a room, and may have muted it.
type Hearer struct {
	User  core.UserID
	Muted bool
}

// Config holds what is optional about a Chat; its zero value works.
type Config struct {
	// Members has a message stored, edited, reacted to or pinned only if who does it is in
	// the room and writes there at that moment; else that is the caller's business alone.
	Members     bool
	Attachments Attachments // nil: messages have none
	Notify      Notifier    // nil: nobody is told
	// Audience returns those of some users who hear a room, in the message's
	// transaction. Nil: mentions are left out.
	Audience func(ctx context.Context, tx pgx.Tx, room string, of []core.UserID) ([]Hearer, error)
	// Revised hears of each revision after its commit. It must not block.
	Revised func(ctx context.Context, m Message)
	Now     func() time.Time // default time.Now
}

// Chat stores and reads messages. It is safe for concurrent use.
type Chat struct {
	db     *db.DB
	cfg    Config
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
	came    chan struct{} // holds one: something was added
	// expect is how many were under way when the last batch was answered: who wrote
	// then probably writes again. patience is how long they are waited for.
	expect   int
	patience time.Duration
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
func New(d *db.DB, cfg Config) *Chat {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Chat{db: d, cfg: cfg, ctx: ctx, cancel: cancel, patience: 10 * time.Second, grace: 5 * time.Second,
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
	if d.rich() {
		return c.storeRich(ctx, p)
	}
	if err := c.enqueue(p); err != nil {
		return Message{}, false, err
	}
	if d.Queued != nil {
		d.Queued()
	}
	select {
	case a := <-p.answer:
		if a.err != nil || a.stored || a.message.Change == 0 && !a.message.parts {
			return a.message, a.stored, a.err
		}
		m, err := c.Get(ctx, core.UserID{}, d.Room, a.message.Number) // as it is by now, for the room
		m.SenderName = ""
		return m, false, err
	case <-ctx.Done():
		return Message{}, false, context.Cause(ctx)
	}
}

func valid(d Draft) bool {
	body := validText(d.Body, MaxBody) || d.Body == "" && len(d.Attachments) > 0
	return body && validText(d.ClientID, MaxClientID) && validText(d.Room, MaxRoom) && len(d.Room) <= MaxRoom &&
		d.ReplyTo <= math.MaxInt64 && len(d.Mentions) <= MaxMentions && len(d.Attachments) <= MaxAttachments
}

// validText: NUL is the one character of UTF-8 that SQL's text can't hold.
func validText(s string, max int) bool {
	return s != "" && len(s) <= max*utf8.UTFMax && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 && utf8.RuneCountInString(s) <= max
}

func (c *Chat) enqueue(p *pending) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return ErrStopped
	}
	q := c.rooms[p.Room]
	if q == nil {
		q = &queue{came: make(chan struct{}, 1)}
		c.rooms[p.Room] = q
		c.wg.Go(func() { c.writeRoom(p.Room, q) })
	}
	if len(q.waiting) >= maxWaiting {
		return ErrBusy
	}
	q.waiting = append(q.waiting, p)
	select {
	case q.came <- struct{}{}:
	default:
	}
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

// gather waits until as many messages wait as are likely to come: without that, of
// eight that are always under way four would wait while four are stored, and each
// half would have its own commit. Where one writes after the other there is nothing
// to wait for.
func (c *Chat) gather(q *queue) {
	if q.expect < 2 {
		return
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for first := true; ; {
		c.mu.Lock()
		waiting, stopped := len(q.waiting), c.stopped
		c.mu.Unlock()
		if waiting >= q.expect || stopped {
			return
		}
		if waiting > 0 && first {
			first = false
			timer.Reset(q.patience)
		}
		select {
		case <-q.came:
		case <-timer.C:
			return
		}
	}
}

// writeRoom commits what waits for a room, batch after batch, until nothing
// does.
func (c *Chat) writeRoom(room string, q *queue) {
	for {
		c.gather(q)
		batch := c.next(room, q)
		if batch == nil {
			return
		}
		batch = wanted(batch)
		if len(batch) == 0 {
			continue
		}
		began := time.Now()
		answers, err := c.commit(room, batch)
		q.patience = min(time.Since(began)/2, maxGather)
		c.mu.Lock()
		q.expect = min(len(batch)+len(q.waiting), maxBatch)
		c.mu.Unlock()
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
