package call

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// Join takes a session in, or tells it all anew. fresh: it has no connections; what
// there is of earlier ones is in Effects.Gone no participant's, but to be made anew.
// again: its node joins it here, since the call has another SFU; then a lock does not
// hold it off.
func (m *Machine) Join(now time.Time, who media.Session, j *wire.CallJoin, again bool) (fresh bool, err error) {
	k := keyOf(who.ID())
	if who.User == "" || who.Device == "" || len(who.User) > maxID || len(who.Device) > maxID || len(who.Name) > 4*maxID {
		return false, media.ErrBadRequest
	}
	if m.record.Ended {
		return false, media.ErrCallEnded
	}
	if m.superseded {
		return false, media.ErrRetry
	}
	if regions.Epoch(m.view[k].GetEpoch()) > who.Epoch {
		return false, media.ErrSuperseded
	}
	l := m.locals[k]
	if l == nil {
		_, known := m.view[k]
		switch {
		case known || again:
		case m.record.Locked && !m.record.Moderates(who):
			return false, media.ErrCallLocked
		case len(m.view) >= m.cfg.Max:
			return false, media.ErrCallFull
		}
		l = &local{state: &wire.CallParticipant{
			User: who.User, Device: who.Device, Region: string(m.cfg.Region), JoinedAt: timestamppb.New(now),
		}, wants: map[string]uint32{}, place: m.cfg.Place}
		if old := m.view[k]; old != nil {
			l.state.JoinedAt = old.JoinedAt
		}
		m.locals[k] = l
		m.empty = time.Time{}
		fresh = true
	}
	if l.place < m.cfg.Place {
		l.place, fresh = m.cfg.Place, true
	}
	l.who, l.fenced = who, time.Time{}
	l.state.Epoch, l.state.Name, l.state.Suspended = uint64(who.Epoch), who.Name, false
	l.state.MicMuted, l.state.SpeakerMuted = j.GetMicMuted(), j.GetSpeakerMuted()
	l.p2p = j.GetPeerToPeer()
	if j.GetFresh() && !fresh {
		fresh = true
		l.connected, l.sent, l.wants = false, nil, map[string]uint32{}
		l.state.Camera, l.state.Screen, l.state.Music = false, false, false
	}
	m.touch(k)
	l.whole = true
	m.settle(now)
	l.whole = false
	return fresh, nil
}

// Resume tells that a session has a connection again, perhaps under a higher epoch
// and at another node. false: its device is not in the call here.
func (m *Machine) Resume(now time.Time, who media.Session) bool {
	k := keyOf(who.ID())
	l := m.locals[k]
	if l == nil || who.Epoch < l.who.Epoch || regions.Epoch(m.view[k].GetEpoch()) > who.Epoch {
		return false
	}
	if who.Role == "" {
		who.Role = l.who.Role
	}
	l.who, l.fenced = who, time.Time{}
	l.state.Epoch, l.state.Suspended = uint64(who.Epoch), false
	m.touch(k)
	l.whole = true
	m.settle(now)
	l.whole = false
	return true
}

// Suspend: the session lost its connection, media may flow on.
func (m *Machine) Suspend(id regions.SessionID) {
	if l := m.of(id); l != nil && !l.state.Suspended {
		l.state.Suspended = true
		m.touch(keyOf(id))
	}
}

// Fenced: the device has a newer session. If that does not come to the call it is over
// for the device.
func (m *Machine) Fenced(now time.Time, id regions.SessionID, winning regions.Epoch) {
	if l := m.of(id); l != nil && winning > l.who.Epoch {
		l.fence(now)
	}
}

// fence has a participant wait for its device's newer session.
func (l *local) fence(now time.Time) {
	if l.fenced.IsZero() {
		l.fenced = now
	}
}

// of is the participant of a session, if it is the one that counts.
func (m *Machine) of(id regions.SessionID) *local {
	if l := m.locals[keyOf(id)]; l != nil && l.who.Epoch == id.Epoch {
		return l
	}
	return nil
}

// In reports whether the session is in the call here. ErrSuperseded: a later one is.
func (m *Machine) In(id regions.SessionID) error {
	switch l := m.locals[keyOf(id)]; {
	case l == nil:
		return media.ErrNotInCall
	case id.Epoch < l.who.Epoch:
		return media.ErrSuperseded
	case id.Epoch > l.who.Epoch:
		return media.ErrNotInCall // it joins first
	}
	return nil
}

// Stands takes what a session is in the room at the moment: it may have been another
// thing when it joined.
func (m *Machine) Stands(who media.Session) {
	if l := m.of(who.ID()); l != nil {
		l.who.Role = who.Role
	}
}

// Leave takes a session out, for a reason as in CallGone. What a lower epoch says is
// ignored. "moved": the device has a newer session, which may be heard of later, by
// another way: its connections wait for that, as in Fenced.
func (m *Machine) Leave(now time.Time, id regions.SessionID, reason string) {
	l := m.locals[keyOf(id)]
	if l == nil || id.Epoch < l.who.Epoch {
		return
	}
	switch reason {
	case "moved":
		l.fence(now)
	case "removed":
		m.over(now, keyOf(id), reason) // it did not say so itself
	default:
		m.drop(now, keyOf(id), reason)
	}
}

// over takes a participant out and tells it so, also without a connection: its node is
// to know that it has no part in the call any more.
func (m *Machine) over(now time.Time, k Key, reason string) {
	if l := m.locals[k]; l != nil {
		m.out.Tell = append(m.out.Tell, Tell{l.who, &wire.CallEvent{
			Call: m.record.Call, Place: uint64(m.cfg.Place), Body: &wire.CallEvent_Over{Over: &wire.CallOver{Reason: reason}},
		}})
		m.drop(now, k, reason)
	}
}

func (m *Machine) drop(now time.Time, k Key, reason string) {
	l := m.locals[k]
	if l == nil {
		return
	}
	delete(m.locals, k)
	delete(m.partChanged, k)
	m.partGone[k] = &peer.CallKey{User: k.User, Device: k.Device, Epoch: uint64(l.who.Epoch), Reason: reason}
	if reason != "moved" {
		if len(m.gone) > 4*m.cfg.Max {
			clear(m.gone) // what is expected wrongly lapses
		}
		m.gone[k] = uint64(l.who.Epoch)
	}
	if reason == "moved" { // where it went tells so, perhaps later
		m.movedAway[k] = movedAway{m.partGone[k], now}
		if _, x := m.best(k); x == nil {
			m.ghosts[k] = &ghost{l.state, now.Add(m.cfg.Silence)}
		}
		reason = ""
	}
	m.dirty[k] = reasonOf(reason)
	m.out.Gone = append(m.out.Gone, k)
	m.out.Media = true
	if len(m.locals) == 0 {
		m.empty = now
	}
}

// touch notes that a participant of this node is another now.
func (m *Machine) touch(k Key) {
	m.partChanged[k] = true
	delete(m.partGone, k)
	if _, ok := m.dirty[k]; !ok {
		m.dirty[k] = ""
	}
}

// Set changes a participant's own state.
func (m *Machine) Set(id regions.SessionID, s *wire.CallSet) error {
	if err := m.In(id); err != nil {
		return err
	}
	if h := s.Heading; h != nil && (math.IsNaN(float64(*h)) || math.IsInf(float64(*h), 0)) {
		return media.ErrBadRequest.At("set.heading")
	}
	l := m.of(id)
	for to, from := range map[*bool]*bool{
		&l.state.MicMuted: s.MicMuted, &l.state.SpeakerMuted: s.SpeakerMuted, &l.state.Camera: s.Camera,
		&l.state.Screen: s.Screen, &l.state.Music: s.Music,
	} {
		if from != nil {
			*to = *from
		}
	}
	m.touch(keyOf(id))
	return nil
}

// Published: a participant sends this, or is about to.
func (m *Machine) Published(k Key, t media.Track) {
	l := m.locals[k]
	if l == nil {
		return
	}
	for _, s := range l.sent {
		if s.track.ID == t.ID {
			if s.track != t {
				s.track, s.number = t, m.cfg.Number() // packets of the former one are still on their way
			}
			m.touch(k)
			m.out.Media = true
			return
		}
	}
	if len(l.sent) < maxTracks {
		l.sent = append(l.sent, &sent{t, m.cfg.Number()})
		m.touch(k)
	}
}

// Unpublished: and not any more.
func (m *Machine) Unpublished(k Key, track string) {
	l := m.locals[k]
	if l == nil {
		return
	}
	for i, s := range l.sent {
		if s.track.ID == track {
			l.sent = append(l.sent[:i:i], l.sent[i+1:]...)
			m.touch(k)
			return
		}
	}
}

// Connected: what a participant sends can reach this node, or can't.
func (m *Machine) Connected(k Key, yes bool) {
	if l := m.locals[k]; l != nil && l.connected != yes {
		l.connected = yes
		m.touch(k)
	}
}

// Session is the session of a participant of this node.
func (m *Machine) Session(k Key) (media.Session, bool) {
	l := m.locals[k]
	if l == nil || l.state.Suspended {
		return media.Session{}, false
	}
	return l.who, true
}

// Numbered is whose track of this node has the number.
func (m *Machine) Numbered(n uint32) (k Key, track string, ok bool) {
	for k, l := range m.locals {
		for _, s := range l.sent {
			if s.number == n {
				return k, s.track.ID, true
			}
		}
	}
	return Key{}, "", false
}

// Wants says how big a participant shows pictures.
func (m *Machine) Wants(id regions.SessionID, w *wire.CallWants) error {
	if err := m.In(id); err != nil {
		return err
	}
	if len(w.GetWants()) > maxWants {
		return media.ErrBadRequest.At("wants")
	}
	l := m.of(id)
	for _, x := range w.GetWants() {
		if len(x.GetTrack()) > maxID {
			return media.ErrBadRequest.At("wants.track")
		}
		if len(l.wants) < maxWants {
			l.wants[x.GetTrack()] = min(x.GetHeight(), 4320)
		}
	}
	for id := range l.wants { // of what is gone
		if m.sources[id] == nil && len(l.wants) > maxWants/2 {
			delete(l.wants, id)
		}
	}
	m.out.Media = true
	return nil
}

// Signal passes something on between the two of a call without server.
func (m *Machine) Signal(id regions.SessionID, s *wire.CallSignal) error {
	if err := m.In(id); err != nil {
		return err
	}
	if len(s.GetData()) > maxSignal {
		return media.ErrBadRequest.At("signal.data")
	}
	from := &peer.CallKey{User: id.User, Device: id.Device, Epoch: uint64(id.Epoch)}
	to := &peer.CallKey{User: s.GetUser(), Device: s.GetDevice(), Epoch: s.GetEpoch()}
	k := Key{to.User, to.Device}
	if m.locals[k] != nil {
		m.pass(from, to, s.GetData())
		return nil
	}
	node, _ := m.best(k)
	if node == "" {
		return media.ErrNotInCall.At("signal.user")
	}
	m.out.Send = append(m.out.Send, Send{node, &peer.CallFrame{Call: m.record.Call, Body: &peer.CallFrame_Pass{
		Pass: &peer.CallPass{From: from, To: to, Data: s.GetData()},
	}}})
	return nil
}

func (m *Machine) pass(from, to *peer.CallKey, data string) {
	l := m.locals[Key{to.GetUser(), to.GetDevice()}]
	if l == nil || to.GetEpoch() != 0 && to.GetEpoch() != uint64(l.who.Epoch) {
		return
	}
	m.tell(l, &wire.CallEvent{Body: &wire.CallEvent_Signal{Signal: &wire.CallSignal{
		User: from.GetUser(), Device: from.GetDevice(), Epoch: from.GetEpoch(), Data: data,
	}}})
}

// Mute and Kick are for those who moderate. Whoever they mean may be at another node.
func (m *Machine) Mute(now time.Time, id regions.SessionID, who *wire.CallWho) error {
	return m.order(now, id, &peer.CallOrder{By: id.User, What: &peer.CallOrder_Mute{Mute: who}})
}

// Kick puts somebody out of the call.
func (m *Machine) Kick(now time.Time, id regions.SessionID, who *wire.CallWho) error {
	return m.order(now, id, &peer.CallOrder{By: id.User, What: &peer.CallOrder_Kick{Kick: who}})
}

// Moderates reports whether the session is in the call here and may do that.
func (m *Machine) Moderates(id regions.SessionID) error {
	if err := m.In(id); err != nil {
		return err
	}
	if !m.record.Moderates(m.of(id).who) {
		return media.ErrForbidden
	}
	return nil
}

func (m *Machine) order(now time.Time, id regions.SessionID, o *peer.CallOrder) error {
	if err := m.Moderates(id); err != nil {
		return err
	}
	who := o.GetMute()
	if who == nil {
		who = o.GetKick()
	}
	if who.GetUser() == "" {
		return media.ErrBadRequest.At("moderate.user")
	}
	m.obey(now, o)
	for _, node := range m.nodes() {
		for k := range m.parts[node].members {
			if means(who, k) {
				m.out.Send = append(m.out.Send, Send{node, &peer.CallFrame{Call: m.record.Call, Body: &peer.CallFrame_Order{Order: o}}})
				break
			}
		}
	}
	return nil
}

func means(who *wire.CallWho, k Key) bool {
	return who.GetUser() == k.User && (who.GetDevice() == "" || who.GetDevice() == k.Device)
}

// obey does it to those who are here.
func (m *Machine) obey(now time.Time, o *peer.CallOrder) {
	for _, k := range m.keys() {
		switch {
		case o.GetMute() != nil && means(o.GetMute(), k):
			m.locals[k].state.MicMuted = true
			m.touch(k)
		case o.GetKick() != nil && means(o.GetKick(), k):
			m.over(now, k, "kicked")
		}
	}
}

// muted reports whether a track is held back, since its participant said so or somebody
// who moderates did: a microphone, also under a name that is no sound's.
func (l *local) muted(t media.Track) bool {
	return l.state.MicMuted && !t.Video && t.Source != wire.CallSource_MUSIC && t.Source != wire.CallSource_SCREEN_AUDIO
}

// reasonOf is a reason as clients know them.
func reasonOf(reason string) string {
	switch reason {
	case "left", "kicked", "removed", "timed_out", "region_lost", "ended":
		return reason
	}
	return "left"
}
