package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

// maxEvents bounds what waits for the hooks.
const maxEvents = 1 << 18

// What is told besides the roster's effects.
type (
	nodeLost    struct{}
	resync      struct{}
	regionMoved struct {
		region regions.RegionID
		slots  []int
	}
	othersChanged struct{}
	slotsMoved    []regions.SlotMove
	proof         time.Time // what was pushed before is all that the region had noted then
)

// events is the queue between the log and the hooks.
type events struct {
	wake chan struct{}

	mu     sync.Mutex
	on     bool // since the node is in
	proved bool // before that, since early
	early  proof
	queue  []any
	missed bool // it overflowed
	lost   bool // and among what was dropped was a nodeLost
}

// begin has everything told that comes from now on.
func (e *events) begin() {
	e.mu.Lock()
	e.on = true
	e.queue = append(e.queue, resync{})
	if e.proved {
		e.queue = append(e.queue, e.early)
	}
	e.mu.Unlock()
	wake(e.wake)
}

func (e *events) push(what ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.on {
		for _, x := range what {
			if p, ok := x.(proof); ok {
				e.early, e.proved = p, true
			}
		}
		return
	}
	e.queue = append(e.queue, what...)
	if len(e.queue) > maxEvents {
		e.missed = true
		e.lost = e.lost || slices.ContainsFunc(e.queue, func(x any) bool { _, ok := x.(nodeLost); return ok })
		e.queue = nil
	}
	wake(e.wake)
}

func (e *events) take() (queue []any, missed, lost bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	queue, missed, lost = e.queue, e.missed, e.lost
	e.queue, e.missed, e.lost = nil, false, false
	return queue, missed, lost
}

func (e *events) waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.queue)
}

// effects is told by the machine, in the log's goroutine: it must not wait.
func (c *Cluster) effects(_ uint64, effects []roster.Effect) {
	var out []any
	var moves slotsMoved
	flush := func() {
		if len(moves) > 0 {
			out = append(out, moves)
			moves = nil
		}
	}
	slots, nodes := false, false
	for _, e := range effects {
		switch e := e.(type) {
		case roster.SlotMoved:
			moves = append(moves, regions.SlotMove{Slot: e.Slot, From: e.From, To: e.To, Epoch: e.Epoch})
			continue
		case roster.SessionOpened:
			continue // nobody wants to know
		case roster.NodeChanged:
			nodes = true
			flush()
			out = append(out, e)
			c.leader.changed(e)
			if e.Node == c.cfg.Self && e.Incarnation == c.cfg.Incarnation && e.State == roster.Down && !e.Removed {
				out = append(out, nodeLost{})
			}
			continue
		case roster.SessionFenced:
			if e.Node == c.cfg.Self {
				c.metrics.fenced.Inc()
			}
		case roster.Restored:
			nodes, slots = true, true
			var now table
			c.View(func(s *roster.State, _ uint64) {
				for i := range now {
					now[i] = s.Owner(i)
				}
			})
			c.tables.own.Store(&now)
		}
		flush()
		out = append(out, e)
	}
	flush()
	for _, e := range out { // before anybody is told
		if m, ok := e.(slotsMoved); ok {
			c.tables.move(m)
			slots = true
		}
	}
	c.events.push(out...)
	if slots {
		wake(c.leader.announce)
		wake(c.planned)
	}
	if nodes {
		c.changed.Store(int64(time.Since(c.origin)))
		wake(c.nodes)
		wake(c.planned)
	}
}

// tell calls the hooks.
func (c *Cluster) tell(ctx context.Context) {
	for {
		select {
		case <-c.events.wake:
		case <-ctx.Done():
			return
		}
		queue, missed, lost := c.events.take()
		if missed {
			c.log.WarnContext(ctx, "changes came faster than they were dealt with: all is read again")
			c.tellOne(resync{})
			for _, r := range c.Others() {
				all := make([]int, regions.Slots)
				for i := range all {
					all[i] = i
				}
				c.tellOne(regionMoved{r, all})
			}
		}
		if lost {
			c.tellOne(nodeLost{})
		}
		for _, e := range queue {
			if ctx.Err() != nil {
				return
			}
			c.tellOne(e)
		}
	}
}

func (c *Cluster) tellOne(e any) {
	h := &c.cfg.Hooks
	switch e := e.(type) {
	case slotsMoved:
		call(h.SlotsMoved, []regions.SlotMove(e))
	case roster.NodeChanged:
		call(h.NodeChanged, e)
	case roster.SessionFenced:
		if h.SessionFenced != nil {
			h.SessionFenced(e.Node, regions.SessionID{User: e.User, Device: e.Device, Epoch: e.Epoch}, e.Winning)
		}
	case roster.SessionSuspended:
		if h.SessionSuspended != nil {
			h.SessionSuspended(e.Node, regions.SessionID{User: e.User, Device: e.Device, Epoch: e.Epoch}, e.Rooms)
		}
	case roster.SessionEnded:
		if h.SessionEnded != nil {
			h.SessionEnded(e.Node, regions.SessionID{User: e.User, Device: e.Device, Epoch: e.Epoch}, e.Rooms, e.Reason)
		}
	case roster.CallMoved:
		call(h.CallMoved, regions.CallMove(e))
	case resync, roster.Restored:
		c.tellOthers() // it may have been before the node was in
		if h.Resync != nil {
			h.Resync()
		}
	case proof:
		c.proved.Store(max(1, int64(time.Time(e).Sub(c.origin)))) // 0: never
	case regionMoved:
		if h.RegionMoved != nil {
			h.RegionMoved(e.region, e.slots)
		}
	case othersChanged:
		c.tellOthers()
	case nodeLost:
		if h.NodeLost != nil {
			h.NodeLost()
		}
	}
}

// tellOthers tells which other regions there are, if they are not those that
// were told last.
func (c *Cluster) tellOthers() {
	if now := c.Others(); !slices.Equal(now, c.toldOthers) {
		c.toldOthers = now
		call(c.cfg.Hooks.OthersChanged, now)
	}
}

func call[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}
