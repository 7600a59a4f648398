package host

import (
	"context"
	"errors"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/regions"
)

// seat is a session of this node in a call: where it is, and what it said of itself, so
// that it can be joined elsewhere.
type seat struct {
	who    media.Session
	room   string
	node   regions.NodeID // the SFU that has it
	place  regions.Epoch
	former regions.NodeID // where it was before, for what is still about that
	was    regions.Epoch
	join   *wire.CallJoin
	moving bool
}

// picture is a call as sessions of this node were told it last: what they know is told to
// the SFU that they are joined at anew.
type picture struct {
	seats        int
	place        regions.Epoch
	version      uint64
	participants map[call.Key]*wire.CallParticipant
}

// see notes what a session is told; h.mu is held.
func (h *Host) see(id string, e *wire.CallEvent) {
	p := h.pictures[regions.CallID(id)]
	place := regions.Epoch(e.GetPlace())
	if p == nil || place < p.place {
		return
	}
	switch b := e.Body.(type) {
	case *wire.CallEvent_Joined:
		s := b.Joined.GetState()
		if place == p.place && s.GetVersion() < p.version {
			return
		}
		p.place, p.version, p.participants = place, s.GetVersion(), map[call.Key]*wire.CallParticipant{}
		for _, x := range s.GetParticipants() {
			p.participants[call.Key{User: x.GetUser(), Device: x.GetDevice()}] = x
		}
	case *wire.CallEvent_Changed:
		if place > p.place || e.GetVersion() <= p.version {
			return
		}
		p.version = e.GetVersion()
		for _, x := range b.Changed.GetParticipants() {
			p.participants[call.Key{User: x.GetUser(), Device: x.GetDevice()}] = x
		}
		for _, x := range b.Changed.GetGone() {
			delete(p.participants, call.Key{User: x.GetUser(), Device: x.GetDevice()})
		}
	}
}

// known are those who are in a call, as far as sessions of this node were told.
func (h *Host) known(id string) (list []*wire.CallParticipant) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if p := h.pictures[regions.CallID(id)]; p != nil {
		for _, x := range p.participants {
			list = append(list, x)
		}
	}
	return list
}

// Ask does what a session of this node asks, here or at the SFU of its region. The answer
// is CallJoined, CallFloor or Done; errors are for the client. room is the room of the
// call in which the session is. Requests of one session come one after the other.
func (h *Host) Ask(ctx context.Context, who media.Session, room string, r *wire.CallRequest) (*wire.ServerFrame, error) {
	if r.GetBody() == nil || r.GetCall() == "" || len(r.GetCall()) > 64 {
		return nil, media.ErrBadRequest
	}
	who.Node = h.cfg.Self
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if j := r.GetJoin(); j != nil {
		return h.join(ctx, who, room, r.GetCall(), j)
	}
	s, ok := h.seat(who.ID(), r.GetCall())
	if !ok || s.room != room {
		return nil, media.ErrNotInCall
	}
	if s.who.Epoch > who.Epoch {
		return nil, media.ErrSuperseded
	}
	node, place := s.node, s.place
	if p := placeOf(r); p != 0 && p == s.was { // of a connection to the SFU before
		node, place = s.former, s.was
	}
	if node == "" {
		return nil, media.ErrRetry
	}
	a, err := h.ask(ctx, node, &peer.CallAsk{Session: session(who), Request: r, Place: uint64(place), Room: room})
	switch {
	case r.GetLeave() != nil && err == nil, errors.Is(err, media.ErrCallEnded):
		h.unseat(who.ID(), r.GetCall())
	case err == nil && r.GetSet() != nil:
		h.remember(who.ID(), r.GetCall(), r.GetSet())
	}
	return a, err
}

// placeOf is the SFU that a description is about.
func placeOf(r *wire.CallRequest) regions.Epoch {
	return regions.Epoch(max(r.GetDescribe().GetPlace(), r.GetCandidate().GetPlace()))
}

func session(who media.Session) *peer.CallSession {
	return &peer.CallSession{User: who.User, Device: who.Device, Epoch: uint64(who.Epoch), Name: who.Name, Role: who.Role}
}

// join joins a session at whichever node is the SFU, and tries again where that changes.
func (h *Host) join(ctx context.Context, who media.Session, room, id string, j *wire.CallJoin) (*wire.ServerFrame, error) {
	for {
		p, err := h.cfg.Places.PlaceCall(ctx, regions.CallID(id), room)
		if err != nil {
			return nil, err
		}
		a, err := h.ask(ctx, p.Node, &peer.CallAsk{
			Session: session(who), Place: uint64(p.Epoch), Room: room,
			Request: &wire.CallRequest{Call: id, Body: &wire.CallRequest_Join{Join: j}},
		})
		if err == nil {
			h.sit(who, room, id, p.Node, a.GetCallJoined(), j)
			return a, nil
		}
		if !errors.Is(err, media.ErrRetry) || !pause(ctx, 4*rejoinPause) {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// ask asks an SFU of this region, which may be this node.
func (h *Host) ask(ctx context.Context, node regions.NodeID, a *peer.CallAsk) (*wire.ServerFrame, error) {
	if node == h.cfg.Self {
		return h.HandleAsk(ctx, h.cfg.Self, a)
	}
	answer, err := h.cfg.Links.Call(ctx, node, &peer.Call{Body: &peer.Call_CallAsk{CallAsk: a}})
	if err != nil {
		if _, known := errs.From(err); !known { // the SFU is gone: there is another one soon
			h.log.DebugContext(ctx, "a call's SFU did not answer", "node", node, "err", err)
			err = media.ErrRetry
		}
		return nil, err
	}
	if answer.GetCallAnswer() == nil {
		return nil, media.ErrRetry
	}
	return answer.GetCallAnswer(), nil
}

func (h *Host) seat(id regions.SessionID, callID string) (seat, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	s := h.seats[call.Key{User: id.User, Device: id.Device}][regions.CallID(callID)]
	if s == nil {
		return seat{}, false
	}
	return *s, true
}

// sit notes that a session is in a call at a node.
func (h *Host) sit(who media.Session, room, id string, node regions.NodeID, joined *wire.CallJoined, j *wire.CallJoin) {
	place := regions.Epoch(joined.GetPlace())
	h.mu.Lock()
	defer h.mu.Unlock()
	k := call.Key{User: who.User, Device: who.Device}
	if h.seats[k] == nil {
		h.seats[k] = map[regions.CallID]*seat{}
	}
	s := h.seats[k][regions.CallID(id)]
	if s == nil {
		s = &seat{}
		h.seats[k][regions.CallID(id)] = s
		p := h.pictures[regions.CallID(id)]
		if p == nil {
			p = &picture{participants: map[call.Key]*wire.CallParticipant{}}
			h.pictures[regions.CallID(id)] = p
		}
		p.seats++
	}
	h.see(id, &wire.CallEvent{Place: joined.GetPlace(), Body: &wire.CallEvent_Joined{Joined: joined}})
	if s.who.Epoch > who.Epoch || s.place > place {
		return
	}
	if s.place < place && s.node != "" {
		s.former, s.was = s.node, s.place
	}
	s.who, s.room, s.node, s.place = who, room, node, place
	s.join = &wire.CallJoin{MicMuted: j.GetMicMuted(), SpeakerMuted: j.GetSpeakerMuted(), PeerToPeer: j.GetPeerToPeer()}
}

// remember notes what a session said of itself.
func (h *Host) remember(id regions.SessionID, callID string, set *wire.CallSet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.seats[call.Key{User: id.User, Device: id.Device}][regions.CallID(callID)]
	if s == nil {
		return
	}
	j := &wire.CallJoin{MicMuted: s.join.MicMuted, SpeakerMuted: s.join.SpeakerMuted, PeerToPeer: s.join.PeerToPeer}
	if set.MicMuted != nil {
		j.MicMuted = *set.MicMuted
	}
	if set.SpeakerMuted != nil {
		j.SpeakerMuted = *set.SpeakerMuted
	}
	s.join = j
}

// unseat forgets a session's stay in a call.
func (h *Host) unseat(id regions.SessionID, callID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := call.Key{User: id.User, Device: id.Device}
	if s := h.seats[k][regions.CallID(callID)]; s != nil && s.who.Epoch <= id.Epoch {
		delete(h.seats[k], regions.CallID(callID))
		if len(h.seats[k]) == 0 {
			delete(h.seats, k)
		}
		if p := h.pictures[regions.CallID(callID)]; p != nil {
			if p.seats--; p.seats == 0 {
				delete(h.pictures, regions.CallID(callID))
			}
		}
	}
}

// Resume tells that a session has a connection again, here, perhaps under a higher
// epoch and with another node before. It is told all of the calls that it is in.
func (h *Host) Resume(who media.Session) {
	who.Node = h.cfg.Self
	for _, node := range h.cfg.Places.Hosts() {
		if node == h.cfg.Self {
			h.resumed(who)
			continue
		}
		h.cfg.Links.Send(node, &peer.CallFrame{Body: &peer.CallFrame_Stay{Stay: &peer.CallStay{Session: session(who), State: peer.CallStay_RESUMED}}})
	}
}

// Suspend tells that a session of this node lost its connection: it stays in its calls.
func (h *Host) Suspend(id regions.SessionID) {
	h.tellStay(id, func(*seat) bool { return true }, peer.CallStay_SUSPENDED, "")
}

// Gone takes a session of this node that ended out of its calls, for a reason as in
// wire.CallGone, or "moved": its device is in them under another one.
func (h *Host) Gone(id regions.SessionID, reason string) {
	for _, call := range h.tellStay(id, func(*seat) bool { return true }, peer.CallStay_GONE, reason) {
		h.unseat(id, call)
	}
}

// Left takes a session out of the call in a room that it left, or was put out of.
func (h *Host) Left(id regions.SessionID, room, reason string) {
	for _, call := range h.tellStay(id, func(s *seat) bool { return s.room == room }, peer.CallStay_GONE, reason) {
		h.unseat(id, call)
	}
}

// tellStay tells the SFUs of a session's calls what became of it, and returns the calls.
func (h *Host) tellStay(id regions.SessionID, which func(*seat) bool, state peer.CallStay_State, reason string) (calls []string) {
	type place struct {
		call string
		node regions.NodeID
	}
	var places []place
	h.mu.RLock()
	for callID, s := range h.seats[call.Key{User: id.User, Device: id.Device}] {
		if !which(s) || s.who.Epoch > id.Epoch {
			continue
		}
		calls = append(calls, string(callID))
		for _, node := range []regions.NodeID{s.node, s.former} {
			if node != "" {
				places = append(places, place{string(callID), node})
			}
		}
	}
	h.mu.RUnlock()
	stay := &peer.CallStay{Session: &peer.CallSession{User: id.User, Device: id.Device, Epoch: uint64(id.Epoch)}, State: state, Reason: reason}
	for _, p := range places {
		if p.node == h.cfg.Self {
			h.stays(h.cfg.Self, p.call, stay)
		} else {
			h.cfg.Links.Send(p.node, &peer.CallFrame{Call: p.call, Body: &peer.CallFrame_Stay{Stay: stay}})
		}
	}
	return calls
}

// heard passes on what an SFU of this region says to a session of this node.
func (h *Host) heard(from regions.NodeID, t *peer.CallTell) {
	id := regions.SessionID{User: t.GetUser(), Device: t.GetDevice(), Epoch: regions.Epoch(t.GetEpoch())}
	e := t.GetEvent()
	h.toSession(from, id, e)
}

// toSession gives a session of this node an event, and notes what it says of where the
// session is.
func (h *Host) toSession(from regions.NodeID, id regions.SessionID, e *wire.CallEvent) {
	switch {
	case e.GetJoined() != nil:
		j := &wire.CallJoin{}
		who := media.Session{User: id.User, Device: id.Device, Epoch: id.Epoch, Node: h.cfg.Self}
		for _, p := range e.GetJoined().GetState().GetParticipants() {
			if p.GetUser() == id.User && p.GetDevice() == id.Device {
				j.MicMuted, j.SpeakerMuted, who.Name = p.GetMicMuted(), p.GetSpeakerMuted(), p.GetName()
			}
		}
		if s, ok := h.seat(id, e.GetCall()); ok {
			j, who.Role, who.Name = s.join, s.who.Role, s.who.Name
		}
		h.sit(who, e.GetJoined().GetState().GetRoom(), e.GetCall(), from, e.GetJoined(), j)
	case e.GetChanged() != nil:
		h.mu.Lock()
		h.see(e.GetCall(), e)
		h.mu.Unlock()
	case e.GetOver() != nil:
		if s, ok := h.seat(id, e.GetCall()); ok && s.place > regions.Epoch(e.GetPlace()) && e.GetOver().GetReason() == "superseded" {
			return
		}
		h.unseat(id, e.GetCall())
	}
	h.cfg.Tell(id, e)
}

// moveSeats joins the sessions of this node at a call's new SFU.
func (h *Host) moveSeats(id regions.CallID, to regions.NodeID) {
	var moves []media.Session
	h.mu.Lock()
	for _, of := range h.seats {
		s := of[id]
		if s == nil || s.moving {
			continue
		}
		if p, ok := h.cfg.Places.CallOf(id); ok && to != "" && p.Epoch <= s.place {
			continue
		}
		s.moving = true
		moves = append(moves, s.who)
	}
	h.mu.Unlock()
	for _, who := range moves {
		h.spawn(func(ctx context.Context) { h.rejoin(ctx, who, string(id)) })
	}
}

// rejoin joins a session at its call's new SFU until it is there, or has left.
func (h *Host) rejoin(ctx context.Context, who media.Session, id string) {
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if s := h.seats[call.Key{User: who.User, Device: who.Device}][regions.CallID(id)]; s != nil {
			s.moving = false
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, rejoinFor)
	defer cancel()
	for wait := rejoinPause; ; wait = min(2*wait, time.Second) {
		s, ok := h.seat(who.ID(), id)
		if !ok {
			return
		}
		p, err := h.cfg.Places.PlaceCall(ctx, regions.CallID(id), s.room)
		if err == nil {
			var a *wire.ServerFrame
			known := h.known(id)
			s.join = muted(s.join, s.who, known)
			a, err = h.ask(ctx, p.Node, &peer.CallAsk{
				Session: session(s.who), Place: uint64(p.Epoch), Room: s.room, Again: true, Known: known,
				Request: &wire.CallRequest{Call: id, Body: &wire.CallRequest_Join{Join: s.join}},
			})
			if err == nil {
				j := a.GetCallJoined()
				h.sit(s.who, s.room, id, p.Node, j, s.join)
				h.cfg.Tell(s.who.ID(), &wire.CallEvent{Call: id, Place: j.GetPlace(), Body: &wire.CallEvent_Joined{Joined: j}})
				return
			}
		}
		if errors.Is(err, media.ErrCallEnded) || errors.Is(err, media.ErrNoCall) || errors.Is(err, media.ErrSuperseded) || !pause(ctx, wait) {
			h.log.InfoContext(ctx, "a session is not joined at its call's new SFU", "call", id, "err", err)
			h.unseat(who.ID(), id)
			h.cfg.Tell(who.ID(), &wire.CallEvent{Call: id, Place: uint64(s.place), Body: &wire.CallEvent_Over{Over: &wire.CallOver{Reason: overReason(err)}}})
			return
		}
	}
}

// muted is what a session says of itself, and that it was muted by somebody who
// moderates, if it was: no move undoes that.
func muted(j *wire.CallJoin, who media.Session, known []*wire.CallParticipant) *wire.CallJoin {
	for _, p := range known {
		if p.GetUser() == who.User && p.GetDevice() == who.Device && p.GetMicMuted() && !j.MicMuted {
			return &wire.CallJoin{MicMuted: true, SpeakerMuted: j.SpeakerMuted, PeerToPeer: j.PeerToPeer}
		}
	}
	return j
}

func overReason(err error) string {
	switch {
	case errors.Is(err, media.ErrCallEnded), errors.Is(err, media.ErrNoCall):
		return "ended"
	case errors.Is(err, media.ErrSuperseded):
		return "superseded"
	}
	return "region_lost"
}
