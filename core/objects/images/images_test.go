package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// quarters is an image whose quarters have four colours: red, green, blue and
// white, in reading order.
func quarters(w, h int) *image.Paletted {
	colours := color.Palette{color.RGBA{255, 0, 0, 255}, color.RGBA{0, 255, 0, 255}, color.RGBA{0, 0, 255, 255}, color.White}
	m := image.NewPaletted(image.Rect(0, 0, w, h), colours)
	for y := range h {
		for x := range w {
			m.SetColorIndex(x, y, uint8(2*(2*y/h)+2*x/w))
		}
	}
	return m
}

const hidden = "SECRET-PLACE"

// samples are images with more in them than pixels.
func samples(t testing.TB) map[string][]byte {
	var j, p, g bytes.Buffer
	require.NoError(t, jpeg.Encode(&j, quarters(60, 40), nil))
	require.NoError(t, png.Encode(&p, quarters(60, 40)))
	require.NoError(t, gif.EncodeAll(&g, &gif.GIF{Image: []*image.Paletted{quarters(60, 40), quarters(60, 40)}, Delay: []int{10, 10}}))

	tiff := "MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00" + hidden
	segment := func(marker byte, body string) string {
		return string(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(body)+2))) + body
	}
	withJPEG := "\xff\xd8" + segment(0xe0, "JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x01\x01"+hidden[:3]) + segment(0xe1, exifHeader+tiff) + segment(0xe1, "http://ns.adobe.com/xap/1.0/\x00"+hidden) +
		segment(0xe2, "ICC_PROFILE\x00\x01\x01colours") + segment(0xe2, "MPF\x00"+hidden) + segment(0xed, hidden) + segment(0xfe, hidden) + j.String()[2:] + "<html>" + hidden

	chunk := func(kind, body string) string {
		b := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), kind+body...)
		return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(kind+body))))
	}
	header := len(pngHeader) + 25
	withPNG := p.String()[:header] + chunk("tEXt", "Comment\x00"+hidden) + chunk("eXIf", tiff) + chunk("zTXt", hidden) + chunk("gAMA", "\x00\x00\xb1\x8f") + p.String()[header:] + "<script>" + hidden

	at := 13 + 3<<(g.Bytes()[10]&7+1)*int(g.Bytes()[10]>>7)
	withGIF := g.String()[:at] + "\x21\xfe\x0c" + hidden + "\x00" + "\x21\xff\x0bXMP DataXMP\x0c" + hidden + "\x00" + g.String()[at:] + hidden

	// A lossless WebP of one pixel, in the extended format.
	vp8l := "VP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"
	riff := "WEBPVP8X\x0a\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00" + vp8l + "EXIF\x0c\x00\x00\x00" + hidden + "XMP \x0c\x00\x00\x00" + hidden
	withWebP := "RIFF" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(riff)))) + riff + hidden
	return map[string][]byte{"jpeg": []byte(withJPEG), "png": []byte(withPNG), "gif": []byte(withGIF), "webp": []byte(withWebP)}
}

func TestStrip(t *testing.T) {
	for format, data := range samples(t) {
		require.Contains(t, string(data), hidden)
		before, err := Look(data)
		require.NoError(t, err, format)
		require.Equal(t, format, before.Format)
		out, err := Strip(data, format)
		require.NoError(t, err, format)
		require.NotContains(t, string(out), hidden, format)
		require.NotContains(t, string(out), hidden[:3], format)
		after, err := Look(out)
		require.NoError(t, err)
		require.Equal(t, before, after, "%s: with its orientation", format)
		was, _, err := image.Decode(bytes.NewReader(data))
		require.NoError(t, err)
		is, _, err := image.Decode(bytes.NewReader(out))
		require.NoError(t, err, format)
		require.Equal(t, was, is, "%s: the same pixels", format)
		again, err := Strip(out, format)
		require.NoError(t, err)
		require.Equal(t, out, again, "%s: nothing more to take", format)
		for _, n := range []int{0, 1, 5, 11, 20, len(out) / 4} {
			_, err := Strip(out[:n], format)
			require.Error(t, err, "%s of %d bytes", format, n)
		}
	}
	jpegs, _ := Strip(samples(t)["jpeg"], "jpeg")
	require.Contains(t, string(jpegs), "ICC_PROFILE")
	require.Equal(t, 6, orientation(jpegs))
	gifs, _ := Strip(samples(t)["gif"], "gif")
	all, err := gif.DecodeAll(bytes.NewReader(gifs))
	require.NoError(t, err)
	require.Len(t, all.Image, 2)
	require.Equal(t, []int{10, 10}, all.Delay)
	_, err = Strip(nil, "svg")
	require.ErrorIs(t, err, ErrNoImage)
}

func TestUpright(t *testing.T) {
	m := Scale(quarters(60, 40), image.Rect(0, 0, 60, 40), 60, 40)
	for o := range 10 {
		out := Upright(m, o)
		w, h := Info{Width: 60, Height: 40, Orientation: o}.Upright()
		if o <= 8 {
			require.Equal(t, image.Rect(0, 0, w, h), out.Bounds())
		}
	}
	// Held with its right side down: the red quarter comes to be at the right.
	out := Upright(m, 6)
	require.Equal(t, color.RGBA{255, 0, 0, 255}, out.RGBAAt(35, 5))
	require.Equal(t, color.RGBA{0, 0, 255, 255}, out.RGBAAt(5, 5))
}

func TestTurn(t *testing.T) {
	turn := NewTurn()
	first, ends := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		if err := turn.Do(t.Context(), func() error { close(first); <-ends; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-first
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, turn.Do(ctx, func() error { return nil }), context.Canceled)
	refused := make(chan error, waiting+5)
	for range waiting + 5 {
		all.Go(func() { refused <- turn.Do(t.Context(), func() error { return nil }) })
	}
	for range 5 {
		require.ErrorIs(t, <-refused, errBusy)
	}
	close(ends)
	all.Wait()
	close(refused)
	for err := range refused {
		require.NoError(t, err)
	}
}

func FuzzStrip(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := Look(data)
		require.True(t, err != nil || i.Orientation >= 1 && i.Orientation <= 8)
		for _, format := range []string{"jpeg", "png", "gif", "webp"} {
			out, err := Strip(data, format)
			if err != nil {
				continue
			}
			require.LessOrEqual(t, len(out), len(data)+64, format)
			again, err := Strip(out, format)
			require.NoError(t, err, format)
			require.Equal(t, out, again, format)
		}
	})
}
