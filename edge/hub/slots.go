package hub

import (
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// reconcileRound is how many of the janitor's ticks it takes to compare all
// rooms with the roster: 5 s.
const reconcileRound = 20

// SlotsMoved tells slots of this region that got another owner or epoch, in the
// order of the region's log.
func (h *Hub) SlotsMoved(moves []regions.SlotMove) {
	for _, m := range moves {
		h.moved(m, false)
	}
}

// Resync tells that changes were skipped: slots and rooms are compared with the
// roster.
func (h *Hub) Resync() {
	for n := range regions.Slots {
		owner, epoch := h.cfg.Roster.Slot(n)
		h.moved(regions.SlotMove{Slot: n, To: owner, Epoch: epoch}, true)
	}
	h.eachOwned(func(t *turn, o *owned) { t.catchUp(o) })
}

// moved takes note of a slot's new owner and epoch. What we owned of it under
// the epoch before is over; what we own now begins with what its last owner
// gave us, or else with what the roster knows; and what we want of the slot's
// rooms, we want of the new owner. If moves may have been skipped before this
// one, then the last owner may be another than the one that gave.
func (h *Hub) moved(m regions.SlotMove, skipped bool) {
	var rooms []string
	if m.To == h.cfg.Self {
		rooms = h.cfg.Roster.RoomsIn(m.Slot)
	}
	sh, sl := h.slot(m.Slot)
	now := time.Now()
	on := func(room string) *turn { return &turn{h: h, sh: sh, sl: sl, room: room, now: now} }

	sh.mu.Lock()
	if m.Epoch <= sl.epoch {
		sh.mu.Unlock()
		return
	}
	for _, o := range sl.rooms {
		on(o.id).drop(o)
	}
	given := sl.stage.of(sl, now)
	if skipped {
		given = nil
	}
	held := sl.waiting
	sl.owner, sl.epoch, sl.waiting = m.To, m.Epoch, nil
	if sl.stage != nil && sl.stage.epoch < m.Epoch { // else it is of a move that we have yet to hear of
		sl.stage = nil
	}
	if sl.over != nil {
		close(sl.over)
		sl.over = nil
	}
	if m.To == h.cfg.Self {
		for _, g := range given {
			on(g.tail.Room).goOn(g)
		}
		for _, id := range rooms {
			on(id).ownedOrNew()
		}
		for id := range sl.rooms {
			h.numbers.ask(id)
		}
	}
	for _, w := range held { // what was said before what is asked now
		if w.from != h.cfg.Self || !asked(w.frame) {
			on(w.room).resume(w)
		}
	}
	var followed []string
	sl.followed(func(id string) { followed = append(followed, id) })
	for _, id := range followed {
		on(id).reach()
	}
	sh.mu.Unlock()
	for _, id := range followed {
		h.begin(id).end() // delivers what has come for it
	}
}

// resume takes up a frame that waited.
func (t *turn) resume(w waiting) {
	if w.from != t.h.cfg.Self {
		t.handle(w.from, w.region, w.frame)
		return
	}
	t.toOwner(w.frame)
}

// asked reports whether a frame is of those that reach sends anew, as things are
// by then.
func asked(f *peer.Frame) bool {
	switch f.Body.(type) {
	case *peer.Frame_Join, *peer.Frame_Attach, *peer.Frame_MembershipChanged:
		return true
	}
	return false
}

// expireWaiting turns away what waited too long for our roster to catch up.
func (h *Hub) expireWaiting(s *shard, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.slots {
		sl := &s.slots[i]
		if sl.over != nil {
			continue // that ends by itself
		}
		n := 0
		for n < len(sl.waiting) && !sl.waiting[n].until.After(now) {
			w := sl.waiting[n]
			(&turn{h: h, sh: s, sl: sl, room: w.room, now: now}).turnAway(w.from, w.frame)
			n++
		}
		sl.waiting = sl.waiting[n:]
		if len(sl.waiting) == 0 {
			sl.waiting = nil
		}
	}
}

// RegionMoved tells slots of another region that have another owner: rooms
// follow that one from where they are.
func (h *Hub) RegionMoved(region regions.RegionID, slots []int) {
	for _, n := range slots {
		sh, sl := h.slot(n)
		var ids []string
		sh.mu.Lock()
		for id := range sl.rooms {
			ids = append(ids, id)
		}
		sh.mu.Unlock()
		for _, id := range ids {
			h.ifOwned(id, func(t *turn, o *owned) {
				members := o.Len()
				t.apply(o, members, o.Refollow(t.now, region))
			})
		}
	}
}

// SessionSuspended tells that the roster has suspended a session that is in
// these rooms.
func (h *Hub) SessionSuspended(id regions.SessionID, rooms []string) {
	for _, room := range rooms {
		h.ifOwned(room, func(t *turn, o *owned) {
			members := o.Len()
			t.apply(o, members, o.Suspend(t.now, id))
		})
	}
}

// SessionEnded tells that the roster has ended a session that was in these rooms.
func (h *Hub) SessionEnded(id regions.SessionID, rooms []string, reason wire.Reason) {
	for _, room := range rooms {
		h.ifOwned(room, func(t *turn, o *owned) {
			members := o.Len()
			t.apply(o, members, o.End(t.now, id, reason))
		})
	}
}

func (h *Hub) ifOwned(room string, f func(*turn, *owned)) {
	t := h.begin(room)
	if o := t.owned(); o != nil {
		f(t, o)
	}
	t.end()
}

// catchUp makes up for what a room may have missed while this node could not
// act as its owner, or was not told of the roster's changes. Its nodes attach by
// themselves: they were turned away.
func (t *turn) catchUp(o *owned) {
	o.behind = false
	t.h.numbers.ask(o.id)
	members := o.Len()
	t.apply(o, members, o.RefollowAll(t.now))
	t.reconcile(o)
}

// reconcile compares a room with the roster.
func (t *turn) reconcile(o *owned) {
	members := o.Len()
	t.apply(o, members, o.Reconcile(t.now, t.h.cfg.Roster.Stays(o.id)))
}

// reconcileSome does it for the rooms of one of reconcileRound groups of shards.
func (h *Hub) reconcileSome(round int) {
	for i := round % reconcileRound; i < shards; i += reconcileRound {
		h.eachIn(&h.shards[i], func(sl *slot, add func(string)) {
			for id := range sl.rooms {
				add(id)
			}
		}, func(t *turn) {
			if o := t.owned(); o != nil {
				t.reconcile(o)
			}
		})
	}
}

// revive has rooms catch up when this node can act again.
func (h *Hub) revive() {
	if !h.cfg.Roster.Current() || !h.stalled.Swap(false) {
		return
	}
	h.eachOwned(func(t *turn, o *owned) {
		if o.behind {
			t.catchUp(o)
		}
	})
}

// People returns a page of a room's people if this node owns the room (here),
// else who is to be asked ("": nobody owns it).
func (h *Hub) People(room, after string, limit int) (page *wire.PeoplePage, owner regions.NodeID, here bool) {
	t := h.begin(room)
	defer t.end()
	switch o := t.owned(); {
	case o != nil:
		return o.People(after, limit), t.sl.owner, true
	case t.sl.owner != h.cfg.Self:
		return nil, t.sl.owner, false
	case t.sl.rooms[room] == nil && t.sl.over == nil && t.current():
		return &wire.PeoplePage{Room: room}, t.sl.owner, true
	default: // it is about to be another node's
		return nil, "", false
	}
}
