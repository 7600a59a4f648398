package room

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// heldMost bounds the Joins that wait for a region; more are answered at once.
const heldMost = 256

// held is a Join whose answer waits for regions that have yet to answer us.
type held struct {
	from  regions.NodeID
	join  *peer.Join
	until time.Time
}

// Cut takes note that the link to or from another region's owner broke. It hears
// nothing more of us until it asks, and we nothing of it. What we know of its
// members stays.
func (r *Room) Cut(now time.Time, from regions.RegionID) []Effect {
	r.used = now
	g := r.region(from)
	if g == nil || g == r.own {
		return r.take()
	}
	if g.listens {
		g.listens, g.broke = false, now
	}
	return r.Silent(now, from)
}

// Silent takes note that another region's owner can't say anything any more, until
// it is asked again (Refollow, Ask).
func (r *Room) Silent(now time.Time, from regions.RegionID) []Effect {
	if g := r.region(from); g != nil && g != r.own && g.following() {
		g.cut, g.round = true, 0
		g.doubt(now)
	}
	return r.take()
}

// Unreached reports whether a region was told as one that can't be reached.
func (r *Room) Unreached(id regions.RegionID) bool {
	g := r.region(id)
	return g != nil && g.told
}

// following reports whether we follow the region, or have asked to.
func (g *region) following() bool { return g.known || !g.asked.IsZero() }

// doubt begins to wait for the region: what it says next may never come.
func (g *region) doubt(now time.Time) {
	if g.since.IsZero() {
		g.since = now
	}
}

// heard ends that when the region has answered and we have all that it said
// meanwhile. While the link is cut, an answer is one from before.
func (r *Room) heard(now time.Time, g *region) {
	if g.since.IsZero() || g.cut || !g.asked.IsZero() || !g.known || g.seq < g.goal {
		return
	}
	told := g.told || g.fresh
	g.since, g.told, g.lost, g.fresh = time.Time{}, false, false, false
	if told {
		r.reach()
	}
	r.answerHeld(now)
}

// unheard returns when a region has been waited for in vain for the next time;
// zero if it is not waited for.
func (g *region) unheard(cfg *Config) time.Time {
	switch {
	case g.since.IsZero() || g.lost:
		return time.Time{}
	case !g.told:
		return g.since.Add(cfg.Unknown)
	default:
		return g.since.Add(cfg.RegionLost)
	}
}

// giveUp tells of regions that were waited for in vain: that they can't be
// reached, and at last that their members are no longer in the room.
func (r *Room) giveUp(now time.Time) {
	news := false
	for _, g := range r.regions[1:] {
		for due(g.unheard(r.cfg), now) {
			if news = true; !g.told {
				g.told = true
				continue
			}
			r.lose(g)
			r.subscribe(now, g) // from nothing, whenever it is there again
		}
	}
	if news {
		r.reach()
		r.answerHeld(now)
	}
}

// lose drops all that is known of a region that was away for too long. It is no
// event: nobody left.
func (r *Room) lose(g *region) {
	before := len(r.roll.sorted)
	g.known, g.lost, g.goal = false, true, 0
	g.ring.reset()
	r.dropMembers(g)
	r.unpost(func(x *post) bool { return x.region == g.id })
	r.Stats.Lost += before - len(r.roll.sorted)
}

// reach tells all nodes which regions can't be reached now; gone are some that
// are no regions of ours any more.
func (r *Room) reach(gone ...*wire.RegionReach) {
	r.toNodes(r.reachFrame(append(r.unreached(), gone...)))
}

func (r *Room) reachFrame(all []*wire.RegionReach) *peer.Frame {
	return &peer.Frame{Body: &peer.Frame_Reach{Reach: &peer.Reach{
		Room: r.id, Frame: encode(&wire.ServerFrame{Body: &wire.ServerFrame_Reach{Reach: &wire.Reach{Room: r.id, Unreached: all}}}),
	}}}
}

func (r *Room) unreached() []*wire.RegionReach {
	var all []*wire.RegionReach
	for _, g := range r.regions[1:] {
		if g.told {
			all = append(all, g.reach())
		}
	}
	return all
}

func (g *region) reach() *wire.RegionReach {
	return &wire.RegionReach{Region: string(g.id), UnknownSince: stamp(g.since), Lost: g.lost}
}

// strangers are the regions that somebody has positions of and that are none of
// ours, or no more: what they have of them is lost.
func (r *Room) strangers(positions []*wire.Position) []*wire.RegionReach {
	var all []*wire.RegionReach
	for _, p := range positions {
		if id := regions.RegionID(p.GetRegion()); id != r.own.id && !slices.Contains(r.cfg.Others, id) {
			all = append(all, &wire.RegionReach{Region: p.GetRegion(), UnknownSince: stamp(r.used), Lost: true})
		}
	}
	return all
}

// takeReach goes on from what a node was told by our predecessor of regions that
// we have not heard of either.
func (r *Room) takeReach(all []*wire.RegionReach) {
	news := false
	for _, u := range all {
		g := r.region(regions.RegionID(u.GetRegion()))
		if g == nil || g == r.own || g.since.IsZero() || u.UnknownSince == nil {
			continue
		}
		if since := u.UnknownSince.AsTime(); since.Before(g.since) {
			g.since, news = since, true
		}
		if !g.told {
			g.told, news = true, true
		}
		if u.Lost && !g.known && !g.lost {
			g.lost, news = true, true
		}
	}
	if news {
		r.reach()
	}
}

// holds keeps a Join that names positions of regions which have yet to answer
// us: in a moment we may be able to go on from there.
func (r *Room) holds(now time.Time, from regions.NodeID, j *peer.Join) bool {
	if len(r.held) >= heldMost || !r.awaits(j.GetPositions()) {
		return false
	}
	r.held = slices.DeleteFunc(r.held, func(h held) bool { return h.from == from && h.join.Request == j.Request })
	r.held = append(r.held, held{from, j, now.Add(r.cfg.Hold)})
	return true
}

func (r *Room) awaits(positions []*wire.Position) bool {
	return slices.ContainsFunc(positions, func(p *wire.Position) bool {
		g := r.region(regions.RegionID(p.GetRegion()))
		return g != nil && !g.known && !g.asked.IsZero() && !g.told
	})
}

// answerHeld answers the Joins that have waited enough.
func (r *Room) answerHeld(now time.Time) {
	if len(r.held) == 0 {
		return
	}
	var ready []held
	r.held = slices.DeleteFunc(r.held, func(h held) bool {
		if !due(h.until, now) && r.awaits(h.join.Positions) {
			return false
		}
		ready = append(ready, h)
		return true
	})
	for _, h := range ready {
		d := h.join.GetMember().GetDevice()
		m := r.roll.index[key{h.join.Member.GetUser(), d.GetDevice()}]
		switch {
		case m != nil && m.dev.Epoch > d.GetEpoch():
			r.refuse(h.from, h.join, m.dev.Epoch)
		case m == nil || m.node != h.from:
			r.refuse(h.from, h.join, 0)
		default:
			r.answer(request{node: h.from, join: h.join.Request, isJoin: true, positions: h.join.Positions})
		}
	}
}

// SetOthers takes a config with other regions than before: we begin to follow
// new ones; members of one that is none any more are lost at once.
func (r *Room) SetOthers(now time.Time, cfg *Config) []Effect {
	before := r.cfg.Others
	r.cfg = cfg
	var gone []*wire.RegionReach
	r.regions = slices.DeleteFunc(r.regions, func(g *region) bool {
		if g == r.own || slices.Contains(cfg.Others, g.id) {
			return false
		}
		if g.listens { // it is not told anything any more
			r.toRegion(g.id, &peer.Frame{Body: &peer.Frame_NotOwner{NotOwner: &peer.NotOwner{Room: r.id}}})
		}
		if g.following() {
			r.toRegion(g.id, r.unsubscribe())
			g.doubt(now)
			r.lose(g)
			gone = append(gone, g.reach())
		}
		return true
	})
	r.collect(now)
	for _, g := range r.regions[1:] {
		g.fresh = g.fresh || !slices.Contains(before, g.id)
	}
	if len(gone) > 0 {
		r.reach(gone...)
		r.answerHeld(now)
	}
	return r.take()
}
