package users

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"

	"github.com/mustermesh/muster/core/objects/images"
)

// Of a picture that is uploaded; what it may be else, see core/objects/images.
const (
	MaxPicture = 5 << 20 // bytes
	quality    = 85      // of JPEG
)

// Sizes are the sides, in pixels, of the squares that are made of a picture; the
// first is what a profile shows.
var Sizes = [...]int{256, 64, 1024}

// The failures of a picture.
var (
	ErrNoImage = images.ErrNoImage
	ErrPixels  = images.ErrPixels
)

// squares makes JPEG images of Sizes of an uploaded image: cut to the middle,
// upright, on white where it is transparent. They are encoded anew, from pixels,
// so nothing of what was in the file beside them (where and when a photograph was
// taken, another document) comes along.
func squares(data []byte) ([len(Sizes)][]byte, error) {
	var out [len(Sizes)][]byte
	src, info, err := images.Decode(data)
	if err != nil {
		return out, err
	}
	largest := square(src, Sizes[len(Sizes)-1])
	for i, side := range Sizes {
		small := largest
		if side != largest.Bounds().Dx() {
			small = square(largest, side)
		}
		var b bytes.Buffer
		if err := jpeg.Encode(&b, images.Upright(small, info.Orientation), &jpeg.Options{Quality: quality}); err != nil {
			return out, fmt.Errorf("encode picture: %w", err)
		}
		out[i] = b.Bytes()
	}
	return out, nil
}

// square scales the middle of an image to a square.
func square(src image.Image, side int) *image.RGBA {
	b := src.Bounds()
	n := min(b.Dx(), b.Dy())
	middle := image.Rect(0, 0, n, n).Add(b.Min).Add(image.Pt((b.Dx()-n)/2, (b.Dy()-n)/2))
	return images.Scale(src, middle, side, side)
}
