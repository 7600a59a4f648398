package hub

import (
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/regions"
)

// refollow asks a node of another region again for all rooms that we follow
// there, by one digest: per slot a hash of what we have of its rooms.
func (h *Hub) refollow(node regions.NodeID, region regions.RegionID) {
	round := h.rounds.Add(1)
	hashes := make(map[int]uint64)
	h.eachOwned(func(t *turn, o *owned) {
		if t.ownerIn(region) != node {
			return
		}
		members := o.Len()
		hash, in, out := o.Ask(t.now, region, round)
		t.apply(o, members, out)
		if in {
			hashes[t.sl.number] += hash
		}
	})
	if len(hashes) == 0 {
		return
	}
	d := &peer.Digest{Round: round}
	for n, hash := range hashes {
		d.Slots, d.Hashes = append(d.Slots, uint32(n)), append(d.Hashes, hash)
	}
	h.cfg.Links.Send(node, &peer.Frame{Body: &peer.Frame_Digest{Digest: d}})
}

// handleDigest compares what another region's node has of our rooms with what
// they are. Where both agree, it is fed again before it is told.
func (h *Hub) handleDigest(from regions.NodeID, region regions.RegionID, d *peer.Digest) {
	answer := &peer.DigestAnswer{Round: d.Round}
	for i, n := range d.Slots {
		if i >= len(d.Hashes) || n >= regions.Slots || !h.resumes(from, region, int(n), d.Hashes[i]) {
			answer.Differ = append(answer.Differ, n)
		}
	}
	h.cfg.Links.Send(from, &peer.Frame{Body: &peer.Frame_DigestAnswer{DigestAnswer: answer}})
}

// resumes compares one slot, and feeds its rooms again if they are the same; all
// in one, or what happens in between would be lost.
func (h *Hub) resumes(from regions.NodeID, region regions.RegionID, n int, hash uint64) bool {
	sh, sl := h.slot(n)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := &turn{h: h, sh: sh, sl: sl, now: time.Now()}
	owner, _ := h.cfg.Roster.SlotIn(region, n)
	same := sl.owner == h.cfg.Self && sl.over == nil && t.current() && (owner == from || !edge.Fencing)
	var followed []*owned
	var sum uint64
	for _, o := range sl.rooms {
		if part, in := o.Followed(region); in {
			sum += part
			followed = append(followed, o)
		}
	}
	same = same && sum == hash && len(followed) > 0
	for _, o := range followed {
		if !same {
			o.Differed(region)
			continue
		}
		on := &turn{h: h, sh: sh, sl: sl, room: o.id, now: t.now}
		members := o.Len()
		on.apply(o, members, o.Resume(t.now, region))
	}
	return same
}

// handleDigestAnswer has rooms go on, or ask for themselves.
func (h *Hub) handleDigestAnswer(from regions.NodeID, region regions.RegionID, a *peer.DigestAnswer) {
	differ := make(map[int]bool, len(a.Differ))
	for _, n := range a.Differ {
		differ[int(n)] = true
	}
	h.eachOwned(func(t *turn, o *owned) {
		if t.ownerIn(region) == from {
			members := o.Len()
			t.apply(o, members, o.Answered(t.now, region, a.Round, !differ[t.sl.number]))
		}
	})
}

// SetOthers tells which other regions there are now: rooms begin to follow new
// ones, and lose the members of those that are none any more.
func (h *Hub) SetOthers(others []regions.RegionID) {
	h.othersMu.Lock()
	defer h.othersMu.Unlock()
	cfg := *h.room.Load()
	cfg.Others = others
	h.room.Store(&cfg) // for rooms that are made from now on
	h.each(func(sl *slot, add func(string)) {
		for id := range sl.rooms {
			add(id)
		}
	}, func(t *turn) {
		if o := t.sl.rooms[t.room]; o != nil {
			members := o.Len()
			t.setOthers(o, members, &cfg)
		}
	})
}

// setOthers changes a room even if this node may not act as its owner now; then
// nobody is told, and all who ask are answered anew.
func (t *turn) setOthers(o *owned, members int, cfg *room.Config) {
	out := o.SetOthers(t.now, cfg)
	if t.owned() == nil {
		out = nil
	}
	t.apply(o, members, out)
}
