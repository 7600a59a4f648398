package hub

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/regions"
)

// shard is the part of a hub that one lock guards: the rooms of 1/64 of the
// slots, those this node owns and those its sessions are in.
type shard struct {
	mu      sync.Mutex // guards the following fields and all that hangs on them
	rooms   map[string]*owned
	feeds   map[string]*feed
	waiters map[string][]*waiter // of MembershipChanged
	joins   []*join              // unanswered, oldest first
	due     schedule             // of rooms
	seq     uint64               // above every number that a forgotten room gave

	clock *clock
	next  atomic.Int64 // when the first room of due is due, on the clock's scale; 0: never
}

func (s *shard) init(c *clock) {
	s.rooms, s.feeds, s.waiters = map[string]*owned{}, map[string]*feed{}, map[string][]*waiter{}
	s.clock = c
	c.shards = append(c.shards, s)
}

// owned is a room that this node owns, with its place in the schedule.
type owned struct {
	*room.Room
	id    string
	at    time.Time
	index int // in due; -1: nothing to do
}

// turn is one piece of work on one room, with the shard's lock held.
type turn struct {
	h     *Hub
	sh    *shard
	room  string
	now   time.Time
	after []func() // called when the lock is free again
}

func (h *Hub) begin(room string) *turn {
	t := &turn{h: h, sh: &h.shards[regions.SlotOf(room)%shards], room: room, now: time.Now()}
	t.sh.mu.Lock()
	return t
}

// end delivers what the work put into the room's feed, and unlocks.
func (t *turn) end() {
	if fd := t.sh.feeds[t.room]; fd != nil {
		t.drain(fd)
	}
	t.sh.mu.Unlock()
	for _, f := range t.after {
		f()
	}
}

// owned returns the room if this node has it; nil if not.
func (t *turn) owned() *owned { return t.sh.rooms[t.room] }

func (t *turn) ownedOrNew() *owned {
	o := t.sh.rooms[t.room]
	if o == nil {
		t.sh.seq++
		_, epoch := t.h.cfg.Roster.Slot(regions.SlotOf(t.room))
		o = &owned{Room: room.New(&t.h.room, t.room, epoch, t.sh.seq, t.now), id: t.room, index: -1}
		t.sh.rooms[t.room] = o
		t.h.metrics.rooms.Inc()
	}
	return o
}

// apply sends a room's effects and plans its next tick.
func (t *turn) apply(o *owned, members int, effects []room.Effect) {
	for _, e := range effects {
		to := e.Node
		if e.Region != "" {
			to = t.h.cfg.Roster.OwnerIn(e.Region, t.room)
		}
		switch {
		case to == "": // a region without nodes
		case to == t.h.cfg.Self && e.Frame != nil:
			t.fromOwner(e.Frame)
		case to == t.h.cfg.Self:
			t.push(item{fixes: e.Fixes, lossy: true})
		case e.Frame != nil:
			t.h.cfg.Links.Send(to, e.Frame)
		default:
			t.h.cfg.Links.SendFixes(to, e.Fixes)
		}
	}
	t.h.metrics.take(&o.Stats)
	t.h.metrics.members.Add(float64(o.Len() - members))
	t.plan(o)
}

// fromOwner takes a frame of the room's owner to this node.
func (t *turn) fromOwner(f *peer.Frame) {
	switch b := f.Body.(type) {
	case *peer.Frame_Applied:
		t.wake(b.Applied.GetVersion())
	case *peer.Frame_Fixes:
		t.push(item{fixes: b.Fixes})
	default:
		t.push(item{frame: f})
	}
}

func (t *turn) plan(o *owned) {
	next := o.Next()
	switch {
	case next.Equal(o.at):
	case next.IsZero():
		heap.Remove(&t.sh.due, o.index)
	case o.at.IsZero():
		o.at = next
		heap.Push(&t.sh.due, o)
	default:
		o.at = next
		heap.Fix(&t.sh.due, o.index)
	}
	o.at = next
	t.sh.planned()
}

// drop forgets a room that idles.
func (t *turn) drop(o *owned) {
	t.sh.seq = max(t.sh.seq, o.Seq())
	if o.index >= 0 {
		heap.Remove(&t.sh.due, o.index)
	}
	delete(t.sh.rooms, o.id)
	t.h.metrics.rooms.Dec()
	t.h.metrics.members.Sub(float64(o.Len()))
	t.sh.planned()
}

// planned tells the clock when the shard is due.
func (s *shard) planned() {
	var next int64
	if len(s.due) > 0 {
		next = s.clock.at(s.due[0].at)
	}
	if s.next.Swap(next) != next && next != 0 {
		s.clock.wakeBy(next)
	}
}

// schedule is a heap of rooms by when they are due.
type schedule []*owned

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}
func (s *schedule) Push(x any) {
	o := x.(*owned)
	o.index = len(*s)
	*s = append(*s, o)
}
func (s *schedule) Pop() any {
	old := *s
	o := old[len(old)-1]
	old[len(old)-1], o.index = nil, -1
	*s = old[:len(old)-1]
	return o
}
