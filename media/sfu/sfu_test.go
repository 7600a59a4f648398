package sfu_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// soon is how long anything may take on a machine that is busy with other things.
const soon = 30 * time.Second

func serve(t testing.TB, o sfu.Options) *sfu.Server {
	if !o.Listen.IsValid() {
		o.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	s, err := sfu.New(o)
	require.NoError(t, err)
	require.NoError(t, s.Start(context.Background()))
	t.Cleanup(s.Stop)
	return s
}

// person is a participant: the peer at the server and the client, joined directly.
type person struct {
	t      testing.TB
	name   string
	peer   media.Peer
	client *sfutest.Client
	left   atomic.Bool

	mu        sync.Mutex
	published map[string]media.Source
	connected map[wire.CallDescription_Connection]bool
	quality   *wire.CallQuality
	streams   map[string]*stream
}

// stream is what came of a track.
type stream struct {
	mu      sync.Mutex
	packets []rtp.Header
	seen    map[uint16]int
	bytes   int
	payload []byte
	ssrc    webrtc.SSRC
	at      []time.Time
}

func join(t testing.TB, s *sfu.Server, name string, o sfutest.Options) *person {
	p := &person{
		t: t, name: name, published: map[string]media.Source{}, connected: map[wire.CallDescription_Connection]bool{}, streams: map[string]*stream{},
	}
	var err error
	p.peer, err = s.Join(media.PeerConfig{Name: name, Events: p, TrackID: func(src wire.CallSource) string { return media.TrackID("call", name, "d", src) }})
	require.NoError(t, err)
	p.client, err = sfutest.New(o, func(d *wire.CallDescription) error { return p.peer.Describe(d) })
	require.NoError(t, err)
	p.client.OnTrack(p.ontrack)
	t.Cleanup(p.leave)
	return p
}

func (p *person) leave() {
	p.left.Store(true)
	p.peer.Close()
	p.client.Close()
}

func (p *person) Describe(d *wire.CallDescription) {
	if err := p.client.Receive(d); err != nil && !p.left.Load() {
		p.t.Errorf("%s: %v\n%s", p.name, err, d.GetSdp())
	}
}

func (p *person) Published(s media.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published[s.Track().ID] = s
}

func (p *person) Unpublished(track string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.published, track)
}

func (p *person) Quality(q *wire.CallQuality) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quality = q
}

func (p *person) Connected(c wire.CallDescription_Connection, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected[c] = yes
}

func (p *person) ontrack(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	st := p.stream(t.StreamID())
	for {
		pkt, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		st.mu.Lock()
		st.ssrc = t.SSRC()
		st.packets = append(st.packets, pkt.Header)
		st.seen[pkt.SequenceNumber]++
		st.bytes += len(pkt.Payload)
		st.payload = append(st.payload[:0], pkt.Payload...)
		st.at = append(st.at, time.Now())
		st.mu.Unlock()
	}
}

func (p *person) stream(track string) *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.streams[track]
	if st == nil {
		st = &stream{seen: map[uint16]int{}}
		p.streams[track] = st
	}
	return st
}

func (st *stream) count() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.packets)
}

func (p *person) source(kind wire.CallSource) (src media.Source) {
	id := media.TrackID("call", p.name, "d", kind)
	require.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		src = p.published[id]
		return src != nil
	}, soon, time.Millisecond)
	return src
}

// sender sends packets of a kind at a pace until it is stopped.
type sender struct {
	track *webrtc.TrackLocalStaticRTP
	seq   uint16
	ts    uint32
	sent  atomic.Int64
	stop  chan struct{}
	over  chan struct{}
}

func mic(t testing.TB) (*sender, sfutest.Track) {
	l, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2}, "mic", "me")
	require.NoError(t, err)
	return &sender{track: l, seq: 65_500, stop: make(chan struct{}), over: make(chan struct{})}, sfutest.Track{Source: wire.CallSource_MIC, Layers: []*webrtc.TrackLocalStaticRTP{l}}
}

func (s *sender) start(t testing.TB, every time.Duration) {
	t.Cleanup(s.end)
	go func() {
		defer close(s.over)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: s.seq, Timestamp: s.ts}, Payload: fmt.Appendf(nil, "audio %d", s.seq)}
			s.seq++
			s.ts += uint32(every.Seconds() * 48_000)
			if s.track.WriteRTP(p) == nil {
				s.sent.Add(1)
			}
		}
	}()
}

func (s *sender) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.over
}

func TestAudioIsHeard(t *testing.T) {
	for name, o := range map[string]sfutest.Options{"UDP": {}, "TCP": {TCP: true}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, sfu.Options{TCP: true})
			ann, ben := join(t, s, "ann", o), join(t, s, "ben", o)
			snd, track := mic(t)
			require.NoError(t, ann.client.Publish(track))
			src := ann.source(wire.CallSource_MIC)
			ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
			snd.start(t, 5*time.Millisecond)
			st := ben.stream(src.Track().ID)
			require.Eventually(t, func() bool { return st.count() > 200 }, soon, time.Millisecond)
			requireGapless(t, st)
			st.mu.Lock()
			require.Contains(t, string(st.payload), "audio ")
			st.mu.Unlock()
			require.True(t, func() bool {
				ben.mu.Lock()
				defer ben.mu.Unlock()
				return ben.connected[wire.CallDescription_DOWN]
			}())
		})
	}
}

// requireGapless: what was received has each number once, without holes, though it may
// be out of order.
func requireGapless(t testing.TB, st *stream) {
	st.mu.Lock()
	defer st.mu.Unlock()
	lo := st.packets[0].SequenceNumber
	hi := lo
	for _, p := range st.packets {
		if p.SequenceNumber-lo >= 0x8000 {
			lo = p.SequenceNumber
		}
		if p.SequenceNumber-hi < 0x8000 {
			hi = p.SequenceNumber
		}
	}
	for s := lo; s != hi; s++ {
		if st.seen[s] != 1 {
			t.Fatalf("number %d came %d times (from %d to %d)", s, st.seen[s], lo, hi)
		}
	}
}
