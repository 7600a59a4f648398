package call

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// part is what another SFU node says of the call, and what it was told.
type part struct {
	node    regions.NodeID
	region  regions.RegionID
	place   regions.Epoch
	version uint64 // 0: nothing is known of it
	members map[Key]*member
	relayed bool
	heard   time.Time

	told  uint64 // version of our part that it was sent; 0: none
	asked uint64 // counts the lists of what we want
	list  []*peer.CallWantedTrack
	again bool // the list is to be sent though it is the same

	wants        map[uint32]media.Layers // of our tracks
	wantsVersion uint64
}

// member is a participant in a part.
type member struct {
	state     *wire.CallParticipant // without tracks
	sent      []*sent
	p2p       bool
	connected bool
}

// ghost is a participant that left a part for another one, of which nothing was heard
// yet.
type ghost struct {
	state *wire.CallParticipant
	until time.Time
}

// expected is how long those are kept of whom a session knew that was joined again.
const expected = 10 * time.Second

// Expect tells who was in the call when a session of this node heard last: they are,
// though their SFU was not heard of yet, or they did not come here yet. Else they would
// go and come again, for everybody who is joined here anew.
func (m *Machine) Expect(now time.Time, known []*wire.CallParticipant) {
	if len(known) > 2*m.cfg.Max {
		return
	}
	for _, p := range known {
		k := Key{p.GetUser(), p.GetDevice()}
		if k.User == "" || k.Device == "" || len(k.User) > maxID || len(k.Device) > maxID || len(p.GetName()) > 4*maxID || len(p.GetTracks()) > maxTracks {
			continue
		}
		if _, ok := m.movedAway[k]; ok || m.view[k] != nil || m.gone[k] >= p.GetEpoch() {
			continue
		}
		m.ghosts[k] = &ghost{p, now.Add(expected)}
		m.dirtyKey(k)
	}
}

// Meet tells that a node is an SFU of the call. It is told all of this node's part.
func (m *Machine) Meet(now time.Time, node regions.NodeID, region regions.RegionID) {
	if p := m.meet(now, node, region); p != nil {
		p.told, p.again = 0, true
	}
}

func (m *Machine) meet(now time.Time, node regions.NodeID, region regions.RegionID) *part {
	if node == m.cfg.Self || node == "" {
		return nil
	}
	p := m.parts[node]
	if p == nil && len(m.parts) < maxParts {
		p = &part{node: node, region: region, members: map[Key]*member{}, wants: map[uint32]media.Layers{}, heard: now, again: true, asked: m.cfg.Version}
		m.parts[node] = p
	}
	return p
}

// Knows reports whether an SFU of the region is known and was heard of lately.
func (m *Machine) Knows(now time.Time, region regions.RegionID) bool {
	for _, p := range m.parts {
		if p.region == region && p.version > 0 && now.Sub(p.heard) < 3*beat {
			return true
		}
	}
	return false
}

// LinkReset: what was sent to the node may be lost.
func (m *Machine) LinkReset(node regions.NodeID) {
	if p := m.parts[node]; p != nil {
		p.told, p.again = 0, true
	}
}

func (m *Machine) nodes() []regions.NodeID { return slices.Sorted(maps.Keys(m.parts)) }

// Part takes what an SFU node says of its part. It reports whether the node has a newer
// record of the call than this one.
func (m *Machine) Part(now time.Time, from regions.NodeID, region regions.RegionID, c *peer.CallPart) (newer bool) {
	if !sound(c, m.cfg.Max) {
		return false
	}
	if c.GetClosed() {
		if p := m.parts[from]; p != nil && c.GetVersion() >= p.version {
			m.forget(p, c.GetGone(), now)
			delete(m.parts, from)
			m.relayedBy(c)
		}
		m.outdated(now, c.GetGone())
		return false
	}
	p := m.meet(now, from, region)
	if p == nil || regions.Epoch(c.GetPlace()) < p.place {
		return false
	}
	p.heard = now
	if place := regions.Epoch(c.GetPlace()); place > p.place {
		p.place = place
		for k := range p.members {
			m.dirtyKey(k)
		}
	}
	if c.GetAgain() {
		p.told, p.again = 0, true
	}
	switch {
	case c.GetFrom() == 0:
		if c.GetVersion() < p.version {
			return false // it was overtaken
		}
		m.replace(now, p, c)
	case c.GetVersion() < p.version:
		return false
	case c.GetFrom() != p.version: // also where nothing is known yet
		m.sendPart(p, &peer.CallPart{Version: m.partVersion, From: m.partVersion, Again: true})
		return false
	default:
		m.advance(now, p, c)
	}
	m.outdated(now, c.GetGone())
	m.relayedBy(c)
	if c.GetWanted() > p.wantsVersion {
		m.sendPart(p, &peer.CallPart{Version: m.partVersion, From: m.partVersion, Again: true})
	}
	return c.GetRecord() > m.record.Version
}

// relayedBy: somebody knows that the call needs servers.
func (m *Machine) relayedBy(c *peer.CallPart) {
	if c.GetRelayed() && !m.relayed {
		m.relayed = true
		m.partVersion++
	}
}

// sound reports whether a part is one that a node could have sent.
func sound(c *peer.CallPart, most int) bool {
	if c.GetVersion() == 0 || c.GetFrom() > c.GetVersion() || len(c.GetMembers()) > 2*most || len(c.GetGone()) > 4*most {
		return false
	}
	for _, x := range c.GetMembers() {
		p := x.GetParticipant()
		if p.GetUser() == "" || p.GetDevice() == "" || len(p.GetUser()) > maxID || len(p.GetDevice()) > maxID ||
			len(p.GetName()) > 4*maxID || len(p.GetRegion()) > maxID || len(x.GetSent()) > maxTracks {
			return false
		}
		for _, t := range x.GetSent() {
			if t.GetTrack().GetId() == "" || len(t.GetTrack().GetId()) > maxID || len(t.GetMime()) > maxID || len(t.GetParams()) > 4*maxID || t.GetLayers() > 8 {
				return false
			}
		}
	}
	for _, k := range c.GetGone() {
		if len(k.GetUser()) > maxID || len(k.GetDevice()) > maxID || len(k.GetReason()) > maxID {
			return false
		}
	}
	return true
}

// replace takes a whole part.
func (m *Machine) replace(now time.Time, p *part, c *peer.CallPart) {
	reasons := map[Key]*peer.CallKey{}
	for _, g := range c.GetGone() {
		reasons[Key{g.GetUser(), g.GetDevice()}] = g
	}
	old := p.members
	p.members = map[Key]*member{}
	p.version = c.GetVersion()
	p.relayed = c.GetRelayed()
	for _, x := range c.GetMembers() {
		m.put(p, x)
	}
	for k, x := range old {
		if p.members[k] != nil {
			continue
		}
		m.lose(now, p, k, x, reasons[k].GetReason())
	}
}

// advance takes a change of a part.
func (m *Machine) advance(now time.Time, p *part, c *peer.CallPart) {
	p.version = c.GetVersion()
	p.relayed = c.GetRelayed()
	for _, g := range c.GetGone() {
		k := Key{g.GetUser(), g.GetDevice()}
		if x := p.members[k]; x != nil {
			delete(p.members, k)
			m.lose(now, p, k, x, g.GetReason())
		}
	}
	for _, x := range c.GetMembers() {
		m.put(p, x)
	}
}

func (m *Machine) put(p *part, c *peer.CallMember) {
	state := without(c.GetParticipant())
	state.Region = string(p.region) // it speaks for its own region only
	x := &member{state: state, p2p: c.GetPeerToPeer(), connected: c.GetConnected()}
	for _, t := range c.GetSent() {
		x.sent = append(x.sent, &sent{number: t.GetNumber(), track: media.Track{
			ID: t.GetTrack().GetId(), Source: t.GetTrack().GetSource(), Video: t.GetTrack().GetVideo(), Layers: max(int(t.GetLayers()), 1),
			Codec: media.Codec{MIME: t.GetMime(), ClockRate: t.GetClockRate(), Channels: uint16(t.GetChannels()), Params: t.GetParams()},
		}})
	}
	k := Key{state.GetUser(), state.GetDevice()}
	p.members[k] = x
	m.dirtyKey(k)
	if g := m.ghosts[k]; g != nil && state.GetEpoch() >= g.state.GetEpoch() {
		delete(m.ghosts, k)
	}
}

func (m *Machine) dirtyKey(k Key) {
	if _, ok := m.dirty[k]; !ok {
		m.dirty[k] = ""
	}
}

// lose is called when x is no member of the part any more.
func (m *Machine) lose(now time.Time, p *part, k Key, x *member, reason string) {
	m.dirtyKey(k)
	if reason == "moved" {
		if node, _ := m.best(k); node == "" && m.locals[k] == nil {
			// Where it went tells so over another link.
			m.ghosts[k] = &ghost{x.state, now.Add(m.cfg.Silence)}
		}
		return
	}
	m.dirty[k] = reasonOf(reason)
	if l := m.locals[k]; l != nil && p.region == m.cfg.Region && p.place > m.cfg.Place && uint64(l.who.Epoch) <= x.state.GetEpoch() {
		m.drop(now, k, reasonOf(reason)) // it was on its way there
	}
	for _, q := range m.parts { // an SFU before, which may be silent for good
		if y := q.members[k]; y != nil && q.region == p.region && q.place < p.place && y.state.GetEpoch() <= x.state.GetEpoch() {
			delete(q.members, k)
		}
	}
}

// outdated drops earlier sessions of devices that left elsewhere for good: what is here of
// them still, since they were said to move, has nothing to wait for.
func (m *Machine) outdated(now time.Time, gone []*peer.CallKey) {
	for _, g := range gone {
		k := Key{g.GetUser(), g.GetDevice()}
		if l := m.locals[k]; l != nil && g.GetReason() != "moved" && uint64(l.who.Epoch) < g.GetEpoch() {
			m.drop(now, k, reasonOf(g.GetReason()))
		}
	}
}

// forget takes away all of a part.
func (m *Machine) forget(p *part, gone []*peer.CallKey, now time.Time) {
	reasons := map[Key]string{}
	for _, g := range gone {
		reasons[Key{g.GetUser(), g.GetDevice()}] = g.GetReason()
	}
	members := p.members
	p.members = map[Key]*member{}
	for k, x := range members {
		m.lose(now, p, k, x, reasons[k])
	}
}

// expireParts drops who was silent for too long.
func (m *Machine) expireParts(now time.Time) {
	for _, node := range m.nodes() {
		p := m.parts[node]
		if now.Sub(p.heard) < m.cfg.Silence {
			continue
		}
		reason := "region_lost"
		if p.region == m.cfg.Region {
			reason = "timed_out"
		}
		for k := range p.members {
			m.dirty[k] = reason
		}
		delete(m.parts, node)
	}
	for k, g := range m.ghosts {
		if !now.Before(g.until) {
			delete(m.ghosts, k)
			m.dirty[k] = "timed_out"
		}
	}
	for k, x := range m.movedAway {
		if now.Sub(x.at) >= m.cfg.Silence {
			delete(m.movedAway, k)
		}
	}
}

// dropMoved drops participants of this node who are complete at another one.
func (m *Machine) dropMoved(now time.Time) {
	for _, k := range m.keys() {
		l := m.locals[k]
		there, complete, above := false, false, false
		for _, p := range m.parts {
			x := p.members[k]
			if x == nil {
				continue
			}
			next := p.region == m.cfg.Region && p.place > m.cfg.Place
			switch epoch := regions.Epoch(x.state.GetEpoch()); {
			case next && epoch >= l.who.Epoch:
				there = true
				complete = x.connected && hasAll(x.sent, l.sent) || complete
			case epoch > l.who.Epoch && p.region == m.cfg.Region && p.place < m.cfg.Place:
				l.fence(now) // the SFU before has heard of it first
			case epoch > l.who.Epoch:
				above = true
			}
		}
		switch {
		case above && !there:
			m.drop(now, k, "moved")
		case there && !complete:
			l.elsewhere = time.Time{}
		case there && l.elsewhere.IsZero():
			l.elsewhere = now
		case there && now.Sub(l.elsewhere) >= settled:
			m.drop(now, k, "moved")
		}
	}
}

func hasAll(these, those []*sent) bool {
	for _, s := range those {
		if !slices.ContainsFunc(these, func(t *sent) bool { return t.track.ID == s.track.ID }) {
			return false
		}
	}
	return true
}

// ---------------------------------------------------------------- what others are told

// tellParts sends what changed, and the beat.
func (m *Machine) tellParts(now time.Time) {
	from := m.partVersion
	if len(m.partChanged)+len(m.partGone) > 0 || m.partTold != m.partVersion {
		from = m.partTold
		if m.partVersion == m.partTold {
			m.partVersion++
		}
	}
	beating := !now.Before(m.next)
	if beating {
		m.next = now.Add(beat)
	}
	for _, node := range m.nodes() {
		p := m.parts[node]
		switch {
		case p.told == m.partVersion:
			if beating {
				m.sendPart(p, &peer.CallPart{Version: m.partVersion, From: m.partVersion})
			}
		case p.told == from && p.told != 0:
			m.sendPart(p, m.delta(from))
		default:
			m.sendPart(p, m.whole())
		}
		p.told = m.partVersion
		list := m.wanted(node)
		if p.again || !slices.EqualFunc(list, p.list, func(a, b *peer.CallWantedTrack) bool { return a.Number == b.Number && a.Layers == b.Layers }) {
			p.asked++
			p.list, p.again = list, false
			m.out.Send = append(m.out.Send, Send{node, &peer.CallFrame{Call: m.record.Call, Body: &peer.CallFrame_Wanted{
				Wanted: &peer.CallWanted{Version: p.asked, Tracks: list},
			}}})
		}
	}
	m.partTold = m.partVersion
	clear(m.partChanged)
	clear(m.partGone)
}

func (m *Machine) sendPart(p *part, c *peer.CallPart) {
	c.Place, c.Relayed, c.Record, c.Wanted = uint64(m.cfg.Place), m.relayed, m.record.Version, p.asked
	m.out.Send = append(m.out.Send, Send{p.node, &peer.CallFrame{Call: m.record.Call, Body: &peer.CallFrame_Part{Part: c}}})
}

func (m *Machine) delta(from uint64) *peer.CallPart {
	c := &peer.CallPart{Version: m.partVersion, From: from}
	for _, k := range sortedKeys(m.partChanged) {
		c.Members = append(c.Members, m.locals[k].encode())
	}
	for _, k := range sortedKeys(m.partGone) {
		c.Gone = append(c.Gone, m.partGone[k])
	}
	return c
}

func (m *Machine) whole() *peer.CallPart {
	c := &peer.CallPart{Version: m.partVersion}
	for _, k := range m.keys() {
		c.Members = append(c.Members, m.locals[k].encode())
	}
	for _, k := range sortedKeys(m.movedAway) {
		if m.locals[k] == nil {
			c.Gone = append(c.Gone, m.movedAway[k].key)
		}
	}
	for _, k := range sortedKeys(m.partGone) {
		if _, ok := m.movedAway[k]; !ok {
			c.Gone = append(c.Gone, m.partGone[k])
		}
	}
	return c
}

// Close is what is sent when this node has no part in the call any more.
func (m *Machine) Close() []Send {
	m.out.Send = nil
	for _, node := range m.nodes() {
		c := m.whole()
		c.Version, c.Members, c.Closed = m.partVersion+1, nil, true
		m.sendPart(m.parts[node], c)
	}
	return m.out.Send
}

func (l *local) encode() *peer.CallMember {
	c := &peer.CallMember{Participant: without(l.state), PeerToPeer: l.p2p, Connected: l.connected}
	for _, s := range l.sent {
		c.Sent = append(c.Sent, &peer.CallSent{
			Track: s.track.Wire(), Number: s.number, Layers: uint32(s.track.Layers),
			Mime: s.track.Codec.MIME, ClockRate: s.track.Codec.ClockRate, Channels: uint32(s.track.Codec.Channels), Params: s.track.Codec.Params,
		})
	}
	return c
}

func sortedKeys[V any](of map[Key]V) []Key {
	return slices.SortedFunc(maps.Keys(of), less)
}

// Wanted takes which of this node's tracks another SFU wants.
func (m *Machine) Wanted(now time.Time, from regions.NodeID, w *peer.CallWanted) {
	p := m.parts[from]
	if p == nil || w.GetVersion() <= p.wantsVersion && p.wantsVersion != 0 || len(w.GetTracks()) > 4*m.cfg.Max*maxTracks {
		return
	}
	p.heard = now
	p.wantsVersion = w.GetVersion()
	clear(p.wants)
	for _, t := range w.GetTracks() {
		if l := media.Layers(t.GetLayers()) & media.AllLayers; l != 0 {
			p.wants[t.GetNumber()] = l
		}
	}
	m.out.Media = true
}

// Order does to participants of this node what somebody asked who moderates elsewhere:
// that node has checked it, as this one would have.
func (m *Machine) Order(now time.Time, from regions.NodeID, o *peer.CallOrder) {
	if m.parts[from] != nil {
		m.obey(now, o)
	}
}

// Pass takes a signal for a participant of this node, from one of the sender's.
func (m *Machine) Pass(from regions.NodeID, c *peer.CallPass) {
	p := m.parts[from]
	if p == nil || len(c.GetData()) > maxSignal {
		return
	}
	if x := p.members[Key{c.GetFrom().GetUser(), c.GetFrom().GetDevice()}]; x != nil && x.state.GetEpoch() == c.GetFrom().GetEpoch() {
		m.pass(c.GetFrom(), c.GetTo(), c.GetData())
	}
}

// best is the node whose part has the participant, as of its highest epoch; "" and nil
// if no other node's has.
func (m *Machine) best(k Key) (regions.NodeID, *member) {
	var win *part
	for _, p := range m.parts {
		x := p.members[k]
		if x == nil {
			continue
		}
		if win == nil || cmp.Or(
			cmp.Compare(x.state.GetEpoch(), win.members[k].state.GetEpoch()),
			cmp.Compare(p.place, win.place), cmp.Compare(p.node, win.node)) > 0 {
			win = p
		}
	}
	if win == nil {
		return "", nil
	}
	return win.node, win.members[k]
}
