package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/run"
)

// MaxDevice is the length of a device's name in bytes.
const MaxDevice = 64

// ErrBadDevice is for a device that can't be one.
var ErrBadDevice = errs.New(errs.Invalid, "bad_device", "a device has a name of at most %d bytes", MaxDevice).At("body.device")

const (
	receiptsBatch = 1000             // rows of one statement
	receiptsLimit = 10 * time.Second // of one statement
	receiptsGrace = 5 * time.Second  // of what is left at the end
	receiptsPause = time.Second      // after one that failed
	receiptsKept  = 90 * 24 * time.Hour
	receiptsLate  = time.Minute // for how long what was stored may have been told to nobody
)

// Seen is how far somebody has got in a room: all messages up to Delivered have
// reached a device of theirs, and all up to Read were seen. Read ≤ Delivered.
type Seen struct {
	User            core.UserID
	Delivered, Read uint64
}

// ReceiptsConfig holds what is optional about Receipts; its zero value works.
type ReceiptsConfig struct {
	// Publish tells a room how far some of its people have got now, after it is
	// stored: of those alone who let it be known. It must not block.
	Publish func(room string, seen []Seen)
	Flush   time.Duration // how long what comes is collected; default 200 ms
	Most    int           // devices in rooms that wait at a time; default 65,536
	Log     *slog.Logger
	Now     func() time.Time // default time.Now
}

// Receipts stores how far devices have got in rooms. It is a run.Service, and safe
// for concurrent use.
//
// A receipt is a pair of numbers of a device in a room, and every way to put two
// together takes the greater ones: here while they wait, in the table, over the
// devices of a user, and in whoever hears of it. So it does not matter how often, in
// which order and through which node they come, and none ever goes back. Whether a
// message was delivered to somebody, or read, follows from their numbers and is
// stored nowhere.
//
//	Advance ──▶ waiting: one per (room, user, device) ──every 200 ms──▶ one statement ──▶ Publish
//
// What waits is bounded. When that is full, further devices are dropped and counted,
// and those that wait go on growing: a receipt is said again with the next message,
// and by clients that come back. A statement that fails is tried again with what came
// meanwhile; what a process had when it was killed is lost in the same way.
type Receipts struct {
	db   *db.DB
	cfg  ReceiptsConfig
	life run.Lifecycle
	wake chan struct{}

	advanced, dropped prometheus.Counter
	seconds           prometheus.Histogram

	mu      sync.Mutex // guards the following
	stopped bool
	waiting map[mark]upTo
}

// mark is what a receipt is of, upTo what it says.
type mark struct {
	room, device string
	user         core.UserID
}

type upTo struct {
	delivered, read uint64
	// again: an attempt failed that may have stored it, so it is told as if it were
	// news.
	again bool
}

func (u upTo) with(o upTo) upTo {
	u.read = max(u.read, o.read)
	u.delivered = max(u.delivered, o.delivered, u.read)
	u.again = u.again || o.again
	return u
}

// NewReceipts returns the receipts of a migrated database.
func NewReceipts(d *db.DB, cfg ReceiptsConfig) *Receipts {
	cfg.Flush = cmp.Or(cfg.Flush, 200*time.Millisecond)
	cfg.Most = cmp.Or(cfg.Most, 1<<16)
	if cfg.Publish == nil {
		cfg.Publish = func(string, []Seen) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Receipts{
		db: d, cfg: cfg, wake: make(chan struct{}, 1), waiting: map[mark]upTo{},
		advanced: prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_receipts_total", Help: "Receipts that were stored and were news."}),
		dropped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_receipts_dropped_total", Help: "Receipts that were dropped because too many waited."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_receipts_commit_seconds", Help: "How long a batch of receipts took to be stored.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
}

// Register adds the figures to a registry.
func (r *Receipts) Register(to prometheus.Registerer) error {
	for _, m := range []prometheus.Collector{r.advanced, r.dropped, r.seconds} {
		if err := to.Register(m); err != nil {
			return fmt.Errorf("receipts: register metrics: %w", err)
		}
	}
	return nil
}

// sound says whether a receipt can be stored; one that can't would take the others of
// its batch with it.
func (m mark) sound() bool {
	text := func(s string, most int) bool {
		return len(s) <= most && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
	}
	return m.room != "" && text(m.room, MaxRoom) && text(m.device, MaxDevice)
}

// Advance notes how far a device has got. It never blocks. Of who isn't in the room when
// it is stored, nothing is.
func (r *Receipts) Advance(room string, user core.UserID, device string, delivered, read uint64) {
	m := mark{room: room, device: device, user: user}
	if !m.sound() {
		return
	}
	r.mu.Lock()
	if r.stopped || !r.add(m, upTo{delivered: delivered, read: read}) {
		r.dropped.Inc()
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// add needs r.mu; false if too much waits.
func (r *Receipts) add(m mark, u upTo) bool {
	was, ok := r.waiting[m]
	if !ok && len(r.waiting) >= r.cfg.Most {
		return false
	}
	r.waiting[m] = was.with(u)
	return true
}

// Set is Advance that returns once it is stored.
func (r *Receipts) Set(ctx context.Context, room string, user core.UserID, device string, delivered, read uint64) error {
	m := mark{room: room, device: device, user: user}
	if !m.sound() {
		return ErrBadDevice
	}
	return r.store(ctx, map[mark]upTo{m: upTo{}.with(upTo{delivered: delivered, read: read})})
}

// Start begins storing.
func (r *Receipts) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(ctx context.Context) error {
		r.life.Go(func() { r.run(ctx) })
		return nil
	})
}

// Stop stores what waits, and returns when nothing runs any more.
func (r *Receipts) Stop() { r.life.Stop(nil) }

func (r *Receipts) run(ctx context.Context) {
	defer r.last(ctx)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		wait := r.cfg.Flush
		for more := true; more; {
			pause.Reset(wait)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return
			}
			var err error
			if more, err = r.flush(ctx); err != nil && ctx.Err() == nil {
				r.cfg.Log.WarnContext(ctx, "receipts not stored", "err", err)
				wait = receiptsPause
			} else {
				wait = 0 // what is left goes at once
			}
		}
	}
}

// last stores what is left, and takes no more.
func (r *Receipts) last(ctx context.Context) {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiptsGrace)
	defer cancel()
	for more := true; more; {
		var err error
		if more, err = r.flush(ctx); err != nil {
			r.cfg.Log.WarnContext(ctx, "receipts lost at the end", "err", err)
			return
		}
	}
}

// flush stores some of what waits; more: there is more, or it failed and is to be
// tried again.
func (r *Receipts) flush(ctx context.Context) (more bool, err error) {
	r.mu.Lock()
	batch := make(map[mark]upTo, min(len(r.waiting), receiptsBatch))
	for m, u := range r.waiting {
		if len(batch) == receiptsBatch {
			more = true
			break
		}
		batch[m] = u
		delete(r.waiting, m)
	}
	r.mu.Unlock()
	if len(batch) == 0 {
		return false, nil
	}
	bounded, cancel := context.WithTimeout(ctx, receiptsLimit)
	defer cancel()
	if err = r.store(bounded, batch); err == nil {
		return more, nil
	}
	temporary := bounded.Err() != nil || errors.Is(err, db.ErrUnavailable) || errors.Is(err, db.ErrContended) || errors.Is(err, db.ErrAmbiguous)
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, u := range batch {
		u.again = true
		if !temporary || !r.add(m, u) {
			r.dropped.Inc()
		}
	}
	return len(r.waiting) > 0, err
}

// news is that somebody has got further.
type news struct {
	room   string
	seen   Seen
	public bool // they let it be known
}

// store writes receipts and publishes what they changed.
func (r *Receipts) store(ctx context.Context, batch map[mark]upTo) error {
	// In one order, or two nodes would wait for each other.
	marks := slices.SortedFunc(maps.Keys(batch), func(a, b mark) int {
		return cmp.Or(cmp.Compare(a.room, b.room), slices.Compare(a.user[:], b.user[:]), cmp.Compare(a.device, b.device))
	})
	rooms, users, devices := make([]string, len(marks)), make([]core.UserID, len(marks)), make([]string, len(marks))
	delivered, read, again := make([]int64, len(marks)), make([]int64, len(marks)), make([]bool, len(marks))
	groups := make([]core.GroupID, len(marks)) // the zero one is none
	for i, m := range marks {
		groups[i], _ = core.GroupOf(m.room)
		rooms[i], users[i], devices[i] = m.room, m.user, m.device
		delivered[i], read[i] = asInt(batch[m].delivered), asInt(batch[m].read)
		again[i] = batch[m].again
	}
	var list []news
	began := time.Now()
	// READ COMMITTED: the rows are merged under their locks, whoever came first.
	err := r.db.InOneTrip(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(b *pgx.Batch) {
		b.Queue(storeReceipts, rooms, users, devices, delivered, read, again, r.cfg.Now().UTC(), groups).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n news, err error) {
				err = row.Scan(&n.room, &n.seen.User, &n.seen.Delivered, &n.seen.Read, &n.public)
				return n, err
			})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("store receipts: %w", err)
	}
	r.advanced.Add(float64(len(list)))
	r.seconds.Observe(time.Since(began).Seconds())
	byRoom := map[string][]Seen{}
	var own []news
	for _, n := range list {
		if n.public {
			byRoom[n.room] = append(byRoom[n.room], n.seen)
		} else {
			own = append(own, n)
		}
	}
	if err := r.tellOwn(ctx, own); err != nil {
		return err
	}
	db.AfterCommit(ctx, func(context.Context) { // a request may have a transaction around it
		for room, seen := range byRoom {
			r.cfg.Publish(room, seen)
		}
	})
	return nil
}

// tellOwn tells those who let nobody know how far they have got, on their other
// devices: an event says that the conversation is to be read again. It goes nowhere
// but to their own sessions.
func (r *Receipts) tellOwn(ctx context.Context, own []news) error {
	if len(own) == 0 {
		return nil
	}
	err := r.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		for _, n := range own {
			if err := tell(ctx, tx, core.ConversationUpdated, n.room, []core.UserID{n.seen.User}, n.seen.User); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tell who reads of themself: %w", err)
	}
	return nil
}

func asInt(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// storeReceipts merges receipts into the table, none above the room's last message and
// none of who is not in the room (any more: they waited), and returns those users whose own numbers, of all their devices, have grown by it.
// All parts of a statement see the tables as of its beginning: "before" is what was.
const storeReceipts = `
	WITH said AS (
		SELECT s.room, s.user_id, s.device, s.again, least(s.delivered, r.last_number) AS delivered, least(s.read, r.last_number) AS read
		FROM unnest($1::TEXT[], $2::UUID[], $3::TEXT[], $4::BIGINT[], $5::BIGINT[], $6::BOOL[], $8::UUID[]) AS s (room, user_id, device, delivered, read, again, group_id)
		JOIN rooms AS r ON r.room = s.room
		WHERE EXISTS (SELECT 1 FROM group_members AS g WHERE g.group_id = s.group_id AND g.user_id = s.user_id)
		OR EXISTS (
			SELECT 1 FROM conversation_people AS p JOIN conversations AS c ON c.room = p.room
			WHERE p.room = s.room AND p.user_id = s.user_id AND p.left_at IS NULL AND NOT (c.pair AND EXISTS (
				SELECT 1 FROM conversation_people AS o JOIN blocks AS b ON b.blocker = s.user_id AND b.blocked = o.user_id OR b.blocker = o.user_id AND b.blocked = s.user_id
				WHERE o.room = s.room)))
	), stored AS (
		INSERT INTO receipts (room, user_id, device, delivered, read, at)
		SELECT room, user_id, device, delivered, read, $7::TIMESTAMPTZ FROM said ORDER BY room, user_id, device
		ON CONFLICT (room, user_id, device) DO UPDATE
		SET delivered = greatest(receipts.delivered, excluded.delivered), read = greatest(receipts.read, excluded.read), at = excluded.at
		WHERE receipts.delivered < excluded.delivered OR receipts.read < excluded.read
		RETURNING room
	), now AS (
		SELECT room, user_id, max(delivered) AS delivered, max(read) AS read, bool_or(again) AS again FROM said GROUP BY room, user_id
	), before AS (
		SELECT n.room, n.user_id, max(b.delivered) AS delivered, max(b.read) AS read
		FROM now AS n JOIN receipts AS b ON b.room = n.room AND b.user_id = n.user_id GROUP BY n.room, n.user_id
	)
	SELECT n.room, n.user_id, greatest(n.delivered, b.delivered), greatest(n.read, b.read), coalesce(c.receipts, 'everyone') = 'everyone'
	FROM now AS n
	LEFT JOIN before AS b ON b.room = n.room AND b.user_id = n.user_id
	LEFT JOIN conversation_settings AS c ON c.user_id = n.user_id
	WHERE n.delivered > coalesce(b.delivered, 0) OR n.read > coalesce(b.read, 0) OR n.again`

// Lately returns how far those have got in a room of whom something was stored within
// the last minute, who let it be known: at most a thousand, the last ones. A process
// that is killed, or is not heard, may have stored it and told nobody; told again, it
// changes nothing.
func (r *Receipts) Lately(ctx context.Context, room string) (list []Seen, err error) {
	err = r.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT r.user_id, max(r.delivered), max(r.read) FROM receipts AS r
			 WHERE r.room = $1 AND NOT EXISTS (SELECT 1 FROM conversation_settings AS s WHERE s.user_id = r.user_id AND s.receipts = 'nobody')
			 GROUP BY r.user_id HAVING max(r.at) > $2 ORDER BY max(r.at) DESC LIMIT $3`, room, r.cfg.Now().Add(-receiptsLate).UTC(), receiptsBatch)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Seen, err error) {
			return s, row.Scan(&s.User, &s.Delivered, &s.Read)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read receipts of late: %w", err)
	}
	return list, nil
}

// Joined has somebody who enters a group begin with what is said from now on, in the
// transaction by which they enter: core/groups calls it.
func (s *Conversations) Joined(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) error {
	_, err := tx.Exec(ctx,
		`INSERT INTO receipts (room, user_id, device, delivered, read, at)
		 SELECT room, $2, '', last_number, last_number, $3 FROM rooms WHERE room = $1 AND last_number > 0
		 ON CONFLICT (room, user_id, device) DO UPDATE SET delivered = greatest(receipts.delivered, excluded.delivered),
		   read = greatest(receipts.read, excluded.read), at = excluded.at`, group.Room(), user, s.now())
	if err != nil {
		return fmt.Errorf("begin with what is said from now on: %w", err)
	}
	return nil
}

// Left deletes what is kept of somebody who leaves a group, in that transaction.
func (s *Conversations) Left(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) error {
	if _, err := tx.Exec(ctx, `DELETE FROM receipts WHERE room = $1 AND user_id = $2`, group.Room(), user); err != nil {
		return err
	}
	return forget(ctx, tx, user, group.Room())
}

// Sweep puts what devices had that were silent for long with their users' own, and
// deletes mutes that are over. And it deletes what is left of who is in a group no more:
// a receipt that was being stored while its user left was seen by neither.
func (s *Conversations) Sweep(ctx context.Context) error {
	return s.change(ctx, "sweep receipts", func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		if _, err := tx.Exec(ctx, `DELETE FROM conversation_mutes WHERE until < $1`, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM receipts AS r WHERE r.room LIKE 'group:%' AND r.at > $1
			AND NOT EXISTS (SELECT 1 FROM group_members AS g WHERE g.user_id = r.user_id AND 'group:' || g.group_id::TEXT = r.room)`, now.Add(-receiptsKept)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx,
			`WITH old AS (DELETE FROM receipts WHERE device <> '' AND at < $1 RETURNING room, user_id, delivered, read)
			 INSERT INTO receipts (room, user_id, device, delivered, read, at)
			 SELECT room, user_id, '', max(delivered), max(read), $2::TIMESTAMPTZ FROM old GROUP BY room, user_id
			 ON CONFLICT (room, user_id, device) DO UPDATE
			 SET delivered = greatest(receipts.delivered, excluded.delivered), read = greatest(receipts.read, excluded.read), at = excluded.at`,
			now.Add(-receiptsKept), now)
		return err
	})
}
