package fences

import (
	"context"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo/fence"
	"github.com/mustermesh/muster/internal/run"
)

// Fencing is what a group's room needs to have its fences run.
type Fencing struct {
	Version uint64  // of the group: grows with changes of fences, too
	Meet    float64 // metres at which two members meet; 0: that is not told
	Fences  []Fence
	States  []State // without an entry: outside, no crossing yet
}

func (f *Fencing) none() bool { return len(f.Fences) == 0 && f.Meet == 0 }

// Fence is a fence of a group.
type Fence struct {
	ID, Name string
	Revision uint64 // of shape and dwell: visits are counted anew
	Shape    fence.Shape
	Dwell    time.Duration
	From     time.Time // positions captured earlier don't count
}

// State is how somebody stands to a fence, or two members (no Fence) to each
// other: User is the smaller id then.
type State struct {
	Fence       string
	User, Other string
	Revision    uint64
	N           uint64 // how many crossings there were
	Inside      bool
	At          time.Time // of the last one
}

// Crossing is one that is to be stored, as the n-th.
type Crossing struct {
	*wire.Crossing
	Revision uint64 // of the fence
	N        uint64
}

// Store keeps fences and crossings (core/location).
type Store interface {
	// Fencing returns a room's fences, and how its members stand to them, as of
	// version min or later.
	Fencing(ctx context.Context, room string, min uint64) (Fencing, error)
	// Cross stores a crossing if the state has n-1, and reports whether it did, now
	// or before. If not, it returns the state that is there: without a user if the
	// fence is gone or changed.
	Cross(ctx context.Context, room string, c Crossing) (now State, stored bool, err error)
	// Outside has a user stand nowhere in a room, without a crossing.
	Outside(ctx context.Context, room, user string) error
	// Stored returns the crossings stored since a time.
	Stored(ctx context.Context, room string, since time.Time) ([]*wire.Crossing, error)
}

// Config of Fences. Logger and Registry may be nil.
type Config struct {
	Store Store
	// Publish has a stored crossing numbered and spread in its room.
	Publish func(room string, c *wire.Crossing)
	// Owns reports whether this node owns a room. It is not called by Observe.
	Owns     func(room string) bool
	Log      *slog.Logger
	Registry prometheus.Registerer
}

const (
	workers    = 4
	queueLimit = 256              // fixes that wait per room; beyond, the newest of each device stay
	reload     = 30 * time.Second // what was read is read again after
	reloadGap  = 250 * time.Millisecond
	tickEvery  = time.Second
	sweepEvery = 5 * time.Second
	idleMost   = 45 * time.Minute // a room of which nothing is heard is forgotten
	noneMost   = 2 * time.Minute  // and one without fences
	// noneReload is when a room without fences is read again. That it has some by
	// then is told by the version that comes with each fix; this is for the case
	// that it doesn't, and most rooms are such rooms.
	noneReload = 2 * time.Minute
)

// Fences watches the rooms that this node owns. It is a run.Service.
type Fences struct {
	cfg     Config
	metrics *metrics
	errands errands
	workers [workers]*worker
	seed    maphash.Seed
	life    run.Lifecycle
}

// New returns Fences that work once they were started.
func New(cfg Config) *Fences {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	f := &Fences{cfg: cfg, metrics: newMetrics(cfg.Registry), seed: maphash.MakeSeed()}
	f.errands.more = make(chan struct{}, runners)
	for i := range f.workers {
		f.workers[i] = &worker{f: f, rooms: map[string]*room{}, active: map[*room]bool{}, wake: make(chan struct{}, 1)}
	}
	return f
}

// Start begins to watch.
func (f *Fences) Start(ctx context.Context) error {
	return f.life.Start(ctx, func(ctx context.Context) error {
		for _, w := range f.workers {
			f.life.Go(func() { w.run(ctx) })
		}
		for range runners {
			f.life.Go(func() { f.runErrands(ctx) })
		}
		return nil
	})
}

// Stop ends it. What was not stored is found again by who owns the rooms next.
func (f *Fences) Stop() { f.life.Stop(nil) }

// Observe takes a fix that a room accepted; see hub.Config.Observe. It never
// blocks.
func (f *Fences) Observe(id string, version uint64, fix *wire.MemberFix, own bool) {
	if !strings.HasPrefix(id, "group:") {
		return
	}
	w := f.workers[maphash.String(f.seed, id)%workers]
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rooms[id]
	if r == nil {
		r = &room{id: id}
		w.rooms[id] = r
	}
	r.used = now
	again := version < r.last // the room is another one, which has not heard of all
	r.last = version
	if r.none && version <= r.version && now.Before(r.due) && !again {
		return
	}
	if again {
		r.due = now // so that what follows waits for the reading, too
	}
	r.heard = max(r.heard, version)
	if len(r.queue) >= max(queueLimit, r.limit) {
		n := len(r.queue)
		r.queue = newestOf(r.queue)
		r.limit = 2 * len(r.queue)
		f.metrics.dropped.Add(float64(n - len(r.queue)))
	}
	r.queue = append(r.queue, observed{fix, own, now})
	w.readyLocked(r)
}

// observed is a fix that waits.
type observed struct {
	fix *wire.MemberFix
	own bool
	at  time.Time
}

// newestOf keeps the newest fix of each device, and that it was withdrawn before:
// a position that was taken back must not be forgotten to have been.
func newestOf(queue []observed) []observed {
	type device struct {
		user, device string
		withdrawn    bool
	}
	kept := make([]observed, 0, len(queue))
	seen := map[device]bool{}
	for i := len(queue) - 1; i >= 0; i-- {
		x := queue[i].fix
		d := device{x.User, x.Device, x.GetFix().GetPoint() == nil}
		if !seen[d] {
			seen[d] = true
			kept = append(kept, queue[i])
		}
	}
	for i, j := 0, len(kept)-1; i < j; i, j = i+1, j-1 {
		kept[i], kept[j] = kept[j], kept[i]
	}
	return kept
}

// room is one that fixes were heard of.
type room struct {
	id string

	// Guarded by the worker's lock.
	queue   []observed
	limit   int  // above queueLimit, if it has more devices than that
	ready   bool // on the worker's list
	none    bool // it has no fences, as of version, until due
	version uint64
	due     time.Time
	heard   uint64 // the highest version
	last    uint64 // the one that came last
	used    time.Time

	// The worker's own.
	watch   *watch // nil: not read yet, or none
	loading bool
	read    time.Time // when it was read last
	retry   time.Time // not before
	tries   int
}

// worker runs the watches of some rooms, in one goroutine.
type worker struct {
	f      *Fences
	wake   chan struct{}
	active map[*room]bool // that have a watch, or wait for one; the worker's own

	mu    sync.Mutex // guards the following
	rooms map[string]*room
	ready []*room
	done  []result
}

// result is what became of an errand.
type result struct {
	room *room
	errand
	fencing *Fencing // of a reading
	state   State
	stored  bool
	err     error
}

func (w *worker) readyLocked(r *room) {
	if !r.ready {
		r.ready = true
		w.ready = append(w.ready, r)
		w.wakeUp()
	}
}

func (w *worker) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// report gives a result to the worker.
func (w *worker) report(x result) {
	w.mu.Lock()
	w.done = append(w.done, x)
	w.mu.Unlock()
	w.wakeUp()
}

func (w *worker) run(ctx context.Context) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var swept time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := time.Now()
			w.tick(now, now.Sub(swept) >= sweepEvery)
			if now.Sub(swept) >= sweepEvery {
				swept = now
			}
		case <-w.wake:
		}
		w.mu.Lock()
		ready, done := w.ready, w.done
		w.ready, w.done = nil, nil
		for _, r := range ready {
			r.ready = false
		}
		w.mu.Unlock()
		now := time.Now()
		for _, x := range done {
			w.take(now, x)
		}
		for _, r := range ready {
			w.work(now, r)
		}
	}
}

// work takes what waits in a room's queue.
func (w *worker) work(now time.Time, r *room) {
	w.mu.Lock()
	heard := r.heard
	var queue []observed
	if r.watch != nil {
		queue, r.queue, r.limit = r.queue, nil, 0
	}
	w.mu.Unlock()
	w.active[r] = true
	for _, x := range queue {
		r.watch.fix(x.at, x.fix, x.own)
	}
	w.send(r)
	w.load(now, r, heard)
}

// load has a room's fences read, if it is time.
func (w *worker) load(now time.Time, r *room, heard uint64) {
	known := r.version
	if r.watch != nil {
		known = r.watch.version
	}
	due := r.read.Add(reload)
	if heard > known || r.watch != nil && r.watch.stale {
		due = r.read.Add(reloadGap)
	}
	if r.loading || now.Before(due) || now.Before(r.retry) {
		return
	}
	r.loading = true
	if r.watch != nil {
		r.watch.stale = false
	}
	w.f.errands.put(job{w: w, room: r, min: heard})
}

// take takes what became of an errand.
func (w *worker) take(now time.Time, x result) {
	r := x.room
	switch {
	case x.reading():
		w.loaded(now, r, x)
	case r.watch == nil: // it ended meanwhile
	case x.entry != nil:
		if !r.watch.crossed(now, x.errand, x.state, x.stored, x.err) {
			r.read = time.Time{}
			w.load(now, r, r.watch.version)
		}
	case x.person != nil:
		r.watch.forgotten(now, x.person, x.err)
	case x.retell:
		r.watch.retold(now, x.err)
	}
	w.send(r)
}

func (x *result) reading() bool { return x.entry == nil && x.person == nil && !x.retell }

func (w *worker) loaded(now time.Time, r *room, x result) {
	r.loading = false
	if x.err != nil {
		r.retry = again(now, r.tries)
		r.tries++
		if r.watch != nil {
			r.watch.stale = true
		}
		w.f.cfg.Log.Debug("fences can't be read", "room", r.id, "err", x.err)
		return
	}
	r.read, r.tries = now, 0
	none := x.fencing.none()
	w.mu.Lock()
	r.none, r.version, r.due = none, max(r.version, x.fencing.Version), now.Add(noneReload)
	more := len(r.queue) > 0 || r.heard > r.version
	if none {
		r.queue, r.limit, more = nil, 0, r.heard > r.version
	}
	if more {
		w.readyLocked(r)
	}
	w.mu.Unlock()
	switch {
	case none:
		w.end(r)
	default:
		w.active[r] = true
		if r.watch == nil {
			r.watch = newWatch(r.id)
			w.f.metrics.rooms.Inc()
		}
		r.watch.load(now, *x.fencing)
	}
}

// send has a watch's errands run.
func (w *worker) send(r *room) {
	if r.watch == nil {
		return
	}
	for i, x := range r.watch.out {
		w.f.errands.put(job{w: w, room: r, errand: x})
		r.watch.out[i] = errand{}
	}
	r.watch.out = r.watch.out[:0]
	if r.watch.bad > 0 {
		w.f.metrics.bad.Add(float64(r.watch.bad))
		r.watch.bad = 0
	}
}

// end ends a room's watch, if it has one.
func (w *worker) end(r *room) {
	delete(w.active, r)
	if r.watch != nil {
		r.watch = nil
		w.f.metrics.rooms.Dec()
	}
}

// tick gives the watches the time, and tries again what failed. Now and then it
// forgets rooms that are silent, or another node's.
func (w *worker) tick(now time.Time, sweep bool) {
	for r := range w.active {
		owner := r.watch != nil && sweep && w.f.cfg.Owns(r.id)
		if r.watch != nil {
			r.watch.tick(now, owner)
		}
		w.work(now, r)
		if sweep && r.watch != nil && !r.loading && r.watch.quiet() {
			w.drop(now, r, owner)
		}
	}
	if !sweep {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, r := range w.rooms {
		if !w.active[r] && !r.loading && !r.ready && now.Sub(r.used) > noneMost {
			delete(w.rooms, id)
		}
	}
}

// drop ends the watch of a room that is another's now, or silent.
func (w *worker) drop(now time.Time, r *room, owner bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	idle := now.Sub(r.used)
	if len(r.queue) == 0 && !r.ready && (idle > idleMost || !owner && idle > sweepEvery) {
		delete(w.rooms, r.id)
		w.end(r)
	}
}
