package comm

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

type object map[string]any

// Write returns what the client is told of a frame, an event a line; of most that are
// about something else than calls nothing.
func (s *Speaker) Write(f *wire.ServerFrame) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []object
	if f.Re != 0 {
		if a, ok := s.asked[f.Re]; ok {
			delete(s.asked, f.Re)
			if e := s.answer(a, f); a.id != nil || e["event"] == "error" {
				if a.id != nil {
					e["request_id"] = a.id
				}
				events = append(events, e)
			}
		}
	} else {
		events = s.event(f)
	}
	var lines []byte
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			continue // another node's words that are no JSON
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines
}

// answer is an ack, or an error.
func (s *Speaker) answer(a asked, f *wire.ServerFrame) object {
	if e := f.GetError(); e != nil {
		return failure(e, a.session)
	}
	out := object{"event": "ack"}
	if a.session != "" {
		out["session_id"] = a.session
	}
	switch b := f.Body.(type) {
	case *wire.ServerFrame_Welcome:
		w := b.Welcome
		delete(out, "session_id")
		out["user_id"], out["username"], out["device_id"], out["epoch"] = w.User, w.Name, s.device, w.Epoch
		out["region"], out["node"], out["now"], out["expires_at"] = w.Region, w.Node, when(w.Now), when(w.Expires)
		out["ping_ms"], out["grace_ms"], out["ticket"] = w.PingMs, w.GraceMs, w.Ticket
	case *wire.ServerFrame_Pong:
		delete(out, "session_id")
		out["now"] = when(b.Pong.Now)
	case *wire.ServerFrame_CallJoined:
		s.joined(out, a.session, b.CallJoined)
	case *wire.ServerFrame_CallFloor:
		out["floor"] = floorOf(b.CallFloor)
	default:
		if a.event == "leave_session" {
			delete(s.calls, a.session)
		}
	}
	return out
}

// joined remembers who is in a call, and tells it.
func (s *Speaker) joined(out object, session string, j *wire.CallJoined) {
	c := &call{people: map[who]*wire.CallParticipant{}}
	s.calls[session] = c
	people := []object{}
	for _, p := range j.GetState().GetParticipants() {
		c.people[who{p.User, p.Device}] = p
		people = append(people, participant(p))
	}
	servers := []object{}
	for _, i := range j.GetIceServers() {
		servers = append(servers, object{"urls": i.Urls, "username": i.Username, "credential": i.Credential})
	}
	st := j.GetState()
	out["place"], out["ice_servers"] = j.GetPlace(), servers
	state := object{
		"room": st.GetRoom(), "type": st.GetType(), "locked": st.GetLocked(), "direct": st.GetDirect(), "push_to_talk": st.GetPushToTalk(),
		"started_at": when(st.GetStartedAt()), "participants": people, "hearing": hearingOf(st.GetHearing()), "version": st.GetVersion(),
	}
	if st.GetPushToTalk() {
		state["floor"] = floorOf(st.GetFloor())
	}
	out["session"] = state
}

func failure(e *wire.Error, session string) object {
	out := object{"event": "error", "code": e.Code, "message": e.Message}
	if session != "" {
		out["session_id"] = session
	}
	if e.RetryAfterMs > 0 {
		out["retry_after_ms"] = e.RetryAfterMs
	}
	return out
}

// event is what came without being asked for.
func (s *Speaker) event(f *wire.ServerFrame) []object {
	switch b := f.Body.(type) {
	case *wire.ServerFrame_Error:
		return []object{failure(b.Error, "")}
	case *wire.ServerFrame_Close:
		out := object{"event": "closed", "code": b.Close.Code, "message": b.Close.Message}
		if b.Close.RetryAfterMs > 0 {
			out["retry_after_ms"] = b.Close.RetryAfterMs
		}
		return []object{out}
	case *wire.ServerFrame_Goaway:
		urls := []string{}
		for _, t := range b.Goaway.Targets {
			if t.Ws != "" {
				urls = append(urls, t.Ws+"/communication")
			}
		}
		return []object{{"event": "goaway", "signaling_urls": urls, "ticket": b.Goaway.Ticket, "deadline_ms": b.Goaway.DeadlineMs}}
	case *wire.ServerFrame_CallEvent:
		return s.callEvent(b.CallEvent)
	}
	return nil
}

func (s *Speaker) callEvent(e *wire.CallEvent) []object {
	about := func(name string) object { return object{"event": name, "session_id": e.Call, "place": e.Place} }
	one := func(name string, fields object) []object {
		out := about(name)
		maps.Copy(out, fields)
		return []object{out}
	}
	switch b := e.Body.(type) {
	case *wire.CallEvent_Joined:
		out := about("session_state")
		s.joined(out, e.Call, b.Joined)
		return []object{out}
	case *wire.CallEvent_Changed:
		return s.changed(e, b.Changed, about)
	case *wire.CallEvent_Describe:
		d := b.Describe
		return one("description", object{"connection": nameOf(connections, d.Connection), "n": d.N, "offer": d.Offer, "sdp": d.Sdp, "place": max(d.Place, e.Place)})
	case *wire.CallEvent_Speakers:
		list := []object{}
		for _, w := range b.Speakers.GetSpeakers() {
			list = append(list, whom(w))
		}
		return one("speakers", object{"speakers": list})
	case *wire.CallEvent_Sounds:
		list := []object{}
		for _, x := range b.Sounds.GetSounds() {
			list = append(list, object{"track": x.GetTrack(), "gain": x.GetGain(), "pan": x.GetPan()})
		}
		return one("sounds", object{"sounds": list})
	case *wire.CallEvent_Quality:
		list := []object{}
		for _, x := range b.Quality.GetShown() {
			list = append(list, object{"track": x.GetTrack(), "paused": x.GetPaused(), "height": x.GetHeight()})
		}
		return one("quality", object{"quality": b.Quality.GetQuality(), "available": b.Quality.GetAvailable(), "shown": list})
	case *wire.CallEvent_Signal:
		g := b.Signal
		if !json.Valid([]byte(g.GetData())) {
			return nil // the other one's fault
		}
		return one("signal", object{"user_id": g.GetUser(), "device_id": g.GetDevice(), "epoch": g.GetEpoch(), "data": json.RawMessage(g.GetData())})
	case *wire.CallEvent_Over:
		delete(s.calls, e.Call)
		return one("session_ended", object{"reason": b.Over.GetReason()})
	case *wire.CallEvent_Floor:
		return one("floor", object{"floor": floorOf(b.Floor)})
	}
	return nil
}

// changed tells what is new about a call, of each participant apart.
func (s *Speaker) changed(e *wire.CallEvent, c *wire.CallChanged, about func(string) object) (events []object) {
	tell := func(name string, fields object) {
		out := about(name)
		out["version"] = e.Version
		maps.Copy(out, fields)
		events = append(events, out)
	}
	known := s.calls[e.Call]
	if known == nil { // left meanwhile
		return nil
	}
	for _, p := range c.GetParticipants() {
		key := who{p.GetUser(), p.GetDevice()}
		old := known.people[key]
		known.people[key] = p
		if old == nil {
			tell("participant_joined", object{"participant": participant(p)})
			continue
		}
		id := object{"user_id": p.GetUser(), "device_id": p.GetDevice()}
		for _, flag := range flags {
			if was, is := flag.of(old), flag.of(p); was != is {
				name := flag.off
				if is {
					name = flag.on
				}
				tell(name, id)
			}
		}
		if old.GetEpoch() != p.GetEpoch() || old.GetName() != p.GetName() || old.GetRegion() != p.GetRegion() || old.GetSuspended() != p.GetSuspended() || !same(old.GetTracks(), p.GetTracks()) {
			tell("participant_changed", object{"participant": participant(p)})
		}
	}
	for _, g := range c.GetGone() {
		key := who{g.GetUser(), g.GetDevice()}
		if p := known.people[key]; p != nil && p.GetEpoch() <= g.GetEpoch() {
			delete(known.people, key)
			tell("participant_left", object{"user_id": g.GetUser(), "device_id": g.GetDevice(), "reason": g.GetReason()})
		}
	}
	state := object{}
	if c.Locked != nil {
		state["locked"] = *c.Locked
	}
	if c.Direct != nil {
		state["direct"] = *c.Direct
	}
	if c.PushToTalk != nil {
		state["push_to_talk"] = *c.PushToTalk
	}
	if c.Hearing != nil {
		state["hearing"] = hearingOf(c.Hearing)
	}
	if len(state) > 0 {
		tell("session_changed", state)
	}
	return events
}

// flags are what a participant turns on and off, with the event of each.
var flags = []struct {
	of      func(*wire.CallParticipant) bool
	on, off string
}{
	{(*wire.CallParticipant).GetMicMuted, "mic_muted", "mic_unmuted"},
	{(*wire.CallParticipant).GetSpeakerMuted, "speaker_muted", "speaker_unmuted"},
	{(*wire.CallParticipant).GetCamera, "camera_started", "camera_stopped"},
	{(*wire.CallParticipant).GetScreen, "screen_started", "screen_stopped"},
	{(*wire.CallParticipant).GetMusic, "music_started", "music_stopped"},
}

func same(a, b []*wire.CallTrack) bool {
	return slices.EqualFunc(a, b, func(x, y *wire.CallTrack) bool { return proto.Equal(x, y) })
}

// ---------------------------------------------------------------- forms

func when(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339Nano)
}

func nameOf[T comparable](names map[string]T, v T) string {
	for name, one := range names {
		if one == v {
			return name
		}
	}
	return ""
}

func participant(p *wire.CallParticipant) object {
	tracks := []object{}
	for _, t := range p.GetTracks() {
		tracks = append(tracks, object{"id": t.GetId(), "source": nameOf(sources, t.GetSource()), "video": t.GetVideo(), "simulcast": t.GetSimulcast()})
	}
	return object{
		"user_id": p.GetUser(), "device_id": p.GetDevice(), "epoch": p.GetEpoch(), "username": p.GetName(), "region": p.GetRegion(), "joined_at": when(p.GetJoinedAt()),
		"mic_muted": p.GetMicMuted(), "speaker_muted": p.GetSpeakerMuted(), "camera": p.GetCamera(), "screen": p.GetScreen(), "music": p.GetMusic(),
		"suspended": p.GetSuspended(), "tracks": tracks,
	}
}

func whom(w *wire.CallWho) object {
	return object{"user_id": w.GetUser(), "device_id": w.GetDevice()}
}

func hearingOf(h *wire.CallHearing) object {
	return object{"most": h.GetMost(), "loudness": h.GetLoudness(), "nearness": h.GetNearness(), "radius": h.GetRadius()}
}

func floorOf(f *wire.CallFloor) object {
	out := object{"holder": nil, "waiting": f.GetWaiting(), "position": f.GetPosition(), "mine": f.GetMine(), "unavailable": f.GetUnavailable()}
	if f.GetHolder().GetUser() != "" {
		out["holder"] = whom(f.GetHolder())
	}
	return out
}
