package room

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

type key struct{ user, device string }

// member is one device in the room, of any region.
type member struct {
	key
	name      string
	region    regions.RegionID
	node      regions.NodeID  // of this region; "" for members of others
	dev       *wire.Device    // replaced, never changed: frames share it
	fix       *wire.MemberFix // the last one; nil if none. Never changed either.
	moved     time.Time       // when that came; members of this region only
	dirty     bool            // it waits for the tick
	unsettled bool            // it went by datagram and was not repeated yet
	announced uint64          // the highest epoch that observers were told
	shown     bool            // a snapshot showed it as suspended
}

// roll is the list of members: an index, and an order in which every snapshot
// of the same state is the same.
type roll struct {
	index  map[key]*member
	sorted []*member // by user, then device
	own    int       // members of this region
}

func (l *roll) find(m *member) (int, bool) {
	return slices.BinarySearchFunc(l.sorted, m, compare)
}

func compare(a, b *member) int {
	return cmp.Or(strings.Compare(a.user, b.user), strings.Compare(a.device, b.device))
}

func (l *roll) add(m *member) {
	l.index[m.key] = m
	i, _ := l.find(m)
	l.sorted = slices.Insert(l.sorted, i, m)
}

func (l *roll) remove(m *member) {
	delete(l.index, m.key)
	if i, ok := l.find(m); ok {
		l.sorted = slices.Delete(l.sorted, i, i+1)
	}
}

// beatenBy reports whether a session of (epoch, region) is the same as, or newer
// than, the one we know: the highest epoch wins, a tie by region name.
func (m *member) beatenBy(epoch uint64, region regions.RegionID) bool {
	return epoch > m.dev.Epoch || epoch == m.dev.Epoch && region >= m.region
}

// enter takes a session of this region in, or renews it. It returns the member,
// and false if a newer session of the device is known. Members that observers
// must hear of are appended to told.
func (r *Room) enter(now time.Time, from regions.NodeID, in *peer.Member, told *[]*member) (*member, bool) {
	d := in.GetDevice()
	k := key{in.GetUser(), d.GetDevice()}
	m := r.roll.index[k]
	if m != nil && !m.beatenBy(d.GetEpoch(), r.own.id) {
		return m, false
	}
	state := wire.State_LIVE
	if d.GetState() == wire.State_SUSPENDED {
		state = wire.State_SUSPENDED
	}
	// A session that was only away for a moment comes back in silence.
	silent := m != nil && m.node == from && m.dev.Transport == d.GetTransport() && m.name == in.GetName() && !m.shown
	since := stamp(now)
	if m == nil {
		m = &member{key: k}
		r.admit(m, from)
		r.roll.add(m)
	} else {
		if m.node != "" && m.node != from && m.dev.Epoch < d.GetEpoch() {
			r.fence(m, d.GetEpoch())
		}
		if m.node != from {
			r.release(m)
			r.admit(m, from)
		}
		if m.dev.State == state {
			since = m.dev.Since
		}
	}
	r.node(from).lost = false
	m.region, m.name = r.own.id, in.GetName()
	m.dev = &wire.Device{
		Device: k.device, Epoch: d.GetEpoch(), State: state, Region: string(r.own.id), Node: string(from),
		Transport: d.GetTransport(), Since: since,
	}
	if !silent {
		*told = append(*told, m)
	}
	return m, true
}

// admit counts a member in as one of the node's; the first one of the region
// wakes the room up.
func (r *Room) admit(m *member, from regions.NodeID) {
	m.node = from
	n := r.node(from)
	if n == nil {
		n = &node{id: from}
		r.nodes = append(r.nodes, n)
	}
	n.members++
	r.roll.own++
}

// release counts it out again. The caller goes on to collect, when the state is
// whole again.
func (r *Room) release(m *member) {
	if m.node == "" {
		return
	}
	r.node(m.node).members--
	m.node = ""
	r.roll.own--
}

// collect forgets nodes without members, and unsubscribes from the other
// regions when nobody is left here, or subscribes when somebody is.
func (r *Room) collect(now time.Time) {
	r.nodes = slices.DeleteFunc(r.nodes, func(n *node) bool { return n.members == 0 })
	r.checkApplied()
	for _, g := range r.regions[1:] {
		following := g.known || !g.asked.IsZero()
		switch {
		case r.roll.own > 0 && !following:
			r.subscribe(now, g)
		case r.roll.own == 0 && following:
			r.toRegion(g.id, &peer.Frame{Body: &peer.Frame_Unsubscribe{Unsubscribe: &peer.Unsubscribe{Room: r.id}}})
			r.forget(g)
		}
	}
}

// forget drops what is known of a region that is no longer followed.
func (r *Room) forget(g *region) {
	*g = region{id: g.id, listens: g.listens}
	for _, m := range slices.Clone(r.roll.sorted) {
		if m.region == g.id {
			r.roll.remove(m)
		}
	}
}

func (r *Room) fence(m *member, epoch uint64) {
	r.toNode(m.node, &peer.Frame{Body: &peer.Frame_Fence{Fence: &peer.Fence{
		Room: r.id, User: m.user, Device: m.device, Epoch: epoch,
	}}})
}

// Change takes a new state of a session from its node.
func (r *Room) Change(now time.Time, from regions.NodeID, c *peer.Change) []Effect {
	r.used = now
	d := c.GetDevice()
	m := r.roll.index[key{c.GetUser(), d.GetDevice()}]
	if m == nil || m.node != from || d.GetEpoch() < m.dev.Epoch {
		r.Stats.Dropped++
		return r.take()
	}
	switch d.GetState() {
	case wire.State_LIVE:
		var told []*member
		r.enter(now, from, &peer.Member{User: m.user, Name: m.name, Device: d}, &told)
		r.announce(told)
	case wire.State_SUSPENDED:
		r.suspend(now, m)
	case wire.State_LEFT:
		r.leave(now, []*member{m}, d.GetReason())
		r.collect(now)
	default:
		r.Stats.Dropped++
	}
	return r.take()
}

// NodeLost takes note that a node can't reach us: its members time out unless
// it attaches again or they turn up elsewhere.
func (r *Room) NodeLost(now time.Time, id regions.NodeID) []Effect {
	n := r.node(id)
	if n == nil {
		return r.take()
	}
	n.lost = true
	for _, m := range r.roll.sorted {
		if m.node == id {
			r.suspend(now, m)
		}
	}
	r.checkApplied()
	return r.take()
}

func (r *Room) suspend(now time.Time, m *member) {
	if m.dev.State != wire.State_SUSPENDED {
		d := copyDevice(m.dev)
		d.State, d.Since = wire.State_SUSPENDED, stamp(now)
		m.dev = d
	}
}

// leave takes members of this region out and tells everyone.
func (r *Room) leave(now time.Time, gone []*member, reason wire.Reason) {
	for _, m := range gone {
		r.release(m)
		r.roll.remove(m)
		d := copyDevice(m.dev)
		d.State, d.Reason, d.Since = wire.State_LEFT, reason, stamp(now)
		m.dev = d
	}
	r.announce(gone)
}

// announce makes one event of members that are new, changed or gone.
func (r *Room) announce(told []*member) {
	if len(told) == 0 {
		return
	}
	for _, m := range told {
		m.announced = m.dev.Epoch
		m.shown = m.dev.State == wire.State_SUSPENDED
	}
	r.emit(&wire.Event{Body: &wire.Event_Presence{Presence: &wire.Presence{People: people(told)}}})
}

// people groups members that are sorted by user into one entry per user.
func people(ms []*member) []*wire.Person {
	var out []*wire.Person
	for _, m := range ms {
		if n := len(out); n > 0 && out[n-1].User == m.user {
			out[n-1].Devices = append(out[n-1].Devices, m.dev)
			continue
		}
		out = append(out, &wire.Person{User: m.user, Name: m.name, Devices: []*wire.Device{m.dev}})
	}
	return out
}

func copyDevice(d *wire.Device) *wire.Device {
	return &wire.Device{
		Device: d.Device, Epoch: d.Epoch, State: d.State, Region: d.Region, Node: d.Node,
		Transport: d.Transport, Since: d.Since, Reason: d.Reason,
	}
}
