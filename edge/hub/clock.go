package hub

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// clock ticks the rooms of its shards that have something to do. It sleeps
// until the first of them is due: no timer per room, and none at all for rooms
// in which nothing happens. Its scale is nanoseconds since it was made, by the
// monotonic clock: a step of the wall clock neither delays nor hurries rooms.
type clock struct {
	zero   time.Time
	shards []*shard
	until  atomic.Int64 // asleep until then
	wake   chan struct{}
}

func newClock() *clock { return &clock{zero: time.Now(), wake: make(chan struct{}, 1)} }

// at puts a time on the clock's scale; never 0.
func (c *clock) at(t time.Time) int64 { return max(1, int64(t.Sub(c.zero))) }

// wakeBy makes sure that the clock is awake at t.
func (c *clock) wakeBy(t int64) {
	if t < c.until.Load() {
		select {
		case c.wake <- struct{}{}:
		default: // it is about to look anyway
		}
	}
}

func (h *Hub) runClock(ctx context.Context, c *clock) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		// First say that any time is worth a wake-up, then look: a shard that
		// is planned in between wakes us.
		c.until.Store(math.MaxInt64)
		until := int64(math.MaxInt64)
		for _, s := range c.shards {
			if n := s.next.Load(); n != 0 {
				until = min(until, n)
			}
		}
		c.until.Store(until)
		if until == math.MaxInt64 {
			timer.Stop()
		} else {
			timer.Reset(time.Until(c.zero.Add(time.Duration(until))))
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		now := time.Now()
		for _, s := range c.shards {
			if n := s.next.Load(); n != 0 && n <= c.at(now) {
				h.tick(s, now)
			}
		}
	}
}

// tick ticks the shard's rooms that are due, one turn each.
func (h *Hub) tick(s *shard, now time.Time) {
	var ids []string
	s.mu.Lock()
	for _, o := range s.due {
		if !o.at.After(now) {
			ids = append(ids, o.id)
		}
	}
	s.mu.Unlock()
	for _, id := range ids {
		t := h.begin(id)
		if o := t.owned(); o == nil {
			if o = t.sl.rooms[id]; o != nil { // later, when this node may act
				t.plan(o, t.now.Add(janitorTick))
			}
		} else if o.Idle(t.now) {
			t.drop(o)
		} else {
			members := o.Len()
			t.apply(o, members, o.Tick(t.now))
		}
		t.end()
	}
}

// runJanitor looks after what has no exact time.
func (h *Hub) runJanitor(ctx context.Context) {
	ticker := time.NewTicker(janitorTick)
	defer ticker.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			h.speak()
			h.revive()
			for i := range h.shards {
				s := &h.shards[i]
				h.expireJoins(s, now)
				h.expireWaiting(s, now)
				expireStages(s, now)
				h.askOwners(s)
				h.sweep(s, now)
			}
			h.reconcileSome(round)
		}
	}
}
