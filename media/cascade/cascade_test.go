package cascade

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/media/rtp"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// packet is one of a length that can be told from others.
func packet(n, size int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, size)
	binary.BigEndian.PutUint32(b, uint32(n))
	return b
}

func TestPacketsCrossInOneOrTwoDatagrams(t *testing.T) {
	s, r := NewSender(Config{Stream: 9}), NewReceiver(ReceiverConfig{Stream: 9})
	for i, size := range []int{12, 1142, 1143, 1144, rtp.MaxPacket} {
		first, second, err := s.Frame(nil, packet(i, size), start)
		require.NoError(t, err)
		assert.Equal(t, size > 1143, second != nil)
		assert.LessOrEqual(t, max(len(first), len(second)), 1150)
		stream, kind, err := Parse(first)
		require.NoError(t, err)
		assert.EqualValues(t, 9, stream)
		assert.Equal(t, KindMedia, kind)
		got, err := r.Media(first, start)
		require.NoError(t, err)
		if second != nil {
			assert.Nil(t, got)
			got, err = r.Media(second, start)
			require.NoError(t, err)
		}
		assert.Equal(t, packet(i, size), got)
		for _, d := range [][]byte{first, second} {
			if d != nil {
				got, err = r.Media(d, start)
				require.NoError(t, err)
				assert.Nil(t, got, "for the second time")
			}
		}
	}
	_, _, err := s.Frame(nil, packet(0, rtp.MaxPacket+1), start)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = s.Frame(nil, nil, start)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = NewSender(Config{MaxDatagram: 100}).Frame(nil, packet(0, 200), start)
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = NewReceiver(ReceiverConfig{Stream: 8}).Media([]byte{0, 0, 0, 0, 9, 0, 0, 1}, start)
	require.ErrorIs(t, err, ErrMalformed, "another stream")
	assert.Equal(t, Stats{Packets: 5, Datagrams: 14, Bytes: 2*(12+1142+1143+1144+rtp.MaxPacket) + 14*headSize, Duplicate: 7}, r.Stats())
}

// link carries datagrams both ways: with loss, delay, and some that overtake others.
type link struct {
	r     *rand.Rand
	loss  float64
	delay time.Duration
	vary  time.Duration
	way   []flying
}

type flying struct {
	at   time.Time
	data []byte
	back bool
}

func (l *link) send(data []byte, now time.Time, back bool) {
	if data == nil || l.r.Float64() < l.loss {
		return
	}
	at := now.Add(l.delay + time.Duration(l.r.Int64N(int64(l.vary)+1)))
	l.way = append(l.way, flying{at, bytes.Clone(data), back})
}

// outcome of a run.
type outcome struct {
	packets, missing int
	latest           time.Duration // between a packet and its arrival
	dear             float64       // bytes on the link for each of media
	sent, received   Stats
}

// cross sends `frames` bursts of packets, 33 ms apart, of which some are of two
// datagrams, over a link.
func cross(t testing.TB, seed uint64, loss float64, delay, vary time.Duration, frames int) (o outcome) {
	l := &link{r: rand.New(rand.NewPCG(seed, 7)), loss: loss, delay: delay, vary: vary}
	s, r := NewSender(Config{Stream: 1, History: 2048, Size: 1150}), NewReceiver(ReceiverConfig{Stream: 1})
	var sent []time.Time
	got := map[int]bool{}
	media := 0
	now, lost := start, 0
	for tick := 0; tick < frames*33/5+400; tick++ {
		if tick%7 == 0 && tick/7 < frames*5/7 {
			for range 1 + l.r.IntN(8) {
				p := packet(len(sent), 100+l.r.IntN(1200))
				sent = append(sent, now)
				first, second, err := s.Frame(nil, p, now)
				require.NoError(t, err)
				l.send(first, now, false)
				l.send(second, now, false)
				media += len(p) + headSize
				if second != nil {
					media += headSize
				}
			}
		}
		l.send(s.Tail(nil, now), now, false)
		request, n := r.Ask(nil, now, 2*delay+vary)
		lost += n
		l.send(request, now, true)
		way := l.way
		l.way = nil
		for _, f := range way {
			switch {
			case f.at.After(now):
				l.way = append(l.way, f)
			case f.back:
				require.NoError(t, s.Repair(f.data, func(d []byte) { l.send(d, now, false) }))
			default:
				p, err := r.Media(f.data, now)
				require.NoError(t, err)
				if p == nil {
					continue
				}
				n := int(binary.BigEndian.Uint32(p))
				require.False(t, got[n], "twice")
				require.Equal(t, packet(n, len(p)), p)
				got[n] = true
				o.latest = max(o.latest, now.Sub(sent[n]))
			}
		}
		now = now.Add(5 * time.Millisecond)
	}
	o.packets, o.missing = len(sent), len(sent)-len(got)
	o.sent, o.received = s.Stats(), r.Stats()
	o.dear = float64(o.sent.Bytes) / float64(media)
	assert.GreaterOrEqual(t, uint64(lost), o.received.Lost, "some came after all")
	return o
}

func TestLossIsRepaired(t *testing.T) {
	frames := 3000
	if times, err := strconv.Atoi(os.Getenv("MUSTER_PROVE_MEDIA")); err == nil {
		frames *= times
	}
	for _, c := range []struct {
		loss  float64
		vary  time.Duration
		share float64 // of packets that may be missing
		dear  float64 // bytes on the link
	}{
		// A packet is of up to two datagrams, so of p·(1−(1−p)²)^4 twice.
		{0, 0, 0, 1},
		{0, 30 * time.Millisecond, 0, 1.3}, // what is late is asked for as well
		{0.05, 0, 1e-4, 1.08},
		{0.05, 20 * time.Millisecond, 1e-4, 1.3},
		{0.30, 0, 0.08, 1.75},
	} {
		o := cross(t, 11, c.loss, 40*time.Millisecond, c.vary, frames)
		t.Logf("loss %.0f %%, ±%v: %d packets, %d missing, %.3f of the bytes, latest after %v, repaired %d",
			c.loss*100, c.vary, o.packets, o.missing, o.dear, o.latest, o.received.Repaired)
		assert.LessOrEqual(t, float64(o.missing), c.share*float64(o.packets))
		assert.LessOrEqual(t, o.dear, c.dear)
		assert.GreaterOrEqual(t, o.dear, 1.)
		if c.loss == 0 && c.vary == 0 {
			assert.InDelta(t, 1, o.dear, 0, "each packet crosses once")
			assert.Zero(t, o.sent.Asked)
		}
		// A hole shows with the next burst; then it is asked for until it is old.
		way := 40*time.Millisecond + c.vary
		assert.Less(t, o.latest, way+35*time.Millisecond+400*time.Millisecond+2*way+20*time.Millisecond)
	}
}

func TestTheLastOfABurstIsMissed(t *testing.T) {
	s, r := NewSender(Config{Stream: 1}), NewReceiver(ReceiverConfig{Stream: 1})
	now := start
	first, _, _ := s.Frame(nil, packet(1, 50), now)
	_, err := r.Media(first, now)
	require.NoError(t, err)
	_, _, _ = s.Frame(nil, packet(2, 50), now) // lost
	assert.Nil(t, s.Tail(nil, now.Add(10*time.Millisecond)))
	now = now.Add(15 * time.Millisecond)
	_, err = r.Media(s.Tail(nil, now), now)
	require.NoError(t, err)
	assert.Nil(t, s.Tail(nil, now), "not again at once")
	request, lost := r.Ask(nil, now.Add(5*time.Millisecond), 0)
	assert.Zero(t, lost)
	_, kind, err := Parse(request)
	require.NoError(t, err)
	assert.Equal(t, KindRepair, kind)
	var got []byte
	require.NoError(t, s.Repair(request, func(d []byte) { got, err = r.Media(d, now) }))
	require.NoError(t, err)
	assert.Equal(t, packet(2, 50), got)
	tellings := 0
	for range 100 {
		now = now.Add(10 * time.Millisecond)
		if s.Tail(nil, now) != nil {
			tellings++
		}
	}
	assert.Equal(t, 2, tellings)
}

// What a peer asks for is bounded by what was sent to it.
func TestRepairsAreBounded(t *testing.T) {
	s := NewSender(Config{Stream: 1})
	for i := range 100 {
		_, _, _ = s.Frame(nil, packet(i, 1000), start)
	}
	request := appendHead(nil, repair, 1, 0)
	request = append(request, 0xff, 0xff)
	n := 0
	for range 1000 {
		require.NoError(t, s.Repair(request, func([]byte) { n++ }))
	}
	assert.Equal(t, allowance, n)
	for _, bad := range [][]byte{nil, request[:7], request[:8], append([]byte{9}, request[1:]...)} {
		require.ErrorIs(t, s.Repair(bad, func([]byte) { t.Error("sent") }), ErrMalformed)
	}
}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	s, r := NewSender(Config{Stream: 1}), NewReceiver(ReceiverConfig{Stream: 1})
	buf, p, now, n := make([]byte, 0, 4096), packet(1, 1300), start, 0
	answer := func(d []byte) { _, _ = r.Media(d, now) }
	step := func() {
		n++
		now = now.Add(5 * time.Millisecond)
		first, second, _ := s.Frame(buf, p, now)
		if n%5 != 0 { // lost
			_, _ = r.Media(first, now)
		}
		_, _ = r.Media(second, now)
		request, _ := r.Ask(buf, now, 0)
		if request != nil {
			_ = s.Repair(request, answer)
		}
		s.Tail(buf, now)
	}
	for range 1000 {
		step()
	}
	assert.Zero(t, testing.AllocsPerRun(1000, step))
	assert.Positive(t, r.Stats().Repaired)
}

func FuzzDatagrams(f *testing.F) {
	s := NewSender(Config{Stream: 1})
	first, second, _ := s.Frame(nil, packet(1, 1200), start)
	f.Add(first[:40], second)
	f.Add(s.Tail(nil, start.Add(time.Second)), append(appendHead(nil, repair, 1, 0), 1, 2))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s, r, now := NewSender(Config{Stream: 1}), NewReceiver(ReceiverConfig{Stream: 1}), start
		for range 3 {
			_, _, _ = s.Frame(nil, packet(1, 100), now)
		}
		for _, d := range [][]byte{a, b, a} {
			if len(d) > 4 {
				copy(d[1:], []byte{0, 0, 0, 1}) // of this stream
			}
			_, _, _ = Parse(d)
			if p, err := r.Media(d, now); err == nil && len(p) > rtp.MaxPacket {
				t.Fatal("too long")
			}
			_ = s.Repair(d, func(d []byte) { _, _ = r.Media(d, now) })
			now = now.Add(50 * time.Millisecond)
			if request, _ := r.Ask(nil, now, 0); len(request) > 1150 {
				t.Fatal("too long")
			} else if request != nil {
				_ = s.Repair(request, func(d []byte) { _, _ = r.Media(d, now) })
			}
		}
	})
}

func BenchmarkCross(b *testing.B) {
	for _, size := range []int{100, 1100, 1300} {
		b.Run(map[int]string{100: "sound", 1100: "picture", 1300: "two datagrams"}[size], func(b *testing.B) {
			s, r := NewSender(Config{Stream: 1}), NewReceiver(ReceiverConfig{Stream: 1})
			buf, p := make([]byte, 0, 4096), packet(1, size)
			b.ReportAllocs()
			for b.Loop() {
				first, second, _ := s.Frame(buf, p, start)
				_, _ = r.Media(first, start)
				if second != nil {
					_, _ = r.Media(second, start)
				}
			}
		})
	}
}
