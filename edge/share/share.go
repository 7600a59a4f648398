package share

import (
	"cmp"
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/run"
)

// Config is what a Sharer needs. What says optional may be zero.
type Config struct {
	Hub     edge.Hub
	Sharing edge.Sharing
	Members edge.Members
	// Secret decides at which moments coarse views change: the same on all nodes.
	Secret []byte

	Settings edge.Settings                   // optional
	Map      edge.Map                        // optional
	Receipts edge.Receipts                   // optional
	Clients  func(user string) []edge.Client // the user's sessions on this node; optional

	Rate admit.Rate // of fixes of one user, whatever devices: 100 a second, 200 at once
	Most int        // users: 250,000
	// Subjects of fleets: 2,000,000 that are seen exactly, of which one is a fleet's
	// half at most. One that is told by cells takes the room of 8.
	MostOfFleets, MostOfFleet int
	Reread                    time.Duration // what they chose is read again when it is so old: 20 s
	Lapse                     time.Duration // and trusted no longer than: 30 s
	Remember                  time.Duration // a subject who says nothing is forgotten after: 2 h
	Readers                   int           // reads at the same time: 16; a quarter as many are for what changed alone
	Log                       *slog.Logger
	Metrics                   prometheus.Registerer
}

func (c Config) defaults() Config {
	if c.Rate == (admit.Rate{}) {
		c.Rate = admit.Rate{PerSecond: 100, Burst: 200}
	}
	c.Most = cmp.Or(c.Most, 250_000)
	c.MostOfFleets = cmp.Or(c.MostOfFleets, 2_000_000)
	c.MostOfFleet = cmp.Or(c.MostOfFleet, max(1, c.MostOfFleets/2))
	c.Reread = cmp.Or(c.Reread, 20*time.Second)
	c.Lapse = cmp.Or(c.Lapse, 30*time.Second)
	c.Remember = cmp.Or(c.Remember, 2*time.Hour)
	c.Readers = cmp.Or(c.Readers, 16)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}

const (
	shards    = 64
	tick      = time.Second            // how often what is due is looked for
	readWait  = 5 * time.Second        // of one read
	readAgain = 500 * time.Millisecond // after one that failed
	unkept    = 16                     // fixes that wait until it is known whether they are kept
	noteEvery = time.Minute            // how often a receipt that goes on is noted
	maxNamed  = 64                     // groups that a subject's fixes may have named and that still hold

	mostFleets  = 50_000
	plainWeight = 1 // of a subject that is seen exactly: some 330 bytes with its name and fix
	cellsWeight = 8 // and by cells: some 4 KB
)

// Sharer implements edge.Sharer. It is a run.Service.
type Sharer struct {
	cfg     Config
	metrics *metrics
	life    run.Lifecycle
	seed    maphash.Seed
	size    atomic.Int64
	shards  [shards]shard
	reads   reads

	fleetSize atomic.Int64 // of the subjects of fleets, by weight
	fleetsMu  sync.RWMutex // guards the following; taken before a shard's
	fleets    map[string]*fleet
}

// shard is a part of the subjects.
type shard struct {
	mu       sync.Mutex // guards the map alone; taken before a subject's, never after
	subjects map[string]*subject
}

var _ edge.Sharer = (*Sharer)(nil)

// New returns a Sharer that works once it was started.
func New(cfg Config) *Sharer {
	h := &Sharer{cfg: cfg.defaults(), seed: maphash.MakeSeed(), fleets: map[string]*fleet{}}
	h.metrics = newMetrics(h.cfg.Metrics)
	h.reads.wake, h.reads.urgent = make(chan struct{}, h.cfg.Readers), make(chan struct{}, h.urgentReaders())
	for i := range h.shards {
		h.shards[i].subjects = map[string]*subject{}
	}
	return h
}

// Start begins to read what subjects chose, and to see what is due.
func (h *Sharer) Start(ctx context.Context) error {
	return h.life.Start(ctx, func(ctx context.Context) error {
		for range h.cfg.Readers {
			h.life.Go(func() { h.runReads(ctx, false) })
		}
		for range h.urgentReaders() {
			h.life.Go(func() { h.runReads(ctx, true) })
		}
		h.life.Go(func() { h.runTicks(ctx) })
		return nil
	})
}

func (h *Sharer) urgentReaders() int { return max(1, h.cfg.Readers/4) }

// Stop ends that. What was told stays told.
func (h *Sharer) Stop() { h.life.Stop(nil) }

func (h *Sharer) shard(user string) *shard { return &h.shards[maphash.String(h.seed, user)%shards] }

// lock returns a subject, locked; nil: there is none, and none is to be made or
// can be.
func (h *Sharer) lock(user string, make bool) *subject {
	for {
		sh := h.shard(user)
		sh.mu.Lock()
		s := sh.subjects[user]
		if s == nil && make {
			if h.size.Load() >= int64(h.cfg.Most) {
				h.metrics.full.Inc()
			} else {
				s = newSubject(h, user)
				sh.subjects[user] = s
				h.size.Add(1)
				h.metrics.subjects.Inc()
			}
		}
		sh.mu.Unlock()
		if s == nil {
			return nil
		}
		s.mu.Lock()
		if !s.over {
			return s
		}
		s.mu.Unlock() // it was forgotten in between
	}
}

var errFull = errs.New(errs.Unavailable, edge.CodeRetry, "this node can't take more fixes; try again").After(10 * time.Second)

// Report takes a fix of a session. See edge.Sharer.
func (h *Sharer) Report(c edge.Client, n uint64, raw grant.Raw, rooms []string) error {
	m := c.Member()
	s := h.lock(m.User, true)
	if s == nil {
		return errFull
	}
	defer s.mu.Unlock()
	s.name = m.Name
	d := s.device(c)
	if d == nil {
		return nil // its device is live under a higher epoch
	}
	return s.take(time.Now(), raw, d, n, rooms)
}

// Post takes a fix without a session. See edge.Sharer.
func (h *Sharer) Post(user, name string, raw grant.Raw, rooms []string) error {
	if id := edge.FleetOf(user); id != "" {
		return h.postOf(id, user, raw)
	}
	s := h.lock(user, true)
	if s == nil {
		return errFull
	}
	defer s.mu.Unlock()
	s.name = cmp.Or(name, s.name)
	return s.take(time.Now(), raw, nil, 0, rooms)
}

// Withdraw has everybody forget where a user was. See edge.Sharer.
func (h *Sharer) Withdraw(user string, at time.Time) {
	if id := edge.FleetOf(user); id != "" {
		if f, sh, u := h.lockUnit(id, user, true); u != nil {
			defer sh.mu.Unlock()
			f.withdrawAll(u, time.Now(), at)
		}
		return
	}
	if s := h.lock(user, h.here(user)); s != nil {
		defer s.mu.Unlock()
		s.withdrawAll(time.Now(), at)
	}
}

// Changed tells that a user's choices have a new version. See edge.Sharer.
func (h *Sharer) Changed(user string, version uint64) {
	if id := edge.FleetOf(user); id != "" {
		h.FleetChanged(id, version)
		return
	}
	if s := h.lock(user, h.here(user)); s != nil {
		defer s.mu.Unlock()
		s.changed(time.Now(), version)
	}
}

// SetInvisible tells that a user wants to be seen by nobody, or again by those
// with a grant.
func (h *Sharer) SetInvisible(user string, hidden bool) {
	if s := h.lock(user, false); s != nil {
		defer s.mu.Unlock()
		s.setHidden(time.Now(), hidden)
	}
}

// Gone tells that a session is over. See edge.Sharer.
func (h *Sharer) Gone(c edge.Client) {
	m := c.Member()
	if m == nil {
		return
	}
	if s := h.lock(m.User, false); s != nil {
		defer s.mu.Unlock()
		s.gone(c)
	}
}

// Own returns a user's newest fix that this node has. See edge.Sharer.
func (h *Sharer) Own(user string) (grant.Raw, bool) {
	if id := edge.FleetOf(user); id != "" {
		_, sh, u := h.lockUnit(id, user, false)
		if u == nil {
			return grant.Raw{}, false
		}
		defer sh.mu.Unlock()
		return u.raw, !u.void() && time.Now().UnixNano()-u.at < int64(edge.FixLife)
	}
	s := h.lock(user, false)
	if s == nil {
		return grant.Raw{}, false
	}
	defer s.mu.Unlock()
	return s.raw, s.shows(time.Now())
}

// here reports whether a user has a session on this node: it may have told what
// this package has not heard of.
func (h *Sharer) here(user string) bool { return h.cfg.Clients != nil && len(h.cfg.Clients(user)) > 0 }

// runTicks looks for subjects of whom something is due.
func (h *Sharer) runTicks(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var due []*subject
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		for i := range h.shards {
			sh := &h.shards[i]
			due = due[:0]
			sh.mu.Lock()
			for _, s := range sh.subjects {
				if s.due.Load() <= now.UnixNano() {
					due = append(due, s)
				}
			}
			sh.mu.Unlock()
			for _, s := range due {
				h.tick(sh, s, now)
			}
		}
		clear(due)
		h.tickFleets(now, turn)
	}
}

func (h *Sharer) tick(sh *shard, s *subject, now time.Time) {
	sh.mu.Lock()
	if !s.mu.TryLock() { // whoever works on it sees to what is due
		sh.mu.Unlock()
		return
	}
	if s.idle(now) {
		s.over = true
		delete(sh.subjects, s.user)
		h.size.Add(-1)
		h.metrics.subjects.Dec()
	}
	sh.mu.Unlock()
	defer s.mu.Unlock()
	if !s.over {
		s.settle(now, false)
	}
}
