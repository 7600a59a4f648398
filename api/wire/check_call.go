package wire

import "unicode/utf8"

// Limits of requests about calls.
const (
	MaxDescription = 60_000 // bytes of a session description, or of a signal between two
	MaxCandidate   = 2048   // bytes of an ICE candidate
	MaxCallMedia   = 16     // media sections that an offer names
	MaxMid         = 32     // bytes
	MaxWants       = 100
	MaxTrackID     = 32
	MaxHeight      = 8192 // pixels
	MaxPriority    = 9    // of who wants the talk floor
)

func badCall(message string) *Problem { return &Problem{CodeBadRequest, message} }

// CheckCall checks a request about a call, as far as that can be without knowing it.
func CheckCall(r *CallRequest) *Problem {
	if !isUUID(r.GetCall()) {
		return badCall("name the call by its session_id, a UUID in lower case")
	}
	switch r.Body.(type) {
	case *CallRequest_Join, *CallRequest_Leave:
		return nil
	case *CallRequest_Set:
		return checkCallSet(r.GetSet())
	case *CallRequest_Describe:
		return checkDescription(r.GetDescribe())
	case *CallRequest_Candidate:
		c := r.GetCandidate()
		if !c.GetConnection().known() || len(c.GetCandidate()) > MaxCandidate || !utf8.ValidString(c.GetCandidate()) {
			return badCall("a candidate is of up or down, and at most 2,048 bytes of JSON")
		}
	case *CallRequest_Wants:
		return checkWants(r.GetWants().GetWants())
	case *CallRequest_Floor:
		if r.GetFloor().GetPriority() > MaxPriority {
			return badCall("a priority is 0 to 9")
		}
	case *CallRequest_Moderate:
		return checkModerate(r.GetModerate())
	case *CallRequest_Signal:
		s := r.GetSignal()
		if p := checkWho(s.GetUser(), s.GetDevice(), false); p != nil {
			return p
		}
		if d := s.GetData(); d == "" || len(d) > MaxDescription || !utf8.ValidString(d) {
			return badCall("a signal is 1 to 60,000 bytes of JSON")
		}
	default:
		return badCall("say what is to be done about the call")
	}
	return nil
}

func (c CallDescription_Connection) known() bool {
	return c == CallDescription_UP || c == CallDescription_DOWN
}

func checkCallSet(s *CallSet) *Problem {
	switch {
	case s == nil || s.MicMuted == nil && s.SpeakerMuted == nil && s.Camera == nil && s.Screen == nil && s.Music == nil && s.Heading == nil:
		return badCall("say what is to be set")
	case s.Heading != nil && !within(float64(*s.Heading), 0, 360):
		return badCall("a heading is 0 to 360 degrees")
	}
	return nil
}

// checkDescription: a client offers for "up" and answers for "down".
func checkDescription(d *CallDescription) *Problem {
	sdp := d.GetSdp()
	switch {
	case !d.GetConnection().known():
		return badCall("a description is of up or down")
	case d.Restart:
		if d.Connection != CallDescription_DOWN || sdp != "" {
			return badCall("ask for a restart of down, without a description; of up, offer anew")
		}
		return nil
	case d.Offer != (d.Connection == CallDescription_UP):
		return badCall("offer for up, and answer for down")
	case d.N == 0:
		return badCall("number your offers from 1 in n; an answer has the number of its offer")
	case sdp == "" || len(sdp) > MaxDescription || !utf8.ValidString(sdp):
		return badCall("a session description has at most 60,000 bytes")
	case len(d.Media) > MaxCallMedia:
		return badCall("an offer names at most 16 media sections")
	}
	for i, m := range d.Media {
		if m.GetMid() == "" || len(m.GetMid()) > MaxMid || !utf8.ValidString(m.GetMid()) || m.Source <= CallSource_CALL_SOURCE_UNSPECIFIED || m.Source > CallSource_SCREEN_AUDIO {
			return badCall("name the mid of each media section, and what it is")
		}
		for _, other := range d.Media[:i] {
			if other.GetMid() == m.Mid {
				return badCall("name each media section once")
			}
		}
	}
	return nil
}

func checkWants(wants []*CallWant) *Problem {
	if len(wants) > MaxWants {
		return badCall("want at most 100 tracks at a time")
	}
	for _, w := range wants {
		if t := w.GetTrack(); t == "" || len(t) > MaxTrackID || !utf8.ValidString(t) || w.Height > MaxHeight {
			return badCall("a want is the id of a track, and how many pixels high it is shown")
		}
	}
	return nil
}

func checkModerate(m *CallModerate) *Problem {
	switch m.GetWhat().(type) {
	case *CallModerate_Mute:
		return checkWho(m.GetMute().GetUser(), m.GetMute().GetDevice(), true)
	case *CallModerate_Kick:
		return checkWho(m.GetKick().GetUser(), m.GetKick().GetDevice(), true)
	case *CallModerate_TakeFloor:
		return checkWho(m.GetTakeFloor().GetUser(), m.GetTakeFloor().GetDevice(), true)
	case *CallModerate_Lock, *CallModerate_End:
		return nil
	}
	return badCall("say how the call is to be moderated")
}

// checkWho checks whom a request is about; all: no device means all of the user's.
func checkWho(user, device string, all bool) *Problem {
	if !isUUID(user) {
		return badCall("name whom it is about by their user id")
	}
	if all && device == "" {
		return nil
	}
	return CheckDevice(device)
}
