package nearby

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// run tells others what is to be told, and forgets what lapsed.
func (m *Map) run(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	var leased, swept time.Time
	next, part := 0, 0 // the shard whose leases come next, and what is swept then
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-m.wake:
		}
		now := time.Now()
		if again := m.toAgain(now); !again.empty() {
			m.retell(now, &again)
		}
		var out outbox
		m.flush(now, &out)
		for leased.IsZero() || now.Sub(leased) >= lease/shards { // so all have their turn within a lease
			m.renew(now, &m.owner.shards[next], &out)
			if next = (next + 1) % shards; next == 0 {
				m.anchors.sweep(now)
			}
			if leased = leased.Add(lease / shards); now.Sub(leased) > lease {
				leased = now // the beginning, or a clock that jumped
			}
		}
		m.send(&out)
		if now.Sub(swept) >= sweepEvery {
			swept = now
			m.owner.sweep(now, part, sweepParts)
			part = (part + 1) % sweepParts
		}
	}
}

// refused notes slots whose owner, as this node believes, does not own them:
// either does not know yet what the other knows.
func (m *Map) refused(region regions.RegionID, slots []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusals.empty() {
		m.refusals.init()
		m.refusedAt = time.Now()
	}
	m.refusals.slots(region, slots)
}

// toAgain returns what is to be told anew by now.
func (m *Map) toAgain(now time.Time) again {
	topology := m.cfg.Topology()
	was := m.atlas.Load()
	a := was
	if topology != m.topology {
		m.topology = topology
		a = was.next(topology, now)
	}
	a = a.lapse(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if a != was {
		m.atlas.Store(a)
		m.again.init()
		m.again.look = true
	}
	if !m.refusals.empty() && now.Sub(m.refusedAt) >= refuseAgain {
		m.again.init()
		m.again.merge(&m.refusals)
		m.refusals = again{}
	}
	out := m.again
	m.again = again{}
	return out
}

// retell goes through what is published: others may be to be told, or the same
// ones anew.
func (m *Map) retell(now time.Time, what *again) {
	for i := range m.owner.shards {
		s := &m.owner.shards[i]
		s.mu.Lock()
		s.each(func(p *someone) {
			e := &p.pub
			if e.state == nobody || !what.concerns(e) {
				return
			}
			changed := e.state == there && m.move(now, s, p)
			for _, t := range list(e.told) {
				changed = changed || what.has(t, int(e.slot))
			}
			if !changed {
				return
			}
			if e.state == there {
				m.keep(now, s, p, nil)
			}
			m.mark(s, p, true)
		})
		s.mu.Unlock()
	}
}

// flush tells what is due.
func (m *Map) flush(now time.Time, out *outbox) {
	for i := range m.owner.shards {
		s := &m.owner.shards[i]
		s.mu.Lock()
		waiting := s.dirty[:0]
		for _, p := range s.dirty {
			e := &p.pub
			if !e.due(now) {
				waiting = append(waiting, p)
				continue
			}
			e.dirty, e.urgent = false, false
			m.tell(now, p, out)
			s.tidy(p)
		}
		clear(s.dirty[len(waiting):])
		s.dirty = waiting
		s.mu.Unlock()
	}
}

// tell tells an entry to all who are to know.
func (m *Map) tell(now time.Time, someone *someone, out *outbox) {
	e, user := &someone.pub, someone.user
	if e.state == nobody || e.until <= now.UnixMilli() {
		return // nobody needs to be told
	}
	e.sent = now.UnixMilli()
	for _, t := range list(e.left) {
		out.point(m, t.node, gonePoint(user, e.version-step))
	}
	e.left = nil
	var p *peer.MapPoint
	for _, t := range list(e.told) {
		switch {
		case !m.elsewhere(t):
			continue
		case p == nil && e.state == gone:
			p = gonePoint(user, e.version)
		case p == nil:
			is := e.person(user, e.at)
			p = pointOf(&is)
		}
		m.metrics.out.Inc()
		out.point(m, t.node, p)
	}
	if !e.claim || e.state == gone {
		return
	}
	e.claim = false
	if m.oneNode() {
		return
	}
	switch anchor := m.ownerIn(m.atlas.Load().anchor(user), anchorSlot(user)); anchor {
	case "": // with the next lease
	case m.cfg.Self:
		m.claimed(out, now, m.cfg.Self, user, e.version)
	default:
		u := out.to(m, anchor)
		u.Claims = append(u.Claims, &peer.MapClaim{User: user, Version: e.version})
	}
}

// claimed takes a claim as the user's anchor.
func (m *Map) claimed(out *outbox, now time.Time, from regions.NodeID, user string, version uint64) {
	v, tell := m.anchors.claim(now, from, user, version, m.cfg.MaxPoints)
	switch {
	case !tell:
	case v.to == m.cfg.Self:
		out.self = append(out.self, v)
	default:
		u := out.to(m, v.to)
		u.Superseded = append(u.Superseded, &peer.MapClaim{User: v.user, Version: v.version})
	}
}

// oneNode reports whether there is nobody else who could publish anybody.
func (m *Map) oneNode() bool {
	return len(m.topology.Regions) == 1 && len(m.topology.Regions[0].Nodes) == 1
}

// renew tells the points and claims of a shard again, and ends what is over.
func (m *Map) renew(now time.Time, s *shard, out *outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each(func(p *someone) {
		e := &p.pub
		switch {
		case e.state == nobody:
			return
		case e.until <= now.UnixMilli() && !m.lapse(now, s, p):
			return
		}
		e.claim = e.state != gone
		if e.told == nil && e.state == there && m.move(now, s, p) { // nobody owned the slot
			m.keep(now, s, p, nil)
		}
		m.tell(now, p, out)
	})
}

// outbox is frames by the node they are for; those that are full have gone.
type outbox struct {
	of   map[regions.NodeID]*peer.MapUpdate
	self []verdict // for this node
}

// to returns the frame for a node, with room for one thing more.
func (o *outbox) to(m *Map, node regions.NodeID) *peer.MapUpdate {
	u := o.of[node]
	if u != nil && len(u.Points)+len(u.Claims)+len(u.Superseded) >= batch {
		m.cfg.Links.Send(node, frame(u))
		u = nil
	}
	if u == nil {
		u = &peer.MapUpdate{}
		if o.of == nil {
			o.of = map[regions.NodeID]*peer.MapUpdate{}
		}
		o.of[node] = u
	}
	return u
}

func (o *outbox) point(m *Map, node regions.NodeID, p *peer.MapPoint) {
	u := o.to(m, node)
	u.Points = append(u.Points, p)
}

// send sends what is left. No lock is held.
func (m *Map) send(o *outbox) {
	for node, u := range o.of {
		m.cfg.Links.Send(node, frame(u))
	}
	for _, v := range o.self {
		m.superseded(v.user, v.version)
	}
}

func frame(u *peer.MapUpdate) *peer.Frame {
	return &peer.Frame{Body: &peer.Frame_MapUpdate{MapUpdate: u}}
}
