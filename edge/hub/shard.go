package hub

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/regions"
)

// shard is the part of a hub that one lock guards: 1/64 of the slots.
type shard struct {
	mu    sync.Mutex // guards the following fields and all that hangs on them
	slots [regions.Slots / shards]slot
	joins []*join  // unanswered, oldest first
	due   schedule // of rooms
	again []string // rooms whose owner could not act: what was asked is asked again

	clock *clock
	next  atomic.Int64 // when the first room of due is due, on the clock's scale; 0: never
}

// slot is one of the region's slots, with the rooms in it: those that this node
// owns and those that its sessions are in. Who owns it is as the roster told
// last, which all that happens to the slot here follows.
type slot struct {
	number int
	owner  regions.NodeID
	epoch  regions.Epoch
	heard  regions.Epoch // the highest that another node named: if it is above epoch, ours are not
	over   chan struct{} // ours is being handed over, and inputs wait; closed with the epoch

	rooms   map[string]*owned
	feeds   map[string]*feed
	waiters map[string][]*waiter // of MembershipChanged
	said    map[string]time.Time // when something stored was last told from here, of late
	posts   map[string]posts     // that this node keeps, by room
	lapsing time.Time            // when the first of them may lapse
	waiting []waiting
	stage   *stage
	seq     uint64 // above every number that a forgotten room gave
}

func (s *shard) init(number int, c *clock) {
	for i := range s.slots {
		s.slots[i] = slot{number: number + i*shards, rooms: map[string]*owned{}, feeds: map[string]*feed{}, waiters: map[string][]*waiter{}, said: map[string]time.Time{}, posts: map[string]posts{}}
	}
	s.clock = c
	c.shards = append(c.shards, s)
}

// slot returns a slot and its shard, whose lock is to be taken.
func (h *Hub) slot(n int) (*shard, *slot) {
	s := &h.shards[n%shards]
	return s, &s.slots[n/shards]
}

// owned is a room that this node owns, with its place in the schedule.
type owned struct {
	*room.Room
	id     string
	at     time.Time
	index  int                // in due; -1: nothing to do
	behind bool               // it missed something while this node could not act
	ask    []regions.RegionID // whose owner could not act
}

// turn is one piece of work on one room, with the shard's lock held.
type turn struct {
	h     *Hub
	sh    *shard
	sl    *slot
	room  string
	now   time.Time
	read  bool     // our copy of the roster was read for it
	after []func() // called when the lock is free again
}

func (h *Hub) begin(room string) *turn {
	t := &turn{h: h, room: room, now: time.Now()}
	t.sh, t.sl = h.slot(regions.SlotOf(room))
	t.sh.mu.Lock()
	return t
}

// end delivers what the work put into the room's feed, and unlocks.
func (t *turn) end() {
	if fd := t.sl.feeds[t.room]; fd != nil {
		t.drain(fd)
	}
	t.sh.mu.Unlock()
	for _, f := range t.after {
		f()
	}
}

// current reports whether this node, which owns the slot as far as it knows,
// knows enough to act as its owner.
func (t *turn) current() bool {
	return !edge.Fencing || t.sl.heard <= t.sl.epoch && t.h.cfg.Roster.Current()
}

// owned returns the room if this node has it and may act as its owner, else
// nil. A room that may not act is made up for what it misses later.
func (t *turn) owned() *owned {
	o := t.sl.rooms[t.room]
	if o == nil {
		return nil
	}
	if t.sl.over != nil || !t.current() {
		t.misses(o)
		return nil
	}
	return o
}

func (t *turn) misses(o *owned) {
	o.behind = true
	t.h.stalled.Store(true)
}

// ownedOrNew returns the room, which this node may act as the owner of. A new
// one begins with the roster's sessions.
func (t *turn) ownedOrNew() *owned {
	o := t.sl.rooms[t.room]
	if o == nil {
		t.sl.seq++
		o = t.own(room.New(t.h.room.Load(), t.room, t.sl.epoch, t.sl.seq, t.now))
		t.apply(o, 0, o.Adopt(t.now, t.h.cfg.Roster.Stays(t.room)))
	}
	return o
}

func (t *turn) own(r *room.Room) *owned {
	o := &owned{Room: r, id: t.room, index: -1}
	t.sl.rooms[t.room] = o
	t.h.metrics.rooms.Inc()
	return o
}

// apply sends a room's effects and plans its next tick.
func (t *turn) apply(o *owned, members int, effects []room.Effect) {
	epoch := uint64(o.Epoch())
	for _, e := range effects {
		to := e.Node
		if e.Region != "" {
			to = t.ownerIn(e.Region)
		}
		if e.Frame != nil {
			e.Frame.Epoch = epoch // all that ever sends this frame is this room
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
	for _, e := range o.Elsewhere {
		t.elsewhere(e)
	}
	o.Elsewhere = o.Elsewhere[:0]
	for i, f := range o.Taken {
		t.h.cfg.Observe(o.id, o.Version(), f.Fix, f.Own)
		o.Taken[i] = room.Taken{}
	}
	o.Taken = o.Taken[:0]
	t.h.metrics.take(&o.Stats)
	t.h.metrics.members.Add(float64(o.Len() - members))
	t.plan(o, o.Next())
}

// elsewhere takes note of a session of another region. If a session that the
// device had here is newer, that region has missed it: it may have come and gone
// while the regions could not hear each other, and who saw that does not believe
// the older one any more. The region is told, ends it, and the device comes again.
func (t *turn) elsewhere(e room.Elsewhere) {
	t.h.cfg.Roster.Seen(e.SessionID, e.Region)
	newest := t.h.cfg.Roster.Newest(e.User, e.Device)
	if e.Left || newest < e.Epoch || newest == e.Epoch && t.h.cfg.Region < e.Region {
		return
	}
	if to := t.ownerIn(e.Region); to != "" {
		t.h.cfg.Links.Send(to, &peer.Frame{Epoch: uint64(t.sl.epoch), Body: &peer.Frame_Fence{Fence: &peer.Fence{
			Room: t.room, User: e.User, Device: e.Device, Epoch: uint64(newest),
		}}})
	}
}

// ownerIn returns the room's owner in another region.
func (t *turn) ownerIn(region regions.RegionID) regions.NodeID {
	owner, _ := t.h.cfg.Roster.SlotIn(region, t.sl.number)
	return owner
}

// fromOwner takes a frame of the room's owner to this node.
func (t *turn) fromOwner(f *peer.Frame) {
	switch b := f.Body.(type) {
	case *peer.Frame_Applied:
		t.wake(b.Applied.GetVersion())
	case *peer.Frame_Fixes:
		t.push(item{fixes: b.Fixes})
	case *peer.Frame_Typing:
		t.push(item{frame: f, lossy: true})
	default:
		t.push(item{frame: f})
	}
}

func (t *turn) plan(o *owned, next time.Time) {
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

// drop forgets a room that idles, or that another node owns now.
func (t *turn) drop(o *owned) {
	t.sl.seq = max(t.sl.seq, o.Seq())
	if o.index >= 0 {
		heap.Remove(&t.sh.due, o.index)
	}
	delete(t.sl.rooms, o.id)
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
