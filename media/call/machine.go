package call

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// Times of a call.
const (
	beat      = time.Second      // how often a part's version is told
	overlap   = 10 * time.Second // how long a better source of a track, of which nothing came yet, is waited for: silence may be all there is
	fencedFor = 30 * time.Second // how long a participant is kept whose device has a newer session that did not come
	settled   = 3 * time.Second  // how long somebody has to be complete elsewhere before they are dropped here: what they hear comes over meanwhile
)

// Bounds on what a participant and a part may have.
const (
	maxTracks = 8
	maxParts  = 64
	maxID     = 256 // bytes of a user, a device, a name
	maxSignal = 60_000
	maxWants  = 512
)

// Key names a participant.
type Key struct{ User, Device string }

func keyOf(id regions.SessionID) Key { return Key{id.User, id.Device} }

func less(a, b Key) int {
	if c := strings.Compare(a.User, b.User); c != 0 {
		return c
	}
	return strings.Compare(a.Device, b.Device)
}

// Config describes a call at a node. Fields without "optional" are needed.
type Config struct {
	Self   regions.NodeID
	Region regions.RegionID
	Place  regions.Epoch
	Record media.Record
	// Number returns one for a track in datagrams that this node has not used before.
	Number func() uint32
	// Version is higher than all that this node has given to a part of the call: Unix
	// time in ms, by any clock that does not go back.
	Version uint64
	Max     int           // participants of the call
	Silence time.Duration // how long an SFU node may be silent
}

// Effects are what is to be done. The order within each list counts.
type Effects struct {
	Tell []Tell
	Send []Send
	// Gone are out of the call here: what the SFU has of them is to be closed.
	Gone []Key
	// Floor is to be asked of the call's home region, see FloorAnswered.
	Floor []FloorWish
	// Media: Subscriptions, Remotes, Taps or Open may be others now.
	Media bool
}

// Tell is an event for a session that is in the call here.
type Tell struct {
	To    media.Session
	Event *wire.CallEvent // shared: not to be changed
}

// Send is a frame for another SFU node of the call.
type Send struct {
	To    regions.NodeID
	Frame *peer.CallFrame
}

// Machine is a call at a node.
type Machine struct {
	cfg    Config
	record media.Record

	locals map[Key]*local
	parts  map[regions.NodeID]*part

	view       map[Key]*wire.CallParticipant // as the participants were told
	sources    map[string]*source            // by track
	needed     map[string]media.Layers       // by track: what the SFU's peers get of it
	version    uint64                        // of what they are told
	relayed    bool                          // until it is empty
	direct     bool
	superseded bool // this node is the call's SFU no more
	deadline   time.Time

	ghosts    map[Key]*ghost
	movedAway map[Key]movedAway // who went to another SFU of late
	gone      map[Key]uint64    // who left here for good, by epoch

	partVersion uint64
	partTold    uint64                // version that everybody was told last
	partChanged map[Key]bool          // members of the part
	partGone    map[Key]*peer.CallKey // and who is none any more
	dirty       map[Key]string        // whose view may be another; with the reason if they are gone
	next        time.Time             // of the next beat
	empty       time.Time             // since when nobody is here; zero: somebody is
	changed     *wire.CallChanged     // what else is to be told
	floor       floor
	out         Effects
}

// local is a participant of this node.
type local struct {
	who       media.Session
	state     *wire.CallParticipant // without tracks
	p2p       bool
	connected bool
	whole     bool // it is being told all, so no change of before
	sent      []*sent
	wants     map[string]uint32 // heights of pictures
	fenced    time.Time         // since when its device has a newer session
	elsewhere time.Time         // since when it is complete at the call's new SFU
	place     regions.Epoch     // of this node when it joined
}

// sent is a track of a participant.
type sent struct {
	track  media.Track
	number uint32
}

type movedAway struct {
	key *peer.CallKey
	at  time.Time
}

// New returns a call in which nobody is yet.
func New(now time.Time, c Config) *Machine {
	return &Machine{
		cfg: c, record: c.Record, locals: map[Key]*local{}, parts: map[regions.NodeID]*part{},
		view: map[Key]*wire.CallParticipant{}, sources: map[string]*source{}, needed: map[string]media.Layers{},
		ghosts: map[Key]*ghost{}, movedAway: map[Key]movedAway{}, gone: map[Key]uint64{}, floor: floor{claims: map[Key]*claim{}, released: map[Key]uint64{}},
		partVersion: c.Version, partTold: c.Version, partChanged: map[Key]bool{}, partGone: map[Key]*peer.CallKey{}, dirty: map[Key]string{},
		next: now.Add(beat), empty: now,
	}
}

// Take returns what is to be done since the last time, after it has been worked out.
func (m *Machine) Take(now time.Time) Effects {
	m.settle(now)
	m.tellParts(now)
	out := m.out
	m.out = Effects{}
	return out
}

// settle brings what participants are told, and what is wanted, up to date.
func (m *Machine) settle(now time.Time) {
	keys := make([]Key, 0, len(m.dirty))
	for k := range m.dirty {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, less)
	change := m.changed
	if change == nil {
		change = &wire.CallChanged{}
	}
	for _, k := range keys {
		old, is := m.view[k], m.merge(k)
		switch {
		case is == nil && old == nil:
		case is == nil:
			delete(m.view, k)
			reason := m.dirty[k]
			if reason == "" {
				reason = "left"
			}
			change.Gone = append(change.Gone, &wire.CallGone{User: k.User, Device: k.Device, Epoch: old.Epoch, Reason: reason})
		case !same(old, is):
			m.view[k] = is
			change.Participants = append(change.Participants, is)
		}
	}
	if len(keys) > 0 {
		m.out.Media = true
		m.chooseSources(now)
	}
	clear(m.dirty)
	m.changed = nil
	m.relay()
	if direct := m.goesDirect(); direct != m.direct {
		m.direct = direct
		change.Direct = &direct
		m.out.Media = true
	}
	if len(change.Participants)+len(change.Gone) == 0 && change.Locked == nil && change.Direct == nil && change.Hearing == nil && change.PushToTalk == nil {
		return
	}
	m.version++
	m.tellAll(&wire.CallEvent{Version: m.version, Body: &wire.CallEvent_Changed{Changed: change}})
}

// relay notes that the call can't go without servers, for as long as anybody is in it.
func (m *Machine) relay() {
	if m.relayed || len(m.view) <= 2 && !m.anyoneNeedsServer() {
		return
	}
	m.relayed = true
	m.partVersion++ // the others are to know
}

func (m *Machine) anyoneNeedsServer() bool {
	for _, l := range m.locals {
		if !l.p2p {
			return true
		}
	}
	for _, p := range m.parts {
		if p.relayed {
			return true
		}
		for _, x := range p.members {
			if !x.p2p {
				return true
			}
		}
	}
	return false
}

func (m *Machine) goesDirect() bool { return !m.relayed && len(m.view) == 2 }

// tellAll tells everybody who is here.
func (m *Machine) tellAll(e *wire.CallEvent) {
	e.Call, e.Place = m.record.Call, uint64(m.cfg.Place)
	for _, k := range m.keys() {
		if l := m.locals[k]; !l.state.Suspended && !l.whole {
			m.out.Tell = append(m.out.Tell, Tell{l.who, e})
		}
	}
}

// tell tells one participant of this node.
func (m *Machine) tell(l *local, e *wire.CallEvent) {
	e.Call, e.Place = m.record.Call, uint64(m.cfg.Place)
	if !l.state.Suspended {
		m.out.Tell = append(m.out.Tell, Tell{l.who, e})
	}
}

// keys are the participants of this node, in order.
func (m *Machine) keys() []Key {
	keys := make([]Key, 0, len(m.locals))
	for k := range m.locals {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, less)
	return keys
}

// State is the whole of the call, for a participant of this node.
func (m *Machine) State(k Key) *wire.CallState {
	s := &wire.CallState{
		Room: m.record.Room, Type: m.record.Type, Locked: m.record.Locked, Direct: m.direct,
		StartedAt: timestamppb.New(m.record.StartedAt), PushToTalk: m.record.PushToTalk,
		Hearing: m.record.Hearing.Wire(), Version: m.version,
	}
	keys := make([]Key, 0, len(m.view))
	for k := range m.view {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, less)
	for _, k := range keys {
		s.Participants = append(s.Participants, m.view[k])
	}
	if m.record.PushToTalk {
		s.Floor = m.floorFor(k)
	}
	return s
}

// Record is the call's, as this node has it.
func (m *Machine) Record() media.Record { return m.record }

// Place is this node's.
func (m *Machine) Place() regions.Epoch { return m.cfg.Place }

// Superseded reports whether another node is the call's SFU now.
func (m *Machine) Superseded() bool { return m.superseded }

// Len is how many participants are here; All, in the whole call.
func (m *Machine) Len() int { return len(m.locals) }

// All is how many participants the call has, as far as this node knows.
func (m *Machine) All() int { return len(m.view) }

// Has reports whether a participant is here.
func (m *Machine) Has(k Key) bool { return m.locals[k] != nil }

// Locals are the sessions that are here.
func (m *Machine) Locals() []media.Session {
	out := make([]media.Session, 0, len(m.locals))
	for _, k := range m.keys() {
		out = append(out, m.locals[k].who)
	}
	return out
}

// Empty is since when nobody is here; zero: somebody is.
func (m *Machine) Empty() time.Time { return m.empty }

// Changed takes a newer record. One that has ended puts everybody out.
func (m *Machine) Changed(now time.Time, r media.Record) {
	if r.Version < m.record.Version || r.Call != m.record.Call {
		return
	}
	old := m.record
	m.record = r
	if r.Ended {
		for _, k := range m.keys() {
			m.over(now, k, "ended")
		}
		return
	}
	if m.changed == nil {
		m.changed = &wire.CallChanged{}
	}
	if old.Locked != r.Locked {
		m.changed.Locked = &r.Locked
	}
	if old.Hearing != r.Hearing {
		m.changed.Hearing = r.Hearing.Wire()
		m.out.Media = true
	}
	if old.PushToTalk != r.PushToTalk { // how it works is another now: all anew
		m.changed.PushToTalk = &r.PushToTalk
		m.out.Media = true
		for _, k := range m.keys() {
			m.tell(m.locals[k], &wire.CallEvent{Version: m.version, Body: &wire.CallEvent_Joined{Joined: &wire.CallJoined{Place: uint64(m.cfg.Place), State: m.State(k)}}})
		}
	}
}

// Renew gives this node another place: the region's roster had it lose the call and
// get it again.
func (m *Machine) Renew(place regions.Epoch) {
	if place > m.cfg.Place {
		m.cfg.Place, m.superseded, m.deadline = place, false, time.Time{}
		m.partVersion++
	}
}

// Supersede: another node is the call's SFU. Whoever is here goes there until the
// deadline.
func (m *Machine) Supersede(deadline time.Time) {
	if !m.superseded {
		m.superseded, m.deadline = true, deadline
	}
}

// Tick does what time brings.
func (m *Machine) Tick(now time.Time) {
	for _, k := range m.keys() {
		l := m.locals[k]
		switch {
		case !l.fenced.IsZero() && now.Sub(l.fenced) >= fencedFor:
			m.drop(now, k, "timed_out")
		case m.superseded && !now.Before(m.deadline):
			m.drop(now, k, "moved") // it may be there by now: others hear so, or that it timed out
		}
	}
	m.dropMoved(now)
	m.expireParts(now)
	m.takeOver(now)
	m.tickFloor(now)
}
