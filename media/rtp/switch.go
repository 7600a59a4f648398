package rtp

import "time"

// Output is what a Switch makes.
type Output struct {
	Codec       Codec
	ClockRate   uint32 // Hz of the timestamps
	SSRC        uint32
	PayloadType uint8
	First       uint16 // sequence number; random (RFC 3550 section 5.1), in the lower half for SRTP's sake (RFC 3711 appendix A)
	History     int    // packets that receivers may ask for again; rounded up to a power of two
}

// Paused is the layer to want when nothing is to be sent.
const Paused = -1

// AllTemporal is the temporal layer to want for all of them.
const AllTemporal = 7

// maxLayers is how many simulcast layers a track may have.
const maxLayers = 3

// clockTrust is how far the sender's clocks may be from the time of arrival to be
// believed.
const clockTrust = 3 * time.Second

// Switch makes one outgoing stream out of the layers of a track; see the package
// comment. It belongs to one goroutine, or to its owner's lock.
type Switch struct {
	o Output

	sequence sequencer
	pictures pictures

	layer    int // that is sent; Paused: none
	wanted   int
	limit    uint8 // temporal layer, of what is sent
	temporal uint8 // wanted
	synced   uint8 // temporal layers that can be decoded: bit n is layer n

	offset  uint32 // from incoming to outgoing timestamps, in this run
	last    int    // layer of the last run; Paused: of a source that is gone
	begun   bool   // something went out
	highest uint32 // outgoing timestamp
	at      time.Time
	epoch   time.Time // of outSlot.again
	clocks  [maxLayers]clock
	parsed  In // of what is sent again
}

// clock is what a sender report says of a layer.
type clock struct {
	ntp uint64 // seconds since 1900, 32.32
	rtp uint32
	set bool
}

// NewSwitch returns one that is paused.
func NewSwitch(o Output) *Switch {
	return &Switch{o: o, sequence: newSequencer(o.History, o.First), layer: Paused, wanted: Paused, last: Paused}
}

// Want says which layer is to be sent, up to which of its temporal layers. It is with
// the layer's next key frame: until then what was sent before goes on, of a higher
// layer only its lowest temporal one. Paused is at once.
func (s *Switch) Want(layer int, temporal uint8) {
	if layer >= maxLayers || layer < 0 {
		layer = Paused
		s.layer = Paused
	}
	s.wanted, s.temporal = layer, temporal
}

// Layer is what is sent now, and up to which temporal layer.
func (s *Switch) Layer() (layer int, temporal uint8) { return s.layer, s.limit }

// NeedsKey is the layer whose key frame is waited for; false: none.
func (s *Switch) NeedsKey() (layer int, yes bool) { return s.wanted, s.wanted != s.layer }

// Replace says that packets come from another source from now on, with numbers and
// clocks of its own. What of the old one was lost is not found any more.
func (s *Switch) Replace() {
	s.layer, s.last = Paused, Paused
	s.clocks = [maxLayers]clock{}
	clear(s.sequence.out)
}

// Report takes what a sender report says of a layer: the sender's wall clock in NTP
// form, and the timestamp of the same moment. It returns the timestamp for the receiver's
// report, whose wall clock stays; false: the layer is not the one that is sent.
func (s *Switch) Report(layer int, ntp uint64, timestamp uint32) (out uint32, ok bool) {
	if layer < 0 || layer >= maxLayers {
		return 0, false
	}
	s.clocks[layer] = clock{ntp, timestamp, true}
	return timestamp + s.offset, layer == s.layer
}

// Next appends what is to be sent for an incoming packet to dst, if anything is: the
// packet with its number, timestamp, source and payload type, or padding in its place.
// in is not changed.
func (s *Switch) Next(dst []byte, in *In) ([]byte, bool) {
	if in.Layer != s.layer {
		if in.Layer != s.wanted || !in.Key || in.Empty || in.Layer < 0 {
			return dst, false
		}
		s.begin(in)
	}
	o, do := s.place(in)
	switch do {
	case stateSent:
		at := len(dst)
		dst = append(dst, in.Bytes...)
		return s.rewrite(dst, at, &in.Header, &in.vp8, o), true
	case statePadding:
		return s.padding(dst, in.Timestamp, o), true
	}
	return dst, false
}

// place decides on a packet of the layer that is sent.
func (s *Switch) place(in *In) (*outSlot, state) {
	if s.sequence.jumps(in.Sequence) {
		s.sequence.jump(in.Sequence, uint8(in.Layer))
		s.pictures.jump()
		s.offset = s.continued(in) - in.Timestamp
	}
	leaveOut := in.Empty || s.leaveOut(in)
	var picture uint16
	var tl0 uint8
	if in.is == CodecVP8 && in.vp8.HasPicture && !in.Empty {
		picture, tl0, leaveOut = s.pictures.place(&in.vp8, s.sequence.newest(in.Sequence), leaveOut)
	}
	first := !s.sequence.open
	out, do := s.sequence.place(in.Sequence, uint8(in.Layer), leaveOut)
	if do == stateLeftOut {
		return nil, do
	}
	o := s.sequence.slot(out)
	o.offset, o.picture, o.tl0 = s.offset, picture, tl0
	// Sound that goes on after a break: a jitter buffer may adapt (RFC 3551 section 4.1).
	o.marked = first && in.is == CodecOther
	if t := in.Timestamp + s.offset; int32(t-s.highest) > 0 {
		s.highest, s.at = t, in.At
	}
	return o, do
}

// leaveOut decides by temporal layer. The limit changes between frames only.
func (s *Switch) leaveOut(in *In) bool {
	if !in.HasTemporal {
		return false
	}
	if int32(in.Timestamp+s.offset-s.highest) > 0 { // of a new frame
		s.limit = min(s.temporal, AllTemporal)
		if s.wanted < s.layer {
			s.limit = 0
		}
		s.synced &= 1<<(s.limit+1) - 1
		if in.Key {
			s.synced = 1
		}
	}
	t := in.Temporal & 7
	if t > s.limit {
		return true
	}
	below := uint8(1)<<t - 1
	switch {
	case t == 0, s.synced&(below|1<<t) == below|1<<t:
	case in.SwitchUp:
		s.synced |= 1 << t
	default:
		return true
	}
	return false
}

// begin starts a run with its first packet.
func (s *Switch) begin(in *In) {
	s.offset = s.continued(in) - in.Timestamp
	s.layer, s.last = in.Layer, in.Layer
	s.limit, s.synced = min(s.temporal, AllTemporal), 1
	if !s.begun {
		s.begun, s.highest, s.at, s.epoch = true, in.Timestamp-1, in.At, in.At
	}
	s.sequence.begin()
	s.pictures.begin()
}

// continued is the outgoing timestamp of the first packet of a run.
func (s *Switch) continued(in *In) uint32 {
	if !s.begun {
		return in.Timestamp
	}
	rate := float64(max(s.o.ClockRate, 1))
	t := s.highest + uint32(int64(in.At.Sub(s.at).Seconds()*rate))
	if s.last != Paused {
		by, ok := in.Timestamp, true
		if from, to := s.clocks[in.Layer], s.clocks[s.last]; in.Layer != s.last {
			ok = from.set && to.set
			ahead := float64(int64(from.ntp-to.ntp)) / (1 << 32) * rate
			by = to.rtp + uint32(int64(ahead)) + in.Timestamp - from.rtp
		}
		by += s.offset
		if off := time.Duration(float64(int32(by-t)) / rate * float64(time.Second)); ok && off.Abs() < clockTrust {
			t = by
		}
	}
	if int32(t-s.highest) <= 0 {
		t = s.highest + 1
	}
	return t
}

// rewrite makes the packet at dst[at:] what goes out.
func (s *Switch) rewrite(dst []byte, at int, h *Header, v *VP8, o *outSlot) []byte {
	b := dst[at:]
	if h.Padding > 0 {
		b = b[:len(b)-h.Padding]
		b[0] &^= 0x20
	}
	SetPayloadType(b, s.o.PayloadType)
	SetSequence(b, o.seq)
	SetTimestamp(b, h.Timestamp+o.offset)
	SetSSRC(b, s.o.SSRC)
	if o.marked {
		SetMarker(b, true)
	}
	if v.HasPicture && s.o.Codec == CodecVP8 {
		v.set(b[h.Size:], o.picture, o.tl0)
	}
	return dst[:at+len(b)]
}

func (s *Switch) padding(dst []byte, timestamp uint32, o *outSlot) []byte {
	h := Header{PayloadType: s.o.PayloadType, Sequence: o.seq, Timestamp: timestamp + o.offset, SSRC: s.o.SSRC}
	return h.AppendPadding(dst, 1)
}

// Resend appends the packet that a receiver asks for again, by its outgoing number, as
// it was. caches are those of the layers, of packets as they came. It reports false if
// it is not to be had, or was sent again less than `spacing` ago (a round trip: the
// answer may be under way).
func (s *Switch) Resend(dst []byte, seq uint16, now time.Time, spacing time.Duration, caches []*Cache) ([]byte, bool) {
	o := s.sequence.slot(seq)
	if o == nil || int(o.layer) >= len(caches) || caches[o.layer] == nil {
		return dst, false
	}
	ms := max(uint32(now.Sub(s.epoch)/time.Millisecond), 1)
	if o.again != 0 && ms-o.again < uint32(spacing/time.Millisecond) {
		return dst, false
	}
	at := len(dst)
	dst, ok := caches[o.layer].Get(dst, o.in)
	in := &s.parsed
	in.Layer, in.At = int(o.layer), s.at
	if !ok || in.Parse(dst[at:], s.o.Codec) != nil {
		return dst[:at], false
	}
	if o.outcome == statePending { // came before its run began
		if o.run != s.sequence.run || int(o.layer) != s.layer {
			return dst[:at], false
		}
		var do state
		if o, do = s.place(in); do == stateLeftOut {
			return dst[:at], false
		}
	}
	o.again = ms
	if o.outcome == statePadding {
		return s.padding(dst[:at], in.Timestamp, o), true
	}
	return s.rewrite(dst, at, &in.Header, &in.vp8, o), true
}
