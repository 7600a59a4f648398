package room

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

const (
	// recheck is for how long the roster must have lacked a member until it is a
	// ghost: longer than this node's copy of the roster is ever behind.
	recheck = 5 * time.Second
	// hurries is how often a new owner repeats itself sooner when it subscribes:
	// as long as other regions may answer to its predecessor.
	hurries = 10
	// hurriesBack is how often a region that comes back is asked sooner: its owner
	// may have to find its own.
	hurriesBack = 3
)

// departed is the newest session of a device of which we know that it is no
// more in the room, or is so in another region. Lower ones are over, and so is
// this one if it ended.
type departed struct {
	epoch uint64
	there bool // in another region
	ended bool
	at    time.Time
}

// Adopt begins a room that was just made with New with the sessions that the
// region's roster has in it: the former owner is gone. Nobody is told of them,
// since whoever asks this owner has positions of another epoch and gets them in
// a Part.
func (r *Room) Adopt(now time.Time, stays []regions.Stay) []Effect {
	r.used = now
	var ms []*member
	for k, s := range byKey(stays) {
		if r.roll.index[k] != nil {
			continue
		}
		m := &member{key: k, name: s.Name, region: r.own.id, announced: uint64(s.Epoch), dev: &wire.Device{
			Device: s.Device, Epoch: uint64(s.Epoch), State: wire.State_LIVE, Region: string(r.own.id), Node: string(s.Node),
			Transport: s.Transport, Since: stamp(s.Since),
		}}
		if s.Suspended {
			m.dev.State = wire.State_SUSPENDED
		}
		r.admit(m, s.Node)
		ms = append(ms, m)
	}
	r.roll.fill(ms)
	r.settleIn(now)
	return r.take()
}

// Complete takes in whom the roster, which was just read, has in the room and the
// room has not. Their former owner may have told of them before it heard that it
// was replaced, while what Adopt began with is of the moment when that was noted.
// Newer sessions of members are left to their nodes.
func (r *Room) Complete(now time.Time, stays []regions.Stay) []Effect {
	r.used = now
	has := byKey(stays)
	var told []*member
	for _, s := range stays {
		k := key{s.User, s.Device}
		m := r.roll.index[k]
		if m != nil && (m.node != "" || !m.beatenBy(uint64(s.Epoch), r.own.id)) ||
			r.departed[k].epoch >= uint64(s.Epoch) || has[k].Epoch > s.Epoch {
			continue
		}
		n := r.node(s.Node)
		lost := n == nil && s.Suspended || n != nil && n.lost
		d := &wire.Device{Device: s.Device, Epoch: uint64(s.Epoch), State: wire.State_LIVE, Transport: s.Transport}
		if s.Suspended {
			d.State = wire.State_SUSPENDED
		}
		m, _ = r.enter(now, s.Node, &peer.Member{User: s.User, Name: s.Name, Login: s.Login, Device: d}, &told)
		m.dev.Since = stamp(s.Since)
		r.node(s.Node).lost = lost
	}
	r.announce(now, told)
	r.collect(now)
	return r.take()
}

// settleIn ends the making of a room that had another owner before.
func (r *Room) settleIn(now time.Time) {
	slices.SortFunc(r.nodes, func(a, b *node) int { return cmp.Compare(a.id, b.id) })
	// The nodes of which the roster has nobody live have most likely died.
	live := map[regions.NodeID]bool{}
	for m := range r.seen(r.own) {
		live[m.node] = live[m.node] || m.dev.State == wire.State_LIVE
	}
	for _, n := range r.nodes {
		n.lost = !live[n.id]
	}
	r.hurry = hurries
	for _, g := range r.regions[1:] {
		g.hurry = hurries
		if g.known && r.roll.own > 0 {
			r.subscribe(now, g)
		}
	}
	r.collect(now)
}

// End takes a session out that the roster has ended. What its node says of it
// later is ignored.
func (r *Room) End(now time.Time, id regions.SessionID, reason wire.Reason) []Effect {
	r.used = now
	k := key{id.User, id.Device}
	if m := r.roll.index[k]; m != nil && m.node != "" && m.dev.Epoch <= uint64(id.Epoch) {
		r.leave(now, []*member{m}, reason)
		r.collect(now)
	}
	r.depart(now, k, uint64(id.Epoch), true)
	return r.take()
}

func (r *Room) depart(now time.Time, k key, epoch uint64, ended bool) {
	if r.departed == nil {
		r.departed = map[key]departed{}
	}
	if old := r.departed[k]; epoch >= old.epoch {
		r.departed[k] = departed{epoch: epoch, ended: ended || old.ended && epoch == old.epoch, at: now}
	}
}

// over reports whether a session that its node still has is over, and the epoch
// of a newer one if it is because of that.
func (r *Room) over(m *peer.Member) (newer uint64, over bool) {
	d := r.departed[key{m.GetUser(), m.GetDevice().GetDevice()}]
	switch epoch := m.GetDevice().GetEpoch(); {
	case epoch < d.epoch:
		return d.epoch, true
	default:
		return 0, d.ended && epoch == d.epoch
	}
}

// Suspend takes note that the roster has suspended a session. Nobody is told.
func (r *Room) Suspend(now time.Time, id regions.SessionID) []Effect {
	if m := r.roll.index[key{id.User, id.Device}]; m != nil && m.node != "" && m.dev.Epoch <= uint64(id.Epoch) {
		r.suspend(now, m)
	}
	return r.take()
}

// Reconcile compares the members of this region with the roster. It is called
// every few seconds and is the backstop for what the room was not told: a
// member that the roster lacks twice, some time apart, is a ghost and leaves.
func (r *Room) Reconcile(now time.Time, stays []regions.Stay) []Effect {
	if !slices.ContainsFunc(r.regions, func(g *region) bool { return g.told && !g.lost }) {
		maps.DeleteFunc(r.departed, func(_ key, d departed) bool { return due(d.at.Add(r.cfg.Linger), now) })
	}
	gone := r.lacking(now, stays)
	gone = slices.DeleteFunc(gone, func(m *member) bool {
		if m.missing.IsZero() {
			m.missing = now
		}
		return now.Before(m.missing.Add(recheck))
	})
	if len(gone) > 0 {
		r.leave(now, gone, wire.Reason_TIMED_OUT)
		r.collect(now)
	}
	return r.take()
}

// lacking returns the members of this region that the roster lacks, and
// suspends those that it has as suspended. Hidden ones it does not know: they
// are lacking with their node.
func (r *Room) lacking(now time.Time, stays []regions.Stay) (ms []*member) {
	has := byKey(stays)
	for _, m := range r.roll.sorted {
		if m.node == "" {
			continue
		}
		s, ok := has[m.key]
		if m.hidden {
			ok = !r.node(m.node).lost
		}
		if !ok {
			ms = append(ms, m)
			continue
		}
		if m.missing = (time.Time{}); s.Suspended && !m.hidden && m.dev.Epoch <= uint64(s.Epoch) {
			r.suspend(now, m)
		}
	}
	return ms
}

func byKey(stays []regions.Stay) map[key]regions.Stay {
	all := make(map[key]regions.Stay, len(stays))
	for _, s := range stays {
		if k := (key{s.User, s.Device}); all[k].Epoch <= s.Epoch {
			all[k] = s
		}
	}
	return all
}
