package hub

import (
	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// link is one direction of a link to a node.
type link struct {
	node     regions.NodeID
	incoming bool
}

// LinkUp tells that the link to a node works. If it was down, what was queued
// on it is lost: rooms go on from their positions.
func (h *Hub) LinkUp(node regions.NodeID) { h.mended(link{node, false}) }

// LinkDown tells that the link to a node broke.
func (h *Hub) LinkDown(node regions.NodeID) {
	news := h.brokeDown(link{node, false})
	if region := h.cfg.Roster.RegionOf(node); news && region != h.cfg.Region {
		h.cutOff(node, region)
	}
}

// PeerJoined tells that a node's link to us works.
func (h *Hub) PeerJoined(node regions.NodeID) { h.mended(link{node, true}) }

// PeerLeft tells that a node's link to us broke.
func (h *Hub) PeerLeft(node regions.NodeID) {
	h.brokeDown(link{node, true})
	region := h.cfg.Roster.RegionOf(node)
	if region != h.cfg.Region {
		h.cutOff(node, region)
		return
	}
	h.eachOwned(func(t *turn, o *owned) {
		h.numbers.ask(o.id)
		members := o.Len()
		t.apply(o, members, o.NodeLost(t.now, node))
	})
}

// cutOff tells the rooms that a node of another region owns there.
func (h *Hub) cutOff(node regions.NodeID, region regions.RegionID) {
	h.eachOwned(func(t *turn, o *owned) {
		if t.ownerIn(region) == node {
			members := o.Len()
			t.apply(o, members, o.Cut(t.now, region))
		}
	})
}

const questionsLimit = 4096 // of one node; it repeats what gets no answer

// postpone keeps a question of another region's node while the link on which it
// would be answered is down, and reports whether it did: one direction of a link
// may be up before the other.
func (h *Hub) postpone(from regions.NodeID, f *peer.Frame) bool {
	switch f.Body.(type) {
	case *peer.Frame_Subscribe, *peer.Frame_Digest:
	default:
		return false
	}
	h.linkMu.Lock()
	defer h.linkMu.Unlock()
	if !h.broken[link{from, false}] {
		return false
	}
	if held := h.questions[from]; len(held) < questionsLimit {
		h.questions[from] = append(held, f)
	}
	return true
}

// brokeDown notes it, and reports whether it is news.
func (h *Hub) brokeDown(l link) bool {
	h.linkMu.Lock()
	defer h.linkMu.Unlock()
	was := h.broken[l]
	h.broken[l] = true
	if l.incoming {
		delete(h.questions, l.node) // it asks anew
	}
	return !was
}

func (h *Hub) mended(l link) {
	h.linkMu.Lock()
	was := h.broken[l]
	delete(h.broken, l)
	var held []*peer.Frame
	if !l.incoming {
		held = h.questions[l.node]
		delete(h.questions, l.node)
	}
	h.linkMu.Unlock()
	for _, f := range held {
		h.HandleFrame(l.node, f)
	}
	if !was {
		return
	}
	region := h.cfg.Roster.RegionOf(l.node)
	if l.incoming && region == h.cfg.Region {
		h.eachOwned(func(_ *turn, o *owned) { h.numbers.ask(o.id) })
	}
	if region != h.cfg.Region {
		h.refollow(l.node, region)
		return
	}
	h.eachFollowed(func(t *turn) {
		if t.sl.owner == l.node {
			t.reach()
		}
	})
}

// eachOwned takes a turn with every room that this node owns and may act for.
func (h *Hub) eachOwned(f func(*turn, *owned)) {
	h.each(func(sl *slot, add func(string)) {
		for id := range sl.rooms {
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
	h.each(func(sl *slot, add func(string)) { sl.followed(add) }, f)
}

// followed names the rooms of a slot that this node wants something of.
func (sl *slot) followed(add func(room string)) {
	for id := range sl.feeds {
		add(id)
	}
	for id := range sl.waiters {
		if sl.feeds[id] == nil {
			add(id)
		}
	}
	for id := range sl.said {
		if sl.feeds[id] == nil && sl.waiters[id] == nil {
			add(id)
		}
	}
	for id := range sl.posts {
		if _, said := sl.said[id]; !said && sl.feeds[id] == nil && sl.waiters[id] == nil {
			add(id)
		}
	}
}

func (h *Hub) each(list func(*slot, func(string)), f func(*turn)) {
	for i := range h.shards {
		h.eachIn(&h.shards[i], list, f)
	}
}

func (h *Hub) eachIn(s *shard, list func(*slot, func(string)), f func(*turn)) {
	var ids []string
	s.mu.Lock()
	for i := range s.slots {
		list(&s.slots[i], func(id string) { ids = append(ids, id) })
	}
	s.mu.Unlock()
	for _, id := range ids {
		t := h.begin(id)
		f(t)
		t.end()
	}
}
