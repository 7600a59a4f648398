package session

import (
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// What the region's roster says of this node's sessions. It is told in the
// order of the region's log, but the answers to this node's own requests come
// by another way, sooner or later than that.

// Fenced tells that a session that was here is over: its device is live under
// the winning epoch. Rooms hear nothing of it.
func (r *Registry) Fenced(id regions.SessionID, winning regions.Epoch) {
	key := device{id.User, id.Device}
	r.mu.Lock()
	s := r.findLocked(key)
	if o := r.opening[key]; o != nil {
		// It may be ours that wins. Then it takes over from s without a gap.
		o.fenced, o.winner = max(o.fenced, id.Epoch), max(o.winner, winning)
		s = nil
	}
	r.mu.Unlock()
	if s != nil && (s.epoch() <= id.Epoch || s.epoch() < winning) {
		s.finish(Fenced, wire.Reason_MOVED, superseded(winning))
	}
}

// Ended tells that the region ended a session that was last here.
func (r *Registry) Ended(id regions.SessionID, reason wire.Reason) {
	key := device{id.User, id.Device}
	r.mu.Lock()
	if o := r.opening[key]; o != nil {
		o.ended = max(o.ended, id.Epoch)
	}
	s := r.findLocked(key)
	r.mu.Unlock()
	if s == nil || s.epoch() != id.Epoch {
		return
	}
	if reason == 0 {
		reason = wire.Reason_TIMED_OUT
	}
	e := Ended
	if s.current() == Suspended && reason == wire.Reason_TIMED_OUT {
		e = Expired
	}
	// If it is connected, the region took it for lost, and only a new session
	// can go on.
	s.finish(e, reason, again("the session ended: connect again", 0))
}

// NodeLost tells that the region gave this node up: what it holds is suspended
// there. All clients are told to connect again, spread over a while.
func (r *Registry) NodeLost() {
	r.mu.Lock()
	r.losses++
	r.mu.Unlock()
	r.sendAway("the node lost its region: connect again")
}

// SendAway tells all clients to connect again, to other nodes: this one has had
// no contact to its region for too long.
func (r *Registry) SendAway() {
	r.sendAway("the node is cut off from its region: connect to another one")
}

func (r *Registry) sendAway(message string) {
	all := r.all()
	for _, s := range all {
		if s.current().connected() {
			s.close(again(message, len(all)))
		}
	}
}

// settled is how long a session is live before its absence from the roster
// counts: this node's copy may be that far behind.
const settled = 5 * time.Second

// Reconcile compares the sessions here with those that the region's roster has
// for this node (suspended ones included). It is the backstop for what was
// missed: an open whose answer was lost leaves a session that nobody has, and a
// change that was skipped one that is no more. Whoever calls it makes sure that
// the roster is current.
func (r *Registry) Reconcile(held []regions.Stay) {
	of := make(map[device]*regions.Stay, len(held))
	var orphans []regions.SessionID
	r.mu.Lock()
	for i := range held {
		h := &held[i]
		key := device{h.User, h.Device}
		of[key] = h
		if s := r.findLocked(key); !h.Suspended && r.opening[key] == nil && (s == nil || s.epoch() != h.Epoch) {
			orphans = append(orphans, h.SessionID)
		}
	}
	all := r.allLocked()
	r.mu.Unlock()
	for _, id := range orphans {
		r.deps.Roster.Suspend(id) // which does nothing if it is over
	}
	for _, s := range all {
		h := of[s.key()]
		known := h != nil && h.Epoch == s.epoch()
		s.mu.Lock()
		state, young := s.state, r.now()-s.since < settled
		s.mu.Unlock()
		switch {
		case young, known && !h.Suspended, known && state == Suspended:
		case known:
			s.close(again("the session was suspended: connect again", len(all)))
		case state == Suspended:
			s.finish(Expired, wire.Reason_MOVED, nil)
		default:
			s.finish(Ended, wire.Reason_MOVED, again("the session is over: connect again", len(all)))
		}
	}
}

// SetInvisible tells that a user wants to be seen by nobody, or again by all.
func (r *Registry) SetInvisible(user string, invisible bool) {
	r.mu.Lock()
	of := append([]*Session(nil), r.users[user]...)
	r.mu.Unlock()
	for _, s := range of {
		s.hide(invisible)
	}
}
