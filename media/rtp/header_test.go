package rtp

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func parsed(t testing.TB, b []byte) Header {
	t.Helper()
	var h Header
	require.NoError(t, h.Parse(b))
	return h
}

func TestHeader(t *testing.T) {
	// One CSRC, one-byte extensions 1 ("a"), padding, 3 ("bcd"), two bytes of padding at
	// the end.
	b := []byte{
		0xb1, 0xe0, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9,
		0xbe, 0xde, 0, 2, 0x10, 'a', 0, 0x32, 'b', 'c', 'd', 0,
		'p', 'a', 'y', 0, 2,
	}
	h := parsed(t, b)
	assert.True(t, h.Marker)
	assert.EqualValues(t, 0x60, h.PayloadType)
	assert.EqualValues(t, 0x1234, h.Sequence)
	assert.EqualValues(t, 0x01020304, h.Timestamp)
	assert.EqualValues(t, 0x05060708, h.SSRC)
	assert.EqualValues(t, 9, h.CSRC(b, 0))
	assert.Equal(t, "pay", string(h.Payload(b)))
	assert.Equal(t, "a", string(h.Extension(b, 1)))
	assert.Equal(t, "bcd", string(h.Extension(b, 3)))
	assert.Nil(t, h.Extension(b, 2))

	assert.True(t, h.SetExtension(b, 3, []byte("xyz")))
	assert.False(t, h.SetExtension(b, 3, []byte("xy")), "another length")
	h.MapExtensions(b, &ExtensionIDs{1: 5})
	assert.Equal(t, "a", string(h.Extension(b, 5)))
	assert.Nil(t, h.Extension(b, 3), "mapped to nothing")
	assert.Equal(t, make([]byte, 4), b[23:27])

	SetMarker(b, false)
	SetPayloadType(b, 111)
	SetSequence(b, 7)
	SetTimestamp(b, 8)
	SetSSRC(b, 9)
	h = parsed(t, b)
	assert.Equal(t, []any{false, uint8(111), uint16(7), uint32(8), uint32(9)},
		[]any{h.Marker, h.PayloadType, h.Sequence, h.Timestamp, h.SSRC})
}

func TestHeaderIsWrittenInTheFormThatFits(t *testing.T) {
	long := bytes.Repeat([]byte("l"), 17)
	for name, c := range map[string]struct {
		exts    []Extension
		profile uint16
	}{
		"none":     {nil, 0},
		"one-byte": {[]Extension{{1, []byte("a")}, {14, long[:16]}, {0, long}}, oneByte},
		"long":     {[]Extension{{1, []byte("a")}, {2, long}}, twoByte},
		"id":       {[]Extension{{16, []byte("a")}}, twoByte},
		"empty":    {[]Extension{{3, []byte{}}}, twoByte},
	} {
		t.Run(name, func(t *testing.T) {
			in := Header{Marker: true, PayloadType: 96, Sequence: 1, Timestamp: 2, SSRC: 3}
			b := in.Append([]byte("before"), c.exts, []byte("payload"))[6:]
			h := parsed(t, b)
			assert.Equal(t, c.profile, h.profile)
			assert.Equal(t, "payload", string(h.Payload(b)))
			assert.True(t, h.Marker)
			for _, e := range c.exts {
				if e.ID != 0 {
					assert.Equal(t, string(e.Data), string(h.Extension(b, e.ID)))
					assert.NotNil(t, h.Extension(b, e.ID))
				}
			}
		})
	}
	h := Header{Sequence: 5}
	b := h.AppendPadding(nil, 3)
	h = parsed(t, b)
	assert.Empty(t, h.Payload(b))
	assert.Equal(t, 3, h.Padding)
}

// The elements that are walked through are those of a second, plainer reader.
func elements(h *Header, b []byte) map[uint8][]byte {
	m, ext := map[uint8][]byte{}, b[h.from:h.to]
	add := func(id uint8, data []byte) {
		if _, ok := m[id]; !ok {
			m[id] = data
		}
	}
	for len(ext) > 0 {
		head := ext[0]
		switch {
		case head == 0:
			ext = ext[1:]
		case h.profile == oneByte:
			n := int(head&15) + 1
			if head>>4 == 15 || len(ext) < 1+n {
				return m
			}
			add(head>>4, ext[1:1+n])
			ext = ext[1+n:]
		case h.profile>>4 == 0x100:
			if len(ext) < 2 || len(ext) < 2+int(ext[1]) {
				return m
			}
			add(head, ext[2:2+int(ext[1])])
			ext = ext[2+int(ext[1]):]
		default:
			return m
		}
	}
	return m
}

func FuzzHeader(f *testing.F) {
	h := Header{PayloadType: 96}
	f.Add(h.Append(nil, []Extension{{1, []byte("a")}, {2, []byte("bc")}}, []byte("payload")))
	f.Add(h.Append(nil, []Extension{{200, []byte("a")}, {2, nil}}, nil))
	f.Add(h.AppendPadding(nil, 200))
	f.Add([]byte{0x9f, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Header
		if h.Parse(b) != nil {
			return
		}
		payload := bytes.Clone(h.Payload(b))
		for i := range h.CSRCs {
			h.CSRC(b, i)
		}
		want := elements(&h, b)
		for id := range 256 {
			data, ok := want[uint8(id)]
			got := h.Extension(b, uint8(id))
			if id == 0 { // padding
				continue
			}
			if ok != (got != nil) || !bytes.Equal(data, got) {
				t.Fatalf("id %d: %v, want %v (%v)", id, got, data, ok)
			}
		}
		var ids ExtensionIDs
		for i := range ids {
			ids[i] = uint8(i * 7)
		}
		h.MapExtensions(b, &ids)
		var again Header
		if again.Parse(b) != nil || !bytes.Equal(again.Payload(b), payload) {
			t.Fatal("mapping ids broke the packet")
		}
		out := h.Append(nil, []Extension{{4, []byte("x")}}, payload)
		if again.Parse(out) != nil || !bytes.Equal(again.Payload(out), payload) {
			t.Fatal("written and not read")
		}
	})
}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	h := Header{PayloadType: 96}
	b := h.Append(nil, []Extension{{1, []byte("a")}, {2, []byte("bc")}}, make([]byte, 1000))
	ids, buf, exts := &ExtensionIDs{1: 1, 2: 2}, make([]byte, 0, MaxPacket), []Extension{{1, []byte("a")}}
	cache, reception, losses := NewCache(64, 1200), NewReception(90000), NewLosses(LossConfig{})
	asked := make([]uint16, 0, 64)
	var seq uint16
	now := start
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		_ = h.Parse(b)
		h.Extension(b, 2)
		h.MapExtensions(b, ids)
		h.Append(buf, exts, b[20:])
		seq += 2 // every other one is lost
		now = now.Add(20e6)
		cache.Put(seq, b)
		cache.Get(buf, seq)
		reception.Came(&h, len(b), now)
		losses.Came(seq, now)
		losses.Ask(asked[:0], now, 0)
	}))
}
