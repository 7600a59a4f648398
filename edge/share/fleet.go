package share

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// fleet is what this node knows of a fleet. Its subjects chose nothing themselves,
// and only who is near may see them: so what was chosen is read once for all, and
// one of them is little more than its newest fix and what was told of it.
type fleet struct {
	h      *Sharer
	id     string
	chosen atomic.Pointer[chosen] // never nil; what it points to doesn't change
	size   atomic.Int64           // subjects

	mu      sync.Mutex // guards the following, and changes of chosen
	need    uint64     // the version that is known to be there
	reading bool       // it is in the list of reads, or being read
	retry   time.Time  // not before
	at      place

	shards [shards]fleetShard
}

// chosen is what a fleet chose, as of the last read that succeeded.
type chosen struct {
	set     *grant.Set // nil: nothing is known
	version uint64
	read    time.Time // when that read began
	shows   bool      // somebody may see something
	plain   bool      // which is the newest fix alone, for which no Snapper is kept
	ends    time.Time // the grant does; zero: never
	asked   time.Time // since when it lags behind what is known to be there; zero: it doesn't
	hushed  bool      // for so long that all was withdrawn
}

// fleetShard is a part of a fleet's subjects.
type fleetShard struct {
	mu    sync.Mutex // guards the subjects too
	units map[string]*unit
}

// unit is a fleet's subject. There may be a million of them.
type unit struct {
	user    string
	bucket  admit.Bucket
	raw     grant.Raw
	snapper *grant.Snapper // nil until more than the newest fix is needed
	at      int64          // when raw was captured, in Unix nanoseconds, as the following
	since   int64          // what was captured before is withdrawn
	used    int64          // when something came last
	told    mark
}

// void reports whether there is no fix, or it was withdrawn.
func (u *unit) void() bool { return u.at <= u.since }

// mark says which view was told: of a subject two that have it are the same.
type mark struct {
	precision grant.Precision // None: nothing was told, or that was withdrawn
	cell      geo.Cell
	captured  int64
}

func markOf(v grant.View) mark { return mark{v.Precision, v.Cell, v.Captured.UnixNano()} }

// walkStep is how many subjects are looked at before others may use their shard.
const walkStep = 256

// whoIsNear is the only audience of a fleet.
var whoIsNear = grant.Audience{Kind: grant.Discoverable}

// ---------------------------------------------------------------- fleets

// fleet returns what is known of a fleet, nil for nothing.
func (h *Sharer) fleet(id string) *fleet {
	h.fleetsMu.RLock()
	defer h.fleetsMu.RUnlock()
	return h.fleets[id]
}

func (f *fleet) shard(user string) *fleetShard {
	return &f.shards[maphash.String(f.h.seed, user)%shards]
}

// lockUnit returns a subject of a fleet and its shard, locked; nil, and nothing is
// locked: there is none, and none is to be made or can be.
func (h *Sharer) lockUnit(id, user string, make bool) (*fleet, *fleetShard, *unit) {
	if f := h.fleet(id); f != nil {
		sh := f.shard(user)
		sh.mu.Lock()
		if u := sh.units[user]; u != nil {
			return f, sh, u
		}
		sh.mu.Unlock()
	}
	if !make {
		return nil, nil, nil
	}
	h.fleetsMu.Lock() // no fleet is forgotten meanwhile
	defer h.fleetsMu.Unlock()
	f := h.fleets[id]
	if f == nil {
		if len(h.fleets) >= mostFleets {
			h.metrics.full.Inc()
			return nil, nil, nil
		}
		f = &fleet{h: h, id: id}
		f.chosen.Store(&chosen{})
		h.fleets[id] = f
	}
	sh := f.shard(user)
	sh.mu.Lock()
	if u := sh.units[user]; u != nil {
		return f, sh, u
	}
	if f.size.Load() >= int64(h.cfg.MostOfFleet) || !h.room(plainWeight) {
		sh.mu.Unlock()
		h.metrics.full.Inc()
		return nil, nil, nil
	}
	if sh.units == nil {
		sh.units = map[string]*unit{}
	}
	u := &unit{user: user}
	sh.units[user] = u
	f.size.Add(1)
	h.metrics.ofFleets.Inc()
	return f, sh, u
}

// room takes room for subjects of fleets, if there is any.
func (h *Sharer) room(n int64) bool {
	if h.fleetSize.Add(n) > int64(h.cfg.MostOfFleets) {
		h.fleetSize.Add(-n)
		return false
	}
	return true
}

func (h *Sharer) postOf(id, user string, raw grant.Raw) error {
	f, sh, u := h.lockUnit(id, user, true)
	if u == nil {
		return errFull
	}
	defer sh.mu.Unlock()
	return f.take(u, time.Now(), raw)
}

// FleetChanged tells that the choices for a fleet's subjects have a new version.
// See edge.Sharer.
func (h *Sharer) FleetChanged(id string, version uint64) {
	if f := h.fleet(id); f != nil {
		f.changed(time.Now(), version)
	}
}

// Forget is Withdraw as another node says it: of a fleet's subject that is not known
// here, there is nothing to remember it for.
func (h *Sharer) Forget(subject string, at time.Time) {
	if f, sh, u := h.lockUnit(edge.FleetOf(subject), subject, false); u != nil {
		defer sh.mu.Unlock()
		f.withdrawAll(u, time.Now(), at)
	}
}

// tickFleets looks after fleets: what is due, and which subjects say nothing any
// more. Each time one shard of each is looked through.
func (h *Sharer) tickFleets(now time.Time, turn int) {
	h.fleetsMu.RLock()
	all := make([]*fleet, 0, len(h.fleets))
	for _, f := range h.fleets {
		all = append(all, f)
	}
	h.fleetsMu.RUnlock()
	for _, f := range all {
		f.tick(now)
		f.sweep(&f.shards[turn%shards], now)
		if f.size.Load() == 0 {
			h.fleetsMu.Lock()
			if f.size.Load() == 0 {
				delete(h.fleets, f.id)
			}
			h.fleetsMu.Unlock()
		}
	}
}

// sweep forgets who says nothing any more. Who was told by cells is remembered
// for longer, as a user is.
func (f *fleet) sweep(sh *fleetShard, now time.Time) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for user, u := range sh.units {
		quiet := now.Sub(time.Unix(0, u.used))
		if quiet < edge.FixLife || u.snapper != nil && quiet < f.h.cfg.Remember {
			continue
		}
		delete(sh.units, user)
		f.size.Add(-1)
		f.h.fleetSize.Add(-u.weight())
		f.h.metrics.ofFleets.Dec()
	}
}

// ---------------------------------------------------------------- what they chose

// changed has what was chosen read anew. Nothing more is told until it was.
func (f *fleet) changed(now time.Time, version uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.need = max(f.need, version)
	if c := *f.chosen.Load(); c.version < f.need && c.asked.IsZero() {
		c.asked = now
		f.chosen.Store(&c)
	}
	f.retry = time.Time{}
	f.askLocked(now, true)
}

func (f *fleet) askLocked(now time.Time, first bool) {
	if now.Before(f.retry) {
		return
	}
	if !f.reading {
		f.reading = true
		f.h.reads.put(f, first)
	} else if first {
		f.h.reads.hurry(f)
	}
}

func (f *fleet) place() *place { return &f.at }

// tick has what was chosen read when it is due.
func (f *fleet) tick(now time.Time) {
	c := f.chosen.Load()
	changed := !c.asked.IsZero() || f.due(c, now)
	if changed || now.Sub(c.read) >= f.h.cfg.Reread {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.askLocked(now, changed)
	}
}

// due reports whether subjects are to be looked at because time went by.
func (f *fleet) due(c *chosen, now time.Time) bool {
	return !c.ends.IsZero() && !now.Before(c.ends) || !c.hushed && f.overdue(c, now)
}

// overdue reports whether a change could not be read for so long that all is to
// be withdrawn: what was taken back may be among it.
func (f *fleet) overdue(c *chosen, now time.Time) bool {
	return !c.asked.IsZero() && now.Sub(c.asked) >= f.h.cfg.Lapse
}

// trusted reports whether what was chosen is known well enough to tell more.
func (f *fleet) trusted(c *chosen, now time.Time) bool {
	return c.set != nil && c.asked.IsZero() && now.Sub(c.read) < f.h.cfg.Lapse
}

// read reads what was chosen, and looks through all subjects if that may have
// changed what is told of them. What time changed by itself comes first: a read
// may take long.
func (f *fleet) read(ctx context.Context) {
	began := time.Now()
	f.mu.Lock()
	c := *f.chosen.Load()
	need := f.need
	walk := f.due(&c, began)
	if walk {
		c.hushed = f.overdue(&c, began)
		if c.set != nil {
			c.ends = c.set.Ends(began)
		}
		f.chosen.Store(&c)
	}
	f.mu.Unlock()
	if walk {
		f.walk()
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	found, err := f.h.cfg.Sharing.Sharing(ctx, edge.FleetUser(f.id), max(need, c.version))
	cancel()
	f.h.metrics.reads.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		f.h.cfg.Log.DebugContext(ctx, "what a fleet shows can't be read", "err", err)
	}
	if f.found(began, need, found, err) {
		f.walk()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reading = false
	if f.need != need { // there is news to be read at once
		f.askLocked(time.Now(), true)
	}
}

// found takes what a read found, and reports whether that changes what is told.
func (f *fleet) found(began time.Time, need uint64, found edge.Choices, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, old := time.Now(), f.chosen.Load()
	if f.need == need {
		f.retry = now.Add(readAgain)
	}
	if err != nil || found.Version < old.version { // or a replica is behind
		return false
	}
	c := &chosen{
		set: found.Set, version: found.Version, read: began, asked: old.asked, hushed: old.hushed,
		shows: len(found.Set.Audiences(now)) > 0, plain: found.Set.Plain(whoIsNear), ends: found.Set.Ends(now),
	}
	if c.version >= f.need {
		c.asked, c.hushed = time.Time{}, false
	}
	f.chosen.Store(c)
	return c.version != old.version || c.shows != old.shows || f.trusted(c, now) != f.trusted(old, now)
}

// walk looks at all subjects. Those that come meanwhile know what is chosen now.
func (f *fleet) walk() {
	for i := range f.shards {
		sh, n := &f.shards[i], 0
		sh.mu.Lock()
		for _, u := range sh.units {
			f.settle(u, time.Now())
			if n++; n%walkStep == 0 {
				sh.mu.Unlock()
				sh.mu.Lock()
			}
		}
		sh.mu.Unlock()
	}
}

// ---------------------------------------------------------------- a subject

// What follows is called with the subject's shard locked. Its effects go out then:
// the map takes its own locks after it.

// take takes a fix.
func (f *fleet) take(u *unit, now time.Time, raw grant.Raw) error {
	if wait := u.bucket.Take(now, f.h.cfg.Rate, 1); wait > 0 {
		f.h.metrics.limited.Inc()
		return errs.New(errs.RateLimited, edge.CodeRateLimited, "send fewer positions").After(wait)
	}
	u.used = now.UnixNano()
	captured := raw.Captured().UnixNano()
	if u.used-captured >= int64(edge.FixLife) || captured <= max(u.at, u.since) {
		f.h.metrics.late.Inc()
		return nil
	}
	if u.snapper != nil {
		if _, err := u.snapper.Take(raw, now); err != nil {
			return err
		}
	}
	u.raw, u.at = raw, captured
	f.h.metrics.taken.Inc()
	f.settle(u, now)
	return nil
}

// settle brings what was told of a subject to what should be.
func (f *fleet) settle(u *unit, now time.Time) {
	c := f.chosen.Load()
	shows := now.UnixNano()-u.at < int64(edge.FixLife)
	switch {
	case c.set == nil:
		f.first(now)
		return
	case u.void():
		f.withdraw(u)
		return
	case !shows && u.told.cell == 0: // what was told of it has lapsed by itself
		u.told = mark{}
		return
	}
	v, ok := f.view(u, c, now)
	switch {
	case !ok, f.overdue(c, now):
		f.withdraw(u)
	case markOf(v) == u.told:
	case shows && f.trusted(c, now) && now.Before(lapses(v)):
		u.told = markOf(v)
		if f.h.cfg.Map != nil {
			f.h.cfg.Map.Put(u.user, "", v, lapses(v))
		}
	case u.told.precision > v.Precision: // what was told is finer than what may be
		f.withdraw(u)
	}
}

// first has what was chosen read if nothing is known of it.
func (f *fleet) first(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.askLocked(now, false)
}

// view returns what may be seen of a subject.
func (f *fleet) view(u *unit, c *chosen, now time.Time) (grant.View, bool) {
	if u.snapper == nil && c.plain {
		at := grant.NewSnapper(f.h.cfg.Secret, u.user) // for now: on the stack
		if _, err := at.Take(u.raw, now); err != nil {
			return grant.View{}, false
		}
		return c.set.View(now, at, whoIsNear)
	}
	if u.snapper == nil {
		if !f.h.room(cellsWeight - plainWeight) {
			f.h.metrics.full.Inc()
			return grant.View{}, false
		}
		u.snapper = grant.NewSnapper(f.h.cfg.Secret, u.user)
		if _, err := u.snapper.Take(u.raw, now); err != nil {
			return grant.View{}, false
		}
	}
	return c.set.View(now, u.snapper, whoIsNear)
}

// weight is how much of the room for fleets a subject takes: what is told by cells
// is remembered.
func (u *unit) weight() int64 {
	if u.snapper != nil {
		return cellsWeight
	}
	return plainWeight
}

// withdraw has the map forget what it was told of a subject.
func (f *fleet) withdraw(u *unit) {
	if u.told != (mark{}) && f.h.cfg.Map != nil {
		f.h.cfg.Map.Gone(u.user)
	}
	u.told = mark{}
}

// withdrawAll forgets where a subject was.
func (f *fleet) withdrawAll(u *unit, now, at time.Time) {
	u.used = now.UnixNano()
	u.since = max(u.since, at.UnixNano(), u.at)
	f.withdraw(u)
}
