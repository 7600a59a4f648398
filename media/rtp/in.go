package rtp

import "time"

// In is an incoming packet, read once for all who get it.
type In struct {
	Header
	Bytes []byte    // the whole packet
	Layer int       // of simulcast, 0 to 2: for the caller to set, as is At
	At    time.Time // of arrival

	Start bool // first packet of a frame, as far as the codec tells
	// Key: with this packet a decoder can begin. Of H.264 it is one with a sequence
	// parameter set, which comes before the slices.
	Key         bool
	HasTemporal bool
	Temporal    uint8 // layer
	SwitchUp    bool  // one may go up to this temporal layer here
	Empty       bool  // padding only

	vp8 VP8
	is  Codec
}

// Parse reads a packet, which it keeps. A payload that is malformed for its codec is an
// error as well: ErrMalformed.
func (p *In) Parse(b []byte, codec Codec) error {
	*p = In{Layer: p.Layer, At: p.At, Bytes: b, is: codec}
	if len(b) > MaxPacket {
		return ErrMalformed
	}
	if err := p.Header.Parse(b); err != nil {
		return err
	}
	payload := p.Payload(b)
	if p.Empty = len(payload) == 0; p.Empty {
		return nil
	}
	switch codec {
	case CodecVP8:
		if err := p.vp8.Parse(payload); err != nil {
			return err
		}
		v := &p.vp8
		p.Start, p.Key = v.Start, v.Key
		p.HasTemporal, p.Temporal, p.SwitchUp = v.HasTemporal, v.Temporal, v.Sync
	case CodecVP9:
		var v VP9
		if err := v.Parse(payload); err != nil {
			return err
		}
		p.Start, p.Key = v.Start, v.Start && v.Key
		p.HasTemporal, p.Temporal, p.SwitchUp = v.HasLayers, v.Temporal, v.SwitchUp
	case CodecH264:
		var v H264
		if err := v.Parse(payload); err != nil {
			return err
		}
		p.Start, p.Key = v.SPS, v.SPS
	default:
		p.Start, p.Key = true, true
	}
	return nil
}
