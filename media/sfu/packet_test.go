package sfu

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVP8(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want vp8
	}{
		"no extension, key": {[]byte{0x10, 0}, vp8{key: true}},
		"delta":             {[]byte{0x10, 1}, vp8{}},
		"second partition":  {[]byte{0x11, 0}, vp8{}},
		"not the start":     {[]byte{0x00, 0}, vp8{}},
		"short id":          {[]byte{0x90, 0x80, 0x7f, 0}, vp8{key: true, pictureAt: 2, picture: 0x7f}},
		"long id":           {[]byte{0x90, 0x80, 0xff, 0xfe, 0}, vp8{key: true, pictureAt: 2, long: true, picture: 0x7ffe}},
		"all":               {[]byte{0x80, 0xf0, 0x81, 2, 3, 0x60, 1}, vp8{pictureAt: 2, long: true, picture: 0x102, tl0At: 4, tl0: 3}},
		"key index only":    {[]byte{0x80, 0x10, 0xff, 1}, vp8{}},
		"height":            {[]byte{0x10, 0, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x41}, vp8{key: true, height: 360}}, // scaled by 5/4
		"cut off":           {[]byte{0x90, 0xc0, 0x85}, vp8{}},
	} {
		require.Equal(t, c.want, parseVP8(c.in), name)
	}
}

func TestMunge(t *testing.T) {
	long := []byte{0x80, 0xf0, 0x81, 2, 3, 0x60, 1}
	v := parseVP8(long)
	v.munge(long, 0xffff, 9)
	require.Equal(t, []byte{0x80, 0xf0, 0xff, 0xff, 9, 0x60, 1}, long)
	short := []byte{0x90, 0x80, 0x7f, 0}
	v = parseVP8(short)
	v.munge(short, 0x80, 9)
	require.Equal(t, []byte{0x90, 0x80, 0, 0}, short)
	none := []byte{0x10, 0}
	v = parseVP8(none)
	v.munge(none, 5, 5)
	require.Equal(t, []byte{0x10, 0}, none)
}

// Where a picture begins that needs none before it.
func TestKeyFrames(t *testing.T) {
	for name, c := range map[string]struct {
		f    format
		in   []byte
		want bool
	}{
		"VP9 key":                  {formatVP9, []byte{0x08, 0}, true},
		"VP9 delta":                {formatVP9, []byte{0x4c, 0}, false},
		"VP9 not the beginning":    {formatVP9, []byte{0x00, 0}, false},
		"VP9 lowest layer":         {formatVP9, []byte{0xa8, 0x81, 2, 0x50, 9}, true},
		"VP9 layer above":          {formatVP9, []byte{0xa8, 5, 0x03, 9}, false},
		"VP9 cut off":              {formatVP9, []byte{0xa8, 0x81}, false},
		"H.264 parameter set":      {formatH264, []byte{0x67, 1}, true},
		"H.264 IDR":                {formatH264, []byte{0x65, 1}, true},
		"H.264 other":              {formatH264, []byte{0x61, 1}, false},
		"H.264 STAP-A":             {formatH264, []byte{24, 0, 1, 0x68, 0, 2, 0x67, 1}, true},
		"H.264 STAP-A of others":   {formatH264, []byte{24, 0, 1, 0x68, 0, 1, 0x61}, false},
		"H.264 STAP-A, cut off":    {formatH264, []byte{24, 0, 9, 0x68}, false},
		"H.264 FU-A, start of IDR": {formatH264, []byte{28, 0x85, 0}, true},
		"H.264 FU-A, within IDR":   {formatH264, []byte{28, 0x05, 0}, false},
		"unknown":                  {formatOther, bytes.Repeat([]byte{0}, 20), false},
	} {
		p := packet{payload: c.in}
		p.describe(c.f)
		require.Equal(t, c.want, p.key, name)
	}
}
