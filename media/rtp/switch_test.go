package rtp

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// runs is how many seeds a test tries: MUSTER_PROVE_MEDIA times as many, if it is set.
func runs(n uint64) uint64 {
	times, err := strconv.ParseUint(os.Getenv("MUSTER_PROVE_MEDIA"), 10, 16)
	if err != nil {
		return n
	}
	return n * times
}

// source is a simulcast layer of VP8 with three temporal layers (0 2 1 2), each with a
// switching point, at 30 frames/s.
type source struct {
	layer   int
	seq     uint16
	base    uint32 // timestamp of frame 0
	picture uint16
	tl0     uint8
	frame   int
	since   int // the last key frame
	packets int // of a frame
}

// next returns the packets of the next frame. The payload ends with the layer, the
// frame and the packet.
func (s *source) next(key bool) (packets [][]byte) {
	if key {
		s.since = 0
	}
	temporal := []uint8{0, 2, 1, 2}[s.since%4]
	sync := key || s.since%4 == 1 || s.since%4 == 2
	if temporal == 0 {
		s.tl0++
	}
	for i := range s.packets {
		p := []byte{0x80, 0xe0, 0x80 | byte(s.picture>>8), byte(s.picture), s.tl0, temporal << 6, 1, byte(s.layer)}
		if i == 0 {
			p[0] |= 0x10
		}
		if sync {
			p[5] |= 0x20
		}
		if key && i == 0 {
			p[6] = 0
		}
		p = binary.BigEndian.AppendUint32(p, uint32(s.frame))
		p = append(p, byte(i))
		h := Header{Marker: i == s.packets-1, PayloadType: 100, Sequence: s.seq, SSRC: uint32(s.layer),
			Timestamp: s.base + uint32(s.frame*3000)}
		packets = append(packets, h.Append(nil, []Extension{{1, []byte("e")}}, p))
		s.seq++
	}
	s.frame++
	s.since++
	s.picture = (s.picture + 1) & 0x7fff
	return packets
}

// sent is a packet as a receiver sees it.
type sent struct {
	h       Header
	v       VP8
	payload []byte
	bytes   []byte
}

func (p sent) layer() int    { return int(p.payload[len(p.payload)-6]) }
func (p sent) frame() int    { return int(binary.BigEndian.Uint32(p.payload[len(p.payload)-5:])) }
func (p sent) padding() bool { return len(p.payload) == 0 }

func read(t testing.TB, b []byte) (p sent) {
	t.Helper()
	p.bytes = slices.Clone(b)
	require.NoError(t, p.h.Parse(p.bytes))
	if p.payload = p.h.Payload(p.bytes); len(p.payload) > 0 {
		require.NoError(t, p.v.Parse(p.payload))
	}
	return p
}

// rig is a publisher with layers and one receiver.
type rig struct {
	t      testing.TB
	s      *Switch
	now    time.Time
	from   []*source
	caches []*Cache
	got    []sent
}

func newRig(t testing.TB, packets int) *rig {
	r := &rig{t: t, now: start, s: NewSwitch(Output{Codec: CodecVP8, ClockRate: 90000, SSRC: 7, PayloadType: 96, First: 65500, History: 512})}
	for i := range 3 {
		r.from = append(r.from, &source{layer: i, seq: uint16(65000 + 300*i), base: uint32(i) * 0x70000000, picture: uint16(0x7ff0 + i), tl0: uint8(250 + i), packets: packets})
		r.caches = append(r.caches, NewCache(4096, 60))
	}
	return r
}

func (r *rig) arrive(layer int, b []byte) bool {
	in := In{Layer: layer, At: r.now}
	require.NoError(r.t, in.Parse(b, CodecVP8))
	r.caches[layer].Put(in.Sequence, b)
	before := slices.Clone(b)
	out, ok := r.s.Next(nil, &in)
	assert.Equal(r.t, before, b, "the incoming packet is others' as well")
	if ok {
		r.got = append(r.got, read(r.t, out))
	}
	return ok
}

// step has a frame of all layers arrive in order.
func (r *rig) step(key bool) {
	for i, s := range r.from {
		for _, b := range s.next(key) {
			r.arrive(i, b)
		}
	}
	r.now = r.now.Add(time.Second / 30)
}

// whole fails unless what was got looks like one encoder's work.
func (r *rig) whole() {
	for i := 1; i < len(r.got); i++ {
		a, b := r.got[i-1], r.got[i]
		require.EqualValues(r.t, a.h.Sequence+1, b.h.Sequence, "%d", i)
		assert.EqualValues(r.t, 7, b.h.SSRC)
		assert.EqualValues(r.t, 96, b.h.PayloadType)
		if a.frame() == b.frame() && a.layer() == b.layer() {
			assert.Equal(r.t, a.h.Timestamp, b.h.Timestamp)
			assert.Equal(r.t, a.v.Picture, b.v.Picture)
			continue
		}
		assert.Positive(r.t, int32(b.h.Timestamp-a.h.Timestamp))
		assert.Equal(r.t, (a.v.Picture+1)&0x7fff, b.v.Picture, "%d: %d after %d", i, b.v.Picture, a.v.Picture)
		if b.v.Temporal == 0 {
			assert.Equal(r.t, a.v.TL0+1, b.v.TL0)
		} else {
			assert.Equal(r.t, a.v.TL0, b.v.TL0)
		}
	}
}

func TestSwitchWaitsForAKeyFrame(t *testing.T) {
	r := newRig(t, 3)
	r.step(true)
	assert.Empty(t, r.got, "nothing is wanted")
	r.s.Want(0, AllTemporal)
	r.step(false)
	assert.Empty(t, r.got)
	r.step(true)
	r.step(false)
	assert.Len(t, r.got, 6)

	r.s.Want(2, AllTemporal)
	l, yes := r.s.NeedsKey()
	assert.True(t, yes)
	assert.Equal(t, 2, l)
	r.step(false)
	assert.Equal(t, 0, r.got[len(r.got)-1].layer(), "the old one goes on")
	r.step(true)
	r.step(false)
	assert.Equal(t, 2, r.got[len(r.got)-1].layer())
	_, yes = r.s.NeedsKey()
	assert.False(t, yes)

	r.s.Want(Paused, 0)
	n := len(r.got)
	r.step(true)
	assert.Len(t, r.got, n)
	r.s.Want(2, AllTemporal)
	r.step(true)
	r.step(false)
	assert.Greater(t, len(r.got), n)
	r.whole()
	// Without sender reports time goes on as packets arrive.
	last := r.got[len(r.got)-1].h.Timestamp - r.got[0].h.Timestamp
	assert.InDelta(t, 7*3000, last, 10)
}

// Nothing is lost on the way: whatever is chosen, the result has no hole.
func TestSwitchLeavesNoHole(t *testing.T) {
	for seed := range runs(8) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		r := newRig(t, 1+rnd.IntN(4))
		for range 400 {
			if rnd.IntN(12) == 0 {
				r.s.Want(rnd.IntN(4)-1, uint8(rnd.IntN(4)))
			}
			r.step(rnd.IntN(15) == 0)
		}
		require.Greater(t, len(r.got), 20)
		r.whole()
		r.decodable()
	}
}

// decodable fails unless what each frame depends on was sent: of temporal layers as
// the source makes them.
func (r *rig) decodable() {
	have := map[[2]int]bool{}
	for _, p := range r.got {
		if p.padding() {
			continue
		}
		f, l := p.frame(), p.layer()
		if p.v.Start && p.v.Key {
			clear(have)
		} else if p.v.Start && p.v.Temporal > 0 && !p.v.Sync {
			// The second frame of layer 2 is predicted from the one of layer 1.
			require.True(r.t, have[[2]int{l, f - 1}], "layer %d frame %d", l, f)
		}
		have[[2]int{l, f}] = true
	}
}

func TestSwitchTemporalLayers(t *testing.T) {
	r := newRig(t, 2)
	r.s.Want(0, 0)
	r.step(true)
	for range 11 {
		r.step(false)
	}
	assert.Len(t, r.got, 2*3)
	r.s.Want(0, 1)
	for range 12 {
		r.step(false)
	}
	assert.Len(t, r.got, 2*(3+6))
	r.s.Want(0, 2)
	for range 12 {
		r.step(false)
	}
	assert.Len(t, r.got, 2*(3+6+12))
	r.s.Want(1, 2)
	r.s.Want(0, 2)
	r.step(true)
	r.whole()
	r.decodable()
	// A lower layer is wanted: until its key frame only the lowest temporal layer of
	// the present one.
	r.s.Want(2, 2)
	r.step(true)
	r.s.Want(0, 2)
	n := len(r.got)
	for range 12 {
		r.step(false)
	}
	assert.Len(t, r.got, n+2*3)
}

// Layers' clocks differ, and their packets come late by different times: sender reports
// tell what belongs together.
func TestSwitchKeepsTimeBySenderReports(t *testing.T) {
	r := newRig(t, 1)
	const ntp = 0xe000_0000_0000_0000
	for i, s := range r.from { // each reports at another time
		secs := uint64(i * 2)
		out, ok := r.s.Report(i, ntp+secs<<32, s.base+uint32(secs)*90000)
		assert.False(t, ok, out)
	}
	r.s.Want(0, AllTemporal)
	r.step(true)
	r.step(false)
	r.s.Want(1, AllTemporal)
	r.now = r.now.Add(700 * time.Millisecond) // late on the way, not by the clock
	r.from[0].next(true)                      // got lost
	for i, s := range r.from[1:] {
		r.arrive(i+1, s.next(true)[0])
	}
	r.now = r.now.Add(time.Second / 30)
	require.Len(t, r.got, 3)
	assert.EqualValues(t, 6000, r.got[2].h.Timestamp-r.got[0].h.Timestamp)
	out, ok := r.s.Report(1, ntp, r.from[1].base)
	assert.True(t, ok)
	assert.Equal(t, r.got[0].h.Timestamp, out, "frame 0 was at that time, in every layer")

	// Another sender in its place: its clock is not known.
	r.s.Replace()
	r.from[1].base += 0x12345678
	r.step(true)
	require.Len(t, r.got, 4)
	assert.InDelta(t, 3000, r.got[3].h.Timestamp-r.got[2].h.Timestamp, 3, "by arrival")
	r.whole()
}

// world has packets get lost and overtake each other on the way in; lost ones may come
// again later. What a receiver then has, is complete but for what never came.
func TestSwitchUnderLossAndReordering(t *testing.T) {
	for seed := range runs(10) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, 1+rnd.IntN(5))
		type late struct {
			at    int
			layer int
			b     []byte
		}
		var queue []late
		want := func() { r.s.Want(rnd.IntN(3), uint8(rnd.IntN(4))) }
		want()
		for step := range 600 {
			if rnd.IntN(20) == 0 {
				want()
			}
			key := step == 0 || rnd.IntN(20) == 0
			for i, s := range r.from {
				for _, b := range s.next(key) {
					at := step
					switch {
					case rnd.IntN(20) == 0:
						at += 1 + rnd.IntN(5)
					case rnd.IntN(50) == 0:
						continue
					}
					queue = append(queue, late{at, i, b})
					if rnd.IntN(50) == 0 {
						queue = append(queue, late{at + rnd.IntN(3), i, b}) // doubled
					}
				}
			}
			queue = slices.DeleteFunc(queue, func(l late) bool {
				if l.at <= step {
					r.arrive(l.layer, l.b)
				}
				return l.at <= step
			})
			r.now = r.now.Add(time.Second / 30)
		}
		received := map[uint16]sent{}
		for _, p := range r.got {
			_, again := received[p.h.Sequence]
			require.False(t, again, "number %d twice", p.h.Sequence)
			received[p.h.Sequence] = p
		}
		require.Greater(t, len(r.got), 50)

		// What is in numbers' order belongs together: a frame's packets are not mixed
		// with another's, and a picture id is one frame's.
		order := slices.Clone(r.got)
		first := r.got[0].h.Sequence
		slices.SortFunc(order, func(a, b sent) int { return int(int16(a.h.Sequence-first)) - int(int16(b.h.Sequence-first)) })
		pictures := map[uint16][2]int{}
		var last sent
		for _, p := range order {
			if p.padding() {
				continue
			}
			id := [2]int{p.layer(), p.frame()}
			if was, ok := pictures[p.v.Picture]; ok {
				require.Equal(t, was, id)
			}
			pictures[p.v.Picture] = id
			if last.payload != nil {
				require.GreaterOrEqual(t, int32(p.h.Timestamp-last.h.Timestamp), int32(0), "%v after %v", id, last.frame())
				if ahead := int16(p.v.Picture<<1-last.v.Picture<<1) / 2; ahead != 0 {
					require.Positive(t, ahead)
				}
			}
			last = p
		}

		// Everything that a receiver has, it gets again just so, and nothing else.
		end := order[len(order)-1].h.Sequence
		for back := range uint16(400) {
			seq := end - back
			b, ok := r.s.Resend(nil, seq, r.now, 0, r.caches)
			p, had := received[seq]
			if had && !p.padding() {
				require.True(t, ok, "%d", seq)
			}
			if had && ok {
				require.Equal(t, p.bytes, b)
			}
			if ok && !had {
				require.Equal(t, seq, read(t, b).h.Sequence, "what came before its run began")
			}
		}
	}
}

func TestSwitchAfterALongGap(t *testing.T) {
	for _, gap := range []uint16{300, 5000, 33000, 60000} {
		r := newRig(t, 1)
		r.s.Want(0, AllTemporal)
		r.step(true)
		r.step(false)
		r.from[0].seq += gap
		r.from[0].picture = (r.from[0].picture + gap) & 0x7fff
		r.from[0].frame += int(gap) * 4
		r.now = r.now.Add(time.Duration(gap) * 4 * time.Second / 30)
		for range 3 {
			r.step(true)
		}
		require.GreaterOrEqual(t, len(r.got), 4, gap)
		a, b := r.got[1], r.got[2]
		assert.EqualValues(t, 2, b.h.Sequence-a.h.Sequence, "a hole shows that something is missing")
		assert.Greater(t, (b.v.Picture-a.v.Picture)&0x7fff, uint16(1))
		r.got = r.got[2:]
		r.whole()
	}
}

func TestSwitchOfSound(t *testing.T) {
	s := NewSwitch(Output{Codec: CodecOther, ClockRate: 48000, SSRC: 1, PayloadType: 111, History: 64})
	s.Want(0, 0)
	var got []sent
	now := start
	h := Header{PayloadType: 100, Timestamp: 5000}
	send := func() {
		in := In{At: now}
		require.NoError(t, in.Parse(h.Append(nil, nil, []byte("opus")), CodecOther))
		if b, ok := s.Next(nil, &in); ok {
			var p sent
			require.NoError(t, p.h.Parse(b))
			got = append(got, p)
		}
		h.Sequence++
		h.Timestamp += 960
		now = now.Add(20 * time.Millisecond)
	}
	send()
	send()
	s.Want(Paused, 0)
	for range 10 {
		send()
	}
	s.Want(0, 0)
	send()
	send()
	require.Len(t, got, 4)
	for i, want := range []struct {
		ts     uint32
		marker bool
	}{{5000, true}, {5960, false}, {5000 + 12*960, true}, {5000 + 13*960, false}} {
		assert.EqualValues(t, i, got[i].h.Sequence)
		assert.Equal(t, want.ts, got[i].h.Timestamp)
		assert.Equal(t, want.marker, got[i].h.Marker)
	}
}

func TestResendIsNotRepeatedWithinARoundTrip(t *testing.T) {
	r := newRig(t, 1)
	r.s.Want(0, AllTemporal)
	r.step(true)
	r.step(false)
	seq := r.got[1].h.Sequence
	try := func(after time.Duration) bool {
		_, ok := r.s.Resend(nil, seq, r.now.Add(after), 50*time.Millisecond, r.caches)
		return ok
	}
	assert.True(t, try(0))
	assert.False(t, try(30*time.Millisecond))
	assert.True(t, try(60*time.Millisecond))
	_, ok := r.s.Resend(nil, seq+1, r.now, 0, r.caches)
	assert.False(t, ok, "was not sent")
	_, ok = r.s.Resend(nil, seq, r.now.Add(time.Second), 0, nil)
	assert.False(t, ok)
	r.s.Replace()
	assert.False(t, try(time.Minute), "of another source")
}

func TestSwitchAllocatesNothing(t *testing.T) {
	r := newRig(t, 1)
	r.s.Want(0, AllTemporal)
	r.step(true)
	b := r.from[0].next(false)[0]
	in := In{At: r.now}
	buf := make([]byte, 0, MaxPacket)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		SetSequence(b, in.Sequence+1)
		_ = in.Parse(b, CodecVP8)
		r.caches[0].Put(in.Sequence, b)
		out, _ := r.s.Next(buf, &in)
		if len(out) > 4 {
			r.s.Resend(buf, binary.BigEndian.Uint16(out[2:]), r.now, 0, r.caches)
		}
	}))
}

func FuzzSwitch(f *testing.F) {
	r := newRig(f, 2)
	var seed []byte
	for range 3 {
		for _, b := range r.from[0].next(true) {
			seed = append(append(seed, 0, byte(len(b))), b...)
		}
	}
	f.Add(seed, uint8(CodecVP8))
	f.Add(seed, uint8(CodecVP9))
	f.Add(seed, uint8(CodecH264))
	f.Fuzz(func(t *testing.T, b []byte, codec uint8) {
		s := NewSwitch(Output{Codec: Codec(codec), ClockRate: 90000, History: 64})
		caches := []*Cache{NewCache(64, 100), NewCache(64, 100), nil}
		s.Want(0, AllTemporal)
		now := start
		for len(b) > 2 {
			op, n := b[0], min(int(b[1]), len(b)-2)
			packet := b[2 : 2+n]
			b = b[2+n:]
			in := In{Layer: int(op) & 3, At: now}
			if in.Parse(packet, Codec(codec)) == nil {
				if in.Layer < 2 {
					caches[in.Layer].Put(in.Sequence, packet)
				}
				if out, ok := s.Next(nil, &in); ok {
					var h Header
					if h.Parse(out) != nil {
						t.Fatal("not a packet")
					}
				}
			}
			if op&4 != 0 {
				s.Want(int(op>>4)-2, op>>3)
			}
			if op&8 != 0 {
				s.Resend(nil, uint16(op)+uint16(n), now, 0, caches)
				s.Report(int(op>>5), uint64(n)<<40, uint32(op)<<20)
			}
			now = now.Add(time.Duration(op) * time.Millisecond)
		}
	})
}

// A packet that is forwarded to one more receiver: a copy of 1,100 bytes, numbered.
func BenchmarkSwitchNext(b *testing.B) {
	r := newRig(b, 1)
	r.s.Want(0, AllTemporal)
	r.step(true)
	src := append(r.from[0].next(false)[0], make([]byte, 1100)...)
	in := In{At: r.now}
	buf := make([]byte, 0, MaxPacket)
	require.NoError(b, in.Parse(src, CodecVP8))
	b.ReportAllocs()
	for b.Loop() {
		in.Sequence++
		in.vp8.Picture = (in.vp8.Picture + 1) & 0x7fff
		in.Timestamp += 3000
		r.s.Next(buf, &in)
	}
}

// A packet that comes in, once for all receivers.
func BenchmarkInParse(b *testing.B) {
	r := newRig(b, 1)
	src := append(r.from[0].next(false)[0], make([]byte, 1100)...)
	var in In
	b.ReportAllocs()
	for b.Loop() {
		_ = in.Parse(src, CodecVP8)
	}
}
