package call

import (
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// Times of the talk floor.
const (
	floorRenew = 500 * time.Millisecond // how often a holder, or who waits, is asked for again
	floorKnown = 3 * time.Second        // how long a holder elsewhere counts without news
)

// floor is push to talk, as this node knows it. Who may talk is decided in the call's
// home region; this node forwards a holder of its own for as long as the lease lasts,
// counted from before it asked.
type floor struct {
	holder      regions.SessionID // of the highest grant; User "": nobody
	grant       uint64
	waiting     int
	heard       time.Time
	unavailable bool
	claims      map[Key]*claim
	released    map[Key]uint64 // the last grants that were given back
}

// claim is a participant of this node who wants the floor, or has it.
type claim struct {
	id       regions.SessionID
	priority uint8
	next     time.Time // when it is asked for again
	asking   bool
	position int
	grant    uint64
	until    time.Time // the end of the lease; zero: it has none
}

// FloorWish is a question to the home region of the call: an ask, or else a release.
type FloorWish struct {
	Who      regions.SessionID
	Priority uint8
	Release  bool
	Grant    uint64 // of a release
	Released uint64 // of an ask: the last grant that was given back
}

// AskFloor has a participant want the floor, or want it no more. What the answer for
// it is, FloorOf says after the wishes were asked.
func (m *Machine) AskFloor(now time.Time, id regions.SessionID, a *wire.CallFloorAsk) error {
	if err := m.In(id); err != nil {
		return err
	}
	if !m.record.PushToTalk {
		return media.ErrBadRequest.At("floor")
	}
	if a.GetPriority() > 9 {
		return media.ErrBadRequest.At("floor.priority")
	}
	if a.GetPriority() > 0 && !m.record.Moderates(m.of(id).who) {
		return media.ErrForbidden
	}
	k := keyOf(id)
	if !a.GetHold() {
		m.release(k)
		return nil
	}
	if c := m.floor.claims[k]; c == nil || c.id != id || c.priority != uint8(a.GetPriority()) {
		if c == nil {
			c = &claim{}
			m.floor.claims[k] = c
		}
		c.id, c.priority, c.next = id, uint8(a.GetPriority()), now
	}
	return nil
}

// release gives back what a participant has of the floor. Nothing is forwarded any more
// before the home region hears of it.
func (m *Machine) release(k Key) {
	c := m.floor.claims[k]
	if c == nil {
		return
	}
	delete(m.floor.claims, k)
	if c.grant != 0 {
		m.floor.released[k] = c.grant
	}
	m.out.Floor = append(m.out.Floor, FloorWish{Who: c.id, Release: true, Grant: c.grant})
	m.out.Media = true
	if m.floor.grant == c.grant && c.grant != 0 {
		m.floor.holder = regions.SessionID{}
		m.floorNews()
	}
}

// TakeFloor is for those who moderate: the grant that is to be taken away; 0: nobody
// has the floor.
func (m *Machine) TakeFloor(id regions.SessionID, who *wire.CallWho) (grant uint64, err error) {
	if err := m.Moderates(id); err != nil {
		return 0, err
	}
	h := m.floor.holder
	if h.User == "" || who.GetUser() != "" && !means(who, keyOf(h)) {
		return 0, nil
	}
	return m.floor.grant, nil
}

// FloorAnswered takes the answer to a wish, that was asked at the time.
func (m *Machine) FloorAnswered(now, asked time.Time, w FloorWish, a regions.FloorAnswer, err error) {
	k := keyOf(w.Who)
	c := m.floor.claims[k]
	mine := !w.Release && c != nil && c.id == w.Who
	if mine {
		c.asking = false
		c.next = asked.Add(floorRenew)
	}
	if err != nil {
		if mine && !m.floor.unavailable {
			m.floor.unavailable = true
			m.floorNews()
		}
		return
	}
	before := m.floor.holder
	changed := m.floor.unavailable || m.floor.waiting != a.Waiting
	m.floor.unavailable, m.floor.waiting = false, a.Waiting
	switch {
	case a.Grant >= m.floor.grant && a.Grant != 0 && m.floor.released[keyOf(a.Holder)] < a.Grant:
		m.floor.grant, m.floor.holder, m.floor.heard = a.Grant, a.Holder, now
	case a.Grant == 0:
		m.floor.holder = regions.SessionID{}
	}
	if mine {
		position := 0
		switch a.Standing {
		case regions.FloorYours:
			if a.Grant <= m.floor.released[k] {
				break // it is void, and asked for again
			}
			m.out.Media = true // it is open for longer
			c.grant, c.until = a.Grant, asked.Add(a.Lease)
		case regions.FloorWaiting:
			position, c.until = a.Position, time.Time{}
		default: // it is others' turn
			delete(m.floor.claims, k)
			m.out.Media = true
			changed = true
		}
		changed = changed || position != c.position
		c.position = position
	}
	if changed || before != m.floor.holder {
		m.floorNews()
	}
}

// FloorOf is the floor as a participant of this node has it.
func (m *Machine) FloorOf(now time.Time, id regions.SessionID) (*wire.CallFloor, error) {
	f := m.floorFor(keyOf(id))
	if c := m.floor.claims[keyOf(id)]; f.Unavailable && (c == nil || !now.Before(c.until)) {
		return nil, media.ErrFloorUnavailable
	}
	return f, nil
}

func (m *Machine) floorFor(k Key) *wire.CallFloor {
	f := &wire.CallFloor{Waiting: uint32(m.floor.waiting), Unavailable: m.floor.unavailable}
	if h := m.floor.holder; h.User != "" {
		f.Holder = &wire.CallWho{User: h.User, Device: h.Device}
		f.Mine = keyOf(h) == k && m.floor.claims[k] != nil
	}
	if c := m.floor.claims[k]; c != nil {
		f.Position = uint32(c.position)
	}
	return f
}

// floorNews tells those who are here, and the others if the holder is or was here.
func (m *Machine) floorNews() {
	for _, k := range m.keys() {
		m.tell(m.locals[k], &wire.CallEvent{Body: &wire.CallEvent_Floor{Floor: m.floorFor(k)}})
	}
	if m.floor.holder.User == "" || m.floor.claims[keyOf(m.floor.holder)] != nil {
		m.spreadFloor()
	}
}

func (m *Machine) spreadFloor() {
	news := &peer.CallFloorNews{Grant: m.floor.grant, Waiting: uint32(m.floor.waiting)}
	if h := m.floor.holder; h.User != "" {
		news.Holder = &peer.CallKey{User: h.User, Device: h.Device, Epoch: uint64(h.Epoch)}
	}
	for _, node := range m.nodes() {
		m.out.Send = append(m.out.Send, Send{node, &peer.CallFrame{Call: m.record.Call, Body: &peer.CallFrame_Floor{Floor: news}}})
	}
}

// HeardFloor takes what another SFU node says of the floor: it only shows, it gives
// nobody the right to talk.
func (m *Machine) HeardFloor(now time.Time, from regions.NodeID, n *peer.CallFloorNews) {
	if m.parts[from] == nil || n.GetGrant() < m.floor.grant || len(n.GetHolder().GetUser()) > maxID || len(n.GetHolder().GetDevice()) > maxID {
		return
	}
	holder := regions.SessionID{User: n.GetHolder().GetUser(), Device: n.GetHolder().GetDevice(), Epoch: regions.Epoch(n.GetHolder().GetEpoch())}
	m.floor.heard = now
	if holder == m.floor.holder && n.GetGrant() == m.floor.grant && int(n.GetWaiting()) == m.floor.waiting {
		return
	}
	m.floor.holder, m.floor.grant, m.floor.waiting = holder, n.GetGrant(), int(n.GetWaiting())
	if holder.User == "" {
		for _, c := range m.floor.claims { // whose turn it may be
			c.next = now
		}
	}
	for _, k := range m.keys() {
		m.tell(m.locals[k], &wire.CallEvent{Body: &wire.CallEvent_Floor{Floor: m.floorFor(k)}})
	}
}

func (m *Machine) tickFloor(now time.Time) {
	f := &m.floor
	for _, k := range sortedKeys(f.claims) {
		c := f.claims[k]
		if l := m.locals[k]; l == nil || !m.record.PushToTalk || l.who.ID() != c.id && l.who.Epoch > c.id.Epoch && c.until.IsZero() {
			m.release(k)
			continue
		}
		if !c.until.IsZero() && !now.Before(c.until) { // not renewed in time
			c.until, c.grant = time.Time{}, 0
			m.out.Media = true
			if keyOf(f.holder) == k {
				f.holder = regions.SessionID{}
				m.floorNews()
			}
		}
		if !c.asking && !now.Before(c.next) {
			c.asking = true
			m.out.Floor = append(m.out.Floor, FloorWish{Who: c.id, Priority: c.priority, Released: f.released[k]})
		}
	}
	for k, grant := range f.released { // of who has gone, and others had the floor since
		if m.locals[k] == nil && f.claims[k] == nil && grant < f.grant {
			delete(f.released, k)
		}
	}
	if f.holder.User == "" {
		return
	}
	if f.claims[keyOf(f.holder)] == nil && now.Sub(f.heard) >= floorKnown {
		f.holder = regions.SessionID{}
		m.floorNews()
		return
	}
	if c := f.claims[keyOf(f.holder)]; c != nil && now.Sub(f.heard) >= beat {
		f.heard = now
		m.spreadFloor()
	}
}

// Open is until when a track of a participant of this node is forwarded: the zero time
// is without end, one that is over is not at all. Where one pushes to talk that goes for
// all sound: what it is called is the sender's word.
func (m *Machine) Open(k Key, t media.Track) (until time.Time, open bool) {
	l := m.locals[k]
	if l == nil || l.muted(t) {
		return time.Time{}, false
	}
	if t.Video || !m.record.PushToTalk {
		return time.Time{}, true
	}
	if c := m.floor.claims[k]; c != nil && !c.until.IsZero() {
		return c.until, true
	}
	return time.Time{}, false
}
