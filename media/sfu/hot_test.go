package sfu

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sdp"
	"github.com/mustermesh/muster/media/udp"
)

// quiet is a host that listens to nothing.
type quiet struct{}

func (quiet) Describe(*wire.CallDescription)                  {}
func (quiet) Published(media.Source)                          {}
func (quiet) Unpublished(string)                              {}
func (quiet) Quality(*wire.CallQuality)                       {}
func (quiet) Connected(wire.CallDescription_Connection, bool) {}

// bench is a publisher and receivers whose handshakes are taken as done.
func bench(t testing.TB, receivers int) (*up, *writer) {
	s, err := New(Options{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Bitrate: 1 << 40})
	require.NoError(t, err)
	require.NoError(t, s.Start(context.Background()))
	t.Cleanup(s.Stop)
	join := func() *peer {
		p, err := s.Join(media.PeerConfig{Events: quiet{}, TrackID: func(c wire.CallSource) string { return c.String() }})
		require.NoError(t, err)
		return p.(*peer)
	}
	u := join().up
	u.publishLocked([]sdp.Accepted{{Mid: "0", Source: wire.CallSource_CAMERA, Video: true, Codec: media.Codec{MIME: "video/VP8", ClockRate: 90_000}, PT: 96, SSRCs: []uint32{7}, Exts: map[string]uint8{sdp.URITransportSeq: 3}}})
	src := u.sections["0"].src
	for range receivers {
		d := join().down
		d.subscribe([]media.Subscription{{Source: src, Flow: true, Height: 720}})
		sub := d.subs[src.track.ID]
		sub.answered(true, true)
		sub.mu.Lock()
		sub.want = 0
		sub.mu.Unlock()
		d.mu.Lock()
		d.alloc.next = 1 << 60
		d.mu.Unlock()
		out, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
		require.NoError(t, err)
		d.conn.outMu.Lock()
		d.conn.out = out
		d.conn.outMu.Unlock()
		d.conn.path.Store(&route{addr: netip.MustParseAddrPort("127.0.0.1:9")})
	}
	return u, &writer{b: s.sockets[0].NewBatch()}
}

// next writes a packet of a client as it is after decryption.
func next(room []byte, seq uint16, size int, key bool) []byte {
	b := room[udp.Headroom:]
	b[0], b[1] = 0x90, 96
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], uint32(seq)*300)
	binary.BigEndian.PutUint32(b[8:], 7)
	copy(b[12:], []byte{0xBE, 0xDE, 0, 1, 0x31, byte(seq >> 8), byte(seq), 0})
	b[20], b[21] = 0x10, 1
	if key {
		b[21] = 0
	}
	return room[:udp.Headroom+20+size]
}

// Nothing is allocated for a packet that is forwarded, from where it was decrypted to
// where the kernel has it.
func TestForwardingAllocatesNothing(t *testing.T) {
	u, w := bench(t, 10)
	room := make([]byte, udp.Headroom+udp.Size)
	seq := uint16(0)
	one := func() {
		u.mediaMu.Lock()
		u.feedback.BuildFeedbackPacket() // what is reported is the report's, not the packet's
		u.mediaMu.Unlock()
		for range 10 {
			u.rtp(w, next(room, seq, 1_100, seq%300 == 0))
			seq++
		}
		w.b.Flush()
	}
	for range 300 { // until the cache has its memory
		one()
	}
	before := u.s.Stats().PacketsForwarded
	// Feedback for the sender and reports to receivers, a few a second, are not counted.
	require.Less(t, testing.AllocsPerRun(200, one)/100, 0.5)
	require.GreaterOrEqual(t, u.s.Stats().PacketsForwarded-before, uint64(20_000))
}

func BenchmarkForward(b *testing.B) {
	u, w := bench(b, 10)
	room := make([]byte, udp.Headroom+udp.Size)
	b.ReportAllocs()
	for i := range b.N {
		u.rtp(w, next(room, uint16(i), 1_100, i%300 == 0))
		if i%10 == 9 {
			w.b.Flush()
		}
	}
	b.ReportMetric(float64(b.N*10)/b.Elapsed().Seconds(), "forwarded/s")
}

// No packet of a client makes it panic, or makes more of it than limits allow.
func FuzzPacket(f *testing.F) {
	room := make([]byte, udp.Headroom+udp.Size)
	f.Add(append([]byte(nil), next(room, 1, 40, true)[udp.Headroom:]...))
	f.Add([]byte{0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0x90, 0xC0, 0x80, 1, 2, 0})
	f.Add([]byte{0xBF, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1})
	u, w := bench(f, 1)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > udp.Size {
			return
		}
		copy(room[udp.Headroom:], b)
		u.rtp(w, room[:udp.Headroom+len(b)])
		u.rtcp(w, b)
		for p := range u.s.peers {
			p.down.rtcp(w, b)
		}
		w.b.Flush()
		require.LessOrEqual(t, len(u.streams), maxTracks*sdp.MaxRids*2)
		p := packet{payload: b}
		for _, f := range []format{formatVP8, formatVP9, formatH264} {
			p.describe(f)
		}
	})
}

// Nothing that comes by UDP makes it panic, whoever sent it.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0})
	f.Add([]byte{0x80, 200, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	u, w := bench(f, 1)
	room := make([]byte, udp.Headroom+udp.Size)
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) > udp.Size {
			return
		}
		copy(room[udp.Headroom:], b)
		u.s.datagram(w, netip.MustParseAddrPort("127.0.0.1:9"), nil, room[:udp.Headroom+len(b)])
		w.b.Flush()
	})
}
