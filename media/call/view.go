package call

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// defaultHeight is how big pictures are taken to be shown by who did not say.
const defaultHeight = 360

// candidate is an SFU node that has a track of a participant.
type candidate struct {
	node      regions.NodeID // "": this one
	number    uint32
	track     media.Track
	connected bool
	epoch     regions.Epoch // of the session
	place     regions.Epoch
}

// source is where a track comes from, and will come from.
type source struct {
	of    Key
	now   candidate
	next  *candidate
	since time.Time // of next
}

// merge is a participant as all parts have it; nil: none has.
func (m *Machine) merge(k Key) *wire.CallParticipant {
	node, x := m.best(k)
	var is *wire.CallParticipant
	if x != nil {
		is = x.state
	}
	if l := m.locals[k]; l != nil {
		if is == nil || cmp.Or(cmp.Compare(l.state.GetEpoch(), is.GetEpoch()),
			cmp.Compare(m.cfg.Place, m.parts[node].place), cmp.Compare(m.cfg.Self, node)) > 0 {
			is = l.state
		}
	}
	if is == nil {
		if g := m.ghosts[k]; g != nil {
			return g.state
		}
		return nil
	}
	delete(m.ghosts, k)
	is = without(is)
	for _, c := range m.candidates(k) {
		if !slices.ContainsFunc(is.Tracks, func(t *wire.CallTrack) bool { return t.Id == c.track.ID }) {
			is.Tracks = append(is.Tracks, c.track.Wire())
		}
	}
	slices.SortFunc(is.Tracks, func(a, b *wire.CallTrack) int { return cmp.Compare(a.Id, b.Id) })
	return is
}

// without is a copy of p without tracks.
func without(p *wire.CallParticipant) *wire.CallParticipant {
	p = proto.Clone(p).(*wire.CallParticipant)
	p.Tracks = nil
	return p
}

func same(a, b *wire.CallParticipant) bool { return a != nil && proto.Equal(a, b) }

// candidates are who has tracks of a participant, the best first.
func (m *Machine) candidates(k Key) (list []candidate) {
	if l := m.locals[k]; l != nil {
		for _, s := range l.sent {
			list = append(list, candidate{"", s.number, s.track, l.connected, l.who.Epoch, m.cfg.Place})
		}
	}
	for _, node := range m.nodes() {
		p := m.parts[node]
		if x := p.members[k]; x != nil {
			for _, s := range x.sent {
				list = append(list, candidate{node, s.number, s.track, x.connected, regions.Epoch(x.state.GetEpoch()), p.place})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(yes(b.connected)-yes(a.connected), yes(b.node == "")-yes(a.node == ""),
			cmp.Compare(b.epoch, a.epoch), cmp.Compare(b.place, a.place), cmp.Compare(b.node, a.node))
	})
	return list
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// chooseSources looks anew where the tracks of those come from who changed.
func (m *Machine) chooseSources(now time.Time) {
	for k := range m.dirty {
		best := map[string]candidate{}
		for _, c := range m.candidates(k) {
			if _, ok := best[c.track.ID]; !ok {
				best[c.track.ID] = c
			}
		}
		for id, s := range m.sources {
			if _, ok := best[id]; s.of == k && !ok {
				delete(m.sources, id)
				delete(m.needed, id)
			}
		}
		for id, c := range best {
			s := m.sources[id]
			switch {
			case s == nil || s.of != k || c.node == "" && c.connected || c.node == s.now.node && c.number == s.now.number || !m.has(k, s.now):
				m.sources[id] = &source{of: k, now: c}
			case s.next == nil || s.next.node != c.node || s.next.number != c.number:
				s.next, s.since = &c, now
			}
		}
	}
}

// has reports whether a candidate is one still.
func (m *Machine) has(k Key, c candidate) bool {
	return slices.ContainsFunc(m.candidates(k), func(x candidate) bool { return x.node == c.node && x.number == c.number })
}

// Flowing tells that the first packet of a track of another node came.
func (m *Machine) Flowing(node regions.NodeID, number uint32) {
	for _, s := range m.sources {
		if s.next != nil && s.next.node == node && s.next.number == number {
			s.now, s.next = *s.next, nil
			m.out.Media = true
		}
	}
}

// takeOver ends the wait for a better source.
func (m *Machine) takeOver(now time.Time) {
	for _, s := range m.sources {
		if s.next != nil && now.Sub(s.since) >= overlap {
			s.now, s.next = *s.next, nil
			m.out.Media = true
		}
	}
}

// Subscription is a track that a participant of this node gets.
type Subscription struct {
	Track  string
	Of     Key
	Node   regions.NodeID // that has it; "": this one
	Number uint32
	Source wire.CallSource
	Height uint32 // of a picture
	Flow   bool
}

// Subscriptions are what a participant of this node gets, in order; none while the call
// goes without servers.
func (m *Machine) Subscriptions(k Key) (list []Subscription) {
	l := m.locals[k]
	if l == nil || m.direct {
		return nil
	}
	for id, s := range m.sources {
		if s.of == k {
			continue
		}
		x := Subscription{Track: id, Of: s.of, Node: s.now.node, Number: s.now.number, Source: s.now.track.Source, Flow: true}
		if s.now.track.Video {
			x.Height = l.height(id)
		} else {
			x.Flow = !l.state.SpeakerMuted
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Subscription) int { return cmp.Compare(a.Track, b.Track) })
	return list
}

func (l *local) height(track string) uint32 {
	if h, ok := l.wants[track]; ok {
		return h
	}
	return defaultHeight
}

// Sound is a microphone in the call.
type Sound struct {
	Subscription
	Muted bool // its participant says so
}

// Sounds are the microphones in the call, in order.
func (m *Machine) Sounds() (list []Sound) {
	for id, s := range m.sources {
		if s.now.track.Source != wire.CallSource_MIC {
			continue
		}
		list = append(list, Sound{
			Subscription{Track: id, Of: s.of, Node: s.now.node, Number: s.now.number, Source: wire.CallSource_MIC}, m.view[s.of].GetMicMuted(),
		})
	}
	slices.SortFunc(list, func(a, b Sound) int { return cmp.Compare(a.Track, b.Track) })
	return list
}

// Direct reports whether two talk without servers now.
func (m *Machine) Direct() bool { return m.direct }

// Remote is a track of another node that is wanted here.
type Remote struct {
	Node   regions.NodeID
	Region regions.RegionID
	Number uint32
	Track  media.Track
}

// Remotes are the tracks of other nodes that are to be had, in order.
func (m *Machine) Remotes() (list []Remote) {
	if m.direct || len(m.locals) == 0 {
		return nil
	}
	for _, s := range m.sources {
		for _, c := range []*candidate{&s.now, s.next} {
			if c != nil && c.node != "" {
				list = append(list, Remote{c.node, m.parts[c.node].region, c.number, c.track})
			}
		}
	}
	slices.SortFunc(list, func(a, b Remote) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Number, b.Number))
	})
	return list
}

// Needed tells which layers of a track the SFU's peers get, or are about to.
func (m *Machine) Needed(track string, l media.Layers) {
	if m.sources[track] != nil && m.needed[track] != l {
		m.needed[track] = l
		m.out.Media = true
	}
}

// wanted is what this node wants of another one, by number.
func (m *Machine) wanted(node regions.NodeID) (list []*peer.CallWantedTrack) {
	if m.direct || len(m.locals) == 0 {
		return nil
	}
	for id, s := range m.sources {
		for _, c := range []*candidate{&s.now, s.next} {
			if c == nil || c.node != node {
				continue
			}
			if l := m.layers(id, s); l != 0 {
				list = append(list, &peer.CallWantedTrack{Number: c.number, Layers: uint32(l)})
			}
		}
	}
	slices.SortFunc(list, func(a, b *peer.CallWantedTrack) int { return cmp.Compare(a.Number, b.Number) })
	return list
}

// layers are those of a track that somebody here wants.
func (m *Machine) layers(id string, s *source) media.Layers {
	for k, l := range m.locals {
		if k == s.of {
			continue
		}
		if !s.now.track.Video {
			if !l.state.SpeakerMuted {
				return 1
			}
			continue
		}
		if l.height(id) > 0 {
			if need, ok := m.needed[id]; ok {
				return need
			}
			return 1 // the smallest, until the SFU says otherwise
		}
	}
	return 0
}

// Tap is a track of this node that goes to another one.
type Tap struct {
	Node   regions.NodeID
	Of     Key
	Track  string
	Video  bool
	Number uint32
	Layers media.Layers
}

// Taps are what goes to other nodes, in order.
func (m *Machine) Taps() (list []Tap) {
	for _, node := range m.nodes() {
		p := m.parts[node]
		for _, k := range m.keys() {
			for _, s := range m.locals[k].sent {
				if l := p.wants[s.number]; l != 0 {
					list = append(list, Tap{node, k, s.track.ID, s.track.Video, s.number, l})
				}
			}
		}
	}
	return list
}
