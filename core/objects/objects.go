// Package objects keeps what is too large for rows: pictures, files and exports. A Store
// has whole objects by key, in a local directory (core/objects/dir) or in S3
// (core/objects/s3); core/objects/objectstest says in tests what both must do.
//
// # A Store forgets nothing by itself
//
// A database and a store of objects have no common transaction. So each object
// has a row in the [Catalog], which is there before the object and goes after it:
//
//	Reserve ──▶ Put ──▶ Keep (in the transaction that uses it)
//	   │                  │
//	   │ a crash          └──▶ Release (in the transaction that needs it no more)
//	   ▼                                │
//	 expires ───────────────────────────┴──▶ Sweep: Delete, then the row
//
// Whatever is interrupted where, the row remains with a time at which the object
// is deleted; that is repeated until it succeeds.
package objects

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/mustermesh/muster/internal/errs"
)

// Store keeps objects. It is safe for concurrent use.
type Store interface {
	// Put makes or replaces an object, as a whole: who gets it meanwhile has the
	// old one or the new one. After an error it may be either, too, unless that is
	// of the body: one that fails, or has not exactly size bytes, replaces nothing.
	Put(ctx context.Context, key string, body io.Reader, size int64, contentType string) error
	// Get opens an object, whose Body the caller closes. ErrNotFound: there is none.
	Get(ctx context.Context, key string) (Object, error)
	// Delete removes an object; without one it is a success.
	Delete(ctx context.Context, key string) error
}

// Object is one that is read.
type Object struct {
	Body io.ReadCloser
	Size int64
	Type string // of its content, as it was put
}

var (
	// ErrNotFound is for a key under which there is nothing.
	ErrNotFound = errs.New(errs.NotFound, "object_not_found", "this is not here, or not any more")
	// ErrSize is for a body that is not as long as was said.
	ErrSize = errors.New("the object has another length than was said")
	// ErrBadKey is for a key that CheckKey refuses.
	ErrBadKey = errors.New("the object's key has other than lower-case letters, digits, '-', '_' and '.', in parts between '/'")
)

// CheckKey wants what is a path in every file system and a key in every S3:
// at most 200 bytes, parts of lower-case letters, digits, '-', '_' and '.', none
// of which begins with a dot.
func CheckKey(key string) error {
	if len(key) > 200 {
		return ErrBadKey
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			return ErrBadKey
		}
	}
	return nil
}

// Exactly returns a reader of body that fails with ErrSize unless that has size
// bytes. It finds a body that is longer before it gives the last of them away, so
// that nobody takes the beginning of something for the whole.
func Exactly(body io.Reader, size int64) io.Reader { return &exact{body: body, left: size} }

type exact struct {
	body  io.Reader
	left  int64
	ended bool
}

func (e *exact) Read(p []byte) (n int, err error) {
	if e.left > 0 {
		n, err = e.body.Read(p[:min(int64(len(p)), e.left)])
		if e.left -= int64(n); e.left > 0 && err == io.EOF {
			return n, ErrSize
		}
		if e.left > 0 || err != nil && err != io.EOF {
			return n, err
		}
	}
	if !e.ended {
		switch _, err := io.ReadFull(e.body, make([]byte, 1)); err {
		case io.EOF:
			e.ended = true
		case nil:
			return 0, ErrSize
		default:
			return 0, err
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, io.EOF
}
