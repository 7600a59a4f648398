package hub

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

const (
	readWait  = time.Second           // of one read
	readPause = 50 * time.Millisecond // until one that failed is made again
)

// reads brings this node's copy of the roster up to date for what waits for
// that. Who asks while a read is under way waits for the next one, which begins
// after they asked. The list is bounded by the slots.
type reads struct {
	mu    sync.Mutex
	round uint64 // that was begun last
	slots map[int]bool
	wake  chan struct{}
}

// ask has the next read made for a slot, and returns its number.
func (r *reads) ask(slot int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots[slot] = true
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return r.round + 1
}

func (r *reads) begin() (round uint64, slots map[int]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slots, r.slots = r.slots, map[int]bool{}
	r.round++
	return r.round, slots
}

func (h *Hub) runReads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.reads.wake:
		}
		round, slots := h.reads.begin()
		attempt, cancel := context.WithTimeout(ctx, readWait)
		err := h.cfg.Roster.Read(attempt)
		cancel()
		if err == nil {
			for n := range slots {
				h.release(n, round)
			}
			continue
		}
		for n := range slots {
			if h.waitsForRead(n) {
				h.reads.ask(n)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(readPause):
		}
	}
}

// otherwise reports whether a frame is from somebody to whom another owner than
// us spoke for this region, and whom our answer can't continue from there. Our
// copy of the roster must not be older than that. A later owner: then we may be
// none any more. An earlier one: then our answer replaces what it told, and could
// lack somebody whom they saw enter, if that owner and a node were a moment
// behind the slot's move, and we are behind what the region noted just then.
func (t *turn) otherwise(f *peer.Frame) bool {
	var at []*wire.Position
	switch b := f.Body.(type) {
	case *peer.Frame_Join:
		at = b.Join.GetPositions()
	case *peer.Frame_Attach:
		at = b.Attach.GetPositions()
	case *peer.Frame_Subscribe:
		at = []*wire.Position{b.Subscribe.GetPosition()}
	}
	for _, p := range at {
		if p.GetRegion() == string(t.h.cfg.Region) {
			epoch, o := regions.Epoch(p.GetEpoch()), t.sl.rooms[t.room]
			return epoch > t.sl.epoch || epoch < t.sl.epoch && (o == nil || !o.Continues(p))
		}
	}
	return false
}

// afterRead returns the read that a frame must wait for, if it must wait: one
// that begins from now on, or what an earlier frame of its sender waits for.
func (t *turn) afterRead(from regions.NodeID, f *peer.Frame) (round uint64, wait bool) {
	if t.read {
		return 0, false
	}
	if t.otherwise(f) {
		return t.h.reads.ask(t.sl.number), true
	}
	for _, w := range t.sl.waiting {
		if w.from == from && w.room == t.room {
			round, wait = w.round, true
		}
	}
	return round, wait
}

// overtaken reports whether our copy of the roster has a later owner of the slot
// than the one that we were told of.
func (t *turn) overtaken() bool {
	_, epoch := t.h.cfg.Roster.Slot(t.sl.number)
	return epoch > t.sl.epoch
}

// waitsForRead reports whether something of a slot still does.
func (h *Hub) waitsForRead(slot int) bool {
	sh, sl := h.slot(slot)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.ContainsFunc(sl.waiting, func(w waiting) bool { return w.round > 0 })
}

// release goes on with what waited for a read.
func (h *Hub) release(slot int, round uint64) {
	sh, sl := h.slot(slot)
	now := time.Now()
	touched := map[string]bool{}
	sh.mu.Lock()
	all := sl.waiting
	sl.waiting = nil
	for i, w := range all {
		if w.round > 0 && w.round <= round && sl.over != nil {
			all[i].round, w.round = 0, 0 // it waits for the end of that now, where it is
		}
		if w.round == 0 || w.round > round {
			sl.waiting = append(sl.waiting, all[i])
		}
	}
	for _, w := range all {
		if w.round > 0 && w.round <= round {
			touched[w.room] = true
			(&turn{h: h, sh: sh, sl: sl, room: w.room, now: now, read: true}).resume(w)
		}
	}
	sh.mu.Unlock()
	for id := range touched {
		h.begin(id).end()
	}
}
