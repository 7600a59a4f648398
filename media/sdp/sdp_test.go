package sdp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/ice"
)

// offer is one of Chromium, shortened: a microphone, a camera in three layers.
const offer = `v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=extmap-allow-mixed
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=ice-options:trickle
a=fingerprint:sha-256 1F:2E:3D:4C:5B:6A:79:88:97:A6:B5:C4:D3:E2:F1:00:1F:2E:3D:4C:5B:6A:79:88:97:A6:B5:C4:D3:E2:F1:00
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1
a=rtpmap:63 red/48000/2
a=rtpmap:0 PCMU/8000
a=ssrc:1001 cname:x
m=video 9 UDP/TLS/RTP/SAVPF 45 96 97 102 103
c=IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=fingerprint:sha-256 1F:2E:3D:4C:5B:6A:79:88:97:A6:B5:C4:D3:E2:F1:00:1F:2E:3D:4C:5B:6A:79:88:97:A6:B5:C4:D3:E2:F1:00
a=setup:actpass
a=mid:1
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=sendonly
a=rtcp-mux
a=rtpmap:45 AV1/90000
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=rid:q send
a=rid:h send
a=rid:f send
a=simulcast:send q;h;f
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=mid:2
a=sctp-port:5000
`

func local() Local {
	return Local{
		Session: 77, Version: 3, ICE: ice.Credentials{Ufrag: "abcd", Pwd: strings.Repeat("p", 24)}, Fingerprint: "sha-256 " + strings.Repeat("AA:", 31) + "AA",
		Setup: "passive", UDP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478")}, TCP: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3478")},
	}
}

func TestAnswer(t *testing.T) {
	d, err := Parse(offer)
	require.NoError(t, err)
	tr, err := d.Transport()
	require.NoError(t, err)
	require.Equal(t, "EsAw", tr.ICE.Ufrag)
	text, taken := Answer(d, map[string]wire.CallSource{"1": wire.CallSource_SCREEN}, 8, local())
	require.Len(t, taken, 2)
	require.Equal(t, wire.CallSource_MIC, taken[0].Source)
	require.EqualValues(t, 111, taken[0].PT)
	require.Contains(t, taken[0].Codec.Params, "usedtx=1")
	require.Equal(t, wire.CallSource_SCREEN, taken[1].Source)
	require.EqualValues(t, 96, taken[1].PT, "AV1 is not known")
	require.EqualValues(t, 97, taken[1].RTX)
	require.Equal(t, []string{"q", "h", "f"}, taken[1].Rids)
	for _, line := range []string{
		"a=ice-lite", "a=group:BUNDLE 0 1", "m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "a=simulcast:recv q;h;f", "a=rid:h recv", "a=extmap:10 " + URIRid,
		"a=candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host generation 0", "tcptype passive", "a=recvonly", "a=rtcp-fb:111 nack",
	} {
		require.Contains(t, text, line)
	}
	back, err := Parse(text)
	require.NoError(t, err)
	require.Len(t, back.Sections, 3)
	require.True(t, back.Sections[2].Rejected)

	_, taken = Answer(d, nil, 1, local())
	require.Len(t, taken, 1)
	music, _ := Answer(d, map[string]wire.CallSource{"0": wire.CallSource_MUSIC}, 8, local())
	require.Contains(t, music, "stereo=1;sprop-stereo=1")
}

func TestOfferReadsBack(t *testing.T) {
	text := Offer([]Sent{
		{Mid: "0", Active: true, Track: "abc", Codec: media.Codec{MIME: "audio/opus", ClockRate: 48_000, Channels: 2}, SSRC: 5},
		{Mid: "1", Video: true, Active: true, Track: "def", Codec: media.Codec{MIME: "video/VP8", ClockRate: 90_000}, SSRC: 6, RTX: 7},
		{Mid: "2", Video: true, Codec: media.Codec{MIME: "video/VP8", ClockRate: 90_000}},
	}, local())
	d, err := Parse(text)
	require.NoError(t, err)
	require.Equal(t, []string{"0", "1", "2"}, d.Bundle)
	require.True(t, d.Sections[0].Sends)
	require.Equal(t, map[uint32]uint32{6: 7}, d.Sections[1].Repairs)
	require.False(t, d.Sections[2].Sends)
	require.EqualValues(t, ExtTransportSeq, d.Sections[1].Exts[URITransportSeq])
	require.Contains(t, text, "a=msid:def def")
}

func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"no version":    "o=- 1 1 IN IP4 0.0.0.0\n",
		"no mid":        "v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 111\n",
		"mid twice":     "v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\n",
		"not encrypted": "v=0\nm=audio 9 RTP/AVP 111\na=mid:0\n",
		"many layers":   "v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:0\na=simulcast:send a;b;c;d\n",
		"long":          "v=0\n" + strings.Repeat("a=x\n", 20_000),
		"sections":      "v=0\n" + strings.Repeat("m=audio 9 UDP/TLS/RTP/SAVPF 111\n", 500),
	} {
		_, err := Parse(text)
		require.Error(t, err, name)
	}
	d, err := Parse(strings.ReplaceAll(offer, "a=rtcp-mux\n", ""))
	require.NoError(t, err)
	_, err = d.Transport()
	require.ErrorContains(t, err, "rtcp-mux")
}

// Whatever is parsed can be answered, and the answer can be read.
func FuzzAnswer(f *testing.F) {
	f.Add(offer)
	f.Add("v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\na=rtpmap:111 opus/48000/2\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		_, _ = d.Transport()
		answer, taken := Answer(d, nil, 8, local())
		require.LessOrEqual(t, len(taken), 8)
		back, err := Parse(answer)
		require.NoError(t, err, answer)
		require.Len(t, back.Sections, len(d.Sections))
	})
}
