package sdp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/ice"
)

// Local is what all of our descriptions say about a connection.
type Local struct {
	Session     uint64 // of the o= line: the same for all of a connection's descriptions
	Version     uint64 // grows with each
	ICE         ice.Credentials
	Fingerprint string // "sha-256 AB:CD:…"
	Setup       string
	UDP         []netip.AddrPort // our candidates, the best first
	TCP         []netip.AddrPort
}

// Accepted is a section of an offer for "up" that is taken: how its packets are known.
type Accepted struct {
	Mid     string
	Source  wire.CallSource
	Video   bool
	Codec   media.Codec
	PT      uint8 // the participant's
	RTX     uint8 // the participant's; 0: none
	Exts    map[string]uint8
	Rids    []string // of simulcast
	SSRCs   []uint32 // of the layers; may be empty: then packets say what they are
	Repairs map[uint32]uint32
}

// Answer takes what can be taken of an offer for "up" and writes the answer. sources
// says what sections are, by mid; sections that it lacks and whose kind is audio or
// video are a microphone or a camera. most is how many may be taken.
func Answer(d *Description, sources map[string]wire.CallSource, most int, l Local) (string, []Accepted) {
	var taken []Accepted
	var b, body strings.Builder
	var mids []string
	for i := range d.Sections {
		s := &d.Sections[i]
		a, active, ok := accept(s, sources)
		if !ok || !slices.Contains(d.Bundle, s.Mid) || active && len(taken) == most {
			proto, format := "UDP/TLS/RTP/SAVPF", "0"
			if s.Kind != "audio" && s.Kind != "video" {
				proto, format = "UDP/DTLS/SCTP", "webrtc-datachannel"
			}
			fmt.Fprintf(&body, "m=%s 0 %s %s\r\nc=IN IP4 0.0.0.0\r\na=mid:%s\r\na=inactive\r\n", kind(s.Kind), proto, format, s.Mid)
			continue
		}
		mids = append(mids, s.Mid)
		pts := fmt.Sprint(a.PT)
		if a.RTX != 0 {
			pts += fmt.Sprint(" ", a.RTX)
		}
		fmt.Fprintf(&body, "m=%s 9 UDP/TLS/RTP/SAVPF %s\r\n", s.Kind, pts)
		l.transport(&body)
		fmt.Fprintf(&body, "a=mid:%s\r\n", s.Mid)
		if active {
			body.WriteString("a=recvonly\r\n")
			taken = append(taken, a)
		} else {
			body.WriteString("a=inactive\r\n")
		}
		codec(&body, a.Codec, a.PT, a.RTX)
		for _, uri := range []string{URILevel, URITransportSeq, URIMid, URIRid, URIRepairedRid} {
			if id, ok := a.Exts[uri]; ok {
				fmt.Fprintf(&body, "a=extmap:%d %s\r\n", id, uri)
			}
		}
		if len(a.Rids) > 0 {
			for _, r := range a.Rids {
				fmt.Fprintf(&body, "a=rid:%s recv\r\n", r)
			}
			fmt.Fprintf(&body, "a=simulcast:recv %s\r\n", strings.Join(a.Rids, ";"))
		}
	}
	l.head(&b, mids)
	return b.String() + body.String(), taken
}

func kind(k string) string {
	switch k {
	case "audio", "video":
		return k
	}
	return "application"
}

// accept decides about a section. active: something is sent there.
func accept(s *Section, sources map[string]wire.CallSource) (a Accepted, active, ok bool) {
	video := s.Kind == "video"
	if s.Rejected || !video && s.Kind != "audio" {
		return a, false, false
	}
	a = Accepted{Mid: s.Mid, Source: sources[s.Mid], Video: video, Exts: s.Exts, Rids: s.Rids, Repairs: s.Repairs}
	switch {
	case a.Source == wire.CallSource_CALL_SOURCE_UNSPECIFIED && video:
		a.Source = wire.CallSource_CAMERA
	case a.Source == wire.CallSource_CALL_SOURCE_UNSPECIFIED:
		a.Source = wire.CallSource_MIC
	}
	if video != (a.Source == wire.CallSource_CAMERA || a.Source == wire.CallSource_SCREEN) {
		return a, false, false
	}
	i := slices.IndexFunc(s.Codecs, func(c Codec) bool { return c.supported(video) })
	if i < 0 {
		return a, false, false
	}
	c := s.Codecs[i]
	a.PT, a.Codec = c.PT, c.accepted(a.Source == wire.CallSource_MUSIC || a.Source == wire.CallSource_SCREEN_AUDIO)
	for _, r := range s.Codecs {
		if r.Name == "rtx" && r.APT == c.PT {
			a.RTX = r.PT
		}
	}
	switch {
	case len(a.Rids) > 0: // the SSRCs are known by the packets
	case len(s.Sim) > 0:
		a.SSRCs = s.Sim
	case len(s.SSRCs) > 0:
		// The first that repeats no other.
		repairs := map[uint32]bool{}
		for _, r := range s.Repairs {
			repairs[r] = true
		}
		for _, ssrc := range s.SSRCs {
			if !repairs[ssrc] {
				a.SSRCs = []uint32{ssrc}
				break
			}
		}
	}
	return a, s.Sends, true
}

// Sent is a section of our offer for "down".
type Sent struct {
	Mid       string
	Video     bool
	Active    bool // else it waits for another track
	Track     string
	Codec     media.Codec
	SSRC, RTX uint32
}

// Offer writes an offer for "down".
func Offer(sections []Sent, l Local) string {
	var b, body strings.Builder
	var mids []string
	for _, s := range sections {
		mids = append(mids, s.Mid)
		pt, _ := PayloadType(s.Codec)
		kind, rtx, pts := "audio", uint8(0), fmt.Sprint(pt)
		if s.Video {
			kind, rtx = "video", RTX(pt)
			pts += fmt.Sprint(" ", rtx)
		}
		fmt.Fprintf(&body, "m=%s 9 UDP/TLS/RTP/SAVPF %s\r\n", kind, pts)
		l.transport(&body)
		fmt.Fprintf(&body, "a=mid:%s\r\n", s.Mid)
		if s.Active {
			fmt.Fprintf(&body, "a=sendonly\r\na=msid:%s %s\r\n", s.Track, s.Track)
		} else {
			body.WriteString("a=inactive\r\n")
		}
		codec(&body, s.Codec, pt, rtx)
		if !s.Video {
			fmt.Fprintf(&body, "a=extmap:%d %s\r\n", ExtLevel, URILevel)
		}
		fmt.Fprintf(&body, "a=extmap:%d %s\r\n", ExtTransportSeq, URITransportSeq)
		if s.Active {
			if rtx != 0 {
				fmt.Fprintf(&body, "a=ssrc-group:FID %d %d\r\n", s.SSRC, s.RTX)
			}
			fmt.Fprintf(&body, "a=ssrc:%d cname:muster\r\na=ssrc:%d msid:%s %s\r\n", s.SSRC, s.SSRC, s.Track, s.Track)
			if rtx != 0 {
				fmt.Fprintf(&body, "a=ssrc:%d cname:muster\r\na=ssrc:%d msid:%s %s\r\n", s.RTX, s.RTX, s.Track, s.Track)
			}
		}
	}
	l.head(&b, mids)
	return b.String() + body.String()
}

func (l Local) head(b *strings.Builder, mids []string) {
	fmt.Fprintf(b, "v=0\r\no=- %d %d IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", l.Session>>1, l.Version)
	if len(mids) > 0 {
		fmt.Fprintf(b, "a=group:BUNDLE %s\r\n", strings.Join(mids, " "))
	}
	b.WriteString("a=ice-lite\r\na=msid-semantic: WMS *\r\n")
}

// transport writes what each section says again: any of them may be the one that
// carries all.
func (l Local) transport(b *strings.Builder) {
	fmt.Fprintf(b, "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=fingerprint:%s\r\na=setup:%s\r\na=rtcp-mux\r\na=rtcp-rsize\r\n",
		l.ICE.Ufrag, l.ICE.Pwd, l.Fingerprint, l.Setup)
	// Priorities by RFC 8445 section 5.1.2.1: hosts; UDP before TCP (RFC 6544 section 4.2).
	for i, a := range l.UDP {
		fmt.Fprintf(b, "a=candidate:%d 1 udp %d %s %d typ host generation 0\r\n", i+1, 126<<24|uint32(65_535-i)<<8|255, a.Addr(), a.Port())
	}
	for i, a := range l.TCP {
		fmt.Fprintf(b, "a=candidate:%d 1 tcp %d %s %d typ host tcptype passive generation 0\r\n", i+101, 90<<24|4<<21|uint32(8_191-i)<<8|255, a.Addr(), a.Port())
	}
	b.WriteString("a=end-of-candidates\r\n")
}

func codec(b *strings.Builder, c media.Codec, pt, rtx uint8) {
	fmt.Fprintf(b, "a=rtpmap:%d %s\r\n", pt, rtpmap(c))
	if c.Params != "" {
		fmt.Fprintf(b, "a=fmtp:%d %s\r\n", pt, c.Params)
	}
	fmt.Fprintf(b, "a=rtcp-fb:%d transport-cc\r\na=rtcp-fb:%d nack\r\n", pt, pt)
	if strings.HasPrefix(c.MIME, "video/") {
		fmt.Fprintf(b, "a=rtcp-fb:%d nack pli\r\na=rtcp-fb:%d ccm fir\r\n", pt, pt)
	}
	if rtx != 0 {
		fmt.Fprintf(b, "a=rtpmap:%d rtx/%d\r\na=fmtp:%d apt=%d\r\n", rtx, c.ClockRate, rtx, pt)
	}
}
