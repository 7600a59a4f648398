package room

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

const (
	// handOverMost bounds what is exported: it goes as one frame of a peer link,
	// of 4 MiB. A larger room is not handed over, its next owner adopts it.
	handOverMost = 4<<20 - 4<<10
	// handOverRings bounds the events in it, the newest of each region.
	handOverRings = 1 << 20
)

// Export returns the room as another node of the region needs it to go on in
// its place. Without first it is all of it, while the room goes on. Given what
// was exported first it is the tail: the room must have come to a halt, and may
// go on only if the slot does not move after all. What waited to be told is
// numbered then: its frames are among the next effects, or come from the new
// owner. The slot and the mark of the last room are for the caller to fill in.
func (r *Room) Export(first *peer.HandOver) *peer.HandOver {
	if first != nil {
		r.tell(r.used)
	}
	h := &peer.HandOver{Room: r.id, Epoch: r.own.epoch, Tail: first != nil, Version: r.version, LastNumber: r.last, LastChange: r.change}
	for _, m := range r.roll.sorted {
		d := m.dev
		if d.Region != string(m.region) { // its origin did not say
			d = copyDevice(d)
			d.Region = string(m.region)
		}
		h.Members = append(h.Members, &peer.HandOverMember{
			User: m.user, Name: m.name, Node: string(m.node), Device: d, Fix: m.fix,
			Announced: m.announced, Shown: m.shown, Hidden: m.hidden, Unsettled: m.unsettled,
		})
	}
	for _, x := range r.posts {
		h.Posts = append(h.Posts, x.export())
	}
	had := map[string]*wire.Position{}
	for _, g := range first.GetRegions() {
		had[g.GetPosition().GetRegion()] = g.GetPosition()
	}
	for _, g := range r.regions {
		x := &peer.HandOverRegion{Position: g.position(), Known: g.known, Listens: g.listens}
		if g.told {
			x.Reach = g.reach()
		}
		n, ok := r.missed(g, had[string(g.id)])
		if !ok {
			n = len(g.ring.frames)
		}
		n = g.ring.within(n, handOverRings/len(r.regions))
		g.ring.last(n, func(f *peer.Frame) { x.Events = append(x.Events, f.GetEvent()) })
		h.Regions = append(h.Regions, x)
	}
	for _, n := range r.nodes {
		h.Nodes = append(h.Nodes, &peer.HandOverNode{Node: string(n.id), Ready: n.ready, Applied: n.applied})
	}
	if h.SizeVT() > handOverMost {
		return &peer.HandOver{Room: r.id, Epoch: r.own.epoch, Tail: first != nil} // which nobody can import
	}
	return h
}

// Import goes on, under the slot's next epoch, with a room as its owner exported
// it: first all of it, then the tail. Its first event says that nothing was lost.
// Stays are the roster's, as of the move or later: whoever is not among them has
// left since. After an error the room is made with New and Adopt.
func Import(cfg *Config, first, tail *peer.HandOver, epoch regions.Epoch, stays []regions.Stay, now time.Time) (*Room, []Effect, error) {
	own := regionOf(tail, cfg.Region)
	switch {
	case first.GetTail() || !tail.GetTail():
		return nil, nil, errors.New("room: import needs all of the room, then its tail")
	case first.GetRoom() != tail.Room || first.GetEpoch() != tail.Epoch:
		return nil, nil, fmt.Errorf("room: import of %q at %d with the tail of %q at %d", first.GetRoom(), first.GetEpoch(), tail.Room, tail.Epoch)
	case tail.Epoch == 0 || uint64(epoch) <= tail.Epoch || own.GetPosition().GetEpoch() != tail.Epoch:
		return nil, nil, fmt.Errorf("room: import at %d of a room at %d", epoch, tail.Epoch)
	}
	r := New(cfg, tail.Room, epoch, own.Position.Seq, now)
	r.version, r.last, r.change = tail.Version, tail.LastNumber, tail.LastChange
	r.importRegion(r.own, regionOf(first, cfg.Region), own)
	for _, id := range cfg.Others {
		if x := regionOf(tail, id); x != nil {
			r.importRegion(r.other(id), regionOf(first, id), x)
		}
	}
	r.importMembers(tail)
	r.importPosts(tail)
	for _, n := range tail.Nodes {
		if known := r.node(regions.NodeID(n.GetNode())); known != nil {
			known.ready, known.applied = n.Ready, n.Applied
		}
	}
	r.emit(&wire.Event{Body: &wire.Event_Continued{Continued: &wire.Continued{}}, PriorEpoch: tail.Epoch})
	var left, timedOut []*member
	for _, m := range r.lacking(now, stays) {
		if m.dev.State == wire.State_SUSPENDED {
			timedOut = append(timedOut, m)
		} else {
			left = append(left, m)
		}
	}
	r.leave(now, left, wire.Reason_BYE)
	r.leave(now, timedOut, wire.Reason_TIMED_OUT)
	r.settleIn(now)
	return r, r.take(), nil
}

func regionOf(h *peer.HandOver, id regions.RegionID) *peer.HandOverRegion {
	for _, x := range h.GetRegions() {
		if x.GetPosition().GetRegion() == string(id) {
			return x
		}
	}
	return nil
}

func (r *Room) importRegion(g *region, first, tail *peer.HandOverRegion) {
	if g != r.own {
		if u := tail.GetReach(); u.GetUnknownSince() != nil {
			g.since, g.told, g.lost = u.UnknownSince.AsTime(), true, u.Lost
		}
		if g.listens = tail.GetListens(); !tail.GetKnown() {
			return
		}
		g.known, g.epoch, g.seq = true, tail.Position.Epoch, tail.Position.Seq
	}
	for _, e := range chain(slices.Concat(first.GetEvents(), tail.GetEvents()), tail.Position) {
		g.ring.push(&peer.Frame{Body: &peer.Frame_Event{Event: e}}, r.cfg)
	}
}

// chain returns the longest run of events that ends at a position and has no
// gap: if the ring was begun anew after the first export, only what came then.
func chain(events []*peer.Event, end *wire.Position) []*peer.Event {
	i, epoch, seq := len(events), end.Epoch, end.Seq
	for ; i > 0 && seq > 0; i-- {
		e := events[i-1]
		if at := e.GetAt(); at.GetRegion() != end.Region || at.GetEpoch() != epoch || at.GetSeq() != seq {
			break
		}
		epoch, seq = prior(e), seq-1
	}
	return events[i:]
}

func (r *Room) importMembers(h *peer.HandOver) {
	var ms []*member
	taken := map[key]bool{}
	for _, x := range h.Members {
		d := x.GetDevice()
		m := &member{
			key: key{x.GetUser(), d.GetDevice()}, name: x.GetName(), region: regions.RegionID(d.GetRegion()), dev: d,
			announced: x.GetAnnounced(), shown: x.GetShown(), hidden: x.GetHidden(),
		}
		g := r.region(m.region)
		if d.GetState() != wire.State_LIVE && d.GetState() != wire.State_SUSPENDED || g == nil || !g.known && g != r.own ||
			(g == r.own) != (x.Node != "") || m.hidden && g != r.own || taken[m.key] {
			continue
		}
		if x.Fix.GetUser() == m.user && x.Fix.GetDevice() == m.device {
			if m.remember(x.Fix) && !m.hidden {
				r.observe(x.Fix, g == r.own)
			}
		}
		if x.Unsettled && m.fix != nil && g == r.own {
			r.unsettle(r.used, &m.mover)
		}
		taken[m.key] = true
		if g == r.own {
			r.admit(m, regions.NodeID(x.Node))
		}
		ms = append(ms, m)
	}
	r.roll.fill(ms)
}
