package room

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// recheck is how long a member must have been unknown to the roster to be a
// ghost: longer than a copy of the roster is ever behind.
const recheck = 5 * time.Second

// Adopt begins a new room with the sessions that the region's roster has in it,
// because its owner is gone: nobody is told of them, since whoever asks this
// owner comes with positions of another epoch and gets them in a Part.
func (r *Room) Adopt(now time.Time, stays []regions.Stay) []Effect {
	r.used = now
	for _, s := range stays {
		k := key{s.User, s.Device}
		if m := r.roll.index[k]; m != nil && !m.beatenBy(uint64(s.Epoch), r.own.id) {
			continue
		} else if m != nil {
			r.release(m)
			r.roll.remove(m)
		}
		state := wire.State_LIVE
		if s.Suspended {
			state = wire.State_SUSPENDED
		}
		m := &member{key: k, name: s.Name, region: r.own.id, announced: uint64(s.Epoch), dev: &wire.Device{
			Device: s.Device, Epoch: uint64(s.Epoch), State: state, Region: string(r.own.id), Node: string(s.Node),
			Transport: s.Transport, Since: stamp(s.Since),
		}}
		r.admit(m, s.Node)
		r.roll.add(m)
	}
	r.findLost()
	r.collect(now)
	for _, g := range r.regions[1:] {
		g.blind = !g.asked.IsZero()
	}
	return r.take()
}

// findLost guesses which nodes can't be reached: those of which nobody is live.
func (r *Room) findLost() {
	for _, n := range r.nodes {
		n.lost = !slices.ContainsFunc(r.roll.sorted, func(m *member) bool {
			return m.node == n.id && m.dev.State == wire.State_LIVE
		})
	}
}

// End takes a session out that the roster has ended. What its node may still
// say of it comes too late.
func (r *Room) End(now time.Time, id regions.SessionID, reason wire.Reason) []Effect {
	return r.take()
}

// Suspend takes note that the roster has suspended a session. Nobody is told.
func (r *Room) Suspend(now time.Time, id regions.SessionID) []Effect {
	return r.take()
}

// Reconcile compares the members of this region with the roster, regularly: one
// that it lacks twice, recheck apart, is a ghost and leaves.
func (r *Room) Reconcile(now time.Time, stays []regions.Stay) []Effect {
	return r.take()
}

// Export returns the room as another node of the region needs it to go on in
// our place: all of it, or, given what was exported first, what has changed
// since. The second time the room must have come to a halt, and stay so if the
// slot moves. Slot and last are the caller's to fill in.
func (r *Room) Export(first *peer.HandOver) *peer.HandOver {
	return &peer.HandOver{Room: r.id, Epoch: r.own.epoch, Tail: first != nil}
}

// Import goes on with a room under the slot's next epoch, as its owner exported
// it: first all of it, then the tail. Stays are the roster's, as of the move or
// later: whoever is not among them has left meanwhile. If it returns an error,
// the room is to be made with New and Adopt.
func Import(cfg *Config, first, tail *peer.HandOver, epoch regions.Epoch, stays []regions.Stay, now time.Time) (*Room, []Effect, error) {
	r := New(cfg, tail.GetRoom(), epoch, 0, now)
	return r, r.take(), nil
}

// People returns a page of the people of all regions by user id, after a user:
// up to limit (at most 500; 0: 100).
func (r *Room) People(after string, limit int) *wire.PeoplePage {
	return &wire.PeoplePage{Room: r.id}
}

// Epoch returns the slot epoch under which the room numbers its events.
func (r *Room) Epoch() regions.Epoch { return regions.Epoch(r.own.epoch) }
