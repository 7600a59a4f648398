package sdp

import (
	"strconv"
	"strings"

	"github.com/mustermesh/muster/media"
)

// Codec is a payload type of a media section.
type Codec struct {
	PT       uint8
	Name     string // lower case: "opus"
	Clock    uint32
	Channels uint16
	Params   string // of a=fmtp
	APT      uint8  // of "rtx": what it repeats
}

// Payload types and identifiers of header extensions as the SFUs use them among
// themselves and towards receivers.
const (
	Opus   = 111
	Stereo = 112 // Opus with other parameters: music
	VP8    = 96
	H264   = 102
	VP9    = 98

	ExtLevel        = 1 // audio level, RFC 6464
	ExtTransportSeq = 3 // transport-wide sequence number
	rtxAfter        = 1 // RTX has the payload type after its codec's
)

// URIs of the header extensions that are used.
const (
	URILevel        = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	URITransportSeq = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	URIMid          = "urn:ietf:params:rtp-hdrext:sdes:mid"
	URIRid          = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	URIRepairedRid  = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
)

// PayloadType is what the packets of a codec have among SFUs and towards receivers.
// ok is false for a codec that is not forwarded.
func PayloadType(c media.Codec) (pt uint8, ok bool) {
	switch strings.ToLower(c.MIME) {
	case "audio/opus":
		if param(c.Params, "stereo") == "1" {
			return Stereo, true
		}
		return Opus, true
	case "video/vp8":
		return VP8, true
	case "video/h264":
		return H264, true
	case "video/vp9":
		return VP9, true
	}
	return 0, false
}

// RTX is the payload type of repeats.
func RTX(pt uint8) uint8 { return pt + rtxAfter }

// supported reports whether a codec of an offer can be forwarded.
func (c Codec) supported(video bool) bool {
	switch c.Name {
	case "opus":
		return !video && c.Clock == 48_000 && c.Channels == 2
	case "vp8":
		return video && c.Clock == 90_000
	case "vp9":
		p := param(c.Params, "profile-id")
		return video && c.Clock == 90_000 && (p == "" || p == "0")
	case "h264":
		// The profiles that every receiver decodes: (constrained) baseline.
		p := strings.ToLower(param(c.Params, "profile-level-id"))
		return video && c.Clock == 90_000 && param(c.Params, "packetization-mode") == "1" && (strings.HasPrefix(p, "42e0") || strings.HasPrefix(p, "4200"))
	}
	return false
}

// Accepted is the codec as the SFUs have it. Music is stereo, whatever the offer says.
func (c Codec) accepted(music bool) media.Codec {
	switch c.Name {
	case "opus":
		params := "minptime=10;useinbandfec=1"
		if music {
			params += ";stereo=1;sprop-stereo=1;maxaveragebitrate=160000"
		} else if param(c.Params, "usedtx") == "1" {
			params += ";usedtx=1"
		}
		return media.Codec{MIME: "audio/opus", ClockRate: 48_000, Channels: 2, Params: params}
	case "h264":
		return media.Codec{MIME: "video/H264", ClockRate: 90_000, Params: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=" + strings.ToLower(param(c.Params, "profile-level-id"))}
	case "vp9":
		return media.Codec{MIME: "video/VP9", ClockRate: 90_000, Params: "profile-id=0"}
	}
	return media.Codec{MIME: "video/VP8", ClockRate: 90_000}
}

// param finds a parameter of a=fmtp.
func param(params, name string) string {
	for p := range strings.SplitSeq(params, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// rtpmap is the value of a=rtpmap behind the payload type.
func rtpmap(c media.Codec) string {
	_, name, _ := strings.Cut(c.MIME, "/")
	s := name + "/" + strconv.Itoa(int(c.ClockRate))
	if c.Channels > 0 {
		s += "/" + strconv.Itoa(int(c.Channels))
	}
	return s
}
