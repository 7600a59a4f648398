package room

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// wholeBytes bounds the events that come with a whole part.
const wholeBytes = 64 << 10

// request is somebody who wants to continue from a position: a session that
// joins, a node that attaches, or another region's owner that subscribes.
type request struct {
	node      regions.NodeID
	join      uint64 // the Join's request number, if join is set
	isJoin    bool
	region    *region // that subscribes
	whole     bool    // with the part in any case
	positions []*wire.Position
}

// Join takes one session in and answers with Joined: a Snapshot of the regions
// that it can't continue, then the events it missed of the others.
func (r *Room) Join(now time.Time, from regions.NodeID, j *peer.Join) []Effect {
	r.used = now
	r.raise(now, j.GetVersion(), j.GetLastNumber(), j.GetLastChange())
	if newer, over := r.over(j.GetMember()); over {
		r.refuse(from, j, newer)
		return r.take()
	}
	var told []*member
	if m, ok := r.enter(now, from, j.GetMember(), &told); !ok {
		r.refuse(from, j, m.dev.Epoch)
		return r.take()
	}
	r.announce(now, told)
	for _, p := range j.GetPositions() {
		if g := r.other(regions.RegionID(p.GetRegion())); g != nil && !g.known {
			g.hint = p
		}
	}
	r.collect(now)
	if !r.holds(now, from, j) {
		r.answer(request{node: from, join: j.GetRequest(), isJoin: true, positions: j.GetPositions()})
	}
	return r.take()
}

// refuse answers the Join of a session that is over: because of a newer one, or
// because the roster ended it, which its node is about to hear.
func (r *Room) refuse(from regions.NodeID, j *peer.Join, newer uint64) {
	code := wire.CodeSuperseded
	if newer == 0 {
		code = wire.CodeRetry
	}
	r.toNode(from, &peer.Frame{Body: &peer.Frame_Joined{Joined: &peer.Joined{
		Room: r.id, Request: j.GetRequest(), Error: code, Epoch: newer,
	}}})
}

// Attach takes all sessions of a node, after its link was reset or the room got
// another owner, and continues its feed. Who was there and is no more has left,
// unless the roster has it in the room: then it is on its way.
func (r *Room) Attach(now time.Time, from regions.NodeID, a *peer.Attach, stays []regions.Stay) []Effect {
	r.used = now
	for _, p := range a.GetPosts() {
		r.post(now, from, p)
	}
	if len(a.GetMembers()) == 0 {
		r.flushFixes(now)
		return r.take()
	}
	if n := r.node(from); n != nil {
		n.ready = false // until it is answered, nothing fits
	}
	listed := make(map[key]bool, len(a.GetMembers()))
	var told []*member
	for _, in := range a.GetMembers() {
		newer, over := r.over(in)
		if !over {
			m, ok := r.enter(now, from, in, &told)
			if ok {
				listed[m.key] = true
				continue
			}
			newer = m.dev.Epoch
		}
		if newer > 0 { // it moved on while its node was cut off
			r.toNode(from, &peer.Frame{Body: &peer.Frame_Fence{Fence: &peer.Fence{
				Room: r.id, User: in.GetUser(), Device: in.GetDevice().GetDevice(), Epoch: newer,
			}}})
		}
	}
	has := byKey(stays)
	var gone []*member
	for _, m := range r.roll.sorted {
		if m.node != from || listed[m.key] {
			continue
		}
		if _, in := has[m.key]; in && !m.hidden {
			r.suspend(now, m)
		} else {
			gone = append(gone, m)
		}
	}
	r.announce(now, told)
	r.leave(now, gone, wire.Reason_BYE)
	for _, f := range a.GetFixes() {
		r.report(now, from, f, true)
	}
	r.collect(now)
	r.takeReach(a.GetUnreached())
	if r.node(from) != nil {
		r.answer(request{node: from, positions: a.GetPositions()})
		if all := append(r.unreached(), r.strangers(a.GetPositions())...); len(all) > 0 || len(a.GetUnreached()) > 0 {
			r.toNode(from, r.reachFrame(all))
		}
	}
	return r.take()
}

// Continues reports whether somebody at a position of this region gets the events
// after it, and not a Part in place of all they were told.
func (r *Room) Continues(p *wire.Position) bool {
	_, ok := r.missed(r.own, p)
	return ok
}

// answer brings somebody from a position to the present; from here on the feed
// goes on for them.
func (r *Room) answer(q request) {
	if q.region != nil {
		q.region.listens = true
		r.continueRegion(q)
		return
	}
	n := r.node(q.node)
	if n == nil {
		return
	}
	if !n.ready {
		n.ready = true
		if q.isJoin {
			n.applied = r.version // it checks the answer's version before the feed
		}
	}
	if q.isJoin {
		r.continueSession(q)
	} else {
		r.continueNode(q)
	}
}

// continueSession answers a Join with frames for that session alone.
func (r *Room) continueSession(q request) {
	strangers := r.strangers(q.positions)
	snap := &wire.Snapshot{
		Room: r.id, Recovered: len(strangers) == 0, LastNumber: r.last, LastChange: r.change, Unreached: append(r.unreached(), strangers...),
	}
	// Strangers are this client's own words: other sessions of the node don't hear of them.
	joined := &peer.Joined{Room: r.id, Request: q.join, Version: r.version, Frames: make([][]byte, 1, 4), Unreached: r.unreached()}
	for _, g := range r.regions {
		p := find(q.positions, g.id)
		if !g.known {
			if p != nil { // what was missed there can't be told apart from what was not
				snap.Recovered = false
			}
			continue
		}
		joined.Positions = append(joined.Positions, g.position())
		n, ok := r.missed(g, p)
		if !ok {
			snap.Parts = append(snap.Parts, r.part(g, r.cfg.Page))
			snap.Recovered = snap.Recovered && p == nil
			continue
		}
		g.ring.last(n, func(f *peer.Frame) { joined.Frames = append(joined.Frames, f.GetEvent().GetFrame()) })
		r.encodeFixes(r.fixesOf(g), reliableChunk, func(body []byte, _ int) { joined.Frames = append(joined.Frames, body) })
	}
	joined.Frames[0] = encode(&wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: snap}})
	r.toNode(q.node, &peer.Frame{Body: &peer.Frame_Joined{Joined: joined}})
}

// continueNode answers an Attach with frames for all of the node's sessions.
func (r *Room) continueNode(q request) {
	parts := &peer.Parts{Room: r.id, Version: r.version, LastNumber: r.last, LastChange: r.change}
	r.toNode(q.node, &peer.Frame{Body: &peer.Frame_Parts{Parts: parts}})
	for _, g := range r.regions {
		if !g.known {
			continue
		}
		n, ok := r.missed(g, find(q.positions, g.id))
		if !ok {
			parts.Parts = append(parts.Parts, r.part(g, r.cfg.Page))
			continue
		}
		g.ring.last(n, func(f *peer.Frame) { r.toNode(q.node, f) })
		r.encodeFixes(r.fixesOf(g), reliableChunk, func(body []byte, _ int) { r.toNode(q.node, r.fixesFrame(g, body)) })
	}
}

// continueRegion answers a Subscribe with what is ours.
func (r *Room) continueRegion(q request) {
	parts := &peer.Parts{Room: r.id, Version: r.version, LastNumber: r.last, LastChange: r.change, Present: r.own.position()}
	r.toRegion(q.region.id, &peer.Frame{Body: &peer.Frame_Parts{Parts: parts}})
	n, ok := r.missed(r.own, find(q.positions, r.own.id))
	if !ok || q.whole {
		parts.Parts = []*wire.Part{r.part(r.own, 0)} // to know only some would be to drop the others
		if !ok && len(q.positions) > 0 {
			r.tellDeparted(q.region)
		}
		if ok {
			r.own.ring.last(r.own.ring.within(n, wholeBytes), func(f *peer.Frame) { parts.Events = append(parts.Events, f.GetEvent()) })
		}
		return
	}
	r.own.ring.last(n, func(f *peer.Frame) { r.toRegion(q.region.id, f) })
	r.encodeFixes(r.fixesOf(r.own), reliableChunk, func(body []byte, _ int) {
		r.toRegion(q.region.id, r.fixesFrame(r.own, body))
	})
}

// tellDeparted tells a region, which missed some events, of sessions that came
// and went meanwhile: its own of these devices are over.
func (r *Room) tellDeparted(g *region) {
	gone := slices.SortedFunc(maps.Keys(r.departed), func(a, b key) int {
		return cmp.Or(strings.Compare(a.user, b.user), strings.Compare(a.device, b.device))
	})
	for _, k := range gone {
		if d := r.departed[k]; !d.there {
			r.toRegion(g.id, &peer.Frame{Body: &peer.Frame_Fence{Fence: &peer.Fence{
				Room: r.id, User: k.user, Device: k.device, Epoch: d.epoch,
			}}})
		}
	}
}

// missed returns how many events of a region come after a position, and
// whether the ring still has all of them.
func (r *Room) missed(g *region, p *wire.Position) (int, bool) {
	switch {
	case p == nil:
		return 0, false
	case p.Epoch > g.epoch, p.Epoch == g.epoch && p.Seq > g.seq:
		// On another node one can be ahead of what was relayed to us: we catch up.
		// Nobody is ahead of us in our own events: then the number is from another
		// life.
		return 0, g != r.own
	case p.Seq > g.seq:
		return 0, false
	case p.Seq == g.seq:
		return 0, p.Epoch == g.epoch
	case g.seq-p.Seq > uint64(len(g.ring.frames)):
		return 0, false
	}
	// Seqs go on from epoch to epoch in a ring: the first missed event tells of
	// which one the position must be.
	n := int(g.seq - p.Seq)
	return n, prior(g.ring.newest(n).GetEvent()) == p.Epoch
}

// prior returns the epoch of the event before one.
func prior(e *peer.Event) uint64 {
	if e.GetPriorEpoch() != 0 {
		return e.GetPriorEpoch()
	}
	return e.GetAt().GetEpoch()
}

func find(ps []*wire.Position, id regions.RegionID) *wire.Position {
	for _, p := range ps {
		if p.GetRegion() == string(id) {
			return p
		}
	}
	return nil
}
