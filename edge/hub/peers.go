package hub

import (
	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/regions"
)

// toOwner sends a frame to the room's owner in this region. If that is this
// node, the room takes it here and now.
func (t *turn) toOwner(f *peer.Frame) {
	switch owner, _ := t.h.cfg.Roster.Slot(regions.SlotOf(t.room)); owner {
	case t.h.cfg.Self:
		t.asOwner(t.h.cfg.Self, t.h.cfg.Region, f)
	case "": // nobody yet: what must not be lost is sent again when there is one
	default:
		t.h.cfg.Links.Send(owner, f)
	}
}

// HandleFrame takes a frame from another node. Frames of one node are given in
// the order in which they were sent.
func (h *Hub) HandleFrame(from regions.NodeID, f *peer.Frame) {
	region := h.cfg.Roster.RegionOf(from)
	id := roomOf(f)
	if region == "" || id == "" {
		h.metrics.dropped.Inc()
		return
	}
	owner, _ := h.cfg.Roster.Slot(regions.SlotOf(id))
	t := h.begin(id)
	defer t.end()
	switch f.Body.(type) {
	case *peer.Frame_Joined, *peer.Frame_Fence, *peer.Frame_Event, *peer.Frame_Fixes, *peer.Frame_Parts:
		switch {
		case region == h.cfg.Region && from == owner:
			t.fromOwner(f)
			return
		case region != h.cfg.Region && owner == h.cfg.Self:
			t.asOwner(from, region, f)
			return
		}
	case *peer.Frame_Applied:
		switch {
		case region == h.cfg.Region && from == owner:
			t.fromOwner(f)
			return
		case region == h.cfg.Region && owner == h.cfg.Self:
			t.asOwner(from, region, f)
			return
		}
	case *peer.Frame_NotOwner:
		h.log.Warn("asked a node for a room it does not own", "room", id, "node", from)
		return
	case *peer.Frame_Subscribe, *peer.Frame_Unsubscribe:
		if region != h.cfg.Region && owner == h.cfg.Self {
			t.asOwner(from, region, f)
			return
		}
	default:
		if region == h.cfg.Region && owner == h.cfg.Self {
			t.asOwner(from, region, f)
			return
		}
	}
	h.metrics.dropped.Inc()
	if owner != h.cfg.Self && from != owner {
		h.cfg.Links.Send(from, &peer.Frame{Body: &peer.Frame_NotOwner{NotOwner: &peer.NotOwner{Room: id}}})
	}
}

// HandleFixes takes fixes that came by datagram.
func (h *Hub) HandleFixes(from regions.NodeID, f *peer.Fixes) {
	id := f.GetRoom()
	region := h.cfg.Roster.RegionOf(from)
	owner, _ := h.cfg.Roster.Slot(regions.SlotOf(id))
	t := h.begin(id)
	defer t.end()
	switch {
	case region == h.cfg.Region && from == owner:
		t.push(item{fixes: f, lossy: true})
	case region != "" && region != h.cfg.Region && owner == h.cfg.Self:
		if o := t.owned(); o != nil {
			members := o.Len()
			t.apply(o, members, o.Fixes(t.now, region, f))
		}
	default:
		h.metrics.dropped.Inc()
	}
}

// asOwner gives a frame to the room, which this node owns. Only what brings
// members, followers or a membership version makes a room.
func (t *turn) asOwner(from regions.NodeID, region regions.RegionID, f *peer.Frame) {
	var o *owned
	switch f.Body.(type) {
	case *peer.Frame_Join, *peer.Frame_Attach, *peer.Frame_Subscribe, *peer.Frame_MembershipChanged:
		if _, join := f.Body.(*peer.Frame_Join); !join && t.owned() == nil {
			t.h.numbers.ask(t.room) // a Join brings the number itself
		}
		o = t.ownedOrNew()
	default:
		if o = t.owned(); o == nil {
			return
		}
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
	case *peer.Frame_Publish:
		out = o.Publish(t.now, b.Publish.GetMessage())
	case *peer.Frame_Applied:
		out = o.Applied(t.now, from, b.Applied.GetVersion())
	case *peer.Frame_MembershipChanged:
		out = o.MembershipChanged(t.now, from, b.MembershipChanged.GetVersion())
	case *peer.Frame_Subscribe:
		out = o.Subscribe(t.now, region, b.Subscribe.GetPosition())
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

// LinkUp tells that the link to a node works. If it was down, what was queued
// on it is lost: rooms go on from their positions.
func (h *Hub) LinkUp(node regions.NodeID) { h.mended(link{node, false}) }

// LinkDown tells that the link to a node broke.
func (h *Hub) LinkDown(node regions.NodeID) { h.brokeDown(link{node, false}) }

// PeerJoined tells that a node's link to us works.
func (h *Hub) PeerJoined(node regions.NodeID) { h.mended(link{node, true}) }

// PeerLeft tells that a node's link to us broke: its sessions' stays in our
// rooms time out unless it attaches again.
func (h *Hub) PeerLeft(node regions.NodeID) {
	h.brokeDown(link{node, true})
	region := h.cfg.Roster.RegionOf(node)
	h.eachOwned(func(t *turn, o *owned) {
		members := o.Len()
		switch {
		case region == h.cfg.Region:
			h.numbers.ask(o.id)
			t.apply(o, members, o.NodeLost(t.now, node))
		case h.cfg.Roster.OwnerIn(region, o.id) == node:
			t.apply(o, members, o.RegionLost(t.now, region))
		}
	})
}

func (h *Hub) brokeDown(l link) {
	h.linkMu.Lock()
	defer h.linkMu.Unlock()
	h.broken[l] = true
}

func (h *Hub) mended(l link) {
	h.linkMu.Lock()
	was := h.broken[l]
	delete(h.broken, l)
	h.linkMu.Unlock()
	if !was {
		return
	}
	region := h.cfg.Roster.RegionOf(l.node)
	if l.incoming && region == h.cfg.Region {
		h.eachOwned(func(_ *turn, o *owned) { h.numbers.ask(o.id) })
	}
	if region != h.cfg.Region {
		h.eachOwned(func(t *turn, o *owned) {
			if h.cfg.Roster.OwnerIn(region, o.id) == l.node {
				members := o.Len()
				t.apply(o, members, o.Refollow(t.now, region))
			}
		})
		return
	}
	h.eachFollowed(func(t *turn) {
		if owner, _ := h.cfg.Roster.Slot(regions.SlotOf(t.room)); owner != l.node {
			return
		}
		if fd := t.sh.feeds[t.room]; fd != nil {
			t.attach(fd)
		}
		for _, w := range t.sh.waiters[t.room] {
			t.toOwner(membershipChanged(t.room, w.version))
		}
	})
}

// eachOwned takes a turn with every room that this node owns.
func (h *Hub) eachOwned(f func(*turn, *owned)) {
	h.each(func(s *shard, add func(string)) {
		for id := range s.rooms {
			add(id)
		}
	}, func(t *turn) {
		if o := t.owned(); o != nil {
			f(t, o)
		}
	})
}

// eachFollowed takes a turn with every room that this node wants something of.
func (h *Hub) eachFollowed(f func(*turn)) {
	h.each(func(s *shard, add func(string)) {
		for id := range s.feeds {
			add(id)
		}
		for id := range s.waiters {
			if s.feeds[id] == nil {
				add(id)
			}
		}
	}, f)
}

func (h *Hub) each(list func(*shard, func(string)), f func(*turn)) {
	for i := range h.shards {
		s := &h.shards[i]
		var ids []string
		s.mu.Lock()
		list(s, func(id string) { ids = append(ids, id) })
		s.mu.Unlock()
		for _, id := range ids {
			t := h.begin(id)
			f(t)
			t.end()
		}
	}
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
	case *peer.Frame_Publish:
		return b.Publish.GetRoom()
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
