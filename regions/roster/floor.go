package roster

import (
	"cmp"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

const (
	leaseMs = uint64(regions.FloorLease / time.Millisecond)
	// guardMs is how much longer than the lease it gave the machine waits: stamps
	// are whole milliseconds, and two clocks may differ in speed, here by one in a
	// hundred; NTP slews by one in two thousand at most.
	guardMs = 20
	waitMs  = 3000 // who waits is heard of as often as this, or falls out

	defaultTalkMs = 60_000
	maxTalkMs     = 3_600_000
	maxPriority   = 255
)

// Floor is the right to talk in a call, and who waits for it. It is never
// changed, a newer one takes its place.
type Floor struct {
	Call   regions.CallID
	holder *holder
	// rest is of a holder that released: it asked last through another SFU than
	// the one that said so.
	rest  *moment
	queue []claim // the next one first; shared with older Floors: replaced, not changed
	// spent had the floor last and talked as long as it might, or had it taken
	// away: who waits goes first.
	spent   device
	touched idle
}

type device struct{ user, device string }

// claim is a session that wants the floor, or has it.
type claim struct {
	regions.SessionID
	region   regions.RegionID
	node     regions.NodeID // the SFU that asked last
	priority uint32
	// heir: an older session of the device has the floor, this one is next.
	heir      bool
	asked     moment // last: then, or before, its lease began
	talkedMs  uint64 // until then
	maxTalkMs uint64
}

// rank is where it stands in the queue: the highest first.
func (c *claim) rank() uint32 {
	if c.heir {
		return maxPriority + 1
	}
	return c.priority
}

func (c *claim) device() device { return device{c.User, c.Device} }

type holder struct {
	claim
	grant uint64
	// others is when another SFU than the present one asked last, under this
	// grant: two may forward a session that is moving between them.
	others *moment
	taken  bool // by a moderator: it isn't renewed
}

// leased reports whether an SFU may still count on a lease from then.
func (s *State) leased(m moment) bool { return s.since(m) <= leaseMs+guardMs }

// remains is how long a lease from then may still be counted on.
func (s *State) remains(m moment) uint64 {
	return leaseMs + guardMs + 1 - min(s.since(m), leaseMs+guardMs+1)
}

// talked is for how long it has had the floor, until its lease at most.
func (s *State) talked(h *holder) uint64 {
	return h.talkedMs + min(s.since(h.asked), leaseMs)
}

// present returns a call's floor as time has made it: without a holder whose
// lease is over, and without those who wait and were not heard of. It may be
// changed: it is a copy, but for its queue.
func (s *State) present(call regions.CallID) *Floor {
	f := &Floor{Call: call}
	if old := s.floors[call]; old != nil {
		*f = *old
	}
	stale := func(c claim) bool { return s.since(c.asked) > waitMs }
	if slices.ContainsFunc(f.queue, stale) {
		f.queue = slices.DeleteFunc(slices.Clone(f.queue), stale)
	}
	if f.rest != nil && !s.leased(*f.rest) {
		f.rest = nil
	}
	if h := f.holder; h != nil && h.others != nil && !s.leased(*h.others) {
		now := *h
		now.others = nil
		f.holder = &now
	}
	if h := f.holder; h != nil && !s.leased(h.asked) { // others asked before
		f.end(s.talked(h), nil)
	}
	if f.holder == nil && len(f.queue) == 0 {
		f.spent = device{}
	}
	return f
}

// end takes the floor from its holder, who had it for so long; rest is when an
// SFU that may still forward asked last.
func (f *Floor) end(talkedMs uint64, rest *moment) {
	if f.holder.taken || talkedMs >= f.holder.maxTalkMs {
		f.spent = f.holder.device()
		f.drop(f.spent) // no heir, either
	}
	f.holder, f.rest = nil, rest
}

func (f *Floor) empty() bool { return f.holder == nil && f.rest == nil && len(f.queue) == 0 }

// putFloor is the only way in which a floor changes.
func (s *State) putFloor(f *Floor) {
	if f.empty() {
		delete(s.floors, f.Call)
		return
	}
	f.touched = s.nowIdle()
	s.enterFloor(f)
}

func (s *State) enterFloor(f *Floor) {
	s.floors[f.Call] = f
	s.silent.push(waiting[regions.CallID]{f.Call, f.touched.order}, len(s.floors), s.isSilent)
}

func (s *State) isSilent(w waiting[regions.CallID]) bool {
	f := s.floors[w.who]
	return f != nil && f.touched.order == w.order
}

// idleFloor returns the floor that was touched longest ago, if by now nobody can
// have or want it any more.
func (s *State) idleFloor() (*Floor, bool) {
	w, ok := s.silent.first(s.isSilent)
	if !ok {
		return nil, false
	}
	f := s.floors[w.who]
	return f, s.since(f.touched.moment) > max(waitMs, leaseMs+guardMs)
}

func (s *State) removeFloor(f *Floor) { delete(s.floors, f.Call) }

func (s *State) floorAsk(c *peer.FloorAsk) *peer.RosterAnswer {
	if !id(c.Call, c.User, c.Device, c.Region, c.Node) || c.Epoch == 0 || c.Epoch > MaxEpoch ||
		c.Priority > maxPriority || c.MaxTalkMs > maxTalkMs {
		return refuse(invalid, 0)
	}
	f := s.present(regions.CallID(c.Call))
	x := claim{
		SessionID: regions.SessionID{User: c.User, Device: c.Device, Epoch: regions.Epoch(c.Epoch)},
		region:    regions.RegionID(c.Region), node: regions.NodeID(c.Node), priority: c.Priority,
		asked: s.moment(), maxTalkMs: cmp.Or(c.MaxTalkMs, defaultTalkMs),
	}
	if s.floors[f.Call] == nil && len(s.floors) >= MaxCalls {
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	}
	if high := f.highest(x.device()); high > x.Epoch {
		return refuse(peer.RosterCode_ROSTER_SUPERSEDED, high)
	}
	s.giveBack(f, x.SessionID, x.node, c.Released)
	standing := s.claim(f, x)
	if standing == queueFull {
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	}
	s.putFloor(f)
	return s.stands(f, standing, x.SessionID)
}

// queueFull is no standing: the queue is.
const queueFull = peer.FloorStanding(-1)

// claim enters what a session asks for into f.
func (s *State) claim(f *Floor, x claim) peer.FloorStanding {
	if h := f.holder; h != nil && h.device() == x.device() {
		switch {
		case h.taken || (f.wanted(x.device()) && s.talked(h) >= x.maxTalkMs):
			f.drop(x.device())
			return peer.FloorStanding_FLOOR_OVER
		case h.Epoch < x.Epoch && (h.node != x.node || h.others != nil):
			// An SFU of the session before may still forward it.
			x.heir, x.talkedMs = true, s.talked(h)
			return s.wait(f, x)
		}
		f.drop(x.device()) // an heir, if the session came back to the first SFU
		x.talkedMs = s.talked(h)
		now := &holder{claim: x, grant: h.grant, others: h.others}
		if h.node != x.node {
			now.others = &h.asked
		}
		f.holder = now
		return peer.FloorStanding_FLOOR_YOURS
	}
	if f.spent == x.device() {
		if f.wanted(x.device()) {
			return peer.FloorStanding_FLOOR_OVER
		}
		f.spent = device{}
	}
	standing := s.wait(f, x)
	if standing == queueFull || f.holder != nil || f.rest != nil || f.queue[0].device() != x.device() {
		return standing
	}
	f.holder = &holder{claim: f.queue[0], grant: uint64(s.issueNumber())}
	f.holder.heir = false
	f.queue, f.spent = f.queue[1:], device{}
	return peer.FloorStanding_FLOOR_YOURS
}

// wait puts x into the queue, or has it keep its place there.
func (s *State) wait(f *Floor, x claim) peer.FloorStanding {
	at := f.find(x.device())
	switch {
	case at >= 0 && (f.queue[at].heir || (!x.heir && f.queue[at].priority == x.priority)):
		x.heir, x.talkedMs = f.queue[at].heir, f.queue[at].talkedMs
		f.queue = slices.Clone(f.queue)
		f.queue[at] = x
		return peer.FloorStanding_FLOOR_WAITING
	case at >= 0: // another priority: it comes anew
		f.drop(x.device())
	case len(f.queue) >= MaxWaiting && !x.heir: // a claim that was granted has its place
		return queueFull
	}
	i := 0
	for i < len(f.queue) && f.queue[i].rank() >= x.rank() {
		i++
	}
	f.queue = slices.Insert(slices.Clone(f.queue), i, x)
	return peer.FloorStanding_FLOOR_WAITING
}

func (f *Floor) find(d device) int {
	return slices.IndexFunc(f.queue, func(c claim) bool { return c.device() == d })
}

// wanted reports whether another device waits.
func (f *Floor) wanted(d device) bool {
	return slices.ContainsFunc(f.queue, func(c claim) bool { return c.device() != d })
}

// drop takes a device out of the queue, if it is in it.
func (f *Floor) drop(d device) {
	if at := f.find(d); at >= 0 {
		f.queue = slices.Delete(slices.Clone(f.queue), at, at+1)
	}
}

// highest returns the highest epoch of a device that has a claim here.
func (f *Floor) highest(d device) (high regions.Epoch) {
	if f.holder != nil && f.holder.device() == d {
		high = f.holder.Epoch
	}
	if at := f.find(d); at >= 0 {
		high = max(high, f.queue[at].Epoch)
	}
	return high
}

func (s *State) floorRelease(c *peer.FloorRelease) *peer.RosterAnswer {
	if !id(c.Call, c.User, c.Device, c.Node) || c.Epoch == 0 || c.Epoch > MaxEpoch {
		return refuse(invalid, 0)
	}
	f := s.present(regions.CallID(c.Call))
	d := device{c.User, c.Device}
	if high := f.highest(d); uint64(high) > c.Epoch && (f.holder == nil || f.holder.grant != c.Grant) {
		return refuse(peer.RosterCode_ROSTER_SUPERSEDED, high)
	}
	if at := f.find(d); at >= 0 && uint64(f.queue[at].Epoch) <= c.Epoch {
		f.drop(d)
	}
	s.giveBack(f, regions.SessionID{User: c.User, Device: c.Device, Epoch: regions.Epoch(c.Epoch)}, regions.NodeID(c.Node), c.Grant)
	s.putFloor(f)
	return s.stands(f, peer.FloorStanding_FLOOR_NONE, regions.SessionID{})
}

// giveBack ends the holder's grant at once, if it is that one, and the SFU that
// has it says so: no other can know that nothing is forwarded under it.
func (s *State) giveBack(f *Floor, who regions.SessionID, node regions.NodeID, grant uint64) {
	if h := f.holder; h != nil && h.User == who.User && h.Device == who.Device && h.Epoch <= who.Epoch && h.node == node && h.grant == grant {
		f.end(s.talked(h), h.others)
	}
}

func (s *State) floorTake(c *peer.FloorTake) *peer.RosterAnswer {
	if !id(c.Call) || c.Grant == 0 {
		return refuse(invalid, 0)
	}
	f := s.present(regions.CallID(c.Call))
	if h := f.holder; h != nil && h.grant == c.Grant {
		now := *h
		now.taken = true
		f.holder = &now
		f.drop(h.device()) // no heir, either
		s.putFloor(f)
	}
	return s.stands(f, peer.FloorStanding_FLOOR_NONE, regions.SessionID{})
}

// stands answers how a session stands to a floor.
func (s *State) stands(f *Floor, standing peer.FloorStanding, who regions.SessionID) *peer.RosterAnswer {
	x := &peer.FloorState{Standing: standing, Waiting: uint32(len(f.queue))}
	if standing == peer.FloorStanding_FLOOR_WAITING {
		x.Position = uint32(f.find(device{who.User, who.Device})) + 1
	}
	if h := f.holder; h != nil {
		x.Grant, x.User, x.Device, x.Epoch, x.Region = h.grant, h.User, h.Device, uint64(h.Epoch), string(h.region)
		x.LeaseMs = s.remains(h.asked)
		if standing == peer.FloorStanding_FLOOR_YOURS {
			x.LeaseMs = leaseMs
		}
	}
	return &peer.RosterAnswer{Floor: x}
}

// FloorOf returns who has the floor of a call, as of the last command, and how
// many wait. A lease may have ended since.
func (s *State) FloorOf(call regions.CallID) regions.FloorAnswer {
	f := s.present(call)
	a := regions.FloorAnswer{Waiting: len(f.queue)}
	if h := f.holder; h != nil {
		a.Holder, a.Region, a.Grant = h.SessionID, h.region, h.grant
		a.Lease = time.Duration(s.remains(h.asked)) * time.Millisecond
	}
	return a
}

// Floors returns how many calls have a floor that somebody has or wants.
func (s *State) Floors() int { return len(s.floors) }
