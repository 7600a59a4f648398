package users

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// quarters is an image whose quarters have four colours: red, green, blue and
// white, in reading order.
func quarters(w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	colours := [2][2]color.RGBA{{{255, 0, 0, 255}, {0, 255, 0, 255}}, {{0, 0, 255, 255}, {255, 255, 255, 255}}}
	for y := range h {
		for x := range w {
			m.SetRGBA(x, y, colours[2*y/h][2*x/w])
		}
	}
	return m
}

func jpegOf(t testing.TB, m image.Image) []byte {
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}))
	return b.Bytes()
}

// withExif puts EXIF data with an orientation, and a secret, into a JPEG.
func withExif(jpeg []byte, order binary.AppendByteOrder, orientation uint16) []byte {
	tiff := []byte("II*\x00")
	if order.String() == "BigEndian" {
		tiff = []byte("MM\x00*")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 2)
	tiff = append(order.AppendUint32(order.AppendUint16(order.AppendUint16(tiff, 271), 2), 4), "cam\x00"...)
	tiff = append(order.AppendUint16(order.AppendUint32(order.AppendUint16(order.AppendUint16(tiff, 274), 3), 1), orientation), 0, 0)
	tiff = append(tiff, "SECRET-PLACE"...)
	body := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{0xff, 0xd8, 0xff, 0xe1}, binary.BigEndian.AppendUint16(nil, uint16(len(body)+2))...)
	return append(append(out, body...), jpeg[2:]...)
}

// reading is the colours of the quarters, in reading order.
func reading(t *testing.T, data []byte, side int) (out string) {
	m, format, err := image.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	require.Equal(t, "jpeg", format)
	require.Equal(t, image.Rect(0, 0, side, side), m.Bounds())
	for _, at := range [][2]int{{1, 1}, {3, 1}, {1, 3}, {3, 3}} {
		r, g, b, _ := m.At(at[0]*side/4, at[1]*side/4).RGBA()
		switch hi := uint32(0xc000); {
		case r > hi && g > hi && b > hi:
			out += "w"
		case r > hi:
			out += "r"
		case g > hi:
			out += "g"
		case b > hi:
			out += "b"
		default:
			out += "?"
		}
	}
	return out
}

func TestSquares(t *testing.T) {
	var asPNG, asGIF bytes.Buffer
	require.NoError(t, png.Encode(&asPNG, quarters(300, 200)))
	require.NoError(t, gif.Encode(&asGIF, quarters(40, 90), nil))
	for name, data := range map[string][]byte{"jpeg": jpegOf(t, quarters(500, 400)), "png": asPNG.Bytes(), "gif": asGIF.Bytes(), "small": jpegOf(t, quarters(8, 8))} {
		out, err := squares(data)
		require.NoError(t, err, name)
		for i, size := range Sizes {
			require.Equal(t, "rgbw", reading(t, out[i], size), name)
		}
	}
	transparent := bytes.Buffer{}
	require.NoError(t, png.Encode(&transparent, image.NewNRGBA(image.Rect(0, 0, 20, 20))))
	out, err := squares(transparent.Bytes())
	require.NoError(t, err)
	require.Equal(t, "wwww", reading(t, out[0], Sizes[0]))
}

// What a camera wrote beside the pixels is followed, and gone.
func TestOrientationAndMetadata(t *testing.T) {
	upright := []string{1: "rgbw", 2: "grwb", 3: "wbgr", 4: "bwrg", 5: "rbgw", 6: "brwg", 7: "wgbr", 8: "gwrb"}
	for o, want := range upright {
		if o == 0 {
			continue
		}
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			data := withExif(jpegOf(t, quarters(64, 64)), order, uint16(o))
			require.Contains(t, string(data), "SECRET-PLACE")
			out, err := squares(data)
			require.NoError(t, err)
			for i, size := range Sizes {
				if size < 1000 {
					require.Equal(t, want, reading(t, out[i], size), "orientation %d, %s", o, order)
				}
				require.NotContains(t, string(out[i]), "SECRET-PLACE")
				require.NotContains(t, string(out[i]), "Exif")
			}
		}
	}
}

func TestRefusedImages(t *testing.T) {
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), "tiny": jpegOf(t, quarters(7, 200)),
		"cut off": jpegOf(t, quarters(200, 200))[:600],
	} {
		_, err := squares(data)
		require.ErrorIs(t, err, ErrNoImage, name)
	}
	// An image that claims to be huge is refused before there is memory for it.
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 8, 8))))
	for _, side := range [][2]uint32{{5000, 5000}, {17_000, 8}, {1 << 20, 1 << 20}} {
		data := bytes.Clone(b.Bytes())
		header := data[12:29] // its name, and what it says
		binary.BigEndian.PutUint32(header[4:], side[0])
		binary.BigEndian.PutUint32(header[8:], side[1])
		binary.BigEndian.PutUint32(data[29:], crc32.ChecksumIEEE(header))
		_, err := squares(data)
		require.ErrorIs(t, err, ErrPixels)
	}
}

// scans is a progressive JPEG of 16 million pixels with so many scans, each of which
// says in 30 bytes that there is nothing.
func scans(n int) []byte {
	b := []byte("\xff\xd8" +
		"\xff\xc2\x00\x0b\x08\x10\x00\x10\x00\x01\x01\x11\x00" + // SOF2: 4096 by 4096, grey
		"\xff\xc4\x00\x14\x10\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe0") // DHT: 0 is an end of 16384 blocks
	for range n {
		b = append(b, "\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"...) // SOS
		b = append(b, make([]byte, 30)...)
	}
	return append(b, "\xff\xd9"...)
}

// A file of some bytes is not work for minutes.
func TestManyScans(t *testing.T) {
	_, err := squares(scans(2))
	require.NoError(t, err)
	since := time.Now()
	_, err = squares(scans(MaxPicture/41 - 10))
	require.ErrorIs(t, err, ErrNoImage)
	require.Less(t, time.Since(since), 5*time.Second)
}
