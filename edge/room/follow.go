package room

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// Subscribe lets another region's owner follow our own events from a position.
func (r *Room) Subscribe(now time.Time, from regions.RegionID, s *peer.Subscribe) []Effect {
	r.used = now
	if g := r.other(from); g != nil {
		g.broke = time.Time{}
		q := request{region: g, whole: s.GetWhole()}
		if s.GetPosition() != nil {
			q.positions = []*wire.Position{s.Position}
		}
		r.answer(q)
		if g.told && due(g.asked.Add(r.cfg.Resend/10), now) {
			r.refollow(now, g) // so it is there again
		}
	}
	return r.take()
}

// Unsubscribe ends that.
func (r *Room) Unsubscribe(now time.Time, from regions.RegionID) []Effect {
	r.used = now
	if g := r.region(from); g != nil {
		g.listens, g.broke = false, time.Time{}
		r.prune()
	}
	return r.take()
}

// Refollow asks another region again from the position we have, because a link
// to or from it was reset.
func (r *Room) Refollow(now time.Time, from regions.RegionID) []Effect {
	if g := r.region(from); g != nil && g != r.own && g.following() {
		r.refollow(now, g)
	}
	return r.take()
}

func (r *Room) refollow(now time.Time, g *region) {
	if g.cut = false; g.told {
		g.hurry = max(g.hurry, hurriesBack)
	}
	r.subscribe(now, g)
}

// RefollowAll does that with all of them, because we may have missed anything.
func (r *Room) RefollowAll(now time.Time) []Effect {
	for _, g := range r.regions[1:] {
		if g.following() {
			r.refollow(now, g)
		}
	}
	return r.take()
}

func (r *Room) subscribe(now time.Time, g *region) {
	s := &peer.Subscribe{Room: r.id}
	if g.known {
		s.Position = g.position()
	} else if g.hint != nil {
		s.Position, s.Whole = g.hint, true
	}
	g.doubt(now)
	g.asked, g.round = now, 0
	r.toRegion(g.id, &peer.Frame{Body: &peer.Frame_Subscribe{Subscribe: s}})
}

func (r *Room) unsubscribe() *peer.Frame {
	return &peer.Frame{Body: &peer.Frame_Unsubscribe{Unsubscribe: &peer.Unsubscribe{Room: r.id}}}
}

// followed returns the region that a frame came from if we follow it. If we
// don't, its owner has missed that, and is told.
func (r *Room) followed(now time.Time, from regions.RegionID) *region {
	r.used = now
	g := r.other(from)
	if g == nil {
		r.Stats.Dropped++
		return nil
	}
	if !g.following() {
		r.toRegion(g.id, r.unsubscribe())
		r.Stats.Dropped++
		return nil
	}
	return g
}

// Event takes another region's event, checks that it is the next one, and
// relays the same bytes.
func (r *Room) Event(now time.Time, from regions.RegionID, f *peer.Frame) []Effect {
	e := f.GetEvent()
	g := r.followed(now, from)
	if g == nil {
		return r.take()
	}
	at := e.GetAt()
	switch {
	case !g.known, at.GetRegion() != string(g.id), at.GetEpoch() < g.epoch, at.GetEpoch() == g.epoch && at.GetSeq() <= g.seq:
		// The Parts we asked for are ahead of it, or we had it, or an owner of the
		// past speaks.
		r.Stats.Dropped++
		return r.take()
	case prior(e) != g.epoch || at.GetSeq() != g.seq+1:
		r.Stats.Dropped++
		r.gap(now, g)
		return r.take()
	}
	var frame wire.ServerFrame
	if frame.UnmarshalVT(e.Frame) != nil || frame.GetEvent() == nil {
		// Nothing we understand: only a snapshot can tell what it meant.
		r.Stats.Dropped++
		g.known, g.asked = false, time.Time{}
		r.gap(now, g)
		return r.take()
	}
	g.epoch, g.seq = at.Epoch, at.Seq
	g.ring.push(f, r.cfg)
	said := frame.GetEvent()
	r.raise(now, e.Version, max(said.GetMessage().GetNumber(), said.GetRevised().GetMessage().GetNumber()), said.GetRevised().GetChange())
	r.Stats.Relayed++
	r.toNodes(f)
	if p := frame.GetEvent().GetPresence(); p != nil {
		r.presence(now, g, p.GetPeople())
	}
	r.heard(now, g)
	return r.take()
}

// gap asks again, once, for what is missing.
func (r *Room) gap(now time.Time, g *region) {
	if g.asked.IsZero() {
		r.Stats.Resubscribes++
		r.subscribe(now, g)
	}
}

// Parts opens the answer to our Subscribe: what the origin could not continue
// replaces everything known of it.
func (r *Room) Parts(now time.Time, from regions.RegionID, f *peer.Frame) []Effect {
	p := f.GetParts()
	g := r.followed(now, from)
	if g == nil {
		return r.take()
	}
	r.raise(now, p.GetVersion(), p.GetLastNumber(), p.GetLastChange())
	if p.Alone {
		r.toNodes(f)
		return r.take()
	}
	if len(p.GetParts()) == 0 {
		hint := &peer.Parts{Room: r.id, Version: p.Version, LastNumber: p.LastNumber, LastChange: p.LastChange, Alone: true}
		r.toNodes(&peer.Frame{Body: &peer.Frame_Parts{Parts: hint}}) // it answers us, not them
		if !g.known {
			r.subscribe(now, g) // an answer to a question from before we forgot
			return r.take()
		}
		g.asked, g.round, g.goal = time.Time{}, 0, p.GetPresent().GetSeq() // it goes on from where we are
		r.heard(now, g)
		return r.take()
	}
	part := p.Parts[0]
	if len(p.Parts) != 1 || part.GetAt().GetRegion() != string(g.id) || g.known && part.At.Epoch < g.epoch {
		r.Stats.Dropped++
		return r.take()
	}
	g.asked, g.round, g.goal, g.known, g.hint = time.Time{}, 0, 0, true, nil
	g.epoch, g.seq = part.At.Epoch, part.At.Seq
	g.ring.reset()
	for _, e := range chain(p.Events, part.At) {
		g.ring.push(&peer.Frame{Body: &peer.Frame_Event{Event: e}}, r.cfg)
	}
	if len(part.People) > r.cfg.Page || len(p.Events) > 0 {
		f = &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{
			Room: r.id, Parts: []*wire.Part{cut(part, r.cfg.Page)}, Version: p.Version,
			LastNumber: p.LastNumber, LastChange: p.LastChange,
		}}}
	}
	r.toNodes(f)

	listed := map[key]uint64{}
	for _, person := range part.People {
		for _, d := range person.GetDevices() {
			listed[key{person.GetUser(), d.GetDevice()}] = d.GetEpoch()
		}
	}
	for _, m := range slices.Clone(r.roll.sorted) {
		// A region that has forgotten its newest session of a device (its owner
		// restarted) is to be believed too.
		if epoch, ok := listed[m.key]; m.region == g.id && (!ok || epoch < m.dev.Epoch) {
			r.roll.remove(m)
		}
	}
	r.presence(now, g, part.People)
	r.unpost(func(x *post) bool { // of whose posts it has forgotten, we forget them too
		return x.region == g.id && !slices.ContainsFunc(part.Fixes, func(f *wire.MemberFix) bool {
			return f.GetUser() == x.user && f.GetDevice() == edge.PostDevice
		})
	})
	for _, fix := range part.Fixes {
		r.relayed(g, fix)
	}
	// We may have missed that the region had one of our devices for a while;
	// who saw that device leave there must hear that it is here.
	var told []*member
	for _, m := range r.roll.sorted {
		if m.node != "" && !m.hidden && m.announced < m.dev.Epoch {
			told = append(told, m)
		}
	}
	r.announce(now, told)
	r.heard(now, g)
	return r.take()
}

// elsewhereMost bounds Room.Elsewhere between two looks at it.
const elsewhereMost = 1024

// presence applies what another region says of its sessions.
func (r *Room) presence(now time.Time, g *region, people []*wire.Person) {
	var told []*member
	moved := false
	for _, person := range people {
		for _, d := range person.GetDevices() {
			if d == nil {
				continue
			}
			k := key{person.GetUser(), d.Device}
			if len(r.Elsewhere) < elsewhereMost {
				id := regions.SessionID{User: k.user, Device: k.device, Epoch: regions.Epoch(d.Epoch)}
				r.Elsewhere = append(r.Elsewhere, Elsewhere{id, g.id, d.State == wire.State_LEFT})
			}
			m := r.roll.index[k]
			if m != nil && !m.beatenBy(d.Epoch, g.id) {
				if m.node != "" && m.announced <= d.Epoch && m.announced < m.dev.Epoch {
					told = append(told, m.again(now))
				}
				continue
			}
			if m != nil && m.node != "" {
				r.fence(m, d.Epoch)
				if !m.hidden { // the old session is withdrawn under its old epoch
					told = append(told, m.left(now, wire.Reason_MOVED))
				}
				r.release(m)
				r.depart(now, k, d.Epoch, false)
				if gone := r.departed[k]; gone.epoch == d.Epoch {
					gone.there = true
					r.departed[k] = gone
				}
				m.clear()
				m.hidden, moved = false, true
			}
			switch {
			case d.State == wire.State_LEFT:
				if m != nil {
					r.roll.remove(m)
				}
			case m == nil:
				r.roll.add(&member{key: k, name: person.Name, region: g.id, dev: d})
			default:
				m.region, m.name, m.dev = g.id, person.Name, d
			}
		}
	}
	r.announce(now, told)
	if moved {
		r.collect(now)
	}
}
