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
	node      regions.NodeID // of this region; "" for members of others
	dev       *wire.Device   // replaced, never changed: frames share it
	announced uint64         // the highest epoch that observers were told
	shown     bool           // a snapshot showed it as suspended
	hidden    bool           // follows the room, is seen by nobody
	missing   time.Time      // since then the roster was seen to lack it; zero if not
	mover
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

// fill adds many at once.
func (l *roll) fill(ms []*member) {
	for _, m := range ms {
		l.index[m.key] = m
	}
	l.sorted = append(l.sorted, ms...)
	slices.SortFunc(l.sorted, compare)
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
// and false if a newer session of the device is known. What observers must hear
// of is appended to told.
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
	seen := m != nil && !m.hidden
	var gone *member
	if seen && in.GetHidden() { // to everybody else this is all that happens
		gone = m.left(now, wire.Reason_BYE)
		gone.region, gone.dev.Region, gone.dev.Epoch = r.own.id, string(r.own.id), d.GetEpoch()
	}
	// A session that was only away for a moment comes back in silence.
	silent := seen && m.node == from && m.dev.Transport == d.GetTransport() && m.name == in.GetName() && !m.shown
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
	m.missing = time.Time{}
	m.region, m.name = r.own.id, in.GetName()
	m.dev = &wire.Device{
		Device: k.device, Epoch: d.GetEpoch(), State: state, Region: string(r.own.id), Node: string(from),
		Transport: d.GetTransport(), Since: since,
	}
	if m.hidden = in.GetHidden(); m.hidden {
		m.mover, m.shown = mover{}, false
	}
	switch {
	case gone != nil:
		m.announced = d.GetEpoch()
		*told = append(*told, gone)
	case !m.hidden && !silent:
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
	if r.roll.own > 0 {
		for _, g := range r.others() {
			if !g.following() {
				r.subscribe(now, g)
			}
		}
		return
	}
	for _, g := range r.regions[1:] {
		if g.following() {
			r.toRegion(g.id, r.unsubscribe())
			r.forget(g)
		}
	}
	r.prune()
}

// prune forgets regions that the room has nothing to do with any more.
func (r *Room) prune() {
	r.regions = slices.DeleteFunc(r.regions, func(g *region) bool {
		return g != r.own && !g.following() && !g.listens && g.broke.IsZero()
	})
}

// forget drops what is known of a region that is no longer followed.
func (r *Room) forget(g *region) {
	*g = region{id: g.id, listens: g.listens, broke: g.broke}
	r.dropMembers(g)
	r.unpost(func(x *post) bool { return x.region == g.id })
}

func (r *Room) dropMembers(g *region) {
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

// Change takes a new state of a session from its node. A device that came back
// on another node, without this room, has left it: that node says so under the
// newer epoch.
func (r *Room) Change(now time.Time, from regions.NodeID, c *peer.Change) []Effect {
	r.used = now
	d := c.GetDevice()
	m := r.roll.index[key{c.GetUser(), d.GetDevice()}]
	elsewhere := m != nil && m.node != "" && d.GetState() == wire.State_LEFT && d.GetEpoch() > m.dev.Epoch
	if m == nil || m.node != from && !elsewhere || d.GetEpoch() < m.dev.Epoch {
		if m == nil && d.GetState() == wire.State_LEFT { // before we knew of it: so we don't learn of it now
			r.depart(now, key{c.GetUser(), d.GetDevice()}, d.GetEpoch(), false)
		}
		r.Stats.Dropped++
		return r.take()
	}
	switch d.GetState() {
	case wire.State_LIVE:
		r.renew(now, from, m, d, c.GetHidden())
	case wire.State_SUSPENDED:
		if c.GetHidden() && !m.hidden {
			r.renew(now, from, m, d, true)
		}
		r.suspend(now, m)
	case wire.State_LEFT:
		r.leave(now, []*member{m}, d.GetReason())
		r.collect(now)
	default:
		r.Stats.Dropped++
	}
	return r.take()
}

func (r *Room) renew(now time.Time, from regions.NodeID, m *member, d *wire.Device, hidden bool) {
	var told []*member
	r.enter(now, from, &peer.Member{User: m.user, Name: m.name, Device: d, Hidden: hidden}, &told)
	r.announce(now, told)
}

// NodeLost takes note that a node can't reach us. Its members stay until the
// roster ends them: they are here again when it attaches, or turn up elsewhere.
// Of hidden ones the roster knows nothing, and nobody misses them.
func (r *Room) NodeLost(now time.Time, id regions.NodeID) []Effect {
	r.orphan(now, id)
	n := r.node(id)
	if n == nil {
		return r.take()
	}
	n.lost = true
	var gone []*member
	for _, m := range r.roll.sorted {
		switch {
		case m.node != id:
		case m.hidden:
			gone = append(gone, m)
		default:
			r.suspend(now, m)
		}
	}
	r.leave(now, gone, wire.Reason_TIMED_OUT)
	r.collect(now)
	return r.take()
}

func (r *Room) suspend(now time.Time, m *member) {
	if m.dev.State != wire.State_SUSPENDED {
		d := copyDevice(m.dev)
		d.State, d.Since = wire.State_SUSPENDED, stamp(now)
		m.dev = d
	}
}

// leave takes members of this region out and tells everyone. The caller goes on
// to collect.
func (r *Room) leave(now time.Time, gone []*member, reason wire.Reason) {
	var told []*member
	for _, m := range gone {
		if !m.hidden {
			told = append(told, m.left(now, reason))
		}
		r.release(m)
		r.roll.remove(m)
		m.clear()
		r.depart(now, m.key, m.dev.Epoch, false)
	}
	r.announce(now, told)
}
