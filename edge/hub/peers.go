package hub

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/regions"
)

const (
	waitLimit = 4096        // frames that wait per slot
	aheadWait = time.Second // our roster has so long to get where the sender's is
)

// waiting is a frame for a room's owner that came while the slot was being
// handed over, or before our roster knew of the slot's move or of what the
// answer must not lack.
type waiting struct {
	room   string
	from   regions.NodeID
	region regions.RegionID
	frame  *peer.Frame
	until  time.Time
	round  uint64 // it waits for this read of the roster; 0: for another epoch
}

// toOwner sends a frame to the room's owner in this region. If that is this
// node, the room takes it here and now.
func (t *turn) toOwner(f *peer.Frame) {
	f.Epoch = uint64(t.sl.epoch)
	switch t.sl.owner {
	case t.h.cfg.Self:
		t.toRoom(t.h.cfg.Self, t.h.cfg.Region, f)
	case "": // nobody yet: what must not be lost is sent again when there is one
	default:
		t.h.cfg.Links.Send(t.sl.owner, f)
	}
}

// HandleFrame takes a frame from another node. Frames of one node are given in
// the order in which they were sent.
func (h *Hub) HandleFrame(from regions.NodeID, f *peer.Frame) {
	region := h.cfg.Roster.RegionOf(from)
	if region != "" && region != h.cfg.Region {
		if h.postpone(from, f) {
			return
		}
		switch b := f.Body.(type) {
		case *peer.Frame_Digest:
			h.handleDigest(from, region, b.Digest)
			return
		case *peer.Frame_DigestAnswer:
			h.handleDigestAnswer(from, region, b.DigestAnswer)
			return
		case *peer.Frame_Silence:
			h.handleSilence(from, region, b.Silence)
			return
		}
	}
	id := roomOf(f)
	if region == "" || id == "" {
		h.metrics.dropped.Inc()
		return
	}
	if region != h.cfg.Region {
		if n := f.GetNotOwner(); n.GetOwner() != "" {
			h.cfg.Roster.HeardOwner(region, id, regions.NodeID(n.Owner), regions.Epoch(n.Epoch))
		} else if _, known := h.cfg.Roster.SlotIn(region, regions.SlotOf(id)); f.Epoch > uint64(known) {
			h.cfg.Roster.HeardOwner(region, id, from, regions.Epoch(f.Epoch))
		}
	}
	t := h.begin(id)
	t.handle(from, region, f)
	t.end()
}

func (t *turn) handle(from regions.NodeID, region regions.RegionID, f *peer.Frame) {
	if n := f.GetFence(); n != nil && region != t.h.cfg.Region { // a newer session there, which we missed
		id := regions.SessionID{User: n.User, Device: n.Device, Epoch: regions.Epoch(n.Epoch)}
		t.h.cfg.Roster.Seen(id, region)
		return
	}
	toNode := false
	switch f.Body.(type) {
	case *peer.Frame_NotOwner:
		t.notOwned(from, region, f.GetNotOwner())
		return
	case *peer.Frame_Joined, *peer.Frame_Fence, *peer.Frame_Event, *peer.Frame_Fixes, *peer.Frame_Parts,
		*peer.Frame_Reach:
		toNode = true
	case *peer.Frame_Applied, *peer.Frame_Typing:
		toNode = t.sl.owner != t.h.cfg.Self
	}
	switch {
	case region == t.h.cfg.Region && toNode:
		t.fed(from, f)
	case region == t.h.cfg.Region || fromRegion(f):
		t.toRoom(from, region, f)
	default:
		t.h.metrics.dropped.Inc()
	}
}

// fromRegion reports whether a frame may come from another region.
func fromRegion(f *peer.Frame) bool {
	switch f.Body.(type) {
	case *peer.Frame_Event, *peer.Frame_Fixes, *peer.Frame_Parts, *peer.Frame_Subscribe, *peer.Frame_Unsubscribe,
		*peer.Frame_Typing:
		return true
	}
	return false
}

// fed takes a frame that a node of this region sent as the room's owner. It
// must be that, under the epoch that we know. If our roster is behind it, we
// drop what it sends and attach when we are there; if it is behind us, it is
// told to stop.
func (t *turn) fed(from regions.NodeID, f *peer.Frame) {
	switch epoch := regions.Epoch(f.Epoch); {
	case !edge.Fencing:
	case epoch < t.sl.epoch:
		t.h.metrics.fenced.Inc()
		t.sayNotOwner(from)
		return
	case epoch > t.sl.epoch, from != t.sl.owner:
		t.h.metrics.dropped.Inc()
		return
	}
	t.fromOwner(f)
}

// toRoom takes a frame for the room's owner: it is given to the room if this
// node may act as that; else it waits, goes on, or its sender is told.
func (t *turn) toRoom(from regions.NodeID, region regions.RegionID, f *peer.Frame) {
	sl, mine := t.sl, t.sl.owner == t.h.cfg.Self
	var epoch regions.Epoch
	if region == t.h.cfg.Region && edge.Fencing {
		epoch = regions.Epoch(f.Epoch)
	} else {
		epoch = sl.epoch
	}
	switch {
	case epoch > sl.epoch: // the slot has moved, and what we own of it is over
		sl.heard = max(sl.heard, epoch)
		t.wait(from, region, f, 0)
	case !mine:
		t.misdirected(from, f)
	case edge.Fencing && region != t.h.cfg.Region && !t.ownsThere(from, region, f):
		t.h.metrics.fenced.Inc()
	case sl.over != nil, t.read && t.overtaken():
		t.wait(from, region, f, 0)
	case epoch < sl.epoch && !timeless(f): // said to an earlier owner; who said it attaches to us
		t.h.metrics.fenced.Inc()
		t.sayNotOwner(from)
	case !t.current():
		t.turnAway(from, f)
	default:
		if round, wait := t.afterRead(from, f); wait {
			t.wait(from, region, f, round)
		} else {
			t.asOwner(from, region, f)
		}
	}
}

// ownsThere reports whether a frame comes from the room's owner in another
// region, and from no earlier life of it.
func (t *turn) ownsThere(from regions.NodeID, region regions.RegionID, f *peer.Frame) bool {
	owner, epoch := t.h.cfg.Roster.SlotIn(region, t.sl.number)
	return from == owner && f.Epoch >= uint64(epoch)
}

// timeless reports whether a frame means the same to every owner of a room.
func timeless(f *peer.Frame) bool { return stored(f) || f.GetMembershipChanged() != nil }

// stored reports whether a frame only tells of what is stored.
func stored(f *peer.Frame) bool {
	switch f.Body.(type) {
	case *peer.Frame_Publish, *peer.Frame_Revise, *peer.Frame_Receive, *peer.Frame_Crossing:
		return true
	}
	return false
}

func (t *turn) wait(from regions.NodeID, region regions.RegionID, f *peer.Frame, round uint64) {
	if f.GetTyping() != nil {
		return // it is of now or of nothing
	}
	if len(t.sl.waiting) >= waitLimit {
		t.turnAway(from, f)
		return
	}
	t.sl.waiting = append(t.sl.waiting, waiting{t.room, from, region, f, t.now.Add(aheadWait), round})
}

// turnAway answers a frame for a room that this node owns and can't act for.
func (t *turn) turnAway(from regions.NodeID, f *peer.Frame) {
	t.h.metrics.dropped.Inc()
	if o := t.sl.rooms[t.room]; o != nil {
		t.misses(o)
	}
	switch f.Body.(type) {
	case *peer.Frame_Event, *peer.Frame_Fixes, *peer.Frame_Parts, *peer.Frame_Unsubscribe, *peer.Frame_Typing:
		return // the room asks again when it can act
	case *peer.Frame_Publish, *peer.Frame_Revise, *peer.Frame_Receive:
		t.h.numbers.ask(t.room)
	}
	t.sayNotOwner(from)
}

// misdirected answers a frame for a room that this node does not own. What tells of
// something stored and was sent before the slot moved goes on to where it is now:
// under a higher epoch each time, so never in a circle.
func (t *turn) misdirected(from regions.NodeID, f *peer.Frame) {
	if stored(f) && regions.Epoch(f.Epoch) < t.sl.epoch {
		t.toOwner(f)
		return
	}
	t.h.metrics.dropped.Inc()
	t.sayNotOwner(from)
}

// sayNotOwner tells a node that we don't own the room, or can't act for it.
func (t *turn) sayNotOwner(to regions.NodeID) {
	if to == t.h.cfg.Self {
		t.askAgain()
		return
	}
	owner := t.sl.owner
	if owner == t.h.cfg.Self && !t.current() {
		owner = ""
	}
	t.h.cfg.Links.Send(to, &peer.Frame{Body: &peer.Frame_NotOwner{NotOwner: &peer.NotOwner{
		Room: t.room, Owner: string(owner), Epoch: uint64(t.sl.epoch),
	}}})
}

// notOwned takes that answer: what we want of the room's owner is asked again
// soon. If the other node knows more, our roster will, too.
func (t *turn) notOwned(from regions.NodeID, region regions.RegionID, n *peer.NotOwner) {
	if region != t.h.cfg.Region {
		o := t.sl.rooms[t.room]
		if o == nil || n.GetOwner() == "" && o.Unreached(region) {
			return // who can't act says when it can
		}
		if !slices.Contains(o.ask, region) {
			o.ask = append(o.ask, region)
			t.askAgain()
		}
		return
	}
	t.sl.heard = max(t.sl.heard, regions.Epoch(n.GetEpoch()))
	if from == t.sl.owner {
		t.askAgain()
	}
}

func (t *turn) askAgain() {
	if !slices.Contains(t.sh.again, t.room) {
		t.sh.again = append(t.sh.again, t.room)
	}
}

// askOwners asks once more what an owner could not answer.
func (h *Hub) askOwners(s *shard) {
	s.mu.Lock()
	again := s.again
	s.again = nil
	s.mu.Unlock()
	for _, id := range again {
		t := h.begin(id)
		t.reach()
		if o := t.sl.rooms[id]; o != nil {
			t.askRegions(o)
		}
		t.end()
	}
}

func (t *turn) askRegions(o *owned) {
	ask := o.ask
	o.ask = nil
	if t.owned() == nil {
		return // it catches up with all of them
	}
	for _, region := range ask {
		members := o.Len()
		t.apply(o, members, o.Refollow(t.now, region))
	}
}

// reach asks the room's owner for everything that this node wants of it.
func (t *turn) reach() {
	fd := t.sl.feeds[t.room]
	if fd != nil {
		t.attach(fd)
	}
	if fd == nil || len(fd.locals) == 0 {
		if _, said := t.sl.said[t.room]; !t.repost() && said {
			// What we published may have been lost: an Attach without members has the
			// owner look.
			t.toOwner(&peer.Frame{Body: &peer.Frame_Attach{Attach: &peer.Attach{Room: t.room}}})
		}
	}
	// An owner that is this node answers at once, which ends some of them.
	for _, w := range slices.Clone(t.sl.waiters[t.room]) {
		t.toOwner(membershipChanged(t.room, w.version))
	}
}

// HandleFixes takes fixes that came by datagram.
func (h *Hub) HandleFixes(from regions.NodeID, f *peer.Fixes) {
	id := f.GetRoom()
	region := h.cfg.Roster.RegionOf(from)
	t := h.begin(id)
	defer t.end()
	switch {
	case region == h.cfg.Region && (from == t.sl.owner || !edge.Fencing):
		t.push(item{fixes: f, lossy: true})
	case region != "" && region != h.cfg.Region && t.ownerIn(region) == from:
		if o := t.owned(); o != nil {
			members := o.Len()
			t.apply(o, members, o.Fixes(t.now, region, f))
		}
	default:
		h.metrics.dropped.Inc()
	}
}

// asOwner gives a frame to the room, which this node owns. Only what brings
// members, posts, followers or a membership version makes a room.
func (t *turn) asOwner(from regions.NodeID, region regions.RegionID, f *peer.Frame) {
	o := t.sl.rooms[t.room]
	switch f.Body.(type) {
	case *peer.Frame_Attach: // messages may not have got here
		t.h.numbers.ask(t.room)
		if len(f.GetAttach().GetMembers()) == 0 && len(f.GetAttach().GetPosts()) == 0 {
			return
		}
		o = t.ownedOrNew()
	case *peer.Frame_Post:
		o = t.ownedOrNew()
	case *peer.Frame_Join: // brings the number itself
		o = t.ownedOrNew()
	case *peer.Frame_Subscribe, *peer.Frame_MembershipChanged:
		if o == nil {
			t.h.numbers.ask(t.room)
			o = t.ownedOrNew()
		}
	default:
		if o == nil {
			return
		}
	}
	if t.read && t.otherwise(f) {
		t.apply(o, o.Len(), o.Complete(t.now, t.h.cfg.Roster.Stays(t.room)))
	}
	members := o.Len()
	var out []room.Effect
	switch b := f.Body.(type) {
	case *peer.Frame_Join:
		out = o.Join(t.now, from, b.Join)
	case *peer.Frame_Attach:
		out = o.Attach(t.now, from, b.Attach, t.h.cfg.Roster.Stays(t.room))
	case *peer.Frame_Change:
		out = o.Change(t.now, from, b.Change)
	case *peer.Frame_Report:
		out = o.Report(t.now, from, b.Report.GetFix())
	case *peer.Frame_Post:
		out = o.Post(t.now, from, b.Post)
	case *peer.Frame_Crossing:
		out = o.Cross(t.now, b.Crossing.GetCrossing())
	case *peer.Frame_Publish:
		out = o.Publish(t.now, b.Publish.GetMessage())
	case *peer.Frame_Revise:
		out = o.Revise(t.now, b.Revise.GetRevised())
	case *peer.Frame_Receive:
		out = o.Receive(t.now, b.Receive.GetReceipts())
	case *peer.Frame_Typing:
		out = o.Typing(t.now, region, b.Typing)
	case *peer.Frame_Applied:
		out = o.Applied(t.now, from, b.Applied.GetVersion())
	case *peer.Frame_MembershipChanged:
		out = o.MembershipChanged(t.now, from, b.MembershipChanged.GetVersion())
	case *peer.Frame_Subscribe:
		out = o.Subscribe(t.now, region, b.Subscribe)
	case *peer.Frame_Unsubscribe:
		out = o.Unsubscribe(t.now, region)
	case *peer.Frame_Event:
		out = o.Event(t.now, region, f)
	case *peer.Frame_Fixes:
		out = o.SettledFixes(t.now, region, f)
	case *peer.Frame_Parts:
		out = o.Parts(t.now, region, f)
	}
	t.apply(o, members, out)
}

// roomOf returns the room a frame is about; "" if it has none.
func roomOf(f *peer.Frame) string {
	switch b := f.GetBody().(type) {
	case *peer.Frame_Attach:
		return b.Attach.GetRoom()
	case *peer.Frame_Join:
		return b.Join.GetRoom()
	case *peer.Frame_Change:
		return b.Change.GetRoom()
	case *peer.Frame_Report:
		return b.Report.GetRoom()
	case *peer.Frame_Post:
		return b.Post.GetRoom()
	case *peer.Frame_Crossing:
		return b.Crossing.GetRoom()
	case *peer.Frame_Publish:
		return b.Publish.GetRoom()
	case *peer.Frame_Revise:
		return b.Revise.GetRoom()
	case *peer.Frame_Receive:
		return b.Receive.GetRoom()
	case *peer.Frame_Typing:
		return b.Typing.GetTyping().GetRoom()
	case *peer.Frame_Applied:
		return b.Applied.GetRoom()
	case *peer.Frame_Joined:
		return b.Joined.GetRoom()
	case *peer.Frame_Fence:
		return b.Fence.GetRoom()
	case *peer.Frame_Event:
		return b.Event.GetRoom()
	case *peer.Frame_Fixes:
		return b.Fixes.GetRoom()
	case *peer.Frame_Parts:
		return b.Parts.GetRoom()
	case *peer.Frame_Reach:
		return b.Reach.GetRoom()
	case *peer.Frame_Subscribe:
		return b.Subscribe.GetRoom()
	case *peer.Frame_Unsubscribe:
		return b.Unsubscribe.GetRoom()
	case *peer.Frame_NotOwner:
		return b.NotOwner.GetRoom()
	case *peer.Frame_MembershipChanged:
		return b.MembershipChanged.GetRoom()
	}
	return ""
}
