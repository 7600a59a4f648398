package outbox

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/run"
)

// Config holds what a Relay needs beside its database; all but Sinks is optional.
type Config struct {
	Sinks   []Sink
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Workers is how many keys are sent at once, per sink, unless the sink says
	// otherwise (Wide). Default 8.
	Workers int
	// Batch is how many events Send gets at most. Default 100.
	Batch int
	// Timeout bounds one Send. Default 10 s.
	Timeout time.Duration
	// Lease is for how long a claim holds after the last Send that succeeded, at
	// least twice Timeout: so long after the death of a process its keys are
	// another's. Default 30 s.
	Lease time.Duration
	// Poll is how often the table is looked at for what other processes left.
	// Default 1 s.
	Poll time.Duration
}

// Relay sends events to sinks. It is a run.Service.
type Relay struct {
	db    *db.DB
	cfg   Config
	log   *slog.Logger
	life  run.Lifecycle
	lanes []*lane
	*metrics
}

// lane is the way to one sink.
type lane struct {
	*Relay
	sink  Sink
	name  string
	scope string
	slots chan struct{} // holds one for each key that is being sent
	more  chan struct{} // a hint has come

	mu    sync.Mutex
	hints map[string]bool // keys in which something was appended here
	busy  map[string]bool // keys that are being sent here
}

// maxHints bounds the hints of a lane; the poll finds what is beyond.
const maxHints = 10_000

// New returns a relay.
func New(d *db.DB, cfg Config) *Relay {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Workers = cmp.Or(max(cfg.Workers, 0), 8)
	cfg.Batch = cmp.Or(max(cfg.Batch, 0), 100)
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.Lease = max(cmp.Or(cfg.Lease, 30*time.Second), 2*cfg.Timeout)
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	r := &Relay{db: d, cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Metrics)}
	for _, s := range cfg.Sinks {
		l := &lane{
			Relay: r, sink: s, name: s.Name(), more: make(chan struct{}, 1), hints: map[string]bool{}, busy: map[string]bool{},
		}
		if only, ok := s.(scoped); ok {
			l.scope, s = only.scope, only.Sink
		}
		workers := cfg.Workers
		if w, ok := s.(Wide); ok {
			workers = max(workers, w.AtOnce())
		}
		l.slots = make(chan struct{}, workers)
		r.lanes = append(r.lanes, l)
		r.know(l.name)
	}
	return r
}

// Start makes the sinks known to those who append, and begins to send.
func (r *Relay) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(ctx context.Context) error {
		if err := r.register(ctx); err != nil {
			return fmt.Errorf("outbox: %w", err)
		}
		stop := r.db.OnWake(topic, func(key string) {
			for _, l := range r.lanes {
				l.hint(key)
			}
		})
		for _, l := range r.lanes {
			r.life.Go(func() { l.work(ctx) })
		}
		r.life.Go(func() {
			defer stop()
			r.tend(ctx)
		})
		return nil
	})
}

// Stop ends what is being sent: another process, or the next start, sends what is
// left.
func (r *Relay) Stop() { r.life.Stop(nil) }

// hint says that there is something to send under a key.
func (l *lane) hint(key string) {
	if !within(key, l.scope) {
		return
	}
	l.mu.Lock()
	if len(l.hints) < maxHints {
		l.hints[key] = true
	}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// takeHints returns the hints for keys that aren't being sent.
func (l *lane) takeHints() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var keys []string
	for key := range l.hints {
		if !l.busy[key] {
			delete(l.hints, key)
			keys = append(keys, key)
		}
	}
	return keys
}

// work claims keys, by hints and by looking at the table, and sends them.
func (l *lane) work(ctx context.Context) {
	cursor := "" // the table is looked at piece by piece, so that no key hides others
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		var keys []string
		var err error
		select {
		case <-ctx.Done():
			return
		case <-l.more:
			keys = l.takeHints()
		case <-poll.C:
			wait := l.cfg.Poll/2 + rand.N(l.cfg.Poll)
			if keys, cursor, err = l.waiting(ctx, cursor); err == nil && cursor != "" {
				wait = 0
			}
			poll.Reset(wait)
		}
		for len(keys) > 0 && err == nil && ctx.Err() == nil {
			n := l.reserve(ctx, len(keys))
			var claims []claim
			claims, err = l.claim(ctx, keys[:n])
			for range n - len(claims) {
				<-l.slots
			}
			keys = keys[n:]
			for _, c := range claims {
				l.life.Go(func() { l.send(ctx, c) })
			}
		}
		if err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "claim events", "sink", l.name, "err", err)
			poll.Reset(l.cfg.Poll)
		}
	}
}

// reserve waits until a key may be sent, and takes room for up to n that may.
func (l *lane) reserve(ctx context.Context, n int) int {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for i := 1; i < n; i++ {
		select {
		case l.slots <- struct{}{}:
		default:
			return i
		}
	}
	return n
}

// claim is the right to send what waits under a key.
type claim struct {
	key      string
	token    uuid.UUID
	failures int
	until    time.Time // surely held before, by the process's clock
}

// send sends what waits under a key until nothing does.
func (l *lane) send(ctx context.Context, c claim) {
	defer l.done(c.key)
	defer func() {
		if ctx.Err() != nil { // others need not wait for the lease to run out
			l.giveBack(ctx, c)
		}
	}()
	for last := false; ; {
		var events []Sent
		var err error
		if !last {
			events, err = l.read(ctx, c)
		}
		if err == nil && len(events) == 0 {
			var released bool
			if released, err = l.release(ctx, c); released {
				return
			} else if err == nil {
				last = false // one came in between
				continue
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "read events", "sink", l.name, "key", c.key, "err", err)
			}
			return // the lease runs out
		}
		if time.Until(c.until) < l.cfg.Timeout {
			return // too late to send in safety
		}
		began := time.Now()
		err = l.deliver(ctx, events)
		l.sent(l.name, events, time.Since(began), err)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil {
			c.failures++
			wait := min(250*time.Millisecond<<min(c.failures-1, 8), time.Minute)
			wait = wait/2 + rand.N(wait/2)
			l.log.WarnContext(ctx, "events were not taken", "sink", l.name, "key", c.key, "n", events[0].N, "events", len(events), "again_in", wait, "err", err)
			if err := l.fail(ctx, c, wait); err != nil && ctx.Err() == nil {
				l.log.WarnContext(ctx, "give a key back", "sink", l.name, "err", err)
			}
			return
		}
		until := time.Now().Add(l.cfg.Lease)
		held, err := l.taken(ctx, c, events[len(events)-1].N)
		if err != nil || !held {
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "events were taken, and may come again", "sink", l.name, "key", c.key, "held", held, "err", err)
			}
			return
		}
		c.failures, c.until = 0, until
		last = len(events) < l.cfg.Batch // so much waited: release sees what came since
	}
}

// deliver gives events to the sink; a panic is an error.
func (l *lane) deliver(ctx context.Context, events []Sent) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	return l.sink.Send(ctx, events)
}

// done says that a key isn't sent any more here; what was appended meanwhile is
// looked for again.
func (l *lane) done(key string) {
	<-l.slots
	l.mu.Lock()
	delete(l.busy, key)
	again := l.hints[key]
	l.mu.Unlock()
	if again {
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
}

// tend says now and then that the sinks are in use, and counts what waits.
func (r *Relay) tend(ctx context.Context) {
	for wait := rand.N(5 * time.Second); ; wait = 30 * time.Second {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if err := r.count(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "count events", "err", err)
		}
	}
}
