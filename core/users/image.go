package users

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	_ "image/gif"
	"image/jpeg"
	_ "image/png"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"

	"github.com/mustermesh/muster/internal/errs"
)

// Limits of a picture that is uploaded.
const (
	MaxPicture = 5 << 20  // bytes
	maxPixels  = 16 << 20 // decoding takes up to 16 bytes for each
	maxSide    = 16_000   // pixels
	minSide    = 8        // pixels
	maxScans   = 100      // of a progressive JPEG, which has about ten; each goes over all pixels
	quality    = 85       // of JPEG
)

// Sizes are the sides, in pixels, of the squares that are made of a picture; the
// first is what a profile shows.
var Sizes = [...]int{256, 64, 1024}

// The failures of a picture.
var (
	ErrNoImage = errs.New(errs.Invalid, "not_an_image", "a picture is a JPEG, PNG, GIF or WebP image, %d by %d pixels or more", minSide, minSide).At("body")
	ErrPixels  = errs.New(errs.TooLarge, "too_many_pixels", "a picture has at most 16 million pixels: make it smaller").At("body")
)

// squares makes JPEG images of Sizes of an uploaded image: cut to the middle,
// upright, on white where it is transparent. They are encoded anew, from pixels,
// so nothing of what was in the file beside them (where and when a photograph was
// taken, another document) comes along.
func squares(data []byte) ([len(Sizes)][]byte, error) {
	var out [len(Sizes)][]byte
	// What it is is decided by its first bytes, and how large before there is
	// memory for it.
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	switch {
	case err != nil || config.Width < minSide || config.Height < minSide:
		return out, ErrNoImage
	case config.Width > maxSide || config.Height > maxSide || config.Width*config.Height > maxPixels:
		return out, ErrPixels
	}
	// A scan can be some bytes that say "nothing here": a hundred thousand of them, and
	// the decoder is at work for minutes. Inside of a scan the marker does not occur.
	if format == "jpeg" && bytes.Count(data, []byte{0xff, 0xda}) > maxScans {
		return out, ErrNoImage
	}
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return out, ErrNoImage
	}
	turned := 1
	if format == "jpeg" {
		turned = orientation(data)
	}
	largest := square(src, Sizes[len(Sizes)-1])
	for i, side := range Sizes {
		small := largest
		if side != largest.Bounds().Dx() {
			small = square(largest, side)
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, upright(small, turned), &jpeg.Options{Quality: quality}); err != nil {
			return out, fmt.Errorf("encode picture: %w", err)
		}
		out[i] = b.Bytes()
	}
	return out, nil
}

// square scales the middle of an image to a square, on white.
func square(src image.Image, side int) *image.RGBA {
	b := src.Bounds()
	n := min(b.Dx(), b.Dy())
	middle := image.Rect(0, 0, n, n).Add(b.Min).Add(image.Pt((b.Dx()-n)/2, (b.Dy()-n)/2))
	out := image.NewRGBA(image.Rect(0, 0, side, side))
	draw.Draw(out, out.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.CatmullRom.Scale(out, out.Bounds(), src, middle, draw.Over, nil)
	return out
}

// upright turns a square as an EXIF orientation says (TIFF 6.0, tag 274).
func upright(src *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return src
	}
	n := src.Bounds().Dx()
	out := image.NewRGBA(src.Bounds())
	for y := range n {
		for x := range n {
			// Where in src the pixel for (x, y) is.
			u, v := x, y
			if orientation >= 5 { // mirrored at the main diagonal first
				u, v = y, x
			}
			switch orientation {
			case 2, 8:
				u = n - 1 - u
			case 3, 7:
				u, v = n-1-u, n-1-v
			case 4, 6:
				v = n - 1 - v
			}
			copy(out.Pix[out.PixOffset(x, y):][:4], src.Pix[src.PixOffset(u, v):])
		}
	}
	return out
}

// orientation returns what a JPEG's EXIF data (CIPA DC-008, section 4.5) say of
// how the camera was held, 1 to 8; 1, upright, if they say nothing or are broken.
func orientation(data []byte) int {
	for data = data[min(2, len(data)):]; len(data) >= 4 && data[0] == 0xff; {
		marker, size := data[1], int(binary.BigEndian.Uint16(data[2:]))
		if marker == 0xda || size < 2 || len(data) < 2+size { // the image itself begins
			break
		}
		if body, ok := bytes.CutPrefix(data[4:2+size], []byte("Exif\x00\x00")); ok && marker == 0xe1 {
			return exifOrientation(body)
		}
		data = data[2+size:]
	}
	return 1
}

func exifOrientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.LittleEndian
	if tiff[0] == 'M' {
		order = binary.BigEndian
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	entries := int(order.Uint16(tiff[at:]))
	for i := range entries {
		e := at + 2 + int64(i)*12
		if e+12 > int64(len(tiff)) {
			break
		}
		if order.Uint16(tiff[e:]) == 274 {
			if v := int(order.Uint16(tiff[e+8:])); v >= 1 && v <= 8 {
				return v
			}
		}
	}
	return 1
}
