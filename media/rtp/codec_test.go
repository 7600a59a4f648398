package rtp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVP8(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want VP8
	}{
		"no extension, key": {[]byte{0x10, 0}, VP8{Start: true, Key: true, Size: 1}},
		"delta":             {[]byte{0x10, 1}, VP8{Start: true, Size: 1}},
		"second partition":  {[]byte{0x11, 0}, VP8{Size: 1}},
		"not the start":     {[]byte{0x00, 0}, VP8{Size: 1}},
		"short id":          {[]byte{0x90, 0x80, 0x7f, 0}, VP8{Start: true, Key: true, HasPicture: true, Picture: 0x7f, Size: 3}},
		"long id":           {[]byte{0x90, 0x80, 0xff, 0xfe, 0}, VP8{Start: true, Key: true, HasPicture: true, Long: true, Picture: 0x7ffe, Size: 4}},
		"all": {[]byte{0x80, 0xf0, 0x81, 2, 3, 0x60, 1},
			VP8{HasPicture: true, Long: true, Picture: 0x102, HasTL0: true, TL0: 3, HasTemporal: true, Temporal: 1, Sync: true, Size: 6}},
		"key index only": {[]byte{0x80, 0x10, 0xff, 1}, VP8{Size: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var v VP8
			require.NoError(t, v.Parse(c.in))
			assert.Equal(t, c.want, v)
			for n := range c.want.Size {
				require.ErrorIs(t, v.Parse(c.in[:n]), ErrMalformed)
			}
		})
	}
}

func TestVP9(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want VP9
	}{
		"key":       {[]byte{0x08}, VP9{Start: true, Key: true, Size: 1}},
		"delta":     {[]byte{0x4c}, VP9{Start: true, End: true, Size: 1}},
		"layers":    {[]byte{0xa8, 0x81, 2, 0x50, 9}, VP9{Start: true, Key: true, HasPicture: true, Picture: 0x102, HasLayers: true, Temporal: 2, SwitchUp: true, Size: 5}},
		"spatial 1": {[]byte{0xa8, 5, 0x03, 9}, VP9{Start: true, HasPicture: true, Picture: 5, HasLayers: true, Spatial: 1, Size: 4}},
		"flexible":  {[]byte{0xf8, 5, 0x00, 3, 4}, VP9{Start: true, HasPicture: true, Picture: 5, HasLayers: true, Size: 5}},
		// Two spatial layers with sizes, two pictures of which the second has one
		// reference.
		"structure": {[]byte{0x0a, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0x00, 0x14, 1}, VP9{Start: true, Key: true, Size: 14}},
	} {
		t.Run(name, func(t *testing.T) {
			var v VP9
			require.NoError(t, v.Parse(c.in))
			assert.Equal(t, c.want, v)
			for n := range c.want.Size {
				require.ErrorIs(t, v.Parse(c.in[:n]), ErrMalformed)
			}
		})
	}
	var v VP9
	require.ErrorIs(t, v.Parse([]byte{0x50, 1, 1, 1, 0}), ErrMalformed, "more than three references")
}

func TestH264(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want H264
	}{
		"SPS":                {[]byte{0x67, 1}, H264{SPS: true}},
		"IDR":                {[]byte{0x65, 1}, H264{IDR: true}},
		"other":              {[]byte{0x61, 1}, H264{}},
		"STAP-A":             {[]byte{24, 0, 2, 0x67, 1, 0, 1, 0x68, 0, 1, 0x65}, H264{SPS: true, IDR: true}},
		"FU-A, start of IDR": {[]byte{28, 0x85, 0}, H264{IDR: true}},
		"FU-A, within IDR":   {[]byte{28, 0x05, 0}, H264{}},
	} {
		t.Run(name, func(t *testing.T) {
			var v H264
			require.NoError(t, v.Parse(c.in))
			assert.Equal(t, c.want, v)
		})
	}
	for _, in := range [][]byte{{}, {24, 0}, {24, 0, 5, 1}, {24, 0, 0, 1}, {28}} {
		require.ErrorIs(t, new(H264).Parse(in), ErrMalformed)
	}
}

func TestSoundPayloads(t *testing.T) {
	level, voice, ok := AudioLevel([]byte{0x85})
	assert.Equal(t, []any{uint8(5), true, true}, []any{level, voice, ok})
	level, _, ok = AudioLevel(nil)
	assert.Equal(t, []any{uint8(127), false}, []any{level, ok})

	assert.True(t, OpusDTX([]byte{0xf8}))
	assert.False(t, OpusDTX([]byte{0xf8, 1, 2}))
	for _, c := range []struct {
		in   []byte
		want time.Duration
	}{
		{nil, 0}, {[]byte{0x78}, 20 * time.Millisecond}, {[]byte{0xf8}, 20 * time.Millisecond},
		{[]byte{0x81}, 5 * time.Millisecond}, {[]byte{3<<3 | 1}, 120 * time.Millisecond},
		{[]byte{1<<3 | 3, 3}, 60 * time.Millisecond}, {[]byte{3}, 0}, {[]byte{3<<3 | 3, 63}, 0},
	} {
		assert.Equal(t, c.want, OpusDuration(c.in), "%x", c.in)
	}
}

func TestRED(t *testing.T) {
	in := []byte{
		0x80 | 111, 0x1e, 0x00, 2, // 1,920 units before, two bytes
		0x80 | 111, 0x0f, 0x00, 1,
		111, 'a', 'b', 'c', 'd', 'e',
	}
	blocks, err := ParseRED(nil, in)
	require.NoError(t, err)
	assert.Equal(t, []RED{{111, 1920, []byte("ab")}, {111, 960, []byte("c")}, {111, 0, []byte("de")}}, blocks)
	one, err := PrimaryRED(in)
	require.NoError(t, err)
	assert.Equal(t, blocks[2], one)
	for n := range 12 {
		_, err := ParseRED(nil, in[:n])
		require.ErrorIs(t, err, ErrMalformed, n)
		_, err = PrimaryRED(in[:n])
		require.ErrorIs(t, err, ErrMalformed, n)
	}
}

func FuzzPayloads(f *testing.F) {
	f.Add([]byte{0x80, 0xf0, 0x81, 2, 3, 0x60, 1})
	f.Add([]byte{0x0a, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0x00, 0x14, 1})
	f.Add([]byte{24, 0, 2, 0x67, 1, 0, 1, 0x68, 0, 1, 0x65})
	f.Add([]byte{0x80 | 111, 0x1e, 0x00, 2, 111, 'a', 'b', 'c', 'd', 'e'})
	f.Fuzz(func(t *testing.T, b []byte) {
		var v8 VP8
		if v8.Parse(b) == nil {
			v8.set(b, 0x1234, 5)
			var again VP8
			if again.Parse(b) != nil || again.Size != v8.Size || again.HasTL0 && again.TL0 != 5 {
				t.Fatal("written and not read")
			}
		}
		var v9 VP9
		if v9.Parse(b) == nil && v9.Size > len(b) {
			t.Fatal("longer than it is")
		}
		_ = new(H264).Parse(b)
		AudioLevel(b)
		OpusDuration(b)
		blocks, err := ParseRED(nil, b)
		one, err1 := PrimaryRED(b)
		if (err == nil) != (err1 == nil) || err == nil && string(blocks[len(blocks)-1].Data) != string(one.Data) {
			t.Fatal("two readers, two results")
		}
	})
}
