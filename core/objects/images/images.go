// Package images reads what people upload: JPEG, PNG, GIF and WebP, of which nobody
// knows what is in them until they are decoded.
//
// A few bytes can say that an image has a thousand million pixels, or a hundred
// thousand scans over all of them. So what an image is and how large is read first,
// and only what is within limits is decoded. A decoded image takes up to 16 bytes for
// each pixel and a second of a processor: a [Turn] has a node do one at a time.
//
// What was in the file beside the pixels (where and when a photograph was taken, with
// which camera, a smaller one of it before it was cut, another document after its end)
// is nobody else's: [Strip] leaves it out.
package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"image"
	"image/color"
	_ "image/gif" // for image.Decode
	_ "image/jpeg"
	_ "image/png"
	"time"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp"

	"github.com/mustermesh/muster/internal/errs"
)

// Limits of what is decoded.
const (
	MaxPixels = 16 << 20 // decoding takes up to 16 bytes for each
	MaxSide   = 16_000   // pixels
	MinSide   = 8        // pixels
	maxScans  = 100      // of a progressive JPEG, which has about ten; each goes over all pixels
)

// The failures of an image.
var (
	ErrNoImage = errs.New(errs.Invalid, "not_an_image", "a picture is a JPEG, PNG, GIF or WebP image, %d by %d pixels or more", MinSide, MinSide).At("body")
	ErrPixels  = errs.New(errs.TooLarge, "too_many_pixels", "a picture has at most 16 million pixels: make it smaller").At("body")
	errBusy    = errs.New(errs.Unavailable, "busy", "too many pictures at once: try again").After(2 * time.Second)
)

// Info is what an image says of itself, before there is memory for it.
type Info struct {
	Format        string // jpeg, png, gif or webp
	Width, Height int    // as it is stored
	Orientation   int    // as EXIF says, 1 to 8; 1: upright
}

// Upright are the width and height of the image as it is looked at.
func (i Info) Upright() (width, height int) {
	if i.Orientation >= 5 {
		return i.Height, i.Width
	}
	return i.Width, i.Height
}

// Look reads what an image is, by its first bytes.
func Look(data []byte) (Info, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || config.Width < 1 || config.Height < 1 {
		return Info{}, ErrNoImage
	}
	// A scan can be some bytes that say "nothing here": a hundred thousand of them, and
	// the decoder is at work for minutes. Inside of a scan the marker does not occur.
	if format == "jpeg" && bytes.Count(data, []byte{0xff, 0xda}) > maxScans {
		return Info{}, ErrNoImage
	}
	i := Info{Format: format, Width: config.Width, Height: config.Height, Orientation: 1}
	if format == "jpeg" {
		i.Orientation = orientation(data)
	}
	return i, nil
}

// Decode decodes an image that is not too large.
func Decode(data []byte) (image.Image, Info, error) {
	i, err := Look(data)
	switch {
	case err != nil:
		return nil, i, err
	case i.Width < MinSide || i.Height < MinSide:
		return nil, i, ErrNoImage
	case i.Width > MaxSide || i.Height > MaxSide || i.Width*i.Height > MaxPixels:
		return nil, i, ErrPixels
	}
	src, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, i, ErrNoImage
	}
	return src, i, nil
}

// Scale makes an image of a size from a part of another, on white where that is
// transparent.
func Scale(src image.Image, part image.Rectangle, width, height int) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(out, out.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.CatmullRom.Scale(out, out.Bounds(), src, part, draw.Over, nil)
	return out
}

// Upright turns an image as an EXIF orientation says (TIFF 6.0, tag 274).
func Upright(src *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return src
	}
	w, h := src.Bounds().Dx(), src.Bounds().Dy()
	width, height := w, h
	if orientation >= 5 {
		width, height = h, w
	}
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			// Where in src the pixel for (x, y) is.
			u, v := x, y
			if orientation >= 5 { // mirrored at the main diagonal first
				u, v = y, x
			}
			switch orientation {
			case 2, 8:
				u = w - 1 - u
			case 3, 7:
				u, v = w-1-u, h-1-v
			case 4, 6:
				v = h - 1 - v
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
		if body, ok := bytes.CutPrefix(data[4:2+size], []byte(exifHeader)); ok && marker == 0xe1 {
			return exifOrientation(body)
		}
		data = data[2+size:]
	}
	return 1
}

const exifHeader = "Exif\x00\x00"

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

// waiting is how many images wait for the one that is decoded.
const waiting = 8

// Turn lets one decode at a time, and few wait. It is safe for concurrent use.
type Turn struct{ queue, turn chan struct{} }

// NewTurn returns a Turn for all of a node.
func NewTurn() *Turn {
	return &Turn{queue: make(chan struct{}, 1+waiting), turn: make(chan struct{}, 1)}
}

// Do waits and does; where too many wait already it fails at once.
func (t *Turn) Do(ctx context.Context, do func() error) error {
	select {
	case t.queue <- struct{}{}:
		defer func() { <-t.queue }()
	default:
		return errBusy
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return do()
}
