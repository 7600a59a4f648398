package media

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// What follows is the part of LiveKit's signalling protocol that a participant needs who
// sends and gets RTP: messages of livekit_rtc.proto (github.com/livekit/protocol, package
// livekit), with the numbers of their fields.

// lkSession is SessionDescription: type = 1, sdp = 2, id = 3 (an answer has that of its
// offer).
type lkSession struct {
	kind, sdp string
	id        uint64
}

// lkTrickle is TrickleRequest: candidateInit = 1 (JSON of RTCIceCandidateInit),
// target = 2 (PUBLISHER = 0, SUBSCRIBER = 1).
type lkTrickle struct {
	candidate  string
	subscriber bool
}

// lkResponse is SignalResponse, a oneof: join = 1, answer = 2, offer = 3, trickle = 4,
// track_published = 6 (TrackPublishedResponse: cid = 1), leave = 8 (LeaveRequest:
// reason = 2), request_response = 22 (RequestResponse: reason = 2, message = 3). Others
// leave it empty.
type lkResponse struct {
	joined    bool
	answer    *lkSession
	offer     *lkSession
	trickle   *lkTrickle
	published string // as the participant called the track
	left      bool   // the server has no more to do with the participant
	reason    uint64 // why; or why a request was refused
	message   string
}

var errLiveKitMessage = errors.New("no message of LiveKit's protocol")

// lkFields calls f for each field of a message, with its number and as one of an integer
// and bytes; what is neither is left out.
func lkFields(b []byte, f func(n protowire.Number, v uint64, b []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errLiveKitMessage
		}
		b = b[n:]
		var v uint64
		var bytes []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(b)
		default:
			if n = protowire.ConsumeFieldValue(num, typ, b); n >= 0 {
				b = b[n:]
				continue
			}
		}
		if n < 0 {
			return errLiveKitMessage
		}
		b = b[n:]
		if err := f(num, v, bytes); err != nil {
			return err
		}
	}
	return nil
}

// parseLiveKit decodes a SignalResponse.
func parseLiveKit(b []byte) (r lkResponse, err error) {
	err = lkFields(b, func(n protowire.Number, _ uint64, b []byte) (err error) {
		switch n {
		case 1:
			r.joined = true
		case 2:
			r.answer, err = parseLiveKitSession(b)
		case 3:
			r.offer, err = parseLiveKitSession(b)
		case 4:
			r.trickle = &lkTrickle{}
			err = lkFields(b, func(n protowire.Number, v uint64, b []byte) error {
				switch n {
				case 1:
					r.trickle.candidate = string(b)
				case 2:
					r.trickle.subscriber = v == 1
				}
				return nil
			})
		case 6:
			err = lkFields(b, func(n protowire.Number, _ uint64, b []byte) error {
				if n == 1 {
					r.published = string(b)
				}
				return nil
			})
		case 8, 22:
			r.left = n == 8
			err = lkFields(b, func(n protowire.Number, v uint64, b []byte) error {
				switch n {
				case 2:
					r.reason = v
				case 3:
					r.message = string(b)
				}
				return nil
			})
		}
		return err
	})
	if err != nil {
		return lkResponse{}, fmt.Errorf("signal response: %w", err)
	}
	return r, nil
}

func parseLiveKitSession(b []byte) (*lkSession, error) {
	s := &lkSession{}
	return s, lkFields(b, func(n protowire.Number, v uint64, b []byte) error {
		switch n {
		case 1:
			s.kind = string(b)
		case 2:
			s.sdp = string(b)
		case 3:
			s.id = v
		}
		return nil
	})
}

func lkString(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func lkUint(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

// lkRequest is SignalRequest with one of its messages: offer = 1, answer = 2,
// add_track = 4, leave = 8, ping_req = 16.
func lkRequest(n protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), message)
}

// request is the description in one, as an offer or an answer.
func (s lkSession) request() []byte {
	n := protowire.Number(2)
	if s.kind == "offer" {
		n = 1
	}
	return lkRequest(n, lkUint(lkString(lkString(nil, 1, s.kind), 2, s.sdp), 3, s.id))
}

// lkAddTrack is AddTrackRequest: cid = 1 (the track's id in the offer to come), name = 2,
// type = 3 (AUDIO = 0, VIDEO = 1), source = 8 (CAMERA = 1, MICROPHONE = 2).
func lkAddTrack(cid string, video bool) []byte {
	kind, source := uint64(0), uint64(2)
	if video {
		kind, source = 1, 1
	}
	return lkRequest(4, lkUint(lkUint(lkString(lkString(nil, 1, cid), 2, cid), 3, kind), 8, source))
}

// lkPing is Ping: timestamp = 1 (ms).
func lkPing(ms int64) []byte { return lkRequest(16, lkUint(nil, 1, uint64(ms))) }

// lkLeave is LeaveRequest: reason = 2 (CLIENT_INITIATED = 1).
func lkLeave() []byte { return lkRequest(8, lkUint(nil, 2, 1)) }
