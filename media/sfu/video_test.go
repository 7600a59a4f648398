package sfu_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sdp"
	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// camera sends pictures of VP8 in layers, each with numbers of its own. The payload says
// its layer and picture.
type camera struct {
	*sender
	layers []*webrtc.TrackLocalStaticRTP
	rates  []int // bit/s
	keys   time.Duration
	client *sfutest.Client // of simulcast: whose packets have to say what they are
}

// names are the identifiers of the header extensions by which a packet says what it is.
func (c *camera) names() (mid string, midID, ridID uint8) {
	for _, tr := range c.client.Up.GetTransceivers() {
		if tr.Kind() != webrtc.RTPCodecTypeVideo {
			continue
		}
		for _, e := range tr.Sender().GetParameters().HeaderExtensions {
			switch e.URI {
			case sdp.URIMid:
				midID = uint8(e.ID)
			case sdp.URIRid:
				ridID = uint8(e.ID)
			}
		}
		mid = tr.Mid()
	}
	return mid, midID, ridID
}

func newCamera(t testing.TB, rates ...int) (*camera, sfutest.Track) {
	c := &camera{sender: &sender{stop: make(chan struct{}), over: make(chan struct{})}, rates: rates, keys: 500 * time.Millisecond}
	names := []string{"q", "h", "f"}
	for i := range rates {
		var o []func(*webrtc.TrackLocalStaticRTP)
		if len(rates) > 1 {
			o = append(o, webrtc.WithRTPStreamID(names[i]))
		}
		l, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90_000}, "camera", "me", o...)
		require.NoError(t, err)
		c.layers = append(c.layers, l)
	}
	return c, sfutest.Track{Source: wire.CallSource_CAMERA, Layers: c.layers}
}

const frameEvery = 33 * time.Millisecond

func (c *camera) start(t testing.TB) {
	t.Cleanup(c.end)
	go func() {
		defer close(c.over)
		tick := time.NewTicker(frameEvery)
		defer tick.Stop()
		seq := []uint16{100, 30_000, 65_530}
		pic := []uint16{5, 20_000, 32_760}
		ts := []uint32{1, 1 << 31, 1<<32 - 10_000}
		lastKey := time.Time{}
		for frame := 0; ; frame++ {
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
			key := time.Since(lastKey) >= c.keys
			if key {
				lastKey = time.Now()
			}
			for l, track := range c.layers {
				size := c.rates[l] / 8 * int(frameEvery) / int(time.Second)
				n := size/1_100 + 1
				for i := range n {
					b := make([]byte, max(size/n, 24))
					b[0], b[1], b[2], b[3], b[4] = 0x80, 0xC0, 0x80|byte(pic[l]>>8), byte(pic[l]), byte(pic[l])
					b[5] = 1
					if i == 0 {
						b[0] |= 0x10
						if key {
							copy(b[5:], []byte{0, 0, 0, 0x9d, 0x01, 0x2a})
							binary.LittleEndian.PutUint16(b[11:], uint16(320<<l))
							binary.LittleEndian.PutUint16(b[13:], uint16(180<<l))
						}
					}
					b[16] = byte(l)
					p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: seq[l], Timestamp: ts[l], Marker: i == n-1}, Payload: b}
					seq[l]++
					if c.client != nil && frame < 60 {
						mid, midID, ridID := c.names()
						if midID != 0 {
							_ = p.SetExtension(midID, []byte(mid))
							_ = p.SetExtension(ridID, []byte(track.RID()))
						}
					}
					if track.WriteRTP(p) == nil {
						c.sent.Add(1)
					}
				}
				pic[l] = (pic[l] + 1) & 0x7fff
				ts[l] += 2_970
			}
		}
	}()
}

func (st *stream) layer() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.payload) < 17 {
		return -1
	}
	return int(st.payload[16])
}

func TestVideoIsSeen(t *testing.T) {
	s := serve(t, sfu.Options{})
	ann, ben := join(t, s, "ann", sfutest.Options{}), join(t, s, "ben", sfutest.Options{})
	snd, track := newCamera(t, 500_000)
	voice, vt := mic(t)
	require.NoError(t, ann.client.Publish(vt, track))
	src, vs := ann.source(wire.CallSource_CAMERA), ann.source(wire.CallSource_MIC)
	ben.peer.Subscribe([]media.Subscription{{Source: vs, Flow: true}})
	ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true, Height: 720}, {Source: vs, Flow: true}})
	snd.start(t)
	voice.start(t, 20*time.Millisecond)
	st := ben.stream(src.Track().ID)
	require.Eventually(t, func() bool { return st.count() > 100 && ben.stream(vs.Track().ID).count() > 20 }, 8*time.Second, time.Millisecond, "%+v", s.Stats())
	requireGapless(t, st)
}
