package room

import (
	"iter"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

const (
	// lossyChunk bounds a merged frame: with the peer frame's or the session
	// datagram's header it must fit the 1,200 bytes that every QUIC path carries
	// (RFC 9000 section 14), since a datagram is never split.
	lossyChunk = 1100
	// reliableChunk bounds a frame on an ordered link: large enough to be few,
	// small enough not to hold up the events behind it.
	reliableChunk = 16 << 10
)

// fixes is what waits to be merged or repeated.
type fixes struct {
	dirty   []*mover  // moved since the last frame
	flush   time.Time // not before: the tick of the last frame
	settle  time.Time // when an unsettled member may have been still for long enough; zero if there is none
	scratch []*wire.MemberFix
	frame   wire.ServerFrame
	body    wire.ServerFrame_Fixes
	inner   wire.Fixes
}

// due returns when there is something to send; zero if nothing waits.
func (x *fixes) due() time.Time {
	switch {
	case len(x.dirty) == 0:
		return x.settle
	case x.settle.IsZero() || x.flush.Before(x.settle):
		return x.flush
	default:
		return x.settle
	}
}

// mover is whatever has a fix: a member, or somebody who posts.
type mover struct {
	fix       *wire.MemberFix // the last one; nil if none. Replaced, never changed.
	moved     time.Time       // when that came, or went out for the last time; of this region only
	dirty     bool            // it waits for the tick
	unsettled bool            // it went by datagram and was not repeated yet
}

// remember takes a fix that is newer than the last.
func (m *mover) remember(f *wire.MemberFix) bool {
	if f.GetFix() == nil || m.fix != nil && !newer(f, m.fix) {
		return false
	}
	m.fix = f
	return true
}

// newer reports whether a fix is to replace another one: of a higher session
// epoch, or within one a higher n, and not captured earlier. It may be of an
// older session than the present one: whoever reconnects, here or in another
// region, is where they were until they say more. Posts, and what withdraws a
// fix (it has no point) or follows that, go by the numbers alone.
func newer(f, old *wire.MemberFix) bool {
	switch {
	case f.Epoch < old.Epoch, f.Epoch == old.Epoch && f.Fix.N <= old.Fix.N:
		return false
	case f.Epoch == 0, f.Fix.Point == nil, old.Fix.Point == nil:
		return true
	}
	return !f.Fix.Captured.AsTime().Before(old.Fix.Captured.AsTime())
}

// clear forgets that a fix waits: it is of this region no more.
func (m *mover) clear() { m.dirty, m.unsettled = false, false }

// Report takes a fix from a member's node.
func (r *Room) Report(now time.Time, from regions.NodeID, f *wire.MemberFix) []Effect {
	r.used = now
	if !r.report(now, from, f, false) {
		r.Stats.Dropped++
	}
	r.flushFixes(now)
	return r.take()
}

// report: a member that has no fix here may have had one under an earlier owner,
// which some still show. So what its node says again to a new one is taken even
// if it only withdraws.
func (r *Room) report(now time.Time, from regions.NodeID, f *wire.MemberFix, again bool) bool {
	m := r.roll.index[key{f.GetUser(), f.GetDevice()}]
	if m == nil || m.node != from {
		return false
	}
	if m.hidden || m.fix == nil && !again && f.GetFix().GetPoint() == nil && f.GetFix() != nil {
		return true
	}
	if !m.remember(f) {
		return false
	}
	r.took(now, &m.mover)
	return true
}

// took has a fix of this region spread.
func (r *Room) took(now time.Time, m *mover) {
	r.Stats.FixesIn++
	r.observe(m.fix, true)
	if !m.dirty {
		m.dirty = true
		r.fixes.dirty = append(r.fixes.dirty, m)
		if r.fixes.flush.IsZero() {
			r.fixes.flush = now // the first frame is due at once
		}
	}
	r.unsettle(now, m)
}

func (r *Room) observe(f *wire.MemberFix, own bool) {
	if r.cfg.Observed {
		r.Taken = append(r.Taken, Taken{f, own})
	}
}

// unsettle has a fix repeated that goes, or went, by datagram.
func (r *Room) unsettle(now time.Time, m *mover) {
	m.moved = now
	if m.unsettled = true; r.fixes.settle.IsZero() {
		r.fixes.settle = now.Add(r.cfg.Settle)
	}
}

// flushFixes sends the frames that are due: who moved, and who settled.
func (r *Room) flushFixes(now time.Time) {
	x := &r.fixes
	if len(x.dirty) > 0 && !now.Before(x.flush) {
		x.flush = now.Add(r.cfg.Tick)
		x.scratch = x.scratch[:0]
		for i, m := range x.dirty {
			if m.dirty {
				x.scratch = append(x.scratch, m.fix)
			}
			m.dirty, x.dirty[i] = false, nil
		}
		x.dirty = x.dirty[:0]
		r.encodeFixes(x.scratch, lossyChunk, func(body []byte, n int) {
			r.Stats.FixesSent += n
			r.spreadFixes(r.fixesMessage(r.own, body))
		})
	}
	if !due(x.settle, now) {
		return
	}
	x.scratch, x.settle = x.scratch[:0], time.Time{}
	for m := range r.movers(r.own) {
		if !m.unsettled {
			continue
		}
		if until := m.moved.Add(r.cfg.Settle); now.Before(until) {
			if x.settle.IsZero() || until.Before(x.settle) {
				x.settle = until
			}
			continue
		}
		m.unsettled, m.moved = false, now
		x.scratch = append(x.scratch, m.fix)
	}
	// Those who settle within one tick share a frame.
	if soonest := now.Add(r.cfg.Tick); !x.settle.IsZero() && x.settle.Before(soonest) {
		x.settle = soonest
	}
	r.encodeFixes(x.scratch, reliableChunk, func(body []byte, _ int) {
		f := r.fixesFrame(r.own, body)
		r.toNodes(f)
		r.toRegions(f)
	})
}

// movers yields those of a region who have a fix, in order.
func (r *Room) movers(g *region) iter.Seq[*mover] {
	return func(yield func(*mover) bool) {
		for _, m := range r.roll.sorted {
			if m.region == g.id && m.fix != nil && !yield(&m.mover) {
				return
			}
		}
		for _, x := range r.posts {
			if x.region == g.id && !yield(&x.mover) {
				return
			}
		}
	}
}

// encodeFixes encodes fixes into as few frames of at most limit bytes as it
// takes, each with at least one fix.
func (r *Room) encodeFixes(all []*wire.MemberFix, limit int, each func(body []byte, n int)) {
	x := &r.fixes
	x.inner.Room = r.id
	x.body.Fixes = &x.inner
	x.frame.Body = &x.body
	// Tag and length of the outer message and of the room.
	base := 4 + 3 + len(r.id)
	for len(all) > 0 {
		n, size := 0, base
		for n < len(all) {
			one := all[n].SizeVT()
			one += 1 + varintLen(one)
			if n > 0 && size+one > limit {
				break
			}
			n, size = n+1, size+one
		}
		x.inner.Fixes = all[:n]
		each(encode(&x.frame), n)
		all = all[n:]
	}
	x.inner.Fixes = nil
}

func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	default:
		return 3
	}
}

// fixesOf returns the last fixes of a region, but for those that have lapsed.
func (r *Room) fixesOf(g *region) []*wire.MemberFix {
	var all []*wire.MemberFix
	for m := range r.movers(g) {
		if m.alive(r.used) {
			all = append(all, m.fix)
		}
	}
	return all
}

func (m *mover) alive(now time.Time) bool {
	return m.fix != nil && now.Before(edge.Lapses(m.fix.Fix))
}

func (r *Room) fixesMessage(g *region, body []byte) *peer.Fixes {
	return &peer.Fixes{Room: r.id, Region: string(g.id), Epoch: g.epoch, Version: r.version, Frame: body}
}

func (r *Room) fixesFrame(g *region, body []byte) *peer.Frame {
	return &peer.Frame{Body: &peer.Frame_Fixes{Fixes: r.fixesMessage(g, body)}}
}

func (r *Room) spreadFixes(f *peer.Fixes) {
	r.fixesToNodes(f)
	for _, g := range r.regions[1:] {
		if g.listens {
			r.out = append(r.out, Effect{Region: g.id, Fixes: f})
		}
	}
}

func (r *Room) fixesToNodes(f *peer.Fixes) {
	for _, n := range r.nodes {
		if n.ready {
			r.out = append(r.out, Effect{Node: n.id, Fixes: f})
		}
	}
}

// Fixes takes the merged fixes of another region and relays the same bytes,
// by datagram as they came.
func (r *Room) Fixes(now time.Time, from regions.RegionID, f *peer.Fixes) []Effect {
	if r.relayable(now, from, f) {
		r.fixesToNodes(f)
	}
	return r.take()
}

// SettledFixes is Fixes on the ordered link.
func (r *Room) SettledFixes(now time.Time, from regions.RegionID, f *peer.Frame) []Effect {
	if r.relayable(now, from, f.GetFixes()) {
		r.toNodes(f)
	}
	return r.take()
}

// relayable remembers fixes of another region for snapshots, and reports
// whether they come from the owner that we follow there.
func (r *Room) relayable(now time.Time, from regions.RegionID, f *peer.Fixes) bool {
	r.used = now
	g := r.region(from)
	var frame wire.ServerFrame
	if g == nil || g == r.own || !g.known || f.GetEpoch() != g.epoch || frame.UnmarshalVT(f.GetFrame()) != nil {
		r.Stats.Dropped++
		return false
	}
	r.raise(now, f.Version, 0, 0)
	for _, fix := range frame.GetFixes().GetFixes() {
		r.relayed(g, fix)
	}
	return true
}

// relayed remembers what another region tells of where somebody is.
func (r *Room) relayed(g *region, f *wire.MemberFix) {
	if f.GetDevice() == edge.PostDevice {
		r.relayedPost(g, f)
	} else if m := r.roll.index[key{f.GetUser(), f.GetDevice()}]; m != nil && !m.hidden && m.remember(f) {
		r.observe(f, false)
	}
}
