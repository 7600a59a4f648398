package attachments

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"io"
	"strings"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/objects/images"
)

const (
	maxPixels = 64_000_000 // of an image; more is nothing that a phone can show
	thumbSide = 320        // pixels of the longer side
	quality   = 80         // of JPEG
)

// result is what becomes of an upload.
type result struct {
	chunks        []chunk
	size          int64
	kind, name    string
	width, height int
	thumbnail     string // a key
	replaced      bool   // chunks are others than those that came
	dropped       string // the last one that came, then
}

// finish looks at a file of which all is there. It changes no row.
func (s *Store) finish(ctx context.Context, user core.UserID, u Upload, made *result) error {
	file := s.open(ctx, made.chunks, u.Length)
	defer file.Close()
	head := make([]byte, sniffed)
	n, err := io.ReadFull(file, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return err
	}
	if made.kind = sniff(head[:n]); made.kind == "" {
		return s.refuse(ctx, u.ID, ErrType)
	}
	made.name = fitName(u.Name, made.kind)
	if !strings.HasPrefix(made.kind, "image/") {
		return nil
	}
	if u.Length > maxImage {
		return s.refuse(ctx, u.ID, ErrImage)
	}
	err = s.cfg.Turn.Do(ctx, func() error { return s.image(ctx, user, u, file, made) })
	if errors.Is(err, images.ErrNoImage) || errors.Is(err, images.ErrPixels) {
		return s.refuse(ctx, u.ID, ErrImage)
	}
	return err
}

// image replaces an image by its pixels, and makes a small one of it.
func (s *Store) image(ctx context.Context, user core.UserID, u Upload, file *reader, made *result) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	info, err := images.Look(data)
	if err != nil {
		return err
	}
	if info.Width > 1<<16 || info.Height > 1<<16 || info.Width*info.Height > maxPixels {
		return images.ErrPixels
	}
	made.width, made.height = info.Upright()
	small, err := thumbnail(data)
	if err != nil {
		return err
	}
	if data, err = images.Strip(data, info.Format); err != nil {
		return err
	}
	whole := chunk{0, int64(len(data)), newKey(u.ID)}
	if err := s.store(ctx, user, whole.key, bytes.NewReader(data), whole.size, made.kind); err != nil {
		return err
	}
	made.dropped = made.chunks[len(made.chunks)-1].key
	made.chunks, made.size, made.replaced = []chunk{whole}, whole.size, true
	if small == nil {
		return nil
	}
	made.thumbnail = newKey(u.ID)
	return s.store(ctx, user, made.thumbnail, bytes.NewReader(small), int64(len(small)), "image/jpeg")
}

// thumbnail makes a small image of a larger one; nil if that is too large to be
// decoded here, or so small that it is its own.
func thumbnail(data []byte) ([]byte, error) {
	src, info, err := images.Decode(data)
	if errors.Is(err, images.ErrPixels) || err != nil && (info.Width > 0 && min(info.Width, info.Height) < images.MinSide) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	scale := min(1, float64(thumbSide)/float64(max(info.Width, info.Height)))
	small := images.Scale(src, src.Bounds(), max(1, int(float64(info.Width)*scale+0.5)), max(1, int(float64(info.Height)*scale+0.5)))
	var b bytes.Buffer
	if err := jpeg.Encode(&b, images.Upright(small, info.Orientation), &jpeg.Options{Quality: quality}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
